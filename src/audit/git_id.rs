//! Git's name for a file's bytes.

use std::fmt;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// The id of a blob in a SHA-1 repository, which is what the bridge publishes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GitId([u8; 20]);

impl GitId {
    /// Of a file with these bytes.
    #[must_use]
    pub fn of_blob(bytes: &[u8]) -> Self {
        let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        context.update(format!("blob {}\0", bytes.len()).as_bytes());
        context.update(bytes);
        let mut id = [0; 20];
        for (to, from) in id.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(id)
    }

    /// Reads 40 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut id = [0; 20];
        if text.len() != 40 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for GitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_git() {
        // printf 'hello\n' | git hash-object --stdin
        let id = GitId::of_blob(b"hello\n");
        assert_eq!(id.to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(GitId::from_hex(&id.to_string()), Some(id));
        assert_eq!(GitId::from_hex("ce"), None);
    }
}
