//! The command document: from bytes, to an authentic document, to a typed command.
//!
//! Each step is a type that only the step before can make: [`Document`] (strict JSON, one object) → [`Authentic`]
//! (its HMAC held) → [`VerifiedCommand`] (its fields were read). Nothing but the HMAC is looked at before it holds,
//! save the id and the order key, which name a dead letter and sort the queue but decide nothing.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::canonical;
use crate::digest::Sha256;
use crate::id::CommandId;
use crate::json::{self, Object, Value};
use crate::reason::{Reason, Stage, Verdict};
use crate::schema::{Fields, fault, quote, string_value};
use crate::signing::{Blanks, Keyring, SecretSlot};
use crate::time::parse_rfc3339;

mod ops;
pub use ops::{Action, CHECK_NAMES, Check, Encoding, Expect, Expectations, FileMode, OP_NAMES, Op, PatchType, Times};

/// The one schema version this bridge speaks.
pub const SCHEMA_VERSION: &str = "1.0";
/// The one action there is.
pub const ACTION: &str = "applyPatch";
/// The most ops a command may hold.
pub const MAX_OPS: usize = 1_000;
/// The most checks a command may hold.
pub const MAX_CHECKS: usize = 1_000;
/// The longest canonical form of `annotations`, in bytes.
pub const MAX_ANNOTATIONS_BYTES: usize = 16 * 1024;

const FIELDS: &[&str] = &[
    "schemaVersion",
    "id",
    "issued_at",
    "expires_at",
    "nonce",
    "target",
    "audience",
    "action",
    "patchType",
    "payload",
    "validationPlan",
    "allowedActions",
    "constraints",
    "annotations",
    "hmac",
];

/// A document that is one strict JSON object; nothing else is known of it.
#[derive(Clone, Debug)]
pub struct Document {
    raw: Arc<[u8]>,
    object: Object,
}

impl Document {
    /// Reads `raw` as one strict JSON object.
    ///
    /// # Errors
    /// A `malformed` verdict that says what is wrong and where.
    pub fn parse(raw: Arc<[u8]>) -> Result<Self, Verdict> {
        let malformed = |detail| Verdict::new(Stage::Json, Reason::Malformed, detail);
        match json::parse(&raw).map_err(|error| malformed(error.to_string()))? {
            Value::Object(object) => Ok(Self { raw, object }),
            other => Err(malformed(format!("a command is a JSON object, found {}", other.kind()))),
        }
    }

    /// The document's bytes.
    #[must_use]
    pub fn raw(&self) -> &Arc<[u8]> {
        &self.raw
    }

    /// The document's fields.
    #[must_use]
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The id, if the document holds a valid one. Not to be trusted before the HMAC holds.
    #[must_use]
    pub fn id(&self) -> Option<CommandId> {
        self.object.get("id").and_then(Value::as_str).and_then(|id| CommandId::parse(id).ok())
    }

    /// Where the document wants to stand among those that wait.
    #[must_use]
    pub fn order_key(&self) -> OrderKey {
        let text = |key: &str| self.object.get(key).and_then(Value::as_str).unwrap_or_default();
        // An id that is too long to be one is refused anyway; it need not be kept.
        let id = text("id").chars().take(128).collect();
        OrderKey { issued_at: parse_rfc3339(text("issued_at")), id }
    }

    /// Whether the signature holds at `now`: for whoever only sorts documents.
    #[must_use]
    pub fn is_signed(&self, keyring: &Keyring, now: DateTime<Utc>) -> bool {
        let Some(Value::String(signature)) = self.object.get("hmac") else { return false };
        keyring.verify(canonical::object_without(&self.object, "hmac").as_bytes(), signature, now).is_some()
    }

    /// The hash of the document's canonical form without its `hmac`, which is what a signature covers.
    #[must_use]
    pub fn form(&self) -> Sha256 {
        Sha256::of(canonical::object_without(&self.object, "hmac").as_bytes())
    }

