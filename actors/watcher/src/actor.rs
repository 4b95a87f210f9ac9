//! The watcher's shell: decides what to do next, and lets blocking threads do it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use chrono::Utc;
use protocol::message::{Candidate, Content};
use supervision::{Lifeline, Panicked, Port, SendError, effect};
use tokio::sync::{Notify, oneshot};

use crate::flight::Flight;
use crate::hints::Hint;
use crate::queue::{MAX_ENTRIES, Next, Queue};
use crate::scan::{Asked, Done, Job, MAX_STRANGERS, Reader, Scanner, Why};
use crate::status::WatcherStatus;

/// The most files that are read at once before the first of them goes.
const BATCH_FILES: usize = 64;
/// The most bytes that are read at once before the first file goes.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// A scan that took longer is followed by a pause of its own length while commands can go without it.
const LONG_SCAN: Duration = Duration::from_millis(20);
/// Without file system events the folder is looked at so often while something was found lately.
const LOOK_BUSY: Duration = Duration::from_millis(100);
/// And so often else. A look at a folder that has not changed costs two system calls.
const LOOK_IDLE: Duration = Duration::from_secs(1);
/// How long that is, after the last command came or went.
const BUSY: Duration = Duration::from_secs(60);
/// A look is followed by so many times its own length without one: a full folder is not looked through all the time.
const REST: u32 = 10;
/// How soon a full mailbox is tried again.
const FULL_RETRY: Duration = Duration::from_millis(10);
/// How many messages the watcher's mailbox holds: none comes but the one that ends it all.
pub const MAILBOX_CAPACITY: usize = 16;

/// What the watcher is told by the configuration.
#[derive(Clone, Debug)]
pub struct WatcherConfig {
    /// The folder `commands/`.
    pub commands: PathBuf,
    /// How long a file that does not parse must be unchanged before it is judged, in milliseconds.
    pub settle_ms: u64,
    /// The time between two periodic scans, in seconds; at least 1.
    pub rescan_secs: u64,
    /// The size bound of a command document, in bytes.
    pub max_command_bytes: u64,
}

/// Asks the watcher to send nothing more, for good. It is answered when nothing more will come.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Pause;

/// The actor that finds commands.
pub struct Watcher {
    reader: Reader,
    asked: Asked,
    /// It is being asked which of the ignored names came by a commit.
    asking: bool,
    /// Ignored names of which nobody could tell, or for which there was no room.
    unanswered: Vec<std::ffi::OsString>,
    rescan: Duration,
    port: Port<Candidate>,
    status: Arc<WatcherStatus>,
    lifeline: Lifeline,
    wake: Arc<Notify>,
    hint: Hint,
    flight: Arc<Flight>,
    /// `None` while it is lent to a scan.
    scanner: Option<Scanner>,
    /// A scan or the reading of a batch is under way.
    busy: bool,
    /// A file over the size bound is being hashed, apart, because that may take long.
    hashing: bool,
    outbox: VecDeque<Candidate>,
    /// A scan is wanted, for a reason of the watcher's own.
    wants_scan: bool,
    /// The time for the periodic scan has come.
    wants_periodic: bool,
    /// The time for a look at the folder has come, because no events tell of it.
    wants_look: bool,
    busy_until: Instant,
    last_scan: Duration,
    read_last: bool,
    no_scan_before: Instant,
    armed: Option<Instant>,
    paused: bool,
    pausing: Vec<oneshot::Sender<()>>,
    told_closed: bool,
}

impl Watcher {
    /// A watcher that sends what it finds to `port`, first of all what is signed.
    #[must_use]
    pub fn new(
        config: WatcherConfig,
        asked: Asked,
        port: Port<Candidate>,
        status: Arc<WatcherStatus>,
        lifeline: Lifeline,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        Self {
            reader: Reader {
                path: config.commands,
                max_bytes: config.max_command_bytes,
                settle: Duration::from_millis(config.settle_ms),
                abort: Arc::new(AtomicBool::new(false)),
            },
            asked,
            asking: false,
            unanswered: Vec::new(),
            rescan: Duration::from_secs(config.rescan_secs.max(1)),
            port,
            flight: Flight::new(Arc::clone(&wake), Arc::clone(&status)),
            hint: Hint::new(Arc::clone(&wake)),
            status,
            lifeline,
            wake,
            scanner: None,
            busy: false,
            hashing: false,
            outbox: VecDeque::new(),
            wants_scan: true,
            wants_periodic: false,
            wants_look: false,
            busy_until: Instant::now(),
            last_scan: Duration::ZERO,
            read_last: false,
            no_scan_before: Instant::now(),
            armed: None,
            paused: false,
            pausing: Vec::new(),
            told_closed: false,
        }
    }

