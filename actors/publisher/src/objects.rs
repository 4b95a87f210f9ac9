//! The one place through which objects are read and written.
//!
//! Reading goes through gix. Writing collects a pack in memory; [`Store::flush`] makes it durable, and only then may a
//! reference name what is in it. Nothing here moves a reference.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::objs::Kind;

use crate::error::WorkError;
use crate::housekeeping::KEEP_NOTE;
use crate::pack::Packer;
use crate::tree::{self, RawTree, Sink, Trees};

/// Memory that unwritten objects may take before they are written as a pack of their own.
const FLUSH_BYTES: usize = 16 << 20;

/// A blob that is larger is not read into memory.
pub const MAX_BLOB_BYTES: u64 = 64 << 20;

/// What all commits are akin as; no path begins with a slash.
const COMMITS: &[u8] = b"//";

/// What a file resembles: others of its kind in its folder, `results/*.integrity.json`; in a folder below, its own
/// versions.
fn kin(path: &str) -> String {
    let (folder, name) = path.split_once('/').unwrap_or(("", path));
    if name.contains('/') {
        return path.to_owned();
    }
    let kind = match name.strip_suffix(".integrity.json") {
        Some(_) => "integrity.json",
        None => name.rsplit_once('.').map(|(_, kind)| kind).unwrap_or_default(),
    };
    format!("{folder}/*.{kind}")
}

/// A repository's objects.
pub struct Store {
    repo: gix::Repository,
    folder: PathBuf,
    packer: Packer,
    /// Notes that keep the packs that no reference names yet.
    kept: Vec<PathBuf>,
    /// Bytes of objects that were read from the repository since it was opened.
    read: Cell<usize>,
}

impl Store {
    /// The objects of an opened repository.
    #[must_use]
    pub fn new(repo: gix::Repository) -> Self {
        let folder = repo.objects.store_ref().path().join("pack");
        let packer = Packer::new(repo.object_hash());
        Self { repo, folder, packer, kept: Vec::new(), read: Cell::new(0) }
    }

    /// By what this repository's objects are named.
    #[must_use]
    pub fn ids(&self) -> gix::hash::Kind {
        self.repo.object_hash()
    }

    /// The name that a file of these bytes has here, or would have.
    ///
    /// # Errors
    /// When hashing fails, which it does not.
    pub fn id_of(&self, bytes: &[u8]) -> Result<ObjectId, WorkError> {
        gix::objs::compute_hash(self.ids(), Kind::Blob, bytes).map_err(|e| WorkError::object("new", e))
    }

    /// The repository.
    #[must_use]
    pub fn repo(&self) -> &gix::Repository {
        &self.repo
    }

    /// Bytes of objects that were read from the repository since it was opened.
    #[must_use]
    pub fn bytes_read(&self) -> usize {
        self.read.get()
    }

    /// Goes on with the same repository, opened anew: the library lets go of no pack that it has mapped.
    pub fn opened_anew(&mut self, repo: gix::Repository) {
        self.repo = repo;
        self.read.set(0);
    }

    /// Forgets what was added and not yet written.
    pub fn discard(&mut self) {
        self.packer = Packer::new(self.ids());
        self.named();
    }

    /// What was written is named by a reference now, or never will be: it needs no keeping any more.
    pub fn named(&mut self) {
        for note in self.kept.drain(..) {
            if let Err(error) = fs::remove_file(&note) {
                tracing::debug!(note = %note.display(), %error, "removed at the next start");
            }
        }
    }

