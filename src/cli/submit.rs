//! Puts a document into `CLOUD/commands/` the way every producer should: a hidden temporary name, then a rename.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use protocol::id::CommandId;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::exit::Failure;
use crate::layout::Layout;

/// Writes `bytes` durably to `commands/<id>.json` and gives its path. A file that is there is never replaced.
///
/// # Errors
/// When the folder is missing or no real folder, a document of that name waits there, or the disk refuses.
pub fn submit(layout: &Layout, id: &CommandId, bytes: &[u8]) -> Result<PathBuf, Failure> {
    let folder = layout.at_path("commands");
    if !fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir()) {
        let cloud = layout.cloud().display();
        return Err(Failure::config(format!(
            "{} is no folder; make it with: ghost-bridge init {cloud}",
            folder.display()
        )));
    }
    let place = folder.join(format!("{id}.json"));
    let hidden = folder.join(format!(".{id}.json.{}-{:08x}", std::process::id(), rand::random::<u32>()));
    let outcome =
        write(&hidden, bytes).and_then(|()| rename_new(&hidden, &place)).and_then(|()| File::open(&folder)?.sync_all());
    if outcome.is_err() {
        // Gone already where only the folder's own sync failed.
        let _ = fs::remove_file(&hidden);
    }
    match outcome {
        Ok(()) => Ok(place),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::failed(format!(
            "{} waits there already; choose another id, or wait until that one is filed",
            place.display()
        ))),
        Err(error) => Err(Failure::failed(format!(
            "cannot write {}: {error}; see to its permissions and free space",
            place.display()
        ))),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames, but never onto something.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that does not know the flag: a hard link does not replace either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to).and_then(|()| fs::remove_file(from))
        }
        other => other.map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_waiting_document_is_never_replaced() {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::at(guard.path()).unwrap();
        let id = CommandId::parse("a").unwrap();
        let failure = submit(&layout, &id, b"1").unwrap_err();
        assert!(failure.to_string().contains("ghost-bridge init"), "{failure}");
        fs::create_dir(layout.at_path("commands")).unwrap();
        let path = submit(&layout, &id, b"1").unwrap();
        assert!(submit(&layout, &id, b"2").unwrap_err().to_string().contains("waits there already"));
        assert_eq!(fs::read(path).unwrap(), b"1");
        assert_eq!(fs::read_dir(layout.at_path("commands")).unwrap().count(), 1, "no temporary file stays");
    }
}
