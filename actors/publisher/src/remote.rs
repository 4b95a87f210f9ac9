//! When to reach for the remote, and when to wait: a pure state machine over instants that are passed in.
//!
//! It knows nothing of git. It never says "give up".

use std::time::{Duration, Instant};

use tokio_retry::strategy::{ExponentialBackoff, jitter};

/// Rejections in a row (somebody else was faster) that are answered at once; later ones are failures like any other.
const MAX_QUICK_RETRIES: u32 = 5;

/// The numbers that decide.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How often the remote is looked at when there is nothing to push.
    pub fetch_every: Duration,
    /// Consecutive failures that make it degraded.
    pub attempts: u32,
    /// The first delay after a failure.
    pub backoff_base: Duration,
    /// The longest delay, and the only one while degraded.
    pub backoff_cap: Duration,
    /// Pushes a minute; 0 is unlimited.
    pub pushes_per_minute: u32,
}

/// What hinders publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The remote cannot be reached, or refuses.
    Unreachable(String),
    /// Only a person can solve it.
    Blocked(String),
}

impl Trouble {
    /// The reason in one line.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Unreachable(reason) | Self::Blocked(reason) => reason,
        }
    }
}

/// The state towards one remote.
#[derive(Debug)]
pub struct Remote {
    policy: Policy,
    failures: u32,
    rejections: u32,
    trouble: Option<Trouble>,
    not_before: Option<Instant>,
    last_contact: Option<Instant>,
    next_push: Option<Instant>,
}

