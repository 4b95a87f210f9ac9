//! One batch of outcomes on its way into the files: a row of steps, each of which can be repeated after a failure.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::time::Instant;

use chrono::{DateTime, Utc};
use protocol::artifact::SerializeError;
use protocol::audit::AuditEntry;
use protocol::digest::Sha256;
use protocol::ledger::Ledger;
use protocol::message::{Content, Executed, Filed, Outcome, Rejected};
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

/// The most folders under a document's name that are remembered as not removable.
const MAX_REMEMBERED: usize = 10_000;

/// What is to be done with one document.
#[derive(Debug)]
enum Plan {
    File(Box<Documents>),
    /// It was filed before the process was killed: what a power cut took of its artifacts comes back, nothing else.
    Restore(Box<Documents>),
    /// The same bytes were filed before: only the document goes.
    RemoveQuietly,
    /// It was never filed, and is not to be filed now: it is found again.
    Release,
}

/// What a batch came to.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub filed: Vec<Filed>,
    /// One each.
    pub stories: Vec<Story>,
    pub removed_quietly: u64,
}

/// Outcomes in their order, and how far their filing has come.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    outcomes: Vec<Outcome>,
    plans: Option<Vec<Plan>>,
    stored: bool,
    lines: Vec<Appended>,
    full_folders: HashSet<OsString>,
    letters: Letters,
}

impl Batch {
    /// Takes the next outcomes. Only an empty batch may be refilled.
    pub(crate) fn refill(&mut self, outcomes: Vec<Outcome>) {
        (self.outcomes, self.plans, self.stored) = (outcomes, None, false);
        self.lines.clear();
    }

