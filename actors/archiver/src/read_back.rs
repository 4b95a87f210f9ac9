//! Reads filed documents back for the ledger, which after a start knows them by their bytes alone.
//!
//! Anybody who can push can change what lies in the folders, and nothing there is signed but integrity files. So a document
//! counts only while its bytes are those that the log names.

use std::io;
use std::path::{Path, PathBuf};

use protocol::command::Document;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::ledger::{Half, ReadBack};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ArchiveError;
use crate::files::Folder;
use crate::find::find;

/// What a dead letter does not hold of a document: the white space behind it. These are what producers write.
const ENDINGS: [&str; 8] = ["", "\n", "\r\n", "\n\n", " ", "\r\n\r\n", "\n\n\n", "\t"];

/// The documents that were filed under a CLOUD.
#[derive(Debug)]
pub struct Filed {
    cloud: PathBuf,
}

/// The document inside a dead letter, as it was sent.
#[derive(Deserialize)]
struct Letter {
    command: Option<Box<RawValue>>,
}

impl Filed {
    /// Those under `cloud`.
    #[must_use]
    pub fn under(cloud: &Path) -> Self {
        Self { cloud: cloud.to_owned() }
    }
}

impl ReadBack for Filed {
    fn form(&self, id: &CommandId, input: Half, executed: bool) -> io::Result<Option<Sha256>> {
        let folders: &[Folder] = if executed { &[Folder::Archive, Folder::DeadLetter] } else { &[Folder::DeadLetter] };
        for folder in folders {
            for name in [format!("{id}.json"), format!("{id}-{}.json", input.short())] {
                let found = match find(&self.cloud, *folder, &name) {
                    Ok(found) => found,
                    // What lies there is no artifact.
                    Err(ArchiveError::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidData => None,
                    Err(ArchiveError::Io { source, .. }) => return Err(source),
                    Err(error) => return Err(io::Error::other(error.to_string())),
                };
                let Some(found) = found else { continue };
                let form = match folder {
                    Folder::DeadLetter => quoted(&found.bytes, id, input),
                    _ => sent(&found.bytes, id, &[""], input),
                };
                if form.is_some() {
                    return Ok(form);
                }
            }
        }
        Ok(None)
    }
}

/// The form of the document that a dead letter holds.
fn quoted(letter: &[u8], id: &CommandId, input: Half) -> Option<Sha256> {
    let letter: Letter = serde_json::from_slice(letter).ok()?;
    sent(letter.command?.get().as_bytes(), id, &ENDINGS, input)
}

/// The form of this document, if with one of these endings it is the one that was filed.
fn sent(bytes: &[u8], id: &CommandId, endings: &[&str], input: Half) -> Option<Sha256> {
    let is_filed = |ending: &&str| {
        let whole = [bytes, ending.as_bytes()].concat();
        input.begins(Sha256::of(&whole))
    };
    endings.iter().find(|ending| is_filed(ending))?;
    let document = Document::parse(bytes.into()).ok()?;
    (document.id().as_ref() == Some(id)).then(|| document.form())
}
