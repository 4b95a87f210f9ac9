//! The artifact folders' roll-over: first in the branch, as a commit of its own, then on disk, file by file.
//!
//! Only what is committed moves, so that a commit's artifacts are found where its audit line implies. A crash between
//! the two steps leaves files flat that the branch holds in a segment: they are moved when the folders are tidied, at
//! the start and in quiet moments. A power cut leaves a file under either name; readers look at both.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use chrono::{DateTime, Utc};
use gix::ObjectId;

use crate::audit;
use crate::core::Core;
use crate::error::WorkError;
use crate::files::{Found, Moved};
use crate::objects::MAX_BLOB_BYTES;
use crate::pending::Pending;
use crate::roll::{self, Command, Day, Flat, ROLLING, Segment};
use crate::tree::Leaf;
use crate::whereabouts::{Reach, Whereabouts};

/// The most segments of one day that are passed over because they hold another file of the same name.
const MAX_CLASHES: usize = 1_000;

/// A file on disk that the branch holds in a segment.
#[derive(Debug)]
pub(crate) struct Move {
    /// Its flat path.
    pub path: String,
    /// Where the branch has it.
    pub segment: Segment,
}

/// How far the roll-over has come.
#[derive(Debug, Default)]
pub(crate) struct Rolling {
    /// What lies flat; `None` until it is asked for.
    pub(crate) flat: Option<Flat>,
    /// The segment that is being filled, and how many commands it holds.
    pub(crate) filling: Option<(Segment, usize)>,
    /// What is to be moved on disk once the branch has moved.
    pub(crate) moves: Vec<Move>,
    /// Whether the folders on disk may differ from the branch.
    pub(crate) untidy: bool,
    /// Whether it was said that something cannot be moved.
    pub(crate) warned: bool,
}

impl Rolling {
    /// The branch was read anew.
    pub(crate) fn reset(&mut self) {
        *self = Self { untidy: true, warned: self.warned, ..Self::default() };
    }
}

impl Core {
    pub(crate) fn window(&self) -> usize {
        self.config.window.max(1)
    }

    /// A command got its commit: these of its artifacts are in the branch now.
    pub(crate) fn lies_flat(&mut self, item: &Pending, paths: Vec<String>, now: DateTime<Utc>) {
        let day = audit::written_at(&item.audit_line).and_then(Day::of).or_else(|| Day::of(now));
        // Where it is not known what else lies flat, this is found together with the rest.
        if let (Some(flat), Some(day)) = (&mut self.rolling.flat, day) {
            flat.add(day, paths);
        }
    }

    /// Where more lies flat than the window holds: the commit that moves the oldest, on top of `parent`.
    pub(crate) fn roll_over(
        &mut self,
        parent: Option<ObjectId>,
        now: DateTime<Utc>,
    ) -> Result<Option<ObjectId>, WorkError> {
        let window = self.window();
        let flat = self.known_flat(now)?;
        let due = roll::due(flat.len(), window);
        let oldest = flat.take_oldest(due);
        self.roll(&oldest, parent, now)
    }

    pub(crate) fn roll(
        &mut self,
        commands: &[Command],
        parent: Option<ObjectId>,
        now: DateTime<Utc>,
    ) -> Result<Option<ObjectId>, WorkError> {
        let mut segments = Whereabouts::default();
        let mut rolled = 0;
        for command in commands {
            rolled += u64::from(self.roll_one(command, &mut segments)?);
        }
        if rolled == 0 {
            return Ok(None);
        }
        let commit = self.seal(parent, &format!("bridge: roll over {rolled} commands"), now)?;
        ROLLING.iter().for_each(|folder| self.tree.fold(folder));
        Ok(Some(commit))
    }

    /// Moves one command's artifacts in the tree; tells whether it did. What cannot be moved stays flat.
    fn roll_one(&mut self, command: &Command, segments: &mut Whereabouts) -> Result<bool, WorkError> {
        let mut leaves = Vec::with_capacity(command.paths.len());
        for path in &command.paths {
            if let Some(leaf) = self.get(path)? {
                leaves.push((path.as_str(), leaf));
            }
        }
        let Some((first, _)) = leaves.first() else { return Ok(false) };
        let moved = match self.on_disk_in(first, command.day, segments) {
            Some(segment) if !self.clashes(segment, &leaves)? => Some(segment),
            _ => None,
        };
        let segment = match moved {
            Some(segment) => segment,
            None => match self.segment_for(command.day, &leaves)? {
                Some(segment) => segment,
                None => return Ok(false),
            },
        };
        for (path, leaf) in leaves {
            self.put(&segment.place(path), Some(leaf))?;
            self.put(path, None)?;
            self.rolling.moves.push(Move { path: path.to_owned(), segment });
        }
        Ok(true)
    }

    /// The segment that an artifact lies in on disk already, while the branch has it flat: somebody put the branch back.
    pub(crate) fn on_disk_in(&self, path: &str, day: Day, segments: &mut Whereabouts) -> Option<Segment> {
        match self.root.find(Path::new(path)) {
            Ok(Found::Nothing) => segments.find(&self.root, path, Reach::Day(day)),
            _ => None,
        }
    }

