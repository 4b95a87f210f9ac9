//! Policy: what the target and the command itself allow, judged on the document alone. It never looks at a file.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use protocol::command::{Action, Check, Command, Expect, Expectations, FileMode, Op, Times};
use protocol::git_id::ObjectFormat;
use protocol::path::{RelativePath, fold};
use protocol::reason::{Reason, Stage, Verdict};

use crate::config::{CheckConfig, Checks, ConfigError, Limits, TargetConfig};
use crate::patch::parse::{Parsed, parse, parse_enveloped};
use crate::patch::{FilePatch, Name};

/// The service's own folders, which no command may touch in CLOUD.
pub const SERVICE_FOLDERS: [&str; 7] = ["commands", "meta", "results", "diffs", "archive", "dead_letter", "logs"];

/// The modes of regular files in a diff.
const FILE_MODES: [u32; 2] = [0o100_644, 0o100_755];

/// A target's rules, ready to be applied.
#[derive(Debug)]
pub struct Policy {
    deny: GlobSet,
    globs: Vec<String>,
    is_cloud: bool,
    allow_delete: bool,
    limits: Limits,
    ids: ObjectFormat,
}

/// A check of the validation plan that was found good.
#[derive(Clone, Debug)]
pub enum CheckStep {
    /// It looks at a path of the tree.
    Look {
        /// The check.
        check: Check,
        /// Its path.
        path: RelativePath,
    },
    /// It runs one of the operator's programs.
    Run {
        /// The program's name.
        name: String,
        /// What is configured under it.
        program: CheckConfig,
    },
}

impl CheckStep {
    /// The check's kind, as documents and results name it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Look { check, .. } => check.name(),
            Self::Run { .. } => "run",
        }
    }
}

/// An op whose paths were found good.
#[derive(Clone, Debug)]
pub enum Step {
    /// Nothing.
    Noop,
    /// See [`Op::WriteFile`].
    Write {
        /// The file.
        path: RelativePath,
        /// Its content.
        content: Vec<u8>,
        /// Its mode, where the op says one.
        mode: Option<FileMode>,
        /// The precondition.
        expect: Option<Expect>,
    },
    /// See [`Op::MoveFile`].
    Move {
        /// From here,
        from: RelativePath,
        /// to there.
        to: RelativePath,
        /// Whether a file there may be replaced.
        overwrite: bool,
        /// The precondition on `from`.
        expect: Option<Expect>,
    },
    /// See [`Op::DeleteFile`].
    Delete {
        /// The file.
        path: RelativePath,
        /// The precondition.
        expect: Option<Expect>,
    },
    /// See [`Op::ReplaceText`].
    Replace {
        /// The file.
        path: RelativePath,
        /// What to find.
        search: String,
        /// What to put there.
        replace: String,
        /// How often it must occur.
        count: Times,
        /// On which line the one that is meant begins.
        line: Option<u64>,
        /// The precondition.
        expect: Option<Expect>,
    },
    /// See [`Op::InsertText`].
    Insert {
        /// The file.
        path: RelativePath,
        /// The line after which.
        line: u64,
        /// What to insert.
        text: String,
        /// The text of that line.
        anchor: Option<String>,
        /// The precondition.
        expect: Option<Expect>,
    },
    /// See [`Op::ApplyDiff`] and [`Op::ApplyPatch`]. Every name in it was found good, as far as it could be read; what
    /// cannot be read is the dry run's to refuse.
    Patch {
        /// The files and hunks.
        parsed: Parsed,
        /// The preconditions.
        expect: Vec<(RelativePath, Expect)>,
    },
}

impl Step {
    /// The preconditions and the paths that they are about.
    #[must_use]
    pub fn expectations(&self) -> Vec<(&RelativePath, Expect)> {
        let (path, expect) = match self {
            Self::Noop => return Vec::new(),
            Self::Patch { expect, .. } => return expect.iter().map(|(path, expect)| (path, *expect)).collect(),
            Self::Write { path, expect, .. }
            | Self::Delete { path, expect }
            | Self::Replace { path, expect, .. }
            | Self::Insert { path, expect, .. } => (path, expect),
            Self::Move { from, expect, .. } => (from, expect),
        };
        expect.map(|expect| (path, expect)).into_iter().collect()
    }
}

