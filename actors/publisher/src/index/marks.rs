//! By what git knows a file again without reading it: the marks of the files that the index's entries stand for.
//!
//! An artifact is read once, to be committed, and its marks are noted before. One that moves to its segment keeps them,
//! but for the instant of the move: where it looked as it did when it was read, it is not read again.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::index::entry::{Stage, Stat};
use rustix::fs::{AtFlags, statat};

use super::Keeper;
use super::edit::Stats;
use super::fold::Folded;
use crate::core::Core;
use crate::files::{Lookout, Moved, move_to_free};
use crate::merge::Change;
use crate::objects::MAX_BLOB_BYTES;
use crate::tree::{EXECUTABLE, FILE, Leaf};

/// Files that are read again in one move of the branch to see whether they are what was committed. What lies beyond is
/// looked at in a quiet moment, or by git.
const MARKED_MAX: usize = 4096;

/// Paths that are remembered to be looked at in a quiet moment; git looks at what does not fit.
const UNMARKED_MAX: usize = 20_000;

impl Keeper {
    /// A file was read to be committed, and this is how it looked before.
    pub(crate) fn read(&mut self, path: &str, id: ObjectId, stat: &rustix::fs::Stat) {
        self.stats.insert(path.as_bytes().to_vec(), (id, marks(stat)));
    }

    /// Moves a file whose flat path is `path` to its segment, where its path is `place`, onto no other file. If it is the
    /// one that was read to be committed, its marks are known there, too.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn move_file(
        &mut self,
        (path, place): (&str, &str),
        name: &str,
        (from, to): (&OwnedFd, &OwnedFd),
    ) -> std::io::Result<Moved> {
        let look = |folder| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| marks(&stat));
        let known = self.moving.get(path.as_bytes()).filter(|(_, stat)| look(from) == Some(*stat)).copied();
        let moved = move_to_free(from, name, to)?;
        if let Some((id, before)) = known
            && moved == Moved::Moved
            && let Some(after) = look(to)
            && before == (Stat { ctime: before.ctime, ..after })
        {
            self.stats.insert(place.as_bytes().to_vec(), (id, after));
        }
        Ok(moved)
    }
}

impl Core {
    /// What is known of the files that are to be indexed, and of which nothing is known yet. What a folded folder covers
    /// has no entry to be marked.
    pub(super) fn marked(&self, changes: &[Change], folded: &Folded) -> (Stats, BTreeSet<Vec<u8>>) {
        let (mut stats, mut unmarked) = (Stats::new(), BTreeSet::new());
        // They come there once the branch has moved.
        let coming: HashSet<String> = self.rolling.moves.iter().map(|step| step.segment.place(&step.path)).collect();
        let is_coming = |path: &[u8]| std::str::from_utf8(path).is_ok_and(|path| coming.contains(path));
        let mut read = 0;
        let entries = changes.iter().filter(|change| !folded.covers(&change.path));
        for (path, leaf) in entries.filter_map(|change| Some((&change.path, change.new?))) {
            let known = self.index.stats.get(path).filter(|(id, _)| *id == leaf.id);
            let mark = match known {
                Some((_, stat)) => Some(*stat),
                None if read < MARKED_MAX && !is_coming(path) => {
                    read += 1;
                    self.mark(path, leaf)
                }
                None => None,
            };
            match mark {
                Some(stat) => drop(stats.insert(path.clone(), (leaf.id, stat))),
                // It is on its way into the work tree, perhaps. Whoever was looked at twice in vain is left to git.
                None if unmarked.len() < UNMARKED_MAX && !self.index.unmarked.contains(path) => {
                    unmarked.insert(path.clone());
                }
                None => {}
            }
        }
        (stats, unmarked)
    }

    /// What is known of the files that move to their segments once the branch has moved.
    pub(super) fn moving(&self, index: &gix::index::File, folded: &Folded) -> Stats {
        let mut moving = Stats::new();
        for step in &self.rolling.moves {
            let path = step.path.as_bytes();
            if folded.covers(step.segment.place(&step.path).as_bytes()) {
                continue;
            }
            let indexed = || index.entry_by_path_and_stage(path.as_bstr(), Stage::Unconflicted);
            let known = self.index.stats.get(path).copied().or_else(|| indexed().map(|entry| (entry.id, entry.stat)));
            moving.extend(known.map(|known| (path.to_vec(), known)));
        }
        moving
    }

