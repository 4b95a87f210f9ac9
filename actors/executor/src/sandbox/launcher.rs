//! The bridge's side: starts a stage, reads what the program prints, and keeps the time, all on the caller's thread. That
//! thread must live on until it returns, because the outer stage dies with it.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cap_std::fs::Dir;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::capture::Capture;
use super::stage;
use super::wire::{self, Answer, Facilities, Order, Stage};
use super::{End, RunCheck, RunReport};
use crate::config::{CheckConfig, Requirement};

/// The longest that a stage may take to say that it is there, and to take its order.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The longest that the outer stage may take to end everything.
const KILL_LIMIT: Duration = Duration::from_secs(20);
/// The longest that outputs are read once everything has ended: they are at their end then, where all could be killed.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// The mode of the program's home.
const HOME_MODE: u32 = 0o700;
/// What the program searches programs in where the service has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The program's language where the service has none.
const DEFAULT_LANG: &str = "C.UTF-8";

/// Runs the operator's programs in the sandbox.
#[derive(Debug, Default)]
pub struct Launcher {
    facilities: Facilities,
    /// Set once the kernel has refused namespaces: it need not be asked again.
    no_namespaces: AtomicBool,
}

impl Launcher {
    /// A launcher that makes do with some of the kernel's facilities.
    #[must_use]
    pub fn with(facilities: Facilities) -> Self {
        Self { facilities, no_namespaces: AtomicBool::new(false) }
    }

    fn attempt(&self, program: &CheckConfig, root: &Dir, home: &Path, limit: Duration) -> (Answer, RunReport) {
        let mut facilities = self.facilities;
        facilities.namespaces &= !self.no_namespaces.load(Ordering::Relaxed);
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let order = Order {
            stage: Stage::Outer,
            facilities,
            best_effort: program.sandbox == Requirement::BestEffort,
            argv: program.argv.clone(),
            home: home.to_owned(),
            writable: program.writable.clone(),
            readable: program.readable.clone(),
            // The time limit ends it long before, unless the bridge itself is stopped meanwhile.
            cpu_seconds: limit.as_secs().saturating_add(1).saturating_mul(processors),
        };
        let broken = |what: String| (Answer::Broken(what.clone()), RunReport::of(End::Broken(what)));
        let mut session = match Session::start(&order, root) {
            Ok(session) => session,
            Err(error) => return broken(format!("the program's launcher cannot be started: {error}")),
        };
        let (answer, over_time) = session.follow(limit);
        let answer = answer.unwrap_or_else(|error| Answer::Broken(format!("the program's launcher failed: {error}")));
        let end = match answer.clone() {
            Answer::Broken(what) => End::Broken(what),
            _ if over_time => End::OverTime,
            Answer::Exited(code) => End::Exited(code),
            Answer::Signalled(signal) => End::Signalled(signal),
            Answer::Stopped => End::OverTime,
            Answer::NotStarted(why) => End::NotStarted(why),
            Answer::NoFence(why) => End::Refused(why),
            Answer::NoNamespaces(why) => End::Broken(why),
        };
        let (stdout, out_cut) = session.out.finish();
        let (stderr, err_cut) = session.err.finish();
        (answer, RunReport { end, stdout, stderr, truncated: out_cut || err_cut })
    }
}

impl RunCheck for Launcher {
    fn run(&self, program: &CheckConfig, root: &Dir, limit: Duration) -> RunReport {
        let begun = Instant::now();
        let mut home = tempfile::Builder::new();
        let home = match home.prefix("ghost-bridge-check-").permissions(Permissions::from_mode(HOME_MODE)).tempdir() {
            Ok(home) => home,
            Err(error) => {
                let what = format!("no temporary folder can be made for the program: {}", error.kind());
                return RunReport::of(End::Broken(what));
            }
        };
        let (answer, mut report) = self.attempt(program, root, home.path(), limit);
        if let Answer::NoNamespaces(why) = answer {
            tracing::warn!(why, "the kernel grants no namespaces; checks run without them");
            self.no_namespaces.store(true, Ordering::Relaxed);
            let left = limit.saturating_sub(begun.elapsed());
            report = self.attempt(program, root, home.path(), left).1;
        }
        if let Err(error) = home.close() {
            tracing::warn!(%error, "a check's temporary folder cannot be removed");
        }
        report
    }
}

/// A running outer stage.
struct Session {
    /// Until it is left alone.
    child: Option<Child>,
    namespaces: bool,
    socket: UnixStream,
    out: Capture<ChildStdout>,
    err: Capture<ChildStderr>,
}

