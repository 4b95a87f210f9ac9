//! Finds command documents in `commands/` and feeds them, in order and within bounds, into the pipeline.
//!
//! A scan of the folder is the truth; an event from the file system is only a hint that a scan would find something. An
//! overflow, a lost watch or a network file system therefore costs time (one `rescan_secs`), never a command.
//!
//! - `queue`: which names wait, in which order, and which may go (pure).
//! - `folder`: the only way to the files; by handle, following no link.
//! - `scan`: one pass over the folder, into the queue.
//! - `hints`: the file system's events.
//! - `flight`: how much may be in flight, and what is.
//! - `actor`: the shell around them.
//!
//! Invariants:
//! - Nothing in `commands/` is ever created, changed or removed here.
//! - Of waiting commands only key and name are kept; a document's bytes are read when it has its place in flight.
//! - No link is followed, no FIFO or device is opened for long, and no file is held beyond the size bound.
//!
//! Limitations: a file that cannot be read (no permission) stays where it is; it is reported and tried again.

mod actor;
mod flight;
mod folder;
mod hints;
mod queue;
mod scan;
mod status;

pub use actor::{MAILBOX_CAPACITY, Pause, Watcher, WatcherConfig};
pub use flight::IN_FLIGHT_UNITS;
pub use folder::FolderError;
pub use queue::MAX_ENTRIES;
pub use scan::{Asked, Committed, IsSigned};
pub use status::{Ignored, WatcherStatus};
