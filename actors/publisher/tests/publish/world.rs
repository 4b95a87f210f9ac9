//! A CLOUD with its remote, an archiver's hand that files commands, and a running publisher.

use std::future::Future;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::{Addr, Supervisor, System};
use protocol::artifact::CommitSubject;
use protocol::audit::{AuditEntry, AuditLine, AuditResult};
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::message::{Attempt, Filed};
use protocol::reason::Reason;
use publisher::{Publisher, PublisherConfig, PublisherStatus, Stop, Stopped};
use supervision::{Budget, Gauge, Lifeline, Port};

/// Longer than anything here takes on a loaded machine; it only ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(300);

pub struct World {
    _dir: tempfile::TempDir,
    pub cloud: PathBuf,
    pub remote: PathBuf,
    prev: Sha256,
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(args).current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    // Whatever git makes by default.
    command.env("GIT_DEFAULT_REF_FORMAT", "files");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Person").env(format!("GIT_{who}_EMAIL"), "person@example.org");
    }
    command
}

pub fn try_git(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = try_git(dir, args);
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

/// Runs git with this standard input, and expects it to succeed.
pub fn git_with_input(dir: &Path, args: &[&str], input: &[u8]) -> String {
    let mut child = command(dir, args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// An executable shell script; returns where it is.
pub fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
    let (at, new) = (dir.join(name), dir.join(format!("{name}.new")));
    std::fs::write(&new, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Whoever runs it meanwhile sees the old one or the new one.
    std::fs::rename(new, &at).unwrap();
    at
}

pub fn write(dir: &Path, path: &str, content: &str) {
    let at = dir.join(path);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(at, content).unwrap();
}

pub fn read(dir: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(dir.join(path)).ok()
}

pub fn subjects(dir: &Path, rev: &str) -> Vec<String> {
    let out = try_git(dir, &["log", "--reverse", "--format=%s", rev, "--"]);
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

pub fn files_of(dir: &Path, rev: &str) -> Vec<String> {
    let out = git(dir, &["show", "--format=", "--name-only", "--no-renames", rev]);
    out.lines().map(str::to_owned).collect()
}

impl World {
    /// An empty repository in CLOUD, its branch unborn, without a remote.
    pub fn unborn() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let (cloud, remote) = (top.join("cloud"), top.join("remote.git"));
        git(&top, &["init", "-q", "-b", "main", "cloud"]);
        Self { _dir: dir, cloud, remote, prev: Sha256::ZERO }
    }

    /// The same with a bare remote that is empty.
    pub fn with_remote() -> Self {
        let world = Self::unborn();
        git(world.top(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        git(&world.cloud, &["remote", "add", "origin", world.remote.to_str().unwrap()]);
        world
    }

    /// The same with a first commit of a person's on both sides.
    pub fn seeded() -> Self {
        let world = Self::with_remote();
        write(&world.cloud, "README.md", "hello\n");
        write(&world.cloud, "src/a.txt", "a\n");
        git(&world.cloud, &["add", "-A"]);
        git(&world.cloud, &["commit", "-qm", "first"]);
        git(&world.cloud, &["push", "-q", "-u", "origin", "main"]);
        world
    }

    pub fn top(&self) -> &Path {
        self.cloud.parent().unwrap()
    }

    pub fn config(&self) -> PublisherConfig {
        PublisherConfig {
            fetch_every: Duration::from_millis(200),
            backoff_base: Duration::from_millis(20),
            backoff_cap: Duration::from_millis(200),
            ..PublisherConfig::new(&self.cloud)
        }
    }

    /// A person's clone of the remote.
    pub fn clone(&self, name: &str) -> PathBuf {
        git(self.top(), &["clone", "-q", self.remote.to_str().unwrap(), name]);
        self.top().join(name)
    }

    fn line(&mut self, id: Option<&str>, result: AuditResult, hmac_ok: bool, input: &Sha256) -> AuditLine {
        let entry = AuditEntry {
            ts: "2026-11-23T00:00:00.000Z".to_owned(),
            id: id.map(|id| CommandId::parse(id).unwrap()),
            action: None,
            result,
            exit: (result == AuditResult::Ok).then_some(0),
            files_changed: 0,
            hmac_ok,
            input_sha256: *input,
        };
        let line = AuditLine::chain(entry, self.prev).unwrap();
        self.prev = line.hash;
        let log = self.cloud.join("logs/bridge.log");
        let old = std::fs::read_to_string(&log).unwrap_or_default();
        write(&self.cloud, "logs/bridge.log", &(old + &line.to_text().unwrap()));
        line
    }

    /// Files a command that succeeded, as the archiver does; returns what it would tell of it.
    pub fn file(&mut self, id: &str) -> Filed {
        self.file_in("", id)
    }

    /// The same, in folders beneath the usual ones.
    pub fn file_in(&mut self, folder: &str, id: &str) -> Filed {
        let artifacts: Vec<String> =
            ["results/ID.json", "results/ID.integrity.json", "diffs/ID.patch", "archive/ID.json"]
                .map(|path| path.replace("ID", &format!("{folder}{id}")))
                .to_vec();
        for path in &artifacts {
            write(&self.cloud, path, &format!("{path}\n"));
        }
        let audit = self.line(Some(id), AuditResult::Ok, true, &Sha256::of(id.as_bytes()));
        let id = CommandId::parse(id).unwrap();
        let subject = CommitSubject::Results { id: id.clone(), exit_code: 0 };
        filed(Some(id), subject, artifacts, audit)
    }

    /// Files a dead letter of a document without an id.
    pub fn reject(&mut self, stem: &str) -> Filed {
        let input = Sha256::of(stem.as_bytes());
        let path = format!("dead_letter/{stem}-{}.json", input.short());
        write(&self.cloud, &path, "{}\n");
        let audit = self.line(None, AuditResult::Rejected(Reason::Malformed), false, &input);
        filed(None, CommitSubject::DeadLetter { reason: Reason::Malformed }, vec![path], audit)
    }

    /// Files a dead letter of a document that bears `id`.
    pub fn refuse(&mut self, id: &str, reason: Reason, hmac_ok: bool) -> Filed {
        let input = Sha256::of(format!("{id} {}", reason.as_str()).as_bytes());
        let path = format!("dead_letter/{id}-{}.json", input.short());
        write(&self.cloud, &path, "{}\n");
        let audit = self.line(Some(id), AuditResult::Rejected(reason), hmac_ok, &input);
        filed(CommandId::parse(id).ok(), CommitSubject::DeadLetter { reason }, vec![path], audit)
    }

    /// Moves the log away, as the archiver does before it writes the next line.
    pub fn roll(&mut self, name: &str) -> String {
        let path = format!("logs/2026/11/23/0000/bridge-{name}.log");
        std::fs::create_dir_all(self.cloud.join(&path).parent().unwrap()).unwrap();
        std::fs::rename(self.cloud.join("logs/bridge.log"), self.cloud.join(&path)).unwrap();
        path
    }

    pub fn has_on_remote(&self, subject: &str) -> bool {
        self.remote.exists() && subjects(&self.remote, "main").iter().any(|s| s == subject)
    }

    /// What must hold of the repository at any quiet moment.
    pub fn assert_sound(&self) {
        git(&self.cloud, &["fsck", "--strict", "--no-dangling"]);
    }
}

fn filed(id: Option<CommandId>, subject: CommitSubject, artifacts: Vec<String>, audit: AuditLine) -> Filed {
    let audit_line = audit.to_text().unwrap();
    Filed { id, subject, artifacts, audit_line, log_rolled_to: None, first_seen: Some(Instant::now()) }
}

/// A running publisher.
pub struct Bridge {
    addr: Addr<Publisher>,
    port: Port<Filed>,
    tries: Port<Attempt>,
    pub status: Arc<PublisherStatus>,
}

impl Bridge {
    pub async fn send(&self, filed: Filed) {
        deliver(&self.port, filed).await;
    }

    /// Tells of a try that failed, the `attempts`th of its command, long before anything is filed.
    pub async fn tried(&self, id: &str, attempts: u32) {
        let at = chrono::DateTime::from_timestamp(1_700_000_000 + i64::from(attempts), 0).unwrap();
        let error = "io_error: no space left".to_owned();
        deliver(&self.tries, Attempt { id: CommandId::parse(id).unwrap(), attempts, error, at }).await;
    }

    pub async fn stop(&self) -> Stopped {
        self.stop_within(Duration::from_secs(20)).await
    }

    pub async fn stop_within(&self, within: Duration) -> Stopped {
        self.addr.send(Stop { within }).await.unwrap()
    }

    /// Waits until all that was sent is committed and the index is in line.
    pub async fn quiet(&self, world: &World, committed: u64) {
        until("commits", || self.status.is_ready() && self.status.committed() >= committed).await;
        let indexed = || {
            let head = try_git(&world.cloud, &["rev-parse", "HEAD"]).stdout;
            head == try_git(&world.cloud, &["rev-parse", "refs/ghost-bridge/indexed"]).stdout
        };
        until("the index", indexed).await;
    }
}

async fn deliver<M: Send + 'static>(port: &Port<M>, message: M) {
    let mut message = Some(message);
    until("room in the mailbox", || match port.send(message.take().unwrap()) {
        Ok(()) => true,
        Err(supervision::SendError::Full(back)) => {
            message = Some(back);
            false
        }
        Err(error) => panic!("{error:?}"),
    })
    .await;
}

/// Waits for a condition.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a publisher and, beside it, a scenario. A panic of the scenario fails the test.
pub fn run<F: Future<Output = ()> + 'static>(config: PublisherConfig, scenario: impl FnOnce(Bridge) -> F) {
    let system = System::new();
    system.block_on(async { scenario(start(config)).await });
}

/// Starts one more publisher within a scenario: the next life of one that was stopped.
pub fn start(config: PublisherConfig) -> Bridge {
    let budget = Arc::new(Mutex::new(Budget::new(3, Duration::from_secs(60))));
    let lifeline = Lifeline::new("publisher", System::current(), budget);
    let status = Arc::new(PublisherStatus::default());
    let theirs = Arc::clone(&status);
    let addr = Supervisor::start(move |_| Publisher::new(config, theirs, lifeline));
    let gauge = Gauge::new("publisher", 2_000);
    let (port, tries) = (Port::new(addr.clone(), Arc::clone(&gauge)), Port::new(addr.clone(), gauge));
    Bridge { addr, port, tries, status }
}
