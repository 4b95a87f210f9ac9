//! The journal: the one place at which an executed command has happened.
//!
//! A command's record (the document, its outcome, every file it changes as it is to be) is durable here before anything
//! in a tree changes. All that follows is done again from it after a crash: the files (see [`crate::recovery`]), and by the
//! archiver what is filed. So the hot path needs one sync a group of commands, whatever they change.
//!
//! Records lie in segments, `meta/journal/<number>.wal`, see [`mod@format`] for the bytes. A segment may go when every command
//! in it is filed and the file systems concerned were synced since: that is a checkpoint. Segments go oldest first.
//!
//! After a write or a sync that failed, nothing is known of what reached the disk: the segment is left as it was before,
//! and the next one says so. Nothing is acknowledged twice.
//!
//! Limitations: it trusts its checksums, not its neighbours: whoever may write to `meta/journal/` decides what is done
//! after a crash. No command can, and nothing there comes by git.

pub mod entry;
pub mod format;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_fs_ext::{DirExt as _, FollowSymlinks, MetadataExt as _, OpenOptionsFollowExt as _};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt as _};
use protocol::receipt::Receipt;
use rustix::fs::{Mode, OFlags};

use self::entry::{Ended, Entry, EntryError};
use self::format::{HEADER_BYTES, Header, MAX_PAYLOAD_BYTES, write_frame};
pub use self::reading::{Found, Stored};

/// Where the journal lies beneath CLOUD.
pub const PATH: &str = "meta/journal";
/// The size in bytes from which on the next record opens a new segment.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// How large the journal may be, in bytes, before no more is taken until a checkpoint has made room. One group may go
/// beyond it.
pub const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// The mode of a segment: it holds documents and files as they are.
const SEGMENT_MODE: u32 = 0o600;

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what, relative to CLOUD.
        path: String,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A segment is not what was written.
    #[error(
        "{path}: {what}; commands recorded there may be half done. Restore it from a backup, or move {PATH} away to go on \
         without it: commands that were not filed are then executed again on the tree as it is"
    )]
    Damaged {
        /// The segment, relative to CLOUD.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// There is no room before a checkpoint succeeds.
    #[error("{PATH} holds {0} bytes and takes no more until what it records is synced to disk")]
    Full(u64),
    /// A command is too large for one record.
    #[error("the record of a command would be {0} bytes long; at most {MAX_PAYLOAD_BYTES} are possible")]
    TooLarge(usize),
    /// A record could not be spelled.
    #[error("a record cannot be written: {0}")]
    Entry(#[from] EntryError),
}

impl JournalError {
    fn io(what: &'static str, path: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

/// A record that is durable.
#[derive(Debug)]
pub struct Written {
    /// Its sequence: unique for ever.
    pub sequence: u64,
    /// The run that wrote it.
    pub run: u64,
    /// For [`Entry::Begun`]: to be given back when the command is filed.
    pub receipt: Receipt,
}

/// An entry to be written, and the folder whose file system it concerns.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The entry.
    pub entry: Entry,
    /// The target's root.
    pub root: Option<&'a Dir>,
}

/// The journal of one CLOUD. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    dir: Dir,
    cloud: Arc<OwnedFd>,
    run: u64,
    boot: [u8; 16],
    active: Option<Active>,
    /// Segments that are not written to any more, oldest first.
    left: VecDeque<Segment>,
    next_number: u64,
    next_sequence: u64,
    /// Commands begun in this run whose checks have no verdict yet.
    undecided: BTreeSet<u64>,
}

/// The segment that is written to.
#[derive(Debug)]
struct Active {
    file: File,
    segment: Segment,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// The bytes that count.
    len: u64,
    /// Commands begun here that are neither filed nor undone.
    open: usize,
    /// One handle for each file system that its commands change.
    file_systems: BTreeMap<u64, Arc<OwnedFd>>,
}

impl Segment {
    fn new(number: u64, len: u64) -> Self {
        Self { number, len, open: 0, file_systems: BTreeMap::new() }
    }

    fn touches(&mut self, root: &Dir) -> io::Result<()> {
        let device = root.dir_metadata()?.dev();
        if let std::collections::btree_map::Entry::Vacant(free) = self.file_systems.entry(device) {
            free.insert(Arc::new(syncable(root)?));
        }
        Ok(())
    }
}

/// A segment's name.
fn segment_name(number: u64) -> String {
    format!("{number:016x}.wal")
}

fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|number| segment_name(*number) == name)
}

