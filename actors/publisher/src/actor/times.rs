//! How long documents took, from their first sight until they were committed, and until the remote had them.

use std::collections::VecDeque;
use std::time::Instant;

use crate::status::PublisherStatus;

/// The most commits whose way to the remote is timed at once; what is committed beyond them meanwhile is not timed.
const MAX_TIMED: usize = 16_384;

/// The documents that are committed and not pushed yet, by their first sight, in the order of their commits.
#[derive(Debug, Default)]
pub(super) struct Times {
    unpushed: VecDeque<Instant>,
    /// How many of them the push that is under way takes along.
    in_push: usize,
}

impl Times {
    /// Documents that were first seen then have their commits.
    pub(super) fn committed(&mut self, seen: Vec<Instant>, now: Instant, status: &PublisherStatus) {
        for first in seen {
            status.committed_after().observe(now.saturating_duration_since(first));
            if self.unpushed.len() < MAX_TIMED {
                self.unpushed.push_back(first);
            }
        }
    }

    /// A push begins that takes all commits along but the last `left`. Those that are no document's are counted as if they
    /// were: of a push that leaves some behind, the figures of a few come with the next one.
    pub(super) fn pushing(&mut self, left: u64) {
        self.in_push = self.unpushed.len().saturating_sub(usize::try_from(left).unwrap_or(usize::MAX));
    }

    /// It went through.
    pub(super) fn pushed(&mut self, now: Instant, status: &PublisherStatus) {
        let count = std::mem::take(&mut self.in_push).min(self.unpushed.len());
        for first in self.unpushed.drain(..count) {
            status.pushed_after().observe(now.saturating_duration_since(first));
        }
    }

    /// They will not be pushed: there is no remote.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_a_push_took_along_is_pushed_by_it() {
        let (status, start, mut times) = (PublisherStatus::default(), Instant::now(), Times::default());
        times.committed(vec![start, start], start + Duration::from_secs(1), &status);
        times.pushing(0);
        times.committed(vec![start], start + Duration::from_secs(2), &status);
        times.pushed(start + Duration::from_secs(3), &status);
        let (committed, pushed) = (status.committed_after().distribution(), status.pushed_after().distribution());
        assert_eq!((committed.count, committed.sum), (3, 4.0));
        assert_eq!((pushed.count, pushed.sum), (2, 6.0));
        times.pushing(0);
        times.pushed(start + Duration::from_secs(4), &status);
        assert_eq!(status.pushed_after().distribution().count, 3);
    }
}
