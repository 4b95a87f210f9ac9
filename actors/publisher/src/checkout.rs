//! The work tree after a rebase: only the paths that upstream changed, and of those only the ones nobody changed here.
//!
//! Files come whole, by rename, in the folder they belong to, never through a symbolic link. The audit log and `meta/`
//! are written by the bridge alone and never checked out. What cannot stand here is left out, told once, and holds up
//! nothing: the index has it, so that `git status` says that it is missing. No filters, no line-ending conversion: bytes as they are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::objs::Kind;
use rustix::io::Errno;

use crate::config::{Checkout, Permits};
use crate::core::Core;
use crate::error::WorkError;
use crate::files::Found;
use crate::incoming::fits_work_tree;
use crate::merge::{Change, diff};
use crate::objects::MAX_BLOB_BYTES;
use crate::safe_path::is_ours;
use crate::tree::{EXECUTABLE, FILE, LINK, Leaf, SUBMODULE, canonical};

/// What a file system takes as a link's text is shorter.
const LINK_MAX_BYTES: u64 = 4_095;

/// The most paths that are told one by one.
const TOLD_MAX: usize = 20;

/// What became of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is as it should be.
    Done,
    /// It was as it was before, and was changed.
    Apply,
    /// Somebody here changed it, too.
    Apart,
    /// It cannot stand here; and why.
    Out(&'static str),
}

/// What was not brought into the work tree.
#[derive(Debug, Default)]
struct Left {
    /// Changed here, too, by a command or a person: they stand apart from upstream.
    apart: Vec<Vec<u8>>,
    /// What cannot stand here, or something is in its way; and why.
    out: Vec<(PathBuf, String)>,
}

impl Core {
    /// Brings what changed from `base` to `upstream` into the work tree.
    pub(crate) fn check_out(&mut self, base: Option<ObjectId>, upstream: ObjectId) -> Result<(), WorkError> {
        let old = base.map(|id| self.tree_of(id)).transpose()?;
        let new = self.tree_of(upstream)?;
        let merged = self.head.map(|id| self.tree_of(id)).transpose()?;
        let ours: BTreeSet<Vec<u8>> = diff(&self.store, Some(new), merged)?.into_iter().map(|c| c.path).collect();
        let mut folders = BTreeSet::new();
        let mut left = Left::default();
        for change in diff(&self.store, old, Some(new))? {
            // Where our own version won there is nothing to bring.
            if ours.contains(&change.path) || !self.is_wanted(&change) {
                continue;
            }
            let path = PathBuf::from(OsStr::from_bytes(&change.path));
            match self.check_out_one(&path, &change) {
                Ok(Verdict::Apply) => {
                    supervision::crash_point!("remote.file");
                    folders.extend(path.parent().map(Path::to_owned));
                }
                Ok(Verdict::Done) => {}
                Ok(Verdict::Apart) => left.apart.push(change.path),
                Ok(Verdict::Out(why)) => left.out.push((path, why.to_owned())),
                Err(WorkError::Io { source, .. }) if !is_passing(&source) => left.out.push((path, source.to_string())),
                Err(error) => return Err(error),
            }
        }
        for folder in &folders {
            // A folder that is gone again needs no syncing.
            if let Err(error) = self.root.sync(folder) {
                tracing::debug!(folder = %folder.display(), %error, "not synced");
            }
        }
        tell(&left);
        left.apart.iter().for_each(|path| self.apart.add(path));
        Ok(())
    }

    /// Whether a change of upstream's is for the work tree at all.
    fn is_wanted(&self, change: &Change) -> bool {
        let (path, mode) = (&change.path, change.new.or(change.old).map_or(FILE, |leaf| leaf.mode));
        let exchanged = [b"context/".as_slice(), b"summaries/"].iter().any(|folder| path.starts_with(folder));
        let wanted = match &self.config.checkout {
            Checkout::All => true,
            Checkout::Commands => is_command(path) || exchanged,
            Checkout::Allowed(Permits(permits)) => {
                is_command(path) || is_ours(path) || std::str::from_utf8(path).is_ok_and(|path| permits(path))
            }
        };
        wanted && fits_work_tree(path, mode)
    }

