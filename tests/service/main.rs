//! The bridge at home: under PM2, under systemd, in Prometheus' sight.
//!
//! The same harness as the other black-box tests. PM2 and promtool are the real ones where they are installed; where they
//! are not the test says so, and fails where `CI` is set. What they and the bridge say to one another is also tested
//! against stand-ins, which need nothing installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "the tests start programs as an operator would")]
#![allow(dead_code, reason = "the harness is shared with the other black-box tests, which use the rest of it")]

#[path = "../blackbox/harness/mod.rs"]
mod harness;

mod channel;
mod notify;
mod pm2;
mod prometheus;
mod watching;
