//! When to reach for the remote, and when to wait: a pure state machine over instants that are passed in.
//!
//! It knows nothing of git. It never says "give up".

use std::time::{Duration, Instant};

use tokio_retry::strategy::{ExponentialBackoff, jitter};

use crate::ahead::PART_MAX;
use crate::pace::Pace;

/// Times in a row that somebody else may be faster before we wait a little: the one who waits lets the others through.
const QUICK_RETRIES: u32 = 5;
/// The first such wait at most, doubled after each further time.
const CONTENTION_BASE: Duration = Duration::from_millis(20);
/// The longest such wait.
const CONTENTION_CAP: Duration = Duration::from_millis(500);
/// Times in a row after which it is worth saying.
const OVERTAKEN_MAX: u32 = 60;
/// The fewest commits that a push takes along where larger ones ran out of time.
const PART_MIN: u64 = 16;

/// The longest rest between two pushes while more is being committed.
const REST_MAX: Duration = Duration::from_secs(5);

/// What the next push would take along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// Nothing that could be pushed.
    Empty,
    /// Commits that more are about to follow.
    Growing,
    /// Commits that nothing follows as far as is known.
    Still,
}

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

/// What a failure is worth saying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing: it may pass.
    Nothing,
    /// The remote was never reached, and this is the first try.
    First,
    /// It is degraded from now on.
    Degraded,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look what the remote has; then push what there is.
    Fetch,
    /// Push, expecting the remote where it was left.
    Push,
}

/// The state towards one remote.
#[derive(Debug)]
pub struct Remote {
    policy: Policy,
    pace: Pace,
    failures: u32,
    overtaken: u32,
    trouble: Option<Trouble>,
    /// Whether all was well once.
    reached: bool,
    /// Whether it is not known where the remote is: never looked at, moved by somebody else, or silent.
    astray: bool,
    not_before: Option<Instant>,
    last_contact: Option<Instant>,
    /// When the last push began.
    began_at: Option<Instant>,
    /// When as much time has passed since the last push as it took.
    rested_at: Option<Instant>,
    part: u64,
}

