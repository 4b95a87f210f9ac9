//! A command document in the making: its fields stay in their order, and their values as they were written.
//!
//! Values are never re-spelled, because a number that changes its spelling on the way may change its meaning too.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use executor::policy;
use protocol::canonical;
use protocol::command::{ACTION, Action, Command, Configured, SCHEMA_VERSION};
use protocol::id::CommandId;
use protocol::json::{self, Object, Value};
use protocol::signing::{Keyring, SecretSlot};
use protocol::time::{format_utc, parse_rfc3339};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::exit::Failure;

/// The fields of a document, in their order, each with its value as text.
#[derive(Clone, Debug)]
pub struct Draft {
    fields: Vec<(String, String)>,
}

/// The same, straight from the text.
struct Ordered(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Ordered;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Ordered, M::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    fields.push((key, value.get().to_owned()));
                }
                Ok(Ordered(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Draft {
    /// Reads a document as strictly as the bridge does.
    ///
    /// # Errors
    /// When it is no JSON object; the line says where.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        object(bytes)?;
        let ordered: Ordered = serde_json::from_slice(bytes)
            .map_err(|error| Failure::failed(format!("the document is no JSON object: {error}")))?;
        Ok(Self { fields: ordered.0 })
    }

    /// The document's fields, as the bridge reads them.
    ///
    /// # Errors
    /// When the document is no JSON any more, which is a bug.
    pub fn object(&self) -> Result<Object, Failure> {
        object(self.to_text().as_bytes())
    }

    /// Gives the document this id.
    pub fn set_id(&mut self, id: &CommandId) {
        self.set("id", quoted(id.as_str()));
    }

    /// Takes fields out of the document, as far as they are there.
    pub fn remove(&mut self, keys: &[&str]) {
        self.fields.retain(|(key, _)| !keys.contains(&key.as_str()));
    }

    /// Adds every field that can be made up where it is missing; valid for `ttl` from `issued_at`, and for the CLOUD
    /// `audience` alone, if it has a name.
    ///
    /// # Errors
    /// When `ttl` leads beyond all dates.
    pub fn fill(&mut self, now: DateTime<Utc>, ttl: TimeDelta, audience: Option<&str>) -> Result<(), Failure> {
        let object = self.object()?;
        // An issued_at that is no instant is left to the schema check; the default keeps the rest useful.
        let issued = object.get("issued_at").and_then(Value::as_str).and_then(parse_rfc3339).unwrap_or(now);
        let expires = issued
            .checked_add_signed(ttl)
            .ok_or_else(|| Failure::usage("--ttl leads beyond all dates; take a smaller one"))?;
        let constraints = format!(r#"{{"maxRuntimeMs":60000,"maxFilesChanged":{}}}"#, ops(&object).max(1));
        let defaults = [
            ("schemaVersion", quoted(SCHEMA_VERSION)),
            ("id", quoted(&fresh_id(now))),
            ("issued_at", quoted(&format_utc(now))),
            ("expires_at", quoted(&format_utc(expires))),
            ("nonce", quoted(&nonce())),
            ("target", quoted("MAIN")),
            ("action", quoted(ACTION)),
            ("patchType", quoted("hybrid")),
            ("validationPlan", "[]".to_owned()),
            ("allowedActions", r#"["writeFile","moveFile"]"#.to_owned()),
            ("constraints", constraints),
        ];
        let audience = audience.map(|name| ("audience", quoted(name)));
        for (key, value) in defaults.into_iter().chain(audience) {
            if !object.contains_key(key) {
                self.set(key, value);
            }
        }
        // What deletes is asked for by the ops themselves; whether it may is the bridge's to say.
        let deletes = |command: Command| command.ops.iter().any(|op| policy::needs(op).contains(&Action::DeleteFile));
        if !object.contains_key("allowedActions")
            && Command::read(&self.object()?, &Configured::ANYTHING).is_ok_and(deletes)
        {
            self.set("allowedActions", r#"["writeFile","moveFile","deleteFile"]"#.to_owned());
        }
        Ok(())
    }

    /// Makes another document of it that says the same: valid from `now`, for as long as it was, with a fresh nonce, and a
    /// fresh id where its own is `taken`.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn renew(&mut self, now: DateTime<Utc>, taken: bool) -> Result<(), String> {
        let object = self.object().map_err(|failure| failure.to_string())?;
        let instant = |key: &str| object.get(key).and_then(Value::as_str).and_then(parse_rfc3339);
        let (Some(issued), Some(expires)) = (instant("issued_at"), instant("expires_at")) else {
            return Err("it does not say how long it was valid".to_owned());
        };
        let expires = now.checked_add_signed(expires - issued).ok_or("its time leads beyond all dates")?;
        self.set("issued_at", quoted(&format_utc(now)));
        self.set("expires_at", quoted(&format_utc(expires)));
        self.set("nonce", quoted(&nonce()));
        if taken {
            self.set("id", quoted(&fresh_id(now)));
        }
        Ok(())
    }

    /// Signs the document, replacing a signature that is there.
    ///
    /// # Errors
    /// When the document is no JSON any more, which is a bug.
    pub fn sign(&mut self, keyring: &Keyring, slot: SecretSlot) -> Result<(), Failure> {
        let canonical = canonical::object_without(&self.object()?, "hmac");
        let signature = keyring.sign(slot, canonical.as_bytes());
        self.set("hmac", quoted(&signature));
        Ok(())
    }

    /// The document, one field a line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let fields: Vec<String> =
            self.fields.iter().map(|(key, value)| format!("  {}: {value}", quoted(key))).collect();
        if fields.is_empty() { "{}\n".to_owned() } else { format!("{{\n{}\n}}\n", fields.join(",\n")) }
    }

    fn set(&mut self, key: &str, value: String) {
        match self.fields.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.fields.push((key.to_owned(), value)),
        }
    }
}

fn object(bytes: &[u8]) -> Result<Object, Failure> {
    match json::parse(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Failure::failed(format!("the document is {}; a command is a JSON object", other.kind()))),
        Err(error) => Err(Failure::failed(format!("the document is no strict JSON: {error}"))),
    }
}

