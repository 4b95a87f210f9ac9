//! Files beneath CLOUD, reached handle by handle and never through a symbolic link.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

mod folders;

pub use self::folders::{Lookout, Moved, move_to_free};

/// A temporary file's name starts so: hidden, and known as ours.
pub(crate) const TEMPORARY_PREFIX: &str = ".ghost-bridge-";

/// And ends so.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Tells temporary files of this process apart.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, the folders above it perhaps neither.
    Nothing,
    /// A regular file of that many bytes.
    File {
        /// Its size.
        size: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link with that text.
    Link(Vec<u8>),
    /// A folder, a device, or something beyond a link.
    Other,
}

/// A regular file as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path beneath CLOUD.
    pub path: String,
    /// Its size, its time of change in nanoseconds, and its number: the same three mean the same content.
    pub stamp: Stamp,
}

/// The top folder.
#[derive(Debug)]
pub struct Root {
    top: OwnedFd,
    path: PathBuf,
}

const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NOFOLLOW_FOLDER: OFlags = FOLDER_FLAGS.union(OFlags::NOFOLLOW);

impl Root {
    /// Opens the top folder.
    ///
    /// # Errors
    /// When it is no folder that can be read.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { top: openat(CWD, path, FOLDER_FLAGS, Mode::empty())?, path: path.to_owned() })
    }

    /// The top folder's path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn parent<'a>(&self, path: &'a Path, make: bool) -> Result<(OwnedFd, &'a std::ffi::OsStr), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let mut at = self.top.try_clone().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        for part in path.parent().unwrap_or(Path::new("")) {
            if make {
                match mkdirat(&at, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
            }
            at = openat(&at, part, NOFOLLOW_FOLDER, Mode::empty())?;
        }
        Ok((at, name))
    }

    /// What stands at a path.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub fn find(&self, path: &Path) -> std::io::Result<Found> {
        let (parent, name) = match self.parent(path, false) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(Errno::LOOP | Errno::NOTDIR) => return Ok(Found::Other),
            Err(error) => return Err(error.into()),
        };
        let stat = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(error) => return Err(error.into()),
        };
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                Found::File { size: u64::try_from(stat.st_size).unwrap_or(0), executable: stat.st_mode & 0o100 != 0 }
            }
            FileType::Symlink => Found::Link(readlinkat(&parent, name, Vec::new())?.into_bytes()),
            _ => Found::Other,
        })
    }

    /// A regular file's bytes; `None` where there is none, or something else.
    ///
    /// # Errors
    /// When it is larger than `limit`, or the file system does not answer.
    pub fn read(&self, path: &Path, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.read_with_stat(path, limit)?.map(|(bytes, _)| bytes))
    }

    /// The same with what the file looked like before it was read: if it looks so still, it holds the same bytes.
    ///
    /// # Errors
    /// As [`Root::read`].
    pub fn read_with_stat(&self, path: &Path, limit: u64) -> std::io::Result<Option<(Vec<u8>, rustix::fs::Stat)>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = self.parent(path, false).and_then(|(parent, name)| openat(&parent, name, flags, Mode::empty()));
        let file = match opened {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        // One byte more, so that a file which has not grown since shows its end there.
        let expected = u64::try_from(stat.st_size).unwrap_or_default().min(limit) as usize + 1;
        let mut bytes = Vec::with_capacity(expected);
        File::from(file).take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("over {limit} bytes")));
        }
        Ok(Some((bytes, stat)))
    }

    /// Puts a file there, whole or not at all, durable but for its folder's entry; folders are made as needed.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, path: &Path, bytes: &[u8], executable: bool) -> std::io::Result<()> {
        let (parent, name) = self.parent(path, true)?;
        let temporary = temporary_name();
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&parent, &temporary, flags, mode)?;
        let mut file = File::from(file);
        let done = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(renameat(&parent, &temporary, &parent, name)?));
        if done.is_err() {
            let _gone = unlinkat(&parent, &temporary, AtFlags::empty());
        }
        done
    }

    /// Puts a symbolic link there.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn link(&self, path: &Path, target: &[u8]) -> std::io::Result<()> {
        let (parent, name) = self.parent(path, true)?;
        let temporary = temporary_name();
        rustix::fs::symlinkat(target, &parent, &temporary)?;
        let done = renameat(&parent, &temporary, &parent, name);
        if done.is_err() {
            let _gone = unlinkat(&parent, &temporary, AtFlags::empty());
        }
        Ok(done?)
    }

    /// Makes a folder's entries durable.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn sync(&self, folder: &Path) -> std::io::Result<()> {
        let mut at = self.top.try_clone()?;
        for part in folder {
            at = openat(&at, part, NOFOLLOW_FOLDER, Mode::empty())?;
        }
        File::from(at).sync_all()
    }

    /// Removes a file or link, and the folders that this leaves empty, but none at the top.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(&self, path: &Path) -> std::io::Result<()> {
        let (parent, name) = self.parent(path, false)?;
        unlinkat(&parent, name, AtFlags::empty())?;
        let mut folder = path.parent();
        while let Some(empty) = folder.filter(|folder| folder.components().count() > 1) {
            let (above, name) = self.parent(empty, false)?;
            if unlinkat(&above, name, AtFlags::REMOVEDIR).is_err() {
                break;
            }
            folder = empty.parent();
        }
        Ok(())
    }

    /// The regular, visible files beneath a folder, at most `limit`; `None` where there is no such folder. Links are not
    /// followed.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn list(&self, folder: &str, limit: usize) -> std::io::Result<Option<Vec<Listed>>> {
        let top = Path::new(folder)
            .iter()
            .try_fold(self.top.try_clone()?, |at, part| openat(&at, part, NOFOLLOW_FOLDER, Mode::empty()));
        let top = match top {
            Ok(top) => top,
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut out = Vec::new();
        let mut open = vec![(top, folder.to_owned())];
        while let Some((at, prefix)) = open.pop() {
            for entry in Dir::read_from(&at)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().to_str() else { continue };
                if name.starts_with('.') || out.len() >= limit {
                    continue;
                }
                let Ok(stat) = statat(&at, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                let path = format!("{prefix}/{name}");
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => out.push(Listed { path, stamp: stamp(&stat) }),
                    FileType::Directory => {
                        if let Ok(inner) = openat(&at, name, NOFOLLOW_FOLDER, Mode::empty()) {
                            open.push((inner, path));
                        }
                    }
                    _ => {}
                }
            }
        }
        out.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Some(out))
    }

    /// Removes the temporary files that a crash left in a folder, not in those below it; tells how many there were.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn sweep(&self, folder: &str) -> std::io::Result<usize> {
        let at = match openat(&self.top, folder, NOFOLLOW_FOLDER, Mode::empty()) {
            Ok(at) => at,
            Err(Errno::NOENT) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut swept = 0;
        for entry in Dir::read_from(&at)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let ours = name.starts_with(TEMPORARY_PREFIX.as_bytes()) && name.ends_with(TEMPORARY_SUFFIX.as_bytes());
            // A folder of that name is nobody's of ours; it stays.
            if ours && unlinkat(&at, entry.file_name(), AtFlags::empty()).is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Renames a file within its folder.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn set_aside(&self, path: &Path, name: &str) -> std::io::Result<()> {
        let (parent, old) = self.parent(path, false)?;
        Ok(renameat(&parent, old, &parent, name)?)
    }
}

