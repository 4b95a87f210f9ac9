//! The files of one diff, which take effect together: what a rename or copy takes is what was there before the diff,
//! so that files can change places.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use protocol::command::FileMode;

use super::{Body, Diff, FilePatch, Name, PatchError, apply};
use crate::tree::{Image, MAX_FILE_BYTES};

/// The most bytes that the files of one diff may have together when they are written, each time that they are.
pub const MAX_WRITTEN_BYTES: u64 = 256 * 1024 * 1024;

/// What the patch of one file did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The file that it took, if any.
    pub from: Option<Name>,
    /// The file that it made or changed; `None` for a deletion.
    pub to: Option<Name>,
    /// Whether `from` is gone because it became `to`.
    pub is_rename: bool,
    /// The file before; `None` where there was none.
    pub before: Option<Image>,
    /// The file after; `None` where there is none.
    pub after: Option<Image>,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum FilesError<E> {
    /// The diff does not fit, or asks for too much work.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// Too much would be written.
    #[error("{0}")]
    TooLarge(String),
    /// A file could not be looked at.
    #[error("{0}")]
    Look(E),
}

/// Where a diff comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody sent it: it may have shifted, and binary patches are refused.
    Sent,
    /// This program made it, or it is one of those [reversed](FilePatch::reversed): every file must be exactly the one that
    /// the blob ids of its `index` line name, before and after; and binary patches are applied.
    Published,
}

/// Plays the files of `diff`, in order. `look` says what is at a path before the diff, and `trusts` whether it is known to be
/// what the diff was made from, so that hunks stand where their headers say.
///
/// # Errors
/// The first file that does not fit, or what `look` says.
pub fn play<E>(
    diff: &Diff,
    kind: Kind,
    mut look: impl FnMut(&Name) -> Result<Option<Image>, E>,
    trusts: impl Fn(&Name) -> bool,
) -> Result<Vec<Outcome>, FilesError<E>> {
    let patches = match kind {
        Kind::Sent => merged(named(diff, &mut look)?)?,
        Kind::Published => diff.files.iter().map(Cow::Borrowed).collect(),
    };
    let goes = patches.iter().filter(|patch| patch.renames || patch.deletes);
    let going = goes.filter_map(|patch| patch.old.clone()).collect();
    let mut player = Player { diff, kind, look, trusts, going, written: 0, budget: apply::MAX_SEARCH_BYTES };
    patches.iter().map(|patch| player.file(patch)).collect()
}

/// The patches with the names that they mean.
fn named<'d, E>(
    diff: &'d Diff,
    look: &mut impl FnMut(&Name) -> Result<Option<Image>, E>,
) -> Result<Vec<Cow<'d, FilePatch>>, FilesError<E>> {
    let mut named = |patch: &'d FilePatch| match (&patch.old, &patch.otherwise) {
        (Some(old), Some(_)) if look(old).map_err(FilesError::Look)?.is_none() => {
            Ok(Cow::Owned(patch.renamed_otherwise()))
        }
        _ => Ok(Cow::Borrowed(patch)),
    };
    diff.files.iter().map(&mut named).collect()
}

/// The patches, those of one file made one: all hunks are about the file as it was. Files that change places are no such
/// case, nor is one that is copied. Where one of two does more than change lines, it is not clear which of them its
/// author saw last.
fn merged(named: Vec<Cow<'_, FilePatch>>) -> Result<Vec<Cow<'_, FilePatch>>, PatchError> {
    let mut patches: Vec<Cow<'_, FilePatch>> = Vec::with_capacity(named.len());
    let mut ends: HashMap<Name, usize> = HashMap::new();
    let moved: HashSet<Name> = named.iter().filter(|patch| patch.renames).filter_map(|it| it.old.clone()).collect();
    for patch in named {
        let Some(end) = patch.new.clone().or_else(|| patch.old.clone()) else { continue };
        let stays = patch.deletes || (!patch.renames && !patch.copies && patch.old.is_some());
        let first = ends.get(&end).and_then(|first| patches.get_mut(*first));
        match first {
            None if !(stays && moved.contains(&end)) => {
                ends.insert(end, patches.len());
                patches.push(patch);
            }
            Some(first) if only_edits(first) && only_edits(&patch) => {
                if let Body::Text(hunks) = &mut first.to_mut().body {
                    hunks.extend_from_slice(patch.hunks());
                }
            }
            _ => {
                let what =
                    format!("the diff names it twice (again in line {}); send one patch for each file", patch.line);
                return Err(PatchError::file(&end.to_string(), what));
            }
        }
    }
    Ok(patches)
}

/// Whether a patch changes lines of a file that stays where it is, and nothing else.
fn only_edits(patch: &FilePatch) -> bool {
    let is_plain = !patch.renames && !patch.copies && !patch.deletes && patch.creates == Some(false);
    is_plain && patch.new_mode.is_none() && matches!(&patch.body, Body::Text(hunks) if !hunks.is_empty())
}

struct Player<'d, L, T> {
    diff: &'d Diff,
    kind: Kind,
    look: L,
    trusts: T,
    /// What the diff takes away, so that something else may come to be there.
    going: HashSet<Name>,
    written: u64,
    /// How many bytes may still be searched for shifted hunks.
    budget: usize,
}

