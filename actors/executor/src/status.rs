//! What the rest of the program may know of the executor while it works.

use std::sync::{Mutex, PoisonError};

/// The executor's health, shared with whoever reports it.
#[derive(Debug, Default)]
pub struct ExecutorStatus {
    stalled: Mutex<Option<String>>,
    unsynced: Mutex<Option<String>>,
}

impl ExecutorStatus {
    /// Why nothing can be executed at the moment; `None` when all is well. It is tried again by itself.
    #[must_use]
    pub fn stalled(&self) -> Option<String> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the journal cannot be shortened at the moment; `None` when all is well. It is tried again by itself.
    #[must_use]
    pub fn unsynced(&self) -> Option<String> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or clears why the journal cannot be shortened, and says so where it is news.
    pub(crate) fn set_unsynced(&self, reason: Option<String>) {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        match &reason {
            Some(reason) if unsynced.as_ref() != Some(reason) => {
                tracing::error!(reason, "the journal grows, because what it records cannot be synced to disk");
            }
            None if unsynced.is_some() => tracing::info!("the journal is shortened again"),
            _ => {}
        }
        *unsynced = reason;
    }

    /// Sets or clears the reason, and says so where it is news.
    pub(crate) fn set_stalled(&self, reason: Option<String>) {
        let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*stalled, &reason) {
            (None, None) => return,
            (Some(_), None) => tracing::info!("execution goes on"),
            (was, Some(reason)) if was.as_ref() != Some(reason) => {
                tracing::error!(reason, "execution has stopped; nothing is lost, it is tried again until it succeeds");
            }
            _ => {}
        }
        *stalled = reason;
    }
}
