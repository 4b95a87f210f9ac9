//! Which names wait, in which order, and which may go. Pure: files are looked at by others, and time is passed in.
//!
//! Order. A listing that runs while files are dropped may miss an old one and yet show a younger one. So a name may go
//! only when its place is at or before the last place of the scan *before* the latest one: whatever was dropped before
//! it has then been seen. A lone file takes two scans, which follow each other at once.
//!
//! What is no signed document stands in no order, because it is going to be refused: it goes while nothing else may, so
//! that a genuine command never waits behind forged ones, whatever time these claim.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::command::OrderKey;

use crate::folder::{Kind, Stamp};
use crate::status::Ignored;

/// The most names of commands that are remembered; of more, those that come first are, and the rest is found again
/// when half of these are done. Each takes about 400 bytes.
pub const MAX_ENTRIES: usize = 100_000;
/// The most ignored names that are remembered, so as to be reported once only.
const MAX_IGNORED: usize = 10_000;
/// The most folders that could not be removed and are remembered; with more, no further folder is taken up.
const MAX_PARKED: usize = 10_000;
/// How long a file is left alone that is still there after its ticket was dropped; doubles each time.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// The longest that such a file is left alone.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// How often in a row a file that seems unchanged, and yet could not be read so, is looked at again at once.
const PROMPT_LOOKS: u32 = 3;

/// Where a name stands: by its document's key, then by the name itself.
type Place = (Arc<OrderKey>, Arc<OsStr>);

/// What a look at a file says of it.
#[derive(Debug)]
pub(crate) enum Look {
    /// A document whose signature holds, with its key.
    Document(OrderKey),
    /// One whose signature does not hold.
    Unsigned,
    /// No document (yet): it may still be being written. Tells how long it is unchanged by the wall clock; zero when
    /// that time lies ahead.
    Unparsed(Duration),
    /// A file over the size bound; it may still be being written, too.
    TooLarge(Duration),
    /// No regular file.
    NotRegular,
    /// It cannot be read now.
    Unreadable,
}

/// A file that may go.
#[derive(Clone, Debug)]
pub(crate) struct Next {
    pub(crate) name: Arc<OsStr>,
    pub(crate) stamp: Stamp,
    pub(crate) first_seen: Instant,
    /// Whether it parsed when it was looked at.
    pub(crate) parsed: bool,
}

/// Whether an ignored name is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    New,
    Known,
    /// There are too many to tell; said once.
    TooMany,
}

#[derive(Debug)]
struct Entry {
    stamp: Stamp,
    /// First sight of the document, for the latency figures.
    first_seen: Instant,
    /// First sight of this state of the file.
    stamp_seen: Instant,
    scan: u64,
    /// How often in a row it stayed where it was.
    stayed: u32,
    /// How often in a row it could not be read as it was seen.
    stale: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Waits in its place.
    Pending { key: Arc<OrderKey> },
    /// Waits in no order: it is going to be refused. Tells whether it parsed.
    Unsigned { parsed: bool },
    /// Waits to be hashed, in no order: it is going to be refused.
    Large,
    /// Its ticket is out; `changed` when another file has its name by now.
    InFlight { changed: bool },
    /// Not to be looked at before `at`, unless it changes; `settling` when it may still be being written.
    Later { at: Instant, settling: bool },
    /// A folder that could not be removed: never again.
    Parked,
}

/// The names of `commands/` and how they stand.
#[derive(Debug)]
pub(crate) struct Queue {
    settle: Duration,
    max_entries: usize,
    /// In boxes: names come and go, and a table that does so is up to twice as large as what is in it.
    entries: HashMap<Arc<OsStr>, Box<Entry>>,
    pending: BTreeSet<Place>,
    unsigned: BTreeSet<Arc<OsStr>>,
    large: BTreeSet<Arc<OsStr>>,
    ignored: HashMap<OsString, (Ignored, u64)>,
    ignored_is_full: bool,
    parked: usize,
    scan: u64,
    /// The last place of the latest scan.
    last: Option<Place>,
    /// Up to here names may go.
    horizon: Option<Place>,
    /// Names of the scan under way were left on disk.
    overflow: bool,
    /// There were signed documents among them.
    cut: bool,
    /// They were, and the latest scan left more than half of the memory to names that wait.
    saturated: bool,
    settled_at: Option<Instant>,
    waits_later: bool,
}

