//! The `git` program as a child: for the network, and for what the library does not do.
//!
//! Every child has a time limit and a process group of its own, reads nothing from a terminal, inherits no secret of
//! the bridge's, and what it says is kept up to a bound. Nothing here decides anything; what a child is started with is in
//! [`environment`].

use std::ffi::OsString;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::OpenError;

pub mod environment;
pub mod programs;
pub mod settings;
pub mod words;

/// The oldest git that knows every option used here.
pub const VERSION_FLOOR: (u32, u32) = (2, 30);

/// What is kept of each of a child's outputs.
const MAX_OUTPUT: usize = 1 << 20;

/// A child's output, where it names revisions, may be longer than what is kept of messages.
const MAX_LIST: usize = 64 << 20;

/// How long a child may take to end by itself once it was told to.
const TERMINATION_GRACE: Duration = Duration::from_millis(500);

/// How long the outputs are waited for once the child has ended: a grandchild may hold them open for ever.
const DRAIN_GRACE: Duration = Duration::from_millis(200);

/// The same where all of an output is needed: a busy machine may be slow to hand it over.
const WHOLE_GRACE: Duration = Duration::from_secs(10);

/// How often a wait looks whether it was called off.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// What writes a child's input, on a thread of its own; a child that does not read ends that thread when it dies.
pub type Input = Box<dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + Send>;

/// What takes over a child's standard input.
type Feeder<'a> = Box<dyn FnOnce(ChildStdin) + 'a>;

/// How a child failed.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It could not be started.
    #[error("git {verb} could not be started: {source}")]
    Spawn {
        /// The subcommand.
        verb: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ran for too long and was ended.
    #[error("git {verb} was ended after {} s without an answer", .limit.as_secs_f32())]
    TimedOut {
        /// The subcommand.
        verb: String,
        /// The limit.
        limit: Duration,
    },
    /// The publisher is stopping.
    #[error("git {verb} was called off")]
    Cancelled {
        /// The subcommand.
        verb: String,
    },
    /// It did not get all of its input.
    #[error("git {verb} did not get all of its input: {source}")]
    Input {
        /// The subcommand.
        verb: String,
        /// What the writing said.
        source: std::io::Error,
    },
    /// It ended, but its output did not, or there was more than is kept: nobody knows what is missing.
    #[error("git {verb} ended, but not all of its output came")]
    Cut {
        /// The subcommand.
        verb: String,
    },
    /// It ended with an error.
    #[error("git {verb} failed ({status}): {message}")]
    Failed {
        /// The subcommand.
        verb: String,
        /// Its exit status.
        status: String,
        /// What it said, in one line, without credentials.
        message: String,
    },
}

/// What a child left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Whether all of its standard output came.
    pub is_whole: bool,
}

/// How to run git in one work tree.
#[derive(Clone, Debug)]
pub struct Git {
    cloud: PathBuf,
    limit: Duration,
    cancel: Arc<AtomicBool>,
    own_ssh: bool,
    /// Where new objects go, and where all others are.
    objects: Option<(PathBuf, PathBuf)>,
    hooks: bool,
    fenced: Vec<PathBuf>,
}

impl Git {
    /// Runs children in `cloud`, each for at most `limit`; raising `cancel` ends the one that runs.
    #[must_use]
    pub fn new(cloud: &Path, limit: Duration, cancel: Arc<AtomicBool>) -> Self {
        Self {
            cloud: cloud.to_owned(),
            limit,
            cancel,
            own_ssh: false,
            objects: None,
            hooks: false,
            fenced: vec![cloud.to_owned()],
        }
    }

    /// Looks for programs in none of these folders either.
    #[must_use]
    pub fn with_fenced(mut self, targets: &[PathBuf]) -> Self {
        self.fenced.extend_from_slice(targets);
        self
    }

    /// Runs the operator's own hooks, if `hooks`.
    #[must_use]
    pub fn with_hooks(mut self, hooks: bool) -> Self {
        self.hooks = hooks;
        self
    }

