//! One target's files: from the state in which a crash left them to the one that the journal decided on.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{
    Dir, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt as _, Permissions, PermissionsExt as _,
};
use chrono::{DateTime, TimeDelta, Utc};
use protocol::id::CommandId;
use protocol::path::RelativePath;

use super::Record;
use crate::apply::HiddenNames;
use crate::journal::entry::Mark;
use crate::tree::{Folder, Image, Tree, TreeError, read_in};

/// The mode of a file until it is whole.
const STAGED_MODE: u32 = 0o600;

/// How long after it was recorded a command's files may have been changed by itself: the journal's sync and the changes
/// of its whole group lie in between, on a disk that may be slow.
const APPLYING: TimeDelta = TimeDelta::seconds(60);

/// What file systems write at a time, at the least: all that are in use here count in pages of this size.
const BLOCK_BYTES: usize = 4096;

/// A file that somebody else changed in the meantime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The command that changed it last.
    pub id: CommandId,
    /// The file, relative to its target's root.
    pub path: String,
}

/// One path, and all that the journal knows of it.
#[derive(Debug)]
struct Place<'r> {
    path: RelativePath,
    /// The command that named it last.
    id: &'r CommandId,
    /// The states that it had, or was about to have.
    known: Vec<Option<Mark>>,
    /// The state that it is to have; `None` inside: nothing is to be there.
    wanted: Option<Mark>,
    /// Whether whatever is there is right, unless its volume lost it: the last command on it was applied whole, and the
    /// machine runs since.
    settled: bool,
    /// Whether its volume lost it.
    lost: bool,
    /// When the last command on it began, and by when it was recorded.
    span: (DateTime<Utc>, DateTime<Utc>),
    /// Contents that the journal holds.
    images: Vec<&'r Image>,
    /// Hidden names under which something may be left.
    hidden: Vec<(HiddenNames, usize)>,
}

/// How what is at a place stands to what the journal knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// One of the states that it had, or was about to have.
    Known,
    /// What a power cut may have left of one of them.
    Torn,
    /// Nothing, where something was all the time.
    Missing,
    /// None of these.
    Other,
}

impl Place<'_> {
    fn state(&self, found: Option<&Image>) -> State {
        let sha256 = found.map(Image::sha256);
        if self.known.iter().any(|known| known.map(|known| known.sha256) == sha256) {
            return State::Known;
        }
        match found {
            None => State::Missing,
            Some(found) if is_torn(found, &self.images) => State::Torn,
            Some(_) => State::Other,
        }
    }
}

/// The files of one target.
#[derive(Debug)]
pub(super) struct Files<'r> {
    tree: Tree,
    places: BTreeMap<String, Place<'r>>,
    /// Folders that only commands which are undone have made.
    unwanted_folders: Vec<RelativePath>,
    same_boot: bool,
    pub restored: usize,
    pub foreign: Vec<Foreign>,
}

