//! What can be wrong with a configuration. Each error displays as one line: where, which key, and what would be right.

use std::fmt;
use std::path::PathBuf;

/// The place that an operator must change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// Neither: the built-in defaults.
    Defaults,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Variable(variable) => write!(f, "environment variable {variable}"),
            Self::Defaults => f.write_str("the configuration"),
        }
    }
}

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// There is no such key.
    #[error("unknown key; valid here: {}", .known.join(", "))]
    Unknown {
        /// The keys that exist there.
        known: Vec<&'static str>,
    },
    /// A required key is missing.
    #[error("required key is missing; it takes {expected}")]
    Missing {
        /// What it takes.
        expected: String,
    },
    /// A value of the wrong type, out of range, or impossible.
    #[error("found {found}; it must be {expected}")]
    Wrong {
        /// What stands there.
        found: String,
        /// What would be right.
        expected: String,
    },
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {what}; correct --config or GHOST_BRIDGE_CONFIG, or leave both out for the defaults", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        what: String,
    },
    /// The file is no TOML.
    #[error("{}: no valid TOML: {what}; correct that line", .file.display())]
    Grammar {
        /// The file.
        file: PathBuf,
        /// What the parser says, with the line.
        what: String,
    },
    /// The file lies where whoever can push could rewrite it.
    #[error("{}: the configuration file lies inside CLOUD ({}), where whoever can push could rewrite it; move it outside", .file.display(), .cloud.display())]
    InsideCloud {
        /// The file.
        file: PathBuf,
        /// The root.
        cloud: PathBuf,
    },
    /// A variable that is meant for a key and is not spelled as one.
    #[error("environment variable {variable} sets nothing: a key takes two underscores after GHOST_BRIDGE and between its parts; {}", spelled(.meant.as_deref()))]
    Variable {
        /// Its name.
        variable: String,
        /// What it should be called, where that is known.
        meant: Option<String>,
    },
    /// One key is wrong.
    #[error("{place}: {key}: {fault}")]
    Key {
        /// Who set it.
        place: Place,
        /// The key, with dots.
        key: String,
        /// What is wrong.
        fault: KeyFault,
    },
}

fn spelled(meant: Option<&str>) -> String {
    match meant {
        Some(meant) => format!("call it {meant}, or unset it"),
        None => "call it like GHOST_BRIDGE__PUBLISH__FETCH_SECS, or unset it".to_owned(),
    }
}
