//! The publisher: the only part that touches git, and the only one that writes `meta/retries.json`.
//!
//! What was filed becomes commits, one each, on the branch that is checked out in CLOUD; commits are pushed in groups,
//! and what the remote has besides is taken in before.
//!
//! Invariants:
//! - A commit made here changes nothing outside the published folders ([`safe_path::SAFE`]): [`tree::SafeTree`] cannot
//!   express anything else.
//! - The branch moves by compare-and-swap only, to commits that are durable. Nothing is ever pushed with force.
//! - The work tree's other files are read only to see whether they are as upstream left them.
//! - Disk is the truth: a message that is lost costs nothing, because the audit log tells which commits are missing.
//!
//! Limitations: SHA-1 repositories with file-based references; no filters (line endings, LFS) when files are checked
//! out; local merge commits are pushed, but not rebased.

pub mod actor;
mod admission;
pub mod ahead;
mod apart;
pub mod audit;
mod checkout;
pub mod commit;
pub mod config;
pub mod core;
pub mod destination;
pub mod error;
pub mod files;
mod flat;
mod folders;
pub mod git;
mod half_done;
pub mod housekeeping;
pub mod incoming;
mod index;
mod instance;
pub mod integrate;
pub mod keep;
mod leftovers;
mod lines;
mod living;
mod mend;
pub mod merge;
pub mod network;
mod noted;
pub mod objects;
mod open;
pub mod pace;
pub mod pack;
pub mod packs;
pub mod pending;
mod recovery;
pub mod refs;
pub mod remote;
mod restore;
pub mod retries;
mod retry_index;
pub mod roll;
mod rollover;
pub mod safe_path;
pub mod status;
mod tidy;
pub mod tree;
mod unpushed;
mod whereabouts;
pub mod work;

pub use actor::{Publisher, Stop, Stopped};
pub use apart::apart;
pub use config::{Checkout, Permits, PublisherConfig};
pub use destination::look;
pub use error::OpenError;
pub use mend::{is_damaged, mend};
pub use open::{format_check, open_check};
pub use restore::restore_log;
pub use retry_index::attempts;
pub use status::{PublisherStatus, Push};