impl Remote {
    /// A remote that was never spoken to.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            pace: Pace::per_minute(policy.pushes_per_minute),
            failures: 0,
            overtaken: 0,
            trouble: None,
            reached: false,
            astray: true,
            not_before: None,
            last_contact: None,
            began_at: None,
            rested_at: None,
            part: PART_MAX,
        }
    }

    /// Changes the pace, once the remote's address is known.
    pub fn set_pace(&mut self, pushes_per_minute: u32) {
        if self.policy.pushes_per_minute != pushes_per_minute {
            self.policy.pushes_per_minute = pushes_per_minute;
            self.pace = Pace::per_minute(pushes_per_minute);
        }
    }

    /// What makes it degraded.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// How many commits a push takes along.
    #[must_use]
    pub fn part(&self) -> u64 {
        self.part
    }

    /// When the next step is due. `backlog` tells what could be pushed.
    #[must_use]
    pub fn due(&self, backlog: Backlog, now: Instant) -> Instant {
        let fetch = self.fetch_due(now);
        let due = self.push_due(backlog, now).map_or(fetch, |push| fetch.min(push));
        self.not_before.map_or(due, |not_before| due.max(not_before))
    }

    /// What is to be done now, if anything.
    #[must_use]
    pub fn step(&self, backlog: Backlog, now: Instant) -> Option<Step> {
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return None;
        }
        if self.push_due(backlog, now).is_some_and(|at| at <= now) {
            return Some(Step::Push);
        }
        (self.fetch_due(now) <= now).then_some(Step::Fetch)
    }

    /// Pushes that go through tell as much of the remote as a fetch, so the next fetch is counted from the last push.
    fn fetch_due(&self, now: Instant) -> Instant {
        let last = self.last_contact.filter(|_| !self.astray);
        last.map_or(now, |last| last + self.policy.fetch_every)
    }

    /// Where something is wrong, a fetch is the gentler way to find out whether it still is: a push follows it.
    fn push_due(&self, backlog: Backlog, now: Instant) -> Option<Instant> {
        if backlog == Backlog::Empty || self.astray || self.trouble.is_some() {
            return None;
        }
        let ready = self.pace.ready_at().unwrap_or(now);
        // What a push costs, here and there, is mostly the same for one commit and for hundreds.
        let rested = self.rested_at.filter(|_| backlog == Backlog::Growing);
        Some(rested.map_or(ready, |rested| rested.max(ready)))
    }

    /// Whether a push may start now; if so it is counted.
    pub fn take_push(&mut self, now: Instant) -> bool {
        let may = self.pace.take(now);
        if may {
            self.began_at = Some(now);
        }
        may
    }

    /// A fetch was answered: it is known where the remote is.
    pub fn fetched(&mut self) {
        self.astray = false;
    }

    /// A fetch was answered and what is to be pushed must wait its turn. That the remote can be read does not tell that
    /// it can be pushed to: what is wrong with pushes is not over.
    pub fn waits(&mut self, now: Instant) {
        self.last_contact = Some(now);
        self.not_before = None;
    }

    /// The remote answered and there is nothing in the way. Tells what is over, if something was.
    pub fn succeeded(&mut self, now: Instant) -> Option<Trouble> {
        self.failures = 0;
        self.reached = true;
        self.not_before = None;
        self.last_contact = Some(now);
        self.trouble.take()
    }

    /// A push went through.
    pub fn pushed(&mut self, now: Instant) -> Option<Trouble> {
        self.overtaken = 0;
        self.astray = false;
        self.rested_at = self.began_at.map(|began| now + now.saturating_duration_since(began).min(REST_MAX));
        self.part = self.part.saturating_mul(2).min(PART_MAX);
        self.succeeded(now)
    }

    /// A push ran out of time: the next one takes fewer commits along.
    pub fn too_slow(&mut self) {
        self.part = (self.part / 2).max(PART_MIN);
    }

    /// Somebody else pushed in between. That is no failure: what came is fetched at once, and pushed again. Where it
    /// happens again and again it is waited for a moment, so that others get through too. Tells whether it has come to be
    /// worth saying.
    pub fn overtaken(&mut self, reason: &str, now: Instant) -> bool {
        self.overtaken = self.overtaken.saturating_add(1);
        self.astray = true;
        self.pace.give_back();
        let late = self.overtaken.saturating_sub(QUICK_RETRIES);
        self.not_before = (late > 0).then(|| now + jitter(doubled(CONTENTION_BASE, late, CONTENTION_CAP)));
        let newly = self.overtaken >= OVERTAKEN_MAX && self.trouble.is_none();
        if newly {
            self.trouble = Some(Trouble::Unreachable(format!("somebody else is always faster: {reason}")));
        }
        newly
    }

    /// The remote did not answer, or refused. What only a person can help with (`person`) is not taken for passing: it is
    /// degraded at once, and tried at the slow pace from then on.
    pub fn failed(&mut self, reason: &str, person: bool, now: Instant) -> News {
        let first = self.failures == 0 && !self.reached;
        self.failures = self.failures.saturating_add(1).max(if person { self.policy.attempts } else { 0 });
        self.astray = true;
        self.last_contact = Some(now);
        let degraded = self.failures >= self.policy.attempts;
        let delay = if degraded {
            self.policy.backoff_cap
        } else {
            jitter(doubled(self.policy.backoff_base, self.failures, self.policy.backoff_cap))
        };
        self.not_before = Some(now + delay);
        let newly = degraded && self.trouble.is_none();
        if degraded {
            self.trouble = Some(Trouble::Unreachable(reason.to_owned()));
        }
        match (newly, first) {
            (true, _) => News::Degraded,
            (false, true) => News::First,
            (false, false) => News::Nothing,
        }
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
        self.pace.forget();
    }
}

