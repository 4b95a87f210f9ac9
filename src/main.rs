//! The ghost-bridge program: executes signed commands that arrive in a git repository, and publishes what became of
//! them.
//!
//! `main` does what must come first (the secrets leave the environment before anything can read it there) and last
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
mod secrets;
mod service;
mod telemetry;

use std::process::ExitCode;

use exit::Failure;

#[allow(unsafe_code)]
fn main() -> ExitCode {
    // SAFETY: the first statement of the program; nothing before it starts a thread or opens a file.
    let (taken, inherited) = unsafe { (secrets::take(), manager::take()) };
    secrets::forbid_core_dumps();
    memory::share_one_heap();
    // A panic has printed its own message already; what is left is the status that tells a supervisor of a bug.
    match std::panic::catch_unwind(|| cli::main(taken, inherited)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.report(),
        Err(_) => Failure::bug("this is a bug, described above; a restart recovers, please report it").report(),
    }
}
