//! How the bridge fares, in the few figures that a process manager shows.

use std::sync::Arc;

use archiver::ArchiverStatus;
use executor::status::ExecutorStatus;
use publisher::PublisherStatus;
use supervision::Gauge;
use watcher::WatcherStatus;

/// Where the figures come from.
#[derive(Debug)]
pub struct Sources {
    /// The watcher's own.
    pub watching: Arc<WatcherStatus>,
    /// The executor's own.
    pub executing: Arc<ExecutorStatus>,
    /// The archiver's own.
    pub filing: Arc<ArchiverStatus>,
    /// The publisher's own.
    pub publishing: Arc<PublisherStatus>,
    /// The mailboxes, in the order of the pipeline.
    pub mailboxes: Vec<Arc<Gauge>>,
}

/// The figures of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Commands that were seen and wait for their place in flight.
    pub pending: usize,
    /// Commands whose ticket is out.
    pub in_flight: usize,
    /// Each mailbox's actor and depth, in the order of the pipeline.
    pub mailboxes: Vec<(&'static str, usize)>,
    /// Documents filed in this life of the process.
    pub filed: u64,
    /// Filed documents that wait for their commit.
    pub uncommitted: u64,
    /// Commits that the remote does not have.
    pub unpushed: u64,
    /// Commands that failed for a passing cause and are tried again.
    pub retries: u64,
    /// What hinders the bridge for longer than a passing moment.
    pub degraded: Option<String>,
}

impl Sources {
    /// Whether commands can be executed, filed and committed: the actors run, and the publisher holds the repository.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.publishing.is_ready()
    }

    /// The figures of this moment.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            pending: self.watching.pending(),
            in_flight: self.watching.in_flight(),
            mailboxes: self.mailboxes.iter().map(|gauge| (gauge.actor(), gauge.depth())).collect(),
            filed: self.filing.filed(),
            uncommitted: self.publishing.queued(),
            unpushed: self.publishing.unpushed_commits(),
            retries: self.publishing.retries_pending(),
            degraded: self.hindrance(),
        }
    }

    fn hindrance(&self) -> Option<String> {
        let unreachable = || (!self.watching.reachable()).then(|| "commands/ cannot be read".to_owned());
        let publishing = || {
            let degraded = self.publishing.is_degraded();
            degraded.then(|| self.publishing.degraded_reason().unwrap_or_else(|| "publishing waits".to_owned()))
        };
        let first = self.executing.stalled().or_else(|| self.filing.stalled());
        first.or_else(unreachable).or_else(|| self.executing.unsynced()).or_else(publishing)
    }
}
