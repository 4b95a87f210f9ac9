//! The published repository as the publisher holds it, and the commits that are made on it.
//!
//! One value, used by one thread at a time. Every step begins by looking whether the branch is still where it was left;
//! whoever moved it meanwhile is respected. A step that fails leaves nothing half-done that counts: objects that no
//! reference names are no harm, and the in-memory state is read anew.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use chrono::{DateTime, Utc};
use gix::ObjectId;
use gix::objs::Kind;
use protocol::digest::Sha256;

use crate::ahead::Ahead;
use crate::apart::Apart;
use crate::audit::{self, Link};
use crate::commit::{self, Signer};
use crate::config::PublisherConfig;
use crate::destination::Destination;
use crate::error::WorkError;
use crate::files::{Root, Stamp};
use crate::git::Git;
use crate::git::settings::Settings;
use crate::index::Keeper;
use crate::objects::{MAX_BLOB_BYTES, Store};
use crate::open::open_repository;
use crate::pending::Pending;
use crate::recovery::Recovery;
use crate::refs;
use crate::retry_index::RetryIndex;
use crate::rollover::Rolling;
use crate::safe_path::SafePath;
use crate::tree::{FILE, Leaf, SafeTree};

/// The audit log's place.
pub(crate) const LOG_PATH: &str = "logs/bridge.log";

/// How many recovered lines are remembered at least, to know them again when their message comes late.
const REMEMBERED: usize = 100_000;

/// How often a batch is put on a branch that somebody else keeps moving, before that counts as trouble.
const MOVED_TRIES: usize = 5;

/// How much of a batch is done with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Items, from the first on, that have their commits.
    pub items: usize,
    /// Of those, the ones that got it just now; the others had it from a recovery.
    pub committed: u64,
}

/// A repository that is being published.
pub struct Core {
    pub(crate) config: PublisherConfig,
    pub(crate) root: Root,
    pub(crate) store: Store,
    pub(crate) git: Git,
    pub(crate) signer: Signer,
    /// Which bridge this is, as its commits name it.
    pub(crate) instance: String,
    /// Whether upstream was taken in since the start: what another bridge pushed before that is past, what it pushes
    /// afterwards makes it a rival.
    pub(crate) acquainted: bool,
    /// Full name of the branch that was checked out at the start.
    pub(crate) branch: String,
    pub(crate) head: Option<ObjectId>,
    /// Whether `head`, `tree` and `ahead` are what the disk says.
    pub(crate) loaded: bool,
    pub(crate) tree: SafeTree,
    /// The committed log's bytes.
    pub(crate) log: Vec<u8>,
    /// The last line's hash, where it is known.
    pub(crate) last_hash: Option<String>,
    pub(crate) recovery: Option<Recovery>,
    pub(crate) remembered: [HashSet<Sha256>; 2],
    /// The line before which a gap was found and looked after once.
    pub(crate) gap_at: Option<String>,
    /// What the remote does not have.
    pub(crate) ahead: Ahead,
    /// The last commit that the remote is known to have.
    pub(crate) base: Option<ObjectId>,
    /// Whether `head` descends from `base`, so that a push only adds.
    pub(crate) descends: bool,
    /// Commits that the remote lacks beyond those that are counted from `base`: where it was rewritten.
    pub(crate) excess: u64,
    /// Whether the remote was seen to lack the branch, whatever it had before.
    pub(crate) absent: bool,
    /// What the branch was put on and the work tree does not have yet: from which commit to which.
    pub(crate) owed: Option<(Option<ObjectId>, ObjectId)>,
    /// Files that upstream changed and that were changed here, too.
    pub(crate) apart: Apart,
    /// What `summaries/` and `context/` held when they were last looked at.
    pub(crate) seen: BTreeMap<String, Stamp>,
    pub(crate) retries: RetryIndex,
    pub(crate) rolling: Rolling,
    pub(crate) index: Keeper,
    /// The tree whose artifacts somebody's commit may have dropped: they are put back before anything is committed.
    pub(crate) keep: Option<ObjectId>,
    /// Whether somebody moved the branch since it was last known to contain what was pushed.
    pub(crate) foreign: bool,
    /// Whether the branch lacks what was pushed.
    pub(crate) behind: bool,
    /// What git's configuration said when it was last read.
    pub(crate) settings: Settings,
    /// Whither commits are published.
    pub(crate) destination: Option<Destination>,
}

