//! What the publisher reads out of an audit line: which artifacts belong to it, and what its commit is called.
//!
//! Needed where no message tells it: after a restart, and after more commands were filed than could be held in memory.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use protocol::reason::Reason;
use protocol::time::parse_rfc3339;
use serde::Deserialize;

use crate::pending::Pending;

/// The fields of an audit line that decide about its commit.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    id: Option<String>,
    result: String,
    #[serde(default)]
    exit: Option<i64>,
    #[serde(default)]
    input_sha256: String,
    #[serde(default)]
    ts: String,
    #[serde(default)]
    hmac_ok: bool,
}

/// A command that will not be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Its id.
    pub id: String,
    /// Whether it was executed: the id is taken for ever then. Else the command was refused, and its id may come again.
    pub executed: bool,
    /// When the line was written; `None` where it does not say.
    pub at: Option<DateTime<Utc>>,
}

/// What an audit line settles. A refused document that nobody proved to be the command (a forged one), or that is
/// another one under the same id, settles nothing.
#[must_use]
pub fn settlement(line: &str) -> Option<Settlement> {
    let line: Line = serde_json::from_str(line).ok()?;
    let executed = matches!(line.result.as_str(), "ok" | "failed");
    let refused = line.hmac_ok && line.result != Reason::DuplicateId.as_str();
    let id = line.id.filter(|_| executed || refused)?;
    Some(Settlement { id, executed, at: parse_rfc3339(&line.ts) })
}

/// When an audit line was written; `None` where it does not say.
#[must_use]
pub fn written_at(line: &str) -> Option<DateTime<Utc>> {
    let line: Line = serde_json::from_str(line).ok()?;
    parse_rfc3339(&line.ts)
}

/// A line's place in the chain.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Link {
    /// The line before's hash.
    pub prev: String,
    /// The line's own.
    pub hash: String,
}

impl Link {
    /// Reads a line's place; `None` where it says nothing of one.
    #[must_use]
    pub fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// The names in `dead_letter/`, findable by the eight hex digits that end them.
#[derive(Debug, Default)]
pub struct DeadLetters {
    by_digest: HashMap<String, Vec<String>>,
    names: std::collections::HashSet<String>,
}

impl DeadLetters {
    /// From the paths of the files beneath `dead_letter/`.
    pub fn new(paths: impl Iterator<Item = String>) -> Self {
        let mut found = Self::default();
        for path in paths {
            if let Some((_, short)) = path.strip_suffix(".json").and_then(|stem| stem.rsplit_once('-')) {
                found.by_digest.entry(short.to_owned()).or_default().push(path.clone());
            }
            found.names.insert(path);
        }
        found
    }

    /// The dead letters of a document: the one that its hash names, else the one that its id names.
    fn of(&self, id: Option<&str>, input: &str) -> Vec<String> {
        let short = input.get(..8).unwrap_or(input);
        let by_digest = self.by_digest.get(short).map(Vec::as_slice).unwrap_or_default();
        match id {
            Some(id) => {
                let exact = format!("dead_letter/{id}-{short}.json");
                let plain = format!("dead_letter/{id}.json");
                [exact, plain].into_iter().find(|path| self.names.contains(path)).into_iter().collect()
            }
            None => by_digest.to_vec(),
        }
    }
}

/// The commit that an audit line (with its newline) stands for.
#[must_use]
pub fn derive(line: &str, letters: &DeadLetters) -> Pending {
    let Ok(parsed) = serde_json::from_str::<Line>(line) else {
        // A line that cannot be read is still part of the log, and the log is published whole.
        return Pending::from_log("bridge: results unknown (exit=70)".to_owned(), Vec::new(), line.to_owned());
    };
    let id = parsed.id.as_deref();
    let mut paths = Vec::new();
    let subject = match (parsed.result.as_str(), id) {
        (result @ ("ok" | "failed"), Some(id)) => {
            paths.push(format!("results/{id}.json"));
            paths.push(format!("results/{id}.integrity.json"));
            paths.push(format!("diffs/{id}.patch"));
            if result == "ok" {
                paths.push(format!("archive/{id}.json"));
            } else {
                paths.extend(letters.of(Some(id), &parsed.input_sha256));
            }
            format!("bridge: results {id} (exit={})", parsed.exit.unwrap_or_default())
        }
        (reason, id) => {
            paths.extend(letters.of(id, &parsed.input_sha256));
            format!("bridge: DLQ {reason}")
        }
    };
    Pending::from_log(subject, paths, line.to_owned())
}

/// The whole lines of a log's bytes; a last one that was cut short is left out.
pub fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    log.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn line(id: &str, result: &str, exit: &str, sha: &str) -> String {
        format!(
            "{{\"id\":{id},\"result\":\"{result}\",\"exit\":{exit},\"input_sha256\":\"{sha}\",\"prev\":\"p\",\"hash\":\"h\"}}\n"
        )
    }

