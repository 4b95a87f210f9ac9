//! The repository's tree, kept in memory so that a commit hashes only what it changes.
//!
//! [`SafeTree`] can be edited through [`SafePath`]s alone: whatever else lies in the tree is carried along as it is, and
//! there is no way to change it here. Nothing in this module reads a disk; [`Trees`] and [`Sink`] do.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::hash::Kind;

use crate::error::WorkError;
use crate::safe_path::{SAFE, SafePath};

/// Mode of an ordinary file.
pub const FILE: u32 = 0o100_644;
/// Mode of an executable file.
pub const EXECUTABLE: u32 = 0o100_755;
/// Mode of a symbolic link.
pub const LINK: u32 = 0o120_000;
/// Mode of a folder.
pub const FOLDER: u32 = 0o040_000;
/// Mode of a submodule.
pub const SUBMODULE: u32 = 0o160_000;

/// What stands under a name: a mode and an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// One of the modes above.
    pub mode: u32,
    /// The blob, tree or commit.
    pub id: ObjectId,
}

/// One tree object's entries. A folder's name ends with `/`: compared bytewise that is git's own order.
pub type RawTree = BTreeMap<Vec<u8>, Leaf>;

/// A tree object that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("malformed tree object at byte {at}")]
pub struct TreeError {
    /// Where reading ended.
    pub at: usize,
}

/// Reads trees.
pub trait Trees {
    /// The entries of a tree.
    ///
    /// # Errors
    /// When the object is missing or is no tree.
    fn tree(&self, id: ObjectId) -> Result<RawTree, WorkError>;
}

/// Takes trees that are new.
pub trait Sink {
    /// Stores a tree's bytes; `path` (of the folder) tells which tree was its earlier version.
    ///
    /// # Errors
    /// When the object cannot be written.
    fn put_tree(&mut self, path: &[u8], bytes: Vec<u8>) -> Result<ObjectId, WorkError>;
}

/// Reads the bytes of a tree object whose ids are of this kind.
///
/// # Errors
/// When they are malformed.
pub fn parse(bytes: &[u8], ids: Kind) -> Result<RawTree, TreeError> {
    entries(bytes, ids).collect()
}

/// A tree object's entries as they stand there, one that is there twice included; a folder's name ends with `/`.
pub fn entries(bytes: &[u8], ids: Kind) -> impl Iterator<Item = Result<(Vec<u8>, Leaf), TreeError>> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = bytes.len() - rest.len();
        let found = parse_entry(rest, ids).map(|(entry, tail)| {
            rest = tail;
            (entry.name, entry.leaf)
        });
        if found.is_none() {
            rest = &[];
        }
        Some(found.ok_or(TreeError { at }))
    })
}

/// A mode as git reads it, whatever bits an old or a careless tool wrote: a file that its owner may execute or not, a
/// link, a folder; all else is a submodule.
#[must_use]
pub const fn canonical(mode: u32) -> u32 {
    match mode & 0o170_000 {
        0o100_000 if mode & 0o100 != 0 => EXECUTABLE,
        0o100_000 => FILE,
        LINK => LINK,
        FOLDER => FOLDER,
        _ => SUBMODULE,
    }
}

/// One entry as it is read.
struct Named {
    name: Vec<u8>,
    leaf: Leaf,
}

fn parse_entry(bytes: &[u8], ids: Kind) -> Option<(Named, &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let mode = u32::from_str_radix(std::str::from_utf8(bytes.get(..space)?).ok()?, 8).ok()?;
    let mode = if canonical(mode) == FOLDER { FOLDER } else { mode };
    let after = bytes.get(space + 1..)?;
    let nul = after.iter().position(|byte| *byte == 0)?;
    let mut name = after.get(..nul)?.to_vec();
    if mode == FOLDER {
        name.push(b'/');
    }
    let (id, rest) = after.get(nul + 1..)?.split_at_checked(ids.len_in_bytes())?;
    let id = ObjectId::try_from(id).ok()?;
    Some((Named { name, leaf: Leaf { mode, id } }, rest))
}

