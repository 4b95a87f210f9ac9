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

/// Where a document's artifacts may lie: they are told by their flat paths, wherever they lie really.
pub trait Places {
    /// Whether there is an artifact of that path.
    fn has(&self, path: &str) -> bool;

    /// Whether an integrity file or a dead letter is about the document of that hash.
    fn is_about(&self, path: &str, input: &str) -> bool;

    /// The dead letters whose names end with these eight hex digits.
    fn letters(&self, short: &str) -> Vec<String>;
}

/// Dead letters' paths, findable by the eight hex digits in their names.
#[derive(Debug, Default)]
pub struct DeadLetters {
    by_digest: HashMap<String, Vec<String>>,
}

impl DeadLetters {
    /// From the flat paths of dead letters.
    pub fn new(paths: impl Iterator<Item = String>) -> Self {
        let mut found = Self::default();
        paths.for_each(|path| found.add(path));
        found
    }

    /// Adds one.
    pub fn add(&mut self, path: String) {
        if let Some(short) = digits(&path) {
            self.by_digest.entry(short.to_owned()).or_default().push(path);
        }
    }

    /// Those with these digits.
    #[must_use]
    pub fn of(&self, short: &str) -> &[String] {
        self.by_digest.get(short).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The digits in `<name>-<8 hex>.json` and `<name>-<8 hex>-<64 hex>.json`.
fn digits(path: &str) -> Option<&str> {
    let stem = path.strip_suffix(".json")?;
    let (before, last) = stem.rsplit_once('-')?;
    if last.len() <= SHORT {
        return Some(last);
    }
    let short = before.rsplit_once('-').map(|(_, short)| short).filter(|short| last.starts_with(short));
    Some(short.unwrap_or(last))
}

/// How many hex digits of a hash a name has.
const SHORT: usize = 8;

impl Line {
    fn short(&self) -> &str {
        self.input_sha256.get(..SHORT).unwrap_or(&self.input_sha256)
    }

    /// The artifacts that belong to the line, by their flat paths; those of an executed command whether they are there
    /// or not.
    fn artifacts(&self, places: &dyn Places) -> Vec<String> {
        match (self.result.as_str(), &self.id) {
            (result @ ("ok" | "failed"), Some(id)) => {
                let stem = self.stem(id, places);
                let mut paths = vec![
                    format!("results/{stem}.json"),
                    format!("results/{stem}.integrity.json"),
                    format!("diffs/{stem}.patch"),
                ];
                if result == "ok" {
                    paths.push(format!("archive/{stem}.json"));
                } else {
                    paths.extend(self.letter(id, places));
                }
                paths
            }
            (_, Some(id)) => self.letter(id, places).into_iter().collect(),
            (_, None) => places.letters(self.short()),
        }
    }

    /// What an executed command's artifacts are called: its id, unless artifacts that are about this very document stand
    /// beside those of another one.
    fn stem(&self, id: &str, places: &dyn Places) -> String {
        let beside = [format!("{id}-{}", self.short()), format!("{id}-{}", self.input_sha256)];
        let own = beside.into_iter().find(|stem| {
            let integrity = format!("results/{stem}.integrity.json");
            places.has(&integrity) && places.is_about(&integrity, &self.input_sha256)
        });
        own.unwrap_or_else(|| id.to_owned())
    }

    /// The dead letter of a document: the one that its hash names, else the one that its id names.
    fn letter(&self, id: &str, places: &dyn Places) -> Option<String> {
        let (short, input) = (self.short(), &self.input_sha256);
        let plain = Some(format!("dead_letter/{id}.json")).filter(|plain| places.has(plain));
        let beside = [format!("dead_letter/{id}-{short}.json"), format!("dead_letter/{id}-{short}-{input}.json")];
        // Such a name may also be another document's id: where there is a choice, the letter itself tells.
        let own = |path: &String| places.has(path) && (plain.is_none() || places.is_about(path, input));
        beside.into_iter().find(own).or(plain)
    }
}

/// What an audit line tells of where its artifacts lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belongings {
    /// When it was written; `None` where it does not say.
    pub at: Option<DateTime<Utc>>,
    /// The flat paths of its artifacts.
    pub paths: Vec<String>,
}

/// The artifacts of an audit line; `None` where it cannot be read.
#[must_use]
pub fn belongings(line: &[u8], places: &dyn Places) -> Option<Belongings> {
    let line: Line = serde_json::from_slice(line).ok()?;
    Some(Belongings { at: parse_rfc3339(&line.ts), paths: line.artifacts(places) })
}

/// The commit that an audit line (with its newline) stands for.
#[must_use]
pub fn derive(line: &str, places: &dyn Places) -> Pending {
    let Ok(parsed) = serde_json::from_str::<Line>(line) else {
        // A line that cannot be read is still part of the log, and the log is published whole.
        return Pending::from_log("bridge: results unknown (exit=70)".to_owned(), Vec::new(), line.to_owned());
    };
    let subject = match (parsed.result.as_str(), &parsed.id) {
        ("ok" | "failed", Some(id)) => format!("bridge: results {id} (exit={})", parsed.exit.unwrap_or_default()),
        (reason, _) => format!("bridge: DLQ {reason}"),
    };
    Pending::from_log(subject, parsed.artifacts(places), line.to_owned())
}

/// Whether the bytes of an integrity file or of a dead letter say that they are about the document of that hash.
#[must_use]
pub fn is_about(bytes: &[u8], input: &str) -> bool {
    #[derive(Deserialize)]
    struct About {
        input_sha256: String,
    }
    serde_json::from_slice::<About>(bytes).is_ok_and(|about| about.input_sha256 == input)
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

    /// Paths, and which document each is about.
    struct Filed(Vec<(&'static str, &'static str)>);

    impl Places for Filed {
        fn has(&self, path: &str) -> bool {
            self.0.iter().any(|(known, _)| *known == path)
        }

        fn is_about(&self, path: &str, input: &str) -> bool {
            self.0.iter().any(|(known, about)| *known == path && *about == input)
        }

        fn letters(&self, short: &str) -> Vec<String> {
            let letters = self.0.iter().map(|(path, _)| *path).filter(|path| path.starts_with("dead_letter/"));
            DeadLetters::new(letters.map(str::to_owned)).of(short).to_vec()
        }
    }

    fn letters() -> Filed {
        Filed(vec![
            ("dead_letter/x.json", "0000000099"),
            ("dead_letter/x-aabbccdd.json", "aabbccdd99"),
            ("dead_letter/odd_name-11223344.json", "1122334499"),
        ])
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
    fn artifacts_that_stand_beside_others_are_found_and_another_ids_are_not_taken() {
        let places = Filed(vec![("results/x-aabbccdd.integrity.json", "aabbccdd99"), ("archive/x.json", "")]);
        let own = derive(&line("\"x\"", "ok", "0", "aabbccdd99"), &places);
        assert_eq!(own.artifacts[0], "results/x-aabbccdd.json");
        assert_eq!(own.artifacts[3], "archive/x-aabbccdd.json");
        assert_eq!(own.subject, "bridge: results x (exit=0)");
        // A command whose id is spelled like that.
        let other = derive(&line("\"x\"", "ok", "0", "aabbccdd11"), &places);
        assert_eq!(other.artifacts[0], "results/x.json");
        let long = [("dead_letter/y-aabbccdd-aabbccdd00.json", ""), ("dead_letter/y-aabbccdd.json", "aabbccdd11")];
        let letter = |places: &[(&'static str, &'static str)]| {
            derive(&line("\"y\"", "schema", "null", "aabbccdd00"), &Filed(places.to_vec())).artifacts
        };
        assert_eq!(letter(&long[..1]), ["dead_letter/y-aabbccdd-aabbccdd00.json"]);
        let claimed = [("dead_letter/y.json", "aabbccdd00"), long[1]];
        assert_eq!(letter(&claimed), ["dead_letter/y.json"], "the other is about another document");
        assert_eq!(digits("dead_letter/y-aabbccdd-aabbccdd00.json"), Some("aabbccdd"));
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
