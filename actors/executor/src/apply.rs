//! The mutation itself: a plan's after-images are put in place, whole or not at all.
//!
//! New content is staged under hidden names first, so that a full disk is met before anything changes; then it is
//! exchanged with what is there, so that the old file is held until the whole stands. A file is never rewritten, so nothing
//! is written through a hard link. Every step is noted, and is undone unless the whole is kept: also when a panic unwinds
//! through here. Nothing is synced: the journal holds what a power cut takes away.
//!
//! Somebody may rename, exchange or replace files and folders all the while. A folder is found by its path once and then
//! held: whatever takes its name, its files are put in place, and undone, where they were found. A file that turns out to
//! be another than the plan saw goes back to where this program's own file is by then, so that nobody's is lost.
//!
//! The hidden names follow from the journal's record of the command, so that recovery finds what a crash left of them.

mod rename;
mod undo;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::sync::Arc;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, MetadataExt as _, OpenOptions, OpenOptionsExt as _, Permissions, PermissionsExt as _};
use protocol::path::RelativePath;

use self::rename::{FileId, exchange, is_unsupported, rename_to_free};
use crate::clock::Deadline;
use crate::overlay::Change;
use crate::tree::{Folder, Image, Tree, TreeError, open_in, read_in};

/// How the names of hidden files begin and end; the record's run and sequence and the change's number are between.
const HIDDEN: (&str, &str) = (".ghost-bridge-", ".tmp");
/// The mode of a staged file until it is whole: nobody else reads half a file.
const STAGED_MODE: u32 = 0o600;
/// The most folders that are held open at a time.
const MAX_OPEN_FOLDERS: usize = 64;

/// Why a mutation was given up. The caller undoes.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The tree cannot be used as planned.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Somebody changed a file between plan and mutation.
    #[error("{path} was changed by somebody else while the command ran")]
    ChangedMeanwhile {
        /// The file.
        path: String,
    },
    /// The deadline passed.
    #[error("{0}")]
    Timeout(String),
}

/// The hidden names of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenNames {
    /// The run of the journal that holds the record.
    pub run: u64,
    /// The record's sequence.
    pub sequence: u64,
}

impl HiddenNames {
    /// The name that belongs to the change of this number.
    #[must_use]
    pub fn of(self, number: usize) -> String {
        format!("{}{:016x}-{:x}-{number}{}", HIDDEN.0, self.run, self.sequence, HIDDEN.1)
    }
}

/// Where the file that a change displaced is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Displaced {
    /// Under the change's hidden name.
    Hidden,
    /// Nowhere: there was none, or it is let go. The before-image tells what it was.
    Gone,
}

/// What was done, and has to be undone.
#[derive(Debug)]
enum Done {
    /// The folder was made.
    Created(RelativePath),
    /// A file was staged under the hidden name of change number so-and-so.
    Staged(usize),
    /// The file of change number so-and-so was replaced, made or deleted.
    Changed(usize, Displaced),
}

/// A mutation that stands as long as it is not undone. Dropping it undoes it, unless it was kept.
#[derive(Debug)]
pub struct Applied<'t> {
    tree: &'t Tree,
    changes: &'t [Change],
    names: HiddenNames,
    done: Vec<Done>,
    folders: HashMap<String, Arc<Dir>>,
    /// The folder in which each change's hidden name stands.
    hidden_in: Vec<Option<RelativePath>>,
    /// Of which folders the names were known for certain when they were opened first.
    remembered: HashMap<String, bool>,
    /// The file that was staged for each change.
    staged: Vec<Option<FileId>>,
}

impl<'t> Applied<'t> {
    /// A mutation of `tree` of which nothing is done yet.
    #[must_use]
    pub fn begin(tree: &'t Tree, changes: &'t [Change], names: HiddenNames) -> Self {
        let hidden_in = changes.iter().map(|change| change.path.parent()).collect();
        let staged = vec![None; changes.len()];
        Self {
            tree,
            changes,
            names,
            done: Vec::new(),
            folders: HashMap::new(),
            hidden_in,
            remembered: HashMap::new(),
            staged,
        }
    }

