//! Undoing a mutation, also while somebody renames, exchanges and replaces files in the same folders.

use std::ffi::OsStr;
use std::io;

use cap_std::fs::Dir;

use super::rename::{FileId, exchange, id_of, is_taken, is_unsupported, rename_to_free, whereabouts};
use super::{Applied, ApplyError, Displaced, Done, io_at};
use crate::overlay::Change;
use crate::tree::{TreeError, read_in};

/// How often a file that somebody keeps moving is followed within its folder before it is given up.
const MAX_CHASES: u32 = 100;
/// How often a file is looked for that is not where it was.
const MAX_MISSES: u32 = 3;

impl Applied<'_> {
    /// Undoes all that was done, the last step first. It goes on after a failing step; calling it again tries those
    /// again that may pass.
    ///
    /// # Errors
    /// What could not be undone, as one text; the tree is not as it was. What somebody else put in the place of a change
    /// is left, and no error.
    pub fn undo(&mut self) -> Result<(), String> {
        let (mut faults, mut again) = (Vec::new(), Vec::new());
        self.tree.forget();
        while let Some(done) = self.done.pop() {
            supervision::crash_point!("apply.undo");
            let Err(error) = self.undo_step(&done) else { continue };
            if matches!(error, ApplyError::ChangedMeanwhile { .. }) {
                // Nothing of the command is left there, and what is there is not ours.
                tracing::warn!(%error, "what they put there is left as it is while the command is undone");
            } else {
                faults.push(error.to_string());
                again.push(done);
            }
        }
        again.reverse();
        self.done = again;
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }

    fn undo_step(&mut self, done: &Done) -> Result<(), ApplyError> {
        match *done {
            Done::Created(ref path) => {
                self.folders.remove(path.as_str());
                let Some(folder) = self.parent_if_there(path)? else { return Ok(()) };
                match folder.remove_dir(path.file_name()) {
                    // Somebody else uses it by now, or has put something else there: it stays.
                    Err(error) if is_taken(&error) || error.kind() == io::ErrorKind::NotFound => Ok(()),
                    other => other.map_err(io_at(path)),
                }
            }
            Done::Staged(number) => self.remove_hidden(number),
            Done::Changed(number, displaced) => self.undo_change(number, displaced),
        }
    }

    fn undo_change(&mut self, number: usize, displaced: Displaced) -> Result<(), ApplyError> {
        let Some(change) = self.changes.get(number) else { return Ok(()) };
        let (hidden, name) = (self.names.of(number), change.path.file_name());
        let changed_meanwhile = || Err(ApplyError::ChangedMeanwhile { path: change.path.to_string() });
        let (placed, writes) = (self.staged_as(number), change.after.is_some());
        if displaced == Displaced::Gone {
            let Some(before) = &change.before else {
                return if self.take_back(number, placed)? { self.remove_hidden(number) } else { changed_meanwhile() };
            };
            self.remove_hidden(number)?;
            self.write_hidden(number, before)?;
        }
        if writes && self.take_back(number, placed)? {
            return self.remove_hidden(number);
        }
        let (hiding, folder) = (self.hidden_folder(number)?, self.parent_of(&change.path)?);
        if writes && displaced == Displaced::Gone && self.is_as_left(change)? {
            // A file system that does not exchange files.
            return hiding.rename(&hidden, &folder, name).map_err(io_at(&change.path));
        }
        // Nothing of this program's is there: a deletion, or a file that somebody took away or wrote to.
        match rename_to_free(&hiding, &hidden, &folder, name) {
            Err(error) if is_taken(&error) => {
                self.remove_hidden(number)?;
                changed_meanwhile()
            }
            other => other.map_err(io_at(&change.path)),
        }
    }

    /// Whether the content that the change put in place is there. Not the mode: not every file system keeps it.
    fn is_as_left(&mut self, change: &Change) -> Result<bool, ApplyError> {
        let Some(folder) = self.parent_if_there(&change.path)? else { return Ok(false) };
        match (read_in(&folder, change.path.file_name(), change.path.as_str()), &change.after) {
            (Err(error @ TreeError::Io { .. }), _) => Err(error.into()),
            (Ok(Some(found)), Some(after)) => Ok(found.content == after.content),
            _ => Ok(false),
        }
    }

    /// The file that was staged last for a change.
    pub(super) fn staged_as(&self, number: usize) -> Option<FileId> {
        self.staged.get(number).copied().flatten()
    }

    /// Brings the file `placed`, which was put in place for a change, back under its hidden name, and what has that name to
    /// where the file was. Somebody may have moved it within its folder since. False where it is not to be found, or was
    /// written to, or where the file system does not exchange files.
    pub(super) fn take_back(&mut self, number: usize, placed: Option<FileId>) -> Result<bool, ApplyError> {
        let (Some(change), Some(placed)) = (self.changes.get(number), placed) else { return Ok(false) };
        let (hiding, hidden, io) = (self.hidden_folder(number)?, self.names.of(number), || io_at(&change.path));
        let Some(folder) = self.parent_if_there(&change.path)? else { return Ok(false) };
        let (mut chases, mut misses) = (0, 0);
        while chases < MAX_CHASES && misses < MAX_MISSES {
            let place = whereabouts(&folder, placed, change.path.file_name()).map_err(io())?;
            let Some(name) = place.filter(|name| is_written(&folder, name, change)) else {
                // Somebody may have been exchanging it at that moment.
                misses += 1;
                continue;
            };
            chases += 1;
            let moved = match change.before {
                Some(_) => exchange(&folder, &name, &hiding, &hidden),
                None => rename_to_free(&folder, &name, &hiding, &hidden),
            };
            match moved {
                Ok(()) if id_of(&hiding, &hidden).map_err(io())? == Some(placed) => return Ok(true),
                // Another came out: where there is nothing to exchange it with, it goes back to where it was.
                Ok(()) if change.before.is_none() => {
                    rename_to_free(&hiding, &hidden, &folder, &name).map_err(io())?;
                }
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if is_unsupported(&error) => return Ok(false),
                Err(error) => return Err(io()(error)),
            }
        }
        Ok(false)
    }
}

/// Whether `name` holds what the change puts in place.
fn is_written(folder: &Dir, name: &OsStr, change: &Change) -> bool {
    let found = read_in(folder, name, change.path.as_str());
    matches!((found, &change.after), (Ok(Some(found)), Some(after)) if found.content == after.content)
}
