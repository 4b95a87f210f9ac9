//! The executor: plans a verified command in memory, judges the plan, and applies it whole or not at all.
//!
//! A command passes, in this order: identity ([`protocol::ledger`]), [`policy`] (the document alone), the dry run
//! ([`plan`]: every op played on an [`overlay`], a sent diff by [`patch`], counts, the [`diff`] that is published), and execution ([`apply`], then [`checks`]). The
//! first that fails decides. Between plan and application lies the one point at which a record of the command can be
//! made durable before anything changes.
//!
//! Invariants:
//! - Nothing but [`apply`] writes, and only what the plan holds.
//! - Every file is reached handle by handle beneath the target's root; no symbolic link is followed anywhere, and no
//!   path is ever joined to the root.
//! - A file is replaced by rename, never rewritten: nothing is written through a hard link.
//! - A command that fails leaves the tree as it was, also when the code panics; where that is impossible the detail and
//!   the log say so.
//! - An id is taken exactly when execution is reached.
//!
//! Limitations:
//! - All-or-nothing holds within the life of the process: a crash in the middle of a mutation leaves what was done and
//!   hidden `.ghost-bridge-*.tmp` files.
//! - A failing execution is reported at once; it is not tried again here.
//! - Other programs that write to the same files at the same moment are noticed when they come before the rename, not
//!   between the last look and the rename. What they write goes nowhere outside the root.
//! - Folders that a command empties stay: git knows no folders. Undoing removes the folders that the command made.
//! - A restored file is a new file with the old content and mode: other hard links keep the old one.
//! - Extended attributes and owners of replaced files are those of a new file.

pub mod actor;
pub mod apply;
pub mod checks;
pub mod clock;
pub mod config;
pub mod core;
pub mod diff;
pub mod overlay;
pub mod patch;
pub mod plan;
pub mod policy;
pub mod sandbox;
pub mod tree;
