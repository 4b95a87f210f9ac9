//! The retries index: what is read is written and read again as the same, bounded in every direction.
#![no_main]

use libfuzzer_sys::fuzz_target;
use publisher::retries::{MAX_ENTRIES, MAX_ERROR_BYTES, MAX_INDEX_BYTES, Retries};

fuzz_target!(|bytes: &[u8]| {
    let Ok(retries) = Retries::parse(bytes) else { return };
    assert!(retries.len() <= MAX_ENTRIES);
    let written = retries.to_bytes();
    assert!((written.len() as u64) < MAX_INDEX_BYTES);
    let again = Retries::parse(&written).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, retries);
    assert_eq!(again.to_bytes(), written);
    let mut united = Retries::default();
    united.absorb(retries.clone());
    assert_eq!(united, retries);
    for (id, attempts) in retries.clone().into_attempts() {
        let entry = retries.get(&id).unwrap();
        assert_eq!(entry.attempts, attempts);
        assert!(entry.last_error.len() <= MAX_ERROR_BYTES && !entry.last_error.contains(char::is_control));
        assert!(united.settle(&id) && !united.settle(&id));
    }
    assert!(united.is_empty());
});
