//! What the executor does before the pipeline starts: it reads the journal that another life of the process left, brings
//! every file to the state that the journal decided on, and hands on what has yet to be filed.
//!
//! A command that had happened is done again where its files are not as they should be. One that was begun and whose
//! checks had no verdict is undone; its document is still in `commands/`, so that it is tried again. Everything here can be
//! repeated, also after a crash in the middle.
//!
//! A file that is in no state that the journal knows was changed by somebody else since: it is left as it is, and said. But
//! one that is cut short or zeroed against such a state was torn by a power cut: always where the machine was started
//! since, and else where it was last changed when its command was. A volume can go and come back while the machine runs.

mod files;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use protocol::command::VerifiedCommand;
use protocol::id::CommandId;
use protocol::ledger::{Ledger, Licence};
use protocol::message::Execution;
use protocol::path::RelativePath;
use protocol::receipt::Receipt;

use self::files::Files;
pub use self::files::Foreign;
use crate::apply::HiddenNames;
use crate::journal::entry::{Begun, Ended, Entry};
use crate::journal::{Draft, Found, Journal, JournalError, Stored};
use crate::tree::{Tree, TreeError};

/// Why the journal could not be recovered. Nothing is lost: it is tried again at the next start.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The journal itself.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A target's root cannot be opened.
    #[error(
        "{} cannot be opened ({source}), but commands were under way there; mount or restore it and start again",
        root.display()
    )]
    Root {
        /// The root, as the journal has it.
        root: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be brought to its state.
    #[error("beneath {}: {source}; mend that and start again", root.display())]
    Tree {
        /// The target's root.
        root: PathBuf,
        /// What the system says.
        #[source]
        source: TreeError,
    },
    /// A record is intact and yet no command.
    #[error("the journal records a command that cannot be read: {0}")]
    Command(String),
}

/// A command that had happened before the crash, and may not be filed yet.
#[derive(Debug)]
pub struct Recovered {
    /// The document's name in `commands/`.
    pub file: OsString,
    /// The command.
    pub command: Arc<VerifiedCommand>,
    /// What became of it.
    pub execution: Execution,
    /// To be given back when it is filed.
    pub receipt: Receipt,
    /// The right to have executed it; says whether it is filed already.
    pub licence: Licence,
}

/// What recovery found and did.
#[derive(Debug, Default)]
pub struct Recovery {
    /// What is to be filed, in the order in which it happened. What is filed already is among it.
    pub outcomes: Vec<Recovered>,
    /// Commands that were undone because a crash came before their verdict, and how often they were tried.
    pub interrupted: Vec<(CommandId, u32)>,
    /// Files that were brought to their state.
    pub restored: usize,
    /// Files that somebody else changed in the meantime, with the command that they belong to.
    pub foreign: Vec<Foreign>,
}

/// How a command that was begun is to end.
#[derive(Debug)]
enum Fate {
    /// Its changes stand, or it made none.
    Settled(Execution),
    /// It was undone, or has to be, and is tried again.
    Undone,
    /// As [`Fate::Undone`], because the crash came first.
    Interrupted,
}

/// One record of the journal.
#[derive(Debug)]
struct Record {
    names: HiddenNames,
    segment: u64,
    begun: Begun,
    fate: Fate,
    command: VerifiedCommand,
    /// Whether it is filed: then all of it was applied.
    filed: bool,
    /// When it began, and by when it was recorded.
    span: (DateTime<Utc>, DateTime<Utc>),
}

impl Recovery {
    /// How often commands that are still to be executed were tried, by id, given what the retries index has `noted`. What
    /// is recorded as settled is none of them, though it may lie in `commands/` and in the index until it is filed: a
    /// count would pass it off as a try that goes on.
    #[must_use]
    pub fn tries(&self, mut noted: BTreeMap<String, u32>) -> BTreeMap<String, u32> {
        for (id, tried) in &self.interrupted {
            let known = noted.entry(id.to_string()).or_default();
            *known = (*known).max(*tried);
        }
        for settled in &self.outcomes {
            noted.remove(settled.command.command().id.as_str());
        }
        noted
    }
}

impl Record {
    fn stands(&self) -> bool {
        matches!(&self.fate, Fate::Settled(execution) if execution.failure.is_none())
    }
}

