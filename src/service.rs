//! The service: the five actors, wired here and nowhere else.
//!
//! ```text
//! Watcher ─Candidate─► Verifier ─Verified─► Executor ─Executed─► Archiver ─Filed─► Publisher
//!                          └────────────── Rejected ───────────────►┘
//! ```
//!
//! It starts them from the end of the pipeline to its beginning, so that each finds its successor ready, and stops them
//! the other way round: nothing new is let in, what is in flight is finished, what is filed is published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::{Addr, System};
use archiver::{Archiver, ArchiverConfig};
use chrono::{DateTime, TimeDelta, Utc};
use executor::actor::{ExecutorActor, Surroundings};
use executor::config::TargetConfig;
use executor::core::Executor;
use executor::journal::Journal;
use executor::policy::Policy;
use executor::recovery::{Recovered, Recovery};
use executor::sandbox::Launcher;
use executor::status::ExecutorStatus;
use protocol::ledger::Ledger;
use protocol::message::{Attempt, Executed, Outcome};
use protocol::signing::Keyring;
use protocol::ticket::Ticket;
use publisher::{Publisher, PublisherConfig};
use supervision::Port;
use tokio::signal::unix::{Signal, SignalKind, signal};
use verifier::{Judge, TimeRules, Verifier};
use watcher::{Asked, Pause, Watcher, WatcherConfig};

use crate::config::{Checkout, Config, MAIN_TARGET};
use crate::exit::Failure;
use crate::git;
use crate::http;
use crate::manager::{Inherited, Manager, Threads};
use crate::observed::{Observed, Phase};

/// The longest that commands in flight are waited for at a stop; those that are left are found again at the next start.
const DRAIN_LIMIT: Duration = Duration::from_millis(3_500);
/// The longest that publishing may take at a stop; what is left is pushed after the next start.
const PUBLISH_LIMIT: Duration = Duration::from_millis(4_000);
/// What a git child that is told to end is granted beyond that.
const CHILD_GRACE: Duration = Duration::from_millis(1_500);
/// The shortest and the longest pause between two looks at the wall clock.
const CLOCK_LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(30));
/// The pause between two looks at what is still in flight.
const DRAIN_LOOK: Duration = Duration::from_millis(2);

/// All that the service needs, checked: CLOUD is the canonical top of a work tree, its folders are there, the instance
/// lock is held.
#[derive(Debug)]
pub struct Setup {
    /// The root of the work tree.
    pub cloud: PathBuf,
    /// The configuration.
    pub config: Config,
    /// The accepted secrets.
    pub keyring: Arc<Keyring>,
}

/// The targets of `config` as the executor wants them; `cloud` is canonical.
#[must_use]
pub fn targets(config: &Config, cloud: &Path) -> BTreeMap<String, TargetConfig> {
    let target = |target: &crate::config::Target| TargetConfig {
        root: target.root.clone(),
        is_cloud: target.root == cloud,
        deny: target.deny.clone(),
        allow_delete: target.allow_delete,
        limits: target.limits,
        ids: git::object_format(&target.root),
    };
    config.targets.iter().map(|(name, config)| (name.clone(), target(config))).collect()
}

/// How `config` has `cloud`, which is canonical, published.
#[must_use]
pub fn publishing(config: &Config, cloud: &Path) -> PublisherConfig {
    let publish = &config.publish;
    PublisherConfig {
        remote: publish.remote.clone(),
        targets: config.targets.values().map(|target| target.root.clone()).collect(),
        hooks: publish.hooks,
        fetch_every: Duration::from_secs(publish.fetch_secs),
        attempts: publish.attempts,
        max_pushes_per_minute: publish.max_pushes_per_minute,
        window: usize::try_from(publish.window).unwrap_or(usize::MAX),
        author_name: publish.author_name.clone(),
        author_email: publish.author_email.clone(),
        ..PublisherConfig::new(cloud)
    }
}

