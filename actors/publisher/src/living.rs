//! Processes of git's that live and may hold a lock of this repository. A commit whose editor is open holds the index's
//! lock for as long as its author thinks, and has no file open meanwhile: where it was started is what tells.

use std::fmt;
use std::path::PathBuf;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Living {
    /// Its number.
    pub(crate) pid: u32,
    /// What its program is called.
    pub(crate) name: String,
}

impl fmt::Display for Living {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Where git is at work on this repository: its folders, and the tops of all its work trees.
pub(crate) fn places(repo: &gix::Repository) -> Vec<PathBuf> {
    let common = repo.common_dir();
    let mut places = vec![repo.git_dir().to_owned(), common.to_owned()];
    places.extend(repo.workdir().map(ToOwned::to_owned));
    if common.ends_with(".git") {
        places.extend(common.parent().map(ToOwned::to_owned));
    }
    for linked in std::fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten() {
        let pointer = std::fs::read_to_string(linked.path().join("gitdir")).unwrap_or_default();
        places.extend(PathBuf::from(pointer.trim_end()).parent().map(ToOwned::to_owned));
    }
    // The kernel tells the place, and not the way there.
    places.iter().filter_map(|place| place.canonicalize().ok()).filter(|place| place.parent().is_some()).collect()
}

#[cfg(target_os = "linux")]
pub(crate) use self::linux::find;

/// Elsewhere nothing tells: none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn find(_places: &[PathBuf], _locks: &[PathBuf]) -> Option<Living> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::Living;

    /// How many parents of a process are asked for: more than there ever are.
    const MAX_DEPTH: usize = 64;

    /// A git that was started in one of `places` or has a file in there open, or whoever has one of `locks` open. This
    /// process and its children are none, and whom the kernel tells nothing of cannot be seen. A git whose parent died is
    /// what a bridge that was killed left: a remote that is silent may keep it for ever, and it counts only for a lock that it
    /// has open.
    pub(crate) fn find(places: &[PathBuf], locks: &[PathBuf]) -> Option<Living> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.find_map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
            let git = is_git(pid, &name) && is_at_work(pid, places) && !is_orphan(pid);
            let holds = git || open_files(pid).any(|file| locks.contains(&file));
            (holds && !is_ours(pid)).then_some(Living { pid, name })
        })
    }

    /// A process may call itself otherwise; its program cannot.
    fn is_git(pid: u32, name: &str) -> bool {
        let named = |name: &str| name == "git" || name.starts_with("git-");
        let program = || fs::read_link(format!("/proc/{pid}/exe")).ok();
        named(name) || program().as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).is_some_and(named)
    }

    fn is_at_work(pid: u32, places: &[PathBuf]) -> bool {
        let inside = |path: &Path| places.iter().any(|place| path.starts_with(place));
        let started = fs::read_link(format!("/proc/{pid}/cwd"));
        started.is_ok_and(|path| inside(&path)) || open_files(pid).any(|file| inside(&file))
    }

    fn open_files(pid: u32) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read_link(entry.path()).ok())
    }

    /// Whether it is this process, or was started by it.
    fn is_ours(pid: u32) -> bool {
        let line = std::iter::successors(Some(pid), |pid| parent(*pid));
        line.take(MAX_DEPTH).any(|pid| pid == std::process::id())
    }

    /// Whether whoever started it is gone: then the first process is its parent, or one that collects orphans.
    fn is_orphan(pid: u32) -> bool {
        parent(pid).is_none_or(|parent| {
            let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
            parent <= 1 || matches!(name.trim_end(), "systemd" | "init")
        })
    }

    fn parent(pid: u32) -> Option<u32> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold anything, brackets among it.
        let rest = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 1..)?;
        std::str::from_utf8(rest).ok()?.split_whitespace().nth(1)?.parse().ok()
    }
}
