//! What the rest of the program may know of the archiver while it works.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The archiver's health and counts, shared with whoever reports them.
#[derive(Debug, Default)]
pub struct ArchiverStatus {
    stalled: Mutex<Option<String>>,
    in_hand: AtomicUsize,
    filed: AtomicU64,
    removed_quietly: AtomicU64,
}

impl ArchiverStatus {
    /// Why nothing can be filed at the moment; `None` when all is well. Filing is tried again by itself.
    #[must_use]
    pub fn stalled(&self) -> Option<String> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Outcomes that were received and are neither filed nor put aside yet.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::Acquire)
    }

    /// Documents filed in this life of the process.
    #[must_use]
    pub fn filed(&self) -> u64 {
        self.filed.load(Ordering::Relaxed)
    }

    /// Documents that were removed in this life because the same bytes had been filed before.
    #[must_use]
    pub fn removed_quietly(&self) -> u64 {
        self.removed_quietly.load(Ordering::Relaxed)
    }

    /// Sets or clears the reason; returns whether it was set before.
    pub(crate) fn set_stalled(&self, reason: Option<String>) -> bool {
        let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *stalled, reason).is_some()
    }

    pub(crate) fn set_in_hand(&self, count: usize) {
        self.in_hand.store(count, Ordering::Release);
    }

    pub(crate) fn count(&self, filed: u64, quiet: u64) {
        self.filed.fetch_add(filed, Ordering::Relaxed);
        self.removed_quietly.fetch_add(quiet, Ordering::Relaxed);
    }
}
