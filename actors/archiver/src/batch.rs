//! One batch of outcomes on its way into the files: a row of steps, each of which can be repeated after a failure.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::time::Instant;

use chrono::{DateTime, Utc};
use protocol::artifact::{Counted, SerializeError};
use protocol::audit::AuditEntry;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::ledger::{Ledger, Origin, Turn};
use protocol::message::{Content, Executed, Filed, Outcome, Rejected};
use protocol::reason::Reason;
use protocol::signing::Keyring;
use protocol::ticket::Ticket;

use crate::commands::{self, Judged, Left};
use crate::documents::{self, Documents, Names};
use crate::error::{ArchiveError, in_one_line};
use crate::files::{Artifact, Cabinet, Folder, Found};
use crate::log::{Appended, AuditLog};
use crate::names::{self, Claimed, MAX_ARTIFACT_BYTES};
use crate::shelves::Letters;
use crate::story::Story;
use crate::tally::{self, Tallies};

/// The most folders under a document's name that are remembered as not removable.
const MAX_REMEMBERED: usize = 10_000;

/// What is to be done with one document.
#[derive(Debug)]
enum Plan {
    File(Box<Documents>),
    /// It was filed before the process was killed: what a power cut took of its artifacts comes back, nothing else.
    Restore(Box<Documents>),
    /// It was filed before: only the document goes.
    RemoveQuietly,
    /// It has no valid signature, and the hour has had its letters: it is counted.
    Count(Sha256),
}

/// What a batch came to.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub filed: Vec<Filed>,
    /// One each.
    pub stories: Vec<Story>,
    pub removed_quietly: u64,
    /// Why those were refused that have no letter of their own.
    pub counted: Vec<Reason>,
    /// When the letter of those is due.
    pub letter_due: Option<DateTime<Utc>>,
}

/// Outcomes in their order, and how far their filing has come.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    outcomes: Vec<Outcome>,
    plans: Option<Vec<Plan>>,
    stored: bool,
    lines: Vec<Appended>,
    /// Lines that the ledger knows of.
    recorded: usize,
    full_folders: HashSet<OsString>,
    letters: Letters,
    tallies: Tallies,
    /// When it was planned.
    planned_at: DateTime<Utc>,
    tallied: bool,
    /// The line of the letter of an hour that is over.
    closing: Vec<Appended>,
    closed: Vec<Filed>,
}

impl Batch {
    /// Takes the next outcomes. Only an empty batch may be refilled.
    pub(crate) fn refill(&mut self, outcomes: Vec<Outcome>) {
        (self.outcomes, self.plans, self.stored, self.tallied) = (outcomes, None, false, false);
        self.lines.clear();
        self.recorded = 0;
    }

