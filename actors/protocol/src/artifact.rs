//! The documents that the bridge files (contract sections 5 to 8): what they hold and how they are spelled.

use std::ffi::OsStr;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::canonical;
use crate::command::{CHECK_NAMES, Constraints, OP_NAMES};
use crate::digest::Sha256;
use crate::hint::Hint;
use crate::id::CommandId;
use crate::json;
use crate::reason::{Reason, Stage};
use crate::signing::SecretSlot;

/// The longest stem that a dead letter takes from a file's name, in bytes.
const MAX_STEM_BYTES: usize = 64;

/// Why an artifact could not be spelled. It cannot happen for the types of this module.
#[derive(Debug, thiserror::Error)]
#[error("an artifact could not be serialised")]
pub struct SerializeError(#[from] serde_json::Error);

/// An artifact's bytes: indented JSON with a newline at its end.
///
/// # Errors
/// When serde refuses the value.
pub fn to_bytes(artifact: &impl Serialize) -> Result<Vec<u8>, SerializeError> {
    let mut bytes = serde_json::to_vec_pretty(artifact)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The canonical form of anything that serialises to an object, without its top-level `omit`.
///
/// # Errors
/// When serde refuses the value.
pub fn canonical_without(artifact: &impl Serialize, omit: &str) -> Result<String, SerializeError> {
    let text = serde_json::to_vec(artifact)?;
    match json::parse(&text) {
        Ok(json::Value::Object(object)) => Ok(canonical::object_without(&object, omit)),
        _ => Err(SerializeError(serde::ser::Error::custom("not an object"))),
    }
}

/// A name of a closed set. Written so, serde does not take it for text that is borrowed from what it reads.
pub type Name = &'static str;

/// What an op did, in `results/<id>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpReport {
    /// The op's name.
    #[serde(deserialize_with = "op_name")]
    pub op: Name,
    /// The file, for every op but a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A move's origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A move's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Hash of the file before the op; `None` where there was none.
    pub before_sha256: Option<Sha256>,
    /// Hash of the file after the op; `None` where there is none.
    pub after_sha256: Option<Sha256>,
}

/// What a check found, in `results/<id>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The check's kind.
    #[serde(deserialize_with = "check_name")]
    pub check: Name,
    /// Which of the operator's programs it was; only for a `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// 0 when it holds. For a `run` the program's own, 128 and the signal that ended it, 124 when it ran too long, 127
    /// when it could not be started, 126 when it was not, for want of a sandbox.
    pub exit_code: i32,
    /// How long it took.
    pub duration_ms: u64,
    /// What it printed: the beginning, where that is much.
    pub stdout: String,
    /// What it complained of: the same.
    pub stderr: String,
    /// Whether the output was cut.
    pub truncated: bool,
}

fn op_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    one_of(&OP_NAMES, deserializer)
}

fn check_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    one_of(&CHECK_NAMES, deserializer)
}

/// Reads one of `names`.
fn one_of<'de, D: Deserializer<'de>>(names: &[&'static str], deserializer: D) -> Result<&'static str, D::Error> {
    let text = String::deserialize(deserializer)?;
    names.iter().find(|name| **name == text).copied().ok_or_else(|| serde::de::Error::custom("no such name"))
}

/// The bounds of a command, as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConstraintsGiven {
    /// The longest run, in milliseconds.
    pub max_runtime_ms: u64,
    /// The most files that may differ.
    pub max_files_changed: u64,
    /// The most bytes that may be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes_written: Option<u64>,
}

impl From<Constraints> for ConstraintsGiven {
    fn from(given: Constraints) -> Self {
        Self {
            max_runtime_ms: given.max_runtime_ms,
            max_files_changed: given.max_files_changed,
            max_bytes_written: given.max_bytes_written,
        }
    }
}

/// The bounds of a command, as given, and whether they were kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConstraintsReport {
    /// As given.
    #[serde(flatten)]
    pub given: ConstraintsGiven,
    /// Whether they were kept.
    pub ok: bool,
}

/// `results/<id>.json`.
#[derive(Clone, Debug, Serialize)]
pub struct ResultDocument<'a> {
    /// The command.
    pub id: &'a CommandId,
    /// `ok` or `failed`.
    pub status: &'static str,
    /// 0, or the reason's code.
    pub exit_code: u8,
    /// Null when ok.
    pub reason: Option<Reason>,
    /// Null when ok, else one sentence.
    pub detail: Option<&'a str>,
    /// The target's name.
    pub target: &'a str,
    /// Always `applyPatch`.
    pub action: &'static str,
    /// The command's patch type.
    pub patch_type: &'static str,
    /// As the document spells it.
    pub issued_at: &'a str,
    /// When the bridge read the document.
    pub received_at: String,
    /// When execution began.
    pub executed_at: String,
    /// When it ended.
    pub finished_at: String,
    /// Its length.
    pub duration_ms: u64,
    /// Files that differ.
    pub files_changed: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// One an op.
    pub ops: &'a [OpReport],
    /// One a check that was run.
    pub checks: &'a [CheckReport],
    /// The bounds.
    pub constraints: ConstraintsReport,
    /// How often execution was tried.
    pub attempts: u32,
}