    /// Adds a blob; `path` is where it belongs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn blob(&mut self, path: &str, bytes: Vec<u8>) -> Result<ObjectId, WorkError> {
        self.add(Kind::Blob, Some(kin(path).as_bytes()), bytes)
    }

    /// Adds a commit.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn commit(&mut self, bytes: Vec<u8>) -> Result<ObjectId, WorkError> {
        self.add(Kind::Commit, Some(COMMITS), bytes)
    }

    fn add(&mut self, kind: Kind, kin: Option<&[u8]>, bytes: Vec<u8>) -> Result<ObjectId, WorkError> {
        let id = self.packer.add(kind, kin, bytes)?;
        if self.packer.weight() > FLUSH_BYTES {
            self.flush()?;
        }
        Ok(id)
    }

    /// An object's bytes.
    ///
    /// # Errors
    /// When it is missing, damaged, or of another kind.
    pub fn read(&self, id: ObjectId, kind: Kind) -> Result<Vec<u8>, WorkError> {
        if let Some(body) = self.packer.body(&id) {
            return Ok(body.to_vec());
        }
        let mut object = self.repo.find_object(id).map_err(|e| WorkError::object(id, e))?;
        self.read.set(self.read.get() + object.data.len());
        if object.kind != kind {
            return Err(WorkError::object(id, format!("is a {}, not a {kind}", object.kind)));
        }
        Ok(std::mem::take(&mut object.data))
    }

    /// A tree's bytes; `None` where the object is none.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn tree_bytes(&self, id: ObjectId) -> Result<Option<Vec<u8>>, WorkError> {
        if id.is_empty_tree() {
            return Ok(Some(Vec::new()));
        }
        if self.kind(id)? == Kind::Tree { self.read(id, Kind::Tree).map(Some) } else { Ok(None) }
    }

    /// What kind of object that is, without reading it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn kind(&self, id: ObjectId) -> Result<Kind, WorkError> {
        self.repo.find_header(id).map(|header| header.kind()).map_err(|e| WorkError::object(id, e))
    }

    /// A blob's size in bytes, without reading it.
    ///
    /// # Errors
    /// When it is missing.
    pub fn size(&self, id: ObjectId) -> Result<u64, WorkError> {
        self.repo.find_header(id).map(|header| header.size()).map_err(|e| WorkError::object(id, e))
    }

    /// Makes everything that was added durable, as one pack.
    ///
    /// # Errors
    /// When the disk refuses; nothing that was added can be relied upon then.
    pub fn flush(&mut self) -> Result<(), WorkError> {
        if self.packer.is_empty() {
            return Ok(());
        }
        let next = Packer::new(self.ids());
        let pack = std::mem::replace(&mut self.packer, next).finish()?;
        fs::create_dir_all(&self.folder).map_err(|e| WorkError::io(&self.folder, e))?;
        let name = format!("pack-{}", pack.id);
        // Somebody's `git gc --prune=now` would take what no reference names yet.
        let note = self.folder.join(format!("{name}.keep"));
        fs::write(&note, KEEP_NOTE).map_err(|e| WorkError::io(&note, e))?;
        self.kept.push(note);
        // Readers look for the index: it appears last.
        self.place(&pack.data, &format!("{name}.pack"))?;
        supervision::crash_point!("publisher.halfpacked");
        self.place(&pack.index, &format!("{name}.idx"))?;
        sync_folder(&self.folder)?;
        Ok(())
    }

    fn place(&self, bytes: &[u8], name: &str) -> Result<(), WorkError> {
        let temporary = self.folder.join(format!("tmp_bridge_{name}"));
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            let mut mode = file.metadata()?.permissions();
            mode.set_readonly(true);
            file.set_permissions(mode)?;
            file.sync_all()?;
            supervision::crash_point!("publisher.written");
            fs::rename(&temporary, self.folder.join(name))
        };
        write().map_err(|e| {
            // Left behind it would only take up room.
            let _gone = fs::remove_file(&temporary);
            WorkError::io(&temporary, e)
        })
    }
}

/// Makes a folder's entries durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), WorkError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| WorkError::io(folder, e))
}

impl Trees for Store {
    fn tree(&self, id: ObjectId) -> Result<RawTree, WorkError> {
        if id.is_empty_tree() {
            return Ok(RawTree::new());
        }
        Ok(tree::parse(&self.read(id, Kind::Tree)?, self.ids())?)
    }
}

impl Sink for Store {
    fn put_tree(&mut self, path: &[u8], bytes: Vec<u8>) -> Result<ObjectId, WorkError> {
        // No file's path ends with a slash: versions of a folder and of a file never mix.
        let path = if path.is_empty() { b"/" } else { path };
        self.add(Kind::Tree, Some(path), bytes)
    }
}