/// The longest delay after so many failures: base 2, from `first` on, up to `cap`.
fn doubled(first: Duration, failures: u32, cap: Duration) -> Duration {
    // 2^n times half the first delay.
    let half = u64::try_from(first.as_millis() / 2).unwrap_or(u64::MAX).max(1);
    let past = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    ExponentialBackoff::from_millis(2).factor(half).max_delay(cap).nth(past).unwrap_or(cap)
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

    /// A remote that was looked at.
    fn known(pushes_per_minute: u32, now: Instant) -> Remote {
        let mut remote = remote(pushes_per_minute);
        remote.fetched();
        remote.succeeded(now);
        remote
    }

    #[test]
    fn the_delay_doubles_up_to_the_cap() {
        let seconds = (1..=9).map(|n| doubled(Duration::from_secs(1), n, Duration::from_secs(60)).as_secs());
        assert_eq!(seconds.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn the_first_step_is_a_look_and_then_a_push_goes_without_one() {
        let now = Instant::now();
        let mut remote = remote(0);
        assert_eq!(remote.step(Backlog::Still, now), Some(Step::Fetch));
        remote.fetched();
        remote.succeeded(now);
        assert_eq!(remote.step(Backlog::Empty, now), None);
        assert_eq!(remote.step(Backlog::Still, now), Some(Step::Push));
        let later = now + Duration::from_secs(4);
        remote.pushed(later);
        assert_eq!(
            remote.due(Backlog::Empty, later),
            later + Duration::from_secs(5),
            "a push tells as much as a fetch"
        );
        assert_eq!(remote.step(Backlog::Empty, later + Duration::from_secs(5)), Some(Step::Fetch));
    }

    #[test]
    fn while_more_is_committed_a_push_is_followed_by_as_long_a_rest() {
        let now = Instant::now();
        let mut remote = known(0, now);
        assert!(remote.take_push(now));
        let done = now + Duration::from_millis(130);
        remote.pushed(done);
        assert_eq!(remote.step(Backlog::Still, done), Some(Step::Push), "what nothing follows goes at once");
        let rested = done + Duration::from_millis(130);
        assert_eq!((remote.step(Backlog::Growing, done), remote.due(Backlog::Growing, done)), (None, rested));
        assert_eq!(remote.step(Backlog::Growing, rested), Some(Step::Push));
        assert!(remote.take_push(rested));
        let late = rested + Duration::from_secs(50);
        remote.pushed(late);
        assert_eq!(remote.due(Backlog::Growing, late), late + REST_MAX);
    }

    #[test]
    fn six_failures_degrade_and_one_answer_recovers() {
        let now = Instant::now();
        let mut remote = known(0, now);
        for n in 1..6 {
            assert_eq!(remote.failed("away", false, now), News::Nothing, "{n}");
            assert!(remote.due(Backlog::Still, now) <= now + Duration::from_secs(1 << (n - 1)));
        }
        assert!(remote.trouble().is_none());
        assert_eq!(remote.failed("away", false, now), News::Degraded);
        assert_eq!(remote.failed("away", false, now), News::Nothing, "said once");
        assert_eq!(remote.due(Backlog::Still, now), now + Duration::from_secs(60));
        assert_eq!(remote.pushed(now), Some(Trouble::Unreachable("away".into())));
        assert_eq!(remote.due(Backlog::Still, now), now);
        assert_eq!(remote.due(Backlog::Empty, now), now + Duration::from_secs(5));
    }

    #[test]
    fn the_first_failure_after_a_start_is_news_and_what_needs_a_person_degrades_at_once() {
        let now = Instant::now();
        let mut never = remote(0);
        assert_eq!(never.failed("away", false, now), News::First);
        assert_eq!(never.failed("away", false, now), News::Nothing);
        assert_eq!(never.failed("who are you?", true, now), News::Degraded);
        assert_eq!(never.due(Backlog::Still, now), now + Duration::from_secs(60));
        assert_eq!(never.succeeded(now), Some(Trouble::Unreachable("who are you?".into())));
        assert_eq!(never.failed("away", false, now), News::Nothing, "it was reached once");
        assert_eq!(remote(0).failed("who are you?", true, now), News::Degraded);
    }

    #[test]
    fn fetches_come_while_pushes_wait_their_turn() {
        let now = Instant::now();
        let mut remote = known(1, now);
        assert!(remote.take_push(now));
        remote.pushed(now);
        assert_eq!(remote.step(Backlog::Still, now), None);
        assert_eq!(remote.due(Backlog::Still, now), now + Duration::from_secs(5));
        assert_eq!(remote.step(Backlog::Still, now + Duration::from_secs(5)), Some(Step::Fetch));
        assert_eq!(remote.step(Backlog::Still, now + Duration::from_secs(60)), Some(Step::Push));
        remote.set_pace(1);
        assert_eq!(remote.step(Backlog::Still, now + Duration::from_secs(4)), None, "what was taken stays taken");
    }

    #[test]
    fn refused_pushes_add_up_although_fetches_between_them_succeed() {
        let mut now = Instant::now();
        let mut remote = known(6, now);
        let mut refused = 0;
        while remote.trouble().is_none() {
            now = remote.due(Backlog::Still, now);
            if remote.step(Backlog::Still, now) == Some(Step::Fetch) {
                remote.fetched();
            }
            if remote.take_push(now) {
                refused += 1;
                remote.failed("hook declined", false, now);
            } else {
                remote.waits(now);
            }
        }
        assert_eq!(refused, 6);
        assert!(remote.pushed(now).is_some());
    }

    #[test]
    fn being_overtaken_is_no_failure_and_is_answered_by_a_look() {
        let now = Instant::now();
        let mut remote = known(1, now);
        for n in 1..OVERTAKEN_MAX {
            assert!(remote.take_push(now), "one that was refused is not counted");
            assert!(!remote.overtaken("fetch first", now), "{n}");
            let wait = if n <= QUICK_RETRIES { Duration::ZERO } else { CONTENTION_CAP };
            assert!(remote.due(Backlog::Still, now) <= now + wait);
            assert_eq!(remote.step(Backlog::Still, now + wait), Some(Step::Fetch));
            remote.fetched();
        }
        assert_eq!((remote.failures, remote.trouble()), (0, None));
        assert!(remote.overtaken("fetch first", now));
        assert!(!remote.overtaken("fetch first", now), "said once");
        assert!(remote.due(Backlog::Still, now) <= now + CONTENTION_CAP, "and tried on at the same pace");
        assert!(remote.pushed(now).is_some());
        assert!(!remote.overtaken("fetch first", now));
        assert_eq!(remote.due(Backlog::Still, now), now);
    }

    #[test]
    fn pushes_that_run_out_of_time_become_smaller_and_then_larger_again() {
        let now = Instant::now();
        let mut remote = remote(0);
        (0..100).for_each(|_| remote.too_slow());
        assert_eq!(remote.part(), PART_MIN);
        remote.pushed(now);
        assert_eq!(remote.part(), 2 * PART_MIN);
        (0..100).for_each(|_| drop(remote.pushed(now)));
        assert_eq!(remote.part(), PART_MAX);
    }

    #[test]
    fn what_only_a_person_can_solve_is_said_once_and_looked_at_once_a_cap() {
        let now = Instant::now();
        let mut remote = known(0, now);
        assert!(remote.blocked("rewritten".into(), now));
        assert!(!remote.blocked("rewritten".into(), now));
        assert_eq!(remote.due(Backlog::Still, now), now + Duration::from_secs(60));
        assert!(remote.succeeded(now).is_some());
    }
}
