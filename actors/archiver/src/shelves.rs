//! The segments that artifacts are rolled over to: `<folder>/<yyyy>/<mm>/<dd>/<nnnn>/` (contract, section 2), visited from
//! the newest backwards, each under its handle. Nothing here is asked while commands are filed and all goes well.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use cap_std::fs::Dir;
use chrono::NaiveDate;
use protocol::segment::{self, DAY_DIGITS};

use crate::error::ArchiveError;
use crate::files::{self, Folder, Found, TEMPORARY, open_folder};
use crate::history::names as list;

/// The most folders that are looked through: some 700 days of 100 segments each.
const MAX_FOLDERS: usize = 100_000;
/// All folders that roll over.
pub(crate) const FOLDERS: [Folder; 4] = [Folder::Diffs, Folder::Results, Folder::Archive, Folder::DeadLetter];

/// Is given each segment's handle and path; what it finds ends the way.
type Visit<'v, T> = &'v mut dyn FnMut(&Dir, &str) -> Result<Option<T>, ArchiveError>;

/// A way through a folder's segments.
pub(crate) struct Walk<'v, T> {
    /// Days before it are left out, `yyyy/mm/dd`.
    since: Option<String>,
    left: usize,
    visit: Visit<'v, T>,
}

impl<'v, T> Walk<'v, T> {
    /// A way that ends where `visit`, which is given each segment's handle and path, has found something.
    pub(crate) fn new(since: Option<NaiveDate>, visit: Visit<'v, T>) -> Self {
        Self { since: since.map(|day| day.format("%Y/%m/%d").to_string()), left: MAX_FOLDERS, visit }
    }

    /// Goes through the segments of `folder`, whose handle is `top`.
    pub(crate) fn through(&mut self, top: &Dir, folder: Folder) -> Result<Option<T>, ArchiveError> {
        self.beneath(top, folder.name(), "", 0)
    }