    /// Holds the document's `hmac` against its canonical form.
    ///
    /// # Errors
    /// A `bad_hmac` verdict, with the document back.
    pub fn authenticate(self, keyring: &Keyring, now: DateTime<Utc>) -> Result<Authentic, (Self, Verdict)> {
        let bad = |detail: &str| Verdict::new(Stage::Hmac, Reason::BadHmac, detail);
        let signature = match self.object.get("hmac") {
            Some(Value::String(signature)) => signature,
            Some(_) => {
                return Err((self, bad("/hmac: must be a string: base64 of the HMAC-SHA256 of the canonical form")));
            }
            None => return Err((self, bad("/hmac: required field is missing; the document is not signed"))),
        };
        let signed = canonical::object_without(&self.object, "hmac");
        if let Some(secret) = keyring.verify(signed.as_bytes(), signature, now) {
            return Ok(Authentic { document: self, form: Sha256::of(signed.as_bytes()), secret });
        }
        let detail = match keyring.blanks_in_the_way(signed.as_bytes(), signature, now) {
            Some(Blanks::Ours) => {
                "/hmac: the secret that the bridge was given has white space around it, without which it would have signed \
                 this document so; take it off there and restart the bridge"
            }
            Some(Blanks::Signers) => {
                "/hmac: the secret that signed this document has a line break at its end, without which it would be an \
                 accepted one; take it off there and sign again"
            }
            None => {
                "/hmac: no accepted secret signs this document so; sign the canonical form (sorted keys, no white space, \
                 ASCII escapes) of the document without its hmac, with the secret's exact bytes as the key"
            }
        };
        Err((self, bad(detail)))
    }
}

/// Where a document wants to stand among those that wait: by `issued_at`, then by `id`. Documents that name no instant
/// come first, so that they are dead-lettered without delay.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderKey {
    /// The claimed `issued_at`.
    pub issued_at: Option<DateTime<Utc>>,
    /// The claimed `id`.
    pub id: String,
}

/// A document whose signature held.
#[derive(Clone, Debug)]
pub struct Authentic {
    document: Document,
    form: Sha256,
    secret: SecretSlot,
}

impl Authentic {
    /// The document.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The hash of what is signed: the same for every spelling of the document.
    #[must_use]
    pub fn form(&self) -> Sha256 {
        self.form
    }

    /// The secret whose signature it bears.
    #[must_use]
    pub fn verified_by(&self) -> SecretSlot {
        self.secret
    }

    /// Reads every field; unknown ones are refused, and names that are not `configured`.
    ///
    /// # Errors
    /// The verdict on the first field that is wrong, with its JSON pointer.
    pub fn read(&self, configured: &Configured<'_>) -> Result<Command, Verdict> {
        Command::read(self.document.object(), configured)
    }

    /// Joins the proof and the command that was read from it.
    #[must_use]
    pub fn verified(self, command: Command, received_at: DateTime<Utc>) -> VerifiedCommand {
        let input_sha256 = Sha256::of(&self.document.raw);
        let (form, secret) = (self.form, self.secret);
        VerifiedCommand { command, raw: self.document.raw, input_sha256, form, secret, received_at }
    }
}

/// A command whose signature, schema and time were found good. It cannot be made without an [`Authentic`] document.
#[derive(Clone, Debug)]
pub struct VerifiedCommand {
    command: Command,
    raw: Arc<[u8]>,
    input_sha256: Sha256,
    form: Sha256,
    secret: SecretSlot,
    received_at: DateTime<Utc>,
}

impl VerifiedCommand {
    /// Reads a command back from a record that the bridge itself made of it when it was verified. Its signature is not
    /// looked at again: the secret may have been rotated away since.
    ///
    /// # Errors
    /// When `raw` is no command: the record is not what was written.
    pub fn recorded(raw: Arc<[u8]>, secret: SecretSlot, received_at: DateTime<Utc>) -> Result<Self, Verdict> {
        let document = Document::parse(raw)?;
        let command = Command::read(document.object(), &Configured::ANYTHING)?;
        let form = document.form();
        Ok(Authentic { document, form, secret }.verified(command, received_at))
    }

    /// The typed command.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// The document's bytes, as they arrived.
    #[must_use]
    pub fn raw(&self) -> &Arc<[u8]> {
        &self.raw
    }

    /// Hash of the document's bytes.
    #[must_use]
    pub fn input_sha256(&self) -> Sha256 {
        self.input_sha256
    }

    /// Hash of what is signed: the same for every spelling of the document.
    #[must_use]
    pub fn form(&self) -> Sha256 {
        self.form
    }

    /// The secret that signed it.
    #[must_use]
    pub fn secret(&self) -> SecretSlot {
        self.secret
    }

    /// When the bridge read it.
    #[must_use]
    pub fn received_at(&self) -> DateTime<Utc> {
        self.received_at
    }
}