impl Queue {
    pub(crate) fn new(settle: Duration, max_entries: usize) -> Self {
        Self {
            settle,
            max_entries,
            entries: HashMap::new(),
            pending: BTreeSet::new(),
            unsigned: BTreeSet::new(),
            large: BTreeSet::new(),
            ignored: HashMap::new(),
            ignored_is_full: false,
            parked: 0,
            scan: 0,
            last: None,
            horizon: None,
            overflow: false,
            cut: false,
            saturated: false,
            settled_at: None,
            waits_later: false,
        }
    }

    /// Remembers what an earlier queue had in flight.
    pub(crate) fn restore_in_flight(&mut self, aboard: Vec<(OsString, Stamp)>, now: Instant) {
        for (name, stamp) in aboard {
            let state = State::InFlight { changed: false };
            let entry = Entry { stamp, first_seen: now, stamp_seen: now, scan: 0, stayed: 0, stale: 0, state };
            self.entries.insert(Arc::from(name), Box::new(entry));
        }
    }

    /// How many names wait for their place in flight.
    pub(crate) fn pending(&self) -> usize {
        self.waiting() + self.large.len()
    }

    fn waiting(&self) -> usize {
        self.pending.len() + self.unsigned.len()
    }

    /// Whether the latest scan showed names that only another scan can let go.
    pub(crate) fn wants_confirmation(&self) -> bool {
        self.pending.last() > self.horizon.as_ref()
    }

    /// Whether a scan is useless, because more names lie on disk than are remembered and most of these still wait.
    pub(crate) fn is_saturated(&self) -> bool {
        self.saturated && self.waiting() > self.max_entries / 2
    }

    /// Whether there is room again for the names that were left on disk.
    pub(crate) fn wants_refill(&self) -> bool {
        self.saturated && !self.is_saturated()
    }

    /// When the first file that may still be being written is to be looked at again.
    pub(crate) fn settled_at(&self) -> Option<Instant> {
        self.settled_at
    }

    /// Whether there are names that a scan must look at although the folder has not changed.
    pub(crate) fn waits_later(&self) -> bool {
        self.waits_later
    }

    /// A scan begins.
    pub(crate) fn begin_scan(&mut self) {
        self.scan = self.scan.wrapping_add(1);
        (self.overflow, self.cut) = (false, false);
    }

    /// The scan came upon an ignored name.
    pub(crate) fn ignore(&mut self, name: &OsStr, reason: Ignored) -> Noted {
        if let Some((known, scan)) = self.ignored.get_mut(name) {
            *scan = self.scan;
            let same = *known == reason;
            *known = reason;
            return if same { Noted::Known } else { Noted::New };
        }
        if self.ignored.len() >= MAX_IGNORED {
            let told = std::mem::replace(&mut self.ignored_is_full, true);
            return if told { Noted::Known } else { Noted::TooMany };
        }
        self.ignored.insert(name.to_owned(), (reason, self.scan));
        Noted::New
    }

