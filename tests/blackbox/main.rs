//! Black-box tests: the real binary against real bare remotes, judged by the contract alone.
//!
//! Nothing here uses the workspace's crates. Documents are signed, canonical forms are written and the audit chain is
//! walked by code of the tests' own, so that a mistake in the bridge cannot hide in a shared function.
//! Each test makes its own CLOUD. Tests wait for conditions, never for time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "the tests start programs as an operator would")]

mod harness;

mod audit;
mod cli;
mod damage;
mod edits;
mod faults;
mod foreign;
mod formats;
mod http;
mod in_the_way;
mod ingest;
mod life;
mod look_back;
mod metrics;
mod no_events;
mod operating;
mod permissions;
mod persons;
mod pipeline;
mod process_one;
mod publishing;
mod refiled;
mod rejections;
mod remote_choice;
mod replay;
mod rolling;
mod run_check;
mod secrecy;
mod soak;
mod startup;
mod trust;
mod upstream;