impl Remote {
    /// A remote that was never spoken to.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            failures: 0,
            rejections: 0,
            trouble: None,
            not_before: None,
            last_contact: None,
            next_push: None,
        }
    }

    /// Changes the pace, once the remote's address is known.
    pub fn set_pace(&mut self, pushes_per_minute: u32) {
        self.policy.pushes_per_minute = pushes_per_minute;
    }

    /// What makes it degraded.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// When the next round (fetch, and push if there is something) is due.
    #[must_use]
    pub fn due(&self, unpushed: bool, now: Instant) -> Instant {
        let fetch = self.last_contact.map_or(now, |last| last + self.policy.fetch_every);
        let push = self.next_push.unwrap_or(now);
        let due = if unpushed && self.trouble.is_none() { fetch.min(push) } else { fetch };
        self.not_before.map_or(due, |not_before| due.max(not_before))
    }

    /// Whether a push may start now; if so it is counted.
    pub fn take_push(&mut self, now: Instant) -> bool {
        if self.next_push.is_some_and(|next| now < next) {
            return false;
        }
        if let Some(pause) = Duration::from_secs(60).checked_div(self.policy.pushes_per_minute) {
            self.next_push = Some(now + pause);
        }
        true
    }

    /// The remote answered and there is nothing in the way. Tells what is over, if something was.
    pub fn succeeded(&mut self, now: Instant) -> Option<Trouble> {
        self.failures = 0;
        self.not_before = None;
        self.last_contact = Some(now);
        self.trouble.take()
    }

    /// A push went through.
    pub fn pushed(&mut self, now: Instant) -> Option<Trouble> {
        self.rejections = 0;
        self.succeeded(now)
    }

    /// Somebody else pushed in between: the round is repeated at once, unless that happens again and again.
    pub fn overtaken(&mut self, reason: &str, now: Instant) -> bool {
        self.rejections += 1;
        if self.rejections <= MAX_QUICK_RETRIES {
            self.last_contact = None;
            self.next_push = None;
            return false;
        }
        self.rejections = 0;
        self.failed(reason, now)
    }

    /// The remote did not answer, or refused. Tells whether it is degraded from now on.
    pub fn failed(&mut self, reason: &str, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.last_contact = Some(now);
        let degraded = self.failures >= self.policy.attempts;
        let delay = if degraded { self.policy.backoff_cap } else { jitter(self.ceiling()) };
        self.not_before = Some(now + delay);
        let newly = degraded && self.trouble.is_none();
        if degraded {
            self.trouble = Some(Trouble::Unreachable(reason.to_owned()));
        }
        newly
    }

    /// The remote answered, but with something that only a person can solve. Tells whether that is news.
    pub fn blocked(&mut self, reason: String, now: Instant) -> bool {
        self.failures = 0;
        self.last_contact = Some(now);
        self.not_before = Some(now + self.policy.backoff_cap);
        let trouble = Some(Trouble::Blocked(reason));
        let news = self.trouble != trouble;
        self.trouble = trouble;
        news
    }

    /// Forgets a waiting time: there is no later.
    pub fn hurry(&mut self) {
        self.not_before = None;
        self.next_push = None;
    }

    /// The longest delay after so many failures.
    fn ceiling(&self) -> Duration {
        // Base 2: 2^n times half the first delay.
        let half = u64::try_from(self.policy.backoff_base.as_millis() / 2).unwrap_or(u64::MAX).max(1);
        let past = usize::try_from(self.failures.saturating_sub(1)).unwrap_or(usize::MAX);
        ExponentialBackoff::from_millis(2)
            .factor(half)
            .max_delay(self.policy.backoff_cap)
            .nth(past)
            .unwrap_or(self.policy.backoff_cap)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn remote(pushes_per_minute: u32) -> Remote {
        Remote::new(Policy {
            fetch_every: Duration::from_secs(5),
            attempts: 6,
            backoff_base: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
            pushes_per_minute,
        })
    }

    #[test]
    fn the_delay_doubles_up_to_the_cap() {
        let mut remote = remote(0);
        let seconds: Vec<u64> = (1..=9)
            .map(|n| {
                remote.failures = n;
                remote.ceiling().as_secs()
            })
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn six_failures_degrade_and_one_answer_recovers() {
        let now = Instant::now();
        let mut remote = remote(0);
        for n in 1..6 {
            assert!(!remote.failed("away", now), "{n}");
            assert!(remote.due(true, now) <= now + Duration::from_secs(1 << (n - 1)));
        }
        assert!(remote.trouble().is_none());
        assert!(remote.failed("away", now));
        assert!(!remote.failed("away", now), "said once");
        assert_eq!(remote.due(true, now), now + Duration::from_secs(60));
        assert_eq!(remote.pushed(now), Some(Trouble::Unreachable("away".into())));
        assert_eq!(remote.due(true, now), now);
        assert_eq!(remote.due(false, now), now + Duration::from_secs(5));
    }

    #[test]
    fn a_lone_push_goes_at_once_and_the_next_waits_its_turn() {
        let now = Instant::now();
        let mut remote = remote(6);
        remote.succeeded(now);
        assert_eq!(remote.due(true, now), now);
        assert!(remote.take_push(now));
        assert!(!remote.take_push(now + Duration::from_secs(9)));
        assert_eq!(remote.due(true, now), now + Duration::from_secs(5), "a fetch may come before");
        assert!(remote.take_push(now + Duration::from_secs(10)));
        let mut unlimited = self::remote(0);
        assert!((0..1000).all(|_| unlimited.take_push(now)));
    }

    #[test]
    fn being_overtaken_is_answered_at_once_but_not_for_ever() {
        let now = Instant::now();
        let mut remote = remote(0);
        for _ in 0..MAX_QUICK_RETRIES {
            assert!(!remote.overtaken("fetch first", now));
            assert_eq!(remote.due(true, now), now);
        }
        remote.overtaken("fetch first", now);
        assert_eq!(remote.failures, 1);
    }

    #[test]
    fn what_only_a_person_can_solve_is_said_once_and_looked_at_once_a_cap() {
        let now = Instant::now();
        let mut remote = remote(0);
        assert!(remote.blocked("rewritten".into(), now));
        assert!(!remote.blocked("rewritten".into(), now));
        assert_eq!(remote.due(true, now), now + Duration::from_secs(60));
        assert!(remote.succeeded(now).is_some());
    }
}
