//! References as files: what they say, and whether it can be true. (What a damaged one is replaced with is decided in
//! [`super::branches`].)

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::hash::Kind;
use gix::refs::FullName;

use super::places::{self, Places, damage};
use crate::error::WorkError;

/// What a reference's file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// An object's id.
    Id(ObjectId),
    /// Another reference's name.
    Symbolic(String),
    /// Nothing that git could read.
    Damaged(&'static str),
}

impl Value {
    /// What `bytes` say in a repository of this object format.
    pub(crate) fn parse(bytes: &[u8], kind: Kind) -> Self {
        let text = bytes.trim_ascii_end();
        if let Some(name) = text.strip_prefix(b"ref:") {
            let name = String::from_utf8_lossy(name.trim_ascii_start()).into_owned();
            let valid = name.starts_with("refs/") && is_name(&name);
            return if valid { Self::Symbolic(name) } else { Self::Damaged(damage(bytes)) };
        }
        match ObjectId::from_hex(text) {
            Ok(id) if id.kind() == kind && !id.is_null() => Self::Id(id),
            _ => Self::Damaged(damage(bytes)),
        }
    }
}

fn is_name(name: &str) -> bool {
    FullName::try_from(name).is_ok()
}

/// Every reference that has a file of its own, by its full name.
pub(crate) fn loose(places: &Places, kind: Kind) -> Result<BTreeMap<String, Value>, WorkError> {
    let mut found = BTreeMap::new();
    for path in places::files(&places.common.join("refs")) {
        let name = path.strip_prefix(&places.common).ok().and_then(Path::to_str).filter(|name| is_name(name));
        let Some(name) = name.filter(|name| !name.ends_with(".lock")) else { continue };
        if let Some(bytes) = places::read(&path)? {
            found.insert(name.to_owned(), Value::parse(&bytes, kind));
        }
    }
    Ok(found)
}

/// `packed-refs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// What the tags among them lead to is noted, too.
    pub(crate) refs: BTreeMap<String, (ObjectId, Option<ObjectId>)>,
    /// Those whose names are no UTF-8, which git allows: they are nobody's business here, and stay as they are.
    strangers: BTreeMap<Vec<u8>, (ObjectId, Option<ObjectId>)>,
    /// Whether its first line tells how the others are to be read.
    header: Option<String>,
    /// What is wrong with it.
    pub(crate) damage: Option<&'static str>,
}

/// Where it lies.
pub(crate) fn packed_path(places: &Places) -> PathBuf {
    places.common.join("packed-refs")
}

/// Reads it; what cannot be read of it is left out. Git follows a link in its place.
pub(crate) fn packed(places: &Places, kind: Kind) -> Result<Packed, WorkError> {
    Ok(places::read_through(&packed_path(places))?.map(|bytes| Packed::parse(&bytes, kind)).unwrap_or_default())
}

impl Packed {
    fn parse(bytes: &[u8], kind: Kind) -> Self {
        let mut packed = Self::default();
        let whole = bytes.last() == Some(&b'\n');
        let mut fine = whole;
        let mut last: Option<Vec<u8>> = None;
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        for (at, line) in lines.iter().enumerate() {
            let cut = !whole && at + 1 == lines.len();
            let id = |hex: &str| ObjectId::from_hex(hex.as_bytes()).ok().filter(|id| id.kind() == kind);
            let Ok(text) = std::str::from_utf8(line) else {
                let Some((stranger, name)) = stranger(line, kind).filter(|_| !cut) else {
                    (fine, last) = (false, None);
                    continue;
                };
                fine &= last.as_deref().is_none_or(|last| last < name);
                packed.strangers.insert(name.to_owned(), (stranger, None));
                last = Some(name.to_owned());
                continue;
            };
            if at == 0 && text.starts_with("# pack-refs with:") && !cut {
                packed.header = Some(text.to_owned());
            } else if let Some(hex) = text.strip_prefix('^') {
                let entry = last.as_deref().and_then(|name| match std::str::from_utf8(name) {
                    Ok(name) => packed.refs.get_mut(name),
                    Err(_) => packed.strangers.get_mut(name),
                });
                match (id(hex), entry) {
                    (Some(id), Some(entry)) => entry.1 = Some(id),
                    _ => fine = false,
                }
            } else if let Some((Some(id), name)) = text.split_once(' ').map(|(hex, name)| (id(hex), name))
                && name.starts_with("refs/")
                && is_name(name)
                && !cut
            {
                // Those who look for a name rely on the order that the first line promises.
                fine &= last.as_deref().is_none_or(|last| last < name.as_bytes());
                packed.refs.insert(name.to_owned(), (id, None));
                last = Some(name.as_bytes().to_owned());
            } else {
                (fine, last) = (false, None);
            }
        }
        // Git writes its first line into every one.
        packed.damage = (!fine || packed.header.is_none()).then(|| damage(bytes));
        packed
    }

