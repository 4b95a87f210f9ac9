//! The journal: what is read is what was written, and a cut or changed end costs what it hits and nothing before it.
#![no_main]

use executor::journal::entry::Entry;
use executor::journal::format::{FRAME_BYTES, Frames, HEADER_BYTES, Header, write_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    segment(bytes);
    if let Ok(entry) = Entry::read(bytes) {
        let payload = entry.to_payload().unwrap();
        assert_eq!(Entry::read(&payload).unwrap(), entry);
    }
    let Some((knobs, rest)) = bytes.split_first_chunk::<4>() else { return };
    let header = Header { number: 7, run: u64::from(knobs[0]), boot: [knobs[1]; 16], previous_len: 3 };
    let mut whole = header.to_bytes();
    let mut ends = vec![whole.len()];
    let payloads: Vec<&[u8]> = rest.split(|byte| *byte == knobs[2]).collect();
    for (payload, sequence) in payloads.iter().zip(1..) {
        write_frame(sequence, payload, &mut whole);
        ends.push(whole.len());
    }
    assert_eq!(Header::read(&whole), Ok(header));
    assert_eq!(segment(&whole), payloads.len());
    let at = usize::from(u16::from_le_bytes([knobs[3], knobs[2]])) % whole.len();
    let kept = ends.iter().rposition(|end| *end <= at);
    assert_eq!(segment(&whole[..at]), kept.unwrap_or(0));
    let mut changed = whole.clone();
    changed[at] ^= knobs[3] | 1;
    match kept {
        None => assert!(Header::read(&changed).is_err()),
        Some(kept) => assert_eq!(segment(&changed), kept, "byte {at}"),
    }
    // Zeros, as a power cut leaves them.
    whole[at..].fill(0);
    assert!(segment(&whole) <= payloads.len());
});

/// How many frames a segment has; they are written again as they are.
fn segment(bytes: &[u8]) -> usize {
    if let Ok(header) = Header::read(bytes) {
        assert_eq!(header.to_bytes(), bytes[..HEADER_BYTES]);
    }
    let (mut frames, mut count, mut at) = (Frames::of(bytes), 0, HEADER_BYTES);
    for (sequence, payload) in frames.by_ref() {
        let mut again = Vec::new();
        write_frame(sequence, payload, &mut again);
        assert_eq!(again, bytes[at..at + FRAME_BYTES + payload.len()]);
        at += again.len();
        count += 1;
    }
    assert_eq!(frames.end(), at);
    count
}
