//! The inner stage: fences itself in, then becomes the program or, as the first process of a namespace, starts it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitOptions, wait};

use super::limits;
use super::outer::of;
use super::wire::{Answer, Order};

/// Runs the program. Where this process is not the first of a namespace it does not return, unless the program cannot be
/// started.
///
/// # Errors
/// When something fails that should not.
pub fn run(order: &Order) -> io::Result<Answer> {
    limits::apply(order.cpu_seconds);
    if let Err(why) = fence(order)
        && !order.best_effort
    {
        return Ok(Answer::NoFence(format!(
            "it was not run, because it cannot be fenced in here: {why}; the bridge's operator can run it on Linux 5.13 \
             or newer with Landlock enabled, or without the fence with sandbox = \"best-effort\""
        )));
    }
    let Some((program, arguments)) = order.argv.split_first() else {
        return Ok(Answer::Broken("the program's argv is empty".to_owned()));
    };
    #[expect(clippy::disallowed_methods, reason = "limits, fence and environment are given right here")]
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env_clear();
    command.envs(["PATH", "HOME", "LANG"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    if std::process::id() != 1 {
        return Ok(not_started(program, &command.exec()));
    }
    let child = match command.spawn() {
        Ok(child) => Pid::from_child(&child),
        Err(error) => return Ok(not_started(program, &error)),
    };
    loop {
        // Orphans of the whole namespace end here, too.
        match wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended == child => return Ok(of(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(target_os = "linux")]
fn fence(order: &Order) -> Result<(), String> {
    super::fence::raise(order)
}

/// There is no fence here, which the operator has been told: it is weaker, but it is not refused.
#[cfg(not(target_os = "linux"))]
fn fence(_order: &Order) -> Result<(), String> {
    Ok(())
}

/// Says why without the program's folder: what is outside the target is not the author's business.
fn not_started(program: &str, error: &io::Error) -> Answer {
    let name = Path::new(program).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let kind = error.kind();
    Answer::NotStarted(format!(
        "the program {name:?} cannot be started ({kind}); the bridge's operator sees to it that it is in the bridge's PATH, \
         may be executed, and lies in a folder that the check may read (readable)"
    ))
}
