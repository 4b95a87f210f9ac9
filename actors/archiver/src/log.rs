//! The audit log on disk: lines are appended durably, and the log rolls when it has grown.
//!
//! Its end is mended before anything is added: a line that was cut short is completed or dropped, never left in the middle.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::fs::{Dir, File, OpenOptions};
use chrono::{DateTime, TimeDelta, Utc};
use protocol::audit::{AuditEntry, AuditLine};
use protocol::digest::Sha256;
use protocol::time::format_utc;

use crate::aside::set_aside;
use crate::error::ArchiveError;
use crate::files::{LOGS, make_folder, open_file, rename_to_free, replace_file, sync_folder};
use crate::history;

/// The log's name in `logs/`.
pub(crate) const BRIDGE_LOG: &str = "bridge.log";
/// The log's path, for messages.
const PATH: &str = "logs/bridge.log";

/// When the log rolls, and to where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The size in bytes from which on it rolls before the next line.
    pub bytes: u64,
    /// The most logs in one segment folder.
    pub window: usize,
}

/// A line that is durable.
#[derive(Clone, Debug)]
pub(crate) struct Appended {
    pub line: AuditLine,
    pub text: String,
    pub rolled_to: Option<String>,
}

/// The log, and where its chain stands.
#[derive(Debug)]
pub(crate) struct AuditLog {
    limits: Limits,
    last: Sha256,
    len: u64,
    /// Whether bytes of unknown fate may lie beyond `len`.
    dirty: bool,
    last_rolled: Option<DateTime<Utc>>,
    /// Where the log moved to, until the next line tells.
    pending_roll: Option<String>,
}

impl AuditLog {
    /// Mends the end of the log in `logs` and finds where the chain stands.
    pub(crate) fn open(logs: &Dir, limits: Limits) -> Result<Self, ArchiveError> {
        mend_roll(logs)?;
        let len = mend(logs)?;
        let last = history::last_hash(logs)?;
        let last_rolled = history::last_rolled(logs)?;
        Ok(Self { limits, last, len, dirty: false, last_rolled, pending_roll: None })
    }

    /// Appends what is not in `done` yet of `entries`, stamped with `now`, and adds it to `done` once it is durable.
    pub(crate) fn append(
        &mut self,
        logs: &Dir,
        entries: &[AuditEntry],
        now: DateTime<Utc>,
        done: &mut Vec<Appended>,
    ) -> Result<(), ArchiveError> {
        while let Some(rest) = entries.get(done.len()..).filter(|rest| !rest.is_empty()) {
            self.settle(logs)?;
            if self.len >= self.limits.bytes {
                self.roll(logs, now)?;
            }
            let (mut text, mut lines, mut prev) = (String::new(), Vec::new(), self.last);
            for entry in rest {
                if self.len + text.len() as u64 >= self.limits.bytes {
                    break;
                }
                let entry = AuditEntry { ts: format_utc(now), ..entry.clone() };
                let spell = |source| ArchiveError::Serialize { file: PATH.to_owned(), source };
                let line = AuditLine::chain(entry, prev).map_err(spell)?;
                prev = line.hash;
                let line_text = line.to_text().map_err(spell)?;
                text.push_str(&line_text);
                lines.push(Appended { line, text: line_text, rolled_to: None });
            }
            self.write(logs, &text).map_err(ArchiveError::io("append to", PATH))?;
            self.last = prev;
            if let Some(first) = lines.first_mut() {
                first.rolled_to = self.pending_roll.take();
            }
            done.append(&mut lines);
        }
        Ok(())
    }

    /// Sees to it that the file ends where the last durable line does.
    fn settle(&mut self, logs: &Dir) -> Result<(), ArchiveError> {
        let io = |what| ArchiveError::io(what, PATH);
        let Some(file) = open_log(logs)? else {
            if self.len > 0 {
                tracing::error!("{PATH} is gone; a new one goes on with the chain, the next start joins them");
            }
            (self.len, self.dirty) = (0, false);
            return Ok(());
        };
        let metadata = file.metadata().map_err(io("open"))?;
        if metadata.len() == self.len {
            self.dirty = false;
        } else if self.dirty && metadata.len() > self.len {
            file.set_len(self.len).and_then(|()| file.sync_all()).map_err(io("cut back"))?;
            self.dirty = false;
        } else {
            tracing::error!(
                expected = self.len,
                found = metadata.len(),
                "{PATH} was changed by somebody else; going on at its end"
            );
            (self.len, self.dirty) = (mend(logs)?, false);
        }
        Ok(())
    }

