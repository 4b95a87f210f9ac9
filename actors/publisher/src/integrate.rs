//! What the remote has and we do not: taken in, with our own commits put on top, without a work tree.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use gix::ObjectId;
use gix::objs::Kind;

use crate::commit;
use crate::core::Core;
use crate::error::WorkError;
use crate::git::GitError;
use crate::keep;
use crate::merge::{self, MergeError};
use crate::refs::{self, BASE, UPSTREAM};
use crate::safe_path::is_ours;

/// How the branch stands to the remote's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrated {
    /// The branch contains all that the remote's has: [`Core::aim`] tells what is to be pushed, if anything.
    Ready,
    /// A person must decide.
    Blocked(String),
}

/// Why our commits cannot be put on top.
pub(crate) enum Refusal {
    Blocked(String),
    Work(WorkError),
}

impl From<WorkError> for Refusal {
    fn from(error: WorkError) -> Self {
        Self::Work(error)
    }
}

/// Whether a commit is one of the bridge's that is not among those that are there; each of these is counted off once.
fn own_words(message: &[u8], there: &mut HashMap<Vec<u8>, usize>) -> bool {
    let subject = message.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match there.get_mut(subject).filter(|left| **left > 0) {
        Some(left) => *left -= 1,
        None => return subject.starts_with(keep::OURS),
    }
    false
}

impl Core {
    /// Takes in what was fetched last; `exists` tells whether the remote has the branch at all.
    ///
    /// # Errors
    /// When it could not be done now; it is done again then.
    pub fn integrate(&mut self, exists: bool, now: DateTime<Utc>) -> Result<Integrated, WorkError> {
        self.sync_head()?;
        self.put_back(now)?;
        // A branch that the remote lacks is pushed whole, whatever was pushed before.
        let changed = std::mem::replace(&mut self.absent, !exists) != self.absent;
        let taken_in = match refs::read(self.store.repo(), UPSTREAM)?.filter(|_| exists) {
            Some(upstream) => self.take_in(upstream, now),
            None => Ok(false),
        };
        match taken_in {
            Ok(anything) => {
                (self.acquainted, self.excess) = (true, 0);
                if anything || changed {
                    self.count_unpushed()?;
                }
            }
            Err(Refusal::Blocked(reason)) => {
                self.count_excess()?;
                self.loaded = false;
                return Ok(Integrated::Blocked(reason));
            }
            Err(Refusal::Work(error)) => {
                self.loaded = false;
                return Err(error);
            }
        }
        if !self.absent && !self.descends {
            return Ok(Integrated::Blocked(self.moved_away()));
        }
        Ok(Integrated::Ready)
    }

