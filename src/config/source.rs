//! Where the configuration comes from: the TOML file, and the environment that overrides single keys.
//!
//! This module reads and merges; it does not judge values. It remembers which variable set which key, because an error
//! has to name the one place that the operator must change.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

use crate::exit::one_line;

use super::error::{ConfigError, KeyFault, Place};
use super::keys;

/// What every variable of the program's own starts with, but for the secrets'.
const OWN: &str = "GHOST_BRIDGE_";
/// What every overriding variable starts with. `GHOST_BRIDGE_CONFIG` does not: two underscores make the difference.
pub const PREFIX: &str = "GHOST_BRIDGE__";
/// Names the overriding variables that count. A process manager that keeps variables which its operator has withdrawn
/// cannot be told otherwise; where it is not set all of them count.
const COUNTING: &str = "GHOST_BRIDGE_OVERRIDES";
/// The variables of that kind that are known; the last two are of `config/ecosystem.config.cjs`.
const KNOWN: [&str; 4] = [super::FILE_VARIABLE, COUNTING, "GHOST_BRIDGE_HOME", "GHOST_BRIDGE_APP"];
/// The largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The file's text and the overrides.
#[derive(Clone, Debug)]
pub struct Source {
    file: Option<(PathBuf, String)>,
    overrides: Vec<Override>,
    notes: Vec<String>,
}

/// One overriding variable.
#[derive(Clone, Debug)]
struct Override {
    variable: String,
    path: Vec<String>,
    value: Value,
}

impl Source {
    /// Reads `file`, if there is one, and picks from `variables` those that override its keys. A value is read as figment
    /// reads it: `true`, `5` and `[a, b]` are what they look like, all else, and whatever stands in quotes, is a text.
    ///
    /// An empty variable counts as one that is not set.
    ///
    /// # Errors
    /// When the file cannot be read, is no regular file, too large, or no UTF-8, or a variable is a key's, misspelled.
    pub fn read(file: Option<&Path>, variables: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let file = match file {
            Some(path) => Some((path.to_owned(), read_file(path)?)),
            None => None,
        };
        let (mut overrides, mut notes) = (Vec::new(), Vec::new());
        let variables: Vec<(String, String)> =
            variables.filter(|(variable, text)| variable.starts_with(OWN) && !text.is_empty()).collect();
        let counting = variables.iter().find(|(variable, _)| variable == COUNTING);
        let counts = |variable: &str| {
            counting.is_none_or(|(_, names)| names.split_whitespace().any(|counting| counting == variable))
        };
        for (variable, text) in &variables {
            match variable.strip_prefix(PREFIX) {
                Some(name) if counts(variable) => {
                    let Ok(value) = text.parse::<Value>();
                    overrides.push(Override { variable: variable.clone(), path: key_path(name), value });
                }
                Some(_) => notes.push(format!(
                    "environment variable {variable} does not count, since {COUNTING} does not list it: it was withdrawn and \
                     PM2 keeps it, or it was set past the file that lists them (to set it, restart by \
                     config/ecosystem.config.cjs)"
                )),
                None if KNOWN.contains(&variable.as_str()) => {}
                None => notes.push(stray(variable)?),
            }
        }
        Ok(Self { file, overrides, notes })
    }

    /// What an operator should know of variables that set nothing.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The configuration's values as the type `T`.
    ///
    /// # Errors
    /// When the file is no TOML, or a key is unknown or of the wrong type.
    pub fn extract<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut figment = Figment::new();
        if let Some((path, text)) = &self.file {
            // Read alone first: what is wrong with the file's grammar is not to be mistaken for a key's fault.
            if let Err(error) = Figment::from(Toml::string(text)).extract::<Dict>() {
                return Err(ConfigError::Grammar { file: path.clone(), what: grammar(&error.kind.to_string()) });
            }
            figment = figment.merge(Toml::string(text));
        }
        for set in &self.overrides {
            if set.path.iter().any(String::is_empty) {
                return Err(self.fault(&set.path, KeyFault::Unknown { known: keys::below(&[]) }));
            }
            figment = figment.merge((set.path.join("."), &set.value));
        }
        figment.extract().map_err(|error| self.explain(&error))
    }

    /// The place that set the key at `path`: the variable if one did, else the file, else nothing but the defaults.
    ///
    /// A fault may lie above or below what a place names: a variable may make a table by setting one key of it, and then
    /// another key that is missing there is that variable's fault.
    #[must_use]
    pub fn place_of(&self, path: &[String]) -> Place {
        let variable = |set: &Override| Place::Variable(set.variable.clone());
        if let Some(set) = self.overrides.iter().find(|set| set.path == path) {
            return variable(set);
        }
        // From the key itself outwards: the nearest that anybody named decides, the file before the variables.
        for length in (1..=path.len()).rev() {
            let near = path.get(..length).unwrap_or_default();
            match &self.file {
                Some((file, text)) if in_file(text, near) => return Place::File(file.clone()),
                _ => {}
            }
            if let Some(set) = self.overrides.iter().find(|set| set.path.starts_with(near)) {
                return variable(set);
            }
        }
        self.file.as_ref().map_or(Place::Defaults, |(file, _)| Place::File(file.clone()))
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
        // An item of a list has no entry of its own: the list's words say what its items are.
        let expected = |path: &[String]| {
            let list = || keys::expected(path.split_last().map_or(path, |(_, list)| list));
            keys::expected(path)
                .or_else(list)
                .map_or_else(|| "another value".to_owned(), |expected| expected.to_string())
        };
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

/// What is to be said of a variable that is none of the program's: an error where a key was meant.
fn stray(variable: &str) -> Result<String, ConfigError> {
    let name = variable.strip_prefix(OWN).unwrap_or(variable);
    if let Some(key) = keys::resembling(name) {
        let meant = key.map(|key| format!("{PREFIX}{key}"));
        return Err(ConfigError::Variable { variable: variable.to_owned(), meant });
    }
    Ok(format!(
        "environment variable {variable} is unknown and sets nothing; known are {}, and {PREFIX}SECTION__KEY",
        KNOWN.join(", ")
    ))
}

/// The parser's complaint as one line, without its drawing of the place.
fn grammar(complaint: &str) -> String {
    let is_drawing = |line: &str| line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|');
    one_line(&complaint.lines().filter(|line| !is_drawing(line)).collect::<Vec<_>>().join(", "))
}

/// Whether the TOML `text` says anything at `path`.
fn in_file(text: &str, path: &[String]) -> bool {
    let Ok(dict) = Figment::from(Toml::string(text)).extract::<Dict>() else { return false };
    let mut dict = &dict;
    for (position, segment) in path.iter().enumerate() {
        match dict.get(segment) {
            Some(Value::Dict(_, below)) => dict = below,
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