    /// The same, called off by `cancel` instead.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Arc<AtomicBool>) -> Self {
        self.cancel = cancel;
        self
    }

    /// What the children make of objects, half-done files too, goes to the folder `new`; `all` has the others.
    #[must_use]
    pub fn with_objects(mut self, new: &Path, all: &Path) -> Self {
        self.objects = Some((new.to_owned(), all.to_owned()));
        self
    }

    /// Leaves the ssh command alone: the repository's configuration names one.
    #[must_use]
    pub fn with_own_ssh(mut self, own_ssh: bool) -> Self {
        self.own_ssh = own_ssh;
        self
    }

    /// Runs `git <args>` to its end, whatever that is.
    ///
    /// # Errors
    /// When it does not start, or does not end in time.
    pub fn run(&self, args: &[&str]) -> Result<Output, GitError> {
        self.run_with(&[], args)
    }

    /// Runs `git <options> <args>` to its end, whatever that is.
    ///
    /// # Errors
    /// When it does not start, or does not end in time.
    pub fn run_with(&self, options: &[&str], args: &[&str]) -> Result<Output, GitError> {
        self.spawn(self.command(), options, args, None, DRAIN_GRACE)
    }

    /// Runs `git <options> <args>` and expects it to read all of its input, and to succeed; returns its standard output.
    ///
    /// # Errors
    /// Also when the input was not written to its end: what a child does with a part of it is not to be relied upon.
    pub fn feed(&self, options: &[&str], args: &[&str], input: Input) -> Result<Vec<u8>, GitError> {
        let (done, written) = channel();
        let input = |stdin: ChildStdin| {
            std::thread::spawn(move || {
                let mut stdin = BufWriter::new(stdin);
                let result = input(&mut stdin).and_then(|()| stdin.flush());
                // Before the child can see the end of it.
                let _nobody_waits = done.send(result);
            });
        };
        let output = self.spawn(self.command(), options, args, Some(Box::new(input)), DRAIN_GRACE)?;
        if !output.status.success() {
            return Err(failure(args, &output));
        }
        let verb = args.first().copied().unwrap_or_default().to_owned();
        match written.recv_timeout(DRAIN_GRACE) {
            Ok(Ok(())) => Ok(output.stdout),
            Ok(Err(source)) => Err(GitError::Input { verb, source }),
            Err(_) => Err(GitError::Input { verb, source: ErrorKind::BrokenPipe.into() }),
        }
    }

    /// Where the children run.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.cloud
    }

    /// Runs `git <args>`, which asks the configuration as a person's git reads it and runs nothing.
    pub(crate) fn list_settings(&self, args: &[&str]) -> Result<Vec<u8>, GitError> {
        whole(args, self.spawn(environment::plain(&self.fenced), &[], args, None, WHOLE_GRACE)?)
    }

    fn spawn(
        &self,
        mut command: Command,
        options: &[&str],
        args: &[&str],
        input: Option<Feeder<'_>>,
        drain: Duration,
    ) -> Result<Output, GitError> {
        let verb = args.first().copied().unwrap_or_default().to_owned();
        command.args(options).args(args).current_dir(&self.cloud);
        environment::ask_nobody(&mut command, self.own_ssh, |name| std::env::var_os(name).is_some());
        if let Some((new, all)) = &self.objects {
            command.env("GIT_OBJECT_DIRECTORY", new).env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted(all));
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().map_err(|source| GitError::Spawn { verb: verb.clone(), source })?;
        let out = collect(child.stdout.take(), MAX_LIST);
        let err = collect(child.stderr.take(), MAX_OUTPUT);
        if let (Some(stdin), Some(input)) = (child.stdin.take(), input) {
            input(stdin);
        }
        let status = self.wait(child, &verb)?;
        let (stdout, is_whole) = out.take(drain);
        let (stderr, _) = err.take(DRAIN_GRACE);
        Ok(Output { status, stdout, stderr, is_whole })
    }

    /// Runs `git <args>` and expects it to succeed; returns its whole standard output.
    ///
    /// # Errors
    /// Also when it ends with an error, or its output does not come to an end.
    pub fn check(&self, args: &[&str]) -> Result<Vec<u8>, GitError> {
        whole(args, self.spawn(self.command(), &[], args, None, WHOLE_GRACE)?)
    }

    fn command(&self) -> Command {
        environment::prepared(&self.fenced, self.hooks)
    }

    fn wait(&self, mut child: Child, verb: &str) -> Result<ExitStatus, GitError> {
        let pid = child.id();
        let (done, ended) = channel();
        std::thread::spawn(move || drop(done.send(child.wait())));
        let deadline = Instant::now() + self.limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match ended.recv_timeout(left.min(CANCEL_POLL)) {
                Ok(Ok(status)) => return Ok(status),
                Ok(Err(source)) => return Err(GitError::Spawn { verb: verb.to_owned(), source }),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(GitError::Cancelled { verb: verb.to_owned() });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let cancelled = self.cancel.load(Ordering::Relaxed);
            if cancelled || left.is_zero() {
                end_group(pid, &ended);
                let verb = verb.to_owned();
                return Err(if cancelled {
                    GitError::Cancelled { verb }
                } else {
                    GitError::TimedOut { verb, limit: self.limit }
                });
            }
        }
    }
}