/// A tree object's bytes.
#[must_use]
pub fn serialize<'a>(entries: impl Iterator<Item = (&'a [u8], Leaf)> + Clone) -> Vec<u8> {
    // A mode and its space, and the byte after the name.
    const BESIDE_NAME_AND_ID: usize = 7 + 1;
    let room = |(key, leaf): (&[u8], Leaf)| key.len() + BESIDE_NAME_AND_ID + leaf.id.as_slice().len();
    let mut bytes = Vec::with_capacity(entries.clone().map(room).sum());
    for (key, leaf) in entries {
        // Folders are written whole again and again: the usual modes cost no formatting.
        match leaf.mode {
            FILE => bytes.extend_from_slice(b"100644 "),
            FOLDER => bytes.extend_from_slice(b"40000 "),
            mode => bytes.extend_from_slice(format!("{mode:o} ").as_bytes()),
        }
        bytes.extend_from_slice(key.strip_suffix(b"/").unwrap_or(key));
        bytes.push(0);
        bytes.extend_from_slice(leaf.id.as_slice());
    }
    bytes
}

/// One folder: its object (none while it has unwritten changes) and its entries (none until somebody looks).
#[derive(Clone, Debug, Default)]
struct Folder {
    id: Option<ObjectId>,
    entries: Option<BTreeMap<Vec<u8>, Entry>>,
}

#[derive(Clone, Debug)]
enum Entry {
    Leaf(Leaf),
    Folder(Folder),
}

impl Folder {
    fn stored(id: ObjectId) -> Self {
        Self { id: Some(id), entries: None }
    }

    fn load(&mut self, trees: &dyn Trees) -> Result<&mut BTreeMap<Vec<u8>, Entry>, WorkError> {
        if self.entries.is_none() {
            let raw = match self.id {
                Some(id) => trees.tree(id)?,
                None => RawTree::new(),
            };
            let entry = |leaf: Leaf| {
                if leaf.mode == FOLDER { Entry::Folder(Self::stored(leaf.id)) } else { Entry::Leaf(leaf) }
            };
            self.entries = Some(raw.into_iter().map(|(name, leaf)| (name, entry(leaf))).collect());
        }
        Ok(self.entries.get_or_insert_default())
    }

    fn get(&mut self, path: &[&str], trees: &dyn Trees) -> Result<Option<Leaf>, WorkError> {
        let entries = self.load(trees)?;
        match path {
            [] => Ok(None),
            [name] => Ok(match entries.get(name.as_bytes()) {
                Some(Entry::Leaf(leaf)) => Some(*leaf),
                _ => None,
            }),
            [name, rest @ ..] => match entries.get_mut(&folder_key(name)) {
                Some(Entry::Folder(folder)) => folder.get(rest, trees),
                _ => Ok(None),
            },
        }
    }

    /// Sets or removes one file; tells whether anything changed.
    fn set(&mut self, path: &[&str], leaf: Option<Leaf>, trees: &dyn Trees) -> Result<bool, WorkError> {
        let entries = self.load(trees)?;
        let changed = match (path, leaf) {
            ([], _) => false,
            ([name], Some(leaf)) => {
                let folder = entries.remove(&folder_key(name)).is_some();
                let before = entries.insert(name.as_bytes().to_vec(), Entry::Leaf(leaf));
                folder || !matches!(before, Some(Entry::Leaf(old)) if old == leaf)
            }
            ([name], None) => entries.remove(name.as_bytes()).is_some(),
            ([name, rest @ ..], leaf) => {
                let key = folder_key(name);
                if leaf.is_none() && !entries.contains_key(&key) {
                    return Ok(false);
                }
                let file = leaf.is_some() && entries.remove(name.as_bytes()).is_some();
                let child = entries.entry(key.clone()).or_insert_with(|| Entry::Folder(Self::default()));
                let Entry::Folder(folder) = child else { return Ok(file) };
                let changed = folder.set(rest, leaf, trees)?;
                // Git knows no empty folders.
                if folder.entries.as_ref().is_some_and(BTreeMap::is_empty) {
                    entries.remove(&key);
                }
                changed || file
            }
        };
        if changed {
            self.id = None;
        }
        Ok(changed)
    }

