//! The publisher as an actor: this file and the two below it are all that knows actix.
//! It keeps what was filed in order, lends the
//! repository to one piece of work at a time, and runs at most one child towards the remote beside it.

mod attempts;
mod round;
mod stop;
mod times;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use actix::prelude::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle, Supervised, WrapFuture};
use chrono::Utc;
use protocol::message::Filed;
use supervision::{Envelope, Lifeline, MAILBOX_CAPACITY, Panicked, effect};

use self::attempts::Attempts;
use self::round::{Round, TIDY_PAUSE};
use self::stop::Stopping;
pub use self::stop::{Stop, Stopped};
use self::times::Times;
use crate::config::{GITHUB_PUSHES_PER_MINUTE, GROUP_MAX, PublisherConfig, QUEUE_MAX};
use crate::core::Core;
use crate::destination::Destination;
use crate::error::WorkError;
use crate::housekeeping::PACKS_DEGRADED;
use crate::network::Route;
use crate::pending::{Pending, Queue};
use crate::remote::{Policy, Remote, Trouble};
use crate::status::PublisherStatus;
use crate::work::{Done, IndexClock, RETRY, Task, View};

/// The publisher's shell.
pub struct Publisher {
    config: PublisherConfig,
    status: Arc<PublisherStatus>,
    lifeline: Lifeline,
    cancel: Arc<AtomicBool>,
    /// Ends the consolidation of packs, which nobody waits for.
    tidy_cancel: Arc<AtomicBool>,
    first: bool,
    core: Option<Box<Core>>,
    /// For the children that run beside the work on the repository.
    route: Option<Route>,
    working: bool,
    queue: Queue,
    attempts: Attempts,
    view: View,
    destination: Option<Destination>,
    /// Whether it was told whither commits go.
    told: bool,
    /// Why nothing is fetched or pushed, whatever the remote says.
    refused: Option<String>,
    remote: Remote,
    round: Round,
    times: Times,
    index: IndexClock,
    scan_at: Option<Instant>,
    tidy_at: Option<Instant>,
    tidy_pause: Duration,
    /// Whether that was tried in this life.
    tidied: bool,
    retry_at: Option<Instant>,
    trouble: Option<String>,
    stop: Option<Stopping>,
    wake: Option<SpawnHandle>,
}

impl Publisher {
    /// A publisher that tells of itself in `status`.
    #[must_use]
    pub fn new(config: PublisherConfig, status: Arc<PublisherStatus>, lifeline: Lifeline) -> Self {
        let remote = Remote::new(Policy {
            fetch_every: config.fetch_every,
            attempts: config.attempts,
            backoff_base: config.backoff_base,
            backoff_cap: config.backoff_cap,
            pushes_per_minute: config.max_pushes_per_minute.unwrap_or(0),
        });
        Self {
            config,
            status,
            lifeline,
            cancel: Arc::default(),
            tidy_cancel: Arc::default(),
            first: true,
            core: None,
            route: None,
            working: false,
            queue: Queue::new(QUEUE_MAX),
            attempts: Attempts::default(),
            view: View::default(),
            destination: None,
            told: false,
            refused: None,
            remote,
            round: Round::Idle,
            times: Times::default(),
            index: IndexClock::default(),
            scan_at: None,
            tidy_at: None,
            tidy_pause: TIDY_PAUSE,
            tidied: false,
            retry_at: None,
            trouble: None,
            stop: None,
            wake: None,
        }
    }

