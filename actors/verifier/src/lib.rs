//! Turns bytes into a verified command, or into the reason why not.
//!
//! The verifier judges what a document says of itself, in this order: file, JSON, HMAC, schema, time. The first failure
//! decides, and nothing after the HMAC is looked at before the HMAC holds. Whether the id is free, and what the target
//! allows, is the executor's to judge: there, commands stand in one line, so that the answer cannot change between the
//! judgement and the deed.
//!
//! Invariants:
//! - Pure but for the clock, which the actor passes in.
//! - A document leaves as exactly one of `Verified` and `Rejected`.

mod actor;
mod judge;

pub use actor::Verifier;
pub use judge::{Judge, Refusal, TimeRules};