    fn new_scanner(&self) -> Scanner {
        let mut queue = Queue::new(self.reader.settle, MAX_ENTRIES);
        queue.restore_in_flight(self.flight.aboard(), Instant::now());
        Scanner::new(
            self.reader.path.clone(),
            self.reader.max_bytes,
            queue,
            Arc::clone(&self.asked.is_signed),
            self.hint.clone(),
            Arc::clone(&self.status),
        )
    }

    /// Goes on whenever somebody drops a ticket or the file system gives a hint.
    fn listen(&self, ctx: &mut Context<Self>) {
        let wake = Arc::clone(&self.wake);
        let woken = async move { wake.notified().await };
        ctx.spawn(woken.into_actor(self).map(|(), actor, ctx| {
            actor.step(ctx);
            actor.listen(ctx);
        }));
    }

    /// Does what is to be done next, if nothing is under way. Scans and batches take turns when both are wanted.
    fn step(&mut self, ctx: &mut Context<Self>) {
        supervision::fault_point!("watcher.handler");
        self.answer_pause();
        if self.busy || self.paused {
            return;
        }
        let now = Instant::now();
        let Some(scanner) = &mut self.scanner else { return };
        for name in self.flight.take_released() {
            self.wants_scan |= scanner.queue.released(&name, now);
            self.busy_until = now + BUSY;
        }
        self.empty_outbox();
        if !self.outbox.is_empty() {
            self.arm(ctx, now + FULL_RETRY);
        }
        self.hash_next(ctx);
        let scan_at = self.scan_at(now);
        let scan_now = scan_at.is_some_and(|at| at <= now);
        if !(scan_now && self.read_last) && self.read_next(ctx) {
            return;
        }
        match scan_at {
            Some(_) if scan_now => self.scan(ctx),
            Some(at) => self.arm(ctx, at),
            None => {}
        }
    }

    /// When the next scan is due, the periodic one aside.
    fn scan_at(&self, now: Instant) -> Option<Instant> {
        let queue = &self.scanner.as_ref()?.queue;
        if queue.is_saturated() {
            return None;
        }
        let settled = queue.settled_at().is_some_and(|at| at <= now);
        let own = self.wants_scan || self.wants_periodic || self.wants_look;
        let wanted = own || self.hint.is_raised() || queue.wants_confirmation();
        if !(wanted || settled || queue.wants_refill()) {
            return queue.settled_at();
        }
        // While commands can go anyway, long scans must not take all the time.
        Some(if queue.next().is_some() { self.no_scan_before.max(now) } else { now })
    }

    fn arm(&mut self, ctx: &mut Context<Self>, at: Instant) {
        if self.armed.is_some_and(|armed| armed <= at) {
            return;
        }
        self.armed = Some(at);
        ctx.run_later(at.saturating_duration_since(Instant::now()), move |actor, ctx| {
            if actor.armed == Some(at) {
                actor.armed = None;
            }
            actor.step(ctx);
        });
    }

    fn scan(&mut self, ctx: &mut Context<Self>) {
        let Some(scanner) = self.scanner.take() else { return };
        let own = self.wants_scan || self.hint.is_raised();
        let queue = &scanner.queue;
        let why = if own || queue.wants_confirmation() || queue.wants_refill() || queue.settled_at().is_some() {
            Why::Wanted
        } else if self.wants_periodic {
            Why::Periodic
        } else {
            Why::Look
        };
        (self.busy, self.read_last) = (true, false);
        (self.wants_scan, self.wants_periodic, self.wants_look) = (false, false, false);
        let status = Arc::clone(&self.status);
        let work = move |scanner: &mut Scanner| {
            let (start, scans) = (Instant::now(), status.scans());
            scanner.scan(why);
            let took = start.elapsed();
            if status.scans() > scans {
                status.scan_times().observe(took);
            }
            took
        };
        effect(self, ctx, scanner, work, |actor, ctx, outcome| {
            actor.busy = false;
            match outcome {
                Ok((scanner, took)) => {
                    actor.scanner = Some(scanner);
                    actor.last_scan = took;
                    let pause = if took > LONG_SCAN { took } else { Duration::ZERO };
                    actor.no_scan_before = Instant::now() + pause;
                    actor.step(ctx);
                }
                Err(panicked) => actor.panicked_in("scan", &panicked, ctx),
            }
        });
    }

