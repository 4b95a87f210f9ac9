//! The audit log put back from the branch where the disk has lost of it: to be done before anybody reads the log.
//!
//! The log says which commands were filed. It is made durable before it is committed, but a power cut may take what a
//! journal vouches for, and a person may take anything. What the branch has is put back, so that nobody files, and
//! publishes, a second time what is published.

use std::path::Path;

use gix::objs::Kind;

use crate::commit;
use crate::config::PublisherConfig;
use crate::core::LOG_PATH;
use crate::error::WorkError;
use crate::files::{Found, Root};
use crate::objects::{MAX_BLOB_BYTES, Store};
use crate::open::open_repository;
use crate::recovery::{is_rolled_log, rolled_logs};
use crate::refs;
use crate::tree::{Leaf, SafeTree};

/// Puts back the logs that the branch has and the disk has not, and the end of the current one where the disk has its
/// beginning only. Tells which files were put back. A log that says something else than the branch's is left alone.
///
/// # Errors
/// When the repository cannot be read, or the disk refuses.
pub fn restore_log(config: &PublisherConfig) -> Result<Vec<String>, WorkError> {
    let repo = open_repository(&config.cloud)?;
    let Some(branch) = refs::head_branch(&repo)? else { return Ok(Vec::new()) };
    let Some(head) = refs::read(&repo, &branch)? else { return Ok(Vec::new()) };
    let store = Store::new(repo);
    let tree = commit::parse(head, &store.read(head, Kind::Commit)?)?.tree;
    let logs = SafeTree::open(Some(tree), &store)?.files("logs", &store)?;
    let root = Root::open(&config.cloud).map_err(|e| WorkError::io(&config.cloud, e))?;
    let on_disk = rolled_logs(&root)?;
    let committed = |path: &String| logs.binary_search_by(|(there, _)| there.cmp(path)).is_ok();
    // What the branch has as the current log is in one that has rolled since.
    let rolled_since = !on_disk.iter().all(committed);
    let mut restored = Vec::new();
    for (path, leaf) in &logs {
        let lost = if path == LOG_PATH {
            !rolled_since && is_cut_short(&root, *leaf, &store)?
        } else {
            is_rolled_log(path) && root.find(Path::new(path)).map_err(io(&root, path))? == Found::Nothing
        };
        if lost {
            let bytes = store.read(leaf.id, Kind::Blob)?;
            root.write(Path::new(path), &bytes, false).map_err(io(&root, path))?;
            let folder = Path::new(path).parent().unwrap_or(Path::new(""));
            root.sync(folder).map_err(io(&root, path))?;
            tracing::warn!(path, bytes = bytes.len(), "the disk had lost of the audit log: put back from the branch");
            restored.push(path.clone());
        }
    }
    Ok(restored)
}

fn io(root: &Root, path: &str) -> impl FnOnce(std::io::Error) -> WorkError {
    let path = root.path().join(path);
    move |error| WorkError::io(path, error)
}

/// Whether the current log on disk is less than the committed one, and its beginning.
fn is_cut_short(root: &Root, leaf: Leaf, store: &Store) -> Result<bool, WorkError> {
    if root.find(Path::new(LOG_PATH)).map_err(io(root, LOG_PATH))? == Found::Other {
        return Ok(false);
    }
    let there = root.read(Path::new(LOG_PATH), MAX_BLOB_BYTES).map_err(io(root, LOG_PATH))?.unwrap_or_default();
    let committed = store.read(leaf.id, Kind::Blob)?;
    Ok(there.len() < committed.len() && committed.starts_with(&there))
}
