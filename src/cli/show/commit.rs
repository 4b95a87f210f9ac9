//! The commit that published a command.

use std::path::Path;

use archiver::Folder;
use serde_json::{Value, json};

use crate::audit::chain::Line;
use crate::audit::disk::Item;
use crate::git;

/// The commit of `line`'s command, and whether the remote is known to have it; `None` where there is none yet.
#[must_use]
pub fn find(cloud: &Path, remote: &str, line: &Line, items: &[&Item]) -> Option<Value> {
    let format = "--format=%H%x09%cI%x09%s";
    let found = if line.result.takes_id() {
        let id = line.id.as_ref()?;
        let subject = format!("--grep=bridge: results {id} (exit=");
        git::ask(cloud, &["log", "--max-count=1", "--fixed-strings", format, &subject, "HEAD", "--"])
    } else {
        // Its subject names no id; the commit is the one that added the letter, before it was rolled over.
        let letter = items.iter().find(|item| item.folder == Folder::DeadLetter)?;
        let path = letter.key();
        git::ask(cloud, &["log", "--max-count=1", "--diff-filter=A", format, "HEAD", "--", &path])
    };
    let found = found.ok().filter(|found| !found.is_empty())?;
    let mut fields = found.splitn(3, '\t');
    let (id, at, subject) = (fields.next()?, fields.next()?, fields.next()?);
    Some(json!({ "id": id, "at": at, "subject": subject, "pushed": pushed(cloud, remote, id) }))
}

/// Whether the remote's branch, as it was last seen, holds `commit`; `None` where there is no such branch.
fn pushed(cloud: &Path, remote: &str, commit: &str) -> Option<bool> {
    let branch = git::ask(cloud, &["symbolic-ref", "--short", "HEAD"]).ok()?;
    let seen = format!("refs/remotes/{remote}/{branch}");
    git::ask(cloud, &["rev-parse", "--verify", "--quiet", &seen]).ok()?;
    Some(git::ask(cloud, &["merge-base", "--is-ancestor", commit, &seen]).is_ok())
}
