//! The actors' threads, and whether each still turns.
//!
//! Work that takes long or can hang is done on blocking threads; an actor's own thread only takes messages. So one that
//! does not answer for long is dead or in a loop, and a watchdog should end the process: the next start recovers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::prelude::{Actor, Addr, Arbiter, ArbiterHandle, Context, Supervised, Supervisor};

/// The actors' threads.
#[derive(Debug, Default)]
pub struct Threads(Vec<Thread>);

struct Thread {
    handle: ArbiterHandle,
    /// Whether it has answered since it was last asked.
    answered: Arc<AtomicBool>,
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thread({:?})", self.answered)
    }
}

impl Threads {
    /// Starts an actor under supervision, on a thread of its own.
    pub fn start<A>(&mut self, make: impl FnOnce() -> A + Send + 'static) -> Addr<A>
    where
        A: Actor<Context = Context<A>> + Supervised,
    {
        let handle = Arbiter::new().handle();
        let address = Supervisor::start_in_arbiter(&handle, |_| make());
        self.0.push(Thread { handle, answered: Arc::new(AtomicBool::new(true)) });
        address
    }

    /// Whether every thread has answered since the last time that this was asked. One that has not is not asked again
    /// before it has, so that questions do not pile up.
    #[must_use]
    pub fn are_alive(&self) -> bool {
        // All are asked, also after one that owes its answer.
        self.0.iter().filter(|thread| !thread.is_alive()).count() == 0
    }
}

impl Thread {
    fn is_alive(&self) -> bool {
        if !self.answered.swap(false, Ordering::AcqRel) {
            return false;
        }
        let answered = Arc::clone(&self.answered);
        self.handle.spawn_fn(move || answered.store(true, Ordering::Release))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    struct Idle;
    impl Actor for Idle {
        type Context = Context<Self>;
    }
    impl Supervised for Idle {}

    #[actix::test]
    async fn a_thread_that_is_stuck_is_noticed_and_one_that_goes_on_is_alive() {
        let mut threads = Threads::default();
        let _actors = (threads.start(|| Idle), threads.start(|| Idle));
        let (go_on, wait) = mpsc::channel::<()>();
        assert!(threads.0[1].handle.spawn_fn(move || wait.recv().unwrap_or_default()));
        // The first question finds nothing amiss: nobody had been asked yet. Then one of them owes its answer.
        assert!(threads.are_alive());
        for _ in 0..3 {
            assert!(!threads.are_alive());
        }
        go_on.send(()).unwrap();
        while !threads.are_alive() {
            actix::clock::sleep(Duration::from_millis(1)).await;
        }
    }
}
