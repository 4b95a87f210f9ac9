//! The service's folders, held by handles, and how artifacts come into them.
//!
//! No link is followed: neither in the place of a folder, which stops filing, nor in the place of a file. What is no file
//! there is set aside, never written through.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use cap_fs_ext::{DirExt as _, FollowSymlinks, MetadataExt as _, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};
use chrono::NaiveDate;
use protocol::digest::Sha256;
use rustix::fs::{Mode, OFlags};

use crate::aside::set_aside;
use crate::error::ArchiveError;
use crate::names::MAX_ARTIFACT_BYTES;
use crate::shelves::{Rolled, Shelf};

/// From so many files on one `syncfs` is cheaper than an `fsync` each. Measured on ext4: 4 files 1.6 ms against 0.7,
/// 16 files 5.0 against 1.2, 256 files 99 against 19 (medians of 5 on a quiet machine). At 1,000 files and more the gain
/// is smaller and varies: on a busy machine 0.14 to 1.4 s against 0.75 to 1.8 at 1,024, and one of the runs at 1,280 had
/// `syncfs` behind. A `syncfs` also waits for what others wrote, so a lone command goes without.
const SYNCFS_FROM: usize = 8;
/// From so many unsynced files on two threads write them.
const PARALLEL_FROM: usize = 32;
/// What a file's name begins with while it is being written.
pub(crate) const TEMPORARY: &str = ".filing-";
/// The folder of the audit log.
pub(crate) const LOGS: &str = "logs";
/// Where documents arrive.
pub(crate) const COMMANDS: &str = "commands";

/// A folder of artifacts. The order is that in which their entries are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// What executed commands changed.
    Diffs,
    /// Their outcomes, and the integrity files.
    Results,
    /// The commands that succeeded.
    Archive,
    /// The documents that were refused or failed.
    DeadLetter,
}

impl Folder {
    /// Its name in CLOUD.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Diffs => "diffs",
            Self::Results => "results",
            Self::Archive => "archive",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// Whether an artifact may take the place of another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It must be free.
    Fresh,
    /// What lies there is known to be no filed artifact.
    Replace,
}

/// One file to be filed.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub folder: Folder,
    pub name: String,
    pub bytes: Vec<u8>,
    pub place: Place,
    /// Whether the executor's journal holds it too, so that it need not be synced when it takes its place.
    pub recorded: bool,
}

impl Artifact {
    /// Relative to CLOUD, `/`-separated.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.folder.name(), self.name)
    }
}

/// What lies under a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    File(Vec<u8>),
    /// A link, a folder, a device, or a file over the bound.
    Other,
}

/// Where an artifact lies, or is going to.
enum Home<'c> {
    Flat(&'c Dir),
    Segment(Dir),
}

impl std::ops::Deref for Home<'_> {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        match self {
            Self::Flat(dir) => dir,
            Self::Segment(dir) => dir,
        }
    }
}

/// The service's folders. Opened anew for each batch, so that a folder that was swapped is noticed.
#[derive(Debug)]
pub(crate) struct Cabinet {
    cloud: Dir,
    diffs: Dir,
    results: Dir,
    archive: Dir,
    dead_letter: Dir,
    /// `logs/`
    pub(crate) logs: Dir,
    /// `commands/`; `None` where there is no such folder, so nothing to be removed from it.
    pub(crate) commands: Option<Dir>,
    one_file_system: bool,
    /// Artifacts that do not lie flat any more; only where some of them may have to come back.
    rolled: Rolled,
}

