//! What is filed for one document: pure, from the outcome to the bytes of every artifact.
//!
//! An executed command's artifacts depend on the outcome alone, so that filing it again after a failure spells the very
//! same bytes.

use std::ffi::OsStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use protocol::artifact::{
    CommitSubject, ConstraintsReport, DeadLetter, IntegrityDocument, ResultDocument, SerializeError, canonical_without,
    to_bytes,
};
use protocol::audit::{AuditEntry, AuditResult};
use protocol::command::ACTION;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::json;
use protocol::message::{Content, Executed, Rejection};
use protocol::reason::{Reason, Stage};
use protocol::signing::Keyring;
use protocol::time::format_utc;
use serde_json::value::RawValue;

use crate::files::{Artifact, Folder, Place};

/// The most bytes of what is no JSON that a dead letter quotes.
const MAX_QUOTED_BYTES: usize = 4 * 1024;

/// All that is filed for one document.
#[derive(Debug)]
pub(crate) struct Documents {
    /// The document's id; `None` where it yields no valid one.
    pub id: Option<CommandId>,
    /// The commit's message.
    pub subject: CommitSubject,
    /// What the audit log says.
    pub entry: AuditEntry,
    /// The files, in the order in which they take their places.
    pub artifacts: Vec<Artifact>,
}

/// The names, without folder and ending, under which an executed command is filed.
#[derive(Debug)]
pub(crate) struct Names {
    /// Of result, integrity, diff and archive: the id, unless that is another command's.
    pub stem: String,
    /// Of the dead letter, for a command that failed, and whether it may replace a file.
    pub dead_letter: Option<(String, Place)>,
}

/// What is filed for an executed command.
pub(crate) fn executed(executed: &Executed, names: &Names, keyring: &Keyring) -> Result<Documents, SerializeError> {
    let (command, execution) = (&executed.command, &executed.execution);
    let (fields, id) = (command.command(), &command.command().id);
    let failed = execution.failure.is_some();
    let (result, recorded) = (result_bytes(executed)?, executed.receipt.is_recorded());
    let dead_letter = match (&names.dead_letter, &execution.failure) {
        (Some((name, place)), Some((reason, detail))) => Some(Artifact {
            folder: Folder::DeadLetter,
            name: format!("{name}.json"),
            bytes: failed_letter(executed, *reason, detail)?,
            place: *place,
            recorded,
        }),
        _ => None,
    };
    let mut integrity = IntegrityDocument {
        id,
        input_sha256: command.input_sha256(),
        result_sha256: Sha256::of(&result),
        diff_sha256: Sha256::of(&execution.diff),
        archive_sha256: (!failed).then(|| command.input_sha256()),
        dead_letter_sha256: dead_letter.as_ref().map(|letter| Sha256::of(&letter.bytes)),
        issued_at: &fields.issued_at_text,
        executed_at: format_utc(execution.executed_at),
        duration_ms: execution.duration_ms,
        files_changed: execution.files_changed,
        constraints: fields.constraints.into(),
        limits_ok: limits_ok(execution.failure.as_ref().map(|(reason, _)| *reason)),
        hmac_ok: true,
        exit_code: execution.exit_code(),
        secret: command.secret(),
        hmac: String::new(),
    };
    integrity.hmac = keyring.sign(command.secret(), canonical_without(&integrity, "hmac")?.as_bytes());
    let stem = &names.stem;
    let own = |folder, name: String, bytes| Artifact { folder, name, bytes, place: Place::Replace, recorded };
    let mut artifacts = vec![
        own(Folder::Diffs, format!("{stem}.patch"), execution.diff.clone()),
        own(Folder::Results, format!("{stem}.json"), result),
        own(Folder::Results, format!("{stem}.integrity.json"), to_bytes(&integrity)?),
    ];
    artifacts.push(dead_letter.unwrap_or_else(|| own(Folder::Archive, format!("{stem}.json"), command.raw().to_vec())));
    Ok(Documents {
        id: Some(id.clone()),
        subject: CommitSubject::Results { id: id.clone(), exit_code: execution.exit_code() },
        entry: AuditEntry {
            ts: format_utc(execution.finished_at),
            id: Some(id.clone()),
            action: Some(ACTION.to_owned()),
            result: if failed { AuditResult::Failed } else { AuditResult::Ok },
            exit: Some(execution.exit_code()),
            files_changed: execution.files_changed,
            hmac_ok: true,
            input_sha256: command.input_sha256(),
        },
        artifacts,
    })
}

/// Whether a command that ended so had kept its bounds.
fn limits_ok(failure: Option<Reason>) -> bool {
    !matches!(failure, Some(Reason::Timeout | Reason::TooManyFiles | Reason::TooManyBytes | Reason::LimitExceeded))
}

