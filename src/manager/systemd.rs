//! systemd's socket (`sd_notify(3)`): a datagram for each thing that is to be said, sent without waiting.
//!
//! A few lines instead of a crate: those that there are send by a socket that blocks, and a bridge must not stand still
//! because its manager does.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::figures::Figures;

/// The bridge is ready.
pub const READY: &str = "READY=1";
/// The bridge stops.
pub const STOPPING: &str = "STOPPING=1\nSTATUS=stopping: finishing what is in flight, then publishing it";
/// A sign of life.
pub const WATCHDOG: &str = "WATCHDOG=1";

/// How the bridge fares, as `systemctl status` shows it.
#[must_use]
pub fn status(figures: &Figures) -> String {
    let Figures { pending, in_flight, filed, uncommitted, unpushed, .. } = figures;
    let state = figures
        .degraded
        .as_deref()
        .map_or_else(|| "serving".to_owned(), |reason| format!("degraded ({})", crate::exit::one_line(reason)));
    format!(
        "STATUS={state}: {pending} pending, {in_flight} in flight, {filed} filed, {uncommitted} uncommitted, {unpushed} unpushed"
    )
}

/// The way to systemd.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// The way to the socket that `NOTIFY_SOCKET` names: a path, or an abstract name behind an `@`.
    ///
    /// # Errors
    /// When it names neither.
    pub fn open(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            [b'@', rest @ ..] => abstract_name(rest)?,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Says `state`: one or more `NAME=value` lines.
    ///
    /// # Errors
    /// When it cannot be said now (`WouldBlock`) or at all.
    pub fn say(&self, state: &str) -> io::Result<()> {
        self.socket.send_to_addr(state.as_bytes(), &self.address).map(drop)
    }
}

#[cfg(target_os = "linux")]
fn abstract_name(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_name(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "abstract names are known to Linux alone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_to_a_path_and_to_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        Notifier::open(path.as_os_str()).unwrap().say(READY).unwrap();
        let mut bytes = [0; 64];
        let read = listener.recv(&mut bytes).unwrap();
        assert_eq!(bytes.get(..read), Some(READY.as_bytes()));
        #[cfg(target_os = "linux")]
        {
            let name = format!("ghost-bridge-test-{}", std::process::id());
            let listener = UnixDatagram::bind_addr(&abstract_name(name.as_bytes()).unwrap()).unwrap();
            Notifier::open(OsStr::new(&format!("@{name}"))).unwrap().say(WATCHDOG).unwrap();
            let read = listener.recv(&mut bytes).unwrap();
            assert_eq!(bytes.get(..read), Some(WATCHDOG.as_bytes()));
        }
        assert!(Notifier::open(OsStr::new("vsock:2:1")).is_err());
        assert!(Notifier::open(OsStr::new("/nobody/there")).unwrap().say(READY).is_err());
    }

    #[test]
    fn a_listener_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _listener = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::open(path.as_os_str()).unwrap();
        let refused = (0..100_000).find_map(|_| notifier.say(READY).err()).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_status_is_one_line() {
        let figures = Figures { pending: 2, degraded: Some("a\nREADY=1".to_owned()), ..Figures::default() };
        let status = status(&figures);
        assert_eq!(status, "STATUS=degraded (a READY=1): 2 pending, 0 in flight, 0 filed, 0 uncommitted, 0 unpushed");
    }
}
