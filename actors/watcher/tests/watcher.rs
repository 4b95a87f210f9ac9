//! The watcher alone, on a real folder, with a recipient that keeps what it is sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use actix::prelude::*;
use protocol::digest::Sha256;
use protocol::message::{Candidate, Content};
use supervision::{Budget, Envelope, Gauge, Lifeline, Port};
use watcher::{Asked, IN_FLIGHT_UNITS, Ignored, Pause, Watcher, WatcherConfig, WatcherStatus};

/// A test that waits for longer has failed; nothing is decided by it otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
const MAILBOX: usize = 2048;
const MAX_BYTES: u64 = 64 * 1024;

struct Recorder(mpsc::Sender<Candidate>);

impl Actor for Recorder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Envelope<Candidate>> for Recorder {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Candidate>, _ctx: &mut Self::Context) {
        self.0.send(envelope.message).unwrap();
    }
}

struct Bench {
    runner: SystemRunner,
    temp: tempfile::TempDir,
    status: Arc<WatcherStatus>,
    received: mpsc::Receiver<Candidate>,
    sender: mpsc::Sender<Candidate>,
    watcher: Option<Addr<Watcher>>,
}

impl Bench {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("commands")).unwrap();
        let (sender, received) = mpsc::channel();
        Self { runner: System::new(), temp, status: Arc::default(), received, sender, watcher: None }
    }

    fn started() -> Self {
        let mut bench = Self::new();
        bench.start(1, 500);
        bench
    }

    fn start(&mut self, rescan_secs: u64, settle_ms: u64) {
        self.start_towards(MAILBOX, rescan_secs, settle_ms);
    }

    /// Starts a watcher whose recipient takes `mailbox` messages at a time.
    fn start_towards(&mut self, mailbox: usize, rescan_secs: u64, settle_ms: u64) {
        let config = WatcherConfig { commands: self.path(""), settle_ms, rescan_secs, max_command_bytes: MAX_BYTES };
        let (status, sender) = (Arc::clone(&self.status), self.sender.clone());
        let asked = Asked { is_signed: Arc::new(|_| true), committed: Arc::new(|| None) };
        self.watcher = Some(self.runner.block_on(async move {
            let budget = Arc::new(Mutex::new(Budget::new(5, Duration::from_secs(30))));
            let lifeline = Lifeline::new("watcher", System::current(), budget);
            let recorder = Recorder(sender).start();
            let port = Port::new(recorder, Gauge::new("recorder", mailbox));
            Supervisor::start(move |_| Watcher::new(config, asked, port, status, lifeline))
        }));
    }

    fn path(&self, name: &str) -> PathBuf {
        let commands = self.temp.path().join("commands");
        if name.is_empty() { commands } else { commands.join(name) }
    }

    /// Puts a file in place as producers should: whole.
    fn put(&self, name: &str, text: &str) {
        let temp = self.temp.path().join("temp");
        fs::write(&temp, text).unwrap();
        fs::rename(temp, self.path(name)).unwrap();
    }

    /// Lets the system run until `found` yields something.
    fn wait<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        self.runner.block_on(async {
            loop {
                if let Some(value) = found() {
                    return value;
                }
                assert!(start.elapsed() < PATIENCE, "waited in vain for {what}: {:?}", self.status);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    }

    fn next(&self) -> Candidate {
        self.wait("a candidate", || self.received.try_recv().ok())
    }

    /// Lets at least `count` further scans begin, so that whatever they could find is found.
    fn let_scan(&self, count: u64) {
        let from = self.status.scans();
        self.wait("scans", || {
            fs::write(self.path(".tick"), "x").unwrap();
            (self.status.scans() >= from + count).then_some(())
        });
    }
}

fn name(candidate: &Candidate) -> String {
    candidate.ticket.file().to_string_lossy().into_owned()
}

fn document(number: usize) -> String {
    format!(r#"{{"issued_at":"2026-01-01T00:00:00Z","id":"id-{number:05}"}}"#)
}

#[test]
fn a_lone_file_is_found_read_and_in_flight_until_its_ticket_drops() {
    let bench = Bench::started();
    bench.put("a.json", &document(1));
    let candidate = bench.next();
    assert_eq!(name(&candidate), "a.json");
    assert_eq!(candidate.content, Content::Document(Arc::from(document(1).as_bytes())));
    assert_eq!(bench.status.in_flight(), 1);
    fs::remove_file(bench.path("a.json")).unwrap();
    drop(candidate);
    assert_eq!(bench.status.in_flight(), 0);
    bench.let_scan(3);
    assert!(bench.received.try_recv().is_err(), "what is gone is not sent again");
}

#[test]
fn two_thousand_files_come_in_order_and_within_the_bound() {
    let mut bench = Bench::new();
    // Names run against the order of the ids.
    for number in 0..2_000 {
        bench.put(&format!("{:05}.json", 99_999 - number), &document(number));
    }
    bench.start(1, 500);
    let bound = IN_FLIGHT_UNITS as usize;
    let mut held: Vec<_> = (0..bound).map(|_| bench.next()).collect();
    bench.let_scan(3);
    assert!(bench.received.try_recv().is_err(), "no more than {bound} are in flight");
    assert_eq!((bench.status.in_flight(), bench.status.pending()), (bound, 2_000 - bound));
    for number in 0..2_000 {
        if held.is_empty() {
            held.push(bench.next());
        }
        let candidate = held.remove(0);
        assert_eq!(candidate.content, Content::Document(Arc::from(document(number).as_bytes())));
        fs::remove_file(bench.path(&name(&candidate))).unwrap();
    }
    bench.wait("rest", || (bench.status.pending() + bench.status.in_flight() == 0).then_some(()));
}

#[test]
fn a_full_mailbox_loses_nothing_and_keeps_the_order() {
    let mut bench = Bench::new();
    for number in 0..200 {
        bench.put(&format!("{number}.json"), &document(number));
    }
    bench.start_towards(2, 1, 500);
    let held: Vec<_> = (0..200).map(|_| bench.next()).collect();
    let expected: Vec<_> = (0..200).map(|number| format!("{number}.json")).collect();
    assert_eq!(held.iter().map(name).collect::<Vec<_>>(), expected);
}

#[test]
fn files_dropped_in_order_while_it_scans_come_in_order() {
    let bench = Bench::started();
    let (commands, temp) = (bench.path(""), bench.temp.path().join("writer"));
    let writer = std::thread::spawn(move || {
        for number in 0..1_000 {
            fs::write(&temp, document(number)).unwrap();
            fs::rename(&temp, commands.join(format!("{:05}.json", number * 7919 % 1_000))).unwrap();
        }
    });
    for number in 0..1_000 {
        let candidate = bench.next();
        assert_eq!(candidate.content, Content::Document(Arc::from(document(number).as_bytes())));
        fs::remove_file(bench.path(&name(&candidate))).unwrap();
    }
    writer.join().unwrap();
}

#[test]
fn a_dribbling_writer_is_waited_for() {
    // It settles far later than the writer pauses.
    let mut bench = Bench::new();
    bench.start(1, 20_000);
    let text = document(1);
    let mut file = fs::File::create(bench.path("a.json")).unwrap();
    for byte in text.as_bytes() {
        file.write_all(&[*byte]).unwrap();
        bench.let_scan(1);
        if *byte != b'}' {
            assert!(bench.received.try_recv().is_err(), "half a document was sent");
        }
    }
    drop(file);
    assert_eq!(bench.next().content, Content::Document(Arc::from(text.as_bytes())));
}

#[test]
fn what_never_parses_is_sent_when_it_has_settled() {
    let bench = Bench::started();
    bench.put("a.json", "{");
    let put = Instant::now();
    assert_eq!(bench.next().content, Content::Document(Arc::from(*b"{")));
    // The file's own clock ticks coarsely; far less than half of the time cannot be right.
    assert!(put.elapsed() >= Duration::from_millis(250), "it was not left to settle");
}

#[test]
fn other_names_are_ignored_and_counted_once() {
    let bench = Bench::started();
    bench.put(".hidden.json", &document(1));
    bench.put("note.txt", "x");
    bench.put("UPPER.JSON", "{}");
    bench.put("empty.json", "");
    let count = |reason| bench.status.ignored(reason);
    let expected = |hidden| {
        (count(Ignored::Hidden) >= hidden && count(Ignored::NotJson) >= 2 && count(Ignored::Empty) >= 1).then_some(())
    };
    bench.wait("counts", || expected(1));
    // The file that makes it scan is hidden as well.
    bench.let_scan(3);
    assert_eq!((count(Ignored::Hidden), count(Ignored::NotJson), count(Ignored::Empty)), (2, 2, 1));
    assert!(bench.received.try_recv().is_err());
    fs::write(bench.path("empty.json"), document(2)).unwrap();
    assert_eq!(name(&bench.next()), "empty.json");
}

#[test]
fn what_is_no_regular_file_is_named_and_not_followed() {
    let bench = Bench::started();
    fs::write(bench.temp.path().join("outside"), "secret").unwrap();
    symlink("../outside", bench.path("link.json")).unwrap();
    fs::create_dir(bench.path("folder.json")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, bench.path("fifo.json"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let mut held = [bench.next(), bench.next(), bench.next()];
    held.sort_by_key(name);
    let contents = held.each_ref().map(|candidate| match &candidate.content {
        Content::NotRegular { kind, bytes } => (*kind, String::from_utf8(bytes.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    });
    let none = String::new;
    assert_eq!(contents, [("a FIFO", none()), ("a folder", none()), ("a symbolic link", "../outside".to_owned())]);
}

#[test]
fn a_file_over_the_bound_is_hashed_and_never_held() {
    let bench = Bench::started();
    let text = "x".repeat(usize::try_from(MAX_BYTES).unwrap() + 1);
    bench.put("a.json", &text);
    let Content::TooLarge { head, size, sha256 } = bench.next().content else { panic!("it was held") };
    assert_eq!((size, sha256), (MAX_BYTES + 1, Sha256::of(text.as_bytes())));
    assert_eq!(*head, text.as_bytes()[..4096]);
}

#[test]
fn a_ticket_dropped_with_its_file_in_place_is_found_again() {
    let bench = Bench::started();
    bench.put("a.json", &document(1));
    let dropped = Instant::now();
    drop(bench.next());
    assert_eq!(bench.next().content, Content::Document(Arc::from(document(1).as_bytes())));
    assert!(dropped.elapsed() >= Duration::from_secs(1), "it was not left alone");
}

#[test]
fn a_file_replaced_in_flight_is_found_again_and_read_anew() {
    let bench = Bench::started();
    bench.put("a.json", &document(1));
    let first = bench.next();
    bench.put("a.json", &document(2));
    bench.let_scan(3);
    assert!(bench.received.try_recv().is_err(), "one of a name is in flight at a time");
    drop(first);
    assert_eq!(bench.next().content, Content::Document(Arc::from(document(2).as_bytes())));
}

#[test]
fn a_lost_folder_is_reported_and_taken_up_again_when_it_is_back() {
    let bench = Bench::started();
    bench.wait("a scan", || (bench.status.scans() > 0 && bench.status.reachable()).then_some(()));
    fs::remove_dir(bench.path("")).unwrap();
    let elsewhere = bench.temp.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("a.json"), document(1)).unwrap();
    symlink(&elsewhere, bench.path("")).unwrap();
    bench.wait("the error", || (!bench.status.reachable()).then_some(()));
    assert!(bench.received.try_recv().is_err(), "a link is not followed");
    fs::remove_file(bench.path("")).unwrap();
    fs::rename(&elsewhere, bench.path("")).unwrap();
    assert_eq!(name(&bench.next()), "a.json");
    assert!(bench.status.reachable());
}

#[test]
fn after_a_pause_nothing_is_sent() {
    let mut bench = Bench::started();
    bench.put("a.json", &document(1));
    drop(bench.next());
    let address = bench.watcher.clone().unwrap();
    bench.runner.block_on(async move { address.send(Pause).await }).unwrap();
    let (status, scans) = (Arc::clone(&bench.status), bench.status.scans());
    bench.put("b.json", &document(2));
    // Another watcher shows that there was something to find, and time to find it.
    bench.status = Arc::default();
    let (sender, received) = mpsc::channel();
    bench.sender = sender;
    let of_paused = std::mem::replace(&mut bench.received, received);
    bench.start(1, 500);
    let found = [bench.next(), bench.next()].map(|candidate| name(&candidate));
    assert_eq!(found, ["a.json", "b.json"]);
    bench.let_scan(3);
    assert_eq!((status.scans(), status.in_flight()), (scans, 0));
    assert!(of_paused.try_recv().is_err());
}
