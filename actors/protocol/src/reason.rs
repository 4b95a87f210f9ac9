//! Why a document was rejected or failed: a closed set, and the stage of judgement at which it happened.

use serde::{Deserialize, Deserializer, Serialize};

use crate::hint::{Hint, MAX_HINTS};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $text:literal,)*) => {
        /// Why a command was rejected or failed. The set is closed; its names are part of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason there is, in the order of the contract.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The reason's name as it stands in artifacts, commits and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $text,)* }
            }

            /// Reads a reason's name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Reason::$variant),)* _ => None }
            }
        }
    };
}

reasons! {
    /// The entry in `commands/` is a link, a FIFO, a folder or a device.
    NotRegular => "not_regular",
    /// The file is larger than the configured bound.
    TooLarge => "too_large",
    /// The bytes are not one strict JSON object.
    Malformed => "malformed",
    /// No accepted secret produces the document's signature.
    BadHmac => "bad_hmac",
    /// A field is missing, unknown, of the wrong type or out of range.
    Schema => "schema",
    /// `schemaVersion` is not one this bridge speaks.
    UnsupportedVersion => "unsupported_version",
    /// `action` is not one this bridge performs.
    UnknownAction => "unknown_action",
    /// `patchType` is not one of the known ones.
    UnknownPatchType => "unknown_patch_type",
    /// `target` names no configured target.
    UnknownTarget => "unknown_target",
    /// The clock is at or past `expires_at`.
    Expired => "expired",
    /// The clock has not reached `issued_at`.
    NotYetValid => "not_yet_valid",
    /// Another document has taken this id.
    DuplicateId => "duplicate_id",
    /// An op is outside `allowedActions`.
    ActionNotAllowed => "action_not_allowed",
    /// A deletion on a target that does not allow deletions.
    DeleteDenied => "delete_denied",
    /// A path leads, or could lead, out of the target's root.
    PathEscape => "path_escape",
    /// A path inside the root that commands may not touch.
    PathDenied => "path_denied",
    /// A constraint asks for more than the target's own limit.
    LimitExceeded => "limit_exceeded",
    /// The mutation changes more files than the command declared.
    TooManyFiles => "too_many_files",
    /// The mutation writes more bytes than allowed.
    TooManyBytes => "too_many_bytes",
    /// The tree is not in the state that an op requires.
    PreconditionFailed => "precondition_failed",
    /// A patch or a text replacement does not fit the file's content.
    PatchConflict => "patch_conflict",
    /// A check of the validation plan failed; everything was undone.
    ValidationFailed => "validation_failed",
    /// The command was over `maxRuntimeMs`; everything was undone.
    Timeout => "timeout",
    /// The file system refused; everything was undone.
    IoError => "io_error",
    /// The part that executed the command failed.
    WorkerCrashed => "worker_crashed",
    /// A passing failure did not pass within the allowed attempts.
    RetriesExhausted => "retries_exhausted",
}

impl Reason {
    /// The exit code of a command that failed, after execution began, for this reason.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Reason::Timeout => 124,
            Reason::IoError | Reason::RetriesExhausted => 74,
            Reason::WorkerCrashed => 70,
            _ => 1,
        }
    }
}

impl Reason {
    /// Whether the cause may pass by itself, so that the command is worth another try (contract section 8).
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Reason::IoError | Reason::WorkerCrashed)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no reason of the contract"))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The steps of judgement, in their order: the first that fails decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The directory entry: kind and size.
    File,
    /// The bytes: strict JSON, one object.
    Json,
    /// The signature.
    Hmac,
    /// Fields, types and ranges.
    Schema,
    /// The validity window.
    Time,
    /// Whether the id is free.
    Identity,
    /// What the target and the command itself allow.
    Policy,
    /// The plan, played in memory.
    DryRun,
    /// The mutation and its checks.
    Execution,
}

/// A verdict against a document: the reason, the stage, and one sentence for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at {stage:?}: {detail}")]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// Where in the order of judgement.
    pub stage: Stage,
    /// What was wrong and where, in one sentence; no secret, no path outside the target.
    pub detail: String,
    /// The same for a program that mends it, where there is more to say than the sentence does.
    pub hints: Vec<Hint>,
}

impl Verdict {
    /// A verdict of `reason` at `stage`.
    pub fn new(stage: Stage, reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, stage, detail: detail.into(), hints: Vec::new() }
    }

    /// The same with hints, as many as are kept.
    #[must_use]
    pub fn with_hints(mut self, mut hints: Vec<Hint>) -> Self {
        hints.truncate(MAX_HINTS);
        self.hints = hints;
        self
    }
}
