//! What a crash left in the repository: locks that nobody holds, and files that nobody will finish.
//!
//! Only to be looked for at the start, under the instance lock. A lock that appears later belongs to somebody, and so may
//! one that is there already while a git lives that can hold it: it stays, and holds up what it would hold up later.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::housekeeping::KEEP_NOTE;
use crate::living;
use crate::packs::WORKSHOP;

/// How long a lock that was found at the start may still be somebody's: so long it is waited for.
const LOCK_GRACE: Duration = Duration::from_secs(1);

/// The locks on what belongs to one work tree.
const OWN_LOCKS: [&str; 8] = [
    "index.lock",
    "HEAD.lock",
    "ORIG_HEAD.lock",
    "FETCH_HEAD.lock",
    "MERGE_HEAD.lock",
    "CHERRY_PICK_HEAD.lock",
    "REVERT_HEAD.lock",
    "config.worktree.lock",
];

/// The locks on what all work trees share, but for those of references; `packed-refs.new` is written while one is held, and
/// is in the way as one is.
const SHARED_LOCKS: [&str; 8] = [
    "packed-refs.lock",
    "packed-refs.new",
    "config.lock",
    "shallow.lock",
    "objects/info/commit-graph.lock",
    "objects/info/commit-graphs/commit-graph-chain.lock",
    "objects/pack/multi-pack-index.lock",
    "reftable/tables.list.lock",
];

/// How often it is looked at meanwhile.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// How long nobody wrote to a pack in the making before it counts as abandoned: a person may be fetching.
const PACK_GRACE: Duration = Duration::from_secs(600);

/// How many entries beneath `refs/` are looked at.
const MAX_REFS: usize = 100_000;

/// Removes the locks that a crash left. All are found first: one that comes up while they are waited for is not meant. While
/// a git lives that can hold one, all stay: a lock does not tell whose it is.
pub(crate) fn remove_locks(repo: &gix::Repository) {
    let (git_dir, common) = (repo.git_dir(), repo.common_dir());
    let mut locks: Vec<PathBuf> = OWN_LOCKS.map(|name| git_dir.join(name)).into();
    locks.extend(SHARED_LOCKS.map(|name| common.join(name)));
    locks.extend(ref_locks(&common.join("refs")));
    locks.retain(|lock| lock.symlink_metadata().is_ok());
    let deadline = Instant::now() + LOCK_GRACE;
    let is_there = |lock: &PathBuf| lock.symlink_metadata().is_ok();
    while locks.iter().any(is_there) && Instant::now() < deadline {
        std::thread::sleep(LOCK_POLL);
    }
    locks.retain(is_there);
    if locks.is_empty() {
        return;
    }
    match living::find(&living::places(repo), &canonical(&locks)) {
        Some(holder) => locks.iter().for_each(|lock| {
            tracing::warn!(lock = %lock.display(), %holder, "a lock is left alone: a git that lives may hold it");
        }),
        None => locks.iter().for_each(|lock| remove_lock(lock)),
    }
}

fn remove_lock(lock: &Path) {
    match fs::remove_file(lock) {
        Ok(()) => tracing::warn!(lock = %lock.display(), "removed a lock that a crash left"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::error!(lock = %lock.display(), %error, "a stale lock cannot be removed"),
    }
}

/// As the kernel calls them.
fn canonical(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().filter_map(|path| path.canonicalize().ok()).collect()
}

/// Every `*.lock` beneath a folder of references: no reference may be called so.
fn ref_locks(refs: &Path) -> Vec<PathBuf> {
    let (mut folders, mut locks, mut seen) = (vec![refs.to_owned()], Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        // What cannot be listed holds nothing up: whoever needs it will say so.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MAX_REFS {
                return locks;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "lock") {
                locks.push(entry.path());
            }
        }
    }
    locks
}

/// Removes packs in the making, packs that went by half, and the notes that were to keep them: our own at once, for only
/// one bridge runs; git's when nobody wrote to them for long.
pub(crate) fn remove_unfinished_packs(folder: &Path, now: SystemTime) {
    remove_abandoned(folder, now);
    folder.parent().into_iter().for_each(remove_workshop);
    remove_files(folder, |name, path| {
        let noted = || fs::read_to_string(path).is_ok_and(|note| note == KEEP_NOTE);
        name.starts_with("tmp_bridge_") || (name.ends_with(".keep") && noted())
    });
}

