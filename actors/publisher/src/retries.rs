//! `meta/retries.json`: which commands failed for a passing cause, how often, and why last.
//!
//! Pure, and bounded in every direction: how many commands, how long a reason.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, Utc};
use protocol::id::CommandId;
use protocol::message::Attempt;
use serde::{Deserialize, Serialize};

use crate::audit::Settlement;

/// Where the index lies, beneath CLOUD.
pub const RETRIES_PATH: &str = "meta/retries.json";

/// The most commands that the index holds: twice what can be in flight at once. Beyond that the oldest goes, which costs
/// that command's count after a restart and nothing else.
pub const MAX_ENTRIES: usize = 4_096;

/// The longest reason that is kept, in bytes; the rest is cut off.
pub const MAX_ERROR_BYTES: usize = 512;

/// The largest index that is read, in bytes. A full one, every byte of it escaped, is smaller.
pub const MAX_INDEX_BYTES: u64 = 8 << 20;

/// Digits after the second that the index and the audit log write.
const MILLISECONDS: u16 = 3;

/// One command's failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often execution was tried.
    pub attempts: u32,
    /// Why it failed last: one line.
    pub last_error: String,
    /// When it failed last, RFC 3339.
    #[serde(with = "instant")]
    pub last_ts: DateTime<Utc>,
}

/// An index that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is no JSON, or other JSON.
    #[error("it is no index ({0})")]
    Json(#[from] serde_json::Error),
    /// A key is no id.
    #[error("{0:?} is no command's id")]
    Id(String),
    /// It holds more than is ever written.
    #[error("it holds {0} commands, more than {MAX_ENTRIES}")]
    TooMany(usize),
}

/// The whole index, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retries(BTreeMap<String, Retry>);

