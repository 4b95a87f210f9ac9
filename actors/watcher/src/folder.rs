//! The only way to the files in `commands/`: by the folder's handle and a single name, following no link, waiting for
//! nobody, and reading no more than the bound. It never changes anything.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_fs_ext::DirExt as _;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use protocol::digest::{Hasher, Sha256};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// How much of a file that is too large goes into its dead letter, in bytes.
const HEAD_BYTES: usize = 4096;
/// How much of a file that is too large is hashed at a time, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;
const NANOS: i64 = 1_000_000_000;

/// Why `commands/` could not be opened or listed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The path has no last component.
    #[error("{0} does not name a folder")]
    NoName(PathBuf),
    /// It is not there, no folder, or a link.
    #[error("cannot open {path} as a real folder (a link in its place is never followed); put the folder back")]
    Open {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Listing it failed.
    #[error("cannot list {path}")]
    List {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// What lies under a name, as far as the kind goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    File,
    Folder,
    Link,
    Fifo,
    Socket,
    Device,
}

impl Kind {
    fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Link,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            _ => Self::Device,
        }
    }

    /// The kind in words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::File => "a regular file",
            Self::Folder => "a folder",
            Self::Link => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
        }
    }
}

/// What tells one state of a file from another without reading it. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) modified: i64,
    pub(crate) changed: i64,
}

impl Stamp {
    // The fields of `Stat` have other types on other systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    fn of(stat: &Stat) -> Self {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(NANOS).saturating_add(nanos);
        Self {
            kind: Kind::of(stat),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            modified: nanos(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: nanos(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// What came of reading a file.
#[derive(Debug)]
pub(crate) enum Reading<T> {
    /// It was read whole, and did not change meanwhile.
    Whole(T),
    /// It is not what its stamp says any more.
    Changed,
    /// It is gone.
    Gone,
    /// The system refused.
    Refused(io::Error),
}

impl<T> From<io::Error> for Reading<T> {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => Self::Gone,
            // A link or a socket took the file's place.
            Some(Errno::LOOP | Errno::MLINK | Errno::NXIO) => Self::Changed,
            _ => Self::Refused(error),
        }
    }
}

/// A file over the size bound, as far as it is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Large {
    pub(crate) head: Arc<[u8]>,
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
}

/// An open `commands/`.
pub(crate) struct Folder {
    path: PathBuf,
    dir: Dir,
}

impl Folder {
    /// Opens the folder at `path`; its last component is not followed when it is a link.
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |source| FolderError::Open { path: path.to_owned(), source };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(FolderError::NoName(path.to_owned()));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let parent = Dir::open_ambient_dir(parent, ambient_authority()).map_err(failed)?;
        let dir = parent.open_dir_nofollow(name).map_err(failed)?;
        Ok(Self { path: path.to_owned(), dir })
    }

    /// The folder's own stamp.
    pub(crate) fn own_stamp(&self) -> Result<Stamp, FolderError> {
        rustix::fs::fstat(&self.dir).map(|stat| Stamp::of(&stat)).map_err(|error| self.list_failed(error))
    }

    fn list_failed(&self, error: Errno) -> FolderError {
        FolderError::List { path: self.path.clone(), source: error.into() }
    }

