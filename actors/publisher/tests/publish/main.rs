//! The publisher against real repositories: work trees, bare remotes and hooks in temporary folders.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod commits;
mod faults;
mod housekeeping;
mod lockstep;
mod odd;
mod persons;
mod pushing;
mod recovery;
mod remotes;
mod retries;
mod reworked;
mod rolling;
mod speed;
mod startup;
mod work_tree;
mod world;