impl Journal {
    /// Opens the journal beneath `cloud`, which holds the instance lock, and reads what is in it. What was found stays
    /// until it is recovered and a checkpoint succeeds.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub fn open(cloud: &Path) -> Result<(Self, Found), JournalError> {
        let root =
            Dir::open_ambient_dir(cloud, ambient_authority()).map_err(JournalError::io("open", "the root of CLOUD"))?;
        let mut dir = root.try_clone().map_err(JournalError::io("open", PATH))?;
        for name in PATH.split('/') {
            dir = open_or_make(&dir, name).map_err(JournalError::io("open the folder", PATH))?;
        }
        let boot = boot_id();
        let found = reading::read(&dir, boot)?;
        let last = found.segments.keys().next_back().copied();
        let state = State {
            cloud: Arc::new(syncable(&root).map_err(JournalError::io("open", "the root of CLOUD"))?),
            dir,
            run: rand::random(),
            boot,
            active: None,
            left: found.segments.iter().map(|(number, len)| Segment::new(*number, *len)).collect(),
            next_number: last.map_or(1, |last| last.saturating_add(1)),
            next_sequence: found.entries.iter().map(|stored| stored.sequence).max().unwrap_or(0) + 1,
            undecided: BTreeSet::new(),
        };
        Ok((Self(Arc::new(Mutex::new(state))), found))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock panics; a lock that is poisoned all the same says nothing of the state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `drafts` durable, all or none, with one sync.
    ///
    /// # Errors
    /// When that fails: then none of them counts, whatever reached the disk.
    pub fn append(&self, drafts: &[Draft<'_>]) -> Result<Vec<Written>, JournalError> {
        let mut state = self.state();
        let held = state.bytes();
        // The verdict on a command that is recorded already is always taken: without it no room is ever made. One entry
        // a command, so that this has a bound, too.
        let begins = drafts.iter().any(|draft| !matches!(draft.entry, Entry::Ended(_)));
        if begins && held > MAX_BYTES {
            return Err(JournalError::Full(held));
        }
        let (first, run) = (state.next_sequence, state.run);
        let (mut bytes, mut sequence) = (Vec::new(), first);
        for draft in drafts {
            let payload = draft.entry.to_payload()?;
            if payload.len() > MAX_PAYLOAD_BYTES {
                return Err(JournalError::TooLarge(payload.len()));
            }
            write_frame(sequence, &payload, &mut bytes);
            sequence += 1;
        }
        let number = state.write(&bytes, drafts)?;
        for (draft, sequence) in drafts.iter().zip(first..) {
            match &draft.entry {
                Entry::Begun(begun) if begun.outcome.is_none() => drop(state.undecided.insert(sequence)),
                Entry::Begun(_) => {}
                Entry::Ended(ended) => drop(state.undecided.remove(&ended.begun)),
            }
        }
        // A sequence that was written is never given again, also where the write failed.
        let written = drafts.iter().zip(first..).map(|(draft, sequence)| {
            let receipt = match draft.entry {
                Entry::Begun(_) => self.receipt(number),
                Entry::Ended(_) => Receipt::default(),
            };
            Written { sequence, run, receipt }
        });
        Ok(written.collect())
    }

    /// Records that the commands whose checks have no verdict yet are called off: the process is about to end, and not by
    /// their fault. The next start undoes them, and counts no try. A verdict that comes after all counts more. Returns how
    /// many there were.
    ///
    /// # Errors
    /// When that cannot be written; they then count as interrupted.
    pub fn call_off(&self) -> Result<usize, JournalError> {
        let undecided = self.state().undecided.clone();
        let end = |begun: &u64| Draft { entry: Entry::Ended(Ended { begun: *begun, outcome: None }), root: None };
        let drafts: Vec<Draft<'_>> = undecided.iter().map(end).collect();
        if !drafts.is_empty() {
            self.append(&drafts)?;
        }
        Ok(drafts.len())
    }

    /// Notes that a command which was found in segment `number` has yet to be filed, and on which file system its target
    /// lies.
    pub(crate) fn reopen(&self, number: u64, root: Option<&Dir>) -> Receipt {
        let mut state = self.state();
        if let Some(segment) = state.segment(number) {
            segment.open += 1;
            if let Some(Err(error)) = root.map(|root| segment.touches(root)) {
                tracing::warn!(%error, "the file system of a recovered target cannot be synced by itself");
            }
        }
        self.receipt(number)
    }

    fn receipt(&self, number: u64) -> Receipt {
        let journal = Arc::downgrade(&self.0);
        Receipt::new(move || {
            if let Some(state) = journal.upgrade() {
                Journal(state).close(number);
            }
        })
    }

    fn close(&self, number: u64) {
        if let Some(segment) = self.state().segment(number) {
            segment.open = segment.open.saturating_sub(1);
        }
    }

    /// Whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.left.is_empty() && state.active.is_none()
    }

