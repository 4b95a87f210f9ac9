//! The id of a command: the one name under which all its artifacts are filed.
//!
//! A [`CommandId`] is fit to be a file's name in any of the bridge's folders, because of what it may hold and of the
//! endings it may not have. This module never decides whether an id is free; that is the ledger's.

use std::fmt;

use serde::{Serialize, Serializer};

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Endings that would let one command's artifact take the name of another's: `results/x.integrity.json` belongs to
/// `x`, not to `x.integrity`.
const RESERVED_ENDINGS: [&str; 2] = [".integrity", ".json"];

/// A valid command id: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`, not ending in `.integrity` or `.json` in any case
/// (contract, section 3).
///
/// Equality, order and hash go by the exact text. Ids that differ in case only count as the same command: compare
/// [`CommandId::folded`] where that matters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(String);

impl CommandId {
    /// Reads an id.
    ///
    /// # Errors
    /// An [`IdFault`] that names the rule which `text` breaks.
    pub fn parse(text: &str) -> Result<Self, IdFault> {
        let mut characters = text.chars();
        match characters.next() {
            None => return Err(IdFault::Empty),
            Some(first) if !first.is_ascii_alphanumeric() => return Err(IdFault::Start(first)),
            Some(_) => {}
        }
        if text.len() > MAX_ID_BYTES {
            return Err(IdFault::TooLong(text.len()));
        }
        if let Some(odd) = characters.find(|c| !matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '-')) {
            return Err(IdFault::Character(odd));
        }
        let folded = text.to_ascii_lowercase();
        if let Some(ending) = RESERVED_ENDINGS.into_iter().find(|ending| folded.ends_with(ending)) {
            return Err(IdFault::Ending(ending));
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id in lower case: two commands whose ids fold alike bear the same id.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for CommandId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Why a text is no command id. Displays as one sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdFault {
    /// There is nothing.
    #[error("an id must have at least one character")]
    Empty,
    /// It is longer than [`MAX_ID_BYTES`]; the length in bytes.
    #[error("an id must have at most {MAX_ID_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// The first character is no ASCII letter or digit.
    #[error("an id must start with an ASCII letter or digit, not with {0:?}")]
    Start(char),
    /// A later character is none of those allowed.
    #[error("an id may hold ASCII letters, digits, '.', '_' and '-' only, not {0:?}")]
    Character(char),
    /// It ends as an artifact's name does.
    #[error("an id must not end in {0:?}, in upper or lower case")]
    Ending(&'static str),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn good_ids_are_kept_as_sent() {
        let longest = "a".repeat(MAX_ID_BYTES);
        for text in
            ["a", "Z", "0", "2026-11-23T09.00_x", "a.", "a-", "a.json.b", "json", "integrity", "a.integrity2", &longest]
        {
            let id = CommandId::parse(text).unwrap();
            assert_eq!(id.as_str(), text);
            assert_eq!(id.to_string(), text);
            assert_eq!(serde_json::to_value(&id).unwrap(), text);
        }
    }

    #[test]
    fn each_rule_is_named() {
        let long = "a".repeat(MAX_ID_BYTES + 1);
        let cases: Vec<(&str, IdFault)> = vec![
            ("", IdFault::Empty),
            (&long, IdFault::TooLong(MAX_ID_BYTES + 1)),
            (".a", IdFault::Start('.')),
            ("-a", IdFault::Start('-')),
            ("_a", IdFault::Start('_')),
            ("/a", IdFault::Start('/')),
            ("..", IdFault::Start('.')),
            ("é", IdFault::Start('é')),
            ("١", IdFault::Start('١')),
            ("a/b", IdFault::Character('/')),
            ("a\\b", IdFault::Character('\\')),
            ("a b", IdFault::Character(' ')),
            ("a\n", IdFault::Character('\n')),
            ("a\0", IdFault::Character('\0')),
            ("aé", IdFault::Character('é')),
            ("a\u{200d}", IdFault::Character('\u{200d}')),
            ("a.json", IdFault::Ending(".json")),
            ("a.JSON", IdFault::Ending(".json")),
            ("a.integrity", IdFault::Ending(".integrity")),
            ("a.InTegrity", IdFault::Ending(".integrity")),
        ];
        for (text, fault) in cases {
            assert_eq!(CommandId::parse(text), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn faults_read_as_one_printable_sentence() {
        assert_eq!(
            CommandId::parse("a\u{1b}").unwrap_err().to_string(),
            "an id may hold ASCII letters, digits, '.', '_' and '-' only, not '\\u{1b}'"
        );
    }

    #[test]
    fn ids_that_differ_in_case_fold_alike_and_stay_different() {
        let (upper, lower) = (CommandId::parse("Fix-1").unwrap(), CommandId::parse("fix-1").unwrap());
        assert_eq!(upper.folded(), lower.folded());
        assert_ne!(upper, lower);
    }
}
