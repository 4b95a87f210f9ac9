//! The validation plan: what must hold of the tree after the mutation. It writes nothing itself; what the operator's
//! programs may write is the [`sandbox`](crate::sandbox)'s business.
//!
//! All checks but `run` look at a [`View`], so that they can be judged on a plan before anything is written, too.

use std::time::{Duration, Instant};

use protocol::artifact::CheckReport;
use protocol::command::Check;
use protocol::json;
use protocol::path::RelativePath;
use protocol::reason::Reason;

use crate::clock::{Clock, Deadline};
use crate::config::CheckConfig;
use crate::policy::CheckStep;
use crate::sandbox::{End, RunCheck, RunReport};
use crate::tree::{Image, Tree, TreeError};

/// The exit code of a check that ran too long.
const OVER_TIME: i32 = 124;
/// The exit code of a program that was not run because it could not be fenced in.
const REFUSED: i32 = 126;
/// The exit code of a program that could not be started.
const NOT_STARTED: i32 = 127;
/// What is added to a signal's number where a signal ended the program.
const SIGNALLED: i32 = 128;

/// A tree as a check sees it: on disk, or as it is going to be.
pub trait View {
    /// The regular file at `path`: `None` where nothing is, not even a parent.
    ///
    /// # Errors
    /// A [`TreeError`] where something else is there or in the way, or the system refuses.
    fn read(&self, path: &RelativePath) -> Result<Option<Image>, TreeError>;

    /// Whether anything is at `path`.
    ///
    /// # Errors
    /// A [`TreeError`] where something is in the way, or the system refuses.
    fn is_there(&self, path: &RelativePath) -> Result<bool, TreeError>;
}

impl View for Tree {
    fn read(&self, path: &RelativePath) -> Result<Option<Image>, TreeError> {
        Self::read(self, path)
    }

    fn is_there(&self, path: &RelativePath) -> Result<bool, TreeError> {
        self.look(path).map(|found| found.is_some())
    }
}

/// Why a check does not hold.
type Complaint = (Reason, String);

/// Runs the checks in order on the tree as it is on disk, up to the first that fails: the reports of those that ran, and
/// the failure.
pub fn run(
    tree: &Tree,
    steps: &[CheckStep],
    runner: &dyn RunCheck,
    clock: &dyn Clock,
    deadline: &Deadline<'_>,
) -> (Vec<CheckReport>, Option<Complaint>) {
    let run = |program: &CheckConfig, limit: Duration| runner.run(program, tree.root(), limit);
    judge_all(tree, steps, &run, clock, deadline)
}

/// Judges the checks in order on `view`, up to the first that fails or that only [`run`] can judge, because it runs a
/// program: the reports of those before it, and the failure.
pub fn look(
    view: &dyn View,
    steps: &[CheckStep],
    clock: &dyn Clock,
    deadline: &Deadline<'_>,
) -> (Vec<CheckReport>, Option<Complaint>) {
    let looks = steps.iter().take_while(|step| matches!(step, CheckStep::Look { .. })).count();
    let never = |_: &CheckConfig, _: Duration| RunReport::of(End::Broken("no program is run here".to_owned()));
    judge_all(view, steps.get(..looks).unwrap_or_default(), &never, clock, deadline)
}

/// Whether any of the checks runs a program, which needs the tree on disk.
#[must_use]
pub fn run_programs(steps: &[CheckStep]) -> bool {
    steps.iter().any(|step| matches!(step, CheckStep::Run { .. }))
}

fn judge_all(
    view: &dyn View,
    steps: &[CheckStep],
    run: &dyn Fn(&CheckConfig, Duration) -> RunReport,
    clock: &dyn Clock,
    deadline: &Deadline<'_>,
) -> (Vec<CheckReport>, Option<Complaint>) {
    let mut reports = Vec::with_capacity(steps.len());
    for (number, step) in steps.iter().enumerate() {
        if deadline.is_over() {
            return (reports, Some((Reason::Timeout, deadline.complaint())));
        }
        let start = clock.monotonic();
        let (mut report, complaint) = match step {
            CheckStep::Look { check, path } => looked(step.kind(), judge(view, check, path).err()),
            CheckStep::Run { name, program } => ran(name, program, deadline, run),
        };
        report.duration_ms = millis(start, clock.monotonic());
        reports.push(report);
        if let Some((reason, complaint)) = complaint {
            let detail = match step {
                _ if reason == Reason::Timeout => complaint,
                CheckStep::Look { .. } => format!("check {} ({}): {complaint}", number + 1, step.kind()),
                CheckStep::Run { name, .. } => format!("check {} (run {name}): {complaint}", number + 1),
            };
            return (reports, Some((reason, detail)));
        }
    }
    (reports, None)
}

