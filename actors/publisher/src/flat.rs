//! What lies flat in the branch, and which commands it belongs to: found out from the names in the folders and the end of
//! the audit log. Segments are visited from the newest backwards, and never more of them than something is found in.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use gix::objs::Kind;

use crate::audit::{self, DeadLetters, Places};
use crate::core::Core;
use crate::error::WorkError;
use crate::objects::Store;
use crate::roll::{self, Command, DAY_DIGITS, Day, Flat, ROLLING, is_number};
use crate::tree::{FOLDER, Leaf};

/// Beyond the window, so many lines of the log in a row without anything that lies flat end the search for more.
const IDLE_LINES: usize = 1_024;

impl Core {
    /// What lies flat, found out if it is not known: the log tells which command a file belongs to, and in which order
    /// they were filed. What belongs to none is left alone.
    pub(crate) fn known_flat(&mut self, now: DateTime<Utc>) -> Result<&mut Flat, WorkError> {
        if self.rolling.flat.is_none() {
            let flat = self.find_flat(now)?;
            tracing::debug!(commands = flat.len(), "what lies flat is known");
            self.rolling.flat = Some(flat);
        }
        Ok(self.rolling.flat.get_or_insert_default())
    }

    fn find_flat(&mut self, now: DateTime<Utc>) -> Result<Flat, WorkError> {
        let mut search = Search::new(Day::of(now).unwrap_or_default(), self.window().saturating_add(IDLE_LINES));
        for folder in ROLLING {
            for (name, leaf) in self.tree.list(folder, &self.store)? {
                search.left.extend(leaf.map(|leaf| (format!("{folder}/{name}"), leaf)));
            }
        }
        search.index_letters();
        let log = self.committed_log()?;
        if search.lines(&log, &self.store) {
            self.newest_first("logs", &mut |core, path| {
                let mut names: Vec<_> = core.tree.list(path, &core.store)?.into_iter().collect();
                names.sort_by(|(a, _), (b, _)| b.cmp(a));
                for leaf in names.into_iter().filter_map(|(_, leaf)| leaf).filter(|leaf| leaf.mode != FOLDER) {
                    if !search.lines(&core.store.read(leaf.id, Kind::Blob)?, &core.store) {
                        return Ok(false);
                    }
                }
                Ok(true)
            })?;
            self.tree.fold("logs");
        }
        let mut flat = Flat::default();
        for command in search.found.into_iter().rev() {
            flat.add(command.day, command.paths);
        }
        Ok(flat)
    }

    /// Visits the segments beneath a folder of the branch, the newest first, until `visit` has seen enough.
    pub(crate) fn newest_first(
        &mut self,
        top: &str,
        visit: &mut dyn FnMut(&mut Self, &str) -> Result<bool, WorkError>,
    ) -> Result<bool, WorkError> {
        self.newest_below(top, &DAY_DIGITS, visit)
    }

    fn newest_below(
        &mut self,
        path: &str,
        digits: &[usize],
        visit: &mut dyn FnMut(&mut Self, &str) -> Result<bool, WorkError>,
    ) -> Result<bool, WorkError> {
        let listed = self.tree.list(path, &self.store)?.into_iter();
        let folders = listed.filter(|(_, leaf)| leaf.is_none()).map(|(name, _)| name);
        let Some((digits, rest)) = digits.split_first() else {
            let mut numbers: Vec<u32> = folders.filter_map(|name| roll::number(&name)).collect();
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            for number in numbers {
                if !visit(self, &format!("{path}/{number:04}"))? {
                    return Ok(false);
                }
            }
            return Ok(true);
        };
        let mut names: Vec<String> = folders.filter(|name| is_number(name, *digits)).collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        for name in names {
            if !self.newest_below(&format!("{path}/{name}"), rest, visit)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The search for the commands of what lies flat in the branch, from the newest line of the log backwards.
struct Search {
    /// What is not found yet.
    left: HashMap<String, Leaf>,
    letters: DeadLetters,
    /// The commands, the newest first.
    found: Vec<Command>,
    today: Day,
    idle: usize,
    idle_max: usize,
}

impl Search {
    fn new(today: Day, idle_max: usize) -> Self {
        let (left, letters) = (HashMap::new(), DeadLetters::default());
        Self { left, letters, found: Vec::new(), today, idle: 0, idle_max }
    }

    fn index_letters(&mut self) {
        let letters = self.left.keys().filter(|path| path.starts_with("dead_letter/"));
        self.letters = DeadLetters::new(letters.cloned());
    }

    /// Reads one log backwards; tells whether older ones are to be read as well.
    fn lines(&mut self, log: &[u8], store: &Store) -> bool {
        let lines: Vec<&[u8]> = audit::lines(log).collect();
        for line in lines.into_iter().rev() {
            if self.left.is_empty() || self.idle >= self.idle_max {
                return false;
            }
            self.idle += 1;
            let places = InTree { left: &self.left, letters: &self.letters, store };
            let Some(mut its) = audit::belongings(line, &places) else { continue };
            its.paths.retain(|path| self.left.contains_key(path));
            if its.paths.len() > 1 && its.paths.iter().all(|path| path.starts_with("dead_letter/")) {
                // Several documents of the same bytes: a line each, and a letter each.
                its.paths.truncate(1);
            }
            if its.paths.is_empty() {
                continue;
            }
            for path in &its.paths {
                self.left.remove(path);
            }
            self.idle = 0;
            self.found.push(Command { day: its.at.and_then(Day::of).unwrap_or(self.today), paths: its.paths });
        }
        true
    }
}

/// What lies flat in the branch.
struct InTree<'a> {
    left: &'a HashMap<String, Leaf>,
    letters: &'a DeadLetters,
    store: &'a Store,
}

impl Places for InTree<'_> {
    fn has(&self, path: &str) -> bool {
        self.left.contains_key(path)
    }

    fn is_about(&self, path: &str, input: &str) -> bool {
        let bytes = self.left.get(path).and_then(|leaf| self.store.read(leaf.id, Kind::Blob).ok());
        bytes.is_some_and(|bytes| audit::is_about(&bytes, input))
    }

    fn letters(&self, short: &str) -> Vec<String> {
        self.letters.of(short).to_vec()
    }
}
