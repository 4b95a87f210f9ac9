//! Finds a filed artifact by its name: flat in its folder, or in a segment that it was rolled over to
//! (`<folder>/<yyyy>/<mm>/<dd>/<nnnn>/`; contract, section 2).

use std::io;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use chrono::NaiveDate;

use crate::error::ArchiveError;
use crate::files::{self, Folder, open_folder};
use crate::names::MAX_ARTIFACT_BYTES;
use crate::shelves::Walk;

/// An artifact that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it lies, relative to CLOUD.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Finds `folder`'s artifact of this file name beneath `cloud`. `name` must be one component, as every id with an
/// artifact's ending is.
///
/// # Errors
/// An [`ArchiveError`] where a folder is none, something else than a file of a sensible size has that name, there are
/// too many segments, or the file system refuses.
pub fn find(cloud: &Path, folder: Folder, name: &str) -> Result<Option<Found>, ArchiveError> {
    find_since(cloud, folder, name, None)
}

/// The same for an artifact that was filed on `day` (UTC) or later: segments of earlier days are not looked through.
///
/// # Errors
/// As [`find`].
pub fn find_since(
    cloud: &Path,
    folder: Folder,
    name: &str,
    day: Option<NaiveDate>,
) -> Result<Option<Found>, ArchiveError> {
    let Some(top) = open_top(cloud, folder)? else { return Ok(None) };
    if let Some(found) = look(&top, folder.name(), name)? {
        return Ok(Some(found));
    }
    Walk::new(day, &mut |segment, path| look(segment, path, name)).through(&top, folder)
}

/// The same for an artifact of a command of which another one was found at `beside`: they lie flat, or in the same
/// segment, or else they are searched for.
///
/// # Errors
/// As [`find`].
pub fn find_beside(cloud: &Path, folder: Folder, name: &str, beside: &str) -> Result<Option<Found>, ArchiveError> {
    let segment = beside.split_once('/').and_then(|(_, inside)| Some(inside.rsplit_once('/')?.0));
    if let (Some(segment), Some(mut dir)) = (segment, open_top(cloud, folder)?) {
        let mut path = folder.name().to_owned();
        for part in segment.split('/') {
            path = format!("{path}/{part}");
            match open_folder(&dir, part) {
                Ok(below) => dir = below,
                Err(_) => return find(cloud, folder, name),
            }
        }
        if let Some(found) = look(&dir, &path, name)? {
            return Ok(Some(found));
        }
    }
    find(cloud, folder, name)
}

fn open_top(cloud: &Path, folder: Folder) -> Result<Option<Dir>, ArchiveError> {
    let shown = cloud.display().to_string();
    let root = Dir::open_ambient_dir(cloud, ambient_authority()).map_err(ArchiveError::io("open", shown))?;
    match open_folder(&root, folder.name()) {
        Err(ArchiveError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn look(dir: &Dir, path: &str, name: &str) -> Result<Option<Found>, ArchiveError> {
    let path = format!("{path}/{name}");
    match files::look(dir, name, MAX_ARTIFACT_BYTES).map_err(ArchiveError::io("read", path.clone()))? {
        files::Found::Nothing => Ok(None),
        files::Found::File(bytes) => Ok(Some(Found { path, bytes })),
        files::Found::Other => {
            let what = "it is no regular file, or larger than any artifact";
            Err(ArchiveError::io("read", path)(io::Error::new(io::ErrorKind::InvalidData, what)))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn put(cloud: &Path, path: &str, bytes: &str) {
        let path = cloud.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn an_artifact_is_found_flat_before_a_segment_and_in_the_newest_segment_first() {
        let guard = tempfile::tempdir().unwrap();
        let find = |name: &str| find(guard.path(), Folder::Archive, name).unwrap().map(|found| found.path);
        assert_eq!(find("a.json"), None, "there is not even the folder");
        put(guard.path(), "archive/2026/01/02/0000/a.json", "old");
        put(guard.path(), "archive/2026/01/02/0010/a.json", "new");
        put(guard.path(), "archive/2025/12/31/0001/b.json", "b");
        assert_eq!(find("a.json").as_deref(), Some("archive/2026/01/02/0010/a.json"));
        assert_eq!(find("b.json").as_deref(), Some("archive/2025/12/31/0001/b.json"));
        put(guard.path(), "archive/a.json", "flat");
        assert_eq!(find("a.json").as_deref(), Some("archive/a.json"));
        put(guard.path(), "archive/notes/2026/01/02/0000/c.json", "elsewhere");
        put(guard.path(), "archive/2026/1/2/0000/c.json", "spelled otherwise");
        assert_eq!(find("c.json"), None);
        put(guard.path(), "archive/2026/01/02/10000/d.json", "a long day");
        assert_eq!(find("d.json").as_deref(), Some("archive/2026/01/02/10000/d.json"));
    }

    #[test]
    fn a_day_or_a_neighbour_spares_the_search() {
        let guard = tempfile::tempdir().unwrap();
        put(guard.path(), "archive/2025/12/31/0001/a.json", "a");
        put(guard.path(), "archive/2026/01/02/0000/b.json", "b");
        let since = |name: &str, day: &str| {
            let day = Some(day.parse().unwrap());
            find_since(guard.path(), Folder::Archive, name, day).unwrap().is_some()
        };
        assert!(since("a.json", "2025-12-31") && since("b.json", "2025-12-31") && since("b.json", "2026-01-02"));
        assert!(!since("a.json", "2026-01-01") && !since("b.json", "2026-01-03") && !since("b.json", "2026-02-01"));
        put(guard.path(), "results/2025/12/31/0001/a.json", "its own");
        put(guard.path(), "results/2026/01/02/0000/a.json", "another's");
        let beside = |path: &str| {
            let found = find_beside(guard.path(), Folder::Results, "a.json", path).unwrap();
            String::from_utf8(found.unwrap().bytes).unwrap()
        };
        assert_eq!(beside("archive/2025/12/31/0001/a.json"), "its own");
        assert_eq!(beside("archive/a.json"), "another's", "the newest");
        assert_eq!(beside("archive/2024/01/01/0000/a.json"), "another's");
    }

    #[test]
    fn no_link_is_followed() {
        let (guard, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(outside.path(), "01/02/0000/a.json", "outside");
        fs::create_dir(guard.path().join("archive")).unwrap();
        std::os::unix::fs::symlink(outside.path(), guard.path().join("archive/2026")).unwrap();
        assert_eq!(find(guard.path(), Folder::Archive, "a.json").unwrap(), None);
        std::os::unix::fs::symlink(outside.path().join("01/02/0000/a.json"), guard.path().join("archive/a.json"))
            .unwrap();
        assert!(find(guard.path(), Folder::Archive, "a.json").is_err());
    }
}
