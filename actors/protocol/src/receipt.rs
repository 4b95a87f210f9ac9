//! How the executor learns that a command it executed is filed.

use std::fmt;

/// What happens when a command is filed.
type Note = Box<dyn FnOnce() + Send>;

/// Travels with an executed command. Whoever files the command gives it back with [`Receipt::filed`]; one that is merely
/// dropped says that the command was not filed by this process, so that it is filed after the next start.
#[derive(Default)]
pub struct Receipt(Option<Note>);

impl Receipt {
    /// A receipt that runs `note` when the command is filed.
    #[must_use]
    pub fn new(note: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(note)))
    }

    /// Whether the executor's journal holds a record of the command, so that what is filed need not be synced now.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// The command is filed: its outcome can be read from the service's folders by anybody, also after the process is
    /// killed. A power cut may still undo that, which is why a record may go only after a sync.
    pub fn filed(self) {
        if let Some(note) = self.0 {
            note();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Receipt(..)" } else { "Receipt(none)" })
    }
}
