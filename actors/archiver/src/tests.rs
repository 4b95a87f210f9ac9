//! The archiver against real folders: alone, and as an actor with a recording publisher.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::{Actor, Context, Handler};
use chrono::Utc;
use protocol::audit::AuditLine;
use protocol::canonical::object_without;
use protocol::command::{Configured, Document, VerifiedCommand};
use protocol::digest::Sha256;
use protocol::ledger::{Entrance, Ledger, Licence, Signed};
use protocol::message::*;
use protocol::reason::{Reason, Stage, Verdict};
use protocol::receipt::Receipt;
use protocol::signing::{Keyring, Secret, SecretSlot};
use protocol::ticket::Ticket;
use serde_json::Value;
use supervision::{Envelope, Gauge, Port, SendError};
use tempfile::TempDir;

use crate::batch::{Batch, Done};
use crate::error::ArchiveError;
use crate::files::Cabinet;
use crate::log::AuditLog;
use crate::{Archiver, ArchiverConfig, ArchiverStatus, MAILBOX_CAPACITY, recover, restore};

mod counted;
mod in_the_way;
mod rolled;

/// How long a condition may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

fn keyring() -> Keyring {
    Keyring::new(&Secret::new(b"0123456789abcdef".to_vec()).unwrap(), None)
}

struct Bench {
    dir: TempDir,
    config: ArchiverConfig,
    ledger: Arc<Ledger>,
    batch: Batch,
    log: Option<AuditLog>,
    /// What the clock says instead of the time, where a test says so.
    clock: Option<chrono::DateTime<Utc>>,
}

impl Bench {
    fn new(log_kib: u64, window: usize) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("commands")).unwrap();
        let config = ArchiverConfig { cloud: dir.path().to_owned(), log_kib, window, unauthenticated_per_hour: 1_000 };
        Self { dir, config, ledger: Arc::default(), batch: Batch::default(), log: None, clock: None }
    }

    fn now(&self) -> chrono::DateTime<Utc> {
        self.clock.unwrap_or_else(Utc::now)
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.read(path)).unwrap()
    }

    /// Puts the document of `id` into `commands/`.
    fn put(&self, id: &str, nonce: &str) -> Arc<VerifiedCommand> {
        let command = command(id, nonce);
        fs::write(self.path(&format!("commands/{id}.json")), command.raw()).unwrap();
        command
    }

    fn retry(&mut self) -> Result<Done, ArchiveError> {
        let cabinet = Cabinet::open(&self.config.cloud)?;
        if self.log.is_none() {
            self.log = Some(AuditLog::open(&cabinet.logs, self.config.limits())?);
        }
        let (most, now) = (self.config.unauthenticated_per_hour, self.now());
        self.batch.file(&cabinet, self.log.as_mut().unwrap(), &self.ledger, &keyring(), most, now)
    }

    fn file(&mut self, outcomes: Vec<Outcome>) -> Done {
        self.batch.refill(outcomes);
        self.retry().unwrap()
    }

    /// A new life: what is known comes from disk alone.
    fn restart(&mut self) -> crate::Recovery {
        (self.ledger, self.batch, self.log) = (Arc::default(), Batch::default(), None);
        recover(&self.config, &keyring(), &self.ledger).unwrap()
    }

    /// Every line of the log in order; panics where the chain does not hold.
    fn lines(&self) -> Vec<AuditLine> {
        let mut paths = Vec::new();
        collect(&self.path("logs"), &mut paths);
        paths.sort();
        let (mut all, mut prev) = (Vec::new(), Sha256::ZERO);
        for path in paths {
            for text in fs::read_to_string(path).unwrap().lines() {
                let line = AuditLine::parse(text).expect("an intact line");
                assert_eq!(line.prev, prev);
                prev = line.hash;
                all.push(line);
            }
        }
        all
    }
}

/// All files below; digits sort before `bridge.log`.
fn collect(dir: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(crate::IN_THE_WAY) {
            continue;
        }
        if entry.path().is_dir() { collect(&entry.path(), into) } else { into.push(entry.path()) }
    }
}

