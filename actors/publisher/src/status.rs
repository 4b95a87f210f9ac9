//! What others may know of the publisher at any moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Shared with whoever reports health and metrics. Only the publisher writes it.
#[derive(Debug, Default)]
pub struct PublisherStatus {
    unpushed: AtomicU64,
    degraded: AtomicBool,
    reason: Mutex<Option<String>>,
    pushes_ok: AtomicU64,
    pushes_failed: AtomicU64,
    committed: AtomicU64,
    queued: AtomicU64,
    retries: AtomicU64,
    index_held: AtomicBool,
    ready: AtomicBool,
}

impl PublisherStatus {
    /// Commits on the branch that the remote does not have.
    #[must_use]
    pub fn unpushed_commits(&self) -> u64 {
        self.unpushed.load(Ordering::Relaxed)
    }

    /// Whether something hinders publishing for longer than a passing moment.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    /// What hinders it, in one line.
    #[must_use]
    pub fn degraded_reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pushes that the remote took.
    #[must_use]
    pub fn pushes_ok(&self) -> u64 {
        self.pushes_ok.load(Ordering::Relaxed)
    }

    /// Tries to reach the remote that failed, fetches included.
    #[must_use]
    pub fn pushes_failed(&self) -> u64 {
        self.pushes_failed.load(Ordering::Relaxed)
    }

    /// Filed documents that have their commit, since the start.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Filed documents that wait for their commit.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Commands in the retries index: their execution failed for a passing cause, and they are not settled yet.
    #[must_use]
    pub fn retries_pending(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Whether something keeps git's index from following the branch: somebody else's lock, or an index that cannot be
    /// read. Commits go on meanwhile.
    #[must_use]
    pub fn index_is_held(&self) -> bool {
        self.index_held.load(Ordering::Relaxed)
    }

    /// Whether the repository is open and what an earlier run left is committed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unpushed(&self, count: u64) {
        self.unpushed.store(count, Ordering::Relaxed);
    }

    pub(crate) fn set_queued(&self, count: u64) {
        self.queued.store(count, Ordering::Relaxed);
    }

    pub(crate) fn set_retries(&self, count: u64) {
        self.retries.store(count, Ordering::Relaxed);
    }

    pub(crate) fn set_index_held(&self, held: bool) {
        self.index_held.store(held, Ordering::Relaxed);
    }

    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    pub(crate) fn add_committed(&self, count: u64) {
        self.committed.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn pushed(&self, ok: bool) {
        let counter = if ok { &self.pushes_ok } else { &self.pushes_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_degraded(&self, reason: Option<String>) {
        self.degraded.store(reason.is_some(), Ordering::Relaxed);
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}
