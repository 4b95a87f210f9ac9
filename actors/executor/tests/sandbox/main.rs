//! The sandbox, as it is in the bridge: this program starts itself anew for each stage.
//!
//! Every case is run with each set of the kernel's facilities, and again as a user without rights where the tests run as
//! root. `cargo test -p executor --test sandbox NAME` runs those whose name holds NAME.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::disallowed_methods)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};

use executor::sandbox::{Facilities, SUBCOMMAND};

mod cases;
mod world;

/// The argument that makes this program run a check until it is killed.
const VICTIM: &str = "run-until-killed";
/// The variable that says that this is the run without rights.
const WITHOUT_RIGHTS: &str = "SANDBOX_TEST_WITHOUT_RIGHTS";
/// A user and a group that own nothing.
const NOBODY: &str = "65534";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(SUBCOMMAND) => {
            executor::sandbox::main().unwrap();
            return ExitCode::SUCCESS;
        }
        Some(VICTIM) => cases::victim(&arguments[1..]),
        _ => {}
    }
    if cfg!(not(target_os = "linux")) {
        println!("SKIPPED: there is no sandbox to be tested on this system");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let who = if std::env::var_os(WITHOUT_RIGHTS).is_some() { "without rights" } else { "as is" };
    let mut failures = 0;
    for namespaces in [true, false] {
        let facilities = Facilities { fence: true, namespaces };
        let with = if namespaces { "with namespaces" } else { "without namespaces" };
        for (name, case) in cases::ALL {
            if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
                continue;
            }
            let held = catch_unwind(AssertUnwindSafe(|| case(facilities))).is_ok();
            println!("test {name} ({with}, {who}) ... {}", if held { "ok" } else { "FAILED" });
            failures += u32::from(!held);
        }
    }
    if std::env::var_os(WITHOUT_RIGHTS).is_none() && rustix::process::geteuid().is_root() {
        failures += u32::from(!again_without_rights(&arguments));
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs all of it as a user without rights, from a copy of this program that such a user can reach.
fn again_without_rights(arguments: &[String]) -> bool {
    let dir = world::open_folder();
    let program = dir.path().join("sandbox");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(&program).args(arguments);
    match command.env(WITHOUT_RIGHTS, "1").current_dir("/").status() {
        Ok(status) => status.success(),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "setpriv is missing: {error}");
            println!("SKIPPED: setpriv is not installed, nothing is tested as a user without rights");
            true
        }
    }
}
