//! What the rest of the program may know of the archiver while it works.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use protocol::reason::Reason;
use supervision::Histogram;

use crate::story::{Ending, Story};

/// How many of the documents filed last are remembered.
pub const LAST_STORIES: usize = 20;

/// The archiver's health and counts, shared with whoever reports them.
#[derive(Debug, Default)]
pub struct ArchiverStatus {
    stalled: Mutex<Option<String>>,
    in_hand: AtomicUsize,
    filed: AtomicU64,
    removed_quietly: AtomicU64,
    ok: AtomicU64,
    failed: ByReason,
    rejected: ByReason,
    filed_after: Histogram,
    last: Mutex<VecDeque<Story>>,
}

/// One count a reason.
#[derive(Debug)]
struct ByReason(Vec<AtomicU64>);

impl Default for ByReason {
    fn default() -> Self {
        Self(Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl ByReason {
    fn of(&self, reason: Reason) -> Option<&AtomicU64> {
        let place = Reason::ALL.iter().position(|it| *it == reason)?;
        self.0.get(place)
    }
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

    /// Documents that ended so in this life of the process.
    #[must_use]
    pub fn ended(&self, ending: Ending) -> u64 {
        self.counter(ending).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn counter(&self, ending: Ending) -> Option<&AtomicU64> {
        match ending {
            Ending::Ok => Some(&self.ok),
            Ending::Failed(reason) => self.failed.of(reason),
            Ending::Rejected(reason) => self.rejected.of(reason),
        }
    }

    /// How long documents took from first sight until they were filed.
    #[must_use]
    pub fn filed_after(&self) -> &Histogram {
        &self.filed_after
    }

    /// The documents that were filed last, the latest first.
    #[must_use]
    pub fn last(&self) -> Vec<Story> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Counts and remembers what was filed.
    pub(crate) fn remember(&self, stories: Vec<Story>) {
        for story in &stories {
            if let Some(count) = self.counter(story.ending) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(total) = story.total {
                self.filed_after.observe(total);
            }
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = stories.len().saturating_sub(LAST_STORIES);
        stories.into_iter().skip(skipped).for_each(|story| last.push_front(story));
        last.truncate(LAST_STORIES);
    }

    /// Counts documents that were refused for these reasons and have no letter of their own.
    pub(crate) fn counted(&self, reasons: &[Reason]) {
        for counter in reasons.iter().filter_map(|reason| self.rejected.of(*reason)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
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
