//! How a document leaves `commands/`: only if what lies there is still what was judged.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use cap_fs_ext::DirExt as _;
use cap_std::fs::Dir;
use protocol::digest::{Hasher, Sha256};

use crate::files;

/// How much of a document is read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// What was judged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judged<'a> {
    /// A regular file.
    File {
        /// The hash of its bytes.
        sha256: Sha256,
        /// How many they were, where that is known.
        length: Option<u64>,
    },
    /// A link with this target, or anything else that is no regular file.
    NotRegular(&'a [u8]),
}

/// What became of the entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It is not there any more.
    Gone,
    /// Something else lies there now; the next scan judges it.
    Replaced,
    /// A folder that holds something.
    FullFolder,
    /// What is no command's name, or empty: it was refused because it came by a commit, and stays.
    Ignored,
}

/// Removes the entry `name`, if it is still what was judged.
pub(crate) fn remove(commands: &Dir, name: &OsStr, judged: Judged<'_>) -> io::Result<Left> {
    let mut components = Path::new(name).components();
    let (Some(Component::Normal(_)), None) = (components.next(), components.next()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let metadata = match commands.symlink_metadata(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::Gone),
        other => other?,
    };
    let kind = metadata.file_type();
    if !name.as_bytes().ends_with(b".json") || kind.is_file() && metadata.len() == 0 {
        return Ok(Left::Ignored);
    }
    match judged {
        Judged::File { sha256, length } if kind.is_file() && is_still(commands, name, sha256, length)? => {}
        Judged::NotRegular(_) if kind.is_dir() => {
            return match commands.remove_dir(name) {
                Ok(()) => Ok(Left::Gone),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(Left::FullFolder),
                Err(error) => Err(error),
            };
        }
        Judged::NotRegular(target) if kind.is_symlink() => {
            if commands.read_link_contents(name)?.as_os_str().as_bytes() != target {
                return Ok(Left::Replaced);
            }
        }
        Judged::NotRegular(_) if !kind.is_file() => {}
        _ => return Ok(Left::Replaced),
    }
    commands.remove_file_or_symlink(name)?;
    Ok(Left::Gone)
}

/// Whether the regular file `name` still holds the judged bytes. White space behind them says nothing new: a producer
/// that writes a document and its last line break one after the other may have been read in between.
fn is_still(commands: &Dir, name: &OsStr, sha256: Sha256, length: Option<u64>) -> io::Result<bool> {
    let Some(length) = length else { return Ok(hash(commands, name)? == Some(sha256)) };
    let mut file = files::open_file(commands, name, false)?;
    if !file.metadata()?.is_file() || hash_of(&mut io::Read::by_ref(&mut file).take(length))? != sha256 {
        return Ok(false);
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(true),
            length if chunk.get(..length).unwrap_or_default().iter().all(|byte| b" \t\r\n".contains(byte)) => {}
            _ => return Ok(false),
        }
    }
}

/// The hash of the regular file `name`; `None` where it is none.
pub(crate) fn hash(commands: &Dir, name: &OsStr) -> io::Result<Option<Sha256>> {
    let mut file = files::open_file(commands, name, false)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    hash_of(&mut file).map(Some)
}

fn hash_of(reader: &mut impl io::Read) -> io::Result<Sha256> {
    let (mut hasher, mut chunk) = (Hasher::default(), vec![0; CHUNK_BYTES]);
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(chunk.get(..length).unwrap_or_default()),
        }
    }
}
