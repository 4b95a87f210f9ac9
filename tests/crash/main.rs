//! What a crash leaves: the real binary is killed at every place that the sources mark, before every call that changes a
//! file, and at random moments; then it is started anew, and nothing may be lost, half done or done twice.
//!
//! Needs a binary with the feature `failpoints`: `cargo test --features failpoints --test crash`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "the tests start programs as an operator would")]
#![allow(dead_code, reason = "the harness is shared with the other black-box tests, which use the rest of it")]

#[path = "../blackbox/harness/mod.rs"]
mod harness;

mod calls;
mod faults;
mod moments;
mod points;
mod scene;
mod tracer;
mod turns;