    /// Puts all changes in place.
    ///
    /// # Errors
    /// An [`ApplyError`] at the first step that fails; the caller undoes.
    pub fn apply(&mut self, deadline: &Deadline<'_>) -> Result<(), ApplyError> {
        let changes = self.changes;
        for (number, change) in changes.iter().enumerate() {
            in_time(deadline)?;
            if let Some(image) = &change.after {
                self.hidden_in_nearest(number)?;
                self.stage(number, image)?;
            }
            supervision::crash_point!("apply.staged");
        }
        for change in changes.iter().filter(|change| change.before.is_some()) {
            in_time(deadline)?;
            if !self.is_as_planned(change)? {
                return Err(ApplyError::ChangedMeanwhile { path: change.path.to_string() });
            }
        }
        // Files are deleted last, so that a moved one is in one place or the other at any moment; but one that stands
        // where a folder must be has to make room.
        let written = changes.iter().filter(|change| change.after.is_some());
        let above: HashSet<String> = written.flat_map(|change| ancestors(&change.path)).collect();
        let deleted = numbers(changes, |change| change.after.is_none());
        let makes_room = |number: &usize| changes.get(*number).is_some_and(|it| above.contains(it.path.as_str()));
        let (first, last): (Vec<usize>, Vec<usize>) = deleted.into_iter().partition(makes_room);
        for number in first {
            self.delete(number)?;
        }
        for number in numbers(changes, |change| change.after.is_some()) {
            in_time(deadline)?;
            self.make_folders(number)?;
            self.put(number)?;
            supervision::crash_point!("apply.placed");
        }
        for number in last {
            self.delete(number)?;
            supervision::crash_point!("apply.deleted");
        }
        in_time(deadline)
    }

    /// Lets the displaced files go. From here on undoing means writing the before-images anew.
    ///
    /// # Errors
    /// When one cannot be removed; the caller undoes.
    pub fn let_go(&mut self) -> Result<(), ApplyError> {
        for at in 0..self.done.len() {
            let Some(Done::Changed(number, Displaced::Hidden)) = self.done.get(at) else { continue };
            let (number, path) = (*number, self.path_of(*number));
            let (folder, name) = (self.hidden_folder(number)?, self.names.of(number));
            folder.remove_file(&name).map_err(io_at(&path))?;
            if let Some(done) = self.done.get_mut(at) {
                *done = Done::Changed(number, Displaced::Gone);
            }
            supervision::crash_point!("apply.let_go");
        }
        Ok(())
    }

    /// Lets the mutation stand, and the displaced files go.
    pub fn keep(mut self) {
        if let Err(error) = self.let_go() {
            tracing::warn!(%error, "a hidden file of a command that stands could not be removed; it goes at the next start");
        }
        let done = std::mem::take(&mut self.done);
        self.note(&done);
    }

    /// Notes which names came and went in the folders that were changed, as far as they are still held open and what was
    /// remembered of them counted before this command changed anything there.
    fn note(&self, done: &[Done]) {
        let created =
            done.iter().filter_map(|done| if let Done::Created(path) = done { Some((path, true)) } else { None });
        let changed = self.changes.iter().map(|change| (&change.path, change.after.is_some()));
        let mut names: HashMap<&str, Vec<(&str, bool)>> = HashMap::new();
        for (path, is_there) in created.chain(changed) {
            let folder = path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
            names.entry(folder).or_default().push((path.file_name(), is_there));
        }
        for (folder, names) in names {
            match self.folders.get(folder).filter(|_| self.remembered.get(folder) == Some(&true)) {
                Some(held) => self.tree.note(held, &names),
                // A clock that is too coarse would not tell that the folder has changed.
                None => self.tree.forget(),
            }
        }
    }

    /// Whether what is there is what the plan saw.
    fn is_as_planned(&self, change: &Change) -> Result<bool, ApplyError> {
        let found = match self.tree.read(&change.path) {
            // A file above, which this command deletes: nothing can be beneath it.
            Err(TreeError::NotFolder { .. }) => None,
            other => other?,
        };
        Ok(found == change.before)
    }

    fn path_of(&self, number: usize) -> String {
        self.changes.get(number).map(|change| change.path.to_string()).unwrap_or_default()
    }

    /// Chooses the nearest folder that is there for the hidden name: the file's own, or one above it.
    fn hidden_in_nearest(&mut self, number: usize) -> Result<(), ApplyError> {
        let Some(change) = self.changes.get(number) else { return Ok(()) };
        let nearest = match self.tree.parent(&change.path) {
            Ok(Folder::Open(_)) => change.path.parent(),
            Ok(Folder::Missing(missing)) => above(&change.path, &missing),
            // A file that makes room for a folder: the folder that holds it is there.
            Err(TreeError::NotFolder { path, .. }) => above(&change.path, &path),
            Err(error) => return Err(error.into()),
        };
        if let Some(place) = self.hidden_in.get_mut(number) {
            *place = nearest;
        }
        Ok(())
    }