    /// Writes what changed; `None` for an empty folder.
    fn write(&mut self, path: &[u8], sink: &mut dyn Sink) -> Result<Option<ObjectId>, WorkError> {
        if self.id.is_some() {
            return Ok(self.id);
        }
        let Some(entries) = &mut self.entries else { return Ok(None) };
        let mut raw = Vec::with_capacity(entries.len());
        for (name, entry) in entries.iter_mut() {
            match entry {
                Entry::Leaf(leaf) => raw.push((name.as_slice(), *leaf)),
                Entry::Folder(folder) => {
                    let path = [path, name.as_slice()].concat();
                    if let Some(id) = folder.write(&path, sink)? {
                        raw.push((name.as_slice(), Leaf { mode: FOLDER, id }));
                    }
                }
            }
        }
        if raw.is_empty() {
            return Ok(None);
        }
        let id = sink.put_tree(path, serialize(raw.iter().copied()))?;
        self.id = Some(id);
        Ok(self.id)
    }

    /// The folder at a path, if there is one.
    fn below(&mut self, path: &[&str], trees: &dyn Trees) -> Result<Option<&mut Self>, WorkError> {
        let [name, rest @ ..] = path else { return Ok(Some(self)) };
        match self.load(trees)?.get_mut(&folder_key(name)) {
            Some(Entry::Folder(folder)) => folder.below(rest, trees),
            _ => Ok(None),
        }
    }

    /// Forgets the entries of the folders below, as far as they are written.
    fn fold(&mut self) {
        for entry in self.entries.iter_mut().flat_map(BTreeMap::values_mut) {
            match entry {
                Entry::Folder(folder) if folder.id.is_some() => folder.entries = None,
                Entry::Folder(folder) => folder.fold(),
                Entry::Leaf(_) => {}
            }
        }
    }

    fn files(&mut self, prefix: &str, trees: &dyn Trees, out: &mut Vec<(String, Leaf)>) -> Result<(), WorkError> {
        for (name, entry) in self.load(trees)? {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let path = format!("{prefix}{name}");
            match entry {
                Entry::Leaf(leaf) => out.push((path, *leaf)),
                Entry::Folder(folder) => folder.files(&path, trees, out)?,
            }
        }
        Ok(())
    }
}

fn folder_key(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"/"].concat()
}

/// A whole repository's tree of which only the published folders can be edited.
#[derive(Clone, Debug, Default)]
pub struct SafeTree {
    /// What is not ours, and stays as it is.
    others: RawTree,
    safe: BTreeMap<&'static str, Folder>,
}

impl SafeTree {
    /// The tree of `root`; empty without one (an unborn branch).
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn open(root: Option<ObjectId>, trees: &dyn Trees) -> Result<Self, WorkError> {
        let mut others = match root {
            Some(id) => trees.tree(id)?,
            None => RawTree::new(),
        };
        let mut safe = BTreeMap::new();
        for name in SAFE {
            let folder = others.remove(&folder_key(name)).map(|leaf| Folder::stored(leaf.id)).unwrap_or_default();
            safe.insert(name, folder);
        }
        Ok(Self { others, safe })
    }

    fn folder(&mut self, name: &str) -> Option<&mut Folder> {
        self.safe.get_mut(name)
    }

    /// What stands at a path; `None` where there is no file.
    ///
    /// # Errors
    /// When a tree on the way cannot be read.
    pub fn get(&mut self, path: &SafePath, trees: &dyn Trees) -> Result<Option<Leaf>, WorkError> {
        let (top, rest) = path.split();
        self.folder(top).map_or(Ok(None), |folder| folder.get(&rest, trees))
    }

    /// Puts a file; tells whether that changed anything.
    ///
    /// # Errors
    /// When a tree on the way cannot be read.
    pub fn put(&mut self, path: &SafePath, leaf: Leaf, trees: &dyn Trees) -> Result<bool, WorkError> {
        let (top, rest) = path.split();
        self.folder(top).map_or(Ok(false), |folder| folder.set(&rest, Some(leaf), trees))
    }

    /// Removes a file, and the folders that this leaves empty; tells whether there was one.
    ///
    /// # Errors
    /// When a tree on the way cannot be read.
    pub fn remove(&mut self, path: &SafePath, trees: &dyn Trees) -> Result<bool, WorkError> {
        let (top, rest) = path.split();
        self.folder(top).map_or(Ok(false), |folder| folder.set(&rest, None, trees))
    }

