//! How many bridges run side by side: they mostly wait, and too many would only wait for each other.

use std::sync::{Condvar, Mutex};

/// The most bridges at a time.
const MOST: usize = 8;

/// A number of places, each held by one bridge.
#[derive(Debug)]
pub struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place. It is free again when this is dropped.
#[derive(Debug)]
pub struct Turn<'t>(&'t Turns);

impl Default for Turns {
    fn default() -> Self {
        Self { free: Mutex::new(MOST), freed: Condvar::new() }
    }
}

impl Turns {
    /// Waits for a place.
    pub fn take(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap();
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap();
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Ok(mut free) = self.0.free.lock() {
            *free += 1;
        }
        self.0.freed.notify_one();
    }
}