/// Removes what a child that was killed left of a pack in the making; `objects` is the object database's folder.
pub(crate) fn remove_workshop(objects: &Path) {
    let workshop = objects.join(WORKSHOP);
    match fs::remove_dir_all(&workshop) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %workshop.display(), %error, "an unfinished pack cannot be removed");
        }
        _ => {}
    }
}

/// Removes what git left of packs in the making, and packs that went by half, when nobody wrote to them for long.
pub(crate) fn remove_abandoned(folder: &Path, now: SystemTime) {
    remove_files(folder, |name, path| {
        let tried = ["tmp_pack_", "tmp_idx_", "tmp_rev_", ".tmp-"].iter().any(|start| name.starts_with(start));
        // Nobody looks into a pack without its index: it was put in place first, or is what is left of one that went.
        let part = [".pack", ".rev", ".bitmap"].iter().any(|end| name.ends_with(end));
        let theirs = tried || (name.starts_with("pack-") && part && !path.with_extension("idx").exists());
        let written = || path.metadata().and_then(|meta| meta.modified()).ok();
        theirs && written().and_then(|at| now.duration_since(at).ok()).is_some_and(|idle| idle > PACK_GRACE)
    });
}

fn remove_files(folder: &Path, unwanted: impl Fn(&str, &Path) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if unwanted(&name, &entry.path()) {
            match fs::remove_file(entry.path()) {
                Ok(()) => tracing::info!(%name, "removed a pack that was left unfinished"),
                Err(error) => tracing::warn!(%name, %error, "an unfinished pack cannot be removed"),
            }
        }
    }
}

/// Says what of a person's is half done. It is theirs to finish or to abort: the bridge itself rebases without any state
/// on disk, and commits on top of the branch whatever else is under way. (A rebase of the branch is dealt with by
/// [`crate::half_done`].)
pub(crate) fn tell_of_operations(repo: &gix::Repository) {
    for left in ["rebase-merge", "rebase-apply", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "BISECT_LOG"] {
        if repo.git_dir().join(left).exists() {
            tracing::warn!(left, "an operation of somebody's is half done in this work tree; `git status` tells which");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_found_at_any_depth_and_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let refs = dir.path().join("refs");
        fs::create_dir_all(refs.join("heads/deep/er")).unwrap();
        fs::create_dir_all(dir.path().join("elsewhere")).unwrap();
        for name in ["refs/heads/main", "refs/heads/main.lock", "refs/heads/deep/er/x.lock", "elsewhere/y.lock"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("../elsewhere", refs.join("link")).unwrap();
        let mut found = ref_locks(&refs);
        found.sort();
        assert_eq!(found, [refs.join("heads/deep/er/x.lock"), refs.join("heads/main.lock")]);
    }

    #[test]
    fn what_a_crash_left_among_the_packs_goes_and_what_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let pack = dir.path().join("pack");
        fs::create_dir(&pack).unwrap();
        let put = |name: &str, text: &str| fs::write(pack.join(name), text).unwrap();
        let packs = ["pack-1.pack", "pack-3.pack", "pack-3.idx", "pack-4.pack"];
        let tried = ["tmp_bridge_pack-1.pack", "tmp_pack_old", ".tmp-1-pack-2.idx", "tmp_pack_young"];
        for name in packs.into_iter().chain(tried) {
            put(name, "x");
        }
        put("pack-1.keep", KEEP_NOTE);
        put("pack-2.keep", "a person's");
        fs::create_dir_all(dir.path().join(WORKSHOP).join("pack")).unwrap();
        fs::write(dir.path().join(WORKSHOP).join("pack/tmp_pack_left"), "P").unwrap();
        for name in ["tmp_pack_old", ".tmp-1-pack-2.idx", "pack-1.pack", "pack-3.pack"] {
            let file = fs::File::options().write(true).open(pack.join(name)).unwrap();
            file.set_modified(SystemTime::now() - 2 * PACK_GRACE).unwrap();
        }
        remove_unfinished_packs(&pack, SystemTime::now());
        assert!(!dir.path().join(WORKSHOP).exists());
        let mut left: Vec<_> = fs::read_dir(&pack).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["pack-2.keep", "pack-3.idx", "pack-3.pack", "pack-4.pack", "tmp_pack_young"]);
    }
}
