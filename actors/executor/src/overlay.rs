//! The tree as it would be: what a command changes, in memory, above what is on disk. It writes nothing.

use std::collections::hash_map::Entry as Entries;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use protocol::path::{RelativePath, fold};

use crate::siblings::Names;
use crate::tree::{Folder, Image, Tree, TreeError};

/// The most bytes of before- and after-images that one command may hold in memory.
pub const MAX_PLAN_BYTES: usize = 256 * 1024 * 1024;
/// The names that make a folder a bare repository in git's eyes, folded.
const BARE_NAMES: [&str; 4] = ["head", "objects", "refs", "commondir"];

/// One path that the command names.
#[derive(Debug)]
struct Entry {
    path: RelativePath,
    before: Option<Image>,
    now: Option<Image>,
    /// Where the file that is here now was before the command, if it was anywhere.
    origin: Option<RelativePath>,
}

/// One path whose file differs afterwards.
#[derive(Clone, Debug)]
pub struct Change {
    /// The path.
    pub path: RelativePath,
    /// The file before the command; `None` where there was none.
    pub before: Option<Image>,
    /// The file after it; `None` where there is none.
    pub after: Option<Image>,
    /// Where the file after it came from, if it came from another path.
    pub origin: Option<Origin>,
}

/// Where a moved file came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The path it had before the command.
    pub path: RelativePath,
    /// The file that was there.
    pub image: Image,
    /// Whether nothing is there afterwards.
    pub gone: bool,
}

/// The names in a folder.
#[derive(Debug)]
struct Level {
    on_disk: Arc<Names>,
    made: Names,
}

/// What a command makes of a tree.
#[derive(Debug)]
pub struct Overlay<'t> {
    tree: &'t Tree,
    entries: BTreeMap<String, Entry>,
    /// Folder → its names, of the folders that get new names.
    names: HashMap<String, Level>,
    held: usize,
}

impl<'t> Overlay<'t> {
    /// The tree, unchanged so far.
    #[must_use]
    pub fn new(tree: &'t Tree) -> Self {
        Self { tree, entries: BTreeMap::new(), names: HashMap::new(), held: 0 }
    }

    /// The file at `path` before the command.
    ///
    /// # Errors
    /// A [`TreeError`] where the path cannot be used.
    pub fn before(&mut self, path: &RelativePath) -> Result<Option<Image>, TreeError> {
        Ok(self.entry(path)?.before.clone())
    }

    /// The file at `path` now.
    ///
    /// # Errors
    /// A [`TreeError`] where the path cannot be used.
    pub fn now(&mut self, path: &RelativePath) -> Result<Option<Image>, TreeError> {
        Ok(self.entry(path)?.now.clone())
    }

    /// Whether a file may be put at `path`: no folder is there and no file above it, and no sibling's name differs from
    /// a new one in case only.
    ///
    /// # Errors
    /// The [`TreeError`] that says what is in the way.
    pub fn admit(&mut self, path: &RelativePath) -> Result<(), TreeError> {
        let mut above = path.parent();
        while let Some(ancestor) = above {
            if self.entries.get(ancestor.as_str()).is_some_and(|entry| entry.now.is_some()) {
                return Err(TreeError::NotFolder { path: ancestor.to_string(), kind: "a file" });
            }
            above = ancestor.parent();
        }
        let prefix = format!("{path}/");
        let beneath = self.entries.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        if beneath.into_iter().any(|(_, entry)| entry.now.is_some()) {
            return Err(TreeError::NotRegular { path: path.to_string(), kind: "a folder" });
        }
        let entry = self.entry(path)?;
        if entry.before.is_some() || entry.now.is_some() { Ok(()) } else { self.admit_names(path) }
    }

    /// Puts a file at an admitted `path`; a file that is there already is replaced, not followed by another.
    ///
    /// # Errors
    /// A [`TreeError`] where the path cannot be used or too much would be held.
    pub fn put(&mut self, path: &RelativePath, image: Image) -> Result<(), TreeError> {
        let entry = self.entry(path)?;
        let freed = entry.now.replace(image.clone()).map_or(0, |old| old.content.len());
        self.held = self.held.saturating_sub(freed);
        self.hold(path, image.content.len())
    }

