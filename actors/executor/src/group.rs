//! Commands that share one sync of the journal. Pure.
//!
//! They are planned one after the other on the tree as it is, before any of them is applied. So only commands may share a
//! group that cannot see one another: none of them names a path that another changes, nor one above or beneath it, nor one
//! that differs from such a path in case only.

use std::collections::HashMap;

use protocol::path::{RelativePath, fold};

/// The most commands of one group.
pub const MAX_COMMANDS: usize = 64;
/// The size of all records in a group, in bytes, from which on no further command joins.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// A command that must be done within so many milliseconds waits for no other.
pub const HURRY_MS: u64 = 1_000;
/// Names that can make a folder a bare repository together, folded.
const BARE_NAMES: [&str; 4] = ["head", "objects", "refs", "commondir"];

/// The paths that a group changes.
#[derive(Debug, Default)]
pub struct Footprint {
    /// Folded path → as it is spelled, and whether it is a file that changes or a folder above one.
    paths: HashMap<String, (String, bool)>,
    has_bare_name: bool,
}

impl Footprint {
    /// Whether a command that names `paths` could see what the group changes.
    pub fn meets(&self, paths: &[RelativePath]) -> bool {
        if self.paths.is_empty() {
            return false;
        }
        paths.iter().any(|path| {
            let met = |(place, is_file): (RelativePath, bool)| {
                let known = self.paths.get(&place.fold());
                known.is_some_and(|(spelled, changes)| is_file || *changes || spelled != place.as_str())
            };
            (self.has_bare_name && has_bare_name(path)) || upwards(path).any(met)
        })
    }

    /// The group changes `path` too.
    pub fn add(&mut self, path: &RelativePath) {
        self.has_bare_name |= has_bare_name(path);
        for (place, is_file) in upwards(path) {
            let known = self.paths.entry(place.fold()).or_insert_with(|| (place.to_string(), is_file));
            known.1 |= is_file;
        }
    }
}

/// The path itself and the folders above it; true for the path.
fn upwards(path: &RelativePath) -> impl Iterator<Item = (RelativePath, bool)> {
    let above = std::iter::successors(path.parent(), RelativePath::parent).map(|folder| (folder, false));
    std::iter::once((path.clone(), true)).chain(above)
}

fn has_bare_name(path: &RelativePath) -> bool {
    path.components().any(|name| BARE_NAMES.contains(&fold(name).as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn meets(changed: &[&str], named: &str) -> bool {
        let mut footprint = Footprint::default();
        changed.iter().for_each(|path| footprint.add(&RelativePath::parse(path).unwrap()));
        footprint.meets(&[RelativePath::parse(named).unwrap()])
    }

    #[test]
    fn only_paths_that_cannot_see_one_another_stay_apart() {
        assert!(!meets(&[], "a"));
        assert!(!meets(&["a", "d/b"], "d/c"));
        assert!(!meets(&["d/b"], "e"));
        assert!(meets(&["a"], "a"));
        assert!(meets(&["a"], "A"), "one file where case is ignored");
        assert!(meets(&["a"], "a/b"), "a file where a folder is needed");
        assert!(meets(&["a/b"], "a"), "a folder where a file is to be");
        assert!(meets(&["Dir/b"], "dir/c"), "two spellings of one folder");
        assert!(meets(&["x/refs/a"], "x/HEAD"), "together they may make a bare repository");
        assert!(meets(&["x/HEAD"], "x/commondir"), "so may these");
        assert!(meets(&["straße"], "STRASSE"));
    }
}
