//! Commits for what the audit log on disk tells of and the branch does not have yet.
//!
//! Disk is the truth: after a crash, or when messages were lost, every line of the log without a commit gets its own,
//! in order, and a segment that the log was moved to gets its roll-over.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::path::Path;

use chrono::{DateTime, Utc};
use protocol::segment;

use crate::audit::{self, DeadLetters, Link};
use crate::config::GROUP_MAX;
use crate::core::{Core, LOG_PATH};
use crate::error::WorkError;
use crate::files::Root;
use crate::objects::MAX_BLOB_BYTES;
use crate::pending::Pending;
use crate::roll::Day;
use crate::whereabouts::{OnDisk, Reach, Whereabouts};

/// The most files that are looked at in one folder tree.
const MAX_LISTED: usize = 2_000_000;

/// One thing to do.
enum Step {
    /// A line that has its commit: it only belongs to the log before the next one.
    Known(Vec<u8>),
    /// A line that has none.
    Line(Vec<u8>),
    /// The log moves to that path.
    Roll(String),
}

/// How far a recovery has come.
pub struct Recovery {
    /// Logs still to be read, in order; the live one is the last.
    logs: VecDeque<String>,
    steps: VecDeque<Step>,
    /// The dead letters that lie flat.
    letters: DeadLetters,
    segments: Whereabouts,
    /// Whether the next log is the first: the committed one is then a part of it.
    first: bool,
}

impl Core {
    /// Compares the logs on disk with the branch; what is missing is made by [`Core::recover`].
    pub(crate) fn start_recovery(&mut self) -> Result<(), WorkError> {
        let mut logs = VecDeque::from(self.uncommitted_segments()?);
        logs.push_back(LOG_PATH.to_owned());
        let letters = self.letters()?;
        self.log = self.committed_log()?;
        self.recovery =
            Some(Recovery { logs, steps: VecDeque::new(), letters, segments: Whereabouts::default(), first: true });
        Ok(())
    }

    /// The segments that the branch does not have, oldest first.
    fn uncommitted_segments(&mut self) -> Result<Vec<String>, WorkError> {
        let mut found = Vec::new();
        for path in rolled_logs(&self.root)? {
            if self.get(&path)?.is_none() {
                found.push(path);
            }
        }
        Ok(found)
    }

    fn letters(&self) -> Result<DeadLetters, WorkError> {
        let letters = self.root.names("dead_letter", MAX_LISTED);
        let letters = letters.map_err(|e| WorkError::io(self.root.path().join("dead_letter"), e))?;
        Ok(DeadLetters::new(letters.into_iter().map(|name| format!("dead_letter/{name}"))))
    }

    /// Makes the next commits for what the log on disk tells of; `afresh` compares it anew first.
    ///
    /// # Errors
    /// When none was made; the recovery begins anew then.
    pub fn recover_from_disk(&mut self, afresh: bool, now: DateTime<Utc>) -> Result<u64, WorkError> {
        if afresh && self.recovery.is_none() {
            self.sync_head()?;
            if self.recovery.is_none() {
                self.start_recovery()?;
            }
        }
        self.recover(now)
    }

    /// Makes the next commits of a recovery; tells how many lines got theirs.
    ///
    /// # Errors
    /// When none was made; the recovery begins anew then.
    pub fn recover(&mut self, now: DateTime<Utc>) -> Result<u64, WorkError> {
        supervision::fault_point!("publisher.effect", Err(WorkError::object("commit", "a test said so")));
        self.sync_head()?;
        self.put_back(now)?;
        let Some(mut recovery) = self.recovery.take() else { return Ok(0) };
        match self.recover_some(&mut recovery, now) {
            Ok((lines, done)) => {
                if !done {
                    self.recovery = Some(recovery);
                }
                Ok(lines)
            }
            Err(error) => {
                self.loaded = false;
                self.log.clear();
                // Something to begin anew with, even if the disk does not answer right now.
                self.recovery = Some(recovery);
                if let Err(again) = self.load(self.head).and_then(|()| self.start_recovery()) {
                    tracing::debug!(%again, "the recovery is begun anew later");
                    self.loaded = false;
                }
                Err(error)
            }
        }
    }