impl Cabinet {
    /// Opens the folders under `cloud`; those of artifacts and logs are made where they are missing.
    pub(crate) fn open(cloud: &Path) -> Result<Self, ArchiveError> {
        let name = || cloud.display().to_string();
        let cloud = Dir::open_ambient_dir(cloud, ambient_authority()).map_err(ArchiveError::io("open", name()))?;
        let commands = match open_folder(&cloud, COMMANDS) {
            Err(ArchiveError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        let top = cloud.try_clone().map_err(ArchiveError::io("open", name()))?;
        let mut cabinet = Self {
            cloud: top,
            diffs: make_folder(&cloud, Folder::Diffs.name())?,
            results: make_folder(&cloud, Folder::Results.name())?,
            archive: make_folder(&cloud, Folder::Archive.name())?,
            dead_letter: make_folder(&cloud, Folder::DeadLetter.name())?,
            logs: make_folder(&cloud, LOGS)?,
            commands,
            one_file_system: false,
            rolled: Rolled::default(),
        };
        let device = |dir: &Dir| dir.dir_metadata().map(|metadata| metadata.dev());
        let devices: io::Result<BTreeSet<u64>> =
            [&cabinet.diffs, &cabinet.results, &cabinet.archive, &cabinet.dead_letter]
                .into_iter()
                .map(device)
                .collect();
        cabinet.one_file_system = devices.is_ok_and(|devices| devices.len() == 1);
        Ok(cabinet)
    }

    /// CLOUD itself.
    pub(crate) fn cloud(&self) -> Result<Dir, ArchiveError> {
        self.cloud.try_clone().map_err(ArchiveError::io("open", "CLOUD"))
    }

    pub(crate) fn folder(&self, folder: Folder) -> &Dir {
        match folder {
            Folder::Diffs => &self.diffs,
            Folder::Results => &self.results,
            Folder::Archive => &self.archive,
            Folder::DeadLetter => &self.dead_letter,
        }
    }

    /// The artifacts of these ids that were rolled over since `day` count as if they lay flat, from now on.
    pub(crate) fn reach_rolled(&mut self, ids: &HashSet<String>, day: Option<NaiveDate>) -> Result<(), ArchiveError> {
        self.rolled = Rolled::find(|folder| self.folder(folder).try_clone(), ids, day)?;
        Ok(())
    }

    /// A folder's handle: of the segment, where the artifact was rolled over.
    fn home(&self, folder: Folder, name: &str) -> Result<Home<'_>, ArchiveError> {
        let flat = self.folder(folder);
        Ok(self.rolled.folder(flat, folder, name)?.map_or(Home::Flat(flat), Home::Segment))
    }

    /// What lies under `name` in `folder`.
    pub(crate) fn look(&self, folder: Folder, name: &str, max: u64) -> Result<Found, ArchiveError> {
        let io = || ArchiveError::io("read", format!("{}/{name}", folder.name()));
        match look(self.folder(folder), name, max).map_err(io())? {
            Found::Nothing => match self.rolled.folder(self.folder(folder), folder, name)? {
                Some(segment) => look(&segment, name, max).map_err(io()),
                None => Ok(Found::Nothing),
            },
            found => Ok(found),
        }
    }

    /// Brings `artifacts` to their places in their order, durably but for those that are recorded elsewhere. Those that are
    /// there already stay.
    pub(crate) fn store(&self, artifacts: &[&Artifact]) -> Result<(), ArchiveError> {
        let (recorded, durable): (Vec<&Artifact>, Vec<&Artifact>) =
            artifacts.iter().copied().partition(|artifact| artifact.recorded);
        self.store_durably(&durable)?;
        self.store_recorded(&recorded)
    }

    /// Whether `artifact` has yet to be written. Where another file is in its place, that is said, or it is an error.
    fn is_missing(&self, artifact: &Artifact) -> Result<bool, ArchiveError> {
        let most = MAX_ARTIFACT_BYTES.max(artifact.bytes.len() as u64);
        match self.look(artifact.folder, &artifact.name, most)? {
            Found::File(bytes) if bytes == artifact.bytes => return Ok(false),
            Found::Nothing => {}
            Found::Other => self.set_aside(artifact)?,
            Found::File(_) if artifact.place == Place::Fresh => {
                return Err(ArchiveError::Conflict { path: artifact.path() });
            }
            Found::File(bytes) => {
                tracing::warn!(path = artifact.path(), was = %Sha256::of(&bytes), "replacing a file that is not what is filed there");
            }
        }
        Ok(true)
    }

    /// Clears the artifact's place of what is no artifact.
    fn set_aside(&self, artifact: &Artifact) -> Result<(), ArchiveError> {
        let (folder, name) = (artifact.folder.name(), &artifact.name);
        let flat = self.folder(artifact.folder);
        match flat.symlink_metadata(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                set_aside(&*self.home(artifact.folder, name)?, folder, name)
            }
            _ => set_aside(flat, folder, name),
        }
    }