    fn stage(&mut self, number: usize, image: &Image) -> Result<(), ApplyError> {
        // Held from here on, so that what is staged is found again, whatever becomes of the folder's name.
        self.hidden_folder(number)?;
        self.done.push(Done::Staged(number));
        self.write_hidden(number, image)
    }

    fn write_hidden(&mut self, number: usize, image: &Image) -> Result<(), ApplyError> {
        let (folder, path) = (self.hidden_folder(number)?, self.path_of(number));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(STAGED_MODE).follow(FollowSymlinks::No);
        let mut file = folder.open_with(self.names.of(number), &options).map_err(io_at(&path))?;
        let metadata = file.metadata().map_err(io_at(&path))?;
        if let Some(staged) = self.staged.get_mut(number) {
            *staged = Some((metadata.dev(), metadata.ino()));
        }
        file.write_all(&image.content).map_err(io_at(&path))?;
        // Set by hand: the umask must not decide what a file's mode is.
        file.set_permissions(Permissions::from_mode(image.bits)).map_err(io_at(&path))
    }

    fn remove_hidden(&mut self, number: usize) -> Result<(), ApplyError> {
        let (folder, path) = (self.hidden_folder(number)?, self.path_of(number));
        let name = self.names.of(number);
        let Err(error) = folder.remove_file(&name) else { return Ok(()) };
        // A file system that is read-only says so before it looks whether there is anything to remove.
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        if is_gone(&error) || folder.symlink_metadata(&name).is_err_and(|error| is_gone(&error)) {
            return Ok(());
        }
        Err(io_at(&path)(error))
    }

    /// Opens the folders on the way to a change's file, and makes those that are missing.
    fn make_folders(&mut self, number: usize) -> Result<(), ApplyError> {
        let Some(path) = self.changes.get(number).map(|change| &change.path) else { return Ok(()) };
        if path.parent().is_none_or(|parent| self.folders.contains_key(parent.as_str())) {
            return Ok(());
        }
        let mut folder = self.open(None)?;
        let mut on_the_way: Vec<RelativePath> = std::iter::successors(path.parent(), RelativePath::parent).collect();
        on_the_way.reverse();
        for step in on_the_way {
            folder = match self.folders.get(step.as_str()) {
                Some(held) => Arc::clone(held),
                None => self.make_folder(&folder, &step)?,
            };
        }
        Ok(())
    }

    /// Opens the folder `path` of the folder that holds it, and makes it where it is missing.
    fn make_folder(&mut self, parent: &Dir, path: &RelativePath) -> Result<Arc<Dir>, ApplyError> {
        let (name, text) = (path.file_name(), path.as_str());
        let mut found = open_in(parent, name, text)?;
        if found.is_none() {
            match parent.create_dir(name) {
                Ok(()) => self.done.push(Done::Created(path.clone())),
                // Somebody else made it just now: as good, and not ours to remove.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_at(text)(error)),
            }
            supervision::crash_point!("apply.folder");
            found = open_in(parent, name, text)?;
        }
        let found = found.ok_or_else(|| ApplyError::ChangedMeanwhile { path: text.to_owned() })?;
        Ok(self.hold(text, found))
    }

