//! Tries that failed for a passing cause: gathered, and noted in the retries index when no commit is waiting.

use std::time::Instant;

use actix::prelude::Handler;
use protocol::message::{Attempt, Filed};
use supervision::Envelope;

use super::Publisher;
use crate::audit;
use crate::error::WorkError;
use crate::retries::Retries;
use crate::work::{RETRIES_PAUSE, RETRY};

/// What waits to be noted, and when it may be.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    waiting: Retries,
    /// Not before that; `None`: at once.
    not_before: Option<Instant>,
    /// Why it did not come off last time.
    trouble: Option<String>,
}

impl Attempts {
    /// What is filed needs no note any more: one that still waits would come after the command's end.
    pub(super) fn forget(&mut self, filed: &Filed) {
        if !self.waiting.is_empty()
            && let Some(settlement) = audit::settlement(&filed.audit_line)
        {
            self.waiting.settle(&settlement.id);
        }
    }
}

impl Publisher {
    fn attempts_lag(&self) -> bool {
        !self.attempts.waiting.is_empty() || self.view.retries_lag
    }

    /// Whether a stop has to wait for them: not where the disk refuses, for they are no more than a count.
    pub(super) fn attempts_wait(&self) -> bool {
        self.attempts_lag() && self.attempts.trouble.is_none() && self.trouble.is_none()
    }

    /// When the retries index is to be updated, if it is.
    pub(super) fn attempts_due(&self, now: Instant) -> Option<Instant> {
        let hurry = self.stop.is_some() && self.attempts.trouble.is_none();
        let at = self.attempts.not_before.filter(|_| !hurry).unwrap_or(now);
        self.attempts_lag().then_some(at)
    }

    /// What is to be noted now; possibly none, where only the file or the branch is behind.
    pub(super) fn take_attempts(&mut self, now: Instant) -> Option<Retries> {
        self.attempts_due(now).filter(|at| *at <= now).map(|_| std::mem::take(&mut self.attempts.waiting))
    }

    /// The index is no reason to hold up commits: what goes wrong here is tried again by itself.
    pub(super) fn retried(&mut self, result: Result<(), WorkError>, now: Instant) {
        match result {
            Ok(()) => {
                self.attempts.not_before = Some(now + RETRIES_PAUSE);
                if let Some(trouble) = self.attempts.trouble.take() {
                    tracing::info!(was = trouble, "the retries index is kept again");
                }
            }
            Err(error) => {
                self.attempts.not_before = Some(now + RETRY);
                let text = error.to_string();
                if self.attempts.trouble.as_ref() != Some(&text) {
                    tracing::warn!(error = text, "the retries index is updated later");
                    self.attempts.trouble = Some(text);
                }
            }
        }
    }
}

impl Handler<Envelope<Attempt>> for Publisher {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Attempt>, ctx: &mut Self::Context) {
        let (attempt, _handling) = envelope.open();
        self.attempts.waiting.record(&attempt);
        self.pump(ctx);
    }
}