/// What a bridge's configuration names, as far as commands may refer to it.
pub struct Configured<'c> {
    /// Whether there is a target of that name.
    pub is_target: &'c dyn Fn(&str) -> bool,
    /// Whether there is a check of that name, for `run`.
    pub is_check: &'c dyn Fn(&str) -> bool,
    /// Whether this is the CLOUD of that name.
    pub is_cloud: &'c dyn Fn(&str) -> bool,
}

impl Configured<'static> {
    /// Every name is taken for a good one: for who cannot know the configuration.
    pub const ANYTHING: Self = Self { is_target: &|_| true, is_check: &|_| true, is_cloud: &|_| true };
}

/// The fields of a command (contract section 3). Paths are still text here: they are judged by policy, after time and
/// identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The command's name, for ever.
    pub id: CommandId,
    /// Start of validity.
    pub issued_at: DateTime<Utc>,
    /// `issued_at` as the document spells it.
    pub issued_at_text: String,
    /// End of validity.
    pub expires_at: DateTime<Utc>,
    /// Any text; it only makes documents differ.
    pub nonce: String,
    /// Name of the target whose files are changed.
    pub target: String,
    /// Which ops are allowed.
    pub patch_type: PatchType,
    /// The payload's own version label.
    pub payload_version: String,
    /// What to do, in order.
    pub ops: Vec<Op>,
    /// What must hold afterwards, in order.
    pub validation_plan: Vec<Check>,
    /// What the author allows the ops to do.
    pub allowed_actions: Vec<Action>,
    /// The author's own bounds.
    pub constraints: Constraints,
}

/// The author's own bounds on a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constraints {
    /// The longest run, in milliseconds; at least 1.
    pub max_runtime_ms: u64,
    /// The most files that may differ afterwards.
    pub max_files_changed: u64,
    /// The most bytes that may be written.
    pub max_bytes_written: Option<u64>,
}

impl Command {
    /// Reads a command from a document's fields, without looking at its signature: for authors who want to know what
    /// the bridge would say.
    ///
    /// # Errors
    /// The verdict on the first field that is wrong, or names what is not `configured`, with its JSON pointer.
    pub fn read(object: &Object, configured: &Configured<'_>) -> Result<Self, Verdict> {
        let fields = Fields::new(String::new(), object);
        // The version first: of another version's fields nothing is known.
        let version = fields.string("schemaVersion")?;
        if version != SCHEMA_VERSION {
            let found = quote(version);
            return Err(refuse(
                Reason::UnsupportedVersion,
                "/schemaVersion",
                &format!("must be \"{SCHEMA_VERSION}\", found {found}"),
            ));
        }
        fields.only(FIELDS)?;
        let id = CommandId::parse(fields.string("id")?).map_err(|error| fault("/id", error))?;
        let (issued_at_text, issued_at) = instant(&fields, "issued_at")?;
        let (_, expires_at) = instant(&fields, "expires_at")?;
        if expires_at <= issued_at {
            return Err(fault("/expires_at", "must be later than issued_at"));
        }
        let nonce = fields.string("nonce")?.to_owned();
        let action = fields.string("action")?;
        if action != ACTION {
            return Err(refuse(
                Reason::UnknownAction,
                "/action",
                &format!("must be \"{ACTION}\", found {}", quote(action)),
            ));
        }
        let patch_type = fields.string("patchType")?;
        let patch_type = PatchType::parse(patch_type).ok_or_else(|| {
            refuse(
                Reason::UnknownPatchType,
                "/patchType",
                &format!("must be ops, unified or hybrid, found {}", quote(patch_type)),
            )
        })?;
        let target = fields.string("target")?;
        if !(configured.is_target)(target) {
            let detail = format!("no target {} is configured on this bridge", quote(target));
            return Err(refuse(Reason::UnknownTarget, "/target", &detail));
        }
        audience(&fields, configured)?;
        let (payload_version, ops) = payload(&fields, patch_type)?;
        annotations(&fields)?;
        Ok(Self {
            id,
            issued_at,
            issued_at_text: issued_at_text.to_owned(),
            expires_at,
            nonce,
            target: target.to_owned(),
            patch_type,
            payload_version,
            ops,
            validation_plan: validation_plan(&fields, configured)?,
            allowed_actions: allowed_actions(&fields)?,
            constraints: constraints(&fields)?,
        })
    }
}

fn refuse(reason: Reason, pointer: &str, what: &str) -> Verdict {
    Verdict::new(Stage::Schema, reason, format!("{pointer}: {what}"))
}

