//! What the watcher lets others see of itself.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use supervision::Histogram;

/// Why a name in `commands/` is none of the bridge's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// It starts with a dot.
    Hidden,
    /// A file without content.
    Empty,
    /// It does not end in `.json`.
    NotJson,
}

impl Ignored {
    /// Every reason there is.
    pub const ALL: [Self; 3] = [Self::Hidden, Self::Empty, Self::NotJson];

    /// The reason in one word, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Empty => "empty",
            Self::NotJson => "not_json",
        }
    }
}

/// The watcher's figures: written by the watcher, read by anybody at any time.
#[derive(Debug, Default)]
pub struct WatcherStatus {
    pending: AtomicUsize,
    in_flight: AtomicUsize,
    hidden: AtomicU64,
    empty: AtomicU64,
    not_json: AtomicU64,
    scans: AtomicU64,
    unreachable: AtomicBool,
    polling: AtomicBool,
    scan_times: Histogram,
    read_times: Histogram,
}

impl WatcherStatus {
    /// Commands that were seen and wait for their place in flight.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Commands whose ticket is out.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many names were ignored for `reason`; each counts once while it stays.
    #[must_use]
    pub fn ignored(&self, reason: Ignored) -> u64 {
        self.counter(reason).load(Ordering::Relaxed)
    }

    /// How many scans were made, the skipped ones not counted.
    #[must_use]
    pub fn scans(&self) -> u64 {
        self.scans.load(Ordering::Relaxed)
    }

    /// Whether `commands/` could be opened and listed the last time.
    #[must_use]
    pub fn reachable(&self) -> bool {
        !self.unreachable.load(Ordering::Relaxed)
    }

    /// Whether there are no file system events, so that commands are found by the periodic scan alone.
    #[must_use]
    pub fn polling(&self) -> bool {
        self.polling.load(Ordering::Relaxed)
    }

    /// How long scans took, the skipped ones not counted.
    #[must_use]
    pub fn scan_times(&self) -> &Histogram {
        &self.scan_times
    }

    /// How long it took to read the documents that went together.
    #[must_use]
    pub fn read_times(&self) -> &Histogram {
        &self.read_times
    }

    pub(crate) fn set_pending(&self, pending: usize) {
        self.pending.store(pending, Ordering::Relaxed);
    }

    pub(crate) fn set_in_flight(&self, in_flight: usize) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
    }

    pub(crate) fn count_ignored(&self, reason: Ignored) {
        self.counter(reason).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_scan(&self) {
        self.scans.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_reachable(&self, reachable: bool) {
        self.unreachable.store(!reachable, Ordering::Relaxed);
    }

    pub(crate) fn set_polling(&self, polling: bool) {
        self.polling.store(polling, Ordering::Relaxed);
    }

    fn counter(&self, reason: Ignored) -> &AtomicU64 {
        match reason {
            Ignored::Hidden => &self.hidden,
            Ignored::Empty => &self.empty,
            Ignored::NotJson => &self.not_json,
        }
    }
}
