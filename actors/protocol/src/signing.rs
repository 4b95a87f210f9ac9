//! HMAC-SHA256 (RFC 2104) over the canonical form: signing, and verification in constant time with ring.
//!
//! A secret is the exact UTF-8 bytes of its environment variable; nothing is decoded. During a rotation window two
//! secrets are accepted, from its end on only the next one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use ring::hmac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The shortest secret that is accepted, in bytes.
pub const MIN_SECRET_BYTES: usize = 16;
/// The farthest that a rotation's end may lie ahead, in hours.
pub const MAX_ROTATION_HOURS: i64 = 168;

/// A shared secret. Wiped from memory on drop; never displayed.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a value cannot be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// Shorter than [`MIN_SECRET_BYTES`].
    #[error("it is {0} bytes long; at least {MIN_SECRET_BYTES} are required (try: openssl rand -base64 32)")]
    TooShort(usize),
}

impl Secret {
    /// Takes the secret's bytes.
    ///
    /// # Errors
    /// When it is shorter than [`MIN_SECRET_BYTES`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretFault> {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(SecretFault::TooShort(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// Whether it begins or ends with white space: a line break that a file ended with, as a rule.
    #[must_use]
    pub fn has_blanks(&self) -> bool {
        self.0.trim_ascii().len() != self.0.len()
    }

    fn keys(&self) -> Keys {
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let ended = |end: &[u8]| key(&Zeroizing::new([self.0.as_slice(), end].concat()));
        Keys {
            exact: key(&self.0),
            trimmed: self.has_blanks().then(|| key(self.0.trim_ascii())),
            ended: [ended(b"\n"), ended(b"\r\n")],
        }
    }
}

/// A secret as a key, and as the keys that others make of it by mistake.
struct Keys {
    exact: hmac::Key,
    /// Without the white space around it, if it has any.
    trimmed: Option<hmac::Key>,
    /// With a line break that a file's last line has.
    ended: [hmac::Key; 2],
}

/// Whose secret has white space around it where another spelling of it would have fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blanks {
    /// The one that is accepted here.
    Ours,
    /// The one that signed.
    Signers,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Which of the two accepted secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretSlot {
    /// `GPT_BRIDGE_HMAC_SECRET`.
    Current,
    /// `GPT_BRIDGE_HMAC_SECRET_NEXT`.
    Next,
}

/// A rotation: until `ends` both secrets are accepted, from then on only `next`.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The secret that takes over.
    pub next: Secret,
    /// The instant from which only `next` is accepted.
    pub ends: DateTime<Utc>,
}

impl Rotation {
    /// Whether `ends` lies farther ahead of `now` than [`MAX_ROTATION_HOURS`].
    #[must_use]
    pub fn is_too_long(&self, now: DateTime<Utc>) -> bool {
        self.ends - now > TimeDelta::hours(MAX_ROTATION_HOURS)
    }
}

/// The accepted secrets.
pub struct Keyring {
    current: Keys,
    next: Option<(Keys, DateTime<Utc>)>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("rotation_ends", &self.next.as_ref().map(|(_, ends)| ends))
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// A keyring of the current secret, and the next one during a rotation.
    #[must_use]
    pub fn new(current: &Secret, rotation: Option<&Rotation>) -> Self {
        Self { current: current.keys(), next: rotation.map(|rotation| (rotation.next.keys(), rotation.ends)) }
    }

