//! What the bridge costs: the remote's disk, a core while nothing happens, memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Sizes;
use crate::process::{cpu, memory};
use crate::site::{Site, git, wait};
use crate::table::{Row, Table};

/// KiB in the remote for each command.
const DISK: f64 = 2.5;
/// Of a core, in per cent, and MiB.
const IDLE: [f64; 2] = [0.2, 40.0];
/// MiB at the most.
const WAITING: f64 = 150.0;
/// What the bridge is left after its start until it counts as idle.
const SETTLE: Duration = Duration::from_secs(5);
/// The pause between two looks at `commands/`.
const LOOK: Duration = Duration::from_secs(2);

/// Bytes of the files beneath a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}

/// What the objects of a command take up, by their type, and what git keeps beside them: where the disk goes.
fn tell_apart(remote: &Path, commands: u64) {
    let format = "--batch-check=%(objecttype) %(deltabase) %(objectsize:disk)";
    let listed = git(remote, &["cat-file", "--batch-all-objects", format]);
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in listed.lines() {
        let mut words = line.split(' ');
        let (kind, base, bytes) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let whole = base.bytes().all(|byte| byte == b'0');
        let kind = format!("{kind}s {}", if whole { "stored whole" } else { "as deltas" });
        let (count, sum) = kinds.entry(kind).or_default();
        (*count, *sum) = (*count + 1, *sum + bytes.parse::<u64>().unwrap());
    }
    let each = |bytes: u64| bytes as f64 / commands as f64;
    for (kind, (count, sum)) in &kinds {
        eprintln!("    {kind}: {:.2} a command, {:.0} bytes", each(*count), each(*sum));
    }
    for folder in ["pack", "info"] {
        for entry in fs::read_dir(remote.join("objects").join(folder)).unwrap().map(Result::unwrap) {
            let (name, bytes) = (entry.file_name(), entry.metadata().unwrap().len());
            let name = Path::new(&name).extension().unwrap_or(&name).to_owned();
            eprintln!("    {folder}/*.{}: {:.0} bytes a command", name.display(), each(bytes));
        }
    }
}

/// What commands leave in the remote after a server's housekeeping.
pub fn disk(sizes: &Sizes, table: &mut Table) {
    let site = Site::new(0);
    site.submit("d", sizes.commands);
    let mut bridge = site.start();
    site.all_pushed(&mut bridge, sizes.commands);
    bridge.stop();
    let objects = site.remote.join("objects");
    let each = |bytes: u64| bytes as f64 / 1024.0 / sizes.commands as f64;
    let before = each(size(&objects));
    git(&site.remote, &["gc", "-q", "--prune=now"]);
    let after = each(size(&objects));
    tell_apart(&site.remote, sizes.commands);
    table.add(Row {
        what: format!("disk for a command in the remote after git gc, {} small writes", sizes.commands),
        measured: format!("{after:.2} KiB"),
        peer: format!("{before:.2} KiB before it"),
        ratio: format!("{:.2}", after / before),
        aim: format!("{DISK} KiB"),
        met: Some(after <= DISK),
    });
}

/// A bridge that has nothing to do.
pub fn idle(sizes: &Sizes, table: &mut Table) {
    let site = Site::new(sizes.idle_history);
    let mut bridge = site.start();
    bridge.ready();
    std::thread::sleep(SETTLE);
    let before = cpu(bridge.pid());
    std::thread::sleep(Duration::from_secs(sizes.idle_secs));
    bridge.check();
    let after = cpu(bridge.pid());
    let share = |at: usize| (after[at] - before[at]) * 100.0 / sizes.idle_secs as f64;
    let (own, children, resident) = (share(0), share(1), memory(bridge.pid(), "VmRSS"));
    bridge.stop();
    let history = sizes.idle_history;
    table.add(Row {
        what: format!("idle for {} s after {history} commands: of a core", sizes.idle_secs),
        measured: format!("{:.2} % ({own:.2} own, {children:.2} children)", own + children),
        aim: format!("{} %", IDLE[0]),
        met: Some(own + children <= IDLE[0]),
        ..Row::default()
    });
    table.add(Row {
        what: format!("idle after {history} commands: resident"),
        measured: format!("{resident:.0} MiB"),
        aim: format!("{:.0} MiB", IDLE[1]),
        met: Some(resident <= IDLE[1]),
        ..Row::default()
    });
}

/// A great many documents: until the last of them has left `commands/`.
pub fn waiting(sizes: &Sizes, table: &mut Table) {
    let site = Site::new(0);
    eprintln!("  signing {} documents", sizes.waiting);
    site.submit("w", sizes.waiting);
    let (mut bridge, watch, mut said) = (site.start(), Instant::now(), Instant::now());
    let peak = wait("commands/ to be empty", LOOK, || {
        bridge.check();
        let (left, peak) = (site.waiting(), memory(bridge.pid(), "VmHWM"));
        if said.elapsed() > Duration::from_secs(20) {
            said = Instant::now();
            eprintln!("    {left} left after {:.0} s, peak {peak:.0} MiB", watch.elapsed().as_secs_f64());
        }
        (left == 0).then_some(peak)
    });
    eprintln!("  filed in {:.0} s; {} commits pushed by then", watch.elapsed().as_secs_f64(), site.published());
    table.add(Row {
        what: format!("{} documents waiting: peak resident until all are filed", sizes.waiting),
        measured: format!("{peak:.0} MiB"),
        aim: format!("{WAITING:.0} MiB"),
        met: Some(peak <= WAITING),
        ..Row::default()
    });
}
