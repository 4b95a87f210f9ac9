//! Whether a command still waits in `commands/`.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use protocol::command::Document;

/// The most files that are opened to find the document of an id.
const MAX_OPENED: usize = 10_000;
/// The most that is read of a document, in bytes: as much as the bridge takes.
const MAX_BYTES: u64 = 524_288;

/// The file, relative to CLOUD, in which the document of the id `name` waits.
#[must_use]
pub fn find(cloud: &Path, name: &str) -> Option<String> {
    let folder = cloud.join("commands");
    let own = format!("{name}.json");
    if folder.join(&own).symlink_metadata().is_ok() {
        return Some(format!("commands/{own}"));
    }
    let names = fs::read_dir(&folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|file| file.ends_with(".json") && !file.starts_with('.'))
        .take(MAX_OPENED)
        .find(|file| id_of(&folder.join(file)).as_deref() == Some(name))
        .map(|file| format!("commands/{file}"))
}

fn id_of(path: &Path) -> Option<String> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).ok()?;
    let file: File = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).ok()?;
    Some(Document::parse(bytes.into()).ok()?.id()?.to_string())
}
