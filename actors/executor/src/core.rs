//! The judgement of one command, from its identity to its execution. It knows no actor and asks no clock by itself.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use protocol::artifact::CheckReport;
use protocol::command::{Op, VerifiedCommand};
use protocol::ledger::{Claim, Ledger};
use protocol::message::Execution;
use protocol::reason::{Reason, Stage, Verdict};

use crate::apply::{Applied, ApplyError};
use crate::checks::{self, millis};
use crate::clock::{Clock, Deadline};
use crate::config::{Checks, ConfigError, Targets};
use crate::plan::{Plan, PlanError, plan};
use crate::policy::{Permitted, Policy};
use crate::sandbox::{Launcher, RunCheck};
use crate::tree::Tree;

/// What becomes of a command.
#[derive(Clone, Debug)]
pub enum Judgement {
    /// Refused; nothing was changed and its id is not taken by it.
    Rejected(Verdict),
    /// The same document took its id before: nothing is to be done.
    Redelivered,
    /// It reached execution: it holds whole, or it failed and left nothing behind.
    Executed(Execution),
}

/// A target, ready to be changed.
#[derive(Debug)]
struct Target {
    root: PathBuf,
    policy: Policy,
}

impl Target {
    /// Opens the tree. It is opened anew for each command, so that a root that was replaced is found.
    fn open(&self) -> std::io::Result<Tree> {
        Dir::open_ambient_dir(&self.root, ambient_authority()).map(Tree::new)
    }
}

/// Executes commands, one at a time.
#[derive(Debug)]
pub struct Executor {
    targets: BTreeMap<String, Target>,
    ledger: Arc<Ledger>,
    checks: Checks,
    runner: Box<dyn RunCheck>,
}

impl Executor {
    /// An executor for `targets`, which takes ids in `ledger`.
    ///
    /// # Errors
    /// When a `deny` glob is invalid or a root cannot be opened.
    pub fn new(targets: &Targets, ledger: Arc<Ledger>) -> Result<Self, ConfigError> {
        let mut ready = BTreeMap::new();
        for (name, config) in targets {
            let target = Target { root: config.root.clone(), policy: Policy::new(name, config)? };
            let fault = |source| ConfigError::Root { target: name.clone(), root: config.root.clone(), source };
            target.open().map_err(fault)?;
            ready.insert(name.clone(), target);
        }
        Ok(Self { targets: ready, ledger, checks: Checks::new(), runner: Box::new(Launcher::default()) })
    }

    /// The same with `checks` that commands may ask for.
    #[must_use]
    pub fn with_checks(mut self, checks: Checks) -> Self {
        self.checks = checks;
        self
    }

    /// The same with another way to run them.
    #[must_use]
    pub fn with_runner(mut self, runner: Box<dyn RunCheck>) -> Self {
        self.runner = runner;
        self
    }

    /// Judges `command` and, where nothing speaks against it, executes it.
    pub fn execute(&mut self, command: &VerifiedCommand, clock: &dyn Clock) -> Judgement {
        let run = Run::start(clock);
        // A command that makes this code panic would do so each time it is found again: it is settled as failed.
        // What was half-done is undone while the panic unwinds, and `self` holds nothing that changes.
        match catch_unwind(AssertUnwindSafe(|| self.judge(command, &run))) {
            Ok(judgement) => judgement,
            Err(payload) => {
                let text = panic_text(payload.as_ref());
                tracing::error!(id = %command.command().id, panic = text, "executing the command panicked");
                match self.claim(command) {
                    Some(settled) => settled,
                    None => run.failed(Reason::WorkerCrashed, format!("the executor panicked: {text}")),
                }
            }
        }
    }

