//! What of a folder of the system is everybody's to read: the bridge's user may be allowed more than a check should.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How many entries are looked at; what lies beyond stays closed.
const MAX_ENTRIES: usize = 50_000;
/// How deep folders are looked into.
const MAX_DEPTH: usize = 16;
/// The permission of everybody to read.
const OTHERS_READ: u32 = 0o004;
/// The permission of everybody to pass through a folder.
const OTHERS_PASS: u32 = 0o001;

/// The largest parts of `folder` that hold nothing but what everybody may read. Links are passed over: what they lead to
/// has rules of its own.
#[must_use]
pub fn parts(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), MAX_ENTRIES);
    if walk(folder, MAX_DEPTH, &mut left, &mut found) {
        return vec![folder.to_owned()];
    }
    found
}

/// Whether all of `folder` is public; if not, its public parts are added to `found`.
fn walk(folder: &Path, depth: usize, left: &mut usize, found: &mut Vec<PathBuf>) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let Some(deeper) = depth.checked_sub(1) else { return false };
    let (mut all, mut parts) = (true, Vec::new());
    for entry in entries.flatten() {
        let Some(less) = left.checked_sub(1) else {
            all = false;
            break;
        };
        *left = less;
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else {
            all = false;
            continue;
        };
        if metadata.is_symlink() {
            continue;
        }
        let wanted = if metadata.is_dir() { OTHERS_READ | OTHERS_PASS } else { OTHERS_READ };
        let public = metadata.mode() & wanted == wanted
            && (metadata.is_file() || (metadata.is_dir() && walk(&path, deeper, left, &mut parts)));
        if public {
            parts.push(path);
        }
        all &= public;
    }
    if !all {
        found.append(&mut parts);
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_not_everybodys_is_left_out_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = |name: &str, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        for folder in ["a/b", "ssl/certs", "ssl/private", "empty"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for (file, bits) in
            [("a/b/x", 0o644), ("shadow", 0o640), ("passwd", 0o644), ("ssl/certs/c", 0o444), ("ssl/private/k", 0o644)]
        {
            fs::write(at(file), "").unwrap();
            mode(file, bits);
        }
        for (folder, bits) in [
            ("a", 0o755),
            ("a/b", 0o755),
            ("ssl", 0o755),
            ("ssl/certs", 0o755),
            ("ssl/private", 0o710),
            ("empty", 0o755),
        ] {
            mode(folder, bits);
        }
        std::os::unix::fs::symlink("shadow", at("link")).unwrap();
        let mut found = parts(dir.path());
        found.sort();
        assert_eq!(found, [at("a"), at("empty"), at("passwd"), at("ssl/certs")]);
        assert_eq!(parts(&at("a")), [at("a")]);
        assert_eq!(parts(&at("nowhere")), Vec::<PathBuf>::new());
    }
}
