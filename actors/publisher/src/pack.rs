//! The bytes of a pack and of its index, made in memory.
//!
//! A group of commits becomes one pack. Successive versions of one file or folder (the audit log, the flat folders)
//! differ by an insertion, so each is stored as the difference from the one before. Nothing here touches a disk.

use std::collections::HashMap;

use gix::ObjectId;
use gix::objs::Kind;

use crate::error::WorkError;

/// Versions that may build on one another before one is stored whole: the longest chain a reader must follow.
const MAX_CHAIN: usize = 48;

/// The largest run that one copy instruction can name.
const MAX_COPY: usize = 0x00ff_ffff;

/// Room that compressed bytes find at least, whatever came before.
const DEFLATE_ROOM: usize = 512;

/// The largest run that one insert instruction can hold.
const MAX_INSERT: usize = 127;

struct Record {
    id: ObjectId,
    crc: u32,
    offset: u64,
}

/// The latest version of a path in this pack.
struct Version {
    bytes: Vec<u8>,
    offset: u64,
    chain: usize,
}

/// A finished pack.
pub struct Pack {
    /// The pack's checksum, which is also its name.
    pub id: ObjectId,
    /// The pack's bytes.
    pub data: Vec<u8>,
    /// The index's bytes.
    pub index: Vec<u8>,
}

/// A pack in the making.
pub struct Packer {
    data: Vec<u8>,
    records: HashMap<ObjectId, Record>,
    versions: HashMap<Vec<u8>, Version>,
    /// The bodies of trees and commits, which may be read again before the pack is on disk.
    bodies: HashMap<ObjectId, Vec<u8>>,
    held: usize,
    /// Made once: its memory is some 300 KiB.
    deflate: flate2::Compress,
}

impl Default for Packer {
    fn default() -> Self {
        // The count of objects is put in at the end.
        let data = [b"PACK".as_slice(), &2u32.to_be_bytes(), &0u32.to_be_bytes()].concat();
        let deflate = flate2::Compress::new(flate2::Compression::fast(), true);
        Self { data, records: HashMap::new(), versions: HashMap::new(), bodies: HashMap::new(), held: 0, deflate }
    }
}

impl Packer {
    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Roughly the memory in use, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.data.len() + self.held
    }

    /// An object that is in this pack and may be read again: trees and commits.
    #[must_use]
    pub fn body(&self, id: &ObjectId) -> Option<&[u8]> {
        self.bodies.get(id).map(Vec::as_slice)
    }

    /// Adds an object. `path` names what it is a version of, where earlier versions are likely to resemble it.
    ///
    /// # Errors
    /// When hashing or compressing fails, which they do not for bytes in memory.
    pub fn add(&mut self, kind: Kind, path: Option<&[u8]>, bytes: Vec<u8>) -> Result<ObjectId, WorkError> {
        let id =
            gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, &bytes).map_err(|e| WorkError::object("new", e))?;
        if self.records.contains_key(&id) {
            return Ok(id);
        }
        let offset = self.data.len() as u64;
        let base = path.and_then(|path| self.versions.get(path)).filter(|version| version.chain < MAX_CHAIN);
        let delta = base.and_then(|base| delta(&base.bytes, &bytes).map(|delta| (base.offset, base.chain + 1, delta)));
        let chain = match delta {
            Some((base, chain, delta)) => {
                self.write_entry(OFS_DELTA, Some(offset - base), &delta)?;
                chain
            }
            None => {
                self.write_entry(type_number(kind), None, &bytes)?;
                0
            }
        };
        let written = self.data.get(offset as usize..).unwrap_or_default();
        let mut crc = flate2::Crc::new();
        crc.update(written);
        self.records.insert(id, Record { id, crc: crc.sum(), offset });
        if kind != Kind::Blob {
            self.held += bytes.len();
            self.bodies.insert(id, bytes.clone());
        }
        if let Some(path) = path {
            self.versions.insert(path.to_vec(), Version { bytes, offset, chain });
        }
        Ok(id)
    }

    fn write_entry(&mut self, number: u8, back: Option<u64>, body: &[u8]) -> Result<(), WorkError> {
        let mut size = body.len();
        let mut byte = (number << 4) | (size & 15) as u8;
        size >>= 4;
        while size > 0 {
            self.data.push(byte | 0x80);
            byte = (size & 0x7f) as u8;
            size >>= 7;
        }
        self.data.push(byte);
        if let Some(back) = back {
            self.data.extend(offset_varint(back));
        }
        self.deflate.reset();
        let mut done = 0;
        loop {
            self.data.reserve((body.len() - done) / 2 + DEFLATE_ROOM);
            let rest = body.get(done..).unwrap_or_default();
            let status = self.deflate.compress_vec(rest, &mut self.data, flate2::FlushCompress::Finish);
            match status.map_err(|e| WorkError::object("new", e))? {
                flate2::Status::StreamEnd => return Ok(()),
                _ => done = usize::try_from(self.deflate.total_in()).unwrap_or(body.len()).min(body.len()),
            }
        }
    }

    /// The pack and its index.
    ///
    /// # Errors
    /// When hashing fails, which it does not.
    pub fn finish(mut self) -> Result<Pack, WorkError> {
        let count = u32::try_from(self.records.len()).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.data.get_mut(8..12) {
            place.copy_from_slice(&count);
        }
        let id = sha1(&self.data)?;
        self.data.extend_from_slice(id.as_slice());
        let mut records: Vec<Record> = self.records.into_values().collect();
        records.sort_by_key(|record| record.id);
        let index = index(&records, &id)?;
        Ok(Pack { id, data: self.data, index })
    }
}