    fn judge(&self, command: &VerifiedCommand, run: &Run<'_>) -> Judgement {
        let typed = command.command();
        match self.ledger.look(&typed.id, command.input_sha256()) {
            Claim::Granted => {}
            Claim::Redelivered => return Judgement::Redelivered,
            Claim::Taken => return Judgement::Rejected(taken()),
        }
        let Some(target) = self.targets.get(&typed.target) else {
            let detail = format!("/target: no target {:?} is configured on this bridge", typed.target);
            return Judgement::Rejected(Verdict::new(Stage::Policy, Reason::UnknownTarget, detail));
        };
        let permitted = match target.policy.judge(typed, &self.checks) {
            Ok(permitted) => permitted,
            Err(verdict) => return Judgement::Rejected(verdict),
        };
        let planned = target.open().map_err(|error| PlanError::Failed {
            reason: Reason::IoError,
            detail: format!("the root of target {:?} cannot be opened: {error}", typed.target),
        });
        let deadline = Deadline::new(run.clock, run.monotonic, permitted.max_runtime_ms);
        let planned =
            planned.and_then(|tree| dry_run(&tree, &permitted, &typed.ops, &deadline).map(|plan| (tree, plan)));
        if let Err(PlanError::Refused(verdict)) = planned {
            return Judgement::Rejected(verdict);
        }
        // Execution is reached: from here on the id is taken, whatever the outcome.
        if let Some(settled) = self.claim(command) {
            return settled;
        }
        match planned {
            Ok((tree, plan)) => run.carry_out(&tree, plan, self.runner.as_ref(), &deadline),
            Err(PlanError::Failed { reason, detail }) => run.failed(reason, detail),
            Err(PlanError::Refused(verdict)) => Judgement::Rejected(verdict),
        }
    }

    /// Takes the command's id; says how the command is settled where that fails.
    fn claim(&self, command: &VerifiedCommand) -> Option<Judgement> {
        match self.ledger.claim(&command.command().id, command.input_sha256()) {
            Claim::Granted => None,
            // Only where another executor shares the ledger, or a panic came after the claim.
            Claim::Redelivered => None,
            Claim::Taken => Some(Judgement::Rejected(taken())),
        }
    }
}

fn taken() -> Verdict {
    Verdict::new(
        Stage::Identity,
        Reason::DuplicateId,
        "/id: another document has taken the id; ids that differ in case only count as the same",
    )
}

fn dry_run(tree: &Tree, permitted: &Permitted, ops: &[Op], deadline: &Deadline<'_>) -> Result<Plan, PlanError> {
    let names: Vec<&'static str> = ops.iter().map(Op::name).collect();
    plan(tree, permitted, &names, deadline)
}

/// One execution and when it began.
struct Run<'c> {
    clock: &'c dyn Clock,
    wall: chrono::DateTime<chrono::Utc>,
    monotonic: std::time::Instant,
}

impl<'c> Run<'c> {
    fn start(clock: &'c dyn Clock) -> Self {
        Self { clock, wall: clock.wall(), monotonic: clock.monotonic() }
    }

    /// The plan stands. A crash-proof executor makes its record durable exactly here, before the first change.
    fn carry_out(&self, tree: &Tree, plan: Plan, runner: &dyn RunCheck, deadline: &Deadline<'_>) -> Judgement {
        let mut applied = Applied::begin(tree);
        let (checks, failure) = match applied.apply(&plan.changes, deadline) {
            Ok(()) => checks::run(tree, &plan.checks, runner, self.clock, deadline),
            Err(error) => (Vec::new(), Some(failure(&error))),
        };
        let Some((reason, detail)) = failure else {
            // Kept last: a panic before this line undoes what is then reported as failed.
            let judgement = self.end(None, checks, plan);
            applied.keep();
            return judgement;
        };
        let failure = match applied.undo() {
            Ok(()) => (reason, detail),
            Err(faults) => {
                let detail =
                    format!("{detail}; AND IT COULD NOT BE UNDONE, the tree holds half of the command: {faults}");
                (Reason::IoError, detail)
            }
        };
        self.end(Some(failure), checks, Plan { files_changed: 0, bytes_written: 0, diff: Vec::new(), ..plan })
    }

    fn failed(&self, reason: Reason, detail: String) -> Judgement {
        let nothing = Plan {
            changes: Vec::new(),
            files_changed: 0,
            bytes_written: 0,
            diff: Vec::new(),
            ops: Vec::new(),
            checks: Vec::new(),
        };
        self.end(Some((reason, detail)), Vec::new(), nothing)
    }

    fn end(&self, failure: Option<(Reason, String)>, checks: Vec<CheckReport>, plan: Plan) -> Judgement {
        Judgement::Executed(Execution {
            failure,
            executed_at: self.wall,
            finished_at: self.clock.wall(),
            duration_ms: millis(self.monotonic, self.clock.monotonic()),
            files_changed: plan.files_changed,
            bytes_written: plan.bytes_written,
            ops: plan.ops,
            checks,
            diff: plan.diff,
            attempts: 1,
        })
    }
}

fn failure(error: &ApplyError) -> (Reason, String) {
    match error {
        ApplyError::Timeout(complaint) => (Reason::Timeout, complaint.clone()),
        // Whatever the tree says now, the plan had found it good: it changed underneath, which is no fault of the command.
        other => (Reason::IoError, other.to_string()),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
