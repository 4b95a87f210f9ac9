//! The executor as an actor: the only file here that knows actix. It runs one command at a time on a blocking thread
//! and keeps the others in the order in which they came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture};
use chrono::{DateTime, Utc};
use protocol::ledger::Ledger;
use protocol::message::{Content, Executed, Outcome, Redelivered, Rejected, Rejection, Verified};
use supervision::{Envelope, Lifeline, MAILBOX_CAPACITY, Panicked, Port, SendError, effect};

use crate::clock::Clock;
use crate::config::{Checks, ConfigError, Targets};
use crate::core::{Executor, Judgement};

/// How long to wait before an outcome is offered again to a full mailbox.
const OFFER_AGAIN: Duration = Duration::from_millis(5);

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

/// The executor's shell. While `core` is lent to the command that runs, the others wait in `queue`, still in their
/// envelopes, so that they are counted as unhandled.
pub struct ExecutorActor {
    targets: Targets,
    checks: Checks,
    ledger: Arc<Ledger>,
    core: Option<Executor>,
    running: bool,
    queue: VecDeque<Envelope<Verified>>,
    archiver: Port<Outcome>,
    lifeline: Lifeline,
}

impl ExecutorActor {
    /// An executor for `targets` that takes ids in `ledger` and hands every outcome to `archiver`.
    ///
    /// # Errors
    /// When a target cannot be used.
    pub fn new(
        targets: Targets,
        ledger: Arc<Ledger>,
        archiver: Port<Outcome>,
        lifeline: Lifeline,
    ) -> Result<Self, ConfigError> {
        let core = Some(Executor::new(&targets, Arc::clone(&ledger))?);
        let (checks, queue) = (Checks::new(), VecDeque::new());
        Ok(Self { targets, checks, ledger, core, running: false, queue, archiver, lifeline })
    }

    /// The same with `checks` that commands may ask for.
    #[must_use]
    pub fn with_checks(mut self, checks: Checks) -> Self {
        self.core = self.core.take().map(|core| core.with_checks(checks.clone()));
        self.checks = checks;
        self
    }

    /// Starts on the next command, if none runs.
    fn next(&mut self, ctx: &mut Context<Self>) {
        if self.running {
            return;
        }
        let Some(core) = self.core.take() else { return };
        let Some(envelope) = self.queue.pop_front() else {
            self.core = Some(core);
            return;
        };
        self.running = true;
        let work = move |core: &mut Executor| execute(core, envelope.message);
        effect(self, ctx, core, work, Self::done);
    }

    fn done(&mut self, ctx: &mut Context<Self>, outcome: Result<(Executor, Outcome), Panicked>) {
        match outcome {
            Ok((core, outcome)) => {
                self.core = Some(core);
                self.offer(outcome, ctx);
            }
            // The command's ticket went with the panic: its file is found again.
            Err(panicked) => {
                tracing::error!(%panicked, "the executor lost its state");
                self.running = false;
                ctx.stop();
            }
        }
    }

    /// Hands an outcome on; the next command starts only then, so that outcomes keep their order.
    fn offer(&mut self, outcome: Outcome, ctx: &mut Context<Self>) {
        match self.archiver.send(outcome) {
            Ok(()) => {
                self.running = false;
                self.next(ctx);
            }
            Err(SendError::Full(outcome)) => {
                let wait = tokio::time::sleep(OFFER_AGAIN).into_actor(self);
                ctx.spawn(wait.map(|(), actor, ctx| actor.offer(outcome, ctx)));
            }
            // What was executed can be filed by nobody in this process.
            Err(SendError::Closed) => self.lifeline.fatal("the archiver is gone, outcomes cannot be filed"),
        }
    }
}

/// Judges one command: all of it happens on a blocking thread.
fn execute(core: &mut Executor, message: Verified) -> Outcome {
    let Verified { ticket, command } = message;
    let _span =
        tracing::info_span!("execute", id = %command.command().id, target = %command.command().target).entered();
    let id = command.command().id.clone();
    let input_sha256 = command.input_sha256();
    match core.execute(&command, &SystemClock) {
        Judgement::Redelivered => Outcome::Redelivered(Redelivered { ticket, id, input_sha256 }),
        Judgement::Executed(execution) => Outcome::Executed(Executed { ticket, command, execution }),
        Judgement::Rejected(verdict) => {
            let content = Content::Document(Arc::clone(command.raw()));
            let rejection = Rejection { verdict, id: Some(id), hmac_ok: true, content, input_sha256, attempts: 0 };
            Outcome::Rejected(Rejected { ticket, rejection })
        }
    }
}

impl Actor for ExecutorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        if self.core.is_none() {
            match Executor::new(&self.targets, Arc::clone(&self.ledger)) {
                Ok(core) => self.core = Some(core.with_checks(self.checks.clone())),
                Err(error) => self.lifeline.fatal(&format!("the executor cannot start again: {error}")),
            }
        }
        self.next(ctx);
    }
}

impl Supervised for ExecutorActor {
    fn restarting(&mut self, ctx: &mut Self::Context) {
        if let Some(delay) = self.lifeline.restarting() {
            ctx.wait(tokio::time::sleep(delay).into_actor(self));
        }
    }
}

impl Handler<Envelope<Verified>> for ExecutorActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Verified>, ctx: &mut Self::Context) {
        self.queue.push_back(envelope);
        self.next(ctx);
    }
}
