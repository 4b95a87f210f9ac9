//! How many connections there are: a bound, at which the oldest makes room for a new one.
//!
//! Each serves one request, so the oldest is one that sends its head slowly or does not take its answer. Somebody who
//! holds many of these open thus holds up nobody else.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{Shutdown, shutdown};

/// Connections at a time.
pub const MAX_OPEN: usize = 64;

/// The connections that are open.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// A second hold on each socket, by which it can be ended; in the order in which they came.
    sockets: BTreeMap<u64, OwnedFd>,
}

/// A connection's place among them, given up with it.
#[derive(Debug)]
pub struct Place {
    connections: Connections,
    number: u64,
}

impl Connections {
    /// Lets a new connection in, and ends the oldest where there are too many.
    #[must_use]
    pub fn admit(&self, socket: &impl AsFd) -> Place {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        match socket.as_fd().try_clone_to_owned() {
            Ok(hold) => drop(open.sockets.insert(number, hold)),
            // No file descriptor is left. One that could not be ended is not let in.
            Err(_) => end(socket),
        }
        while open.sockets.len() > MAX_OPEN {
            let Some((_, oldest)) = open.sockets.pop_first() else { break };
            end(&oldest);
        }
        Place { connections: self.clone(), number }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.connections.open().sockets.remove(&self.number));
    }
}

/// Ends a connection in both directions: whoever reads from it sees its end.
fn end(socket: &impl AsFd) {
    // One that the other side has ended already is at its end.
    let _ = shutdown(socket, Shutdown::Both);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_oldest_makes_room_and_one_that_has_gone_counts_no_more() {
        let connections = Connections::default();
        let (ours, theirs): (Vec<_>, Vec<_>) = (0..=MAX_OPEN).map(|_| UnixStream::pair().unwrap()).unzip();
        let has_ended = |mut stream: &UnixStream| {
            stream.set_nonblocking(true).unwrap();
            stream.read(&mut [0]).is_ok_and(|read| read == 0)
        };
        let mut places: Vec<Place> = ours.iter().take(MAX_OPEN).map(|stream| connections.admit(stream)).collect();
        drop(places.pop());
        places.push(connections.admit(ours.last().unwrap()));
        assert!(!theirs.iter().any(has_ended), "there was room");
        let (another, _peer) = UnixStream::pair().unwrap();
        places.push(connections.admit(&another));
        let ended: Vec<usize> = (0..theirs.len()).filter(|at| has_ended(&theirs[*at])).collect();
        assert_eq!(ended, [0], "the oldest alone");
        drop(places);
        assert!(connections.open().sockets.is_empty());
    }
}
