//! HEAD: which branch it named, where it does not say any more.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::hash::Kind;

use super::places::{self, Places, damage, refused};
use super::references::Value;
use super::reflog;
use crate::error::{OpenError, WorkError};
use crate::refs::INDEXED;

/// The references as far as they can be read, by their full names: `None` where one cannot.
pub(crate) type Known = BTreeMap<String, Option<ObjectId>>;

/// What HEAD says.
pub(crate) enum Head {
    /// A branch or another reference, by its full name.
    Named(String),
    /// A commit.
    Detached,
    /// Nothing that can be read.
    Damaged(&'static str),
}

/// Reads it.
pub(crate) fn read(places: &Places, kind: Kind) -> Result<Head, WorkError> {
    let file = places.git_dir.join("HEAD");
    // One that is a link, as git made them long ago, is left to the library.
    let Some(bytes) = places::read(&file)? else {
        return Ok(if file.symlink_metadata().is_ok() { Head::Detached } else { Head::Damaged("missing") });
    };
    Ok(match Value::parse(&bytes, kind) {
        Value::Symbolic(name) if name.starts_with("refs/heads/") => Head::Named(name),
        // Git lets it name nothing else.
        Value::Symbolic(_) => Head::Damaged("no branch's name"),
        Value::Id(_) => Head::Detached,
        Value::Damaged(_) => Head::Damaged(damage(&bytes)),
    })
}

/// The branch that it named, with what tells so: its log's last switch, the one branch that stands where HEAD or the index
/// was last, the only branch there is.
pub(crate) fn branch(places: &Places, known: &Known) -> Result<Option<(String, &'static str)>, WorkError> {
    let moves = places::read(&places.git_dir.join("logs/HEAD"))?.map(|log| reflog::moves(&log)).unwrap_or_default();
    let branches: Vec<&String> = known.keys().filter(|name| name.starts_with("refs/heads/")).collect();
    if let Some(name) = reflog::last_switch(&moves).map(|name| format!("refs/heads/{name}"))
        && branches.contains(&&name)
    {
        return Ok(Some((name, "its reflog")));
    }
    let last = moves.last().map(|step| step.to);
    let indexed = known.get(INDEXED).copied().flatten();
    for (at, what) in [(last, "its reflog"), (indexed, INDEXED)] {
        let there: Vec<&&String> =
            branches.iter().filter(|name| at.is_some() && known.get(**name).copied().flatten() == at).collect();
        if let [only] = there.as_slice() {
            return Ok(Some(((**only).clone(), what)));
        }
    }
    match branches.as_slice() {
        [only] => Ok(Some(((*only).clone(), "the only branch"))),
        _ => Ok(None),
    }
}

/// The refusal of a start where nothing tells.
pub(crate) fn unknown(places: &Places, what: &str) -> OpenError {
    let file = places.git_dir.join("HEAD");
    let remedy = format!(
        "and nothing tells which branch it named; write it by hand: echo 'ref: refs/heads/BRANCH' > {}",
        file.display()
    );
    refused(&file, what, remedy)
}

/// A HEAD that names a branch that never was, while another one was checked out before: one of its letters changed.
pub(crate) fn elsewhere(places: &Places, named: &str, known: &Known) -> Result<Option<OpenError>, WorkError> {
    let log = places.common.join("logs").join(named);
    if known.contains_key(named) || !named.starts_with("refs/heads/") || log.exists() {
        return Ok(None);
    }
    let was_here = places::read(&places.git_dir.join("logs/HEAD"))?.is_some_and(|log| !reflog::moves(&log).is_empty());
    let others = known.keys().any(|name| name.starts_with("refs/heads/"));
    if !others || !(was_here || known.contains_key(INDEXED)) {
        return Ok(None);
    }
    let branch = branch(places, known)?.map_or_else(|| "refs/heads/BRANCH".to_owned(), |(branch, _)| branch);
    let (cloud, short) = (places.cloud.display(), named.trim_start_matches("refs/heads/"));
    let remedy = format!(
        "it names {short}, which has no commit, but another branch was checked out before: `git -C {cloud} symbolic-ref HEAD \
         {branch}`, or make the first commit of {short} by hand"
    );
    Ok(Some(refused(&places.git_dir.join("HEAD"), "not what it was", remedy)))
}