fn instant<'a>(fields: &Fields<'a>, key: &str) -> Result<(&'a str, DateTime<Utc>), Verdict> {
    let text = fields.string(key)?;
    let instant = parse_rfc3339(text).ok_or_else(|| {
        let found = quote(text);
        fault(
            &fields.at(key),
            format!("must be an RFC 3339 instant with an offset such as 2025-08-09T06:24:51Z, found {found}"),
        )
    })?;
    Ok((text, instant))
}

/// A document that names its CLOUD is for no other one, whatever secrets they share.
fn audience(fields: &Fields<'_>, configured: &Configured<'_>) -> Result<(), Verdict> {
    let Some(value) = fields.get("audience") else { return Ok(()) };
    let name = string_value("/audience", value)?;
    if (configured.is_cloud)(name) {
        return Ok(());
    }
    let detail = format!("the document is for the CLOUD {}, which is not this bridge's cloud_name", quote(name));
    Err(refuse(Reason::UnknownTarget, "/audience", &detail))
}

fn payload(fields: &Fields<'_>, patch_type: PatchType) -> Result<(String, Vec<Op>), Verdict> {
    let payload = Fields::of("/payload".to_owned(), fields.required("payload")?)?;
    payload.only(&["inline"])?;
    let inline = Fields::of("/payload/inline".to_owned(), payload.required("inline")?)?;
    inline.only(&["version", "ops"])?;
    let version = inline.string("version")?.to_owned();
    let ops = inline.array("ops")?;
    if ops.len() > MAX_OPS {
        return Err(fault("/payload/inline/ops", format!("holds {} ops; at most {MAX_OPS} are allowed", ops.len())));
    }
    let read = |(number, value)| Op::read(&format!("/payload/inline/ops/{number}"), value, patch_type);
    Ok((version, ops.iter().enumerate().map(read).collect::<Result<_, _>>()?))
}

fn annotations(fields: &Fields<'_>) -> Result<(), Verdict> {
    let Some(value) = fields.get("annotations") else { return Ok(()) };
    if !matches!(value, Value::Object(_)) {
        return Err(fault("/annotations", format!("must be an object, found {}", value.kind())));
    }
    let length = canonical::to_canonical(value).len();
    if length > MAX_ANNOTATIONS_BYTES {
        return Err(fault(
            "/annotations",
            format!("is {length} bytes long in canonical form; at most {MAX_ANNOTATIONS_BYTES} are allowed"),
        ));
    }
    Ok(())
}

fn validation_plan(fields: &Fields<'_>, configured: &Configured<'_>) -> Result<Vec<Check>, Verdict> {
    if fields.get("validationPlan").is_none() {
        return Ok(Vec::new());
    }
    let checks = fields.array("validationPlan")?;
    if checks.len() > MAX_CHECKS {
        return Err(fault(
            "/validationPlan",
            format!("holds {} checks; at most {MAX_CHECKS} are allowed", checks.len()),
        ));
    }
    let read = |(number, value)| {
        let pointer = format!("/validationPlan/{number}");
        match Check::read(&pointer, value)? {
            Check::Run { name } if !(configured.is_check)(&name) => {
                let detail = format!("no check {} is configured on this bridge", quote(&name));
                Err(fault(&format!("{pointer}/name"), detail))
            }
            check => Ok(check),
        }
    };
    checks.iter().enumerate().map(read).collect()
}

fn allowed_actions(fields: &Fields<'_>) -> Result<Vec<Action>, Verdict> {
    let mut actions = Vec::new();
    for (number, value) in fields.array("allowedActions")?.iter().enumerate() {
        let pointer = format!("/allowedActions/{number}");
        let name = string_value(&pointer, value)?;
        let action = Action::parse(name).ok_or_else(|| {
            fault(&pointer, format!("must be writeFile, moveFile or deleteFile, found {}", quote(name)))
        })?;
        if !actions.contains(&action) {
            actions.push(action);
        }
    }
    if actions.is_empty() {
        return Err(fault("/allowedActions", "must name at least one of writeFile, moveFile, deleteFile"));
    }
    Ok(actions)
}

fn constraints(fields: &Fields<'_>) -> Result<Constraints, Verdict> {
    let fields = Fields::of("/constraints".to_owned(), fields.required("constraints")?)?;
    fields.only(&["maxRuntimeMs", "maxFilesChanged", "maxBytesWritten"])?;
    Ok(Constraints {
        max_runtime_ms: fields.whole("maxRuntimeMs", 1)?,
        max_files_changed: fields.whole("maxFilesChanged", 0)?,
        max_bytes_written: fields.optional_whole("maxBytesWritten", 0)?,
    })
}