    fn letters() -> DeadLetters {
        let paths = ["dead_letter/x.json", "dead_letter/x-aabbccdd.json", "dead_letter/odd_name-11223344.json"];
        DeadLetters::new(paths.into_iter().map(str::to_owned))
    }

    #[test]
    fn a_success_has_four_artifacts_and_a_failure_its_dead_letter() {
        let ok = derive(&line("\"x\"", "ok", "0", "ff"), &letters());
        assert_eq!(ok.subject, "bridge: results x (exit=0)");
        assert_eq!(ok.artifacts, ["results/x.json", "results/x.integrity.json", "diffs/x.patch", "archive/x.json"]);
        let failed = derive(&line("\"x\"", "failed", "124", "00000000aa"), &letters());
        assert_eq!(failed.subject, "bridge: results x (exit=124)");
        assert_eq!(failed.artifacts.last().unwrap(), "dead_letter/x.json");
    }

    #[test]
    fn a_rejection_is_found_by_its_hash_before_its_id() {
        let of = |id, sha| derive(&line(id, "bad_hmac", "null", sha), &letters());
        assert_eq!(of("\"x\"", "aabbccdd99").artifacts, ["dead_letter/x-aabbccdd.json"]);
        assert_eq!(of("\"x\"", "0000000099").artifacts, ["dead_letter/x.json"]);
        assert_eq!(of("null", "1122334499").artifacts, ["dead_letter/odd_name-11223344.json"]);
        assert!(of("null", "9922334499").artifacts.is_empty());
        assert_eq!(of("null", "1").subject, "bridge: DLQ bad_hmac");
    }

    #[test]
    fn a_line_settles_its_own_command_and_no_forger_another() {
        let of = |id: &str, result: &str, hmac_ok: bool| {
            settlement(&format!(
                "{{\"ts\":\"2026-01-02T03:04:05.678Z\",\"id\":{id},\"result\":\"{result}\",\"hmac_ok\":{hmac_ok}}}\n"
            ))
        };
        let at = parse_rfc3339("2026-01-02T03:04:05.678Z");
        for (result, executed) in [("ok", true), ("failed", true), ("expired", false), ("patch_conflict", false)] {
            let expected = Settlement { id: "x".to_owned(), executed, at };
            assert_eq!(of("\"x\"", result, true), Some(expected), "{result}");
        }
        assert_eq!(of("\"x\"", "bad_hmac", false), None);
        assert_eq!(of("\"x\"", "duplicate_id", true), None);
        assert_eq!(of("null", "schema", true), None);
        assert_eq!(settlement("no line\n"), None);
    }

    #[test]
    fn a_line_cut_short_is_no_line() {
        assert_eq!(lines(b"a\nb\nc").collect::<Vec<_>>(), [b"a\n", b"b\n"]);
        assert_eq!(Link::of(line("null", "x", "1", "1").as_bytes()).unwrap().hash, "h");
    }
}
