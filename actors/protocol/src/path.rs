//! Paths below a target's root, as commands may write them.
//!
//! A [`RelativePath`] keeps every rule of the contract, section 4, that its text alone can keep: it leads nowhere but
//! down, and it means the same file on Linux, macOS and Windows, however their file systems fold case, normalise or
//! ignore characters. What needs a look at the disk or at the target (links, siblings that differ in case only, denied
//! globs and folders) is not judged here.

use std::fmt;

use serde::{Serialize, Serializer};
use unicode_normalization::{UnicodeNormalization, is_nfkc};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::json::quoted;
use crate::reason::Reason;

/// The longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 4_096;

/// The longest component of a path, in bytes.
pub const MAX_COMPONENT_BYTES: usize = 255;

/// What Windows takes for a device, whatever the extension; `COM` and `LPT` with a digit come on top.
const DEVICE_NAMES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// The devices that carry a digit from 0 to 9. Their superscript digits are no concern: NFKC changes those.
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// Characters that are invisible by design although Unicode counts them among letters or marks (those that it counts
/// as format characters or leaves unassigned fall under [`GeneralCategory`]): joiners, fillers, variation selectors.
const INVISIBLE: [std::ops::RangeInclusive<char>; 9] = [
    '\u{34f}'..='\u{34f}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180d}',
    '\u{180f}'..='\u{180f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{e0100}'..='\u{e01ef}',
];

/// A path that is relative, goes down only, and is portable: one or more components with a `/` between each two.
///
/// Equality, order and hash go by the exact text; compare [`RelativePath::fold`] where case must not matter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

