//! Files that stand apart: upstream changed them, and so did a command or a person here. They stay as they are here, and
//! the branch has them as they are there, until both agree again. That is known across restarts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::core::Core;
use crate::error::WorkError;
use crate::files::{Lookout, Stamp, stamp};
use crate::incoming::fits_work_tree;
use crate::instance::{FOLDER, replace};
use crate::merge::Lookup;
use crate::open::open_repository;
use crate::safe_path::is_ours;
use crate::tree::{FILE, Leaf};

/// Their list's file, beside the bridge's number: a path after the other, each ended by a NUL.
const LIST: &str = "apart";

/// The most that are kept track of.
const MAX: usize = 10_000;

/// The longest list that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// What both sides looked like when they were compared last; if they look so still, they differ still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sides {
    here: Option<Stamp>,
    there: Option<Leaf>,
}

/// The files that stand apart.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    files: BTreeMap<Vec<u8>, Option<Sides>>,
    /// Whether the list on disk has them.
    unwritten: bool,
}

impl Apart {
    /// As the last run left them.
    pub(crate) fn open(git_dir: &Path) -> Self {
        let files = read(git_dir).into_iter().map(|path| (path, None)).collect();
        Self { files, unwritten: false }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Adds one. What is filed or delivered is none: the bridge brings these in line itself.
    pub(crate) fn add(&mut self, path: &[u8]) {
        if self.files.len() < MAX && !is_ours(path) && !path.starts_with(b"commands/") {
            self.files.insert(path.to_vec(), None);
            self.unwritten = true;
        }
    }
}

fn read(git_dir: &Path) -> Vec<Vec<u8>> {
    let file = git_dir.join(FOLDER).join(LIST);
    let readable = file.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTES);
    let bytes = if readable { fs::read(&file).unwrap_or_default() } else { Vec::new() };
    let whole = bytes.split(|byte| *byte == 0).filter(|path| fits_work_tree(path, FILE));
    whole.take(MAX).map(<[u8]>::to_vec).collect()
}

/// The files in CLOUD that stand apart from the branch, as the bridge knew them last.
#[must_use]
pub fn apart(cloud: &Path) -> Vec<String> {
    let Ok(repo) = open_repository(cloud) else { return Vec::new() };
    read(repo.git_dir()).iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

impl Core {
    /// Files that upstream changed and that were changed here, too.
    #[must_use]
    pub fn files_apart(&self) -> usize {
        self.apart.len()
    }

    /// Looks which files agree with the branch again, and notes that.
    pub(crate) fn look_apart(&mut self) -> Result<(), WorkError> {
        let Some(head) = self.head.filter(|_| self.apart.len() > 0 || self.apart.unwritten) else { return Ok(()) };
        let mut there = Lookup::new(&self.store, self.tree_of(head)?);
        let mut here = Lookout::new(&self.root);
        let mut files = BTreeMap::new();
        for (path, before) in &self.apart.files {
            let place = PathBuf::from(OsStr::from_bytes(path));
            let sides = Sides { here: here.stat(&place).map(|stat| stamp(&stat)), there: there.leaf(path)? };
            if *before == Some(sides) || !self.agree(&place, sides)? {
                files.insert(path.clone(), Some(sides));
            } else {
                tracing::info!(path = %place.display(), "the work tree and the branch agree again");
            }
        }
        self.apart.unwritten |= files.len() < self.apart.files.len();
        self.apart.files = files;
        if self.apart.unwritten {
            let list: Vec<u8> = self.apart.files.keys().flat_map(|path| [path.as_slice(), b"\0"].concat()).collect();
            let file = self.store.repo().git_dir().join(FOLDER).join(LIST);
            replace(&file, &list).map_err(|e| WorkError::io(&file, e))?;
            self.apart.unwritten = false;
        }
        Ok(())
    }

    fn agree(&self, place: &Path, sides: Sides) -> Result<bool, WorkError> {
        let found = self.root.find(place).map_err(|e| WorkError::io(self.root.path().join(place), e))?;
        self.stands(place, &found, sides.there)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_list_tells_of_nothing_that_could_not_be_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let list = |bytes: &[u8]| {
            replace(&dir.path().join(FOLDER).join(LIST), bytes).unwrap();
            Apart::open(dir.path()).files.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(list(b"a\0b/c\n\0"), [b"a".to_vec(), b"b/c\n".to_vec()]);
        for damaged in [b"".as_slice(), b"\0\0\0\0", b"../x\0/etc/passwd\0"] {
            assert!(list(damaged).is_empty(), "{damaged:?}");
        }
    }

    #[test]
    fn only_what_nobody_brings_in_line_by_himself_is_kept_track_of() {
        let mut apart = Apart::default();
        for path in ["commands/a.json", "results/a.json", "context/x"] {
            apart.add(path.as_bytes());
        }
        assert_eq!((apart.len(), apart.unwritten), (0, false));
        apart.add(b"src/a");
        assert_eq!((apart.len(), apart.unwritten), (1, true));
    }
}