/// Runs the service until SIGINT, SIGTERM or the process manager's word. `announce` tells the world that it starts: from
/// then on a signal ends it cleanly. `inherited` is what the process manager left.
///
/// # Errors
/// When it cannot start, or when it had to end because of a bug or a spent restart budget.
pub fn run(setup: Setup, inherited: Inherited, announce: impl FnOnce()) -> Result<(), Failure> {
    let runner = System::new();
    let signals = runner.block_on(async { Signals::listen() })?;
    let mut observed = Observed::new(setup.cloud.clone(), setup.config.supervision, Utc::now());
    observed.rotation_ends = setup.keyring.rotation_ends();
    let observed = Arc::new(observed);
    http::start(setup.config.http, Arc::clone(&observed))?;
    announce();
    let ledger = Arc::new(Ledger::reading(archiver::Filed::under(&setup.cloud)));
    let (journal, left) = Journal::open(&setup.cloud).map_err(|error| Failure::config(error.to_string()))?;
    if let Err(error) = publisher::restore_log(&setup.publisher()) {
        tracing::warn!(%error, "the audit log on disk is taken as it is: it cannot be compared with the published one");
    }
    let recovery = archiver::recover(&setup.archiver(), &setup.keyring, &ledger).map_err(unrecovered)?;
    tracing::info!(
        filed = ledger.len(),
        completed = recovery.completed.len(),
        incomplete = recovery.incomplete.len(),
        "the audit log is read"
    );
    let recovered =
        executor::recovery::recover(&journal, left, &ledger).map_err(|error| Failure::config(error.to_string()))?;
    if !recovered.outcomes.is_empty() || !recovered.interrupted.is_empty() {
        tracing::info!(
            recorded = recovered.outcomes.len(),
            interrupted = recovered.interrupted.len(),
            restored_files = recovered.restored,
            changed_by_others = recovered.foreign.len(),
            "the journal of the last run is recovered"
        );
    }
    let (pipeline, threads) =
        runner.block_on(async { Pipeline::start(&setup, &observed, &ledger, journal, recovered) })?;
    observed.enter(Phase::Running);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready: watching commands/");
    runner.block_on(async {
        if let Some(ends) = observed.rotation_ends {
            drop(actix::spawn(tell_of_the_end(ends)));
        }
        let manager = Manager::attend(inherited, Arc::clone(&observed), threads);
        drop(actix::spawn(pipeline.stop_on(signals, manager)));
    });
    match runner.run_with_code() {
        Ok(0) => Ok(()),
        Ok(_) => {
            let cause = observed.fatal().unwrap_or_else(|| "a failure it could not handle (see the log)".to_owned());
            Err(Failure::bug(format!("the service ended: {cause}; start it again, it recovers from disk")))
        }
        Err(error) => {
            Err(Failure::bug(format!("the actor system ended badly: {error}; start it again, it recovers from disk")))
        }
    }
}

/// Says when a rotation ends while the service runs.
async fn tell_of_the_end(ends: DateTime<Utc>) {
    if ends <= Utc::now() {
        return;
    }
    // By the wall clock, which may be set meanwhile.
    while let Ok(left) = (ends - Utc::now()).to_std() {
        tokio::time::sleep(left.clamp(CLOCK_LOOK.0, CLOCK_LOOK.1)).await;
    }
    tracing::warn!("the rotation is over: only the next secret counts from now on; make it the current one");
}

impl Setup {
    /// Whether the repository can be published from: to be asked before anything is created.
    ///
    /// # Errors
    /// When it cannot, with the remedy.
    pub fn require_repository(&self) -> Result<(), Failure> {
        publisher::open_check(&self.publisher()).map_err(Failure::config)
    }

    /// Whether the repository has to be mended first: to be asked before anything else is asked of it.
    ///
    /// # Errors
    /// When it cannot be mended, with the file and the remedy.
    pub fn is_damaged(&self) -> Result<bool, Failure> {
        publisher::is_damaged(&self.publisher()).map_err(Failure::config)
    }

    /// Mends it, under the instance lock.
    ///
    /// # Errors
    /// When it cannot be mended, with the file and the remedy.
    pub fn mend(&self) -> Result<(), Failure> {
        publisher::mend(&self.publisher(), Utc::now()).map_err(Failure::config)
    }

    fn publisher(&self) -> PublisherConfig {
        PublisherConfig { checkout: self.checkout(), ..publishing(&self.config, &self.cloud) }
    }

    /// What of upstream's changes is brought into the work tree.
    fn checkout(&self) -> publisher::Checkout {
        match self.config.ingest.checkout {
            Checkout::All => publisher::Checkout::All,
            Checkout::Commands => publisher::Checkout::Commands,
            Checkout::Allowed => {
                let main = targets(&self.config, &self.cloud).remove(MAIN_TARGET);
                // The globs were read before; what cannot be judged is not permitted.
                let policy = main.and_then(|main| Policy::new(MAIN_TARGET, &main).ok());
                let permits = move |path: &str| policy.as_ref().is_some_and(|policy| policy.permits(path));
                publisher::Checkout::Allowed(publisher::Permits(Arc::new(permits)))
            }
        }
    }

