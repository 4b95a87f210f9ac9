//! Where the configuration comes from: the TOML file, and the environment that overrides single keys.
//!
//! This module reads and merges; it does not judge values. It remembers which variable set which key, because an error
//! has to name the one place that the operator must change.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format as _, Toml};
use serde::de::DeserializeOwned;

use super::error::{ConfigError, KeyFault, Place};
use super::keys;

/// What every overriding variable starts with. `GHOST_BRIDGE_CONFIG` does not: two underscores make the difference.
pub const PREFIX: &str = "GHOST_BRIDGE__";
/// The largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The file's text and the overrides.
#[derive(Clone, Debug)]
pub struct Source {
    file: Option<(PathBuf, String)>,
    overrides: Vec<Override>,
}

/// One overriding variable.
#[derive(Clone, Debug)]
struct Override {
    variable: String,
    path: Vec<String>,
}

impl Source {
    /// Reads `file`, if there is one, and notes which variables of the environment override its keys.
    ///
    /// # Errors
    /// When the file cannot be read, is no regular file, too large, or no UTF-8.
    pub fn read(file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = match file {
            Some(path) => Some((path.to_owned(), read_file(path)?)),
            None => None,
        };
        let overrides = std::env::vars_os()
            .filter_map(|(variable, _)| {
                let variable = variable.into_string().ok()?;
                let path = key_path(variable.strip_prefix(PREFIX)?);
                Some(Override { variable, path })
            })
            .collect();
        Ok(Self { file, overrides })
    }

    /// The configuration's values as the type `T`.
    ///
    /// # Errors
    /// When the file is no TOML, or a key is unknown or of the wrong type.
    pub fn extract<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut figment = Figment::new();
        if let Some((path, text)) = &self.file {
            // Read alone first: what is wrong with the file's grammar is not to be mistaken for a key's fault.
            if let Some(error) = Figment::from(Toml::string(text)).error_if_unreadable() {
                return Err(ConfigError::Grammar { file: path.clone(), what: error });
            }
            figment = figment.merge(Toml::string(text));
        }
        let env = Env::raw()
            .filter_map(|name| Some(key_path(name.as_str().strip_prefix(PREFIX)?).join(".").into()))
            .lowercase(false);
        figment.merge(env).extract().map_err(|error| self.explain(&error))
    }

    /// The place that set the key at `path`: the variable if one did, else the file, else nothing but the defaults.
    #[must_use]
    pub fn place_of(&self, path: &[String]) -> Place {
        let exact = self.overrides.iter().find(|o| o.path == path);
        // A type fault may lie above or below what the variable names.
        let related = || self.overrides.iter().find(|o| o.path.starts_with(path) || path.starts_with(&o.path));
        match (exact, &self.file) {
            (Some(found), _) => Place::Variable(found.variable.clone()),
            (None, Some((file, text))) if in_file(text, path) => Place::File(file.clone()),
            (None, file) => match (related(), file) {
                (Some(found), _) => Place::Variable(found.variable.clone()),
                (None, Some((file, _))) => Place::File(file.clone()),
                (None, None) => Place::Defaults,
            },
        }
    }

    /// The folder that a relative path at `path` is relative to: the file's, or the current one for a variable.
    #[must_use]
    pub fn base_of(&self, path: &[String]) -> PathBuf {
        match self.place_of(path) {
            Place::File(file) => match file.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            },
            _ => PathBuf::from("."),
        }
    }

    /// A complaint about the key at `path`.
    pub fn fault(&self, path: &[String], fault: KeyFault) -> ConfigError {
        ConfigError::Key { place: self.place_of(path), key: path.join("."), fault }
    }

    fn explain(&self, error: &figment::Error) -> ConfigError {
        use figment::error::Kind;
        let mut path = error.path.clone();
        let expected = |path: &[String]| keys::expected(path).map_or_else(|| "another value".to_owned(), |e| e.to_string());
        let fault = match &error.kind {
            Kind::UnknownField(name, _) => {
                // Serde reports some unknown fields at their own path, some at their table's.
                if path.last() != Some(name) {
                    path.push(name.clone());
                }
                let table = path.get(..path.len().saturating_sub(1)).unwrap_or_default();
                KeyFault::Unknown { known: keys::below(table) }
            }
            Kind::MissingField(name) => {
                path.push(name.to_string());
                KeyFault::Missing { expected: expected(&path) }
            }
            Kind::InvalidType(found, _) | Kind::InvalidValue(found, _) | Kind::Unsupported(found) => {
                KeyFault::Wrong { found: found.to_string(), expected: expected(&path) }
            }
            other => KeyFault::Wrong { found: other.to_string(), expected: expected(&path) },
        };
        self.fault(&path, fault)
    }
}

/// Tells whether a provider can be read at all.
trait Readable {
    /// What is wrong with the text's grammar.
    fn error_if_unreadable(&self) -> Option<String>;
}

impl Readable for Figment {
    fn error_if_unreadable(&self) -> Option<String> {
        self.extract::<figment::value::Dict>().err().map(|error| error.kind.to_string())
    }
}

/// Whether the TOML `text` says anything at `path`.
fn in_file(text: &str, path: &[String]) -> bool {
    let Ok(dict) = Figment::from(Toml::string(text)).extract::<figment::value::Dict>() else { return false };
    let mut dict = &dict;
    for (position, segment) in path.iter().enumerate() {
        match dict.get(segment) {
            Some(figment::value::Value::Dict(_, below)) => dict = below,
            Some(_) => return position + 1 == path.len(),
            None => return false,
        }
    }
    true
}

/// The key that the rest of a variable's name stands for: lower case, but for the operator's own names.
fn key_path(name: &str) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    for part in name.split("__") {
        let is_name = path.len() == 1 && path.first().is_some_and(|section| keys::holds_names(section));
        path.push(if is_name { part.to_owned() } else { part.to_ascii_lowercase() });
    }
    path
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |what: &dyn std::fmt::Display| ConfigError::File { file: path.to_owned(), what: what.to_string() };
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(unreadable(&"it is no regular file"));
    }
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| unreadable(&error))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(&format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_names_a_key_and_leaves_the_operators_names_alone() {
        assert_eq!(key_path("PUBLISH__FETCH_SECS"), ["publish", "fetch_secs"]);
        assert_eq!(key_path("TARGETS__MyApp__ALLOW_DELETE"), ["targets", "MyApp", "allow_delete"]);
        assert_eq!(key_path("CLOUD"), ["cloud"]);
    }
}
