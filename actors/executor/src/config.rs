//! Which trees commands may change, and within which limits: plain data, made by the composition root.

use std::collections::BTreeMap;
use std::path::PathBuf;

use protocol::git_id::ObjectFormat;

/// The configured targets, by name.
pub type Targets = BTreeMap<String, TargetConfig>;

/// One tree that commands may change (contract, section 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetConfig {
    /// The tree's root folder.
    pub root: PathBuf,
    /// Whether the root is CLOUD itself, whose service folders no command may touch.
    pub is_cloud: bool,
    /// Globs of paths that no command may touch. Each is held, regardless of case, against the path and each of its
    /// ancestors; `*` also matches `/`, so that a glob denies rather more than less.
    pub deny: Vec<String>,
    /// Whether `deleteFile` is allowed.
    pub allow_delete: bool,
    /// The most that any one command may ask for.
    pub limits: Limits,
    /// By what git names files in the repository that the root belongs to.
    pub ids: ObjectFormat,
}

/// The most that a command may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files that may differ afterwards.
    pub max_files_changed: u64,
    /// Runtime in milliseconds.
    pub max_runtime_ms: u64,
    /// Bytes that may be written.
    pub max_bytes_written: u64,
}

impl Default for Limits {
    /// The contract's defaults: 100 files, 10 minutes, 16 MiB.
    fn default() -> Self {
        Self { max_files_changed: 100, max_runtime_ms: 600_000, max_bytes_written: 16 * 1024 * 1024 }
    }
}

/// The programs that a validation plan may name, by name.
pub type Checks = BTreeMap<String, CheckConfig>;

/// A program of the operator's that a command's validation plan may ask for by name (contract, section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckConfig {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// The longest run, in milliseconds.
    pub max_runtime_ms: u64,
    /// What happens where the kernel cannot fence it in.
    pub sandbox: Requirement,
    /// Folders, relative to the target's root, in which it may write. One that is missing is not made.
    pub writable: Vec<String>,
    /// Folders, absolute, from which it may read and execute besides the target and the system's own. One that is
    /// missing is passed over.
    pub readable: Vec<PathBuf>,
}

/// What happens where the kernel cannot fence a check in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requirement {
    /// It is not run, and so it fails.
    #[default]
    Required,
    /// It is run with whatever the kernel offers.
    BestEffort,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A `deny` glob does not parse.
    #[error("target {target}: deny glob {glob:?} is invalid; write it as in .gitignore, without a leading '!'")]
    Glob {
        /// The target's name.
        target: String,
        /// The glob.
        glob: String,
        /// Why.
        #[source]
        source: globset::Error,
    },
    /// A root cannot be opened.
    #[error("target {target}: its root {} cannot be opened as a folder", root.display())]
    Root {
        /// The target's name.
        target: String,
        /// The root.
        root: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
