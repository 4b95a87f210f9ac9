//! A published diff, read backwards against the tree that it led to: what each of its files was before.
//!
//! Nothing is believed that the tree does not bear out. Every file must still be the one that the diff led to: by the
//! blob id of its `index` line, or, where the diff has none because only a name or a mode changed, by the hash that the
//! result of the command tells of it.

use std::collections::BTreeMap;

use protocol::command::FileMode;
use protocol::digest::Sha256;
use protocol::git_id::GitId;
use protocol::path::RelativePath;

use crate::patch::files::{self, FilesError, Kind};
use crate::patch::parse::parse;
use crate::patch::{Body, FilePatch, Name, PatchError};
use crate::tree::{Image, Tree, TreeError};

/// The execute bits of git's other mode.
const EXECUTES: u32 = 0o111;

/// One file of the diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What is there now; `None` where nothing is.
    pub now: Option<Image>,
    /// What was there before the command; `None` where nothing was.
    pub before: Option<Image>,
    /// Where the file that was here is now, if the command moved it.
    pub moved_to: Option<RelativePath>,
}

/// Every path that the diff changed, with what was there.
pub type Undone = BTreeMap<RelativePath, File>;

/// Why a diff cannot be read backwards.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// The diff is none of the bridge's, or was changed.
    #[error("the diff cannot be read: {0}")]
    Diff(#[from] PatchError),
    /// It names a path that no command can name.
    #[error("the diff names {0}, which is no path of a target")]
    Path(Name),
    /// One of its files has no way back.
    #[error("the diff holds a patch that has no way back (a copy, or one that is not git's)")]
    NoWayBack,
    /// A file is not the one that the diff led to.
    #[error("{path} was changed since: {what}")]
    Changed {
        /// The file.
        path: String,
        /// What is there instead.
        what: String,
    },
    /// Nothing tells which content a file had.
    #[error(
        "whether {path} was changed since cannot be told: the diff moves it or changes its mode only, and no result says its hash"
    )]
    Unverified {
        /// The file.
        path: String,
    },
    /// The files together are too large.
    #[error("{0}")]
    TooLarge(String),
    /// A file cannot be looked at.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Reads `diff` backwards against `tree`. `known` holds the hashes that the command's result tells of its files.
///
/// # Errors
/// An [`UndoError`]: the diff is none, or the tree is not the one that it led to.
pub fn undo(tree: &Tree, diff: Vec<u8>, known: &BTreeMap<String, Sha256>) -> Result<Undone, UndoError> {
    if diff.is_empty() {
        return Ok(Undone::new());
    }
    let parsed = parse(diff);
    if let Some(fault) = parsed.fault {
        return Err(fault.into());
    }
    let mut now = BTreeMap::new();
    for patch in &parsed.diff.files {
        for name in patch.old.iter().chain(&patch.new) {
            now.insert(name.clone(), look(tree, name)?);
        }
    }
    for patch in &parsed.diff.files {
        stands(patch, &now, known)?;
    }
    let back = parsed.diff.reversed().ok_or(UndoError::NoWayBack)?;
    let outcomes = files::play(&back, Kind::Published, |name| Ok(now.get(name).cloned().flatten()), |_| true);
    let outcomes = outcomes.map_err(|error: FilesError<UndoError>| match error {
        FilesError::Patch(error) => UndoError::Diff(error),
        FilesError::TooLarge(what) => UndoError::TooLarge(what),
        FilesError::Look(error) => error,
    })?;
    let moved: BTreeMap<&Name, &Name> = outcomes
        .iter()
        .filter(|outcome| outcome.is_rename)
        .filter_map(|outcome| Some((outcome.to.as_ref()?, outcome.from.as_ref()?)))
        .collect();
    let mut undone = Undone::new();
    for (name, before) in files::result(&outcomes) {
        let moved_to = moved.get(&name).map(|from| path(from)).transpose()?;
        undone.insert(path(&name)?, File { now: now.remove(&name).flatten(), before, moved_to });
    }
    Ok(undone)
}

fn path(name: &Name) -> Result<RelativePath, UndoError> {
    name.as_str().and_then(|text| RelativePath::parse(text).ok()).ok_or_else(|| UndoError::Path(name.clone()))
}

/// The file at `name`; none where a folder is, or a file above it.
fn look(tree: &Tree, name: &Name) -> Result<Option<Image>, UndoError> {
    match tree.read(&path(name)?) {
        Err(TreeError::NotFolder { .. } | TreeError::NotRegular { kind: "a folder", .. }) => Ok(None),
        other => Ok(other?),
    }
}

/// Whether the tree is what the patch led to.
fn stands(
    patch: &FilePatch,
    now: &BTreeMap<Name, Option<Image>>,
    known: &BTreeMap<String, Sha256>,
) -> Result<(), UndoError> {
    let found = |name: &Name| now.get(name).and_then(Option::as_ref);
    let changed = |name: &Name, what: &str| UndoError::Changed { path: name.to_string(), what: what.to_owned() };
    let left = patch.old.as_ref().filter(|old| patch.new.as_ref() != Some(*old) && !patch.copies);
    if let Some(old) = left.filter(|old| found(old).is_some()) {
        return Err(changed(old, "a file is there again"));
    }
    let Some(new) = &patch.new else { return Ok(()) };
    let Some(image) = found(new) else { return Err(changed(new, "no file is there any more")) };
    // An index line gives the one mode that stays as the old one.
    if let Some(mode) = patch.new_mode.or(patch.old_mode) {
        let wanted = if mode & EXECUTES == 0 { FileMode::Regular } else { FileMode::Executable };
        if image.mode() != wanted {
            return Err(changed(new, &format!("its mode is {}, not {mode:06o}", image.mode().git())));
        }
    }
    let hash = new.as_str().and_then(|text| known.get(text));
    if hash.is_some_and(|hash| *hash != image.sha256()) {
        return Err(changed(new, "it has another content"));
    }
    match &patch.ids {
        Some((_, id)) if GitId::from_hex(id).is_some_and(|id| id.names(&image.content)) => Ok(()),
        Some(_) => Err(changed(new, "it has another content")),
        None if matches!(&patch.body, Body::Text(hunks) if hunks.is_empty())
            && hash.is_none()
            && patch.old.is_some() =>
        {
            Err(UndoError::Unverified { path: new.to_string() })
        }
        // What has hunks and no index line is refused when it is played.
        None => Ok(()),
    }
}