    /// Files all of it. After an error it may be called again and goes on where it stood. The tickets are given back
    /// at the end, when the documents have left `commands/`. Of documents without a valid signature `most` get a letter
    /// each within an hour.
    pub(crate) fn file(
        &mut self,
        cabinet: &Cabinet,
        log: &mut AuditLog,
        ledger: &Ledger,
        keyring: &Keyring,
        most: u64,
        now: DateTime<Utc>,
    ) -> Result<Done, ArchiveError> {
        if self.plans.is_none() {
            self.tallies.read(cabinet)?;
            self.file_letter(cabinet, log, ledger, now)?;
            self.planned_at = now;
            let letters = &mut self.letters;
            let free = most.saturating_sub(ledger.unauthenticated_within(now));
            let (claimed, inputs, tallies) = (Claimed::default(), HashSet::new(), &self.tallies);
            let mut planner = Planner { cabinet, ledger, keyring, now, claimed, inputs, letters, tallies, free };
            let plans: Result<_, _> = self.outcomes.iter().map(|outcome| planner.plan(outcome)).collect();
            self.plans = Some(plans?);
        }
        let plans = self.plans.as_deref().unwrap_or_default();
        let documents: Vec<&Documents> = plans.iter().filter_map(Plan::documents).collect();
        if !self.stored {
            let artifacts: Vec<&Artifact> = plans.iter().flat_map(Plan::artifacts).collect();
            let stored = cabinet.store(&artifacts);
            if matches!(stored, Err(ArchiveError::Conflict { .. })) {
                self.plans = None;
                return stored.map(|()| Done::default());
            }
            stored?;
            self.stored = true;
            supervision::crash_point!("archiver.stored");
        }
        let entries: Vec<AuditEntry> = documents.iter().map(|documents| documents.entry.clone()).collect();
        log.append(&cabinet.logs, &entries, now, &mut self.lines)?;
        let new = self.outcomes.iter().zip(plans).filter(|(_, plan)| plan.documents().is_some());
        // Once each, however often this is tried.
        for ((outcome, _), appended) in new.zip(&self.lines).skip(self.recorded) {
            match turn(outcome) {
                Some(turn) => turn.filed(&appended.line.entry),
                None => ledger.record(&appended.line.entry),
            }
        }
        self.recorded = self.lines.len();
        supervision::crash_point!("archiver.logged");
        self.count(cabinet)?;
        let plans = self.plans.take().unwrap_or_default();
        let (outcomes, lines) = (std::mem::take(&mut self.outcomes), std::mem::take(&mut self.lines));
        (self.stored, self.tallied) = (false, false);
        for (outcome, plan) in outcomes.iter().zip(&plans) {
            let is_gone = self.remove(cabinet, outcome);
            match (plan, outcome) {
                (Plan::Count(identity), _) => self.tallies.removed(*identity, is_gone),
                (_, Outcome::Rejected(rejected)) if is_gone => self.tallies.removed(identity(rejected), true),
                _ => {}
            }
            supervision::crash_point!("archiver.removed");
        }
        let letters = plans.iter().flat_map(Plan::artifacts).filter(|artifact| artifact.folder == Folder::DeadLetter);
        letters.for_each(|letter| self.letters.filed(&letter.name));
        let (mut done, moment) = (Done::default(), Instant::now());
        done.filed.append(&mut self.closed);
        done.letter_due = self.tallies.due();
        let mut lines = lines.into_iter();
        for (outcome, plan) in outcomes.into_iter().zip(plans) {
            match plan {
                Plan::File(documents) => {
                    done.stories.push(Story::of(&outcome, &documents.entry, moment, now));
                    done.filed.extend(lines.next().map(|line| filed(&outcome, *documents, line)));
                }
                Plan::RemoveQuietly => done.removed_quietly += 1,
                Plan::Count(_) => {
                    if let Outcome::Rejected(rejected) = &outcome {
                        done.counted.push(rejected.rejection.verdict.reason);
                    }
                }
                Plan::Restore(_) => {}
            }
            if let Outcome::Executed(executed) = outcome {
                executed.receipt.filed();
            }
        }
        Ok(done)
    }

    /// Files the letter of the documents that were counted, if it is due.
    fn file_letter(
        &mut self,
        cabinet: &Cabinet,
        log: &mut AuditLog,
        ledger: &Ledger,
        now: DateTime<Utc>,
    ) -> Result<(), ArchiveError> {
        let name = |id: &CommandId, input, has_letter| {
            // Nothing else takes such a name, whatever ids forged documents had.
            names::dead_letter(cabinet, &Claimed::default(), has_letter, Some(id), OsStr::new(""), input)
        };
        let Some(documents) = self.tallies.over(now, name)? else { return Ok(()) };
        // A crash may have come between the line and the end of the count.
        if !ledger.is_filed(documents.entry.input_sha256) {
            cabinet.store(&documents.artifacts.iter().collect::<Vec<_>>())?;
            log.append(&cabinet.logs, std::slice::from_ref(&documents.entry), now, &mut self.closing)?;
            self.closing.iter().for_each(|appended| ledger.record(&appended.line.entry));
            let lines = std::mem::take(&mut self.closing);
            self.closed.extend(lines.into_iter().next().map(|line| published(documents, line, None)));
        }
        self.tallies.close(cabinet)
    }

    /// Counts what gets no letter of its own.
    fn count(&mut self, cabinet: &Cabinet) -> Result<(), ArchiveError> {
        if self.tallied {
            return Ok(());
        }
        let mut counted = Vec::new();
        for (outcome, plan) in self.outcomes.iter().zip(self.plans.as_deref().unwrap_or_default()) {
            if let (Plan::Count(identity), Outcome::Rejected(rejected)) = (plan, outcome) {
                let (rejection, file) = (&rejected.rejection, rejected.ticket.file().to_string_lossy().into_owned());
                let (input_sha256, reason) = (rejection.input_sha256, rejection.verdict.reason);
                counted.push((*identity, Counted { file, input_sha256, reason }));
            }
        }
        if !counted.is_empty() {
            self.tallies.count(cabinet, self.planned_at, counted)?;
        }
        self.tallied = true;
        Ok(())
    }

