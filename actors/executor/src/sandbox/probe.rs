//! Whether a program can be fenced in here: tried with one that does nothing.

use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::{End, Launcher, RunCheck as _};
use crate::config::{CheckConfig, Requirement};

/// The longest that the try may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs a program that does nothing in the sandbox, with the temporary folder as its target. The current program must
/// know the subcommand [`super::SUBCOMMAND`].
///
/// # Errors
/// Why it could not be fenced in, with the remedy.
pub fn probe() -> Result<(), String> {
    let folder = std::env::temp_dir();
    let root = Dir::open_ambient_dir(&folder, ambient_authority())
        .map_err(|error| format!("the temporary folder {} cannot be opened: {error}", folder.display()))?;
    let program = CheckConfig {
        argv: vec!["true".to_owned()],
        max_runtime_ms: u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX),
        sandbox: Requirement::Required,
        writable: Vec::new(),
        readable: Vec::new(),
    };
    match Launcher::default().run(&program, &root, LIMIT).end {
        End::Exited(0) => Ok(()),
        End::Exited(code) => Err(format!("the program `true` ended with {code} there")),
        End::Signalled(signal) => Err(format!("the program `true` was ended by signal {signal} there")),
        End::OverTime => Err(format!("the program `true` did not end within {} s there", LIMIT.as_secs())),
        End::NotStarted(why) | End::Refused(why) | End::Broken(why) => Err(why),
    }
}
