//! What the bridge and the stages tell each other: one line of JSON down, one line of JSON up, over a socket.
//!
//! A stage first says that it is there (one line break), once it is bound to die with its parent: so a parent that is
//! dead by then is noticed. Its parent then sends the [`Order`]. When the parent wants the stage to end, or dies, the
//! stage reads the socket's end.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest line, in bytes: an order holds what the operator configured, and a configuration is at most 1 MiB.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// Which of the kernel's facilities may be used. They are all used where they are there; a caller may do without some,
/// to see what happens where they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facilities {
    /// Landlock, and the filter of system calls that goes with it.
    pub fence: bool,
    /// Namespaces.
    pub namespaces: bool,
}

impl Default for Facilities {
    fn default() -> Self {
        Self { fence: true, namespaces: true }
    }
}

/// Which stage is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The one that keeps everything together and kills it in the end.
    Outer,
    /// The one that fences itself in and becomes, or starts, the program.
    Inner,
}

/// What a stage is to do. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Which stage it is for.
    pub stage: Stage,
    /// What may be used.
    pub facilities: Facilities,
    /// Whether the program may be run without a fence.
    pub best_effort: bool,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The program's home, empty and its own.
    pub home: PathBuf,
    /// Folders, relative to the current one, in which it may write.
    pub writable: Vec<String>,
    /// Further folders that it may read.
    pub readable: Vec<PathBuf>,
    /// Seconds of processor time that each process may use.
    pub cpu_seconds: u64,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It ended with this exit code.
    Exited(i32),
    /// It was ended by this signal.
    Signalled(i32),
    /// It was ended because the parent wanted it to.
    Stopped,
    /// The kernel grants no namespaces. Nothing was run.
    NoNamespaces(String),
    /// There is no fence. Nothing was run.
    NoFence(String),
    /// The program could not be started.
    NotStarted(String),
    /// Something failed that should not.
    Broken(String),
}

/// Says that the stage is there.
///
/// # Errors
/// When nobody listens any more.
pub fn say_here(mut socket: &UnixStream) -> io::Result<()> {
    socket.write_all(b"\n")
}

/// Waits until the stage says so.
///
/// # Errors
/// When it ended before.
pub fn wait_for_stage(mut socket: &UnixStream) -> io::Result<()> {
    socket.read_exact(&mut [0])
}

/// Sends one line.
///
/// # Errors
/// When nobody listens any more.
pub fn send(mut socket: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Receives one line. Nothing may come after it: it might be taken from the socket, too.
///
/// # Errors
/// When the socket ends before the line does, or it is not what it should be.
pub fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(socket).take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    serde_json::from_slice(&line).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_sent_and_half_a_line_is_none() {
        let order = Order {
            stage: Stage::Inner,
            facilities: Facilities::default(),
            best_effort: true,
            argv: vec!["a\n\"b\"".to_owned(), String::new()],
            home: "/tmp/x".into(),
            writable: vec!["target".to_owned()],
            readable: vec!["/srv".into()],
            cpu_seconds: 7,
        };
        let (here, there) = UnixStream::pair().unwrap();
        say_here(&there).unwrap();
        wait_for_stage(&here).unwrap();
        send(&here, &order).unwrap();
        assert_eq!(receive::<Order>(&there).unwrap(), order);
        (&here).write_all(b"{\"Exited\":").unwrap();
        drop(here);
        assert!(receive::<Answer>(&there).is_err());
    }
}
