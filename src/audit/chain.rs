//! The audit log as it lies on disk: rolled logs in order, then `logs/bridge.log`, as one chain.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use protocol::audit::{AuditLine, AuditResult};
use protocol::digest::Sha256;
use protocol::git_id::{GitId, ObjectFormat};
use protocol::id::CommandId;
pub use protocol::segment::MAX_LOG_BYTES;
use protocol::segment::{self, DAY_DIGITS};
use rustix::fs::FileType;

use super::disk::{self, Root, Unread};
use super::parallel;

/// The log that grows.
pub const LIVE_LOG: &str = "logs/bridge.log";
/// How often the logs are listed anew when one was rolled meanwhile.
const TRIES: usize = 20;

/// One intact line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its place in the chain, from 1.
    pub position: u64,
    /// What the document's id is.
    pub id: Option<CommandId>,
    /// How it ended.
    pub result: AuditResult,
    /// The exit code, for what was executed.
    pub exit: Option<u8>,
    /// Files that differ.
    pub files_changed: u64,
    /// Whether the signature held.
    pub hmac_ok: bool,
    /// Hash of the document.
    pub input: Sha256,
}

/// A log that was rolled over.
#[derive(Debug)]
pub struct Rolled {
    /// Where it lies, relative to CLOUD.
    pub path: String,
    /// Git's name for its bytes.
    pub id: GitId,
    /// How many lines it has.
    pub lines: u64,
}

/// Where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The line's place in the chain, from 1.
    pub position: u64,
    /// The log, relative to CLOUD.
    pub file: String,
    /// The line there, from 1.
    pub number: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The whole log.
#[derive(Debug, Default)]
pub struct Chain {
    /// The intact lines.
    pub lines: Vec<Line>,
    /// Where it does not hold, in order.
    pub breaks: Vec<Break>,
    /// How many lines there are, intact or not.
    pub count: u64,
    /// The rolled logs, in order.
    pub rolled: Vec<Rolled>,
    /// The bytes of `logs/bridge.log`.
    pub live: Vec<u8>,
    /// Bytes of all logs.
    pub bytes: u64,
}

/// The log's files, of one moment.
pub struct Files {
    /// Rolled logs, in order.
    pub rolled: Vec<String>,
    /// The live one's bytes.
    pub live: Vec<u8>,
}

/// Lists the logs. The live one is opened before and compared after, so that one that is rolled meanwhile is read once.
///
/// # Errors
/// When a folder cannot be listed or the live log cannot be read.
pub fn files(root: &Root) -> io::Result<Files> {
    let fault = |error: Unread| io::Error::other(format!("{LIVE_LOG}: {error}"));
    let open = || match root.file(LIVE_LOG) {
        Ok(file) => Ok(Some(file)),
        Err(Unread::Missing) => Ok(None),
        Err(error) => Err(fault(error)),
    };
    for _ in 0..TRIES {
        let before = open()?;
        let rolled = rolled(root, "logs".to_owned(), 0)?;
        let after = open()?;
        let inode = |file: &Option<std::fs::File>| -> io::Result<Option<u64>> {
            file.as_ref().map(|file| file.metadata().map(|metadata| metadata.ino())).transpose()
        };
        if inode(&before)? == inode(&after)? {
            let live = before.map_or(Ok(Vec::new()), |file| disk::read(file, MAX_LOG_BYTES)).map_err(fault)?;
            return Ok(Files { rolled, live });
        }
    }
    Err(io::Error::other("the log is rolled faster than it can be listed"))
}

fn rolled(root: &Root, path: String, level: usize) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, kind) in root.list(&path)? {
        match kind {
            FileType::Directory if segment::is_level(level, &name) => {
                found.extend(rolled(root, format!("{path}/{name}"), level + 1)?);
            }
            _ if level > DAY_DIGITS.len() && name.starts_with("bridge-") && name.ends_with(".log") => {
                found.push(format!("{path}/{name}"))
            }
            _ => {}
        }
    }
    found.sort_by(|one, other| segment::order(one).cmp(&segment::order(other)));
    Ok(found)
}

/// A log that was read.
struct Part {
    lines: Vec<Result<AuditLine, &'static str>>,
    bytes: u64,
    id: GitId,
}

/// Reads the whole log; `ids` is by what git names those that were rolled over.
///
/// # Errors
/// When a log cannot be read.
pub fn read(root: &Root, ids: ObjectFormat) -> io::Result<Chain> {
    let files = files(root)?;
    let parts = parallel::map(&files.rolled, |path| -> io::Result<Part> {
        let bytes = root.read(path, MAX_LOG_BYTES).map_err(|error| io::Error::other(format!("{path}: {error}")))?;
        Ok(Part { lines: lines(&bytes).collect(), bytes: bytes.len() as u64, id: GitId::of_blob(ids, &bytes) })
    });
    let mut chain = Chain::default();
    let mut prev = Sha256::ZERO;
    for (path, part) in files.rolled.into_iter().zip(parts) {
        let Part { lines, bytes, id } = part?;
        chain.bytes += bytes;
        let count = lines.len() as u64;
        chain.append(&path, lines.into_iter(), &mut prev);
        chain.rolled.push(Rolled { path, id, lines: count });
    }
    chain.append(LIVE_LOG, lines(&files.live), &mut prev);
    chain.bytes += files.live.len() as u64;
    chain.live = files.live;
    Ok(chain)
}

