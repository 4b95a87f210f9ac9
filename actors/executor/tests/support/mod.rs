//! A bench for the executor: a tree, a signed command, a verdict.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use executor::clock::Clock;
use executor::config::{CheckConfig, Checks, Limits, Requirement, TargetConfig, Targets};
use executor::core::{Executor, Job, Judgement, MAX_ATTEMPTS, Ran};
use executor::journal::Journal;
use executor::sandbox::{End, RunCheck, RunReport};
use executor::status::ExecutorStatus;
use protocol::canonical;
use protocol::command::{Configured, Document, VerifiedCommand};
use protocol::git_id::ObjectFormat;
use protocol::json::{self, Value};
use protocol::ledger::{Entrance, Ledger, Signed};
use protocol::message::Execution;
use protocol::reason::{Reason, Stage};
use protocol::signing::{Keyring, Secret, SecretSlot};
use serde_json::json;

/// The tries that a command has behind it before its last one.
pub const LAST: u32 = MAX_ATTEMPTS - 1;

/// A clock that runs a hook at each reading of the monotonic time, with the reading's number; the hook says how much
/// time has passed since the start.
pub struct Stepped<F: FnMut(u32) -> Duration>(pub Instant, pub RefCell<(u32, F)>);

impl<F: FnMut(u32) -> Duration> Stepped<F> {
    pub fn new(hook: F) -> Self {
        Self(Instant::now(), RefCell::new((0, hook)))
    }
    pub fn readings(&self) -> u32 {
        self.1.borrow().0
    }
}

impl<F: FnMut(u32) -> Duration + Send> Clock for Stepped<F> {
    fn wall(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }
    fn monotonic(&self) -> Instant {
        let (number, hook) = &mut *self.1.borrow_mut();
        *number += 1;
        self.0 + hook(*number)
    }
}

/// A program that is a closure over the root's path.
pub type Program = Box<dyn Fn(&Path) -> RunReport + Send + Sync>;

/// Runs [`Program`]s in the place of a sandbox.
pub struct Programs(pub PathBuf, pub Program);

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Programs")
    }
}

impl RunCheck for Programs {
    fn run(&self, _: &CheckConfig, _: &Dir, _: Duration) -> RunReport {
        (self.1)(&self.0)
    }
}

/// The check that benches configure under the name `program`.
pub fn program() -> CheckConfig {
    CheckConfig {
        argv: vec!["program".into()],
        max_runtime_ms: 60_000,
        sandbox: Requirement::Required,
        writable: Vec::new(),
        readable: Vec::new(),
    }
}

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub executor: Executor,
    pub journal: Journal,
    pub ledger: Arc<Ledger>,
    /// How often the commands that are run were tried before.
    pub attempts: u32,
}

