//! What the service knows of itself: the figures of its actors, and whether it is ready.
//!
//! The actors write, anybody reads at any time, and no lock is held for longer than it takes to copy a line. So whoever
//! asks gets an answer also while an actor is stuck.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use archiver::ArchiverStatus;
use chrono::{DateTime, Utc};
use executor::status::ExecutorStatus;
use publisher::PublisherStatus;
use serde::Serialize;
use supervision::{Budget, Gauge, Lifeline, MAILBOX_CAPACITY, Restarts};
use watcher::WatcherStatus;

use crate::config::Supervision;

/// One actor, seen from outside.
#[derive(Debug)]
pub struct Seen {
    /// Its mailbox; knows the actor's name.
    pub mailbox: Arc<Gauge>,
    /// How often it was restarted.
    pub restarts: Restarts,
}

impl Seen {
    fn new(actor: &'static str, capacity: usize) -> Self {
        Self { mailbox: Gauge::new(actor, capacity), restarts: Restarts::default() }
    }
}

/// How far the service's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// What the last run left is being recovered.
    Starting,
    /// Commands are taken.
    Running,
    /// What is in flight is finished, nothing new is taken.
    Stopping,
}

/// Why the service is not ready, for one of its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unready {
    /// `starting`, `stopping`, `degraded` or `over_budget`.
    pub reason: &'static str,
    /// The part that it is about: `service`, or an actor's name.
    pub part: &'static str,
    /// One sentence.
    pub detail: String,
}

/// The service, seen from outside.
#[derive(Debug)]
pub struct Observed {
    /// The root of the work tree.
    pub cloud: PathBuf,
    /// When the service was started.
    pub started_at: DateTime<Utc>,
    /// From when on only the next secret counts, where secrets are rotated.
    pub rotation_ends: Option<DateTime<Utc>>,
    phase: AtomicU8,
    budget: Arc<Mutex<Budget>>,
    /// The watcher's mailbox and restarts; likewise the other four.
    pub watcher: Seen,
    #[allow(missing_docs)]
    pub verifier: Seen,
    #[allow(missing_docs)]
    pub executor: Seen,
    #[allow(missing_docs)]
    pub archiver: Seen,
    #[allow(missing_docs)]
    pub publisher: Seen,
    /// What the watcher tells.
    pub watching: Arc<WatcherStatus>,
    /// What the executor tells.
    pub executing: Arc<ExecutorStatus>,
    /// What the archiver tells.
    pub filing: Arc<ArchiverStatus>,
    /// What the publisher tells.
    pub publishing: Arc<PublisherStatus>,
}

impl Observed {
    /// A service on `cloud` that starts at `now`, with this restart budget.
    #[must_use]
    pub fn new(cloud: PathBuf, supervision: Supervision, now: DateTime<Utc>) -> Self {
        let restarts = usize::try_from(supervision.max_restarts).unwrap_or(usize::MAX);
        let budget = Budget::new(restarts, Duration::from_secs(supervision.within_secs));
        Self {
            cloud,
            started_at: now,
            rotation_ends: None,
            phase: AtomicU8::new(Phase::Starting as u8),
            budget: Arc::new(Mutex::new(budget)),
            watcher: Seen::new("watcher", watcher::MAILBOX_CAPACITY),
            verifier: Seen::new("verifier", MAILBOX_CAPACITY),
            executor: Seen::new("executor", MAILBOX_CAPACITY),
            archiver: Seen::new("archiver", MAILBOX_CAPACITY),
            publisher: Seen::new("publisher", MAILBOX_CAPACITY),
            watching: Arc::default(),
            executing: Arc::default(),
            filing: Arc::default(),
            publishing: Arc::default(),
        }
    }

    /// The five actors, in the order of the pipeline.
    #[must_use]
    pub fn actors(&self) -> [&Seen; 5] {
        [&self.watcher, &self.verifier, &self.executor, &self.archiver, &self.publisher]
    }

    /// A lifeline for one of them, on the budget that all share.
    #[must_use]
    pub fn lifeline(&self, seen: &Seen, system: &actix::System) -> Lifeline {
        let lifeline = Lifeline::new(seen.mailbox.actor(), system.clone(), Arc::clone(&self.budget));
        lifeline.counting(seen.restarts.clone())
    }

    /// How much room CLOUD's disk has for this user, in bytes; `None` where it does not say.
    #[must_use]
    pub fn disk_free(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.cloud).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// How far the service's life has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Running as u8 => Phase::Running,
            phase if phase == Phase::Stopping as u8 => Phase::Stopping,
            _ => Phase::Starting,
        }
    }

    /// It has come so far now.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Why the service has to end by itself, if it has.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).cause().map(str::to_owned)
    }

    /// All that speaks against being ready; empty where nothing does.
    #[must_use]
    pub fn unready(&self) -> Vec<Unready> {
        let mut found = Vec::new();
        let mut add = |reason, part, detail: String| found.push(Unready { reason, part, detail });
        match self.phase() {
            Phase::Starting => add("starting", "service", "what the last run left is being recovered".to_owned()),
            Phase::Stopping => add("stopping", "service", "what is in flight is being finished".to_owned()),
            Phase::Running if !self.publishing.is_ready() => {
                add("starting", "publisher", "what the last run left is being committed".to_owned());
            }
            // Its first answer tells that git can fetch and push here at all.
            Phase::Running if !self.publishing.has_reached() && !self.publishing.is_degraded() => {
                add("starting", "publisher", "the remote has not answered yet".to_owned());
            }
            Phase::Running => {}
        }
        if let Some(cause) = self.fatal() {
            add("over_budget", "service", cause);
        }
        if !self.watching.reachable() {
            add("degraded", "watcher", "commands/ cannot be read".to_owned());
        }
        let stalled = [
            ("executor", self.executing.stalled()),
            ("executor", self.executing.unsynced()),
            ("archiver", self.filing.stalled()),
            ("publisher", self.publishing.degraded_reason()),
        ];
        for (part, detail) in stalled {
            if let Some(detail) = detail {
                add("degraded", part, detail);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_ready_only_while_it_runs() {
        let supervision = Supervision { max_restarts: 5, within_secs: 30 };
        let observed = Observed::new("/cloud".into(), supervision, Utc::now());
        let reasons = || observed.unready().iter().map(|it| (it.reason, it.part)).collect::<Vec<_>>();
        assert_eq!(reasons(), [("starting", "service")]);
        observed.enter(Phase::Running);
        assert_eq!(reasons(), [("starting", "publisher")], "the repository is not open yet");
        observed.enter(Phase::Stopping);
        assert_eq!(reasons(), [("stopping", "service")]);
    }
}
