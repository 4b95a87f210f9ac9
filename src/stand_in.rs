//! As process 1 of a container, or as a subreaper, a process is given the orphans of others: what a hook or git's own
//! upkeep left behind. Whoever does not wait for them fills the table of processes with zombies.
//!
//! The bridge waits for its own children by their ids, each where it started it. To wait for just anybody would take
//! these ends away from whoever waits for them. So where the program is such a process it does nothing but this: it starts
//! itself once more as its child, hands on the signals that it is sent, waits for whoever ends, and ends as the child did.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal as Kind, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell adds to a signal's number, to tell of an end by it.
const BY_SIGNAL: i32 = 128;

/// Whether this process is given orphans. A stage of the checks' sandbox sees to its own.
#[must_use]
pub fn is_needed() -> bool {
    let is_stage = std::env::args_os().nth(1).is_some_and(|first| first == executor::sandbox::SUBCOMMAND);
    !is_stage && (std::process::id() == 1 || is_subreaper())
}

#[cfg(target_os = "linux")]
fn is_subreaper() -> bool {
    rustix::process::child_subreaper().is_ok_and(|subreaper| subreaper.is_some())
}

#[cfg(not(target_os = "linux"))]
fn is_subreaper() -> bool {
    false
}

/// The program, started once more, and the signals that are handed on to it.
pub struct StandIn {
    runtime: tokio::runtime::Runtime,
    child: Pid,
    signals: Signals,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
    child: Signal,
}

impl StandIn {
    /// Starts the program once more, with all that it was given. No thread is started.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let signals = runtime.block_on(async { Signals::listen() })?;
        let mut arguments = std::env::args_os();
        #[expect(clippy::disallowed_methods, reason = "waited for until it ends")]
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // A group of its own, which is the terminal's if there is one: what is typed there reaches it once, not twice.
        let child = command.args(arguments).process_group(0).spawn()?;
        let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let child = child.ok_or_else(|| std::io::Error::other("a process without a number"))?;
        // Only where this process has the terminal: to take it from others would stop this one.
        if rustix::termios::tcgetpgrp(std::io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp()) {
            let _ = rustix::termios::tcsetpgrp(std::io::stdin(), child);
        }
        Ok(Self { runtime, child, signals })
    }

    /// Stands in for it until it ends: its exit code.
    #[must_use]
    pub fn attend(self) -> ExitCode {
        let Self { runtime, child, mut signals } = self;
        let status = runtime.block_on(async {
            loop {
                if let Some(status) = reap(child) {
                    return status;
                }
                if let Some(kind) = signals.next().await {
                    // One that has ended meanwhile is found above.
                    let _ = kill_process(child, kind);
                }
            }
        });
        let code = status.exit_status().or_else(|| status.terminating_signal().map(|number| BY_SIGNAL + number));
        code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

/// Waits for all that have ended: how `child` did, if it is among them.
fn reap(child: Pid) -> Option<WaitStatus> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            return Some(status);
        }
    }
    None
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// The next one that is to be handed on; `None` where somebody has ended.
    async fn next(&mut self) -> Option<Kind> {
        tokio::select! {
            _ = self.interrupt.recv() => Some(Kind::INT),
            _ = self.terminate.recv() => Some(Kind::TERM),
            _ = self.hang_up.recv() => Some(Kind::HUP),
            _ = self.quit.recv() => Some(Kind::QUIT),
            _ = self.child.recv() => None,
        }
    }
}
