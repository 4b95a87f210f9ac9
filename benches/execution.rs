//! How fast commands are executed, git left out: `cargo bench --bench execution [-- COMMANDS]`.
//!
//! 1. Signed small writes wait in `commands/`. They are read, verified, planned, recorded, applied, filed (result,
//!    integrity, diff, archive, audit line) and removed, by the real actors with durability on; only the publisher is one
//!    that counts. Beside it, in the same run and on the same disk, the floor: the same six files a command written by temporary
//!    file and rename and removed, on one thread, with nothing decided and nothing synced.
//!
//!    It works in the folder for temporary files: `TMPDIR=/some/folder` chooses another disk.
//! 2. One command of 1,000 ops beside one of 10: the time for each op.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use actix::prelude::{Actor, Addr, Arbiter, Context, Handler, Supervised, Supervisor, System};
use archiver::{Archiver, ArchiverConfig, ArchiverStatus};
use chrono::{TimeDelta, Utc};
use executor::actor::{ExecutorActor, Surroundings};
use executor::config::{Checks, Limits, TargetConfig, Targets};
use executor::core::Executor;
use executor::journal::Journal;
use executor::sandbox::Launcher;
use executor::status::ExecutorStatus;
use protocol::canonical;
use protocol::json::{self, Value};
use protocol::ledger::Ledger;
use protocol::message::{Attempt, Candidate, Content, Filed};
use protocol::signing::{Keyring, Secret, SecretSlot};
use protocol::ticket::Ticket;
use supervision::{Budget, Envelope, Gauge, Lifeline, MAILBOX_CAPACITY, Port, SendError};
use verifier::{Judge, TimeRules, Verifier};

/// Commands of a run, unless the command line says otherwise.
const COMMANDS: u64 = 20_000;
/// Commands in flight, as the watcher has it for small ones.
const IN_FLIGHT: usize = 1_000;
const RUNS: usize = 3;

/// A publisher that counts what it is told.
struct Counter {
    filed: Arc<AtomicU64>,
    expected: u64,
    done: mpsc::Sender<Instant>,
}

impl Actor for Counter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
    }
}

impl Supervised for Counter {}

impl Handler<Envelope<Filed>> for Counter {
    type Result = ();

    fn handle(&mut self, _: Envelope<Filed>, _: &mut Self::Context) {
        if self.filed.fetch_add(1, Ordering::Relaxed) + 1 == self.expected {
            self.done.send(Instant::now()).unwrap();
        }
    }
}

impl Handler<Envelope<Attempt>> for Counter {
    type Result = ();

    fn handle(&mut self, attempt: Envelope<Attempt>, _: &mut Self::Context) {
        panic!("{:?}", attempt.message);
    }
}

fn start<A: Actor<Context = Context<A>> + Supervised>(make: impl FnOnce() -> A + Send + 'static) -> Addr<A> {
    Supervisor::start_in_arbiter(&Arbiter::new().handle(), |_| make())
}

fn keyring() -> Keyring {
    Keyring::new(&Secret::new(b"a secret for measuring only".to_vec()).unwrap(), None)
}

fn signed(id: &str, ops: &str, files: u64) -> Vec<u8> {
    let now = Utc::now();
    let (issued, expires) = (now.to_rfc3339(), (now + TimeDelta::hours(1)).to_rfc3339());
    let text = format!(
        r#"{{"schemaVersion":"1.0","id":"{id}","issued_at":"{issued}","expires_at":"{expires}","nonce":"0","target":"MAIN","action":"applyPatch","patchType":"ops","payload":{{"inline":{{"version":"1","ops":[{ops}]}}}},"validationPlan":[],"allowedActions":["writeFile"],"constraints":{{"maxRuntimeMs":60000,"maxFilesChanged":{files}}}}}"#
    );
    let Value::Object(object) = json::parse(text.as_bytes()).unwrap() else { panic!() };
    let hmac = keyring().sign(SecretSlot::Current, canonical::object_without(&object, "hmac").as_bytes());
    format!("{},\"hmac\":\"{hmac}\"}}", text.strip_suffix('}').unwrap()).into_bytes()
}