    /// Whether a command is on its way: recorded, and neither filed nor undone.
    #[must_use]
    pub fn has_open_commands(&self) -> bool {
        let state = self.state();
        let active = state.active.as_ref().map(|active| &active.segment);
        state.left.iter().chain(active).any(|segment| segment.open > 0)
    }

    /// Whether a segment is full and waits for a checkpoint.
    #[must_use]
    pub fn has_full_segments(&self) -> bool {
        !self.state().left.is_empty()
    }

    /// Lets go what is filed, after it was synced to disk; with `all` also of the segment that is written to. A command
    /// that is still on its way keeps its segment and those after it.
    ///
    /// # Errors
    /// When a file system cannot be synced or a segment not be removed; everything is kept then.
    pub fn checkpoint(&self, all: bool) -> Result<(), JournalError> {
        let (numbers, mut file_systems) = {
            let mut state = self.state();
            if all && state.active.as_ref().is_some_and(|active| active.segment.open == 0) {
                state.leave();
            }
            let done: Vec<&Segment> = state.left.iter().take_while(|segment| segment.open == 0).collect();
            let numbers: Vec<u64> = done.iter().map(|segment| segment.number).collect();
            let file_systems: BTreeMap<u64, Arc<OwnedFd>> =
                done.iter().flat_map(|segment| segment.file_systems.clone()).collect();
            let mut file_systems: Vec<Arc<OwnedFd>> = file_systems.into_values().collect();
            file_systems.push(Arc::clone(&state.cloud));
            (numbers, file_systems)
        };
        if numbers.is_empty() {
            return Ok(());
        }
        supervision::crash_point!("journal.checkpoint");
        for file_system in file_systems.drain(..) {
            sync_file_system(&file_system).map_err(JournalError::io("sync the file system of", "a target"))?;
        }
        supervision::crash_point!("journal.synced");
        let mut state = self.state();
        for number in numbers {
            let name = segment_name(number);
            match state.dir.remove_file(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(JournalError::io("remove", format!("{PATH}/{name}"))(error));
                }
                _ => state.left.retain(|segment| segment.number != number),
            }
            supervision::crash_point!("journal.dropped");
        }
        sync_folder(&state.dir).map_err(JournalError::io("sync", PATH))
    }
}

impl State {
    fn bytes(&self) -> u64 {
        let active = self.active.as_ref().map_or(0, |active| active.segment.len);
        self.left.iter().map(|segment| segment.len).sum::<u64>() + active
    }

    fn segment(&mut self, number: u64) -> Option<&mut Segment> {
        let active = self.active.as_mut().map(|active| &mut active.segment);
        active.into_iter().chain(&mut self.left).find(|segment| segment.number == number)
    }