    /// Stores what the executor's journal holds, too: nothing is synced. Folders do not wait for one another.
    fn store_recorded(&self, artifacts: &[&Artifact]) -> Result<(), ArchiveError> {
        let store = |artifact: &&Artifact| {
            if self.is_missing(artifact)? {
                let folder = self.home(artifact.folder, &artifact.name)?;
                write_temporary(&folder, artifact, false)?;
                supervision::crash_point!("archiver.written");
                self.place(artifact)?;
            }
            Ok(())
        };
        if artifacts.len() < PARALLEL_FROM {
            return artifacts.iter().try_for_each(store);
        }
        // As many files go to `results/` as to all other folders together.
        let (results, others): (Vec<&Artifact>, Vec<&Artifact>) =
            artifacts.iter().copied().partition(|artifact| artifact.folder == Folder::Results);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| others.iter().try_for_each(store));
            let own = results.iter().try_for_each(store);
            match other.join() {
                Ok(result) => own.and(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn place(&self, artifact: &Artifact) -> Result<(), ArchiveError> {
        let folder = self.home(artifact.folder, &artifact.name)?;
        let temporary = format!("{TEMPORARY}{}", artifact.name);
        match artifact.place {
            Place::Replace => folder.rename(&temporary, &folder, &artifact.name),
            Place::Fresh => rename_to_free(&folder, &temporary, &folder, &artifact.name),
        }
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => ArchiveError::Conflict { path: artifact.path() },
            _ => ArchiveError::Io { what: "place", path: artifact.path(), source },
        })?;
        supervision::crash_point!("archiver.placed");
        Ok(())
    }

    fn store_durably(&self, artifacts: &[&Artifact]) -> Result<(), ArchiveError> {
        let mut missing = Vec::new();
        for artifact in artifacts {
            if self.is_missing(artifact)? {
                missing.push(*artifact);
            }
        }
        let together = cfg!(target_os = "linux") && self.one_file_system && missing.len() >= SYNCFS_FROM;
        for artifact in &missing {
            let folder = self.home(artifact.folder, &artifact.name)?;
            write_temporary(&folder, artifact, !together)?;
            supervision::crash_point!("archiver.written");
        }
        if together {
            sync_file_system(&self.results)
                .map_err(ArchiveError::io("sync the file system of", Folder::Results.name()))?;
        }
        missing.iter().try_for_each(|artifact| self.place(artifact))?;
        // Also of those that were there already: a try before this one may have ended before their folder's turn.
        let touched: BTreeSet<Folder> = artifacts.iter().map(|artifact| artifact.folder).collect();
        for folder in touched {
            sync_folder(self.folder(folder)).map_err(ArchiveError::io("sync", folder.name()))?;
        }
        Ok(())
    }
}

impl Shelf for Cabinet {
    fn look(&self, folder: Folder, name: &str, max: u64) -> Result<Found, ArchiveError> {
        Self::look(self, folder, name, max)
    }
}

/// Opens the real folder `name`.
pub(crate) fn open_folder(parent: &Dir, name: &str) -> Result<Dir, ArchiveError> {
    parent.open_dir_nofollow(name).map_err(|source| {
        let kind = parent.symlink_metadata(name).map(|metadata| metadata.file_type());
        match kind {
            Ok(kind) if kind.is_symlink() => {
                ArchiveError::NotAFolder { path: name.to_owned(), found: "a symbolic link" }
            }
            Ok(kind) if !kind.is_dir() => ArchiveError::NotAFolder { path: name.to_owned(), found: "a file" },
            _ => ArchiveError::Io { what: "open", path: name.to_owned(), source },
        }
    })
}

