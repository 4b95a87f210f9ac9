//! The header of one file's patch: names, modes, and what happens to the file.

use super::names::{self, Ends, stripped, unquote, whole};
use super::{Body, FilePatch, Name, shown};

/// The longest `diff --git` line that is searched for names, in bytes: two quoted paths of 4,096 bytes fit.
const MAX_NAMES_BYTES: usize = 64 * 1024;
/// Said where git apply would guess.
const NO_NAME: &str = "the header gives the file no name; write --- a/path and +++ b/path";

/// What was wrong with a header line.
pub(super) type Fault = String;

/// Reads git's header line by line.
#[derive(Debug)]
pub(super) struct GitHeader {
    /// The name of the `diff --git` line, where it has the same name twice.
    default: Option<Name>,
    /// Whether names have a first component (`a/`, `b/`) that goes.
    strips: bool,
    deletes: bool,
    /// Whether a line says that content changes, so that hunks or bytes must follow.
    promises: bool,
    patch: FilePatch,
}

/// The blob ids of an empty file, in either of git's formats.
const EMPTY_BLOBS: [&str; 2] =
    ["e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813"];

pub(super) fn blank(line: usize) -> FilePatch {
    FilePatch {
        old: None,
        new: None,
        creates: None,
        deletes: false,
        takes_all: false,
        otherwise: None,
        renames: false,
        copies: false,
        old_mode: None,
        new_mode: None,
        ids: None,
        body: Body::Text(Vec::new()),
        line,
    }
}

impl GitHeader {
    /// Starts with what follows `diff --git `.
    pub(super) fn new(rest: &[u8], line: usize) -> Self {
        let rest = rest.strip_suffix(b"\n").unwrap_or(rest);
        let as_it_is = doubled(rest, false);
        let is_prefixed = as_it_is.as_ref().is_none_or(|name| name.starts_with(b"a/") || name.starts_with(b"b/"));
        let default = if is_prefixed { doubled(rest, true) } else { as_it_is };
        Self {
            default: default.map(Name),
            strips: is_prefixed,
            deletes: false,
            promises: false,
            patch: FilePatch { creates: Some(false), ..blank(line) },
        }
    }

