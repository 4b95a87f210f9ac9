//! What upstream sends is input: whoever can push decides what its trees name, without the secret.
//!
//! Here it is judged by names and shapes alone, before anything of it reaches index or work tree. Three answers are told
//! apart. What git itself refuses in a work tree makes the whole commit unfit, and so does a tree that nobody could take
//! in (without end, or deeper than any path). What is the bridge's own, on this machine alone, stays out of index and
//! work tree. What stands where the bridge files things stays out of the work tree.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::validate::path::component::{Mode, Options};
use gix::validate::path::{component, component::Error};

use crate::error::WorkError;
use crate::roll::{self, Day, ROLLING};
use crate::safe_path::SAFE;
use crate::tree::{self, FOLDER, LINK, RawTree, canonical};

/// The most folders above a file, itself included: as for the paths of commands.
const MAX_DEPTH: usize = 255;
/// The most paths that one look finds changed.
const MAX_PATHS: usize = 1_000_000;
/// The most bytes that their names come to.
const MAX_PATH_BYTES: usize = 256 << 20;

/// Why a commit of upstream's is not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Where.
    pub path: Vec<u8>,
    /// What is wrong there.
    pub why: &'static str,
}

/// What git refuses in a work tree, on any system that a clone may lie on.
const GIT_REFUSES: Options = Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };

/// What is wrong with a name in a tree, if it is one that git refuses.
#[must_use]
pub fn name_fault(name: &[u8], mode: u32) -> Option<&'static str> {
    let link = (canonical(mode) == LINK).then_some(Mode::Symlink);
    // NTFS takes a backslash for a separator.
    let parts = name.split(|byte| *byte == b'\\').filter(|part| !part.is_empty());
    let names = std::iter::once(name).chain(parts.filter(|part| part.len() < name.len()));
    names.enumerate().find_map(|(at, part)| match component(part.as_bstr(), link, GIT_REFUSES) {
        Ok(_) => None,
        // Two dots between backslashes lead nowhere where a backslash is an ordinary letter, and git takes them there.
        Err(Error::Relative) if at > 0 => None,
        Err(Error::Empty) => Some("has no name"),
        Err(Error::PathSeparator) => Some("has a slash in its name"),
        Err(Error::Relative) => Some("leads out of its folder"),
        Err(Error::SymlinkedGitModules) => Some("is a link in the place of .gitmodules"),
        Err(_) => Some("is .git, or is taken for it on some systems"),
    })
}

/// What is wrong with a path, if git refuses it.
#[must_use]
pub fn path_fault(path: &[u8], mode: u32) -> Option<&'static str> {
    let last = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let above = path.get(..last.saturating_sub(1)).unwrap_or_default();
    let fault = name_fault(path.get(last..).unwrap_or_default(), mode);
    let folders = above.split(|byte| *byte == b'/').filter(|_| last > 0);
    fault.or_else(|| folders.into_iter().find_map(|name| name_fault(name, FOLDER)))
}

/// Whether a path is the bridge's own on this machine: its lock, and the executor's recovery state. Whatever a branch
/// holds under these names must never come into their place, by a person's hand neither.
#[must_use]
pub fn is_private(path: &[u8]) -> bool {
    let mut parts = path.split(|byte| *byte == b'/');
    let (top, below) = (parts.next().unwrap_or_default(), parts.next());
    let journal = || below.is_some_and(|name| name.eq_ignore_ascii_case(b"journal"));
    top.eq_ignore_ascii_case(b".bridge.lock") || (top.eq_ignore_ascii_case(b"meta") && journal())
}

/// Whether git's index may hold a path.
#[must_use]
pub fn fits_index(path: &[u8], mode: u32) -> bool {
    path_fault(path, mode).is_none() && !is_private(path)
}

/// Whether a path may be brought into the work tree. The audit log and `meta/` are written by the bridge alone, its
/// folders are folders, and where artifacts are filed nothing may stand that is shaped otherwise.
#[must_use]
pub fn fits_work_tree(path: &[u8], mode: u32) -> bool {
    let (top, below) = path.split_once_str("/").map_or((path, None), |(top, below)| (top, Some(below)));
    let ours = top == b"commands" || SAFE.iter().any(|folder| folder.as_bytes() == top);
    let shaped = match below {
        None => !ours,
        Some(_) if top == b"logs" || top == b"meta" => false,
        Some(below) if ROLLING.iter().any(|folder| folder.as_bytes() == top) => is_artifact(below),
        Some(_) => true,
    };
    shaped && fits_index(path, mode)
}

/// Whether a path beneath one of the folders that roll over is shaped like an artifact's.
fn is_artifact(path: &[u8]) -> bool {
    let Ok(path) = std::str::from_utf8(path) else { return false };
    let Some((segment, name)) = path.rsplit_once('/') else {
        // A year's folder is going to stand there.
        return !path.bytes().all(|byte| byte.is_ascii_digit());
    };
    let (day, number) = segment.rsplit_once('/').unwrap_or_default();
    !name.is_empty() && Day::parse(day).is_some() && roll::number(number).is_some()
}