const OFS_DELTA: u8 = 6;

const fn type_number(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

fn sha1(bytes: &[u8]) -> Result<ObjectId, WorkError> {
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    hasher.update(bytes);
    hasher.try_finalize().map_err(|e| WorkError::object("pack", e))
}

/// Index version 2. Offsets stay below 2 GiB because a pack is closed long before.
fn index(records: &[Record], pack: &ObjectId) -> Result<Vec<u8>, WorkError> {
    let mut out = b"\xfftOc\x00\x00\x00\x02".to_vec();
    let mut counts = [0u32; 256];
    for record in records {
        let first = record.id.as_slice().first().copied().unwrap_or_default();
        if let Some(count) = counts.get_mut(usize::from(first)) {
            *count += 1;
        }
    }
    let mut total = 0u32;
    for count in counts {
        total += count;
        out.extend_from_slice(&total.to_be_bytes());
    }
    records.iter().for_each(|record| out.extend_from_slice(record.id.as_slice()));
    records.iter().for_each(|record| out.extend_from_slice(&record.crc.to_be_bytes()));
    records.iter().for_each(|record| out.extend_from_slice(&(record.offset as u32).to_be_bytes()));
    out.extend_from_slice(pack.as_slice());
    let own = sha1(&out)?;
    out.extend_from_slice(own.as_slice());
    Ok(out)
}

/// The distance to a delta's base, as packs spell it: most significant group first, each but the last one less.
fn offset_varint(mut back: u64) -> Vec<u8> {
    let mut bytes = vec![(back & 0x7f) as u8];
    back >>= 7;
    while back > 0 {
        back -= 1;
        bytes.push(0x80 | (back & 0x7f) as u8);
        back >>= 7;
    }
    bytes.reverse();
    bytes
}

fn size_varint(mut size: usize, out: &mut Vec<u8>) {
    while size >= 0x80 {
        out.push(0x80 | (size & 0x7f) as u8);
        size >>= 7;
    }
    out.push(size as u8);
}

/// `new` as the head and tail of `old` around what lies between; nothing where that saves too little.
fn delta(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let head = common_head(old, new);
    let room = old.len().min(new.len()) - head;
    let tail = common_tail(old, new, room);
    if (head + tail) * 2 < new.len() || old.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    size_varint(old.len(), &mut out);
    size_varint(new.len(), &mut out);
    copy(0, head, &mut out);
    for chunk in new.get(head..new.len() - tail)?.chunks(MAX_INSERT) {
        out.push(chunk.len() as u8);
        out.extend_from_slice(chunk);
    }
    copy(old.len() - tail, tail, &mut out);
    Some(out)
}

/// Bytes that are compared at once.
const STRIDE: usize = 4096;

fn common_head(old: &[u8], new: &[u8]) -> usize {
    let whole = old.chunks_exact(STRIDE).zip(new.chunks_exact(STRIDE)).take_while(|(a, b)| a == b).count() * STRIDE;
    let rest = old.iter().zip(new).skip(whole).take_while(|(a, b)| a == b).count();
    whole + rest
}

fn common_tail(old: &[u8], new: &[u8], room: usize) -> usize {
    let pairs = old.rchunks_exact(STRIDE).zip(new.rchunks_exact(STRIDE)).take(room / STRIDE);
    let whole = pairs.take_while(|(a, b)| a == b).count() * STRIDE;
    let bytes = old.iter().rev().zip(new.iter().rev()).take(room).skip(whole);
    whole + bytes.take_while(|(a, b)| a == b).count()
}

fn copy(mut from: usize, mut length: usize, out: &mut Vec<u8>) {
    while length > 0 {
        let run = length.min(MAX_COPY);
        let at = out.len();
        out.push(0x80);
        let mut flags = 0x80u8;
        for (bit, byte) in (from as u32).to_le_bytes().into_iter().enumerate() {
            if byte != 0 {
                flags |= 1 << bit;
                out.push(byte);
            }
        }
        for (bit, byte) in (run as u32).to_le_bytes().into_iter().take(3).enumerate() {
            if byte != 0 {
                flags |= 0x10 << bit;
                out.push(byte);
            }
        }
        if let Some(place) = out.get_mut(at) {
            *place = flags;
        }
        from += run;
        length -= run;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn varint(bytes: &mut &[u8]) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn apply(old: &[u8], mut delta: &[u8]) -> Vec<u8> {
        assert_eq!(varint(&mut delta), old.len());
        let size = varint(&mut delta);
        let mut new = Vec::new();
        while let Some((&op, mut rest)) = delta.split_first() {
            let mut take = |flag: u8| {
                if op & flag == 0 {
                    return 0;
                }
                let byte = usize::from(rest[0]);
                rest = &rest[1..];
                byte
            };
            if op & 0x80 != 0 {
                let from = take(1) | take(2) << 8 | take(4) << 16 | take(8) << 24;
                let length = take(16) | take(32) << 8 | take(64) << 16;
                new.extend_from_slice(&old[from..from + length]);
                delta = rest;
            } else {
                new.extend_from_slice(&rest[..usize::from(op)]);
                delta = &rest[usize::from(op)..];
            }
        }
        assert_eq!(new.len(), size);
        new
    }

    #[test]
    fn a_delta_gives_the_new_version_back() {
        let long: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let mut middle = long.clone();
        middle.splice(70_000..70_010, [7; 300]);
        let appended = [long.as_slice(), b"and more"].concat();
        for (old, new) in [(&long, &middle), (&long, &appended), (&appended, &long), (&long, &long)] {
            assert_eq!(&apply(old, &delta(old, new).unwrap()), new);
        }
        assert!(delta(b"", b"x").is_none());
        assert!(delta(b"abc", b"quite another text").is_none());
        assert_eq!(apply(b"aaaa", &delta(b"aaaa", b"aaaaa").unwrap()), b"aaaaa", "head and tail must not overlap");
    }

    #[test]
    fn offsets_are_spelt_as_git_spells_them() {
        assert_eq!(offset_varint(127), [0x7f]);
        assert_eq!(offset_varint(128), [0x80, 0x00]);
        assert_eq!(offset_varint(16_511), [0xff, 0x7f]);
        assert_eq!(offset_varint(16_512), [0x80, 0x80, 0x00]);
    }

    #[test]
    fn git_reads_the_pack_and_agrees_with_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let mut packer = Packer::default();
        let mut text = Vec::new();
        let mut ids = Vec::new();
        for line in 0..200 {
            text.extend_from_slice(format!("line {line}\n").as_bytes());
            ids.push((packer.add(Kind::Blob, Some(b"log"), text.clone()).unwrap(), text.len()));
        }
        let pack = packer.finish().unwrap();
        let at = dir.path().join("x.pack");
        std::fs::write(&at, &pack.data).unwrap();
        let git = |args: &[&str]| {
            let out = std::process::Command::new("git").args(args).current_dir(dir.path()).output().unwrap();
            assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
            out.stdout
        };
        git(&["init", "-q"]);
        git(&["index-pack", "--strict", "-o", "theirs.idx", "x.pack"]);
        assert_eq!(std::fs::read(dir.path().join("theirs.idx")).unwrap(), pack.index);
        let folder = dir.path().join(".git/objects/pack");
        std::fs::write(folder.join(format!("pack-{}.pack", pack.id)), &pack.data).unwrap();
        std::fs::write(folder.join(format!("pack-{}.idx", pack.id)), &pack.index).unwrap();
        for (id, length) in ids {
            assert_eq!(git(&["cat-file", "blob", &id.to_string()]), text[..length]);
        }
    }
}