    /// Takes one line; `false` where the header ends before it.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<bool, Fault> {
        let has = |keyword: &str| line.strip_prefix(keyword.as_bytes());
        let patch = &mut self.patch;
        if let Some(rest) = has("--- ") {
            if names::is_null(rest) && !self.deletes && !patch.renames && !patch.copies {
                (patch.creates, patch.old) = (Some(true), None);
            }
            Self::side("---", &mut patch.old, rest, patch.creates == Some(true), self.strips)?;
            self.agrees("---")?;
        } else if let Some(rest) = has("+++ ") {
            if names::is_null(rest) && patch.creates != Some(true) && !patch.renames && !patch.copies {
                self.deletes = true;
            }
            Self::side("+++", &mut patch.new, rest, self.deletes, self.strips)?;
            self.agrees("+++")?;
        } else if let Some(rest) = has("old mode ") {
            patch.old_mode = Some(mode(rest)?);
        } else if let Some(rest) = has("new mode ") {
            patch.new_mode = Some(mode(rest)?);
        } else if let Some(rest) = has("deleted file mode ") {
            self.deletes = true;
            patch.old = self.default.clone();
            patch.old_mode = Some(mode(rest)?);
        } else if let Some(rest) = has("new file mode ") {
            patch.creates = Some(true);
            patch.new = self.default.clone();
            patch.new_mode = Some(mode(rest)?);
        } else if let Some(rest) = has("copy from ") {
            (patch.copies, patch.old) = (true, full(rest));
        } else if let Some(rest) = has("copy to ") {
            (patch.copies, patch.new) = (true, full(rest));
        } else if let Some(rest) = has("rename from ").or_else(|| has("rename old ")) {
            (patch.renames, patch.old) = (true, full(rest));
        } else if let Some(rest) = has("rename to ").or_else(|| has("rename new ")) {
            (patch.renames, patch.new) = (true, full(rest));
        } else if let Some(rest) = has("index ") {
            self.index(rest)?;
        } else if let Some(rest) = has("similarity index ") {
            self.promises |= !rest.starts_with(b"100%");
        } else if has("dissimilarity index ").is_some() {
            self.promises = true;
        } else {
            return Ok(false);
        }
        self.promises |= line.starts_with(b"--- ") || line.starts_with(b"+++ ");
        let kinds = [self.deletes, self.patch.creates == Some(true), self.patch.renames, self.patch.copies];
        if kinds.into_iter().filter(|it| *it).count() > 1 {
            return Err("contradicts a header line before it: a file is made, deleted, renamed or copied".to_owned());
        }
        Ok(true)
    }

    /// The name of one side: it must be the one that is known already, or `/dev/null` where there is no file.
    fn side(sign: &str, known: &mut Option<Name>, rest: &[u8], is_none: bool, strips: bool) -> Result<(), Fault> {
        if names::is_null(rest) != is_none {
            return Err(if is_none {
                format!("{sign} must be /dev/null, as an earlier header line says")
            } else {
                format!("{sign} is /dev/null, but no \"new file mode\" or \"deleted file mode\" line says so")
            });
        }
        if is_none {
            return Ok(());
        }
        let name = whole(rest, Ends::Tab);
        let found = name.as_deref().and_then(|name| stripped(name, strips));
        match known {
            // Renames give the names without prefix, so a diff without prefixes shows here at the latest.
            Some(known) if found == Some(known.as_bytes()) || name.as_deref() == Some(known.as_bytes()) => Ok(()),
            Some(known) => Err(format!("{sign} names another file than {known}, which an earlier header line names")),
            None => {
                *known = Some(Name(found.ok_or(NO_NAME)?.to_vec()));
                Ok(())
            }
        }
    }

    /// Whether `---` and `+++` name the file of the `diff --git` line, where that names one on both sides.
    fn agrees(&self, sign: &str) -> Result<(), Fault> {
        let (Some(default), false) = (&self.default, self.patch.renames || self.patch.copies) else { return Ok(()) };
        let found = if sign == "---" { &self.patch.old } else { &self.patch.new };
        match found {
            Some(found) if found != default => {
                Err(format!("the header names two files: {sign} {found}, the \"diff --git\" line {default}"))
            }
            _ => Ok(()),
        }
    }

    /// `<id>..<id>[ <mode>]`; anything else is let pass, as git does.
    fn index(&mut self, rest: &[u8]) -> Result<(), Fault> {
        let Ok(text) = std::str::from_utf8(rest) else { return Ok(()) };
        let Some((before, text)) = text.split_once("..") else { return Ok(()) };
        let (after, mode_text) = text.split_once(' ').map_or((text, None), |(after, mode)| (after, Some(mode)));
        self.patch.ids = Some((before.to_owned(), after.trim_end().to_owned()));
        if let Some(text) = mode_text {
            self.patch.old_mode = Some(mode(text.as_bytes())?);
        }
        Ok(())
    }

    /// The patch, without its body, and whether the header says that there is one.
    pub(super) fn finish(self) -> Result<(FilePatch, bool), Fault> {
        let mut patch = self.patch;
        let promises = self.promises
            || patch.ids.as_ref().is_some_and(|(before, after)| match patch.creates {
                Some(true) => !EMPTY_BLOBS.iter().any(|empty| empty.starts_with(after.as_str())),
                _ => !self.deletes && before != after,
            });
        if patch.old.is_none() && patch.new.is_none() {
            let name = self.default.ok_or(NO_NAME)?;
            (patch.old, patch.new) = (Some(name.clone()), Some(name));
        }
        if patch.new.is_none() && !self.deletes || patch.old.is_none() && patch.creates != Some(true) {
            return Err("the header names one side of the file only; write both --- and +++".to_owned());
        }
        if patch.old.is_some() && patch.new.is_some() && patch.old != patch.new && !patch.renames && !patch.copies {
            return Err("the header names two files, but has no rename or copy lines".to_owned());
        }
        patch.deletes = self.deletes;
        if self.deletes {
            patch.new = None;
        }
        if patch.creates == Some(true) {
            patch.old = None;
        }
        Ok((patch, promises))
    }
}

/// A name that carries no prefix.
fn full(rest: &[u8]) -> Option<Name> {
    whole(rest, Ends::Line).map(Name)
}

/// A mode: octal digits up to white space.
fn mode(rest: &[u8]) -> Result<u32, Fault> {
    let digits = rest.iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let (octal, tail) = rest.split_at_checked(digits).unwrap_or((rest, &[]));
    let mode = std::str::from_utf8(octal).ok().and_then(|octal| u32::from_str_radix(octal, 8).ok());
    match mode {
        Some(mode) if tail.first().is_some_and(u8::is_ascii_whitespace) => Ok(mode),
        _ => Err(format!("has no valid mode: {}", shown(rest))),
    }
}

/// The name that a `diff --git` line holds twice. It must be found reliably only where no other line tells it: where
/// just the mode changes, or an empty file comes or goes.
fn doubled(rest: &[u8], strips: bool) -> Option<Vec<u8>> {
    if rest.len() > MAX_NAMES_BYTES {
        return None;
    }
    if let Some((first, tail)) = unquote(rest) {
        let first = stripped(&first, strips)?.to_vec();
        let tail = tail.trim_ascii_start();
        let second = match unquote(tail) {
            Some((second, _)) => second,
            None => tail.to_vec(),
        };
        return (stripped(&second, strips)? == first).then_some(first);
    }
    let name = stripped(rest, strips)?;
    if let Some(quote) = memchr::memchr(b'"', name) {
        // The first name is not quoted, so this is the begin of the second.
        let (first, second) = name.split_at_checked(quote)?;
        let (second, _) = unquote(second)?;
        let second = stripped(&second, strips)?;
        return (first.strip_suffix(b" ")? == second).then(|| second.to_vec());
    }
    // Any blank may separate the two.
    memchr::memchr2_iter(b' ', b'\t', name).find_map(|blank| {
        let (first, second) = (name.get(..blank)?, name.get(blank + 1..)?);
        (stripped(second, strips)? == first).then(|| first.to_vec())
    })
}