/// Reads a tree's bytes; `None` where the object is no tree.
pub type Read<'a> = dyn Fn(ObjectId) -> Result<Option<Vec<u8>>, WorkError> + 'a;

/// Looks through what `new` has and `old` has not, as far as the first thing that must not be taken in. What is the same
/// on both sides is never read, so the cost is that of the change.
///
/// # Errors
/// When a tree cannot be read.
pub fn look_through(read: &Read<'_>, old: Option<ObjectId>, new: ObjectId) -> Result<Option<Unfit>, WorkError> {
    let unfit = |path: Vec<u8>, why| Ok(Some(Unfit { path, why }));
    let (mut paths, mut bytes) = (0, 0);
    let mut waiting = vec![(old, new, Vec::new(), 1)];
    while let Some((old, new, prefix, depth)) = waiting.pop() {
        if depth > MAX_DEPTH {
            return unfit(prefix, "lies deeper than 255 folders");
        }
        let Some(raw) = read(new)? else { return unfit(prefix, "is called a folder and is none") };
        let before = match old {
            Some(old) => read(old)?.and_then(|raw| tree::parse(&raw, old.kind()).ok()).unwrap_or_default(),
            None => RawTree::new(),
        };
        let mut names = HashSet::new();
        for entry in tree::entries(&raw, new.kind()) {
            let Ok((key, leaf)) = entry else { return unfit(prefix, "is a damaged folder") };
            let name = if leaf.mode == FOLDER { key.strip_suffix(b"/").unwrap_or(&key) } else { &key };
            let path = || [prefix.as_slice(), name].concat();
            if !names.insert(name.to_vec()) {
                return unfit(path(), "is there twice");
            }
            let was = before.get(&key).copied();
            if was == Some(leaf) {
                continue;
            }
            if let Some(why) = name_fault(name, leaf.mode) {
                return unfit(path(), why);
            }
            paths += 1;
            bytes += prefix.len() + key.len();
            if paths > MAX_PATHS || bytes > MAX_PATH_BYTES {
                return unfit(prefix, "is where more paths came at once than can be taken in (a million, or 256 MiB)");
            }
            if leaf.mode == FOLDER {
                waiting.push((was.map(|leaf| leaf.id), leaf.id, [prefix.as_slice(), &key].concat(), depth + 1));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::tree::{FILE, Leaf, SUBMODULE, serialize};

    #[test]
    fn names_that_git_refuses_on_any_system_are_refused_here() {
        let refused = [
            "",
            ".",
            "..",
            ".git",
            ".GIT",
            ".gIt",
            "git~1",
            "GIT~1",
            ".git.",
            ".git ",
            ".git. .",
            ".git::$INDEX_ALLOCATION",
            ".git:x",
            "git~1.",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".gi\u{206f}t",
            ".git\u{202e}",
            "a/b",
            "/",
            "/etc",
            ".git/x",
            "a\\.git",
            "\\.git",
            ".git\\x",
            "x\\git~1\\hooks",
            "..\\.git",
        ];
        for name in refused {
            assert!(name_fault(name.as_bytes(), FILE).is_some(), "{name:?}");
        }
        let taken = [
            "a",
            ".gitignore",
            ".github",
            ".gitmodules",
            "git",
            "git~2",
            ".git~1",
            "...",
            "..a",
            "a..",
            " ",
            "-x",
            "~",
            "a b",
            "aux",
            "con.txt",
            "x:y",
            "a\\b",
            "\\",
            "a\\..",
            ".g\u{e9}it",
            "é",
            "\u{200c}",
            ".gitx",
            "x.git",
        ];
        for name in taken {
            assert_eq!(name_fault(name.as_bytes(), FILE), None, "{name:?}");
        }
        assert_eq!(name_fault(b"\xff\xfe", FILE), None, "no UTF-8, and git takes it");
        assert!(name_fault(b".gitmodules", LINK).is_some() && name_fault(b".GITMODULES ", LINK).is_some());
        for path in ["a/.git/hooks/x", "a//b", "/a", "a/", "../a", "a/./b", "a/b/.GIT", "", ".git/config"] {
            assert!(path_fault(path.as_bytes(), FILE).is_some(), "{path:?}");
        }
        for path in ["a", "a/b/c", ".gitattributes", "a/.gitmodules"] {
            assert_eq!(path_fault(path.as_bytes(), FILE), None, "{path:?}");
        }
    }

    #[test]
    fn what_is_the_bridges_own_stays_out_of_index_and_work_tree() {
        for path in
            [".bridge.lock", ".Bridge.LOCK", ".bridge.lock/x", "meta/journal", "meta/journal/1", "META/Journal/1"]
        {
            assert!(is_private(path.as_bytes()) && !fits_index(path.as_bytes(), FILE), "{path}");
            assert!(!fits_work_tree(path.as_bytes(), FILE), "{path}");
        }
        for path in ["meta/retries.json", "journal/x", "a/.bridge.lock", "meta", "meta/journals"] {
            assert!(!is_private(path.as_bytes()) && fits_index(path.as_bytes(), FILE), "{path}");
        }
    }

    #[test]
    fn only_what_is_shaped_like_an_artifact_comes_where_artifacts_are_filed() {
        let good = [
            "a",
            "src/a",
            "commands/x.json",
            "summaries/a/b",
            "context/x",
            "results/a.json",
            "diffs/2026/11/23/0000/a.patch",
            "results/.gitkeep",
            ".gitignore",
            "logsx/a",
            "archive/2026/11/23/12345/a.json",
        ];
        for path in good {
            assert!(fits_work_tree(path.as_bytes(), FILE), "{path}");
        }
        let bad = [
            "results",
            "commands",
            "logs",
            "meta",
            "context",
            "logs/bridge.log",
            "meta/retries.json",
            "meta/retries.json/x",
            "results/a.json/x",
            "results/2026",
            "dead_letter/2026/11/23/x",
            "diffs/2026/11/23/0000/a/b",
            "a/.GIT/hooks/x",
            "archive/2026/11/23/0000",
            "../a",
            "a//b",
            "results//",
        ];
        for path in bad {
            assert!(!fits_work_tree(path.as_bytes(), FILE), "{path}");
        }
    }

    /// Trees in memory, by their ids.
    #[derive(Default)]
    struct Memory(HashMap<ObjectId, Vec<u8>>);

    impl Memory {
        fn put(&mut self, entries: &[(&str, u32, ObjectId)]) -> ObjectId {
            let leaf =
                |(name, mode, id): &(&str, u32, ObjectId)| (name.as_bytes().to_vec(), Leaf { mode: *mode, id: *id });
            let leaves: Vec<(Vec<u8>, Leaf)> = entries.iter().map(leaf).collect();
            let bytes = serialize(leaves.iter().map(|(name, leaf)| (name.as_slice(), *leaf)));
            let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Tree, &bytes).unwrap();
            self.0.insert(id, bytes);
            id
        }

        fn look(&self, old: Option<ObjectId>, new: ObjectId) -> Option<Unfit> {
            look_through(&|id| Ok(self.0.get(&id).cloned()), old, new).unwrap()
        }

        fn why(&self, new: ObjectId) -> (String, &'static str) {
            let unfit = self.look(None, new).unwrap();
            (String::from_utf8(unfit.path).unwrap(), unfit.why)
        }
    }

    fn blob(byte: u8) -> ObjectId {
        ObjectId::try_from([byte; 20].as_slice()).unwrap()
    }

    #[test]
    fn only_what_changed_is_looked_through() {
        let mut trees = Memory::default();
        let evil = trees.put(&[(".git", FOLDER, blob(9))]);
        let old = trees.put(&[("a", FOLDER, evil), ("b", FILE, blob(1))]);
        let new = trees.put(&[("a", FOLDER, evil), ("b", FILE, blob(2)), ("sub", SUBMODULE, blob(3))]);
        assert_eq!(trees.look(Some(old), new), None, "what was there before is not read");
        assert_eq!(trees.why(new), ("a/.git".to_owned(), "is .git, or is taken for it on some systems"));
    }

    #[test]
    fn trees_that_nobody_could_take_in_are_refused_and_end() {
        let mut trees = Memory::default();
        let twice = trees.put(&[("a", FILE, blob(1)), ("a", FILE, blob(2))]);
        assert_eq!(trees.why(twice), ("a".to_owned(), "is there twice"));
        let both = trees.put(&[("x", LINK, blob(1)), ("x", FOLDER, twice)]);
        assert_eq!(trees.why(both), ("x".to_owned(), "is there twice"));
        let no_folder = trees.put(&[("x", FOLDER, blob(7))]);
        assert_eq!(trees.why(no_folder), ("x/".to_owned(), "is called a folder and is none"));
        // Ten folders in each of ten folders, and so on: a few objects, a name for each atom.
        let mut bomb = trees.put(&[("f", FILE, blob(1))]);
        for _ in 0..30 {
            let names: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
            let entries: Vec<_> = names.iter().map(|name| (name.as_str(), FOLDER, bomb)).collect();
            bomb = trees.put(&entries);
        }
        assert!(trees.why(bomb).1.contains("more paths came at once"));
        let mut deep = trees.put(&[("f", FILE, blob(1))]);
        for _ in 0..100_000 {
            deep = trees.put(&[("d", FOLDER, deep)]);
        }
        assert_eq!(trees.why(deep).1, "lies deeper than 255 folders");
        let mut fine = trees.put(&[("f", FILE, blob(1))]);
        for _ in 0..250 {
            fine = trees.put(&[("d", FOLDER, fine)]);
        }
        assert_eq!(trees.look(None, fine), None);
    }
}
