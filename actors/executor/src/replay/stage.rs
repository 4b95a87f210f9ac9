//! A stand-in for a tree, in a temporary folder: the files that a command names with their content, and beside them,
//! empty, whatever else lies in the same folders, because the dry run looks at the names there.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, Permissions, PermissionsExt as _};
use protocol::path::RelativePath;

use crate::take_back::Undone;
use crate::tree::{Image, MAX_FOLDER_ENTRIES, Tree, TreeError};

/// What a stand-in stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file that the command does not name.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, wherever it leads.
    Link,
}

/// The stand-in; its folder goes with it.
#[derive(Debug)]
pub struct Stage {
    folder: tempfile::TempDir,
    root: Dir,
    named: BTreeSet<String>,
    /// The folders above what is named; `""` is the root.
    above: BTreeSet<String>,
}

impl Stage {
    /// An empty one for a command that names `paths`.
    ///
    /// # Errors
    /// When no temporary folder can be made.
    pub fn new(paths: &[RelativePath]) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ghost-bridge-replay-").tempdir()?;
        let root = Dir::open_ambient_dir(folder.path(), ambient_authority())?;
        let named = paths.iter().map(RelativePath::to_string).collect();
        let above = paths.iter().flat_map(|path| std::iter::successors(path.parent(), RelativePath::parent));
        let above = above.map(|folder| folder.to_string()).chain([String::new()]).collect();
        Ok(Self { folder, root, named, above })
    }

    /// Its root folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the command names the file at `path`, so that its content is needed.
    #[must_use]
    pub fn needs(&self, path: &str) -> bool {
        self.named.contains(path)
    }

    /// Whether the command names something beneath the folder `path`.
    #[must_use]
    pub fn leads_through(&self, path: &str) -> bool {
        self.above.contains(path)
    }

    /// Puts a file there.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn file(&self, path: &str, image: &Image) -> io::Result<()> {
        self.parents(path)?;
        let mut file = self.root.open_with(path, OpenOptions::new().write(true).create_new(true))?;
        file.write_all(&image.content)?;
        file.set_permissions(Permissions::from_mode(image.bits))
    }

    /// Says that something of this kind is at `path`. What lies too deep to matter only makes its folder known.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn stand_in(&self, path: &str, kind: Kind) -> io::Result<()> {
        let mut end = 0;
        while let Some(length) = path.get(end..).and_then(|rest| rest.find('/')) {
            let folder = path.get(..end + length).unwrap_or_default();
            if !self.leads_through(folder) {
                return self.root.create_dir_all(folder);
            }
            end += length + 1;
        }
        self.parents(path)?;
        match kind {
            Kind::Folder => self.root.create_dir_all(path),
            Kind::Link => self.root.symlink("nowhere", path),
            Kind::File => self.root.open_with(path, OpenOptions::new().write(true).create_new(true)).map(drop),
        }
    }

    fn parents(&self, path: &str) -> io::Result<()> {
        path.rsplit_once('/').map_or(Ok(()), |(folder, _)| self.root.create_dir_all(folder))
    }

    /// Puts up `tree` as it was before the command that `undone` takes back.
    ///
    /// # Errors
    /// A [`TreeError`] where the tree cannot be read, or the stand-in cannot be written.
    pub fn put_back(&self, tree: &Tree, undone: &Undone) -> Result<(), TreeError> {
        let was: Vec<(&str, Option<&Image>)> =
            undone.iter().map(|(path, file)| (path.as_str(), file.before.as_ref())).collect();
        for (path, before) in &was {
            if let Some(image) = before {
                self.file(path, image).map_err(TreeError::io(path))?;
            }
        }
        let is_undone = |path: &str| was.binary_search_by(|(known, _)| (*known).cmp(path)).is_ok();
        for folder in &self.above {
            let Some(dir) = folder_of(tree, folder)? else { continue };
            for (number, entry) in dir.entries().map_err(TreeError::io(folder))?.enumerate() {
                let entry = entry.map_err(TreeError::io(folder))?;
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|_| number < MAX_FOLDER_ENTRIES) else { continue };
                let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                if is_undone(&path) {
                    continue;
                }
                self.copy(tree, &path, &entry.file_type().map_err(TreeError::io(&path))?)?;
            }
        }
        Ok(())
    }

    fn copy(&self, tree: &Tree, path: &str, kind: &cap_std::fs::FileType) -> Result<(), TreeError> {
        let fault = || TreeError::io(path);
        if kind.is_symlink() {
            return self.stand_in(path, Kind::Link).map_err(fault());
        }
        if kind.is_dir() {
            return self.stand_in(path, Kind::Folder).map_err(fault());
        }
        let named = RelativePath::parse(path).ok().filter(|_| self.needs(path) && kind.is_file());
        match named.map(|path| tree.read(&path)).transpose()?.flatten() {
            Some(image) => self.file(path, &image).map_err(fault()),
            None => self.stand_in(path, Kind::File).map_err(fault()),
        }
    }
}

/// The folder `path` of `tree`; none where no folder is there.
fn folder_of(tree: &Tree, path: &str) -> Result<Option<Dir>, TreeError> {
    let parsed = if path.is_empty() { None } else { RelativePath::parse(path).ok() };
    if parsed.is_none() && !path.is_empty() {
        return Ok(None);
    }
    if let Some(folder) = &parsed {
        match tree.look(folder) {
            Ok(Some(found)) if found.is_dir() => {}
            // A link on the way stands in its own folder, and the plan finds it there.
            Ok(_) | Err(TreeError::Link { .. } | TreeError::NotFolder { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    tree.folder(parsed.as_ref()).map(Some)
}
