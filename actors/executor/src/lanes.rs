//! In which order commands are executed, and which wait for which. Pure.
//!
//! Commands of one target stand in one lane and go in their order. Targets whose roots lie within one another share a
//! lane, because their commands could meet; all others go side by side. A command that is to be tried again holds up its
//! own lane only.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::Targets;
use crate::group::MAX_COMMANDS;

/// The delay after a first failed try; it doubles with each further one (contract, section 8).
const RETRY_BASE: Duration = Duration::from_secs(1);
/// The delay before a lane that could not record anything is looked at again; it doubles with each further failure.
const STALL_BASE: Duration = Duration::from_millis(100);
/// The longest delay before a lane is looked at again.
const STALL_CAP: Duration = Duration::from_secs(10);

/// The delay before a command is tried again that failed `attempts` times; `random`, from 0 to 1, spreads it over the
/// upper half of its range.
#[must_use]
pub fn retry_delay(attempts: u32, random: f64) -> Duration {
    let whole = RETRY_BASE.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

/// One lane: what waits, and since when it may not go on.
#[derive(Debug)]
pub struct Lane<T> {
    waiting: VecDeque<T>,
    running: bool,
    resume_at: Option<Instant>,
    stalls: u32,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: false, resume_at: None, stalls: 0 }
    }
}

impl<T> Lane<T> {
    /// Puts `item` at the end.
    pub fn push(&mut self, item: T) {
        self.waiting.push_back(item);
    }

    /// What may be executed now; the lane counts as running until [`Lane::ran`]. Empty where nothing may.
    pub fn take(&mut self, now: Instant) -> Vec<T> {
        if self.running || self.waiting.is_empty() || self.resume_at.is_some_and(|at| now < at) {
            return Vec::new();
        }
        self.running = true;
        self.resume_at = None;
        let count = self.waiting.len().min(MAX_COMMANDS);
        self.waiting.drain(..count).collect()
    }

    /// What was taken has run; `back` comes first again, in its order.
    pub fn ran(&mut self, back: Vec<T>) {
        self.running = false;
        for item in back.into_iter().rev() {
            self.waiting.push_front(item);
        }
    }

    /// Lets nothing go before `delay` is over.
    pub fn pause(&mut self, now: Instant, delay: Duration) {
        self.resume_at = Some(now + delay);
    }

    /// Nothing could be recorded: lets nothing go for a while that doubles from time to time.
    pub fn stall(&mut self, now: Instant) {
        let delay = STALL_BASE.saturating_mul(1 << self.stalls.min(16)).min(STALL_CAP);
        self.stalls = self.stalls.saturating_add(1);
        self.pause(now, delay);
    }

    /// Something could be recorded.
    pub fn flows(&mut self) {
        self.stalls = 0;
    }

    /// When it is to be looked at again, if it waits for a moment.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.resume_at.filter(|_| !self.running && !self.waiting.is_empty())
    }

    /// Whether nothing waits and nothing runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.running && self.waiting.is_empty()
    }
}

/// The lanes of a configuration.
#[derive(Debug)]
pub struct Lanes<T> {
    by_target: BTreeMap<String, usize>,
    lanes: Vec<Lane<T>>,
}

impl<T> Lanes<T> {
    /// The lanes for `targets`, and a further one for targets that are not configured.
    #[must_use]
    pub fn new(targets: &Targets) -> Self {
        let meet = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
        let mut roots: Vec<(usize, &Path)> = Vec::new();
        let mut by_target = BTreeMap::new();
        for (number, (name, target)) in targets.iter().enumerate() {
            // All lanes that it meets become one.
            let met: Vec<usize> =
                roots.iter().filter(|(_, root)| meet(root, &target.root)).map(|(lane, _)| *lane).collect();
            let lane = met.iter().copied().min().unwrap_or(number);
            roots.iter_mut().filter(|(old, _)| met.contains(old)).for_each(|(old, _)| *old = lane);
            by_target.values_mut().filter(|old| met.contains(old)).for_each(|old| *old = lane);
            roots.push((lane, &target.root));
            by_target.insert(name.clone(), lane);
        }
        let lanes = (0..=targets.len()).map(|_| Lane::default()).collect();
        Self { by_target, lanes }
    }

    /// The number of the lane of `target`.
    #[must_use]
    pub fn number(&self, target: &str) -> usize {
        self.by_target.get(target).copied().unwrap_or(self.lanes.len().saturating_sub(1))
    }

    /// The lane of this number.
    pub fn get(&mut self, number: usize) -> Option<&mut Lane<T>> {
        self.lanes.get_mut(number)
    }

    /// How many lanes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// When the next lane is to be looked at again.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(Lane::due).min()
    }

    /// Whether nothing waits and nothing runs in any lane.
    #[must_use]
    pub fn are_idle(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protocol::git_id::ObjectFormat;

    use crate::config::{Limits, TargetConfig};

    fn targets(roots: &[(&str, &str)]) -> Targets {
        let target = |root: &str| TargetConfig {
            root: root.into(),
            is_cloud: false,
            deny: Vec::new(),
            allow_delete: false,
            limits: Limits::default(),
            ids: ObjectFormat::default(),
        };
        roots.iter().map(|(name, root)| ((*name).to_owned(), target(root))).collect()
    }

    #[test]
    fn targets_share_a_lane_where_their_roots_meet() {
        let lanes: Lanes<()> = Lanes::new(&targets(&[
            ("A", "/a/x"),
            ("B", "/a/y"),
            ("C", "/b"),
            ("D", "/a"),
            ("E", "/a/yy"),
            ("F", "/bb"),
        ]));
        let same = |a, b| lanes.number(a) == lanes.number(b);
        assert!(same("A", "B") && same("A", "D") && same("A", "E"), "one root holds all of these");
        assert!(!same("A", "C") && !same("C", "F"), "a name that begins alike is no folder");
        assert!(!same("A", "unknown") && !same("C", "unknown") && same("unknown", "another"));
    }

    #[test]
    fn what_comes_back_comes_first_and_a_pause_holds_the_lane() {
        let (now, mut lane) = (Instant::now(), Lane::default());
        (1..=3).for_each(|number| lane.push(number));
        assert_eq!(lane.take(now), [1, 2, 3]);
        lane.push(4);
        assert!(lane.take(now).is_empty(), "it runs");
        lane.ran(vec![2, 3]);
        lane.pause(now, Duration::from_secs(1));
        assert!(lane.take(now).is_empty());
        assert_eq!(lane.due(), Some(now + Duration::from_secs(1)));
        assert_eq!(lane.take(now + Duration::from_secs(1)), [2, 3, 4]);
        lane.ran(Vec::new());
        assert!(lane.is_idle() && lane.due().is_none());
    }

    #[test]
    fn delays_double_within_their_range() {
        assert_eq!(retry_delay(1, 1.0), Duration::from_secs(1));
        assert_eq!(retry_delay(1, 0.0), Duration::from_millis(500));
        assert_eq!(retry_delay(5, 1.0), Duration::from_secs(16));
        let (now, mut lane) = (Instant::now(), Lane::<()>::default());
        lane.push(());
        (0..20).for_each(|_| lane.stall(now));
        assert_eq!(lane.due(), Some(now + STALL_CAP));
        lane.flows();
        lane.stall(now);
        assert_eq!(lane.due(), Some(now + STALL_BASE));
    }
}
