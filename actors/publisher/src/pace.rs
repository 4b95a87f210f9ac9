//! How many pushes a minute: a token bucket over instants that are passed in (pure).
//!
//! The bucket is full at first, so that a lone command's push goes at once, and so do the next few; under load pushes
//! come at even distances. Burst and distance are chosen so that no minute ever sees more pushes than it may.

use std::time::{Duration, Instant};

/// The span that the limit speaks of.
const MINUTE: Duration = Duration::from_secs(60);

/// A bucket of pushes.
///
/// It is kept as the one instant at which the bucket would be full again (each push moves it on by what one push takes
/// to be refilled), so there are no fractions to lose.
#[derive(Clone, Debug)]
pub struct Pace {
    /// What one push takes to be refilled; `None`: no limit.
    refill: Option<Duration>,
    /// How far ahead of the clock the bucket may be spent: all pushes of a burst but the first.
    ahead: Duration,
    full_at: Option<Instant>,
}

impl Pace {
    /// At most so many pushes in any minute; 0 is unlimited.
    ///
    /// Half of them may come at once. The rest is the refill: with a burst of `b` and a push every `60 s / (n - b + 1)`
    /// a minute that begins with a burst holds `b + (n - b)` pushes, the next one comes when it is over.
    #[must_use]
    pub fn per_minute(pushes: u32) -> Self {
        let burst = pushes.div_ceil(2);
        let refill = MINUTE.checked_div(pushes.saturating_sub(burst).saturating_add(1)).filter(|_| pushes > 0);
        let ahead = refill.unwrap_or_default().saturating_mul(burst.saturating_sub(1));
        Self { refill, ahead, full_at: None }
    }

    /// When the next push may start; `None`: at once.
    #[must_use]
    pub fn ready_at(&self) -> Option<Instant> {
        self.full_at.and_then(|full| full.checked_sub(self.ahead))
    }

    /// Takes a push out of the bucket, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.ready_at().is_some_and(|at| now < at) {
            return false;
        }
        if let Some(refill) = self.refill {
            self.full_at = Some(self.full_at.map_or(now, |full| full.max(now)) + refill);
        }
        true
    }

    /// Puts a push back that the remote did not have to work for.
    pub fn give_back(&mut self) {
        if let (Some(refill), Some(full)) = (self.refill, self.full_at) {
            self.full_at = full.checked_sub(refill);
        }
    }

    /// Fills the bucket.
    pub fn forget(&mut self) {
        self.full_at = None;
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// When pushes go, in milliseconds, where somebody wants one at each of these.
    fn pushes(pace: &mut Pace, wanted: impl Iterator<Item = u64>) -> Vec<u64> {
        let start = Instant::now();
        wanted.filter(|at| pace.take(start + Duration::from_millis(*at))).collect()
    }

    #[test]
    fn no_minute_sees_more_pushes_than_it_may() {
        for limit in [1, 2, 3, 5, 6, 7, 60, 100] {
            // Idle for a while, then under full load, then idle, then lone commands now and then, then load again.
            let wanted =
                (100_000..400_000).step_by(10).chain([500_000, 503_000, 600_000]).chain((650_000..900_000).step_by(10));
            let times = pushes(&mut Pace::per_minute(limit), wanted);
            let limit = usize::try_from(limit).unwrap_or_default();
            for (index, first) in times.iter().enumerate() {
                let within = times[index..].iter().take_while(|at| **at < first + 60_000).count();
                assert!(within <= limit, "{within} pushes within a minute of {first} ms, {limit} are allowed");
            }
            // The limit is made use of: five minutes under load hold nearly five times as many.
            let loaded = times.iter().filter(|at| **at < 400_000).count();
            assert!(loaded > 5 * limit / 2, "{loaded} pushes in five minutes at {limit} a minute");
        }
    }

    #[test]
    fn a_lone_push_goes_at_once_and_so_do_the_next_few() {
        let mut pace = Pace::per_minute(6);
        assert_eq!(pushes(&mut pace, (0..60_000).step_by(1000)), [0, 1000, 2000, 15_000, 30_000, 45_000]);
        let mut pace = Pace::per_minute(1);
        assert_eq!(pushes(&mut pace, (0..130_000).step_by(1000)), [0, 60_000, 120_000]);
    }

    #[test]
    fn no_limit_is_no_limit_and_what_is_given_back_can_be_taken_again() {
        let now = Instant::now();
        let mut free = Pace::per_minute(0);
        assert!((0..1000).all(|_| free.take(now)) && free.ready_at().is_none());
        let mut pace = Pace::per_minute(2);
        assert!(pace.take(now) && !pace.take(now));
        pace.give_back();
        assert!(pace.take(now) && !pace.take(now));
        pace.forget();
        assert!(pace.take(now));
    }
}
