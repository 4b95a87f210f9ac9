//! What was published stays published: somebody's commit that drops or changes filed artifacts, here or upstream, is
//! answered by one commit that puts them back. Their commit stays in history, and so does whatever else it changed.
//!
//! Trees are compared by their ids: a folder that is the same on both sides is never read, one that is gone is put back
//! by its id.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use gix::ObjectId;
use gix::objs::Kind;

use crate::commit;
use crate::core::{Core, LOG_PATH};
use crate::error::WorkError;
use crate::incoming::is_private;
use crate::integrate::Refusal;
use crate::merge::{Change, diff, leaf_at};
use crate::objects::Store;
use crate::refs::{self, BASE, UPSTREAM};
use crate::roll::{self, Day};
use crate::safe_path::{KEPT, SafePath};
use crate::tree::{FOLDER, Leaf, RawTree, SafeTree, Sink, Trees, serialize};

/// What the messages of the bridge's own commits begin with.
pub(crate) const OURS: &[u8] = b"bridge: ";

/// The commit's message.
pub(crate) const SUBJECT: &str = "bridge: put back what was published";

/// The root `new` with all that `published` holds in the kept folders; what only `new` has there stays, too.
///
/// # Errors
/// When a tree cannot be read or written.
pub fn keep<S: Trees + Sink>(store: &mut S, published: ObjectId, new: ObjectId) -> Result<ObjectId, WorkError> {
    if published == new {
        return Ok(new);
    }
    let old = store.tree(published)?;
    let mut root = store.tree(new)?;
    let mut changed = false;
    for name in KEPT {
        let Some(folder) = old.get(name) else { continue };
        let found = root.get(name).map(|leaf| leaf.id);
        let id = union(store, folder.id, found, name)?;
        let id = in_one_place(store, [Some(folder.id), found], id, name)?;
        if found != Some(id) {
            changed = true;
            // A file or link in the folder's place gives way.
            root.remove(name.strip_suffix(b"/").unwrap_or(name));
            root.insert(name.to_vec(), Leaf { mode: FOLDER, id });
        }
    }
    if changed { put(store, &root, b"") } else { Ok(new) }
}

fn put<S: Sink>(store: &mut S, tree: &RawTree, path: &[u8]) -> Result<ObjectId, WorkError> {
    store.put_tree(path, serialize(tree.iter().map(|(name, leaf)| (name.as_slice(), *leaf))))
}

fn union<S: Trees + Sink>(
    store: &mut S,
    old: ObjectId,
    new: Option<ObjectId>,
    path: &[u8],
) -> Result<ObjectId, WorkError> {
    let Some(new) = new.filter(|new| *new != old) else { return Ok(old) };
    let (before, mut now) = (store.tree(old)?, store.tree(new)?);
    let names: BTreeSet<&Vec<u8>> = before.keys().collect();
    let mut changed = false;
    for name in names {
        let (Some(was), is) = (before.get(name).copied(), now.get(name).copied()) else { continue };
        let mut kept = was;
        if let (true, Some(is)) = (was.mode == FOLDER, is) {
            kept.id = union(store, was.id, Some(is.id), &[path, name.as_slice()].concat())?;
        }
        if is == Some(kept) {
            continue;
        }
        changed = true;
        match name.strip_suffix(b"/") {
            Some(file) => drop(now.remove(file)),
            None => drop(now.remove(&[name.as_slice(), b"/"].concat())),
        }
        now.insert(name.clone(), kept);
    }
    if changed { put(store, &now, path) } else { Ok(new) }
}

/// A folder without the flat files that lie in one of its segments, too: one side had rolled them over, the other had
/// not, or no more. Only segments that differ are looked at.
fn in_one_place<S: Trees + Sink>(
    store: &mut S,
    [published, new]: [Option<ObjectId>; 2],
    id: ObjectId,
    path: &[u8],
) -> Result<ObjectId, WorkError> {
    let mut folder = store.tree(id)?;
    let before = folder.len();
    for change in diff(store, published, new)? {
        let Some((segment, name)) = std::str::from_utf8(&change.path).ok().and_then(|path| path.rsplit_once('/'))
        else {
            continue;
        };
        let (day, number) = segment.rsplit_once('/').unwrap_or_default();
        let rolled = Day::parse(day).is_some() && roll::number(number).is_some();
        if rolled && folder.get(name.as_bytes()).copied() == change.old.or(change.new) {
            folder.remove(name.as_bytes());
        }
    }
    if folder.len() == before { Ok(id) } else { put(store, &folder, path) }
}

