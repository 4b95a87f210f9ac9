//! The actor: collects outcomes while a batch is being filed, files the next batch, and tells the publisher.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::{Actor, AsyncContext, Context, Handler};
use chrono::{DateTime, Utc};
use protocol::ledger::Ledger;
use protocol::message::{Filed, Outcome};
use protocol::signing::Keyring;
use supervision::{Envelope, Handling, Lifeline, Panicked, Port, SendError, effect};

use crate::batch::{Batch, Done, reason};
use crate::error::ArchiveError;
use crate::files::Cabinet;
use crate::log::AuditLog;
use crate::story::Story;
use crate::{ArchiverConfig, ArchiverStatus};

/// How many messages the archiver's mailbox holds: more than there are commands in flight.
pub const MAILBOX_CAPACITY: usize = 2_048;
/// The most outcomes that are filed together.
pub(crate) const MAX_BATCH: usize = 256;
/// The delay before filing is tried again; it doubles with each further failure.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay before filing is tried again.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// The delay before a publisher whose mailbox was full is told again.
const RESEND_DELAY: Duration = Duration::from_millis(50);
/// The shortest and the longest time after which it is asked whether a letter is due.
const LETTER_PAUSE: Duration = Duration::from_secs(1);
const MAX_LETTER_PAUSE: Duration = Duration::from_secs(60);
/// With so many messages unsent to a living publisher no further batch is begun.
const MAX_UNSENT: usize = 10_000;

/// What an effect is lent. It outlives a panic in it, so that no outcome is lost with one.
#[derive(Debug, Default)]
struct Desk {
    log: Option<AuditLog>,
    batch: Batch,
}

/// The desk that an effect was lent, and what the batch on it came to.
type Worked = (Arc<Mutex<Desk>>, Result<Done, ArchiveError>);

/// The actor that files. See the crate's documentation for what it promises.
#[derive(Debug)]
pub struct Archiver {
    config: ArchiverConfig,
    keyring: Arc<Keyring>,
    ledger: Arc<Ledger>,
    publisher: Port<Filed>,
    status: Arc<ArchiverStatus>,
    lifeline: Option<Lifeline>,
    /// What another life of the process left to be filed; it goes first.
    backlog: VecDeque<Outcome>,
    waiting: VecDeque<Envelope<Outcome>>,
    desk: Arc<Mutex<Desk>>,
    /// Outcomes on the desk; 0 when it is free.
    on_desk: usize,
    /// The clocks of those of them that came by message.
    handlings: Vec<Handling>,
    failures: u32,
    unsent: VecDeque<Filed>,
    resending: bool,
    publisher_gone: bool,
    /// Whether a letter of counted documents may be due.
    letter_due: bool,
    /// Whether that is going to be asked at its time.
    waits_for_letter: bool,
}

impl Archiver {
    /// An archiver under `config.cloud`. [`recover`](crate::recover) must have filled `ledger` before it starts.
    #[must_use]
    pub fn new(
        config: ArchiverConfig,
        keyring: Arc<Keyring>,
        ledger: Arc<Ledger>,
        publisher: Port<Filed>,
        status: Arc<ArchiverStatus>,
    ) -> Self {
        Self {
            config,
            keyring,
            ledger,
            publisher,
            status,
            lifeline: None,
            backlog: VecDeque::new(),
            waiting: VecDeque::new(),
            desk: Arc::default(),
            on_desk: 0,
            handlings: Vec::new(),
            failures: 0,
            unsent: VecDeque::new(),
            resending: false,
            publisher_gone: false,
            letter_due: true,
            waits_for_letter: false,
        }
    }

    /// Counts panics in `lifeline`'s budget; without one they are tried again for ever.
    #[must_use]
    pub fn with_lifeline(mut self, lifeline: Lifeline) -> Self {
        self.lifeline = Some(lifeline);
        self
    }

    /// Files `outcomes`, which another life of the process left, before everything else.
    #[must_use]
    pub fn with_backlog(mut self, outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        self.backlog.extend(outcomes);
        self
    }

    /// Begins the next batch, if the desk is free.
    fn next(&mut self, ctx: &mut Context<Self>) {
        let waits = self.backlog.len() + self.waiting.len();
        if self.on_desk == 0 && (waits > 0 || self.letter_due) && self.unsent.len() < MAX_UNSENT {
            self.letter_due = false;
            let left = self.backlog.drain(..self.backlog.len().min(MAX_BATCH));
            let mut outcomes: Vec<Outcome> = left.collect();
            let count = self.waiting.len().min(MAX_BATCH - outcomes.len());
            for envelope in self.waiting.drain(..count) {
                let (outcome, handling) = envelope.open();
                outcomes.push(outcome);
                self.handlings.push(handling);
            }
            // Also where there is but a letter to be filed.
            self.on_desk = outcomes.len().max(1);
            lock(&self.desk).batch.refill(outcomes);
            self.work(ctx);
        }
        self.status.set_in_hand(self.on_desk + self.backlog.len() + self.waiting.len());
    }

