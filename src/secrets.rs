//! The secrets: taken out of the environment before anything else happens, and held where they wipe themselves.
//!
//! They come from the environment only and go nowhere but into the [`Keyring`]: no log, no error, no child process, no
//! core dump, and `/proc/<pid>/environ` no longer shows them (contract section 1).

use std::fmt;
use std::os::unix::ffi::OsStringExt as _;

use chrono::{DateTime, Utc};
use protocol::signing::{Keyring, MAX_ROTATION_HOURS, Rotation, Secret};
use protocol::time::{format_utc, parse_rfc3339};
use zeroize::Zeroizing;

mod environ;

/// The variable of the current secret.
pub const CURRENT: &str = "GPT_BRIDGE_HMAC_SECRET";
/// The variable of the secret that takes over at the end of a rotation.
pub const NEXT: &str = "GPT_BRIDGE_HMAC_SECRET_NEXT";
/// The variable of the instant from which only the next secret is accepted.
pub const ROTATION_ENDS: &str = "GPT_BRIDGE_HMAC_ROTATION_ENDS";

/// From so many bytes on a secret counts as long.
const GOOD_BYTES: usize = 32;
/// From so many different bytes on it counts as mixed.
const GOOD_DISTINCT: usize = 12;

/// What the environment held. Wiped on drop; never displayed.
pub struct Taken {
    current: Option<Zeroizing<Vec<u8>>>,
    next: Option<Zeroizing<Vec<u8>>>,
    rotation_ends: Option<Zeroizing<Vec<u8>>>,
    /// By whatever other names that begin as the current one's; of use for looking back alone.
    others: Vec<(String, Zeroizing<Vec<u8>>)>,
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taken(..)")
    }
}

/// The accepted secrets, checked.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The current secret.
    pub current: Secret,
    /// The rotation, where one is under way or over.
    pub rotation: Option<Rotation>,
}

impl Secrets {
    /// The keyring that signs and verifies with them.
    #[must_use]
    pub fn keyring(&self) -> Keyring {
        Keyring::new(&self.current, self.rotation.as_ref())
    }

    /// The variables whose secrets begin or end with white space, which counts like every other byte of them.
    #[must_use]
    pub fn with_blanks(&self) -> Vec<&'static str> {
        let next = self.rotation.as_ref().map(|rotation| (NEXT, &rotation.next));
        let all = [Some((CURRENT, &self.current)), next].into_iter().flatten();
        all.filter(|(_, secret)| secret.has_blanks()).map(|(name, _)| name).collect()
    }

    /// Whether a rotation has ended before `now`, so that the current secret counts no more.
    #[must_use]
    pub fn current_is_over(&self, now: DateTime<Utc>) -> bool {
        self.rotation.as_ref().is_some_and(|rotation| rotation.ends <= now)
    }
}

/// Why the environment holds no usable secrets. Displays as one line that names the variable and the remedy, and never a value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// There is no current secret.
    #[error("{CURRENT} is not set; export the shared secret, at least 16 bytes (a new one: openssl rand -base64 32)")]
    Missing,
    /// A secret is no UTF-8.
    #[error("{0} is not valid UTF-8; a secret is text, used byte for byte (a new one: openssl rand -base64 32)")]
    NotUtf8(String),
    /// A secret that cannot be one.
    #[error("{0} cannot be used: {1}")]
    Unfit(String, protocol::signing::SecretFault),
    /// One variable of the rotation without the other.
    #[error("{0} is set but {1} is not; a rotation needs both, or neither")]
    HalfARotation(&'static str, &'static str),
    /// A rotation from a secret to itself.
    #[error(
        "{NEXT} is the current secret itself, so nothing would be rotated; set it to a new one (openssl rand -base64 32), or unset it and {ROTATION_ENDS}"
    )]
    SameAgain,
    /// The end of the rotation is no instant.
    #[error("{ROTATION_ENDS} is no RFC 3339 instant with an offset; write it like {0}")]
    NoInstant(String),
    /// The end of the rotation is too far off.
    #[error("{ROTATION_ENDS} lies more than {MAX_ROTATION_HOURS} h ahead; the latest that is accepted now is {0}")]
    TooFar(String),
}

