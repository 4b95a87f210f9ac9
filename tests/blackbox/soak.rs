//! Everything that happens to a bridge in a long life, at random and close together: the remote goes away and comes
//! back, refuses, hangs; others push; people commit by hand; the process is killed. At the end nothing may be lost,
//! nothing twice, and nothing forced.
//!
//! `GHOST_BRIDGE_SOAK_SECS` says how long it goes on, `GHOST_BRIDGE_SOAK_SEED` repeats a run.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::harness::audit;
use crate::harness::cloud::{set_mode, write};
use crate::harness::document::sha256;
use crate::harness::git::{Commit, assert_sound, results, with_subject};
use crate::harness::{Bridge, Cloud, Doc, LONG_PATIENCE, PATIENCE, poll};

/// How long it goes on where nothing else is said: short, for it runs with all the other tests.
const SECONDS: u64 = 15;
/// How long a person tries to get a commit in between the bridge's.
const TRIES: usize = 20;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn duration() -> Duration {
    Duration::from_secs(from_environment("GHOST_BRIDGE_SOAK_SECS").unwrap_or(SECONDS))
}

/// What happens to the bridge next.
#[derive(Clone, Copy, Debug)]
enum Event {
    Submit(u32),
    TheyPush,
    TheyAddACommand,
    CommitByHand,
    RemoteAway(Duration),
    Refused(Duration),
    Hangs(Duration),
    Killed,
    Stopped,
    Quiet(Duration),
}

impl Event {
    fn any(random: &mut StdRng) -> Self {
        let span = Duration::from_millis(random.random_range(50..1500));
        match random.random_range(0..100) {
            0..40 => Self::Submit(random.random_range(1..8)),
            40..43 => Self::Submit(60),
            43..54 => Self::TheyPush,
            54..60 => Self::TheyAddACommand,
            60..67 => Self::CommitByHand,
            67..73 => Self::RemoteAway(span),
            73..80 => Self::Refused(span),
            80..85 => Self::Hangs(span),
            85..91 => Self::Killed,
            91..94 => Self::Stopped,
            _ => Self::Quiet(span),
        }
    }
}

/// The world of one run, and what must be found at its end.
struct Soak<'a> {
    cloud: &'a Cloud,
    bridge: Option<Bridge<'a>>,
    other: PathBuf,
    /// Each document by its id.
    documents: BTreeMap<String, Vec<u8>>,
    /// Commits of other people by what they say, on the remote or here.
    others: Vec<String>,
    serial: u32,
}

impl<'a> Soak<'a> {
    fn new(cloud: &'a Cloud) -> Self {
        for (key, value) in [("receive.denyNonFastForwards", "true"), ("receive.denyDeletes", "true")] {
            cloud.remote_git(&["config", key, value]);
        }
        cloud.remote_git(&["config", "core.logAllRefUpdates", "always"]);
        // What runs in there when it goes away makes no new folder of that name.
        fs::rename(cloud.remote(), real(cloud)).unwrap();
        symlink(real(cloud), cloud.remote()).unwrap();
        let (bridge, other) = (Some(Bridge::start(cloud)), cloud.other_clone());
        Self { cloud, bridge, other, documents: BTreeMap::new(), others: Vec::new(), serial: 0 }
    }

