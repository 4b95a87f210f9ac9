//! Many small packs made one, and loose objects packed, without a walk through history.
//!
//! `git repack` finds out by a walk what a pack's objects are called, which takes the longer the more there is in the
//! branch: a quarter of a minute after a million commands. Here the names of the objects in the small packs are read from
//! their indexes, and `git pack-objects` is told to put just these into one pack; it copies them, differences as they are.
//! Only once the new pack is durable the old ones go.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gix::ObjectId;
use gix::hash::Kind as Ids;
use gix::odb::pack::index::File as Index;
use gix::odb::pack::multi_index::File as MultiIndex;

use crate::error::WorkError;
use crate::git::{Git, GitError, Input};
use crate::leftovers;
use crate::objects::sync_folder;

/// A pack of this size is left as it is: so the work of one consolidation is bounded, whatever lies in the repository.
const SETTLED_BYTES: u64 = 128 << 20;

/// Objects of small packs that are put together at a time, but for two that are larger: their places are held in memory,
/// a pack at a time.
const OBJECTS_AT_A_TIME: u64 = 500_000;

/// Bytes of small packs that are put together at a time, but for two that are larger: a child has a time limit.
const BYTES_AT_A_TIME: u64 = 512 << 20;

/// Loose objects that are packed at a time.
const LOOSE_AT_A_TIME: usize = 100_000;

/// One pack, with nothing beside it but its index, and durable whatever a person has configured: the old ones go then.
const OPTIONS: [&str; 10] = [
    "-c",
    "pack.packSizeLimit=0",
    "-c",
    "pack.writeBitmaps=false",
    "-c",
    "pack.threads=1",
    "-c",
    "core.fsync=committed",
    "-c",
    "core.fsyncMethod=fsync",
];

/// What stands beside a pack and says that it is not like others: somebody wants it to stay, it is what a partial clone
/// was promised, it is a heap of what nothing names.
const MARKS: [&str; 3] = ["keep", "promisor", "mtimes"];

/// Where a child writes until a pack is whole, beside the folder of packs: what is left of one that was killed goes with
/// it.
pub(crate) const WORKSHOP: &str = "bridge-packing";

/// What belongs to a pack. The index goes first: without it nobody looks into the pack.
const PARTS: [&str; 4] = ["idx", "pack", "rev", "bitmap"];

/// A pack that may be put together with others.
#[derive(Debug)]
struct Small {
    /// Its path without an extension.
    stem: PathBuf,
    objects: u64,
    bytes: u64,
}

/// The packs in the folder `objects/pack` that are neither settled nor marked.
#[must_use]
pub fn unsettled(pack_folder: &Path) -> Vec<PathBuf> {
    let (mut packs, mut marked) = (Vec::new(), HashSet::new());
    for path in names(pack_folder) {
        match path.extension().and_then(OsStr::to_str) {
            Some("pack") => packs.push(path),
            Some(mark) if MARKS.contains(&mark) => drop(marked.insert(path.with_extension(""))),
            _ => {}
        }
    }
    packs.retain(|path| {
        let marked = !marked.is_empty() && marked.contains(&path.with_extension(""));
        !marked && path.metadata().is_ok_and(|meta| meta.len() < SETTLED_BYTES)
    });
    packs
}

