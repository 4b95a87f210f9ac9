//! The outer stage: keeps everything that the program starts together, and kills it in the end.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, setsid};

use super::wire::{self, Answer, Order, Stage};
use super::{reap, stage};

/// The longest that the inner stage may take to say that it is there, and to take its order.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often adopted processes that have ended are cleared away.
const CLEAR: Duration = Duration::from_millis(200);
/// How often the inner stage is looked at where the kernel cannot tell of its end.
const LOOK: Duration = Duration::from_millis(5);

/// Runs the inner stage to its end, or until the parent wants no more.
///
/// # Errors
/// When something fails that should not. Whatever was started dies with this process then.
pub fn run(order: &Order, parent: &UnixStream) -> io::Result<Answer> {
    setsid()?;
    reap::first_victim();
    let spaces = cfg!(target_os = "linux") && order.facilities.namespaces;
    #[cfg(target_os = "linux")]
    if spaces && let Err(error) = super::spaces::enter(order) {
        return Ok(Answer::NoNamespaces(error.to_string()));
    }
    if !spaces {
        // Orphans come here, and this process outlives the parent: for as long as it takes to kill them. The end of the
        // parent is the end of the socket.
        reap::adopt_orphans()?;
        stage::die_with_parent(false)?;
    }
    let (inner, theirs) = UnixStream::pair()?;
    inner.set_read_timeout(Some(START_LIMIT))?;
    inner.set_write_timeout(Some(START_LIMIT))?;
    let mut command = stage::command()?;
    let child = command.stdin(OwnedFd::from(theirs)).process_group(0).spawn()?;
    drop(command);
    let pid = Pid::from_child(&child);
    wire::wait_for_stage(&inner)?;
    wire::send(&inner, &Order { stage: Stage::Inner, ..order.clone() })?;
    let status = wait(pid, parent)?;
    if status.is_none() {
        // It is a child that nobody has waited for: the id is its own. The end of pid 1 is the end of its namespace, and
        // it has not ended before everybody else there has.
        let _ = kill_process(pid, Signal::KILL);
    }
    reap::everything(pid)?;
    let Some(status) = status else { return Ok(Answer::Stopped) };
    Ok(match wire::receive(&inner) {
        Ok(answer) => answer,
        Err(_) if spaces => Answer::Broken(format!("the first process of the sandbox died ({status:?})")),
        // The inner stage became the program.
        Err(_) => of(status),
    })
}

/// The answer that a status is.
pub fn of(status: WaitStatus) -> Answer {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Answer::Exited(code),
        (_, Some(signal)) => Answer::Signalled(signal),
        _ => Answer::Broken(format!("the program is neither running nor ended ({status:?})")),
    }
}

/// Waits for the inner stage's end; `None` when the parent wants no more, or is no more.
fn wait(pid: Pid, parent: &UnixStream) -> io::Result<Option<WaitStatus>> {
    let end = reap::notice_of_end(pid);
    let every = Timespec::try_from(if end.is_some() { CLEAR } else { LOOK }).map_err(io::Error::other)?;
    loop {
        let listened = [Some(parent.as_fd()), end.as_ref().map(OwnedFd::as_fd)];
        let mut fds: Vec<PollFd<'_>> =
            listened.into_iter().flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&every)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let wanted = fds.first().is_some_and(|fd| fd.revents().is_empty());
        while let Some((ended, status)) = rustix::process::wait(WaitOptions::NOHANG)? {
            if ended == pid {
                return Ok(Some(status));
            }
        }
        if !wanted {
            return Ok(None);
        }
    }
}