    /// Removes a document that is filed; tells whether it is gone. What cannot be removed is found again and removed
    /// quietly then.
    fn remove(&mut self, cabinet: &Cabinet, outcome: &Outcome) -> bool {
        let Some(folder) = &cabinet.commands else { return true };
        let file = ticket(outcome).file();
        match commands::remove(folder, file, judged(outcome)) {
            Ok(Left::Gone) => return true,
            Ok(Left::Replaced) => {
                tracing::info!(?file, "another document lies under this name now; it is judged anew");
                return true;
            }
            Ok(Left::Ignored) => {}
            Ok(Left::FullFolder) => {
                let room = self.full_folders.len() < MAX_REMEMBERED;
                if room && self.full_folders.insert(file.to_owned()) {
                    tracing::warn!(
                        ?file,
                        "a folder under a document's name in commands/ is not empty; it stays, please remove it"
                    );
                }
            }
            Err(error) => tracing::warn!(?file, %error, "a document is filed but cannot be removed from commands/"),
        }
        false
    }
}

impl Plan {
    fn artifacts(&self) -> &[Artifact] {
        match self {
            Self::File(documents) | Self::Restore(documents) => &documents.artifacts,
            Self::RemoveQuietly | Self::Count(_) => &[],
        }
    }

    /// What has yet to be filed.
    fn documents(&self) -> Option<&Documents> {
        if let Self::File(documents) = self { Some(documents) } else { None }
    }
}

pub(crate) fn ticket(outcome: &Outcome) -> &Ticket {
    match outcome {
        Outcome::Rejected(rejected) => &rejected.ticket,
        Outcome::Executed(executed) => &executed.ticket,
        Outcome::Redelivered(again) => &again.ticket,
    }
}

/// The right to settle the document, where it has one.
fn turn(outcome: &Outcome) -> Option<&Turn> {
    match outcome {
        Outcome::Rejected(rejected) => rejected.rejection.turn.as_deref(),
        Outcome::Executed(executed) => Some(executed.licence.turn()),
        Outcome::Redelivered(_) => None,
    }
}

/// The hash of the document that it is about.
fn input(outcome: &Outcome) -> Sha256 {
    match outcome {
        Outcome::Rejected(rejected) => rejected.rejection.input_sha256,
        Outcome::Executed(executed) => executed.command.input_sha256(),
        Outcome::Redelivered(again) => again.input_sha256,
    }
}

fn judged(outcome: &Outcome) -> Judged<'_> {
    match outcome {
        Outcome::Rejected(Rejected { rejection, .. }) => match &rejection.content {
            Content::NotRegular { bytes, .. } => Judged::NotRegular(bytes),
            Content::Document(bytes) => {
                Judged::File { sha256: rejection.input_sha256, length: Some(bytes.len() as u64) }
            }
            Content::TooLarge { size, .. } => Judged::File { sha256: rejection.input_sha256, length: Some(*size) },
        },
        Outcome::Executed(executed) => {
            Judged::File { sha256: executed.command.input_sha256(), length: Some(executed.command.raw().len() as u64) }
        }
        Outcome::Redelivered(redelivered) => Judged::File { sha256: redelivered.input_sha256, length: None },
    }
}

fn filed(outcome: &Outcome, documents: Documents, line: Appended) -> Filed {
    published(documents, line, ticket(outcome).passage().seen)
}

fn published(documents: Documents, line: Appended, first_seen: Option<Instant>) -> Filed {
    Filed {
        id: documents.id,
        subject: documents.subject,
        artifacts: documents.artifacts.iter().map(Artifact::path).collect(),
        audit_line: line.text,
        log_rolled_to: line.rolled_to,
        first_seen,
    }
}

/// By what a refused document is known if it is counted.
fn identity(rejected: &Rejected) -> Sha256 {
    let is_file = !matches!(rejected.rejection.content, Content::NotRegular { .. });
    tally::identity(rejected.ticket.file(), rejected.rejection.input_sha256, is_file)
}

/// What a batch has planned so far, and what it needs to plan on.
struct Planner<'a> {
    cabinet: &'a Cabinet,
    ledger: &'a Ledger,
    keyring: &'a Keyring,
    now: DateTime<Utc>,
    claimed: Claimed,
    inputs: HashSet<Sha256>,
    letters: &'a mut Letters,
    tallies: &'a Tallies,
    /// Documents without a valid signature that may still get a letter each.
    free: u64,
}