/// `results/<id>.integrity.json`: the hashes of a command's artifacts, signed by the bridge.
#[derive(Clone, Debug, Serialize)]
pub struct IntegrityDocument<'a> {
    /// The command.
    pub id: &'a CommandId,
    /// Hash of the document as it arrived.
    pub input_sha256: Sha256,
    /// Hash of `results/<id>.json`.
    pub result_sha256: Sha256,
    /// Hash of `diffs/<id>.patch`.
    pub diff_sha256: Sha256,
    /// Hash of `archive/<id>.json`; null for a command that failed.
    pub archive_sha256: Option<Sha256>,
    /// Hash of the dead letter of a command that failed after execution began; left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_sha256: Option<Sha256>,
    /// As the document spells it.
    pub issued_at: &'a str,
    /// When execution began.
    pub executed_at: String,
    /// Its length.
    pub duration_ms: u64,
    /// Files that differ.
    pub files_changed: u64,
    /// As given.
    pub constraints: ConstraintsGiven,
    /// Whether they were kept.
    pub limits_ok: bool,
    /// Always true: nothing else is executed.
    pub hmac_ok: bool,
    /// The command's exit code.
    pub exit_code: u8,
    /// Which secret verified the command and signs this file.
    pub secret: SecretSlot,
    /// The bridge's signature over the canonical form of this file without this field.
    pub hmac: String,
}

/// `dead_letter/<id>.json`.
#[derive(Debug, Serialize)]
pub struct DeadLetter<'a> {
    /// The document's id, if it yields a valid one.
    pub id: Option<&'a CommandId>,
    /// Why.
    pub reason: Reason,
    /// One sentence.
    pub detail: &'a str,
    /// The same for a program; null where the sentence says all.
    pub hints: Option<&'a [Hint]>,
    /// Where in the order of judgement.
    pub stage: Stage,
    /// The file's name in `commands/`.
    pub file: String,
    /// When it was judged.
    pub rejected_at: String,
    /// Hash of the document's bytes.
    pub input_sha256: Sha256,
    /// Whether the signature held.
    pub hmac_ok: bool,
    /// How often execution was tried.
    pub attempts: u32,
    /// The document, as it was sent.
    pub command: Option<&'a RawValue>,
    /// The first bytes of what is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_base64: Option<String>,
    /// Only in the one letter that stands for many documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unauthenticated: Option<Unauthenticated<'a>>,
}

/// The documents without a valid signature that an hour had no letters for.
#[derive(Debug, Serialize)]
pub struct Unauthenticated<'a> {
    /// The hour's begin.
    pub from: String,
    /// Its end.
    pub to: String,
    /// How many there were.
    pub count: u64,
    /// The first of them.
    pub first: &'a [Counted],
}

/// A document that was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Its name in `commands/`.
    pub file: String,
    /// Hash of its bytes.
    pub input_sha256: Sha256,
    /// Why it was refused.
    pub reason: Reason,
}

/// The name, without folder and `.json`, that a dead letter takes from its document's id or, where it yields none,
/// from the file's name: `taken` tells whether a dead letter of that name is there already.
pub fn dead_letter_name(id: Option<&CommandId>, file: &OsStr, input: &Sha256, taken: impl Fn(&str) -> bool) -> String {
    match id {
        Some(id) if !taken(id.as_str()) => id.to_string(),
        Some(id) => format!("{id}-{}", input.short()),
        None => format!("{}-{}", clean_stem(file), input.short()),
    }
}

/// A file's stem with everything but `[A-Za-z0-9._-]` replaced by `_`, cut, and never hidden.
fn clean_stem(file: &OsStr) -> String {
    let name = file.to_string_lossy();
    let stem = name.strip_suffix(".json").unwrap_or(&name);
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let clean: String = stem.chars().map(keep).take(MAX_STEM_BYTES).collect();
    match clean.trim_start_matches(['.', '-', '_']) {
        "" => "unnamed".to_owned(),
        rest => rest.to_owned(),
    }
}

/// The message of a command's commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitSubject {
    /// An executed command.
    Results {
        /// The command.
        id: CommandId,
        /// Its exit code.
        exit_code: u8,
    },
    /// A refused document.
    DeadLetter {
        /// Why.
        reason: Reason,
    },
}

impl fmt::Display for CommitSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Results { id, exit_code } => write!(f, "bridge: results {id} (exit={exit_code})"),
            Self::DeadLetter { reason } => write!(f, "bridge: DLQ {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn dead_letters_never_take_a_name_that_is_taken_or_unsafe() {
        let (id, digest) = (CommandId::parse("a").unwrap(), Sha256::of(b""));
        let name = |id, file: &str, taken: bool| dead_letter_name(id, OsStr::new(file), &digest, |_| taken);
        assert_eq!(name(Some(&id), "x.json", false), "a");
        assert_eq!(name(Some(&id), "x.json", true), "a-e3b0c442");
        assert_eq!(name(None, "my file.json", false), "my_file-e3b0c442");
        assert_eq!(name(None, "..json", false), "unnamed-e3b0c442");
        assert_eq!(name(None, "../../é\n.json", false), "unnamed-e3b0c442");
    }

    #[test]
    fn commit_subjects_are_spelled_as_the_contract_has_them() {
        let id = CommandId::parse("noop-1").unwrap();
        assert_eq!(CommitSubject::Results { id, exit_code: 0 }.to_string(), "bridge: results noop-1 (exit=0)");
        assert_eq!(CommitSubject::DeadLetter { reason: Reason::BadHmac }.to_string(), "bridge: DLQ bad_hmac");
    }

    #[test]
    fn the_canonical_form_leaves_the_signature_out() {
        #[derive(Serialize)]
        struct Doc {
            b: u8,
            a: &'static str,
            hmac: u8,
        }
        assert_eq!(canonical_without(&Doc { b: 1, a: "é", hmac: 0 }, "hmac").unwrap(), "{\"a\":\"\\u00e9\",\"b\":1}");
        assert!(canonical_without(&1, "hmac").is_err());
    }
}