impl Retries {
    /// Reads the index.
    ///
    /// # Errors
    /// When the bytes are no index that was written here.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut entries: BTreeMap<String, Retry> = serde_json::from_slice(bytes)?;
        if let Some(id) = entries.keys().find(|id| CommandId::parse(id).is_err()) {
            return Err(Unreadable::Id(one_line(id)));
        }
        if entries.len() > MAX_ENTRIES {
            return Err(Unreadable::TooMany(entries.len()));
        }
        entries.values_mut().for_each(|entry| entry.last_error = one_line(&entry.last_error));
        Ok(Self(entries))
    }

    /// The index's bytes: `{}` when empty, else indented, with a newline at the end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers always serialise.
        let mut bytes = serde_json::to_vec_pretty(&self.0).unwrap_or_else(|_| b"{}".to_vec());
        bytes.push(b'\n');
        bytes
    }

    /// Notes a failed try. The count is the message's own: whoever tries knows how often.
    pub fn record(&mut self, attempt: &Attempt) {
        let Attempt { id, attempts, error, at } = attempt;
        let entry = Retry { attempts: *attempts, last_error: one_line(error), last_ts: at.trunc_subsecs(MILLISECONDS) };
        self.0.insert(id.as_str().to_owned(), entry);
        self.make_room();
    }

    /// Takes in what another one holds; where both have an entry, the other's is the newer one.
    pub fn absorb(&mut self, other: Self) {
        self.0.extend(other.0);
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.0.len() > MAX_ENTRIES {
            let oldest = self.0.iter().min_by_key(|(_, entry)| entry.last_ts).map(|(id, _)| id.clone());
            let Some(oldest) = oldest else { return };
            self.0.remove(&oldest);
        }
    }

    /// The command is settled: its entry goes. Tells whether there was one.
    pub fn settle(&mut self, id: &str) -> bool {
        self.0.remove(id).is_some()
    }

    /// The same for what was settled at a time that is not known to be after the last try: an old refusal does not
    /// settle a command that came again under its id and is being tried now.
    pub fn settle_by(&mut self, settlement: &Settlement) -> bool {
        let Settlement { id, executed, at } = settlement;
        let later = |entry: &Retry| at.is_some_and(|at| at >= entry.last_ts);
        let ends = self.0.get(id).is_some_and(|entry| *executed || later(entry));
        ends && self.settle(id)
    }

    /// A command's entry.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Retry> {
        self.0.get(id)
    }

    /// When the first of the last failures was; `None` where there is none.
    #[must_use]
    pub fn oldest(&self) -> Option<DateTime<Utc>> {
        self.0.values().map(|entry| entry.last_ts).min()
    }

    /// How often each command was tried.
    #[must_use]
    pub fn into_attempts(self) -> BTreeMap<String, u32> {
        self.0.into_iter().map(|(id, entry)| (id, entry.attempts)).collect()
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

/// The name, in the same folder, under which an unreadable index is kept; `number` tells those of one instant apart.
#[must_use]
pub fn bad_name(now: DateTime<Utc>, number: u32) -> String {
    let time = now.format("%Y%m%dT%H%M%S%.3fZ");
    if number == 0 { format!("retries.json.bad-{time}") } else { format!("retries.json.bad-{time}-{number}") }
}

/// A text as the index keeps it: without line breaks and other control characters, and no longer than
/// [`MAX_ERROR_BYTES`].
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() + c.len_utf8() > MAX_ERROR_BYTES {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

/// Instants, spelled as in every artifact.
mod instant {
    use chrono::{DateTime, SubsecRound, Utc};
    use protocol::time::{format_utc, parse_rfc3339};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_utc(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at = parse_rfc3339(&text).map(|at| at.trunc_subsecs(super::MILLISECONDS));
        at.ok_or_else(|| D::Error::custom("last_ts is no RFC 3339 instant"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn attempt(id: &str, attempts: u32, error: &str, seconds: i64) -> Attempt {
        Attempt { id: CommandId::parse(id).unwrap(), attempts, error: error.to_owned(), at: at(seconds) }
    }

    #[test]
    fn the_count_is_the_messages_and_the_entry_goes_when_the_command_is_settled() {
        let mut retries = Retries::parse(b"{}").unwrap();
        retries.record(&attempt("x", 3, "io_error: no space", 0));
        retries.record(&attempt("x", 4, "io_error: still\nno \u{7}space", 1));
        let entry = retries.get("x").unwrap();
        assert_eq!((entry.attempts, entry.last_error.as_str()), (4, "io_error: still no  space"));
        let text = String::from_utf8(retries.to_bytes()).unwrap();
        assert!(text.contains("\"last_ts\": \"1970-01-01T00:00:01.000Z\"") && text.ends_with("}\n"), "{text}");
        assert_eq!(Retries::parse(text.as_bytes()).unwrap(), retries);
        assert_eq!(retries.clone().into_attempts(), BTreeMap::from([("x".to_owned(), 4)]));
        assert!(retries.settle("x") && !retries.settle("x"));
        assert_eq!(retries.to_bytes(), b"{}\n");
    }

    #[test]
    fn an_old_refusal_settles_nothing_but_an_execution_does() {
        let line = |executed, seconds: Option<i64>| Settlement { id: "x".to_owned(), executed, at: seconds.map(at) };
        let settles = |settlement: &Settlement| {
            let mut retries = Retries::default();
            retries.record(&attempt("x", 1, "io_error", 10));
            retries.settle_by(settlement)
        };
        assert!(settles(&line(true, None)) && settles(&line(true, Some(9))));
        assert!(settles(&line(false, Some(10))) && settles(&line(false, Some(11))));
        assert!(!settles(&line(false, Some(9))) && !settles(&line(false, None)));
        assert!(!Retries::default().settle_by(&line(true, None)));
    }

    #[test]
    fn when_it_is_full_the_oldest_goes_and_it_still_reads_back() {
        let mut retries = Retries::default();
        let full = i64::try_from(MAX_ENTRIES).unwrap();
        // Each byte of the reason takes two in the file.
        let long = "\"".repeat(10_000);
        let id = |n: i64| format!("{n:0>128}");
        for n in 0..full {
            retries.record(&attempt(&id(n), u32::MAX, &long, full - n));
        }
        assert_eq!((retries.len(), retries.oldest()), (MAX_ENTRIES, Some(at(1))));
        retries.record(&attempt("new", 1, "io_error", full + 1));
        assert_eq!((retries.len(), retries.get(&id(full - 1))), (MAX_ENTRIES, None));
        let mut other = Retries::default();
        other.record(&attempt("newer", 2, "io_error", full + 2));
        other.record(&attempt("new", 2, "io_error", full + 2));
        retries.absorb(other);
        assert_eq!((retries.len(), retries.oldest()), (MAX_ENTRIES, Some(at(3))));
        assert_eq!(retries.get("new").unwrap().attempts, 2);
        let bytes = retries.to_bytes();
        assert!((bytes.len() as u64) < MAX_INDEX_BYTES, "{}", bytes.len());
        assert_eq!(Retries::parse(&bytes).unwrap(), retries);
    }

    #[test]
    fn anything_else_is_unreadable() {
        let entry = |id: &str, rest: &str| format!("{{\"{id}\": {{\"attempts\": 1, \"last_error\": \"\", {rest}}}}}");
        let good = "\"last_ts\": \"2026-01-02T03:04:05Z\"";
        assert!(Retries::parse(entry("x", good).as_bytes()).is_ok());
        let many: Vec<String> = (0..=MAX_ENTRIES).map(|n| entry(&format!("x{n}"), good)).collect();
        let many = format!("{{{}}}", many.iter().map(|one| &one[1..one.len() - 1]).collect::<Vec<_>>().join(","));
        for text in [
            "",
            "[]",
            "{\"x\": 1}",
            "{} {}",
            &entry("../x", good),
            &entry("", good),
            &entry("x", "\"last_ts\": \"t\""),
            &entry("x", &format!("{good}, \"more\": 1")),
            &entry("x", good).replace("\"attempts\": 1", "\"attempts\": -1"),
            &many,
        ] {
            assert!(Retries::parse(text.as_bytes()).is_err(), "{:.200}", text);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_noted_stays_one_bounded_line_and_reads_back(
            notes in prop::collection::vec(("[A-Za-z0-9]{1,3}", any::<u32>(), ".{0,600}", 0i64..4_000_000_000), 0..20),
            settled in prop::collection::vec("[A-Za-z0-9]{1,3}", 0..5),
        ) {
            let mut retries = Retries::default();
            for (id, attempts, error, seconds) in &notes {
                retries.record(&attempt(id, *attempts, error, *seconds));
            }
            for id in &settled {
                retries.settle(id);
            }
            for (id, attempts, ..) in &notes {
                let last = notes.iter().rfind(|note| note.0 == *id).map(|note| note.1);
                let entry = retries.get(id);
                prop_assert_eq!(entry.is_none(), settled.contains(id));
                prop_assert!(entry.is_none_or(|entry| Some(entry.attempts) == last), "{} {}", id, attempts);
                let bounded = |text: &str| text.len() <= MAX_ERROR_BYTES && !text.chars().any(char::is_control);
                prop_assert!(entry.is_none_or(|entry| bounded(&entry.last_error)));
            }
            prop_assert_eq!(Retries::parse(&retries.to_bytes()).unwrap(), retries);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(retries) = Retries::parse(&bytes) {
                prop_assert_eq!(Retries::parse(&retries.to_bytes()).unwrap(), retries);
            }
        }
    }
}
