//! The running service, as a child process.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::cloud::Cloud;
use super::document::Doc;
use super::git::{self, Commit};
use super::{LONG_PATIENCE, PATIENCE, poll};

/// How much of the bridge's log a failing test prints.
const TAIL_LINES: usize = 40;

/// A bridge that runs; it is killed when the test ends, and its log's tail is printed when the test fails.
pub struct Bridge<'a> {
    cloud: &'a Cloud,
    child: RefCell<Child>,
    log: PathBuf,
}

impl<'a> Bridge<'a> {
    /// Starts the service and waits until it says that it is ready.
    pub fn start(cloud: &'a Cloud) -> Self {
        Self::start_with(cloud, |_| {})
    }

    /// The same, with changes to the command (environment, arguments).
    pub fn start_with(cloud: &'a Cloud, adjust: impl FnOnce(&mut Command)) -> Self {
        let bridge = Self::spawn(cloud, adjust);
        bridge.wait_for("the bridge to be ready", || bridge.log().contains("retries index ->"));
        bridge
    }

    /// The same without waiting for anything: for a bridge that is going to die.
    pub fn spawn(cloud: &'a Cloud, adjust: impl FnOnce(&mut Command)) -> Self {
        let log = cloud.fresh("bridge").with_extension("log");
        let mut command = cloud.bridge(&["run"]);
        adjust(&mut command);
        let out = File::create(&log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("the bridge starts");
        Self { cloud, child: RefCell::new(child), log }
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    pub fn pid(&self) -> u32 {
        self.child.borrow().id()
    }

    /// How it ended, if it did. Only where it may.
    #[allow(dead_code, reason = "not every test program lets it die")]
    pub fn end(&self) -> Option<ExitStatus> {
        self.child.borrow_mut().try_wait().unwrap()
    }

    /// Waits for its end, whatever it is.
    #[allow(dead_code, reason = "not every test program lets it die")]
    pub fn ends(&self) -> ExitStatus {
        self.ended()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).expect("the bridge can be signalled");
    }

    /// Stops it where it is, until `Signal::CONT`. A thread that waits for the disk takes the signal only afterwards,
    /// and the others go on until it does: so the kernel is asked whether all of them stand.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        let stopped = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        assert!(stopped.unwrap().unwrap().stopped(), "the bridge has ended instead of standing still");
    }

    /// Polls `condition`, and gives up early where the bridge is no more.
    pub fn wait_for(&self, what: &str, condition: impl FnMut() -> bool) {
        self.wait_within(PATIENCE, what, condition);
    }

    /// The same for what takes longer.
    pub fn wait_long(&self, what: &str, condition: impl FnMut() -> bool) {
        self.wait_within(LONG_PATIENCE, what, condition);
    }

    fn wait_within(&self, patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let mut ended = None;
        let mut looks = 0_u32;
        let held = poll(patience, || {
            // Asked before the condition: what the bridge did before it ended counts.
            if looks.is_multiple_of(20) {
                ended = self.child.borrow_mut().try_wait().unwrap();
            }
            looks = looks.wrapping_add(1);
            condition() || ended.is_some()
        });
        assert!(held, "gave up waiting for {what}");
        assert!(ended.is_none() || condition(), "the bridge ended ({ended:?}) while the test waited for {what}");
    }

    /// Waits until the remote's history is as `condition` wants it, and returns it. The condition is asked of subjects
    /// and parents alone: its commits show no files.
    pub fn history(&self, what: &str, condition: impl Fn(&[Commit]) -> bool) -> Vec<Commit> {
        self.branch_becomes(&self.cloud.remote(), what, condition);
        self.cloud.published()
    }

    /// The same for CLOUD's own branch.
    pub fn local_history(&self, what: &str, condition: impl Fn(&[Commit]) -> bool) -> Vec<Commit> {
        self.branch_becomes(&self.cloud.path(".git"), what, condition);
        self.cloud.committed()
    }

    fn branch_becomes(&self, git_dir: &Path, what: &str, condition: impl Fn(&[Commit]) -> bool) {
        let mut seen = None;
        let mut held = false;
        self.wait_long(what, || {
            let tip = git::tip(git_dir, "main");
            if tip.is_some() && tip != seen {
                seen = tip;
                held = condition(&self.cloud.subjects(git_dir));
            }
            held
        });
    }

    /// Waits until a commit with this subject is in the remote; returns the history.
    pub fn published(&self, subject: &str) -> Vec<Commit> {
        self.history(&format!("the commit {subject:?}"), |history| !git::with_subject(history, subject).is_empty())
    }

    /// Submits a document and waits until it was executed well and its commit is in the remote.
    pub fn run(&self, document: &Doc) -> Vec<u8> {
        let bytes = self.cloud.submit(document);
        self.published(&git::results(document.id(), 0));
        self.emptied();
        bytes
    }

    /// The same while other files stay in `commands/`; returns the remote's history.
    pub fn run_beside(&self, document: &Doc) -> Vec<Commit> {
        self.cloud.submit(document);
        self.published(&git::results(document.id(), 0))
    }

    /// Waits until nothing visible is left in `commands/`.
    pub fn emptied(&self) {
        let waiting = || self.cloud.waiting();
        self.wait_for("commands/ to be empty", || waiting().is_empty());
    }

    /// Runs one more no-op to the remote. What was seen before it has been judged and filed by then: a command is
    /// published after those that were filed before it.
    pub fn barrier(&self) -> Vec<Commit> {
        let id = format!("barrier-{:016x}", rand::random::<u64>());
        self.run(&Doc::noop(&id));
        self.cloud.published()
    }

    /// Waits until `git status` in CLOUD prints exactly this.
    pub fn status_becomes(&self, expected: &str) {
        let mut last = String::new();
        let held = poll(PATIENCE, || {
            last = self.cloud.git(&["status", "--porcelain", "--untracked-files=all"]);
            last == expected
        });
        assert!(held, "git status prints\n{last}\ninstead of\n{expected}");
    }

    /// SIGTERM; waits for the end, which must be clean.
    pub fn stop(self) {
        self.stop_by(Signal::TERM);
    }

    pub fn stop_by(self, signal: Signal) {
        self.signal(signal);
        let status = self.ended();
        assert_eq!(status.code(), Some(0), "the end after {signal:?}");
    }

    /// SIGKILL; waits for the end.
    pub fn kill(self) {
        self.signal(Signal::KILL);
        self.ended();
    }

    fn ended(&self) -> ExitStatus {
        let mut status = None;
        let ended = poll(PATIENCE, || {
            status = self.child.borrow_mut().try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "the bridge does not end");
        status.unwrap()
    }
}

impl Drop for Bridge<'_> {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        // It may have ended; then there is nothing to kill.
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(TAIL_LINES);
            println!("-- the bridge's log, last {} of {} lines", lines.len() - tail, lines.len());
            lines[tail..].iter().for_each(|line| println!("   {line}"));
        }
    }
}
