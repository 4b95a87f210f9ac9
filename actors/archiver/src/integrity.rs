//! Reading back what the bridge vouched for: an integrity file whose signature is the bridge's own.

use chrono::{DateTime, Utc};
use protocol::canonical;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::json::{self, Value};
use protocol::signing::Keyring;

/// What an integrity file says, once its signature held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vouched {
    pub id: CommandId,
    pub input: Sha256,
    pub result: Sha256,
    pub diff: Sha256,
    pub archive: Option<Sha256>,
    pub dead_letter: Option<Sha256>,
    pub executed_at: String,
    pub files_changed: u64,
    pub exit_code: u8,
}

impl Vouched {
    /// Reads `bytes`; `None` where they are no integrity file or no secret of this keyring signed them.
    pub(crate) fn read(bytes: &[u8], keyring: &Keyring) -> Option<Self> {
        let value = json::parse(bytes).ok()?;
        let object = value.as_object()?;
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let digest = |key: &str| text(key).and_then(Sha256::from_hex);
        let number = |key: &str| object.get(key).and_then(Value::as_u64);
        // An artifact is of the past: a secret that is no longer accepted today was good then.
        let then = DateTime::<Utc>::MIN_UTC;
        keyring.verify(canonical::object_without(object, "hmac").as_bytes(), text("hmac")?, then)?;
        Some(Self {
            id: CommandId::parse(text("id")?).ok()?,
            input: digest("input_sha256")?,
            result: digest("result_sha256")?,
            diff: digest("diff_sha256")?,
            archive: digest("archive_sha256"),
            dead_letter: digest("dead_letter_sha256"),
            executed_at: text("executed_at")?.to_owned(),
            files_changed: number("files_changed")?,
            exit_code: number("exit_code").and_then(|code| u8::try_from(code).ok())?,
        })
    }
}
