//! Command documents, signed by code of the tests' own.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use ring::{digest, hmac};
use serde_json::{Map, Value, json};

/// A command document that is good unless a test spoils it.
#[derive(Clone, Debug)]
pub struct Doc(Map<String, Value>);

impl Doc {
    /// A command for `MAIN` with these ops, valid for an hour from a second ago.
    pub fn new(id: &str, ops: Value) -> Self {
        let document = json!({
            "schemaVersion": "1.0",
            "id": id,
            "nonce": format!("{:032x}", rand::random::<u128>()),
            "target": "MAIN",
            "action": "applyPatch",
            "patchType": "ops",
            "payload": { "inline": { "version": "1", "ops": ops } },
            "validationPlan": [],
            "allowedActions": ["writeFile", "moveFile", "deleteFile"],
            "constraints": { "maxRuntimeMs": 60000, "maxFilesChanged": 100 },
        });
        match document {
            Value::Object(fields) => Self(fields).window(-1, 3600),
            _ => unreachable!("an object literal"),
        }
    }

    pub fn noop(id: &str) -> Self {
        Self::new(id, json!([{ "op": "noop" }]))
    }

    pub fn write(id: &str, path: &str, content: &str) -> Self {
        Self::new(id, json!([{ "op": "writeFile", "path": path, "content": content }]))
    }

    /// Valid from `start` to `end`, in seconds from now.
    pub fn window(self, start: i64, end: i64) -> Self {
        let now = Utc::now();
        self.between(now + TimeDelta::seconds(start), now + TimeDelta::seconds(end))
    }

    pub fn between(self, issued: DateTime<Utc>, expires: DateTime<Utc>) -> Self {
        let text = |instant: DateTime<Utc>| json!(instant.format("%Y-%m-%dT%H:%M:%SZ").to_string());
        self.with("issued_at", text(issued)).with("expires_at", text(expires))
    }

    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.0.insert(field.to_owned(), value);
        self
    }

    pub fn without(mut self, field: &str) -> Self {
        assert!(self.0.remove(field).is_some(), "{field} is not there");
        self
    }

    /// Sets what `/a/b/c` points at; the parent must be there.
    pub fn at(self, pointer: &str, value: Value) -> Self {
        self.edit(pointer, |parent, key| match parent {
            Value::Object(fields) => {
                fields.insert(key.to_owned(), value);
            }
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
            _ => panic!("{pointer}: the parent is no container"),
        })
    }

    /// Removes the object member that `/a/b/c` points at.
    pub fn cut(self, pointer: &str) -> Self {
        self.edit(pointer, |parent, key| {
            assert!(parent.as_object_mut().unwrap().remove(key).is_some(), "{pointer} is not there");
        })
    }

    fn edit(self, pointer: &str, change: impl FnOnce(&mut Value, &str)) -> Self {
        let mut whole = Value::Object(self.0);
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        change(whole.pointer_mut(parent).unwrap(), key);
        match whole {
            Value::Object(fields) => Self(fields),
            _ => unreachable!("it was one"),
        }
    }

    /// For a target other than `MAIN`.
    pub fn on(self, target: &str) -> Self {
        self.with("target", json!(target))
    }

    pub fn get(&self, field: &str) -> Value {
        self.0.get(field).cloned().unwrap_or(Value::Null)
    }

    pub fn id(&self) -> &str {
        self.0["id"].as_str().unwrap()
    }

    pub fn value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// The document's bytes with the `hmac` that `secret` gives it. They are indented, so that nothing passes that signs
    /// the bytes instead of the canonical form.
    pub fn signed(&self, secret: &str) -> Vec<u8> {
        let mut fields = self.0.clone();
        fields.remove("hmac");
        let signature = sign(&Value::Object(fields.clone()), secret);
        fields.insert("hmac".to_owned(), json!(signature));
        serde_json::to_vec_pretty(&fields).unwrap()
    }

    /// The document's bytes as they are: unsigned, or with whatever `hmac` a test put there.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(&self.0).unwrap()
    }
}

/// Base64 of the HMAC-SHA256 of the canonical form.
pub fn sign(document: &Value, secret: &str) -> String {
    STANDARD.encode(mac(canonical(document).as_bytes(), secret))
}

/// HMAC-SHA256 of any bytes.
pub fn mac(bytes: &[u8], secret: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), bytes).as_ref().to_vec()
}

/// Asserts that a document the bridge signed (it has an `hmac` of its own) is signed with `secret`.
pub fn assert_signed(document: &Value, secret: &str) {
    let mut fields = document.as_object().unwrap().clone();
    let signature = fields.remove("hmac").expect("an hmac");
    assert_eq!(signature, json!(sign(&Value::Object(fields), secret)), "the signature of {document}");
}

/// Lower-case hex SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// What Python's `json.dumps(value, sort_keys=True, separators=(",", ":"))` prints, for values without floats.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_by(|a, b| a.chars().cmp(b.chars()));
            let members: Vec<String> =
                keys.iter().map(|key| format!("{}:{}", quoted(key), canonical(&fields[*key]))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::String(text) => quoted(text),
        Value::Number(number) => {
            assert!(!number.is_f64(), "this writer knows no floats");
            number.to_string()
        }
        Value::Bool(_) | Value::Null => value.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for unit in text.encode_utf16() {
        match u8::try_from(unit).map(char::from) {
            Ok('"') => out.push_str("\\\""),
            Ok('\\') => out.push_str("\\\\"),
            Ok('\n') => out.push_str("\\n"),
            Ok('\r') => out.push_str("\\r"),
            Ok('\t') => out.push_str("\\t"),
            Ok('\u{8}') => out.push_str("\\b"),
            Ok('\u{c}') => out.push_str("\\f"),
            Ok(plain @ ' '..='~') => out.push(plain),
            _ => write!(out, "\\u{unit:04x}").unwrap(),
        }
    }
    out.push('"');
    out
}
