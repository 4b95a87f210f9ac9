//! Git's binary patches: the bytes of a file before and after, deflated and in base 85.
//!
//! Only literals are understood, which is what the diffs of this program hold; git itself also writes deltas.

use std::io::Read as _;

use flate2::read::ZlibDecoder;

use super::hunk::first_line;
use crate::tree::MAX_FILE_BYTES;

/// The alphabet is that of RFC 1924.
const ALPHABET: &[u8; 85] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// What each byte stands for as a digit; 85 for none.
const DIGITS: [u8; 256] = digits();

const fn digits() -> [u8; 256] {
    let mut digits = [85; 256];
    let mut rest: &[u8] = ALPHABET;
    let mut value = 0;
    while let [letter, tail @ ..] = rest {
        #[expect(clippy::indexing_slicing, reason = "the table has a place for every byte; the compiler runs this")]
        {
            digits[*letter as usize] = value;
        }
        value += 1;
        rest = tail;
    }
    digits
}

/// One side of a binary patch, not yet inflated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// The size that it says it has.
    size: u64,
    deflated: Vec<u8>,
}

/// The two sides of a binary patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literals {
    /// The file afterwards; `None` where the patch holds a delta.
    pub after: Option<Literal>,
    /// The file before; `None` where the patch does not hold it, or holds a delta.
    pub before: Option<Literal>,
}

impl Literal {
    /// The bytes.
    ///
    /// # Errors
    /// What is wrong with them: not deflated, another size than said, or more than [`MAX_FILE_BYTES`].
    pub fn inflate(&self) -> Result<Vec<u8>, String> {
        if self.size > MAX_FILE_BYTES {
            return Err(format!("a literal of {} bytes is more than the {MAX_FILE_BYTES} allowed", self.size));
        }
        let mut bytes = Vec::new();
        let mut decoder = ZlibDecoder::new(self.deflated.as_slice()).take(self.size + 1);
        decoder.read_to_end(&mut bytes).map_err(|error| format!("a literal cannot be inflated: {error}"))?;
        if u64::try_from(bytes.len()).ok() != Some(self.size) {
            return Err(format!("a literal is not {} bytes long, as it says", self.size));
        }
        Ok(bytes)
    }
}

/// Reads what follows `GIT binary patch`: the literals, and how many lines they have.
pub(super) fn read(text: &[u8]) -> Result<(Literals, usize), String> {
    let (after, first) = block(text)?.ok_or("a binary patch must begin with \"literal\" or \"delta\"")?;
    let rest = first.rest;
    let (before, second) = match block(rest)? {
        Some((before, second)) => (before, second.lines),
        None => (None, 0),
    };
    Ok((Literals { after, before }, first.lines + second))
}

/// What a block leaves.
struct Left<'t> {
    rest: &'t [u8],
    lines: usize,
}

/// One block with the empty line that ends it; `None` where there is none. The literal is `None` for a delta.
fn block(text: &[u8]) -> Result<Option<(Option<Literal>, Left<'_>)>, String> {
    let (line, mut rest) = first_line(text);
    let size = |keyword: &[u8]| {
        let number = line.strip_prefix(keyword)?.strip_suffix(b"\n")?;
        std::str::from_utf8(number).ok()?.parse::<u64>().ok()
    };
    let (size, is_literal) = match (size(b"literal "), size(b"delta ")) {
        (Some(size), _) => (size, true),
        (None, Some(size)) => (size, false),
        (None, None) => return Ok(None),
    };
    let (mut deflated, mut lines) = (Vec::new(), 1);
    loop {
        let (line, tail) = first_line(rest);
        (rest, lines) = (tail, lines + 1);
        match line {
            b"\n" => break,
            [] => return Err("the binary patch ends without an empty line; it may have been cut short".to_owned()),
            _ => decode(line, &mut deflated).ok_or("a line of the binary patch is no base 85")?,
        }
    }
    Ok(Some((is_literal.then_some(Literal { size, deflated }), Left { rest, lines })))
}

/// One line: a letter for its length (`A` to `Z` for 1 to 26 bytes, `a` to `z` for 27 to 52), then five digits for each
/// four bytes.
fn decode(line: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (letter, digits) = line.strip_suffix(b"\n")?.split_first()?;
    let length = match letter {
        b'A'..=b'Z' => usize::from(letter - b'A') + 1,
        b'a'..=b'z' => usize::from(letter - b'a') + 27,
        _ => return None,
    };
    let groups = digits.chunks_exact(5);
    if !groups.remainder().is_empty() || groups.len() != length.div_ceil(4) {
        return None;
    }
    let end = out.len() + length;
    for group in groups {
        let digit = |byte: &u8| DIGITS.get(usize::from(*byte)).copied().filter(|digit| *digit < 85).map(u64::from);
        let number = group.iter().try_fold(0_u64, |sum, byte| Some(sum * 85 + digit(byte)?))?;
        out.extend_from_slice(&u32::try_from(number).ok()?.to_be_bytes());
    }
    out.truncate(end);
    Some(())
}
