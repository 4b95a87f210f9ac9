//! The retries index on disk and on the branch. The publisher alone writes it: what is in memory is the truth, the file
//! follows, and the branch follows the file, in commits of their own.
//!
//! Nothing here holds up the commits of commands. Whatever fails leaves the index behind, and it is brought in line
//! later. A crash at any point costs at most the newest counts: an entry whose command was settled before the crash is
//! found by the audit log at the next start.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use chrono::{DateTime, Utc};

use crate::audit::{self, Settlement};
use crate::core::{Core, LOG_PATH};
use crate::error::WorkError;
use crate::files::{Found, Root};
use crate::objects::MAX_BLOB_BYTES;
use crate::pending::Pending;
use crate::recovery::rolled_logs;
use crate::retries::{MAX_INDEX_BYTES, RETRIES_PATH, Retries, bad_name, one_line};
use crate::tree::{FILE, Leaf};

/// The commit's message.
const SUBJECT: &str = "bridge: retries index update";

/// The folder that the index lies in.
const META: &str = "meta";

/// How much log is read at a start to find commands that were settled, in bytes. An entry whose command was settled
/// longer ago stays; it does no harm.
const LOOK_BACK_BYTES: usize = 16 << 20;

/// How many files of one instant can be set aside.
const MAX_ASIDE: u32 = 100;

/// The index as the publisher holds it.
#[derive(Debug, Default)]
pub(crate) struct RetryIndex {
    retries: Retries,
    /// Whether what an earlier run left on disk is in `retries`; until then nothing is written.
    opened: bool,
    /// What this process last read or wrote.
    on_disk: Option<Vec<u8>>,
    /// Whether the file is behind.
    dirty: bool,
    /// Whether the branch may be behind the file.
    unpublished: bool,
}

/// What stands at the index's path.
enum Seen {
    Nothing,
    Index(Vec<u8>, Retries),
    /// Something that is not to be lost, and why it is no index.
    Other(String),
}

/// How often each command in CLOUD's retries index was tried, by id: for whoever tries them again after a start. Empty
/// where the index cannot be read; the publisher sets such a one aside.
#[must_use]
pub fn attempts(cloud: &Path) -> BTreeMap<String, u32> {
    match Root::open(cloud).and_then(|root| look(&root)) {
        Ok(Seen::Index(_, retries)) => retries.into_attempts(),
        Ok(Seen::Nothing | Seen::Other(_)) => BTreeMap::new(),
        Err(error) => {
            tracing::warn!(cloud = %cloud.display(), %error, "{RETRIES_PATH} cannot be read: tries are counted anew");
            BTreeMap::new()
        }
    }
}

fn look(root: &Root) -> std::io::Result<Seen> {
    let path = Path::new(RETRIES_PATH);
    match root.find(path)? {
        Found::Nothing => return Ok(Seen::Nothing),
        Found::File { .. } => {}
        Found::Link(_) | Found::Other => return Ok(Seen::Other("it is no regular file".to_owned())),
    }
    Ok(match root.read(path, MAX_INDEX_BYTES) {
        Ok(None) => Seen::Nothing,
        Ok(Some(bytes)) => match Retries::parse(&bytes) {
            Ok(retries) => Seen::Index(bytes, retries),
            // The reader quotes what it does not like, however long that is.
            Err(error) => Seen::Other(one_line(&error.to_string())),
        },
        Err(error) if matches!(error.kind(), ErrorKind::FileTooLarge | ErrorKind::PermissionDenied) => {
            Seen::Other(error.to_string())
        }
        Err(error) => return Err(error),
    })
}

impl Core {
    /// Commands in the index.
    #[must_use]
    pub fn retries_pending(&self) -> usize {
        self.retries.retries.len()
    }

    /// Whether the index on disk or on the branch is behind.
    #[must_use]
    pub fn retries_lag(&self) -> bool {
        !self.retries.opened || self.retries.dirty || self.retries.unpublished
    }

    /// Notes failed tries, and brings the file and then the branch in line: one write and one commit, if anything
    /// changed.
    ///
    /// # Errors
    /// When the disk or the repository refuses. What was noted is kept, and written the next time.
    pub fn update_retries(&mut self, attempts: Retries, now: DateTime<Utc>) -> Result<(), WorkError> {
        if !attempts.is_empty() {
            self.retries.retries.absorb(attempts);
            self.retries.dirty = true;
        }
        if !self.retries.opened {
            self.read_retries(now)?;
        }
        self.write_retries(now)?;
        self.sync_head()?;
        self.put_back(now)?;
        // What the log tells of gets its commits first.
        if !self.retries.unpublished || self.recovery.is_some() {
            return Ok(());
        }
        let published = self.publish_retries(now);
        if published.is_err() {
            self.loaded = false;
        }
        published
    }

    /// At the start: reads the index, makes it where there is none, sets an unreadable one aside. What fails is done
    /// again with the next update.
    pub(crate) fn open_retries(&mut self, now: DateTime<Utc>) {
        match self.root.sweep(META) {
            Ok(0) => {}
            Ok(left) => tracing::info!(left, "removed temporary files that a crash left in {META}"),
            Err(error) => tracing::warn!(%error, "{META} cannot be cleaned"),
        }
        if let Err(error) = self.read_retries(now).and_then(|()| self.write_retries(now)) {
            tracing::error!(%error, "the retries index cannot be kept; it is tried again");
        }
    }

