//! A target's files, reached handle by handle beneath its root. It never follows a symbolic link, never blocks on a
//! FIFO, and never joins a path: each call to the system names one component in a folder that is already open.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use protocol::command::FileMode;
use protocol::digest::Sha256;
use protocol::path::RelativePath;
use protocol::reason::Reason;
use rustix::fs::OFlags;

use crate::siblings::{Names, Siblings};

/// The largest file that is read, in bytes: plan, diff and before-image hold it in memory.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// The most names of one folder that are compared when a new name is to be added.
pub const MAX_FOLDER_ENTRIES: usize = 1_000_000;
/// The permission bits that a file keeps.
const PERMISSION_BITS: u32 = 0o777;
/// The owner's execute bit, by which git tells its two modes apart.
const OWNER_EXECUTES: u32 = 0o100;

/// Why a path of the tree could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A component is a symbolic link.
    #[error("{path} is a symbolic link, and links are never followed")]
    Link {
        /// The component's path.
        path: String,
    },
    /// A file is needed here, or nothing, and there is something else.
    #[error("{path} is {kind}, not a regular file")]
    NotRegular {
        /// The path.
        path: String,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A parent is no folder.
    #[error("{path} is {kind}, so nothing can lie beneath it")]
    NotFolder {
        /// The parent's path.
        path: String,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A folder looks like a bare repository.
    #[error(
        "{path} looks like a bare git repository (HEAD beside objects/ and refs/, or beside commondir), which commands may not touch"
    )]
    BareRepository {
        /// The folder's path.
        path: String,
    },
    /// A new name and an existing one differ in case only.
    #[error("{path} differs from its existing sibling {sibling:?} in case only")]
    CaseClash {
        /// The new path.
        path: String,
        /// The sibling's name.
        sibling: String,
    },
    /// The file is larger than [`MAX_FILE_BYTES`], or all that is held together is too much.
    #[error("{path} {what}")]
    TooLarge {
        /// The path.
        path: String,
        /// What is too large, and the bound.
        what: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl TreeError {
    /// The contract's reason for it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Link { .. } => Reason::PathEscape,
            Self::NotRegular { .. } | Self::NotFolder { .. } => Reason::PreconditionFailed,
            Self::BareRepository { .. } | Self::CaseClash { .. } => Reason::PathDenied,
            Self::TooLarge { .. } => Reason::LimitExceeded,
            Self::Io { .. } => Reason::IoError,
        }
    }

    pub(crate) fn io(path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}

/// A regular file: all that the bridge knows and keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its content.
    pub content: Arc<[u8]>,
    /// Its permission bits.
    pub bits: u32,
}

impl Image {
    /// The mode that git would keep.
    #[must_use]
    pub const fn mode(&self) -> FileMode {
        if self.bits & OWNER_EXECUTES == 0 { FileMode::Regular } else { FileMode::Executable }
    }

    /// Hash of the content.
    #[must_use]
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(&self.content)
    }

    /// Whether git would see no difference.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.mode() == other.mode() && self.content == other.content
    }
}

/// A folder on the way to a path.
#[derive(Debug)]
pub enum Folder {
    /// It is there.
    Open(Dir),
    /// It is not: the path of its first missing ancestor, which may be itself.
    Missing(String),
}

/// The tree beneath a root that is held open.
#[derive(Debug)]
pub struct Tree {
    root: Dir,
    siblings: Arc<Siblings>,
}

impl Tree {
    /// The tree beneath `root`.
    #[must_use]
    pub fn new(root: Dir) -> Self {
        Self::remembering(root, Arc::default())
    }

    /// The tree beneath `root`, with what is remembered of folders from one command to the next.
    #[must_use]
    pub const fn remembering(root: Dir, siblings: Arc<Siblings>) -> Self {
        Self { root, siblings }
    }

    /// Whether the names in `folder` are remembered as they are.
    pub(crate) fn is_remembered(&self, folder: &Dir) -> bool {
        self.siblings.is_current(folder)
    }

    /// Forgets all names: this program changed folders in a way that it does not note.
    pub(crate) fn forget(&self) {
        self.siblings.forget();
    }