    /// What stands directly in a folder, in git's order: each name, and what it is; `None` stands for a folder. Nothing
    /// where there is no such folder. Names that are no UTF-8 are left out.
    ///
    /// # Errors
    /// When a tree on the way cannot be read.
    pub fn list(&mut self, path: &str, trees: &dyn Trees) -> Result<Vec<(String, Option<Leaf>)>, WorkError> {
        let mut parts = path.split('/');
        let top = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        let Some(folder) = self.folder(top) else { return Ok(Vec::new()) };
        let Some(folder) = folder.below(&rest, trees)? else { return Ok(Vec::new()) };
        let named = |(name, entry): (&Vec<u8>, &mut Entry)| {
            let name = std::str::from_utf8(name).ok()?;
            Some(match entry {
                Entry::Leaf(leaf) => (name.to_owned(), Some(*leaf)),
                Entry::Folder(_) => (name.trim_end_matches('/').to_owned(), None),
            })
        };
        Ok(folder.load(trees)?.iter_mut().filter_map(named).collect())
    }

    /// Lets go of what is held in memory of the folders below a published one, as far as it is written. It is read
    /// again when somebody looks.
    pub fn fold(&mut self, top: &str) {
        if let Some(folder) = self.folder(top) {
            folder.fold();
        }
    }

    /// Every file beneath one of the published folders.
    ///
    /// # Errors
    /// When a tree cannot be read.
    pub fn files(&mut self, top: &str, trees: &dyn Trees) -> Result<Vec<(String, Leaf)>, WorkError> {
        let mut out = Vec::new();
        if let Some(folder) = self.folder(top) {
            folder.files(&format!("{top}/"), trees, &mut out)?;
        }
        Ok(out)
    }

