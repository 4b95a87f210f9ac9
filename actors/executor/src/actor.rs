//! The executor as an actor: the only file here that knows actix. Each lane runs one row of commands at a time on a
//! blocking thread; outcomes leave in the order in which their lane settled them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::{Actor, AsyncContext, Context, Handler, SpawnHandle, Supervised, WrapFuture};
use chrono::{DateTime, Utc};
use protocol::message::{Attempt, Content, Executed, Outcome, Rejected, Rejection, Verified};
use protocol::reason::Reason;
use supervision::{Envelope, Lifeline, MAILBOX_CAPACITY, Panicked, Port, SendError, effect};

use crate::clock::Clock;
use crate::config::Targets;
use crate::core::{Batch, Executor, Job, Judgement, Ran};
use crate::journal::{Journal, JournalError};
use crate::lanes::{Lanes, retry_delay};
use crate::status::ExecutorStatus;

/// How long to wait before an outcome is offered again to a full mailbox.
const OFFER_AGAIN: Duration = Duration::from_millis(5);
/// How long nothing must have happened before the journal is emptied.
const QUIET: Duration = Duration::from_millis(500);

/// The system's clocks.
struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A command that waits, still in its envelope, so that it is counted as unhandled.
struct Waiting {
    envelope: Envelope<Verified>,
    attempts: u32,
}

impl Waiting {
    fn job(&self) -> Job {
        let Verified { ticket, command, turn } = &self.envelope.message;
        let (command, turn) = (Arc::clone(command), Arc::clone(turn));
        Job { file: ticket.file().to_owned(), command, attempts: self.attempts, turn }
    }

    /// What the archiver is told.
    fn outcome(self, judgement: Judgement) -> Outcome {
        let attempts = self.attempts;
        let Verified { mut ticket, command, turn } = self.envelope.message;
        ticket.executed(Instant::now());
        let (id, input_sha256) = (command.command().id.clone(), command.input_sha256());
        match judgement {
            Judgement::Executed(execution, receipt, licence) => {
                Outcome::Executed(Executed { ticket, command, execution, receipt, licence })
            }
            Judgement::Rejected(verdict) => {
                let content = Content::Document(Arc::clone(command.raw()));
                let (id, turn) = (Some(id), Some(turn));
                let rejection = Rejection { verdict, id, hmac_ok: true, content, input_sha256, attempts, turn };
                Outcome::Rejected(Rejected { ticket, rejection })
            }
        }
    }
}

/// What the actor needs from the rest of the house.
#[derive(Debug)]
pub struct Surroundings {
    /// Where every outcome goes.
    pub archiver: Port<Outcome>,
    /// Who notes failed tries.
    pub publisher: Port<Attempt>,
    /// The tie to the process.
    pub lifeline: Lifeline,
}

/// The executor's shell.
pub struct ExecutorActor {
    core: Arc<Executor>,
    journal: Journal,
    status: Arc<ExecutorStatus>,
    lanes: Lanes<Waiting>,
    /// How often commands were tried in another life of the process, by id.
    attempts: BTreeMap<String, u32>,
    outbox: VecDeque<Outcome>,
    /// Why lanes can record nothing at the moment, by their numbers.
    stalled: BTreeMap<usize, String>,
    around: Surroundings,
    checkpointing: bool,
    wake: Option<SpawnHandle>,
    quiet: Option<SpawnHandle>,
}

impl ExecutorActor {
    /// An executor for `targets` that works with `core` and its `journal`; `attempts` tells how often commands were tried
    /// before, by id.
    #[must_use]
    pub fn new(
        targets: &Targets,
        core: Executor,
        journal: Journal,
        attempts: BTreeMap<String, u32>,
        status: Arc<ExecutorStatus>,
        around: Surroundings,
    ) -> Self {
        Self {
            core: Arc::new(core),
            journal,
            status,
            lanes: Lanes::new(targets),
            attempts,
            outbox: VecDeque::new(),
            stalled: BTreeMap::new(),
            around,
            checkpointing: false,
            wake: None,
            quiet: None,
        }
    }

