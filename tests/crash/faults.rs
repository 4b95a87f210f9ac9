//! Actors that panic, fail and hang in the middle of their work: every command still ends filed once and committed once.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::harness::cloud::names;
use crate::harness::git::{assert_sound, outcomes, results, with_subject};
use crate::harness::{Bridge, Cloud, Doc, audit};
use crate::turns::Turns;

/// How many commands there are.
const COMMANDS: usize = 500;
const ACTORS: [&str; 5] = ["watcher", "verifier", "executor", "archiver", "publisher"];
/// Well, then each way to go wrong, with some work that goes well in between.
const GOES_WRONG: &str = "1*off->1*panic->1*off->1*return->1*off->1*sleep(300)->1*off->1*panic->off";

/// A CLOUD, and the commands that are given to it.
struct Work {
    cloud: Cloud,
    given: Cell<usize>,
}

impl Work {
    fn new() -> Self {
        Self { cloud: Cloud::alone(), given: Cell::new(0) }
    }

    fn give(&self, count: usize) {
        let given = self.given.get();
        for number in given..given + count {
            let start = i64::try_from(number).unwrap() - 3000;
            self.cloud.submit(&Doc::write(&id(number), &path(number), &format!("{number}\n")).window(start, 7200));
        }
        self.given.set(given + count);
    }

    /// A bridge with these faults, and this restart budget.
    fn bridge(&self, faults: &str, max_restarts: u32) -> Bridge<'_> {
        Bridge::spawn(&self.cloud, |run| {
            run.env("FAILPOINTS", faults).env("GHOST_BRIDGE__SUPERVISION__MAX_RESTARTS", max_restarts.to_string());
        })
    }

    /// Waits until all is filed and committed.
    fn ends(&self, bridge: &Bridge<'_>, what: &str) {
        bridge.wait_long(&format!("{what}: commands/ to be empty"), || self.cloud.waiting().is_empty());
        bridge.local_history(&format!("{what}: all commits"), |history| outcomes(history).len() >= self.given.get());
    }

    fn assert_once(&self, what: &str) {
        let lines = audit::verified(self.cloud.root());
        let mut filed: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &lines {
            assert_eq!(line["result"], "ok", "{what}: {line}");
            *filed.entry(line["id"].as_str().unwrap()).or_default() += 1;
        }
        assert_eq!(filed.len(), self.given.get(), "{what}: every command is filed");
        assert!(filed.values().all(|count| *count == 1), "{what}: {filed:?}");
        let history = self.cloud.committed();
        assert_sound(&history);
        assert_eq!(outcomes(&history).len(), self.given.get(), "{what}");
        for number in 0..self.given.get() {
            assert_eq!(with_subject(&history, &results(&id(number), 0)).len(), 1, "{what}: {number}");
            assert_eq!(self.cloud.text(&path(number)), format!("{number}\n"), "{what}");
        }
        assert_eq!(self.cloud.dead_letters(), [], "{what}");
    }
}

fn id(number: usize) -> String {
    format!("c-{number:03}")
}

fn path(number: usize) -> String {
    format!("work/{}/{number}.txt", number % 10)
}

fn restarts(bridge: &Bridge<'_>, actor: &str) -> f64 {
    bridge.metric(&format!("ghost_bridge_actor_restarts_total{{actor=\"{actor}\"}}")).unwrap()
}

/// Half of the commands wait, half come while it runs and these actors go wrong.
fn goes_wrong(actors: &[&str]) {
    let what = format!("{actors:?}");
    let mut faults: Vec<String> = actors.iter().map(|actor| format!("{actor}.effect={GOES_WRONG}")).collect();
    if actors.contains(&"verifier") {
        faults.push("verifier.lost=5*off->2*return->off".to_owned());
    }
    let work = Work::new();
    work.give(COMMANDS / 2);
    let bridge = work.bridge(&faults.join(";"), 100);
    bridge.wait_for("its first filed command", || !names(&work.cloud.path("archive")).is_empty());
    work.give(COMMANDS - COMMANDS / 2);
    work.ends(&bridge, &what);
    for actor in ACTORS {
        let (seen, least) = (restarts(&bridge, actor), if actors.contains(&actor) { 1.0 } else { 0.0 });
        assert!(seen >= least && (least > 0.0 || seen == 0.0), "{what}: {actor} was restarted {seen} times");
    }
    println!("{what}: {:?}", ACTORS.map(|actor| restarts(&bridge, actor)));
    bridge.stop();
    work.assert_once(&what);
}

#[test]
fn each_actor_may_panic_fail_and_hang_and_nothing_is_lost_or_done_twice() {
    let turns = Turns::default();
    std::thread::scope(|scope| {
        for actor in ACTORS {
            let turns = &turns;
            scope.spawn(move || {
                let _turn = turns.take();
                goes_wrong(&[actor]);
            });
        }
    });
}

#[test]
fn all_actors_may_go_wrong_at_once() {
    goes_wrong(&ACTORS);
}

/// Where the fault is, and what the last line on stderr says.
fn ends_with_70(fault: &str, max_restarts: u32, says: &[&str]) {
    let work = Work::new();
    work.give(20);
    let bridge = work.bridge(fault, max_restarts);
    let end = bridge.ends();
    assert_eq!(end.code(), Some(70), "{fault}:\n{}", bridge.log());
    let log = bridge.log();
    let last = log.lines().last().unwrap();
    assert!(says.iter().all(|words| last.contains(words)), "{fault}: {last}");
    drop(bridge);
    work.give(20);
    let bridge = work.bridge("", 5);
    work.ends(&bridge, fault);
    bridge.stop();
    work.assert_once(fault);
}

#[test]
fn a_spent_budget_is_70_with_its_cause_and_a_fresh_start_finishes_the_rest() {
    for actor in ["watcher", "verifier", "archiver", "publisher"] {
        ends_with_70(&format!("{actor}.effect=panic"), 2, &["restart budget is spent", actor]);
    }
}

#[test]
fn a_panic_on_an_actors_own_thread_is_70_and_a_fresh_start_finishes_the_rest() {
    for actor in ACTORS {
        ends_with_70(&format!("{actor}.handler=2*off->panic"), 5, &["own thread", actor]);
    }
}

#[test]
fn an_actor_that_is_stuck_for_good_is_seen_from_outside() {
    for actor in ["verifier", "executor", "archiver", "publisher"] {
        let work = Work::new();
        work.give(20);
        let bridge = work.bridge(&format!("{actor}.handler=2*off->sleep(86400000)"), 5);
        let depth = format!("ghost_bridge_mailbox_depth{{actor=\"{actor}\"}}");
        bridge.wait_for(&depth, || bridge.metric(&depth).unwrap() >= 1.0);
        assert_eq!(bridge.get("/healthz").status, 200, "{actor}");
        bridge.wait_for("it to run", || bridge.get("/status").json()["phase"] == "running");
        bridge.kill();
        let bridge = work.bridge("", 5);
        work.ends(&bridge, actor);
        bridge.stop();
        work.assert_once(actor);
    }
}
