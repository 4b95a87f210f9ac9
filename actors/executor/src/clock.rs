//! Time, passed in: the pure core never asks the system for it.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Where the time comes from.
pub trait Clock: Send {
    /// The wall clock, for artifacts.
    fn wall(&self) -> DateTime<Utc>;
    /// The monotonic clock, for durations and deadlines.
    fn monotonic(&self) -> Instant;
}

/// The moment at which a command has run too long.
#[derive(Clone, Copy)]
pub struct Deadline<'c> {
    clock: &'c dyn Clock,
    at: Option<Instant>,
    max_runtime_ms: u64,
}

impl<'c> Deadline<'c> {
    /// `max_runtime_ms` milliseconds after `start`.
    #[must_use]
    pub fn new(clock: &'c dyn Clock, start: Instant, max_runtime_ms: u64) -> Self {
        // A moment that the clock cannot express is never reached.
        Self { clock, at: start.checked_add(Duration::from_millis(max_runtime_ms)), max_runtime_ms }
    }

    /// Whether it has passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.at.is_some_and(|at| self.clock.monotonic() > at)
    }

    /// How long it is until then; as good as for ever where the clock cannot express the moment.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.at.map_or(Duration::MAX, |at| at.saturating_duration_since(self.clock.monotonic()))
    }

    /// What to say when it has.
    #[must_use]
    pub fn complaint(&self) -> String {
        format!("the command ran longer than its maxRuntimeMs of {} and was undone", self.max_runtime_ms)
    }
}

impl std::fmt::Debug for Deadline<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deadline({} ms)", self.max_runtime_ms)
    }
}