    /// The marks of a file that holds exactly what is committed.
    fn mark(&self, path: &[u8], leaf: Leaf) -> Option<Stat> {
        let path = PathBuf::from(OsStr::from_bytes(path));
        let executable = match leaf.mode {
            FILE => false,
            EXECUTABLE => true,
            _ => return None,
        };
        let (bytes, stat) = self.root.read_with_stat(&path, MAX_BLOB_BYTES).ok()??;
        let id = self.store.id_of(&bytes).ok()?;
        (id == leaf.id && (stat.st_mode & 0o100 != 0) == executable).then(|| marks(&stat))
    }

    /// Entries whose files may have been changed in the second in which the index was written last: git reads such files
    /// again, but only until the index is written anew. Where a file looks otherwise than its entry says, the entry is
    /// given a size that no file of it has, as git does it.
    pub(super) fn smudge(&self, index: &mut gix::index::File) {
        let written = index.timestamp().unix_seconds();
        let mut files = Lookout::new(&self.root);
        for (entry, path) in index.entries_mut_with_paths() {
            let racy = i64::from(entry.stat.mtime.secs) >= written && entry.stat.size != 0;
            if !racy || entry.mode == gix::index::entry::Mode::DIR {
                continue;
            }
            let found = files.stat(Path::new(OsStr::from_bytes(path)));
            if found.is_none_or(|stat| marks(&stat) != entry.stat) {
                entry.stat.size = 0;
            }
        }
    }
}

/// A file's marks as git keeps them: cut to 32 bits, as git cuts them.
#[allow(clippy::unnecessary_cast)] // The fields' types differ from system to system.
fn marks(stat: &rustix::fs::Stat) -> Stat {
    let time = |secs: i64, nsecs: i64| gix::index::entry::stat::Time { secs: secs as u32, nsecs: nsecs as u32 };
    Stat {
        mtime: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        ctime: time(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        dev: stat.st_dev as u32,
        ino: stat.st_ino as u32,
        uid: stat.st_uid as u32,
        gid: stat.st_gid as u32,
        size: stat.st_size as u32,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::files::Root;

    /// The kernel's clock for files goes in steps.
    fn until_the_clock_moves(file: &std::fs::Metadata) {
        use std::os::unix::fs::MetadataExt;
        let probe = tempfile::NamedTempFile::new().unwrap();
        let changed = |meta: &std::fs::Metadata| (meta.ctime(), meta.ctime_nsec());
        let mut times = 0u64;
        while changed(&probe.as_file().metadata().unwrap()) <= changed(file) {
            times += 1;
            probe.as_file().set_len(times).unwrap();
        }
    }

    #[test]
    fn a_file_that_moves_is_known_there_only_if_it_is_still_the_one_that_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let id = ObjectId::null(gix::hash::Kind::Sha1);
        let mut keeper = Keeper::default();
        for name in ["same", "changed", "edited", "unknown"] {
            root.write(Path::new(&format!("results/{name}")), b"one", false).unwrap();
            let (_, stat) = root.read_with_stat(Path::new(&format!("results/{name}")), 9).unwrap().unwrap();
            if name != "unknown" {
                keeper.moving.insert(format!("results/{name}").into_bytes(), (id, marks(&stat)));
            }
        }
        root.write(Path::new("results/changed"), b"two", false).unwrap();
        // In place, as long as before, its time set back: only the time of its inode tells.
        let edited = std::fs::File::options().write(true).open(dir.path().join("results/edited")).unwrap();
        let before = edited.metadata().unwrap();
        until_the_clock_moves(&before);
        std::io::Write::write_all(&mut &edited, b"two").unwrap();
        edited.set_modified(before.modified().unwrap()).unwrap();
        let folder = |path: &str| root.folder(Path::new(path), true).unwrap();
        let (from, to) = (folder("results"), folder("results/2026"));
        for name in ["same", "changed", "edited", "unknown", "gone"] {
            let (path, place) = (format!("results/{name}"), format!("results/2026/{name}"));
            let moved = keeper.move_file((&path, &place), name, (&from, &to)).unwrap();
            assert_eq!(moved, if name == "gone" { Moved::Gone } else { Moved::Moved });
        }
        let (_, now) = root.read_with_stat(Path::new("results/2026/same"), 9).unwrap().unwrap();
        let known: Vec<_> = keeper.stats.into_iter().collect();
        assert_eq!(known, [(b"results/2026/same".to_vec(), (id, marks(&now)))]);
    }
}
