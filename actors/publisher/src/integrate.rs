//! What the remote has and we do not: taken in, with our own commits put on top, without a work tree.

use chrono::{DateTime, Utc};
use gix::ObjectId;
use gix::objs::Kind;

use crate::commit;
use crate::core::Core;
use crate::error::WorkError;
use crate::merge::{self, MergeError};
use crate::refs::{self, BASE, UPSTREAM};
use crate::safe_path::is_ours;

/// How the branch stands to the remote's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrated {
    /// The branch contains all that the remote's has; what is to be pushed, if anything, and how many commits that is.
    Ready(Option<(ObjectId, u64)>),
    /// A person must decide.
    Blocked(String),
}

/// Why our commits cannot be put on top.
enum Refusal {
    Blocked(String),
    Work(WorkError),
}

impl From<WorkError> for Refusal {
    fn from(error: WorkError) -> Self {
        Self::Work(error)
    }
}

impl Core {
    /// Takes in what was fetched last; `exists` tells whether the remote has the branch at all.
    ///
    /// # Errors
    /// When it could not be done now; it is done again then.
    pub fn integrate(&mut self, exists: bool, now: DateTime<Utc>) -> Result<Integrated, WorkError> {
        self.sync_head()?;
        if exists && let Some(upstream) = refs::read(self.store.repo(), UPSTREAM)? {
            match self.take_in(upstream, now) {
                Ok(true) => self.count_unpushed()?,
                Ok(false) => {}
                Err(Refusal::Blocked(reason)) => {
                    self.loaded = false;
                    return Ok(Integrated::Blocked(reason));
                }
                Err(Refusal::Work(error)) => {
                    self.loaded = false;
                    return Err(error);
                }
            }
        }
        // A branch that the remote lacks is pushed whole, whatever was pushed before.
        let ahead = self.unpushed > 0 || !exists;
        Ok(Integrated::Ready(self.head.filter(|_| ahead).map(|head| (head, self.unpushed))))
    }

    /// Tells whether there was anything new.
    fn take_in(&mut self, upstream: ObjectId, now: DateTime<Utc>) -> Result<bool, Refusal> {
        let mut base = refs::read(self.store.repo(), BASE)?;
        if base == Some(upstream) {
            return Ok(false);
        }
        if let Some(known) = base
            && !self.is_ancestor(known, upstream)?
        {
            if let Some(head) = self.head
                && self.is_ancestor(known, head)?
            {
                return Err(Refusal::Blocked(self.rewritten(known, upstream)));
            }
            // A person has put the branch on the rewritten history by hand.
            base = None;
        }
        if base.is_none()
            && let Some(head) = self.head
        {
            base = self.merge_base(head, upstream)?;
        }
        let contained = match self.head {
            Some(head) => self.is_ancestor(upstream, head)?,
            None => false,
        };
        self.checkout_pending = true;
        if !contained {
            self.put_on_top(upstream, now)?;
            supervision::crash_point!("remote.rebased");
        }
        self.check_out(base, upstream)?;
        supervision::crash_point!("remote.checked_out");
        refs::set(self.store.repo(), BASE, upstream, &self.signature(now))?;
        self.checkout_pending = false;
        Ok(true)
    }

    fn rewritten(&self, known: ObjectId, upstream: ObjectId) -> String {
        let (remote, branch) = (&self.config.remote, self.branch_name());
        format!(
            "{remote}/{branch} was rewritten: it is {} and no longer contains {}, the last commit pushed; put the branch \
             on the new history by hand (git rebase), or accept it with `git update-ref -d {BASE}`",
            upstream.to_hex_with_len(10),
            known.to_hex_with_len(10)
        )
    }