    /// Files all of it. After an error it may be called again and goes on where it stood. The tickets are given back
    /// at the end, when the documents have left `commands/`.
    pub(crate) fn file(
        &mut self,
        cabinet: &Cabinet,
        log: &mut AuditLog,
        ledger: &Ledger,
        keyring: &Keyring,
        now: DateTime<Utc>,
    ) -> Result<Done, ArchiveError> {
        if self.plans.is_none() {
            self.plans = Some(plan(&self.outcomes, cabinet, ledger, keyring, &mut self.letters, now)?);
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
        self.lines.iter().for_each(|appended| ledger.record(&appended.line.entry));
        supervision::crash_point!("archiver.logged");
        let plans = self.plans.take().unwrap_or_default();
        let (outcomes, lines) = (std::mem::take(&mut self.outcomes), std::mem::take(&mut self.lines));
        self.stored = false;
        for (outcome, plan) in outcomes.iter().zip(&plans) {
            match (plan, outcome) {
                (Plan::Release, Outcome::Redelivered(again)) => ledger.release(&again.id, again.input_sha256),
                (Plan::Release, _) => {}
                _ => self.remove(cabinet, outcome),
            }
            supervision::crash_point!("archiver.removed");
        }
        let letters = plans.iter().flat_map(Plan::artifacts).filter(|artifact| artifact.folder == Folder::DeadLetter);
        letters.for_each(|letter| self.letters.filed(&letter.name));
        let (mut done, moment) = (Done::default(), Instant::now());
        let mut lines = lines.into_iter();
        for (outcome, plan) in outcomes.into_iter().zip(plans) {
            match plan {
                Plan::File(documents) => {
                    done.stories.push(Story::of(&outcome, &documents.entry, moment, now));
                    done.filed.extend(lines.next().map(|line| filed(&outcome, *documents, line)));
                }
                Plan::RemoveQuietly => done.removed_quietly += 1,
                Plan::Restore(_) | Plan::Release => {}
            }
            if let Outcome::Executed(executed) = outcome {
                executed.receipt.filed();
            }
        }
        Ok(done)
    }

    /// Removes a document that is filed. What cannot be removed is found again and removed quietly then.
    fn remove(&mut self, cabinet: &Cabinet, outcome: &Outcome) {
        let Some(folder) = &cabinet.commands else { return };
        let file = ticket(outcome).file();
        match commands::remove(folder, file, judged(outcome)) {
            Ok(Left::Gone) => {}
            Ok(Left::Replaced) => tracing::info!(?file, "another document lies under this name now; it is judged anew"),
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
    }
}

impl Plan {
    fn artifacts(&self) -> &[Artifact] {
        match self {
            Self::File(documents) | Self::Restore(documents) => &documents.artifacts,
            Self::RemoveQuietly | Self::Release => &[],
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

/// The hash of the document that it is about.
pub(crate) fn input(outcome: &Outcome) -> Sha256 {
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
    Filed {
        id: documents.id,
        subject: documents.subject,
        artifacts: documents.artifacts.iter().map(Artifact::path).collect(),
        audit_line: line.text,
        log_rolled_to: line.rolled_to,
        first_seen: ticket(outcome).passage().seen,
    }
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
}

fn plan(
    outcomes: &[Outcome],
    cabinet: &Cabinet,
    ledger: &Ledger,
    keyring: &Keyring,
    letters: &mut Letters,
    now: DateTime<Utc>,
) -> Result<Vec<Plan>, ArchiveError> {
    let (claimed, inputs) = (Claimed::default(), HashSet::new());
    let mut planner = Planner { cabinet, ledger, keyring, now, claimed, inputs, letters };
    outcomes.iter().map(|outcome| planner.plan(outcome)).collect()
}

impl Planner<'_> {
    fn plan(&mut self, outcome: &Outcome) -> Result<Plan, ArchiveError> {
        let input = input(outcome);
        let filed = self.ledger.is_filed(input) || self.inputs.contains(&input);
        let file = ticket(outcome).file();
        let documents = match outcome {
            Outcome::Redelivered(again) if filed => {
                tracing::info!(id = %again.id, ?file, "the same document was filed before; removed");
                return Ok(Plan::RemoveQuietly);
            }
            Outcome::Redelivered(_) => return Ok(Plan::Release),
            Outcome::Rejected(rejected) => {
                let Some(documents) = self.rejected(rejected, filed)? else { return Ok(Plan::RemoveQuietly) };
                documents
            }
            Outcome::Executed(executed) if filed && executed.recovered => {
                let documents = self.executed(executed)?.map_err(|source| spelling(file, source))?;
                return Ok(Plan::Restore(Box::new(documents)));
            }
            Outcome::Executed(executed) if filed => {
                tracing::error!(id = %executed.command.command().id, ?file, "a document that was filed before has been executed again; not filed twice");
                return Ok(Plan::RemoveQuietly);
            }
            Outcome::Executed(executed) => self.executed(executed)?,
        };
        let documents = documents.map_err(|source| spelling(file, source))?;
        self.inputs.insert(input);
        Ok(Plan::File(Box::new(documents)))
    }

    fn rejected(
        &mut self,
        rejected: &Rejected,
        filed: bool,
    ) -> Result<Option<Result<Documents, SerializeError>>, ArchiveError> {
        let (rejection, file) = (&rejected.rejection, rejected.ticket.file());
        // Two links may hold the same text and folders hold none: there the name tells whether this one was filed.
        let by_name = matches!(rejection.content, Content::NotRegular { .. });
        let was_filed = if filed && by_name { self.has_letter(rejected)? } else { filed };
        if was_filed {
            tracing::info!(?file, "the same document was filed before; removed");
            return Ok(None);
        }
        let (id, input) = (rejection.id.as_ref(), rejection.input_sha256);
        let known = id.is_some_and(|id| self.ledger.has_letter(id));
        let named = names::dead_letter(self.cabinet, &self.claimed, known, id, file, input)?;
        self.claimed.claim(Folder::DeadLetter, &named.0);
        Ok(Some(documents::rejected(rejection, file, named, self.now)))
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
        let earlier = match executed.recovered {
            true => names::earlier_stem(self.cabinet, self.keyring, id, input)?,
            false => None,
        };
        let stem = match earlier {
            Some(stem) => stem,
            None => names::stem(self.cabinet, &self.claimed, self.keyring, id, input)?,
        };
        self.claimed.claim(Folder::Results, &stem);
        let mut dead_letter = None;
        if executed.execution.failure.is_some() {
            // Where it was filed before, the letter that the log knows of may be its own.
            let known = !self.ledger.is_filed(input) && self.ledger.has_letter(id);
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
