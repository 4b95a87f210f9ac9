//! How long one command takes on a bridge that has nothing else to do, and how long the bridge takes to start.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::Sizes;
use crate::documents::Signer;
use crate::site::{Bridge, Site, git, git_command, tip, wait};
use crate::table::{Row, Table};

/// The pause between two looks where microseconds count: two looks cost less than that.
const LOOK: Duration = Duration::from_micros(50);
/// The same while git's children run, who want both cores: of the bridge's push and of the bare one alike.
const LOOK_PUSH: Duration = Duration::from_micros(500);
/// What the bridge is left between two commands, to come to rest: longer than its quiet work lasts.
const REST: Duration = Duration::from_millis(400);
/// Filed, committed, pushed.
const AIMS: [f64; 2] = [5.0, 10.0];
const TIMES_PUSH: f64 = 1.5;
/// The longest start with 100,000 commands of history, in seconds.
const START: f64 = 1.0;
/// Starts that are measured.
const STARTS: u64 = 3;

pub fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One command: how long until its document has left `commands/`, the branch has moved, the remote has it.
fn one(site: &Site, bridge: &mut Bridge, signer: &Signer, number: u64) -> [Duration; 3] {
    let id = format!("lone{number:06}");
    let bytes = signer.small_write(&id, number, Utc::now());
    let (hidden, path) = (site.cloud.join(format!("commands/.{id}")), site.cloud.join(format!("commands/{id}.json")));
    let (git_dir, before) = (site.cloud.join(".git"), tip(&site.remote));
    fs::write(&hidden, bytes).unwrap();
    let begin = Instant::now();
    fs::rename(hidden, &path).unwrap();
    let mut filed = None;
    let committed = wait("a lone command's commit", LOOK, || {
        if filed.is_none() && !path.exists() {
            filed = Some(begin.elapsed());
        }
        (tip(&git_dir) != before).then(|| begin.elapsed())
    });
    let pushed = wait("its push", LOOK_PUSH, || (tip(&site.remote) != before).then(|| begin.elapsed()));
    bridge.check();
    [filed.unwrap_or(committed), committed, pushed]
}

/// A bare push of one commit that is there already, until the remote has it: the files that one command leaves, and a log
/// that one line was added to.
fn bare_push(other: &Site, signer: &Signer, number: u64) -> Duration {
    let filed = signer.filed(format!("push{number:06}"), number, Utc::now());
    for (folder, name, bytes) in &filed.artifacts {
        fs::write(other.cloud.join(folder).join(name), bytes).unwrap();
    }
    let log = fs::File::options().append(true).create(true).open(other.cloud.join("logs/bridge.log"));
    writeln!(log.unwrap(), "{}", "a line as long as those of the log, give or take ".repeat(9)).unwrap();
    git(&other.cloud, &["add", "results", "diffs", "archive", "logs"]);
    git(&other.cloud, &["commit", "-q", "-m", "one more"]);
    let (before, begin) = (tip(&other.remote), Instant::now());
    let mut push = git_command(&other.cloud).args(["push", "-q", "origin", "main"]).spawn().unwrap();
    let pushed = wait("a bare push", LOOK_PUSH, || (tip(&other.remote) != before).then(|| begin.elapsed()));
    assert!(push.wait().unwrap().success());
    pushed
}

/// Lone commands, each beside a bare push.
pub fn lone(sizes: &Sizes, table: &mut Table) {
    let (site, other, signer) = (Site::new(0), Site::new(0), Signer::new());
    let mut bridge = site.start();
    bridge.ready();
    // The first one pays for what is made once.
    let mut times: [Vec<Duration>; 3] = Default::default();
    let mut pushes = Vec::new();
    for number in 0..=sizes.lone as u64 {
        std::thread::sleep(REST);
        let until = one(&site, &mut bridge, &signer, number);
        std::thread::sleep(REST);
        let push = bare_push(&other, &signer, number);
        if number > 0 {
            times.iter_mut().zip(until).for_each(|(times, time)| times.push(time));
            pushes.push(push);
        }
    }
    bridge.stop();
    let [filed, committed, pushed] = times.map(|times| median(&times));
    let push = median(&pushes);
    for (what, time, aim) in [("filed", filed, AIMS[0]), ("committed", committed, AIMS[1])] {
        table.add(Row {
            what: format!("lone command, drop to {what}, median of {}", sizes.lone),
            measured: format!("{:.1} ms", ms(time)),
            aim: format!("{aim:.0} ms"),
            met: Some(ms(time) <= aim),
            ..Row::default()
        });
    }
    let ratio = ms(pushed) / ms(push);
    table.add(Row {
        what: format!("lone command, drop to pushed, median of {}", sizes.lone),
        measured: format!("{:.1} ms", ms(pushed)),
        peer: format!("{:.1} ms, git push of such a commit", ms(push)),
        ratio: format!("{ratio:.2}"),
        aim: format!("{TIMES_PUSH} times"),
        met: Some(ratio <= TIMES_PUSH),
    });
}

/// From the start to "ready", and to the first command's commit. The ledger is made from the log at each start.
pub fn start(table: &mut Table, history: u64) {
    let (site, signer) = (Site::new(history), Signer::new());
    let (mut readies, mut firsts) = (Vec::new(), Vec::new());
    for number in 0..STARTS {
        let id = format!("first{number}");
        let bytes = signer.small_write(&id, number, Utc::now());
        fs::write(site.cloud.join(format!("commands/{id}.json")), bytes).unwrap();
        let (git_dir, before) = (site.cloud.join(".git"), tip(&site.cloud.join(".git")));
        let mut bridge = site.start();
        readies.push(bridge.ready());
        firsts.push(wait("its first commit", LOOK, || (tip(&git_dir) != before).then(|| bridge.begin.elapsed())));
        bridge.stop();
    }
    let (ready, first) = (median(&readies).as_secs_f64(), median(&firsts).as_secs_f64());
    let has_aim = history <= 100_000;
    table.add(Row {
        what: format!("start to ready after {history} commands, the ledger from the log, median of {STARTS}"),
        measured: format!("{ready:.2} s, first commit {first:.2} s"),
        aim: if has_aim { format!("{START:.0} s") } else { String::new() },
        met: has_aim.then_some(ready <= START),
        ..Row::default()
    });
}