    /// Calls `visit` with each name, in the order of the file system.
    pub(crate) fn each_name(&self, mut visit: impl FnMut(&OsStr)) -> Result<(), FolderError> {
        // The handle itself may be one that serves as a place only (O_PATH), which cannot be listed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listing = rustix::fs::openat(&self.dir, c".", flags, Mode::empty()).and_then(rustix::fs::Dir::new);
        for entry in listing.map_err(|error| self.list_failed(error))? {
            let entry = entry.map_err(|error| self.list_failed(error))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                visit(OsStr::from_bytes(name));
            }
        }
        Ok(())
    }

    /// What lies under `name` now; a link is looked at, not followed.
    pub(crate) fn stamp(&self, name: &OsStr) -> Reading<Stamp> {
        match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Reading::Whole(Stamp::of(&stat)),
            Err(error) => io::Error::from(error).into(),
        }
    }

    /// The target's text of the link `name`.
    pub(crate) fn link_text(&self, name: &OsStr) -> Reading<Arc<[u8]>> {
        match rustix::fs::readlinkat(&self.dir, name, Vec::new()) {
            Ok(text) => Reading::Whole(Arc::from(text.to_bytes())),
            Err(Errno::INVAL) => Reading::Changed,
            Err(error) => io::Error::from(error).into(),
        }
    }

    /// The bytes of the regular file `name`, as long as it is and stays what `stamp` says.
    pub(crate) fn read(&self, name: &OsStr, stamp: &Stamp) -> Reading<Arc<[u8]>> {
        self.try_read(name, stamp).unwrap_or_else(Reading::from)
    }

    fn try_read(&self, name: &OsStr, stamp: &Stamp) -> io::Result<Reading<Arc<[u8]>>> {
        let Some(file) = self.open_file(name, stamp)? else { return Ok(Reading::Changed) };
        let mut bytes = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or(0).saturating_add(1));
        (&file).take(stamp.size.saturating_add(1)).read_to_end(&mut bytes)?;
        let same = bytes.len() as u64 == stamp.size && Stamp::of(&rustix::fs::fstat(&file)?) == *stamp;
        Ok(if same { Reading::Whole(Arc::from(bytes)) } else { Reading::Changed })
    }

    /// Head and hash of the regular file `name`, which is never held whole. Gives up as `Changed` when `abort` is set.
    pub(crate) fn read_large(&self, name: &OsStr, stamp: &Stamp, abort: &AtomicBool) -> Reading<Large> {
        self.try_read_large(name, stamp, abort).unwrap_or_else(Reading::from)
    }

    fn try_read_large(&self, name: &OsStr, stamp: &Stamp, abort: &AtomicBool) -> io::Result<Reading<Large>> {
        let Some(file) = self.open_file(name, stamp)? else { return Ok(Reading::Changed) };
        let (mut hasher, mut head, mut size) = (Hasher::default(), Vec::new(), 0_u64);
        let mut chunk = vec![0; CHUNK_BYTES];
        while size <= stamp.size && !abort.load(Ordering::Relaxed) {
            let length = match (&file).read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let piece = chunk.get(..length).unwrap_or_default();
            hasher.update(piece);
            head.extend(piece.iter().take(HEAD_BYTES.saturating_sub(head.len())));
            size = size.saturating_add(length as u64);
        }
        let same = size == stamp.size && Stamp::of(&rustix::fs::fstat(&file)?) == *stamp;
        Ok(if same {
            Reading::Whole(Large { head: Arc::from(head), size, sha256: hasher.finish() })
        } else {
            Reading::Changed
        })
    }

    /// Opens the file `name`, if it is what `stamp` says. Neither a FIFO nor a device can hold it up.
    fn open_file(&self, name: &OsStr, stamp: &Stamp) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file: OwnedFd = rustix::fs::openat(&self.dir, name, flags, Mode::empty())?;
        let found = Stamp::of(&rustix::fs::fstat(&file)?);
        Ok((found == *stamp && found.kind == Kind::File).then(|| File::from(file)))
    }
}

/// A name for a log line: lossy, and escaped, because anybody can choose it.
pub(crate) fn printable(name: &OsStr) -> String {
    OsString::from(name).to_string_lossy().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        (temp, folder)
    }

    fn stamp(folder: &Folder, name: &str) -> Stamp {
        match folder.stamp(OsStr::new(name)) {
            Reading::Whole(stamp) => stamp,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_name_is_listed_once_each_time() {
        let (temp, folder) = folder();
        fs_write(&temp, "a.json");
        fs_write(&temp, ".b");
        for _ in 0..2 {
            let mut names = Vec::new();
            folder.each_name(|name| names.push(name.to_owned())).unwrap();
            names.sort();
            assert_eq!(names, [".b", "a.json"]);
        }
    }

    fn fs_write(temp: &tempfile::TempDir, name: &str) {
        std::fs::write(temp.path().join(name), "x").unwrap();
    }

    #[test]
    fn a_file_is_read_as_long_as_it_is_what_was_seen() {
        let (temp, folder) = folder();
        let (name, path) = (OsStr::new("a.json"), temp.path().join("a.json"));
        std::fs::write(&path, "one").unwrap();
        let seen = stamp(&folder, "a.json");
        assert!(matches!(folder.read(name, &seen), Reading::Whole(bytes) if *bytes == *b"one"));
        std::fs::write(&path, "other").unwrap();
        assert!(matches!(folder.read(name, &seen), Reading::Changed));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(folder.read(name, &seen), Reading::Gone));
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(folder.read(name, &seen), Reading::Changed), "a link is not followed");
        assert!(matches!(folder.link_text(name), Reading::Whole(text) if *text == *b"/etc/hostname"));
    }

    #[test]
    fn a_large_file_yields_head_and_hash_and_can_be_given_up() {
        let (temp, folder) = folder();
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * CHUNK_BYTES + 7).collect();
        std::fs::write(temp.path().join("a.json"), &bytes).unwrap();
        let (name, seen) = (OsStr::new("a.json"), stamp(&folder, "a.json"));
        let Reading::Whole(large) = folder.read_large(name, &seen, &AtomicBool::new(false)) else { panic!("not read") };
        assert_eq!((large.size, large.sha256), (bytes.len() as u64, Sha256::of(&bytes)));
        assert_eq!(*large.head, bytes[..HEAD_BYTES]);
        assert!(matches!(folder.read_large(name, &seen, &AtomicBool::new(true)), Reading::Changed));
    }

    #[test]
    fn a_link_in_the_folders_place_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", temp.path().join("commands")).unwrap();
        assert!(matches!(Folder::open(&temp.path().join("commands")), Err(FolderError::Open { .. })));
        assert!(matches!(Folder::open(&temp.path().join("none")), Err(FolderError::Open { .. })));
    }
}
