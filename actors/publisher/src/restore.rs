//! The audit log put back from the branch where the disk has lost of it: to be done before anybody reads the log.
//!
//! The log says which commands were filed. It is made durable before it is committed, but a power cut may take what a
//! journal vouches for, and a person may take anything. What the branch has is put back, so that nobody files, and
//! publishes, a second time what is published.

use std::path::Path;

use chrono::Utc;
use gix::ObjectId;
use gix::objs::Kind;

use crate::audit::{self, Link};
use crate::commit;
use crate::config::PublisherConfig;
use crate::core::LOG_PATH;
use crate::error::WorkError;
use crate::files::{Found, Root};
use crate::objects::{MAX_BLOB_BYTES, Store};
use crate::open::open_repository;
use crate::recovery::{is_rolled_log, rolled_logs};
use crate::refs;
use crate::tree::{FILE, SafeTree};

/// Puts back the logs that the branch has and the disk has not, and the end of the current one where the disk has its
/// beginning only. A log that says something else than the branch's is left alone: the chain tells of it.
///
/// # Errors
/// When the repository or the folder of the logs cannot be read. A log that cannot be put back is said, and keeps no
/// other from it.
pub fn restore_log(config: &PublisherConfig) -> Result<(), WorkError> {
    let repo = open_repository(&config.cloud)?;
    let Some(branch) = refs::head_branch(&repo)? else { return Ok(()) };
    let Some(head) = refs::read(&repo, &branch)? else { return Ok(()) };
    let store = Store::new(repo);
    let tree = commit::parse(head, &store.read(head, Kind::Commit)?)?.tree;
    let logs = SafeTree::open(Some(tree), &store)?.files("logs", &store)?;
    let root = Root::open(&config.cloud).map_err(|e| WorkError::io(&config.cloud, e))?;
    let on_disk = rolled_logs(&root)?;
    let committed = |path: &String| logs.binary_search_by(|(there, _)| there.cmp(path)).is_ok();
    // What the branch has as the current log is in one that has rolled since.
    let rolled_since = !on_disk.iter().all(committed);
    for (path, leaf) in &logs {
        let current = path == LOG_PATH && !rolled_since;
        if leaf.mode == FILE && (current || is_rolled_log(path)) {
            match put_back(&root, path, leaf.id, &store) {
                Ok(false) => {}
                Ok(true) => tracing::warn!(path, "the disk had lost of the audit log: put back from the branch"),
                Err(error) => tracing::error!(path, %error, "the disk has lost of the audit log, and it stays lost"),
            }
        }
    }
    Ok(())
}

/// Writes a log that the branch has, if the disk lacks it or its end; tells whether it did.
fn put_back(root: &Root, path: &str, id: ObjectId, store: &Store) -> Result<bool, WorkError> {
    let io = |error| WorkError::io(root.path().join(path), error);
    let at = Path::new(path);
    let found = match root.find(at).map_err(io)? {
        Found::Link(_) | Found::Other if root.folder(at.parent().unwrap_or(at), false).is_ok() => {
            let name = at.file_name().unwrap_or_default().to_string_lossy();
            let aside = format!("{name}.in-the-way-{}", Utc::now().format("%Y%m%dT%H%M%S%.3fZ"));
            root.set_aside(at, &aside).map_err(io)?;
            tracing::error!(path, now = aside, "stood in the way of the audit log and is set aside");
            Found::Nothing
        }
        found => found,
    };
    let committed = match found {
        Found::Nothing => store.read(id, Kind::Blob)?,
        // One that has rolled is whole: it was synced before it was committed.
        Found::File { .. } if path == LOG_PATH => {
            let there = root.read(at, MAX_BLOB_BYTES).map_err(io)?.unwrap_or_default();
            let committed = store.read(id, Kind::Blob)?;
            if there == committed {
                return Ok(false);
            }
            if committed.starts_with(without_zeros(&there)) {
                committed
            } else {
                // It was taken away while lines were being written: what came since goes on where it ended.
                let Some(whole) = joined(&committed, &there) else { return Ok(false) };
                whole
            }
        }
        Found::File { .. } | Found::Link(_) | Found::Other => return Ok(false),
    };
    root.write(at, &committed, false).map_err(io)?;
    root.sync(at.parent().unwrap_or(Path::new(""))).map_err(io)?;
    Ok(true)
}

/// A log that begins with another one's lines, as far as these go, behind what it goes on from; `None` where it goes on
/// from none of its lines, or begins as it does.
fn joined(committed: &[u8], there: &[u8]) -> Option<Vec<u8>> {
    let first = Link::of(audit::lines(there).next()?)?;
    let mut before = 0;
    for line in audit::lines(committed) {
        before += line.len();
        if Link::of(line).is_some_and(|link| link.hash == first.prev) {
            let (known, rest) = committed.split_at_checked(before)?;
            let longer = if there.starts_with(rest) { there } else { rest.starts_with(there).then_some(rest)? };
            return Some([known, longer].concat());
        }
    }
    None
}

/// What a power cut takes of a file may be there as zeros.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_joined_to_the_one_that_it_goes_on_from_and_to_no_other() {
        let line = |prev: &str, hash: &str| format!("{{\"prev\":\"{prev}\",\"hash\":\"{hash}\"}}\n");
        let (a, b, c, d) = (line("0", "a"), line("a", "b"), line("b", "c"), line("c", "d"));
        let joined = |committed: &[&String], there: &[&String]| {
            let text = |lines: &[&String]| lines.iter().map(|line| line.as_str()).collect::<String>().into_bytes();
            joined(&text(committed), &text(there)).map(|whole| String::from_utf8_lossy(&whole).into_owned())
        };
        let whole = Some(format!("{a}{b}{c}{d}"));
        assert_eq!(joined(&[&a, &b], &[&c, &d]), whole);
        assert_eq!(joined(&[&a, &b, &c], &[&c, &d]), whole);
        assert_eq!(joined(&[&a, &b, &c, &d], &[&c]), whole);
        assert_eq!(joined(&[&a, &b, &d], &[&c]), None, "they part");
        assert_eq!(joined(&[&a], &[&c]), None, "a line is missing between them");
        assert_eq!(joined(&[&a], &[]), None);
    }
}