fn command(id: &str, nonce: &str) -> Arc<VerifiedCommand> {
    let mut text = format!(
        r#"{{"schemaVersion":"1.0","id":"{id}","issued_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-01T01:00:00Z","nonce":"{nonce}","target":"MAIN","action":"applyPatch","patchType":"ops","payload":{{"inline":{{"version":"1","ops":[{{"op":"noop"}}]}}}},"allowedActions":["writeFile"],"constraints":{{"maxRuntimeMs":1000,"maxFilesChanged":1}}}}"#
    );
    let unsigned = Document::parse(text.as_bytes().into()).unwrap();
    let hmac = keyring().sign(SecretSlot::Current, object_without(unsigned.object(), "hmac").as_bytes());
    text.truncate(text.len() - 1);
    text.push_str(&format!(", \"hmac\": \"{hmac}\"}}\n"));
    let authentic = Document::parse(text.as_bytes().into()).unwrap().authenticate(&keyring(), Utc::now()).unwrap();
    let command = authentic.read(&Configured::ANYTHING).unwrap();
    Arc::new(authentic.verified(command, Utc::now()))
}

fn ticket(file: &str) -> Ticket {
    Ticket::new(file, Instant::now(), Box::new(|_| {}))
}

fn enter(ledger: &Arc<Ledger>, command: &VerifiedCommand) -> Entrance {
    let signed = Signed { id: Some(&command.command().id), form: command.form() };
    ledger.enter(command.input_sha256(), Some(signed))
}

fn licence(ledger: &Arc<Ledger>, command: &VerifiedCommand) -> Licence {
    match enter(ledger, command) {
        Entrance::Turn(turn) => Arc::new(turn).take_id().unwrap(),
        other => panic!("no turn: {other:?}"),
    }
}

/// What another life of the process had executed.
fn recovered(bench: &Bench, command: &Arc<VerifiedCommand>, execution: Execution) -> Outcome {
    let id = &command.command().id;
    Outcome::Executed(Executed {
        ticket: ticket(&format!("{id}.json")),
        command: Arc::clone(command),
        execution,
        receipt: Receipt::default(),
        licence: bench.ledger.recall(command),
    })
}

fn executed(bench: &Bench, command: &Arc<VerifiedCommand>, failure: Option<(Reason, &str)>) -> Outcome {
    let id = command.command().id.to_string();
    let now = Utc::now();
    Outcome::Executed(Executed {
        ticket: ticket(&format!("{id}.json")),
        command: Arc::clone(command),
        execution: Execution {
            failure: failure.map(|(reason, detail)| (reason, detail.to_owned())),
            executed_at: now,
            finished_at: now,
            duration_ms: 3,
            files_changed: u64::from(failure.is_none()),
            bytes_written: 2,
            ops: Vec::new(),
            checks: Vec::new(),
            diff: b"diff\n".to_vec(),
            attempts: 1,
        },
        receipt: Receipt::default(),
        licence: licence(&bench.ledger, command),
    })
}

fn rejected(file: &str, id: Option<&str>, reason: Reason, content: Content) -> Outcome {
    let input_sha256 = match &content {
        Content::Document(bytes) | Content::NotRegular { bytes, .. } => Sha256::of(bytes),
        Content::TooLarge { sha256, .. } => *sha256,
    };
    let id = id.map(|id| protocol::id::CommandId::parse(id).unwrap());
    let verdict = Verdict::new(Stage::Hmac, reason, "no");
    Outcome::Rejected(Rejected {
        ticket: ticket(file),
        rejection: Rejection { verdict, id, hmac_ok: false, content, input_sha256, attempts: 0, turn: None },
    })
}

fn document(bytes: &[u8]) -> Content {
    Content::Document(bytes.into())
}

#[test]
fn an_executed_command_gets_its_artifacts_its_line_and_leaves() {
    let mut bench = Bench::new(64, 256);
    let command = bench.put("a", "1");
    let done = bench.file(vec![executed(&bench, &command, None)]);
    assert_eq!(
        done.filed[0].artifacts,
        ["diffs/a.patch", "results/a.json", "results/a.integrity.json", "archive/a.json"]
    );
    assert_eq!(done.filed[0].subject.to_string(), "bridge: results a (exit=0)");
    assert_eq!(bench.read("archive/a.json"), command.raw().to_vec());
    let integrity = bench.json("results/a.integrity.json");
    for (key, path) in
        [("result_sha256", "results/a.json"), ("diff_sha256", "diffs/a.patch"), ("archive_sha256", "archive/a.json")]
    {
        assert_eq!(integrity[key], Sha256::of(&bench.read(path)).to_string(), "{key}");
    }
    let vouched =
        crate::integrity::Vouched::read(&bench.read("results/a.integrity.json"), &keyring()).expect("our signature");
    assert_eq!(vouched.input, command.input_sha256());
    let other = Keyring::new(&Secret::new(b"another-secret-here".to_vec()).unwrap(), None);
    assert_eq!(crate::integrity::Vouched::read(&bench.read("results/a.integrity.json"), &other), None);
    assert_eq!(bench.read("logs/bridge.log"), done.filed[0].audit_line.as_bytes());
    assert!(!bench.path("commands/a.json").exists());
    assert!(bench.ledger.is_filed(command.input_sha256()));
}