fn write_op(path: &str) -> String {
    format!(r#"{{"op":"writeFile","path":"{path}","content":"a small file of one line, {path}\n"}}"#)
}

/// A CLOUD in which `documents` wait.
fn cloud(documents: &[(String, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["commands", "results", "diffs", "archive", "dead_letter", "logs", "meta", "work"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    for (name, bytes) in documents {
        fs::write(dir.path().join("commands").join(name), bytes).unwrap();
    }
    rustix::fs::sync();
    dir
}

/// Runs what waits in `cloud` through verifier, executor and archiver.
fn run(cloud: &Path, names: &[String]) -> Duration {
    let (done, finished) = mpsc::channel();
    let (cloud, names) = (cloud.to_owned(), names.to_vec());
    let thread = std::thread::spawn(move || {
        let system = System::new();
        let (begin, stop) = (Instant::now(), System::current());
        let entrance = system.block_on(async { pipeline(&cloud, names.len() as u64, done) });
        std::thread::spawn(move || feed(&cloud, &names, &entrance));
        let waiter = std::thread::spawn(move || {
            let end = finished.recv().unwrap();
            stop.stop();
            end - begin
        });
        system.run().unwrap();
        waiter.join().unwrap()
    });
    thread.join().unwrap()
}

fn pipeline(cloud: &Path, expected: u64, done: mpsc::Sender<Instant>) -> Port<Candidate> {
    let budget = Arc::new(Mutex::new(Budget::new(0, Duration::from_secs(1))));
    let system = System::current();
    let lifeline = |actor| Lifeline::new(actor, system.clone(), Arc::clone(&budget));
    let gauge = |actor| Gauge::new(actor, MAILBOX_CAPACITY);
    let (keyring, ledger) = (Arc::new(keyring()), Arc::new(Ledger::default()));
    let (journal, left) = Journal::open(cloud).unwrap();
    assert!(left.entries.is_empty());
    let config = ArchiverConfig { cloud: cloud.to_owned(), log_kib: 64, window: 256, unauthenticated_per_hour: 1_000 };
    archiver::recover(&config, &keyring, &ledger).unwrap();

    let counter = start(move || Counter { filed: Arc::default(), expected, done });
    let (filed, noted) = (Port::new(counter.clone(), gauge("publisher")), Port::new(counter, gauge("publisher")));
    let (shared, keys) = (Arc::clone(&ledger), Arc::clone(&keyring));
    let archiver = start(move || Archiver::new(config, keys, shared, filed, Arc::new(ArchiverStatus::default())));
    let outcomes = Port::new(archiver, gauge("archiver"));
    let target = TargetConfig {
        root: cloud.to_owned(),
        is_cloud: true,
        deny: Vec::new(),
        allow_delete: false,
        limits: Limits { max_files_changed: 1_000, ..Limits::default() },
        ids: Default::default(),
    };
    let targets = Targets::from([("MAIN".to_owned(), target)]);
    let status = Arc::new(ExecutorStatus::default());
    let runner = Arc::new(Launcher::default());
    let core = Executor::new(&targets, Checks::new(), runner, journal.clone(), Arc::clone(&status)).unwrap();
    let around = Surroundings { archiver: outcomes.clone(), publisher: noted, lifeline: lifeline("executor") };
    let executor = ExecutorActor::new(&targets, core, journal, BTreeMap::new(), status, around);
    let verified = Port::new(start(move || executor), gauge("executor"));
    let judge = Judge {
        keyring,
        ledger,
        targets: ["MAIN".to_owned()].into(),
        checks: [].into(),
        cloud_name: None,
        time: TimeRules { clock_skew: TimeDelta::seconds(30), max_lifetime: TimeDelta::days(1) },
        max_command_bytes: 512 * 1024,
    };
    let line = lifeline("verifier");
    Port::new(start(move || Verifier::new(judge, verified, outcomes, line)), gauge("verifier"))
}

/// Reads the documents and sends them in, as many at a time as the watcher lets in.
fn feed(cloud: &Path, names: &[String], entrance: &Port<Candidate>) {
    let places = Arc::new((Mutex::new(IN_FLIGHT), Condvar::new()));
    for name in names {
        let mut free = places.1.wait_while(places.0.lock().unwrap(), |free| *free == 0).unwrap();
        *free -= 1;
        drop(free);
        let raw = fs::read(cloud.join("commands").join(name)).unwrap();
        let given_back = Arc::clone(&places);
        let release = move |_: &std::ffi::OsStr| {
            *given_back.0.lock().unwrap() += 1;
            given_back.1.notify_one();
        };
        let ticket = Ticket::new(name, Instant::now(), Box::new(release));
        let mut candidate = Candidate { ticket, content: Content::Document(raw.into()), received_at: Utc::now() };
        // An actor that has not begun has a mailbox for few.
        while let Err(error) = entrance.send(candidate) {
            let SendError::Full(back) = error else { panic!("the verifier is gone") };
            candidate = back;
            std::thread::yield_now();
        }
    }
}

/// The same files as [`run`] makes and removes, and nothing else.
fn floor(cloud: &Path, names: &[String], like: &Path) -> Duration {
    let sample = |path: String| fs::read(like.join(path)).unwrap();
    let stem = |name: &String| name.strip_suffix(".json").unwrap().to_owned();
    let first = stem(names.first().unwrap());
    let files: Vec<(&str, &str, Vec<u8>)> = vec![
        ("work", "txt", sample(format!("work/{first}.txt"))),
        ("diffs", "patch", sample(format!("diffs/{first}.patch"))),
        ("results", "json", sample(format!("results/{first}.json"))),
        ("results", "integrity.json", sample(format!("results/{first}.integrity.json"))),
        ("archive", "json", sample(format!("archive/{first}.json"))),
    ];
    let begin = Instant::now();
    for name in names {
        let document = cloud.join("commands").join(name);
        assert!(!fs::read(&document).unwrap().is_empty());
        for (folder, ending, bytes) in &files {
            let folder = cloud.join(folder);
            let (temporary, path) = (folder.join(".new"), folder.join(format!("{}.{ending}", stem(name))));
            fs::write(&temporary, bytes).unwrap();
            fs::rename(temporary, path).unwrap();
        }
        fs::remove_file(document).unwrap();
    }
    begin.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    *times.get(times.len() / 2).unwrap()
}

fn small_writes(count: u64) {
    let documents: Vec<(String, Vec<u8>)> = (0..count)
        .map(|number| {
            let id = format!("c{number:07}");
            (format!("{id}.json"), signed(&id, &write_op(&format!("work/{id}.txt")), 1))
        })
        .collect();
    let names: Vec<String> = documents.iter().map(|(name, _)| name.clone()).collect();
    let (mut took, mut least) = (Vec::new(), Vec::new());
    // Kept to the end: ext4 passes over inodes that were given back a short while ago, one by one.
    let clouds: Vec<_> = (0..RUNS).map(|_| (cloud(&documents), cloud(&documents))).collect();
    for (ours, theirs) in &clouds {
        took.push(run(ours.path(), &names));
        check(ours.path(), count);
        least.push(floor(theirs.path(), &names, ours.path()));
    }
    let (took, least) = (median(took), median(least));
    let rate = |time: Duration| count as f64 / time.as_secs_f64();
    println!("small writes, {count} commands, median of {RUNS}:");
    println!("  verified, planned, recorded, applied, filed  {:8.0} commands/s", rate(took));
    println!("  the same files on one thread, nothing else   {:8.0} commands/s", rate(least));
    println!("  ratio                                        {:8.2}", rate(took) / rate(least));
}

/// What was measured was done.
fn check(cloud: &Path, count: u64) {
    let files = |folder: &str| fs::read_dir(cloud.join(folder)).unwrap().count() as u64;
    assert_eq!(
        [files("commands"), files("work"), files("results"), files("diffs"), files("archive"), files("dead_letter")],
        [0, count, 2 * count, count, count, 0]
    );
}

fn many_ops() {
    let time = |ops: u64| {
        let mut clouds = Vec::new();
        let take = |round: usize| {
            let list: Vec<String> = (0..ops).map(|number| write_op(&format!("work/r{round}/f{number}.txt"))).collect();
            let document = ("m.json".to_owned(), signed("m", &list.join(","), ops));
            let dir = cloud(std::slice::from_ref(&document));
            let took = run(dir.path(), &[document.0]);
            clouds.push(dir);
            took
        };
        median((0..2 * RUNS + 1).map(take).collect())
    };
    let (none, few, many) = (time(0), time(10), time(1_000));
    let each = |time: Duration, ops: u32| time.saturating_sub(none).as_secs_f64() * 1e6 / f64::from(ops);
    println!(
        "one command, beyond the {:.1} ms of one without ops, median of {}:",
        none.as_secs_f64() * 1e3,
        2 * RUNS + 1
    );
    println!("  10 ops     {:8.1} µs an op", each(few, 10));
    println!("  1,000 ops  {:8.1} µs an op", each(many, 1_000));
    println!("  ratio      {:8.2}", each(many, 1_000) / each(few, 10));
}

fn main() {
    // Cargo adds arguments of its own.
    let given = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    small_writes(given.unwrap_or(COMMANDS));
    many_ops();
}