/// The names of a plain diff's two sides where these are not the same: nothing can be done with them, but they can be
/// judged.
pub(super) fn both(first: &[u8], second: &[u8], line: usize) -> FilePatch {
    let name = |text, prefix: &[u8]| {
        let name = names::whole_traditional(text).filter(|_| !names::is_null(text))?;
        let rest = name.strip_prefix(prefix).map_or_else(|| name.clone(), <[u8]>::to_vec);
        (!rest.is_empty()).then_some(Name(rest))
    };
    FilePatch { old: name(first, b"a/"), new: name(second, b"b/"), creates: Some(false), ..blank(line) }
}

/// Reads a plain diff's `---` and `+++` lines, given what follows the signs.
pub(super) fn traditional(first: &[u8], second: &[u8], line: usize) -> Result<FilePatch, Fault> {
    let read = |text| if names::is_null(text) { None } else { Some(names::whole_traditional(text)) };
    let (old, new) = (read(first), read(second));
    let (old, new) = match (old, new) {
        (None, None) => return Err("both sides are /dev/null".to_owned()),
        (Some(None), _) | (_, Some(None)) => return Err(NO_NAME.to_owned()),
        (old, new) => (old.flatten(), new.flatten()),
    };
    let (has_old, has_new) = (old.is_some(), new.is_some());
    let is_doubled = old == new;
    let name = Name(same_name(old, new)?);
    let patch = blank(line);
    Ok(if !has_old || has_new && names::is_epoch(first) {
        FilePatch { new: Some(name), creates: Some(true), ..patch }
    } else if !has_new || names::is_epoch(second) {
        FilePatch { old: Some(name), creates: Some(false), deletes: true, ..patch }
    } else {
        let plain = [&b"a/"[..], b"b/"].iter().find_map(|prefix| name.as_bytes().strip_prefix(*prefix));
        let otherwise = plain.filter(|rest| !rest.is_empty() && is_doubled).map(|rest| Name(rest.to_vec()));
        FilePatch { old: Some(name.clone()), new: Some(name), otherwise, ..patch }
    })
}

/// What git writes before the names of the two sides, by its default and by `diff.mnemonicPrefix`.
const PREFIXES: [(&[u8], &[u8]); 7] =
    [(b"a/", b"b/"), (b"i/", b"w/"), (b"c/", b"i/"), (b"c/", b"w/"), (b"o/", b"w/"), (b"b/", b"a/"), (b"1/", b"2/")];

/// What the copies of a file are called by that people and programs make before they change it.
const SUFFIXES: [&[u8]; 3] = [b".orig", b"~", b"+"];

/// The one name of a plain diff's two sides; one that is missing is `/dev/null`.
fn same_name(old: Option<Vec<u8>>, new: Option<Vec<u8>>) -> Result<Vec<u8>, Fault> {
    let plain = |name: Vec<u8>| {
        let mut name = name.as_slice();
        while let Some(rest) = name.strip_prefix(b"./") {
            name = rest;
        }
        name.to_vec()
    };
    let (old, new) = (old.map(plain), new.map(plain));
    let without = |name: &[u8], prefix: &[u8]| name.strip_prefix(prefix).map(<[u8]>::to_vec);
    let name = match (old, new) {
        (Some(old), None) => without(&old, b"a/").unwrap_or(old),
        (None, Some(new)) => without(&new, b"b/").unwrap_or(new),
        (Some(old), Some(new)) if old == new => new,
        // As GNU patch and git have it: "file.orig" beside "file" is its copy from before.
        (Some(old), Some(new)) if SUFFIXES.iter().any(|suffix| old.strip_suffix(*suffix) == Some(&new)) => new,
        (Some(old), Some(new)) if SUFFIXES.iter().any(|suffix| new.strip_suffix(*suffix) == Some(&old)) => old,
        (Some(old), Some(new)) => {
            let pair = |(one, other): &(&[u8], &[u8])| {
                let (old, new) = (without(&old, one)?, without(&new, other)?);
                same_name(Some(old.clone()), Some(new)).ok().filter(|name| old.starts_with(name))
            };
            PREFIXES.iter().find_map(pair).ok_or_else(|| {
                format!(
                    "--- and +++ name two files, {} and {}; a rename needs \"rename from\" and \"rename to\" lines, and a \
                     change the same name twice (a/path and b/path)",
                    Name(old.clone()),
                    Name(new.clone())
                )
            })?
        }
        (None, None) => Vec::new(),
    };
    if name.is_empty() { Err(NO_NAME.to_owned()) } else { Ok(name) }
}
