//! The object database: packs, what is derived from them, and loose objects.
//!
//! What git derives (the index of a pack, a commit-graph, an index over several packs) is made again. A pack or an object
//! that is damaged is set aside; what was in it comes from the remote, if that has it. Most files carry the hash of their
//! own content at their end, which is compared up to a bound: a start does not read years of history.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use flate2::read::ZlibDecoder;
use gix::hash::Kind;

use super::Mender;
use super::places::{self, Aside, damage, refused};
use crate::error::{OpenError, WorkError};
use crate::git::Git;

/// The most of the packs and their indexes, newest first, whose content is compared with its hash, in bytes.
const DEEP_BYTES: u64 = 32 << 20;

/// The most loose objects that are looked at; there are rarely more, as they are packed.
const LOOSE_MAX: usize = 4096;

/// A loose object that is larger is looked at no further.
const LOOSE_BYTES: u64 = 1 << 20;

/// The most commits that a branch is looked for at.
const STEPS_MAX: usize = 64;

/// Where a pack's number of objects stands.
const PACK_COUNT: Range<usize> = 8..12;

/// Where a pack's index has it.
const COUNT: Range<usize> = 8 + 255 * 4..8 + 256 * 4;

/// What is wrong in the object database.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// What is derived, and is made again by whoever misses it.
    derived: BTreeSet<PathBuf>,
    /// Indexes of packs.
    indexes: BTreeSet<PathBuf>,
    /// Packs.
    packs: BTreeSet<PathBuf>,
    /// Objects of their own.
    loose: BTreeSet<PathBuf>,
}

impl Faults {
    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        ![&self.derived, &self.indexes, &self.packs, &self.loose].iter().all(|files| files.is_empty())
    }

    /// Looks for them.
    pub(crate) fn find(objects: &Path, kind: Kind) -> Result<Self, WorkError> {
        let mut faults = Self::default();
        let packs = objects.join("pack");
        let mut deep = DEEP_BYTES;
        for (_, index) in newest_first(&packs) {
            let pack = index.with_extension("pack");
            let (Ok(meta), Ok(its)) = (pack.metadata(), index.metadata()) else { continue };
            let bytes = meta.len() + its.len();
            let whole = bytes <= deep;
            deep = deep.saturating_sub(bytes);
            let told = places::read(&index)?.filter(|bytes| is_index(bytes, whole, kind));
            let fine = is_pack(&pack, told.as_deref(), whole, kind);
            // Somebody who packs anew takes both away.
            if !index.exists() || !pack.exists() {
                continue;
            }
            if told.is_none() && its.len() <= places::MAX_BYTES {
                faults.indexes.insert(index);
            }
            if !fine? {
                faults.packs.insert(pack);
            }
        }
        let info = objects.join("info");
        // What somebody writes there at this moment (`tmp_graph_…`, a lock) is his.
        let is_graph = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name == "commit-graph-chain" || name.starts_with("graph-") && name.ends_with(".graph")
        };
        let graphs = places::files(&info.join("commit-graphs")).into_iter().filter(is_graph);
        let derived = [packs.join("multi-pack-index"), info.join("commit-graph")];
        let derived = derived.into_iter().chain(graphs).chain(ending(&packs, &["rev", "bitmap", "mtimes"]));
        for file in derived {
            let chain = file.file_name().is_some_and(|name| name == "commit-graph-chain");
            if let Some(bytes) = places::read(&file)?
                && !(if chain { is_chain(&bytes, kind) } else { is_sealed(&bytes, kind) })
            {
                faults.derived.insert(file);
            }
        }
        faults.loose = damaged_loose(objects, kind)?;
        Ok(faults)
    }

    fn first(&self) -> Option<&PathBuf> {
        self.packs.iter().chain(&self.loose).next()
    }
}

/// The indexes of packs, with when their packs were written.
fn newest_first(folder: &Path) -> Vec<(std::time::SystemTime, PathBuf)> {
    let written = |index: &PathBuf| index.with_extension("pack").metadata().and_then(|meta| meta.modified()).ok();
    let found = ending(folder, &["idx"]).into_iter().filter_map(|index| Some((written(&index)?, index)));
    let mut found: Vec<_> = found.collect();
    found.sort_by(|one, other| other.cmp(one));
    found
}

/// Refuses a repository that borrows objects from a folder that is not there: what is missing then is not lost.
pub(crate) fn borrowed_are_there(objects: &Path) -> Result<(), OpenError> {
    let file = objects.join("info/alternates");
    let Ok(Some(bytes)) = places::read(&file) else { return Ok(()) };
    let text = String::from_utf8_lossy(&bytes);
    // A comment, and a path that is quoted because of what is in it.
    let folders = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '"']));
    match folders.map(|line| objects.join(line)).find(|folder| !folder.is_dir()) {
        None => Ok(()),
        Some(folder) => {
            let remedy = format!("which is not there: put it back, or mend {} by hand", file.display());
            Err(refused(&file, format!("naming {}", folder.display()), remedy))
        }
    }
}

