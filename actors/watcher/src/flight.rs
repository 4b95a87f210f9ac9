//! How much may be in flight, and what is.
//!
//! It outlives the actor's own state: whoever drops a ticket, at whatever time, gives its place back here.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use protocol::ticket::Ticket;
use tokio::sync::{Notify, Semaphore};

use crate::folder::Stamp;
use crate::status::WatcherStatus;

/// How much may be in flight, in units: a command takes one, and one more for each 4 KiB of its file.
pub const IN_FLIGHT_UNITS: u32 = 1024;
/// The size that costs one more unit, in bytes.
const UNIT_BYTES: u64 = 4096;

/// What is in flight.
pub(crate) struct Flight {
    units: Arc<Semaphore>,
    state: Mutex<State>,
    wake: Arc<Notify>,
    status: Arc<WatcherStatus>,
}

#[derive(Default)]
struct State {
    aboard: HashMap<OsString, Stamp>,
    released: Vec<OsString>,
}

impl Flight {
    pub(crate) fn new(wake: Arc<Notify>, status: Arc<WatcherStatus>) -> Arc<Self> {
        let units = Arc::new(Semaphore::new(IN_FLIGHT_UNITS as usize));
        Arc::new(Self { units, state: Mutex::default(), wake, status })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is a single insert, remove or push: a panic cannot leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ticket for the file `name`, or `None` while there is no room for its `bytes`.
    pub(crate) fn board(
        self: &Arc<Self>,
        name: &OsStr,
        stamp: Stamp,
        bytes: u64,
        first_seen: Instant,
    ) -> Option<Ticket> {
        let permit = Arc::clone(&self.units).try_acquire_many_owned(units_for(bytes)).ok()?;
        let mut state = self.state();
        state.aboard.insert(name.to_owned(), stamp);
        self.status.set_in_flight(state.aboard.len());
        drop(state);
        let flight = Arc::clone(self);
        let release = move |name: &OsStr| {
            drop(permit);
            flight.release(name);
        };
        Some(Ticket::new(name, first_seen, Box::new(release)))
    }

    /// Whether at least half of all places are free.
    pub(crate) fn is_half_free(&self) -> bool {
        self.units.available_permits() >= IN_FLIGHT_UNITS as usize / 2
    }

    fn release(&self, name: &OsStr) {
        let mut state = self.state();
        state.aboard.remove(name);
        state.released.push(name.to_owned());
        self.status.set_in_flight(state.aboard.len());
        drop(state);
        self.wake.notify_one();
    }

    /// The names whose tickets were dropped since the last call.
    pub(crate) fn take_released(&self) -> Vec<OsString> {
        std::mem::take(&mut self.state().released)
    }

    /// What is in flight now, for a watcher that lost its memory.
    pub(crate) fn aboard(&self) -> Vec<(OsString, Stamp)> {
        self.state().aboard.iter().map(|(name, stamp)| (name.clone(), *stamp)).collect()
    }
}

/// The units that a file of `bytes` takes; never more than there are, or it could not go at all.
fn units_for(bytes: u64) -> u32 {
    u32::try_from(bytes / UNIT_BYTES).unwrap_or(IN_FLIGHT_UNITS).saturating_add(1).min(IN_FLIGHT_UNITS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

    use super::*;

    #[test]
    fn a_file_takes_units_by_its_size_and_never_more_than_there_are() {
        assert_eq!(units_for(0), 1);
        assert_eq!(units_for(4095), 1);
        assert_eq!(units_for(4096), 2);
        assert_eq!(units_for(512 * 1024), 129);
        assert_eq!(units_for(u64::MAX), IN_FLIGHT_UNITS);
    }

    #[test]
    fn the_bound_holds_and_a_dropped_ticket_makes_room() {
        let status = Arc::new(WatcherStatus::default());
        let flight = Flight::new(Arc::default(), Arc::clone(&status));
        let board = |name: &str| flight.board(OsStr::new(name), Stamp::default(), 512 * 1024, Instant::now());
        let tickets: Vec<_> = (0..7).map(|number| board(&format!("{number}.json")).unwrap()).collect();
        assert!(board("8.json").is_none(), "7 * 129 units leave no room for 129 more");
        assert_eq!(status.in_flight(), 7);
        drop(tickets);
        assert_eq!(status.in_flight(), 0);
        assert_eq!(flight.take_released().len(), 7);
        assert!(flight.take_released().is_empty());
        assert!(board("8.json").is_some());
    }
}