/// A path as one entry of git's list of folders, which colons part.
fn quoted(path: &Path) -> OsString {
    let mut bytes = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    bytes.push(b'"');
    OsString::from_vec(bytes)
}

/// Asks a child's whole group to end, then makes it.
fn end_group(pid: u32, ended: &Receiver<std::io::Result<ExitStatus>>) {
    let Some(group) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return };
    // A group that is gone already is what is wanted.
    let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
    let _in_time = ended.recv_timeout(TERMINATION_GRACE);
    let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
}

/// The standard output of a child that succeeded, if all of it came.
fn whole(args: &[&str], output: Output) -> Result<Vec<u8>, GitError> {
    match output {
        output if !output.status.success() => Err(failure(args, &output)),
        output if output.is_whole => Ok(output.stdout),
        _ => Err(GitError::Cut { verb: args.first().copied().unwrap_or_default().to_owned() }),
    }
}

/// One output of a child, read by a thread of its own.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Whether all of it was kept, once it has ended.
    done: Receiver<bool>,
}

impl Collected {
    /// What came within `grace`, and whether that is all.
    fn take(self, grace: Duration) -> (Vec<u8>, bool) {
        let is_whole = self.done.recv_timeout(grace).unwrap_or(false);
        (std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner)), is_whole)
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>, limit: usize) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let (done, ended) = channel();
    let kept = Arc::clone(&bytes);
    std::thread::spawn(move || {
        let (mut chunk, mut is_whole) = ([0; 8192], true);
        if let Some(mut pipe) = pipe {
            loop {
                match pipe.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(read) => {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        let room = limit.saturating_sub(kept.len());
                        is_whole &= read <= room;
                        kept.extend_from_slice(chunk.get(..read.min(room)).unwrap_or_default());
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => {
                        is_whole = false;
                        break;
                    }
                }
            }
        }
        let _nobody_waits = done.send(is_whole);
    });
    Collected { bytes, done: ended }
}

/// The error for a child that ended badly.
pub(crate) fn failure(args: &[&str], output: &Output) -> GitError {
    GitError::Failed {
        verb: args.first().copied().unwrap_or_default().to_owned(),
        status: output.status.to_string(),
        message: words::complaint(&output.stderr),
    }
}

/// The version that `git --version` prints: `git version 2.47.3`, `git version 2.39.5 (Apple Git-154)`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("git version ")?.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some((major, minor))
}