/// A command that policy allows.
#[derive(Clone, Debug)]
pub struct Permitted {
    /// The ops, in order.
    pub steps: Vec<Step>,
    /// The checks, in order.
    pub checks: Vec<CheckStep>,
    /// Files that may differ afterwards.
    pub max_files_changed: u64,
    /// Bytes that may be written: the command's own bound, else the target's.
    pub max_bytes_written: u64,
    /// Runtime in milliseconds.
    pub max_runtime_ms: u64,
    /// By what the diff names files.
    pub ids: ObjectFormat,
}

impl Permitted {
    /// Every path that the command names.
    #[must_use]
    pub fn paths(&self) -> Vec<RelativePath> {
        let mut paths = Vec::with_capacity(self.steps.len() + self.checks.len());
        for step in &self.steps {
            match step {
                Step::Noop => {}
                Step::Write { path, .. }
                | Step::Delete { path, .. }
                | Step::Replace { path, .. }
                | Step::Insert { path, .. } => paths.push(path.clone()),
                Step::Move { from, to, .. } => paths.extend([from.clone(), to.clone()]),
                Step::Patch { parsed, expect } => {
                    paths.extend(expect.iter().map(|(path, _)| path.clone()));
                    let names = parsed.diff.files.iter().flat_map(FilePatch::names);
                    paths.extend(names.filter_map(|name| RelativePath::parse(name.as_str()?).ok()));
                }
            }
        }
        for check in &self.checks {
            if let CheckStep::Look { path, .. } = check {
                paths.push(path.clone());
            }
        }
        paths
    }
}

/// Reads a `deny` glob: without regard to case, and as the folder where it ends in a slash.
///
/// # Errors
/// When it does not parse.
pub fn parse_glob(glob: &str) -> Result<Glob, globset::Error> {
    // A trailing slash says "folder" in many glob dialects; ancestors are matched here without one.
    GlobBuilder::new(&fold(glob.trim_end_matches('/'))).case_insensitive(true).build()
}

impl Policy {
    /// Prepares a target's rules.
    ///
    /// # Errors
    /// When a `deny` glob does not parse.
    pub fn new(name: &str, config: &TargetConfig) -> Result<Self, ConfigError> {
        let fault = |glob: &str, source| ConfigError::Glob { target: name.to_owned(), glob: glob.to_owned(), source };
        let mut set = GlobSetBuilder::new();
        for glob in &config.deny {
            set.add(parse_glob(glob).map_err(|source| fault(glob, source))?);
        }
        let deny = set.build().map_err(|source| fault("(all together)", source))?;
        Ok(Self {
            deny,
            globs: config.deny.clone(),
            is_cloud: config.is_cloud,
            allow_delete: config.allow_delete,
            limits: config.limits,
            ids: config.ids,
        })
    }

    /// Judges a command: its actions, its bounds, every path of its ops and checks, and whether the programs that it asks
    /// for are among the operator's `checks`.
    ///
    /// # Errors
    /// The verdict on the first thing that is not allowed; it names the op and the rule.
    pub fn judge(&self, command: &Command, checks: &Checks) -> Result<Permitted, Verdict> {
        let ops: Vec<(String, &Op, Option<Parsed>)> =
            command.ops.iter().enumerate().map(|(number, op)| (place(number, op), op, files_of(op))).collect();
        for (place, op, diff) in &ops {
            let needed =
                op.action().map(|action| (place.clone(), action)).into_iter().chain(
                    diff.iter().flat_map(|parsed| &parsed.diff.files).flat_map(|file| diff_actions(place, file)),
                );
            for (place, action) in needed {
                self.action(&place, action, &command.allowed_actions)?;
            }
        }
        let (max_files_changed, max_runtime_ms, max_bytes_written) = self.bounds(command)?;
        let step = |(place, op, diff): (String, &Op, Option<Parsed>)| match diff {
            Some(parsed) => self.patch(&place, parsed, op),
            None => self.step(&place, op),
        };
        let check = |(number, check)| self.check(number, check, checks);
        Ok(Permitted {
            steps: ops.into_iter().map(step).collect::<Result<_, Verdict>>()?,
            checks: command.validation_plan.iter().enumerate().map(check).collect::<Result<_, Verdict>>()?,
            max_files_changed,
            max_bytes_written,
            max_runtime_ms,
            ids: self.ids,
        })
    }

