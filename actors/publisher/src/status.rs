//! What others may know of the publisher at any moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use supervision::Histogram;

/// How a push ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The remote took it.
    Ok,
    /// Somebody else was faster; it is taken in and tried again.
    Overtaken,
    /// The remote was not reached, or refused.
    Failed,
}

impl Push {
    /// Every way there is.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Overtaken, Self::Failed];

    /// The way in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Overtaken => "overtaken",
            Self::Failed => "failed",
        }
    }
}

/// Shared with whoever reports health and metrics. Only the publisher writes it.
#[derive(Debug, Default)]
pub struct PublisherStatus {
    unpushed: AtomicU64,
    degraded: AtomicBool,
    reason: Mutex<Option<String>>,
    failure: Mutex<Option<String>>,
    pushes_ok: AtomicU64,
    pushes_overtaken: AtomicU64,
    pushes_failed: AtomicU64,
    committed_after: Histogram,
    pushed_after: Histogram,
    committed: AtomicU64,
    queued: AtomicU64,
    retries: AtomicU64,
    packs: AtomicU64,
    apart: AtomicU64,
    index_held: AtomicBool,
    ready: AtomicBool,
    reached: AtomicBool,
    place: Mutex<(String, Option<String>)>,
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

    /// Why the last attempt to reach the remote failed, in one line; nothing from the next one on that comes off.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pushes that ended so. One that failed may have failed before it began, because the remote could not be reached while
    /// commits waited for it.
    #[must_use]
    pub fn pushes(&self, push: Push) -> u64 {
        self.counter(push).load(Ordering::Relaxed)
    }

    fn counter(&self, push: Push) -> &AtomicU64 {
        match push {
            Push::Ok => &self.pushes_ok,
            Push::Overtaken => &self.pushes_overtaken,
            Push::Failed => &self.pushes_failed,
        }
    }

    /// How long documents took from first sight until they were committed.
    #[must_use]
    pub fn committed_after(&self) -> &Histogram {
        &self.committed_after
    }

    /// How long documents took from first sight until the remote had their commits.
    #[must_use]
    pub fn pushed_after(&self) -> &Histogram {
        &self.pushed_after
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

    /// Packs of the repository that are small, not marked, and not put together yet.
    #[must_use]
    pub fn packs(&self) -> u64 {
        self.packs.load(Ordering::Relaxed)
    }

    /// Files that upstream changed and that were changed here, too: they stay as they are here until both agree again.
    #[must_use]
    pub fn files_apart(&self) -> u64 {
        self.apart.load(Ordering::Relaxed)
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

    /// Whether the remote has taken what there was to be pushed, once since the start; true as well where there is none.
    #[must_use]
    pub fn has_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(crate) fn set_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// The branch that is published, and the remote's name; empty before it is known, and nothing where commits stay local.
    #[must_use]
    pub fn place(&self) -> (String, Option<String>) {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_place(&self, branch: String, remote: Option<String>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = (branch, remote);
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

    pub(crate) fn set_packs(&self, count: u64) {
        self.packs.store(count, Ordering::Relaxed);
    }

    pub(crate) fn set_files_apart(&self, count: u64) {
        self.apart.store(count, Ordering::Relaxed);
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

    pub(crate) fn pushed(&self, push: Push) {
        self.counter(push).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_last_failure(&self, reason: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub(crate) fn set_degraded(&self, reason: Option<String>) {
        self.degraded.store(reason.is_some(), Ordering::Relaxed);
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}
