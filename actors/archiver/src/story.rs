//! What became of one document and how long each stage took: for the log, for the counts, and for whoever asks.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use protocol::audit::{AuditEntry, AuditResult};
use protocol::id::CommandId;
use protocol::message::Outcome;
use protocol::reason::Reason;
use protocol::ticket::Passage;

/// How a filed document ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Executed, and it holds.
    Ok,
    /// Executed, and undone.
    Failed(Reason),
    /// Refused before anything changed.
    Rejected(Reason),
}

impl Ending {
    /// The ending in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(_) => "failed",
            Self::Rejected(_) => "rejected",
        }
    }

    /// Why it did not end well.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Ok => None,
            Self::Failed(reason) | Self::Rejected(reason) => Some(reason),
        }
    }
}

/// One filed document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The document's id, where it yields a valid one.
    pub id: Option<CommandId>,
    /// The document's name in `commands/`.
    pub file: String,
    /// How it ended.
    pub ending: Ending,
    /// Files that differ.
    pub files_changed: u64,
    /// When it was filed, by the wall clock.
    pub filed_at: DateTime<Utc>,
    /// From first sight until its judgement began. This and the others: `None` where the stage was not reached, or not in
    /// this life of the process.
    pub waited: Option<Duration>,
    /// The verifier's time.
    pub verified: Option<Duration>,
    /// From there until the executor was done with it, its turn in the lane included.
    pub executed: Option<Duration>,
    /// From there until it was durable and its document had left `commands/`.
    pub filed: Option<Duration>,
    /// From first sight until it was filed.
    pub total: Option<Duration>,
}

impl Story {
    /// The story of `outcome`, filed as `entry` at `now`.
    pub(crate) fn of(outcome: &Outcome, entry: &AuditEntry, now: Instant, filed_at: DateTime<Utc>) -> Self {
        let ticket = crate::batch::ticket(outcome);
        let Passage { seen, taken, verified, executed } = ticket.passage();
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let ending = match (entry.result, outcome) {
            (AuditResult::Ok, _) => Ending::Ok,
            (AuditResult::Rejected(reason), _) => Ending::Rejected(reason),
            (AuditResult::Failed, Outcome::Executed(executed)) => {
                let failure = executed.execution.failure.as_ref();
                Ending::Failed(failure.map_or(Reason::WorkerCrashed, |(reason, _)| *reason))
            }
            (AuditResult::Failed, _) => Ending::Failed(Reason::WorkerCrashed),
        };
        Self {
            id: entry.id.clone(),
            file: ticket.file().to_string_lossy().into_owned(),
            ending,
            files_changed: entry.files_changed,
            filed_at,
            waited: between(seen, taken),
            verified: between(taken, verified),
            executed: between(verified, executed),
            filed: between(executed.or(verified), Some(now)),
            total: between(seen, Some(now)),
        }
    }

    /// The one line of the log that it gets.
    pub(crate) fn tell(&self) {
        let id = self.id.as_ref().map(tracing::field::display);
        let reason = self.ending.reason().map(Reason::as_str);
        let (outcome, files) = (self.ending.as_str(), self.files_changed);
        let (waited_ms, verified_ms) = (self.waited.map(millis), self.verified.map(millis));
        let (executed_ms, filed_ms) = (self.executed.map(millis), self.filed.map(millis));
        // A name that whoever can push has chosen is quoted.
        let file = self.id.is_none().then_some(&self.file).map(tracing::field::debug);
        tracing::info!(id, file, outcome, reason, files, waited_ms, verified_ms, executed_ms, filed_ms, "filed");
    }
}

/// A duration for a reader: milliseconds, to the microsecond.
#[must_use]
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
