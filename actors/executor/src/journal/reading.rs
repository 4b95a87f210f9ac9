//! Reading a journal that another life of the process left. It changes nothing.

use std::collections::BTreeMap;
use std::io::Read as _;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, MetadataExt as _, OpenOptions};
use chrono::{DateTime, Utc};

use super::entry::Entry;
use super::format::{FormatError, Frames, HEADER_BYTES, Header};
use super::{JournalError, PATH, segment_name, segment_number};

/// An entry, and where it was found.
#[derive(Debug)]
pub struct Stored {
    /// Its sequence.
    pub sequence: u64,
    /// The run that wrote it.
    pub run: u64,
    /// The number of its segment.
    pub segment: u64,
    /// The entry.
    pub entry: Entry,
}

/// What a journal held.
#[derive(Debug, Default)]
pub struct Found {
    /// The entries, in the order in which they were written.
    pub entries: Vec<Stored>,
    /// The segments' numbers and the bytes of each that count.
    pub segments: BTreeMap<u64, u64>,
    /// Bytes at the end of the last segment that a crash had cut short.
    pub torn_bytes: u64,
    /// Whether all of it was written since the machine was last started, so that what the file system was told then it
    /// still knows.
    pub same_boot: bool,
    /// When it was last written to.
    pub written_at: DateTime<Utc>,
}

/// Reads every segment in `dir`.
pub(super) fn read(dir: &Dir, boot: [u8; 16]) -> Result<Found, JournalError> {
    let numbers = numbers(dir)?;
    let mut found = Found { same_boot: boot != [0; 16], ..Found::default() };
    for (place, number) in numbers.iter().enumerate() {
        let next = numbers.get(place + 1);
        if next.is_some_and(|next| *next != number + 1) {
            return Err(damaged(number + 1, "it is missing, although later ones are there".to_owned()));
        }
        let bytes = load(dir, *number, u64::MAX)?;
        found.written_at = found.written_at.max(written_at(dir, *number)?);
        // What the next segment does not count was never acknowledged. Without one that says so, the end may be torn.
        let said = match next {
            None => None,
            Some(next) => previous_len(dir, *next)?.map(|len| usize::try_from(len).unwrap_or(usize::MAX)),
        };
        let counted = said.unwrap_or(bytes.len());
        let header = match Header::read(&bytes) {
            // A crash while the segment was made: nothing was ever written to it.
            Err(FormatError::NoSegment | FormatError::Header)
                if bytes.len() <= HEADER_BYTES && (next.is_none() || counted == 0) =>
            {
                found.torn_bytes += bytes.len() as u64;
                found.segments.insert(*number, 0);
                continue;
            }
            other => other.map_err(|error| damaged(*number, error.to_string()))?,
        };
        found.same_boot &= header.boot == boot;
        let mut frames = Frames::of(bytes.get(..counted).unwrap_or(&bytes));
        for (sequence, payload) in frames.by_ref() {
            let entry = Entry::read(payload).map_err(|error| damaged(*number, format!("entry {sequence}: {error}")))?;
            found.entries.push(Stored { sequence, run: header.run, segment: *number, entry });
        }
        let end = frames.end();
        if said.is_some() && end < counted {
            return Err(damaged(*number, format!("it is damaged at byte {end}, before its end at byte {counted}")));
        }
        found.torn_bytes += (bytes.len() - end.min(bytes.len())) as u64;
        found.segments.insert(*number, end as u64);
    }
    Ok(found)
}

/// How many bytes of the segment before `next` count; `None` where `next` was cut short while it was made.
fn previous_len(dir: &Dir, next: u64) -> Result<Option<u64>, JournalError> {
    // One byte more than a header tells a segment that holds something from one that was cut short while it was made.
    let bytes = load(dir, next, HEADER_BYTES as u64 + 1)?;
    match Header::read(&bytes) {
        Ok(header) => Ok(Some(header.previous_len)),
        Err(FormatError::NoSegment | FormatError::Header) if bytes.len() <= HEADER_BYTES => Ok(None),
        Err(error) => Err(damaged(next, error.to_string())),
    }
}

/// The numbers of the segments in `dir`, in order.
pub(super) fn numbers(dir: &Dir) -> Result<Vec<u64>, JournalError> {
    let mut numbers = Vec::new();
    for entry in dir.entries().map_err(JournalError::io("list", PATH))? {
        let name = entry.map_err(JournalError::io("list", PATH))?.file_name();
        match name.to_str().and_then(segment_number) {
            Some(number) => numbers.push(number),
            None => tracing::warn!(?name, "{PATH} holds a file that is none of the journal's; left alone"),
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// When a segment was last written to.
fn written_at(dir: &Dir, number: u64) -> Result<DateTime<Utc>, JournalError> {
    let name = segment_name(number);
    let metadata = dir.symlink_metadata(&name).map_err(JournalError::io("look at", format!("{PATH}/{name}")))?;
    Ok(DateTime::from_timestamp(metadata.mtime(), 0).unwrap_or_default())
}

/// The first `most` bytes of a segment.
fn load(dir: &Dir, number: u64, most: u64) -> Result<Vec<u8>, JournalError> {
    let name = segment_name(number);
    let mut options = OpenOptions::new();
    options.read(true).follow(FollowSymlinks::No);
    let mut bytes = Vec::new();
    dir.open_with(&name, &options)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(JournalError::io("read", format!("{PATH}/{name}")))?;
    Ok(bytes)
}

fn damaged(number: u64, what: String) -> JournalError {
    JournalError::Damaged { path: format!("{PATH}/{}", segment_name(number)), what }
}