impl Chain {
    /// Where the line of this place in the chain stands: the log, the number there from 1, and its text.
    ///
    /// # Errors
    /// When the log cannot be read any more.
    pub fn place(&self, root: &Root, position: u64) -> io::Result<(String, u64, String)> {
        let mut number = position;
        for rolled in &self.rolled {
            if number <= rolled.lines {
                let bytes = root.read(&rolled.path, MAX_LOG_BYTES).map_err(io::Error::other)?;
                return Ok((rolled.path.clone(), number, nth(&bytes, number)));
            }
            number -= rolled.lines;
        }
        Ok((LIVE_LOG.to_owned(), number, nth(&self.live, number)))
    }

    fn append(&mut self, file: &str, lines: impl Iterator<Item = Result<AuditLine, &'static str>>, prev: &mut Sha256) {
        for (number, line) in (1..).zip(lines) {
            self.count += 1;
            let (line, fault) = match line {
                Err(what) => (None, Some(what)),
                Ok(line) if line.prev != *prev => (Some(line), Some("does not follow the line before")),
                Ok(line) => (Some(line), None),
            };
            if let Some(what) = fault {
                self.breaks.push(Break { position: self.count, file: file.to_owned(), number, what });
            }
            let Some(line) = line else { continue };
            *prev = line.hash;
            let entry = line.entry;
            self.lines.push(Line {
                position: self.count,
                id: entry.id,
                result: entry.result,
                exit: entry.exit,
                files_changed: entry.files_changed,
                hmac_ok: entry.hmac_ok,
                input: entry.input_sha256,
            });
        }
    }
}

/// The line of this number, from 1.
fn nth(log: &[u8], number: u64) -> String {
    let index = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    String::from_utf8_lossy(log.split(|byte| *byte == b'\n').nth(index).unwrap_or_default()).into_owned()
}

/// The lines of a log's bytes: each read, and held against the one way to spell it.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = Result<AuditLine, &'static str>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(|raw| {
        let Some(text) = raw.strip_suffix(b"\n") else { return Err("is cut short") };
        let text = std::str::from_utf8(text).map_err(|_| "is no intact line")?;
        let line = AuditLine::parse(text).ok_or("is no intact line")?;
        // Its hash covers what it says; how it is spelled counts too.
        let is_own = line.to_text().is_ok_and(|own| own.as_bytes() == raw);
        if is_own { Ok(line) } else { Err("is not spelled as the bridge spells it") }
    })
}

/// The names that the dead letter of a document with an id may have.
#[must_use]
pub fn letter_names(id: &CommandId, input: &Sha256) -> [String; 3] {
    let short = input.short();
    [format!("{id}.json"), format!("{id}-{short}.json"), format!("{id}-{short}-{input}.json")]
}

/// The stems under which an executed command may be filed.
#[must_use]
pub fn stems(id: &CommandId, input: &Sha256) -> [String; 3] {
    [id.to_string(), format!("{id}-{}", input.short()), format!("{id}-{input}")]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protocol::audit::AuditEntry;

    fn log(count: usize) -> String {
        let mut prev = Sha256::ZERO;
        (0..count)
            .map(|number| {
                let entry = AuditEntry {
                    ts: "2026-01-02T03:04:05.678Z".into(),
                    id: CommandId::parse(&format!("c{number}")).ok(),
                    action: Some("applyPatch".into()),
                    result: AuditResult::Ok,
                    exit: Some(0),
                    files_changed: 2,
                    hmac_ok: true,
                    input_sha256: Sha256::of(&[u8::try_from(number).unwrap()]),
                };
                let line = AuditLine::chain(entry, prev).unwrap();
                prev = line.hash;
                line.to_text().unwrap()
            })
            .collect()
    }

    fn read_back(text: &[u8]) -> Chain {
        let (mut chain, mut prev) = (Chain::default(), Sha256::ZERO);
        chain.append(LIVE_LOG, lines(text), &mut prev);
        chain
    }

    #[test]
    fn every_flipped_bit_of_a_log_is_a_break() {
        let text = log(3);
        assert!(read_back(text.as_bytes()).breaks.is_empty());
        for place in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[place] ^= 1 << bit;
                assert!(!read_back(&bytes).breaks.is_empty(), "byte {place}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_line_that_is_gone_cut_or_elsewhere_is_a_break() {
        let text = log(4);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for (other, position, what) in [
            ([lines[0], lines[2], lines[3]].concat(), 2, "does not follow the line before"),
            ([lines[1], lines[0], lines[2], lines[3]].concat(), 1, "does not follow the line before"),
            (text[..text.len() - 1].to_owned(), 4, "is cut short"),
            (text[..text.len() - 30].to_owned(), 4, "is cut short"),
            ([lines[0], "\n", lines[1]].concat(), 2, "is no intact line"),
        ] {
            let first = read_back(other.as_bytes()).breaks.first().cloned().unwrap();
            assert_eq!((first.position, first.what), (position, what));
        }
    }
}
