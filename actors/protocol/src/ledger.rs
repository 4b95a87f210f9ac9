//! The replay ledger: which ids are taken, which documents were filed, and which are being settled.
//!
//! It is derived state: the archiver fills it at start from the audit log, which is durable, and adds each document
//! that it files. A document counts once, whatever became of it: by its bytes, and once its signature held also by its
//! *form*, the hash of the canonical form that was signed; so another spelling is the same document. The log names
//! bytes alone. Forms of what was filed before the start are read back when a document of the same id comes.
//!
//! Whoever settles a document needs its [`Turn`], and whoever executes it the [`Licence`] that comes from it. The ledger
//! hands out one turn at a time for a document, and none for a filed one: so what is executed is going to be filed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::audit::{AuditEntry, AuditResult};
use crate::command::VerifiedCommand;
use crate::digest::Sha256;
use crate::id::CommandId;
use crate::time::format_utc;

mod turn;

pub use turn::{Licence, Origin, Taken, Turn};

/// Half a SHA-256: 128 bits tell a million million documents apart, in half the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Half([u8; 16]);

impl Half {
    fn of(digest: Sha256) -> Self {
        let mut half = [0; 16];
        half.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
        Self(half)
    }

    /// Whether `digest` begins so.
    #[must_use]
    pub fn begins(&self, digest: Sha256) -> bool {
        *self == Self::of(digest)
    }

    /// The first 8 hex digits, as names of artifacts have them.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Reads back the documents that were filed.
pub trait ReadBack: Send + Sync {
    /// The form of the document that was filed under `id`, and whose bytes' hash begins with `input`; of an executed command
    /// or of one that was refused. `None` where nothing is found that is certain to be it.
    ///
    /// # Errors
    /// When it may be there but cannot be read now.
    fn form(&self, id: &CommandId, input: Half, executed: bool) -> io::Result<Option<Sha256>>;
}

/// The ids that are taken, the documents that were filed and those that are being settled.
#[derive(Default)]
pub struct Ledger {
    state: Mutex<State>,
    back: Option<Box<dyn ReadBack>>,
}

#[derive(Default)]
struct State {
    /// The bytes of every filed document.
    filed: HashSet<Half>,
    /// The ids of executed commands, folded, with the document that took each.
    taken: HashMap<Half, Mark>,
    /// The ids of refused documents whose signature held, as they are spelled: the form holds the spelling.
    refused: HashMap<Half, Mark>,
    /// More of them under the same id.
    further: HashMap<Half, Vec<Mark>>,
    /// The forms of those without an id that were filed since the start.
    nameless: HashSet<Half>,
    /// The ids, folded, under which dead letters were filed.
    letters: HashSet<Half>,
    /// The latest hour, and how many documents without a valid signature have a line of that hour.
    unauthenticated: (String, u64),
    held: Held,
}

/// What is being settled.
#[derive(Default)]
struct Held {
    inputs: HashSet<Half>,
    forms: HashSet<Half>,
    /// The ids, folded, that execution took, with the form of the document that did.
    ids: HashMap<Half, Half>,
}

/// By what a filed document is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// By its bytes, as the log names them.
    Bytes(Half),
    /// By what was signed.
    Form(Half),
    /// By its bytes, and they cannot be found any more.
    Lost,
}

/// A document whose signature held, as the ledger knows it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'d> {
    /// Its id, if it holds a valid one.
    pub id: Option<&'d CommandId>,
    /// The hash of its canonical form.
    pub form: Sha256,
}

/// What a document is told that comes to be judged.
#[derive(Debug)]
pub enum Entrance {
    /// It was not filed, and nobody else settles it.
    Turn(Turn),
    /// It was filed, in this or another spelling, whatever became of it.
    Filed(FiledBefore),
    /// Somebody else is settling it. It is to come again.
    InHand,
    /// What was filed under its id cannot be read at the moment. It is to come again.
    Unreadable(io::Error),
}

/// Says that a document was filed before; the ledger alone makes it.
#[derive(Debug)]
pub struct FiledBefore(());

/// What a look at the ledger comes to.
enum Looked {
    Filed,
    InHand,
    /// What it holds under the id is known by bytes alone and has to be read back: bytes, and whether it was executed.
    Unread(Vec<(Half, bool)>),
    /// It is new; or it may be one that was lost.
    New {
        doubtful: bool,
    },
}

