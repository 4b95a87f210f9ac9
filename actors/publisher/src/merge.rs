//! Trees compared and combined, without a work tree: what changed from one to another, and one change put on top of
//! another. Identical subtrees are never read.

use std::collections::BTreeSet;

use gix::ObjectId;

use crate::error::WorkError;
use crate::tree::{FOLDER, Leaf, RawTree, Sink, Trees, serialize};

/// One path that differs between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file's path.
    pub path: Vec<u8>,
    /// What stood there.
    pub old: Option<Leaf>,
    /// What stands there.
    pub new: Option<Leaf>,
}

fn load(trees: &dyn Trees, id: Option<ObjectId>) -> Result<RawTree, WorkError> {
    id.map_or(Ok(RawTree::new()), |id| trees.tree(id))
}

/// Every file that differs between two trees (`None`: the empty one), in the order of their paths.
///
/// # Errors
/// When a tree cannot be read.
pub fn diff(trees: &dyn Trees, old: Option<ObjectId>, new: Option<ObjectId>) -> Result<Vec<Change>, WorkError> {
    let mut out = Vec::new();
    diff_below(trees, old, new, b"", &mut out)?;
    Ok(out)
}

/// The file at a path beneath a tree.
///
/// # Errors
/// When a tree on the way cannot be read.
pub fn leaf_at(trees: &dyn Trees, root: ObjectId, path: &[u8]) -> Result<Option<Leaf>, WorkError> {
    Lookup::new(trees, root).leaf(path)
}

/// Files of one tree, asked for one by one. The trees above the last one stay in memory: whoever asks in the order of
/// paths has each tree read once.
pub struct Lookup<'a> {
    trees: &'a dyn Trees,
    root: ObjectId,
    /// The trees from the root down, each with the name by which it was entered; the root's is empty.
    above: Vec<(Vec<u8>, RawTree)>,
}

impl<'a> Lookup<'a> {
    /// The files beneath `root`.
    #[must_use]
    pub fn new(trees: &'a dyn Trees, root: ObjectId) -> Self {
        Self { trees, root, above: Vec::new() }
    }

    /// The file at a path.
    ///
    /// # Errors
    /// When a tree on the way cannot be read.
    pub fn leaf(&mut self, path: &[u8]) -> Result<Option<Leaf>, WorkError> {
        let (mut at, mut name) = (self.root, [].as_slice());
        for (depth, part) in path.split_inclusive(|byte| *byte == b'/').enumerate() {
            match self.enter(depth, name, at)?.get(part) {
                Some(leaf) if part.ends_with(b"/") => (at, name) = (leaf.id, part),
                found => return Ok(found.copied()),
            }
        }
        Ok(None)
    }

    /// The tree `id`, entered by `name` from those above.
    fn enter(&mut self, depth: usize, name: &[u8], id: ObjectId) -> Result<&RawTree, WorkError> {
        if self.above.get(depth).is_none_or(|(entered, _)| entered != name) {
            self.above.truncate(depth);
            self.above.push((name.to_vec(), self.trees.tree(id)?));
        }
        self.above.get(depth).map(|(_, tree)| tree).ok_or_else(|| WorkError::object(id, "is not where it was put"))
    }
}

fn diff_below(
    trees: &dyn Trees,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
    prefix: &[u8],
    out: &mut Vec<Change>,
) -> Result<(), WorkError> {
    if old == new {
        return Ok(());
    }
    let (old, new) = (load(trees, old)?, load(trees, new)?);
    let names: BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (old, new) = (old.get(name).copied(), new.get(name).copied());
        if old == new {
            continue;
        }
        let path = [prefix, name.as_slice()].concat();
        if name.ends_with(b"/") {
            diff_below(trees, old.map(|leaf| leaf.id), new.map(|leaf| leaf.id), &path, out)?;
        } else {
            out.push(Change { path, old, new });
        }
    }
    Ok(())
}

/// Why two changes do not combine.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Both sides changed what is nobody's but theirs.
    #[error("{} was changed on both sides", String::from_utf8_lossy(.path))]
    Conflict {
        /// The file.
        path: Vec<u8>,
    },
    /// A tree could not be read or written.
    #[error(transparent)]
    Work(#[from] WorkError),
}

