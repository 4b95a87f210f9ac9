//! The configuration as it is written, and the checks that need nothing but the values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use executor::policy::SERVICE_FOLDERS;
use serde::Deserialize;

use super::error::{ConfigError, KeyFault};
use super::keys::{self, Expected};
use super::source::Source;
use super::{
    CheckConfig, Checkout, Checks, Config, Http, Ingest, Limits, MAIN_TARGET, Publish, Requirement, Supervision, Target,
};

/// The longest name of a target or a check, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// How much of a wrong value an error quotes, in characters.
const QUOTE_CHARS: usize = 80;
/// The time that a check without `max_runtime_ms` is given.
const CHECK_RUNTIME_MS: u64 = 60_000;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Root {
    /// The root of the work tree.
    pub cloud: Option<PathBuf>,
    cloud_name: Option<String>,
    /// Targets by name.
    pub targets: BTreeMap<String, RawTarget>,
    checks: BTreeMap<String, RawCheck>,
    ingest: RawIngest,
    publish: RawPublish,
    http: RawHttp,
    supervision: RawSupervision,
}

/// `[targets.NAME]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTarget {
    /// Where it is.
    pub root: Option<PathBuf>,
    deny: Vec<String>,
    allow_delete: bool,
    limits: RawLimits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    max_files_changed: Option<u64>,
    max_runtime_ms: Option<u64>,
    max_bytes_written: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCheck {
    argv: Vec<String>,
    max_runtime_ms: Option<u64>,
    sandbox: Option<String>,
    #[serde(default)]
    writable: Vec<String>,
    #[serde(default)]
    readable: Vec<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawIngest {
    settle_ms: Option<u64>,
    rescan_secs: Option<u64>,
    clock_skew_secs: Option<u64>,
    max_lifetime_secs: Option<u64>,
    max_command_bytes: Option<u64>,
    unauthenticated_per_hour: Option<u64>,
    checkout: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPublish {
    remote: Option<String>,
    hooks: bool,
    fetch_secs: Option<u64>,
    attempts: Option<u64>,
    max_pushes_per_minute: Option<u64>,
    window: Option<u64>,
    log_kib: Option<u64>,
    author_name: Option<String>,
    author_email: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    listen: Option<String>,
    allow_remote: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSupervision {
    max_restarts: Option<u64>,
    within_secs: Option<u64>,
}

/// Checks values against the table of keys, and says where a wrong one comes from.
struct Checker<'a>(&'a Source);

impl Checker<'_> {
    fn wrong(&self, key: &[&str], found: &str, expected: impl std::fmt::Display) -> ConfigError {
        let path: Vec<String> = key.iter().map(|part| (*part).to_owned()).collect();
        let mut shown: String = found.chars().take(QUOTE_CHARS).collect();
        if shown.len() < found.len() {
            shown.push('…');
        }
        self.0.fault(&path, KeyFault::Wrong { found: shown, expected: expected.to_string() })
    }

    /// What the table says of `key`, for a complaint in its own words.
    fn words(&self, key: &[&str]) -> String {
        let path: Vec<String> = key.iter().map(|part| (*part).to_owned()).collect();
        keys::expected(&path).map_or_else(String::new, |expected| expected.to_string())
    }

    /// A whole number within the bounds of the table, or the default.
    fn whole(&self, key: &[&str], value: Option<u64>, default: u64) -> Result<u64, ConfigError> {
        let path: Vec<String> = key.iter().map(|part| (*part).to_owned()).collect();
        match (value, keys::expected(&path)) {
            (None, _) => Ok(default),
            (Some(value), Some(Expected::Whole(min, max))) if (min..=max).contains(&value) => Ok(value),
            (Some(value), _) => Err(self.wrong(key, &value.to_string(), self.words(key))),
        }
    }

    /// The same for a number of 32 bits; the table's bounds keep it in range.
    fn whole32(&self, key: &[&str], value: Option<u64>, default: u32) -> Result<u32, ConfigError> {
        let value = self.whole(key, value, default.into())?;
        u32::try_from(value).map_err(|_| self.wrong(key, &value.to_string(), self.words(key)))
    }

    /// A text that `fits`, or the default.
    fn text(
        &self,
        key: &[&str],
        value: &Option<String>,
        default: String,
        fits: fn(&str) -> bool,
    ) -> Result<String, ConfigError> {
        match value {
            None => Ok(default),
            Some(text) if fits(text) => Ok(text.clone()),
            Some(text) => Err(self.wrong(key, &format!("{text:?}"), self.words(key))),
        }
    }

    fn name(&self, section: &str, name: &str) -> Result<(), ConfigError> {
        let start = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if start && rest && name.len() <= MAX_NAME_BYTES {
            return Ok(());
        }
        let rule = format!(
            "a name of 1 to {MAX_NAME_BYTES} letters, digits, '.', '_' and '-' that starts with a letter or digit"
        );
        Err(self.wrong(&[section, name], &format!("the name {name:?}"), rule))
    }
}

impl Root {
    /// Checks every value. The targets' roots stay empty: they need CLOUD.
    ///
    /// # Errors
    /// For the first value that is out of range or impossible.
    pub fn check(&self, source: &Source, file: Option<&Path>) -> Result<Config, ConfigError> {
        let checker = Checker(source);
        if self.cloud.as_ref().is_some_and(|cloud| cloud.as_os_str().is_empty()) {
            return Err(checker.wrong(&["cloud"], "an empty path", checker.words(&["cloud"])));
        }
        let is_name = |name: &str| !name.trim().is_empty() && name.chars().count() <= 128;
        if let Some(name) = self.cloud_name.as_ref().filter(|name| !is_name(name)) {
            return Err(checker.wrong(&["cloud_name"], &format!("{name:?}"), checker.words(&["cloud_name"])));
        }
        let mut targets = BTreeMap::new();
        for (name, raw) in &self.targets {
            targets.insert(name.clone(), raw.check(name, &checker)?);
        }
        targets.entry(MAIN_TARGET.to_owned()).or_insert_with(|| Target {
            root: PathBuf::new(),
            deny: Vec::new(),
            allow_delete: false,
            limits: Limits::default(),
        });
        let mut checks = Checks::new();
        for (name, raw) in &self.checks {
            checks.insert(name.clone(), raw.check(name, &checker)?);
        }
        Ok(Config {
            file: file.map(Path::to_owned),
            cloud_name: self.cloud_name.clone(),
            targets,
            checks,
            ingest: self.ingest.check(&checker)?,
            publish: self.publish.check(&checker)?,
            http: self.http.check(&checker)?,
            supervision: self.supervision.check(&checker)?,
        })
    }
}

impl RawTarget {
    fn check(&self, name: &str, checker: &Checker<'_>) -> Result<Target, ConfigError> {
        checker.name("targets", name)?;
        let key = |last| ["targets", name, "limits", last];
        if self.deny.iter().any(String::is_empty) {
            let key = ["targets", name, "deny"];
            return Err(checker.wrong(&key, "an empty glob", checker.words(&key)));
        }
        for glob in &self.deny {
            if let Err(error) = executor::policy::parse_glob(glob) {
                let key = ["targets", name, "deny"];
                return Err(checker.wrong(&key, &format!("{glob:?} ({})", error.kind()), checker.words(&key)));
            }
        }
        let (raw, default) = (&self.limits, Limits::default());
        let limits = Limits {
            max_files_changed: checker.whole(
                &key("max_files_changed"),
                raw.max_files_changed,
                default.max_files_changed,
            )?,
            max_runtime_ms: checker.whole(&key("max_runtime_ms"), raw.max_runtime_ms, default.max_runtime_ms)?,
            max_bytes_written: checker.whole(
                &key("max_bytes_written"),
                raw.max_bytes_written,
                default.max_bytes_written,
            )?,
        };
        Ok(Target { root: PathBuf::new(), deny: self.deny.clone(), allow_delete: self.allow_delete, limits })
    }
}

impl RawCheck {
    fn check(&self, name: &str, checker: &Checker<'_>) -> Result<CheckConfig, ConfigError> {
        checker.name("checks", name)?;
        let key = ["checks", name, "argv"];
        let found = match self.argv.first() {
            None => Some("an empty list"),
            Some(program) if program.is_empty() => Some("an empty program name"),
            Some(_) if self.argv.iter().any(|argument| argument.contains('\0')) => Some("a NUL character"),
            Some(_) => None,
        };
        if let Some(found) = found {
            return Err(checker.wrong(&key, found, checker.words(&key)));
        }
        let max_runtime_ms =
            checker.whole(&["checks", name, "max_runtime_ms"], self.max_runtime_ms, CHECK_RUNTIME_MS)?;
        let sandbox = match self.sandbox.as_deref() {
            None | Some("required") => Requirement::Required,
            Some("best-effort") => Requirement::BestEffort,
            Some(other) => {
                let key = ["checks", name, "sandbox"];
                return Err(checker.wrong(&key, &format!("{other:?}"), checker.words(&key)));
            }
        };
        if let Some(folder) = self.writable.iter().find(|folder| !is_writable(folder)) {
            let key = ["checks", name, "writable"];
            return Err(checker.wrong(&key, &format!("{folder:?}"), checker.words(&key)));
        }
        if let Some(folder) = self.readable.iter().find(|folder| !is_readable(folder)) {
            let key = ["checks", name, "readable"];
            return Err(checker.wrong(&key, &format!("{folder:?}"), checker.words(&key)));
        }
        let (writable, readable) = (self.writable.clone(), self.readable.clone());
        Ok(CheckConfig { argv: self.argv.clone(), max_runtime_ms, sandbox, writable, readable })
    }
}

impl RawIngest {
    fn check(&self, checker: &Checker<'_>) -> Result<Ingest, ConfigError> {
        let default = Ingest::default();
        Ok(Ingest {
            settle_ms: checker.whole(&["ingest", "settle_ms"], self.settle_ms, default.settle_ms)?,
            rescan_secs: checker.whole(&["ingest", "rescan_secs"], self.rescan_secs, default.rescan_secs)?,
            clock_skew_secs: checker.whole(
                &["ingest", "clock_skew_secs"],
                self.clock_skew_secs,
                default.clock_skew_secs,
            )?,
            max_lifetime_secs: checker.whole(
                &["ingest", "max_lifetime_secs"],
                self.max_lifetime_secs,
                default.max_lifetime_secs,
            )?,
            max_command_bytes: checker.whole(
                &["ingest", "max_command_bytes"],
                self.max_command_bytes,
                default.max_command_bytes,
            )?,
            unauthenticated_per_hour: checker.whole(
                &["ingest", "unauthenticated_per_hour"],
                self.unauthenticated_per_hour,
                default.unauthenticated_per_hour,
            )?,
            checkout: match self.checkout.as_deref() {
                None | Some("all") => Checkout::All,
                Some("allowed") => Checkout::Allowed,
                Some("commands") => Checkout::Commands,
                Some(other) => {
                    let key = ["ingest", "checkout"];
                    return Err(checker.wrong(&key, &format!("{other:?}"), checker.words(&key)));
                }
            },
        })
    }
}

impl RawPublish {
    fn check(&self, checker: &Checker<'_>) -> Result<Publish, ConfigError> {
        let default = Publish::default();
        let pace_key = ["publish", "max_pushes_per_minute"];
        let pace = self.max_pushes_per_minute.map(|pace| checker.whole32(&pace_key, Some(pace), 0)).transpose()?;
        Ok(Publish {
            remote: match &self.remote {
                None => None,
                wish => Some(checker.text(&["publish", "remote"], wish, String::new(), is_remote)?),
            },
            hooks: self.hooks,
            fetch_secs: checker.whole(&["publish", "fetch_secs"], self.fetch_secs, default.fetch_secs)?,
            attempts: checker.whole32(&["publish", "attempts"], self.attempts, default.attempts)?,
            max_pushes_per_minute: pace,
            window: checker.whole(&["publish", "window"], self.window, default.window)?,
            log_kib: checker.whole(&["publish", "log_kib"], self.log_kib, default.log_kib)?,
            author_name: checker.text(
                &["publish", "author_name"],
                &self.author_name,
                default.author_name,
                is_author,
            )?,
            author_email: checker.text(
                &["publish", "author_email"],
                &self.author_email,
                default.author_email,
                |text| is_author(text) && !text.contains(' '),
            )?,
        })
    }
}

impl RawHttp {
    fn check(&self, checker: &Checker<'_>) -> Result<Http, ConfigError> {
        let default = Http::default();
        let key = ["http", "listen"];
        let listen = match &self.listen {
            None => default.listen,
            Some(text) => text
                .parse::<SocketAddr>()
                .map_err(|_| checker.wrong(&key, &format!("{text:?}"), checker.words(&key)))?,
        };
        if !listen.ip().is_loopback() && !self.allow_remote {
            let remedy = "a loopback address such as \"127.0.0.1:9464\", or http.allow_remote must be true";
            return Err(checker.wrong(&key, &format!("{listen}, which other machines can reach"), remedy));
        }
        Ok(Http { listen, chosen: self.listen.is_some(), allow_remote: self.allow_remote })
    }
}

impl RawSupervision {
    fn check(&self, checker: &Checker<'_>) -> Result<Supervision, ConfigError> {
        let default = Supervision::default();
        Ok(Supervision {
            max_restarts: checker.whole32(&["supervision", "max_restarts"], self.max_restarts, default.max_restarts)?,
            within_secs: checker.whole(&["supervision", "within_secs"], self.within_secs, default.within_secs)?,
        })
    }
}

/// Whether a check may be granted to write in `folder`: it lies beneath the root by its name alone, and is neither git's
/// nor the bridge's, also where the file system ignores case.
fn is_writable(folder: &str) -> bool {
    let folder = folder.strip_suffix('/').unwrap_or(folder);
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    let own = |part: &&str| SERVICE_FOLDERS.iter().any(|own| part.eq_ignore_ascii_case(own));
    folder.split('/').all(plain) && !folder.split('/').next().is_some_and(|first| own(&first)) && !folder.contains('\0')
}

/// Whether a check may be granted to read in `folder`.
fn is_readable(folder: &Path) -> bool {
    let mut parts = folder.components();
    parts.next() == Some(Component::RootDir)
        && folder.components().nth(1).is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !folder.as_os_str().as_encoded_bytes().contains(&0)
}

/// A remote's name must not be taken for an option or a revision by git.
fn is_remote(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(plain)
        && !text.contains("..")
        && text.len() <= 128
}

fn is_author(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(|c| c.is_control() || matches!(c, '<' | '>'))
}
