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
