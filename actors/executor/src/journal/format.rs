//! The bytes of a journal segment: a header, then frames. Pure.
//!
//! ```text
//! header  magic "GBJOURNL" · version u32 · number u64 · run u64 · boot 16 bytes · previous length u64 · CRC-32 u32
//! frame   length u32 · CRC-32 u32 · sequence u64 · payload (length bytes)
//! ```
//!
//! All numbers are little-endian. A frame's CRC covers its sequence and its payload; the header's covers all before it. A
//! segment says how long its predecessor was when it was left, so that only the end of the last segment may be torn: what
//! a crash cut short there was never acknowledged to anybody, and is dropped.

/// What a segment begins with.
const MAGIC: &[u8; 8] = b"GBJOURNL";
/// The format that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// The header's length in bytes.
pub const HEADER_BYTES: usize = 8 + 4 + 8 + 8 + 16 + 8 + 4;
/// What a frame adds to its payload, in bytes.
pub const FRAME_BYTES: usize = 4 + 4 + 8;
/// The longest payload, in bytes: above what one command may hold in memory, before- and after-images together.
pub const MAX_PAYLOAD_BYTES: usize = 640 * 1024 * 1024;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its number; each segment's is one higher than the one before.
    pub number: u64,
    /// A random number that all segments of one journal share, until it is emptied.
    pub run: u64,
    /// The boot of the machine in which it was begun; zeros where that is unknown.
    pub boot: [u8; 16],
    /// How many bytes of the segment before count; 0 for the first.
    pub previous_len: u64,
}

/// Why bytes are no segment of this journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not the magic, or not whole.
    #[error("it does not begin as a journal segment does")]
    NoSegment,
    /// Another version of this program wrote it.
    #[error("it has format {0}; this program reads format {VERSION}")]
    Version(u32),
    /// The checksum of the header is wrong.
    #[error("its header is damaged")]
    Header,
}

/// Reads numbers from the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.run.to_le_bytes());
        bytes.extend_from_slice(&self.boot);
        bytes.extend_from_slice(&self.previous_len.to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a segment's header.
    ///
    /// # Errors
    /// When the bytes do not begin with one of this version.
    pub fn read(segment: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader(segment);
        if reader.take(MAGIC.len()) != Some(MAGIC) {
            return Err(FormatError::NoSegment);
        }
        let version = reader.u32().ok_or(FormatError::NoSegment)?;
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let mut fields = || {
            let header =
                Self { number: reader.u64()?, run: reader.u64()?, boot: reader.array()?, previous_len: reader.u64()? };
            Some((header, reader.u32()?))
        };
        let (header, crc) = fields().ok_or(FormatError::NoSegment)?;
        let covered = segment.get(..HEADER_BYTES - 4).unwrap_or_default();
        if crc32fast::hash(covered) == crc { Ok(header) } else { Err(FormatError::Header) }
    }
}

/// Appends one frame to `out`.
pub fn write_frame(sequence: u64, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc(sequence, payload).to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(payload);
}

fn crc(sequence: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The frames of a segment that are whole, and how many bytes they and the header take.
#[derive(Debug)]
pub struct Frames<'a> {
    segment: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    /// The frames behind the header of `segment`.
    #[must_use]
    pub fn of(segment: &'a [u8]) -> Self {
        Self { segment, at: HEADER_BYTES }
    }

    /// Where the last whole frame so far ended.
    #[must_use]
    pub fn end(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader(self.segment.get(self.at..)?);
        let length = usize::try_from(reader.u32()?).ok().filter(|length| *length <= MAX_PAYLOAD_BYTES)?;
        let (sum, sequence) = (reader.u32()?, reader.u64()?);
        let payload = reader.take(length)?;
        if crc(sequence, payload) != sum {
            return None;
        }
        self.at += FRAME_BYTES + length;
        Some((sequence, payload))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const HEADER: Header = Header { number: 3, run: 9, boot: [7; 16], previous_len: 77 };

    fn segment(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = HEADER.to_bytes();
        for (number, payload) in payloads.iter().enumerate() {
            write_frame(number as u64, payload, &mut bytes);
        }
        bytes
    }

    #[test]
    fn what_is_written_reads_back() {
        let bytes = segment(&[b"one", b"", b"three"]);
        assert_eq!(Header::read(&bytes), Ok(HEADER));
        assert_eq!(bytes.len(), HEADER_BYTES + 3 * FRAME_BYTES + 8);
        let mut frames = Frames::of(&bytes);
        assert_eq!(frames.by_ref().collect::<Vec<_>>(), [(0, b"one".as_slice()), (1, b""), (2, b"three")]);
        assert_eq!(frames.end(), bytes.len());
    }

    #[test]
    fn a_torn_tail_ends_the_frames_wherever_it_is_torn() {
        let (whole, longer) = (segment(&[b"one"]), segment(&[b"one", b"two, which is torn"]));
        for cut in whole.len()..longer.len() {
            let mut frames = Frames::of(&longer[..cut]);
            assert_eq!(frames.by_ref().count(), 1);
            assert_eq!(frames.end(), whole.len());
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = segment(&[b"one"]);
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let intact = Header::read(&changed) == Ok(HEADER) && Frames::of(&changed).count() == 1;
            assert!(!intact, "{place}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = segment(&[]);
        bytes[8] = 2;
        assert_eq!(Header::read(&bytes), Err(FormatError::Version(2)));
        assert_eq!(Header::read(b"GBJOURNL"), Err(FormatError::NoSegment));
        assert_eq!(Header::read(b""), Err(FormatError::NoSegment));
    }
}
