//! What the publisher is told: plain data, validated by the root.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::index::fold::FOLD_FROM;

/// Commands that lie flat in a folder before the older ones move to a segment.
pub const WINDOW: usize = 256;
/// Commits that go into one group, that is one pack and one move of the branch.
pub const GROUP_MAX: usize = 256;
/// Filed commands that wait in memory, at about a KiB each; beyond that they are found again on disk, as fast.
pub const QUEUE_MAX: usize = 10_000;
/// The longest that a git child may run.
pub const GIT_TIME_LIMIT: Duration = Duration::from_secs(60);
/// The first delay after a failed push, doubled after each further one.
pub const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The longest delay between two tries.
pub const BACKOFF_CAP: Duration = Duration::from_secs(60);
/// Pushes a minute that GitHub asks one to stay within.
pub const GITHUB_PUSHES_PER_MINUTE: u32 = 6;

/// Says of a path whether it may be brought into the work tree.
#[derive(Clone)]
pub struct Permits(pub Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl std::fmt::Debug for Permits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permits")
    }
}

/// What of upstream's changes is brought into the work tree. The folders that are exchanged, `summaries/` and `context/`,
/// always are: what is missing there is taken for deleted.
#[derive(Clone, Debug, Default)]
pub enum Checkout {
    /// All that nobody changed here.
    #[default]
    All,
    /// The same, save what a command may not touch either.
    Allowed(Permits),
    /// Documents in `commands/`, and nothing else.
    Commands,
}

/// Everything that decides how the publisher works.
#[derive(Clone, Debug)]
pub struct PublisherConfig {
    /// The work tree's top.
    pub cloud: PathBuf,
    /// The remote's name; `None`: the branch's own upstream remote, else `origin`, else the only one there is.
    pub remote: Option<String>,
    /// The roots of all targets, canonical: commands write there, so nothing is run from there.
    pub targets: Vec<PathBuf>,
    /// Whether fetches and pushes run the operator's own hooks.
    pub hooks: bool,
    /// What of upstream's changes is brought into the work tree.
    pub checkout: Checkout,
    /// How often the remote is looked at.
    pub fetch_every: Duration,
    /// Consecutive failures after which the publisher is degraded.
    pub attempts: u32,
    /// Pushes a minute: `Some(0)` is unlimited, `None` is [`GITHUB_PUSHES_PER_MINUTE`] for a remote at github.com and
    /// unlimited for any other.
    pub max_pushes_per_minute: Option<u32>,
    /// The most commands whose artifacts lie flat in their folders, and the most in one segment; 0 counts as 1.
    pub window: usize,
    /// Author and committer of the bridge's commits.
    pub author_name: String,
    /// Their mail address.
    pub author_email: String,
    /// The longest that a git child may run.
    pub git_time_limit: Duration,
    /// The first delay after a failure.
    pub backoff_base: Duration,
    /// The longest delay between two tries.
    pub backoff_cap: Duration,
    /// Rolled-over artifacts in git's index from which on each year of them is held as one entry.
    pub fold_from: usize,
}

impl PublisherConfig {
    /// The defaults of the contract for a given CLOUD.
    #[must_use]
    pub fn new(cloud: impl Into<PathBuf>) -> Self {
        Self {
            cloud: cloud.into(),
            remote: None,
            targets: Vec::new(),
            hooks: false,
            checkout: Checkout::All,
            fetch_every: Duration::from_secs(5),
            attempts: 6,
            max_pushes_per_minute: None,
            window: WINDOW,
            author_name: "ghost-bridge".to_owned(),
            author_email: "ghost-bridge@localhost".to_owned(),
            git_time_limit: GIT_TIME_LIMIT,
            backoff_base: BACKOFF_BASE,
            backoff_cap: BACKOFF_CAP,
            fold_from: FOLD_FROM,
        }
    }
}
