//! What actix does not give: mailboxes whose depth can be seen, effects whose panics are contained, and a budget for
//! restarts.
//!
//! Measured on actix 0.13.5: its supervisor restarts an actor after `ctx.stop()` and keeps queue and addresses, but does
//! not survive a panic, knows no back-off and no limit. Hence three small pieces, used alike by all five actors:
//!
//! - [`Port`] and [`Envelope`]: a message travels in an envelope that counts itself in its mailbox's [`Gauge`] and
//!   uncounts itself when it is dropped, whatever the reason; it tells of its waiting and its handling, too, in plain
//!   [`Histogram`]s.
//! - [`effect`]: blocking work runs on a blocking thread, with the actor's state lent to it; a panic there costs that
//!   state, not the actor.
//! - [`Lifeline`]: restarts are delayed and counted; when the budget is spent, or a panic reaches an actor's own thread,
//!   the system stops with exit status 70 and the process manager starts the process afresh.
//!
//! And [`crash_point!`] and [`fault_point!`], places at which a test may kill the process or make it go wrong.
//!
//! Invariant: no message is needed for correctness. Whatever is lost with one is found again on disk.

mod crash;
mod effect;
mod histogram;
mod lifeline;
mod mailbox;

pub use crash::{crash, is_crash_due};
pub use effect::{Panicked, contained, effect};
pub use histogram::{BOUNDS, Distribution, Histogram};
pub use lifeline::{Budget, EXIT_SOFTWARE, Lifeline, Restarts};
pub use mailbox::{Envelope, Gauge, Handling, MAILBOX_CAPACITY, Port, SendError};
