//! A command planned once more: the dry run that the service does, on any tree. It executes nothing and writes nothing
//! to that tree.
//!
//! A tree that no longer lies on disk as such (a commit's, or the one before the command) is put up in a folder of its
//! own by [`stage`].

pub mod stage;

use protocol::command::{Command, Op};
use protocol::path::RelativePath;
use protocol::reason::Reason;

use crate::after::After;
use crate::checks;
use crate::clock::{Clock, Deadline};
use crate::config::{Checks, ConfigError, TargetConfig};
use crate::plan::{Plan, PlanError, plan};
use crate::policy::{CheckStep, Permitted, Policy};
use crate::tree::Tree;

/// What planning a command once more came to.
#[derive(Debug)]
pub struct Replanned {
    /// The mutation and its diff.
    pub plan: Plan,
    /// The checks that would run a program, and so were left out, by the program's name.
    pub programs: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The target's rules cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The bridge would not execute the command on this tree, or not successfully.
    #[error("{reason}: {detail}")]
    Refused {
        /// Why.
        reason: Reason,
        /// One sentence.
        detail: String,
    },
    /// The system lacks what any command needs.
    #[error("{0}")]
    Starved(String),
}

impl From<PlanError> for ReplayError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Refused(verdict) => Self::Refused { reason: verdict.reason, detail: verdict.detail },
            PlanError::Failed { reason, detail } => Self::Refused { reason, detail },
            PlanError::Starved(detail) => Self::Starved(detail),
        }
    }
}

/// Every path that `command` names, as far as the target's rules allow them: what a tree must hold to plan it there.
///
/// # Errors
/// [`ReplayError::Refused`] where policy does not allow the command.
pub fn paths(
    name: &str,
    config: &TargetConfig,
    checks: &Checks,
    command: &Command,
) -> Result<Vec<RelativePath>, ReplayError> {
    Ok(permitted(name, config, checks, command)?.paths())
}

/// Judges `command` by the rules of the target `name` and plans it on `tree`, in whatever place that lies. Checks that
/// run no program are seen on the planned tree.
///
/// # Errors
/// [`ReplayError::Refused`] where the bridge would refuse the command or undo it.
pub fn replan(
    name: &str,
    config: &TargetConfig,
    checks: &Checks,
    command: &Command,
    tree: &Tree,
    clock: &dyn Clock,
) -> Result<Replanned, ReplayError> {
    let permitted = permitted(name, config, checks, command)?;
    let deadline = Deadline::new(clock, clock.monotonic(), permitted.max_runtime_ms);
    let names: Vec<&'static str> = command.ops.iter().map(Op::name).collect();
    let plan = plan(tree, &permitted, &names, &deadline)?;
    let program = |step: &CheckStep| match step {
        CheckStep::Run { name, .. } => Some(name.clone()),
        CheckStep::Look { .. } => None,
    };
    let programs = permitted.checks.iter().filter_map(program).collect();
    // A program between two looks may change what the later one finds; those before it are certain.
    let (_, failure) = checks::look(&After::new(tree, &plan.changes), &permitted.checks, clock, &deadline);
    match failure {
        Some((reason, detail)) => Err(ReplayError::Refused { reason, detail }),
        None => Ok(Replanned { plan, programs }),
    }
}

fn permitted(name: &str, config: &TargetConfig, checks: &Checks, command: &Command) -> Result<Permitted, ReplayError> {
    let policy = Policy::new(name, config)?;
    policy.judge(command, checks).map_err(|verdict| PlanError::Refused(verdict).into())
}
