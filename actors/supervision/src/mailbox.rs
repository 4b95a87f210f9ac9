//! Mailboxes whose depth can be seen.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::Recipient;
use actix::dev::{MessageResponse, ToEnvelope};
use actix::prelude::{Actor, Addr, Handler, Message};

/// How many messages each actor's mailbox holds: more than there can be commands in flight, so that a full mailbox is the
/// exception and flow control is the ticket's business.
pub const MAILBOX_CAPACITY: usize = 2_048;

/// How many messages an actor has not handled yet, and how many its mailbox holds.
#[derive(Debug)]
pub struct Gauge {
    actor: &'static str,
    depth: AtomicUsize,
    capacity: usize,
}

impl Gauge {
    /// The gauge of the mailbox of `actor`, which holds `capacity` messages.
    #[must_use]
    pub fn new(actor: &'static str, capacity: usize) -> Arc<Self> {
        Arc::new(Self { actor, depth: AtomicUsize::new(0), capacity })
    }

    /// The actor's name.
    #[must_use]
    pub fn actor(&self) -> &'static str {
        self.actor
    }

    /// Messages that were sent and are not dropped yet.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// The most that the mailbox holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// One message's place in a gauge.
#[derive(Debug)]
struct Slot(Arc<Gauge>);

impl Slot {
    /// Takes a place, if there is one left.
    fn take(gauge: &Arc<Gauge>) -> Option<Self> {
        let within = |depth| (depth < gauge.capacity).then_some(depth + 1);
        gauge.depth.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).ok()?;
        Some(Self(Arc::clone(gauge)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message on its way. It counts as unhandled until it is dropped: also after a panic, also in a dead mailbox.
#[derive(Debug)]
pub struct Envelope<M> {
    /// The message.
    pub message: M,
    sent_at: Instant,
    _slot: Slot,
}

impl<M> Envelope<M> {
    /// How long it has waited so far.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.sent_at.elapsed()
    }
}

impl<M: Send + 'static> Message for Envelope<M> {
    type Result = ();
}

/// Why a message was not taken; it is handed back.
pub enum SendError<M> {
    /// The mailbox is full.
    Full(M),
    /// The actor is gone for good.
    Closed,
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed => "Closed",
        })
    }
}

/// The way to the next actor: all that an actor knows of it.
pub struct Port<M: Send + 'static> {
    recipient: Recipient<Envelope<M>>,
    gauge: Arc<Gauge>,
}

impl<M: Send + 'static> Clone for Port<M> {
    fn clone(&self) -> Self {
        Self { recipient: self.recipient.clone(), gauge: Arc::clone(&self.gauge) }
    }
}

impl<M: Send + 'static> fmt::Debug for Port<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({})", self.gauge.actor)
    }
}

impl<M: Send + 'static> Port<M> {
    /// The way to `address`, counted in `gauge`. The actor's own mailbox must be set to at least the gauge's capacity.
    pub fn new<A>(address: Addr<A>, gauge: Arc<Gauge>) -> Self
    where
        A: Actor + Handler<Envelope<M>>,
        A::Context: ToEnvelope<A, Envelope<M>>,
        <A as Handler<Envelope<M>>>::Result: MessageResponse<A, Envelope<M>>,
    {
        Self { recipient: address.recipient(), gauge }
    }

    /// Sends `message`, without waiting.
    ///
    /// # Errors
    /// When the mailbox is full or its actor is gone.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        let Some(slot) = Slot::take(&self.gauge) else { return Err(SendError::Full(message)) };
        match self.recipient.try_send(Envelope { message, sent_at: Instant::now(), _slot: slot }) {
            Ok(()) => Ok(()),
            Err(actix::prelude::SendError::Full(envelope)) => Err(SendError::Full(envelope.message)),
            Err(actix::prelude::SendError::Closed(_)) => Err(SendError::Closed),
        }
    }
}
