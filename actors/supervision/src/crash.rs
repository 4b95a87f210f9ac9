//! Places at which a test may kill the process, to see what a crash there leaves, or make its work go wrong.
//!
//! They exist only with the feature `failpoints`, which no release has; without it they are nothing at all. With it,
//! `FAILPOINTS="journal.durable=2*off->return"` (syntax of the crate `fail`) kills the process when the named place is
//! passed for the third time, as `kill -9` would. At a [`fault_point!`](crate::fault_point) `panic` panics, `sleep(500)`
//! hangs for so many milliseconds, and `return` fails as the place knows to fail.

/// Kills the process here, if a test says so.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        if $crate::is_crash_due($name) {
            $crate::crash();
        }
    };
}

/// Goes wrong here, if a test says so: by a panic, by a hang, or, where there is a second argument, by returning that.
#[macro_export]
macro_rules! fault_point {
    ($name:literal) => {
        let _ = $crate::is_crash_due($name);
    };
    ($name:literal, return) => {
        if $crate::is_crash_due($name) {
            return;
        }
    };
    ($name:literal, $failure:expr) => {
        if $crate::is_crash_due($name) {
            return $failure;
        }
    };
}

/// Whether the process is to die, or to fail, at the place `name`, now.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn is_crash_due(name: &str) -> bool {
    fail::fail_point!(name, |_| true);
    false
}

/// Never, in a program that is not built for tests.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
#[must_use]
pub const fn is_crash_due(_: &str) -> bool {
    false
}

/// Dies as by `kill -9`: nothing is unwound, flushed or said.
pub fn crash() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}