/// By what a file is known to be unchanged: its size in bytes, when it was changed in nanoseconds, its inode.
pub type Stamp = (u64, i128, u64);

#[allow(clippy::unnecessary_cast)] // The fields' types differ from system to system.
pub(crate) fn stamp(stat: &rustix::fs::Stat) -> Stamp {
    (
        stat.st_size as u64,
        i128::from(stat.st_mtime as i64) * 1_000_000_000 + stat.st_mtime_nsec as i128,
        stat.st_ino as u64,
    )
}

fn temporary_name() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
    format!("{TEMPORARY_PREFIX}{}-{now:x}-{number}{TEMPORARY_SUFFIX}", std::process::id())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_is_read_or_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        symlink(outside.path(), dir.path().join("results")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.read(Path::new("results/secret"), 10).unwrap(), None);
        assert_eq!(root.read(Path::new("file"), 10).unwrap(), None);
        assert_eq!(root.find(Path::new("results/secret")).unwrap(), Found::Other);
        assert!(root.write(Path::new("results/new"), b"x", false).is_err());
        assert!(root.remove(Path::new("results/secret")).is_err());
        assert_eq!(root.list("results", 10).unwrap(), None);
        assert!(outside.path().join("secret").exists() && !outside.path().join("new").exists());
    }

    #[test]
    fn writing_replaces_whole_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let path = Path::new("a/b/c.json");
        root.write(path, b"one", false).unwrap();
        root.write(path, b"two", true).unwrap();
        assert_eq!(root.read(path, 3).unwrap().unwrap(), b"two");
        assert!(root.read(path, 2).is_err(), "over the limit");
        assert_eq!(root.find(path).unwrap(), Found::File { size: 3, executable: true });
        assert_eq!(std::fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
        root.remove(path).unwrap();
        assert!(!dir.path().join("a/b").exists() && dir.path().join("a").exists());
    }

    #[test]
    fn what_a_crash_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.sweep("m").unwrap(), 0, "no folder, nothing to sweep");
        let left = format!("m/{}", temporary_name());
        let stays = ["m/retries.json", "m/.ghost-bridge-1.json", "m/.other.tmp", "m/journal/.ghost-bridge-1.tmp"];
        for path in stays.iter().copied().chain([left.as_str(), "m/.ghost-bridge-d.tmp/inside"]) {
            root.write(Path::new(path), b"x", false).unwrap();
        }
        assert_eq!(root.sweep("m").unwrap(), 1);
        assert_eq!(root.find(Path::new(&left)).unwrap(), Found::Nothing);
        for path in stays {
            assert!(matches!(root.find(Path::new(path)).unwrap(), Found::File { .. }), "{path}");
        }
    }

    #[test]
    fn a_listing_shows_regular_visible_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        for path in ["s/a", "s/.hidden", "s/d/b", "s/.h/c"] {
            root.write(Path::new(path), b"x", false).unwrap();
        }
        symlink("a", dir.path().join("s/link")).unwrap();
        let listed = root.list("s", 10).unwrap().unwrap();
        assert_eq!(listed.iter().map(|l| l.path.as_str()).collect::<Vec<_>>(), ["s/a", "s/d/b"]);
    }
}
