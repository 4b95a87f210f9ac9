//! The actor: one document in, one message out.

use std::time::Instant;

use chrono::Utc;
use protocol::message::{Candidate, Outcome, Redelivered, Rejected, Verified};
use supervision::{Envelope, Lifeline, MAILBOX_CAPACITY, Port, SendError, contained};

use actix::prelude::{Actor, ActorContext, AsyncContext, Context, Handler, Supervised, WrapFuture};

use crate::judge::{Judge, Refusal};

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
    fn restarting(&mut self, ctx: &mut Self::Context) {
        if let Some(delay) = self.lifeline.restarting() {
            ctx.wait(tokio::time::sleep(delay).into_actor(self));
        }
    }
}

impl Handler<Envelope<Candidate>> for Verifier {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Candidate>, ctx: &mut Self::Context) {
        let (candidate, _handling) = envelope.open();
        supervision::fault_point!("verifier.handler");
        // A message that is lost, and the document is found again.
        supervision::fault_point!("verifier.lost", return);
        let Candidate { mut ticket, content, received_at } = candidate;
        let taken = Instant::now();
        // The judge holds nothing that changes, so that a panic in it leaves nothing half done.
        let judged = contained(|| {
            supervision::fault_point!("verifier.effect");
            self.judge.judge(content, received_at, Utc::now())
        });
        ticket.verified(taken, Instant::now());
        match judged {
            Ok(Ok((command, turn))) => {
                self.settle(self.verified.send(Verified { ticket, command: command.into(), turn }));
            }
            Ok(Err(Refusal::Rejected(rejection))) => {
                self.settle(self.rejected.send(Outcome::Rejected(Rejected { ticket, rejection: *rejection })));
            }
            Ok(Err(Refusal::Filed { id, input_sha256, filed })) => {
                self.settle(self.rejected.send(Outcome::Redelivered(Redelivered { ticket, id, input_sha256, filed })));
            }
            // In both cases the ticket goes: the document is found again a little later.
            Ok(Err(Refusal::InHand)) => tracing::debug!(file = ?ticket.file(), "a copy of it is being settled"),
            Ok(Err(Refusal::Unreadable(error))) => {
                tracing::warn!(file = ?ticket.file(), %error, "what was filed under its id cannot be read; it waits");
            }
            // The ticket goes with it: the document is found again, later each time.
            Err(panicked) => {
                tracing::error!(file = ?ticket.file(), %panicked, "judging a document; a bug");
                self.lifeline.panicked(&panicked);
                ctx.stop();
            }
        }
    }
}