impl<'r> Files<'r> {
    /// What `records`, in their order, say of the files in `tree`; each with the folder that its paths begin in.
    ///
    /// # Errors
    /// When such a path is too long.
    pub(super) fn of(
        tree: Tree,
        records: &[(Option<RelativePath>, &'r Record)],
        same_boot: bool,
    ) -> Result<Self, TreeError> {
        let mut places: BTreeMap<String, Place<'r>> = BTreeMap::new();
        let mut unwanted_folders = Vec::new();
        for (below, record) in records {
            if !record.stands() {
                for folder in &record.begun.folders {
                    unwanted_folders.push(beneath(below.as_ref(), folder)?);
                }
            }
            for (number, change) in record.begun.changes.iter().enumerate() {
                let id = &record.command.command().id;
                let path = beneath(below.as_ref(), &change.path)?;
                let place = places.entry(path.to_string()).or_insert_with(|| Place {
                    path,
                    id,
                    known: Vec::new(),
                    wanted: change.before,
                    settled: false,
                    lost: false,
                    span: record.span,
                    images: Vec::new(),
                    hidden: Vec::new(),
                });
                let after = change.after.as_ref().map(Mark::of);
                // What the plan saw was there, whatever the command before it had left.
                place.wanted = if record.stands() { after } else { change.before };
                place.settled = record.stands() && record.filed && same_boot;
                place.id = id;
                place.span = record.span;
                place.known.extend([change.before, after]);
                place.images.extend(change.after.iter().chain(&change.undo));
                place.hidden.push((record.names, number));
            }
        }
        Ok(Self { tree, places, unwanted_folders, same_boot, restored: 0, foreign: Vec::new() })
    }

    /// Brings every file to its state: what must go first, then what must come, so that a file and a folder may take each
    /// other's place.
    pub(super) fn settle(&mut self) -> Result<(), TreeError> {
        let mut places = std::mem::take(&mut self.places);
        self.find_lost(&mut places)?;
        for place in places.values().rev().filter(|place| place.wanted.is_none()) {
            self.settle_one(place)?;
        }
        let mut folders = std::mem::take(&mut self.unwanted_folders);
        folders.sort();
        for folder in folders.iter().rev() {
            self.remove_folder(folder)?;
        }
        for place in places.values().filter(|place| place.wanted.is_some()) {
            self.settle_one(place)?;
        }
        places.values().try_for_each(|place| self.remove_hidden(place))
    }

    /// Finds what a volume lost of settled files, before anything is changed: files that are put back make their folders
    /// young. What stands as it was before a command, unchanged since before the command came, is a sign of that, and so
    /// is what was torn. Where there is one, it is also believed of what was changed while commands were applied.
    fn find_lost(&self, places: &mut BTreeMap<String, Place<'r>>) -> Result<(), TreeError> {
        let (mut perhaps, mut count) = (Vec::new(), 0_usize);
        for place in places.values_mut().filter(|place| place.settled) {
            let Ok(found) = self.tree.read(&place.path) else { continue };
            if found.as_ref().map(Mark::of) == place.wanted {
                continue;
            }
            let (begun, applied) = (place.span.0, place.span.1 + APPLYING);
            place.lost = match place.state(found.as_ref()) {
                State::Other => false,
                // Somebody who takes lines away leaves the beginning, too, but cuts it anywhere.
                State::Torn if !found.as_ref().is_some_and(cut_by_disk) => continue,
                State::Torn => self.changed_by(place, applied)?,
                State::Known | State::Missing => self.changed_by(place, begun)?,
            };
            count += usize::from(place.lost);
            if !place.lost && place.state(found.as_ref()) != State::Other && self.changed_by(place, applied)? {
                perhaps.push(&mut place.lost);
            }
        }
        if count > 0 {
            count += perhaps.len();
            perhaps.into_iter().for_each(|lost| *lost = true);
            tracing::warn!(
                files = count,
                "a volume lost power or was set back while the machine runs; what it lost is put back from the journal"
            );
        }
        Ok(())
    }

    fn settle_one(&mut self, place: &Place<'r>) -> Result<(), TreeError> {
        supervision::crash_point!("recovery.file");
        if place.settled && !place.lost {
            return Ok(());
        }
        let found = match self.tree.read(&place.path) {
            Ok(found) => found,
            // A file above it: nothing is there.
            Err(TreeError::NotFolder { .. }) => None,
            Err(error @ TreeError::Io { .. }) => return Err(error),
            // Somebody put something else there.
            Err(_) => return self.leave(place),
        };
        if found.as_ref().map(Mark::of) == place.wanted {
            return Ok(());
        }
        let is_ours = match place.state(found.as_ref()) {
            State::Known => true,
            State::Missing => place.lost,
            State::Torn => !self.same_boot || self.changed_by(place, place.span.1 + APPLYING)?,
            State::Other => false,
        };
        if !is_ours {
            return self.leave(place);
        }
        match place.wanted {
            None => self.remove(place)?,
            Some(wanted) => match self.image(place, wanted)? {
                Some(image) => self.write(place, &image)?,
                None => return self.leave(place),
            },
        }
        self.restored += 1;
        Ok(())
    }

    /// Whether what is at `place` was changed last by `then`: the file, or where there is none the folder that would hold it.
    fn changed_by(&self, place: &Place<'r>, then: DateTime<Utc>) -> Result<bool, TreeError> {
        let mut path = place.path.clone();
        loop {
            let folder = match self.tree.parent(&path) {
                Ok(Folder::Open(folder)) => folder,
                Ok(Folder::Missing(missing)) => {
                    let above = std::iter::successors(path.parent(), RelativePath::parent);
                    let Some(missing) = above.into_iter().find(|it| it.as_str() == missing) else { return Ok(false) };
                    path = missing;
                    continue;
                }
                Err(TreeError::NotFolder { .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            let changed = match folder.symlink_metadata(path.file_name()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => folder.dir_metadata(),
                other => other,
            };
            let changed = changed.map_err(TreeError::io(path.as_str()))?;
            return Ok(changed_at(&changed).is_some_and(|changed| changed <= then));
        }
    }

    fn leave(&mut self, place: &Place<'r>) -> Result<(), TreeError> {
        self.foreign.push(Foreign { id: place.id.clone(), path: place.path.to_string() });
        Ok(())
    }

    /// The content that is wanted: from the journal, or from where the command hid the file that it displaced.
    fn image(&self, place: &Place<'r>, wanted: Mark) -> Result<Option<Image>, TreeError> {
        let held = place.images.iter().find(|image| image.sha256() == wanted.sha256);
        if let Some(image) = held {
            return Ok(Some(Image { content: image.content.clone(), bits: wanted.bits }));
        }
        for (folder, name) in self.hidden(place)? {
            match read_in(&folder, &name, &name) {
                Ok(Some(image)) if image.sha256() == wanted.sha256 => {
                    return Ok(Some(Image { bits: wanted.bits, ..image }));
                }
                Err(error @ TreeError::Io { .. }) => return Err(error),
                _ => {}
            }
        }
        Ok(None)
    }

    fn remove(&self, place: &Place<'r>) -> Result<(), TreeError> {
        let Folder::Open(folder) = self.tree.parent(&place.path)? else { return Ok(()) };
        remove_file(&folder, place.path.file_name()).map_err(TreeError::io(place.path.as_str()))
    }

    fn write(&self, place: &Place<'r>, image: &Image) -> Result<(), TreeError> {
        let folder = self.parent(&place.path)?;
        let io = || TreeError::io(place.path.as_str());
        let Some((names, number)) = place.hidden.last() else { return Ok(()) };
        // Not a name that a displaced file may still have: that goes only when all is in its place.
        let name = format!("{}.new", names.of(*number));
        remove_file(&folder, &name).map_err(io())?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(STAGED_MODE).follow(FollowSymlinks::No);
        let mut file = folder.open_with(&name, &options).map_err(io())?;
        file.write_all(&image.content).map_err(io())?;
        file.set_permissions(Permissions::from_mode(image.bits)).map_err(io())?;
        // The next cut may come before anything else is synced, and this file is younger than what tells that it is ours.
        file.sync_all().map_err(io())?;
        folder.rename(&name, &folder, place.path.file_name()).map_err(io())
    }

    /// Opens the folder that holds `path`, and makes it where it is missing.
    fn parent(&self, path: &RelativePath) -> Result<Dir, TreeError> {
        loop {
            let missing = match self.tree.parent(path)? {
                Folder::Open(folder) => return Ok(folder),
                Folder::Missing(missing) => missing,
            };
            let above = std::iter::successors(path.parent(), RelativePath::parent).find(|it| it.as_str() == missing);
            let Some(missing) = above else { return self.tree.folder(path.parent().as_ref()) };
            let made = self.tree.folder(missing.parent().as_ref())?.create_dir(missing.file_name());
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(TreeError::io(missing.as_str())(error));
                }
                _ => {}
            }
        }
    }

    fn remove_folder(&self, path: &RelativePath) -> Result<(), TreeError> {
        let Ok(Folder::Open(parent)) = self.tree.parent(path) else { return Ok(()) };
        match parent.remove_dir(path.file_name()) {
            // Not empty, gone, or no folder: it is somebody's, or nobody's.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Err(TreeError::io(path.as_str())(error)),
            _ => Ok(()),
        }
    }

    /// The hidden files that a crash may have left of the commands on `place`.
    fn hidden(&self, place: &Place<'r>) -> Result<Vec<(Dir, String)>, TreeError> {
        let mut found = Vec::new();
        let mut folder = Some(place.path.clone());
        while let Some(path) = folder {
            folder = path.parent();
            let Ok(dir) = self.tree.folder(folder.as_ref()) else { continue };
            for (names, number) in &place.hidden {
                for name in [names.of(*number), format!("{}.new", names.of(*number))] {
                    if dir.symlink_metadata(&name).is_ok() {
                        found.push((dir.try_clone().map_err(TreeError::io(place.path.as_str()))?, name));
                    }
                }
            }
        }
        Ok(found)
    }

    fn remove_hidden(&self, place: &Place<'r>) -> Result<(), TreeError> {
        for (folder, name) in self.hidden(place)? {
            match remove_file(&folder, &name) {
                // Somebody exchanged a folder for the file: theirs, and no reason not to start.
                Err(_) if folder.symlink_metadata(&name).is_ok_and(|it| it.is_dir()) => {
                    tracing::error!(path = %place.path, name, "somebody's folder has a hidden name of the bridge near this path; it is left there");
                }
                other => other.map_err(TreeError::io(place.path.as_str()))?,
            }
        }
        Ok(())
    }
}

/// The path of what lies at `path` in the folder `below`; `None` is the root.
fn beneath(below: Option<&RelativePath>, path: &RelativePath) -> Result<RelativePath, TreeError> {
    let Some(below) = below else { return Ok(path.clone()) };
    let joined = format!("{below}/{path}");
    RelativePath::parse(&joined).map_err(|_| TreeError::TooLarge { path: joined, what: "is too long".to_owned() })
}

fn remove_file(folder: &Dir, name: &str) -> io::Result<()> {
    match folder.remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// When a file or folder was last changed in any way. Nobody can set that back.
fn changed_at(metadata: &Metadata) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(metadata.ctime(), u32::try_from(metadata.ctime_nsec()).ok()?)
}

/// Whether the end of what is left is a disk's doing: nothing is left, or whole blocks, or zeros in the place of others.
fn cut_by_disk(found: &Image) -> bool {
    found.content.len().is_multiple_of(BLOCK_BYTES) || found.content.contains(&0)
}

/// Whether `found` is what a power cut may have left of one of `images`: its beginning, or less, with zeros for what did
/// not reach the disk.
fn is_torn(found: &Image, images: &[&Image]) -> bool {
    images.iter().any(|image| {
        let mut pairs = found.content.iter().zip(image.content.iter());
        found.content.len() <= image.content.len() && pairs.all(|(found, whole)| found == whole || *found == 0)
    })
}