    fn read_retries(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        let (bytes, found) = match look(&self.root).map_err(|e| self.retries_error(e))? {
            Seen::Nothing => (None, Retries::default()),
            Seen::Index(bytes, retries) => (Some(bytes), retries),
            Seen::Other(why) => {
                self.set_retries_aside(&why, now)?;
                (None, Retries::default())
            }
        };
        let index = &mut self.retries;
        index.dirty |= bytes.is_none();
        index.on_disk = bytes;
        let newer = std::mem::replace(&mut index.retries, found);
        index.retries.absorb(newer);
        index.opened = true;
        index.unpublished = true;
        if let Err(error) = self.settle_from_log() {
            tracing::warn!(%error, "commands that were settled before may still be in the retries index");
        }
        Ok(())
    }

    /// Entries whose command was settled go. The log is read from its end, as far back as it can tell of them.
    fn settle_from_log(&mut self) -> Result<(), WorkError> {
        let Some(oldest) = self.retries.retries.oldest() else { return Ok(()) };
        let mut logs = rolled_logs(&self.root)?;
        logs.push(LOG_PATH.to_owned());
        let mut read = 0;
        while let Some(path) = logs.pop().filter(|_| read < LOOK_BACK_BYTES && self.retries_pending() > 0) {
            let bytes = self.root.read(Path::new(&path), MAX_BLOB_BYTES);
            let bytes = bytes.map_err(|e| WorkError::io(self.root.path().join(&path), e))?.unwrap_or_default();
            read += bytes.len();
            let lines = || audit::lines(&bytes).filter_map(|line| std::str::from_utf8(line).ok());
            let first = lines().next().and_then(audit::written_at);
            let settled: Vec<Settlement> = lines().filter_map(audit::settlement).collect();
            self.settle_recovered(&settled);
            // What was written before the first of the last failures settles none of them.
            if first.is_some_and(|first| first < oldest) {
                break;
            }
        }
        Ok(())
    }

    /// Entries go whose command just got its commit; the file and the branch follow later.
    pub(crate) fn settle_retries<'a>(&mut self, committed: impl Iterator<Item = &'a Pending>) {
        if self.retries.retries.is_empty() {
            return;
        }
        for settlement in committed.filter_map(|item| audit::settlement(&item.audit_line)) {
            self.retries.dirty |= self.retries.retries.settle(&settlement.id);
        }
    }

    /// The same for what the log tells, of whenever it was.
    pub(crate) fn settle_recovered(&mut self, settled: &[Settlement]) {
        for settlement in settled {
            self.retries.dirty |= self.retries.retries.settle_by(settlement);
        }
    }

    fn write_retries(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        if !self.retries.dirty {
            return Ok(());
        }
        match look(&self.root).map_err(|e| self.retries_error(e))? {
            Seen::Other(why) => self.set_retries_aside(&why, now)?,
            Seen::Index(bytes, _) if self.retries.on_disk.as_ref() != Some(&bytes) => {
                self.set_retries_aside("somebody else wrote it", now)?;
            }
            Seen::Index(..) | Seen::Nothing => {}
        }
        let bytes = self.retries.retries.to_bytes();
        supervision::crash_point!("retries.write");
        self.root.write(Path::new(RETRIES_PATH), &bytes, false).map_err(|e| self.retries_error(e))?;
        supervision::crash_point!("retries.written");
        self.retries.on_disk = Some(bytes);
        self.retries.unpublished = true;
        self.root.sync(Path::new(META)).map_err(|e| WorkError::io(self.root.path().join(META), e))?;
        self.retries.dirty = false;
        Ok(())
    }

    /// Keeps, under another name, what stands where the index belongs.
    fn set_retries_aside(&self, why: &str, now: DateTime<Utc>) -> Result<(), WorkError> {
        for number in 0..MAX_ASIDE {
            let name = bad_name(now, number);
            let kept = format!("{META}/{name}");
            if self.root.find(Path::new(&kept)).map_err(|e| self.retries_error(e))? != Found::Nothing {
                continue;
            }
            self.root.set_aside(Path::new(RETRIES_PATH), &name).map_err(|e| self.retries_error(e))?;
            tracing::error!(why, kept, "{RETRIES_PATH} is set aside, and written anew with what is known here");
            return Ok(());
        }
        Err(self.retries_error(ErrorKind::AlreadyExists.into()))
    }

    fn publish_retries(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        let Some(bytes) = self.retries.on_disk.clone() else { return Ok(()) };
        let old = self.get(RETRIES_PATH)?;
        // An empty index that was never published is nothing to tell of.
        let nothing_new = match old {
            None => self.retries.retries.is_empty(),
            Some(leaf) => self.store.id_of(&bytes)? == leaf.id,
        };
        if !nothing_new {
            let id = self.store.blob(RETRIES_PATH, bytes)?;
            self.put(RETRIES_PATH, Some(Leaf { mode: FILE, id }))?;
            let tip = self.seal(self.head, SUBJECT, now)?;
            self.publish(Some(tip), 1, now)?;
            supervision::crash_point!("retries.published");
        }
        self.retries.unpublished = false;
        Ok(())
    }

    fn retries_error(&self, error: std::io::Error) -> WorkError {
        WorkError::io(self.root.path().join(RETRIES_PATH), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retries::MAX_ERROR_BYTES;

    #[test]
    fn what_is_said_of_an_unreadable_index_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let long = "x".repeat(100_000);
        for text in [format!("{{\"a\": \"{long}\"}}"), format!("{{\"a\": {{\"{long}\": 1}}}}"), long] {
            root.write(Path::new(RETRIES_PATH), text.as_bytes(), false).unwrap();
            let Seen::Other(why) = look(&root).unwrap() else { panic!("{text:.20}") };
            assert!(!why.is_empty() && why.len() <= MAX_ERROR_BYTES, "{}", why.len());
        }
        assert_eq!(attempts(dir.path()), BTreeMap::new());
        assert_eq!(attempts(&dir.path().join("gone")), BTreeMap::new());
    }
}