impl Planner<'_> {
    fn plan(&mut self, outcome: &Outcome) -> Result<Plan, ArchiveError> {
        let input = input(outcome);
        let file = ticket(outcome).file();
        let documents = match outcome {
            Outcome::Redelivered(again) => {
                let id = again.id.as_ref().map(CommandId::as_str);
                tracing::info!(id, ?file, "the same document was filed before; removed");
                return Ok(Plan::RemoveQuietly);
            }
            Outcome::Rejected(rejected) => {
                // What has a turn was not filed before.
                let filed =
                    rejected.rejection.turn.is_none() && (self.ledger.is_filed(input) || self.inputs.contains(&input));
                return self.rejected(rejected, filed);
            }
            Outcome::Executed(executed) if executed.licence.origin() == Origin::Filed => {
                let documents = self.executed(executed)?.map_err(|source| spelling(file, source))?;
                return Ok(Plan::Restore(Box::new(documents)));
            }
            // What has a licence is filed, whatever it is.
            Outcome::Executed(executed) => self.executed(executed)?,
        };
        let documents = documents.map_err(|source| spelling(file, source))?;
        self.inputs.insert(input);
        Ok(Plan::File(Box::new(documents)))
    }

    fn rejected(&mut self, rejected: &Rejected, filed: bool) -> Result<Plan, ArchiveError> {
        let (rejection, file) = (&rejected.rejection, rejected.ticket.file());
        let (id, input, is_forged) = (rejection.id.as_ref(), rejection.input_sha256, !rejection.hmac_ok);
        if is_forged && self.tallies.is_pending(identity(rejected)) {
            return Ok(Plan::RemoveQuietly);
        }
        // Two links may hold the same text and folders hold none: there the name tells whether this one was filed.
        let by_name = matches!(rejection.content, Content::NotRegular { .. });
        let was_filed = if filed && by_name { self.has_letter(rejected)? } else { filed };
        if was_filed {
            tracing::info!(?file, "the same document was filed before; removed");
            return Ok(Plan::RemoveQuietly);
        }
        self.inputs.insert(input);
        if is_forged && self.free == 0 {
            return Ok(Plan::Count(identity(rejected)));
        }
        self.free -= u64::from(is_forged);
        let known = id.is_some_and(|id| self.ledger.has_letter(id) || tally::is_reserved(id));
        let named = names::dead_letter(self.cabinet, &self.claimed, known, id, file, input)?;
        self.claimed.claim(Folder::DeadLetter, &named.0);
        let documents = documents::rejected(rejection, file, named, self.now);
        Ok(Plan::File(Box::new(documents.map_err(|source| spelling(file, source))?)))
    }

    fn has_letter(&mut self, rejected: &Rejected) -> Result<bool, ArchiveError> {
        let (rejection, file) = (&rejected.rejection, rejected.ticket.file());
        let name = protocol::artifact::dead_letter_name(None, file, &rejection.input_sha256, |_| false);
        if self.claimed.has(Folder::DeadLetter, &name) {
            return Ok(true);
        }
        let file = format!("{name}.json");
        let flat = self.cabinet.look(Folder::DeadLetter, &file, MAX_ARTIFACT_BYTES)?;
        Ok(matches!(flat, Found::File(_)) || self.letters.has(self.cabinet.folder(Folder::DeadLetter), &file)?)
    }

    fn executed(&mut self, executed: &Executed) -> Result<Result<Documents, SerializeError>, ArchiveError> {
        let (id, input) = (&executed.command.command().id, executed.command.input_sha256());
        let earlier = match executed.licence.origin() {
            Origin::Recorded | Origin::Filed => names::earlier_stem(self.cabinet, self.keyring, id, input)?,
            Origin::Here => None,
        };
        let stem = match earlier {
            Some(stem) => stem,
            None => names::stem(self.cabinet, &self.claimed, self.keyring, id, input)?,
        };
        self.claimed.claim(Folder::Results, &stem);
        let mut dead_letter = None;
        if executed.execution.failure.is_some() {
            // Where it was filed before, the letter that the log knows of may be its own.
            let is_new = executed.licence.origin() != Origin::Filed;
            let known = is_new && (self.ledger.has_letter(id) || tally::is_reserved(id));
            let file = executed.ticket.file();
            let named = names::dead_letter(self.cabinet, &self.claimed, known, Some(id), file, input)?;
            self.claimed.claim(Folder::DeadLetter, &named.0);
            dead_letter = Some(named);
        }
        Ok(documents::executed(executed, &Names { stem, dead_letter }, self.keyring))
    }
}

fn spelling(file: &OsStr, source: SerializeError) -> ArchiveError {
    ArchiveError::Serialize { file: file.to_string_lossy().into_owned(), source }
}

/// The error in one line, for the status and the log.
pub(crate) fn reason(error: &ArchiveError) -> String {
    in_one_line(error)
}