fn result_bytes(executed: &Executed) -> Result<Vec<u8>, SerializeError> {
    let (command, execution) = (executed.command.command(), &executed.execution);
    let reason = execution.failure.as_ref().map(|(reason, _)| *reason);
    to_bytes(&ResultDocument {
        id: &command.id,
        status: if reason.is_some() { AuditResult::Failed.as_str() } else { AuditResult::Ok.as_str() },
        exit_code: execution.exit_code(),
        reason,
        detail: execution.failure.as_ref().map(|(_, detail)| detail.as_str()),
        target: &command.target,
        action: ACTION,
        patch_type: command.patch_type.as_str(),
        issued_at: &command.issued_at_text,
        received_at: format_utc(executed.command.received_at()),
        executed_at: format_utc(execution.executed_at),
        finished_at: format_utc(execution.finished_at),
        duration_ms: execution.duration_ms,
        files_changed: execution.files_changed,
        bytes_written: execution.bytes_written,
        ops: &execution.ops,
        checks: &execution.checks,
        constraints: ConstraintsReport { given: command.constraints.into(), ok: limits_ok(reason) },
        attempts: execution.attempts,
    })
}

/// The dead letter of a command that failed after execution began.
fn failed_letter(executed: &Executed, reason: Reason, detail: &str) -> Result<Vec<u8>, SerializeError> {
    let (command, raw_base64) = quoted(executed.command.raw());
    to_bytes(&DeadLetter {
        id: Some(&executed.command.command().id),
        reason,
        detail,
        hints: None,
        stage: Stage::Execution,
        file: executed.ticket.file().to_string_lossy().into_owned(),
        rejected_at: format_utc(executed.execution.finished_at),
        input_sha256: executed.command.input_sha256(),
        hmac_ok: true,
        attempts: executed.execution.attempts,
        command: command.as_deref(),
        raw_base64,
        unauthenticated: None,
    })
}

/// What is filed for a refused document: its dead letter alone.
pub(crate) fn rejected(
    rejection: &Rejection,
    file: &OsStr,
    (name, place): (String, Place),
    now: DateTime<Utc>,
) -> Result<Documents, SerializeError> {
    let verdict = &rejection.verdict;
    let (command, raw_base64) = match &rejection.content {
        Content::Document(bytes) => quoted(bytes),
        Content::TooLarge { head, .. } => (None, base64_of(head)),
        Content::NotRegular { bytes, .. } => (None, base64_of(bytes)),
    };
    let letter = to_bytes(&DeadLetter {
        id: rejection.id.as_ref(),
        reason: verdict.reason,
        detail: &verdict.detail,
        hints: (!verdict.hints.is_empty()).then_some(&verdict.hints),
        stage: verdict.stage,
        file: file.to_string_lossy().into_owned(),
        rejected_at: format_utc(now),
        input_sha256: rejection.input_sha256,
        hmac_ok: rejection.hmac_ok,
        attempts: rejection.attempts,
        command: command.as_deref(),
        raw_base64,
        unauthenticated: None,
    })?;
    let is_command = rejection.hmac_ok && command.is_some_and(|command| has_action(command.get().as_bytes()));
    Ok(Documents {
        id: rejection.id.clone(),
        subject: CommitSubject::DeadLetter { reason: verdict.reason },
        entry: AuditEntry {
            ts: format_utc(now),
            id: rejection.id.clone(),
            action: is_command.then(|| ACTION.to_owned()),
            result: AuditResult::Rejected(verdict.reason),
            exit: None,
            files_changed: 0,
            hmac_ok: rejection.hmac_ok,
            input_sha256: rejection.input_sha256,
        },
        artifacts: vec![Artifact {
            folder: Folder::DeadLetter,
            name: format!("{name}.json"),
            bytes: letter,
            place,
            recorded: false,
        }],
    })
}

fn has_action(document: &[u8]) -> bool {
    let Ok(value) = json::parse(document) else { return false };
    value.as_object().and_then(|object| object.get("action")).and_then(json::Value::as_str) == Some(ACTION)
}

/// The document as it was sent where it is strict JSON, else its first bytes.
fn quoted(bytes: &[u8]) -> (Option<Box<RawValue>>, Option<String>) {
    let text = json::parse(bytes).ok().and_then(|_| std::str::from_utf8(bytes).ok());
    match text.and_then(|text| RawValue::from_string(text.to_owned()).ok()) {
        Some(raw) => (Some(raw), None),
        None => (None, base64_of(bytes)),
    }
}

fn base64_of(bytes: &[u8]) -> Option<String> {
    let head = bytes.get(..MAX_QUOTED_BYTES).unwrap_or(bytes);
    (!head.is_empty()).then(|| STANDARD.encode(head))
}