/// Puts the change from `base` to `ours` on top of `theirs`. Where both sides changed a path, ours stands if
/// `ours_wins` says so, else it is a conflict. `None` is the empty tree.
///
/// # Errors
/// On a conflict, or when a tree cannot be read or written.
pub fn replay<S: Trees + Sink>(
    store: &mut S,
    base: Option<ObjectId>,
    ours: Option<ObjectId>,
    theirs: Option<ObjectId>,
    ours_wins: &dyn Fn(&[u8]) -> bool,
) -> Result<Option<ObjectId>, MergeError> {
    replay_below(store, [base, ours, theirs], b"", ours_wins)
}

fn replay_below<S: Trees + Sink>(
    store: &mut S,
    [base, ours, theirs]: [Option<ObjectId>; 3],
    prefix: &[u8],
    ours_wins: &dyn Fn(&[u8]) -> bool,
) -> Result<Option<ObjectId>, MergeError> {
    if base == ours {
        return Ok(theirs);
    }
    if base == theirs || ours == theirs {
        return Ok(ours);
    }
    let (base, ours, theirs) = (load(store, base)?, load(store, ours)?, load(store, theirs)?);
    let names: BTreeSet<&Vec<u8>> = base.keys().chain(ours.keys()).chain(theirs.keys()).collect();
    let mut merged = RawTree::new();
    for name in names {
        let [b, o, t] = [&base, &ours, &theirs].map(|side| side.get(name).copied());
        let path = [prefix, name.as_slice()].concat();
        let chosen = if b == o {
            t
        } else if b == t || o == t || (!name.ends_with(b"/") && ours_wins(&path)) {
            o
        } else if name.ends_with(b"/") {
            let ids = [b, o, t].map(|leaf| leaf.map(|leaf| leaf.id));
            replay_below(store, ids, &path, ours_wins)?.map(|id| Leaf { mode: FOLDER, id })
        } else {
            return Err(MergeError::Conflict { path });
        };
        if let Some(leaf) = chosen {
            merged.insert(name.clone(), leaf);
        }
    }
    settle_clashes(&mut merged, &ours, prefix, ours_wins)?;
    if merged.is_empty() {
        return Ok(None);
    }
    let bytes = serialize(merged.iter().map(|(name, leaf)| (name.as_slice(), *leaf)));
    Ok(Some(store.put_tree(prefix, bytes)?))
}

