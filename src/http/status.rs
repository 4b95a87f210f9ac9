//! `GET /status`: what a person, or the program's own command line, wants to know of the running service, as one JSON
//! object. Fields may be added; none changes its meaning.

use std::path::PathBuf;

use archiver::Story;
use protocol::reason::Reason;
use protocol::time::format_utc;
use serde::Serialize;

use crate::observed::{Observed, Phase, Unready};

/// The whole object.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The program's version.
    version: &'static str,
    /// The process id.
    pid: u32,
    /// When the service was started, RFC 3339 in UTC.
    started_at: String,
    /// The root of the work tree.
    cloud: PathBuf,
    /// `starting`, `running` or `stopping`.
    phase: Phase,
    /// What `GET /readyz` says.
    ready: bool,
    /// Why it is not ready; empty where it is.
    reasons: Vec<Unready>,
    /// The five actors, in the order of the pipeline.
    actors: Vec<Actor>,
    /// Documents.
    commands: Commands,
    /// Commits and the remote.
    publishing: Publishing,
    /// The documents filed last, at most 20, the latest first.
    last_commands: Vec<Last>,
}

#[derive(Debug, Serialize)]
struct Actor {
    /// `watcher`, `verifier`, `executor`, `archiver` or `publisher`.
    actor: &'static str,
    /// Restarts since the start.
    restarts: u64,
    /// Messages that were sent to it and are not handled yet.
    mailbox_depth: usize,
    /// The most that its mailbox takes.
    mailbox_capacity: usize,
}

#[derive(Debug, Serialize)]
struct Commands {
    /// In `commands/`, waiting for their place in flight.
    pending: usize,
    /// Being judged, executed or filed.
    in_flight: usize,
    /// Filed since the start, whatever the outcome.
    filed: u64,
    /// Removed since the start because the same document, in whatever spelling, had been filed before.
    removed_quietly: u64,
    /// In the retries index.
    retries_pending: u64,
}

#[derive(Debug, Serialize)]
struct Publishing {
    /// Filed documents that got their commit since the start.
    committed: u64,
    /// Filed documents that wait for their commit.
    uncommitted: u64,
    /// Commits that the remote does not have.
    unpushed_commits: u64,
    /// Packs of the repository that are not put together yet.
    repository_packs: u64,
    /// Files that upstream changed and that were changed here, too.
    files_apart: u64,
    /// Whether something hinders publishing for longer than a passing moment.
    degraded: bool,
    /// The branch that is published; empty before it is known.
    branch: String,
    /// The remote's name; null where commits stay local.
    remote: Option<String>,
    /// What it is, else null.
    degraded_reason: Option<String>,
    /// Why the last attempt to reach the remote failed; null once one has come off.
    last_failure: Option<String>,
}

/// One filed document. Times are in milliseconds, and null where the stage was not reached, or not in this run.
#[derive(Debug, Serialize)]
struct Last {
    /// Its id, or null.
    id: Option<String>,
    /// Its name in `commands/`.
    file: String,
    /// `ok`, `failed` or `rejected`.
    outcome: &'static str,
    /// Why it did not end well, else null.
    reason: Option<&'static str>,
    /// Files that differ.
    files_changed: u64,
    /// When it was filed, RFC 3339 in UTC.
    filed_at: String,
    /// From first sight until its judgement began.
    waited_ms: Option<f64>,
    /// The verifier's time.
    verified_ms: Option<f64>,
    /// From there until the executor was done with it.
    executed_ms: Option<f64>,
    /// From there until it was filed.
    filed_ms: Option<f64>,
    /// From first sight until it was filed.
    total_ms: Option<f64>,
}

impl Status {
    /// The status of what `observed` shows.
    #[must_use]
    pub fn of(observed: &Observed) -> Self {
        let reasons = observed.unready();
        let (branch, remote) = observed.publishing.place();
        let (watching, filing, publishing) = (&observed.watching, &observed.filing, &observed.publishing);
        let actors = observed.actors().map(|seen| Actor {
            actor: seen.mailbox.actor(),
            restarts: seen.restarts.get(),
            mailbox_depth: seen.mailbox.depth(),
            mailbox_capacity: seen.mailbox.capacity(),
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started_at: format_utc(observed.started_at),
            cloud: observed.cloud.clone(),
            phase: observed.phase(),
            ready: reasons.is_empty(),
            reasons,
            actors: actors.into(),
            commands: Commands {
                pending: watching.pending(),
                in_flight: watching.in_flight(),
                filed: filing.filed(),
                removed_quietly: filing.removed_quietly(),
                retries_pending: publishing.retries_pending(),
            },
            publishing: Publishing {
                committed: publishing.committed(),
                uncommitted: publishing.queued(),
                unpushed_commits: publishing.unpushed_commits(),
                repository_packs: publishing.packs(),
                files_apart: publishing.files_apart(),
                degraded: publishing.is_degraded(),
                branch,
                remote,
                degraded_reason: publishing.degraded_reason(),
                last_failure: publishing.last_failure(),
            },
            last_commands: filing.last().into_iter().map(Last::from).collect(),
        }
    }
}

impl From<Story> for Last {
    fn from(story: Story) -> Self {
        Self {
            id: story.id.as_ref().map(ToString::to_string),
            outcome: story.ending.as_str(),
            reason: story.ending.reason().map(Reason::as_str),
            files_changed: story.files_changed,
            filed_at: format_utc(story.filed_at),
            waited_ms: story.waited.map(archiver::millis),
            verified_ms: story.verified.map(archiver::millis),
            executed_ms: story.executed.map(archiver::millis),
            filed_ms: story.filed.map(archiver::millis),
            total_ms: story.total.map(archiver::millis),
            file: story.file,
        }
    }
}
