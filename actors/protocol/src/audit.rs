//! The audit log's lines (contract section 7): what each says, how it is spelled, and how it is chained to the line before.

mod spelled;

use serde::Serialize;

use crate::artifact::{SerializeError, canonical_without};
use crate::canonical;
use crate::digest::Sha256;
use crate::id::CommandId;
use crate::json;
use crate::reason::Reason;

/// What an audit line says of a document's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditResult {
    /// Executed well.
    Ok,
    /// Execution began and was undone.
    Failed,
    /// Refused before anything changed.
    Rejected(Reason),
}

impl AuditResult {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Rejected(reason) => reason.as_str(),
        }
    }

    /// Whether such a document took its id: execution was reached.
    #[must_use]
    pub const fn takes_id(self) -> bool {
        !matches!(self, Self::Rejected(_))
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "ok" => Some(Self::Ok),
            "failed" => Some(Self::Failed),
            other => Reason::parse(other).map(Self::Rejected),
        }
    }
}

/// What one line of the audit log says, without its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was written, RFC 3339.
    pub ts: String,
    /// The document's id, if it yields a valid one.
    pub id: Option<CommandId>,
    /// `applyPatch` where the document is a command, else `None`.
    pub action: Option<String>,
    /// How it ended.
    pub result: AuditResult,
    /// The exit code; `None` where nothing was executed.
    pub exit: Option<u8>,
    /// Files that differ.
    pub files_changed: u64,
    /// Whether the signature held.
    pub hmac_ok: bool,
    /// Hash of the document's bytes.
    pub input_sha256: Sha256,
}

/// One line of the audit log: an entry chained to the line before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// What it says.
    pub entry: AuditEntry,
    /// The line before's hash.
    pub prev: Sha256,
    /// This line's hash.
    pub hash: Sha256,
}

/// The keys in the order of the contract.
#[derive(Serialize)]
struct AuditWire<'a> {
    ts: &'a str,
    id: Option<&'a CommandId>,
    action: Option<&'a str>,
    result: &'a str,
    exit: Option<u8>,
    files_changed: u64,
    hmac_ok: bool,
    input_sha256: Sha256,
    prev: Sha256,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Sha256>,
}

impl AuditLine {
    /// Chains `entry` to the line whose hash is `prev`.
    ///
    /// # Errors
    /// When serde refuses the value.
    pub fn chain(entry: AuditEntry, prev: Sha256) -> Result<Self, SerializeError> {
        let mut line = Self { entry, prev, hash: Sha256::ZERO };
        line.hash = Sha256::of(canonical_without(&line.wire(None), "hash")?.as_bytes());
        Ok(line)
    }

