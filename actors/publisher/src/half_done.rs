//! A rebase that was cut off in the middle (a crash, or somebody who went home): HEAD names a commit, and a folder in
//! `.git` tells which branch was being rebased. The branch itself has not been moved by it, so HEAD goes back there.
//!
//! Only at the start, under the instance lock. Neither the work tree nor the index is touched: what the rebase left in
//! them is a person's to look at. Its state is set aside, not deleted. It cannot stay where it is: `git rebase --abort`
//! would take the branch back to where it was then, and with it whatever is committed from now on.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::error::WorkError;
use crate::refs;

/// Where git keeps a rebase's state, by its two ways to do it.
const STATES: [&str; 2] = ["rebase-merge", "rebase-apply"];

/// What such a folder's `head-name` may hold at most; a branch's name is shorter.
const NAME_MAX_BYTES: u64 = 4096;

/// A rebase that stands still.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rebase {
    /// The folder that holds its state.
    state: PathBuf,
    /// The full name of the branch that was being rebased; it exists.
    pub(crate) branch: String,
}

/// The half-done rebase of a branch that HEAD would have to go back to, or came from; none where HEAD is on another
/// branch, where no branch was being rebased, and for `git am`, which keeps HEAD on its branch.
///
/// # Errors
/// When HEAD or the branch cannot be read.
pub(crate) fn rebase(repo: &gix::Repository) -> Result<Option<Rebase>, WorkError> {
    let at = refs::head_branch(repo)?;
    for state in STATES.map(|name| repo.git_dir().join(name)) {
        let Some(branch) = head_name(&state) else { continue };
        let returns = at.as_ref().is_none_or(|at| *at == branch);
        if returns && refs::read(repo, &branch)?.is_some() {
            return Ok(Some(Rebase { state, branch }));
        }
    }
    Ok(None)
}

fn head_name(state: &Path) -> Option<String> {
    let file = state.join("head-name");
    let small = file.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= NAME_MAX_BYTES);
    let name = fs::read_to_string(file).ok().filter(|_| small)?;
    let name = name.trim_end();
    let valid = name.starts_with("refs/heads/") && gix::refs::FullName::try_from(name).is_ok();
    valid.then(|| name.to_owned())
}

/// Puts HEAD back on its branch and sets the state aside.
///
/// # Errors
/// When HEAD is locked, or the disk refuses. Where only the setting aside failed, it is done at the next start.
pub(crate) fn give_up(repo: &gix::Repository, rebase: &Rebase, now: DateTime<Utc>) -> Result<(), WorkError> {
    let detached = refs::head_branch(repo)?.is_none();
    let was = repo.head_id().map(|id| id.to_string()).unwrap_or_default();
    if detached {
        refs::attach_head(repo, &rebase.branch)?;
    }
    let aside = free_name(&rebase.state, now);
    fs::rename(&rebase.state, &aside).map_err(|e| WorkError::io(&rebase.state, e))?;
    crate::objects::sync_folder(repo.git_dir())?;
    tracing::warn!(
        branch = rebase.branch,
        was,
        state = %aside.display(),
        "a rebase was half done: HEAD is back on its branch, which it had not moved; its state is set aside, and what it \
         left in the index and the work tree is as it was"
    );
    Ok(())
}

/// `rebase-merge.left-20261124T131500Z`, or with a number behind it.
fn free_name(state: &Path, now: DateTime<Utc>) -> PathBuf {
    let name = state.file_name().unwrap_or_default().to_string_lossy();
    let stem = format!("{name}.left-{}", now.format("%Y%m%dT%H%M%SZ"));
    let names = std::iter::once(stem.clone()).chain((1u32..).map(|n| format!("{stem}-{n}")));
    let mut free = names.map(|name| state.with_file_name(name)).filter(|path| path.symlink_metadata().is_err());
    free.next().unwrap_or_else(|| state.with_file_name(stem))
}