    /// Notes which names this program made or took away in `folder`.
    pub(crate) fn note(&self, folder: &Dir, changes: &[(&str, bool)]) {
        self.siblings.note(folder, changes);
    }

    /// The tree beneath the folder `root`.
    ///
    /// # Errors
    /// A [`TreeError::Io`] where it cannot be opened as a folder.
    pub fn open(root: &Path) -> Result<Self, TreeError> {
        let shown = root.display().to_string();
        Dir::open_ambient_dir(root, ambient_authority()).map(Self::new).map_err(TreeError::io(&shown))
    }

    /// The root itself.
    #[must_use]
    pub const fn root(&self) -> &Dir {
        &self.root
    }

    /// Opens the folder that holds `path`.
    ///
    /// # Errors
    /// A [`TreeError`] on the first component that is no plain folder, or that looks like a bare repository.
    pub fn parent(&self, path: &RelativePath) -> Result<Folder, TreeError> {
        let mut folder = self.root.try_clone().map_err(TreeError::io("."))?;
        let mut walked = String::new();
        refuse_bare(&folder, ".")?;
        let mut components = path.components();
        components.next_back();
        for name in components {
            if !walked.is_empty() {
                walked.push('/');
            }
            walked.push_str(name);
            folder = match open_in(&folder, name, &walked)? {
                Some(next) => next,
                None => return Ok(Folder::Missing(walked)),
            };
        }
        Ok(Folder::Open(folder))
    }

    /// Opens the folder at `path`, which must be there; `None` is the root.
    ///
    /// # Errors
    /// A [`TreeError`] where it is missing, or a component is no plain folder.
    pub fn folder(&self, path: Option<&RelativePath>) -> Result<Dir, TreeError> {
        let Some(path) = path else { return self.root.try_clone().map_err(TreeError::io(".")) };
        let missing = || TreeError::io(path.as_str())(io::Error::new(io::ErrorKind::NotFound, "the folder is gone"));
        let Folder::Open(parent) = self.parent(path)? else { return Err(missing()) };
        open_in(&parent, path.file_name(), path.as_str())?.ok_or_else(missing)
    }

    /// What is at `path`: `None` where nothing is, not even a parent.
    ///
    /// # Errors
    /// A [`TreeError`] where a component is a link, a parent no folder, or the system refuses.
    pub fn look(&self, path: &RelativePath) -> Result<Option<Metadata>, TreeError> {
        let Folder::Open(folder) = self.parent(path)? else { return Ok(None) };
        let metadata = match folder.symlink_metadata(path.file_name()) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TreeError::io(path.as_str())(error)),
        };
        if metadata.is_symlink() {
            return Err(TreeError::Link { path: path.to_string() });
        }
        Ok(Some(metadata))
    }

    /// Reads the regular file at `path`; `None` where nothing is.
    ///
    /// # Errors
    /// A [`TreeError`] where something else is there, or it is too large, or the system refuses.
    pub fn read(&self, path: &RelativePath) -> Result<Option<Image>, TreeError> {
        match self.parent(path)? {
            Folder::Open(folder) => read_in(&folder, path.file_name(), path.as_str()),
            Folder::Missing(_) => Ok(None),
        }
    }

    /// The names in the folder that holds `path`; none where there is no such folder.
    ///
    /// # Errors
    /// A [`TreeError`] as for [`Tree::parent`], and where the folder holds more than [`MAX_FOLDER_ENTRIES`].
    pub fn siblings(&self, path: &RelativePath) -> Result<Arc<Names>, TreeError> {
        let Folder::Open(folder) = self.parent(path)? else { return Ok(Arc::default()) };
        let names = self.siblings.names(&folder, || list(&folder, path).map_err(Listing::Tree));
        names.map_err(|error| match error {
            Listing::Tree(error) => error,
            Listing::Io(error) => TreeError::io(path.as_str())(error),
        })
    }
}

