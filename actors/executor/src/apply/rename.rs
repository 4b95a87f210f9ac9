//! Renaming by handle, so that nothing that somebody else has put there in the meantime is replaced unseen.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use cap_std::fs::{Dir, MetadataExt as _};

use crate::tree::MAX_FOLDER_ENTRIES;

/// By which a file is known while it is there, whatever its name: device and inode.
pub(super) type FileId = (u64, u64);

/// Exchanges two files in one step.
pub(super) fn exchange(from: &Dir, name: impl AsRef<Path>, to: &Dir, other: impl AsRef<Path>) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    return Ok(rustix::fs::renameat_with(from, name.as_ref(), to, other.as_ref(), rustix::fs::RenameFlags::EXCHANGE)?);
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    return Err(io::ErrorKind::Unsupported.into());
}

/// Renames to a name that must be free.
pub(super) fn rename_to_free(from: &Dir, name: impl AsRef<Path>, to: &Dir, new: impl AsRef<Path>) -> io::Result<()> {
    let (name, new) = (name.as_ref(), new.as_ref());
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    match rustix::fs::renameat_with(from, name, to, new, rustix::fs::RenameFlags::NOREPLACE) {
        Err(error) if is_unsupported(&error.into()) => {}
        result => return result.map_err(io::Error::from),
    }
    match to.symlink_metadata(new) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => from.rename(name, to, new),
        Err(error) => Err(error),
    }
}

/// [`FileId`] of what is at `name`; `None` where nothing is.
pub(super) fn id_of(folder: &Dir, name: impl AsRef<Path>) -> io::Result<Option<FileId>> {
    match folder.symlink_metadata(name) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name that the file `id` has in `folder`: most likely the one given.
pub(super) fn whereabouts(folder: &Dir, id: FileId, likely: &str) -> io::Result<Option<OsString>> {
    if id_of(folder, likely)? == Some(id) {
        return Ok(Some(likely.into()));
    }
    for entry in folder.entries()?.take(MAX_FOLDER_ENTRIES) {
        let name = entry?.file_name();
        if id_of(folder, &name)? == Some(id) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether something is in the way of a renaming or a removal.
pub(super) fn is_taken(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | NotADirectory)
}

/// Whether a file system does not know a way of renaming.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP))
        || error.kind() == io::ErrorKind::Unsupported
}