    fn archiver(&self) -> ArchiverConfig {
        let publish = &self.config.publish;
        let window = usize::try_from(publish.window).unwrap_or(usize::MAX);
        let unauthenticated_per_hour = self.config.ingest.unauthenticated_per_hour;
        ArchiverConfig { cloud: self.cloud.clone(), log_kib: publish.log_kib, window, unauthenticated_per_hour }
    }

    fn executor(
        &self,
        targets: &BTreeMap<String, TargetConfig>,
        journal: Journal,
        status: Arc<ExecutorStatus>,
    ) -> Result<Executor, Failure> {
        let (checks, runner) = (self.config.checks.clone(), Arc::new(Launcher::default()));
        Executor::new(targets, checks, runner, journal, status).map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            Failure::config(format!("{error}{cause}"))
        })
    }

    fn judge(&self, ledger: &Arc<Ledger>) -> Judge {
        let ingest = &self.config.ingest;
        let seconds = |seconds: u64| TimeDelta::seconds(i64::try_from(seconds).unwrap_or(i64::from(u32::MAX)));
        Judge {
            keyring: Arc::clone(&self.keyring),
            ledger: Arc::clone(ledger),
            targets: self.config.targets.keys().cloned().collect(),
            checks: self.config.checks.keys().cloned().collect(),
            cloud_name: self.config.cloud_name.clone(),
            time: TimeRules {
                clock_skew: seconds(ingest.clock_skew_secs),
                max_lifetime: seconds(ingest.max_lifetime_secs),
            },
            max_command_bytes: ingest.max_command_bytes,
        }
    }

    /// What the watcher asks of the secrets and of git.
    fn asked(&self) -> Asked {
        let (keyring, cloud) = (Arc::clone(&self.keyring), self.cloud.clone());
        let committed = move || match git::ask(&cloud, &["ls-tree", "-z", "--name-only", "HEAD", "commands/"]) {
            Ok(names) => {
                Some(names.split('\0').filter_map(|path| path.strip_prefix("commands/")).map(Into::into).collect())
            }
            Err(error) => {
                tracing::debug!(%error, "what came into commands/ by a commit is asked for later");
                None
            }
        };
        Asked {
            is_signed: Arc::new(move |document| document.is_signed(&keyring, Utc::now())),
            committed: Arc::new(committed),
        }
    }

    fn watcher(&self) -> WatcherConfig {
        let ingest = &self.config.ingest;
        WatcherConfig {
            commands: self.cloud.join("commands"),
            settle_ms: ingest.settle_ms,
            rescan_secs: ingest.rescan_secs,
            max_command_bytes: ingest.max_command_bytes,
        }
    }
}

/// The running actors, as far as stopping them needs.
struct Pipeline {
    journal: Journal,
    watcher: Addr<Watcher>,
    publisher: Addr<Publisher>,
    observed: Arc<Observed>,
}

impl Pipeline {
    fn start(
        setup: &Setup,
        observed: &Arc<Observed>,
        ledger: &Arc<Ledger>,
        journal: Journal,
        recovered: Recovery,
    ) -> Result<(Self, Threads), Failure> {
        let system = System::current();
        let lifeline = |seen| observed.lifeline(seen, &system);
        let mut threads = Threads::default();

        let attempts = recovered.tries(publisher::attempts(&setup.cloud));
        let unfiled = recovered.outcomes.into_iter().map(backlog).collect();
        let unfiled = archiver::restore(&setup.archiver(), &setup.keyring, ledger, unfiled).map_err(unrecovered)?;

        let (config, status, line) =
            (setup.publisher(), Arc::clone(&observed.publishing), lifeline(&observed.publisher));
        let publisher = threads.start(move || Publisher::new(config, status, line));
        let filed = Port::new(publisher.clone(), Arc::clone(&observed.publisher.mailbox));
        let noted = Port::new(publisher.clone(), Arc::clone(&observed.publisher.mailbox));
        for (id, tried) in recovered.interrupted {
            let known = attempts.get(id.as_str()).copied().unwrap_or(tried);
            let error = "worker_crashed: the process ended before the command's checks had a verdict".to_owned();
            // One that is not noted costs nothing but the count.
            let _ = noted.send(Attempt { id, attempts: known, error, at: Utc::now() });
        }

        let (config, keyring, line) = (setup.archiver(), Arc::clone(&setup.keyring), lifeline(&observed.archiver));
        let (shared, status) = (Arc::clone(ledger), Arc::clone(&observed.filing));
        let archiver = threads.start(move || {
            Archiver::new(config, keyring, shared, filed, status).with_lifeline(line).with_backlog(unfiled)
        });
        let outcomes = Port::new(archiver, Arc::clone(&observed.archiver.mailbox));

        let (targets, status) = (targets(&setup.config, &setup.cloud), Arc::clone(&observed.executing));
        let core = setup.executor(&targets, journal.clone(), Arc::clone(&status))?;
        let around =
            Surroundings { archiver: outcomes.clone(), publisher: noted, lifeline: lifeline(&observed.executor) };
        let executor = ExecutorActor::new(&targets, core, journal.clone(), attempts, status, around);
        let verified = Port::new(threads.start(move || executor), Arc::clone(&observed.executor.mailbox));

        let (judge, line) = (setup.judge(ledger), lifeline(&observed.verifier));
        let verifier = threads.start(move || Verifier::new(judge, verified, outcomes, line));
        let candidates = Port::new(verifier, Arc::clone(&observed.verifier.mailbox));

        let (config, status, line) = (setup.watcher(), Arc::clone(&observed.watching), lifeline(&observed.watcher));
        let asked = setup.asked();
        let watcher = threads.start(move || Watcher::new(config, asked, candidates, status, line));
        Ok((Self { journal, watcher, publisher, observed: Arc::clone(observed) }, threads))
    }