/// A file on one side and a folder of the same name on the other cannot both stand.
fn settle_clashes(
    merged: &mut RawTree,
    ours: &RawTree,
    prefix: &[u8],
    ours_wins: &dyn Fn(&[u8]) -> bool,
) -> Result<(), MergeError> {
    let clashes: Vec<Vec<u8>> = merged
        .keys()
        .filter_map(|name| name.strip_suffix(b"/"))
        .filter(|name| merged.contains_key(*name))
        .map(<[u8]>::to_vec)
        .collect();
    for name in clashes {
        let path = [prefix, name.as_slice()].concat();
        if !ours_wins(&path) {
            return Err(MergeError::Conflict { path });
        }
        let folder = [name.as_slice(), b"/"].concat();
        merged.remove(if ours.contains_key(&folder) { &name } else { &folder });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::safe_path::is_ours;
    use crate::tree::{FILE, parse};
    use std::collections::HashMap;

    #[derive(Default)]
    struct Memory(HashMap<ObjectId, Vec<u8>>);

    impl Trees for Memory {
        fn tree(&self, id: ObjectId) -> Result<RawTree, WorkError> {
            Ok(parse(&self.0[&id], gix::hash::Kind::Sha1)?)
        }
    }

    impl Sink for Memory {
        fn put_tree(&mut self, _: &[u8], bytes: Vec<u8>) -> Result<ObjectId, WorkError> {
            let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Tree, &bytes).unwrap();
            self.0.insert(id, bytes);
            Ok(id)
        }
    }

    /// Writes a tree of `path=digit` words.
    fn make(memory: &mut Memory, words: &str) -> Option<ObjectId> {
        let mut folders: std::collections::BTreeMap<&str, RawTree> = std::collections::BTreeMap::new();
        let mut root = RawTree::new();
        for word in words.split_whitespace() {
            let (path, digit) = word.split_once('=').unwrap();
            let id = ObjectId::try_from([digit.parse::<u8>().unwrap(); 20].as_slice()).unwrap();
            let leaf = Leaf { mode: FILE, id };
            match path.split_once('/') {
                Some((top, name)) => folders.entry(top).or_default().insert(name.into(), leaf),
                None => root.insert(path.into(), leaf),
            };
        }
        for (top, raw) in folders {
            let id = memory.put_tree(b"", serialize(raw.iter().map(|(n, l)| (n.as_slice(), *l)))).unwrap();
            root.insert(format!("{top}/").into_bytes(), Leaf { mode: FOLDER, id });
        }
        (!root.is_empty())
            .then(|| memory.put_tree(b"", serialize(root.iter().map(|(n, l)| (n.as_slice(), *l)))).unwrap())
    }

    fn words(memory: &Memory, tree: Option<ObjectId>) -> String {
        let changes = diff(memory, None, tree).unwrap();
        let word = |c: &Change| format!("{}={}", String::from_utf8_lossy(&c.path), c.new.unwrap().id.as_slice()[0]);
        changes.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn files_are_found_in_whatever_order_they_are_asked_for_and_a_tree_is_read_once() {
        struct Counted<'a>(&'a Memory, std::cell::Cell<usize>);
        impl Trees for Counted<'_> {
            fn tree(&self, id: ObjectId) -> Result<RawTree, WorkError> {
                self.1.set(self.1.get() + 1);
                self.0.tree(id)
            }
        }
        let mut memory = Memory::default();
        let root = make(&mut memory, "a/x=1 a/y=2 b/x=3 c=4").unwrap();
        let counted = Counted(&memory, std::cell::Cell::new(0));
        let mut there = Lookup::new(&counted, root);
        let mut leaf = |path: &str| there.leaf(path.as_bytes()).unwrap().map(|leaf| leaf.id.as_slice()[0]);
        let found = ["a/x", "a/y", "a/z", "b/x", "b", "c", "c/x"].map(&mut leaf);
        assert_eq!(found, [Some(1), Some(2), None, Some(3), None, Some(4), None]);
        assert_eq!(counted.1.get(), 3, "the root, a/ and b/");
        assert_eq!(["a/y", "b/x", "a/x"].map(leaf), [Some(2), Some(3), Some(1)]);
    }

    fn combine(base: &str, ours: &str, theirs: &str) -> Result<String, String> {
        let mut memory = Memory::default();
        let (base, ours, theirs) = (make(&mut memory, base), make(&mut memory, ours), make(&mut memory, theirs));
        let merged = replay(&mut memory, base, ours, theirs, &is_ours).map_err(|e| e.to_string())?;
        Ok(words(&memory, merged))
    }

    #[test]
    fn both_changes_stand_where_they_do_not_meet() {
        assert_eq!(
            combine("a=1 results/x=1", "a=1 results/x=1 results/y=2", "a=3 results/x=1 b=4"),
            Ok("a=3 b=4 results/x=1 results/y=2".into())
        );
        assert_eq!(combine("", "results/x=1", "README=2"), Ok("README=2 results/x=1".into()));
        assert_eq!(combine("a=1 b=2", "a=1", "a=1 b=2 c=3"), Ok("a=1 c=3".into()));
        assert_eq!(combine("a=1", "", "a=1"), Ok(String::new()));
    }

    #[test]
    fn ours_wins_in_our_folders_and_conflicts_elsewhere() {
        assert_eq!(combine("logs/l=1", "logs/l=2", "logs/l=3"), Ok("logs/l=2".into()));
        assert_eq!(combine("logs/l=1", "logs/l=2", ""), Ok("logs/l=2".into()));
        assert_eq!(combine("a=1", "a=2", "a=3"), Err("a was changed on both sides".into()));
        assert_eq!(combine("d/a=1", "d/a=2", ""), Err("d/a was changed on both sides".into()));
        assert_eq!(combine("", "d/a=2", "d=1"), Err("d was changed on both sides".into()));
        assert_eq!(combine("", "logs/l=2", "logs=1"), Ok("logs/l=2".into()));
    }

    #[test]
    fn a_diff_names_every_file_and_no_more() {
        let mut memory = Memory::default();
        let old = make(&mut memory, "a=1 d/x=1 d/y=1");
        let new = make(&mut memory, "a=1 d/x=2 d/z=3 e=1");
        let paths: Vec<_> =
            diff(&memory, old, new).unwrap().iter().map(|c| String::from_utf8_lossy(&c.path).into_owned()).collect();
        assert_eq!(paths, ["d/x", "d/y", "d/z", "e"]);
    }
}