    /// The secret whose signature over `message` is `signature` (base64 with padding), if one that is accepted at
    /// `now` made it. Compared in constant time.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &str, now: DateTime<Utc>) -> Option<SecretSlot> {
        let tag = STANDARD.decode(signature).ok()?;
        let matches = |keys: &Keys| hmac::verify(&keys.exact, message, &tag).is_ok();
        let Some((next, ends)) = &self.next else {
            return matches(&self.current).then_some(SecretSlot::Current);
        };
        if now < *ends && matches(&self.current) {
            return Some(SecretSlot::Current);
        }
        matches(next).then_some(SecretSlot::Next)
    }

    /// Whose secret has white space too much, where `signature` over `message` would be an accepted secret's but for that.
    #[must_use]
    pub fn blanks_in_the_way(&self, message: &[u8], signature: &str, now: DateTime<Utc>) -> Option<Blanks> {
        let tag = STANDARD.decode(signature).ok()?;
        let matches = |key: &hmac::Key| hmac::verify(key, message, &tag).is_ok();
        let current = self.next.as_ref().is_none_or(|(_, ends)| now < *ends).then_some(&self.current);
        let accepted = current.into_iter().chain(self.next.as_ref().map(|(next, _)| next));
        accepted.into_iter().find_map(|keys| {
            if keys.trimmed.as_ref().is_some_and(matches) {
                return Some(Blanks::Ours);
            }
            keys.ended.iter().any(matches).then_some(Blanks::Signers)
        })
    }

    /// The signature of `message` by `slot`'s secret, base64 with padding. Where there is no next secret the current
    /// one signs.
    #[must_use]
    pub fn sign(&self, slot: SecretSlot, message: &[u8]) -> String {
        let keys = match (slot, &self.next) {
            (SecretSlot::Next, Some((next, _))) => next,
            _ => &self.current,
        };
        STANDARD.encode(hmac::sign(&keys.exact, message))
    }

    /// The end of the rotation window, if there is one.
    #[must_use]
    pub fn rotation_ends(&self) -> Option<DateTime<Utc>> {
        self.next.as_ref().map(|(_, ends)| *ends)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into()).unwrap()
    }

    #[test]
    fn agrees_with_python() {
        // hmac.new(b"0123456789abcdef", b'{"a":1}', hashlib.sha256)
        let keyring = Keyring::new(&secret("0123456789abcdef"), None);
        let signature = keyring.sign(SecretSlot::Current, br#"{"a":1}"#);
        assert_eq!(signature, "HHb7uTDTqosWM3KPriEsaMpopnUrsxm5i+b+F+hs9bg=");
        assert_eq!(keyring.verify(br#"{"a":1}"#, &signature, Utc::now()), Some(SecretSlot::Current));
        assert_eq!(keyring.verify(br#"{"a":2}"#, &signature, Utc::now()), None);
        assert_eq!(
            keyring.verify(br#"{"a":1}"#, signature.trim_end_matches('='), Utc::now()),
            None,
            "padding is required"
        );
        assert_eq!(keyring.verify(br#"{"a":1}"#, &format!("{signature}\n"), Utc::now()), None);
    }

    #[test]
    fn rotation_accepts_both_until_its_end_and_then_only_next() {
        let ends = Utc::now();
        let rotation = Rotation { next: secret("next-next-next-next"), ends };
        let keyring = Keyring::new(&secret("current-current-"), Some(&rotation));
        let (by_current, by_next) = (keyring.sign(SecretSlot::Current, b"m"), keyring.sign(SecretSlot::Next, b"m"));
        let before = ends - TimeDelta::seconds(1);
        assert_eq!(keyring.verify(b"m", &by_current, before), Some(SecretSlot::Current));
        assert_eq!(keyring.verify(b"m", &by_next, before), Some(SecretSlot::Next));
        assert_eq!(keyring.verify(b"m", &by_current, ends), None);
        assert_eq!(keyring.verify(b"m", &by_next, ends), Some(SecretSlot::Next));
        assert!(!rotation.is_too_long(before));
        assert!(rotation.is_too_long(ends - TimeDelta::hours(169)));
    }

    #[test]
    fn white_space_around_a_secret_is_told_of_and_never_taken_for_none() {
        let (plain, broken) = ("0123456789abcdef", "0123456789abcdef\r\n");
        let by = |text: &str| Keyring::new(&secret(text), None).sign(SecretSlot::Current, b"m");
        let told = |ours: &str, theirs: &str| {
            let keyring = Keyring::new(&secret(ours), None);
            assert_eq!(keyring.verify(b"m", &by(theirs), Utc::now()), None, "{ours:?} {theirs:?}");
            keyring.blanks_in_the_way(b"m", &by(theirs), Utc::now())
        };
        assert_eq!(told(broken, plain), Some(Blanks::Ours));
        assert_eq!(told(&format!("  {plain}\t"), plain), Some(Blanks::Ours));
        assert_eq!(told(plain, broken), Some(Blanks::Signers));
        assert_eq!(told(plain, &format!("{plain}\n")), Some(Blanks::Signers));
        assert_eq!(told(plain, "fedcba9876543210"), None);
        assert_eq!(told(plain, &format!("{plain}x")), None);
        assert!(secret(broken).has_blanks() && !secret(plain).has_blanks());
        let rotation = Rotation { next: secret("next-next-next-next"), ends: Utc::now() };
        let over = Keyring::new(&secret(broken), Some(&rotation));
        assert_eq!(over.blanks_in_the_way(b"m", &by(plain), rotation.ends), None, "it counts no more");
    }

    #[test]
    fn secrets_are_bounded_and_never_shown() {
        assert_eq!(Secret::new(b"short".to_vec()).unwrap_err(), SecretFault::TooShort(5));
        let keyring = Keyring::new(&secret("do-not-print-this"), None);
        assert!(!format!("{:?} {keyring:?}", secret("do-not-print-this")).contains("do-not"));
    }
}
