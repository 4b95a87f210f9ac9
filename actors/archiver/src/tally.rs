//! Documents without a valid signature beyond what an hour has letters for (contract, section 5): they are counted, and
//! one letter for all of them is filed as soon as no more come. What comes in the same hour after that waits for its end, and
//! has a second one.
//!
//! Until then the count lies in `meta/journal/unauthenticated.json`, which git ignores. A document leaves `commands/` only
//! after it is counted there durably. Those that may still lie there are named, so that a crash counts none of them twice.

use std::collections::HashSet;
use std::ffi::OsStr;

use cap_std::fs::Dir;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use protocol::artifact::{CommitSubject, Counted, DeadLetter, SerializeError, Unauthenticated, to_bytes};
use protocol::audit::{AuditEntry, AuditResult};
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::reason::{Reason, Stage};
use protocol::time::format_utc;
use serde::{Deserialize, Serialize};

use crate::aside::set_aside;
use crate::documents::Documents;
use crate::error::ArchiveError;
use crate::files::{Artifact, Cabinet, Folder, Found, Place, look, make_folder, replace_file, sync_folder};

/// What the letters' names begin with.
pub(crate) const STEM: &str = "unauthenticated-";
/// The hour in them.
const HOUR: &str = "%Y%m%dT%H";
/// The most documents that a letter lists.
const MAX_LISTED: usize = 100;
/// The most documents that could not be removed and are remembered.
const MAX_LEFT: usize = 1_000;
/// How long no more must have come before the first letter of an hour is filed.
const QUIET: TimeDelta = TimeDelta::seconds(2);
/// After this time it is filed while more come.
const LONGEST: TimeDelta = TimeDelta::seconds(30);
/// The folder of the count.
const FOLDER: &str = "meta/journal";
/// Its name there.
const NAME: &str = "unauthenticated.json";
/// The largest count that is read, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The hour of an instant, as a letter's name spells it.
pub(crate) fn hour(at: DateTime<Utc>) -> String {
    at.format(HOUR).to_string()
}

/// Whether only the letter of an hour may have this id for its name.
pub(crate) fn is_reserved(id: &CommandId) -> bool {
    id.folded().starts_with(STEM)
}

/// By what a document is known that was counted: its bytes, or, where it is no file, its name with what stands for them.
pub(crate) fn identity(file: &OsStr, input: Sha256, is_file: bool) -> Sha256 {
    if is_file {
        return input;
    }
    Sha256::of(&[input.as_bytes().as_slice(), file.as_encoded_bytes()].concat())
}

/// What was counted of one hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    hour: String,
    count: u64,
    /// Of all that was counted: each is hashed onto the hash of those before it.
    input_sha256: Sha256,
    first: Vec<Counted>,
    /// What was counted last and may still lie in `commands/`.
    pending: Vec<Sha256>,
    /// When the first and the last were counted.
    #[serde(default)]
    since: DateTime<Utc>,
    #[serde(default)]
    until: DateTime<Utc>,
    /// The last hour that has had a letter.
    #[serde(default)]
    told: String,
}

impl Tally {
    fn of(hour: &str, pending: Vec<Sha256>, told: &str) -> Self {
        Self {
            hour: hour.to_owned(),
            count: 0,
            // The same documents in another hour, or after a letter, are another count.
            input_sha256: Sha256::of(format!("{hour}{}", if told == hour { "+" } else { "" }).as_bytes()),
            first: Vec::new(),
            pending,
            since: DateTime::UNIX_EPOCH,
            until: DateTime::UNIX_EPOCH,
            told: told.to_owned(),
        }
    }

    fn count(&mut self, counted: Counted, now: DateTime<Utc>) {
        if self.count == 0 {
            self.since = now;
        }
        self.until = now;
        self.input_sha256 = Sha256::of(format!("{}{}", self.input_sha256, counted.input_sha256).as_bytes());
        self.count += 1;
        if self.first.len() < MAX_LISTED {
            self.first.push(counted);
        }
    }

    fn begins(&self) -> DateTime<Utc> {
        let begins = NaiveDateTime::parse_from_str(&format!("{}00", self.hour), "%Y%m%dT%H%M");
        begins.map_or(DateTime::UNIX_EPOCH, |begins| begins.and_utc())
    }

    /// When its letter is due.
    fn due(&self) -> DateTime<Utc> {
        let ends = self.begins() + TimeDelta::hours(1);
        if self.told == self.hour { ends } else { (self.until + QUIET).min(self.since + LONGEST).min(ends) }
    }

    fn id(&self) -> Option<CommandId> {
        CommandId::parse(&format!("{STEM}{}", self.hour)).ok()
    }

    /// The letter, and what belongs to it.
    fn documents(&self, (name, place): (String, Place)) -> Result<Documents, SerializeError> {
        let (id, until) = (self.id(), format_utc(self.until));
        let bytes = to_bytes(&DeadLetter {
            id: id.as_ref(),
            reason: Reason::BadHmac,
            detail: "more documents without a valid signature came within the hour than get a letter each",
            hints: None,
            stage: Stage::Hmac,
            file: String::new(),
            rejected_at: until.clone(),
            input_sha256: self.input_sha256,
            hmac_ok: false,
            attempts: 0,
            command: None,
            raw_base64: None,
            unauthenticated: Some(Unauthenticated {
                from: format_utc(self.begins()),
                to: until.clone(),
                count: self.count,
                first: &self.first,
            }),
        })?;
        Ok(Documents {
            id: id.clone(),
            subject: CommitSubject::DeadLetter { reason: Reason::BadHmac },
            entry: AuditEntry {
                ts: until,
                id,
                action: None,
                result: AuditResult::Rejected(Reason::BadHmac),
                exit: None,
                files_changed: 0,
                hmac_ok: false,
                input_sha256: self.input_sha256,
            },
            artifacts: vec![Artifact {
                folder: Folder::DeadLetter,
                name: format!("{name}.json"),
                bytes,
                place,
                recorded: false,
            }],
        })
    }
}