impl Core {
    /// Commits that the remote does not have.
    #[must_use]
    pub fn unpushed(&self) -> u64 {
        self.ahead.commits() + self.excess
    }

    /// Whether there is log on disk that has no commits yet.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.recovery.is_some()
    }

    /// The branch's short name.
    #[must_use]
    pub fn branch_name(&self) -> &str {
        refs::short(&self.branch)
    }

    pub(crate) fn signature(&self, now: DateTime<Utc>) -> String {
        self.signer.at(now.timestamp())
    }

    /// Looks whether the branch is where it was left, and reads what changed if not.
    pub(crate) fn sync_head(&mut self) -> Result<(), WorkError> {
        let found = refs::head_branch(self.store.repo())?;
        if found.as_deref() != Some(self.branch.as_str()) {
            let found = found.unwrap_or_else(|| "HEAD is detached".to_owned());
            return Err(WorkError::HeadElsewhere { expected: self.branch.clone(), found });
        }
        let head = refs::read(self.store.repo(), &self.branch)?;
        if !self.loaded || head != self.head {
            let before = self.head;
            self.load(head)?;
            self.look_after(before)?;
        }
        Ok(())
    }

    /// Reads the tree of `head`.
    pub(crate) fn load(&mut self, head: Option<ObjectId>) -> Result<(), WorkError> {
        self.load_tree(head)?;
        self.count_unpushed().inspect_err(|_| self.loaded = false)
    }

    /// The same without counting what is ahead.
    pub(crate) fn load_tree(&mut self, head: Option<ObjectId>) -> Result<(), WorkError> {
        self.loaded = false;
        self.store.discard();
        self.rolling.reset();
        let tree = head.map(|id| self.tree_of(id)).transpose()?;
        self.tree = SafeTree::open(tree, &self.store)?;
        self.head = head;
        self.loaded = true;
        Ok(())
    }

    /// Lets go of what was mapped into memory to be read, if that is much.
    pub(crate) fn let_go(&mut self, much: usize) {
        if self.store.bytes_read() >= much {
            match open_repository(&self.config.cloud) {
                Ok(repo) => self.store.opened_anew(repo),
                Err(error) => tracing::debug!(%error, "the repository is opened anew later"),
            }
        }
    }

    pub(crate) fn tree_of(&self, commit: ObjectId) -> Result<ObjectId, WorkError> {
        Ok(commit::parse(commit, &self.store.read(commit, Kind::Commit)?)?.tree)
    }

    /// The tree, or the one that holds nothing.
    pub(crate) fn tree_or_empty(&self, tree: Option<ObjectId>) -> ObjectId {
        tree.unwrap_or_else(|| ObjectId::empty_tree(self.store.ids()))
    }

    /// The log's bytes in the tree; empty where there is none.
    pub(crate) fn committed_log(&mut self) -> Result<Vec<u8>, WorkError> {
        match self.get(LOG_PATH)? {
            Some(leaf) => self.store.read(leaf.id, Kind::Blob),
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Option<Leaf>, WorkError> {
        let Ok(path) = SafePath::parse(path) else { return Ok(None) };
        self.tree.get(&path, &self.store)
    }

    /// Commits a batch, one commit each; tells how many of its items are settled (a gap in the log may end it early).
    ///
    /// # Errors
    /// When nothing of the batch was committed.
    pub fn commit(&mut self, batch: &[Pending], now: DateTime<Utc>) -> Result<Settled, WorkError> {
        supervision::fault_point!("publisher.effect", Err(WorkError::object("commit", "a test said so")));
        let mut done = self.commit_batch(batch, now);
        for _ in 1..MOVED_TRIES {
            // Somebody commits by hand at the same time: the batch goes on top.
            if !matches!(done, Err(WorkError::Reference { .. })) {
                break;
            }
            done = self.commit_batch(batch, now);
        }
        done
    }

    fn commit_batch(&mut self, batch: &[Pending], now: DateTime<Utc>) -> Result<Settled, WorkError> {
        self.sync_head()?;
        self.put_back(now)?;
        if self.recovery.is_some() {
            return Ok(Settled::default());
        }
        // While the branch holds the log as it was committed: what is not written yet cannot be read.
        self.known_flat(now)?;
        let before = (self.log.clone(), self.last_hash.clone());
        let settled = self.commit_all(batch, now);
        match settled {
            Ok(settled) => {
                self.settle_retries(batch.iter().take(settled.items));
                Ok(settled)
            }
            Err(error) => {
                (self.log, self.last_hash) = before;
                self.loaded = false;
                Err(error)
            }
        }
    }

    fn commit_all(&mut self, batch: &[Pending], now: DateTime<Utc>) -> Result<Settled, WorkError> {
        let mut tip = self.head;
        let mut settled = Settled::default();
        let mut made = 0;
        let mut gap = false;
        for item in batch {
            if !self.knows(&item.audit_line) {
                if self.gap_before(&item.audit_line) {
                    gap = true;
                    break;
                }
                // A recovery may have come upon the segment before the message did.
                if let Some(to) = &item.log_rolled_to
                    && self.get(to)?.is_none()
                {
                    tip = self.roll_log(to, tip, now)?;
                    made += 1;
                }
                tip = Some(self.one(item, tip, now)?);
                made += 1;
                if let Some(rolled) = self.roll_over(tip, now)? {
                    tip = Some(rolled);
                    made += 1;
                }
                settled.committed += 1;
            }
            settled.items += 1;
        }
        self.publish(tip, made, now)?;
        if gap {
            tracing::warn!("the log on disk is ahead of what was announced: its commits are derived from it");
            self.start_recovery()?;
        }
        Ok(settled)
    }

    /// Whether a line has its commit already.
    fn knows(&self, line: &str) -> bool {
        let id = Sha256::of(line.as_bytes());
        self.remembered.iter().any(|lines| lines.contains(&id))
    }

    pub(crate) fn remember(&mut self, line: &[u8]) {
        let [recent, older] = &mut self.remembered;
        recent.insert(Sha256::of(line));
        if recent.len() >= REMEMBERED {
            *older = std::mem::take(recent);
        }
    }

    /// Whether lines are missing between the last committed one and this. Each gap is looked after once only: a chain
    /// that is broken on disk must not hold up publishing.
    fn gap_before(&mut self, line: &str) -> bool {
        let (Some(link), Some(last)) = (Link::of(line.as_bytes()), &self.last_hash) else { return false };
        if link.prev == *last {
            return false;
        }
        if self.gap_at.as_ref() == Some(&link.hash) {
            tracing::error!(hash = link.hash, "the audit chain on disk is broken before this line");
            return false;
        }
        self.gap_at = Some(link.hash);
        true
    }

    /// One command's commit, on top of `parent`; the branch is not moved.
    pub(crate) fn one(
        &mut self,
        item: &Pending,
        parent: Option<ObjectId>,
        now: DateTime<Utc>,
    ) -> Result<ObjectId, WorkError> {
        let mut there = Vec::with_capacity(item.artifacts.len());
        for path in &item.artifacts {
            if self.add_artifact(path, item.named)? {
                there.push(path.clone());
            }
        }
        self.lies_flat(item, there, now);
        self.log.extend_from_slice(item.audit_line.as_bytes());
        self.last_hash = Link::of(item.audit_line.as_bytes()).map(|link| link.hash);
        self.put_log()?;
        self.seal(parent, &item.subject, now)
    }

    /// Puts an artifact into the tree; tells whether it is there.
    fn add_artifact(&mut self, path: &str, named: bool) -> Result<bool, WorkError> {
        let safe = match SafePath::parse(path) {
            Ok(safe) => safe,
            Err(error) => {
                tracing::error!(%error, "left out of its commit");
                return Ok(false);
            }
        };
        let (bytes, stat) = match self.root.read_with_stat(Path::new(path), MAX_BLOB_BYTES) {
            Ok(Some(read)) => read,
            Ok(None) => {
                if named {
                    tracing::warn!(path, "artifact is gone, its commit is made without it");
                }
                return Ok(false);
            }
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                tracing::error!(path, %error, "artifact is too large to be committed");
                return Ok(false);
            }
            Err(error) => return Err(WorkError::io(self.root.path().join(path), error)),
        };
        let id = self.store.blob(path, bytes)?;
        self.index.read(path, id, &stat);
        self.tree.put(&safe, Leaf { mode: FILE, id }, &self.store)?;
        Ok(true)
    }

    fn put_log(&mut self) -> Result<(), WorkError> {
        let id = self.store.blob(LOG_PATH, self.log.clone())?;
        self.put(LOG_PATH, Some(Leaf { mode: FILE, id }))?;
        Ok(())
    }

    /// Puts or removes one file of the tree.
    pub(crate) fn put(&mut self, path: &str, leaf: Option<Leaf>) -> Result<bool, WorkError> {
        let path = SafePath::parse(path).map_err(|e| WorkError::object("path", e))?;
        match leaf {
            Some(leaf) => self.tree.put(&path, leaf, &self.store),
            None => self.tree.remove(&path, &self.store),
        }
    }

    /// The commit that moves the whole log to another path and leaves none.
    pub(crate) fn roll_log(
        &mut self,
        to: &str,
        parent: Option<ObjectId>,
        now: DateTime<Utc>,
    ) -> Result<Option<ObjectId>, WorkError> {
        let id = self.store.blob(LOG_PATH, self.log.clone())?;
        self.put(to, Some(Leaf { mode: FILE, id }))?;
        self.put(LOG_PATH, None)?;
        let count = audit::lines(&self.log).count();
        self.log.clear();
        let commit = self.seal(parent, &format!("bridge: roll over {count} commands"), now)?;
        self.tree.fold("logs");
        Ok(Some(commit))
    }

    /// The tree as it is now, as a commit on top of `parent`.
    pub(crate) fn seal(
        &mut self,
        parent: Option<ObjectId>,
        subject: &str,
        now: DateTime<Utc>,
    ) -> Result<ObjectId, WorkError> {
        let tree = self.tree.write(&mut self.store)?;
        let signature = self.signature(now);
        let message = commit::message(subject, &self.instance);
        self.store.commit(commit::make(tree, parent, &signature, &message))
    }

    /// Makes `made` commits that end in `tip` durable and moves the branch to them.
    pub(crate) fn publish(&mut self, tip: Option<ObjectId>, made: u64, now: DateTime<Utc>) -> Result<(), WorkError> {
        let Some(tip) = tip.filter(|tip| Some(*tip) != self.head) else { return Ok(()) };
        self.store.flush()?;
        supervision::crash_point!("publisher.packed");
        let why = format!("bridge: {made} commits");
        self.move_branch(tip, &why, now)?;
        self.ahead.grow(tip, made);
        self.move_on_disk();
        Ok(())
    }

    /// Moves the branch to a commit that is durable, and the index with it.
    pub(crate) fn move_branch(&mut self, tip: ObjectId, why: &str, now: DateTime<Utc>) -> Result<(), WorkError> {
        let written = self.hold_index(tip);
        supervision::crash_point!("publisher.held");
        let swapped = refs::swap(self.store.repo(), &self.branch, self.head, tip, &self.signature(now), why);
        if let Err(error) = swapped {
            // Where only its sync failed, the branch has moved, and by our own hand: a power cut may take that back, and
            // the log brings it again.
            if refs::read(self.store.repo(), &self.branch).ok().flatten() != Some(tip) {
                return Err(error);
            }
            tracing::warn!(%error, "the branch has moved, but it is not certain that the disk knows");
        }
        supervision::crash_point!("publisher.moved");
        self.head = Some(tip);
        self.store.named();
        self.follow_with_index(written, tip, now);
        Ok(())
    }
}