    /// Writes `bytes` behind what counts and syncs them; returns the segment's number.
    fn write(&mut self, bytes: &[u8], drafts: &[Draft<'_>]) -> Result<u64, JournalError> {
        self.next_sequence += drafts.len() as u64;
        if self.active.as_ref().is_some_and(|active| active.segment.len >= SEGMENT_BYTES) {
            self.leave();
        }
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.begin_segment()?,
        };
        for root in drafts.iter().filter_map(|draft| draft.root) {
            if let Err(error) = active.segment.touches(root) {
                self.active = Some(active);
                return Err(JournalError::io("open for syncing", "a target's root")(error));
            }
        }
        supervision::crash_point!("journal.write");
        if let Err(error) = active.file.write_all(bytes).and_then(|()| {
            supervision::crash_point!("journal.written");
            active.file.sync_data()
        }) {
            let path = format!("{PATH}/{}", segment_name(active.segment.number));
            self.abandon(active);
            return Err(JournalError::io("write", path)(error));
        }
        supervision::crash_point!("journal.durable");
        active.segment.len += bytes.len() as u64;
        active.segment.open += drafts.iter().filter(|draft| matches!(draft.entry, Entry::Begun(_))).count();
        let number = active.segment.number;
        self.active = Some(active);
        Ok(number)
    }

    fn begin_segment(&mut self) -> Result<Active, JournalError> {
        let number = self.next_number;
        let previous_len = self.left.back().map_or(0, |segment| segment.len);
        let header = Header { number, run: self.run, boot: self.boot, previous_len };
        let (name, path) = (segment_name(number), format!("{PATH}/{}", segment_name(number)));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(SEGMENT_MODE).follow(FollowSymlinks::No);
        let mut file = self.dir.open_with(&name, &options).map_err(JournalError::io("make", &path))?;
        supervision::crash_point!("journal.opened");
        let made = file.write_all(&header.to_bytes()).and_then(|()| file.sync_all());
        supervision::crash_point!("journal.begun");
        if let Err(error) = made.and_then(|()| sync_folder(&self.dir)) {
            // It is made again under the same number.
            let _ = self.dir.remove_file(&name);
            return Err(JournalError::io("write", path)(error));
        }
        self.next_number += 1;
        Ok(Active { file, segment: Segment::new(number, HEADER_BYTES as u64) })
    }

    /// Gives a segment up of which nobody knows what reached the disk.
    fn abandon(&mut self, active: Active) {
        let Active { file, segment } = active;
        let is_blank = segment.len == HEADER_BYTES as u64;
        if is_blank && self.dir.remove_file(segment_name(segment.number)).is_ok() {
            self.next_number = segment.number;
            return;
        }
        // The next segment says how much of this one counts; cutting it back only spares the reader.
        let _ = file.set_len(segment.len);
        self.left.push_back(segment);
    }

    /// Lets the active segment be; the next record opens another.
    fn leave(&mut self) {
        if let Some(active) = self.active.take() {
            self.left.push_back(active.segment);
        }
    }
}

fn open_or_make(parent: &Dir, name: &str) -> io::Result<Dir> {
    match parent.open_dir_nofollow(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            parent.create_dir(name)?;
            sync_folder(parent)?;
            parent.open_dir_nofollow(name)
        }
        other => other,
    }
}

/// A handle of the same folder that can be synced: those that walk a tree may be good for walking only.
fn syncable(dir: &Dir) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, ".", flags, Mode::empty())?)
}

fn sync_folder(dir: &Dir) -> io::Result<()> {
    Ok(rustix::fs::fsync(syncable(dir)?)?)
}

#[cfg(target_os = "linux")]
fn sync_file_system(folder: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(folder)?)
}

/// Elsewhere the whole system is synced: there is no narrower call that covers files by the thousand.
#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &OwnedFd) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// Which boot of the machine this is; zeros where the system does not say.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_or([0; 16], u128::to_be_bytes)
}
