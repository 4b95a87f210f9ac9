//! What one line of the audit log implies, held against what lies on disk and what was committed.

use std::sync::atomic::{AtomicU64, Ordering};

use archiver::Folder;
use chrono::{DateTime, Utc};
use protocol::audit::AuditResult;
use protocol::canonical;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::json::{self, Object, Value};
use protocol::signing::Keyring;

use super::chain::{Line, letter_names, stems};
use super::commits::Head;
use super::disk::{Item, MAX_ARTIFACT_BYTES, Root, Shelf};
use super::{Finding, Kind, spelling};

/// What was counted on the way.
#[derive(Debug, Default)]
pub struct Tally {
    /// Lines judged.
    pub lines: AtomicU64,
    /// Artifacts read.
    pub artifacts: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Integrity files whose signature held.
    pub signed: AtomicU64,
    /// Integrity files that a secret signed which is not there.
    pub unknown_secret: AtomicU64,
    /// Artifacts that are in HEAD, byte for byte.
    pub committed: AtomicU64,
}

/// All that a line is held against.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// CLOUD.
    pub root: &'a Root,
    /// The names on disk.
    pub shelf: &'a Shelf,
    /// What was committed.
    pub head: Option<&'a Head>,
    /// The secrets at hand.
    pub keyrings: &'a [Keyring],
    /// Counts.
    pub tally: &'a Tally,
}

/// An artifact that was read.
struct Read {
    path: String,
    key: String,
    bytes: Vec<u8>,
    hash: Sha256,
}

/// What an integrity file says.
struct Vouched {
    object: Object,
    input: Option<Sha256>,
}

/// What is found about one line; each artifact is named once.
struct Case<'j, 'a> {
    judge: &'j Judge<'a>,
    line: &'j Line,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    /// Everything about `line` that does not fit.
    #[must_use]
    pub fn line(&self, line: &Line) -> Vec<Finding> {
        let mut case = Case { judge: self, line, findings: Vec::new() };
        match (line.result, &line.id) {
            (AuditResult::Rejected(reason), _) => case.refused(reason.as_str()),
            (_, Some(id)) => case.executed(id),
            (_, None) => case.say(Kind::Chain, "logs", "an executed command without an id"),
        }
        self.tally.lines.fetch_add(1, Ordering::Relaxed);
        case.findings
    }