    /// Tells whether there was anything new.
    fn take_in(&mut self, upstream: ObjectId, now: DateTime<Utc>) -> Result<bool, Refusal> {
        // What was owed is in the work tree then, and what is new is compared with that.
        let made_up = self.check_out_owed(now)?;
        let mut base = refs::read(self.store.repo(), BASE)?;
        if base == Some(upstream) {
            return Ok(self.contain(upstream, now)? || made_up);
        }
        let lines = self.lines(base, upstream);
        if let Some(known) = base.filter(|_| lines.is_none())
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
            // What the work tree reflects, should a crash come before it has what is new.
            if let Some(base) = base {
                refs::keep(self.store.repo(), BASE, base, &self.signature(now))?;
            }
        }
        let contained = match (&lines, self.head) {
            (Some(lines), _) => lines.ours.contains(&upstream),
            (None, Some(head)) => self.is_ancestor(upstream, head)?,
            (None, None) => false,
        };
        if !contained {
            self.admit(base, upstream, lines.as_ref())?;
            let own = match lines {
                Some(lines) => lines.own(),
                None => self.own_commits(upstream)?,
            };
            self.put_on_top(own, upstream, false, now)?;
            supervision::crash_point!("remote.rebased");
        }
        self.owed = Some((base, upstream));
        self.check_out_owed(now)?;
        Ok(true)
    }

    /// There is nothing new upstream. Where somebody amended or reset here what was pushed, the branch is put back on it,
    /// with what is new here on top: nothing that was pushed is rewritten, and nothing that is here is lost.
    pub(crate) fn contain(&mut self, upstream: ObjectId, now: DateTime<Utc>) -> Result<bool, Refusal> {
        let Some(head) = self.head.filter(|_| self.foreign) else { return Ok(false) };
        if self.is_ancestor(upstream, head)? {
            self.foreign = false;
            return Ok(false);
        }
        let (branch, short) = (self.branch_name().to_owned(), upstream.to_hex_with_len(10));
        tracing::error!(branch, "amended or reset here behind {short}, which was pushed: put on top of it again");
        let common = self.merge_base(head, upstream)?;
        // What is here is the later word on every path; what was published stays all the same.
        let own = self.own_commits(upstream)?;
        self.put_on_top(own, upstream, true, now).map_err(|refusal| match refusal {
            Refusal::Blocked(why) => Refusal::Blocked(format!(
                "{branch} no longer contains {short}, the last commit pushed: it was amended or reset here; {why} \
                 (git rebase {UPSTREAM})"
            )),
            Refusal::Work(error) => Refusal::Work(error),
        })?;
        self.owed = Some((common, upstream));
        self.check_out_owed(now)?;
        self.foreign = false;
        Ok(true)
    }

    /// Checks out what the branch was put on, if that is not done yet, and notes that the work tree reflects it; tells
    /// whether there was anything to do.
    fn check_out_owed(&mut self, now: DateTime<Utc>) -> Result<bool, WorkError> {
        let Some((from, to)) = self.owed else { return Ok(false) };
        self.check_out(from, to)?;
        self.owed = None;
        supervision::crash_point!("remote.checked_out");
        refs::keep(self.store.repo(), BASE, to, &self.signature(now))?;
        Ok(true)
    }

    fn rewritten(&self, known: ObjectId, upstream: ObjectId) -> String {
        let (remote, branch) = (self.remote_name(), self.branch_name());
        format!(
            "{remote}/{branch} was rewritten: it is {} and no longer contains {}, the last commit pushed; stop the bridge, put \
             the branch on the new history and let the old one be forgotten (`git fetch && git rebase --autostash \
             {remote}/{branch} && git update-ref -d {BASE}`), and start it again",
            upstream.to_hex_with_len(10),
            known.to_hex_with_len(10)
        )
    }

    fn moved_away(&self) -> String {
        let (remote, branch) = (self.remote_name(), self.branch_name());
        let known = self.base.map(|base| base.to_hex_with_len(10).to_string()).unwrap_or_default();
        format!(
            "{branch} was moved here and no longer contains {known}, which is in {remote}/{branch}: put the branch on top \
             of it by hand (git rebase); nothing is pushed that would take it away"
        )
    }

    /// Moves the branch to `upstream` with our own commits on top. `amended`: they take the place of what upstream has.
    /// What is ahead then is counted when that is noted.
    fn put_on_top(
        &mut self,
        own: Vec<ObjectId>,
        upstream: ObjectId,
        amended: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let ours_wins = |path: &[u8]| amended || is_ours(path);
        let mut there = if amended { self.subjects_there(upstream)? } else { HashMap::new() };
        let mut tip = upstream;
        let theirs = self.tree_of(upstream)?;
        let mut tip_tree = Some(theirs);
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
            let mut changed = (parent, Some(commit.tree));
            // A bridge's commit that is there already, or a person's: what it says of artifacts and log is told by others.
            if amended && !own_words(&commit.message, &mut there) {
                changed =
                    (parent.map(|tree| self.without_kept(tree)).transpose()?, Some(self.without_kept(commit.tree)?));
            }
            let merged = merge::replay(&mut self.store, changed.0, changed.1, tip_tree, &ours_wins);
            let before = tip_tree;
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
            // What it did is there already.
            if amended && tip_tree == before && parent != Some(commit.tree) {
                continue;
            }
            tip = self.store.commit(commit.moved(self.tree_or_empty(tip_tree), tip, &committer))?;
        }
        let pushed = amended.then_some(theirs);
        tip = self.keep_published(tip, self.tree_or_empty(tip_tree), pushed, now)?;
        self.store.flush()?;
        let why = format!("bridge: rebase onto {}", upstream.to_hex_with_len(10));
        self.move_branch(tip, &why, now)?;
        // The log in memory stays: where both sides have one, ours is the truth.
        self.load_tree(Some(tip))?;
        Ok(())
    }

    /// How often each of the bridge's messages is there in what was pushed and the branch lacks.
    fn subjects_there(&self, upstream: ObjectId) -> Result<HashMap<Vec<u8>, usize>, WorkError> {
        let Some(head) = self.head else { return Ok(HashMap::new()) };
        let range = format!("{head}..{upstream}");
        let list = self.git.check(&["log", "--format=%s", &range, "--"])?;
        let mut there = HashMap::new();
        for subject in list.split(|byte| *byte == b'\n').filter(|line| line.starts_with(keep::OURS)) {
            *there.entry(subject.to_vec()).or_default() += 1;
        }
        Ok(there)
    }

    fn without_kept(&mut self, root: ObjectId) -> Result<ObjectId, WorkError> {
        keep::without_kept(&mut self.store, root)
    }

    /// One commit on top of `tip` that puts back what it lacks of what is published here, if it lacks anything.
    fn keep_published(
        &mut self,
        tip: ObjectId,
        tree: ObjectId,
        pushed: Option<ObjectId>,
        now: DateTime<Utc>,
    ) -> Result<ObjectId, WorkError> {
        let mut kept = keep::without_journal(&mut self.store, tree)?;
        let here = self.head.map(|head| self.tree_of(head)).transpose()?;
        // What was pushed is the last word on what was published.
        for published in here.into_iter().chain(pushed) {
            kept = keep::keep(&mut self.store, published, kept)?;
        }
        // The log goes on with the commits that were put on top. What else stood in it here gets its own commits.
        if let Some(pushed) = pushed
            && keep::log_goes_on(&self.store, pushed, tree)?
        {
            kept = keep::with_log_of(&mut self.store, kept, tree)?;
        }
        if kept == tree {
            return Ok(tip);
        }
        tracing::error!("what was published was dropped or changed, or what never is was added: one commit mends it");
        let signature = self.signature(now);
        let message = commit::message(keep::SUBJECT, &self.instance);
        self.store.commit(commit::make(kept, Some(tip), &signature, &message))
    }

    /// The commits that the remote does not have, oldest first.
    fn own_commits(&self, upstream: ObjectId) -> Result<Vec<ObjectId>, WorkError> {
        let Some(head) = self.head else { return Ok(Vec::new()) };
        let range = format!("{upstream}..{head}");
        let list = self.git.check(&["rev-list", "--reverse", "--topo-order", &range, "--"])?;
        let id = |line: &[u8]| ObjectId::from_hex(line).map_err(|e| WorkError::object("rev-list", e));
        list.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(id).collect()
    }

    pub(crate) fn is_ancestor(&self, older: ObjectId, newer: ObjectId) -> Result<bool, WorkError> {
        let (older, newer) = (older.to_string(), newer.to_string());
        let output = self.git.run(&["merge-base", "--is-ancestor", &older, &newer])?;
        // An object that is gone is nobody's ancestor.
        Ok(output.status.success())
    }

    fn merge_base(&self, one: ObjectId, other: ObjectId) -> Result<Option<ObjectId>, WorkError> {
        let output = self.git.run(&["merge-base", &one.to_string(), &other.to_string()])?;
        if output.status.success() && !output.is_whole {
            return Err(GitError::Cut { verb: "merge-base".to_owned() }.into());
        }
        let line = output.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Ok(ObjectId::from_hex(line).ok())
    }

    /// At the start: what is known of the remote from before, and the end of a checkout that was cut off.
    pub(crate) fn open_base(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        let repo = self.store.repo();
        let base = refs::read(repo, BASE)?;
        let tracked = self.tracking().and_then(|tracking| refs::read(repo, &tracking).ok().flatten());
        let upstream = refs::read(repo, UPSTREAM)?;
        let Some(head) = self.head else { return Ok(()) };
        match base {
            // The history that an unborn branch took over was not checked out to its end.
            None if upstream.map_or(Ok(false), |upstream| self.is_ancestor(upstream, head))? => {
                let Some(upstream) = upstream else { return Ok(()) };
                self.check_out(None, upstream)?;
                refs::keep(self.store.repo(), BASE, upstream, &self.signature(now))?;
            }
            None => {
                let Some(tracked) = tracked else { return Ok(()) };
                let base =
                    if self.is_ancestor(tracked, head)? { Some(tracked) } else { self.merge_base(head, tracked)? };
                if let Some(base) = base {
                    refs::keep(self.store.repo(), BASE, base, &self.signature(now))?;
                }
            }
            Some(base) => {
                if let Some(upstream) = upstream
                    && upstream != base
                    && self.is_ancestor(base, upstream)?
                    && self.is_ancestor(upstream, head)?
                {
                    self.check_out(Some(base), upstream)?;
                    refs::keep(self.store.repo(), BASE, upstream, &self.signature(now))?;
                }
            }
        }
        self.count_unpushed()
    }
}
