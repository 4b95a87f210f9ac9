//! The reader of commands: what it takes it takes again from the canonical form, as the same command; what it refuses it
//! refuses in a short sentence, whichever way the document is spelled.
#![no_main]

use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use protocol::canonical::to_canonical;
use protocol::command::{Document, VerifiedCommand};
use protocol::json;
use protocol::signing::SecretSlot;

/// The longest detail: a few names of at most 255 bytes, every one of them escaped.
const MAX_DETAIL_BYTES: usize = 8 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let read = |bytes: &[u8]| VerifiedCommand::recorded(bytes.into(), SecretSlot::Current, DateTime::UNIX_EPOCH);
    let first = read(bytes);
    if let Ok(document) = Document::parse(bytes.into()) {
        let _ = (document.id(), document.order_key());
    }
    let Ok(value) = json::parse(bytes) else {
        assert!(first.is_err(), "it was no JSON");
        return;
    };
    let again = read(to_canonical(&value).as_bytes());
    match (first, again) {
        (Ok(first), Ok(again)) => assert_eq!(format!("{:?}", first.command()), format!("{:?}", again.command())),
        (Err(first), Err(again)) => {
            assert_eq!(first.to_string(), again.to_string());
            assert!(first.to_string().len() <= MAX_DETAIL_BYTES, "{first}");
        }
        (first, again) => panic!("{first:?}\n{again:?}"),
    }
});
