//! The two readers of the audit log's lines read the same, and what one of them reads is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::audit::AuditLine;
use protocol::canonical::{self, object_without};
use protocol::digest::Sha256;
use protocol::json;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    agree(text);
    // The hash is one that no chance finds: it is put right, spelled as it stands there.
    let Ok(value) = json::parse(bytes) else { return };
    let Some(object) = value.as_object() else { return };
    let Some(hash) = object.get("hash").and_then(json::Value::as_str).filter(|hash| !hash.is_empty()) else { return };
    let right = Sha256::of(object_without(object, "hash").as_bytes()).to_string();
    agree(&text.replace(hash, &right));
});

fn agree(text: &str) {
    let read = AuditLine::parse(text);
    // A blank in front is none of the bridge's own spellings: it takes the general reader.
    assert_eq!(AuditLine::parse(&format!(" {text}")), read);
    let Some(line) = read else { return };
    let written = line.to_text().unwrap();
    // What was spelled besides, or as another kind of value, is not kept: then the hash is one over something else.
    let canonical = |text: &str| canonical::to_canonical(&json::parse(text.as_bytes()).unwrap());
    let kept = canonical(text) == canonical(&written);
    assert_eq!(AuditLine::parse(written.trim_end_matches('\n')), kept.then_some(line), "{text}");
}
