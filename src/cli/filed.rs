//! What the bridge filed of a command, for the subcommands that look back: the document, its diff, what its result tells.
//!
//! An artifact counts only as long as it is the one whose hash the integrity file names.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use archiver::{Folder, Found};
use chrono::{DateTime, Utc};
use executor::clock::Clock;
use executor::config::Targets;
use protocol::command::Document;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use serde_json::Value;

use crate::config::Config;
use crate::exit::Failure;
use crate::layout::Layout;
use crate::service;

use super::Globals;

/// The system's clocks.
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// CLOUD and the configuration, as `run` has them.
#[derive(Debug)]
pub struct World {
    /// The root, canonical.
    pub cloud: PathBuf,
    /// The configuration.
    pub config: Config,
    /// The targets.
    pub targets: Targets,
}

/// A document as it was filed.
#[derive(Debug)]
pub struct Filed {
    /// What its artifacts are called: its id, or the id with a piece of its hash.
    pub name: String,
    /// Where it lies, relative to CLOUD.
    pub path: String,
    /// The document.
    pub document: Document,
    /// Why it was refused or failed: reason and detail.
    pub refusal: Option<(String, String)>,
}

/// An id given on the command line.
///
/// # Errors
/// When it is none.
pub fn id(text: &str) -> Result<CommandId, Failure> {
    CommandId::parse(text).map_err(|fault| Failure::usage(format!("{text:?} is no command id: {fault}")))
}

/// A warning on stderr.
pub fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "ghost-bridge: warning: {text}");
}

impl World {
    /// Reads the configuration.
    ///
    /// # Errors
    /// When it is wrong, or CLOUD is missing.
    pub fn open(globals: &Globals) -> Result<Self, Failure> {
        let settings = globals.settings()?;
        let layout = Layout::at(&globals.cloud(&settings)?).map_err(Failure::config)?;
        let config = settings.resolve(layout.cloud()).map_err(Failure::config)?;
        let targets = service::targets(&config, layout.cloud());
        Ok(Self { cloud: layout.cloud().to_owned(), config, targets })
    }

    /// The command that succeeded under this id.
    ///
    /// # Errors
    /// When it cannot be read, or is not what its name and its integrity file say.
    pub fn archived(&self, id: &CommandId) -> Result<Option<Filed>, Failure> {
        let Some(found) = self.find(Folder::Archive, &format!("{id}.json"), None)? else { return Ok(None) };
        self.vouched(id.as_str(), "archive_sha256", &found)?;
        Filed::of(id, found.path, found.bytes, None).map(Some)
    }

    /// The dead letter of this name, with the document in it.
    ///
    /// # Errors
    /// When it cannot be read, or holds no document.
    pub fn dead_letter(&self, id: &CommandId) -> Result<Option<Filed>, Failure> {
        let Some(found) = self.find(Folder::DeadLetter, &format!("{id}.json"), None)? else { return Ok(None) };
        let unfit = |what: &str| Failure::failed(format!("{} {what}; there is nothing to plan", found.path));
        let letter: Letter =
            serde_json::from_slice(&found.bytes).map_err(|error| unfit(&format!("is no dead letter ({error})")))?;
        let command = letter.command.ok_or_else(|| unfit("holds no document, because what was sent was no JSON"))?;
        Filed::of(id, found.path, command.get().into(), Some((letter.reason, letter.detail))).map(Some)
    }

    /// The diff that was filed with a command.
    ///
    /// # Errors
    /// When it is missing, or is not the one that was filed.
    pub fn diff(&self, filed: &Filed) -> Result<Found, Failure> {
        let name = format!("{}.patch", filed.name);
        let found = self.find(Folder::Diffs, &name, Some(&filed.path))?.ok_or_else(|| {
            Failure::failed(format!("diffs/{name} is missing; bring it back: git checkout HEAD -- diffs"))
        })?;
        self.vouched(&filed.name, "diff_sha256", &found)?;
        Ok(found)
    }

    /// The hashes that a command's result tells of the files that it left.
    ///
    /// # Errors
    /// When the result is not the one that was filed.
    pub fn hashes(&self, filed: &Filed) -> Result<BTreeMap<String, Sha256>, Failure> {
        let mut hashes = BTreeMap::new();
        let name = format!("{}.json", filed.name);
        let Some(found) = self.find(Folder::Results, &name, Some(&filed.path))? else { return Ok(hashes) };
        self.vouched(&filed.name, "result_sha256", &found)?;
        let result: Value = serde_json::from_slice(&found.bytes)
            .map_err(|error| Failure::failed(format!("{} is no JSON: {error}; bring it back from git", found.path)))?;
        for op in result.get("ops").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| op.get(key).and_then(Value::as_str);
            // What moves away is not there any more; a later op may put something there again.
            text("from").map(|from| hashes.remove(from));
            let Some(path) = text("to").or_else(|| text("path")) else { continue };
            match text("after_sha256").and_then(Sha256::from_hex) {
                Some(hash) => hashes.insert(path.to_owned(), hash),
                None => hashes.remove(path),
            };
        }
        Ok(hashes)
    }

    /// Holds an artifact against the hash that the integrity file has under `key`.
    fn vouched(&self, name: &str, key: &str, found: &Found) -> Result<(), Failure> {
        let integrity = self.find(Folder::Results, &format!("{name}.integrity.json"), Some(&found.path))?;
        let Some(integrity) = integrity else {
            warn(&format!("results/{name}.integrity.json is missing, so nothing vouches for {}", found.path));
            return Ok(());
        };
        let told: Option<Value> = serde_json::from_slice(&integrity.bytes).ok();
        let told = told.as_ref().and_then(|told| told.get(key)).and_then(Value::as_str).and_then(Sha256::from_hex);
        if told != Some(Sha256::of(&found.bytes)) {
            return Err(Failure::failed(format!(
                "{} is not what the bridge filed, by {key} of {}; bring both back from git",
                found.path, integrity.path
            )));
        }
        Ok(())
    }

    /// Finds an artifact; all of a command's lie beside one that was found.
    fn find(&self, folder: Folder, name: &str, beside: Option<&str>) -> Result<Option<Found>, Failure> {
        let found = match beside {
            Some(path) => archiver::find_beside(&self.cloud, folder, name, path),
            None => archiver::find(&self.cloud, folder, name),
        };
        found.map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            Failure::failed(format!("{error}{cause}"))
        })
    }
}

/// What is needed of a dead letter.
#[derive(serde::Deserialize)]
struct Letter {
    reason: String,
    detail: String,
    command: Option<Box<serde_json::value::RawValue>>,
}

impl Filed {
    fn of(name: &CommandId, path: String, raw: Vec<u8>, refusal: Option<(String, String)>) -> Result<Self, Failure> {
        let document = Document::parse(Arc::from(raw))
            .map_err(|verdict| Failure::failed(format!("{path} holds no command: {}", verdict.detail)))?;
        let id = document.id().map(|id| id.to_string()).unwrap_or_default();
        // A second document under an id is filed with a piece of its hash behind the id.
        let rest = name.as_str().strip_prefix(id.as_str());
        if id.is_empty() || !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
            return Err(Failure::failed(format!(
                "{path} holds a document with the id {id:?}; what lies there is not its own"
            )));
        }
        Ok(Self { name: name.to_string(), path, document, refusal })
    }
}
