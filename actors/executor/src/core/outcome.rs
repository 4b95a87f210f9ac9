//! What is reported of an execution.

use std::time::Instant;

use chrono::{DateTime, Utc};
use protocol::artifact::CheckReport;
use protocol::ledger::Licence;
use protocol::message::Execution;
use protocol::reason::Reason;

use super::{Job, MAX_ATTEMPTS, Planned, Ran, Slot};
use crate::checks::millis;
use crate::clock::{Clock, Deadline};
use crate::plan::Plan;

/// When an execution began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    wall: DateTime<Utc>,
    monotonic: Instant,
}

impl Start {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.wall(), monotonic: clock.monotonic() }
    }

    pub(super) fn deadline<'c>(&self, clock: &'c dyn Clock, max_runtime_ms: u64) -> Deadline<'c> {
        Deadline::new(clock, self.monotonic, max_runtime_ms)
    }

    /// The report of `plan`, which ends now.
    pub(super) fn report(
        &self,
        clock: &dyn Clock,
        attempts: u32,
        plan: Plan,
        checks: Vec<CheckReport>,
        failure: Option<(Reason, String)>,
    ) -> Execution {
        let execution = Execution {
            failure: None,
            executed_at: self.wall,
            finished_at: clock.wall(),
            duration_ms: millis(self.monotonic, clock.monotonic()),
            files_changed: plan.files_changed,
            bytes_written: plan.bytes_written,
            ops: plan.ops,
            checks,
            diff: plan.diff,
            attempts,
        };
        match failure {
            None => execution,
            Some(failure) => self.undone(clock, execution, failure),
        }
    }

    /// The report of an execution whose end was not known when it was planned.
    pub(super) fn finished(&self, clock: &dyn Clock, execution: Execution) -> Execution {
        let duration_ms = millis(self.monotonic, clock.monotonic());
        Execution { finished_at: clock.wall(), duration_ms, ..execution }
    }

    /// The report of an execution that turned out otherwise: nothing of it stands.
    pub(super) fn undone(&self, clock: &dyn Clock, execution: Execution, failure: (Reason, String)) -> Execution {
        Execution {
            failure: Some(failure),
            files_changed: 0,
            bytes_written: 0,
            diff: Vec::new(),
            ..self.finished(clock, execution)
        }
    }
}

/// What a failure comes to: a passing one is tried again as long as the attempts last.
pub(super) enum Conclusion {
    /// It is tried again.
    Again(Ran),
    /// It is reported.
    Final((Reason, String)),
}

/// What it comes to that `job`, on the try that is under way, failed for `reason`.
pub(super) fn conclude(job: &Job, reason: Reason, detail: String) -> Conclusion {
    let attempts = job.attempts.saturating_add(1);
    if !reason.is_passing() {
        return Conclusion::Final((reason, detail));
    }
    if attempts < MAX_ATTEMPTS {
        return Conclusion::Again(Ran::Again { attempts, reason, detail });
    }
    let detail = format!("gave up after {attempts} tries; the last one: {reason}: {detail}");
    Conclusion::Final((Reason::RetriesExhausted, detail))
}

/// A job that failed before there was anything to undo.
pub(super) fn failed(
    job: &Job,
    licence: Licence,
    start: &Start,
    clock: &dyn Clock,
    reason: Reason,
    detail: String,
) -> Slot {
    match conclude(job, reason, detail) {
        Conclusion::Again(again) => Slot::Ran(again),
        Conclusion::Final(failure) => {
            let execution = start.report(clock, job.attempts + 1, Plan::default(), Vec::new(), Some(failure));
            Slot::Planned(Box::new(Planned { licence, start: *start, mutation: None, execution }))
        }
    }
}
