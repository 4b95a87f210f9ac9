//! What the archiver does before the pipeline starts: it reads the whole log into the ledger, mends its end, and
//! completes the filing of what a crash left between the artifacts and the log.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;

use cap_std::fs::Dir;
use chrono::{NaiveDate, Utc};
use protocol::audit::{AuditEntry, AuditResult};
use protocol::command::ACTION;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::json::{self, Value};
use protocol::ledger::{Ledger, Origin};
use protocol::message::Outcome;
use protocol::reason::Reason;
use protocol::signing::Keyring;

use crate::ArchiverConfig;
use crate::actor::MAX_BATCH;
use crate::batch::Batch;
use crate::commands;
use crate::error::ArchiveError;
use crate::files::{Cabinet, Folder, Found, TEMPORARY, remove_temporary};
use crate::history::{self, ChainBreak, names as list};
use crate::log::{AuditLog, Limits};
use crate::names::{self, MAX_ARTIFACT_BYTES};
use crate::shelves::{Segment, Shelf, Walk};

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Intact lines in the log, those included that were added now.
    pub lines: u64,
    /// The first place where the chain of the log does not hold.
    pub chain_break: Option<ChainBreak>,
    /// Names of what was filed but for its audit line, which it has now.
    pub completed: Vec<String>,
    /// Names of artifacts that were left incomplete; they are replaced when their document is judged again.
    pub incomplete: Vec<String>,
}