    /// Takes the file at `path` away.
    ///
    /// # Errors
    /// A [`TreeError`] where the path cannot be used.
    pub fn remove(&mut self, path: &RelativePath) -> Result<(), TreeError> {
        let entry = self.entry(path)?;
        let freed = entry.now.take().map_or(0, |old| old.content.len());
        entry.origin = None;
        self.held = self.held.saturating_sub(freed);
        Ok(())
    }

    /// Where the file that is at `path` now was before the command, if it was anywhere.
    ///
    /// # Errors
    /// A [`TreeError`] where the path cannot be used.
    pub fn origin(&mut self, path: &RelativePath) -> Result<Option<RelativePath>, TreeError> {
        Ok(self.entry(path)?.origin.clone())
    }

    /// Says that the file at `path` is the one that was at `origin` before the command.
    ///
    /// # Errors
    /// A [`TreeError`] where the path cannot be used.
    pub fn set_origin(&mut self, path: &RelativePath, origin: Option<RelativePath>) -> Result<(), TreeError> {
        self.entry(path)?.origin = origin;
        Ok(())
    }

    /// Moves the file at `from` to the admitted path `to`.
    ///
    /// # Errors
    /// A [`TreeError`] where a path cannot be used or too much would be held.
    pub fn relocate(&mut self, from: &RelativePath, to: &RelativePath) -> Result<(), TreeError> {
        let entry = self.entry(from)?;
        let (image, origin) = (entry.now.clone(), entry.origin.clone());
        self.remove(from)?;
        if let Some(image) = image {
            self.put(to, image)?;
            self.entry(to)?.origin = origin;
        }
        Ok(())
    }

