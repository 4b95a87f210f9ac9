//! Where a repository's files lie, found out without reading any that may be damaged; and how they are set aside and
//! written anew.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::error::{OpenError, WorkError};
use crate::objects::sync_folder;

/// What is set aside lies in a folder of this name, with the time behind it, under the paths that it had.
const ASIDE: &str = "ghost-bridge.damaged";

/// The most that is read of a file that is looked at whole, in bytes.
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// The most entries that are looked at in a folder and those below.
pub(crate) const MAX_ENTRIES: usize = 100_000;

/// The folders of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The work tree's top.
    pub(crate) cloud: PathBuf,
    /// What belongs to this work tree alone: HEAD, the index.
    pub(crate) git_dir: PathBuf,
    /// What all its work trees share: objects, references, configuration.
    pub(crate) common: PathBuf,
}

impl Places {
    /// The repository in `cloud`; none where there is nothing that could be one.
    pub(crate) fn of(cloud: &Path) -> Option<Self> {
        let dot_git = cloud.join(".git");
        let git_dir = if dot_git.is_dir() { dot_git } else { cloud.join(pointer(&dot_git, "gitdir: ")?) };
        let common = match pointer(&git_dir.join("commondir"), "") {
            Some(path) => git_dir.join(path),
            None => git_dir.clone(),
        };
        let is_repository = common.join("objects").is_dir();
        is_repository.then(|| Self { cloud: cloud.to_owned(), git_dir, common })
    }

    /// Whether references are kept in files of their own, and not in tables.
    pub(crate) fn has_loose_references(&self) -> bool {
        !self.common.join("reftable").is_dir()
    }

    /// The folder of the objects.
    pub(crate) fn objects(&self) -> PathBuf {
        self.common.join("objects")
    }

    /// Where what is set aside at this moment goes.
    pub(crate) fn aside(&self, now: DateTime<Utc>) -> Aside {
        let stem = format!("{ASIDE}-{}", now.format("%Y%m%dT%H%M%SZ"));
        let names = std::iter::once(stem.clone()).chain((1u32..).map(|n| format!("{stem}-{n}")));
        let mut free = names.map(|name| self.git_dir.join(name)).filter(|path| path.symlink_metadata().is_err());
        let folder = free.next().unwrap_or_else(|| self.git_dir.join(stem));
        Aside { folder, bases: [self.git_dir.clone(), self.common.clone()], moved: Vec::new() }
    }
}

/// What a file that points elsewhere says, in one line.
fn pointer(file: &Path, start: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(file).ok()?;
    let path = text.strip_prefix(start)?.trim_end();
    (!path.is_empty() && !path.contains('\0')).then(|| PathBuf::from(path))
}

/// Damaged files on their way out of the repository's. They are moved, never deleted.
#[derive(Debug)]
pub(crate) struct Aside {
    folder: PathBuf,
    bases: [PathBuf; 2],
    moved: Vec<(PathBuf, PathBuf)>,
}

impl Aside {
    /// Moves a file away, durably; tells where it lies now.
    pub(crate) fn take(&mut self, file: &Path) -> Result<PathBuf, WorkError> {
        let relative = self.bases.iter().find_map(|base| file.strip_prefix(base).ok()).unwrap_or(file);
        let to = self.folder.join(relative);
        let parent = to.parent().unwrap_or(&self.folder);
        let parents = || -> io::Result<()> {
            fs::create_dir_all(parent)?;
            fs::rename(file, &to)
        };
        parents().map_err(|e| WorkError::io(file, e))?;
        sync_folder(parent)?;
        sync_folder(file.parent().unwrap_or(&self.folder))?;
        self.moved.push((file.to_owned(), to.clone()));
        Ok(to)
    }

    /// Moves back what was moved away: it did not help.
    pub(crate) fn put_back(&mut self) {
        for (from, to) in self.moved.drain(..).rev() {
            if let Err(error) = fs::rename(&to, &from) {
                tracing::error!(file = %to.display(), %error, "what was set aside could not be put back");
            }
        }
    }
}

/// Puts a file in place, whole and durable.
pub(crate) fn write_durably(file: &Path, bytes: &[u8]) -> Result<(), WorkError> {
    let mut lock = file.as_os_str().to_owned();
    // Nobody takes such a file for a reference.
    lock.push(".lock");
    let folder = file.parent().unwrap_or(file);
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut new = File::create(&lock)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        fs::rename(&lock, file)
    };
    write().map_err(|e| WorkError::io(file, e))?;
    sync_folder(folder)
}

/// A file's bytes; none where it is not there. One that is too large to be looked at counts as not there.
pub(crate) fn read(file: &Path) -> Result<Option<Vec<u8>>, WorkError> {
    match file.symlink_metadata() {
        Ok(meta) if meta.is_file() && meta.len() <= MAX_BYTES => {}
        _ => return Ok(None),
    }
    match fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(WorkError::io(file, error)),
    }
}

/// The same where git follows a link: what `git-new-workdir`, `repo` and people put there.
pub(crate) fn read_through(file: &Path) -> Result<Option<Vec<u8>>, WorkError> {
    read(&file.canonicalize().unwrap_or_else(|_| file.to_owned()))
}

/// Every regular file beneath `folder`, through no link, up to a bound.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found, mut seen) = (vec![folder.to_owned()], Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MAX_ENTRIES {
                return found;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// What is left of a file's content: how damage is told in one word.
pub(crate) fn damage(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "empty",
        bytes if bytes.iter().all(|byte| *byte == 0) => "zeroed",
        _ => "damaged",
    }
}

/// The refusal of a start that names the file.
pub(crate) fn refused(file: &Path, what: impl Into<String>, remedy: impl Into<String>) -> OpenError {
    OpenError::Damaged { file: file.to_owned(), what: what.into(), remedy: remedy.into() }
}