/// Why the archiver cannot start.
#[derive(Debug, thiserror::Error)]
#[error("the artifacts and the audit log cannot be recovered; mend what is wrong there and start again")]
pub struct RecoverError(#[from] ArchiveError);

impl ArchiverConfig {
    pub(crate) fn limits(&self) -> Limits {
        Limits { bytes: self.log_kib.max(1).saturating_mul(1024), window: self.window.max(1) }
    }
}

/// Something that is filed but for its line.
struct Orphan {
    name: String,
    at: String,
    entry: AuditEntry,
}

/// Reads the log into `ledger` and completes what was filed without its line. To be run once, before the pipeline
/// starts and before the publisher looks at the log.
///
/// # Errors
/// When folders or files cannot be read or written, or a link lies in a folder's place. A broken chain is no error: it is
/// reported, and the log goes on behind its last intact line.
pub fn recover(config: &ArchiverConfig, keyring: &Keyring, ledger: &Ledger) -> Result<Recovery, RecoverError> {
    let cabinet = Cabinet::open(&config.cloud)?;
    let mut log = AuditLog::open(&cabinet.logs, config.limits())?;
    let history = history::read(&cabinet.logs, |entry| ledger.record(entry))?;
    if let Some(fault) = &history.first_break {
        tracing::error!(
            file = fault.file,
            line = fault.line,
            "the audit chain is broken: the line {}; compare the log with git's history",
            fault.what
        );
    }
    let mut recovery = Recovery { lines: history.lines, chain_break: history.first_break, ..Recovery::default() };
    remove_temporaries(&cabinet)?;
    let mut orphans = executed(&cabinet, keyring, ledger, &mut recovery.incomplete)?;
    let mut completed: HashSet<Sha256> = orphans.iter().map(|orphan| orphan.entry.input_sha256).collect();
    orphans.extend(dead_letters(
        &cabinet,
        |input| ledger.is_filed(input) || completed.contains(&input),
        &mut recovery.incomplete,
    )?);
    completed.extend(orphans.iter().map(|orphan| orphan.entry.input_sha256));
    let lost = recovery.lines == 0 || recovery.chain_break.is_some();
    orphans.extend(rolled(&cabinet, keyring, ledger, lost, &mut completed)?);
    orphans.sort_by(|a, b| (&a.at, &a.name).cmp(&(&b.at, &b.name)));
    let entries: Vec<AuditEntry> = orphans.iter().map(|orphan| orphan.entry.clone()).collect();
    let mut lines = Vec::new();
    log.append(&cabinet.logs, &entries, Utc::now(), &mut lines)?;
    lines.iter().for_each(|appended| ledger.record(&appended.line.entry));
    recovery.lines += lines.len() as u64;
    recovery.completed = orphans.into_iter().map(|orphan| orphan.name).collect();
    for name in &recovery.completed {
        tracing::warn!(name, "was filed without its audit line; added");
    }
    for name in &recovery.incomplete {
        tracing::warn!(name, "was filed by half and is in no audit line; replaced when its document is judged again");
    }
    Ok(recovery)
}

/// Brings back what a power cut took of artifacts that are in the log already, and gives back the `outcomes` that are not
/// in it. To be run before the publisher looks at the log: it commits artifacts as it finds them.
///
/// # Errors
/// As for [`recover`]; it may be run again.
pub fn restore(
    config: &ArchiverConfig,
    keyring: &Keyring,
    ledger: &Ledger,
    outcomes: Vec<Outcome>,
) -> Result<Vec<Outcome>, RecoverError> {
    let (mut filed, unfiled): (Vec<Outcome>, Vec<Outcome>) = outcomes.into_iter().partition(|outcome| match outcome {
        Outcome::Executed(executed) => executed.licence.origin() == Origin::Filed,
        _ => false,
    });
    let mut cabinet = Cabinet::open(&config.cloud)?;
    reach_rolled(&mut cabinet, &filed)?;
    let mut log = AuditLog::open(&cabinet.logs, config.limits())?;
    let mut batch = Batch::default();
    while !filed.is_empty() {
        batch.refill(filed.drain(..filed.len().min(MAX_BATCH)).collect());
        batch.file(&cabinet, &mut log, ledger, keyring, config.unauthenticated_per_hour, Utc::now())?;
    }
    Ok(unfiled)
}

/// Lets the cabinet find what was rolled over of these since they were executed.
fn reach_rolled(cabinet: &mut Cabinet, filed: &[Outcome]) -> Result<(), ArchiveError> {
    let (mut ids, mut since) = (HashSet::new(), None);
    for outcome in filed {
        let Outcome::Executed(executed) = outcome else { continue };
        ids.insert(executed.command.command().id.to_string());
        let day = executed.execution.finished_at.date_naive();
        since = Some(since.map_or(day, |since: NaiveDate| since.min(day)));
    }
    if ids.is_empty() {
        return Ok(());
    }
    // A clock may have been set back in between.
    cabinet.reach_rolled(&ids, since.and_then(|day| day.pred_opt()))
}

fn remove_temporaries(cabinet: &Cabinet) -> Result<(), ArchiveError> {
    for folder in [Folder::Diffs, Folder::Results, Folder::Archive, Folder::DeadLetter] {
        let dir = cabinet.folder(folder);
        for name in list(dir, folder.name(), |name| name.starts_with(TEMPORARY))? {
            remove_temporary(dir, folder, &name)?;
        }
    }
    Ok(())
}

/// The executed commands that have artifacts but no line.
fn executed(
    cabinet: &Cabinet,
    keyring: &Keyring,
    ledger: &Ledger,
    incomplete: &mut Vec<String>,
) -> Result<Vec<Orphan>, ArchiveError> {
    let mut stems = HashSet::new();
    for (folder, ending) in [(Folder::Results, ".json"), (Folder::Archive, ".json"), (Folder::Diffs, ".patch")] {
        for name in
            list(cabinet.folder(folder), folder.name(), |name| name.ends_with(ending) && !name.starts_with('.'))?
        {
            let stem = name.strip_suffix(ending).unwrap_or(&name);
            stems.insert(stem.strip_suffix(".integrity").unwrap_or(stem).to_owned());
        }
    }
    let mut orphans = Vec::new();
    for stem in stems {
        match executed_as(cabinet, keyring, ledger, &stem)? {
            State::Known => {}
            State::Incomplete => incomplete.push(stem),
            State::Orphan(entry, at) => orphans.push(Orphan { name: stem, at, entry: *entry }),
        }
    }
    incomplete.sort_unstable();
    Ok(orphans)
}

/// How the artifacts of an executed command stand to the log.
enum State {
    /// The log knows them, or they are nobody's.
    Known,
    /// They have no line and are not whole.
    Incomplete,
    /// They are whole and have no line: this one, and when it was executed.
    Orphan(Box<AuditEntry>, String),
}

fn executed_as(shelf: &dyn Shelf, keyring: &Keyring, ledger: &Ledger, stem: &str) -> Result<State, ArchiveError> {
    let Ok(id) = CommandId::parse(stem) else { return Ok(State::Known) };
    if ledger.is_taken(&id) {
        return Ok(State::Known);
    }
    let Some(vouched) = names::vouched(shelf, keyring, stem)? else { return Ok(State::Incomplete) };
    if ledger.is_filed(vouched.input) {
        return Ok(State::Known);
    }
    if !names::is_complete(shelf, stem, &vouched)? {
        return Ok(State::Incomplete);
    }
    let result = if vouched.exit_code == 0 { AuditResult::Ok } else { AuditResult::Failed };
    let entry = AuditEntry {
        ts: String::new(),
        id: Some(vouched.id),
        action: Some(ACTION.to_owned()),
        result,
        exit: Some(vouched.exit_code),
        files_changed: vouched.files_changed,
        hmac_ok: true,
        input_sha256: vouched.input,
    };
    Ok(State::Orphan(Box::new(entry), vouched.executed_at))
}

/// What was rolled over and is not in the log: it was once, for only what is committed rolls over; so the log was lost,
/// or a part of it. Without any sign of that only the newest segments are looked at.
fn rolled(
    cabinet: &Cabinet,
    keyring: &Keyring,
    ledger: &Ledger,
    lost: bool,
    known: &mut HashSet<Sha256>,
) -> Result<Vec<Orphan>, ArchiveError> {
    let mut orphans: Vec<Orphan> = Vec::new();
    for folder in [Folder::Results, Folder::DeadLetter] {
        let mut visit = |dir: &Dir, path: &str| -> Result<Option<()>, ArchiveError> {
            let before = orphans.len();
            let segment = Segment::open(|folder| cabinet.folder(folder).try_clone(), path)?;
            for name in list(dir, path, |name| name.ends_with(".json") && !name.starts_with('.'))? {
                let stem = name.strip_suffix(".json").unwrap_or(&name);
                let found = match (folder, stem.strip_suffix(".integrity")) {
                    (Folder::DeadLetter, _) => rolled_letter(&segment, ledger, &name)?,
                    (_, None) => None,
                    (_, Some(stem)) => match executed_as(&segment, keyring, ledger, stem)? {
                        State::Orphan(entry, at) => Some(Orphan { name: stem.to_owned(), at, entry: *entry }),
                        State::Known | State::Incomplete => None,
                    },
                };
                orphans.extend(found.filter(|orphan| known.insert(orphan.entry.input_sha256)));
            }
            Ok((!lost && orphans.len() == before).then_some(()))
        };
        Walk::new(None, &mut visit).through(cabinet.folder(folder), folder)?;
    }
    Ok(orphans)
}

/// A refused document's letter in a segment that is not in the log.
fn rolled_letter(segment: &Segment, ledger: &Ledger, name: &str) -> Result<Option<Orphan>, ArchiveError> {
    let Found::File(bytes) = segment.look(Folder::DeadLetter, name, MAX_ARTIFACT_BYTES)? else { return Ok(None) };
    let Some((entry, _)) = read_letter(&bytes) else { return Ok(None) };
    if entry.result.takes_id() || ledger.is_filed(entry.input_sha256) {
        return Ok(None);
    }
    Ok(Some(Orphan { name: name.to_owned(), at: entry.ts.clone(), entry }))
}

/// The dead letters of refused documents that have no line and whose document is gone. Where the document is still in
/// `commands/` it is judged again: a dead letter is not signed, so nobody need believe it while its document is there.
fn dead_letters(
    cabinet: &Cabinet,
    is_filed: impl Fn(Sha256) -> bool,
    incomplete: &mut Vec<String>,
) -> Result<Vec<Orphan>, ArchiveError> {
    let mut orphans = Vec::new();
    let folder = Folder::DeadLetter;
    for name in list(cabinet.folder(folder), folder.name(), |name| name.ends_with(".json") && !name.starts_with('.'))? {
        let Found::File(bytes) = cabinet.look(folder, &name, MAX_ARTIFACT_BYTES)? else { continue };
        let Some((letter, file)) = read_letter(&bytes) else {
            tracing::warn!(name, "in dead_letter/ is no dead letter of this bridge; left alone");
            continue;
        };
        if is_filed(letter.input_sha256) {
            continue;
        }
        let name = name.strip_suffix(".json").unwrap_or(&name).to_owned();
        let waits = match &cabinet.commands {
            Some(commands) => still_waits(commands, &file, letter.input_sha256)?,
            None => false,
        };
        let takes_id = letter.result.takes_id();
        if waits || takes_id {
            incomplete.push(name);
        } else {
            orphans.push(Orphan { name, at: letter.ts.clone(), entry: letter });
        }
    }
    Ok(orphans)
}

/// What a dead letter says, as its audit line would, and the name of its document.
fn read_letter(bytes: &[u8]) -> Option<(AuditEntry, String)> {
    let value = json::parse(bytes).ok()?;
    let object = value.as_object()?;
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let reason = Reason::parse(text("reason")?)?;
    let hmac_ok = object.get("hmac_ok").and_then(Value::as_bool)?;
    let command = object.get("command").and_then(Value::as_object);
    let action = command.and_then(|command| command.get("action")).and_then(Value::as_str);
    let executed = text("stage")? == "execution";
    let entry = AuditEntry {
        ts: text("rejected_at")?.to_owned(),
        id: text("id").and_then(|id| CommandId::parse(id).ok()),
        action: action.filter(|action| hmac_ok && *action == ACTION).map(str::to_owned),
        result: if executed { AuditResult::Failed } else { AuditResult::Rejected(reason) },
        exit: None,
        files_changed: 0,
        hmac_ok,
        input_sha256: text("input_sha256").and_then(Sha256::from_hex)?,
    };
    Some((entry, text("file")?.to_owned()))
}

/// Whether the document of these bytes, or anything that is no regular file, still lies in `commands/` under its name.
fn still_waits(folder: &Dir, file: &str, input: Sha256) -> Result<bool, ArchiveError> {
    let path = || format!("{}/{file}", crate::files::COMMANDS);
    if file.contains('/') || matches!(file, "" | "." | "..") {
        return Ok(false);
    }
    match folder.symlink_metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ArchiveError::Io { what: "look at", path: path(), source }),
        Ok(metadata) if !metadata.is_file() => Ok(true),
        Ok(_) => Ok(commands::hash(folder, OsStr::new(file)).map_err(ArchiveError::io("read", path()))? == Some(input)),
    }
}
