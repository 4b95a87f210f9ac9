//! Folders by handle: what lies directly in one, and files that move from one to another.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat, mkdirat, openat, renameat, statat};
use rustix::io::Errno;

use super::{NOFOLLOW_FOLDER, Root};

impl Root {
    /// The visible files directly in a folder, at most `limit` names; none where there is no such folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(&self, folder: &str, limit: usize) -> std::io::Result<Vec<String>> {
        self.entries(folder, limit, |kind| kind != FileType::Directory)
    }

    /// The folders directly in a folder, likewise.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn folders(&self, folder: &str, limit: usize) -> std::io::Result<Vec<String>> {
        self.entries(folder, limit, |kind| matches!(kind, FileType::Directory | FileType::Unknown))
    }

    fn entries(&self, folder: &str, limit: usize, wanted: impl Fn(FileType) -> bool) -> std::io::Result<Vec<String>> {
        let at = match self.folder(Path::new(folder), false) {
            Ok(at) => at,
            Err(error) if is_no_folder(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&at)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if !name.starts_with('.') && wanted(entry.file_type()) && names.len() < limit {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// A folder's handle; with `make`, it and those above it are made as needed.
    ///
    /// # Errors
    /// When there is none, a link is in the way, or the file system refuses.
    pub fn folder(&self, path: &Path, make: bool) -> std::io::Result<OwnedFd> {
        let (above, name) = self.parent(path, make)?;
        if make {
            match mkdirat(&above, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(openat(&above, name, NOFOLLOW_FOLDER, Mode::empty())?)
    }
}

/// Looks at one file after the other; the folder of the last one stays open, for whoever goes by the order of paths.
pub struct Lookout<'a> {
    root: &'a Root,
    /// The folder, and its handle where it could be opened.
    last: Option<(PathBuf, Option<OwnedFd>)>,
}

impl<'a> Lookout<'a> {
    /// Files beneath `root`.
    #[must_use]
    pub fn new(root: &'a Root) -> Self {
        Self { root, last: None }
    }

    /// What the file system says of whatever stands at a path, a link not followed; `None` where it says nothing.
    pub fn stat(&mut self, path: &Path) -> Option<Stat> {
        let (folder, name) = (path.parent()?, path.file_name()?);
        if self.last.as_ref().is_none_or(|(last, _)| last != folder) {
            let opened = self.root.parent(path, false).ok().map(|(opened, _)| opened);
            self.last = Some((folder.to_owned(), opened));
        }
        let (_, opened) = self.last.as_ref()?;
        statat(opened.as_ref()?, name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }
}

/// Whether an error says that a path is no folder's.
fn is_no_folder(error: &std::io::Error) -> bool {
    [Errno::NOENT, Errno::LOOP, Errno::NOTDIR].iter().any(|no| error.raw_os_error() == Some(no.raw_os_error()))
}

/// What became of a file that was to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It moved.
    Moved,
    /// It was not there any more.
    Gone,
    /// Something has the name already; nothing was done.
    Taken,
}

/// Moves a file from one folder to another, onto no other file, through no link.
///
/// # Errors
/// When the file system refuses.
pub fn move_to_free(from: &OwnedFd, name: &str, to: &OwnedFd) -> std::io::Result<Moved> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    match rustix::fs::renameat_with(from, name, to, name, rustix::fs::RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(Moved::Moved),
        Err(Errno::NOENT) => return Ok(Moved::Gone),
        Err(Errno::EXIST) => return Ok(Moved::Taken),
        // A file system that does not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        Err(error) => return Err(error.into()),
    }
    match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(Moved::Taken),
        Err(Errno::NOENT) => match renameat(from, name, to, name) {
            Ok(()) => Ok(Moved::Moved),
            Err(Errno::NOENT) => Ok(Moved::Gone),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_moves_to_a_free_name_only_and_through_no_link() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = Root::open(dir.path()).unwrap();
        for (path, bytes) in [("a/x", "x"), ("a/y", "y"), ("b/c/y", "other"), ("a/sub/z", "z")] {
            root.write(Path::new(path), bytes.as_bytes(), false).unwrap();
        }
        let (from, to) = (root.folder(Path::new("a"), false).unwrap(), root.folder(Path::new("b/c"), true).unwrap());
        let moves = ["x", "x", "y"].map(|name| move_to_free(&from, name, &to).unwrap());
        assert_eq!(moves, [Moved::Moved, Moved::Gone, Moved::Taken]);
        assert_eq!(root.read(Path::new("b/c/y"), 9).unwrap().unwrap(), b"other");
        assert_eq!(
            (root.names("a", 9).unwrap(), root.folders("a", 9).unwrap()),
            (vec!["y".into()], vec!["sub".into()])
        );
        assert!(root.names("nothing", 9).unwrap().is_empty());
        let mut files = Lookout::new(&root);
        let sizes = ["a/y", "b/c/x", "b/c/y", "a/none", "none/x", "a/y"].map(|path| files.stat(Path::new(path)));
        assert_eq!(sizes.map(|stat| stat.map(|stat| stat.st_size)), [Some(1), Some(1), Some(5), None, None, Some(1)]);
        symlink(outside.path(), dir.path().join("b/link")).unwrap();
        assert!(root.folder(Path::new("b/link"), true).is_err() && root.folder(Path::new("b/link/in"), true).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
