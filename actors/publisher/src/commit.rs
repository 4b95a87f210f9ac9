//! A commit's bytes: made, read, and put on another parent.

use gix::ObjectId;

use crate::error::WorkError;
use crate::keep;

/// Who commits, and when.
#[derive(Clone, Debug)]
pub struct Signer {
    name: String,
    email: String,
}

impl Signer {
    /// A signer; what would break a commit's header is left out of both.
    #[must_use]
    pub fn new(name: &str, email: &str) -> Self {
        let clean = |text: &str, fallback: &str| {
            let text: String = text.chars().filter(|c| !c.is_control() && *c != '<' && *c != '>').collect();
            let text = text.trim();
            if text.is_empty() { fallback.to_owned() } else { text.to_owned() }
        };
        Self { name: clean(name, "ghost-bridge"), email: clean(email, "ghost-bridge@localhost") }
    }

    /// The signature at a time, in seconds since 1970, UTC.
    #[must_use]
    pub fn at(&self, seconds: i64) -> String {
        format!("{} <{}> {seconds} +0000", self.name, self.email)
    }
}

/// The trailer by which a bridge's commits name the bridge.
pub const INSTANCE: &str = "Bridge-Instance";

/// Whether a text is the number of a bridge.
#[must_use]
pub fn is_instance(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A bridge's message: the subject, and which bridge it is.
#[must_use]
pub fn message(subject: &str, instance: &str) -> String {
    format!("{subject}\n\n{INSTANCE}: {instance}")
}

/// A new commit's bytes.
#[must_use]
pub fn make(tree: ObjectId, parent: Option<ObjectId>, signature: &str, message: &str) -> Vec<u8> {
    let parent = parent.map(|id| format!("parent {id}\n")).unwrap_or_default();
    format!("tree {tree}\n{parent}author {signature}\ncommitter {signature}\n\n{message}\n").into_bytes()
}

/// What is read of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its tree.
    pub tree: ObjectId,
    /// Its parents.
    pub parents: Vec<ObjectId>,
    /// The author's line, without the word before it.
    author: Vec<u8>,
    /// The encoding's line, likewise.
    encoding: Option<Vec<u8>>,
    pub(crate) message: Vec<u8>,
}

/// Reads a commit.
///
/// # Errors
/// When it lacks a tree or an author.
pub fn parse(id: ObjectId, bytes: &[u8]) -> Result<Commit, WorkError> {
    let broken = || WorkError::object(id, "is a malformed commit");
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, message) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 2..).unwrap_or_default());
    let hex = |text: &[u8]| ObjectId::from_hex(text).map_err(|_| broken());
    let (mut tree, mut parents, mut author, mut encoding) = (None, Vec::new(), None, None);
    for line in head.split(|byte| *byte == b'\n') {
        if let Some(rest) = line.strip_prefix(b"tree ") {
            tree = Some(hex(rest)?);
        } else if let Some(rest) = line.strip_prefix(b"parent ") {
            parents.push(hex(rest)?);
        } else if let Some(rest) = line.strip_prefix(b"author ") {
            author = Some(rest.to_vec());
        } else if let Some(rest) = line.strip_prefix(b"encoding ") {
            encoding = Some(rest.to_vec());
        }
    }
    Ok(Commit {
        tree: tree.ok_or_else(broken)?,
        parents,
        author: author.ok_or_else(broken)?,
        encoding,
        message: message.to_vec(),
    })
}

impl Commit {
    /// Which bridge made it; `None` where it is a person's.
    #[must_use]
    pub fn instance(&self) -> Option<String> {
        // A person's squash of what a bridge did elsewhere may end in its trailer, too.
        self.message.starts_with(keep::OURS).then_some(())?;
        let last = self.message.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
        let value = last.strip_prefix(INSTANCE.as_bytes())?.strip_prefix(b": ")?;
        std::str::from_utf8(value).ok().filter(|text| is_instance(text)).map(str::to_owned)
    }

    /// The same commit with another tree on another parent: author, time and message stay, and a signature, which
    /// would no longer hold, goes.
    #[must_use]
    pub fn moved(&self, tree: ObjectId, parent: ObjectId, committer: &str) -> Vec<u8> {
        let mut out = format!("tree {tree}\nparent {parent}\nauthor ").into_bytes();
        out.extend_from_slice(&self.author);
        out.extend_from_slice(format!("\ncommitter {committer}\n").as_bytes());
        if let Some(encoding) = &self.encoding {
            out.extend_from_slice(b"encoding ");
            out.extend_from_slice(encoding);
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(&self.message);
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ObjectId {
        ObjectId::try_from([byte; 20].as_slice()).unwrap()
    }

    #[test]
    fn a_commit_reads_back_and_moves() {
        let bytes = make(id(1), Some(id(2)), &Signer::new("A <b>\n", "").at(5), "bridge: results x (exit=0)");
        let commit = parse(id(9), &bytes).unwrap();
        assert_eq!((commit.tree, commit.parents.clone()), (id(1), vec![id(2)]));
        let moved = String::from_utf8(commit.moved(id(3), id(4), "C <c> 6 +0000")).unwrap();
        assert_eq!(
            moved,
            format!(
                "tree {}\nparent {}\nauthor A b <ghost-bridge@localhost> 5 +0000\ncommitter C <c> 6 +0000\n\nbridge: results x (exit=0)\n",
                id(3),
                id(4)
            )
        );
    }

    #[test]
    fn a_bridges_commit_names_the_bridge_and_a_persons_does_not() {
        let instance = |text: &str| parse(id(9), &make(id(1), None, "a <a> 1 +0000", text)).unwrap().instance();
        let one = "0123456789abcdef";
        assert_eq!(instance(&message("bridge: summaries", one)).as_deref(), Some(one));
        for text in [
            "bridge: summaries",
            "Staging (#1)\n\n* bridge: summaries\n\nBridge-Instance: 0123456789abcdef",
            "x\n\nBridge-Instance: 12",
            "x\n\nBridge-Instance: 0123456789abcdef\n\nand more",
        ] {
            assert_eq!(instance(text), None, "{text}");
        }
    }

    #[test]
    fn a_signature_is_dropped_and_an_encoding_kept() {
        let text = format!(
            "tree {}\nauthor a <a> 1 +0100\ncommitter a <a> 1 +0100\nencoding latin1\ngpgsig -----BEGIN\n tree bogus\n -----END\n\nhi\n\nthere\n",
            id(1)
        );
        let commit = parse(id(9), text.as_bytes()).unwrap();
        let moved = String::from_utf8(commit.moved(id(1), id(2), "c <c> 2 +0000")).unwrap();
        assert!(moved.ends_with("committer c <c> 2 +0000\nencoding latin1\n\nhi\n\nthere\n"), "{moved}");
        assert!(parse(id(9), b"author a\n\nx").is_err());
    }
}
