//! A command's place among those in flight.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Instant;

/// What happens when a ticket is given back; it is handed the file's name.
pub type Release = Box<dyn FnOnce(&OsStr) + Send>;

/// A command's place among those in flight: it travels with the command from actor to actor, and wherever it is
/// dropped (the command is filed, or an actor died holding it) the place is free again and the watcher knows that the
/// name is nobody's business any more. If the file is still there, the next scan finds it.
pub struct Ticket {
    file: OsString,
    passage: Passage,
    release: Option<Release>,
}

/// When a command came through the stages, on the monotonic clock. What it did not come through, or came through in
/// another life of the process, is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// The document was first seen.
    pub seen: Option<Instant>,
    /// Its judgement began.
    pub taken: Option<Instant>,
    /// The verifier was done with it.
    pub verified: Option<Instant>,
    /// The executor was done with it.
    pub executed: Option<Instant>,
}

impl Ticket {
    /// A ticket for the file `file` of `commands/`, first seen at `first_seen`; `release` runs when it is dropped.
    pub fn new(file: impl Into<OsString>, first_seen: Instant, release: Release) -> Self {
        let passage = Passage { seen: Some(first_seen), ..Passage::default() };
        Self { file: file.into(), passage, release: Some(release) }
    }

    /// A ticket for a command that another life of the process executed: it takes no place, and nobody knows when its
    /// document was first seen.
    pub fn of_another_life(file: impl Into<OsString>) -> Self {
        Self { file: file.into(), passage: Passage::default(), release: None }
    }

    /// The file's name in `commands/`. It need not be UTF-8.
    #[must_use]
    pub fn file(&self) -> &OsStr {
        &self.file
    }

    /// When it came through the stages so far.
    #[must_use]
    pub const fn passage(&self) -> Passage {
        self.passage
    }

    /// Notes when its judgement began, and when the verifier was done with it.
    pub fn verified(&mut self, taken: Instant, done: Instant) {
        (self.passage.taken, self.passage.verified) = (Some(taken), Some(done));
    }

    /// Notes when the executor was done with it.
    pub fn executed(&mut self, done: Instant) {
        self.passage.executed = Some(done);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release(&self.file);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_dropped_ticket_is_released_once_with_its_name() {
        let (sender, receiver) = mpsc::channel();
        let ticket = Ticket::new("a.json", Instant::now(), Box::new(move |file| drop(sender.send(file.to_owned()))));
        assert!(receiver.try_recv().is_err());
        drop(ticket);
        assert_eq!(receiver.recv(), Ok(OsString::from("a.json")));
        assert!(receiver.recv().is_err());
    }
}