    fn action(&self, place: &str, action: Action, allowed: &[Action]) -> Result<(), Verdict> {
        if !allowed.contains(&action) {
            return Err(refuse(
                Reason::ActionNotAllowed,
                format!("{place}: allowedActions does not name {}", action.as_str()),
            ));
        }
        if action == Action::DeleteFile && !self.allow_delete {
            return Err(refuse(
                Reason::DeleteDenied,
                format!("{place}: this target does not allow deletions (allow_delete = false)"),
            ));
        }
        Ok(())
    }

    fn bounds(&self, command: &Command) -> Result<(u64, u64, u64), Verdict> {
        let given = command.constraints;
        let bytes = given.max_bytes_written.unwrap_or(self.limits.max_bytes_written);
        for (name, asked, limit) in [
            ("maxFilesChanged", given.max_files_changed, self.limits.max_files_changed),
            ("maxRuntimeMs", given.max_runtime_ms, self.limits.max_runtime_ms),
            ("maxBytesWritten", bytes, self.limits.max_bytes_written),
        ] {
            if asked > limit {
                let detail = format!("/constraints/{name}: asks for {asked}, this target's limit is {limit}");
                return Err(refuse(Reason::LimitExceeded, detail));
            }
        }
        Ok((given.max_files_changed, given.max_runtime_ms, bytes))
    }

    fn step(&self, place: &str, op: &Op) -> Result<Step, Verdict> {
        Ok(match op {
            // A diff is read before; see `patch`.
            Op::Noop | Op::ApplyDiff { .. } | Op::ApplyPatch { .. } => Step::Noop,
            Op::WriteFile { path, content, mode, expect, .. } => {
                Step::Write { path: self.path(place, path)?, content: content.clone(), mode: *mode, expect: *expect }
            }
            Op::MoveFile { from, to, overwrite, expect } => Step::Move {
                from: self.path(place, from)?,
                to: self.path(place, to)?,
                overwrite: *overwrite,
                expect: *expect,
            },
            Op::DeleteFile { path, expect } => Step::Delete { path: self.path(place, path)?, expect: *expect },
            Op::ReplaceText { path, search, replace, count, line, expect } => Step::Replace {
                path: self.path(place, path)?,
                search: search.clone(),
                replace: replace.clone(),
                count: *count,
                line: *line,
                expect: *expect,
            },
            Op::InsertText { path, line, text, anchor, expect } => Step::Insert {
                path: self.path(place, path)?,
                line: *line,
                text: text.clone(),
                anchor: anchor.clone(),
                expect: *expect,
            },
        })
    }

    fn check(&self, number: usize, check: &Check, checks: &Checks) -> Result<CheckStep, Verdict> {
        let path = match check {
            Check::Run { name } => {
                let program = checks.get(name).ok_or_else(|| {
                    let detail =
                        format!("/validationPlan/{number}/name: no check {name:?} is configured on this bridge");
                    // The verifier knows the names, too: only where the two were configured differently.
                    Verdict::new(Stage::Schema, Reason::Schema, detail)
                })?;
                return Ok(CheckStep::Run { name: name.clone(), program: program.clone() });
            }
            Check::Exists { path } | Check::Absent { path } | Check::Sha256 { path, .. } | Check::Json { path } => path,
        };
        let place = format!("check {} ({})", number + 1, check.name());
        Ok(CheckStep::Look { check: check.clone(), path: self.path(&place, path)? })
    }