/// Checks that git is there and new enough; returns its version.
///
/// # Errors
/// When it is missing or too old.
pub fn check_version(git: &Git) -> Result<(u32, u32), OpenError> {
    let floor = format!("{}.{}", VERSION_FLOOR.0, VERSION_FLOOR.1);
    let output = git
        .check(&["--version"])
        .map_err(|cause| OpenError::NoGit { cause: cause.to_string(), floor: floor.clone() })?;
    let text = String::from_utf8_lossy(&output).trim().to_owned();
    match parse_version(&text) {
        Some(version) if version >= VERSION_FLOOR => Ok(version),
        _ => Err(OpenError::OldGit { found: text.trim_start_matches("git version ").to_owned(), floor }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn git(limit: Duration) -> Git {
        Git::new(&std::env::temp_dir(), limit, Arc::default())
    }

    #[test]
    fn versions_are_read_as_vendors_print_them() {
        assert_eq!(parse_version("git version 2.47.3\n"), Some((2, 47)));
        assert_eq!(parse_version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(parse_version("git version 2.30-rc1"), Some((2, 30)));
        assert_eq!(parse_version("hub version 1"), None);
    }

    #[test]
    fn a_child_that_does_not_end_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("pid");
        let alias = format!("alias.x=!sleep 1000 & echo $! > {}; wait", mark.display());
        let args = ["-c", &alias, "x"];
        let error = git(Duration::from_millis(700)).run(&args).unwrap_err();
        assert!(matches!(error, GitError::TimedOut { .. }), "{error}");
        let pid: i32 = std::fs::read_to_string(mark).unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let gone = || rustix::process::test_kill_process(pid).is_err() || zombie(pid);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !gone() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(gone(), "the grandchild lives on");
    }

    fn zombie(pid: rustix::process::Pid) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).is_ok_and(|stat| stat.contains(") Z "))
    }

    #[test]
    fn a_child_can_be_called_off() {
        let cancel = Arc::new(AtomicBool::new(true));
        let git = Git::new(&std::env::temp_dir(), Duration::from_secs(1000), cancel);
        assert!(matches!(git.run(&["-c", "alias.x=!sleep 1000", "x"]), Err(GitError::Cancelled { .. })));
    }

    #[test]
    fn an_output_that_does_not_end_is_not_taken_for_whole() {
        let git = git(GRACE);
        // What the child started holds the output open.
        let args = ["-c", "alias.x=!sleep 1000 & echo $!", "x"];
        let output = git.run(&args).unwrap();
        assert!(output.status.success() && !output.is_whole);
        let pid: i32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        assert!(matches!(whole(&args, output), Err(GitError::Cut { .. })));
        assert_eq!(git.check(&["-c", "alias.x=!echo all", "x"]).unwrap(), b"all\n");
    }

    #[test]
    fn a_child_gets_its_input_and_fails_with_one_line() {
        let git = git(GRACE);
        let hello = Box::new(|stdin: &mut dyn Write| stdin.write_all(b"hello\n"));
        let out = git.feed(&[], &["hash-object", "--stdin"], hello).unwrap();
        assert_eq!(out, b"ce013625030ba8dba906f756967f9e9ca394464a\n");
        let error = git.check(&["cat-file", "nonsense"]).unwrap_err();
        assert!(matches!(error, GitError::Failed { .. }), "{error}");
    }

    #[test]
    fn a_child_that_succeeds_with_a_part_of_its_input_has_failed() {
        let git = git(GRACE);
        let breaks_off = |stdin: &mut dyn Write| {
            stdin.write_all(b"hel")?;
            Err(ErrorKind::InvalidData.into())
        };
        let error = git.feed(&[], &["hash-object", "--stdin"], Box::new(breaks_off)).unwrap_err();
        assert!(matches!(&error, GitError::Input { source, .. } if source.kind() == ErrorKind::InvalidData), "{error}");
        let goes_on = |stdin: &mut dyn Write| (0..1_000_000).try_for_each(|_| stdin.write_all(b"hello\n"));
        let error = git.feed(&[], &["--version"], Box::new(goes_on)).unwrap_err();
        assert!(matches!(&error, GitError::Input { source, .. } if source.kind() == ErrorKind::BrokenPipe), "{error}");
    }

    const GRACE: Duration = Duration::from_secs(60);
}
