//! Nothing outlives its check: adopting what the program's children leave behind, and killing it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, wait};

/// The pause between two rounds of killing.
const ROUND: Duration = Duration::from_millis(1);

/// Kills and waits for everything that descends from this process, until nothing is left. `leader`, a child that may have
/// ended just now, led the process group of most of it.
///
/// # Errors
/// When the system cannot say.
pub fn everything(leader: Pid) -> io::Result<()> {
    if clear()? {
        return Ok(());
    }
    // In one stroke, against which nobody in the group can start another. Its id is its own as long as it has a member;
    // and one that has just been given up is not given anew before all others were.
    let _ = kill_process_group(leader, Signal::KILL);
    while !clear()? {
        #[cfg(target_os = "linux")]
        linux::kill_descendants()?;
        std::thread::sleep(ROUND);
    }
    Ok(())
}

/// Clears away what has ended: whether nothing is left.
fn clear() -> io::Result<bool> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(false),
            Err(Errno::CHILD) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(target_os = "linux")]
pub use linux::{adopt_orphans, first_victim, notice_of_end};

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashSet;

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

    /// Kills each descendant that is found in one pass over all processes, each at once, because meanwhile they may start
    /// others. Whom the pass misses is the next one's.
    pub fn kill_descendants() -> io::Result<()> {
        let mut doomed = HashSet::from([getpid().as_raw_nonzero().get()]);
        for entry in std::fs::read_dir("/proc")? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // The descriptor stands for one process for ever, its id does not: what is asked after the opening is asked
            // of that process, or of one that came after its end, and then the signal goes nowhere.
            let Some(process) = Pid::from_raw(id).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
                continue;
            };
            if parent(id).is_some_and(|parent| doomed.contains(&parent)) {
                doomed.insert(id);
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        }
        Ok(())
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