/// Recovers what `journal` was `found` to hold. `ledger` must know what is filed; it learns here which ids are taken.
///
/// # Errors
/// When a file system refuses; the service must not start then.
pub fn recover(journal: &Journal, found: Found, ledger: &Arc<Ledger>) -> Result<Recovery, RecoverError> {
    if found.torn_bytes > 0 {
        tracing::warn!(
            bytes = found.torn_bytes,
            "the journal's end was cut short by a crash; that was never acknowledged"
        );
    }
    let (same_boot, mut recovery) = (found.same_boot, Recovery::default());
    let mut records = records(found.entries, ledger)?;
    for record in &mut records {
        record.span = span(record, found.written_at);
    }
    let mut roots: BTreeMap<&Path, Vec<(Option<RelativePath>, &Record)>> = BTreeMap::new();
    // A command that changes nothing may have no root at all, or one that is gone by now.
    let changing = || records.iter().filter(|record| !record.begun.changes.is_empty());
    let all: BTreeSet<&Path> = changing().map(|record| record.begun.root.as_path()).collect();
    for record in changing() {
        let (root, below) = outermost(&all, &record.begun.root);
        roots.entry(root).or_default().push((below, record));
    }
    let mut handles: HashMap<PathBuf, Dir> = HashMap::new();
    for root in all {
        let handle = Dir::open_ambient_dir(root, ambient_authority());
        handles.insert(root.to_owned(), handle.map_err(|source| RecoverError::Root { root: root.to_owned(), source })?);
    }
    for (root, records) in roots {
        let Some(handle) = handles.get(root) else { continue };
        let tree = handle.try_clone().map_err(|source| RecoverError::Root { root: root.to_owned(), source })?;
        let files = Files::of(Tree::new(tree), &records, same_boot);
        let mut files = files.map_err(|source| RecoverError::Tree { root: root.to_owned(), source })?;
        files.settle().map_err(|source| RecoverError::Tree { root: root.to_owned(), source })?;
        recovery.restored += files.restored;
        recovery.foreign.append(&mut files.foreign);
    }
    for foreign in &recovery.foreign {
        tracing::error!(id = %foreign.id, path = foreign.path, "was changed by somebody else since the command; left as it is");
    }
    for record in records {
        settle(journal, ledger, record, &handles, &mut recovery)?;
    }
    Ok(recovery)
}

/// The outermost of `roots` that holds `root`, and where `root` lies beneath it: one file must not be brought to the state
/// that each of two targets wants of it.
fn outermost<'r>(roots: &BTreeSet<&'r Path>, root: &'r Path) -> (&'r Path, Option<RelativePath>) {
    // In this order a folder comes before those beneath it.
    let above = roots.iter().filter(|above| **above != root);
    let mut found = above.filter_map(|above| {
        let below = root.strip_prefix(above).ok()?.to_str()?;
        Some((*above, Some(RelativePath::parse(below).ok()?)))
    });
    found.next().unwrap_or((root, None))
}

fn settle(
    journal: &Journal,
    ledger: &Arc<Ledger>,
    record: Record,
    handles: &HashMap<PathBuf, Dir>,
    recovery: &mut Recovery,
) -> Result<(), RecoverError> {
    let Record { names, segment, begun, fate, command, .. } = record;
    // Also of what was undone: the record may go only when the file system that holds the before-images is synced.
    let receipt = journal.reopen(segment, handles.get(&begun.root));
    match fate {
        Fate::Settled(execution) => {
            let licence = ledger.recall(&command);
            let (file, command) = (begun.file, Arc::new(command));
            recovery.outcomes.push(Recovered { file, command, execution, receipt, licence });
        }
        Fate::Interrupted => {
            let ended = Entry::Ended(Ended { begun: names.sequence, outcome: None });
            journal.append(&[Draft { entry: ended, root: None }])?;
            recovery.interrupted.push((command.command().id.clone(), begun.attempts));
            receipt.filed();
        }
        Fate::Undone => receipt.filed(),
    }
    Ok(())
}

/// When a command began, and by when it was recorded. One without an outcome was recorded when the journal was last
/// written to, at the latest.
fn span(record: &Record, written_at: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    match &record.fate {
        Fate::Settled(execution) => (execution.executed_at, execution.finished_at),
        Fate::Undone | Fate::Interrupted => (record.begun.received_at, written_at),
    }
}

/// Joins what was begun and how it ended, in the order of its beginning.
fn records(entries: Vec<Stored>, ledger: &Ledger) -> Result<Vec<Record>, RecoverError> {
    let mut records: BTreeMap<u64, Record> = BTreeMap::new();
    for Stored { sequence, run, segment, entry } in entries {
        match entry {
            Entry::Begun(mut begun) => {
                let command = VerifiedCommand::recorded(Arc::clone(&begun.raw), begun.secret, begun.received_at)
                    .map_err(|verdict| RecoverError::Command(verdict.to_string()))?;
                let fate = begun.outcome.take().map_or(Fate::Interrupted, Fate::Settled);
                let filed = ledger.is_filed(command.input_sha256());
                let names = HiddenNames { run, sequence };
                let span = (begun.received_at, begun.received_at);
                records.insert(sequence, Record { names, segment, begun, fate, command, filed, span });
            }
            Entry::Ended(Ended { begun, outcome }) => {
                // Its beginning may have been let go: then all is done.
                if let Some(record) = records.get_mut(&begun) {
                    record.fate = outcome.map_or(Fate::Undone, Fate::Settled);
                }
            }
        }
    }
    Ok(records.into_values().collect())
}
