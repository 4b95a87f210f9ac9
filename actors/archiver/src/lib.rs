//! Files what became of a document: result, diff, integrity, archive or dead letter, and the audit line.
//!
//! The archiver owns `results/`, `diffs/`, `archive/`, `dead_letter/` as files, and `logs/bridge.log`. A batch of outcomes
//! goes through the same steps in the same order, each of which can be repeated: artifacts, folders, audit lines, ledger,
//! and only then the documents leave `commands/`. When a step fails the batch waits and goes on where it stood.
//!
//! Invariants:
//! - A document leaves `commands/` only after its artifacts and its audit line are durable, and only while its bytes are
//!   those that were judged.
//! - A dead letter never replaces another document's. An executed command's artifacts replace only what no valid
//!   signature of the bridge vouches for.
//! - No link is followed, in the place of a folder or of a file.
//! - What stands in the way of one of its names is set aside, so that no document waits for it.
//! - It never touches git, and it never executes anything.
//!
//! Limitations: between the last look at a document's bytes and its removal a producer may put another one under the same
//! name; that one is lost. Producers should use a fresh name for each document. The whole log is read at start.

mod actor;
mod aside;
mod batch;
mod commands;
mod documents;
mod error;
mod files;
mod find;
mod history;
mod integrity;
mod log;
mod names;
mod read_back;
mod recover;
mod shelves;
mod status;
mod story;
mod tally;

use std::path::PathBuf;

pub use actor::{Archiver, MAILBOX_CAPACITY};
pub use aside::IN_THE_WAY;
pub use error::ArchiveError;
pub use files::Folder;
pub use find::{Found, find, find_beside, find_since};
pub use history::ChainBreak;
pub use read_back::Filed;
pub use recover::{RecoverError, Recovery, recover, restore};
pub use status::{ArchiverStatus, LAST_STORIES};
pub use story::{Ending, Story, millis};

/// What the archiver is told by the configuration.
#[derive(Clone, Debug)]
pub struct ArchiverConfig {
    /// The root of the work tree, `CLOUD`.
    pub cloud: PathBuf,
    /// The size in KiB from which on the log rolls (`publish.log_kib`); 0 counts as 1.
    pub log_kib: u64,
    /// The most logs that one segment folder holds (`publish.window`); 0 counts as 1.
    pub window: usize,
    /// How many documents without a valid signature get a letter each within an hour (`ingest.unauthenticated_per_hour`).
    pub unauthenticated_per_hour: u64,
}

#[cfg(test)]
mod tests;
