//! The artifact folders on disk, brought in line with the branch where a crash or a person left them otherwise.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

use crate::core::Core;
use crate::error::WorkError;
use crate::files::{Lookout, stamp};
use crate::objects::MAX_BLOB_BYTES;
use crate::roll::{self, Command, Day, ROLLING, Segment};
use crate::rollover::Move;
use crate::tree::Leaf;
use crate::whereabouts::Whereabouts;

/// The most names that are looked at in one flat folder.
const MAX_NAMES: usize = 1_000_000;
/// So many segments in a row without anything that is looked for, and only those of certain days are looked at further.
const IDLE_SEGMENTS: usize = 16;
/// A file is written, and noted in the audit log, within so long; midnight may lie between.
const WRITING: Duration = Duration::from_secs(3600);
/// The most days that are looked at so.
const MAX_DAYS: usize = 32;

impl Core {
    /// In quiet moments: brings the folders on disk in line with the branch where a crash or a person left them
    /// otherwise, and rolls over what is due. Tells whether there is a new commit.
    ///
    /// # Errors
    /// When the branch cannot be read or moved; it is done again then.
    pub fn tidy(&mut self, now: DateTime<Utc>) -> Result<bool, WorkError> {
        self.sync_head()?;
        self.put_back(now)?;
        if self.owed.is_some() || self.recovery.is_some() {
            return Ok(false);
        }
        match self.tidy_all(now) {
            Ok(made) => Ok(made > 0),
            Err(error) => {
                self.loaded = false;
                Err(error)
            }
        }
    }

    fn tidy_all(&mut self, now: DateTime<Utc>) -> Result<u64, WorkError> {
        let (mut tip, mut made) = (self.head, 0);
        if std::mem::take(&mut self.rolling.untidy) {
            self.find_astray()?;
            let put_back = self.find_put_back(now)?;
            if let Some(commit) = self.roll(&put_back, tip, now)? {
                (tip, made) = (Some(commit), made + 1);
            }
        }
        if let Some(commit) = self.roll_over(tip, now)? {
            (tip, made) = (Some(commit), made + 1);
        }
        self.publish(tip, made, now)?;
        self.move_on_disk();
        self.rolling.warned &= self.rolling.untidy;
        Ok(made)
    }

    /// Files that lie flat on disk and in a segment in the branch: among the newest, and among those of the days on which
    /// they were written.
    fn find_astray(&mut self) -> Result<(), WorkError> {
        for folder in ROLLING {
            let names = self.root.names(folder, MAX_NAMES);
            let names = names.map_err(|e| WorkError::io(self.root.path().join(folder), e))?;
            let mut astray: HashSet<String> = names.into_iter().collect();
            for (name, _) in self.tree.list(folder, &self.store)? {
                astray.remove(&name);
            }
            let days = self.written_on(folder, &astray);
            let mut idle = 0;
            self.newest_first(folder, &mut |core, path| {
                if astray.is_empty() {
                    return Ok(false);
                }
                if idle >= IDLE_SEGMENTS {
                    let day = segment_of(folder, path).map(|segment| segment.day);
                    if day < days.first().copied() || days.is_empty() {
                        return Ok(false);
                    }
                    if day.is_none_or(|day| !days.contains(&day)) {
                        return Ok(true);
                    }
                }
                idle += 1;
                for (name, leaf) in core.tree.list(path, &core.store)? {
                    if let Some(leaf) = leaf
                        && astray.contains(&name)
                        && core.is_astray(folder, path, &name, leaf)
                    {
                        astray.remove(&name);
                        idle = 0;
                    }
                }
                Ok(true)
            })?;
            self.tree.fold(folder);
        }
        Ok(())
    }

    /// The days on which flat files were written, as far as the file system remembers.
    fn written_on(&self, folder: &str, names: &HashSet<String>) -> BTreeSet<Day> {
        let mut files = Lookout::new(&self.root);
        let mut days = BTreeSet::new();
        for name in names {
            // What strangers left there may be of any day; what a kill left is of the latest.
            while days.len() > MAX_DAYS {
                days.pop_first();
            }
            let Some(stat) = files.stat(&Path::new(folder).join(name)) else { continue };
            let (_, nanos, _) = stamp(&stat);
            let Some(written) = u64::try_from(nanos).ok().map(Duration::from_nanos) else { continue };
            for at in [written.saturating_sub(WRITING), written, written.saturating_add(WRITING)] {
                let at = SystemTime::UNIX_EPOCH.checked_add(at);
                days.extend(at.and_then(|at| Day::of(at.into())));
            }
        }
        days
    }

    /// Whether the flat file is the one that the branch has in that segment; it is moved then.
    fn is_astray(&mut self, folder: &str, segment: &str, name: &str, leaf: Leaf) -> bool {
        let flat = format!("{folder}/{name}");
        let Ok(Some(bytes)) = self.root.read(Path::new(&flat), MAX_BLOB_BYTES) else { return false };
        let same = self.store.id_of(&bytes).is_ok_and(|id| id == leaf.id);
        let Some(segment) = segment_of(folder, segment).filter(|_| same) else { return false };
        self.rolling.moves.push(Move { path: flat, segment });
        true
    }

    /// Commands that lie flat in the branch and in a segment on disk: somebody put the branch back.
    fn find_put_back(&mut self, now: DateTime<Utc>) -> Result<Vec<Command>, WorkError> {
        self.known_flat(now)?;
        let Some(mut flat) = self.rolling.flat.take() else { return Ok(Vec::new()) };
        let mut segments = Whereabouts::default();
        let put_back = flat.take_if(|command| {
            let first = command.paths.first();
            first.is_some_and(|first| self.on_disk_in(first, command.day, &mut segments).is_some())
        });
        self.rolling.flat = Some(flat);
        Ok(put_back)
    }
}

/// The segment at a path beneath one of the [`ROLLING`] folders.
fn segment_of(folder: &str, path: &str) -> Option<Segment> {
    let (day, number) = path.strip_prefix(folder)?.strip_prefix('/')?.rsplit_once('/')?;
    Some(Segment { day: Day::parse(day)?, number: roll::number(number)? })
}