/// Takes the rotation's end and every variable whose name begins with the current secret's out of the environment.
///
/// To be called at the very start of `main`: the environment is wiped in place.
///
/// # Safety
/// No other thread may exist yet.
#[allow(unsafe_code)]
pub unsafe fn take() -> Taken {
    let mut taken = Taken { current: None, next: None, rotation_ends: None, others: Vec::new() };
    let mut names = Vec::new();
    for (name, value) in std::env::vars_os() {
        // The copy moves into its buffer without being copied again.
        let value = Zeroizing::new(value.into_vec());
        match name.to_string_lossy().as_ref() {
            CURRENT => taken.current = Some(value),
            NEXT => taken.next = Some(value),
            ROTATION_ENDS => taken.rotation_ends = Some(value),
            other if other.starts_with(CURRENT) => taken.others.push((other.to_owned(), value)),
            _ => continue,
        }
        names.push(name);
    }
    // In an order of their own, whatever the environment's.
    taken.others.sort_by(|(a, _), (b, _)| a.cmp(b));
    // SAFETY: the caller guarantees that this is the only thread.
    unsafe { environ::wipe(&names) };
    taken
}

impl Taken {
    /// Why the current secret could be guessed, if it could; nothing of the secret is told.
    #[must_use]
    pub fn weakness(&self) -> Option<&'static str> {
        let bytes = self.current.as_ref().filter(|bytes| !bytes.is_empty())?;
        let mut seen = [false; 256];
        for byte in bytes.iter() {
            if let Some(seen) = seen.get_mut(usize::from(*byte)) {
                *seen = true;
            }
        }
        let distinct = seen.iter().filter(|seen| **seen).count();
        if bytes.len() < GOOD_BYTES {
            return Some("it is shorter than 32 bytes");
        }
        (distinct < GOOD_DISTINCT).then_some("it is made of very few different characters")
    }

    /// Checks what was taken, if anything was: `None` where no variable is set.
    fn check_if_any(self, now: DateTime<Utc>) -> Result<Option<Secrets>, SecretsError> {
        let values = [&self.current, &self.next, &self.rotation_ends];
        if values.into_iter().all(|value| value.as_ref().is_none_or(|bytes| bytes.is_empty())) {
            return Ok(None);
        }
        self.check(now).map(Some)
    }

    /// What looks back with: the accepted secrets, where there are any, and each other one whose variable's name begins as
    /// the current one's does, as `GPT_BRIDGE_HMAC_SECRET_OLD`.
    ///
    /// # Errors
    /// As for [`Taken::check`].
    pub fn keyrings(mut self, now: DateTime<Utc>) -> Result<Vec<Keyring>, SecretsError> {
        let others = std::mem::take(&mut self.others);
        let accepted = self.check_if_any(now)?.map(|secrets| secrets.keyring());
        let others = others.into_iter().filter(|(_, bytes)| !bytes.is_empty());
        let others = others.map(|(name, bytes)| Ok(Keyring::new(&secret(&name, bytes)?, None)));
        accepted.into_iter().map(Ok).chain(others).collect()
    }

    /// Checks what was taken. An empty variable counts as one that is not set.
    ///
    /// # Errors
    /// When there is no current secret, a secret is unfit, or the rotation is incomplete or too long.
    pub fn check(self, now: DateTime<Utc>) -> Result<Secrets, SecretsError> {
        let set = |value: Option<Zeroizing<Vec<u8>>>| value.filter(|bytes| !bytes.is_empty());
        let is_same = self.current.as_ref().is_some_and(|current| Some(current) == self.next.as_ref());
        let current = secret(CURRENT, set(self.current).ok_or(SecretsError::Missing)?)?;
        let rotation = match (set(self.next), set(self.rotation_ends)) {
            (None, None) => None,
            (Some(_), None) => return Err(SecretsError::HalfARotation(NEXT, ROTATION_ENDS)),
            (None, Some(_)) => return Err(SecretsError::HalfARotation(ROTATION_ENDS, NEXT)),
            (Some(next), Some(ends)) => Some(rotation(next, &ends, now)?),
        };
        if is_same {
            return Err(SecretsError::SameAgain);
        }
        Ok(Secrets { current, rotation })
    }
}

