//! The validation plan: what must hold of the tree after the mutation. It only reads.

use std::time::Instant;

use protocol::artifact::CheckReport;
use protocol::command::Check;
use protocol::json;
use protocol::reason::Reason;

use crate::clock::{Clock, Deadline};
use crate::policy::CheckStep;
use crate::tree::{Tree, TreeError};

/// Runs the checks in order, up to the first that fails: the reports of those that ran, and the failure.
pub fn run(
    tree: &Tree,
    steps: &[CheckStep],
    clock: &dyn Clock,
    deadline: &Deadline<'_>,
) -> (Vec<CheckReport>, Option<(Reason, String)>) {
    let mut reports = Vec::with_capacity(steps.len());
    for (number, step) in steps.iter().enumerate() {
        if deadline.is_over() {
            return (reports, Some((Reason::Timeout, deadline.complaint())));
        }
        let start = clock.monotonic();
        let complaint = judge(tree, step).err();
        reports.push(report(step, complaint.as_ref(), millis(start, clock.monotonic())));
        if let Some((reason, complaint)) = complaint {
            let detail = format!("check {} ({}): {complaint}", number + 1, step.check.name());
            return (reports, Some((reason, detail)));
        }
    }
    (reports, None)
}

fn report(step: &CheckStep, complaint: Option<&(Reason, String)>, took_ms: u64) -> CheckReport {
    CheckReport {
        check: step.check.name(),
        exit_code: complaint.map_or(0, |(reason, _)| i32::from(reason.exit_code())),
        duration_ms: took_ms,
        stdout: String::new(),
        stderr: complaint.map(|(_, text)| text.clone()).unwrap_or_default(),
        truncated: false,
    }
}

fn judge(tree: &Tree, step: &CheckStep) -> Result<(), (Reason, String)> {
    let path = &step.path;
    let failed = |what: String| Err((Reason::ValidationFailed, what));
    let fault = |error: TreeError| match error.reason() {
        Reason::IoError => (Reason::IoError, error.to_string()),
        _ => (Reason::ValidationFailed, error.to_string()),
    };
    if let Check::Absent { .. } = step.check {
        return match tree.look(path) {
            Ok(None) | Err(TreeError::NotFolder { .. }) => Ok(()),
            Ok(Some(_)) => failed(format!("{path} is there")),
            Err(error) => Err(fault(error)),
        };
    }
    let Some(image) = tree.read(path).map_err(fault)? else { return failed(format!("there is no file at {path}")) };
    match &step.check {
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
