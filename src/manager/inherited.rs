//! Takes over what a process manager left for its child: variables, and the channel that one of them names by number.
//!
//! Both must not reach a child of the bridge: git would find a channel that is none of its business, or a number without
//! one. An open file that is known by its number alone can be taken over only by a promise that nobody else has it, and a
//! variable can be removed only while there is one thread; hence the unsafe code, here and nowhere else but in
//! `secrets::environ`.
#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The number of the channel that node opens for a child (and PM2 for every one), see node's `child_process`.
const CHANNEL: &str = "NODE_CHANNEL_FD";
/// How messages are spelled on it; only `json`, one document a line, is spoken here.
const CHANNEL_MODE: &str = "NODE_CHANNEL_SERIALIZATION_MODE";
/// Where systemd listens, see `sd_notify(3)`.
const NOTIFY: &str = "NOTIFY_SOCKET";
/// After how many microseconds without a sign of life systemd restarts the service, see `sd_watchdog_enabled(3)`.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// Of which process it wants them.
const WATCHDOG_PID: &str = "WATCHDOG_PID";
/// The first number that is not stdin, stdout or stderr.
const FIRST_OTHER: RawFd = 3;

/// What the process manager left. All of it may be missing.
#[derive(Debug, Default)]
pub struct Inherited {
    /// PM2's channel, closed on exec.
    pub channel: Option<UnixStream>,
    /// The name of systemd's socket.
    pub notify: Option<OsString>,
    /// How long systemd waits for a sign of life.
    pub watchdog: Option<Duration>,
    /// What was there and could not be used, to be logged.
    pub faults: Vec<String>,
}

/// Takes what the process manager left out of the environment.
///
/// # Safety
/// No other thread may exist yet, and nothing may have been opened yet: the environment is changed, and the open file
/// that it names by number is taken to be nobody's.
pub unsafe fn take() -> Inherited {
    let mut faults = Vec::new();
    // SAFETY: promised by the caller.
    let variable = |name: &str| unsafe { taken(name) };
    let (number, mode) = (variable(CHANNEL), variable(CHANNEL_MODE));
    let notify = variable(NOTIFY).filter(|name| !name.is_empty());
    let (limit, pid) = (variable(WATCHDOG), variable(WATCHDOG_PID));
    let channel = number.and_then(|number| {
        // SAFETY: promised by the caller.
        let channel = channel_number(&number, mode.as_deref()).and_then(|number| unsafe { open(number) });
        channel.map_err(|fault| faults.push(format!("{CHANNEL}={}: {fault}", number.display()))).ok()
    });
    Inherited { channel, notify, watchdog: watchdog(limit.as_deref(), pid.as_deref()), faults }
}

/// Takes one variable out of the environment.
///
/// # Safety
/// No other thread may exist yet.
unsafe fn taken(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    // SAFETY: promised by the caller.
    unsafe { std::env::remove_var(name) };
    Some(value)
}

fn channel_number(number: &OsStr, mode: Option<&OsStr>) -> Result<RawFd, String> {
    if mode.is_some_and(|mode| mode != "json") {
        return Err(format!("{CHANNEL_MODE} is not json"));
    }
    let parsed = number.to_str().and_then(|text| text.parse::<RawFd>().ok());
    parsed.filter(|number| *number >= FIRST_OTHER).ok_or_else(|| "no number of an open file beyond stderr".to_owned())
}

/// Takes over the socket with this number, and closes it on exec.
///
/// # Safety
/// Nobody in this process may have it or open anything meanwhile.
unsafe fn open(number: RawFd) -> Result<UnixStream, String> {
    // Looked at first, so that a number without a file, or with somebody's file behind it, is left alone.
    let kind = std::fs::metadata(format!("/dev/fd/{number}")).map_err(|error| error.to_string())?.file_type();
    if !kind.is_socket() {
        return Err("it is no socket".to_owned());
    }
    // SAFETY: it is open, as was just seen, and nobody's, as the caller promises.
    let channel = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&channel, rustix::io::FdFlags::CLOEXEC).map_err(|error| error.to_string())?;
    let channel = UnixStream::from(channel);
    channel.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(channel)
}

/// How long systemd waits for a sign of life of this very process.
fn watchdog(limit: Option<&OsStr>, pid: Option<&OsStr>) -> Option<Duration> {
    let micros = limit?.to_str()?.parse::<u64>().ok().filter(|micros| *micros > 0)?;
    let meant = |pid: &OsStr| pid.to_str().and_then(|pid| pid.parse::<u32>().ok()) == Some(std::process::id());
    pid.is_none_or(meant).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_a_number_beyond_stderr_and_speaks_json() {
        let number = |text: &str, mode: Option<&str>| channel_number(OsStr::new(text), mode.map(OsStr::new));
        assert_eq!(number("3", None), Ok(3));
        assert_eq!(number("17", Some("json")), Ok(17));
        assert!(number("3", Some("advanced")).is_err());
        for text in ["", "0", "1", "2", "-1", "three", "3 ", "99999999999999999999"] {
            assert!(number(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        use std::os::fd::AsRawFd as _;
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::open(folder.path()).unwrap();
        // SAFETY: it is no socket, so it is not taken.
        assert_eq!(unsafe { open(file.as_raw_fd()) }.unwrap_err(), "it is no socket");
        // SAFETY: there is no such file.
        assert!(unsafe { open(RawFd::MAX) }.is_err());
        assert!(file.metadata().is_ok());
    }

    #[test]
    fn a_watchdog_means_one_process() {
        let own = std::process::id().to_string();
        let read = |limit: &str, pid: Option<&str>| watchdog(Some(OsStr::new(limit)), pid.map(OsStr::new));
        assert_eq!(read("2000000", Some(&own)), Some(Duration::from_secs(2)));
        assert_eq!(read("2000000", None), Some(Duration::from_secs(2)));
        assert_eq!(read("2000000", Some("1")), None);
        assert_eq!(read("0", None), None);
        assert_eq!(read("soon", None), None);
    }
}
