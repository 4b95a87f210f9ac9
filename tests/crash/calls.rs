//! Every call that changes a file: the process is killed before each, from the moment that a command is dropped until it
//! is filed, committed and tidied up after.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::harness::{PATIENCE, poll};
use crate::scene::{Command, Scene};
use crate::tracer::{Seen, Traced};

/// How many bridges run side by side.
const WORKERS: usize = 6;
/// So many runs in a row must come to their end before no further call is looked for: how many there are differs a
/// little from run to run.
const SURVIVORS: usize = WORKERS;
/// Fewer calls than this no command needs.
const FEWEST_CALLS: usize = 60;

/// One command, killed before call number `at`; what was seen.
fn run(command: Command, at: usize) -> Seen {
    let what = format!("{command:?}, before call {at}");
    let scene = Scene::awaiting(command);
    let bridge = scene.mortal("");
    bridge.wait_for("the bridge to be ready", || bridge.log().contains("ready: "));
    let traced = Traced::begin(bridge.pid(), at);
    scene.send(command);
    let mut quiet = scene.quiet();
    // The bridge itself is not asked while it is followed: that would take its stops away from the tracer.
    assert!(poll(PATIENCE, || traced.is_over() || quiet()), "{what}: neither dead nor done");
    let seen = traced.end();
    let killed = scene.lives_out(&bridge, &what);
    drop(bridge);
    let last = seen.calls.last().cloned().unwrap_or_default();
    scene.recovers(&format!("{what} ({last})"));
    assert_eq!(seen.killed, killed, "{what}");
    seen
}

fn sweep(command: Command) -> usize {
    let begun = Instant::now();
    let (next, survivors, kills) = (AtomicUsize::new(1), AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while survivors.load(Ordering::SeqCst) < SURVIVORS {
                    let seen = run(command, next.fetch_add(1, Ordering::SeqCst));
                    if seen.killed {
                        survivors.store(0, Ordering::SeqCst);
                        let call = seen.calls.last().unwrap().split(' ').next().unwrap().to_owned();
                        *kills.lock().unwrap().entry(call).or_insert(0) += 1;
                    } else {
                        survivors.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let kills: BTreeMap<String, usize> = kills.into_inner().unwrap();
    let total = kills.values().sum();
    println!("{command:?}: killed before {total} calls in {:?}: {kills:?}", begun.elapsed());
    assert!(total >= FEWEST_CALLS, "{command:?}: only {total} calls");
    total
}

#[test]
fn a_crash_before_any_call_that_changes_a_file_loses_nothing_and_does_nothing_twice() {
    let total: usize = [Command::Checked, Command::Plain, Command::Refused].into_iter().map(sweep).sum();
    println!("killed before {total} calls");
}
