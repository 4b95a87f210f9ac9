//! Reads an audit line that is spelled as the bridge itself spells one, without the general reader of JSON: a start reads
//! the whole log.
//!
//! It takes a line only if its text is what [`AuditLine::to_text`] could have written, and then reads it exactly as the
//! general reader would. Whatever else a line is, it is left to that one.

use super::{AuditEntry, AuditLine, AuditResult};
use crate::digest::Sha256;
use crate::id::CommandId;

/// Room for the canonical form of an ordinary line.
const USUAL_BYTES: usize = 512;

/// The text between `before` and whatever follows, one value at a time. Values keep their spelling, quotes included.
struct Fields<'t>(&'t str);

impl<'t> Fields<'t> {
    fn literal(&mut self, literal: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&'t str> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A string of plain characters, none of them escaped.
    fn string(&mut self) -> Option<Value<'t>> {
        let body = self.0.strip_prefix('"')?;
        let end = body.bytes().position(|byte| byte == b'"')?;
        let spelled = self.take(end + 2)?;
        let text = spelled.get(1..end + 1)?;
        let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\');
        plain.then_some(Value { spelled, text: Some(text) })
    }

    fn string_or_null(&mut self) -> Option<Value<'t>> {
        if self.0.starts_with("null") {
            return self.take(4).map(|spelled| Value { spelled, text: None });
        }
        self.string()
    }

    /// A whole number as Rust spells it.
    fn number(&mut self) -> Option<Value<'t>> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let text = self.take(digits)?;
        let usual = digits == 1 || (digits > 1 && !text.starts_with('0'));
        usual.then_some(Value { spelled: text, text: Some(text) })
    }

    fn number_or_null(&mut self) -> Option<Value<'t>> {
        if self.0.starts_with("null") { self.string_or_null() } else { self.number() }
    }
}

/// A value as it is spelled, and what it says; `None` for null.
#[derive(Clone, Copy)]
struct Value<'t> {
    spelled: &'t str,
    text: Option<&'t str>,
}

impl Value<'_> {
    fn digest(self) -> Option<Sha256> {
        Sha256::from_lower_hex(self.text?)
    }
}

/// Reads `text`. `None`: it is spelled otherwise; `Some(None)`: its hash is wrong.
pub(super) fn read(text: &str) -> Option<Option<AuditLine>> {
    let mut fields = Fields(text);
    fields.literal("{\"ts\":")?;
    let ts = fields.string()?;
    fields.literal(",\"id\":")?;
    let id = fields.string_or_null()?;
    fields.literal(",\"action\":")?;
    let action = fields.string_or_null()?;
    fields.literal(",\"result\":")?;
    let result = fields.string()?;
    fields.literal(",\"exit\":")?;
    let exit = fields.number_or_null()?;
    fields.literal(",\"files_changed\":")?;
    let files_changed = fields.number()?;
    fields.literal(",\"hmac_ok\":")?;
    let hmac_ok = if fields.0.starts_with("true") { "true" } else { "false" };
    fields.literal(hmac_ok)?;
    fields.literal(",\"input_sha256\":")?;
    let input = fields.string()?;
    fields.literal(",\"prev\":")?;
    let prev = fields.string()?;
    fields.literal(",\"hash\":")?;
    let hash = fields.string()?.digest()?;
    if fields.0 != "}" {
        return None;
    }
    let entry = AuditEntry {
        ts: ts.text?.to_owned(),
        id: id.text.map(CommandId::parse).transpose().ok()?,
        action: action.text.map(str::to_owned),
        result: AuditResult::parse(result.text?)?,
        exit: exit.text.map(str::parse).transpose().ok()?,
        files_changed: files_changed.text?.parse().ok()?,
        hmac_ok: hmac_ok == "true",
        input_sha256: input.digest()?,
    };
    let line = AuditLine { entry, prev: prev.digest()?, hash };
    let mut canonical = String::with_capacity(USUAL_BYTES);
    // In the order of the keys, as the canonical form has them.
    for (key, spelled) in [
        ("{\"action\":", action.spelled),
        (",\"exit\":", exit.spelled),
        (",\"files_changed\":", files_changed.spelled),
        (",\"hmac_ok\":", hmac_ok),
        (",\"id\":", id.spelled),
        (",\"input_sha256\":", input.spelled),
        (",\"prev\":", prev.spelled),
        (",\"result\":", result.spelled),
        (",\"ts\":", ts.spelled),
    ] {
        canonical.push_str(key);
        canonical.push_str(spelled);
    }
    canonical.push('}');
    Some((Sha256::of(canonical.as_bytes()) == hash).then_some(line))
}