    fn put(&mut self, number: usize) -> Result<(), ApplyError> {
        let Some(change) = self.changes.get(number) else { return Ok(()) };
        let (folder, name) = (self.parent_of(&change.path)?, change.path.file_name());
        let (hiding, hidden) = (self.hidden_folder(number)?, self.names.of(number));
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => {
                ApplyError::ChangedMeanwhile { path: change.path.to_string() }
            }
            _ => io_at(change.path.as_str())(error),
        };
        let Some(before) = &change.before else {
            rename_to_free(&hiding, &hidden, &folder, name).map_err(io)?;
            self.changed(number, Displaced::Gone);
            return Ok(());
        };
        match exchange(&hiding, &hidden, &folder, name) {
            Ok(()) => self.changed(number, Displaced::Hidden),
            // A file system without it: the old file goes at once, and its image must do.
            Err(error) if is_unsupported(&error) => {
                hiding.rename(&hidden, &folder, name).map_err(io)?;
                self.changed(number, Displaced::Gone);
                return Ok(());
            }
            Err(error) => return Err(io(error)),
        }
        // Only now is it certain what was replaced.
        let displaced = read_in(&hiding, &hidden, change.path.as_str());
        if matches!(&displaced, Ok(Some(image)) if image == before) {
            return Ok(());
        }
        if self.take_back(number, self.staged_as(number))? {
            self.done.pop();
            self.done.push(Done::Staged(number));
        }
        Err(ApplyError::ChangedMeanwhile { path: change.path.to_string() })
    }

    /// A file's staged content took its place.
    fn changed(&mut self, number: usize, displaced: Displaced) {
        self.done.retain(|done| !matches!(done, Done::Staged(staged) if *staged == number));
        self.done.push(Done::Changed(number, displaced));
    }

    fn delete(&mut self, number: usize) -> Result<(), ApplyError> {
        let Some(change) = self.changes.get(number) else { return Ok(()) };
        let (folder, name, hidden) = (self.parent_of(&change.path)?, change.path.file_name(), self.names.of(number));
        rename_to_free(&folder, name, &folder, &hidden).map_err(io_at(change.path.as_str()))?;
        self.done.push(Done::Changed(number, Displaced::Hidden));
        let displaced = read_in(&folder, &hidden, change.path.as_str());
        if matches!((&displaced, &change.before), (Ok(Some(image)), Some(before)) if image == before) {
            return Ok(());
        }
        rename_to_free(&folder, &hidden, &folder, name).map_err(io_at(change.path.as_str()))?;
        self.done.pop();
        Err(ApplyError::ChangedMeanwhile { path: change.path.to_string() })
    }

    fn hidden_folder(&mut self, number: usize) -> Result<Arc<Dir>, ApplyError> {
        let place = self.hidden_in.get(number).cloned().flatten();
        self.open(place.as_ref())
    }

    fn parent_of(&mut self, path: &RelativePath) -> Result<Arc<Dir>, ApplyError> {
        self.open(path.parent().as_ref())
    }

    /// The folder at `path`, which must be there; `None` is the root.
    fn open(&mut self, path: Option<&RelativePath>) -> Result<Arc<Dir>, ApplyError> {
        let key = path.map_or("", RelativePath::as_str);
        if let Some(folder) = self.folders.get(key) {
            return Ok(Arc::clone(folder));
        }
        let folder = self.tree.folder(path)?;
        Ok(self.hold(key, folder))
    }

    fn hold(&mut self, key: &str, folder: Dir) -> Arc<Dir> {
        let folder = Arc::new(folder);
        if !self.remembered.contains_key(key) {
            self.remembered.insert(key.to_owned(), self.tree.is_remembered(&folder));
        }
        if self.folders.len() >= MAX_OPEN_FOLDERS {
            self.folders.clear();
        }
        self.folders.insert(key.to_owned(), Arc::clone(&folder));
        folder
    }

    /// The folder that holds `path`; `None` where it is gone.
    fn parent_if_there(&mut self, path: &RelativePath) -> Result<Option<Arc<Dir>>, ApplyError> {
        match self.parent_of(path) {
            Err(ApplyError::Tree(TreeError::Io { source, .. })) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        if !self.done.is_empty()
            && let Err(faults) = self.undo()
        {
            // There is nobody to return it to.
            tracing::error!(faults, "a mutation could not be undone: the tree holds half of it until the next start");
        }
    }
}

/// The numbers of the changes that `wanted` wants.
fn numbers(changes: &[Change], wanted: impl Fn(&Change) -> bool) -> Vec<usize> {
    changes.iter().enumerate().filter(|(_, change)| wanted(change)).map(|(number, _)| number).collect()
}

/// The folder above `first`, which is `path` itself or one of its ancestors; `None` is the root.
fn above(path: &RelativePath, first: &str) -> Option<RelativePath> {
    std::iter::successors(Some(path.clone()), RelativePath::parent).find(|it| it.as_str() == first)?.parent()
}

fn in_time(deadline: &Deadline<'_>) -> Result<(), ApplyError> {
    if deadline.is_over() { Err(ApplyError::Timeout(deadline.complaint())) } else { Ok(()) }
}

fn ancestors(path: &RelativePath) -> impl Iterator<Item = String> {
    std::iter::successors(path.parent(), RelativePath::parent).map(|ancestor| ancestor.to_string())
}

fn io_at(path: impl ToString) -> impl FnOnce(io::Error) -> ApplyError {
    let path = path.to_string();
    |source| ApplyError::Tree(TreeError::Io { path, source })
}