pub fn target(root: PathBuf) -> TargetConfig {
    TargetConfig {
        root,
        is_cloud: true,
        deny: vec!["secret/**".into(), "*.key".into()],
        allow_delete: true,
        limits: Limits::default(),
        ids: ObjectFormat::default(),
    }
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut TargetConfig)) -> Self {
        Self::made(change, Box::new(|_| RunReport::of(End::Exited(0))))
    }

    pub fn with_program(program: Program) -> Self {
        Self::made(|_| {}, program)
    }

    fn made(change: impl FnOnce(&mut TargetConfig), run: Program) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runner = Arc::new(Programs(dir.path().join("tree"), run));
        Self::all(dir, change, Checks::from([("program".to_owned(), program())]), runner)
    }

    pub fn with_checks(checks: Checks, runner: Arc<dyn RunCheck + Sync>) -> Self {
        Self::all(tempfile::tempdir().unwrap(), |_| {}, checks, runner)
    }

    fn all(
        dir: tempfile::TempDir,
        change: impl FnOnce(&mut TargetConfig),
        checks: Checks,
        runner: Arc<dyn RunCheck + Sync>,
    ) -> Self {
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        let mut config = target(dir.path().join("tree"));
        change(&mut config);
        let targets = Targets::from([("MAIN".to_owned(), config)]);
        std::fs::create_dir_all(dir.path().join("cloud/meta")).unwrap();
        let (journal, _) = Journal::open(&dir.path().join("cloud")).unwrap();
        let (ledger, status) = (Arc::new(Ledger::default()), Arc::new(ExecutorStatus::default()));
        let executor = Executor::new(&targets, checks, runner, journal.clone(), status).unwrap();
        Self { executor, dir, journal, ledger, attempts: 0 }
    }

    /// What comes of one command.
    pub fn execute(&mut self, command: &VerifiedCommand, clock: &dyn Clock) -> Ran {
        let job = Job { attempts: self.attempts, ..job(&self.ledger, command) };
        let mut batch = self.executor.run(&[job], clock);
        assert_eq!((batch.stalled, batch.fatal), (None, None));
        batch.ran.pop().unwrap()
    }

    /// The judgement of one command that is not to be tried again.
    pub fn judge(&mut self, command: &VerifiedCommand, clock: &dyn Clock) -> Judgement {
        match self.execute(command, clock) {
            Ran::Judged(judgement) => judgement,
            other => panic!("not judged: {other:?}"),
        }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    pub fn write(&self, path: &str, content: &[u8]) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.root().join(path)).ok()
    }

    pub fn run(&mut self, document: serde_json::Value) -> Judgement {
        self.judge(&verified(document), &Stepped::new(|_| Duration::ZERO))
    }

    pub fn ops(&mut self, ops: serde_json::Value) -> Judgement {
        self.run(document(ops))
    }

    pub fn ok(&mut self, ops: serde_json::Value) -> Execution {
        let execution = executed(self.ops(ops));
        assert_eq!(execution.failure, None);
        execution
    }

    pub fn snapshot(&self) -> Vec<(PathBuf, Option<Vec<u8>>, u32)> {
        let mut all = Vec::new();
        walk(&self.root(), &mut all);
        all.sort();
        all
    }
}

fn walk(folder: &Path, all: &mut Vec<(PathBuf, Option<Vec<u8>>, u32)>) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let content = metadata.is_file().then(|| std::fs::read(&path).unwrap());
        if metadata.is_dir() && path.file_name().unwrap() != ".git" {
            walk(&path, all);
        }
        all.push((path, content, metadata.permissions().mode()));
    }
}

pub fn document(ops: serde_json::Value) -> serde_json::Value {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    json!({
        "schemaVersion": "1.0", "id": format!("c{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z", "nonce": "n", "target": "MAIN",
        "action": "applyPatch", "patchType": "hybrid", "payload": {"inline": {"version": "1", "ops": ops}},
        "allowedActions": ["writeFile", "moveFile", "deleteFile"],
        "constraints": {"maxRuntimeMs": 60000, "maxFilesChanged": 50},
    })
}

pub fn verified(mut document: serde_json::Value) -> VerifiedCommand {
    let keyring = Keyring::new(&Secret::new(b"0123456789abcdef".to_vec()).unwrap(), None);
    let Value::Object(object) = json::parse(document.to_string().as_bytes()).unwrap() else { panic!("no object") };
    document["hmac"] = keyring.sign(SecretSlot::Current, canonical::object_without(&object, "hmac").as_bytes()).into();
    let raw: Arc<[u8]> = document.to_string().into_bytes().into();
    let authentic =
        Document::parse(raw).unwrap().authenticate(&keyring, Utc::now()).map_err(|(_, verdict)| verdict).unwrap();
    let command = authentic.read(&Configured::ANYTHING).unwrap();
    authentic.verified(command, Utc::now())
}

/// The command with its turn.
pub fn job(ledger: &Arc<Ledger>, command: &VerifiedCommand) -> Job {
    let signed = Signed { id: Some(&command.command().id), form: command.form() };
    match ledger.enter(command.input_sha256(), Some(signed)) {
        Entrance::Turn(turn) => {
            Job { file: "c.json".into(), command: Arc::new(command.clone()), attempts: 0, turn: Arc::new(turn) }
        }
        other => panic!("no turn: {other:?}"),
    }
}

pub fn executed(judgement: Judgement) -> Execution {
    match judgement {
        Judgement::Executed(execution, ..) => execution,
        other => panic!("not executed: {other:?}"),
    }
}

pub fn refused(judgement: &Judgement) -> (Reason, Stage) {
    match judgement {
        Judgement::Rejected(verdict) => (verdict.reason, verdict.stage),
        other => panic!("not refused: {other:?}"),
    }
}