/// How many ops the document holds, as far as it can be seen.
fn ops(object: &Object) -> usize {
    let inside = |value: &Value, key: &str| value.as_object().and_then(|object| object.get(key)).cloned();
    let inline = object.get("payload").and_then(|payload| inside(payload, "inline"));
    inline.and_then(|inline| inside(&inline, "ops")).and_then(|ops| ops.as_array().map(<[Value]>::len)).unwrap_or(0)
}

/// An id that nobody has.
fn fresh_id(now: DateTime<Utc>) -> String {
    format!("cmd-{}-{:08x}", now.format("%Y%m%dT%H%M%SZ"), rand::random::<u32>())
}

fn nonce() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// A JSON string.
fn quoted(text: &str) -> String {
    canonical::to_canonical(&Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protocol::command::Document;
    use protocol::signing::Secret;

    const OPS: &str = r#"{"payload":{"inline":{"version":"1","ops":[{"op":"noop"},{"op":"noop"}]}}}"#;

    fn keyring() -> Keyring {
        Keyring::new(&Secret::new(b"0123456789abcdef".to_vec()).unwrap(), None)
    }

    #[test]
    fn what_is_filled_and_signed_is_a_command() {
        let now = Utc::now();
        let mut draft = Draft::parse(OPS.as_bytes()).unwrap();
        draft.fill(now, TimeDelta::seconds(9), Some("blue")).unwrap();
        draft.sign(&keyring(), SecretSlot::Current).unwrap();
        let document = Document::parse(draft.to_text().into_bytes().into()).unwrap();
        let command = document
            .authenticate(&keyring(), now)
            .unwrap()
            .read(&Configured {
                is_target: &|target| target == "MAIN",
                is_check: &|_| false,
                is_cloud: &|name| name == "blue",
            })
            .unwrap();
        assert_eq!(command.constraints.max_files_changed, 2);
        assert_eq!((command.expires_at - command.issued_at).num_seconds(), 9);
    }

    #[test]
    fn what_deletes_is_filled_with_the_right_to() {
        let actions = |ops: &str| {
            let text = format!(r#"{{"payload":{{"inline":{{"version":"1","ops":[{ops}]}}}}}}"#);
            let mut draft = Draft::parse(text.as_bytes()).unwrap();
            draft.fill(Utc::now(), TimeDelta::seconds(9), None).unwrap();
            draft.to_text().contains("deleteFile\"]")
        };
        let diff = r"--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n";
        assert!(actions(r#"{"op":"noop"},{"op":"deleteFile","path":"x"}"#));
        assert!(actions(&format!(r#"{{"op":"applyDiff","diff":"{diff}"}}"#)));
        assert!(!actions(r#"{"op":"moveFile","from":"x","to":"y"}"#));
    }

    #[test]
    fn nothing_that_is_there_is_changed_but_the_signature() {
        let text = r#"{"z": 1.50, "nonce":"n\u0041", "hmac": "old", "annotations":{"b":1,"a":1E2}}"#;
        let mut draft = Draft::parse(text.as_bytes()).unwrap();
        draft.sign(&keyring(), SecretSlot::Current).unwrap();
        let once = draft.to_text();
        draft.sign(&keyring(), SecretSlot::Current).unwrap();
        assert_eq!(draft.to_text(), once, "a signature does not cover itself");
        let start = "{\n  \"z\": 1.50,\n  \"nonce\": \"n\\u0041\",\n  \"hmac\": \"";
        assert!(once.starts_with(start) && once.contains(r#""annotations": {"b":1,"a":1E2}"#), "{once}");
    }

    #[test]
    fn what_is_renewed_is_another_document_that_says_the_same() {
        let text = r#"{"id":"mine","issued_at":"2026-01-01T00:00:00+01:00","expires_at":"2026-01-01T00:10:00+01:00","nonce":"n","payload": {"x": 1.50}}"#;
        let (now, draft) = (Utc::now(), Draft::parse(text.as_bytes()).unwrap());
        let renewed = |taken| {
            let mut draft = draft.clone();
            draft.renew(now, taken).unwrap();
            draft.to_text()
        };
        let value: serde_json::Value = serde_json::from_str(&renewed(false)).unwrap();
        let instant = |key: &str| parse_rfc3339(value[key].as_str().unwrap()).unwrap();
        assert_eq!(
            (value["id"].as_str(), (instant("expires_at") - instant("issued_at")).num_seconds()),
            (Some("mine"), 600)
        );
        assert!(value["nonce"] != "n" && renewed(false).contains(r#""payload": {"x": 1.50}"#));
        assert!(renewed(true).contains(r#""id": "cmd-"#));
        assert!(Draft::parse(br#"{"issued_at":"x"}"#).unwrap().renew(now, false).is_err());
    }

    #[test]
    fn a_field_that_is_there_is_not_filled() {
        let mut draft = Draft::parse(br#"{"id":"mine","target":"SITE","issued_at":"2026-01-01T00:00:00Z"}"#).unwrap();
        draft.fill(Utc::now(), TimeDelta::seconds(60), None).unwrap();
        let object = draft.object().unwrap();
        for (key, value) in [("id", "mine"), ("target", "SITE"), ("expires_at", "2026-01-01T00:01:00.000Z")] {
            assert_eq!(object.get(key).and_then(Value::as_str), Some(value));
        }
        assert!(
            Command::read(&object, &Configured::ANYTHING).unwrap_err().detail.contains("/payload"),
            "what to do is never made up"
        );
    }

    #[test]
    fn what_the_bridge_would_not_read_is_not_signed() {
        for bad in ["", "[]", r#"{"a":1,"a":1}"#, "{}x", "\u{feff}{}"] {
            assert!(Draft::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
