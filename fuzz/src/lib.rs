//! What several targets share: files in memory, and diffs played on them.

use std::collections::BTreeMap;
use std::convert::Infallible;

use executor::patch::files::{self, FilesError, Kind};
use executor::patch::{Diff, PatchError};
use executor::tree::Image;
use protocol::git_id::ObjectFormat;

/// Files by name.
pub type Files = BTreeMap<String, Image>;

/// What a diff compares: contents, and whether files are executable.
pub fn change(files: &Files) -> Vec<(&String, &[u8], bool)> {
    files.iter().map(|(name, image)| (name, &*image.content, image.bits & 0o100 != 0)).collect()
}

/// Either of git's formats, by chance.
pub fn format(bytes: &[u8]) -> ObjectFormat {
    if bytes.len().is_multiple_of(2) { ObjectFormat::Sha1 } else { ObjectFormat::Sha256 }
}

/// What `diff` makes of `before`.
///
/// # Errors
/// When it does not fit.
pub fn play(kind: Kind, before: &Files, diff: &Diff) -> Result<Files, FilesError<Infallible>> {
    let look = |name: &executor::patch::Name| Ok(name.as_str().and_then(|name| before.get(name)).cloned());
    let outcomes = files::play(diff, kind, look, |_| false)?;
    let mut after = before.clone();
    for (name, image) in files::result(&outcomes) {
        let Some(name) = name.as_str() else {
            return Err(PatchError::File { file: name.to_string(), what: "its name is no UTF-8".to_owned() }.into());
        };
        match image {
            Some(image) => drop(after.insert(name.to_owned(), image)),
            None => drop(after.remove(name)),
        }
    }
    Ok(after)
}
