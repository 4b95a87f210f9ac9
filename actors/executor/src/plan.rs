//! The dry run: a permitted command played in memory, up to the whole mutation with its counts and its diff. It reads
//! the tree and writes nothing.

mod patch;

use std::io;

use protocol::artifact::OpReport;
use protocol::command::{Expect, FileMode};
use protocol::digest::Sha256;
use protocol::hint::Hint;
use protocol::path::RelativePath;
use protocol::reason::{Reason, Stage, Verdict};

use crate::clock::Deadline;
use crate::diff;
use crate::overlay::{Change, Overlay};
use crate::policy::{CheckStep, Permitted, Step};
use crate::text::{self, TextError};
use crate::tree::{Image, MAX_FILE_BYTES, Tree, TreeError};

/// A whole mutation, ready to be applied.
#[derive(Debug, Default)]
pub struct Plan {
    /// The files that differ, in path order.
    pub changes: Vec<Change>,
    /// Files that differ; a moved one counts once.
    pub files_changed: u64,
    /// Sizes of the files whose content is new, added up.
    pub bytes_written: u64,
    /// The git-format diff.
    pub diff: Vec<u8>,
    /// One report an op; one a file for a diff.
    pub ops: Vec<OpReport>,
    /// What must hold afterwards.
    pub checks: Vec<CheckStep>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The command does not fit the tree: its author's business.
    #[error(transparent)]
    Refused(#[from] Verdict),
    /// The disk or the clock: it says nothing against the command, which counts as executed and failed.
    #[error("{reason}: {detail}")]
    Failed {
        /// `io_error` or `timeout`.
        reason: Reason,
        /// One sentence.
        detail: String,
    },
    /// The system lacks what any command needs, such as file descriptors: nothing can be said of this one.
    #[error("{0}")]
    Starved(String),
}

impl PlanError {
    /// That the system refused something; `what` says what.
    #[must_use]
    pub fn of_io(what: &str, error: &io::Error) -> Self {
        use rustix::io::Errno;
        let detail = format!("{what}: {error}");
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Self::Starved(detail),
            _ => Self::Failed { reason: Reason::IoError, detail },
        }
    }
}

fn refuse(reason: Reason, detail: String) -> PlanError {
    PlanError::Refused(Verdict::new(Stage::DryRun, reason, detail))
}

/// Says where in the command an error of the tree happened.
fn at(place: &str) -> impl Fn(TreeError) -> PlanError {
    move |error| match &error {
        TreeError::Io { path, source } => PlanError::of_io(&format!("{place}: {path}"), source),
        other => refuse(other.reason(), format!("{place}: {other}")),
    }
}

fn unmet(place: &str, what: impl std::fmt::Display) -> PlanError {
    refuse(Reason::PreconditionFailed, format!("{place}: {what}"))
}