/// Opens the real folder `name`, making it durably where it is missing.
pub(crate) fn make_folder(parent: &Dir, name: &str) -> Result<Dir, ArchiveError> {
    match open_folder(parent, name) {
        Err(ArchiveError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            parent.create_dir(name).map_err(ArchiveError::io("make", name))?;
            sync_folder(parent).map_err(ArchiveError::io("sync the parent of", name))?;
            open_folder(parent, name)
        }
        other => other,
    }
}

/// Opens `name` for reading and, if asked, writing, without following a link or waiting for a FIFO's other end.
pub(crate) fn open_file(dir: &Dir, name: impl AsRef<Path>, write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(write).follow(FollowSymlinks::No).nonblock(true);
    dir.open_with(name, &options)
}

/// What lies under `name`, at most `max` bytes of it.
pub(crate) fn look(dir: &Dir, name: &str, max: u64) -> io::Result<Found> {
    match dir.symlink_metadata(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_file() || metadata.len() > max => return Ok(Found::Other),
        Ok(_) => {}
    }
    let mut file = open_file(dir, name, false)?;
    if !file.metadata()?.is_file() {
        return Ok(Found::Other);
    }
    let mut bytes = Vec::new();
    (&mut file).take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(if bytes.len() as u64 > max { Found::Other } else { Found::File(bytes) })
}

fn write_temporary(dir: &Dir, artifact: &Artifact, sync: bool) -> Result<(), ArchiveError> {
    let io = |source| ArchiveError::Io { what: "write", path: artifact.path(), source };
    let temporary = format!("{TEMPORARY}{}", artifact.name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).follow(FollowSymlinks::No);
    let mut file = match dir.open_with(&temporary, &options) {
        // Left by a try before this one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_temporary(dir, artifact.folder, &temporary)?;
            dir.open_with(&temporary, &options).map_err(io)?
        }
        other => other.map_err(io)?,
    };
    file.write_all(&artifact.bytes).map_err(io)?;
    if sync { file.sync_all().map_err(io) } else { Ok(()) }
}

/// Removes what was being written under a temporary name. What is no file was never written here.
pub(crate) fn remove_temporary(dir: &Dir, folder: Folder, name: &str) -> Result<(), ArchiveError> {
    match dir.symlink_metadata(name) {
        Ok(metadata) if metadata.is_dir() => set_aside(dir, folder.name(), name),
        _ => dir.remove_file(name).map_err(ArchiveError::io("remove", format!("{}/{name}", folder.name()))),
    }
}

/// Puts a file there, durably, in the place of the one that is there.
pub(crate) fn replace_file(dir: &Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{TEMPORARY}{name}");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).follow(FollowSymlinks::No);
    let mut file = dir.open_with(&temporary, &options)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    dir.rename(&temporary, dir, name)?;
    sync_folder(dir)
}

/// Renames to a name that must be free.
pub(crate) fn rename_to_free(from: &Dir, name: &str, to: &Dir, new: &str) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    match rustix::fs::renameat_with(from, name, to, new, rustix::fs::RenameFlags::NOREPLACE) {
        // A file system that does not know the flag.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {}
        result => return result.map_err(io::Error::from),
    }
    match to.symlink_metadata(new) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => from.rename(name, to, new),
        Err(error) => Err(error),
    }
}

/// Makes the folder's entries durable. A handle of cap-std need not be one that can be synced, hence the second one.
pub(crate) fn sync_folder(dir: &Dir) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::fsync(rustix::fs::openat(dir, ".", flags, Mode::empty())?)?)
}

#[cfg(target_os = "linux")]
fn sync_file_system(dir: &Dir) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::syncfs(rustix::fs::openat(dir, ".", flags, Mode::empty())?)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &Dir) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
