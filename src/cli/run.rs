//! `ghost-bridge run`: prepares everything that can fail with one line, then hands over to the service.

use std::sync::Arc;

use chrono::Utc;
use protocol::time::format_utc;

use crate::exit::Failure;
use crate::git;
use crate::instance::InstanceLock;
use crate::layout::Layout;
use crate::manager::Inherited;
use crate::secrets::{CURRENT, NEXT, Taken};
use crate::service::{self, Setup};
use crate::telemetry::{self, Outputs};

use super::Globals;

/// Runs the service until it is told to stop.
///
/// # Errors
/// When the surroundings are not fit, another instance runs, or the service fails.
pub fn run(globals: &Globals, taken: Taken, inherited: Inherited) -> Result<(), Failure> {
    // A test says in FAILPOINTS where the process is to die; see `supervision::crash_point!`.
    #[cfg(feature = "failpoints")]
    let _deaths = fail::FailScenario::setup();
    let secrets = super::secrets(taken)?;
    // PM2 keeps what is written to stderr as errors.
    let outputs = if inherited.channel.is_some() { Outputs::Both } else { Outputs::Stderr };
    telemetry::start(globals.log_format(), outputs)?;
    if let forgotten @ [_, ..] = git::forgotten() {
        let variables = forgotten.join(" ");
        tracing::info!(variables, "taken out of the environment: inherited for another repository");
    }
    for name in secrets.with_blanks() {
        tracing::warn!(
            name,
            "the secret begins or ends with white space, which is a part of it; is that so where it signs?"
        );
    }
    let settings = globals.settings()?;
    settings.notes().iter().for_each(|note| tracing::warn!("{note}"));
    if let Some(rotation) = &secrets.rotation {
        let ends = format_utc(rotation.ends);
        match secrets.current_is_over(Utc::now()) {
            false => tracing::info!(
                "the secret is being rotated: {CURRENT} and {NEXT} count until {ends}, from then on only {NEXT}"
            ),
            true => tracing::warn!(
                "the rotation ended at {ends}: only {NEXT} counts; set {CURRENT} to it, and unset {NEXT} and its end"
            ),
        }
    }
    let layout = Layout::at(&globals.cloud(&settings)?).map_err(Failure::config)?;
    let config = settings.resolve(layout.cloud()).map_err(Failure::config)?;
    let setup = Setup { cloud: layout.cloud().to_owned(), config, keyring: Arc::new(secrets.keyring()) };
    let mended = mended(&setup)?;
    layout.require_work_tree().map_err(Failure::config)?;
    // Before the lock and the folders: a start that fails leaves nothing behind.
    layout.require_fit().map_err(Failure::config)?;
    setup.require_repository()?;
    // Held until the service has stopped.
    let _lock = mended.map_or_else(|| InstanceLock::take(layout.cloud(), Utc::now()), Ok)?;
    layout.make_folders().map_err(Failure::config)?;
    service::run(setup, inherited, || layout.banner())
}

/// Mends what is damaged in the repository, under the lock that is returned then: git itself would not look at it before.
fn mended(setup: &Setup) -> Result<Option<InstanceLock>, Failure> {
    if !setup.is_damaged()? {
        return Ok(None);
    }
    let lock = InstanceLock::take(&setup.cloud, Utc::now())?;
    setup.mend()?;
    Ok(Some(lock))
}
