//! The messages that pass from actor to actor, in the order of the pipeline.
//!
//! Data flows one way. Each message owns what the next actor needs, and the [`Ticket`] that keeps the command's place
//! among those in flight; nothing here is needed for correctness, because whatever is lost with a message is found
//! again on disk.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::artifact::CommitSubject;
use crate::command::VerifiedCommand;
use crate::digest::Sha256;
use crate::id::CommandId;
use crate::ledger::{FiledBefore, Licence, Turn};
use crate::reason::{Reason, Verdict};
use crate::receipt::Receipt;
use crate::ticket::Ticket;

/// What the watcher found under one name in `commands/`.
#[derive(Debug)]
pub struct Candidate {
    /// The command's place in flight; names the file.
    pub ticket: Ticket,
    /// What lies there.
    pub content: Content,
    /// Wall-clock time of the reading.
    pub received_at: chrono::DateTime<chrono::Utc>,
}

/// What lies under a name in `commands/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file within the size bound, read whole.
    Document(Arc<[u8]>),
    /// A regular file over the size bound: its first bytes and its hash; it was never held whole.
    TooLarge {
        /// The first 4 KiB at most.
        head: Arc<[u8]>,
        /// Size in bytes.
        size: u64,
        /// Hash of the whole file.
        sha256: Sha256,
    },
    /// No regular file: a link, a folder, a FIFO, a socket or a device.
    NotRegular {
        /// What it is, in words: `a symbolic link`.
        kind: &'static str,
        /// For a link its target's text, else nothing; this is what stands for the document's bytes.
        bytes: Arc<[u8]>,
    },
}

/// A document whose file, JSON, HMAC, schema and time were found good.
#[derive(Debug)]
pub struct Verified {
    /// The command's place in flight.
    pub ticket: Ticket,
    /// The command, with the proof that its signature held.
    pub command: Arc<VerifiedCommand>,
    /// The right to settle it.
    pub turn: Arc<Turn>,
}

/// A document that was judged and refused before anything changed.
#[derive(Debug)]
pub struct Rejected {
    /// The command's place in flight.
    pub ticket: Ticket,
    /// What is to be filed as its dead letter.
    pub rejection: Rejection,
}

/// Everything that a dead letter says of a refused document.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Why, where, and one sentence.
    pub verdict: Verdict,
    /// The document's id where it yields a valid one.
    pub id: Option<CommandId>,
    /// Whether the signature held; false where it was not reached.
    pub hmac_ok: bool,
    /// The document's bytes (see [`Content`] for what stands in for them).
    pub content: Content,
    /// Hash of the bytes.
    pub input_sha256: Sha256,
    /// How often execution was tried.
    pub attempts: u32,
    /// The right to settle the document. What is no regular file has none: it is known by its name, too.
    pub turn: Option<Arc<Turn>>,
}

/// A command that reached execution: it holds, or it failed and left nothing behind.
#[derive(Debug)]
pub struct Executed {
    /// The command's place in flight.
    pub ticket: Ticket,
    /// The command.
    pub command: Arc<VerifiedCommand>,
    /// What became of it.
    pub execution: Execution,
    /// Given back when all of it is filed: until then the executor's journal keeps its record.
    pub receipt: Receipt,
    /// The right to execute it; says whether another life of the process did, which may have filed it, in part or whole.
    pub licence: Licence,
}

/// What became of an executed command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// `None` when all went well, else the reason and the sentence.
    pub failure: Option<(Reason, String)>,
    /// When execution began.
    pub executed_at: chrono::DateTime<chrono::Utc>,
    /// When it ended.
    pub finished_at: chrono::DateTime<chrono::Utc>,
    /// Its length on the monotonic clock, in milliseconds.
    pub duration_ms: u64,
    /// Files that differ from before; 0 after a failure.
    pub files_changed: u64,
    /// Bytes of the files that were written; 0 after a failure.
    pub bytes_written: u64,
    /// One report an op.
    pub ops: Vec<crate::artifact::OpReport>,
    /// One report a check that was run.
    pub checks: Vec<crate::artifact::CheckReport>,
    /// The git-format diff; empty where nothing changed. Left out when serialised: whoever does keeps bytes as bytes.
    #[serde(skip)]
    pub diff: Vec<u8>,
    /// How often execution was tried, this time included.
    pub attempts: u32,
}

impl Execution {
    /// The command's exit code: 0, or its reason's.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.failure.as_ref().map_or(0, |(reason, _)| reason.exit_code())
    }
}

/// One try of a command whose execution failed for a passing cause and will be tried again. The publisher notes it in
/// `meta/retries.json`; one that is lost costs nothing but that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The command's id.
    pub id: CommandId,
    /// How often execution was tried so far, this time included.
    pub attempts: u32,
    /// Why it failed this time: the reason, a colon, one sentence; one line. The publisher cuts what is longer than it
    /// keeps.
    pub error: String,
    /// When it failed.
    pub at: chrono::DateTime<chrono::Utc>,
}

/// A document that is filed already, in this or another spelling: its file goes, nothing else happens.
#[derive(Debug)]
pub struct Redelivered {
    /// The command's place in flight.
    pub ticket: Ticket,
    /// The id, for the log.
    pub id: Option<CommandId>,
    /// Hash of the bytes.
    pub input_sha256: Sha256,
    /// The ledger's word that it is.
    pub filed: FiledBefore,
}

/// What the archiver is given to file.
#[derive(Debug)]
pub enum Outcome {
    /// Refused before anything changed.
    Rejected(Rejected),
    /// Executed, well or not.
    Executed(Executed),
    /// Filed before.
    Redelivered(Redelivered),
}

/// One document is filed: its artifacts and its audit line are durable on disk, its file has left `commands/`.
#[derive(Clone, Debug)]
pub struct Filed {
    /// The document's id; `None` where it yields no valid one.
    pub id: Option<CommandId>,
    /// The commit's message.
    pub subject: CommitSubject,
    /// The artifacts' paths relative to CLOUD, `/`-separated.
    pub artifacts: Vec<String>,
    /// The audit line, with its newline.
    pub audit_line: String,
    /// Where the log moved to just before this line was written, relative to CLOUD; a new log starts with this line.
    pub log_rolled_to: Option<String>,
    /// First sight of the document, on the monotonic clock; `None` where another life of the process had it.
    pub first_seen: Option<Instant>,
}