/// Opens the folder `name` of `folder`, unless it looks like a bare repository; `None` where nothing is. `path` is what
/// messages call it.
pub(crate) fn open_in(folder: &Dir, name: &str, path: &str) -> Result<Option<Dir>, TreeError> {
    match folder.open_dir_nofollow(name) {
        Ok(found) => refuse_bare(&found, path).map(|()| Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(explain(folder, name, path.to_owned(), error)),
    }
}

/// Why a folder could not be listed.
enum Listing {
    Tree(TreeError),
    Io(io::Error),
}

impl From<io::Error> for Listing {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The names in `folder`, which holds `path`.
fn list(folder: &Dir, path: &RelativePath) -> Result<Vec<OsString>, TreeError> {
    let mut names = Vec::new();
    for entry in folder.entries().map_err(TreeError::io(path.as_str()))? {
        if names.len() >= MAX_FOLDER_ENTRIES {
            let what = format!("lies in a folder of more than {MAX_FOLDER_ENTRIES} entries");
            return Err(TreeError::TooLarge { path: path.to_string(), what });
        }
        names.push(entry.map_err(TreeError::io(path.as_str()))?.file_name());
    }
    Ok(names)
}

/// Reads the regular file `name` of `folder`; `path` is what messages call it.
pub(crate) fn read_in(folder: &Dir, name: impl AsRef<Path>, path: &str) -> Result<Option<Image>, TreeError> {
    let name = name.as_ref();
    let mut options = OpenOptions::new();
    // Without NONBLOCK, opening a FIFO would wait for a writer that may never come.
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    options.read(true).follow(FollowSymlinks::No).custom_flags(nonblock);
    // A device may act on being opened, so the entry is looked at first; the handle is judged again below.
    match folder.symlink_metadata(name) {
        Ok(metadata) => refuse_irregular(&metadata, path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TreeError::io(path)(error)),
    }
    let file = match folder.open_with(name, &options) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(explain(folder, name, path.to_owned(), error)),
    };
    let metadata = file.metadata().map_err(TreeError::io(path))?;
    refuse_irregular(&metadata, path)?;
    let mut content = Vec::with_capacity(usize::try_from(metadata.len().min(MAX_FILE_BYTES)).unwrap_or_default());
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(TreeError::io(path))?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        let what = format!("is larger than the {MAX_FILE_BYTES} bytes that the bridge reads of a file");
        return Err(TreeError::TooLarge { path: path.to_owned(), what });
    }
    Ok(Some(Image { content: content.into(), bits: metadata.mode() & PERMISSION_BITS }))
}

/// What an entry is, with its article.
fn kind(metadata: &Metadata) -> &'static str {
    match metadata {
        it if it.is_symlink() => "a symbolic link",
        it if it.is_dir() => "a folder",
        it if it.is_file() => "a file",
        _ => "a FIFO, socket or device",
    }
}

fn refuse_irregular(metadata: &Metadata, path: &str) -> Result<(), TreeError> {
    if metadata.is_symlink() {
        return Err(TreeError::Link { path: path.to_owned() });
    }
    if !metadata.is_file() {
        return Err(TreeError::NotRegular { path: path.to_owned(), kind: kind(metadata) });
    }
    Ok(())
}

/// Why `name` of `folder` could not be opened: the error alone does not tell a link from a file in the way.
fn explain(folder: &Dir, name: impl AsRef<Path>, path: String, error: io::Error) -> TreeError {
    match folder.symlink_metadata(name) {
        Ok(found) if found.is_symlink() => TreeError::Link { path },
        Ok(found) if !found.is_dir() && error.kind() == io::ErrorKind::NotADirectory => {
            TreeError::NotFolder { path, kind: kind(&found) }
        }
        _ => TreeError::Io { path, source: error },
    }
}

/// Refuses a folder that git would take for a bare repository, with a configuration that can name programs to run. Git
/// looks for `objects/` and `refs/` in the folder itself, or in the one that its file `commondir` names.
fn refuse_bare(folder: &Dir, path: &str) -> Result<(), TreeError> {
    let is_there = |name| folder.symlink_metadata(name).is_ok();
    let is_folder = |name| folder.symlink_metadata(name).is_ok_and(|it| it.is_dir() || it.is_symlink());
    if is_there("HEAD") && (is_there("commondir") || is_folder("objects") && is_folder("refs")) {
        return Err(TreeError::BareRepository { path: path.to_owned() });
    }
    Ok(())
}
