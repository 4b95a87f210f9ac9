//! Git's name for a file's bytes, in either of its two formats.

use std::fmt;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// By what a repository names its objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectFormat {
    /// SHA-1: also what `git apply` expects outside of any repository.
    #[default]
    Sha1,
    /// SHA-256.
    Sha256,
}

/// The id of a blob. Displayed as lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitId {
    /// In a SHA-1 repository.
    Sha1([u8; 20]),
    /// In a SHA-256 repository.
    Sha256([u8; 32]),
}

impl GitId {
    /// The id that git gives a file of these bytes.
    #[must_use]
    pub fn of_blob(format: ObjectFormat, bytes: &[u8]) -> Self {
        let algorithm = match format {
            ObjectFormat::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            ObjectFormat::Sha256 => &SHA256,
        };
        let mut context = Context::new(algorithm);
        context.update(format!("blob {}\0", bytes.len()).as_bytes());
        context.update(bytes);
        let mut id = Self::null(format);
        // Ring's digests are as long as their ids; zip cannot go out of bounds whatever they are.
        id.bytes_mut().iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        id
    }

    /// The id of what is not there.
    #[must_use]
    pub const fn null(format: ObjectFormat) -> Self {
        match format {
            ObjectFormat::Sha1 => Self::Sha1([0; 20]),
            ObjectFormat::Sha256 => Self::Sha256([0; 32]),
        }
    }

    /// Reads an id that is given in full: 40 or 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut id = match text.len() {
            40 => Self::null(ObjectFormat::Sha1),
            64 => Self::null(ObjectFormat::Sha256),
            _ => return None,
        };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for (byte, pair) in id.bytes_mut().iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let &[high, low] = pair else { return None };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(id)
    }

    /// Its format.
    #[must_use]
    pub const fn format(&self) -> ObjectFormat {
        match self {
            Self::Sha1(_) => ObjectFormat::Sha1,
            Self::Sha256(_) => ObjectFormat::Sha256,
        }
    }

    /// Whether it is the id of a file of these bytes.
    #[must_use]
    pub fn names(&self, bytes: &[u8]) -> bool {
        *self == Self::of_blob(self.format(), bytes)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha1(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Sha1(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        }
    }
}

impl fmt::Display for GitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_git() {
        // printf 'hello\n' | git hash-object --stdin, in a repository of either format
        for (format, hex) in [
            (ObjectFormat::Sha1, "ce013625030ba8dba906f756967f9e9ca394464a"),
            (ObjectFormat::Sha256, "2cf8d83d9ee29543b34a87727421fdecb7e3f3a183d337639025de576db9ebb4"),
        ] {
            let id = GitId::of_blob(format, b"hello\n");
            assert_eq!(id.to_string(), hex);
            assert_eq!(GitId::from_hex(hex), Some(id));
            assert!(id.names(b"hello\n") && !id.names(b"hello") && id.format() == format);
        }
        assert_eq!(GitId::from_hex("ce"), None);
        assert_eq!(GitId::from_hex(&"+f".repeat(20)), None);
        assert_eq!(GitId::from_hex(&"é".repeat(32)), None);
    }
}
