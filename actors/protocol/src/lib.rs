//! The vocabulary of ghost-bridge.
//!
//! Every word that two actors share is defined here once: the command document and its strict JSON reading, the
//! canonical form and the signature over it, ids, relative paths, the closed set of reasons, the artifact documents,
//! the ledger of what was filed, and the messages that carry all of it from actor to actor.
//!
//! Invariants:
//! - No I/O and no clock. Whoever needs the time passes it in.
//! - A [`command::VerifiedCommand`] exists only for a document whose HMAC held.
//! - [`reason::Reason`] is closed: what cannot be said with it is not a rejection.

pub mod artifact;
pub mod audit;
pub mod canonical;
pub mod command;
pub mod digest;
pub mod git_id;
pub mod hint;
pub mod id;
pub mod json;
pub mod ledger;
pub mod message;
pub mod path;
pub mod reason;
pub mod receipt;
pub mod schema;
pub mod segment;
pub mod signing;
pub mod ticket;
pub mod time;