pub(crate) fn names(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Makes few packs of many, and packs loose objects. Packs that are large or marked are left, and so is a pack with at
/// least twice the objects of all smaller ones together, so that an object is not copied again and again.
///
/// # Errors
/// When git does not come to its end, or the disk refuses; nothing is lost then.
pub fn consolidate(git: &Git, objects: &Path, ids: Ids) -> Result<(), WorkError> {
    let folder = objects.join("pack");
    // What a child left that was called off.
    leftovers::remove_abandoned(&folder, SystemTime::now());
    put_together(git, &folder, &geometric(small(&folder, &indexed_together(&folder)?, ids)), ids)?;
    let loose = loose(objects);
    if !loose.is_empty() {
        pack(git, &folder, Box::new(move |out| loose.iter().try_for_each(|id| writeln!(out, "{id}"))))?;
        git.check(&["prune-packed", "-q"])?;
    }
    Ok(())
}

/// Replaces some packs by one. Where git refuses, one may be damaged: each half is tried then, so that it is left and the
/// others do not gather.
fn put_together(git: &Git, folder: &Path, few: &[Small], ids: Ids) -> Result<(), WorkError> {
    if few.len() < 2 {
        return Ok(());
    }
    match replace(git, folder, few, ids) {
        Err(WorkError::Git(error @ GitError::Failed { .. })) => {
            tracing::warn!(%error, packs = few.len(), "not put together; `git fsck` tells whether one is damaged");
            let (half, other) = few.split_at(few.len() / 2);
            put_together(git, folder, half, ids)?;
            put_together(git, folder, other, ids)
        }
        result => result,
    }
}

fn replace(git: &Git, folder: &Path, few: &[Small], ids: Ids) -> Result<(), WorkError> {
    has_room(folder, few.iter().map(|pack| pack.bytes).sum())?;
    let indexes: Vec<_> = few.iter().map(|pack| pack.stem.with_extension("idx")).collect();
    let list = move |out: &mut dyn Write| indexes.iter().try_for_each(|index| write_ids(index, ids, out));
    let made = pack(git, folder, Box::new(list))?;
    let most = few.iter().map(|pack| pack.objects).max();
    if count(&made.with_extension("idx"), ids) < most {
        return Err(WorkError::object(made.display(), "it has not all objects of the packs that it was made of"));
    }
    supervision::crash_point!("housekeeping.consolidated");
    few.iter().filter(|old| old.stem != made).try_for_each(|old| remove(&old.stem))
}

/// The packs that an index over several names (a person's `git maintenance`): it would miss them.
fn indexed_together(folder: &Path) -> Result<HashSet<PathBuf>, WorkError> {
    let parts =
        names(&folder.join("multi-pack-index.d")).filter(|path| path.extension().is_some_and(|it| it == "midx"));
    let mut found = HashSet::new();
    for path in [folder.join("multi-pack-index")].into_iter().filter(|path| path.exists()).chain(parts) {
        let index = MultiIndex::at(&path, None).map_err(|e| WorkError::object(path.display(), e))?;
        found.extend(index.index_names().iter().map(|name| folder.join(name).with_extension("")));
    }
    Ok(found)
}

fn small(folder: &Path, indexed_together: &HashSet<PathBuf>, ids: Ids) -> Vec<Small> {
    let alike = |stem: &PathBuf| !indexed_together.contains(stem);
    let stems = unsettled(folder).into_iter().map(|path| path.with_extension("")).filter(alike);
    let look = |stem: PathBuf| {
        let bytes = stem.with_extension("pack").metadata().ok()?.len();
        Some(Small { objects: count(&stem.with_extension("idx"), ids)?, bytes, stem })
    };
    stems.filter_map(look).collect()
}

/// Whether there is room for what is about to be written, twice over: a child that finds the disk full leaves what it has
/// written.
fn has_room(folder: &Path, bytes: u64) -> Result<(), WorkError> {
    let stat = rustix::fs::statvfs(folder).map_err(|e| WorkError::io(folder, io::Error::from(e)))?;
    if stat.f_bavail.saturating_mul(stat.f_frsize) < bytes.saturating_mul(2) {
        return Err(WorkError::io(folder, io::Error::new(io::ErrorKind::StorageFull, "no room to put packs together")));
    }
    Ok(())
}

/// Objects in a pack: an index's last fan-out entry (gitformat-pack(5)). `None` where there is no such index.
fn count(index: &Path, ids: Ids) -> Option<u64> {
    Index::at(index, ids).ok().map(|index| u64::from(index.num_objects()))
}

/// The smallest packs, up to the first with at least twice the objects of all before it, and not too many at a time.
fn geometric(mut packs: Vec<Small>) -> Vec<Small> {
    packs.sort_by_key(|pack| pack.objects);
    let (mut sum, mut bytes, mut end) = (0, 0, 0);
    for (at, pack) in packs.iter().enumerate() {
        bytes += pack.bytes;
        if at > 1 && (sum + pack.objects > OBJECTS_AT_A_TIME || bytes > BYTES_AT_A_TIME) {
            break;
        }
        if at > 0 && pack.objects < sum * 2 {
            end = at + 1;
        }
        sum += pack.objects;
    }
    packs.truncate(end);
    packs
}

/// Writes the ids of a pack's objects, a line each, in the order in which they lie in the pack: what belongs together
/// stays so.
fn write_ids(index: &Path, ids: Ids, out: &mut dyn Write) -> io::Result<()> {
    let opened = Index::at(index, ids).map_err(io::Error::other)?;
    let mut objects: Vec<(u64, u32)> =
        (0..opened.num_objects()).map(|at| (opened.pack_offset_at_index(at), at)).collect();
    objects.sort_unstable();
    objects.iter().try_for_each(|(_, at)| writeln!(out, "{}", opened.oid_at_index(*at)))
}

/// Puts the objects of a list into a pack and makes it durable; gives the path of what was made, without an extension.
/// One that is named twice is put in once.
fn pack(git: &Git, folder: &Path, list: Input) -> Result<PathBuf, WorkError> {
    let base = folder.join("pack");
    let Some(base) = base.to_str() else { return Err(WorkError::object(base.display(), "its name is no UTF-8")) };
    let args = ["pack-objects", "-q", "--delta-base-offset", "--window=0", base];
    let objects = folder.parent().unwrap_or(folder);
    let workshop = objects.join(WORKSHOP);
    fs::create_dir_all(workshop.join("pack")).map_err(|e| WorkError::io(&workshop, e))?;
    let made = git.clone().with_objects(&workshop, objects).feed(&OPTIONS, &args, list);
    leftovers::remove_workshop(objects);
    let made = made?;
    sync_folder(folder)?;
    let made = String::from_utf8_lossy(&made);
    let mut made = made.split_whitespace();
    match (made.next(), made.next()) {
        (Some(id), None) => Ok(folder.join(format!("pack-{id}"))),
        _ => Err(WorkError::object(folder.display(), "git did not tell which pack it has made")),
    }
}

fn remove(stem: &Path) -> Result<(), WorkError> {
    for part in PARTS {
        let path = stem.with_extension(part);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(WorkError::io(path, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Loose objects, at most [`LOOSE_AT_A_TIME`].
fn loose(objects: &Path) -> Vec<ObjectId> {
    let folders = names(objects).filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        (name.len() == 2).then_some((name, path))
    });
    let ids = folders.flat_map(|(start, path)| {
        names(&path).filter_map(move |path| {
            // A power cut leaves empty ones, which git cannot read.
            path.metadata().ok().filter(|meta| meta.len() > 0)?;
            let id = format!("{start}{}", path.file_name()?.to_str()?);
            ObjectId::from_hex(id.as_bytes()).ok()
        })
    });
    ids.take(LOOSE_AT_A_TIME).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use gix::objs::Kind;

    use super::*;
    use crate::objects::Store;

    fn first_id(index: &Path, ids: Ids) -> ObjectId {
        Index::at(index, ids).unwrap().oid_at_index(0).to_owned()
    }

    #[test]
    fn a_pack_is_removed_only_for_one_that_has_all_its_objects() {
        [Ids::Sha1, Ids::Sha256].into_iter().for_each(packs_become_one);
    }

    fn packs_become_one(ids: Ids) {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::new(dir.path(), Duration::from_secs(60), Arc::default());
        git.check(&["init", "-q", &format!("--object-format={ids}")]).unwrap();
        let objects = dir.path().join(".git/objects");
        let all = || names(&objects.join("pack")).filter(|path| path.extension().is_some_and(|it| it == "pack"));
        for n in 0..5 {
            let text = format!("{n} is a number\n").repeat(10 + n);
            let write = Box::new(move |out: &mut dyn Write| out.write_all(text.as_bytes()));
            git.feed(&[], &["hash-object", "-w", "--stdin"], write).unwrap();
            let loose = loose(&objects);
            let list = Box::new(move |out: &mut dyn Write| loose.iter().try_for_each(|id| writeln!(out, "{id}")));
            pack(&git, &objects.join("pack"), list).unwrap();
            git.check(&["prune-packed", "-q"]).unwrap();
        }
        let before: BTreeSet<_> = all().collect();
        assert_eq!(before.len(), 5);
        let damaged = before.first().unwrap();
        let sound = fs::read(damaged).unwrap();
        let mut bytes = sound.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        let put = |bytes: &[u8]| fs::remove_file(damaged).and_then(|()| fs::write(damaged, bytes)).unwrap();
        put(&bytes);
        consolidate(&git, &objects, ids).unwrap();
        let after: BTreeSet<_> = all().collect();
        assert!(
            after.contains(damaged) && (2..5).contains(&after.len()),
            "it stays, and others do not gather: {after:?}"
        );
        put(&sound);
        git.check(&["fsck", "--full", "--strict"]).unwrap();
        let before = after;
        // One who knows all the indexes, has opened one of the packs, and goes on while they are replaced.
        let store = Store::new(gix::open(dir.path()).unwrap());
        let blobs: Vec<ObjectId> = before.iter().map(|pack| first_id(&pack.with_extension("idx"), ids)).collect();
        store.read(ObjectId::empty_blob(ids), Kind::Commit).unwrap_err();
        store.read(blobs[0], Kind::Blob).unwrap();
        consolidate(&git, &objects, ids).unwrap();
        blobs.iter().for_each(|blob| assert!(!store.read(*blob, Kind::Blob).unwrap().is_empty()));
        assert_eq!(all().count(), 1);
        git.check(&["fsck", "--full", "--strict"]).unwrap();
        assert_eq!(count(&all().next().unwrap().with_extension("idx"), ids), Some(5));
    }

    #[test]
    fn the_smallest_packs_are_put_together_and_large_ones_left() {
        let of = |counts: &[u64]| {
            let packs = counts
                .iter()
                .map(|objects| Small { stem: PathBuf::new(), objects: *objects, bytes: *objects * 4_000 })
                .collect();
            geometric(packs).iter().map(|pack| pack.objects).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), [0; 0]);
        assert_eq!(of(&[7]), [0; 0], "one is none too many");
        assert_eq!(of(&[1, 2, 6, 18]), [0; 0], "each is large beside those before it");
        assert_eq!(of(&[10, 10, 10, 1000]), [10, 10, 10]);
        assert_eq!(of(&[1000, 10, 10, 10, 61]), [10, 10, 10], "in whatever order they lie there");
        assert_eq!(of(&[400_000, 400_000, 400_000]), [400_000, 400_000], "not too many at a time");
        assert_eq!(of(&[100_000, 100_000, 100_000]), [100_000, 100_000], "nor too much");
        assert_eq!(of(&[1, 2, 6, 10]), [1, 2, 6, 10], "the last is not large beside the others");
    }
}
