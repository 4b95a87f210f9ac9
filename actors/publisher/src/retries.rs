//! `meta/retries.json`: which commands failed for a passing cause, how often, and why last.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// Where the index lies, beneath CLOUD.
pub const RETRIES_PATH: &str = "meta/retries.json";

/// One command's failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often execution was tried.
    pub attempts: u32,
    /// Why it failed last.
    pub last_error: String,
    /// When it failed last, RFC 3339.
    pub last_ts: String,
}

/// An index that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{RETRIES_PATH} is unreadable: {0}")]
pub struct Unreadable(#[from] serde_json::Error);

/// The whole index, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retries(BTreeMap<String, Retry>);

impl Retries {
    /// Reads the index.
    ///
    /// # Errors
    /// When the bytes are no index.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        Ok(Self(serde_json::from_slice(bytes)?))
    }

    /// The index's bytes: `{}` when empty, else indented, with a newline at the end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers always serialise.
        let mut bytes = serde_json::to_vec_pretty(&self.0).unwrap_or_else(|_| b"{}".to_vec());
        bytes.push(b'\n');
        bytes
    }

    /// Notes one more failure.
    pub fn record(&mut self, id: &str, error: &str, now: DateTime<Utc>) {
        let last_ts = now.to_rfc3339_opts(SecondsFormat::Millis, true);
        let attempts = self.0.get(id).map_or(0, |entry| entry.attempts).saturating_add(1);
        self.0.insert(id.to_owned(), Retry { attempts, last_error: error.to_owned(), last_ts });
    }

    /// The command is settled: its entry goes. Tells whether there was one.
    pub fn settle(&mut self, id: &str) -> bool {
        self.0.remove(id).is_some()
    }

    /// A command's entry.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Retry> {
        self.0.get(id)
    }

    /// How many commands are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The name, in the same folder, under which an unreadable index is kept.
#[must_use]
pub fn bad_name(now: DateTime<Utc>) -> String {
    format!("retries.json.bad-{}", now.format("%Y%m%dT%H%M%S%.3fZ"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_until_the_command_is_settled() {
        let now = DateTime::from_timestamp(0, 0).unwrap();
        let mut retries = Retries::parse(b"{}").unwrap();
        retries.record("x", "disk", now);
        retries.record("x", "disk again", now);
        let entry = retries.get("x").unwrap();
        assert_eq!((entry.attempts, entry.last_error.as_str()), (2, "disk again"));
        assert_eq!(entry.last_ts, "1970-01-01T00:00:00.000Z");
        assert_eq!(Retries::parse(&retries.to_bytes()).unwrap(), retries);
        assert!(retries.settle("x") && !retries.settle("x"));
        assert_eq!(retries.to_bytes(), b"{}\n");
    }

    #[test]
    fn anything_else_is_unreadable() {
        for bytes in ["", "[]", "{\"x\": 1}", "{\"x\": {\"attempts\": -1, \"last_error\": \"\", \"last_ts\": \"\"}}"] {
            assert!(Retries::parse(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
