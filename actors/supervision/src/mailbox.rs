//! Mailboxes whose depth can be seen, and how long messages wait in them and are worked on.
//!
//! All of it is told by the envelope: it counts while it exists, it is told when work on its message begins, and that work
//! ends when it is dropped, also by a panic.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::Recipient;
use actix::dev::{MessageResponse, ToEnvelope};
use actix::prelude::{Actor, Addr, Handler, Message};

use crate::histogram::Histogram;

/// How many messages each actor's mailbox holds: more than there can be commands in flight, so that a full mailbox is the
/// exception and flow control is the ticket's business.
pub const MAILBOX_CAPACITY: usize = 2_048;

/// How many messages an actor has not handled yet, how many its mailbox holds, and how long they took.
#[derive(Debug)]
pub struct Gauge {
    actor: &'static str,
    depth: AtomicUsize,
    capacity: usize,
    waits: Histogram,
    /// By the message's name; as many as there are ports, which is few.
    durations: Mutex<Vec<(&'static str, Arc<Histogram>)>>,
}

impl Gauge {
    /// The gauge of the mailbox of `actor`, which holds `capacity` messages.
    #[must_use]
    pub fn new(actor: &'static str, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            actor,
            depth: AtomicUsize::new(0),
            capacity,
            waits: Histogram::default(),
            durations: Mutex::default(),
        })
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

    /// How long messages waited, from being sent until work on them began.
    #[must_use]
    pub fn waits(&self) -> &Histogram {
        &self.waits
    }

    /// How long work on the messages of this name took.
    #[must_use]
    pub fn duration(&self, message: &'static str) -> Arc<Histogram> {
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = durations.iter().find(|(name, _)| *name == message) {
            return Arc::clone(known);
        }
        let fresh = Arc::new(Histogram::default());
        durations.push((message, Arc::clone(&fresh)));
        fresh
    }

    /// The same for every message that has a way to this actor.
    #[must_use]
    pub fn durations(&self) -> Vec<(&'static str, Arc<Histogram>)> {
        self.durations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A message's place in a gauge, and the clock that runs for it. When it is dropped the message is handled.
#[derive(Debug)]
pub struct Handling {
    gauge: Arc<Gauge>,
    duration: Arc<Histogram>,
    /// Since when it waits.
    waits_since: Instant,
    /// Since when it is worked on.
    begun: Option<Instant>,
}

impl Handling {
    /// Takes a place, if there is one left.
    fn take(gauge: &Arc<Gauge>, duration: &Arc<Histogram>) -> Option<Self> {
        let within = |depth| (depth < gauge.capacity).then_some(depth + 1);
        gauge.depth.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).ok()?;
        let (gauge, duration) = (Arc::clone(gauge), Arc::clone(duration));
        Some(Self { gauge, duration, waits_since: Instant::now(), begun: None })
    }

    fn begin(&mut self) {
        if self.begun.is_none() {
            let now = Instant::now();
            self.gauge.waits.observe(now.saturating_duration_since(self.waits_since));
            self.begun = Some(now);
        }
    }

    fn rest(&mut self) {
        if let Some(begun) = self.begun.take() {
            let now = Instant::now();
            self.duration.observe(now.saturating_duration_since(begun));
            self.waits_since = now;
        }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.rest();
        self.gauge.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message on its way. It counts as unhandled until it is dropped: also after a panic, also in a dead mailbox.
#[derive(Debug)]
pub struct Envelope<M> {
    /// The message.
    pub message: M,
    handling: Handling,
}

impl<M> Envelope<M> {
    /// How long ago it was sent, or put back.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.handling.waits_since.elapsed()
    }

    /// Work on it begins.
    pub fn begin(&mut self) {
        self.handling.begin();
    }

    /// Work on it has ended, and it waits once more.
    pub fn put_back(&mut self) {
        self.handling.rest();
    }

    /// Work on it begins, and ends when the second value is dropped.
    #[must_use]
    pub fn open(mut self) -> (M, Handling) {
        self.handling.begin();
        (self.message, self.handling)
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
    duration: Arc<Histogram>,
}

impl<M: Send + 'static> Clone for Port<M> {
    fn clone(&self) -> Self {
        let (gauge, duration) = (Arc::clone(&self.gauge), Arc::clone(&self.duration));
        Self { recipient: self.recipient.clone(), gauge, duration }
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
        let duration = gauge.duration(name_of::<M>());
        Self { recipient: address.recipient(), gauge, duration }
    }

    /// Sends `message`, without waiting.
    ///
    /// # Errors
    /// When the mailbox is full or its actor is gone.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        let Some(handling) = Handling::take(&self.gauge, &self.duration) else { return Err(SendError::Full(message)) };
        match self.recipient.try_send(Envelope { message, handling }) {
            Ok(()) => Ok(()),
            Err(actix::prelude::SendError::Full(envelope)) => Err(SendError::Full(envelope.message)),
            Err(actix::prelude::SendError::Closed(_)) => Err(SendError::Closed),
        }
    }
}

/// The last part of a message type's name.
fn name_of<M>() -> &'static str {
    let name = std::any::type_name::<M>();
    name.rsplit("::").next().unwrap_or(name)
}