fn looked(check: &'static str, complaint: Option<Complaint>) -> (CheckReport, Option<Complaint>) {
    let report = CheckReport {
        check,
        name: None,
        exit_code: complaint.as_ref().map_or(0, |(reason, _)| i32::from(reason.exit_code())),
        duration_ms: 0,
        stdout: String::new(),
        stderr: complaint.as_ref().map(|(_, text)| text.clone()).unwrap_or_default(),
        truncated: false,
    };
    (report, complaint)
}

/// Runs an operator's program within its own time and the command's, and says what its end means.
fn ran(
    name: &str,
    program: &CheckConfig,
    deadline: &Deadline<'_>,
    run: &dyn Fn(&CheckConfig, Duration) -> RunReport,
) -> (CheckReport, Option<Complaint>) {
    let (own, left) = (Duration::from_millis(program.max_runtime_ms), deadline.remaining());
    let RunReport { end, stdout, stderr, truncated } = run(program, own.min(left));
    let failed = |text: String| Some((Reason::ValidationFailed, text));
    let (exit_code, complaint) = match end {
        End::Exited(0) => (0, None),
        End::Exited(code) => (code, failed(format!("it ended with exit code {code}{}", last_words(&stderr)))),
        End::Signalled(signal) => (
            SIGNALLED.saturating_add(signal),
            failed(format!("it was ended by signal {signal}{}", last_words(&stderr))),
        ),
        End::OverTime if own <= left => {
            let limit = program.max_runtime_ms;
            (OVER_TIME, failed(format!("it ran longer than its max_runtime_ms of {limit} and was ended")))
        }
        End::OverTime => (OVER_TIME, Some((Reason::Timeout, deadline.complaint()))),
        End::NotStarted(why) => (NOT_STARTED, failed(why)),
        End::Refused(why) => (REFUSED, failed(why)),
        End::Broken(why) => (i32::from(Reason::IoError.exit_code()), Some((Reason::IoError, why))),
    };
    let report =
        CheckReport { check: "run", name: Some(name.to_owned()), exit_code, duration_ms: 0, stdout, stderr, truncated };
    (report, complaint)
}

/// The last line that the program complained with, for a detail that tells more than a number.
fn last_words(stderr: &str) -> String {
    /// How much of it is quoted, in characters.
    const MOST: usize = 200;
    let Some(line) = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()) else { return String::new() };
    let words: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    format!("; the last it said is {words:?}")
}

fn judge(view: &dyn View, check: &Check, path: &RelativePath) -> Result<(), Complaint> {
    let failed = |what: String| Err((Reason::ValidationFailed, what));
    let fault = |error: TreeError| match error.reason() {
        Reason::IoError => (Reason::IoError, error.to_string()),
        _ => (Reason::ValidationFailed, error.to_string()),
    };
    if let Check::Absent { .. } = check {
        return match view.is_there(path) {
            Ok(false) | Err(TreeError::NotFolder { .. }) => Ok(()),
            Ok(true) => failed(format!("{path} is there")),
            Err(error) => Err(fault(error)),
        };
    }
    let Some(image) = view.read(path).map_err(fault)? else { return failed(format!("there is no file at {path}")) };
    match check {
        Check::Sha256 { equals, .. } if image.sha256() != *equals => {
            failed(format!("{path} has SHA-256 {}, expected {equals}", image.sha256()))
        }
        Check::Json { .. } => {
            json::parse(&image.content).map(drop).or_else(|error| failed(format!("{path} is no strict JSON: {error}")))
        }
        _ => Ok(()),
    }
}

/// A duration in whole milliseconds between two moments.
pub(crate) fn millis(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
}
