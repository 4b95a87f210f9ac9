//! What the publisher does at any one moment: the pieces of work on the repository, and the choice among them.
//!
//! Pure but for [`Task::run`]: no clock, no actix.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::ahead::Part;
use crate::core::{Core, Settled};
use crate::destination::Destination;
use crate::error::WorkError;
use crate::housekeeping::Clutter;
use crate::index::PROOF;
use crate::integrate::Integrated;
use crate::network::Aim;
use crate::pending::Pending;
use crate::retries::Retries;

/// How soon an index that could not follow the branch is brought in line after the last commit.
pub const QUIET: Duration = Duration::from_millis(100);
/// The longest that it may lag while commits keep coming: a person who commits by hand meanwhile commits what the index
/// lacks as removed.
pub const LAG_MAX: Duration = Duration::from_secs(1);
/// How often an index that somebody holds is tried again.
pub const HELD_PAUSE: Duration = Duration::from_millis(100);
/// The pause before work that failed is done again.
pub const RETRY: Duration = Duration::from_secs(1);

/// The shortest time between two updates of the retries index: what comes meanwhile goes into the next one.
pub const RETRIES_PAUSE: Duration = Duration::from_secs(1);

/// Bytes of objects after which the packs that they were read from are let go: they are mapped whole.
const MUCH_IN_WORK: usize = 8 << 20;

/// Bytes of objects that are more than is read in some minutes of rest.
const MUCH_AT_REST: usize = 1 << 20;

/// One piece of work on the repository.
#[derive(Debug)]
pub enum Task {
    /// Commits for what was announced.
    Commit(Vec<Pending>),
    /// Noting failed tries, and whatever else the retries index lacks.
    Retries(Retries),
    /// Commits for what the log on disk tells of; true: the log is compared afresh first.
    Recover(bool),
    /// Taking in what was fetched; false: the remote has no such branch.
    Integrate(bool),
    /// Noting down a push.
    Pushed(Part),
    /// Looking at the folders that others write, and at the configuration.
    Scan,
    /// The index.
    Index,
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// So many of the batch are settled, and first seen then; the rest comes back.
    Committed(Result<Settled, WorkError>, Vec<Instant>, Vec<Pending>),
    /// The retries index is on disk and on the branch.
    Retried(Result<(), WorkError>),
    /// So many lines got their commits.
    Recovered(Result<u64, WorkError>),
    /// How the branch stands to the remote's.
    Integrated(Result<Integrated, WorkError>),
    /// The push is noted.
    Pushed(Result<(), WorkError>),
    /// The folders and the configuration were looked at.
    Scanned(Result<Option<Destination>, WorkError>),
    /// The index is in line.
    Indexed(Result<(), WorkError>),
}

/// The repository's state after a piece of work.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// Commits that the remote does not have.
    pub unpushed: u64,
    /// What the next push is to bring about.
    pub aim: Option<Aim>,
    /// Whether log on disk waits for its commits.
    pub recovering: bool,
    /// Whether the index is behind the branch.
    pub index_lags: bool,
    /// Whether somebody may still put an older index in its place.
    pub index_unproved: bool,
    /// Whether somebody keeps it from following.
    pub index_held: bool,
    /// What lies in the object database.
    pub clutter: Clutter,
    /// Commands in the retries index.
    pub retries: u64,
    /// Files that upstream changed and that were changed here, too.
    pub files_apart: u64,
    /// Whether the retries index on disk or on the branch is behind.
    pub retries_lag: bool,
}

impl View {
    /// The state of `core`; the next push is to take about `part` commits along.
    #[must_use]
    pub fn of(core: &Core, part: u64) -> Self {
        Self {
            unpushed: core.unpushed(),
            aim: core.aim(part),
            recovering: core.is_recovering(),
            index_lags: core.index_lags(),
            index_unproved: core.index_is_unproved(),
            index_held: core.index_is_held(),
            clutter: core.clutter(),
            retries: core.retries_pending() as u64,
            files_apart: core.files_apart() as u64,
            retries_lag: core.retries_lag(),
        }
    }
}

impl Task {
    /// Does it.
    pub fn run(self, core: &mut Core, now: DateTime<Utc>) -> Done {
        core.let_go(MUCH_IN_WORK);
        match self {
            Self::Commit(mut batch) => {
                let settled = core.commit(&batch, now);
                let items = settled.as_ref().map_or(0, |settled| settled.items);
                let seen = batch.drain(..items.min(batch.len())).filter_map(|item| item.first_seen).collect();
                Done::Committed(settled, seen, batch)
            }
            Self::Retries(attempts) => Done::Retried(core.update_retries(attempts, now)),
            Self::Recover(afresh) => Done::Recovered(core.recover_from_disk(afresh, now)),
            Self::Integrate(exists) => Done::Integrated(core.integrate(exists, now)),
            Self::Pushed(part) => Done::Pushed(core.pushed(&part, now)),
            Self::Scan => Done::Scanned(scan(core, now)),
            Self::Index => Done::Indexed(core.refresh_index(now)),
        }
    }
}

fn scan(core: &mut Core, now: DateTime<Utc>) -> Result<Option<Destination>, WorkError> {
    core.tidy(now)?;
    core.scan(now)?;
    if let Err(error) = core.look_apart() {
        tracing::debug!(%error, "what stands apart is looked at later");
    }
    core.let_go(MUCH_AT_REST);
    if let Err(error) = core.trim_reflogs() {
        tracing::debug!(%error, "reflogs are trimmed later");
    }
    core.destination()
}

/// When the index is due: soon after the last commit, and in any case before it lags too long.
#[derive(Debug, Default)]
pub struct IndexClock {
    first: Option<Instant>,
    last: Option<Instant>,
    proof: Option<Instant>,
}

impl IndexClock {
    /// The branch moved.
    pub fn moved(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// The index could not be brought in line: somebody holds it.
    pub fn held(&mut self, now: Instant) {
        self.first = Some(now + HELD_PAUSE);
        self.last = Some(now + HELD_PAUSE);
    }

    /// It is in line, and is looked at once more when it can be taken to stay so.
    pub fn unproved(&mut self, now: Instant) {
        if self.proof.is_none_or(|at| at <= now) {
            self.proof = Some(now + PROOF);
        }
    }

    /// It is in line.
    pub fn done(&mut self) {
        (self.first, self.last) = (None, None);
    }

    /// It stays in line.
    pub fn proved(&mut self) {
        self.proof = None;
    }

    /// When it is to be brought in line, if it is behind.
    #[must_use]
    pub fn lag(&self) -> Option<Instant> {
        Some((self.last? + QUIET).min(self.first? + LAG_MAX))
    }

    /// When it is to be looked at, if it is.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.lag().into_iter().chain(self.proof).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_follows_in_quiet_moments_but_never_lags_long() {
        let start = Instant::now();
        let mut clock = IndexClock::default();
        assert_eq!(clock.due(), None);
        clock.moved(start);
        assert_eq!(clock.due(), Some(start + QUIET));
        clock.moved(start + LAG_MAX);
        assert_eq!(clock.due(), Some(start + LAG_MAX));
        clock.done();
        assert_eq!(clock.due(), None);
    }
}
