//! The pieces together, on a real actix system.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use actix::prelude::*;
use supervision::{Budget, EXIT_SOFTWARE, Envelope, Gauge, Lifeline, Panicked, Port, SendError, effect};

/// Adds numbers up in effects; panics on 13 and starts again from nothing.
struct Adder {
    sum: Option<u64>,
    lifeline: Lifeline,
    seen: mpsc::Sender<Result<u64, Panicked>>,
}

impl Actor for Adder {
    type Context = Context<Self>;

    fn started(&mut self, _ctx: &mut Self::Context) {
        self.sum.get_or_insert(0);
    }
}

impl Supervised for Adder {
    fn restarting(&mut self, ctx: &mut Self::Context) {
        if let Some(delay) = self.lifeline.restarting() {
            ctx.wait(tokio::time::sleep(delay).into_actor(self));
        }
    }
}

impl Handler<Envelope<u64>> for Adder {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<u64>, ctx: &mut Self::Context) {
        let Some(sum) = self.sum.take() else { return };
        let work = move |sum: &mut u64| {
            assert_ne!(envelope.message, 13, "unlucky");
            *sum += envelope.message;
            *sum
        };
        effect(self, ctx, sum, work, |actor: &mut Self, ctx, outcome| {
            let reported = match outcome {
                Ok((sum, result)) => {
                    actor.sum = Some(sum);
                    Ok(result)
                }
                Err(panicked) => {
                    ctx.stop();
                    Err(panicked)
                }
            };
            actor.seen.send(reported).unwrap();
        });
    }
}

type Reports = mpsc::Receiver<Result<u64, Panicked>>;

fn start(max_restarts: usize) -> (SystemRunner, Port<u64>, Arc<Gauge>, Reports, Lifeline) {
    let runner = System::new();
    let gauge = Gauge::new("adder", 4);
    let (seen, receiver) = mpsc::channel();
    let (port, lifeline) = runner.block_on({
        let gauge = Arc::clone(&gauge);
        async move {
            let budget = Arc::new(Mutex::new(Budget::new(max_restarts, Duration::from_secs(30))));
            let lifeline = Lifeline::new("adder", System::current(), budget);
            let adder_lifeline = lifeline.clone();
            let address = Supervisor::start(move |_| Adder { sum: None, lifeline: adder_lifeline, seen });
            (Port::new(address, gauge), lifeline)
        }
    });
    (runner, port, gauge, receiver, lifeline)
}

/// Lets the system run until a report arrives.
fn next(runner: &SystemRunner, receiver: &Reports) -> Result<u64, Panicked> {
    runner.block_on(async {
        loop {
            match receiver.try_recv() {
                Ok(report) => return report,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    })
}

#[test]
fn a_panic_in_an_effect_costs_the_state_and_not_the_address() {
    let (runner, port, gauge, receiver, lifeline) = start(5);
    port.send(7).unwrap();
    assert_eq!(next(&runner, &receiver), Ok(7));
    port.send(13).unwrap();
    let Err(Panicked(text)) = next(&runner, &receiver) else { panic!("the panic was not reported") };
    assert!(text.contains("unlucky"), "{text}");
    port.send(5).unwrap();
    assert_eq!(next(&runner, &receiver), Ok(5), "the same address reaches a fresh state");
    assert_eq!(lifeline.restarts(), 1);
    assert_eq!(gauge.depth(), 0);
}

#[test]
fn a_full_mailbox_hands_the_message_back_and_counts_right() {
    let (_runner, port, gauge, _receiver, _lifeline) = start(5);
    for number in 0..4 {
        port.send(number).unwrap();
    }
    assert!(matches!(port.send(4), Err(SendError::Full(4))));
    assert_eq!(gauge.depth(), 4);
}

#[test]
fn a_spent_budget_ends_the_system_with_70() {
    let (runner, port, _gauge, receiver, _lifeline) = start(0);
    port.send(13).unwrap();
    assert!(next(&runner, &receiver).is_err());
    assert_eq!(runner.run_with_code().unwrap(), EXIT_SOFTWARE);
}

/// Keeps what it is sent until it is told to let go.
struct Keeper {
    kept: Vec<Envelope<u64>>,
    worked: Vec<supervision::Handling>,
}

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Envelope<u64>> for Keeper {
    type Result = ();

    fn handle(&mut self, mut envelope: Envelope<u64>, _ctx: &mut Self::Context) {
        match envelope.message {
            0 => self.worked.push(envelope.open().1),
            1 => {
                envelope.begin();
                envelope.put_back();
                self.kept.push(envelope);
            }
            2 => {
                self.kept.clear();
                self.worked.clear();
            }
            _ => panic!("in the handler"),
        }
    }
}

#[test]
fn an_envelope_tells_of_waiting_and_work_whatever_its_end() {
    let runner = System::new();
    let gauge = Gauge::new("keeper", 8);
    let port = runner.block_on({
        let gauge = Arc::clone(&gauge);
        async move { Port::new(Keeper { kept: Vec::new(), worked: Vec::new() }.start(), gauge) }
    });
    let settle = |what: &dyn Fn() -> bool| {
        runner.block_on(async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    };
    let (waits, works) = (|| gauge.waits().distribution().count, || gauge.duration("u64").distribution().count);
    port.send(0).unwrap();
    port.send(1).unwrap();
    settle(&|| waits() == 2);
    settle(&|| works() == 1);
    assert_eq!(gauge.depth(), 2, "one is worked on, one waits once more");
    port.send(2).unwrap();
    settle(&|| gauge.depth() == 0);
    assert_eq!((waits(), works()), (2, 2), "what nobody began to work on is neither");
    port.send(0).unwrap();
    settle(&|| waits() == 3);
    port.send(9).unwrap();
    settle(&|| gauge.depth() == 0);
    assert_eq!((waits(), works()), (3, 3), "a panic drops all that the actor held");
    assert_eq!(gauge.durations().len(), 1);
}

#[test]
fn the_cause_of_the_end_tells_the_last_panic() {
    let runner = System::new();
    let budget = Arc::new(Mutex::new(Budget::new(0, Duration::from_secs(30))));
    let lifeline = runner.block_on({
        let budget = Arc::clone(&budget);
        async move { Lifeline::new("adder", System::current(), budget) }
    });
    lifeline.count_only();
    assert_eq!(budget.lock().unwrap().cause(), None);
    lifeline.panicked(&Panicked("unlucky".to_owned()));
    assert_eq!(lifeline.restarting(), None);
    lifeline.fatal("another cause, later");
    let cause = budget.lock().unwrap().cause().unwrap().to_owned();
    assert!(cause.starts_with("adder: the restart budget is spent") && cause.ends_with("panicked: unlucky"), "{cause}");
    assert_eq!(lifeline.restarts(), 2);
}
