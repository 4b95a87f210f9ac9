//! The bytes of a pack and of its index, made in memory.
//!
//! A group of commits becomes one pack. Successive versions of one file or folder (the audit log, the flat folders)
//! differ by an insertion, and artifacts of one kind by a few words, so most objects are stored as the difference from
//! one before. Nothing here touches a disk.
//!
//! Git follows no chain of more than 50 differences when it packs anew. What is stored whole at the end of each chain is
//! most of what folders and logs take up; so each [`STEP`]th version builds on the [`STEP`]th before it, which leaves
//! [`MAX_CHAIN`] times [`STEP`] versions to one that is whole, for three quarters more in differences.

mod delta;

use std::collections::HashMap;
use std::sync::Arc;

use gix::ObjectId;
use gix::objs::Kind;

use crate::error::WorkError;

/// The longest chain of versions, each built on another, that a reader must follow.
const MAX_CHAIN: usize = 48;

/// Versions from one that many others are reached through to the next.
const STEP: usize = 4;

/// The largest object that is kept for others to build on: more than the largest log.
const MAX_BASE: usize = 12 << 20;

/// Bytes of such objects that are not counted as weight: what is beyond them ends the pack sooner.
const KEPT_FREE: usize = 32 << 20;

/// Room that compressed bytes find at least, whatever came before.
const DEFLATE_ROOM: usize = 512;

struct Record {
    id: ObjectId,
    crc: u32,
    offset: u64,
}

/// One object that others may build on.
#[derive(Clone)]
struct Version {
    bytes: Arc<Vec<u8>>,
    offset: u64,
    chain: usize,
}

/// The versions of one thing in this pack that the next one may build on.
struct Line {
    latest: Version,
    /// The last one that was stored whole or builds on another mark.
    mark: Version,
    /// Versions since that.
    since: usize,
}

impl Line {
    /// What the next version builds on; `None`: it is to be stored whole.
    fn base(&self) -> Option<&Version> {
        if self.since + 1 < STEP {
            return Some(&self.latest);
        }
        Some(&self.mark).filter(|mark| mark.chain + STEP <= MAX_CHAIN)
    }

    /// Bytes that it keeps in memory.
    fn weight(&self) -> usize {
        self.latest.bytes.len() + self.mark.bytes.len()
    }

    /// The next version was stored; `whole` if it builds on none.
    fn add(&mut self, version: Version, whole: bool) {
        self.since += 1;
        if whole || self.since == STEP {
            (self.mark, self.since) = (version.clone(), 0);
        }
        self.latest = version;
    }
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
    ids: gix::hash::Kind,
    data: Vec<u8>,
    records: HashMap<ObjectId, Record>,
    lines: HashMap<Vec<u8>, Line>,
    /// Bytes of the versions that are kept for others to build on.
    kept: usize,
    /// The bodies of trees and commits, which may be read again before the pack is on disk.
    bodies: HashMap<ObjectId, Vec<u8>>,
    held: usize,
    /// Made once: its memory is some 300 KiB.
    deflate: flate2::Compress,
}

impl Packer {
    /// An empty pack, for a repository whose objects are named by such ids.
    #[must_use]
    pub fn new(ids: gix::hash::Kind) -> Self {
        // The count of objects is put in at the end.
        let data = [b"PACK".as_slice(), &2u32.to_be_bytes(), &0u32.to_be_bytes()].concat();
        let deflate = flate2::Compress::new(flate2::Compression::fast(), true);
        let (records, lines, bodies) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { ids, data, records, lines, kept: 0, bodies, held: 0, deflate }
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Roughly the memory in use, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.data.len() + self.held + self.kept.saturating_sub(KEPT_FREE)
    }

    /// An object that is in this pack and may be read again: trees and commits.
    #[must_use]
    pub fn body(&self, id: &ObjectId) -> Option<&[u8]> {
        self.bodies.get(id).map(Vec::as_slice)
    }