    /// Files what is on the desk, off the actor's thread.
    fn work(&mut self, ctx: &mut Context<Self>) {
        let (config, keyring, ledger) = (self.config.clone(), Arc::clone(&self.keyring), Arc::clone(&self.ledger));
        let work = move |desk: &mut Arc<Mutex<Desk>>| lock(desk).file(&config, &keyring, &ledger);
        effect(self, ctx, Arc::clone(&self.desk), work, Self::worked);
    }

    fn worked(&mut self, ctx: &mut Context<Self>, outcome: Result<Worked, Panicked>) {
        match outcome {
            Ok((_, Ok(done))) => self.done(ctx, done),
            Ok((_, Err(error))) => {
                let delay = FIRST_DELAY.saturating_mul(1 << self.failures.min(16)).min(MAX_DELAY);
                self.stall(ctx, reason(&error), delay);
            }
            Err(panicked) => {
                if let Some(lifeline) = &self.lifeline {
                    lifeline.panicked(&panicked);
                }
                let delay = self.lifeline.as_ref().map_or(Some(MAX_DELAY), Lifeline::restarting);
                tracing::error!(%panicked, "filing");
                // Without a delay the process is ending.
                if let Some(delay) = delay {
                    self.stall(ctx, panicked.to_string(), delay);
                }
            }
        }
    }

    fn stall(&mut self, ctx: &mut Context<Self>, reason: String, delay: Duration) {
        self.failures = self.failures.saturating_add(1);
        if self.status.stalled().as_ref() != Some(&reason) {
            tracing::error!(reason, "filing has stopped; nothing is lost, it is tried again until it succeeds");
        }
        self.status.set_stalled(Some(reason));
        ctx.run_later(delay, Self::work);
    }

    fn done(&mut self, ctx: &mut Context<Self>, done: Done) {
        self.failures = 0;
        if self.status.set_stalled(None) {
            tracing::info!("filing goes on");
        }
        self.status.count(done.filed.len() as u64, done.removed_quietly);
        self.status.counted(&done.counted);
        self.ask_at(ctx, done.letter_due);
        done.stories.iter().for_each(Story::tell);
        self.status.remember(done.stories);
        self.on_desk = 0;
        self.handlings.clear();
        self.unsent.extend(done.filed);
        self.tell(ctx);
        self.next(ctx);
    }

    /// Sees to it that a letter is filed when it is due, whether anything else comes or not.
    fn ask_at(&mut self, ctx: &mut Context<Self>, due: Option<DateTime<Utc>>) {
        let Some(due) = due.filter(|_| !self.waits_for_letter) else { return };
        self.waits_for_letter = true;
        // A clock that is set meanwhile is looked at again.
        let left = (due - Utc::now()).to_std().unwrap_or_default().clamp(LETTER_PAUSE, MAX_LETTER_PAUSE);
        ctx.run_later(left, |archiver, ctx| {
            (archiver.waits_for_letter, archiver.letter_due) = (false, true);
            archiver.next(ctx);
        });
    }

    /// Tells the publisher, in order. One that is gone finds all of it in the log when it starts again.
    fn tell(&mut self, ctx: &mut Context<Self>) {
        while let Some(filed) = self.unsent.pop_front() {
            match self.publisher.send(filed) {
                Ok(()) => {}
                Err(SendError::Full(filed)) => {
                    self.unsent.push_front(filed);
                    break;
                }
                Err(SendError::Closed) => {
                    if !std::mem::replace(&mut self.publisher_gone, true) {
                        tracing::warn!(
                            "the publisher is gone; filing goes on, what is filed is published after the next start"
                        );
                    }
                    self.unsent.clear();
                }
            }
        }
        if !self.unsent.is_empty() && !self.resending {
            self.resending = true;
            ctx.run_later(RESEND_DELAY, |archiver, ctx| {
                archiver.resending = false;
                archiver.tell(ctx);
                archiver.next(ctx);
            });
        }
    }
}

impl Desk {
    fn file(&mut self, config: &ArchiverConfig, keyring: &Keyring, ledger: &Ledger) -> Result<Done, ArchiveError> {
        supervision::fault_point!("archiver.effect", Err(ArchiveError::Conflict { path: "a test said so".to_owned() }));
        let cabinet = Cabinet::open(&config.cloud)?;
        let log = match &mut self.log {
            Some(log) => log,
            empty => empty.insert(AuditLog::open(&cabinet.logs, config.limits())?),
        };
        self.batch.file(&cabinet, log, ledger, keyring, config.unauthenticated_per_hour, Utc::now())
    }
}

/// A desk whose effect panicked is still good: each step of a batch is noted only when it is done.
fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Actor for Archiver {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        tracing::debug!("archiver started");
        self.next(ctx);
    }
}

impl actix::Supervised for Archiver {}

impl Handler<Envelope<Outcome>> for Archiver {
    type Result = ();

    fn handle(&mut self, outcome: Envelope<Outcome>, ctx: &mut Self::Context) {
        supervision::fault_point!("archiver.handler");
        self.waiting.push_back(outcome);
        self.next(ctx);
    }
}
