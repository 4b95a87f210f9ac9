//! What the journal says: a command begun, and how it ended. Pure.
//!
//! A payload is `head length u32 · head · blobs`: the head is JSON that says how long each blob is, the blobs are file
//! names, documents, diffs and images as they are.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use protocol::digest::Sha256;
use protocol::message::Execution;
use protocol::path::RelativePath;
use protocol::signing::SecretSlot;
use serde::{Deserialize, Serialize};

use crate::tree::Image;

/// One thing that the journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A command is about to be applied. Where the outcome is known already, it has happened from here on.
    Begun(Begun),
    /// How a command that was begun ended, where that was not known when it was begun.
    Ended(Ended),
}

/// A command and the whole of its mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The document's name in `commands/`.
    pub file: OsString,
    /// The document.
    pub raw: Arc<[u8]>,
    /// The secret that verified it.
    pub secret: SecretSlot,
    /// When the bridge read it.
    pub received_at: DateTime<Utc>,
    /// The target's root.
    pub root: PathBuf,
    /// Its files that change.
    pub changes: Vec<FileChange>,
    /// Folders that are made on the way, each before those beneath it.
    pub folders: Vec<RelativePath>,
    /// How often it was tried, this time included.
    pub attempts: u32,
    /// The outcome; `None` where checks must first be run on the changed tree.
    pub outcome: Option<Execution>,
}

/// One file of a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The file.
    pub path: RelativePath,
    /// What was there; `None` for nothing.
    pub before: Option<Mark>,
    /// What is to be there; `None` for nothing.
    pub after: Option<Image>,
    /// What was there, whole, where it may have to be put back after a crash.
    pub undo: Option<Image>,
}

/// What a file is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Hash of its content.
    pub sha256: Sha256,
    /// Its permission bits.
    pub bits: u32,
}

impl Mark {
    /// The mark of `image`.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        Self { sha256: image.sha256(), bits: image.bits }
    }
}

/// How a command that was begun ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The sequence of its [`Begun`].
    pub begun: u64,
    /// `None`: it was undone and is tried again, as if it had never been begun. Else the outcome: its changes stand where
    /// it went well, and are undone where it failed.
    pub outcome: Option<Execution>,
}