    /// Starts whatever may be started now, and sees to being woken for the rest.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        if self.deliver(ctx) {
            let now = Instant::now();
            for number in 0..self.lanes.count() {
                let taken = self.lanes.get(number).map(|lane| lane.take(now)).unwrap_or_default();
                if !taken.is_empty() {
                    self.run(number, taken, ctx);
                }
            }
        }
        if self.journal.has_full_segments() {
            self.checkpoint(false, ctx);
        }
        self.sleep(ctx);
    }

    fn run(&mut self, lane: usize, mut waiting: Vec<Waiting>, ctx: &mut Context<Self>) {
        waiting.iter_mut().for_each(|waiting| waiting.envelope.begin());
        let core = Arc::clone(&self.core);
        let work = move |waiting: &mut Vec<Waiting>| {
            let jobs: Vec<Job> = waiting.iter().map(Waiting::job).collect();
            core.run(&jobs, &SystemClock)
        };
        effect(self, ctx, waiting, work, move |actor, ctx, outcome: Result<_, Panicked>| match outcome {
            Ok((waiting, batch)) => actor.ran(lane, waiting, batch, ctx),
            // What was under way is in the journal, and only a start reads it.
            Err(panicked) => actor.around.lifeline.fatal(&format!("the executor lost a row of commands: {panicked}")),
        });
    }

    fn ran(&mut self, number: usize, waiting: Vec<Waiting>, batch: Batch, ctx: &mut Context<Self>) {
        if let Some(cause) = batch.fatal {
            return self.around.lifeline.fatal(&cause);
        }
        let (mut back, mut delay, mut stalled) = (Vec::new(), None, batch.stalled);
        for (mut waiting, ran) in waiting.into_iter().zip(batch.ran) {
            match ran {
                Ran::Judged(judgement) => self.outbox.push_back(waiting.outcome(judgement)),
                Ran::Back => back.push(waiting),
                Ran::Starved(detail) => {
                    stalled = Some(detail);
                    back.push(waiting);
                }
                Ran::Again { attempts, reason, detail } => {
                    waiting.attempts = attempts;
                    if reason == Reason::WorkerCrashed {
                        // Its tries are counted, so that it cannot use up the budget of all.
                        self.around.lifeline.count_only();
                    }
                    let wait = retry_delay(attempts, rand::random());
                    self.note(&waiting, &format!("{reason}: {detail}"), wait);
                    delay = delay.max(Some(wait));
                    back.push(waiting);
                }
            }
        }
        let now = Instant::now();
        back.iter_mut().for_each(|waiting: &mut Waiting| waiting.envelope.put_back());
        if let Some(lane) = self.lanes.get(number) {
            lane.ran(back);
            match (&stalled, delay) {
                (Some(_), _) => lane.stall(now),
                (None, Some(delay)) => lane.pause(now, delay),
                (None, None) => lane.flows(),
            }
        }
        match stalled {
            Some(reason) => drop(self.stalled.insert(number, reason)),
            None => drop(self.stalled.remove(&number)),
        }
        self.status.set_stalled(self.stalled.values().next().cloned());
        self.pump(ctx);
    }

    /// Tells of a failed try.
    fn note(&self, waiting: &Waiting, error: &str, wait: Duration) {
        let (id, attempts) = (&waiting.envelope.message.command.command().id, waiting.attempts);
        tracing::warn!(%id, attempts, error, ?wait, "failed for a cause that may pass; it is tried again");
        let attempt = Attempt { id: id.clone(), attempts, error: error.to_owned(), at: Utc::now() };
        if self.around.publisher.send(attempt).is_err() {
            tracing::warn!(%id, "the failed try could not be noted in the retries index");
        }
    }

    /// Hands outcomes on, in their order; false where some are left, because the archiver's mailbox is full.
    fn deliver(&mut self, ctx: &mut Context<Self>) -> bool {
        while let Some(outcome) = self.outbox.pop_front() {
            match self.around.archiver.send(outcome) {
                Ok(()) => {}
                Err(SendError::Full(outcome)) => {
                    self.outbox.push_front(outcome);
                    ctx.run_later(OFFER_AGAIN, Self::pump);
                    return false;
                }
                // What was executed can be filed by nobody in this process.
                Err(SendError::Closed) => {
                    self.around.lifeline.fatal("the archiver is gone, outcomes cannot be filed");
                    return false;
                }
            }
        }
        true
    }

    /// Lets the journal's records go that are filed and synced, off the actor's thread.
    fn checkpoint(&mut self, all: bool, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.checkpointing, true) {
            return;
        }
        let work = move |journal: &mut Journal| journal.checkpoint(all);
        effect(self, ctx, self.journal.clone(), work, |actor, _, outcome| {
            actor.checkpointing = false;
            match outcome {
                Ok((_, Ok(()))) => actor.status.set_unsynced(None),
                Ok((_, Err(error))) => actor.status.set_unsynced(Some(JournalError::to_string(&error))),
                Err(panicked) => tracing::error!(%panicked, "a checkpoint of the journal"),
            }
        });
    }

    /// Sees to being woken when a lane may go on, and when all has been quiet for a while.
    fn sleep(&mut self, ctx: &mut Context<Self>) {
        for handle in [self.wake.take(), self.quiet.take()].into_iter().flatten() {
            ctx.cancel_future(handle);
        }
        if let Some(at) = self.lanes.due() {
            let delay = at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.wake = Some(ctx.run_later(delay, |actor, ctx| {
                actor.wake = None;
                actor.pump(ctx);
            }));
        }
        if self.lanes.are_idle() && !self.journal.is_empty() {
            self.quiet = Some(ctx.run_later(QUIET, |actor, ctx| {
                actor.quiet = None;
                actor.checkpoint(true, ctx);
                // Once more, until what was on its way is filed and nothing is left.
                actor.sleep(ctx);
            }));
        }
    }
}

impl Actor for ExecutorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        self.pump(ctx);
    }
}

impl Supervised for ExecutorActor {
    fn restarting(&mut self, ctx: &mut Self::Context) {
        if let Some(delay) = self.around.lifeline.restarting() {
            ctx.wait(tokio::time::sleep(delay).into_actor(self));
        }
    }
}

impl Handler<Envelope<Verified>> for ExecutorActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Verified>, ctx: &mut Self::Context) {
        supervision::fault_point!("executor.handler");
        let command = envelope.message.command.command();
        let attempts = self.attempts.remove(command.id.as_str()).unwrap_or(0);
        let number = self.lanes.number(&command.target);
        if let Some(lane) = self.lanes.get(number) {
            lane.push(Waiting { envelope, attempts });
        }
        self.pump(ctx);
    }
}