    fn wire(&self, hash: Option<Sha256>) -> AuditWire<'_> {
        let entry = &self.entry;
        AuditWire {
            ts: &entry.ts,
            id: entry.id.as_ref(),
            action: entry.action.as_deref(),
            result: entry.result.as_str(),
            exit: entry.exit,
            files_changed: entry.files_changed,
            hmac_ok: entry.hmac_ok,
            input_sha256: entry.input_sha256,
            prev: self.prev,
            hash,
        }
    }

    /// The line as the log holds it, with its newline.
    ///
    /// # Errors
    /// When serde refuses the value.
    pub fn to_text(&self) -> Result<String, SerializeError> {
        let mut text = serde_json::to_string(&self.wire(Some(self.hash)))?;
        text.push('\n');
        Ok(text)
    }

    /// Reads a line of the log, without its newline, and checks its hash. `None` where it is no intact line.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        spelled::read(text).unwrap_or_else(|| Self::parse_any(text))
    }

    /// The same for any spelling that JSON allows.
    fn parse_any(text: &str) -> Option<Self> {
        let value = json::parse(text.as_bytes()).ok()?;
        let object = value.as_object()?;
        let string = |key: &str| object.get(key).and_then(json::Value::as_str);
        let number = |key: &str| match object.get(key) {
            Some(json::Value::Number(number)) => number.as_u64(),
            _ => None,
        };
        let digest = |key: &str| string(key).and_then(Sha256::from_lower_hex);
        let line = Self {
            entry: AuditEntry {
                ts: string("ts")?.to_owned(),
                id: string("id").and_then(|id| CommandId::parse(id).ok()),
                action: string("action").map(str::to_owned),
                result: AuditResult::parse(string("result")?)?,
                exit: number("exit").and_then(|exit| u8::try_from(exit).ok()),
                files_changed: number("files_changed")?,
                hmac_ok: matches!(object.get("hmac_ok")?, json::Value::Bool(true)),
                input_sha256: digest("input_sha256")?,
            },
            prev: digest("prev")?,
            hash: digest("hash")?,
        };
        let hash = Sha256::of(canonical::object_without(object, "hash").as_bytes());
        (hash == line.hash).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn entry(result: AuditResult) -> AuditEntry {
        AuditEntry {
            ts: "2026-01-02T03:04:05.678Z".into(),
            id: CommandId::parse("a").ok(),
            action: Some("applyPatch".into()),
            result,
            exit: Some(0),
            files_changed: 2,
            hmac_ok: true,
            input_sha256: Sha256::of(b"x"),
        }
    }

    #[test]
    fn audit_lines_chain_keep_their_key_order_and_read_back() {
        let first = AuditLine::chain(entry(AuditResult::Ok), Sha256::ZERO).unwrap();
        let second = AuditLine::chain(entry(AuditResult::Rejected(Reason::Expired)), first.hash).unwrap();
        let text = second.to_text().unwrap();
        let keys = ["ts", "id", "action", "result", "exit", "files_changed", "hmac_ok", "input_sha256", "prev", "hash"];
        let places: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(AuditLine::parse(text.trim_end()).unwrap(), second);
        assert_eq!(second.prev, first.hash);
    }

    /// A line's hash covers all of it but itself.
    #[test]
    fn a_hash_has_one_spelling() {
        let line = AuditLine::chain(entry(AuditResult::Ok), Sha256::ZERO).unwrap();
        let text = line.to_text().unwrap();
        let (before, hash) = text.trim_end().rsplit_once("\"hash\":").unwrap();
        assert_ne!(hash, hash.to_uppercase());
        for respelled in [hash.to_uppercase(), hash.replacen(|c: char| c.is_ascii_lowercase(), "A", 1)] {
            for space in ["", " "] {
                assert_eq!(AuditLine::parse(&format!("{before}\"hash\":{space}{respelled}")), None);
            }
        }
    }

    #[test]
    fn a_changed_byte_of_an_audit_line_is_noticed() {
        let text = AuditLine::chain(entry(AuditResult::Failed), Sha256::ZERO).unwrap().to_text().unwrap();
        let line = text.trim_end();
        for place in 0..line.len() {
            let mut bytes = line.as_bytes().to_vec();
            bytes[place] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(AuditLine::parse(&changed).is_none_or(|read| read.to_text().unwrap() != text), "{place}");
        }
    }

    #[test]
    fn the_usual_spelling_is_read_as_any_other_is() {
        let usual = entry(AuditResult::Rejected(Reason::Expired));
        let mut lines = vec![usual.clone()];
        lines.push(AuditEntry { id: None, action: None, exit: None, hmac_ok: false, ..usual.clone() });
        lines.push(AuditEntry {
            exit: Some(124),
            files_changed: u64::MAX,
            result: AuditResult::Failed,
            ..usual.clone()
        });
        lines.push(AuditEntry { action: Some("a \\ \"quoted\" é".into()), ..usual });
        for (number, entry) in lines.into_iter().enumerate() {
            let line = AuditLine::chain(entry, Sha256::of(b"before")).unwrap();
            let text = line.to_text().unwrap();
            let text = text.trim_end();
            assert_eq!(spelled::read(text).is_some(), number < 3, "{text}");
            assert_eq!(AuditLine::parse(text), Some(line));
            // Whatever is done to a line, both readers say the same of it.
            let same = |changed: &str| {
                let any = AuditLine::parse_any(changed);
                assert!(spelled::read(changed).is_none_or(|read| read == any), "{changed}");
            };
            for place in (0..text.len()).filter(|place| text.is_char_boundary(*place)) {
                let (before, after) = text.split_at(place);
                same(before);
                for put in ["0", "-", "+", "F", "\"", "\\", " ", ",", "\u{e9}", "null", "true"] {
                    same(&format!("{before}{put}{after}"));
                    let mut rest = after.chars();
                    rest.next();
                    same(&format!("{before}{put}{}", rest.as_str()));
                }
            }
            let spaced = text.replace("\":", "\": ");
            assert_eq!(AuditLine::parse(&spaced), AuditLine::parse(text), "another spelling is the same line");
        }
    }
}