    /// The scan came upon a name: whether the file must be looked at.
    pub(crate) fn sighted(&mut self, name: &OsStr, stamp: &Stamp, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return true };
        entry.scan = self.scan;
        let same = entry.stamp == *stamp;
        match &mut entry.state {
            State::InFlight { changed } => {
                *changed = !same;
                false
            }
            State::Parked => (entry.stamp.kind, entry.stamp.inode) != (stamp.kind, stamp.inode),
            State::Later { at, .. } => !same || *at <= now,
            State::Pending { .. } | State::Unsigned { .. } | State::Large => !same,
        }
    }

    /// What the look said. Returns false when a folder is not taken up because too many are there already.
    pub(crate) fn looked(&mut self, name: &OsStr, stamp: Stamp, look: Look, now: Instant) -> bool {
        let old = self.remove(name);
        let same = old.as_ref().is_some_and(|old| old.stamp == stamp);
        let stayed = old.as_ref().map_or(0, |old| old.stayed);
        let stale = old.as_ref().filter(|_| same).map_or(0, |old| old.stale);
        let stamp_seen = old.as_ref().filter(|_| same).map_or(now, |old| old.stamp_seen);
        // What has been in flight before is another document when it changed.
        let first_seen = old.as_ref().filter(|_| same || stayed == 0).map_or(now, |old| old.first_seen);
        let was_here = |old: &Entry| (old.stamp.kind, old.stamp.inode) == (stamp.kind, stamp.inode) && old.stayed > 0;
        let park = stamp.kind == Kind::Folder && old.as_deref().is_some_and(was_here);
        if stamp.kind == Kind::Folder && self.parked >= MAX_PARKED {
            return false;
        }
        let stayed = if same || park { stayed } else { 0 };
        // Unchanged for as long as is known by either clock: a time that lies ahead does not put it off for ever.
        let left = |unchanged: Duration| {
            let known = now.saturating_duration_since(stamp_seen).max(unchanged);
            self.settle.saturating_sub(known)
        };
        let unreadable = matches!(look, Look::Unreadable);
        let state = match look {
            _ if park => State::Parked,
            Look::Document(key) => State::Pending { key: Arc::new(key) },
            Look::Unsigned => State::Unsigned { parsed: true },
            Look::NotRegular => State::Unsigned { parsed: false },
            Look::Unparsed(unchanged) | Look::TooLarge(unchanged) if !left(unchanged).is_zero() => {
                State::Later { at: now + left(unchanged), settling: true }
            }
            Look::Unparsed(_) => State::Unsigned { parsed: false },
            Look::TooLarge(_) => State::Large,
            Look::Unreadable => State::Later { at: now + back_off(stayed.saturating_add(1)), settling: false },
        };
        let stayed = if unreadable { stayed.saturating_add(1) } else { stayed };
        self.insert(Arc::from(name), Entry { stamp, first_seen, stamp_seen, scan: self.scan, stayed, stale, state });
        true
    }

    fn insert(&mut self, name: Arc<OsStr>, entry: Entry) {
        let place = match &entry.state {
            State::Pending { key } => Some((Arc::clone(key), Arc::clone(&name))),
            _ => None,
        };
        if self.entries.len() >= self.max_entries && !self.make_room(place.as_ref()) {
            return;
        }
        match &entry.state {
            State::Unsigned { .. } => drop(self.unsigned.insert(Arc::clone(&name))),
            State::Large => drop(self.large.insert(Arc::clone(&name))),
            State::Parked => self.parked += 1,
            _ => {}
        }
        self.pending.extend(place);
        self.entries.insert(name, Box::new(entry));
    }

    /// Makes room for a name with this place, or none: one that is going to be refused goes first, then the one that
    /// comes last. What goes is on disk still. Returns false where the new one has to stay there.
    fn make_room(&mut self, place: Option<&Place>) -> bool {
        self.overflow = true;
        let refused = place.and_then(|_| self.unsigned.last().or_else(|| self.large.last()).cloned());
        let last = match (refused, self.pending.last()) {
            (Some(refused), _) => refused,
            (None, Some(last)) if place.is_some_and(|place| place < last) => {
                self.cut = true;
                Arc::clone(&last.1)
            }
            _ => {
                self.cut |= place.is_some();
                return false;
            }
        };
        self.remove(&last);
        true
    }

    fn remove(&mut self, name: &OsStr) -> Option<Box<Entry>> {
        let (name, entry) = self.entries.remove_entry(name)?;
        match &entry.state {
            State::Pending { key } => drop(self.pending.remove(&(Arc::clone(key), name))),
            State::Unsigned { .. } => drop(self.unsigned.remove(&name)),
            State::Large => drop(self.large.remove(&name)),
            State::Parked => self.parked = self.parked.saturating_sub(1),
            State::InFlight { .. } | State::Later { .. } => {}
        }
        Some(entry)
    }

    /// The scan is through: what it did not come upon is gone.
    pub(crate) fn end_scan(&mut self) {
        let scan = self.scan;
        let gone = |entry: &Entry| entry.scan != scan && !matches!(entry.state, State::InFlight { .. });
        self.forget(gone);
        self.ignored.retain(|_, (_, seen)| *seen == scan);
        self.ignored_is_full &= self.ignored.len() >= MAX_IGNORED;
        self.settled_at = None;
        self.waits_later = false;
        for entry in self.entries.values() {
            if let State::Later { at, settling } = entry.state {
                self.waits_later = true;
                if settling {
                    self.settled_at = Some(self.settled_at.map_or(at, |first| first.min(at)));
                }
            }
        }
        // With more on disk than is remembered, another scan would only show other names.
        let last = self.pending.last().cloned();
        self.saturated = self.overflow && self.waiting() > self.max_entries / 2;
        self.horizon = if self.cut { last.clone() } else { self.last.take() };
        self.last = last;
    }

    /// The folder is gone, and with it all that waits.
    pub(crate) fn forget_waiting(&mut self) {
        self.forget(|entry| !matches!(entry.state, State::InFlight { .. }));
        (self.last, self.horizon, self.settled_at) = (None, None, None);
        (self.overflow, self.cut, self.saturated, self.waits_later) = (false, false, false, false);
    }

    fn forget(&mut self, gone: impl Fn(&Entry) -> bool) {
        let names: Vec<_> =
            self.entries.iter().filter(|(_, entry)| gone(entry)).map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.remove(&name);
        }
    }

    /// The file that may go next, in order.
    pub(crate) fn next(&self) -> Option<Next> {
        let first = self.pending.first()?;
        if self.horizon.as_ref().is_none_or(|horizon| first > horizon) {
            return None;
        }
        self.describe(&first.1)
    }

    /// What is no signed document and may go next.
    pub(crate) fn next_unsigned(&self) -> Option<Next> {
        self.describe(self.unsigned.first()?)
    }

    /// The file over the size bound that may go next.
    pub(crate) fn next_large(&self) -> Option<Next> {
        self.describe(self.large.first()?)
    }

    fn describe(&self, name: &Arc<OsStr>) -> Option<Next> {
        let entry = self.entries.get(name)?;
        let parsed = matches!(entry.state, State::Pending { .. } | State::Unsigned { parsed: true });
        Some(Next { name: Arc::clone(name), stamp: entry.stamp, first_seen: entry.first_seen, parsed })
    }

    /// It goes: its ticket is out.
    pub(crate) fn boarded(&mut self, name: &OsStr) {
        if let Some(mut entry) = self.remove(name) {
            entry.state = State::InFlight { changed: false };
            self.entries.insert(Arc::from(name), entry);
        }
    }

    /// It did not go after all, because the file is another one by now, or gone: the next scan tells.
    pub(crate) fn stale(&mut self, name: &OsStr, now: Instant) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.stale = entry.stale.saturating_add(1);
            let at = if entry.stale <= PROMPT_LOOKS { now } else { now + back_off(entry.stale) };
            entry.state = State::Later { at, settling: false };
            self.waits_later = true;
        }
    }

    /// Its ticket was dropped. Returns true when another file has its name already, which a scan should look at.
    pub(crate) fn released(&mut self, name: &OsStr, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        let State::InFlight { changed } = entry.state else { return false };
        entry.stayed = entry.stayed.saturating_add(1);
        let at = if changed { now } else { now + back_off(entry.stayed) };
        entry.state = State::Later { at, settling: false };
        self.waits_later = true;
        changed
    }
}

/// How long a file is left alone that stayed for the `stayed`th time.
fn back_off(stayed: u32) -> Duration {
    FIRST_BACK_OFF.saturating_mul(1 << stayed.saturating_sub(1).min(16)).min(MAX_BACK_OFF)
}

#[cfg(test)]
mod tests;