    fn recover_some(&mut self, recovery: &mut Recovery, now: DateTime<Utc>) -> Result<(u64, bool), WorkError> {
        // While the branch holds the log as it was committed.
        self.known_flat(now)?;
        let (mut tip, mut made, mut lines) = (self.head, 0, 0);
        let mut done = false;
        let mut settled = Vec::new();
        while made < GROUP_MAX as u64 {
            match recovery.steps.pop_front() {
                Some(Step::Known(line)) => {
                    self.remember(&line);
                    self.last_hash = Link::of(&line).map(|link| link.hash);
                    self.log.extend_from_slice(&line);
                }
                Some(Step::Line(line)) => {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    tip = Some(self.one(&self.derive(&text, recovery), tip, now)?);
                    self.remember(&line);
                    settled.extend(audit::settlement(&text));
                    made += 1;
                    lines += 1;
                    if let Some(rolled) = self.roll_over(tip, now)? {
                        tip = Some(rolled);
                        made += 1;
                    }
                }
                Some(Step::Roll(to)) => {
                    tip = self.roll_log(&to, tip, now)?;
                    made += 1;
                }
                None => {
                    let Some(path) = recovery.logs.pop_front() else {
                        done = true;
                        break;
                    };
                    self.read_log(&path, recovery)?;
                }
            }
        }
        self.publish(tip, made, now)?;
        self.settle_recovered(&settled);
        Ok((lines, done))
    }

    /// The commit that a line stands for, with its artifacts as they lie on disk: flat as a rule; in a segment if they
    /// were rolled over before the branch or the log was put back.
    fn derive(&self, line: &str, recovery: &mut Recovery) -> Pending {
        let day = audit::written_at(line).and_then(Day::of);
        let mut reaches = [Reach::Flat, day.map_or(Reach::All, Reach::Day), Reach::All].into_iter();
        loop {
            let reach = reaches.next().unwrap_or(Reach::All);
            let segments = RefCell::new(&mut recovery.segments);
            let disk = OnDisk { root: &self.root, letters: &recovery.letters, segments, reach };
            let mut pending = audit::derive(line, &disk);
            let places: Vec<String> = pending.artifacts.iter().filter_map(|path| disk.place(path)).collect();
            if !places.is_empty() || reach == Reach::All {
                pending.artifacts = places;
                return pending;
            }
        }
    }

    /// Turns one log into steps.
    fn read_log(&mut self, path: &str, recovery: &mut Recovery) -> Result<(), WorkError> {
        let bytes = self.root.read(Path::new(path), MAX_BLOB_BYTES);
        let bytes = bytes.map_err(|e| WorkError::io(self.root.path().join(path), e))?.unwrap_or_default();
        if path == LOG_PATH {
            // Filing goes on meanwhile. A letter lies there before its line does: what these lines tell of is found now.
            let unseen = self.uncommitted_segments()?;
            recovery.letters = self.letters()?;
            if !unseen.is_empty() {
                // The log was rolled in the meantime: what was its beginning comes first.
                recovery.logs.extend(unseen);
                recovery.logs.push_back(LOG_PATH.to_owned());
                return Ok(());
            }
        }
        let first = std::mem::take(&mut recovery.first);
        if !first {
            recovery.steps.extend(audit::lines(&bytes).map(|line| Step::Line(line.to_vec())));
        } else if let Some(rest) = bytes.strip_prefix(self.log.as_slice()) {
            let known: Vec<Vec<u8>> = audit::lines(&self.log).map(<[u8]>::to_vec).collect();
            known.iter().for_each(|line| self.remember(line));
            self.last_hash = known.last().and_then(|line| Link::of(line)).map(|link| link.hash);
            recovery.steps.extend(audit::lines(rest).map(|line| Step::Line(line.to_vec())));
        } else {
            let committed = std::mem::take(&mut self.log);
            let committed: HashSet<&[u8]> = audit::lines(&committed).collect();
            let step = |line: &[u8]| {
                let known = committed.contains(line);
                if known { Step::Known(line.to_vec()) } else { Step::Line(line.to_vec()) }
            };
            recovery.steps.extend(audit::lines(&bytes).map(step));
        }
        if path != LOG_PATH {
            recovery.steps.push_back(Step::Roll(path.to_owned()));
        }
        Ok(())
    }
}

/// The segments on disk that the log was moved to, oldest first.
pub(crate) fn rolled_logs(root: &Root) -> Result<Vec<String>, WorkError> {
    let listed = root.list("logs", MAX_LISTED).map_err(|e| WorkError::io(root.path().join("logs"), e))?;
    let all = listed.unwrap_or_default().into_iter().map(|file| file.path);
    let mut rolled: Vec<String> = all.filter(|path| is_rolled_log(path)).collect();
    rolled.sort_by(|one, other| segment::order(one).cmp(&segment::order(other)));
    Ok(rolled)
}

/// Whether a path is that of a log that has rolled.
pub(crate) fn is_rolled_log(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with("bridge-") && name.ends_with(".log")
}
