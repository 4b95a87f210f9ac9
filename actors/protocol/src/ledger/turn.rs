//! The right to settle a document, and the right to execute it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Half, Held, Ledger, Mark, Signed, folded};
use crate::audit::AuditEntry;
use crate::digest::Sha256;
use crate::id::CommandId;

/// Nothing has happened yet.
const OPEN: u8 = 0;
/// It has happened, or is about to, and is not filed.
const BEGUN: u8 = 1;
/// It is filed.
const FILED: u8 = 2;

/// The right to settle one document: while it is there nobody else has one for the same bytes or the same form. Dropped
/// unused, it lets the document be judged anew. One whose command has happened and is dropped without being filed keeps the
/// document for ever: only a start, which reads the executor's journal, can settle it then.
#[derive(Debug)]
pub struct Turn {
    ledger: Arc<Ledger>,
    input: Half,
    form: Option<Half>,
    id: Option<CommandId>,
    /// A document that was filed under this id cannot be found any more, and it may be this one.
    doubtful: bool,
    progress: AtomicU8,
}

/// Why a command cannot have its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Another document has it.
    ByAnother,
    /// A document that was refused under it cannot be found any more: this may be the same.
    Unsure,
}

/// Where a command was executed that has a licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In this life of the process.
    Here,
    /// In another one, which recorded it.
    Recorded,
    /// In another one, which filed it, too.
    Filed,
}

/// The right to execute a command, under its id, which is its own from then on. Comes from its turn alone; goes with the
/// command to where it is filed.
#[derive(Debug)]
pub struct Licence {
    turn: Arc<Turn>,
    origin: Origin,
}

impl Turn {
    pub(super) fn new(ledger: &Arc<Ledger>, input: Sha256, signed: Option<Signed<'_>>, doubtful: bool) -> Self {
        Self {
            ledger: Arc::clone(ledger),
            input: Half::of(input),
            form: signed.map(|signed| Half::of(signed.form)),
            id: signed.and_then(|signed| signed.id.cloned()),
            doubtful,
            progress: AtomicU8::new(OPEN),
        }
    }

    /// Whether the document could take its id now.
    ///
    /// # Errors
    /// Why not.
    pub fn look(&self) -> Result<(), Taken> {
        let (Some(id), Some(form)) = (&self.id, self.form) else { return Err(Taken::Unsure) };
        let state = self.ledger.state();
        let id = folded(id);
        if state.taken.contains_key(&id) || state.held.ids.get(&id).is_some_and(|owner| *owner != form) {
            return Err(Taken::ByAnother);
        }
        if self.doubtful { Err(Taken::Unsure) } else { Ok(()) }
    }

    /// Takes the document's id. It may be taken again by its own document, which is tried again.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn take_id(self: &Arc<Self>) -> Result<Licence, Taken> {
        let (Some(id), Some(form), false) = (&self.id, self.form, self.doubtful) else { return Err(Taken::Unsure) };
        // Under one lock: commands of different targets are executed side by side.
        let mut state = self.ledger.state();
        let id = folded(id);
        if state.taken.contains_key(&id) || *state.held.ids.entry(id).or_insert(form) != form {
            return Err(Taken::ByAnother);
        }
        Ok(Licence { turn: Arc::clone(self), origin: Origin::Here })
    }

    /// Frees the id again, as nothing came of taking it.
    pub fn give_id_back(&self) {
        if self.progress.load(Ordering::Relaxed) == OPEN {
            self.leave_id(&mut self.ledger.state().held);
        }
    }

    fn leave_id(&self, held: &mut Held) {
        if let (Some(id), Some(form)) = (&self.id, self.form) {
            let id = folded(id);
            if held.ids.get(&id) == Some(&form) {
                held.ids.remove(&id);
            }
        }
    }

    /// The document is filed, as this line of the log says.
    pub fn filed(&self, entry: &AuditEntry) {
        self.progress.store(FILED, Ordering::Relaxed);
        let mut state = self.ledger.state();
        state.record(entry, self.form.map_or(Mark::Bytes(self.input), Mark::Form));
        self.leave(&mut state.held);
    }

    fn leave(&self, held: &mut Held) {
        held.inputs.remove(&self.input);
        if let Some(form) = self.form {
            held.forms.remove(&form);
        }
        self.leave_id(held);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // What is filed has left already.
        if self.progress.load(Ordering::Relaxed) == OPEN {
            self.leave(&mut self.ledger.state().held);
        }
    }
}

impl Licence {
    pub(super) fn recalled(turn: Arc<Turn>, origin: Origin) -> Self {
        turn.progress.store(if origin == Origin::Filed { FILED } else { BEGUN }, Ordering::Relaxed);
        Self { turn, origin }
    }

    /// Where the command was executed.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The turn that it came from.
    #[must_use]
    pub fn turn(&self) -> &Turn {
        &self.turn
    }

    /// The command's record is durable: it is going to happen, come what may.
    pub fn begun(&self) {
        self.turn.progress.store(BEGUN, Ordering::Relaxed);
    }

    /// It was undone and its record says so: nothing has happened.
    pub fn undone(&self) {
        self.turn.progress.store(OPEN, Ordering::Relaxed);
    }
}
