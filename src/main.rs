//! The ghost-bridge program: executes signed commands that arrive in a git repository, and publishes what became of
//! them.
//!
//! `main` does what must come first (as process 1 it starts itself once more; the secrets leave the environment before
//! anything can read it there, and with them what would lead git astray) and last
//! (one line and one exit status for whatever went wrong); the rest is in [`cli`].

mod audit;
mod cli;
mod config;
mod exit;
mod git;
mod http;
mod instance;
mod layout;
mod manager;
mod memory;
mod metrics;
mod observed;
mod permissions;
mod secrets;
mod service;
mod stand_in;
mod telemetry;

use std::process::ExitCode;

use exit::Failure;
use stand_in::StandIn;

#[allow(unsafe_code)]
fn main() -> ExitCode {
    if stand_in::is_needed() {
        // One that cannot be started leaves the work to this process; orphans are nobody's then.
        if let Ok(stand_in) = StandIn::start() {
            // SAFETY: nothing before it starts a thread. The child has the secrets; here they are wiped.
            drop(unsafe { secrets::take() });
            secrets::forbid_core_dumps();
            return stand_in.attend();
        }
    }
    // SAFETY: nothing before it starts a thread or opens a file that stays open.
    let (taken, inherited, ()) = unsafe { (secrets::take(), manager::take(), git::forget_inherited()) };
    secrets::forbid_core_dumps();
    permissions::withhold_writing();
    memory::share_one_heap();
    // A panic has printed its own message already; what is left is the status that tells a supervisor of a bug.
    match std::panic::catch_unwind(|| cli::main(taken, inherited)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.report(),
        Err(_) => Failure::bug("this is a bug, described above; a restart recovers, please report it").report(),
    }
}