/// Plays `permitted` against `tree`. `names` holds the ops' names for reports and details.
///
/// # Errors
/// [`PlanError::Refused`] where the command does not fit the tree or is over its bounds, [`PlanError::Failed`] where the
/// disk refuses or the deadline passes.
pub fn plan(
    tree: &Tree,
    permitted: &Permitted,
    names: &[&'static str],
    deadline: &Deadline<'_>,
) -> Result<Plan, PlanError> {
    let mut overlay = Overlay::new(tree);
    let steps = || permitted.steps.iter().zip(names).enumerate();
    for (number, (step, name)) in steps() {
        in_time(deadline)?;
        expectations(&mut overlay, step, &format!("op {} ({name})", number + 1))?;
    }
    for (number, check) in permitted.checks.iter().enumerate() {
        in_time(deadline)?;
        look_at_check(tree, check, number)?;
    }
    let mut player = Player { overlay: &mut overlay, draft: None, ops: Vec::with_capacity(permitted.steps.len()) };
    for (number, (step, name)) in steps() {
        in_time(deadline)?;
        player.step(
            step,
            name,
            &Place { number: number + 1, text: format!("op {} ({name})", number + 1), deadline },
        )?;
    }
    let ops = player.finish()?;
    let changes = overlay.changes();
    if let Some(folder) = overlay.new_bare_repository(&changes).map_err(at("the command"))? {
        let detail = format!(
            "the command would make {folder} look like a bare git repository (HEAD beside objects/ and refs/, or beside commondir)"
        );
        return Err(refuse(Reason::PathDenied, detail));
    }
    let (files_changed, bytes_written) = count(&changes);
    if files_changed > permitted.max_files_changed {
        let detail = format!(
            "the command changes {files_changed} files; constraints.maxFilesChanged is {}",
            permitted.max_files_changed
        );
        return Err(refuse(Reason::TooManyFiles, detail));
    }
    if bytes_written > permitted.max_bytes_written {
        let detail =
            format!("the command writes {bytes_written} bytes; the most allowed is {}", permitted.max_bytes_written);
        return Err(refuse(Reason::TooManyBytes, detail));
    }
    let diff = diff::render_while(&changes, permitted.ids, || in_time(deadline))?;
    in_time(deadline)?;
    Ok(Plan { changes, files_changed, bytes_written, diff, ops, checks: permitted.checks.clone() })
}

fn in_time(deadline: &Deadline<'_>) -> Result<(), PlanError> {
    if deadline.is_over() {
        return Err(PlanError::Failed { reason: Reason::Timeout, detail: deadline.complaint() });
    }
    Ok(())
}

/// Holds an op's `expect` against the tree as it is before anything changes.
fn expectations(overlay: &mut Overlay<'_>, step: &Step, place: &str) -> Result<(), PlanError> {
    for (path, expect) in step.expectations() {
        let found = overlay.before(path).map_err(at(place))?;
        match (expect, found) {
            (Expect::Absent, None) => {}
            (Expect::Absent, Some(_)) => {
                return Err(unmet(place, format!("expects nothing at {path}, but a file is there")));
            }
            (Expect::Sha256(_), None) => {
                return Err(unmet(place, format!("expects a file at {path}, but there is none")));
            }
            (Expect::Sha256(wanted), Some(image)) => {
                let found = image.sha256();
                if found != wanted {
                    return Err(unmet(place, format!("{path} has SHA-256 {found}, expected {wanted}")));
                }
            }
        }
    }
    Ok(())
}

/// A check's path obeys the same rules as an op's; whether the check holds is seen afterwards.
fn look_at_check(tree: &Tree, step: &CheckStep, number: usize) -> Result<(), PlanError> {
    let CheckStep::Look { path, .. } = step else { return Ok(()) };
    let place = format!("check {} ({})", number + 1, step.kind());
    match tree.look(path) {
        Ok(_) | Err(TreeError::NotFolder { .. }) => Ok(()),
        Err(error) => Err(at(&place)(error)),
    }
}

/// Where in the command a step is.
pub(super) struct Place<'d> {
    /// The op's number, from 1.
    pub number: usize,
    /// The same in words.
    pub text: String,
    /// Until when it must be done.
    pub deadline: &'d Deadline<'d>,
}

impl Place<'_> {
    /// That the command does not fit the file's content.
    pub(super) fn conflict(&self, detail: String, hints: Vec<Hint>) -> PlanError {
        let hints = hints.into_iter().map(|hint| hint.of_op(self.number)).collect();
        PlanError::Refused(Verdict::new(Stage::DryRun, Reason::PatchConflict, detail).with_hints(hints))
    }
}

/// A file that ops in a row change: its bytes are copied and hashed once for all of them.
struct Draft {
    path: RelativePath,
    content: Vec<u8>,
    bits: u32,
}

/// Plays the steps one after the other.
struct Player<'o, 't> {
    overlay: &'o mut Overlay<'t>,
    draft: Option<Draft>,
    ops: Vec<OpReport>,
}

impl Player<'_, '_> {
    fn step(&mut self, step: &Step, name: &'static str, place: &Place<'_>) -> Result<(), PlanError> {
        match step {
            Step::Replace { path, search, replace, count, line, .. } => {
                self.edit(path, name, place, |content| text::replace(content, search, replace, *count, *line))
            }
            Step::Insert { path, line, text, anchor, .. } => {
                self.edit(path, name, place, |content| text::insert(content, *line, text, anchor.as_deref()))
            }
            other => {
                self.put_draft(&place.text)?;
                self.ops.extend(play(self.overlay, other, name, place)?);
                Ok(())
            }
        }
    }

    /// Changes a file's bytes; only the first and the last of ops in a row on one file say its hash.
    fn edit(
        &mut self,
        path: &RelativePath,
        name: &'static str,
        place: &Place<'_>,
        change: impl FnOnce(&mut Vec<u8>) -> Result<(), TextError>,
    ) -> Result<(), PlanError> {
        let mut before = None;
        if self.draft.as_ref().is_none_or(|draft| draft.path != *path) {
            self.put_draft(&place.text)?;
            let old = existing(self.overlay, path, &place.text)?;
            before = Some(old.sha256());
            self.draft = Some(Draft { path: path.clone(), content: old.content.to_vec(), bits: old.bits });
        }
        let Some(draft) = &mut self.draft else { return Ok(()) };
        change(&mut draft.content).map_err(|error| match error {
            TextError::Conflict { what, hints } => {
                let hint = |hint: Hint| Hint { file: Some(path.to_string()), ..hint };
                place.conflict(format!("{}: {path}: {what}", place.text), hints.into_iter().map(hint).collect())
            }
            TextError::TooLarge(size) => {
                let what = format!("would become {size} bytes long; the most is {MAX_FILE_BYTES}");
                at(&place.text)(TreeError::TooLarge { path: path.to_string(), what })
            }
        })?;
        let path = Some(path.to_string());
        self.ops.push(OpReport { op: name, path, from: None, to: None, before_sha256: before, after_sha256: None });
        Ok(())
    }