    /// The paths whose files differ afterwards, in path order.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let differs = |entry: &&Entry| match (&entry.before, &entry.now) {
            (None, None) => false,
            (Some(before), Some(now)) => !before.same_as(now),
            _ => true,
        };
        let change = |entry: &Entry| {
            let moved = entry.origin.as_ref().filter(|origin| **origin != entry.path);
            let source = moved.and_then(|origin| self.entries.get(origin.as_str()));
            let origin = source.and_then(|source| {
                Some(Origin { path: source.path.clone(), image: source.before.clone()?, gone: source.now.is_none() })
            });
            Change { path: entry.path.clone(), before: entry.before.clone(), after: entry.now.clone(), origin }
        };
        self.entries.values().filter(differs).map(change).collect()
    }

    /// The first folder that the changes turn into what git would take for a bare repository.
    ///
    /// # Errors
    /// A [`TreeError`] where a path cannot be looked at.
    pub fn new_bare_repository(&self, changes: &[Change]) -> Result<Option<String>, TreeError> {
        for change in changes.iter().filter(|change| change.before.is_none()) {
            let mut folder = String::new();
            for name in change.path.components() {
                if BARE_NAMES.contains(&fold(name).as_str()) && self.is_bare(&folder)? {
                    return Ok(Some(if folder.is_empty() { ".".to_owned() } else { folder }));
                }
                if !folder.is_empty() {
                    folder.push('/');
                }
                folder.push_str(name);
            }
        }
        Ok(None)
    }

    fn is_bare(&self, folder: &str) -> Result<bool, TreeError> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let live =
            |(key, entry): (&String, &Entry)| entry.now.as_ref().and_then(|_| key.strip_prefix(&prefix).map(fold));
        let keys: Vec<String> = self
            .entries
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter_map(live)
            .collect();
        let holds = |name: &str| {
            let is_planned =
                |key: &String| key.strip_prefix(name).is_some_and(|it| it.is_empty() || it.starts_with('/'));
            let on_disk = if name == "head" { "HEAD" } else { name };
            Ok::<bool, TreeError>(keys.iter().any(is_planned) || self.is_on_disk(&format!("{prefix}{on_disk}"))?)
        };
        // With a `commondir`, the other two are wherever that says.
        Ok(holds("head")? && (holds("commondir")? || holds("objects")? && holds("refs")?))
    }

    /// Whether something is at `path` on disk that the command leaves there.
    fn is_on_disk(&self, path: &str) -> Result<bool, TreeError> {
        if let Some(entry) = self.entries.get(path) {
            return Ok(entry.now.is_some());
        }
        let Ok(path) = RelativePath::parse(path) else { return Ok(false) };
        match self.tree.look(&path) {
            Ok(found) => Ok(found.is_some()),
            // A link counts: what it leads to is not looked at. A file above it was deleted by the command.
            Err(TreeError::Link { .. }) => Ok(true),
            Err(TreeError::NotFolder { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn entry(&mut self, path: &RelativePath) -> Result<&mut Entry, TreeError> {
        if !self.entries.contains_key(path.as_str()) {
            let before = if self.is_beneath_a_known_file(path) { None } else { self.tree.read(path)? };
            if let Some(image) = &before {
                // Held twice: as the before-image and as what is there now, until that is replaced.
                self.hold(path, image.content.len())?;
                self.held = self.held.saturating_add(image.content.len());
            }
            let origin = before.as_ref().map(|_| path.clone());
            let entry = Entry { path: path.clone(), now: before.clone(), before, origin };
            self.entries.insert(path.to_string(), entry);
        }
        // The insert above makes the entry: the default is never built.
        Ok(self.entries.entry(path.to_string()).or_insert_with(|| Entry {
            path: path.clone(),
            before: None,
            now: None,
            origin: None,
        }))
    }

    /// Whether a file on disk lies above `path`: then nothing is at `path` on disk, though the command may make room.
    fn is_beneath_a_known_file(&self, path: &RelativePath) -> bool {
        let ancestors = std::iter::successors(path.parent(), RelativePath::parent);
        ancestors.into_iter().any(|it| self.entries.get(it.as_str()).is_some_and(|entry| entry.before.is_some()))
    }

    fn hold(&mut self, path: &RelativePath, bytes: usize) -> Result<(), TreeError> {
        self.held = self.held.saturating_add(bytes);
        if self.held > MAX_PLAN_BYTES {
            let what = format!(
                "makes the files of this command more than the {MAX_PLAN_BYTES} bytes that one command may touch"
            );
            return Err(TreeError::TooLarge { path: path.to_string(), what });
        }
        Ok(())
    }

    /// Compares each component of `path` that is new with its siblings, on disk and of the command's own making; those
    /// that the command takes away count too, because a file system that ignores case would mix them up on the way.
    fn admit_names(&mut self, path: &RelativePath) -> Result<(), TreeError> {
        let known_to = match self.tree.parent(path) {
            Ok(Folder::Open(_)) => path.parent().map_or(0, |parent| parent.as_str().len()),
            Ok(Folder::Missing(first)) => first.len() - 1,
            Err(TreeError::NotFolder { path, .. }) => path.len(),
            Err(error) => return Err(error),
        };
        let mut new: Vec<RelativePath> = std::iter::successors(Some(path.clone()), RelativePath::parent).collect();
        new.retain(|it| it.as_str().len() > known_to);
        for it in new.into_iter().rev() {
            let folder = it.parent().map_or_else(String::new, |parent| parent.to_string());
            let level = match self.names.entry(folder) {
                Entries::Occupied(known) => known.into_mut(),
                Entries::Vacant(free) => {
                    let on_disk = match self.tree.siblings(&it) {
                        Err(TreeError::NotFolder { .. }) => Arc::default(),
                        other => other?,
                    };
                    free.insert(Level { on_disk, made: Names::new() })
                }
            };
            let (folded, name) = (fold(it.file_name()), it.file_name());
            let sibling = match level.on_disk.get(&folded) {
                Some(sibling) => sibling,
                None => level.made.entry(folded).or_insert_with(|| name.to_owned()),
            };
            if sibling != name {
                return Err(TreeError::CaseClash { path: it.to_string(), sibling: sibling.clone() });
            }
        }
        Ok(())
    }
}
