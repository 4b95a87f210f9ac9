//! References that are damaged, or name an object that is not there. A branch is put back from what is certain: its
//! reflog, then what is known of the remote. What is the bridge's own, and what a fetch brings again, is set aside alone;
//! so is a tag, which nothing remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use gix::ObjectId;
use gix::objs::Exists;

use super::Mender;
use super::head::Known;
use super::places::{self, Aside, refused, write_durably};
use super::references::{self, Packed, Value};
use super::reflog;
use crate::error::{OpenError, WorkError};
use crate::refs::{BASE, INDEXED, UPSTREAM};

/// All references, and what is wrong with them.
pub(crate) struct Found {
    loose: BTreeMap<String, Value>,
    packed: Packed,
    /// Those that cannot stay as they are, and why.
    broken: BTreeMap<String, &'static str>,
}

impl Found {
    /// Reads all of them.
    pub(crate) fn read(mender: &Mender) -> Result<Self, WorkError> {
        let (places, kind) = (&mender.places, mender.kind);
        let (loose, packed) = (references::loose(places, kind)?, references::packed(places, kind)?);
        let mut broken = BTreeMap::new();
        for (name, value) in &loose {
            match value {
                Value::Damaged(how) => drop(broken.insert(name.clone(), *how)),
                Value::Id(id) if !mender.odb.exists(id) => drop(broken.insert(name.clone(), MISSING)),
                Value::Id(_) | Value::Symbolic(_) => {}
            }
        }
        // What a file of its own says counts, and what is packed beside it may be long gone.
        for (name, (id, _)) in packed.refs.iter().filter(|(name, _)| !loose.contains_key(*name)) {
            if !mender.odb.exists(id) {
                broken.insert(name.clone(), MISSING);
            }
        }
        Ok(Self { loose, packed, broken })
    }

    /// What they lead to, as far as that can be told.
    pub(crate) fn known(&self) -> Known {
        let packed = self.packed.refs.iter().map(|(name, (id, _))| (name.clone(), Some(*id)));
        let mut known: Known = packed.collect();
        for (name, value) in &self.loose {
            let id = if let Value::Id(id) = value { Some(*id) } else { None };
            known.insert(name.clone(), id);
        }
        for name in self.broken.keys() {
            known.insert(name.clone(), None);
        }
        known
    }

    /// All objects that they name.
    pub(crate) fn tips(&self) -> BTreeSet<ObjectId> {
        self.known().into_values().flatten().collect()
    }

    /// Whether something has to be done. `head` is the branch that is checked out: one without a file, but with a log, is
    /// lost.
    pub(crate) fn is_damaged(&self, mender: &Mender, head: Option<&str>) -> bool {
        !self.broken.is_empty() || self.packed.damage.is_some() || head.is_some_and(|name| self.is_lost(mender, name))
    }

    fn is_lost(&self, mender: &Mender, branch: &str) -> bool {
        let known = self.loose.contains_key(branch) || self.packed.refs.contains_key(branch);
        !known && !mender.moves(branch).is_empty()
    }
}

const MISSING: &str = "naming an object that is not there";