    fn next(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    /// A new command: most do nothing, some write a file of their own.
    fn document(&mut self) -> Doc {
        let n = self.next();
        let id = format!("soak-{n:06}");
        if n.is_multiple_of(3) { Doc::write(&id, &format!("docs/{n}.txt"), &id) } else { Doc::noop(&id) }
    }

    fn hook(&self, body: Option<&str>) {
        let hook = self.cloud.remote().join("hooks/pre-receive");
        match body {
            None => drop(fs::remove_file(hook)),
            Some(body) => {
                let new = hook.with_extension("new");
                write(&new, format!("#!/bin/sh\n{body}\n"));
                set_mode(&new, 0o755);
                fs::rename(new, hook).unwrap();
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Submit(count) => {
                for _ in 0..count {
                    let document = self.document();
                    let bytes = self.cloud.submit(&document);
                    self.documents.insert(document.id().to_owned(), bytes);
                }
            }
            Event::TheyPush => {
                let n = self.next();
                self.they_push(&format!("theirs/{n}.txt"), &n.to_string());
            }
            Event::TheyAddACommand => {
                let document = self.document();
                let bytes = document.signed(&self.cloud.secret);
                let path = format!("commands/{}.json", document.id());
                if self.they_push(&path, std::str::from_utf8(&bytes).unwrap()) {
                    self.documents.insert(document.id().to_owned(), bytes);
                }
            }
            Event::CommitByHand => self.commit_by_hand(),
            Event::RemoteAway(span) => {
                fs::remove_file(self.cloud.remote()).unwrap();
                std::thread::sleep(span);
                symlink(real(self.cloud), self.cloud.remote()).unwrap();
            }
            Event::Refused(span) => {
                self.hook(Some("echo 'not now' >&2; exit 1"));
                std::thread::sleep(span);
                self.hook(None);
            }
            Event::Hangs(span) => {
                self.hook(Some("sleep 2; exit 1"));
                std::thread::sleep(span);
                self.hook(None);
            }
            Event::Killed => {
                self.bridge.take().unwrap().kill();
                self.bridge = Some(Bridge::start(self.cloud));
            }
            Event::Stopped => {
                self.bridge.take().unwrap().stop();
                self.bridge = Some(Bridge::start(self.cloud));
            }
            Event::Quiet(span) => std::thread::sleep(span),
        }
    }

    /// A commit in the other clone, pushed if the bridge lets it through in reasonable time; tells whether.
    fn they_push(&mut self, path: &str, content: &str) -> bool {
        let (cloud, other) = (self.cloud, self.other.as_path());
        write(&other.join(path), content);
        let subject = format!("theirs {path}");
        cloud.git_at(other, &["add", "--all"]);
        cloud.git_at(other, &["commit", "-q", "-m", &subject]);
        let through = (0..TRIES).any(|_| {
            cloud.git_succeeds(other, &["pull", "-q", "--rebase", "origin", "main"])
                && cloud.git_succeeds(other, &["push", "-q", "origin", "HEAD:main"])
        });
        if through {
            self.others.push(subject);
        } else {
            cloud.git_at(other, &["reset", "-q", "--hard", "origin/main"]);
        }
        through
    }

    /// Somebody commits one file of their own in CLOUD, as one does who leaves everything else alone.
    fn commit_by_hand(&mut self) {
        let n = self.next();
        let (path, subject) = (format!("notes/{n}.txt"), format!("by hand {n}"));
        self.cloud.write(&path, n.to_string());
        let done = (0..TRIES).any(|_| {
            self.cloud.git_succeeds(self.cloud.root(), &["add", "--", &path])
                && self.cloud.git_succeeds(self.cloud.root(), &["commit", "-q", "-m", &subject, "--", &path])
        });
        if done {
            self.others.push(subject);
        }
    }

    /// Everything arrives, and the bridge stops.
    fn finish(&mut self) -> Vec<Commit> {
        self.hook(None);
        let (bridge, start) = (self.bridge.take().unwrap(), Instant::now());
        let wanted: Vec<String> = self.documents.keys().map(|id| results(id, 0)).chain(self.others.clone()).collect();
        let history = bridge.history("everything to be published", |history| {
            let there: HashMap<&str, ()> = history.iter().map(|commit| (commit.subject.as_str(), ())).collect();
            wanted.iter().all(|subject| there.contains_key(subject.as_str()))
        });
        bridge.emptied();
        // What others pushed last has to be fetched yet, which a stop does not wait for.
        let tip = |folder: &Path| self.cloud.git_at(folder, &["rev-parse", "main"]);
        bridge.wait_for("both sides to agree", || tip(&self.cloud.remote()) == tip(self.cloud.root()));
        println!("all was published {:.1?} after the last event", start.elapsed());
        bridge.stop();
        history
    }

    fn judge(&self, history: &[Commit]) {
        let cloud = self.cloud;
        // A child of a bridge that was killed may still be consolidating packs, or pushing.
        assert!(poll(PATIENCE, || !git_runs_beneath(cloud.world())), "a git process does not end");
        let mut counts: HashMap<&str, usize> = HashMap::new();
        history.iter().for_each(|commit| *counts.entry(&commit.subject).or_default() += 1);
        for subject in self.documents.keys().map(|id| results(id, 0)).chain(self.others.iter().cloned()) {
            assert_eq!(counts.get(subject.as_str()), Some(&1), "commits that are called {subject:?}");
        }
        assert_sound(history);
        let lines = audit::verified(cloud.root());
        assert_eq!(lines.len(), self.documents.len(), "each is filed once, and nothing else is");
        for (id, bytes) in &self.documents {
            assert_eq!(audit::count(&lines, &sha256(bytes), "ok"), 1, "the audit lines of {id}");
        }
        assert_eq!(cloud.remote_git(&["rev-parse", "main"]), cloud.git(&["rev-parse", "main"]), "both sides agree");
        assert_no_lock(&cloud.path(".git"));
        assert_no_lock(&cloud.remote());
        // Where the index is folded, git unfolds it when it reads it, and writes the tree that it makes, which somebody's staged
        // file may have changed. `git fsck` does so after it has listed the objects, and then calls its own tree missing.
        cloud.git(&["write-tree"]);
        cloud.git(&["fsck", "--full", "--strict", "--no-dangling"]);
        cloud.remote_git(&["fsck", "--full", "--strict", "--no-dangling"]);
        self.assert_never_forced();
    }

    /// Every move of the remote's branch went to a descendant of where it was.
    fn assert_never_forced(&self) {
        let log = fs::read_to_string(self.cloud.remote().join("logs/refs/heads/main")).unwrap();
        for line in log.lines() {
            let mut ids = line.split(' ');
            let (old, new) = (ids.next().unwrap(), ids.next().unwrap());
            let descends = self.cloud.git_succeeds(&self.cloud.remote(), &["merge-base", "--is-ancestor", old, new]);
            assert!(descends || old.bytes().all(|byte| byte == b'0'), "{old} was replaced by {new}");
        }
    }
}

/// Where the remote lies, which can be reached while it is not away.
fn real(cloud: &Cloud) -> PathBuf {
    cloud.world().join("real.git")
}

/// Whether some process works in a folder beneath `world`.
fn git_runs_beneath(world: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap();
    processes.flatten().any(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(world)))
}

fn assert_no_lock(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.extension().is_none_or(|extension| extension != "lock"), "{} is left", path.display());
        if path.is_dir() {
            assert_no_lock(&path);
        }
    }
}

