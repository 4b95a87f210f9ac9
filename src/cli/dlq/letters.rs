//! Reading dead letters.

use archiver::Folder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::audit::disk::{Item, MAX_ARTIFACT_BYTES, Root, Shelf};
use crate::audit::parallel;
use crate::exit::{Failure, one_line};

/// How many letters of an id are named where none has the id alone.
const MAX_NAMED: usize = 5;

/// A dead letter.
#[derive(Debug, Serialize, Deserialize)]
pub struct Letter {
    /// Where it lies, relative to CLOUD.
    #[serde(default)]
    pub path: String,
    /// The document's id.
    pub id: Option<String>,
    /// Why.
    pub reason: String,
    /// One sentence.
    pub detail: String,
    /// Where in the order of judgement.
    pub stage: String,
    /// When.
    pub rejected_at: String,
    /// The document's name in `commands/`.
    pub file: String,
    /// Hash of the document.
    pub input_sha256: String,
    /// Whether the signature held.
    pub hmac_ok: bool,
    /// How often execution was tried.
    pub attempts: u32,
    #[serde(skip_serializing)]
    command: Option<Box<RawValue>>,
    /// The first bytes of what is no JSON.
    #[serde(default, skip_serializing)]
    pub raw_base64: Option<String>,
}

impl Letter {
    /// The name of its file, without folder and `.json`.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        one_line(name.strip_suffix(".json").unwrap_or(name))
    }

    /// The document, as it was sent.
    ///
    /// # Errors
    /// When it was no JSON.
    pub fn document(&self) -> Result<&str, Failure> {
        self.command.as_deref().map(RawValue::get).ok_or_else(|| {
            Failure::failed(format!(
                "{} holds no document, because what was sent was no JSON; write it anew",
                self.path
            ))
        })
    }

    fn read(root: &Root, shelf: &Shelf, item: &Item) -> Option<Self> {
        let path = shelf.path(item);
        let bytes = root.read(&path, MAX_ARTIFACT_BYTES).ok()?;
        let letter: Self = serde_json::from_slice(&bytes).ok()?;
        Some(Self { path, ..letter })
    }
}

/// Every dead letter, without its document.
#[must_use]
pub fn all(root: &Root, shelf: &Shelf) -> Vec<Letter> {
    let items: Vec<&Item> = shelf.items().filter(|item| item.folder == Folder::DeadLetter).collect();
    // A document may be long, and there may be many.
    let read = |item: &&Item| {
        Letter::read(root, shelf, item).map(|letter| Letter { command: None, raw_base64: None, ..letter })
    };
    parallel::map(&items, read).into_iter().flatten().collect()
}

/// The dead letter of this id, file name or path.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn find(root: &Root, shelf: &Shelf, name: &str) -> Result<Letter, Failure> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.strip_suffix(".json").unwrap_or(file);
    let Some(item) = shelf.find(Folder::DeadLetter, &format!("{stem}.json")) else {
        let begins = format!("{stem}-");
        let others = shelf.items().filter(|item| item.folder == Folder::DeadLetter && item.name.starts_with(&begins));
        let others: Vec<&str> = others.take(MAX_NAMED).map(|item| &*item.name).collect();
        let hint = match others.as_slice() {
            [] if !super::is_id(stem) => "give an id or a dead letter's file name".to_owned(),
            [] => "see: ghost-bridge dlq list".to_owned(),
            others => format!("there are {}", others.join(", ")),
        };
        return Err(Failure::failed(format!("no dead letter is called {stem:?}; {hint}")));
    };
    Letter::read(root, shelf, item)
        .ok_or_else(|| Failure::failed(format!("{} is no dead letter; see: ghost-bridge audit", shelf.path(item))))
}