/// The object format that the names of packs and loose objects are of; none where there are none.
pub(crate) fn format_by_names(objects: &Path) -> Option<Kind> {
    let kind = |hex: &str| {
        let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        [Kind::Sha1, Kind::Sha256].into_iter().find(|kind| is_hex && hex.len() == kind.len_in_hex())
    };
    let pack = |name: String| kind(name.strip_prefix("pack-")?.strip_suffix(".idx")?);
    let loose = |folder: String| names(&objects.join(&folder)).find_map(|name| kind(&(folder.clone() + &name)));
    let folders = names(objects).filter(|name| name.len() == 2);
    names(&objects.join("pack")).find_map(pack).or_else(|| folders.filter_map(loose).next())
}

fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn ending(folder: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let is_one = |name: &String| name.starts_with("pack-") && ends.iter().any(|end| name.ends_with(&format!(".{end}")));
    names(folder).filter(is_one).map(|name| folder.join(name)).collect()
}

/// Whether the last bytes are the hash of all others.
fn is_sealed(bytes: &[u8], kind: Kind) -> bool {
    let Some((content, seal)) = bytes.len().checked_sub(kind.len_in_bytes()).map(|at| bytes.split_at(at)) else {
        return false;
    };
    let mut hasher = gix::hash::hasher(kind);
    hasher.update(content);
    hasher.try_finalize().is_ok_and(|hash| hash.as_slice() == seal)
}

/// Whether each line is the name of a commit-graph.
fn is_chain(bytes: &[u8], kind: Kind) -> bool {
    let is_name = |line: &[u8]| line.len() == kind.len_in_hex() && line.iter().all(u8::is_ascii_hexdigit);
    bytes.strip_suffix(b"\n").is_some_and(|text| text.split(|byte| *byte == b'\n').all(is_name))
}

/// Whether a pack's index is one, and as long as the objects that it counts make it; only if `whole` is all of it read.
fn is_index(bytes: &[u8], whole: bool, kind: Kind) -> bool {
    let count = bytes.get(COUNT).and_then(|count| <[u8; 4]>::try_from(count).ok()).map(u32::from_be_bytes);
    let Some(count) = count.and_then(|count| usize::try_from(count).ok()) else { return false };
    let hash = kind.len_in_bytes();
    let least = COUNT.end + count * (hash + 8) + 2 * hash;
    let fits = bytes.len() >= least && bytes.len() <= least + count * 8;
    bytes.starts_with(b"\xfftOc\0\0\0\x02") && fits && (!whole || is_sealed(bytes, kind))
}

/// Whether a pack is what its index was made of. Its last bytes are compared always, all of it only if `whole`.
fn is_pack(pack: &Path, index: Option<&[u8]>, whole: bool, kind: Kind) -> Result<bool, WorkError> {
    let hash = kind.len_in_bytes();
    let ends = read_ends(pack, hash).map_err(|e| WorkError::io(pack, e))?;
    let Some((head, tail)) = ends else { return Ok(false) };
    let version = head.get(4..8);
    if !head.starts_with(b"PACK") || !(version == Some(&[0, 0, 0, 2]) || version == Some(&[0, 0, 0, 3])) {
        return Ok(false);
    }
    if let Some(index) = index {
        // The index ends with the pack's hash and its own; before its names it counts them.
        let end = index.len().checked_sub(2 * hash).and_then(|at| index.get(at..at + hash));
        if end != Some(tail.as_slice()) || index.get(COUNT) != head.get(PACK_COUNT) {
            return Ok(false);
        }
    }
    if !whole {
        return Ok(true);
    }
    Ok(is_sealed(&fs::read(pack).map_err(|e| WorkError::io(pack, e))?, kind))
}

/// The first twelve bytes of a file and its last.
fn read_ends(file: &Path, tail: usize) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::open(file)?;
    let length = file.metadata()?.len();
    let Some(at) = length.checked_sub(tail as u64).filter(|at| *at >= PACK_COUNT.end as u64) else { return Ok(None) };
    let (mut first, mut last) = (vec![0; PACK_COUNT.end], vec![0; tail]);
    file.read_exact_at(&mut first, 0)?;
    file.read_exact_at(&mut last, at)?;
    Ok(Some((first, last)))
}

fn damaged_loose(objects: &Path, kind: Kind) -> Result<BTreeSet<PathBuf>, WorkError> {
    let mut damaged = BTreeSet::new();
    let is_hex = |name: &str, digits: usize| name.len() == digits && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut left = LOOSE_MAX;
    for folder in names(objects).filter(|name| is_hex(name, 2)) {
        for name in names(&objects.join(&folder)).filter(|name| is_hex(name, kind.len_in_hex() - 2)) {
            if left == 0 {
                return Ok(damaged);
            }
            left -= 1;
            let file = objects.join(&folder).join(&name);
            let small = file.metadata().is_ok_and(|meta| meta.len() <= LOOSE_BYTES);
            if let Some(bytes) = places::read(&file)?.filter(|_| small)
                && !is_object(&bytes, &(folder.clone() + &name), kind)
            {
                damaged.insert(file);
            }
        }
    }
    Ok(damaged)
}