    /// Ends the system after the first signal; a second one does not wait for anything.
    async fn stop_on(self, mut signals: Signals, manager: Manager) {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            message = manager.asks_to_stop() => message,
        };
        manager.stopping();
        tracing::info!(signal, "stopping: finishing what is in flight, then publishing it");
        tokio::select! {
            () = self.stop() => tracing::info!("stopped"),
            signal = signals.next() => tracing::warn!(signal, "stopping at once; the rest is done after the next start"),
        }
        System::current().stop();
    }

    async fn stop(&self) {
        let deadline = Instant::now() + DRAIN_LIMIT;
        self.observed.enter(Phase::Stopping);
        // An error means that the actor is gone, and then there is nothing to wait for.
        let _ = tokio::time::timeout(DRAIN_LIMIT, self.watcher.send(Pause)).await;
        // What the last life of the process left to be filed has no place in flight; the journal knows of it.
        while (self.observed.watching.in_flight() > 0 || self.journal.has_open_commands()) && Instant::now() < deadline
        {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        let left = self.observed.watching.in_flight();
        if left > 0 {
            tracing::warn!(left, "not all commands in flight were finished in time; they are still in commands/");
        }
        // A clean stop leaves an empty journal, if all is filed; else the next start finds it.
        let journal = self.journal.clone();
        let close = move || journal.call_off().and_then(|called_off| journal.checkpoint(true).map(|()| called_off));
        match tokio::task::spawn_blocking(close).await {
            Ok(Ok(0)) => {}
            Ok(Ok(called_off)) => {
                tracing::warn!(
                    called_off,
                    "commands whose checks still run are undone and begun again by the next start"
                );
            }
            Ok(Err(error)) => tracing::warn!(%error, "the journal stays for the next start"),
            Err(error) => tracing::error!(%error, "closing the journal"),
        }
        let stop = publisher::Stop { within: PUBLISH_LIMIT };
        match tokio::time::timeout(PUBLISH_LIMIT + CHILD_GRACE, self.publisher.send(stop)).await {
            Ok(Ok(stopped)) if stopped.unpushed + stopped.uncommitted > 0 => {
                let (unpushed, uncommitted) = (stopped.unpushed, stopped.uncommitted);
                tracing::warn!(
                    unpushed,
                    uncommitted,
                    "not everything was published in time; the rest is after the next start"
                );
            }
            Ok(Ok(_)) => {}
            _ => tracing::warn!("the publisher did not answer in time; what it left is published after the next start"),
        }
    }
}

/// That the artifacts and the log cannot be brought in order.
fn unrecovered(error: archiver::RecoverError) -> Failure {
    let cause = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
    Failure::config(format!("{error}{cause}"))
}

/// What the archiver is to file of what another life of the process executed. Its document may still lie in `commands/`;
/// no place in flight is taken by it.
fn backlog(recovered: Recovered) -> Outcome {
    let Recovered { file, command, execution, receipt, licence } = recovered;
    let ticket = Ticket::of_another_life(file);
    Outcome::Executed(Executed { ticket, command, execution, receipt, licence })
}

/// The signals that end the service. From the moment that they are listened for they kill nothing.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Listened for so that it kills nothing: a file that may not grow any more is an error of the write.
    _file_size: Option<Signal>,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::bug(format!("cannot listen for signals: {error}")));
        let file_size = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).ok();
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            _file_size: file_size,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