/// Whether `new` holds the log that `published` holds, with what came since, or rolled it over.
///
/// # Errors
/// When a tree or a log cannot be read.
pub(crate) fn log_goes_on(store: &Store, published: ObjectId, new: ObjectId) -> Result<bool, WorkError> {
    let log = |root: ObjectId| -> Result<Vec<u8>, WorkError> {
        let leaf = leaf_at(store, root, LOG_PATH.as_bytes())?;
        leaf.map_or(Ok(Vec::new()), |leaf| store.read(leaf.id, Kind::Blob))
    };
    let (was, is) = (log(published)?, log(new)?);
    if is.starts_with(&was) {
        return Ok(true);
    }
    let folder = |root: ObjectId| Ok::<_, WorkError>(store.tree(root)?.get(&b"logs/"[..]).map(|leaf| leaf.id));
    for change in diff(store, folder(published)?, folder(new)?)? {
        let rolled = change.new.filter(|_| change.old.is_none() && change.path.contains(&b'/'));
        if let Some(leaf) = rolled
            && store.read(leaf.id, Kind::Blob)?.starts_with(&was)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `root` with the log that `other` holds, or without where that has none.
///
/// # Errors
/// When a tree cannot be read or written.
pub(crate) fn with_log_of(store: &mut Store, root: ObjectId, other: ObjectId) -> Result<ObjectId, WorkError> {
    let leaf = leaf_at(store, other, LOG_PATH.as_bytes())?;
    let mut top = store.tree(root)?;
    let Some(logs) = top.get(&b"logs/"[..]).copied() else { return Ok(root) };
    let mut folder = store.tree(logs.id)?;
    if folder.get(&b"bridge.log"[..]).copied() == leaf {
        return Ok(root);
    }
    match leaf {
        Some(leaf) => drop(folder.insert(b"bridge.log".to_vec(), leaf)),
        None => drop(folder.remove(&b"bridge.log"[..])),
    }
    if folder.is_empty() {
        top.remove(&b"logs/"[..]);
    } else {
        let id = put(store, &folder, b"logs/")?;
        top.insert(b"logs/".to_vec(), Leaf { mode: FOLDER, id });
    }
    put(store, &top, b"")
}

/// `root` with the log that `other` holds, and of its earlier parts only those that `other` holds.
///
/// # Errors
/// When a tree cannot be read or written.
fn with_logs_of(store: &mut Store, root: ObjectId, other: ObjectId) -> Result<ObjectId, WorkError> {
    let root = with_log_of(store, root, other)?;
    let folder = |root: ObjectId| Ok::<_, WorkError>(store.tree(root)?.get(&b"logs/"[..]).map(|leaf| leaf.id));
    let mut tree = SafeTree::open(Some(root), store)?;
    let mut changed = false;
    for change in diff(store, folder(other)?, folder(root)?)? {
        let path = is_new_part(&change).then(|| std::str::from_utf8(&change.path).ok()).flatten();
        if let Some(Ok(path)) = path.map(|path| SafePath::parse(&format!("logs/{path}"))) {
            changed |= tree.remove(&path, store)?;
        }
    }
    if changed { tree.write(store) } else { Ok(root) }
}

/// Whether an earlier part of the log is there that was not there before.
fn is_new_part(change: &Change) -> bool {
    let name = change.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    change.old.is_none() && name.starts_with(b"bridge-") && name.ends_with(b".log")
}

/// The root without what somebody put in the place of the executor's recovery state, which is never published: a person's
/// checkout would write it over the one that is there.
///
/// # Errors
/// When a tree cannot be read or written.
pub(crate) fn without_journal<S: Trees + Sink>(store: &mut S, root: ObjectId) -> Result<ObjectId, WorkError> {
    let mut top = store.tree(root)?;
    let Some(meta) = top.get(&b"meta/"[..]).copied() else { return Ok(root) };
    let mut folder = store.tree(meta.id)?;
    let before = folder.len();
    folder.retain(|name, _| !is_private(&[b"meta/", name.as_slice()].concat()));
    if folder.len() == before {
        return Ok(root);
    }
    if folder.is_empty() {
        top.remove(&b"meta/"[..]);
    } else {
        let id = put(store, &folder, b"meta/")?;
        top.insert(b"meta/".to_vec(), Leaf { mode: FOLDER, id });
    }
    put(store, &top, b"")
}

/// The root without the kept folders.
///
/// # Errors
/// When it cannot be read or written.
pub(crate) fn without_kept<S: Trees + Sink>(store: &mut S, root: ObjectId) -> Result<ObjectId, WorkError> {
    let mut root = store.tree(root)?;
    root.retain(|name, _| !KEPT.contains(&name.as_slice()));
    put(store, &root, b"")
}

impl Core {
    /// Puts back what a commit of somebody else's dropped or changed, in one commit, if there is anything.
    ///
    /// # Errors
    /// When it cannot be committed now; it is done before whatever is committed next.
    pub(crate) fn put_back(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        if self.behind {
            self.put_on_pushed(now)?;
        }
        let (Some(published), Some(head)) = (self.keep, self.head) else { return Ok(()) };
        let found = self.tree_of(head)?;
        let tree = keep(&mut self.store, published, found)?;
        let tree = with_logs_of(&mut self.store, tree, published)?;
        if tree != found {
            tracing::error!(
                commit = %head.to_hex_with_len(10),
                "somebody's commit dropped or changed what was published: it is put back in one commit"
            );
            let signature = self.signature(now);
            let message = commit::message(SUBJECT, &self.instance);
            let tip = self.store.commit(commit::make(tree, Some(head), &signature, &message))?;
            let moved = self.publish(Some(tip), 1, now).and_then(|()| self.load(Some(tip)));
            if moved.is_err() {
                self.loaded = false;
            }
            moved?;
        }
        self.keep = None;
        Ok(())
    }

    /// What was pushed is no longer in the branch: it comes back before the log tells what lacks its commit.
    fn put_on_pushed(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        let Some(base) = refs::read(self.store.repo(), BASE)? else { return Ok(()) };
        match self.contain(base, now) {
            Ok(anything) => {
                if anything {
                    self.count_unpushed().inspect_err(|_| self.loaded = false)?;
                }
            }
            // Commits stay local, and the next round towards the remote says why.
            Err(Refusal::Blocked(why)) => tracing::error!(why, "not put back on what was pushed"),
            Err(Refusal::Work(error)) => {
                self.loaded = false;
                return Err(error);
            }
        }
        self.behind = false;
        self.start_recovery()
    }

    /// Whether the branch lacks what was pushed, though the remote has it still.
    pub(crate) fn lacks_pushed(&self) -> Result<bool, WorkError> {
        let repo = self.store.repo();
        let (Some(head), Some(base)) = (self.head, refs::read(repo, BASE)?) else { return Ok(false) };
        if self.is_ancestor(base, head)? {
            return Ok(false);
        }
        // Where the remote was rewritten, a person may have put the branch on the new history.
        let tracking = self.tracking();
        for name in [UPSTREAM].into_iter().chain(tracking.as_deref()) {
            if let Some(seen) = refs::read(repo, name).ok().flatten()
                && !self.is_ancestor(base, seen)?
                && !self.is_ancestor(seen, base)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A branch that somebody moved: looks whether what was published is still in it. `before` is where it was left.
    pub(crate) fn look_after(&mut self, before: Option<ObjectId>) -> Result<(), WorkError> {
        let moved = before != self.head;
        self.foreign |= moved;
        if moved {
            self.index.foreign = self.head;
        }
        let continued = match (before, self.head) {
            (Some(before), Some(head)) if moved => self.is_ancestor(before, head)?,
            _ => false,
        };
        if moved && !continued && self.lacks_pushed()? {
            self.behind = true;
            return Ok(());
        }
        let committed = self.committed_log()?;
        if continued && let Some(before) = before {
            let published = self.tree_of(before)?;
            self.keep.get_or_insert(published);
            // The log comes back as it was published with the rest: lines that it lost have their commits, and lines that
            // somebody was quicker to commit get theirs.
            return Ok(());
        }
        if committed != self.log {
            tracing::warn!(branch = self.branch, "somebody else changed the log that is committed");
            self.start_recovery()?;
        }
        Ok(())
    }

    /// At the start: the branch holds another log than when it was left, and all that came since is others'.
    pub(crate) fn open_kept(&mut self, left: Option<ObjectId>, now: DateTime<Utc>) -> Result<(), WorkError> {
        let (Some(left), Some(head)) = (left, self.head) else { return Ok(()) };
        if left != head {
            self.index.foreign = Some(head);
        }
        if left == head || !self.is_ancestor(left, head)? {
            return Ok(());
        }
        // What is pruned while the bridge is stopped stays away; the log itself goes on where it was.
        let same = |core: &Self, commit| -> Result<bool, WorkError> {
            let logs = |id| Ok::<_, WorkError>(core.store.tree(core.tree_of(id)?)?.get(&b"logs/"[..]).map(|l| l.id));
            let moved = |change: &Change| change.path == b"bridge.log" || is_new_part(change);
            Ok(!diff(&core.store, logs(commit)?, logs(head)?)?.iter().any(moved))
        };
        if same(self, left)? {
            return Ok(());
        }
        // A crash may have come between the bridge's last commits and its noting them.
        let range = format!("{left}..{head}");
        let list = self.git.check(&["log", "--format=%H %s", &range, "--"])?;
        let ours = list.split(|byte| *byte == b'\n').find_map(|line| {
            let (id, subject) = line.split_at_checked(line.iter().position(|byte| *byte == b' ')?)?;
            let subject = subject.get(1..)?;
            subject.starts_with(OURS).then(|| ObjectId::from_hex(id).ok()).flatten()
        });
        let last = ours.unwrap_or(left);
        let published = self.tree_of(last)?;
        if !same(self, last)? && log_goes_on(&self.store, self.tree_of(left)?, published)? {
            self.keep = Some(published);
            self.put_back(now)?;
        }
        Ok(())
    }
}