    fn count(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

impl Case<'_, '_> {
    fn say(&mut self, kind: Kind, path: &str, what: impl Into<String>) {
        self.say_of(kind, path, path, what);
    }

    fn say_of(&mut self, kind: Kind, path: &str, key: &str, what: impl Into<String>) {
        if self.findings.iter().all(|finding| finding.key != key) {
            self.findings.push(Finding {
                position: Some(self.line.position),
                kind,
                path: path.to_owned(),
                key: key.to_owned(),
                what: what.into(),
                input: Some(self.line.input),
            });
        }
    }

    /// Reads an artifact that must be there, and holds it against what was committed under its name.
    fn read(&mut self, folder: Folder, name: &str) -> Option<Read> {
        let key = format!("{}/{name}", folder.name());
        let Some(item) = self.judge.shelf.find(folder, name) else {
            self.say(Kind::Missing, &key, "is missing");
            return None;
        };
        self.read_item(item)
    }

    fn read_item(&mut self, item: &Item) -> Option<Read> {
        item.tell();
        let (path, key) = (self.judge.shelf.path(item), item.key());
        let bytes = match self.judge.root.read(&path, MAX_ARTIFACT_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => {
                let kind = if matches!(error, super::disk::Unread::Missing) { Kind::Missing } else { Kind::Changed };
                self.say_of(kind, &path, &key, error.to_string());
                return None;
            }
        };
        let tally = self.judge.tally;
        Judge::count(&tally.artifacts, 1);
        Judge::count(&tally.bytes, bytes.len() as u64);
        match self.judge.head.and_then(|head| head.artifact(item.folder, &item.name)) {
            Some(id) if id.names(&bytes) => Judge::count(&tally.committed, 1),
            Some(_) => self.say_of(Kind::Changed, &path, &key, "is not what was committed"),
            None => {}
        }
        Some(Read { hash: Sha256::of(&bytes), path, key, bytes })
    }

    fn executed(&mut self, id: &CommandId) {
        let stem = self.stem(id);
        let integrity = self.read(Folder::Results, &format!("{stem}.integrity.json"));
        let vouched = integrity.as_ref().and_then(|read| self.vouched(read, id));
        let told = |key: &str| {
            let object = vouched.as_ref().map(|vouched| &vouched.object)?;
            object.get(key).and_then(Value::as_str).and_then(Sha256::from_hex)
        };
        let result = self.read(Folder::Results, &format!("{stem}.json"));
        if let Some(read) = &result {
            self.hash(read, told("result_sha256"), "result_sha256 of its integrity file");
            self.result(read, id);
        }
        if let Some(read) = &self.read(Folder::Diffs, &format!("{stem}.patch")) {
            self.hash(read, told("diff_sha256"), "diff_sha256 of its integrity file");
        }
        let document = if self.line.result == AuditResult::Ok {
            let archive = self.read(Folder::Archive, &format!("{stem}.json"));
            if let Some(read) = &archive {
                self.hash(read, Some(self.line.input), "input_sha256 of its audit line");
                self.hash(read, told("archive_sha256"), "archive_sha256 of its integrity file");
            }
            archive.map(|read| read.bytes)
        } else {
            let letter = self.letter("failed", told("dead_letter_sha256"));
            letter.and_then(|read| command_of(&read.bytes))
        };
        if let (Some(read), Some(vouched)) = (&integrity, &vouched) {
            self.signature(read, vouched, document.as_deref());
        }
    }

    /// The stem under which the command was filed: its id, unless another document's artifacts have that name.
    fn stem(&self, id: &CommandId) -> String {
        let [plain, with_short, with_whole] = stems(id, &self.line.input);
        for stem in [with_short, with_whole] {
            let name = format!("{stem}.integrity.json");
            let Some(item) = self.judge.shelf.find(Folder::Results, &name) else { continue };
            let bytes = self.judge.root.read(&self.judge.shelf.path(item), MAX_ARTIFACT_BYTES).unwrap_or_default();
            if Vouched::read(&bytes).and_then(|vouched| vouched.input) == Some(self.line.input) {
                return stem;
            }
        }
        plain
    }

    fn hash(&mut self, read: &Read, told: Option<Sha256>, by: &str) {
        if let Some(told) = told
            && told != read.hash
        {
            self.say_of(Kind::Changed, &read.path, &read.key, format!("has another hash than {by}"));
        }
    }

    /// What the integrity file says, held against the line.
    fn vouched(&mut self, read: &Read, id: &CommandId) -> Option<Vouched> {
        let Some(vouched) = Vouched::read(&read.bytes) else {
            self.say_of(Kind::Changed, &read.path, &read.key, "is no integrity file");
            return None;
        };
        let (line, object) = (self.line, &vouched.object);
        let number = |key: &str| object.get(key).and_then(Value::as_u64);
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let hash = |key: &str| text(key).and_then(Sha256::from_hex);
        let is_ok = line.result == AuditResult::Ok;
        let fits = [
            ("id", text("id") == Some(id.as_str())),
            ("input_sha256", vouched.input == Some(line.input)),
            ("exit_code", number("exit_code") == line.exit.map(u64::from)),
            ("files_changed", number("files_changed") == Some(line.files_changed)),
            ("result_sha256", hash("result_sha256").is_some()),
            ("diff_sha256", hash("diff_sha256").is_some()),
            ("archive_sha256", hash("archive_sha256").is_some() == is_ok),
            ("dead_letter_sha256", hash("dead_letter_sha256").is_some() != is_ok),
        ];
        if let Some((key, _)) = fits.into_iter().find(|(_, fits)| !fits) {
            self.say_of(Kind::Changed, &read.path, &read.key, format!("its {key} does not fit its audit line"));
        } else if !spelling::is_own(&read.bytes) {
            self.say_of(Kind::Changed, &read.path, &read.key, "is not spelled as the bridge spells it");
        }
        Some(vouched)
    }

    /// The integrity file is signed by the secret that verified the command. So a signature that no secret at hand made
    /// is forged if one of them made the command's own; else that secret is no longer there.
    fn signature(&mut self, read: &Read, vouched: &Vouched, document: Option<&[u8]>) {
        let keyrings = self.judge.keyrings;
        if keyrings.is_empty() {
            return;
        }
        let is_signed = |object: &Object| keyrings.iter().any(|keyring| is_signed(object, keyring));
        if is_signed(&vouched.object) {
            return Judge::count(&self.judge.tally.signed, 1);
        }
        let command = document.and_then(|document| json::parse(document).ok());
        let command = command.as_ref().and_then(Value::as_object);
        if command.is_some_and(is_signed) {
            self.say_of(Kind::Forged, &read.path, &read.key, "its hmac is not the bridge's");
        } else {
            Judge::count(&self.judge.tally.unknown_secret, 1);
        }
    }

    /// What the result says, held against the line.
    fn result(&mut self, read: &Read, id: &CommandId) {
        let value = json::parse(&read.bytes).ok();
        let object = value.as_ref().and_then(Value::as_object);
        let text = |key: &str| object.and_then(|object| object.get(key)).and_then(Value::as_str);
        let number = |key: &str| object.and_then(|object| object.get(key)).and_then(Value::as_u64);
        let line = self.line;
        let fits = text("id") == Some(id.as_str())
            && text("status") == Some(line.result.as_str())
            && number("exit_code") == line.exit.map(u64::from)
            && number("files_changed") == Some(line.files_changed);
        if !fits {
            self.say_of(Kind::Changed, &read.path, &read.key, "does not say what its audit line says");
        }
    }

    fn refused(&mut self, reason: &str) {
        self.letter(reason, None);
    }

    /// The dead letter of the line's document.
    fn letter(&mut self, reason: &str, told: Option<Sha256>) -> Option<Read> {
        let (line, shelf) = (self.line, self.judge.shelf);
        let named: Vec<&Item> = match &line.id {
            Some(id) => {
                let names = letter_names(id, &line.input);
                names.iter().filter_map(|name| shelf.find(Folder::DeadLetter, name)).collect()
            }
            None => shelf.letters(&line.input.short()).collect(),
        };
        let mut fits = named.iter().filter(|item| self.is_letter_of(item));
        // Documents that are links may share their text, and so their hash: all such letters are theirs.
        let (first, others) = (fits.next(), if line.id.is_none() { fits.copied().collect() } else { Vec::new() });
        let Some(item) = first.or(named.first()) else {
            let committed = self.judge.head.and_then(|head| head.letter(line.id.as_ref(), &line.input));
            let name = committed.unwrap_or_else(|| match &line.id {
                Some(id) => format!("{id}.json"),
                None => format!("*-{}.json", line.input.short()),
            });
            self.say(Kind::Missing, &format!("dead_letter/{name}"), "is missing");
            return None;
        };
        for other in others {
            self.read_item(other).inspect(|read| self.letter_says(read, reason));
        }
        let read = self.read_item(item)?;
        self.hash(&read, told, "dead_letter_sha256 of the integrity file");
        self.letter_says(&read, reason);
        Some(read)
    }

    fn is_letter_of(&self, item: &Item) -> bool {
        let bytes = self.judge.root.read(&self.judge.shelf.path(item), MAX_ARTIFACT_BYTES).unwrap_or_default();
        letter_input(&bytes) == Some(self.line.input)
    }

    /// What a dead letter says, held against the line.
    fn letter_says(&mut self, read: &Read, reason: &str) {
        let line = self.line;
        let value = json::parse(&read.bytes).ok();
        let object = value.as_ref().and_then(Value::as_object);
        let get = |key: &str| object.and_then(|object| object.get(key));
        let text = |key: &str| get(key).and_then(Value::as_str);
        let fits = text("input_sha256").and_then(Sha256::from_hex) == Some(line.input)
            && text("id") == line.id.as_ref().map(CommandId::as_str)
            && get("hmac_ok").and_then(Value::as_bool) == Some(line.hmac_ok)
            && (reason == "failed" || text("reason") == Some(reason));
        if !fits {
            self.say_of(Kind::Changed, &read.path, &read.key, "does not say what its audit line says");
        }
    }
}

impl Vouched {
    fn read(bytes: &[u8]) -> Option<Self> {
        let Value::Object(object) = json::parse(bytes).ok()? else { return None };
        let input = object.get("input_sha256").and_then(Value::as_str).and_then(Sha256::from_hex);
        Some(Self { object, input })
    }
}

/// Whether one of the secrets signed `object`, whenever that was.
#[must_use]
pub fn is_signed(object: &Object, keyring: &Keyring) -> bool {
    let Some(signature) = object.get("hmac").and_then(Value::as_str) else { return false };
    // What was filed is of the past: a secret that is no longer accepted today was good then.
    let then = DateTime::<Utc>::MIN_UTC;
    keyring.verify(canonical::object_without(object, "hmac").as_bytes(), signature, then).is_some()
}

/// The hash that a dead letter names of its document.
#[must_use]
pub fn letter_input(bytes: &[u8]) -> Option<Sha256> {
    let value = json::parse(bytes).ok()?;
    value.as_object()?.get("input_sha256").and_then(Value::as_str).and_then(Sha256::from_hex)
}

/// The document in a dead letter, as it was sent.
fn command_of(letter: &[u8]) -> Option<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Letter {
        command: Option<Box<serde_json::value::RawValue>>,
    }
    let letter: Letter = serde_json::from_slice(letter).ok()?;
    Some(letter.command?.get().as_bytes().to_vec())
}
