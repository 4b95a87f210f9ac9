//! What stands in the way of the bridge's own names: a folder, a link, a FIFO, a file larger than any artifact. Whoever can
//! push can put it there, and filing must not wait for it. It is renamed to a free name beside it, never removed.

use std::io;

use cap_std::fs::Dir;
use chrono::Utc;

use crate::error::ArchiveError;
use crate::files::{TEMPORARY, rename_to_free};

/// What the new name has between the old one and the time. Such names are nobody's artifacts.
pub const IN_THE_WAY: &str = ".in-the-way-";
/// The time in it.
const TIME: &str = "%Y%m%dT%H%M%S%.3fZ";
/// How many names are tried.
const TRIES: u32 = 100;

/// Renames whatever lies under `name` in `dir`, which is called `folder`, and says so. Nothing there is as good.
pub(crate) fn set_aside(dir: &Dir, folder: &str, name: &str) -> Result<(), ArchiveError> {
    let time = Utc::now().format(TIME);
    let stem = name.strip_prefix(TEMPORARY).unwrap_or(name);
    for number in 0..TRIES {
        let more = if number == 0 { String::new() } else { format!("-{number}") };
        let free = format!("{stem}{IN_THE_WAY}{time}{more}");
        match rename_to_free(dir, name, dir, &free) {
            Ok(()) => {
                tracing::error!(path = format!("{folder}/{name}"), now = free, "stood in the way and is set aside");
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                return Err(ArchiveError::Io { what: "set aside", path: format!("{folder}/{name}"), source });
            }
        }
    }
    Err(ArchiveError::Conflict { path: format!("{folder}/{name}") })
}