    /// Starts whatever can be started now, and sees to being woken for the rest.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.stop.as_ref().is_some_and(|stop| stop.over) {
            return;
        }
        if !self.working {
            self.work(now, ctx);
        }
        if matches!(self.round, Round::Idle) {
            self.begin_round(now, ctx);
        }
        self.finish_stop(now);
        self.report();
        self.sleep(now, ctx);
    }

    /// Lends the repository to the most urgent piece of work.
    fn work(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let retrying = self.retry_at.is_some_and(|at| now < at);
        let Some(core) = self.core.take() else {
            if !retrying {
                self.open(ctx);
            }
            return;
        };
        let Some(task) = self.choose(now, retrying) else {
            self.core = Some(core);
            return;
        };
        self.working = true;
        let part = self.remote.part();
        let work = move |core: &mut Box<Core>| {
            let done = task.run(core, Utc::now());
            (done, View::of(core, part))
        };
        effect(self, ctx, core, work, Self::worked);
    }

    fn choose(&mut self, now: Instant, retrying: bool) -> Option<Task> {
        match self.round {
            Round::Pushed(part) => {
                self.round = Round::TakingIn;
                return Some(Task::Pushed(part));
            }
            Round::Fetched(exists) => {
                self.round = Round::TakingIn;
                return Some(Task::Integrate(exists));
            }
            Round::Idle | Round::Child | Round::TakingIn => {}
        }
        if !retrying {
            if self.queue.is_behind() || self.view.recovering {
                return Some(Task::Recover(self.queue.take_behind()));
            }
            if !self.queue.is_empty() {
                return Some(Task::Commit(self.queue.take(GROUP_MAX)));
            }
        }
        // It has a clock of its own: where no commit can be made, the counts are on disk at least.
        if let Some(attempts) = self.take_attempts(now) {
            return Some(Task::Retries(attempts));
        }
        // A stop waits for the first look, which tells whether there is a remote, and for no other.
        if self.scan_at.is_none_or(|at| at <= now && self.stop.is_none()) {
            self.scan_at = Some(now + self.config.fetch_every);
            return Some(Task::Scan);
        }
        let last = self.stop.as_ref().is_some_and(|stop| stop.pushed) && matches!(self.round, Round::Idle);
        let due = self.index.due().is_some_and(|at| at <= now || last);
        due.then_some(Task::Index)
    }

    fn open(&mut self, ctx: &mut Context<Self>) {
        self.working = true;
        let (config, cancel, first) = (self.config.clone(), Arc::clone(&self.cancel), self.first);
        let work = move |(): &mut ()| Core::open(config, cancel, first, Utc::now());
        effect(self, ctx, (), work, |actor, ctx, outcome| {
            actor.working = false;
            match outcome {
                Ok(((), Ok(core))) => {
                    actor.first = false;
                    actor.works_again();
                    actor.view = View::of(&core, actor.remote.part());
                    actor.route = Some(core.route());
                    actor.core = Some(Box::new(core));
                    if actor.view.index_lags {
                        actor.index.moved(Instant::now());
                    }
                }
                Ok(((), Err(error))) => actor.failed(&error),
                Err(panicked) => return actor.broken(&panicked, ctx),
            }
            actor.pump(ctx);
        });
    }

    fn worked(&mut self, ctx: &mut Context<Self>, outcome: Result<(Box<Core>, (Done, View)), Panicked>) {
        self.working = false;
        let (core, (done, view)) = match outcome {
            Ok(worked) => worked,
            Err(panicked) => return self.broken(&panicked, ctx),
        };
        self.core = Some(core);
        if view.index_lags {
            self.index.moved(Instant::now());
        }
        if view.index_unproved {
            self.index.unproved(Instant::now())
        } else {
            self.index.proved()
        }
        self.view = view;
        self.took(done, ctx);
        self.pump(ctx);
    }

    /// A bug ate the repository's state: it is opened anew, and what was lost is found on disk.
    fn broken(&mut self, panicked: &Panicked, ctx: &mut Context<Self>) {
        tracing::error!(%panicked, "the publisher lost its state");
        self.lifeline.panicked(panicked);
        self.core = None;
        ctx.stop();
    }

    fn took(&mut self, done: Done, ctx: &mut Context<Self>) {
        let now = Instant::now();
        match done {
            Done::Committed(result, seen, rest) => {
                self.queue.put_back(rest);
                self.times.committed(seen, now, &self.status);
                self.noted(result.map(|settled| self.status.add_committed(settled.committed)));
            }
            Done::Retried(result) => self.retried(result, now),
            Done::Recovered(result) => {
                if result.is_err() {
                    self.view.recovering = true;
                }
                self.noted(result.map(|lines| self.status.add_committed(lines)));
            }
            Done::Integrated(result) => self.integrated(result, now, ctx),
            Done::Pushed(result) => {
                self.round = Round::Idle;
                if let Err(error) = result {
                    tracing::warn!(%error, "a push could not be noted down");
                }
                self.push_noted();
                if !self.view.index_lags {
                    self.index.done();
                }
            }
            Done::Indexed(Ok(())) if !self.view.index_lags => self.index.done(),
            Done::Indexed(Ok(())) => {}
            Done::Scanned(result) => self.scanned(result),
            Done::Indexed(Err(error)) => {
                tracing::debug!(%error, "the index is brought in line later");
                if self.stop.is_some() { self.index.done() } else { self.index.held(now) }
            }
        }
        if !self.view.recovering && self.core.is_some() {
            self.status.set_ready();
        }
    }

    fn scanned(&mut self, result: Result<Option<Destination>, WorkError>) {
        match result {
            Ok(destination) => {
                if destination.is_none() {
                    self.status.set_reached();
                }
                self.learn(destination);
                // Where commits wait, only a commit tells that they can be made again.
                if self.queue.is_empty() && !self.view.recovering {
                    self.works_again();
                }
            }
            Err(WorkError::Open(error)) => self.refuse(error.to_string()),
            Err(error) => self.failed(&error),
        }
    }

    /// Git's configuration is not one to start a child with: commits stay local until it is.
    fn refuse(&mut self, reason: String) {
        if self.refused.as_ref() != Some(&reason) {
            tracing::error!(reason, "degraded: nothing is fetched or pushed; a person has to see to it");
        }
        (self.destination, self.told, self.refused) = (None, false, Some(reason));
    }

    /// What the configuration says of the remote now.
    fn learn(&mut self, found: Option<Destination>) {
        self.refused = None;
        if std::mem::replace(&mut self.told, true) && found == self.destination {
            return;
        }
        let github = found.as_ref().is_some_and(|found| found.github);
        let default = if github { GITHUB_PUSHES_PER_MINUTE } else { 0 };
        self.remote.set_pace(self.config.max_pushes_per_minute.unwrap_or(default));
        let branch = self.route.as_ref().map(|route| route.branch.clone()).unwrap_or_default();
        match &found {
            Some(Destination { remote, url, .. }) => {
                tracing::info!(branch, remote, url, github, "commits are pushed");
                if let (Some(route), Some(found)) = (&mut self.route, &found) {
                    route.lead_to(found);
                }
            }
            None => {
                let wished = self.config.remote.as_deref().unwrap_or("any");
                tracing::warn!(branch, wished, "there is no remote: commits stay local");
                self.times.forget();
            }
        }
        self.status.set_place(branch, found.as_ref().map(|found| found.remote.clone()));
        self.destination = found;
    }

    fn noted(&mut self, result: Result<(), WorkError>) {
        match result {
            Ok(()) => self.works_again(),
            Err(error) => self.failed(&error),
        }
    }

    fn works_again(&mut self) {
        self.retry_at = None;
        if let Some(trouble) = self.trouble.take() {
            tracing::info!(was = trouble, "commits are made again");
        }
    }

    fn failed(&mut self, error: &WorkError) {
        self.retry_at = Some(Instant::now() + RETRY);
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::error!(error = text, "commits cannot be made; it is tried again");
            self.trouble = Some(text);
        }
    }

    fn report(&self) {
        self.status.set_unpushed(self.view.unpushed);
        self.status.set_queued(self.queue.len() as u64);
        self.status.set_retries(self.view.retries);
        self.status.set_files_apart(self.view.files_apart);
        self.status.set_index_held(self.view.index_held);
        self.status.set_packs(self.view.clutter.packs as u64);
        let reason = self.trouble.clone().or_else(|| self.refused.clone());
        let reason = reason.or_else(|| self.remote.trouble().map(Trouble::reason).map(str::to_owned));
        self.status.set_degraded(reason.or_else(|| self.too_many_packs()));
    }

    /// What is to be said where packs gather although it was tried to put them together.
    fn too_many_packs(&self) -> Option<String> {
        let packs = self.view.clutter.packs;
        (self.tidied && packs >= PACKS_DEGRADED)
            .then(|| format!("{packs} packs could not be put together; `git fsck` tells whether one is damaged"))
    }

    /// Sees to being woken when the next thing is due.
    fn sleep(&mut self, now: Instant, ctx: &mut Context<Self>) {
        if let Some(wake) = self.wake.take() {
            ctx.cancel_future(wake);
        }
        let mut due: Vec<Instant> = Vec::new();
        if !self.working {
            due.extend(self.retry_at);
            due.extend(self.attempts_due(now));
            due.extend(self.scan_at);
            due.extend(self.index.due());
        }
        let rounds =
            self.stop.is_none() && self.destination.is_some() && self.trouble.is_none() && self.route.is_some();
        if matches!(self.round, Round::Idle) && rounds {
            due.push(self.remote.due(self.backlog(), now));
        }
        match &self.stop {
            Some(stop) if stop.over => return,
            Some(stop) => due.push(stop.deadline),
            None => {}
        }
        let Some(at) = due.into_iter().min() else { return };
        let delay = at.saturating_duration_since(now).max(Duration::from_millis(1));
        self.wake = Some(ctx.run_later(delay, |actor, ctx| {
            actor.wake = None;
            actor.pump(ctx);
        }));
    }
}

impl Actor for Publisher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        self.pump(ctx);
    }
}

impl Supervised for Publisher {
    fn restarting(&mut self, ctx: &mut Self::Context) {
        self.core = None;
        self.working = false;
        self.round = Round::Idle;
        self.wake = None;
        if let Some(delay) = self.lifeline.restarting() {
            ctx.wait(tokio::time::sleep(delay).into_actor(self));
        }
    }
}

impl Handler<Envelope<Filed>> for Publisher {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Filed>, ctx: &mut Self::Context) {
        supervision::fault_point!("publisher.handler");
        let (filed, _handling) = envelope.open();
        self.attempts.forget(&filed);
        self.queue.push(Pending::from(filed));
        self.pump(ctx);
    }
}
