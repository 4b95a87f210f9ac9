//! What the publisher does at any one moment: the pieces of work on the repository, and the choice among them.
//!
//! Pure but for [`Task::run`]: no clock, no actix.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use gix::ObjectId;

use crate::core::{Core, Settled};
use crate::error::WorkError;
use crate::integrate::Integrated;
use crate::network::RemoteKind;
use crate::pending::Pending;
use crate::retries::Retries;

/// How soon the index is brought in line after the last commit.
pub const QUIET: Duration = Duration::from_millis(100);
/// The longest that the index may lag while commits keep coming: a person who commits by hand meanwhile commits what the
/// index lacks as removed.
pub const LAG_MAX: Duration = Duration::from_secs(1);
/// The pause before work that failed is done again.
pub const RETRY: Duration = Duration::from_secs(1);

/// The shortest time between two updates of the retries index: what comes meanwhile goes into the next one.
pub const RETRIES_PAUSE: Duration = Duration::from_secs(1);

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
    Pushed(ObjectId, u64),
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
    Scanned(Result<Option<RemoteKind>, WorkError>),
    /// The index is in line.
    Indexed(Result<(), WorkError>),
}

/// The repository's state after a piece of work.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// Commits that the remote does not have.
    pub unpushed: u64,
    /// Whether log on disk waits for its commits.
    pub recovering: bool,
    /// Whether the index is behind the branch.
    pub index_lags: bool,
    /// Packs that were written since packs were last consolidated.
    pub packs: usize,
    /// Commands in the retries index.
    pub retries: u64,
    /// Whether the retries index on disk or on the branch is behind.
    pub retries_lag: bool,
}

impl View {
    /// The state of `core`.
    #[must_use]
    pub fn of(core: &Core) -> Self {
        Self {
            unpushed: core.unpushed(),
            recovering: core.is_recovering(),
            index_lags: core.index_lags(),
            packs: core.packs(),
            retries: core.retries_pending() as u64,
            retries_lag: core.retries_lag(),
        }
    }
}

impl Task {
    /// Does it.
    pub fn run(self, core: &mut Core, now: DateTime<Utc>) -> Done {
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
            Self::Pushed(id, count) => Done::Pushed(core.pushed(id, count, now)),
            Self::Scan => Done::Scanned(core.scan(now).and_then(|_| core.remote_kind())),
            Self::Index => Done::Indexed(core.refresh_index(now)),
        }
    }
}

/// When the index is due: soon after the last commit, and in any case before it lags too long.
#[derive(Debug, Default)]
pub struct IndexClock {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl IndexClock {
    /// The branch moved.
    pub fn moved(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// The index could not be brought in line: somebody holds it.
    pub fn held(&mut self, now: Instant) {
        self.first = Some(now + RETRY);
        self.last = Some(now + RETRY);
    }

    /// It is in line.
    pub fn done(&mut self) {
        *self = Self::default();
    }

    /// When it is due, if it is.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        Some((self.last? + QUIET).min(self.first? + LAG_MAX))
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
