//! Filed commands that wait for their commit.
//!
//! The queue is bounded. What does not fit is not lost, because it lies on disk: the queue forgets all it held and says
//! that it is *behind*, and the commits are derived from the audit log instead.

use std::collections::VecDeque;
use std::time::Instant;

use protocol::message::Filed;

/// One commit to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The commit's message.
    pub subject: String,
    /// The artifacts' paths beneath CLOUD.
    pub artifacts: Vec<String>,
    /// The audit line with its newline.
    pub audit_line: String,
    /// Where the log moved just before this line was written.
    pub log_rolled_to: Option<String>,
    /// Whether the artifacts were named by the archiver, so that each must be there; else they were guessed.
    pub named: bool,
    /// When the document was first seen, where that is known.
    pub first_seen: Option<Instant>,
}

impl Pending {
    /// A commit that the log alone tells of.
    #[must_use]
    pub fn from_log(subject: String, artifacts: Vec<String>, audit_line: String) -> Self {
        Self { subject, artifacts, audit_line, log_rolled_to: None, named: false, first_seen: None }
    }
}

impl From<Filed> for Pending {
    fn from(filed: Filed) -> Self {
        Self {
            subject: filed.subject.to_string(),
            artifacts: filed.artifacts,
            audit_line: filed.audit_line,
            log_rolled_to: filed.log_rolled_to,
            named: true,
            first_seen: filed.first_seen,
        }
    }
}

/// What waits, in filing order.
#[derive(Debug)]
pub struct Queue {
    items: VecDeque<Pending>,
    limit: usize,
    behind: bool,
}

impl Queue {
    /// An empty queue for at most `limit` commits.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { items: VecDeque::new(), limit, behind: false }
    }

    /// Adds one; when there is no room, everything is forgotten and the queue is behind.
    pub fn push(&mut self, item: Pending) {
        if self.behind {
            return;
        }
        if self.items.len() >= self.limit {
            self.items = VecDeque::new();
            self.behind = true;
            return;
        }
        self.items.push_back(item);
    }

    /// The first `most`.
    pub fn take(&mut self, most: usize) -> Vec<Pending> {
        let count = most.min(self.items.len());
        self.items.drain(..count).collect()
    }

    /// Puts back what could not be committed, in its order, before everything else.
    pub fn put_back(&mut self, batch: Vec<Pending>) {
        if self.behind {
            return;
        }
        for item in batch.into_iter().rev() {
            self.items.push_front(item);
        }
    }

    /// Whether something was forgotten; asking takes the note away, so whoever asks must derive it from disk.
    pub fn take_behind(&mut self) -> bool {
        std::mem::take(&mut self.behind)
    }

    /// Whether something was forgotten.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(line: &str) -> Pending {
        Pending::from_log(String::new(), Vec::new(), line.to_owned())
    }

    fn lines(batch: &[Pending]) -> Vec<&str> {
        batch.iter().map(|item| item.audit_line.as_str()).collect()
    }

    #[test]
    fn order_survives_a_batch_that_was_put_back() {
        let mut queue = Queue::new(10);
        ["a", "b", "c"].iter().for_each(|line| queue.push(item(line)));
        let batch = queue.take(2);
        queue.push(item("d"));
        queue.put_back(batch);
        assert_eq!(lines(&queue.take(9)), ["a", "b", "c", "d"]);
    }

    #[test]
    fn an_overflow_forgets_everything_and_says_so() {
        let mut queue = Queue::new(2);
        ["a", "b", "c", "d"].iter().for_each(|line| queue.push(item(line)));
        assert!(queue.is_empty() && queue.is_behind());
        queue.put_back(vec![item("z")]);
        assert!(queue.take_behind() && !queue.take_behind());
        queue.push(item("e"));
        assert_eq!(lines(&queue.take(9)), ["e"]);
    }
}
