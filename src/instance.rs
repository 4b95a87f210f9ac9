//! One instance a CLOUD: an advisory lock on `CLOUD/.bridge.lock` that the kernel releases with the process.
//!
//! The file's content is for people only; whether it exists, and what it says, decides nothing. So a stale file never
//! wedges anything, and nobody ever needs to delete it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use protocol::time::format_utc;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::exit::{Failure, Status, one_line};

/// The lock file, relative to CLOUD.
pub const LOCK_FILE: &str = ".bridge.lock";
/// The most that is read of a lock file, in bytes.
const MAX_NOTE_BYTES: u64 = 1024;

/// How often a held lock is tried: whoever only asks for the holder holds it for an instant.
const TRIES: u32 = 5;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another instance holds it.
    #[error("another instance runs on this CLOUD ({holder}); stop that one first, there is no file to delete")]
    Held {
        /// What the file says of the holder.
        holder: String,
    },
    /// The file cannot be used.
    #[error("cannot lock {}: {source}; it must be a regular file that this user can write", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let status = match error {
            LockError::Held { .. } => Status::Busy,
            LockError::Unusable { .. } => Status::Config,
        };
        Failure::new(status, error)
    }
}

/// The lock, held as long as this value lives.
#[derive(Debug)]
pub struct InstanceLock {
    // Only held: closing it releases the lock.
    _file: File,
}

impl InstanceLock {
    /// Takes the lock of `cloud` and notes this process in it.
    ///
    /// # Errors
    /// When another process holds it, or the file cannot be used.
    pub fn take(cloud: &Path, now: DateTime<Utc>) -> Result<Self, LockError> {
        let path = cloud.join(LOCK_FILE);
        let unusable = |source: io::Error| LockError::Unusable { path: path.clone(), source };
        let mut file = open(&path, OFlags::RDWR | OFlags::CREATE).map_err(unusable)?;
        let mut tries = TRIES;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if tries > 1 => {
                    tries -= 1;
                    std::thread::sleep(PAUSE);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { holder: note(&mut file) }),
                Err(error) => return Err(unusable(error.into())),
            }
        }
        let text =
            format!("pid {} since {} version {}\n", std::process::id(), format_utc(now), env!("CARGO_PKG_VERSION"));
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(unusable)?;
        Ok(Self { _file: file })
    }

    /// Who holds the lock of `cloud`, in the file's words; `None` where nobody does.
    #[must_use]
    pub fn holder(cloud: &Path) -> Option<String> {
        let mut file = open(&cloud.join(LOCK_FILE), OFlags::RDONLY).ok()?;
        // A shared try is refused by a holder and leaves no trace; it is let go with the file.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => Some(note(&mut file)),
            _ => None,
        }
    }
}

/// Opens the lock file: never through a link, never a FIFO that would wait, never for a child.
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

fn note(file: &mut File) -> String {
    let mut text = String::new();
    // A note that cannot be read is no reason to fail: it only says who.
    let read = file.rewind().and_then(|()| (&*file).take(MAX_NOTE_BYTES).read_to_string(&mut text));
    match one_line(&text) {
        text if read.is_ok() && !text.is_empty() => text,
        _ => "it has not said which".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it_and_a_stale_file_is_nothing() {
        let cloud = tempfile::tempdir().unwrap();
        let path = cloud.path().join(LOCK_FILE);
        std::fs::write(&path, "pid 1 since long ago\n".repeat(9)).unwrap();
        assert_eq!(InstanceLock::holder(cloud.path()), None);
        let lock = InstanceLock::take(cloud.path(), Utc::now()).unwrap();
        let me = format!("pid {} since 2", std::process::id());
        assert!(InstanceLock::holder(cloud.path()).unwrap().starts_with(&me));
        let failure = Failure::from(InstanceLock::take(cloud.path(), Utc::now()).unwrap_err());
        assert_eq!(failure.status, Status::Busy);
        assert!(failure.to_string().contains(&me), "{failure}");
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        drop(lock);
        InstanceLock::take(cloud.path(), Utc::now()).unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let cloud = tempfile::tempdir().unwrap();
        let other = cloud.path().join("precious");
        std::fs::write(&other, "keep").unwrap();
        std::os::unix::fs::symlink(&other, cloud.path().join(LOCK_FILE)).unwrap();
        let failure = Failure::from(InstanceLock::take(cloud.path(), Utc::now()).unwrap_err());
        assert_eq!(failure.status, Status::Config);
        assert_eq!(std::fs::read_to_string(other).unwrap(), "keep");
    }
}