impl Ledger {
    /// An empty ledger that finds the forms of filed documents with `back`.
    #[must_use]
    pub fn reading(back: impl ReadBack + 'static) -> Self {
        Self { state: Mutex::default(), back: Some(Box::new(back)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole; a panic in between can at most leave something held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a document whose bytes hash to `input` in, once, if it was not filed. `signed` is given once its signature held.
    #[must_use]
    pub fn enter(self: &Arc<Self>, input: Sha256, signed: Option<Signed<'_>>) -> Entrance {
        loop {
            let mut state = self.state();
            let unread = match state.look(input, signed) {
                Looked::Filed => return Entrance::Filed(FiledBefore(())),
                Looked::InHand => return Entrance::InHand,
                Looked::New { doubtful } => {
                    state.held.inputs.insert(Half::of(input));
                    state.held.forms.extend(signed.map(|signed| Half::of(signed.form)));
                    drop(state);
                    return Entrance::Turn(Turn::new(self, input, signed, doubtful));
                }
                Looked::Unread(unread) => unread,
            };
            // Files are read without the lock.
            drop(state);
            let Some(id) = signed.and_then(|signed| signed.id) else { return Entrance::InHand };
            for (bytes, executed) in unread {
                let form = match &self.back {
                    Some(back) => back.form(id, bytes, executed),
                    None => Ok(None),
                };
                match form {
                    Ok(form) => self.state().learn(id, bytes, form),
                    Err(error) => return Entrance::Unreadable(error),
                }
            }
        }
    }

    /// The licence of a command that another life of the process executed and recorded: it has happened, and its id is
    /// taken by it.
    #[must_use]
    pub fn recall(self: &Arc<Self>, command: &VerifiedCommand) -> Licence {
        let (id, input, form) = (&command.command().id, command.input_sha256(), command.form());
        let mut state = self.state();
        let filed = state.filed.contains(&Half::of(input));
        if !filed {
            state.held.inputs.insert(Half::of(input));
            state.held.forms.insert(Half::of(form));
            state.held.ids.entry(folded(id)).or_insert(Half::of(form));
        }
        drop(state);
        let turn = Turn::new(self, input, Some(Signed { id: Some(id), form }), false);
        Licence::recalled(Arc::new(turn), if filed { Origin::Filed } else { Origin::Recorded })
    }

    /// Whether a document that hashes to `input` was filed.
    #[must_use]
    pub fn is_filed(&self, input: Sha256) -> bool {
        self.state().filed.contains(&Half::of(input))
    }

    /// Whether an executed command that is filed bears this id.
    #[must_use]
    pub fn is_taken(&self, id: &CommandId) -> bool {
        self.state().taken.contains_key(&folded(id))
    }

    /// Notes what the audit log says was filed.
    pub fn record(&self, entry: &AuditEntry) {
        self.state().record(entry, Mark::Bytes(Half::of(entry.input_sha256)));
    }

    /// Whether a dead letter of a document with this id was filed, wherever it lies by now.
    #[must_use]
    pub fn has_letter(&self, id: &CommandId) -> bool {
        self.state().letters.contains(&folded(id))
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

impl State {
    fn look(&self, input: Sha256, signed: Option<Signed<'_>>) -> Looked {
        if self.filed.contains(&Half::of(input)) {
            return Looked::Filed;
        }
        if self.held.inputs.contains(&Half::of(input)) {
            return Looked::InHand;
        }
        let Some(signed) = signed else { return Looked::New { doubtful: false } };
        let form = Half::of(signed.form);
        if self.held.forms.contains(&form) {
            return Looked::InHand;
        }
        if self.nameless.contains(&form) {
            return Looked::Filed;
        }
        let Some(id) = signed.id else { return Looked::New { doubtful: false } };
        let taken = self.taken.get(&folded(id)).into_iter().map(|mark| (mark, true));
        let exact = spelled(id);
        let refused = self.refused.get(&exact).into_iter().chain(self.further.get(&exact).into_iter().flatten());
        let (mut unread, mut doubtful) = (Vec::new(), false);
        for (mark, executed) in taken.chain(refused.map(|mark| (mark, false))) {
            match mark {
                Mark::Form(known) if *known == form => return Looked::Filed,
                Mark::Form(_) => {}
                Mark::Bytes(bytes) => unread.push((*bytes, executed)),
                Mark::Lost => doubtful = true,
            }
        }
        if unread.is_empty() { Looked::New { doubtful } } else { Looked::Unread(unread) }
    }

    /// The document of these bytes, filed under `id`, has this form.
    fn learn(&mut self, id: &CommandId, bytes: Half, form: Option<Sha256>) {
        let mark = form.map_or(Mark::Lost, |form| Mark::Form(Half::of(form)));
        let exact = spelled(id);
        let refused =
            self.refused.get_mut(&exact).into_iter().chain(self.further.get_mut(&exact).into_iter().flatten());
        for known in self.taken.get_mut(&folded(id)).into_iter().chain(refused) {
            if *known == Mark::Bytes(bytes) {
                *known = mark;
            }
        }
    }

    fn record(&mut self, entry: &AuditEntry, mark: Mark) {
        self.filed.insert(Half::of(entry.input_sha256));
        if !entry.hmac_ok {
            let hour = hour_of(&entry.ts);
            let (latest, count) = &mut self.unauthenticated;
            if latest == hour {
                *count += 1;
            } else {
                (*latest, *count) = (hour.to_owned(), 1);
            }
        }
        match (&entry.id, mark) {
            (Some(id), mark) if entry.result.takes_id() => {
                self.taken.insert(folded(id), mark);
            }
            (Some(id), mark) if entry.hmac_ok => match self.refused.entry(spelled(id)) {
                Entry::Vacant(free) => {
                    free.insert(mark);
                }
                Entry::Occupied(first) if *first.get() == mark => {}
                Entry::Occupied(_) => {
                    let further = self.further.entry(spelled(id)).or_default();
                    if !further.contains(&mark) {
                        further.push(mark);
                    }
                }
            },
            (None, Mark::Form(form)) if entry.hmac_ok => {
                self.nameless.insert(form);
            }
            _ => {}
        }
        if let (true, Some(id)) = (entry.result != AuditResult::Ok, &entry.id) {
            self.letters.insert(folded(id));
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({} documents)", self.len())
    }
}

/// The hour of an instant as the log spells it.
fn hour_of(ts: &str) -> &str {
    ts.split(':').next().unwrap_or(ts)
}

/// Two ids that differ in case only are the same.
fn folded(id: &CommandId) -> Half {
    Half::of(Sha256::of(id.folded().as_bytes()))
}

fn spelled(id: &CommandId) -> Half {
    Half::of(Sha256::of(id.as_str().as_bytes()))
}

#[cfg(test)]
mod tests;
