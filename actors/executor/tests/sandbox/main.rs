//! The sandbox, as it is in the bridge: this program starts itself anew for each stage.
//!
//! Every case is run with each set of the kernel's facilities, and again as users with less where the tests run as root.
//! `cargo test -p executor --test sandbox NAME` runs those whose name holds NAME.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::disallowed_methods)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};

use executor::sandbox::{Facilities, SUBCOMMAND};

mod cases;
mod world;

/// The argument that makes this program run a check until it is killed.
const VICTIM: &str = "run-until-killed";
/// The variable that says who runs this, for a run within the run.
const WHO: &str = "SANDBOX_TEST_WHO";
/// Runs its arguments as a user and a group that own nothing.
const WITHOUT_RIGHTS: &str = "exec setpriv --reuid 65534 --regid 65534 --clear-groups -- \"$@\"";
/// Runs its arguments as a user without rights to whom the kernel grants no namespace.
const WITHOUT_NAMESPACES: &str = "exec unshare --user --map-root-user sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; \
    exec setpriv --bounding-set=-all --inh-caps=-all --securebits=+noroot,+noroot_locked -- \"$@\"' sh \"$@\"";

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
    let within = std::env::var(WHO).ok();
    let who = within.as_deref().unwrap_or("as is");
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
    if within.is_none() && rustix::process::geteuid().is_root() {
        failures += u32::from(!again("without rights", WITHOUT_RIGHTS, &arguments));
        failures += u32::from(!again("without namespaces to be had", WITHOUT_NAMESPACES, &arguments));
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs all of it as somebody else, from a copy of this program that such a user can reach.
fn again(who: &str, way: &str, arguments: &[String]) -> bool {
    for program in ["setpriv", "unshare"] {
        if Command::new(program).arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "{program} is missing");
            println!("SKIPPED: {program} is not installed, nothing is tested {who}");
            return true;
        }
    }
    let dir = world::open_folder();
    let program = dir.path().join("sandbox");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", way, "sh"]).arg(&program).args(arguments).env(WHO, who).current_dir("/");
    if way == WITHOUT_NAMESPACES {
        command.env(world::NO_NAMESPACES, "1");
    }
    command.status().unwrap().success()
}