    /// Brings the file that was changed last into the overlay.
    fn put_draft(&mut self, place: &str) -> Result<(), PlanError> {
        let Some(draft) = self.draft.take() else { return Ok(()) };
        let image = Image { content: draft.content.into(), bits: draft.bits };
        if let Some(last) = self.ops.last_mut() {
            last.after_sha256 = Some(image.sha256());
        }
        self.overlay.put(&draft.path, image).map_err(at(place))
    }

    fn finish(mut self) -> Result<Vec<OpReport>, PlanError> {
        self.put_draft("the command")?;
        Ok(self.ops)
    }
}

/// Plays one step: its report, or one for each file of a patch.
fn play(
    overlay: &mut Overlay<'_>,
    step: &Step,
    name: &'static str,
    place: &Place<'_>,
) -> Result<Vec<OpReport>, PlanError> {
    if let Step::Patch { parsed, expect } = step {
        return patch::play(overlay, parsed, expect, name, place);
    }
    let place = &place.text;
    let blank = OpReport { op: name, path: None, from: None, to: None, before_sha256: None, after_sha256: None };
    let about = |path: &RelativePath, before: Option<Sha256>, after: Option<Sha256>| OpReport {
        path: Some(path.to_string()),
        before_sha256: before,
        after_sha256: after,
        ..blank.clone()
    };
    let report = match step {
        Step::Noop | Step::Patch { .. } | Step::Replace { .. } | Step::Insert { .. } => blank,
        Step::Write { path, content, mode, .. } => {
            overlay.admit(path).map_err(at(place))?;
            let old = overlay.now(path).map_err(at(place))?;
            let image = Image { content: content.as_slice().into(), bits: bits(old.as_ref(), *mode) };
            let after = image.sha256();
            overlay.put(path, image).map_err(at(place))?;
            about(path, old.map(|old| old.sha256()), Some(after))
        }
        Step::Delete { path, .. } => {
            let old = existing(overlay, path, place)?;
            overlay.remove(path).map_err(at(place))?;
            about(path, Some(old.sha256()), None)
        }
        Step::Move { from, to, overwrite, .. } => {
            let image = existing(overlay, from, place)?;
            if from == to {
                return Err(unmet(place, format!("{from} cannot be moved onto itself")));
            }
            overlay.admit(to).map_err(at(place))?;
            if !overwrite && overlay.now(to).map_err(at(place))?.is_some() {
                return Err(unmet(place, format!("{to} exists already; say \"overwrite\": true to replace it")));
            }
            overlay.relocate(from, to).map_err(at(place))?;
            let hash = Some(image.sha256());
            OpReport {
                from: Some(from.to_string()),
                to: Some(to.to_string()),
                before_sha256: hash,
                after_sha256: hash,
                ..blank
            }
        }
    };
    Ok(vec![report])
}

fn existing(overlay: &mut Overlay<'_>, path: &RelativePath, place: &str) -> Result<Image, PlanError> {
    overlay.now(path).map_err(at(place))?.ok_or_else(|| unmet(place, format!("there is no file at {path}")))
}

/// The permission bits of a written file: an existing file keeps its own unless the op asks for git's other mode.
fn bits(old: Option<&Image>, mode: Option<FileMode>) -> u32 {
    match (old, mode) {
        (Some(old), None) => old.bits,
        (Some(old), Some(mode)) if old.mode() == mode => old.bits,
        (_, Some(mode)) => mode.bits(),
        (None, None) => FileMode::Regular.bits(),
    }
}

/// Files changed and bytes written (contract, section 3): a moved file counts as one, and moving writes no byte.
fn count(changes: &[Change]) -> (u64, u64) {
    let (mut files, mut bytes) = (0_u64, 0_u64);
    for change in changes {
        // The other half of the move is the change at the origin, which counts already.
        if !change.origin.as_ref().is_some_and(|origin| origin.gone) {
            files = files.saturating_add(1);
        }
        let Some(after) = &change.after else { continue };
        let source = change.origin.as_ref().map(|origin| &origin.image).or(change.before.as_ref());
        if source.is_none_or(|source| source.content != after.content) {
            bytes = bytes.saturating_add(u64::try_from(after.content.len()).unwrap_or(u64::MAX));
        }
    }
    (files, bytes)
}
