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
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::{Actor, Addr, Arbiter, Context, Supervised, Supervisor, System};
use archiver::{Archiver, ArchiverConfig, ArchiverStatus};
use chrono::TimeDelta;
use executor::actor::ExecutorActor;
use executor::config::TargetConfig;
use protocol::ledger::Ledger;
use protocol::signing::Keyring;
use publisher::{Publisher, PublisherConfig, PublisherStatus};
use supervision::{Budget, Gauge, Lifeline, MAILBOX_CAPACITY, Port};
use tokio::signal::unix::{Signal, SignalKind, signal};
use verifier::{Judge, TimeRules, Verifier};
use watcher::{Pause, Watcher, WatcherConfig, WatcherStatus};

use crate::config::Config;
use crate::exit::Failure;

/// The longest that commands in flight are waited for at a stop; those that are left are found again at the next start.
const DRAIN_LIMIT: Duration = Duration::from_millis(3_500);
/// The longest that publishing may take at a stop; what is left is pushed after the next start.
const PUBLISH_LIMIT: Duration = Duration::from_millis(4_000);
/// What a git child that is told to end is granted beyond that.
const CHILD_GRACE: Duration = Duration::from_millis(1_500);
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

/// Runs the service until SIGINT or SIGTERM. `announce` tells the world that it starts: from then on a signal ends it
/// cleanly.
///
/// # Errors
/// When it cannot start, or when it had to end because of a bug or a spent restart budget.
pub fn run(setup: Setup, announce: impl FnOnce()) -> Result<(), Failure> {
    let runner = System::new();
    let signals = runner.block_on(async { Signals::listen() })?;
    announce();
    let ledger = Arc::new(Ledger::default());
    let recovery = archiver::recover(&setup.archiver(), &setup.keyring, &ledger).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        Failure::config(format!("{error}{cause}"))
    })?;
    tracing::info!(
        filed = ledger.len(),
        completed = recovery.completed.len(),
        incomplete = recovery.incomplete.len(),
        "the audit log is read"
    );
    let pipeline = runner.block_on(async { Pipeline::start(&setup, &ledger) })?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready: watching commands/");
    runner.block_on(async { drop(actix::spawn(pipeline.stop_on(signals))) });
    match runner.run_with_code() {
        Ok(0) => Ok(()),
        Ok(_) => Err(Failure::bug(
            "the service ended because of a failure it could not handle (see the log); start it again, it recovers from disk",
        )),
        Err(error) => {
            Err(Failure::bug(format!("the actor system ended badly: {error}; start it again, it recovers from disk")))
        }
    }
}

impl Setup {
    /// Whether the repository can be published from: to be asked before anything is created.
    ///
    /// # Errors
    /// When it cannot, with the remedy.
    pub fn require_repository(&self) -> Result<(), Failure> {
        publisher::open_check(&self.publisher()).map_err(Failure::config)
    }

    fn publisher(&self) -> PublisherConfig {
        let publish = &self.config.publish;
        PublisherConfig {
            remote: publish.remote.clone(),
            fetch_every: Duration::from_secs(publish.fetch_secs),
            attempts: publish.attempts,
            max_pushes_per_minute: publish.max_pushes_per_minute,
            author_name: publish.author_name.clone(),
            author_email: publish.author_email.clone(),
            ..PublisherConfig::new(&self.cloud)
        }
    }

    fn archiver(&self) -> ArchiverConfig {
        let publish = &self.config.publish;
        let window = usize::try_from(publish.window).unwrap_or(usize::MAX);
        ArchiverConfig { cloud: self.cloud.clone(), log_kib: publish.log_kib, window }
    }

    fn targets(&self) -> BTreeMap<String, TargetConfig> {
        let target = |target: &crate::config::Target| TargetConfig {
            root: target.root.clone(),
            is_cloud: target.root == self.cloud,
            deny: target.deny.clone(),
            allow_delete: target.allow_delete,
            limits: target.limits,
        };
        self.config.targets.iter().map(|(name, config)| (name.clone(), target(config))).collect()
    }

