//! Finds a filed artifact by its name: flat in its folder, or in a segment that it was rolled over to
//! (`<folder>/<yyyy>/<mm>/<dd>/<nnnn>/`; contract, section 2).

use std::io;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use crate::error::ArchiveError;
use crate::files::{self, Folder, open_folder};
use crate::names::MAX_ARTIFACT_BYTES;

/// How many digits the names of the folders above a segment's files have: year, month, day, counter.
const DIGITS: [usize; 4] = [4, 2, 2, 4];
/// The most folders that are looked through for one artifact: some 700 days of 100 segments each.
const MAX_FOLDERS: usize = 100_000;

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
    let shown = cloud.display().to_string();
    let root = Dir::open_ambient_dir(cloud, ambient_authority()).map_err(ArchiveError::io("open", shown))?;
    let top = match open_folder(&root, folder.name()) {
        Err(ArchiveError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if let Some(found) = look(&top, folder.name(), name)? {
        return Ok(Some(found));
    }
    let mut search = Search { name, left: MAX_FOLDERS };
    search.beneath(&top, folder.name(), &DIGITS)
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

struct Search<'n> {
    name: &'n str,
    left: usize,
}

impl Search<'_> {
    /// Looks through the folders beneath `dir` whose names are numbers, the newest first.
    fn beneath(&mut self, dir: &Dir, path: &str, digits: &[usize]) -> Result<Option<Found>, ArchiveError> {
        let Some((digits, rest)) = digits.split_first() else { return look(dir, path, self.name) };
        for name in self.numbers(dir, path, *digits)? {
            let folder = match open_folder(dir, &name) {
                // What is no folder is no segment.
                Err(ArchiveError::NotAFolder { .. }) => continue,
                other => other?,
            };
            if let Some(found) = self.beneath(&folder, &format!("{path}/{name}"), rest)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The names of `dir` that are numbers of so many digits, the largest first.
    fn numbers(&mut self, dir: &Dir, path: &str, digits: usize) -> Result<Vec<String>, ArchiveError> {
        let mut names = Vec::new();
        for entry in dir.entries().map_err(ArchiveError::io("list", path))? {
            let name = entry.map_err(ArchiveError::io("list", path))?.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.len() == digits && name.bytes().all(|byte| byte.is_ascii_digit()) {
                self.left = self.left.checked_sub(1).ok_or_else(|| too_many(path))?;
                names.push(name.to_owned());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }
}

fn too_many(path: &str) -> ArchiveError {
    let what = format!("there are more than {MAX_FOLDERS} folders to look through");
    ArchiveError::io("search", path)(io::Error::other(what))
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