/// A payload that is no entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The head is no JSON of this format.
    #[error("the entry's head cannot be read")]
    Head(#[from] serde_json::Error),
    /// The blobs do not add up, or a path is none.
    #[error("the entry is not whole")]
    NotWhole,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Head {
    Begun(BegunHead),
    Ended(EndedHead),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BegunHead {
    file: usize,
    root: usize,
    raw: usize,
    secret: SecretSlot,
    received_at: DateTime<Utc>,
    changes: Vec<ChangeHead>,
    folders: Vec<String>,
    attempts: u32,
    outcome: Option<OutcomeHead>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeHead {
    path: String,
    before: Option<Mark>,
    after: Option<ImageHead>,
    undo: Option<ImageHead>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageHead {
    bytes: usize,
    bits: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndedHead {
    begun: u64,
    outcome: Option<OutcomeHead>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeHead {
    execution: Execution,
    diff: usize,
}

impl OutcomeHead {
    fn of(execution: &Execution) -> Self {
        Self { execution: Execution { diff: Vec::new(), ..execution.clone() }, diff: execution.diff.len() }
    }

    fn read(self, blobs: &mut Blobs<'_>) -> Result<Execution, EntryError> {
        Ok(Execution { diff: blobs.take(self.diff)?.to_vec(), ..self.execution })
    }
}

impl ImageHead {
    fn of(image: &Image) -> Self {
        Self { bytes: image.content.len(), bits: image.bits }
    }

    fn read(&self, blobs: &mut Blobs<'_>) -> Result<Image, EntryError> {
        Ok(Image { content: blobs.take(self.bytes)?.into(), bits: self.bits })
    }
}

/// Takes blobs from the front.
struct Blobs<'a>(&'a [u8]);

impl<'a> Blobs<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], EntryError> {
        let (head, rest) = self.0.split_at_checked(bytes).ok_or(EntryError::NotWhole)?;
        self.0 = rest;
        Ok(head)
    }
}

impl Entry {
    /// The entry's payload.
    ///
    /// # Errors
    /// When serde refuses the head, which it cannot for these types.
    pub fn to_payload(&self) -> Result<Vec<u8>, EntryError> {
        match self {
            Self::Begun(begun) => begun.to_payload(),
            Self::Ended(ended) => {
                let head = EndedHead { begun: ended.begun, outcome: ended.outcome.as_ref().map(OutcomeHead::of) };
                let diff = ended.outcome.as_ref().map(|execution| execution.diff.as_slice());
                payload(&Head::Ended(head), &diff.into_iter().collect::<Vec<_>>())
            }
        }
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// When `payload` is none.
    pub fn read(payload: &[u8]) -> Result<Self, EntryError> {
        let (length, rest) = payload.split_first_chunk::<4>().ok_or(EntryError::NotWhole)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| EntryError::NotWhole)?;
        let (head, blobs) = rest.split_at_checked(length).ok_or(EntryError::NotWhole)?;
        let mut blobs = Blobs(blobs);
        let entry = match serde_json::from_slice(head)? {
            Head::Begun(head) => Self::Begun(Begun::read(head, &mut blobs)?),
            Head::Ended(EndedHead { begun, outcome }) => {
                let outcome = outcome.map(|outcome| outcome.read(&mut blobs)).transpose()?;
                Self::Ended(Ended { begun, outcome })
            }
        };
        if blobs.0.is_empty() { Ok(entry) } else { Err(EntryError::NotWhole) }
    }
}

impl Begun {
    fn to_payload(&self) -> Result<Vec<u8>, EntryError> {
        let change = |change: &FileChange| ChangeHead {
            path: change.path.to_string(),
            before: change.before,
            after: change.after.as_ref().map(ImageHead::of),
            undo: change.undo.as_ref().map(ImageHead::of),
        };
        let head = BegunHead {
            file: self.file.len(),
            root: self.root.as_os_str().len(),
            raw: self.raw.len(),
            secret: self.secret,
            received_at: self.received_at,
            changes: self.changes.iter().map(change).collect(),
            folders: self.folders.iter().map(ToString::to_string).collect(),
            attempts: self.attempts,
            outcome: self.outcome.as_ref().map(OutcomeHead::of),
        };
        let mut blobs: Vec<&[u8]> = vec![self.file.as_bytes(), self.root.as_os_str().as_bytes(), &self.raw];
        for change in &self.changes {
            blobs.extend([&change.after, &change.undo].into_iter().flatten().map(|image| &*image.content));
        }
        blobs.extend(self.outcome.as_ref().map(|execution| execution.diff.as_slice()));
        payload(&Head::Begun(head), &blobs)
    }

    fn read(head: BegunHead, blobs: &mut Blobs<'_>) -> Result<Self, EntryError> {
        let path = |text: &str| RelativePath::parse(text).map_err(|_| EntryError::NotWhole);
        let file = OsStr::from_bytes(blobs.take(head.file)?).to_owned();
        let root = PathBuf::from(OsString::from_vec(blobs.take(head.root)?.to_vec()));
        let raw = blobs.take(head.raw)?.into();
        let mut changes = Vec::with_capacity(head.changes.len());
        for change in head.changes {
            let image = |head: &Option<ImageHead>, blobs: &mut Blobs<'_>| {
                head.as_ref().map(|head| head.read(blobs)).transpose()
            };
            let (after, undo) = (image(&change.after, blobs)?, image(&change.undo, blobs)?);
            changes.push(FileChange { path: path(&change.path)?, before: change.before, after, undo });
        }
        Ok(Self {
            file,
            raw,
            secret: head.secret,
            received_at: head.received_at,
            root,
            changes,
            folders: head.folders.iter().map(|folder| path(folder)).collect::<Result<_, _>>()?,
            attempts: head.attempts,
            outcome: head.outcome.map(|outcome| outcome.read(blobs)).transpose()?,
        })
    }
}

fn payload(head: &Head, blobs: &[&[u8]]) -> Result<Vec<u8>, EntryError> {
    let head = serde_json::to_vec(head)?;
    let length = u32::try_from(head.len()).map_err(|_| EntryError::NotWhole)?;
    let total = 4 + head.len() + blobs.iter().map(|blob| blob.len()).sum::<usize>();
    let mut payload = Vec::with_capacity(total);
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(&head);
    blobs.iter().for_each(|blob| payload.extend_from_slice(blob));
    Ok(payload)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use protocol::artifact::{CheckReport, OpReport};
    use protocol::reason::Reason;

    pub(crate) fn execution(failure: Option<(Reason, String)>) -> Execution {
        let now = DateTime::from_timestamp(1_700_000_000, 123_456_789).unwrap();
        let op = OpReport {
            op: "moveFile",
            path: None,
            from: Some("a".into()),
            to: Some("b/é".into()),
            before_sha256: Some(Sha256::of(b"x")),
            after_sha256: None,
        };
        let check = CheckReport {
            check: "run",
            name: Some("lint".into()),
            exit_code: -1,
            duration_ms: 7,
            stdout: "\u{0}".into(),
            stderr: String::new(),
            truncated: true,
        };
        Execution {
            failure,
            executed_at: now,
            finished_at: now,
            duration_ms: 1,
            files_changed: 2,
            bytes_written: 3,
            ops: vec![op],
            checks: vec![check],
            diff: b"diff \xff".to_vec(),
            attempts: 4,
        }
    }

    fn begun() -> Begun {
        let image = |content: &[u8]| Image { content: content.into(), bits: 0o755 };
        let path = |text| RelativePath::parse(text).unwrap();
        Begun {
            file: OsString::from_vec(b"\xff.json".to_vec()),
            raw: b"{}".as_slice().into(),
            secret: SecretSlot::Next,
            received_at: DateTime::UNIX_EPOCH,
            root: "/x".into(),
            changes: vec![
                FileChange { path: path("a"), before: None, after: Some(image(b"")), undo: None },
                FileChange {
                    path: path("b/é"),
                    before: Some(Mark::of(&image(b"1"))),
                    after: None,
                    undo: Some(image(b"1")),
                },
            ],
            folders: vec![path("b")],
            attempts: 2,
            outcome: Some(execution(None)),
        }
    }

    #[test]
    fn entries_read_back_as_they_were_written() {
        let failed = execution(Some((Reason::IoError, "no \"space\"".into())));
        for entry in [
            Entry::Begun(begun()),
            Entry::Begun(Begun { outcome: None, changes: Vec::new(), ..begun() }),
            Entry::Ended(Ended { begun: u64::MAX, outcome: None }),
            Entry::Ended(Ended { begun: 1, outcome: Some(failed) }),
        ] {
            assert_eq!(Entry::read(&entry.to_payload().unwrap()).unwrap(), entry);
        }
    }

    #[test]
    fn a_payload_that_lacks_or_adds_bytes_is_no_entry() {
        let whole = Entry::Begun(begun()).to_payload().unwrap();
        for cut in 0..whole.len() {
            assert!(Entry::read(whole.get(..cut).unwrap()).is_err(), "{cut}");
        }
        assert!(Entry::read(&[whole, b"x".to_vec()].concat()).is_err());
    }
}
