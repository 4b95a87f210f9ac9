//! What a folder holds, so that two moments can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    File { mode: u32, content: Vec<u8> },
    Link(PathBuf),
    Folder,
    Other,
}

/// Relative path to entry.
pub type Snapshot = BTreeMap<String, Entry>;

/// Everything beneath `root` but the top-level names in `skip`.
pub fn snapshot(root: &Path, skip: &[&str]) -> Snapshot {
    let mut found = Snapshot::new();
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !skip.contains(&name.as_str()) {
            add(root, &name, &mut found);
        }
    }
    found
}

fn add(root: &Path, relative: &str, found: &mut Snapshot) {
    let path = root.join(relative);
    let meta = fs::symlink_metadata(&path).unwrap();
    let entry = if meta.is_symlink() {
        Entry::Link(fs::read_link(&path).unwrap())
    } else if meta.is_dir() {
        for child in fs::read_dir(&path).unwrap() {
            add(root, &format!("{relative}/{}", child.unwrap().file_name().to_str().unwrap()), found);
        }
        Entry::Folder
    } else if meta.is_file() {
        Entry::File { mode: meta.permissions().mode() & 0o777, content: fs::read(&path).unwrap() }
    } else {
        Entry::Other
    };
    found.insert(relative.to_owned(), entry);
}

/// Every regular file beneath `root`, links not followed.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}
