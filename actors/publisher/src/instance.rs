//! Which bridge this is: a number of its own for each repository that a bridge publishes from, kept in `.git` and so in no
//! clone of it. It stands in every commit of the bridge's, so that two bridges on one branch can be told apart.
//!
//! It need not last: one that is lost, damaged or was copied along with its folder is made anew, and what the branch holds
//! at a start is nobody's rival.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::commit::is_instance;

/// The folder beneath the repository's own that is the bridge's.
pub(crate) const FOLDER: &str = "ghost-bridge";

/// The number's file in it.
const FILE: &str = "instance";

/// This repository's number, made if there is none. Where it cannot be kept it holds for this start.
pub(crate) fn of(git_dir: &Path) -> String {
    let folder = git_dir.join(FOLDER);
    let file = folder.join(FILE);
    let made = fs::create_dir_all(&folder).and_then(|()| folder.metadata());
    // A copy of the folder is another one.
    let place = made.as_ref().map(MetadataExt::ino).unwrap_or_default();
    let known = fs::read_to_string(&file).ok();
    let kept = known.as_deref().and_then(|text| text.trim_end().split_once(' '));
    if let Some((instance, at)) = kept.filter(|(instance, _)| is_instance(instance))
        && at == place.to_string()
    {
        return instance.to_owned();
    }
    let instance = format!("{:016x}", rand::random::<u64>());
    let written = made.and_then(|_| replace(&file, format!("{instance} {place}\n").as_bytes()));
    if let Err(error) = written {
        tracing::warn!(file = %file.display(), %error, "this bridge's number is not kept, the next start makes another");
    }
    instance
}

/// Puts a file of the bridge's into the place of the one before, whole or not at all. What a power cut leaves of it is
/// made again.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, bytes)?;
    fs::rename(&new, file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_number_lasts_and_is_made_anew_where_it_is_damaged_or_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let first = of(dir.path());
        assert!(is_instance(&first), "{first}");
        assert_eq!(of(dir.path()), first);
        let file = dir.path().join(FOLDER).join(FILE);
        for damage in ["", "\0\0\0\0", "0123", "0123456789abcdef\n"] {
            fs::write(&file, damage).unwrap();
            let next = of(dir.path());
            assert!(is_instance(&next) && next != first && of(dir.path()) == next, "{damage:?}: {next}");
        }
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join(FOLDER)).unwrap();
        fs::copy(&file, copy.path().join(FOLDER).join(FILE)).unwrap();
        assert_ne!(of(copy.path()), of(dir.path()));
    }
}
