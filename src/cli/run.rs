//! `ghost-bridge run`: prepares everything that can fail with one line, then hands over to the service.

use std::sync::Arc;

use chrono::Utc;

use crate::exit::Failure;
use crate::instance::InstanceLock;
use crate::layout::Layout;
use crate::manager::Inherited;
use crate::secrets::Taken;
use crate::service::{self, Setup};
use crate::telemetry;

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
    telemetry::start(globals.log_format())?;
    for name in secrets.with_blanks() {
        tracing::warn!(
            name,
            "the secret begins or ends with white space, which is a part of it; is that so where it signs?"
        );
    }
    let settings = globals.settings()?;
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