    /// Writes the trees that changed and returns the root's id.
    ///
    /// # Errors
    /// When the sink refuses.
    pub fn write(&mut self, sink: &mut dyn Sink) -> Result<ObjectId, WorkError> {
        let mut root = self.others.clone();
        for (name, folder) in &mut self.safe {
            let key = folder_key(name);
            if let Some(id) = folder.write(&key, sink)? {
                // A file or link in the place of one of our folders gives way.
                root.remove(name.as_bytes());
                root.insert(key, Leaf { mode: FOLDER, id });
            }
        }
        sink.put_tree(b"", serialize(root.iter().map(|(name, leaf)| (name.as_slice(), *leaf))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Memory {
        trees: HashMap<ObjectId, Vec<u8>>,
        written: usize,
    }

    impl Trees for Memory {
        fn tree(&self, id: ObjectId) -> Result<RawTree, WorkError> {
            Ok(parse(&self.trees[&id], Kind::Sha1)?)
        }
    }

    impl Sink for Memory {
        fn put_tree(&mut self, _: &[u8], bytes: Vec<u8>) -> Result<ObjectId, WorkError> {
            let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Tree, &bytes).unwrap();
            self.written += 1;
            self.trees.insert(id, bytes);
            Ok(id)
        }
    }

    fn leaf(byte: u8) -> Leaf {
        Leaf { mode: FILE, id: ObjectId::try_from([byte; 20].as_slice()).unwrap() }
    }

    fn path(text: &str) -> SafePath {
        SafePath::parse(text).unwrap()
    }

    #[test]
    fn folders_sort_as_git_sorts_them() {
        let mut raw = RawTree::new();
        for name in ["a.b", "a/", "a0", "a"] {
            let mode = if name.ends_with('/') { FOLDER } else { FILE };
            raw.insert(name.as_bytes().to_vec(), Leaf { mode, ..leaf(1) });
        }
        let names: Vec<_> = raw.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, ["a", "a.b", "a/", "a0"]);
        let serialized = |raw: &RawTree| serialize(raw.iter().map(|(n, l)| (n.as_slice(), *l)));
        assert_eq!(parse(&serialized(&raw), Kind::Sha1).unwrap(), raw);
        assert!(parse(&serialized(&raw), Kind::Sha256).is_err(), "ids are longer there");
        let long = ObjectId::empty_blob(Kind::Sha256);
        raw.values_mut().for_each(|leaf| leaf.id = long);
        assert_eq!(parse(&serialized(&raw), Kind::Sha256).unwrap(), raw);
    }

    #[test]
    fn what_is_not_ours_is_carried_along() {
        let mut memory = Memory::default();
        let mut raw = RawTree::new();
        raw.insert(b"README".to_vec(), leaf(9));
        raw.insert(b"src/".to_vec(), Leaf { mode: FOLDER, ..leaf(8) });
        let root = memory.put_tree(b"", serialize(raw.iter().map(|(n, l)| (n.as_slice(), *l)))).unwrap();
        let mut tree = SafeTree::open(Some(root), &memory).unwrap();
        tree.put(&path("results/a.json"), leaf(1), &memory).unwrap();
        let new = tree.write(&mut memory).unwrap();
        let new = memory.tree(new).unwrap();
        assert_eq!(new[b"README".as_slice()], leaf(9));
        assert_eq!(new[b"src/".as_slice()].id, leaf(8).id);
        assert_eq!(new.len(), 3);
    }

    #[test]
    fn a_change_rewrites_only_the_folders_above_it() {
        let mut memory = Memory::default();
        let mut tree = SafeTree::default();
        tree = SafeTree::open(None, &memory).unwrap_or(tree);
        tree.put(&path("results/a"), leaf(1), &memory).unwrap();
        tree.put(&path("logs/2026/x"), leaf(2), &memory).unwrap();
        tree.write(&mut memory).unwrap();
        memory.written = 0;
        assert!(tree.put(&path("results/b"), leaf(3), &memory).unwrap());
        tree.write(&mut memory).unwrap();
        assert_eq!(memory.written, 2, "results/ and the root");
        assert!(!tree.put(&path("results/b"), leaf(3), &memory).unwrap(), "the same again changes nothing");
    }

    #[test]
    fn removing_the_last_file_removes_its_folders_and_the_tree_reads_back() {
        let mut memory = Memory::default();
        let mut tree = SafeTree::open(None, &memory).unwrap();
        tree.put(&path("logs/2026/x"), leaf(2), &memory).unwrap();
        tree.put(&path("results/a"), leaf(1), &memory).unwrap();
        let root = tree.write(&mut memory).unwrap();
        let mut tree = SafeTree::open(Some(root), &memory).unwrap();
        assert_eq!(tree.get(&path("logs/2026/x"), &memory).unwrap(), Some(leaf(2)));
        assert!(tree.remove(&path("logs/2026/x"), &memory).unwrap());
        assert!(!tree.remove(&path("logs/2026/x"), &memory).unwrap());
        let root = tree.write(&mut memory).unwrap();
        let names: Vec<_> = memory.tree(root).unwrap().into_keys().collect();
        assert_eq!(names, [b"results/".to_vec()]);
    }

    #[test]
    fn a_folder_that_is_folded_is_read_again_and_unwritten_changes_stay() {
        let mut memory = Memory::default();
        let mut tree = SafeTree::open(None, &memory).unwrap();
        for (at, byte) in [("results/2026/a", 1), ("results/2025/b", 2), ("results/c", 3)] {
            tree.put(&path(at), leaf(byte), &memory).unwrap();
        }
        tree.fold("results");
        assert_eq!(tree.get(&path("results/2026/a"), &memory).unwrap(), Some(leaf(1)), "not written yet");
        tree.write(&mut memory).unwrap();
        tree.put(&path("results/2026/d"), leaf(4), &memory).unwrap();
        tree.fold("results");
        let Entry::Folder(folded) = &tree.safe["results"].entries.as_ref().unwrap()[b"2025/".as_slice()] else {
            panic!()
        };
        assert!(folded.entries.is_none());
        let names = |tree: &mut SafeTree, at: &str| tree.list(at, &memory).unwrap();
        assert_eq!(names(&mut tree, "results/2025"), [("b".to_owned(), Some(leaf(2)))]);
        assert_eq!(names(&mut tree, "results/2026").len(), 2);
        let top: Vec<_> = names(&mut tree, "results").into_iter().map(|(name, it)| (name, it.is_some())).collect();
        assert_eq!(top, [("2025".to_owned(), false), ("2026".to_owned(), false), ("c".to_owned(), true)]);
        assert!(names(&mut tree, "results/c").is_empty() && names(&mut tree, "nothing/at/all").is_empty());
    }

    #[test]
    fn malformed_trees_are_refused() {
        for bytes in [b"100644 a".as_slice(), b"xyz a\0", b"100644 a\0short"] {
            assert!(parse(bytes, Kind::Sha1).is_err() && parse(bytes, Kind::Sha256).is_err());
        }
    }
}
