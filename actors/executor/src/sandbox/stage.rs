//! A stage: what the hidden subcommand does. It runs in a process that has one thread and inherits nothing.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{FileType, fstat};

use super::wire::{self, Answer, Order, Stage};
use super::{SUBCOMMAND, inner, outer};

/// Where the descriptors of this process are listed.
const DESCRIPTORS: &str = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
/// The first descriptor that is not one of the three that every program has.
const FIRST_INHERITED: i32 = 3;

/// A command that runs this program as a stage.
///
/// # Errors
/// When the program cannot be found.
pub fn command() -> io::Result<Command> {
    // On Linux the program that runs, also after its file was replaced by a newer one.
    let program = if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
    #[expect(clippy::disallowed_methods, reason = "this is the room that gives a child its limits and its environment")]
    let mut command = Command::new(program);
    command.arg0("ghost-bridge").arg(SUBCOMMAND);
    Ok(command)
}

/// Runs the stage that the parent orders over the standard input. To be called before this process has a second thread.
///
/// # Errors
/// When the standard input is no such parent. A failure of the stage itself is told to the parent.
pub fn main() -> io::Result<()> {
    close_inherited();
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    if FileType::from_raw_mode(fstat(&stdin)?.st_mode) != FileType::Socket {
        return Err(io::Error::other("the bridge alone starts it"));
    }
    let socket = UnixStream::from(stdin);
    die_with_parent(true)?;
    // From here on a parent that dies takes this process with it; one that has died already does not answer.
    wire::say_here(&socket)?;
    let order: Order = wire::receive(&socket)?;
    let answer = match order.stage {
        Stage::Outer => outer::run(&order, &socket),
        Stage::Inner => inner::run(&order),
    };
    wire::send(&socket, &answer.unwrap_or_else(|error| Answer::Broken(error.to_string())))
}

/// Whether this process is killed when its parent dies.
pub fn die_with_parent(yes: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(yes.then_some(rustix::process::Signal::KILL))?;
    // Elsewhere the end of the socket has to do.
    #[cfg(not(target_os = "linux"))]
    let _ = yes;
    Ok(())
}

/// Closes every descriptor but the three that every program has: the bridge makes none that is inherited, but whoever
/// started the bridge may have.
fn close_inherited() {
    let Ok(entries) = std::fs::read_dir(DESCRIPTORS) else { return };
    let numbers: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number >= FIRST_INHERITED) {
        // The one of the listing itself is closed already.
        let _ = nix::unistd::close(number);
    }
}
