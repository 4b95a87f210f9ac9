//! The audit log, read and verified by code of the tests' own.

use std::path::Path;

use serde_json::{Value, json};

use super::document::{canonical, sha256};
use super::snapshot::files;

/// The keys of a line, in the order of the contract.
const KEYS: [&str; 10] =
    ["ts", "id", "action", "result", "exit", "files_changed", "hmac_ok", "input_sha256", "prev", "hash"];

/// Walks the chain over all segments in path order, then over the current log, and returns its lines. Panics at the
/// first line that is out of shape or out of chain.
pub fn verified(root: &Path) -> Vec<Value> {
    let current = root.join("logs/bridge.log");
    let mut text = String::new();
    for segment in files(&root.join("logs")).iter().filter(|path| **path != current) {
        let name = segment.file_name().unwrap().to_str().unwrap();
        if name.starts_with("bridge-") && name.ends_with(".log") {
            text.push_str(&std::fs::read_to_string(segment).unwrap());
        }
    }
    text.push_str(&std::fs::read_to_string(&current).unwrap_or_default());
    verify(&text)
}

/// The same for a log that is at hand as text.
pub fn verify(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is cut short");
    let mut prev = "0".repeat(64);
    let mut lines = Vec::new();
    for (number, raw) in text.lines().enumerate() {
        let line: Value = serde_json::from_str(raw).unwrap_or_else(|error| panic!("line {number}: {error}: {raw}"));
        let mut fields = line.as_object().unwrap().clone();
        assert_eq!(fields.len(), KEYS.len(), "line {number}: {raw}");
        let places: Vec<usize> = KEYS.iter().map(|key| raw.find(&format!("\"{key}\":")).expect(key)).collect();
        assert!(places.is_sorted(), "line {number}: the keys' order: {raw}");
        assert_eq!(fields["prev"], json!(prev), "line {number}: prev: {raw}");
        let hash = fields.remove("hash").unwrap();
        assert_eq!(hash, json!(sha256(canonical(&Value::Object(fields)).as_bytes())), "line {number}: hash: {raw}");
        hash.as_str().unwrap().clone_into(&mut prev);
        lines.push(line);
    }
    lines
}

/// How many lines say that a document of this hash ended as `result`.
pub fn count(lines: &[Value], input_sha256: &str, result: &str) -> usize {
    lines.iter().filter(|line| line["input_sha256"] == input_sha256 && line["result"] == result).count()
}