impl Session {
    fn start(order: &Order, root: &Dir) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(START_LIMIT))?;
        socket.set_write_timeout(Some(START_LIMIT))?;
        let service = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let mut command = stage::command()?;
        command.env_clear().env("HOME", &order.home);
        command.env("PATH", service("PATH").unwrap_or_else(|| DEFAULT_PATH.into()));
        command.env("LANG", service("LANG").unwrap_or_else(|| DEFAULT_LANG.into()));
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.current_dir(path_of(root)?).spawn()?;
        // The command holds the other end of the socket.
        drop(command);
        let pipes = child.stdout.take().zip(child.stderr.take());
        let ready = || {
            wire::wait_for_stage(&socket)?;
            wire::send(&socket, order)?;
            let (out, err) = pipes.ok_or_else(|| io::Error::other("its output is not connected"))?;
            Ok((Capture::new(out)?, Capture::new(err)?))
        };
        match ready() {
            Ok((out, err)) => {
                Ok(Self { child: Some(child), namespaces: order.facilities.namespaces, socket, out, err })
            }
            Err(error) => {
                // It may have ended by itself. Nothing of it may stay behind.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Waits for the end of it all: the answer, and whether the time was up before it came.
    fn follow(&mut self, limit: Duration) -> (io::Result<Answer>, bool) {
        let deadline = Instant::now().checked_add(limit);
        let mut answered = self.answered(deadline);
        let over_time = !answered;
        if over_time {
            // The stage reads the end of its input, kills everything, waits for it, and answers.
            let _ = self.socket.shutdown(std::net::Shutdown::Write);
            answered = self.answered(Instant::now().checked_add(KILL_LIMIT));
        }
        let answer = if answered {
            wire::receive(&self.socket)
        } else {
            self.leave_alone();
            return (Err(io::Error::other("it has not yet ended what it had started")), over_time);
        };
        // The answer is the stage's last deed.
        let ended = self.child.as_mut().map_or(Ok(()), |child| child.wait().map(drop));
        let drained = Instant::now().checked_add(DRAIN_LIMIT);
        while (self.out.pipe().is_some() || self.err.pipe().is_some()) && is_ahead(drained) {
            self.look(drained, false);
        }
        (ended.and(answer), over_time)
    }

    /// Leaves the stage to itself, which goes on killing; where it has namespaces its own end does it all.
    fn leave_alone(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if self.namespaces {
            let _ = child.kill();
        }
        // The bridge's only thread here, which waits for nothing but this end.
        std::thread::spawn(move || child.wait());
    }

    /// Waits until the stage has something to say, or it is `until`.
    fn answered(&mut self, until: Option<Instant>) -> bool {
        while is_ahead(until) {
            if self.look(until, true) {
                return true;
            }
        }
        false
    }

    /// One look at everything, until something happens or it is `until`: whether the stage has something to say.
    fn look(&mut self, until: Option<Instant>, ask: bool) -> bool {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Rounded up, so that a limit that is not quite reached does not make it spin.
        let timeout = left.and_then(|left| Timespec::try_from(left.saturating_add(Duration::from_millis(1))).ok());
        let socket = ask.then(|| self.socket.as_fd());
        let listened = [socket, self.out.pipe(), self.err.pipe()];
        let mut fds: Vec<PollFd<'_>> =
            listened.into_iter().flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        // An interrupted look is repeated by the caller.
        let found = poll(&mut fds, timeout.as_ref()).is_ok();
        let answered = found && ask && fds.first().is_some_and(|fd| !fd.revents().is_empty());
        self.out.take_in();
        self.err.take_in();
        answered
    }
}

fn is_ahead(until: Option<Instant>) -> bool {
    until.is_none_or(|until| Instant::now() < until)
}

/// A path that leads to the open folder itself, whatever its name is by now.
#[cfg(target_os = "linux")]
fn path_of(root: &Dir) -> io::Result<std::path::PathBuf> {
    use std::os::fd::AsRawFd as _;
    // The new process looks it up before its descriptors are closed.
    Ok(format!("/proc/self/fd/{}", root.as_raw_fd()).into())
}

/// The path that the open folder has now.
#[cfg(not(target_os = "linux"))]
fn path_of(root: &Dir) -> io::Result<std::path::PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    Ok(std::ffi::OsString::from_vec(rustix::fs::getpath(root)?.into_bytes()).into())
}
