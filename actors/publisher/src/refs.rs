//! References: read, and moved by compare-and-swap.

use std::fs::File;

use gix::ObjectId;
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};
use gix::refs::{FullName, Target};

use crate::error::WorkError;

/// The last commit that the remote is known to have and that the work tree reflects.
pub const BASE: &str = "refs/ghost-bridge/base";
/// Where the remote's branch is fetched to.
pub const UPSTREAM: &str = "refs/ghost-bridge/upstream";
/// The commit that the index reflects.
pub const INDEXED: &str = "refs/ghost-bridge/indexed";

fn error(name: &str) -> impl Fn(String) -> WorkError + '_ {
    move |cause| WorkError::Reference { name: name.to_owned(), cause }
}

/// The branch that HEAD names; `None` when it is detached.
///
/// # Errors
/// When HEAD cannot be read.
pub fn head_branch(repo: &gix::Repository) -> Result<Option<String>, WorkError> {
    let name = repo.head_name().map_err(|e| error("HEAD")(e.to_string()))?;
    Ok(name.map(|name| name.as_bstr().to_string()))
}

/// A branch's name without what all have in front.
#[must_use]
pub fn short(branch: &str) -> &str {
    branch.strip_prefix("refs/heads/").unwrap_or(branch)
}

/// The commit that a reference names; `None` when there is no such reference.
///
/// # Errors
/// When it cannot be read, or names another reference.
pub fn read(repo: &gix::Repository, name: &str) -> Result<Option<ObjectId>, WorkError> {
    let found = repo.try_find_reference(name).map_err(|e| error(name)(e.to_string()))?;
    match found {
        None => Ok(None),
        Some(reference) => match reference.target().try_id() {
            Some(id) => Ok(Some(id.to_owned())),
            None => Err(error(name)("is a symbolic reference".to_owned())),
        },
    }
}

/// The full names of the references that begin so; none where they cannot be listed.
#[must_use]
pub fn names(repo: &gix::Repository, prefix: &str) -> Vec<String> {
    let Ok(platform) = repo.references() else { return Vec::new() };
    let Ok(found) = platform.prefixed(prefix) else { return Vec::new() };
    found.flatten().map(|reference| reference.name().as_bstr().to_string()).collect()
}

/// Moves a reference if it still names `old`, and makes that durable.
///
/// # Errors
/// When it was moved by somebody else, is locked, or the disk refuses.
pub fn swap(
    repo: &gix::Repository,
    name: &str,
    old: Option<ObjectId>,
    new: ObjectId,
    signature: &str,
    why: &str,
) -> Result<(), WorkError> {
    let expected = old.map_or(PreviousValue::MustNotExist, |id| PreviousValue::MustExistAndMatch(Target::Object(id)));
    edit(repo, name, expected, new, signature, why)?;
    sync(repo, name)
}

/// Makes what a reference says durable. The library does not, nor does git by itself.
fn sync(repo: &gix::Repository, name: &str) -> Result<(), WorkError> {
    let file = repo.common_dir().join(name);
    // A reference that is kept elsewhere was made durable there.
    let (Ok(opened), Some(folder)) = (File::open(&file), file.parent()) else { return Ok(()) };
    opened.sync_all().map_err(|e| WorkError::io(&file, e))?;
    crate::objects::sync_folder(folder)
}

/// Sets one of the bridge's private references, whatever it was, and makes that durable.
///
/// # Errors
/// When it is locked, or the disk refuses.
pub fn keep(repo: &gix::Repository, name: &str, new: ObjectId, signature: &str) -> Result<(), WorkError> {
    set(repo, name, new, signature)?;
    sync(repo, name)
}

/// Sets one of the bridge's private references, whatever it was. A power cut may take it: only for what is found out again
/// where it is missing ([`INDEXED`]).
///
/// # Errors
/// When it is locked, or the disk refuses.
pub fn set(repo: &gix::Repository, name: &str, new: ObjectId, signature: &str) -> Result<(), WorkError> {
    edit(repo, name, PreviousValue::Any, new, signature, "")
}

/// Removes the bridge's private references, those of them that there are, and makes that durable.
///
/// # Errors
/// When one is locked, or the disk refuses.
pub fn forget(repo: &gix::Repository, names: &[&str]) -> Result<(), WorkError> {
    for name in names {
        let full = FullName::try_from(*name).map_err(|e| error(name)(e.to_string()))?;
        let change = Change::Delete { expected: PreviousValue::Any, log: RefLog::AndReference };
        repo.edit_references_as([RefEdit { change, name: full, deref: false }], None)
            .map_err(|e| error(name)(e.to_string()))?;
        // What was packed is packed anew beside the folders of the others.
        let file = repo.common_dir().join(name);
        for folder in file.ancestors().skip(1).take_while(|above| above.starts_with(repo.common_dir())) {
            if folder.is_dir() {
                crate::objects::sync_folder(folder)?;
            }
        }
    }
    Ok(())
}

/// Lets a detached HEAD name a branch, and makes that durable.
///
/// # Errors
/// When it is locked, or the disk refuses.
pub fn attach_head(repo: &gix::Repository, branch: &str) -> Result<(), WorkError> {
    let full = |name: &str| FullName::try_from(name).map_err(|e| error(name)(e.to_string()));
    let log = LogChange { mode: RefLog::AndReference, force_create_reflog: false, message: "".into() };
    let change = Change::Update { log, expected: PreviousValue::MustExist, new: Target::Symbolic(full(branch)?) };
    repo.edit_references_as([RefEdit { change, name: full("HEAD")?, deref: false }], None)
        .map_err(|e| error("HEAD")(e.to_string()))?;
    let file = repo.git_dir().join("HEAD");
    File::open(&file).and_then(|head| head.sync_all()).map_err(|e| WorkError::io(&file, e))?;
    crate::objects::sync_folder(repo.git_dir())
}

fn edit(
    repo: &gix::Repository,
    name: &str,
    expected: PreviousValue,
    new: ObjectId,
    signature: &str,
    why: &str,
) -> Result<(), WorkError> {
    let full = FullName::try_from(name).map_err(|e| error(name)(e.to_string()))?;
    let log = LogChange { mode: RefLog::AndReference, force_create_reflog: false, message: why.into() };
    let change = Change::Update { log, expected, new: Target::Object(new) };
    let signature =
        gix::actor::SignatureRef::from_bytes(signature.as_bytes()).map_err(|e| error(name)(e.to_string()))?;
    repo.edit_references_as([RefEdit { change, name: full, deref: false }], Some(signature))
        .map_err(|e| error(name)(e.to_string()))?;
    Ok(())
}
