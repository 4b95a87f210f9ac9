//! The executor: plans a verified command in memory, judges the plan, and applies it whole or not at all.
//!
//! A command passes, in this order: identity ([`protocol::ledger`]), [`policy`] (the document alone), the dry run
//! ([`plan`]: every op played on an [`overlay`], a sent diff by [`patch`], counts, the [`diff`] that is published), and
//! execution: its record becomes durable in the [`journal`], its files are changed ([`apply`]), and [`checks`] that run a
//! program see the changed tree. The first that fails decides. After a crash, [`recovery`] brings every file to the state
//! that the journal decided on.
//!
//! Invariants:
//! - Nothing but [`apply`] and [`recovery`] writes to a tree, and only what a record in the journal holds: it is durable
//!   before the first change.
//! - Every file is reached handle by handle beneath the target's root; no symbolic link is followed anywhere, and no
//!   path is ever joined to the root.
//! - A file is replaced by rename, never rewritten: nothing is written through a hard link.
//! - A command that fails leaves the tree as it was, also when the code panics or the process is killed; where that is
//!   impossible the detail and the log say so.
//! - A passing failure changes nothing, counts as a try, and holds up its own lane ([`lanes`]) only.
//! - An id is taken exactly when execution is reached.
//!
//! Limitations:
//! - Where the file system cannot exchange two files, other programs that write to the same file at the same moment are
//!   noticed when they come before the rename, not between the last look and the rename.
//! - Elsewhere they are always noticed, and what they put there is left there or brought back. Where two of them change a name in the same instant, and one of the files
//!   is in another folder by then, the older of the two is dropped; a folder that was the older one keeps a hidden name.
//!   A folder that somebody moves while it is held open is changed wherever it is, also outside the root.
//! - What is mounted beneath the root belongs to it, and so does a file that has a second name elsewhere: both are read.
//! - What a check's program wrote in a writable folder is not undone.
//! - Folders that a command empties stay: git knows no folders. Undoing removes the folders that the command made.
//! - A restored file is a new file with the old content and mode: other hard links keep the old one.
//! - Extended attributes and owners of replaced files are those of a new file.

pub mod actor;
pub mod after;
pub mod apply;
pub mod checks;
pub mod clock;
pub mod config;
pub mod core;
pub mod diff;
pub mod group;
pub mod journal;
pub mod lanes;
pub mod overlay;
pub mod patch;
pub mod plan;
pub mod policy;
pub mod recovery;
pub mod replay;
pub mod revert;
pub mod sandbox;
pub mod siblings;
pub mod status;
pub mod take_back;
pub mod text;
pub mod tree;