fn rotation(next: Zeroizing<Vec<u8>>, ends: &[u8], now: DateTime<Utc>) -> Result<Rotation, SecretsError> {
    let next = secret(NEXT, next)?;
    let example = || SecretsError::NoInstant(format_utc(now + chrono::TimeDelta::hours(24)));
    let ends = std::str::from_utf8(ends).ok().and_then(parse_rfc3339).ok_or_else(example)?;
    let rotation = Rotation { next, ends };
    if rotation.is_too_long(now) {
        return Err(SecretsError::TooFar(format_utc(now + chrono::TimeDelta::hours(MAX_ROTATION_HOURS))));
    }
    Ok(rotation)
}

fn secret(name: &str, mut bytes: Zeroizing<Vec<u8>>) -> Result<Secret, SecretsError> {
    if std::str::from_utf8(&bytes).is_err() {
        return Err(SecretsError::NotUtf8(name.to_owned()));
    }
    // Taking leaves an empty buffer behind; the bytes themselves stay where they are and are wiped by their new owner.
    Secret::new(std::mem::take(&mut *bytes)).map_err(|fault| SecretsError::Unfit(name.to_owned(), fault))
}

/// Forbids core dumps, so that no secret is written to disk by a crash.
///
/// Best effort: a kernel that refuses leaves the process as safe as the system's own settings make it.
pub fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    {
        // The limit does not bind a core pattern that pipes to a program; this does. It also keeps other processes of
        // the same user from attaching.
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "0123456789abcdef";

    fn taken(current: Option<&[u8]>, next: Option<&str>, ends: Option<&str>) -> Taken {
        let own = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        Taken {
            current: current.map(own),
            next: next.map(|n| own(n.as_bytes())),
            rotation_ends: ends.map(|e| own(e.as_bytes())),
            others: Vec::new(),
        }
    }

    #[test]
    fn each_fault_names_the_variable_and_the_remedy_and_no_secret() {
        let now = parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        let good = Some(GOOD.as_bytes());
        let cases = [
            (taken(None, None, None), "GPT_BRIDGE_HMAC_SECRET is not set"),
            (taken(Some(b""), None, None), "GPT_BRIDGE_HMAC_SECRET is not set"),
            (
                taken(Some(b"seventeen-minus2"), Some("hunter2"), Some("2026-01-01T01:00:00Z")),
                "GPT_BRIDGE_HMAC_SECRET_NEXT cannot be used",
            ),
            (taken(Some(b"hunter2"), None, None), "at least 16"),
            (taken(Some(b"hunter2hunter2hunter2\xff"), None, None), "not valid UTF-8"),
            (taken(good, Some(GOOD), None), "GPT_BRIDGE_HMAC_ROTATION_ENDS is not"),
            (taken(good, None, Some("2026-01-01T01:00:00Z")), "GPT_BRIDGE_HMAC_SECRET_NEXT is not"),
            (taken(good, Some(GOOD), Some("tomorrow")), "2026-01-02T00:00:00.000Z"),
            (taken(good, Some(GOOD), Some("2026-01-08T00:00:01Z")), "2026-01-08T00:00:00.000Z"),
            (taken(good, Some(GOOD), Some("2026-01-02T00:00:00Z")), "is the current secret itself"),
        ];
        for (taken, wanted) in cases {
            let line = taken.check(now).unwrap_err().to_string();
            assert!(line.contains(wanted), "{line}");
            assert!(!line.contains("hunter2") && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn what_can_be_guessed_is_called_weak() {
        let weak = |text: &str| taken(Some(text.as_bytes()), None, None).weakness();
        assert_eq!(taken(None, None, None).weakness(), None);
        assert!(weak(GOOD).unwrap().contains("32") && weak(&"ab".repeat(30)).unwrap().contains("few"));
        assert_eq!(weak("ZqJ3v0yT8kP1xW5rB7nC2mD4fG6hL9sA+/="), None);
    }

    #[test]
    fn a_rotation_may_end_at_the_limit_or_in_the_past() {
        let now = parse_rfc3339("2026-01-08T00:00:00Z").unwrap();
        for (ends, over) in
            [("2026-01-15T00:00:00Z", false), ("2025-01-01T00:00:00+01:00", true), ("2026-01-08T00:00:00Z", true)]
        {
            let secrets = taken(Some(GOOD.as_bytes()), Some("fedcba9876543210"), Some(ends)).check(now).unwrap();
            assert_eq!(secrets.current_is_over(now), over, "{ends}");
            assert!(!format!("{secrets:?}").contains(GOOD));
        }
    }
}
