//! The configuration: `bridge.toml` and the environment's overrides, read, checked, and turned into plain data.
//!
//! Three steps, because the second needs CLOUD and CLOUD may stand in the file: [`Settings::load`] reads and checks
//! everything that can be judged without looking at the disk; [`Settings::cloud`] says where CLOUD is wished to be;
//! [`Settings::resolve`] holds the file and the targets against the real CLOUD. No secret ever stands here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

mod error;
mod keys;
mod raw;
mod source;
mod targets;
#[cfg(test)]
mod tests;

pub use executor::config::{CheckConfig, Checks, Limits, Requirement};

pub use error::ConfigError;
use source::Source;

/// The variable that names the configuration file.
pub const FILE_VARIABLE: &str = "GHOST_BRIDGE_CONFIG";
/// The target that is always there; its root is CLOUD.
pub const MAIN_TARGET: &str = "MAIN";

/// The whole configuration (contract section 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from, if there is one.
    pub file: Option<PathBuf>,
    /// The name by which documents may say that they are for this CLOUD.
    pub cloud_name: Option<String>,
    /// The targets by name; `MAIN` is always among them.
    pub targets: BTreeMap<String, Target>,
    /// The operator's own checks by name.
    pub checks: Checks,
    /// How documents are taken in.
    pub ingest: Ingest,
    /// How outcomes are published.
    pub publish: Publish,
    /// The HTTP endpoint.
    pub http: Http,
    /// The restart budget.
    pub supervision: Supervision,
}

/// A tree that commands may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its root, canonical.
    pub root: PathBuf,
    /// Globs of what no command may touch, relative to the root.
    pub deny: Vec<String>,
    /// Whether `deleteFile` is allowed at all.
    pub allow_delete: bool,
    /// What a command's own constraints may not exceed.
    pub limits: Limits,
}

/// What of upstream's changes is brought into the work tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkout {
    /// All that nobody changed here.
    #[default]
    All,
    /// The same, save what a command to MAIN may not touch either.
    Allowed,
    /// Documents in `commands/`, and nothing else.
    Commands,
}

/// How documents are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingest {
    /// How long after its last change an unreadable document may still be in the making, in milliseconds.
    pub settle_ms: u64,
    /// How often `commands/` is looked through although nothing was reported, in seconds.
    pub rescan_secs: u64,
    /// How far `issued_at` may lie ahead, in seconds.
    pub clock_skew_secs: u64,
    /// The longest time from `issued_at` to `expires_at`, in seconds.
    pub max_lifetime_secs: u64,
    /// The largest document, in bytes.
    pub max_command_bytes: u64,
    /// Documents without a valid signature that get a letter each within an hour.
    pub unauthenticated_per_hour: u64,
    /// What of upstream's changes is brought into the work tree.
    pub checkout: Checkout,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            settle_ms: 500,
            rescan_secs: 5,
            clock_skew_secs: 30,
            max_lifetime_secs: 86_400,
            max_command_bytes: 512 * 1024,
            unauthenticated_per_hour: 1_000,
            checkout: Checkout::All,
        }
    }
}

/// How outcomes are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The git remote's name; `None`: the one that the branch follows, else `origin`, else the only one.
    pub remote: Option<String>,
    /// Whether git's hooks run when it fetches and pushes.
    pub hooks: bool,
    /// How often the remote is looked at, in seconds.
    pub fetch_secs: u64,
    /// Consecutive failures after which publishing counts as degraded.
    pub attempts: u32,
    /// The pace of pushes: 0 is unlimited, `None` is chosen by the remote's host.
    pub max_pushes_per_minute: Option<u32>,
    /// Commands in a flat folder.
    pub window: u64,
    /// The size from which the audit log rolls over, in KiB.
    pub log_kib: u64,
    /// Author and committer of the bridge's commits.
    pub author_name: String,
    /// Their mail address.
    pub author_email: String,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            remote: None,
            hooks: false,
            fetch_secs: 5,
            attempts: 6,
            max_pushes_per_minute: None,
            window: 256,
            log_kib: 64,
            author_name: "ghost-bridge".to_owned(),
            author_email: "ghost-bridge@localhost".to_owned(),
        }
    }
}

/// The HTTP endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where it listens; loopback unless `allow_remote`.
    pub listen: SocketAddr,
    /// Whether the operator chose that address; the default may be taken by another bridge.
    pub chosen: bool,
    /// Whether it may listen where other machines can reach it.
    pub allow_remote: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)), chosen: false, allow_remote: false }
    }
}

/// The restart budget: over it the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supervision {
    /// Restarts that are tolerated.
    pub max_restarts: u32,
    /// The window in which they are counted, in seconds.
    pub within_secs: u64,
}

impl Default for Supervision {
    fn default() -> Self {
        Self { max_restarts: 5, within_secs: 30 }
    }
}

/// What the file and the environment say, checked as far as that goes without CLOUD.
#[derive(Clone, Debug)]
pub struct Settings {
    source: Source,
    raw: raw::Root,
    config: Config,
}

impl Settings {
    /// Reads `file`, if there is one, and the overrides in the environment.
    ///
    /// # Errors
    /// When the file cannot be read or is no TOML, or a key is unknown, of the wrong type, or out of range.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        // A name or a value that is no UTF-8 cannot be meant for a key here.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::load_with(file, variables)
    }

    fn load_with(file: Option<&Path>, variables: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let source = Source::read(file, variables)?;
        let raw: raw::Root = source.extract()?;
        let config = raw.check(&source, file)?;
        Ok(Self { source, raw, config })
    }

    /// Where the configuration wants CLOUD to be.
    #[must_use]
    pub fn cloud(&self) -> Option<PathBuf> {
        let cloud = self.raw.cloud.as_ref()?;
        Some(self.source.base_of(&["cloud".to_owned()]).join(cloud))
    }

    /// What an operator should know of variables that set nothing, a sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        self.source.notes()
    }

    /// The name by which documents may say that they are for this CLOUD.
    #[must_use]
    pub fn cloud_name(&self) -> Option<&str> {
        self.config.cloud_name.as_deref()
    }

    /// The targets by name; their roots are not known yet.
    #[must_use]
    pub fn targets(&self) -> &BTreeMap<String, Target> {
        &self.config.targets
    }

    /// The configured checks.
    #[must_use]
    pub fn checks(&self) -> &Checks {
        &self.config.checks
    }

    /// How documents are taken in.
    #[must_use]
    pub fn ingest(&self) -> Ingest {
        self.config.ingest
    }

    /// How outcomes are published.
    #[must_use]
    pub fn publish(&self) -> &Publish {
        &self.config.publish
    }

    /// Holds the file's place and the targets' roots against `cloud`, which must be canonical.
    ///
    /// # Errors
    /// When the file lies inside CLOUD, or a target's root does not exist, contains CLOUD, or lies inside its `.git`.
    pub fn resolve(mut self, cloud: &Path) -> Result<Config, ConfigError> {
        if let Some(file) = &self.config.file {
            targets::refuse_inside(file, cloud)?;
        }
        for (name, target) in &mut self.config.targets {
            target.root = targets::root(name, self.raw.targets.get(name), cloud, &self.source)?;
        }
        Ok(self.config)
    }
}