    /// Adds an object. `kin` names what it is a version of, or what it is one of many alike of.
    ///
    /// # Errors
    /// When hashing or compressing fails, which they do not for bytes in memory.
    pub fn add(&mut self, kind: Kind, kin: Option<&[u8]>, bytes: Vec<u8>) -> Result<ObjectId, WorkError> {
        let id = gix::objs::compute_hash(self.ids, kind, &bytes).map_err(|e| WorkError::object("new", e))?;
        if self.records.contains_key(&id) {
            return Ok(id);
        }
        let offset = self.data.len() as u64;
        let base = kin.and_then(|kin| self.lines.get(kin)).and_then(Line::base);
        let delta =
            base.and_then(|base| delta::delta(&base.bytes, &bytes).map(|delta| (base.offset, base.chain + 1, delta)));
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
        if let Some(kin) = kin.filter(|_| bytes.len() <= MAX_BASE) {
            let version = Version { bytes: Arc::new(bytes), offset, chain };
            let line = match self.lines.remove(kin) {
                Some(mut line) => {
                    self.kept -= line.weight();
                    line.add(version, chain == 0);
                    line
                }
                None => Line { latest: version.clone(), mark: version, since: 0 },
            };
            self.kept += line.weight();
            self.lines.insert(kin.to_vec(), line);
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
        let id = checksum(self.ids, &self.data)?;
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

/// What ends a pack, an index of a pack, and git's index.
pub(crate) fn checksum(ids: gix::hash::Kind, bytes: &[u8]) -> Result<ObjectId, WorkError> {
    let mut hasher = gix::hash::hasher(ids);
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
    let own = checksum(pack.kind(), &out)?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_to_build_on_counts_as_weight() {
        let mut packer = Packer::new(gix::hash::Kind::Sha1);
        for n in 0..100u32 {
            let kin = format!("context/*.{}", n % 50);
            let bytes = [vec![0; 1_000_000], n.to_be_bytes().to_vec()].concat();
            packer.add(Kind::Blob, Some(kin.as_bytes()), bytes).unwrap();
        }
        let kept: usize = packer.lines.values().map(Line::weight).sum();
        assert_eq!(packer.kept, kept);
        assert!(packer.weight() > 50 * 1_000_000 - KEPT_FREE);
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
        [gix::hash::Kind::Sha1, gix::hash::Kind::Sha256].into_iter().for_each(git_reads_the_pack);
    }

    fn git_reads_the_pack(ids: gix::hash::Kind) {
        let dir = tempfile::tempdir().unwrap();
        let mut packer = Packer::new(ids);
        let mut text = Vec::new();
        let mut made = Vec::new();
        for line in 0..200 {
            text.extend_from_slice(format!("line {line}\n").as_bytes());
            made.push((packer.add(Kind::Blob, Some(b"log"), text.clone()).unwrap(), text.len()));
        }
        let pack = packer.finish().unwrap();
        let at = dir.path().join("x.pack");
        std::fs::write(&at, &pack.data).unwrap();
        let git = |args: &[&str]| {
            let out = std::process::Command::new("git").args(args).current_dir(dir.path()).output().unwrap();
            assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
            out.stdout
        };
        git(&["init", "-q", &format!("--object-format={ids}")]);
        git(&["index-pack", "--strict", "-o", "theirs.idx", "x.pack"]);
        assert_eq!(std::fs::read(dir.path().join("theirs.idx")).unwrap(), pack.index);
        let folder = dir.path().join(".git/objects/pack");
        std::fs::write(folder.join(format!("pack-{}.pack", pack.id)), &pack.data).unwrap();
        std::fs::write(folder.join(format!("pack-{}.idx", pack.id)), &pack.index).unwrap();
        let listed = git(&["verify-pack", "-v", &format!(".git/objects/pack/pack-{}.idx", pack.id)]);
        let listed = String::from_utf8(listed).unwrap();
        let deepest = listed.lines().filter_map(|line| line.strip_prefix("chain length = ")?.split(':').next());
        assert_eq!(deepest.map(|depth| depth.parse::<usize>().unwrap()).max().unwrap(), MAX_CHAIN);
        let whole = listed.lines().find_map(|line| line.strip_prefix("non delta: ")?.split(' ').next());
        assert!(whole.unwrap().parse::<usize>().unwrap() <= 8, "{listed}");
        for (id, length) in made {
            assert_eq!(git(&["cat-file", "blob", &id.to_string()]), text[..length]);
        }
    }
}
