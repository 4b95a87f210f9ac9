//! Where artifacts lie on disk: flat, or in a segment that they were moved to. For what is found after a crash, a lost
//! message or somebody's reset; while all goes well nothing here is asked.

use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::Path;

use crate::audit::{self, DeadLetters, Places};
use crate::files::{Found, Root};
use crate::objects::MAX_BLOB_BYTES;
use crate::roll::{DAY_DIGITS, Day, ROLLING, Segment, is_number, number};

/// The most names that are looked at in one folder.
const MAX_NAMES: usize = 1_000_000;
/// The most artifacts in segments that are kept in mind; some 30 bytes each.
const MAX_KNOWN: usize = 8_000_000;

/// How far one looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// In the folders themselves.
    Flat,
    /// In the segments of a day as well.
    Day(Day),
    /// In all segments.
    All,
}

/// What is known of the segments on disk. It goes by what was there when a day was first asked for.
#[derive(Debug, Default)]
pub struct Whereabouts {
    /// By the hash of the flat path: whoever is found is looked at again.
    segments: HashMap<u64, Segment>,
    letters: DeadLetters,
    days: HashSet<Day>,
    all: bool,
}

impl Whereabouts {
    /// Where the artifact that has this flat path lies, if it is in a segment within reach.
    pub fn find(&mut self, root: &Root, path: &str, reach: Reach) -> Option<Segment> {
        self.look(root, reach);
        let segment = *self.segments.get(&key(path))?;
        matches!(root.find(Path::new(&segment.place(path))), Ok(Found::File { .. })).then_some(segment)
    }

    fn look(&mut self, root: &Root, reach: Reach) {
        match reach {
            Reach::Flat => {}
            Reach::Day(day) => self.look_at(root, day),
            Reach::All if self.all => {}
            Reach::All => {
                self.all = true;
                all_days(root).into_iter().for_each(|day| self.look_at(root, day));
            }
        }
    }

    fn look_at(&mut self, root: &Root, day: Day) {
        if !self.days.insert(day) {
            return;
        }
        for folder in ROLLING {
            for name in list(root.folders(&format!("{folder}/{day}"), MAX_NAMES)) {
                let Some(segment) = number(&name).map(|number| Segment { day, number }) else { continue };
                for name in list(root.names(&segment.path(folder), MAX_NAMES)) {
                    if self.segments.len() >= MAX_KNOWN {
                        tracing::warn!("there are more artifacts in segments than can be looked through");
                        return;
                    }
                    let flat = format!("{folder}/{name}");
                    self.segments.insert(key(&flat), segment);
                    if folder == "dead_letter" {
                        self.letters.add(flat);
                    }
                }
            }
        }
    }
}

fn key(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// What cannot be listed holds nothing that can be found.
fn list(listed: std::io::Result<Vec<String>>) -> Vec<String> {
    listed.unwrap_or_else(|error| {
        tracing::warn!(%error, "a folder of artifacts cannot be listed");
        Vec::new()
    })
}

/// The days of which there are segments in any of the folders.
fn all_days(root: &Root) -> HashSet<Day> {
    let mut found = HashSet::new();
    for folder in ROLLING {
        let mut level = vec![folder.to_owned()];
        for digits in DAY_DIGITS {
            let below = |path: &String| {
                let names = list(root.folders(path, MAX_NAMES)).into_iter().filter(|name| is_number(name, digits));
                names.map(|name| format!("{path}/{name}")).collect::<Vec<_>>()
            };
            level = level.iter().flat_map(below).collect();
        }
        found.extend(level.iter().filter_map(|path| Day::parse(path.split_once('/')?.1)));
    }
    found
}

/// The artifacts on disk, as far as one looks.
pub struct OnDisk<'a> {
    /// The folders.
    pub root: &'a Root,
    /// The dead letters that lie flat.
    pub letters: &'a DeadLetters,
    /// What is known of the segments.
    pub segments: RefCell<&'a mut Whereabouts>,
    /// How far one looks.
    pub reach: Reach,
}

impl OnDisk<'_> {
    /// Where the artifact that has this flat path lies.
    pub fn place(&self, path: &str) -> Option<String> {
        // A guess at a name may be longer than any file's.
        match self.root.find(Path::new(path)) {
            Ok(Found::File { .. }) => Some(path.to_owned()),
            _ if self.reach == Reach::Flat => None,
            _ => self.segments.borrow_mut().find(self.root, path, self.reach).map(|segment| segment.place(path)),
        }
    }
}

impl Places for OnDisk<'_> {
    fn has(&self, path: &str) -> bool {
        self.place(path).is_some()
    }

    fn is_about(&self, path: &str, input: &str) -> bool {
        let bytes = self.place(path).and_then(|path| self.root.read(Path::new(&path), MAX_BLOB_BYTES).ok().flatten());
        bytes.is_some_and(|bytes| audit::is_about(&bytes, input))
    }

    fn letters(&self, short: &str) -> Vec<String> {
        let mut found = self.letters.of(short).to_vec();
        if self.reach != Reach::Flat {
            let mut segments = self.segments.borrow_mut();
            segments.look(self.root, self.reach);
            found.extend(segments.letters.of(short).iter().cloned());
        }
        found
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_found_flat_on_their_day_and_anywhere_but_only_as_far_as_one_looks() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let put = |path: &str| root.write(Path::new(path), b"{\"input_sha256\":\"ab\"}", false).unwrap();
        put("results/a.json");
        put("results/2026/01/02/0000/b.json");
        put("dead_letter/2025/12/31/0012/c-11223344.json");
        put("results/2026/01/02/12/odd.json");
        let (letters, mut segments) = (DeadLetters::default(), Whereabouts::default());
        let day = Day::parse("2026/01/02").unwrap();
        let places = ["results/a.json", "results/b.json", "dead_letter/c-11223344.json", "results/odd.json"];
        let mut seen = |reach| {
            let segments = RefCell::new(&mut segments);
            let disk = OnDisk { root: &root, letters: &letters, segments, reach };
            (places.map(|path| disk.has(path)), disk.letters("11223344").len())
        };
        assert_eq!(seen(Reach::Flat), ([true, false, false, false], 0));
        assert_eq!(seen(Reach::Day(day)), ([true, true, false, false], 0));
        assert_eq!(seen(Reach::All), ([true, true, true, false], 1));
        let disk = OnDisk { root: &root, letters: &letters, segments: RefCell::new(&mut segments), reach: Reach::All };
        assert_eq!(disk.place("results/b.json").as_deref(), Some("results/2026/01/02/0000/b.json"));
        assert!(disk.is_about("results/b.json", "ab") && !disk.is_about("results/b.json", "cd"));
        std::fs::remove_file(dir.path().join("results/2026/01/02/0000/b.json")).unwrap();
        assert!(!disk.has("results/b.json"), "it is gone since");
    }
}