    /// Where no events tell of what comes: looks at the folder again and again, for the cost of a look.
    fn look_often(&self, ctx: &mut Context<Self>) {
        let is_busy = self.status.polling() && Instant::now() < self.busy_until;
        let pause = if is_busy { LOOK_BUSY } else { LOOK_IDLE };
        ctx.run_later(pause.max(self.last_scan * REST), |actor, ctx| {
            if actor.status.polling() {
                actor.wants_look = true;
                actor.step(ctx);
            }
            actor.look_often(ctx);
        });
    }

    /// Reads the next files that may go, as far as there is room. Returns whether there was anything to read.
    fn read_next(&mut self, ctx: &mut Context<Self>) -> bool {
        let Some(scanner) = &mut self.scanner else { return false };
        if !self.outbox.is_empty() {
            return false;
        }
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        while jobs.len() < BATCH_FILES && bytes < BATCH_BYTES {
            let Some(next) = next(&scanner.queue, &self.flight) else { break };
            let size = next.stamp.size;
            let Some(job) = board(&self.flight, &mut scanner.queue, next, size) else { break };
            jobs.push(job);
            bytes += size;
        }
        self.status.set_pending(scanner.queue.pending());
        if jobs.is_empty() {
            return false;
        }
        (self.busy, self.read_last) = (true, true);
        let status = Arc::clone(&self.status);
        let work = move |reader: &mut Reader| {
            let start = Instant::now();
            let done = reader.read(jobs);
            status.read_times().observe(start.elapsed());
            done
        };
        effect(self, ctx, self.reader.clone(), work, |actor, ctx, outcome| {
            actor.busy = false;
            actor.read_done(ctx, outcome);
        });
        true
    }

    /// Hashes the next file over the size bound, one at a time, beside everything else.
    fn hash_next(&mut self, ctx: &mut Context<Self>) {
        let Some(scanner) = &mut self.scanner else { return };
        if self.hashing || !self.outbox.is_empty() {
            return;
        }
        let Some(next) = scanner.queue.next_large() else { return };
        // Only its head is going to be held.
        let Some(job) = board(&self.flight, &mut scanner.queue, next, 0) else { return };
        self.hashing = true;
        let work = move |reader: &mut Reader| reader.read(vec![job]);
        effect(self, ctx, self.reader.clone(), work, |actor, ctx, outcome| {
            actor.hashing = false;
            actor.read_done(ctx, outcome);
        });
    }

    /// Sends on what is ignored and came by a commit, to be refused: whoever made that commit sees nothing else of it. Not
    /// sooner than at the next periodic scan, so that what producers write beside their commands is gone by then.
    fn ask_about_strangers(&mut self, ctx: &mut Context<Self>) {
        let Some(scanner) = &mut self.scanner else { return };
        if self.asking || self.paused || scanner.strangers.is_empty() && self.unanswered.is_empty() {
            return;
        }
        self.asking = true;
        let (mut names, committed) = (std::mem::take(&mut self.unanswered), Arc::clone(&self.asked.committed));
        // Of further ones the scanner remembers but so many until they are asked about.
        if names.len() < MAX_STRANGERS {
            names.append(&mut scanner.strangers);
        }
        let work = move |reader: &mut Reader| (reader.committed(&names, &committed), names);
        effect(self, ctx, self.reader.clone(), work, |actor, ctx, outcome| {
            actor.asking = false;
            let found = match outcome {
                Ok((_, (Some(found), _))) => found,
                Ok((_, (None, names))) => {
                    // It is asked again, beside what came meanwhile. A scan may have the scanner now.
                    actor.unanswered = names;
                    return;
                }
                Err(panicked) => return actor.panicked_in("ask", &panicked, ctx),
            };
            for (next, kind) in found {
                let Some(ticket) = actor.flight.board(&next.name, next.stamp, 0, next.first_seen) else {
                    actor.unanswered.push(next.name.to_os_string());
                    continue;
                };
                let content = Content::NotRegular { kind, bytes: next.name.as_encoded_bytes().into() };
                actor.outbox.push_back(Candidate { ticket, content, received_at: Utc::now() });
            }
            actor.step(ctx);
        });
    }

