//! How the bridge fares, in the few figures that a process manager shows.

use crate::observed::Observed;

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

impl Figures {
    /// The figures of this moment.
    #[must_use]
    pub fn of(observed: &Observed) -> Self {
        let mailboxes = observed.actors().map(|seen| (seen.mailbox.actor(), seen.mailbox.depth()));
        let hindrance = observed.unready().into_iter().find(|it| matches!(it.reason, "degraded" | "over_budget"));
        Self {
            pending: observed.watching.pending(),
            in_flight: observed.watching.in_flight(),
            mailboxes: mailboxes.to_vec(),
            filed: observed.filing.filed(),
            uncommitted: observed.publishing.queued(),
            unpushed: observed.publishing.unpushed_commits(),
            retries: observed.publishing.retries_pending(),
            degraded: hindrance.map(|it| format!("{}: {}", it.part, it.detail)),
        }
    }
}
