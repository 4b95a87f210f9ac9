//! The names in folders, remembered: a new file must not differ from a sibling in case only, and a folder of ten thousand
//! files must not be listed for every one that comes to it.
//!
//! What is remembered of a folder counts as long as the folder has not changed since, save by this program, which notes
//! its own changes. A change by somebody else that falls between one of ours and the note of it is overlooked; so that this
//! does not last, every folder is listed anew after [`MAX_USES`]. What can be missed is a name that differs in case only
//! from one that somebody else made a moment ago.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::fs::{Dir, MetadataExt as _};
use protocol::path::fold;

/// How often what is remembered of a folder is used before it is listed anew.
pub const MAX_USES: u32 = 1_000;
/// The most folders that are remembered.
const MAX_FOLDERS: usize = 64;
/// The most names that are remembered of one folder; a larger one is listed each time.
const MAX_NAMES: usize = 200_000;

/// Folded name → name as it is spelled.
pub type Names = HashMap<String, String>;
/// Device and inode.
type Key = (u64, u64);
/// Modification and change time, in seconds and nanoseconds.
type Stamp = [i64; 4];

/// What is remembered of folders.
#[derive(Debug, Default)]
pub struct Siblings(Mutex<HashMap<Key, Known>>);

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    names: Arc<Names>,
    uses: u32,
}

impl Siblings {
    fn known(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        // What a panic could leave is at worst too old a stamp, and then the folder is listed anew.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names in `folder`; `list` lists them where what is remembered does not count.
    ///
    /// # Errors
    /// What `list` says, or that the folder cannot be looked at.
    pub fn names<E: From<io::Error>>(
        &self,
        folder: &Dir,
        list: impl FnOnce() -> Result<Vec<OsString>, E>,
    ) -> Result<Arc<Names>, E> {
        let (key, stamp) = identify(folder)?;
        if let Some(known) = self.known().get_mut(&key)
            && known.stamp == stamp
            && known.uses < MAX_USES
        {
            known.uses += 1;
            return Ok(Arc::clone(&known.names));
        }
        let listed = list()?;
        let texts = listed.iter().filter_map(|name| name.to_str());
        let names: Arc<Names> = Arc::new(texts.map(|name| (fold(name), name.to_owned())).collect());
        let mut known = self.known();
        if names.len() > MAX_NAMES {
            known.remove(&key);
        } else {
            if known.len() >= MAX_FOLDERS {
                known.clear();
            }
            known.insert(key, Known { stamp, names: Arc::clone(&names), uses: 0 });
        }
        Ok(names)
    }

    /// Whether what is remembered of `folder` counts.
    #[must_use]
    pub fn is_current(&self, folder: &Dir) -> bool {
        identify(folder).is_ok_and(|(key, stamp)| self.known().get(&key).is_some_and(|known| known.stamp == stamp))
    }

    /// Forgets everything.
    pub fn forget(&self) {
        self.known().clear();
    }

    /// Notes what this program did in `folder`: which name came and which went. `changes` must be all of it since
    /// [`Siblings::is_current`] was true, else the rest would be overlooked.
    pub fn note(&self, folder: &Dir, changes: &[(&str, bool)]) {
        let Ok((key, stamp)) = identify(folder) else { return };
        let mut known = self.known();
        let Some(known) = known.get_mut(&key) else { return };
        let names = Arc::make_mut(&mut known.names);
        for (name, _) in changes.iter().filter(|(_, is_there)| !is_there) {
            names.remove(&fold(name));
        }
        for (name, _) in changes.iter().filter(|(_, is_there)| *is_there) {
            names.insert(fold(name), (*name).to_owned());
        }
        known.stamp = stamp;
    }
}

fn identify(folder: &Dir) -> io::Result<(Key, Stamp)> {
    let metadata = folder.dir_metadata()?;
    let stamp = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    Ok(((cap_fs_ext::MetadataExt::dev(&metadata), cap_fs_ext::MetadataExt::ino(&metadata)), stamp))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
    use super::*;
    use cap_std::ambient_authority;
    use std::cell::Cell;

    struct Bench {
        dir: tempfile::TempDir,
        folder: Dir,
        siblings: Siblings,
        lists: Cell<u32>,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let folder = Dir::open_ambient_dir(dir.path(), ambient_authority()).unwrap();
            Self { dir, folder, siblings: Siblings::default(), lists: Cell::new(0) }
        }
        fn names(&self) -> Vec<String> {
            let list = || -> io::Result<Vec<OsString>> {
                self.lists.set(self.lists.get() + 1);
                self.folder.entries()?.map(|entry| Ok(entry?.file_name())).collect()
            };
            let mut names: Vec<_> = self.siblings.names(&self.folder, list).unwrap().values().cloned().collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_folder_is_listed_once_and_again_when_somebody_else_changed_it() {
        let bench = Bench::new();
        std::fs::write(bench.dir.path().join("A"), "").unwrap();
        assert_eq!((bench.names(), bench.names()), (vec!["A".to_owned()], vec!["A".to_owned()]));
        assert_eq!(bench.lists.get(), 1);
        std::fs::write(bench.dir.path().join("b"), "").unwrap();
        bench.siblings.note(&bench.folder, &[("b", true)]);
        assert_eq!(bench.names(), ["A", "b"]);
        assert_eq!(bench.lists.get(), 1, "its own change was noted");
        // The kernel's clock for files is coarse: the change is repeated until it can be seen.
        let before = identify(&bench.folder).unwrap();
        while identify(&bench.folder).unwrap() == before {
            std::fs::write(bench.dir.path().join("c"), "").unwrap();
            std::fs::remove_file(bench.dir.path().join("A")).unwrap_or_default();
            std::fs::remove_file(bench.dir.path().join("c")).unwrap();
        }
        assert_eq!(bench.names(), ["b"]);
        assert_eq!(bench.lists.get(), 2);
    }

    #[test]
    fn what_is_remembered_is_not_used_for_ever() {
        let bench = Bench::new();
        (0..=MAX_USES + 1).for_each(|_| drop(bench.names()));
        assert_eq!(bench.lists.get(), 2);
    }
}
