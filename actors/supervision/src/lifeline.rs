//! Restarts: delayed, counted, and ended by a budget.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Exit status for a bug or a spent restart budget (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_SOFTWARE: i32 = 70;
/// The delay before the first restart; it doubles with each further one within the window.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// The longest delay before a restart.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// How many restarts are allowed within which time, over all actors together.
#[derive(Debug)]
pub struct Budget {
    max_restarts: usize,
    within: Duration,
    spent: VecDeque<Instant>,
    /// Why the process has to end.
    cause: Option<String>,
}

impl Budget {
    /// At most `max_restarts` within `within`.
    #[must_use]
    pub fn new(max_restarts: usize, within: Duration) -> Self {
        Self { max_restarts, within, spent: VecDeque::new(), cause: None }
    }

    /// Why the process has to end; the first cause counts.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// Spends one restart: the delay before it, or `None` when the budget is spent.
    pub fn spend(&mut self, now: Instant) -> Option<Duration> {
        while self.spent.front().is_some_and(|then| now.duration_since(*then) > self.within) {
            self.spent.pop_front();
        }
        if self.spent.len() >= self.max_restarts {
            return None;
        }
        let doublings = u32::try_from(self.spent.len()).unwrap_or(u32::MAX).min(16);
        self.spent.push_back(now);
        Some(FIRST_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY))
    }
}

/// What ties an actor to the process: its restarts are counted here, and when it cannot be saved the process ends with
/// [`EXIT_SOFTWARE`]. Held by the actor itself, so that a panic which unwinds the actor's own task is noticed.
#[derive(Clone, Debug)]
pub struct Lifeline {
    actor: &'static str,
    system: actix::System,
    budget: Arc<Mutex<Budget>>,
    restarts: Restarts,
    last_panic: Arc<Mutex<Option<String>>>,
}

/// How often an actor was restarted, or began work anew that had panicked: for whoever reports it.
#[derive(Clone, Debug, Default)]
pub struct Restarts(Arc<AtomicU64>);

impl Restarts {
    /// The number so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Lifeline {
    /// A lifeline for `actor` in the running actix system, on a budget that all actors share.
    #[must_use]
    pub fn new(actor: &'static str, system: actix::System, budget: Arc<Mutex<Budget>>) -> Self {
        Self { actor, system, budget, restarts: Restarts::default(), last_panic: Arc::default() }
    }

    /// Counts restarts in `restarts`, which others may look at.
    #[must_use]
    pub fn counting(mut self, restarts: Restarts) -> Self {
        self.restarts = restarts;
        self
    }

    /// How often the actor was restarted.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.get()
    }

    /// Remembers why the next restart is needed, to be told if it is the one too many.
    pub fn panicked(&self, what: &dyn fmt::Display) {
        *self.last_panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_string());
    }

    /// Counts work that panicked and is begun anew on a schedule of its own, so that it costs nothing of the budget.
    pub fn count_only(&self) {
        self.restarts.count();
    }

    /// Counts a restart: how long to wait before going on, or `None` when the budget is spent and the process ends.
    pub fn restarting(&self) -> Option<Duration> {
        self.restarts.count();
        let delay = self.lock().spend(Instant::now());
        match delay {
            Some(delay) => tracing::warn!(actor = self.actor, ?delay, "restarting"),
            None => {
                let last = self.last_panic.lock().unwrap_or_else(PoisonError::into_inner).take();
                let last = last.map_or_else(String::new, |last| format!("; the last one was needed because it {last}"));
                self.fatal(&format!("the restart budget is spent{last}"));
            }
        }
        delay
    }

    fn lock(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process with [`EXIT_SOFTWARE`], for a cause that the actor cannot handle.
    pub fn fatal(&self, cause: &str) {
        self.lock().cause.get_or_insert_with(|| format!("{}: {cause}", self.actor));
        tracing::error!(
            actor = self.actor,
            cause,
            "stopping with exit status {EXIT_SOFTWARE}; start the bridge again, it recovers from disk"
        );
        self.system.stop_with_code(EXIT_SOFTWARE);
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fatal("a panic reached the actor's own thread");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_delays_doubles_ends_and_refills() {
        let mut budget = Budget::new(3, Duration::from_secs(30));
        let start = Instant::now();
        assert_eq!(budget.spend(start), Some(FIRST_DELAY));
        assert_eq!(budget.spend(start), Some(FIRST_DELAY * 2));
        assert_eq!(budget.spend(start), Some(FIRST_DELAY * 4));
        assert_eq!(budget.spend(start), None);
        assert_eq!(budget.spend(start + Duration::from_secs(31)), Some(FIRST_DELAY));
    }
}
