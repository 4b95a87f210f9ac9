//! Makes the history that a bridge would have left, through `git fast-import` alone.
//!
//! Artifacts and logs are as contract section 2 has them: the newest commands flat, older ones in segments of
//! [`WINDOW`], the audit log chained and rolled. One thing is shortened: a commit holds the artifacts of several commands,
//! [`COMMITS_A_SEGMENT`] commits a segment. What the bridge's work costs depends on trees and log, not on how many commits
//! led to them.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use protocol::audit::{AuditEntry, AuditLine, AuditResult};
use protocol::digest::Sha256;
use protocol::id::CommandId;

use crate::documents::{Filed, Signer, instant};
use crate::site::git_command;

/// Commands in a segment, and in a flat folder: the default of `publish.window`.
pub const WINDOW: u64 = 256;
/// The log's size from which on it rolls: the default of `publish.log_kib`.
const LOG_BYTES: usize = 64 * 1024;
/// Commits that fill a segment.
const COMMITS_A_SEGMENT: u64 = 8;
/// Segments of one day.
const SEGMENTS_A_DAY: u64 = 100;
/// Commands between two words of progress.
const PROGRESS: u64 = 100_000;

/// A stream for `git fast-import` as it grows.
pub struct Stream<W: Write> {
    pub out: W,
    /// The log that has not rolled yet.
    pub log: Vec<u8>,
    prev: Sha256,
}

/// Fills the empty repository `git_dir` with a history of `count` commands on `main`, the last of them filed just now.
pub fn fill(git_dir: &Path, count: u64, extra: &[(&str, &str)]) {
    let mut import = git_command(git_dir)
        .args(["-c", "pack.compression=1", "-c", "core.compression=1", "fast-import", "--quiet", "--done"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stream = Stream::new(BufWriter::with_capacity(1 << 20, import.stdin.take().unwrap()));
    stream.write(count, extra).unwrap();
    drop(stream);
    assert!(import.wait().unwrap().success(), "git fast-import");
}

/// Where a command's artifacts lie within their folders once `count` commands are filed: its number decides.
fn place(number: u64, count: u64, begin: DateTime<Utc>) -> String {
    let full = count.saturating_sub(WINDOW) / WINDOW;
    let segment = number / WINDOW;
    if segment >= full {
        return String::new();
    }
    let day = begin + TimeDelta::days((segment / SEGMENTS_A_DAY) as i64);
    format!("{}/{:04}/", day.format("%Y/%m/%d"), segment % SEGMENTS_A_DAY)
}

impl<W: Write> Stream<W> {
    pub fn new(out: W) -> Self {
        Self { out, log: Vec::new(), prev: Sha256::ZERO }
    }

    fn write(&mut self, count: u64, extra: &[(&str, &str)]) -> std::io::Result<()> {
        let (signer, watch) = (Signer::new(), Instant::now());
        let days = count / (WINDOW * SEGMENTS_A_DAY) + 1;
        let begin = Utc::now() - TimeDelta::days(days as i64);
        self.commit("a CLOUD", begin)?;
        for (path, content) in extra {
            self.file(path, content.as_bytes())?;
        }
        let group = WINDOW / COMMITS_A_SEGMENT;
        for number in 0..count {
            let at = begin + TimeDelta::days((number / (WINDOW * SEGMENTS_A_DAY)) as i64);
            let at = at + TimeDelta::milliseconds((number % (WINDOW * SEGMENTS_A_DAY)) as i64);
            let filed = signer.filed(format!("h{number:08}"), number, at);
            if number % group == 0 {
                self.commit(&format!("bridge: results {} (exit=0), and those after it", filed.id), at)?;
            }
            let place = place(number, count, begin);
            for (folder, name, bytes) in &filed.artifacts {
                self.file(&format!("{folder}/{place}{name}"), bytes)?;
            }
            if let Some((path, log)) = self.line(&filed, at).1 {
                self.file(&path, &log)?;
            }
            if number % group == group - 1 || number == count - 1 {
                let log = std::mem::take(&mut self.log);
                self.file("logs/bridge.log", &log)?;
                self.log = log;
            }
            if number > 0 && number % PROGRESS == 0 {
                eprintln!("    {number} of {count} commands, {:.0} s", watch.elapsed().as_secs_f64());
            }
        }
        self.out.write_all(b"done\n")?;
        self.out.flush()
    }

    pub fn commit(&mut self, subject: &str, at: DateTime<Utc>) -> std::io::Result<()> {
        let seconds = at.timestamp();
        write!(
            self.out,
            "commit refs/heads/main\ncommitter ghost-bridge <ghost-bridge@localhost> {seconds} +0000\ndata {}\n{subject}\n",
            subject.len() + 1
        )
    }

    pub fn file(&mut self, path: &str, bytes: &[u8]) -> std::io::Result<()> {
        write!(self.out, "M 100644 inline {path}\ndata {}\n", bytes.len())?;
        self.out.write_all(bytes)?;
        self.out.write_all(b"\n")
    }

    /// Adds a command's audit line to the log; gives it, and where the log rolled to just before with what it held.
    pub fn line(&mut self, filed: &Filed, at: DateTime<Utc>) -> (String, Option<(String, Vec<u8>)>) {
        let mut rolled = None;
        if self.log.len() >= LOG_BYTES {
            let name = at.format("%Y%m%dT%H%M%S%.3fZ");
            let path = format!("logs/{}/0000/bridge-{name}.log", at.format("%Y/%m/%d"));
            rolled = Some((path, std::mem::take(&mut self.log)));
        }
        let line = audit_line(filed, at, self.prev);
        self.prev = line.hash;
        let text = line.to_text().unwrap();
        self.log.extend_from_slice(text.as_bytes());
        (text, rolled)
    }
}

/// The audit line of a command that was executed well.
fn audit_line(filed: &Filed, at: DateTime<Utc>, prev: Sha256) -> AuditLine {
    let entry = AuditEntry {
        ts: instant(at),
        id: CommandId::parse(&filed.id).ok(),
        action: Some("applyPatch".to_owned()),
        result: AuditResult::Ok,
        exit: Some(0),
        files_changed: 1,
        hmac_ok: true,
        input_sha256: filed.input,
    };
    AuditLine::chain(entry, prev).unwrap()
}
