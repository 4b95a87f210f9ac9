//! Says on stderr how far long work has come: often on a terminal, now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How often it says so on a terminal.
const ON_TERMINAL: Duration = Duration::from_millis(500);
/// How often elsewhere.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Work of a known size.
pub struct Progress;

impl Progress {
    /// Does `work`, which counts in `done` up to `all`.
    pub fn over<R>(done: &AtomicU64, all: u64, work: impl FnOnce() -> R) -> R {
        let terminal = std::io::stderr().is_terminal();
        let (finished, wait) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let pause = if terminal { ON_TERMINAL } else { ELSEWHERE };
                let mut said = false;
                while matches!(wait.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
                    let line = format!("audited {} of {all} commands", done.load(Ordering::Relaxed));
                    // Where stderr is gone there is nobody to tell.
                    let _ = if terminal {
                        write!(std::io::stderr(), "\r{line}")
                    } else {
                        writeln!(std::io::stderr(), "ghost-bridge: {line}")
                    };
                    said = terminal;
                }
                if said {
                    let _ = write!(std::io::stderr(), "\r\u{1b}[K");
                }
            });
            // Dropped at the end, also where the work panics: so the other thread ends.
            let _finished = finished;
            work()
        })
    }
}
