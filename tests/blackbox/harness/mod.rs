//! What the tests stand on: a throw-away CLOUD with a bare remote, the real binary, documents signed here.

pub mod audit;
pub mod bridge;
pub mod cloud;
pub mod document;
pub mod git;
pub mod http;
pub mod snapshot;

use std::time::{Duration, Instant};

pub use bridge::Bridge;
pub use cloud::Cloud;
pub use document::Doc;

/// How long a condition may take before the test gives up. Far beyond anything that a healthy bridge needs, so that a
/// loaded machine never decides a test.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The same for the tests that feed thousands of commands.
pub const LONG_PATIENCE: Duration = Duration::from_secs(420);

const POLL: Duration = Duration::from_millis(5);

/// Polls `condition` until it holds or `patience` is spent; tells which.
pub fn poll(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// Whether a program that some test needs is there. With `CI=true` its absence is a failure, else it is said aloud.
pub fn have(program: &str) -> bool {
    let found =
        std::process::Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is missing");
        println!("SKIPPED: {program} is not installed");
    }
    found
}