    fn judge(&self) -> Judge {
        let ingest = &self.config.ingest;
        let seconds = |seconds: u64| TimeDelta::seconds(i64::try_from(seconds).unwrap_or(i64::from(u32::MAX)));
        Judge {
            keyring: Arc::clone(&self.keyring),
            targets: self.config.targets.keys().cloned().collect(),
            time: TimeRules {
                clock_skew: seconds(ingest.clock_skew_secs),
                max_lifetime: seconds(ingest.max_lifetime_secs),
            },
            max_command_bytes: ingest.max_command_bytes,
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
    watcher: Addr<Watcher>,
    publisher: Addr<Publisher>,
    watching: Arc<WatcherStatus>,
}

/// Starts an actor under supervision, on a thread of its own.
fn start<A>(make: impl FnOnce() -> A + Send + 'static) -> Addr<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    Supervisor::start_in_arbiter(&Arbiter::new().handle(), |_| make())
}

impl Pipeline {
    fn start(setup: &Setup, ledger: &Arc<Ledger>) -> Result<Self, Failure> {
        let supervision = setup.config.supervision;
        let restarts = usize::try_from(supervision.max_restarts).unwrap_or(usize::MAX);
        let budget = Arc::new(Mutex::new(Budget::new(restarts, Duration::from_secs(supervision.within_secs))));
        let system = System::current();
        let lifeline = |actor| Lifeline::new(actor, system.clone(), Arc::clone(&budget));
        let gauge = |actor| Gauge::new(actor, MAILBOX_CAPACITY);

        let (config, status, line) = (setup.publisher(), Arc::new(PublisherStatus::default()), lifeline("publisher"));
        let publisher = start(move || Publisher::new(config, status, line));
        let filed = Port::new(publisher.clone(), gauge("publisher"));

        let (config, keyring, line) = (setup.archiver(), Arc::clone(&setup.keyring), lifeline("archiver"));
        let shared = Arc::clone(ledger);
        let archiver = start(move || {
            Archiver::new(config, keyring, shared, filed, Arc::new(ArchiverStatus::default())).with_lifeline(line)
        });
        let outcomes = Port::new(archiver, gauge("archiver"));

        let executor = ExecutorActor::new(setup.targets(), Arc::clone(ledger), outcomes.clone(), lifeline("executor"));
        let executor = executor.map(|executor| executor.with_checks(setup.config.checks.clone())).map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            Failure::config(format!("{error}{cause}"))
        })?;
        let verified = Port::new(start(move || executor), gauge("executor"));

        let (judge, line) = (setup.judge(), lifeline("verifier"));
        let verifier = start(move || Verifier::new(judge, verified, outcomes, line));
        let candidates = Port::new(verifier, gauge("verifier"));

        let watching = Arc::new(WatcherStatus::default());
        let (config, status, line) = (setup.watcher(), Arc::clone(&watching), lifeline("watcher"));
        let watcher = start(move || Watcher::new(config, candidates, status, line));
        Ok(Self { watcher, publisher, watching })
    }

    /// Ends the system after the first signal; a second one does not wait for anything.
    async fn stop_on(self, mut signals: Signals) {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping: finishing what is in flight, then publishing it");
        tokio::select! {
            () = self.stop() => tracing::info!("stopped"),
            signal = signals.next() => tracing::warn!(signal, "stopping at once; the rest is done after the next start"),
        }
        System::current().stop();
    }

    async fn stop(&self) {
        let deadline = Instant::now() + DRAIN_LIMIT;
        // An error means that the actor is gone, and then there is nothing to wait for.
        let _ = tokio::time::timeout(DRAIN_LIMIT, self.watcher.send(Pause)).await;
        while self.watching.in_flight() > 0 && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        let left = self.watching.in_flight();
        if left > 0 {
            tracing::warn!(left, "not all commands in flight were finished in time; they are still in commands/");
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

/// The signals that end the service. From the moment that they are listened for they kill nothing.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::bug(format!("cannot listen for signals: {error}")));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