#[test]
fn a_failed_command_gets_result_and_dead_letter_and_no_archive() {
    let mut bench = Bench::new(64, 256);
    let command = bench.put("a", "1");
    let done = bench.file(vec![executed(&bench, &command, Some((Reason::Timeout, "too slow")))]);
    assert_eq!(done.filed[0].subject.to_string(), "bridge: results a (exit=124)");
    assert_eq!(bench.json("results/a.json")["constraints"]["ok"], false);
    let letter = bench.json("dead_letter/a.json");
    assert_eq!(
        (&letter["stage"], &letter["reason"], &letter["command"]["id"]),
        (&"execution".into(), &"timeout".into(), &"a".into())
    );
    let integrity = bench.json("results/a.integrity.json");
    assert_eq!(integrity["dead_letter_sha256"], Sha256::of(&bench.read("dead_letter/a.json")).to_string());
    assert!(integrity["archive_sha256"].is_null() && !bench.path("archive/a.json").exists());
}

#[test]
fn dead_letters_never_replace_each_other_and_the_same_bytes_get_one() {
    let mut bench = Bench::new(64, 256);
    let (one, two) = (br#"{"id":"a","n":1}"#, br#"{"id":"a","n":2}"#);
    let bad = |file: &str, bytes: &[u8]| rejected(file, Some("a"), Reason::BadHmac, document(bytes));
    let done = bench.file(vec![bad("1.json", one), bad("2.json", two), bad("3.json", one)]);
    let short = Sha256::of(two).short();
    let paths: Vec<_> = done.filed.iter().flat_map(|filed| filed.artifacts.clone()).collect();
    assert_eq!(paths, ["dead_letter/a.json".to_owned(), format!("dead_letter/a-{short}.json")]);
    assert_eq!((done.removed_quietly, bench.lines().len()), (1, 2));
    assert_eq!(bench.json("dead_letter/a.json")["command"]["n"], 1);
    assert_eq!(bench.lines()[0].entry.action, None);
    let again = bench.file(vec![bad("4.json", two)]);
    assert!(again.filed.is_empty() && again.removed_quietly == 1);
    // A genuine command whose id a forged document bears is filed beside the forged one's letter.
    let command = bench.put("a", "1");
    bench.file(vec![executed(&bench, &command, Some((Reason::IoError, "disk")))]);
    assert_eq!(bench.json("dead_letter/a.json")["command"]["n"], 1);
    assert!(bench.path(&format!("dead_letter/a-{}.json", command.input_sha256().short())).exists());
}

#[test]
fn what_is_no_json_is_quoted_and_bounded() {
    let mut bench = Bench::new(64, 256);
    let bytes = vec![b'x'; 10_000];
    bench.file(vec![rejected("odd name.json", None, Reason::Malformed, document(&bytes))]);
    let letter = bench.json(&format!("dead_letter/odd_name-{}.json", Sha256::of(&bytes).short()));
    assert!(letter["command"].is_null());
    assert_eq!(letter["raw_base64"].as_str().unwrap().len(), 4096usize.div_ceil(3) * 4);
}

#[test]
fn only_what_was_judged_leaves_commands() {
    use std::os::unix::fs::symlink;
    let mut bench = Bench::new(64, 256);
    fs::write(bench.path("commands/r.json"), "newer").unwrap();
    fs::write(bench.path("victim"), "v").unwrap();
    symlink("../victim", bench.path("commands/l.json")).unwrap();
    symlink("../other", bench.path("commands/l2.json")).unwrap();
    fs::create_dir_all(bench.path("commands/full.json/x")).unwrap();
    fs::create_dir(bench.path("commands/empty.json")).unwrap();
    let odd = |file: &str, bytes: &[u8]| {
        rejected(file, None, Reason::NotRegular, Content::NotRegular { kind: "odd", bytes: bytes.into() })
    };
    let done = bench.file(vec![
        rejected("r.json", None, Reason::Malformed, document(b"older")),
        odd("l.json", b"../victim"),
        odd("l2.json", b"../victim"),
        odd("full.json", b""),
        odd("empty.json", b""),
        odd("full.json", b""),
    ]);
    assert_eq!((done.filed.len(), done.removed_quietly), (5, 1), "names tell entries without bytes apart");
    assert_eq!(bench.read("commands/r.json"), b"newer");
    assert!(bench.path("victim").exists() && bench.path("commands/full.json/x").exists());
    assert!(!bench.path("commands/empty.json").exists());
    assert!(bench.path("commands/l.json").symlink_metadata().is_err());
    assert!(bench.path("commands/l2.json").symlink_metadata().is_ok(), "its target is another one now");
}

#[test]
fn a_document_that_was_filed_before_is_removed_and_that_is_all() {
    let mut bench = Bench::new(64, 256);
    let command = bench.put("a", "1");
    bench.file(vec![executed(&bench, &command, None)]);
    bench.put("a", "1");
    let Entrance::Filed(filed) = enter(&bench.ledger, &command) else { panic!("it has a turn") };
    let input_sha256 = command.input_sha256();
    let again = Outcome::Redelivered(Redelivered { ticket: ticket("a.json"), id: None, input_sha256, filed });
    assert_eq!(bench.file(vec![again]).removed_quietly, 1);
    assert!(!bench.path("commands/a.json").exists());
    assert_eq!(bench.lines().len(), 1);
}

#[test]
fn what_has_a_licence_is_filed_whatever_the_ledger_thinks_of_it_by_then() {
    let mut bench = Bench::new(64, 256);
    let command = bench.put("a", "1");
    let outcome = executed(&bench, &command, None);
    // No way is known that leads here: what is executed must have its record all the same.
    bench.file(vec![rejected("b.json", Some("a"), Reason::BadHmac, document(command.raw()))]);
    assert_eq!(bench.file(vec![outcome]).filed.len(), 1);
    assert_eq!(bench.read("archive/a.json"), command.raw().to_vec());
}

#[test]
fn the_log_rolls_and_the_chain_goes_on_across_restarts() {
    let mut bench = Bench::new(1, 2);
    let mut rolled = Vec::new();
    for round in 0..10 {
        let outcomes = (0..3).map(|n| executed(&bench, &bench.put(&format!("c{round}-{n}"), "1"), None)).collect();
        rolled.extend(bench.file(outcomes).filed.into_iter().filter_map(|filed| filed.log_rolled_to));
        let recovery = bench.restart();
        assert_eq!((recovery.lines, recovery.chain_break), (3 * (round + 1), None));
    }
    assert_eq!(bench.lines().len(), 30);
    assert!(rolled.len() > 4 && rolled.iter().any(|path| path.contains("/0001/")), "{rolled:?}");
    rolled.iter().for_each(|path| assert!(bench.path(path).is_file(), "{path}"));
    assert!(rolled.is_sorted());
    assert_eq!(bench.ledger.len(), 30);
}

#[test]
fn the_end_of_the_log_is_mended_and_a_break_is_found() {
    let mut bench = Bench::new(64, 256);
    for id in ["a", "b", "c"] {
        let command = bench.put(id, "1");
        bench.file(vec![executed(&bench, &command, None)]);
    }
    let log = bench.path("logs/bridge.log");
    let whole = bench.read("logs/bridge.log");
    for cut in [1, 2, 100] {
        fs::write(&log, &whole[..whole.len() - cut]).unwrap();
        // Where the line was dropped its artifacts are complete, so it is written again.
        let recovery = bench.restart();
        assert_eq!((recovery.lines, recovery.chain_break), (3, None), "cut {cut}");
        assert_eq!(recovery.completed.len(), usize::from(cut > 1));
        assert_eq!(bench.lines().len(), 3);
    }
    let text = String::from_utf8(whole).unwrap().replacen("\"exit\":0", "\"exit\":1", 1);
    fs::write(&log, text).unwrap();
    let found = bench.restart().chain_break.expect("a break");
    assert_eq!((found.file.as_str(), found.line), ("logs/bridge.log", 1));
}

#[test]
fn recovery_completes_what_is_whole_and_only_that() {
    let mut bench = Bench::new(64, 256);
    let (whole, failed, half) = (bench.put("whole", "1"), bench.put("failed", "1"), bench.put("half", "1"));
    let letter = rejected("gone.json", Some("gone"), Reason::Expired, document(br#"{"id":"gone"}"#));
    let waiting = br#"{"id":"waits"}"#;
    let waits = || rejected("waits.json", Some("waits"), Reason::Expired, document(waiting));
    bench.file(vec![
        executed(&bench, &whole, None),
        executed(&bench, &failed, Some((Reason::IoError, "d"))),
        executed(&bench, &half, None),
        letter,
        waits(),
    ]);
    fs::write(bench.path("commands/waits.json"), waiting).unwrap();
    fs::remove_file(bench.path("logs/bridge.log")).unwrap();
    fs::remove_file(bench.path("archive/half.json")).unwrap();
    fs::write(bench.path("results/.filing-x"), "left over").unwrap();
    let mut recovery = bench.restart();
    recovery.completed.sort();
    assert_eq!(recovery.completed, ["failed", "gone", "whole"]);
    assert_eq!(recovery.incomplete, ["half", "waits"]);
    assert!(!bench.path("results/.filing-x").exists());
    assert!(!bench.ledger.is_filed(half.input_sha256()));
    // Judged again, both take their own places.
    let done = bench.file(vec![executed(&bench, &half, None), waits()]);
    assert_eq!(done.filed[0].artifacts[1], "results/half.json");
    assert_eq!(done.filed[1].artifacts, ["dead_letter/waits.json"]);
    assert_eq!(bench.lines().len(), 5);
    assert_eq!(bench.restart().completed, Vec::<String>::new());
}

#[test]
fn a_batch_goes_on_where_it_stood_and_a_link_is_never_followed() {
    let mut bench = Bench::new(64, 256);
    let (a, b) = (bench.put("a", "1"), bench.put("b", "1"));
    fs::create_dir(bench.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", bench.path("archive")).unwrap();
    bench.batch.refill(vec![executed(&bench, &a, None), executed(&bench, &b, None)]);
    assert!(matches!(bench.retry(), Err(ArchiveError::NotAFolder { .. })));
    fs::remove_file(bench.path("archive")).unwrap();
    std::os::unix::fs::symlink("elsewhere", bench.path("logs")).unwrap();
    assert!(matches!(bench.retry(), Err(ArchiveError::NotAFolder { .. })));
    assert!(bench.path("commands/a.json").exists());
    fs::remove_file(bench.path("logs")).unwrap();
    assert_eq!(bench.retry().unwrap().filed.len(), 2);
    assert_eq!(bench.lines().len(), 2);
    assert_eq!(fs::read_dir(bench.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn a_line_break_that_comes_late_is_no_other_document() {
    let mut bench = Bench::new(64, 256);
    let command = bench.put("a", "1");
    let late = [command.raw().as_ref(), b" \r\n".as_slice()].concat();
    fs::write(bench.path("commands/a.json"), late).unwrap();
    bench.file(vec![executed(&bench, &command, None)]);
    assert!(!bench.path("commands/a.json").exists());
    let command = bench.put("b", "2");
    let more = [command.raw().as_ref(), b"\n{}".as_slice()].concat();
    fs::write(bench.path("commands/b.json"), more).unwrap();
    bench.file(vec![executed(&bench, &command, None)]);
    assert!(bench.path("commands/b.json").exists(), "what is more than white space is judged anew");
}

#[test]
fn signed_artifacts_are_not_replaced_when_the_log_was_lost() {
    let mut bench = Bench::new(64, 256);
    let first = bench.put("a", "1");
    bench.file(vec![executed(&bench, &first, None)]);
    let result = bench.read("results/a.json");
    bench.ledger = Arc::default();
    let second = bench.put("a", "2");
    let done = bench.file(vec![executed(&bench, &second, None)]);
    assert_eq!(bench.read("results/a.json"), result);
    assert_eq!(done.filed[0].artifacts[1], format!("results/a-{}.json", second.input_sha256().short()));
}

struct Recorder(Sender<Filed>);
impl Actor for Recorder {
    type Context = Context<Self>;
}
impl Handler<Envelope<Filed>> for Recorder {
    type Result = ();
    fn handle(&mut self, filed: Envelope<Filed>, _: &mut Self::Context) {
        self.0.send(filed.message).unwrap();
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_actor_files_in_order_stalls_and_goes_on_by_itself() {
    const COUNT: usize = 600;
    let bench = Bench::new(64, 256);
    fs::write(bench.path("diffs"), "a file in the folder's place").unwrap();
    let outcomes: Vec<Outcome> =
        (0..COUNT).map(|n| executed(&bench, &bench.put(&format!("c{n:04}"), "1"), None)).collect();
    let (sender, filed): (_, Receiver<Filed>) = channel();
    let status = Arc::new(ArchiverStatus::default());
    let released = Arc::new(Mutex::new(0));
    actix::System::new().block_on(async {
        // A publisher with a tiny mailbox: what it cannot take yet is sent again.
        let publisher = Port::new(Recorder(sender).start(), Gauge::new("publisher", 8));
        let archiver = Archiver::new(
            bench.config.clone(),
            Arc::new(keyring()),
            Arc::new(Ledger::default()),
            publisher,
            Arc::clone(&status),
        );
        let port = Port::new(archiver.start(), Gauge::new("archiver", MAILBOX_CAPACITY));
        for mut outcome in outcomes {
            if let Outcome::Executed(executed) = &mut outcome {
                let (count, gone) = (Arc::clone(&released), bench.path("commands"));
                let release = move |file: &std::ffi::OsStr| {
                    // No panic here: a ticket may be dropped while a test fails.
                    *count.lock().unwrap() += usize::from(!gone.join(file).exists());
                };
                executed.ticket = Ticket::new(executed.ticket.file(), Instant::now(), Box::new(release));
            }
            // The mailbox has its size only once the actor has started.
            while let Err(error) = port.send(outcome) {
                let SendError::Full(back) = error else { panic!("the archiver is gone") };
                outcome = back;
                tokio::task::yield_now().await;
            }
        }
        until("stalls", || status.stalled().is_some()).await;
        assert_eq!((status.filed(), *released.lock().unwrap()), (0, 0));
        fs::remove_file(bench.path("diffs")).unwrap();
        let mut ids = Vec::new();
        until("files all", || {
            ids.extend(filed.try_iter().map(|filed| filed.id.unwrap().to_string()));
            ids.len() == COUNT
        })
        .await;
        assert!(ids.is_sorted());
        assert!(status.stalled().is_none() && status.in_hand() == 0);
    });
    assert_eq!((status.filed(), *released.lock().unwrap(), bench.lines().len()), (COUNT as u64, COUNT, COUNT));
    assert_eq!(fs::read_dir(bench.path("commands")).unwrap().count(), 0);
}

#[test]
fn what_a_power_cut_took_of_what_is_filed_is_back_before_anybody_looks() {
    let mut bench = Bench::new(64, 256);
    let (filed, unfiled) = (bench.put("a", "1"), bench.put("b", "1"));
    let Outcome::Executed(first) = executed(&bench, &filed, None) else { panic!("not executed") };
    let execution = first.execution.clone();
    bench.file(vec![Outcome::Executed(first)]);
    let paths = ["diffs/a.patch", "results/a.json", "results/a.integrity.json", "archive/a.json"];
    let before = paths.map(|path| bench.read(path));
    fs::write(bench.path(paths[1]), "").unwrap();
    fs::write(bench.path(paths[2]), &before[2][..9]).unwrap();
    fs::remove_file(bench.path(paths[3])).unwrap();
    bench.restart();
    let recovered = [&filed, &unfiled].map(|command| recovered(&bench, command, execution.clone()));
    let left = restore(&bench.config, &keyring(), &bench.ledger, recovered.into()).unwrap();
    assert!(matches!(left.as_slice(), [Outcome::Executed(left)] if left.command.command().id.as_str() == "b"));
    assert_eq!(paths.map(|path| bench.read(path)), before);
    assert_eq!(bench.lines().len(), 1, "nothing is filed twice");
}