    /// The file with what could be read of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Without the promise of what tags lead to: a line of it may be among those that are gone.
        let mut text = b"# pack-refs with: sorted \n".to_vec();
        let refs = self.refs.iter().map(|(name, to)| (name.as_bytes(), to));
        let all: BTreeMap<&[u8], _> =
            refs.chain(self.strangers.iter().map(|(name, to)| (name.as_slice(), to))).collect();
        for (name, (id, leads_to)) in all {
            text.extend_from_slice(format!("{id} ").as_bytes());
            text.extend_from_slice(name);
            text.push(b'\n');
            if let Some(id) = leads_to {
                text.extend_from_slice(format!("^{id}\n").as_bytes());
            }
        }
        text
    }
}

/// A line's id and name, where the name is no UTF-8.
fn stranger(line: &[u8], kind: Kind) -> Option<(ObjectId, &[u8])> {
    let at = line.iter().position(|byte| *byte == b' ')?;
    let (hex, name) = (line.get(..at)?, line.get(at + 1..)?);
    let id = ObjectId::from_hex(hex).ok().filter(|id| id.kind() == kind)?;
    let valid = name.starts_with(b"refs/") && FullName::try_from(gix::bstr::BString::from(name)).is_ok();
    valid.then_some((id, name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_an_id_or_a_name_and_nothing_else() {
        let parse = |text: &str| Value::parse(text.as_bytes(), Kind::Sha1);
        let id = "1234567890123456789012345678901234567890";
        assert_eq!(parse(&format!("{id}\n")), Value::Id(ObjectId::from_hex(id.as_bytes()).unwrap()));
        assert_eq!(parse("ref: refs/heads/main\n"), Value::Symbolic("refs/heads/main".to_owned()));
        let zeroes = "0".repeat(40);
        for bad in
            ["", "\0\0\0", "12345", "ref: refs/heads/ma", "ref: main", "ref: refs/heads/\0", zeroes.as_str(), "x"]
        {
            let value = parse(bad);
            let cut = bad == "ref: refs/heads/ma";
            assert_eq!(matches!(value, Value::Damaged(_)), !cut, "{bad:?}: {value:?}");
        }
    }

    #[test]
    fn packed_references_are_read_as_far_as_they_are_whole() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!("# pack-refs with: peeled fully-peeled sorted \n{a} refs/heads/x\n{b} refs/tags/y\n^{a}\n");
        let whole = Packed::parse(text.as_bytes(), Kind::Sha1);
        assert_eq!((whole.damage, whole.refs.len()), (None, 2));
        assert_eq!(whole.refs.get("refs/tags/y").unwrap().1.unwrap().to_string(), a);
        let again = Packed::parse(&whole.bytes(), Kind::Sha1);
        assert_eq!((again.damage, again.refs), (None, whole.refs.clone()));
        for cut in 1..text.len() {
            let cut = Packed::parse(&text.as_bytes()[..cut], Kind::Sha1);
            assert!(cut.refs.iter().all(|(name, (id, _))| whole.refs[name].0 == *id), "{cut:?}");
        }
        let mut named = format!("# pack-refs with: peeled fully-peeled sorted \n{a} refs/heads/caf").into_bytes();
        named.extend_from_slice(b"\xe9\n");
        named.extend_from_slice(format!("{b} refs/tags/y\n^{a}\n").as_bytes());
        let strange = Packed::parse(&named, Kind::Sha1);
        assert_eq!((strange.damage, strange.refs.len(), strange.strangers.len()), (None, 1, 1));
        assert_eq!(Packed::parse(&strange.bytes(), Kind::Sha1).strangers, strange.strangers);
        assert_eq!(Packed::parse(b"", Kind::Sha1).damage, Some("empty"));
        assert_eq!(Packed::parse(&[0; 9], Kind::Sha1).damage, Some("zeroed"));
        let unsorted = text.replace("refs/heads/x", "refs/zz");
        assert_eq!(Packed::parse(unsorted.as_bytes(), Kind::Sha1).damage, Some("damaged"));
    }
}