/// Mends them; `head` is the branch that is checked out.
pub(crate) fn mend(mender: &Mender, aside: &mut Aside, head: Option<&str>) -> Result<(), OpenError> {
    let found = Found::read(mender).map_err(|e| mender.unreadable(&e))?;
    let mut lost: Vec<(String, &'static str)> = found.broken.iter().map(|(name, how)| (name.clone(), *how)).collect();
    if let Some(head) = head.filter(|head| found.is_lost(mender, head)) {
        lost.push((head.to_owned(), "missing"));
    }
    set_aside(mender, aside, &found).map_err(|e| mender.unreadable(&e))?;
    for (name, how) in lost {
        if !name.starts_with("refs/heads/") {
            let again = match name.as_str() {
                own if own.starts_with("refs/ghost-bridge/") => "the bridge makes it again",
                theirs if theirs.starts_with("refs/remotes/") => "a fetch brings it again",
                _ => "nothing here remembers it: fetch it, or make it again by hand",
            };
            tracing::warn!(reference = name, how, again, "set aside a reference that git could not use");
            continue;
        }
        let checked_out = head == Some(&name);
        let put_back = if checked_out { tip(mender, &name) } else { Ok(logged(mender, &name).map(|(it, _)| it)) };
        match put_back {
            Ok(Some((id, from))) => {
                write_durably(&mender.places.common.join(&name), format!("{id}\n").as_bytes())
                    .map_err(|e| mender.unreadable(&e))?;
                tracing::warn!(reference = name, how, from, commit = %id, "put back a branch that git could not use");
            }
            Ok(None) if checked_out => {
                aside.put_back();
                return Err(nothing_tells(mender, &name, how));
            }
            Ok(None) => tracing::warn!(
                reference = name,
                how,
                "set aside a branch that git could not use; no log of it is left: make it again by hand"
            ),
            Err(Unanswered) => {
                aside.put_back();
                return Err(unanswered(mender, &name, how));
            }
        }
    }
    Ok(())
}

/// Takes the damaged files away; of the packed references those stay that can be true.
fn set_aside(mender: &Mender, aside: &mut Aside, found: &Found) -> Result<(), WorkError> {
    for name in found.broken.keys().filter(|name| found.loose.contains_key(*name)) {
        aside.take(&mender.places.common.join(name))?;
    }
    let mut packed = found.packed.clone();
    packed.refs.retain(|name, _| !found.broken.contains_key(name));
    if packed.damage.is_none() && packed.refs.len() == found.packed.refs.len() {
        return Ok(());
    }
    let file = references::packed_path(&mender.places);
    let how = packed.damage.unwrap_or(MISSING);
    let kept = packed.refs.len();
    if file.exists() {
        aside.take(&file)?;
    }
    write_durably(&file, &packed.bytes())?;
    tracing::warn!(
        file = %file.display(),
        how,
        kept,
        "references could not be read, or named what is not there: the rest stays; branches of the remote and tags come \
         again with `git fetch --tags`"
    );
    Ok(())
}

/// A commit, and what tells that a branch was there.
type Told = (ObjectId, String);

/// The remote has to be asked, and does not answer.
struct Unanswered;

/// The newest commit of a branch's log that is whole, and whether that log can have lost nothing.
fn logged(mender: &Mender, reference: &str) -> Option<(Told, bool)> {
    let all = mender.moves(reference);
    let moves = if reference == "HEAD" { reflog::since_switch(&all) } else { &all };
    let newest = moves.iter().rev().map(|step| step.to).find(|id| mender.is_whole(*id))?;
    let sound = mender.log(reference).is_some_and(|log| reflog::without_damage(&log).is_none());
    let last = moves.last().is_some_and(|step| step.to == newest);
    Some(((newest, format!("logs/{reference}")), sound && last))
}

/// Where the branch that is checked out was: by its log, by what the bridge noted of it if that descends from there, by the
/// remote. What was noted of another branch, or of nobody knows which, tells nothing.
/// The remote is asked where nothing else is certain: what it has must not be made a second time from the audit log.
fn tip(mender: &Mender, branch: &str) -> Result<Option<Told>, Unanswered> {
    let logged = logged(mender, branch).or_else(|| logged(mender, "HEAD").map(|(told, _)| (told, false)));
    let sound = logged.as_ref().is_some_and(|(_, sound)| *sound);
    let known = || Found::read(mender).map(|found| found.known()).unwrap_or_default();
    let noted = |known: &Known, name: &str| {
        let id = known.get(name).copied().flatten().filter(|id| mender.is_whole(*id))?;
        Some((id, name.to_owned()))
    };
    let newer = |best: Told, next: Told| if mender.descends(next.0, best.0) { next } else { best };
    let here = known();
    let of_it = crate::noted::branch(&mender.places.common).as_deref() == Some(branch);
    let own: Vec<Told> = [BASE, INDEXED].into_iter().filter(|_| of_it).filter_map(|name| noted(&here, name)).collect();
    let certain = sound || !own.is_empty();
    let told = logged.map(|(told, _)| told).into_iter().chain(own).reduce(newer);
    if certain {
        return Ok(told);
    }
    if mender.remote().is_none() {
        let tail = format!("/{}", branch.trim_start_matches("refs/heads/"));
        let seen = here.keys().filter(|name| name.starts_with("refs/remotes/") && name.ends_with(&tail));
        let seen: Vec<Told> = seen.filter_map(|name| noted(&here, name)).collect();
        return Ok(told.into_iter().chain(seen).reduce(newer));
    }
    if !mender.fetch(branch, &[]) {
        return Err(Unanswered);
    }
    Ok(told.into_iter().chain(noted(&known(), UPSTREAM)).reduce(newer))
}

fn unanswered(mender: &Mender, branch: &str, how: &str) -> OpenError {
    let remedy = format!(
        "and without the remote {}, which does not answer or has no such branch, it is not certain where it was: start again \
         when it does",
        mender.remote().unwrap_or_default()
    );
    refused(&mender.places.common.join(branch), how, remedy)
}

fn nothing_tells(mender: &Mender, branch: &str, how: &str) -> OpenError {
    let file: PathBuf = mender.places.common.join(branch);
    let cloud = mender.places.cloud.display();
    let remedy = format!(
        "and neither a reflog nor the remote's branch tells where it was: find its last commit with `git -C {cloud} fsck \
         --lost-found`, or fetch it, then `rm -f {}; git -C {cloud} update-ref {branch} COMMIT`",
        file.display()
    );
    refused(&file, how, remedy)
}

impl Mender {
    /// What a reference's log remembers, oldest first; nothing where it cannot be read.
    pub(super) fn moves(&self, reference: &str) -> Vec<reflog::Move> {
        self.log(reference).map(|log| reflog::moves(&log)).unwrap_or_default()
    }

    fn log(&self, reference: &str) -> Option<Vec<u8>> {
        let base = if reference == "HEAD" { &self.places.git_dir } else { &self.places.common };
        places::read(&base.join("logs").join(reference)).ok().flatten()
    }
}
