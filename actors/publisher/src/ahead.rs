//! What the branch has and the remote does not, and how much of it one push takes along (pure).
//!
//! A push has a time limit. If it always took everything along, then what gathered while the remote was away for a day
//! could be more than any one push gets through, and would never arrive. So there are marks on the way from the last
//! pushed commit to the head, each a descendant of the one before, and a push goes up to one of them.

use std::collections::VecDeque;

use gix::ObjectId;

/// Commits between two marks, at least, but for the last two. It bounds the memory: a million commits are 4,000 marks.
pub const STEP: u64 = 256;

/// Commits that one push takes along at most: some 40 MiB of small writes.
pub const PART_MAX: u64 = 16_384;

#[derive(Clone, Copy, Debug)]
struct Mark {
    tip: ObjectId,
    /// Commits up to here, counted from where the count began.
    at: u64,
}

/// A part of what is ahead: all commits up to `tip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The last commit of it.
    pub tip: ObjectId,
    /// How many commits there are beyond it.
    pub left: u64,
    at: u64,
    count: u64,
}

/// The commits between the remote's branch and ours.
#[derive(Debug, Default)]
pub struct Ahead {
    marks: VecDeque<Mark>,
    /// How many of those that were counted are pushed.
    done: u64,
    /// Which count this is: a part of an earlier one says nothing about this one.
    count: u64,
}

impl Ahead {
    /// Begins a new count, with marks that are ordered from the oldest on, each a descendant of the one before.
    pub fn restart(&mut self, marks: impl IntoIterator<Item = (ObjectId, u64)>) {
        self.count += 1;
        self.done = 0;
        self.marks = marks.into_iter().map(|(tip, at)| Mark { tip, at }).collect();
    }

    /// How many commits they are.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.marks.back().map_or(0, |last| last.at.saturating_sub(self.done))
    }

    /// `made` commits were put on top, the last of which is `tip`.
    pub fn grow(&mut self, tip: ObjectId, made: u64) {
        let at = self.done + self.commits() + made;
        let from = self.marks.len().checked_sub(2).and_then(|place| self.marks.get(place)).map_or(self.done, |m| m.at);
        // The last mark is no more than the head, unless it is far enough from the one before.
        if self.marks.back().is_some_and(|last| last.at - from < STEP) {
            self.marks.pop_back();
        }
        self.marks.push_back(Mark { tip, at });
    }

    /// What a push of about `most` commits takes along; it always gets on, if only to the first mark.
    #[must_use]
    pub fn part(&self, most: u64) -> Option<Part> {
        let limit = self.done.saturating_add(most);
        let within = self.marks.iter().rev().find(|mark| mark.at <= limit);
        let mark = within.or(self.marks.front())?;
        let last = self.marks.back().map_or(mark.at, |last| last.at);
        Some(Part { tip: mark.tip, left: last.saturating_sub(mark.at), at: mark.at, count: self.count })
    }

    /// A part was pushed. False where it was counted before something changed: then it must be counted anew.
    #[must_use]
    pub fn pushed(&mut self, part: &Part) -> bool {
        if part.count != self.count {
            return false;
        }
        self.done = self.done.max(part.at);
        while self.marks.front().is_some_and(|mark| mark.at <= self.done) {
            self.marks.pop_front();
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id(n: u64) -> ObjectId {
        gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Blob, &n.to_be_bytes()).unwrap()
    }

    #[test]
    fn everything_is_pushed_part_by_part() {
        let mut ahead = Ahead::default();
        (1..=10_000).for_each(|n| ahead.grow(id(n), 1));
        assert_eq!(ahead.commits(), 10_000);
        assert!(ahead.marks.len() <= 42, "{}", ahead.marks.len());
        let mut parts = Vec::new();
        while let Some(part) = ahead.part(1000) {
            assert_eq!(part.tip, id(part.at));
            parts.push(part.at);
            assert!(ahead.pushed(&part));
        }
        assert!(parts.windows(2).all(|pair| matches!(pair, [a, b] if b > a && b - a <= 1000)), "{parts:?}");
        assert_eq!((parts.last(), ahead.commits()), (Some(&10_000), 0));
    }

    #[test]
    fn a_group_that_is_larger_than_a_part_goes_whole() {
        let mut ahead = Ahead::default();
        ahead.grow(id(1), 500);
        ahead.grow(id(2), 500);
        assert_eq!(ahead.part(10).unwrap().tip, id(1));
        assert_eq!(ahead.part(PART_MAX).unwrap().tip, id(2));
        assert_eq!(Ahead::default().part(10), None);
    }

    #[test]
    fn what_is_committed_during_a_push_stays_ahead() {
        let mut ahead = Ahead::default();
        ahead.grow(id(1), 3);
        let part = ahead.part(PART_MAX).unwrap();
        ahead.grow(id(2), 2);
        assert!(ahead.pushed(&part));
        assert_eq!((ahead.commits(), ahead.part(PART_MAX).unwrap().tip), (2, id(2)));
        ahead.grow(id(3), 1);
        assert_eq!(ahead.commits(), 3);
    }

    #[test]
    fn a_part_of_an_earlier_count_says_nothing() {
        let mut ahead = Ahead::default();
        ahead.grow(id(1), 3);
        let part = ahead.part(PART_MAX).unwrap();
        ahead.restart([(id(7), 5)]);
        assert!(!ahead.pushed(&part));
        assert_eq!(ahead.commits(), 5);
    }
}
