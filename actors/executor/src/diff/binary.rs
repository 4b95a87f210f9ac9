//! Git's way to carry bytes that are no text: a deflated literal in base 85.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// The bytes of one line.
const LINE_BYTES: usize = 52;
/// Git's alphabet, which is that of RFC 1924.
const ALPHABET: &[u8; 85] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// Writes `content` as one literal of a binary patch, with the empty line that ends it.
pub(super) fn literal(content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("literal {}\n", content.len()).as_bytes());
    for line in deflate(content).chunks(LINE_BYTES) {
        out.push(length_letter(line.len()));
        for group in line.chunks(4) {
            base85(group, out);
        }
        out.push(b'\n');
    }
    out.push(b'\n');
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // A Vec takes every write, so neither step can fail.
    let written = encoder.write_all(content);
    debug_assert!(written.is_ok());
    encoder.finish().unwrap_or_default()
}

/// `A` to `Z` for 1 to 26 bytes, `a` to `z` for 27 to 52.
fn length_letter(length: usize) -> u8 {
    let length = u8::try_from(length).unwrap_or_default();
    if length <= 26 { b'A' + length.saturating_sub(1) } else { b'a' + (length - 27) }
}

/// Five digits for up to four bytes, missing ones taken as zero.
fn base85(group: &[u8], out: &mut Vec<u8>) {
    let mut padded = [0; 4];
    padded.iter_mut().zip(group).for_each(|(to, from)| *to = *from);
    let mut number = u32::from_be_bytes(padded);
    let mut digits = [b'0'; 5];
    for digit in digits.iter_mut().rev() {
        let index = usize::try_from(number % 85).unwrap_or_default();
        *digit = ALPHABET.get(index).copied().unwrap_or(b'0');
        number /= 85;
    }
    out.extend_from_slice(&digits);
}