/// Whether a loose object is the one that its name says.
fn is_object(bytes: &[u8], name: &str, kind: Kind) -> bool {
    let (mut inflated, mut hasher, mut chunk) = (ZlibDecoder::new(bytes), gix::hash::hasher(kind), [0; 8192]);
    loop {
        match inflated.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => hasher.update(chunk.get(..read).unwrap_or_default()),
            Err(_) => return false,
        }
    }
    let named = gix::ObjectId::from_hex(name.as_bytes());
    named.is_ok_and(|named| hasher.try_finalize().is_ok_and(|id| id == named))
}

/// Mends them; `head` is the branch that is checked out. Tells whether objects were lost that the remote may have had.
pub(crate) fn mend(mender: &Mender, aside: &mut Aside, head: Option<&str>) -> Result<bool, OpenError> {
    let objects = mender.places.objects();
    let unreadable = |e: &WorkError| mender.unreadable(e);
    let mut faults = Faults::find(&objects, mender.kind).map_err(|e| unreadable(&e))?;
    let lost = faults.first().cloned();
    if lost.is_some() {
        // What names objects that may be gone is no help any more.
        let over = [objects.join("pack/multi-pack-index"), objects.join("info/commit-graph")];
        faults.derived.extend(over.into_iter().filter(|file| file.exists()));
        faults.derived.extend(places::files(&objects.join("info/commit-graphs")));
    }
    for file in &faults.derived {
        aside.take(file).map_err(|e| unreadable(&e))?;
        tracing::warn!(file = %file.display(), "set aside what git derives from its packs, and makes again: it was damaged");
    }
    for index in faults.indexes.iter().filter(|index| !faults.packs.contains(&index.with_extension("pack"))) {
        aside.take(index).map_err(|e| unreadable(&e))?;
        index_again(&mender.git, index).map_err(|e| unreadable(&e))?;
    }
    let Some(lost) = lost else { return Ok(false) };
    let how = fs::read(&lost).map(|bytes| damage(&bytes)).unwrap_or("damaged");
    let parts = |pack: &PathBuf| ["pack", "idx", "rev", "bitmap", "mtimes"].map(|end| pack.with_extension(end));
    let gone = faults.packs.iter().flat_map(parts).chain(faults.loose.iter().cloned());
    let mut lost_aside = mender.places.aside(mender.now);
    for file in gone.filter(|file| file.exists()) {
        lost_aside.take(&file).map_err(|e| unreadable(&e))?;
    }
    let refetched = head.is_some_and(|head| mender.fetch(head, &["--refetch"]));
    // What the remote has must not be made a second time.
    let sure = refetched || mender.remote().is_none();
    if head.is_none_or(|head| is_whole(mender, head) || (sure && step_back(mender, head))) {
        tracing::warn!(
            file = %lost.display(),
            how,
            refetched,
            "set aside objects that could not be read; everything that the branch needs of them is there"
        );
        return Ok(true);
    }
    lost_aside.put_back();
    Err(refused(&lost, how, remedy(mender)))
}

/// Whether all that a branch, or a commit, leads to is there.
fn is_whole(mender: &Mender, revision: &str) -> bool {
    let args = ["rev-list", "--objects", "--quiet", revision, "--"];
    mender.git.run(&args).is_ok_and(|output| output.status.success())
}

/// Puts the branch back to the newest commit that is whole, if only the bridge's own were lost: the audit log brings these
/// again.
fn step_back(mender: &Mender, branch: &str) -> bool {
    let (mut seen, mut moves) = (BTreeSet::new(), mender.moves(branch));
    moves.reverse();
    for step in moves.iter().filter(|step| seen.insert(step.to)).take(STEPS_MAX) {
        if is_whole(mender, &step.to.to_string()) {
            let text = format!("{}\n", step.to);
            let put = places::write_durably(&mender.places.common.join(branch), text.as_bytes());
            tracing::warn!(branch, commit = %step.to, "put back before commits whose objects are lost: they are made again");
            return put.is_ok();
        }
        if !step.why.starts_with("bridge: ") {
            return false;
        }
    }
    false
}

fn remedy(mender: &Mender) -> String {
    let cloud = mender.places.cloud.display();
    format!(
        "the branch needs what was in it, and the remote does not have it or does not answer: start again when it does, or \
         fetch from a clone that has it: git -C {cloud} fetch --refetch PATH-OF-CLONE"
    )
}

/// Makes the index of a pack again, from the pack.
fn index_again(git: &Git, index: &Path) -> Result<(), WorkError> {
    let pack = index.with_extension("pack");
    let (index, pack) = (index.display().to_string(), pack.display().to_string());
    git.check(&["index-pack", "-o", &index, &pack])?;
    tracing::warn!(file = index, "a pack's index was damaged: made again from the pack");
    Ok(())
}