#[test]
fn a_long_life_loses_nothing_doubles_nothing_and_forces_nothing() {
    let seed = from_environment("GHOST_BRIDGE_SOAK_SEED").unwrap_or_else(rand::random);
    println!("GHOST_BRIDGE_SOAK_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let cloud = Cloud::new();
    let mut soak = Soak::new(&cloud);
    let end = Instant::now() + duration();
    let mut events = 0;
    while Instant::now() < end {
        let event = Event::any(&mut random);
        println!("{event:?}");
        soak.happen(event);
        events += 1;
    }
    let history = soak.finish();
    soak.judge(&history);
    println!("{events} events, {} commands, {} commits of others", soak.documents.len(), soak.others.len());
}

/// `git` for threads that others run on.
fn plain_git(home: &Path, folder: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new("git");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", home.join("gitconfig")).env("LC_ALL", "C");
    command.arg("-C").arg(folder).args(arguments).output().unwrap().status.success()
}

/// Pushes commits as fast as it can until it is told to stop; returns what it got through.
fn rival(home: &Path, clone: &Path, name: &str, stop: &AtomicBool) -> Vec<String> {
    let mut through = Vec::new();
    for n in 0.. {
        let subject = format!("rival {name} {n}");
        write(&clone.join(format!("rivals/{name}.txt")), n.to_string());
        plain_git(home, clone, &["add", "--all"]);
        plain_git(home, clone, &["commit", "-q", "-m", &subject]);
        while !stop.load(Ordering::Relaxed) {
            let pulled = plain_git(home, clone, &["pull", "-q", "--rebase", "origin", "main"]);
            if pulled && plain_git(home, clone, &["push", "-q", "origin", "HEAD:main"]) {
                through.push(subject);
                break;
            }
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    through
}

/// When each commit was on the remote, from what its hook wrote down.
fn pushed_at(log: &Path, history: &[Commit]) -> HashMap<String, Duration> {
    let places: HashMap<&str, usize> = history.iter().enumerate().map(|(at, c)| (c.hash.as_str(), at)).collect();
    let mut times = HashMap::new();
    let mut from = 0;
    for line in fs::read_to_string(log).unwrap().lines() {
        let (time, hash) = line.split_once(' ').unwrap();
        let at = Duration::from_secs_f64(time.parse().unwrap());
        let upto = places[hash] + 1;
        for commit in history.get(from..upto).unwrap_or_default() {
            times.insert(commit.subject.clone(), at);
        }
        from = from.max(upto);
    }
    times
}

#[test]
fn eight_rivals_that_push_as_fast_as_they_can_are_lived_with() {
    const RIVALS: usize = 8;
    let commands = 10.max(u32::try_from(duration().as_secs()).unwrap());
    let cloud = Cloud::new();
    let log = cloud.world().join("pushes");
    let hook = cloud.remote().join("hooks/post-receive");
    write(
        &hook,
        format!("#!/bin/sh\nwhile read old new ref; do echo \"$(date +%s.%N) $new\" >> {}; done\n", log.display()),
    );
    set_mode(&hook, 0o755);
    let bridge = Bridge::start(&cloud);
    let (stop, home) = (AtomicBool::new(false), cloud.world().join("home"));
    let clones: Vec<PathBuf> = (0..RIVALS).map(|_| cloud.other_clone()).collect();
    let ids: Vec<String> = (0..commands).map(|n| format!("raced-{n:04}")).collect();
    let (filed, theirs) = std::thread::scope(|scope| {
        let (home, stop) = (home.as_path(), &stop);
        let rivals: Vec<_> = clones
            .iter()
            .enumerate()
            .map(|(n, clone)| scope.spawn(move || rival(home, clone, &n.to_string(), stop)))
            .collect();
        // Each waits until the one before has arrived: so each has to get through by itself.
        let arrives = |id: &String| {
            let filed = submit_and_wait(&cloud, id);
            let arrived = || !with_subject(&cloud.subjects(&cloud.remote()), &results(id, 0)).is_empty();
            poll(LONG_PATIENCE, arrived).then_some(filed)
        };
        let filed: Vec<SystemTime> = ids.iter().map_while(arrives).collect();
        let arrived = filed.len() == ids.len();
        stop.store(true, Ordering::Relaxed);
        let theirs: Vec<String> = rivals.into_iter().flat_map(|rival| rival.join().unwrap()).collect();
        assert!(arrived, "the bridge never gets through");
        (filed, theirs)
    });
    bridge.emptied();
    bridge.stop();
    let history = cloud.published();
    assert_sound(&history);
    for subject in ids.iter().map(|id| results(id, 0)).chain(theirs.iter().cloned()) {
        assert_eq!(with_subject(&history, &subject).len(), 1, "{subject}");
    }
    let pushed = pushed_at(&log, &history);
    let mut waits: Vec<f64> = ids
        .iter()
        .zip(filed)
        .map(|(id, filed)| {
            let filed = filed.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            pushed[&results(id, 0)].saturating_sub(filed).as_secs_f64() * 1e3
        })
        .collect();
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{} commands beside {} pushes of {RIVALS} rivals: filed to pushed {:.0} ms in the middle, {:.0} ms p99, {:.0} ms at most",
        ids.len(),
        theirs.len(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
}

/// Submits a command and waits until it is filed; returns when it was.
fn submit_and_wait(cloud: &Cloud, id: &str) -> SystemTime {
    cloud.submit(&Doc::noop(id));
    let filed = cloud.path(&format!("archive/{id}.json"));
    let mut when = None;
    assert!(
        poll(LONG_PATIENCE, || {
            when = fs::metadata(&filed).and_then(|meta| meta.modified()).ok();
            when.is_some()
        }),
        "{id} is not filed"
    );
    when.unwrap()
}