impl RelativePath {
    /// Reads a path. A rule against leaving the root ([`Reason::PathEscape`]) is named before any other that is broken
    /// as well.
    ///
    /// # Errors
    /// A [`PathFault`] with the rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, PathFault> {
        if text.is_empty() {
            return Err(PathFault::new(PathRule::EmptyPath, text));
        }
        if text.starts_with('/') {
            return Err(PathFault::new(PathRule::Absolute, text));
        }
        for component in text.split('/') {
            match component {
                "" => return Err(PathFault::new(PathRule::EmptyComponent, text)),
                "." => return Err(PathFault::new(PathRule::CurrentFolder, text)),
                ".." => return Err(PathFault::new(PathRule::ParentFolder, text)),
                _ => {}
            }
        }
        if text.len() > MAX_PATH_BYTES {
            return Err(PathFault::new(PathRule::PathTooLong, text));
        }
        for component in text.split('/') {
            if let Some(rule) = broken_rule(component) {
                return Err(PathFault::new(rule, component));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The path as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components from the root down; at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The folder that holds it; `None` where that is the root itself.
    #[must_use]
    pub fn parent(&self) -> Option<RelativePath> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// The last component.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// Whether its first component folds to `first_component_folded`: whether the path is that folder of the root, or
    /// lies somewhere below it.
    #[must_use]
    pub fn is_beneath(&self, first_component_folded: &str) -> bool {
        self.components().next().is_some_and(|first| fold(first) == first_component_folded)
    }

    /// The path folded for comparison, see [`fold`].
    #[must_use]
    pub fn fold(&self) -> String {
        fold(&self.0)
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RelativePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Folds a name or path so that two which any common file system takes for the same fold to the same text.
///
/// It is NFKC, then lower, upper and lower case again, character by character, then NFKC: the detour through upper
/// case makes one of `ς` and `σ`, or of `ß` and `ss`, as lower-casing alone does not.
#[must_use]
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfkc().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

/// The first rule that a component, which is neither empty nor `.` nor `..`, breaks by itself.
fn broken_rule(component: &str) -> Option<PathRule> {
    if component.len() > MAX_COMPONENT_BYTES {
        return Some(PathRule::ComponentTooLong);
    }
    if let Some(rule) = component.chars().find_map(forbidden_character) {
        return Some(rule);
    }
    if !is_nfkc(component) {
        return Some(PathRule::NotNormalised);
    }
    match component.as_bytes() {
        [b'.', ..] => return Some(PathRule::LeadingDot),
        [b'-', ..] => return Some(PathRule::LeadingHyphen),
        [b'~', ..] => return Some(PathRule::LeadingTilde),
        [b' ', ..] | [.., b' '] => return Some(PathRule::OuterSpace),
        [.., b'.'] => return Some(PathRule::TrailingDot),
        _ => {}
    }
    // Windows looks for devices and short names in what stands before the first dot.
    let stem = component.split('.').next().unwrap_or(component).trim_end_matches(' ');
    if is_device(stem) {
        Some(PathRule::DeviceName)
    } else if is_short_name(stem) {
        Some(PathRule::ShortName)
    } else {
        None
    }
}

fn forbidden_character(character: char) -> Option<PathRule> {
    match character {
        '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => return Some(PathRule::ReservedCharacter),
        ' '..='~' => return None,
        _ => {}
    }
    if character.is_control() {
        return Some(PathRule::ControlCharacter);
    }
    if character.is_whitespace() {
        return Some(PathRule::WhiteSpace);
    }
    if INVISIBLE.iter().any(|range| range.contains(&character)) {
        return Some(PathRule::InvisibleCharacter);
    }
    match character.general_category() {
        GeneralCategory::Format => Some(PathRule::InvisibleCharacter),
        // Private ones stand for forbidden ones on some systems (U+F03A for ':' on an SMB share); of an unassigned one
        // nobody can say that NFKC will leave it unchanged.
        GeneralCategory::PrivateUse | GeneralCategory::Unassigned | GeneralCategory::Surrogate => {
            Some(PathRule::UnassignedCharacter)
        }
        _ => None,
    }
}

fn is_device(stem: &str) -> bool {
    let stem = stem.to_ascii_lowercase();
    let numbered =
        |device: &str| stem.strip_prefix(device).is_some_and(|number| matches!(number.as_bytes(), [b'0'..=b'9']));
    DEVICE_NAMES.contains(&stem.as_str()) || NUMBERED_DEVICES.into_iter().any(numbered)
}

/// Whether a stem ends in a tilde and digits, as the short names that Windows makes up do (`GIT~1` opens `.git`).
fn is_short_name(stem: &str) -> bool {
    let bare = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    bare.len() < stem.len() && bare.ends_with('~')
}

/// Why a text is no path that a command may use. Displays as one sentence without a full stop that names the rule and
/// shows, escaped and shortened, what broke it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {shown}")]
pub struct PathFault {
    rule: PathRule,
    shown: String,
}

impl PathFault {
    fn new(rule: PathRule, text: &str) -> Self {
        let mut shown = String::new();
        for character in quoted(text).chars() {
            // Quoting leaves some characters alone that nobody can see.
            if !character.is_ascii() && forbidden_character(character).is_some() {
                shown.extend(character.escape_unicode());
            } else {
                shown.push(character);
            }
        }
        Self { rule, shown }
    }

    /// The rule that was broken.
    #[must_use]
    pub fn rule(&self) -> PathRule {
        self.rule
    }

    /// The reason for which such a path rejects a command: [`Reason::PathEscape`] where the path has no place below a
    /// root, [`Reason::PathDenied`] for a place that may not be used.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self.rule {
            PathRule::EmptyPath
            | PathRule::Absolute
            | PathRule::EmptyComponent
            | PathRule::CurrentFolder
            | PathRule::ParentFolder => Reason::PathEscape,
            _ => Reason::PathDenied,
        }
    }
}

/// The lexical rules of paths; each displays as the rule in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathRule {
    /// There is no path.
    #[error("a path must not be empty")]
    EmptyPath,
    /// It starts with `/`.
    #[error("a path must be relative")]
    Absolute,
    /// Two `/` in a row, or one at the end.
    #[error("a path must have no empty component")]
    EmptyComponent,
    /// A component `.`.
    #[error("a path must have no component \".\"")]
    CurrentFolder,
    /// A component `..`.
    #[error("a path must have no component \"..\"")]
    ParentFolder,
    /// Over [`MAX_PATH_BYTES`].
    #[error("a path must have at most {MAX_PATH_BYTES} bytes")]
    PathTooLong,
    /// Over [`MAX_COMPONENT_BYTES`].
    #[error("a path's component must have at most {MAX_COMPONENT_BYTES} bytes")]
    ComponentTooLong,
    /// One of ``\ : * ? " < > |``.
    #[error("a path's component must hold none of \\ : * ? \" < > |")]
    ReservedCharacter,
    /// A control character.
    #[error("a path's component must hold no control character")]
    ControlCharacter,
    /// White space other than U+0020.
    #[error("a path's component must hold no white space but the plain space")]
    WhiteSpace,
    /// A format, bidi or zero-width character.
    #[error("a path's component must hold no format, bidi or zero-width character")]
    InvisibleCharacter,
    /// A code point for private use, or one that is not assigned.
    #[error("a path's component must hold no private or unassigned character")]
    UnassignedCharacter,
    /// NFKC makes something else of it.
    #[error("a path's component must be in Unicode normalisation form NFKC")]
    NotNormalised,
    /// It begins with a dot.
    #[error("a path's component must not begin with a dot")]
    LeadingDot,
    /// It begins with `-`, and could be taken for an option.
    #[error("a path's component must not begin with '-'")]
    LeadingHyphen,
    /// It begins with `~`, and could be taken for a home folder.
    #[error("a path's component must not begin with '~'")]
    LeadingTilde,
    /// A space at its begin or end.
    #[error("a path's component must neither begin nor end with a space")]
    OuterSpace,
    /// A dot at its end, which Windows drops.
    #[error("a path's component must not end with a dot")]
    TrailingDot,
    /// A device on Windows, with or without an extension.
    #[error("a path's component must not be a Windows device name")]
    DeviceName,
    /// What Windows could take for the short name of another file.
    #[error("a path's component must not look like a Windows short name, '~' and digits")]
    ShortName,
}

#[cfg(test)]
#[path = "path/tests.rs"]
mod tests;