impl<E, L: FnMut(&Name) -> Result<Option<Image>, E>, T: Fn(&Name) -> bool> Player<'_, L, T> {
    fn file(&mut self, patch: &FilePatch) -> Result<Outcome, FilesError<E>> {
        let conflict = |what: &str| PatchError::file(&patch.label(), what);
        if self.kind == Kind::Sent && matches!(patch.body, Body::Binary(_)) {
            return Err(
                conflict("a binary diff is not applied; send the file by writeFile with encoding base64").into()
            );
        }
        let before = self.before(patch)?;
        if let (Some(new), true) = (&patch.new, patch.renames || patch.copies || before.is_none()) {
            self.make_way(new)?;
        }
        let content = before.as_ref().map(|image| image.content.clone()).unwrap_or_default();
        let (bits, content) = (bits(patch, before.as_ref()), self.content(patch, content)?);
        let Some(new) = &patch.new else {
            if !content.is_empty() {
                return Err(conflict("the diff deletes the file, but does not take away all of its lines").into());
            }
            return Ok(Outcome { from: patch.old.clone(), to: None, is_rename: false, before, after: None });
        };
        let after = Image { content, bits };
        self.weigh(new, &after)?;
        let is_rename = patch.renames;
        let from = if before.is_some() { patch.old.clone() } else { None };
        Ok(Outcome { from, to: Some(new.clone()), is_rename, before, after: Some(after) })
    }

    /// The content that comes of `before`.
    fn content(&mut self, patch: &FilePatch, before: Arc<[u8]>) -> Result<Arc<[u8]>, PatchError> {
        if self.kind == Kind::Published {
            return Ok(apply::apply_exactly(&self.diff.text, patch, &before)?.into());
        }
        if patch.takes_all {
            return Ok(Arc::default());
        }
        // Nothing is copied where nothing changes.
        if patch.hunks().is_empty() {
            return Ok(before);
        }
        let is_trusted = patch.old.as_ref().is_some_and(|old| (self.trusts)(old));
        Ok(apply::apply(&self.diff.text, patch, &before, &mut self.budget, is_trusted)?.into())
    }

    /// The file that a patch starts from; `None` where it makes one.
    fn before(&mut self, patch: &FilePatch) -> Result<Option<Image>, FilesError<E>> {
        let Some(old) = &patch.old else { return Ok(None) };
        let conflict = |what: &str| PatchError::file(&old.to_string(), what);
        match (self.look)(old).map_err(FilesError::Look)? {
            Some(image) => Ok(Some(image)),
            None if patch.creates.is_none() => Ok(None),
            None => Err(conflict("there is no such file").into()),
        }
    }

    /// Whether a file may come to be at `name`.
    fn make_way(&mut self, name: &Name) -> Result<(), FilesError<E>> {
        let conflict = |what: &str| PatchError::file(&name.to_string(), what);
        if !self.going.contains(name) && (self.look)(name).map_err(FilesError::Look)?.is_some() {
            return Err(conflict("the diff makes this file, but it is there already").into());
        }
        Ok(())
    }

    fn weigh(&mut self, name: &Name, image: &Image) -> Result<(), FilesError<E>> {
        let size = u64::try_from(image.content.len()).unwrap_or(u64::MAX);
        if size > MAX_FILE_BYTES {
            let what = format!("{name} would become {size} bytes long; the most is {MAX_FILE_BYTES}");
            return Err(FilesError::TooLarge(what));
        }
        self.written = self.written.saturating_add(size);
        if self.written > MAX_WRITTEN_BYTES {
            let what = format!("{name} makes the files that this diff writes more than {MAX_WRITTEN_BYTES} bytes");
            return Err(FilesError::TooLarge(what));
        }
        Ok(())
    }
}

/// The permission bits afterwards: those of before, unless the diff asks for git's other mode. A mode before that is
/// not the file's is no fault, as with git.
fn bits(patch: &FilePatch, before: Option<&Image>) -> u32 {
    const OWNER_EXECUTES: u32 = 0o100;
    let wanted =
        patch.new_mode.map(|mode| if mode & OWNER_EXECUTES == 0 { FileMode::Regular } else { FileMode::Executable });
    match (before, wanted) {
        (Some(before), None) => before.bits,
        (Some(before), Some(wanted)) if before.mode() == wanted => before.bits,
        (_, Some(wanted)) => wanted.bits(),
        (None, None) => FileMode::Regular.bits(),
    }
}

/// What the paths hold after all: by name, `None` where nothing is left.
#[must_use]
pub fn result(outcomes: &[Outcome]) -> BTreeMap<Name, Option<Image>> {
    let mut paths = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.is_rename || outcome.to.is_none()) {
        paths.extend(outcome.from.clone().map(|from| (from, None)));
    }
    for outcome in outcomes {
        paths.extend(outcome.to.clone().map(|to| (to, outcome.after.clone())));
    }
    paths
}