    /// Moves the branch to `upstream` with our own commits on top.
    fn put_on_top(&mut self, upstream: ObjectId, now: DateTime<Utc>) -> Result<(), Refusal> {
        let own = self.own_commits(upstream)?;
        let mut tip = upstream;
        let mut tip_tree = Some(self.tree_of(upstream)?);
        let committer = self.signature(now);
        for id in own {
            let commit = commit::parse(id, &self.store.read(id, Kind::Commit)?)?;
            let parent = match commit.parents.as_slice() {
                [] => None,
                [parent] => Some(self.tree_of(*parent)?),
                _ => {
                    let what = format!("{} is a merge that was made here; rebase it by hand", id.to_hex_with_len(10));
                    return Err(Refusal::Blocked(what));
                }
            };
            let merged = merge::replay(&mut self.store, parent, Some(commit.tree), tip_tree, &is_ours);
            tip_tree = match merged {
                Ok(tree) => tree,
                Err(MergeError::Work(error)) => return Err(error.into()),
                Err(MergeError::Conflict { path }) => {
                    let path = String::from_utf8_lossy(&path);
                    let short = id.to_hex_with_len(10);
                    let what = format!("local commit {short} and the remote both changed {path}: rebase it by hand");
                    return Err(Refusal::Blocked(what));
                }
            };
            let tree = tip_tree.unwrap_or_else(|| ObjectId::empty_tree(gix::hash::Kind::Sha1));
            tip = self.store.commit(commit.moved(tree, tip, &committer))?;
        }
        self.store.flush()?;
        let why = format!("bridge: rebase onto {}", upstream.to_hex_with_len(10));
        self.move_branch(tip, &why, now)?;
        // The log in memory stays: where both sides have one, ours is the truth.
        self.load(Some(tip))?;
        Ok(())
    }

    /// The commits that the remote does not have, oldest first.
    fn own_commits(&self, upstream: ObjectId) -> Result<Vec<ObjectId>, WorkError> {
        let Some(head) = self.head else { return Ok(Vec::new()) };
        let range = format!("{upstream}..{head}");
        let list = self.git.check(&["rev-list", "--reverse", "--topo-order", &range, "--"], None)?;
        let id = |line: &[u8]| ObjectId::from_hex(line).map_err(|e| WorkError::object("rev-list", e));
        list.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(id).collect()
    }

    pub(crate) fn is_ancestor(&self, older: ObjectId, newer: ObjectId) -> Result<bool, WorkError> {
        let (older, newer) = (older.to_string(), newer.to_string());
        let output = self.git.run(&["merge-base", "--is-ancestor", &older, &newer], None)?;
        // An object that is gone is nobody's ancestor.
        Ok(output.status.success())
    }

    fn merge_base(&self, one: ObjectId, other: ObjectId) -> Result<Option<ObjectId>, WorkError> {
        let output = self.git.run(&["merge-base", &one.to_string(), &other.to_string()], None)?;
        let line = output.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Ok(ObjectId::from_hex(line).ok())
    }

    /// At the start: what is known of the remote from before, and the end of a checkout that was cut off.
    pub(crate) fn open_base(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        let repo = self.store.repo();
        let base = refs::read(repo, BASE)?;
        let tracking = format!("refs/remotes/{}/{}", self.config.remote, self.branch_name());
        let tracked = refs::read(repo, &tracking).ok().flatten();
        let upstream = refs::read(repo, UPSTREAM)?;
        let Some(head) = self.head else { return Ok(()) };
        match base {
            None => {
                let Some(tracked) = tracked else { return Ok(()) };
                let base =
                    if self.is_ancestor(tracked, head)? { Some(tracked) } else { self.merge_base(head, tracked)? };
                if let Some(base) = base {
                    refs::set(self.store.repo(), BASE, base, &self.signature(now))?;
                }
            }
            Some(base) => {
                if let Some(upstream) = upstream
                    && upstream != base
                    && self.is_ancestor(base, upstream)?
                    && self.is_ancestor(upstream, head)?
                {
                    self.check_out(Some(base), upstream)?;
                    refs::set(self.store.repo(), BASE, upstream, &self.signature(now))?;
                }
            }
        }
        self.count_unpushed()
    }
}
