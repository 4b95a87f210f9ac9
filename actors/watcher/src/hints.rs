//! The file system's events, as hints that a scan would find something. Never relied on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// That something may have come; any number of events make one hint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hint {
    raised: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

impl Hint {
    pub(crate) fn new(wake: Arc<Notify>) -> Self {
        Self { raised: Arc::default(), wake }
    }

    fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Takes the hint; to be called before the scan begins, so that what comes meanwhile raises it anew.
    pub(crate) fn take(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }
}

/// Watches `folder` itself, not what lies in folders below, and raises `hint`.
pub(crate) fn watch(folder: &Path, hint: Hint) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error, such as an overflow, is as good a hint as any.
        if event.is_ok_and(|event| !brings_something(event.kind)) {
            return;
        }
        hint.raise();
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether such an event can mean that there is more to find. Removals are mostly the bridge's own.
fn brings_something(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => {
            matches!(access, notify::event::AccessKind::Close(notify::event::AccessMode::Write))
        }
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

    use super::*;
    use notify::event::{AccessKind, CreateKind, RemoveKind};

    #[test]
    fn only_what_can_bring_a_command_is_a_hint() {
        assert!(brings_something(EventKind::Create(CreateKind::File)));
        assert!(brings_something(EventKind::Modify(ModifyKind::Name(RenameMode::To))));
        assert!(brings_something(EventKind::Any));
        assert!(!brings_something(EventKind::Remove(RemoveKind::File)));
        assert!(!brings_something(EventKind::Access(AccessKind::Read)));
        assert!(!brings_something(EventKind::Modify(ModifyKind::Name(RenameMode::From))));
    }

    #[test]
    fn a_hint_is_taken_once() {
        let hint = Hint::default();
        hint.raise();
        hint.raise();
        assert!(hint.take());
        assert!(!hint.take());
    }
}
