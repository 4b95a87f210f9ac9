//! The end: what waits is committed, one push is tried, the index is brought in line, and whoever asked is told.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::{Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use super::{Publisher, Round};

/// Finish: commit what waits, push once, bring the index in line.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Stopped")]
pub struct Stop {
    /// The most that it may take; children are ended then.
    pub within: Duration,
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Commits that the remote does not have; they are pushed after the next start.
    pub unpushed: u64,
    /// Filed documents without a commit; they get theirs after the next start.
    pub uncommitted: u64,
}

/// A stop that was asked for.
pub(super) struct Stopping {
    pub(super) replies: Vec<oneshot::Sender<Stopped>>,
    pub(super) deadline: Instant,
    /// Whether the last round was begun.
    pub(super) pushed: bool,
    /// Whether it was answered.
    pub(super) over: bool,
}

impl Publisher {
    /// Answers a stop when all is done, or when its time is up.
    pub(super) fn finish_stop(&mut self, now: Instant) {
        let uncommitted = self.queue.len() as u64;
        let busy = self.working || !matches!(self.round, Round::Idle);
        let waiting = uncommitted > 0
            || self.queue.is_behind()
            || self.view.recovering
            || self.attempts_wait()
            || self.core.is_none()
            || self.scan_at.is_none();
        let local = self.destination.is_none() || self.trouble.is_some();
        // Without a remote nothing waits for one.
        let unpushed = if self.destination.is_none() { 0 } else { self.view.unpushed };
        let index = self.index.lag().is_some() && self.trouble.is_none();
        let Some(stop) = &mut self.stop else { return };
        let late = now >= stop.deadline;
        if local && !busy && !waiting {
            stop.pushed = true;
        }
        let done = !busy && !waiting && stop.pushed && !index;
        if late {
            self.cancel.store(true, Ordering::Relaxed);
        }
        // A child that was told to end is waited for: none may outlive the service and push behind the next one's back.
        if done || (late && !busy) {
            stop.over = true;
            for reply in stop.replies.drain(..) {
                // Whoever asked may have gone.
                let _gone = reply.send(Stopped { unpushed, uncommitted });
            }
        }
    }
}

impl Handler<Stop> for Publisher {
    type Result = ResponseFuture<Stopped>;

    fn handle(&mut self, stop: Stop, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + stop.within;
        match &mut self.stop {
            Some(stopping) if !stopping.over => stopping.replies.push(reply),
            Some(_) => {}
            None => {
                self.tidy_cancel.store(true, Ordering::Relaxed);
                self.stop = Some(Stopping { replies: vec![reply], deadline, pushed: false, over: false });
            }
        }
        self.pump(ctx);
        let nothing_known = Stopped { unpushed: self.view.unpushed, uncommitted: self.queue.len() as u64 };
        Box::pin(async move { answer.await.unwrap_or(nothing_known) })
    }
}