    /// Judges the names and modes of a diff. Those of a file that cannot be read to its end are not known yet.
    fn patch(&self, place: &str, parsed: Parsed, op: &Op) -> Result<Step, Verdict> {
        for file in &parsed.diff.files {
            for name in file.names() {
                self.path(place, diff_name(place, name)?)?;
            }
            if let Some(mode) = file.old_mode.iter().chain(&file.new_mode).find(|mode| !FILE_MODES.contains(mode)) {
                let detail = format!(
                    "{place}: {} has the mode {mode:06o}; only regular files (100644, 100755) may be changed by a diff",
                    file.label()
                );
                return Err(refuse(Reason::PathDenied, detail));
            }
        }
        let none = Expectations::new();
        let given = match op {
            Op::ApplyDiff { expect, .. } | Op::ApplyPatch { expect, .. } => expect,
            _ => &none,
        };
        let expect = given
            .iter()
            .map(|(path, expect)| Ok((self.path(place, path)?, *expect)))
            .collect::<Result<_, Verdict>>()?;
        Ok(Step::Patch { parsed, expect })
    }

    /// Whether a command could touch a path.
    #[must_use]
    pub fn permits(&self, path: &str) -> bool {
        self.path("", path).is_ok()
    }

    fn path(&self, place: &str, text: &str) -> Result<RelativePath, Verdict> {
        let path = RelativePath::parse(text).map_err(|fault| refuse(fault.reason(), format!("{place}: {fault}")))?;
        let folded = fold(text);
        let first = folded.split('/').next().unwrap_or_default();
        if self.is_cloud && SERVICE_FOLDERS.contains(&first) {
            return Err(refuse(Reason::PathDenied, format!("{place}: {path} lies in the bridge's own folder {first}")));
        }
        let ends = folded.match_indices('/').map(|(end, _)| end).chain([folded.len()]);
        for ancestor in ends.filter_map(|end| folded.get(..end)) {
            if let Some(glob) = self.deny.matches(ancestor).first().and_then(|index| self.globs.get(*index)) {
                return Err(refuse(
                    Reason::PathDenied,
                    format!("{place}: {path} is denied by this target's rule {glob:?}"),
                ));
            }
        }
        Ok(path)
    }
}

/// A name of a diff as text.
fn diff_name<'n>(place: &str, name: &'n Name) -> Result<&'n str, Verdict> {
    name.as_str().ok_or_else(|| refuse(Reason::PathDenied, format!("{place}: a path must be UTF-8: {name}")))
}

/// What `allowedActions` must name for one file of a diff, and where.
fn diff_actions(place: &str, file: &FilePatch) -> impl Iterator<Item = (String, Action)> + use<> {
    let writes = !file.deletes && (!file.renames || file.edits());
    let needed = [(file.renames, Action::MoveFile), (file.deletes, Action::DeleteFile), (writes, Action::WriteFile)];
    let place = format!("{place}: {}", file.label());
    needed.into_iter().filter(|(is_needed, _)| *is_needed).map(move |(_, action)| (place.clone(), action))
}

/// What `allowedActions` must name for an op; of a diff that cannot be read, as far as it can.
#[must_use]
pub fn needs(op: &Op) -> Vec<Action> {
    match files_of(op) {
        Some(parsed) => {
            parsed.diff.files.iter().flat_map(|file| diff_actions("", file)).map(|(_, action)| action).collect()
        }
        None => op.action().into_iter().collect(),
    }
}

/// The files of an op whose files stand in the text of a patch.
fn files_of(op: &Op) -> Option<Parsed> {
    match op {
        Op::ApplyDiff { diff, .. } => Some(parse(diff.clone().into_bytes())),
        Op::ApplyPatch { patch, .. } => Some(parse_enveloped(patch.clone().into_bytes())),
        _ => None,
    }
}

/// How details name an op: `op 3 (moveFile)`, counted from 1.
#[must_use]
pub fn place(number: usize, op: &Op) -> String {
    format!("op {} ({})", number + 1, op.name())
}

fn refuse(reason: Reason, detail: String) -> Verdict {
    Verdict::new(Stage::Policy, reason, detail)
}
