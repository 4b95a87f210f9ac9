//! Every file, damaged in every way, before a start.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Damage, End, end_of_start};
use crate::harness::snapshot::files;
use crate::harness::{Bridge, Cloud, Doc};

/// Trials at a time: most of one is waiting.
const WORKERS: usize = 4;

/// A CLOUD with something of everything: commands executed and refused, packs, loose objects, loose and packed
/// references, a tag, a second branch, reflogs, and what git derives from its packs.
fn template() -> Cloud {
    let cloud = Cloud::new();
    cloud.git(&["remote", "set-url", "origin", "../remote.git"]);
    for (tag, object) in [("light", "HEAD"), ("packed", "HEAD")] {
        cloud.git(&["tag", tag, object]);
    }
    cloud.git(&["branch", "other"]);
    cloud.git(&["pack-refs", "--all"]);
    cloud.git(&["branch", "another"]);
    cloud.git(&["tag", "-a", "-m", "a tag", "annotated"]);
    cloud.git(&["push", "-q", "origin", "annotated"]);
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::write("first", "docs/first.txt", "first\n"));
    cloud.submit(&Doc::write("refused", "../out.txt", "no\n"));
    bridge.published("bridge: DLQ path_escape");
    bridge.run(&Doc::write("second", "docs/first.txt", "second\n"));
    bridge.stop();
    cloud.git(&["fetch", "-q"]);
    cloud.git(&["commit-graph", "write", "--reachable"]);
    cloud
}

fn is_tried(relative: &str) -> bool {
    // What git never reads, and what is taken over from its template.
    let idle = relative.ends_with(".sample") || relative == ".git/description" || relative == ".git/COMMIT_EDITMSG";
    !idle && !relative.starts_with("commands/")
}

/// What must not be worse after than before: what `git fsck` finds wrong.
fn faults(cloud: &Cloud) -> usize {
    let output = cloud.program("git").arg("-C").arg(cloud.root()).args(["fsck", "--no-dangling"]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let wrong = |line: &&str| !line.starts_with("notice:") && !line.starts_with("Checking ");
    String::from_utf8_lossy(&text).lines().filter(wrong).count()
}

fn trial(template: &Cloud, file: &str, damage: Damage, seed: u64) -> Option<End> {
    let cloud = template.copied();
    if !damage.hit(&cloud.path(file), seed) {
        return None;
    }
    let before = faults(&cloud);
    let (end, log) = end_of_start(&cloud, "trial");
    let end = match end {
        End::Published if faults(&cloud) > before => End::Wrong("git fsck finds more than before".to_owned()),
        End::Refused(line) if !names(&line, file) => End::Wrong(format!("refused without its name: {line}")),
        End::Degraded(reason) if !may_be_degraded(file) => End::Wrong(format!("degraded: {reason}")),
        end => end,
    };
    if std::env::var_os("GHOST_BRIDGE_SWEEP_LOGS").is_some() {
        println!("== {file} {damage:?}: {end}\n{log}");
    }
    Some(end)
}

/// Whether a line names the file, or at least its last part.
fn names(line: &str, file: &str) -> bool {
    line.contains(Path::new(file).file_name().unwrap().to_str().unwrap())
}

/// What a person wrote and nobody can guess may hinder publishing, as long as it is said.
fn may_be_degraded(file: &str) -> bool {
    file == ".git/config"
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// `GHOST_BRIDGE_SWEEP_SEED` chooses the bytes that change, `GHOST_BRIDGE_SWEEP_BYTES` how many of each file are tried, and
/// `GHOST_BRIDGE_SWEEP_ONLY` the files, by a part of their names.
#[test]
fn whatever_file_is_damaged_the_bridge_publishes_or_says_why_not() {
    let only = std::env::var("GHOST_BRIDGE_SWEEP_ONLY").unwrap_or_default();
    let template = template();
    let root = template.root();
    let files = files(root).into_iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
    let files: Vec<String> = files.filter(|file| is_tried(file) && file.contains(&only)).collect();
    let seed = number("GHOST_BRIDGE_SWEEP_SEED").unwrap_or(11);
    let bytes = number("GHOST_BRIDGE_SWEEP_BYTES").unwrap_or(1);
    let ways: Vec<(Damage, u64)> = [Damage::Empty, Damage::Zeroed, Damage::Half]
        .map(|damage| (damage, 0))
        .into_iter()
        .chain((0..bytes).map(|n| (Damage::Byte, seed + n)))
        .collect();
    let trials: Vec<(&String, Damage, u64)> =
        files.iter().flat_map(|file| ways.iter().map(move |(damage, seed)| (file, *damage, *seed))).collect();
    println!("{} files, seed {seed}", files.len());
    let (next, ends) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((file, damage, seed)) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(end) = trial(&template, file, *damage, *seed) {
                        ends.lock().unwrap().insert((*file, format!("{damage:?} {seed}")), end);
                    }
                }
            });
        }
    });
    let ends = ends.into_inner().unwrap();
    for ((file, damage), end) in &ends {
        println!("{file:70} {damage:16} {end}");
    }
    let wrong = ends.values().filter(|end| matches!(end, End::Wrong(_))).count();
    assert_eq!(wrong, 0, "of {} trials; see the table", ends.len());
}
