//! The mutation itself: a plan's after-images are put in place, whole or not at all.
//!
//! New content is staged under hidden names first, so that a full disk is met before anything changes; then it is
//! renamed into place. A file is never rewritten, so nothing is written through a hard link. Every step is noted, and
//! is undone from the before-images unless the whole is kept: also when a panic unwinds through here.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _, Permissions, PermissionsExt as _};
use protocol::path::RelativePath;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::fs::{Mode, OFlags};

use crate::clock::Deadline;
use crate::overlay::Change;
use crate::tree::{Folder, Image, Tree, TreeError};

/// How the names of staged files begin and end; what is between is random.
const STAGED: (&str, &str) = (".ghost-bridge-", ".tmp");
/// The mode of a staged file until it is whole: nobody else reads half a file.
const STAGED_MODE: u32 = 0o600;

/// Why a mutation was given up. Everything was undone, unless [`Applied::undo`] says otherwise.
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
    /// No random name could be had.
    #[error("the system gives no random numbers")]
    NoRandom,
    /// The deadline passed.
    #[error("{0}")]
    Timeout(String),
}

/// What was done so far, and how to undo it.
#[derive(Debug)]
enum Done {
    /// The folder was made.
    Created(RelativePath),
    /// The file was replaced, made or deleted.
    Changed(Change),
}

/// A mutation that stands as long as it is not undone. Dropping it undoes it, unless it was kept.
#[derive(Debug)]
pub struct Applied<'t> {
    tree: &'t Tree,
    done: Vec<Done>,
    staged: Vec<(Dir, String)>,
}

impl<'t> Applied<'t> {
    /// A mutation of `tree` of which nothing is done yet.
    #[must_use]
    pub fn begin(tree: &'t Tree) -> Self {
        Self { tree, done: Vec::new(), staged: Vec::new() }
    }

    /// Puts all `changes` in place and makes them durable.
    ///
    /// # Errors
    /// An [`ApplyError`] at the first step that fails; the caller undoes.
    pub fn apply(&mut self, changes: &[Change], deadline: &Deadline<'_>) -> Result<(), ApplyError> {
        let mut names = Vec::with_capacity(changes.len());
        for change in changes {
            in_time(deadline)?;
            names.push(match &change.after {
                Some(image) => Some(self.stage(&change.path, image)?),
                None => None,
            });
        }
        for change in changes {
            in_time(deadline)?;
            let found = match self.tree.read(&change.path) {
                // A file above, which this command deletes: nothing can be beneath it.
                Err(TreeError::NotFolder { .. }) => None,
                other => other?,
            };
            if found != change.before {
                return Err(ApplyError::ChangedMeanwhile { path: change.path.to_string() });
            }
        }
        // Files are deleted last, so that a moved one is in one place or the other at any moment; but one that stands
        // where a folder must be has to make room.
        let makes_room = |path: &RelativePath| changes.iter().any(|it| it.after.is_some() && is_above(path, &it.path));
        let (first, last): (Vec<_>, Vec<_>) =
            changes.iter().filter(|it| it.after.is_none()).partition(|it| makes_room(&it.path));
        for change in first {
            self.delete(change)?;
        }
        for (change, name) in changes.iter().zip(&names) {
            in_time(deadline)?;
            if let Some((folder, name)) = name {
                self.make_folders(&change.path)?;
                self.put(change, folder, name)?;
            }
        }
        for change in last {
            self.delete(change)?;
        }
        self.sync()?;
        in_time(deadline)
    }

    /// Lets the mutation stand.
    pub fn keep(mut self) {
        self.done.clear();
        self.staged.clear();
    }

    /// Undoes all that was done, the last step first. It goes on after a failing step.
    ///
    /// # Errors
    /// What could not be undone, as one text; the tree is not as it was.
    pub fn undo(mut self) -> Result<(), String> {
        self.roll_back()
    }

    fn roll_back(&mut self) -> Result<(), String> {
        let mut faults = Vec::new();
        let mut touched = BTreeSet::new();
        while let Some(done) = self.done.pop() {
            let path = match &done {
                Done::Created(path) => path.clone(),
                Done::Changed(change) => change.path.clone(),
            };
            match self.undo_step(&done) {
                Ok(()) => drop(touched.insert(path.parent())),
                Err(error) => faults.push(error.to_string()),
            }
        }
        for (folder, name) in self.staged.drain(..) {
            match folder.remove_file(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => faults.push(format!("{name}: {error}")),
                _ => {}
            }
        }
        for parent in touched {
            // A folder that was made by the command is gone by now.
            if let Err(error) = sync_folder(self.tree, parent.as_ref()) {
                faults.push(error.to_string());
            }
        }
        if faults.is_empty() {
            return Ok(());
        }
        let faults = faults.join("; ");
        tracing::error!(
            faults,
            "a mutation could not be undone: the tree holds half of it; restore these paths by hand"
        );
        Err(faults)
    }