/// The count of the hour, and what it takes to go on with it.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    /// What lies on disk; `None` until it is read.
    open: Option<Option<Tally>>,
    /// What may still lie in `commands/`.
    pending: HashSet<Sha256>,
    /// What could not be removed.
    left: Vec<Sha256>,
}

impl Tallies {
    /// Reads what another life of the process left.
    pub(crate) fn read(&mut self, cabinet: &Cabinet) -> Result<(), ArchiveError> {
        if self.open.is_some() {
            return Ok(());
        }
        let folder = folder(cabinet)?;
        let found = look(&folder, NAME, MAX_BYTES).map_err(ArchiveError::io("read", path()))?;
        let tally = match &found {
            Found::Nothing => None,
            Found::File(bytes) => serde_json::from_slice::<Tally>(bytes).ok(),
            Found::Other => None,
        };
        if tally.is_none() && found != Found::Nothing {
            tracing::error!(path = path(), "cannot be read: what it counted is lost");
            set_aside(&folder, FOLDER, NAME)?;
        }
        self.pending = tally.iter().flat_map(|tally| &tally.pending).copied().collect();
        self.left = self.pending.iter().copied().collect();
        self.open = Some(tally);
        Ok(())
    }

    fn tally(&self) -> Option<&Tally> {
        self.open.as_ref().and_then(Option::as_ref).filter(|tally| tally.count > 0)
    }

    /// When the letter of what was counted is due.
    pub(crate) fn due(&self) -> Option<DateTime<Utc>> {
        self.tally().map(Tally::due)
    }

    /// Whether this document was counted and had only to leave `commands/`.
    pub(crate) fn is_pending(&self, identity: Sha256) -> bool {
        self.pending.contains(&identity)
    }

    /// What is to be filed at `now`; `name` finds the letter's name, knowing whether the hour has had one.
    pub(crate) fn over(
        &self,
        now: DateTime<Utc>,
        name: impl FnOnce(&CommandId, Sha256, bool) -> Result<(String, Place), ArchiveError>,
    ) -> Result<Option<Documents>, ArchiveError> {
        let Some(tally) = self.tally().filter(|tally| tally.hour != hour(now) || tally.due() <= now) else {
            return Ok(None);
        };
        let Some(id) = tally.id() else { return Ok(None) };
        let spell = |source| ArchiveError::Serialize { file: path(), source };
        tally.documents(name(&id, tally.input_sha256, tally.told == tally.hour)?).map(Some).map_err(spell)
    }

    /// The letter is filed: counting begins anew.
    pub(crate) fn close(&mut self, cabinet: &Cabinet) -> Result<(), ArchiveError> {
        self.settle(cabinet)?;
        let told = self.tally().map(|tally| tally.hour.clone()).unwrap_or_default();
        self.write(cabinet, Tally::of("", self.left.clone(), &told))
    }

    /// Counts documents at `now`, durably. Each comes with what it is known by.
    pub(crate) fn count(
        &mut self,
        cabinet: &Cabinet,
        now: DateTime<Utc>,
        counted: Vec<(Sha256, Counted)>,
    ) -> Result<(), ArchiveError> {
        self.settle(cabinet)?;
        let hour = hour(now);
        let mut tally = match self.tally().filter(|tally| tally.hour == hour) {
            Some(tally) => tally.clone(),
            None => {
                tracing::warn!(
                    %hour,
                    "more documents without a valid signature than get a letter each: they are counted"
                );
                let told = self.open.as_ref().and_then(Option::as_ref).map(|tally| tally.told.clone());
                Tally::of(&hour, Vec::new(), &told.unwrap_or_default())
            }
        };
        tally.pending.clone_from(&self.left);
        for (identity, counted) in counted {
            tally.pending.push(identity);
            tally.count(counted, now);
        }
        self.write(cabinet, tally)
    }

    /// What was counted before has left `commands/` for good, but for what could not be removed.
    fn settle(&mut self, cabinet: &Cabinet) -> Result<(), ArchiveError> {
        if let (Some(commands), false) = (&cabinet.commands, self.pending.is_empty()) {
            sync_folder(commands).map_err(ArchiveError::io("sync", "commands"))?;
        }
        Ok(())
    }

    /// A document that was counted has left, or could not.
    pub(crate) fn removed(&mut self, identity: Sha256, is_gone: bool) {
        if is_gone {
            self.left.retain(|left| *left != identity);
        } else if self.left.len() < MAX_LEFT && !self.left.contains(&identity) {
            self.left.push(identity);
        }
    }

    fn write(&mut self, cabinet: &Cabinet, tally: Tally) -> Result<(), ArchiveError> {
        let spell = |source| ArchiveError::Serialize { file: path(), source };
        let bytes = to_bytes(&tally).map_err(spell)?;
        replace_file(&folder(cabinet)?, NAME, &bytes).map_err(ArchiveError::io("write", path()))?;
        self.pending = tally.pending.iter().copied().collect();
        self.open = Some(Some(tally));
        Ok(())
    }
}

fn path() -> String {
    format!("{FOLDER}/{NAME}")
}

fn folder(cabinet: &Cabinet) -> Result<Dir, ArchiveError> {
    FOLDER.split('/').try_fold(cabinet.cloud()?, |folder, name| make_folder(&folder, name))
}
