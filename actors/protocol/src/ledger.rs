//! The replay ledger: which ids are taken, and which documents were filed.
//!
//! It is derived state: the archiver fills it at start from the audit log, which is durable, and adds each document
//! that it files. Shared between the executor, which takes ids, and the archiver, which knows what is filed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::audit::{AuditEntry, AuditResult};
use crate::digest::Sha256;
use crate::id::CommandId;
use crate::time::format_utc;

/// Half a SHA-256: 128 bits tell a million million documents apart, in half the memory.
type Key = [u8; 16];

/// The ids that are taken and the documents that were filed.
#[derive(Default)]
pub struct Ledger(Mutex<State>);

#[derive(Default)]
struct State {
    taken: HashMap<Key, Key>,
    filed: HashSet<Key>,
    letters: HashSet<Key>,
    /// The latest hour, and how many documents without a valid signature have a line of that hour.
    unauthenticated: (String, u64),
}

/// What a command is told that wants to take its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The id was free and is its own now.
    Granted,
    /// This very document took it before.
    Redelivered,
    /// Another document took it.
    Taken,
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single insert or remove: a panic cannot leave the state half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a command would be granted its id, without taking it.
    #[must_use]
    pub fn look(&self, id: &CommandId, input: Sha256) -> Claim {
        match self.state().taken.get(&id_key(id)) {
            None => Claim::Granted,
            Some(key) if *key == half(input) => Claim::Redelivered,
            Some(_) => Claim::Taken,
        }
    }

    /// Takes the id for the document that hashes to `input`, if it is free.
    pub fn claim(&self, id: &CommandId, input: Sha256) -> Claim {
        // Under one lock: commands of different targets are executed side by side.
        match self.state().taken.entry(id_key(id)) {
            Entry::Vacant(free) => {
                free.insert(half(input));
                Claim::Granted
            }
            Entry::Occupied(taken) if *taken.get() == half(input) => Claim::Redelivered,
            Entry::Occupied(_) => Claim::Taken,
        }
    }

    /// Frees an id whose command never got filed, so that it can be tried again.
    pub fn release(&self, id: &CommandId, input: Sha256) {
        let mut state = self.state();
        if !state.filed.contains(&half(input)) && state.taken.get(&id_key(id)) == Some(&half(input)) {
            state.taken.remove(&id_key(id));
        }
    }

    /// Whether a document that hashes to `input` was filed.
    #[must_use]
    pub fn is_filed(&self, input: Sha256) -> bool {
        self.state().filed.contains(&half(input))
    }

    /// Notes what the audit log says was filed.
    pub fn record(&self, entry: &AuditEntry) {
        let mut state = self.state();
        state.filed.insert(half(entry.input_sha256));
        if let (true, Some(id)) = (entry.result.takes_id(), &entry.id) {
            state.taken.insert(id_key(id), half(entry.input_sha256));
        }
        if !entry.hmac_ok {
            let hour = hour_of(&entry.ts);
            let (latest, count) = &mut state.unauthenticated;
            if latest == hour {
                *count += 1;
            } else {
                (*latest, *count) = (hour.to_owned(), 1);
            }
        }
        if let (true, Some(id)) = (entry.result != AuditResult::Ok, &entry.id) {
            state.letters.insert(id_key(id));
        }
    }

    /// Whether a dead letter of a document with this id was filed, wherever it lies by now.
    #[must_use]
    pub fn has_letter(&self, id: &CommandId) -> bool {
        self.state().letters.contains(&id_key(id))
    }

    /// How many documents without a valid signature were filed in the hour of `now`.
    #[must_use]
    pub fn unauthenticated_within(&self, now: DateTime<Utc>) -> u64 {
        let state = self.state();
        let (latest, count) = &state.unauthenticated;
        if latest == hour_of(&format_utc(now)) { *count } else { 0 }
    }

    /// How many documents were filed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().filed.len()
    }

    /// Whether nothing was filed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({} documents)", self.len())
    }
}

/// The hour of an instant as the log spells it.
fn hour_of(ts: &str) -> &str {
    ts.split(':').next().unwrap_or(ts)
}

/// Two ids that differ in case only are the same.
fn id_key(id: &CommandId) -> Key {
    half(Sha256::of(id.folded().as_bytes()))
}

fn half(digest: Sha256) -> Key {
    let mut key = Key::default();
    key.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reason::Reason;

    fn entry(id: &str, result: AuditResult, input: &[u8]) -> AuditEntry {
        AuditEntry {
            ts: String::new(),
            id: CommandId::parse(id).ok(),
            action: None,
            result,
            exit: None,
            files_changed: 0,
            hmac_ok: true,
            input_sha256: Sha256::of(input),
        }
    }

    #[test]
    fn an_id_is_taken_by_execution_alone_and_for_every_spelling_of_its_case() {
        let ledger = Ledger::default();
        let (id, other) = (CommandId::parse("Task-1").unwrap(), CommandId::parse("tASK-1").unwrap());
        ledger.record(&entry("Task-1", AuditResult::Rejected(Reason::Expired), b"old"));
        assert!(ledger.is_filed(Sha256::of(b"old")));
        assert_eq!(ledger.claim(&id, Sha256::of(b"a")), Claim::Granted);
        assert_eq!(ledger.claim(&other, Sha256::of(b"a")), Claim::Redelivered);
        assert_eq!(ledger.claim(&other, Sha256::of(b"b")), Claim::Taken);
        ledger.release(&id, Sha256::of(b"b"));
        assert_eq!(ledger.look(&id, Sha256::of(b"b")), Claim::Taken, "only its owner's document frees an id");
        ledger.release(&other, Sha256::of(b"a"));
        assert_eq!(ledger.look(&id, Sha256::of(b"b")), Claim::Granted);
    }

    #[test]
    fn an_id_has_a_letter_once_something_under_it_was_refused_or_failed() {
        let ledger = Ledger::default();
        let id = |text: &str| CommandId::parse(text).unwrap();
        ledger.record(&entry("good", AuditResult::Ok, b"a"));
        ledger.record(&entry("Old", AuditResult::Rejected(Reason::Expired), b"b"));
        ledger.record(&entry("bad", AuditResult::Failed, b"c"));
        assert_eq!(["good", "oLD", "bad", "new"].map(|text| ledger.has_letter(&id(text))), [false, true, true, false]);
    }

    #[test]
    fn a_filed_id_is_never_free_again() {
        let ledger = Ledger::default();
        ledger.record(&entry("x", AuditResult::Failed, b"a"));
        ledger.release(&CommandId::parse("x").unwrap(), Sha256::of(b"a"));
        assert_eq!(ledger.look(&CommandId::parse("X").unwrap(), Sha256::of(b"b")), Claim::Taken);
        assert_eq!((ledger.len(), ledger.is_empty()), (1, false));
    }
}
