//! The actor: one document in, one message out.

use chrono::Utc;
use protocol::message::{Candidate, Outcome, Rejected, Verified};
use supervision::{Envelope, Lifeline, MAILBOX_CAPACITY, Port, SendError};

use actix::prelude::{Actor, Context, Handler, Supervised};

use crate::judge::Judge;

/// Judges candidates and sends them on: verified ones to the executor, the others to the archiver.
#[derive(Debug)]
pub struct Verifier {
    judge: Judge,
    verified: Port<Verified>,
    rejected: Port<Outcome>,
    lifeline: Lifeline,
}

impl Verifier {
    /// A verifier that sends verified commands one way and rejections the other.
    #[must_use]
    pub fn new(judge: Judge, verified: Port<Verified>, rejected: Port<Outcome>, lifeline: Lifeline) -> Self {
        Self { judge, verified, rejected, lifeline }
    }

    /// A message that is not taken drops its ticket, so that the document is found again; an actor that is gone for
    /// good ends the process.
    fn settle<M>(&self, sent: Result<(), SendError<M>>) {
        match sent {
            Ok(()) => {}
            Err(SendError::Full(_)) => {
                tracing::warn!("the next mailbox is full; the document stays in commands/ for now")
            }
            Err(SendError::Closed) => self.lifeline.fatal("the next actor is gone"),
        }
    }
}

impl Actor for Verifier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
    }
}

impl Supervised for Verifier {
    fn restarting(&mut self, _ctx: &mut Self::Context) {
        let _ = self.lifeline.restarting();
    }
}

impl Handler<Envelope<Candidate>> for Verifier {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Candidate>, _ctx: &mut Self::Context) {
        let Candidate { ticket, content, received_at } = envelope.message;
        match self.judge.judge(content, received_at, Utc::now()) {
            Ok(command) => self.settle(self.verified.send(Verified { ticket, command: command.into() })),
            Err(rejection) => {
                self.settle(self.rejected.send(Outcome::Rejected(Rejected { ticket, rejection: *rejection })));
            }
        }
    }
}
