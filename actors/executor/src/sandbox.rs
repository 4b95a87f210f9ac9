//! The operator's programs, fenced in: what a `run` check is allowed to see, to change and to leave behind.
//!
//! ```text
//!  the bridge ──spawns──► outer stage ──spawns──► inner stage ──spawns──► the operator's program
//!  Launcher: time and     a session of its own,   limits, fence; pid 1   and whatever it starts
//!  output, no thread      namespaces; kills       where it has a pid
//!                                                 namespace
//! ```
//!
//! The bridge has many threads, and between `fork` and `exec` such a process may do next to nothing. So the program runs
//! itself anew, under the hidden subcommand [`SUBCOMMAND`], and prepares each stage in a process that has one thread.
//! Each stage hears from its parent, and answers, over a socket that is its standard input ([`wire`]).
//!
//! Invariants:
//! - The program is the operator's argv. Nothing of a command is among its arguments or in its environment.
//! - It runs in the folder that the plan opened, whatever has become of the root's path since.
//! - Its environment is `PATH`, `HOME` and `LANG`; it inherits no descriptor but 0, 1 and 2, and reads nothing from 0.
//! - When [`RunCheck::run`] returns, everything that the program started is dead, also what moved into a session of its
//!   own. When the bridge dies, so does all of it.
//! - Without the fence (Landlock and a filter of system calls) it is not run, unless the operator settles for less.
//!
//! The fence, see [`fence`], is what counts; namespaces come on top where the kernel grants them: of pids (the end of
//! pid 1 is everybody's end), network, IPC and mounts (everything but what may be written is mounted read-only, because
//! Landlock has no say in modes, times and owners). Where they are not granted, the outer stage adopts orphans and kills
//! descendants until none is left.
//!
//! Limitations:
//! - The program runs as the bridge's user. It may read what it is granted, the whole target with its `.git` among it,
//!   and what it prints is published. It has no capability, so that of another user's files it reads what anybody may.
//! - It shares the machine's memory and processors, and the disk in its writable folders; the limits are per process.
//! - Root is exempt from the kernel's limit on processes. Where pid namespaces have a limit of their own (Linux 6.14)
//!   it holds for root too.
//! - Where there is neither a pid namespace nor Landlock's scope for signals (ABI 6), it may signal other processes of
//!   the same user.
//! - When the bridge ends while a program runs, the program's home stays in the temporary folder.
//! - Elsewhere than on Linux there is no fence: only the environment, the limits and a process group of its own.

use std::fmt;
use std::time::Duration;

use cap_std::fs::Dir;

use crate::config::CheckConfig;

mod capture;
#[cfg(target_os = "linux")]
mod fence;
mod inner;
mod launcher;
mod limits;
mod outer;
mod probe;
#[cfg(target_os = "linux")]
mod public;
mod reap;
#[cfg(target_os = "linux")]
mod spaces;
mod stage;
mod wire;

pub use launcher::Launcher;
pub use probe::probe;
pub use stage::main;
pub use wire::Facilities;

/// The hidden subcommand under which the program runs a stage.
pub const SUBCOMMAND: &str = "check-launcher";
/// The most that is kept of each of a program's outputs, in bytes: its beginning.
pub const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// Runs an operator's program.
pub trait RunCheck: fmt::Debug + Send {
    /// Runs `program` in the folder `root`, for `limit` at most. It blocks until all that the program started has ended.
    fn run(&self, program: &CheckConfig, root: &Dir, limit: Duration) -> RunReport;
}

/// How a program ended, and what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// How it ended.
    pub end: End,
    /// The beginning of its standard output; what is no UTF-8 is replaced.
    pub stdout: String,
    /// The same of its standard error.
    pub stderr: String,
    /// Whether it printed more than is kept.
    pub truncated: bool,
}

impl RunReport {
    /// The end of a program that printed nothing.
    #[must_use]
    pub const fn of(end: End) -> Self {
        Self { end, stdout: String::new(), stderr: String::new(), truncated: false }
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It was ended because its time was up.
    OverTime,
    /// It could not be started: the program is missing, or may not be executed.
    NotStarted(String),
    /// It was not run, because it could not be fenced in. The words name the remedy.
    Refused(String),
    /// The bridge's own part failed.
    Broken(String),
}
