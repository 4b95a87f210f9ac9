//! The dry run: a permitted command played in memory, up to the whole mutation with its counts and its diff. It reads
//! the tree and writes nothing.

mod patch;

use std::io;

use protocol::artifact::OpReport;
use protocol::command::{Expect, FileMode};
use protocol::digest::Sha256;
use protocol::path::RelativePath;
use protocol::reason::{Reason, Stage, Verdict};

use crate::clock::Deadline;
use crate::diff;
use crate::overlay::{Change, Overlay};
use crate::policy::{CheckStep, Permitted, Step};
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
        expectation(&mut overlay, step, &format!("op {} ({name})", number + 1))?;
    }
    for (number, check) in permitted.checks.iter().enumerate() {
        in_time(deadline)?;
        look_at_check(tree, check, number)?;
    }
    let mut ops = Vec::with_capacity(permitted.steps.len());
    for (number, (step, name)) in steps() {
        in_time(deadline)?;
        ops.extend(play(&mut overlay, step, name, &format!("op {} ({name})", number + 1))?);
    }
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
    in_time(deadline)?;
    let diff = diff::render(&changes, permitted.ids);
    Ok(Plan { changes, files_changed, bytes_written, diff, ops, checks: permitted.checks.clone() })
}

fn in_time(deadline: &Deadline<'_>) -> Result<(), PlanError> {
    if deadline.is_over() {
        return Err(PlanError::Failed { reason: Reason::Timeout, detail: deadline.complaint() });
    }
    Ok(())
}

/// Holds an op's `expect` against the tree as it is before anything changes.
fn expectation(overlay: &mut Overlay<'_>, step: &Step, place: &str) -> Result<(), PlanError> {
    let Some((path, expect)) = step.expectation() else { return Ok(()) };
    let found = overlay.before(path).map_err(at(place))?;
    match (expect, found) {
        (Expect::Absent, None) => Ok(()),
        (Expect::Absent, Some(_)) => Err(unmet(place, format!("expects nothing at {path}, but a file is there"))),
        (Expect::Sha256(_), None) => Err(unmet(place, format!("expects a file at {path}, but there is none"))),
        (Expect::Sha256(wanted), Some(image)) => {
            let found = image.sha256();
            if found == wanted {
                Ok(())
            } else {
                Err(unmet(place, format!("{path} has SHA-256 {found}, expected {wanted}")))
            }
        }
    }
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

/// Plays one step: its report, or one for each file of a diff.
fn play(overlay: &mut Overlay<'_>, step: &Step, name: &'static str, place: &str) -> Result<Vec<OpReport>, PlanError> {
    if let Step::Patch(parsed) = step {
        return patch::play(overlay, parsed, name, place);
    }
    let blank = OpReport { op: name, path: None, from: None, to: None, before_sha256: None, after_sha256: None };
    let about = |path: &RelativePath, before: Option<Sha256>, after: Option<Sha256>| OpReport {
        path: Some(path.to_string()),
        before_sha256: before,
        after_sha256: after,
        ..blank.clone()
    };
    let report = match step {
        Step::Noop | Step::Patch(_) => blank,
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
        Step::Replace { path, search, replace, count, .. } => {
            let old = existing(overlay, path, place)?;
            let content = replace_text(&old.content, search, replace, *count, path, place)?;
            let image = Image { content: content.into(), bits: old.bits };
            let after = image.sha256();
            overlay.put(path, image).map_err(at(place))?;
            about(path, Some(old.sha256()), Some(after))
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

fn replace_text(
    content: &[u8],
    search: &str,
    replace: &str,
    count: u64,
    path: &RelativePath,
    place: &str,
) -> Result<Vec<u8>, PlanError> {
    // UTF-8 synchronises itself: a text can only occur inside a run of valid UTF-8, so each run is searched by itself,
    // in linear time, whatever else the file holds.
    let found = content.utf8_chunks().map(|chunk| chunk.valid().matches(search).count()).sum::<usize>();
    if u64::try_from(found).unwrap_or(u64::MAX) != count {
        let detail = format!(
            "{place}: the text to replace in {path} occurs a different number of times: found {found}, expected {count}"
        );
        return Err(refuse(Reason::PatchConflict, detail));
    }
    let size = content
        .len()
        .saturating_sub(found.saturating_mul(search.len()))
        .saturating_add(found.saturating_mul(replace.len()));
    if u64::try_from(size).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        let what = format!("would become {size} bytes long; the most is {MAX_FILE_BYTES}");
        return Err(at(place)(TreeError::TooLarge { path: path.to_string(), what }));
    }
    let mut result = Vec::with_capacity(size);
    for chunk in content.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some((head, tail)) = rest.split_once(search) {
            result.extend_from_slice(head.as_bytes());
            result.extend_from_slice(replace.as_bytes());
            rest = tail;
        }
        result.extend_from_slice(rest.as_bytes());
        result.extend_from_slice(chunk.invalid());
    }
    Ok(result)
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