    fn write(&mut self, logs: &Dir, text: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).follow(FollowSymlinks::No).nonblock(true);
        self.dirty = true;
        let mut file = logs.open_with(BRIDGE_LOG, &options)?;
        file.seek(SeekFrom::Start(self.len))?;
        file.write_all(text.as_bytes())?;
        supervision::crash_point!("archiver.appended");
        file.sync_all()?;
        if self.len == 0 {
            sync_folder(logs)?;
        }
        self.len += text.len() as u64;
        self.dirty = false;
        Ok(())
    }

    /// Moves the log to its segment. The next line starts a new one.
    fn roll(&mut self, logs: &Dir, now: DateTime<Utc>) -> Result<(), ArchiveError> {
        // Segments are read in the order of their paths: a clock that was set back must not put this one before others.
        let after_last = self.last_rolled.map_or(now, |last| now.max(last + TimeDelta::milliseconds(1)));
        let day = after_last.format("%Y/%m/%d").to_string();
        let mut folder = logs.try_clone().map_err(ArchiveError::io("open", LOGS))?;
        for part in day.split('/') {
            folder = segment_folder(&folder, part)?;
        }
        let number = history::segment_number(&folder, self.limits.window)?;
        let folder = segment_folder(&folder, &number)?;
        let name = history::segment_name(after_last);
        let path = format!("{LOGS}/{day}/{number}/{name}");
        let moved = match rename_to_free(logs, BRIDGE_LOG, &folder, &name) {
            // The segments lie on a disk of their own.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(logs, &folder, &name),
            other => other,
        };
        moved.map_err(ArchiveError::io("roll the log to", &path))?;
        supervision::crash_point!("archiver.rolled");
        (self.len, self.last_rolled, self.pending_roll) = (0, Some(after_last), Some(path.clone()));
        sync_folder(&folder).and_then(|()| sync_folder(logs)).map_err(ArchiveError::io("sync the folder of", path))
    }
}

/// Opens the log; `None` where there is none. What is no file is set aside: nobody waits for it.
fn open_log(logs: &Dir) -> Result<Option<File>, ArchiveError> {
    match logs.symlink_metadata(BRIDGE_LOG) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ArchiveError::Io { what: "look at", path: PATH.to_owned(), source }),
        Ok(metadata) if !metadata.is_file() => {
            set_aside(logs, LOGS, BRIDGE_LOG)?;
            return Ok(None);
        }
        Ok(_) => {}
    }
    let file = open_file(logs, BRIDGE_LOG, true).map_err(ArchiveError::io("open", PATH))?;
    let is_file = file.metadata().map_err(ArchiveError::io("open", PATH))?.is_file();
    // Somebody swapped it meanwhile: it is looked at again.
    if is_file { Ok(Some(file)) } else { Err(ArchiveError::Conflict { path: PATH.to_owned() }) }
}

/// Opens the folder `name` of segments, made where it is missing. What is no folder is set aside.
fn segment_folder(parent: &Dir, name: &str) -> Result<Dir, ArchiveError> {
    match make_folder(parent, name) {
        Err(ArchiveError::NotAFolder { .. }) => {
            set_aside(parent, LOGS, name)?;
            make_folder(parent, name)
        }
        other => other,
    }
}

/// Moves the log where it cannot be renamed. Until its end the log lies in both places, whole.
pub(crate) fn copy(logs: &Dir, folder: &Dir, name: &str) -> io::Result<()> {
    let mut bytes = Vec::new();
    open_file(logs, BRIDGE_LOG, false)?.read_to_end(&mut bytes)?;
    replace_file(folder, name, &bytes)?;
    logs.remove_file(BRIDGE_LOG)
}

/// What was cut short while the log moved to its segment: it lies in both places, or a part of it does. One stays, the
/// whole one, or every line of it would count twice and the chain would be broken.
fn mend_roll(logs: &Dir) -> Result<(), ArchiveError> {
    let Some(last) = history::last_segment(logs)? else { return Ok(()) };
    let log = match open_log(logs)? {
        Some(_) => history::bytes(logs, BRIDGE_LOG)?,
        None => return Ok(()),
    };
    let rolled = history::bytes(logs, &last)?;
    let twice = match (log == rolled, log.starts_with(&rolled)) {
        _ if log.is_empty() => return Ok(()),
        (true, _) => BRIDGE_LOG,
        (false, true) => &last,
        (false, false) => return Ok(()),
    };
    tracing::warn!(segment = last, "the log lay in two places: its roll-over had been cut short");
    logs.remove_file(twice)
        .and_then(|()| sync_folder(logs))
        .map_err(ArchiveError::io("remove", format!("{LOGS}/{twice}")))
}

/// Completes or drops a last line that was cut short; returns the log's length.
fn mend(logs: &Dir) -> Result<u64, ArchiveError> {
    let io = |what| ArchiveError::io(what, PATH);
    let Some(mut file) = open_log(logs)? else { return Ok(0) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io("read"))?;
    match verdict(&bytes) {
        End::Whole => {}
        End::WithoutNewline => {
            tracing::warn!("{PATH}: completing the last line, which lacked its newline");
            file.seek(SeekFrom::End(0))
                .and_then(|_| file.write_all(b"\n"))
                .and_then(|()| file.sync_all())
                .map_err(io("complete"))?;
            bytes.push(b'\n');
        }
        End::Torn(keep) => {
            tracing::warn!(dropped = bytes.len() - keep, "{PATH}: dropping the last line, which was cut short");
            file.set_len(keep as u64).and_then(|()| file.sync_all()).map_err(io("cut back"))?;
            bytes.truncate(keep);
        }
    }
    Ok(bytes.len() as u64)
}

/// How a log ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    WithoutNewline,
    /// Only so many bytes are worth keeping.
    Torn(usize),
}

fn verdict(bytes: &[u8]) -> End {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return End::Whole;
    }
    let start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = body.get(start..).and_then(|line| std::str::from_utf8(line).ok()).and_then(AuditLine::parse);
    match (line, body.len() < bytes.len()) {
        (Some(_), true) => End::Whole,
        (Some(_), false) => End::WithoutNewline,
        (None, _) => End::Torn(start),
    }
}