    /// The segment that takes the next command of a day; `None` where something is in the way.
    fn segment_for(&mut self, day: Day, leaves: &[(&str, Leaf)]) -> Result<Option<Segment>, WorkError> {
        let (mut segment, mut held) = match self.rolling.filling {
            Some((segment, held)) if segment.day == day => (segment, held),
            _ => match self.last_segment(day)? {
                Some(last) => last,
                None => return Ok(None),
            },
        };
        if held >= self.window() {
            (segment, held) = (segment.next(), 0);
        }
        for _ in 0..MAX_CLASHES {
            if !self.clashes(segment, leaves)? {
                self.rolling.filling = Some((segment, held + 1));
                return Ok(Some(segment));
            }
            (segment, held) = (segment.next(), 0);
        }
        Ok(None)
    }

    /// Whether other files have the names already.
    fn clashes(&mut self, segment: Segment, leaves: &[(&str, Leaf)]) -> Result<bool, WorkError> {
        for folder in ROLLING {
            if self.get(&segment.path(folder))?.is_some() {
                return Ok(true);
            }
        }
        for (path, leaf) in leaves {
            if self.get(&segment.place(path))?.is_some_and(|there| there != *leaf) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The last segment of a day and how many commands it holds at most; `None` where a file is in a folder's place.
    fn last_segment(&mut self, day: Day) -> Result<Option<(Segment, usize)>, WorkError> {
        let mut last = 0;
        for folder in ROLLING {
            let path = format!("{folder}/{day}");
            for (at, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
                if let Some(above) = path.get(..at)
                    && self.get(above)?.is_some()
                {
                    tracing::warn!(
                        path = above,
                        "a file in the place of a segment's folder: nothing is rolled over there"
                    );
                    return Ok(None);
                }
            }
            let numbers = self.tree.list(&path, &self.store)?.into_iter();
            let numbers = numbers.filter(|(_, leaf)| leaf.is_none()).filter_map(|(name, _)| roll::number(&name));
            last = numbers.max().unwrap_or(0).max(last);
        }
        let segment = Segment { day, number: last };
        let mut held = |folder: &str, is_one: fn(&str) -> bool| -> Result<usize, WorkError> {
            let names = self.tree.list(&segment.path(folder), &self.store)?;
            Ok(names.iter().filter(|(name, _)| is_one(name)).count())
        };
        let results = held("results", |name| !name.ends_with(".integrity.json"))?;
        let executed = results.max(held("diffs", |_| true)?).max(held("archive", |_| true)?);
        // A command that failed has a dead letter too, and counts twice: the window is not exceeded.
        Ok(Some((segment, executed + held("dead_letter", |_| true)?)))
    }

    /// On disk, what the branch holds in a segment: each file is moved there, onto no other file. What cannot be moved
    /// is looked at again when the folders are tidied.
    pub(crate) fn move_on_disk(&mut self) {
        let mut folders: HashMap<String, Option<OwnedFd>> = HashMap::new();
        for Move { path, segment } in std::mem::take(&mut self.rolling.moves) {
            let Some((folder, name)) = path.split_once('/') else { continue };
            let mut open = |at: String, make: bool| -> std::io::Result<()> {
                if let std::collections::hash_map::Entry::Vacant(free) = folders.entry(at) {
                    let opened = self.root.folder(Path::new(free.key()), make)?;
                    free.insert(Some(opened));
                }
                Ok(())
            };
            let to = segment.path(folder);
            let place = segment.place(&path);
            let opened = open(folder.to_owned(), false).and_then(|()| open(to.clone(), true));
            let moved = opened.and_then(|()| match (folders.get(folder), folders.get(&to)) {
                (Some(Some(from)), Some(Some(to))) => self.index.move_file((&path, &place), name, (from, to)),
                _ => Ok(Moved::Gone),
            });
            supervision::crash_point!("publisher.shelved");
            let error = match moved {
                Ok(Moved::Moved | Moved::Gone) => continue,
                Ok(Moved::Taken) if self.is_twice(&path, &place) => continue,
                Ok(Moved::Taken) => "another file lies there".to_owned(),
                Err(error) => error.to_string(),
            };
            self.rolling.untidy = true;
            if !std::mem::replace(&mut self.rolling.warned, true) {
                tracing::error!(
                    path,
                    to = place,
                    error,
                    "an artifact cannot be moved to its segment; it is tried again"
                );
            }
        }
        self.index.moving.clear();
    }

    /// Whether the same file lies in both places; the flat one is removed then.
    fn is_twice(&self, flat: &str, place: &str) -> bool {
        let read = |path: &str| self.root.read(Path::new(path), MAX_BLOB_BYTES).ok().flatten();
        match (read(flat), read(place)) {
            (Some(one), Some(other)) if one == other => self.root.remove(Path::new(flat)).is_ok(),
            _ => false,
        }
    }
}