    fn beneath(&mut self, dir: &Dir, path: &str, day: &str, level: usize) -> Result<Option<T>, ArchiveError> {
        let mut names = list(dir, path, |name| segment::is_level(level, name))?;
        names.sort_unstable_by(|a, b| (b.len(), b).cmp(&(a.len(), a)));
        for name in names {
            let below = if day.is_empty() { name.clone() } else { format!("{day}/{name}") };
            let early = self.since.as_ref().and_then(|since| since.get(..below.len()));
            if level < DAY_DIGITS.len() && early.is_some_and(|since| below.as_str() < since) {
                break;
            }
            self.left = self.left.checked_sub(1).ok_or_else(|| too_many(path))?;
            let folder = match open_folder(dir, &name) {
                // What is no folder is no segment.
                Err(ArchiveError::NotAFolder { .. }) => continue,
                Err(ArchiveError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let path = format!("{path}/{name}");
            let found = match level < DAY_DIGITS.len() {
                true => self.beneath(&folder, &path, &below, level + 1)?,
                false => (self.visit)(&folder, &path)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

fn too_many(path: &str) -> ArchiveError {
    let what = format!("there are more than {MAX_FOLDERS} folders to look through");
    ArchiveError::io("search", path)(io::Error::other(what))
}

/// One segment, or the folders themselves: where all artifacts of a command lie beside each other.
pub(crate) trait Shelf {
    /// What lies under `name` in `folder`.
    fn look(&self, folder: Folder, name: &str, max: u64) -> Result<Found, ArchiveError>;
}

/// A segment in all folders.
#[derive(Debug)]
pub(crate) struct Segment(Vec<(Folder, Dir, String)>);

impl Segment {
    /// Opens the segment that `path` (`<folder>/<yyyy>/<mm>/<dd>/<nnnn>`) names in each folder that has it.
    pub(crate) fn open(top: impl Fn(Folder) -> io::Result<Dir>, path: &str) -> Result<Self, ArchiveError> {
        let inside = path.split_once('/').map_or("", |(_, inside)| inside);
        let mut found = Vec::new();
        for folder in FOLDERS {
            let mut dir = Some(top(folder).map_err(ArchiveError::io("open", folder.name()))?);
            for part in inside.split('/') {
                dir = dir.and_then(|dir| open_folder(&dir, part).ok());
            }
            found.extend(dir.map(|dir| (folder, dir, format!("{}/{inside}", folder.name()))));
        }
        Ok(Self(found))
    }
}

impl Shelf for Segment {
    fn look(&self, folder: Folder, name: &str, max: u64) -> Result<Found, ArchiveError> {
        let Some((_, dir, path)) = self.0.iter().find(|(which, _, _)| *which == folder) else {
            return Ok(Found::Nothing);
        };
        files::look(dir, name, max).map_err(ArchiveError::io("read", format!("{path}/{name}")))
    }
}

/// Where some commands' artifacts lie that were rolled over.
#[derive(Debug, Default)]
pub(crate) struct Rolled(HashMap<(Folder, String), String>);

impl Rolled {
    /// Looks for the artifacts that are called by one of `ids`, or begin with one and a hyphen, in the segments since
    /// `day`. What a try before this one left half-written there is removed.
    pub(crate) fn find(
        top: impl Fn(Folder) -> io::Result<Dir>,
        ids: &HashSet<String>,
        day: Option<NaiveDate>,
    ) -> Result<Self, ArchiveError> {
        let mut places = HashMap::new();
        for folder in FOLDERS {
            let dir = top(folder).map_err(ArchiveError::io("open", folder.name()))?;
            let mut visit = |segment: &Dir, path: &str| -> Result<Option<()>, ArchiveError> {
                for name in list(segment, path, |_| true)? {
                    if name.starts_with(TEMPORARY) {
                        segment.remove_file(&name).map_err(ArchiveError::io("remove", format!("{path}/{name}")))?;
                    } else if is_of(&name, ids) {
                        places.entry((folder, name)).or_insert_with(|| path.to_owned());
                    }
                }
                Ok(None)
            };
            Walk::new(day, &mut visit).through(&dir, folder)?;
        }
        Ok(Self(places))
    }

    /// The folder beneath `top` of an artifact that was rolled over.
    pub(crate) fn folder(&self, top: &Dir, folder: Folder, name: &str) -> Result<Option<Dir>, ArchiveError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let Some(path) = self.0.get(&(folder, name.to_owned())) else { return Ok(None) };
        let mut dir = top.try_clone().map_err(ArchiveError::io("open", path))?;
        for part in path.split('/').skip(1) {
            dir = open_folder(&dir, part)?;
        }
        Ok(Some(dir))
    }
}

/// Whether a name is an id's: `<id>.json`, `<id>.integrity.json`, `<id>.patch`, or with pieces of a hash behind the id.
fn is_of(name: &str, ids: &HashSet<String>) -> bool {
    let stem = name.strip_suffix(".patch").or_else(|| name.strip_suffix(".json")).unwrap_or(name);
    let stem = stem.strip_suffix(".integrity").unwrap_or(stem);
    let cut = |text: &'_ str| text.rsplit_once('-').map(|(before, _)| before.len());
    let once = cut(stem).and_then(|at| stem.get(..at));
    let twice = once.and_then(cut).and_then(|at| stem.get(..at));
    [Some(stem), once, twice].into_iter().flatten().any(|stem| ids.contains(stem))
}

/// The names of all dead letters, wherever they lie; read when first asked for.
#[derive(Debug, Default)]
pub(crate) struct Letters(Option<HashSet<u64>>);

impl Letters {
    /// Whether there is a dead letter of this name in the folder `top` or in a segment.
    pub(crate) fn has(&mut self, top: &Dir, name: &str) -> Result<bool, ArchiveError> {
        if self.0.is_none() {
            // The folder itself first: letters move from there to a segment and never back.
            let mut known: HashSet<u64> =
                list(top, Folder::DeadLetter.name(), |_| true)?.iter().map(|name| key(name)).collect();
            let mut visit = |segment: &Dir, path: &str| -> Result<Option<()>, ArchiveError> {
                known.extend(list(segment, path, |_| true)?.iter().map(|name| key(name)));
                Ok(None)
            };
            Walk::new(None, &mut visit).through(top, Folder::DeadLetter)?;
            self.0 = Some(known);
        }
        Ok(self.0.as_ref().is_some_and(|known| known.contains(&key(name))))
    }

    /// A dead letter was filed.
    pub(crate) fn filed(&mut self, name: &str) {
        if let Some(known) = &mut self.0 {
            known.insert(key(name));
        }
    }
}

fn key(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_by_their_ids() {
        let ids: HashSet<String> = ["a", "x-1"].map(str::to_owned).into();
        for name in ["a.json", "a.integrity.json", "a.patch", "a-0badcafe.json", "x-1-0badcafe-0badcafe00.json"] {
            assert!(is_of(name, &ids), "{name}");
        }
        for name in ["b.json", "ab.json", "x.json", "a-1-2-3.json", ".filing-a.json"] {
            assert!(!is_of(name, &ids), "{name}");
        }
    }
}
