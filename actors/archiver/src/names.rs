//! Under which names a document is filed, so that nothing that was filed before is replaced.

use std::collections::HashSet;
use std::ffi::OsStr;

use protocol::artifact::dead_letter_name;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::json::{self, Value};
use protocol::signing::Keyring;

use crate::error::ArchiveError;
use crate::files::{Cabinet, Folder, Found, Place};
use crate::integrity::Vouched;
use crate::shelves::Shelf;

/// The largest artifact that is read back, in bytes. Over it a file is somebody else's.
pub(crate) const MAX_ARTIFACT_BYTES: u64 = 64 * 1024 * 1024;

/// The names that a batch has given away and that may not be on disk yet, case-folded: what differs in case only is one
/// file on some file systems.
#[derive(Debug, Default)]
pub(crate) struct Claimed(HashSet<String>);

impl Claimed {
    pub(crate) fn claim(&mut self, folder: Folder, name: &str) {
        self.0.insert(key(folder, name));
    }

    pub(crate) fn has(&self, folder: Folder, name: &str) -> bool {
        self.0.contains(&key(folder, name))
    }
}

fn key(folder: Folder, name: &str) -> String {
    format!("{}/{}", folder.name(), name.to_ascii_lowercase())
}

/// The name of the dead letter of a document that was not filed before, and whether it may replace a file: only a dead
/// letter of the same bytes, left by a try that never reached the log. `has_letter` tells whether the log knows of a dead
/// letter under this id: it may have been rolled over by now.
pub(crate) fn dead_letter(
    cabinet: &Cabinet,
    claimed: &Claimed,
    has_letter: bool,
    id: Option<&CommandId>,
    file: &OsStr,
    input: Sha256,
) -> Result<(String, Place), ArchiveError> {
    let short = dead_letter_name(id, file, &input, |_| id.is_some());
    let plain = id.map(|id| id.as_str().to_owned());
    for name in plain.into_iter().chain([short.clone()]) {
        if claimed.has(Folder::DeadLetter, &name) {
            continue;
        }
        match cabinet.look(Folder::DeadLetter, &format!("{name}.json"), MAX_ARTIFACT_BYTES)? {
            Found::Nothing | Found::Other if has_letter && name != short => {}
            // What is no letter is set aside when this one takes its place.
            Found::Nothing | Found::Other => return Ok((name, Place::Fresh)),
            Found::File(bytes) if letter_input(&bytes) == Some(input) => return Ok((name, Place::Replace)),
            Found::File(_) => {}
        }
    }
    // Two documents whose hashes begin alike: the whole hash tells them apart.
    Ok((format!("{short}-{input}"), Place::Fresh))
}

/// The name for an executed command's artifacts: its id, unless a valid signature of the bridge vouches for artifacts of
/// another execution there, which can only be when the log was lost.
pub(crate) fn stem(
    cabinet: &Cabinet,
    claimed: &Claimed,
    keyring: &Keyring,
    id: &CommandId,
    input: Sha256,
) -> Result<String, ArchiveError> {
    for name in [id.to_string(), format!("{id}-{}", input.short())] {
        if claimed.has(Folder::Results, &name) {
            continue;
        }
        if !is_filed(cabinet, keyring, &name)? {
            return Ok(name);
        }
        tracing::error!(%id, taken = name, "a command that is not in the log has signed artifacts already; filing beside them");
    }
    Ok(format!("{id}-{input}"))
}

/// The name under which artifacts of this very document stand that the bridge signed, whole or not.
pub(crate) fn earlier_stem(
    cabinet: &Cabinet,
    keyring: &Keyring,
    id: &CommandId,
    input: Sha256,
) -> Result<Option<String>, ArchiveError> {
    for name in [id.to_string(), format!("{id}-{}", input.short()), format!("{id}-{input}")] {
        if vouched(cabinet, keyring, &name)?.is_some_and(|vouched| vouched.input == input) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn is_filed(cabinet: &Cabinet, keyring: &Keyring, stem: &str) -> Result<bool, ArchiveError> {
    let Some(vouched) = vouched(cabinet, keyring, stem)? else { return Ok(false) };
    is_complete(cabinet, stem, &vouched)
}

/// What the integrity file of `stem` vouches for, if the bridge signed it.
pub(crate) fn vouched(cabinet: &dyn Shelf, keyring: &Keyring, stem: &str) -> Result<Option<Vouched>, ArchiveError> {
    Ok(match cabinet.look(Folder::Results, &format!("{stem}.integrity.json"), MAX_ARTIFACT_BYTES)? {
        Found::File(bytes) => Vouched::read(&bytes, keyring),
        _ => None,
    })
}

/// Whether every artifact that `vouched` names is there, byte for byte.
pub(crate) fn is_complete(cabinet: &dyn Shelf, stem: &str, vouched: &Vouched) -> Result<bool, ArchiveError> {
    let has = |folder: Folder, name: &str, digest: Sha256| -> Result<bool, ArchiveError> {
        let found = cabinet.look(folder, name, u64::MAX)?;
        Ok(matches!(found, Found::File(bytes) if Sha256::of(&bytes) == digest))
    };
    let (json, patch) = (format!("{stem}.json"), format!("{stem}.patch"));
    if !has(Folder::Results, &json, vouched.result)? || !has(Folder::Diffs, &patch, vouched.diff)? {
        return Ok(false);
    }
    if let Some(archive) = vouched.archive {
        return has(Folder::Archive, &json, archive);
    }
    let Some(letter) = vouched.dead_letter else { return Ok(false) };
    let (id, input) = (&vouched.id, vouched.input);
    for name in [id.to_string(), format!("{id}-{}", input.short()), format!("{id}-{}-{input}", input.short())] {
        if has(Folder::DeadLetter, &format!("{name}.json"), letter)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Of which document's bytes a dead letter is.
pub(crate) fn letter_input(letter: &[u8]) -> Option<Sha256> {
    let value = json::parse(letter).ok()?;
    value.as_object()?.get("input_sha256").and_then(Value::as_str).and_then(Sha256::from_hex)
}