    fn undo_step(&mut self, done: &Done) -> Result<(), ApplyError> {
        match done {
            Done::Created(path) => {
                let Folder::Open(folder) = self.tree.parent(path)? else { return Ok(()) };
                match folder.remove_dir(path.file_name()) {
                    // Somebody else uses it by now: it stays.
                    Err(error)
                        if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) =>
                    {
                        Ok(())
                    }
                    other => other.map_err(io_at(path)),
                }
            }
            Done::Changed(change) => {
                let found = self.tree.read(&change.path)?;
                // Content alone: not every file system keeps the mode that was asked for.
                if found.map(|it| it.content) != change.after.as_ref().map(|it| it.content.clone()) {
                    return Err(ApplyError::ChangedMeanwhile { path: change.path.to_string() });
                }
                let folder = self.open_parent(&change.path)?;
                let name = change.path.file_name();
                let Some(before) = &change.before else {
                    return folder.remove_file(name).map_err(io_at(&change.path));
                };
                let (staging, staged) = self.stage(&change.path, before)?;
                staging.rename(&staged, &folder, name).map_err(io_at(&change.path))
            }
        }
    }

    /// Writes `image` under a hidden name into the nearest folder that is there: in `path`'s own, or above it.
    fn stage(&mut self, path: &RelativePath, image: &Image) -> Result<(Dir, String), ApplyError> {
        let mut folder = self.tree.root().try_clone().map_err(io_at(path))?;
        let mut components = path.components();
        components.next_back();
        for name in components {
            match folder.open_dir_nofollow(name) {
                Ok(next) => folder = next,
                // Missing, or a file that makes room: the plan knows. Whatever else it is, the walk to the path tells.
                Err(_) => break,
            }
        }
        let mut random = [0_u8; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| ApplyError::NoRandom)?;
        let name = format!("{}{:016x}{}", STAGED.0, u64::from_ne_bytes(random), STAGED.1);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(STAGED_MODE).follow(FollowSymlinks::No);
        let mut file = folder.open_with(&name, &options).map_err(io_at(path))?;
        self.staged.push((folder.try_clone().map_err(io_at(path))?, name.clone()));
        file.write_all(&image.content).map_err(io_at(path))?;
        // Set by hand: the umask must not decide what a file's mode is.
        file.set_permissions(Permissions::from_mode(image.bits)).map_err(io_at(path))?;
        file.sync_all().map_err(io_at(path))?;
        Ok((folder, name))
    }

    fn make_folders(&mut self, path: &RelativePath) -> Result<(), ApplyError> {
        loop {
            let missing = match self.tree.parent(path)? {
                Folder::Open(_) => return Ok(()),
                Folder::Missing(missing) => missing,
            };
            let ancestors = std::iter::successors(path.parent(), RelativePath::parent);
            let Some(missing) = ancestors.into_iter().find(|it| it.as_str() == missing) else { return Ok(()) };
            let folder = self.open_parent(&missing)?;
            match folder.create_dir(missing.file_name()) {
                Ok(()) => self.done.push(Done::Created(missing)),
                // Somebody else made it just now: as good, and not ours to remove.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_at(&missing)(error)),
            }
        }
    }

    fn put(&mut self, change: &Change, staging: &Dir, staged: &str) -> Result<(), ApplyError> {
        let folder = self.open_parent(&change.path)?;
        staging.rename(staged, &folder, change.path.file_name()).map_err(io_at(&change.path))?;
        self.done.push(Done::Changed(change.clone()));
        Ok(())
    }

    fn delete(&mut self, change: &Change) -> Result<(), ApplyError> {
        let folder = self.open_parent(&change.path)?;
        folder.remove_file(change.path.file_name()).map_err(io_at(&change.path))?;
        self.done.push(Done::Changed(change.clone()));
        Ok(())
    }

    fn open_parent(&self, path: &RelativePath) -> Result<Dir, ApplyError> {
        match self.tree.parent(path)? {
            Folder::Open(folder) => Ok(folder),
            Folder::Missing(missing) => {
                Err(io_at(path)(io::Error::new(io::ErrorKind::NotFound, format!("{missing} is gone"))))
            }
        }
    }

    /// Makes every folder that was touched durable; the files' contents are so already.
    fn sync(&self) -> Result<(), ApplyError> {
        let paths = self.done.iter().map(|done| match done {
            Done::Created(path) => path.parent(),
            Done::Changed(change) => change.path.parent(),
        });
        let folders: BTreeSet<Option<RelativePath>> = paths.collect();
        folders.iter().try_for_each(|folder| sync_folder(self.tree, folder.as_ref()))
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        if !self.done.is_empty() || !self.staged.is_empty() {
            // What cannot be undone is said in the log: there is nobody to return it to.
            let _logged = self.roll_back();
        }
    }
}

/// Makes the entries of a folder durable; `None` is the root. A folder that is gone, or gave
/// way to a file, needs nothing.
fn sync_folder(tree: &Tree, path: Option<&RelativePath>) -> Result<(), ApplyError> {
    let shown = path.map_or(".", RelativePath::as_str);
    let folder = match path {
        None => tree.root().try_clone().map_err(TreeError::io(shown))?,
        Some(path) => {
            let parent = match tree.parent(path) {
                Ok(Folder::Open(parent)) => parent,
                Ok(Folder::Missing(_)) | Err(TreeError::NotFolder { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            match parent.open_dir_nofollow(path.file_name()) {
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Ok(());
                }
                other => other.map_err(TreeError::io(shown))?,
            }
        }
    };
    // The handles that walk the tree may be good for walking only: one that can be synced is opened anew.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let handle =
        rustix::fs::openat(&folder, ".", flags, Mode::empty()).map_err(|error| TreeError::io(shown)(error.into()))?;
    rustix::fs::fsync(handle).map_err(|error| TreeError::io(shown)(error.into()))?;
    Ok(())
}

fn in_time(deadline: &Deadline<'_>) -> Result<(), ApplyError> {
    if deadline.is_over() { Err(ApplyError::Timeout(deadline.complaint())) } else { Ok(()) }
}

fn is_above(ancestor: &RelativePath, path: &RelativePath) -> bool {
    path.as_str().strip_prefix(ancestor.as_str()).is_some_and(|rest| rest.starts_with('/'))
}

fn io_at(path: &RelativePath) -> impl FnOnce(io::Error) -> ApplyError {
    let path = path.to_string();
    |source| ApplyError::Tree(TreeError::Io { path, source })
}