    fn check_out_one(&self, path: &Path, change: &Change) -> Result<Verdict, WorkError> {
        let io = |e| WorkError::io(self.root.path().join(path), e);
        let found = self.root.find(path).map_err(io)?;
        if self.stands(path, &found, change.new)? {
            return Ok(Verdict::Done);
        }
        if !self.stands(path, &found, change.old)? && !is_new_command(change, &found) {
            return Ok(if found == Found::Other {
                Verdict::Out("something else stands there")
            } else {
                Verdict::Apart
            });
        }
        let Some(leaf) = change.new else {
            self.root.remove(path).map_err(io)?;
            return Ok(Verdict::Apply);
        };
        let mode = canonical(leaf.mode);
        if mode == SUBMODULE {
            return Ok(Verdict::Out("it is a submodule"));
        }
        // A tree may call anything a file.
        if self.store.kind(leaf.id)? != Kind::Blob {
            return Ok(Verdict::Out("it is no file, although it is called one"));
        }
        let size = self.store.size(leaf.id)?;
        if mode == LINK {
            if is_ours(&change.path) || is_command(&change.path) {
                return Ok(Verdict::Out("it is a link in one of the bridge's folders"));
            }
            if size > LINK_MAX_BYTES {
                return Ok(Verdict::Out("it is a link that is longer than any path"));
            }
            self.root.link(path, &self.store.read(leaf.id, Kind::Blob)?).map_err(io)?;
            return Ok(Verdict::Apply);
        }
        if size > MAX_BLOB_BYTES {
            return Ok(Verdict::Out("it is too large"));
        }
        let bytes = self.store.read(leaf.id, Kind::Blob)?;
        self.root.write(path, &bytes, mode == EXECUTABLE).map_err(io)?;
        Ok(Verdict::Apply)
    }

    /// Whether exactly that stands there.
    pub(crate) fn stands(&self, path: &Path, found: &Found, leaf: Option<Leaf>) -> Result<bool, WorkError> {
        let Some(leaf) = leaf else { return Ok(*found == Found::Nothing) };
        let bytes = match found {
            Found::File { size, executable } => {
                let mode = if *executable { EXECUTABLE } else { FILE };
                if mode != canonical(leaf.mode) || *size > MAX_BLOB_BYTES || self.store.size(leaf.id)? != *size {
                    return Ok(false);
                }
                let read = self.root.read(path, MAX_BLOB_BYTES);
                read.map_err(|e| WorkError::io(self.root.path().join(path), e))?
            }
            Found::Link(target) if canonical(leaf.mode) == LINK => Some(target.clone()),
            _ => None,
        };
        let Some(bytes) = bytes else { return Ok(false) };
        Ok(self.store.id_of(&bytes)? == leaf.id)
    }
}

/// Told once, and not a line for each of a hundred thousand.
fn tell(left: &Left) {
    for path in left.apart.iter().take(TOLD_MAX) {
        let path = String::from_utf8_lossy(path);
        tracing::warn!(%path, "changed upstream and here: left as it is here, apart from the branch, until both agree");
    }
    for (path, why) in left.out.iter().take(TOLD_MAX) {
        tracing::warn!(path = %path.display(), why, "in the branch, and left out of the work tree");
    }
    let more = left.apart.len().saturating_sub(TOLD_MAX) + left.out.len().saturating_sub(TOLD_MAX);
    if more > 0 {
        tracing::warn!(more, "more were left as they are here, or left out of the work tree: git status names them");
    }
}

/// A command's file that is gone here was filed. If upstream has other content under its name, that is a new delivery.
fn is_new_command(change: &Change, found: &Found) -> bool {
    is_command(&change.path) && *found == Found::Nothing && change.new.is_some()
}

fn is_command(path: &[u8]) -> bool {
    path.starts_with(b"commands/")
}

/// Whether an error passes: then all waits and is done again. Any other comes from what upstream sent or from what stands
/// in the work tree, and holds up nothing but its own path.
pub(crate) fn is_passing(error: &std::io::Error) -> bool {
    const PASSING: [Errno; 14] = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::IO,
        Errno::ROFS,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::INTR,
        Errno::AGAIN,
        Errno::BUSY,
        Errno::STALE,
        Errno::TIMEDOUT,
        Errno::NODEV,
        Errno::NXIO,
    ];
    PASSING.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_waited_for_and_a_link_that_no_disk_takes_is_not() {
        let passes = |errno: Errno| is_passing(&errno.into());
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::ROFS, Errno::NOMEM, Errno::MFILE] {
            assert!(passes(errno), "{errno}");
        }
        for errno in
            [Errno::NOENT, Errno::NAMETOOLONG, Errno::INVAL, Errno::ILSEQ, Errno::LOOP, Errno::NOTDIR, Errno::PERM]
        {
            assert!(!passes(errno), "{errno}");
        }
        assert!(!is_passing(&std::io::ErrorKind::InvalidInput.into()), "a name with a NUL in it");
    }
}