    fn read_done(&mut self, ctx: &mut Context<Self>, outcome: Result<(Reader, Vec<Done>), Panicked>) {
        let done = match outcome {
            Ok((_, done)) => done,
            Err(panicked) => return self.panicked_in("read", &panicked, ctx),
        };
        for done in done {
            match done {
                Done::Read(candidate) => self.outbox.push_back(candidate),
                Done::Stale(ticket) => {
                    // While a scan has the queue, the dropped ticket alone says it, a little later.
                    if let Some(scanner) = &mut self.scanner {
                        scanner.queue.stale(ticket.file(), Instant::now());
                        self.wants_scan = true;
                    }
                }
            }
        }
        self.empty_outbox();
        self.step(ctx);
    }

    /// Sends what was read, in order, as far as the next mailbox takes it. The rest is tried again at the next step.
    fn empty_outbox(&mut self) {
        if self.paused {
            self.outbox.clear();
        }
        while let Some(candidate) = self.outbox.pop_front() {
            match self.port.send(candidate) {
                Ok(()) => {}
                Err(SendError::Full(candidate)) => {
                    self.outbox.push_front(candidate);
                    return;
                }
                Err(SendError::Closed) => {
                    if !std::mem::replace(&mut self.told_closed, true) {
                        tracing::error!("nobody takes commands any more; they stay in commands/");
                    }
                }
            }
        }
    }

    fn panicked_in(&self, what: &str, panicked: &Panicked, ctx: &mut Context<Self>) {
        tracing::error!(actor = "watcher", what, %panicked, "a bug");
        self.lifeline.panicked(panicked);
        ctx.stop();
    }

    fn answer_pause(&mut self) {
        if self.paused && !self.busy && !self.hashing {
            for waiting in self.pausing.drain(..) {
                // Whoever asked may have gone.
                let _gone = waiting.send(());
            }
        }
    }
}

/// The file that goes next. What is going to be refused leaves half of the places to genuine commands that may come.
fn next(queue: &Queue, flight: &Flight) -> Option<Next> {
    queue.next().or_else(|| flight.is_half_free().then(|| queue.next_unsigned()).flatten())
}

/// Gives a file that may go its ticket, if there is room for `bytes`.
fn board(flight: &Arc<Flight>, queue: &mut Queue, next: Next, bytes: u64) -> Option<Job> {
    let ticket = flight.board(&next.name, next.stamp, bytes, next.first_seen)?;
    queue.boarded(&next.name);
    Some(Job { ticket, next })
}

impl Actor for Watcher {
    type Context = Context<Self>;

    /// Also called after a restart, which has dropped all that was under way.
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        (self.busy, self.hashing, self.armed, self.wants_scan) = (false, false, None, true);
        self.asking = false;
        if self.scanner.is_none() {
            self.scanner = Some(self.new_scanner());
        }
        self.listen(ctx);
        ctx.run_interval(self.rescan, |actor, ctx| {
            actor.wants_periodic = true;
            actor.ask_about_strangers(ctx);
            actor.step(ctx);
        });
        self.look_often(ctx);
        self.step(ctx);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        self.reader.abort.store(true, Ordering::Relaxed);
    }
}

impl Supervised for Watcher {
    fn restarting(&mut self, ctx: &mut Self::Context) {
        if let Some(delay) = self.lifeline.restarting() {
            self.reader.abort.store(self.paused, Ordering::Relaxed);
            ctx.wait(tokio::time::sleep(delay).into_actor(self));
        }
    }
}

impl Handler<Pause> for Watcher {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _pause: Pause, _ctx: &mut Self::Context) -> Self::Result {
        self.paused = true;
        self.reader.abort.store(true, Ordering::Relaxed);
        self.outbox.clear();
        let (answer, answered) = oneshot::channel();
        self.pausing.push(answer);
        self.answer_pause();
        Box::pin(async move {
            // An error means that the watcher is gone, which is as quiet as can be.
            let _gone = answered.await;
        })
    }
}
