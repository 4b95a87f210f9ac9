//! Nothing outlives its check: adopting what the program's children leave behind, and killing it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, wait};

/// The pause between two rounds of killing.
const ROUND: Duration = Duration::from_millis(1);

/// Kills and waits for everything that descends from this process, the process group of `leader` first, until nothing is
/// left. `leader` must be a child that was not waited for, or have left nothing that could bear its id.
///
/// # Errors
/// When the system cannot say.
pub fn everything(leader: Pid) -> io::Result<()> {
    loop {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Somebody is left. A group whose last member has ended is gone, which is as well.
        if cfg!(not(target_os = "linux")) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        #[cfg(target_os = "linux")]
        linux::kill_descendants()?;
        std::thread::sleep(ROUND);
    }
}

#[cfg(target_os = "linux")]
pub use linux::{adopt_orphans, first_victim, notice_of_end};

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::{HashMap, HashSet};

    use rustix::process::{PidfdFlags, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper};

    use super::{OwnedFd, Pid, Signal, io};

    /// The most that a process may wish to be chosen by the kernel when memory runs out.
    const FIRST_TO_GO: &str = "1000";

    /// When memory runs out, the kernel shall choose the check, not the bridge.
    pub fn first_victim() {
        // A kernel that refuses chooses by itself.
        let _ = std::fs::write("/proc/self/oom_score_adj", FIRST_TO_GO);
    }

    /// Makes this process the parent of every descendant that loses its own.
    pub fn adopt_orphans() -> io::Result<()> {
        Ok(set_child_subreaper(Some(getpid()))?)
    }

    /// A descriptor that can be read once `pid`, a child, has ended.
    pub fn notice_of_end(pid: Pid) -> Option<OwnedFd> {
        pidfd_open(pid, PidfdFlags::empty()).ok()
    }

    /// Kills each descendant that is there now. Those that they start meanwhile are the next round's.
    pub fn kill_descendants() -> io::Result<()> {
        let parents = parents()?;
        let mut doomed = HashSet::from([getpid().as_raw_nonzero().get()]);
        loop {
            let before = doomed.len();
            doomed.extend(
                parents.iter().filter(|(_, parent)| doomed.contains(*parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
            );
            if doomed.len() == before {
                break;
            }
        }
        for pid in doomed.iter().filter_map(|pid| Pid::from_raw(*pid)).filter(|pid| *pid != getpid()) {
            // An id may have changed hands since: what the descriptor stands for must be a descendant, too.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if parent(pid.as_raw_nonzero().get()).is_some_and(|parent| doomed.contains(&parent)) {
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        }
        Ok(())
    }

    /// Every process with its parent.
    fn parents() -> io::Result<HashMap<i32, i32>> {
        let pids = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(pids.filter_map(|pid| Some((pid, parent(pid)?))).collect())
    }

    fn parent(pid: i32) -> Option<i32> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold anything, brackets among it.
        let rest = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 1..)?;
        std::str::from_utf8(rest).ok()?.split_whitespace().nth(1)?.parse().ok()
    }
}

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{adopt_orphans, first_victim, notice_of_end};

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::{OwnedFd, Pid, io};

    /// There is no such wish here.
    pub fn first_victim() {}

    /// Orphans cannot be adopted here: what leaves the process group gets away.
    pub fn adopt_orphans() -> io::Result<()> {
        Ok(())
    }

    /// There is no such notice here.
    pub fn notice_of_end(_pid: Pid) -> Option<OwnedFd> {
        None
    }
}
