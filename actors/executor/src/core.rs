//! The judgement of commands, from their identity to their execution. It knows no actor and asks no clock by itself.
//!
//! Commands of one lane come in their order. Each is admitted (identity, policy) and planned; those that cannot see one
//! another share a group, whose records become durable with one sync; then each is applied. A command whose validation
//! plan runs a program goes through all of it alone.

mod execution;
mod outcome;

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use protocol::command::VerifiedCommand;
use protocol::ledger::{Licence, Taken, Turn};
use protocol::message::Execution;
use protocol::path::RelativePath;
use protocol::reason::{Reason, Stage, Verdict};
use protocol::receipt::Receipt;

use self::outcome::{Start, failed};
use crate::checks;
use crate::clock::Clock;
use crate::config::{Checks, ConfigError, Targets};
use crate::group::{self, Footprint};
use crate::journal::Journal;
use crate::overlay::Change;
use crate::policy::{CheckStep, Permitted, Policy};
use crate::sandbox::RunCheck;
use crate::siblings::Siblings;
use crate::status::ExecutorStatus;
use crate::tree::Tree;

/// How often a command that fails for a passing cause is tried (contract, section 8).
pub const MAX_ATTEMPTS: u32 = 6;

/// A command to be executed.
#[derive(Clone, Debug)]
pub struct Job {
    /// The document's name in `commands/`.
    pub file: OsString,
    /// The command.
    pub command: Arc<VerifiedCommand>,
    /// How often it was tried before.
    pub attempts: u32,
    /// The right to settle it.
    pub turn: Arc<Turn>,
}

/// What becomes of a command.
#[derive(Debug)]
pub enum Judgement {
    /// Refused; nothing was changed and its id is not taken by it.
    Rejected(Verdict),
    /// It reached execution: it holds whole, or it failed and left nothing behind. It has to be filed.
    Executed(Execution, Receipt, Licence),
}

/// What came of one job.
#[derive(Debug)]
pub enum Ran {
    /// It is settled.
    Judged(Judgement),
    /// It failed for a passing cause and is to be tried again; nothing was changed.
    Again {
        /// How often it was tried, this time included.
        attempts: u32,
        /// Why it failed.
        reason: Reason,
        /// One sentence.
        detail: String,
    },
    /// The system lacks what any command needs, such as file descriptors: it is to be given again, later.
    Starved(String),
    /// It was not looked at, or nothing came of it: it is to be given again.
    Back,
}

/// What came of a row of jobs.
#[derive(Debug)]
pub struct Batch {
    /// One entry a job.
    pub ran: Vec<Ran>,
    /// Why nothing more can be recorded at the moment; the jobs are untouched.
    pub stalled: Option<String>,
    /// Why the process must start afresh: a verdict that was reached cannot be recorded.
    pub fatal: Option<String>,
}

/// A target, ready to be changed.
#[derive(Debug)]
struct Target {
    root: PathBuf,
    policy: Policy,
}

/// Executes commands. Lanes share it.
#[derive(Debug)]
pub struct Executor {
    targets: BTreeMap<String, Target>,
    checks: Checks,
    runner: Arc<dyn RunCheck + Sync>,
    journal: Journal,
    status: Arc<ExecutorStatus>,
    siblings: Arc<Siblings>,
}

/// A command that policy allows.
struct Admitted<'e> {
    target: &'e Target,
    permitted: Permitted,
}

/// A command that reached execution: its whole mutation is known, or why there is none. Nothing else can be executed, and
/// it has a licence: so nothing is executed that was filed before, and nothing that is not going to be filed.
struct Planned {
    licence: Licence,
    start: Start,
    mutation: Option<Mutation>,
    execution: Execution,
}

/// What is to be done to a tree.
struct Mutation {
    tree: Tree,
    root: PathBuf,
    max_runtime_ms: u64,
    changes: Vec<Change>,
    /// Folders that are missing on the way, each before those beneath it.
    folders: Vec<RelativePath>,
    /// What has yet to be seen on the changed tree; empty where the outcome is known.
    checks: Vec<CheckStep>,
}

impl Planned {
    fn changes(&self) -> &[Change] {
        self.mutation.as_ref().map_or(&[], |mutation| &mutation.changes)
    }

    /// Whether its outcome is not known before its checks have seen the changed tree.
    fn is_checked(&self) -> bool {
        self.mutation.as_ref().is_some_and(|mutation| !mutation.checks.is_empty())
    }
}

/// A job's place in a group.
enum Slot {
    Ran(Ran),
    Planned(Box<Planned>),
}

impl Slot {
    fn planned(&self) -> Option<&Planned> {
        if let Self::Planned(planned) = self { Some(planned) } else { None }
    }
}

/// Jobs whose records are made durable together.
#[derive(Default)]
struct Group<'j> {
    slots: Vec<(&'j Job, Slot)>,
    footprint: Footprint,
    bytes: usize,
}

impl<'j> Group<'j> {
    fn push(&mut self, job: &'j Job, slot: Slot) {
        if let Slot::Planned(planned) = &slot {
            planned.changes().iter().for_each(|change| self.footprint.add(&change.path));
            let after = planned.changes().iter().filter_map(|change| change.after.as_ref());
            self.bytes += job.command.raw().len() + after.map(|image| image.content.len()).sum::<usize>();
        }
        self.slots.push((job, slot));
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= group::MAX_COMMANDS || self.bytes >= group::MAX_BYTES
    }
}

impl Executor {
    /// An executor for `targets`, with the operator's `checks`, which records in `journal`.
    ///
    /// # Errors
    /// When a `deny` glob is invalid or a root cannot be opened.
    pub fn new(
        targets: &Targets,
        checks: Checks,
        runner: Arc<dyn RunCheck + Sync>,
        journal: Journal,
        status: Arc<ExecutorStatus>,
    ) -> Result<Self, ConfigError> {
        let mut ready = BTreeMap::new();
        for (name, config) in targets {
            let target = Target { root: config.root.clone(), policy: Policy::new(name, config)? };
            let fault = |source| ConfigError::Root { target: name.clone(), root: config.root.clone(), source };
            Dir::open_ambient_dir(&target.root, ambient_authority()).map_err(fault)?;
            ready.insert(name.clone(), target);
        }
        Ok(Self { targets: ready, checks, runner, journal, status, siblings: Arc::default() })
    }

    /// Judges `jobs` and, where nothing speaks against them, executes them: up to the first that is to be tried again.
    pub fn run(&self, jobs: &[Job], clock: &dyn Clock) -> Batch {
        let mut batch = Batch { ran: Vec::with_capacity(jobs.len()), stalled: None, fatal: None };
        let mut group = Group::default();
        for job in jobs {
            let (mut start, mut alone) = (Start::now(clock), false);
            let slot = match self.guarded(job, &start, clock, || self.admit(job)) {
                Err(slot) => *slot,
                Ok(Err(judgement)) => Slot::Ran(Ran::Judged(*judgement)),
                Ok(Ok(admitted)) => {
                    let permitted = &admitted.permitted;
                    alone = permitted.max_runtime_ms < group::HURRY_MS || checks::run_programs(&permitted.checks);
                    let meets = group.footprint.meets(&permitted.paths());
                    if alone || meets || group.is_full() {
                        if !self.flush(&mut group, &mut batch, clock) {
                            break;
                        }
                        // The time that others took is not its own.
                        start = Start::now(clock);
                    }
                    let planned = self.guarded(job, &start, clock, || {
                        supervision::fault_point!(
                            "executor.effect",
                            match job.turn.take_id() {
                                Ok(licence) =>
                                    failed(job, licence, &start, clock, Reason::IoError, "a test said so".to_owned()),
                                Err(taken) => refused(taken),
                            }
                        );
                        self.plan(job, admitted, &start, clock)
                    });
                    planned.unwrap_or_else(|slot| *slot)
                }
            };
            let stops = matches!(slot, Slot::Ran(Ran::Again { .. } | Ran::Starved(_)));
            group.push(job, slot);
            if stops || (alone && !self.flush(&mut group, &mut batch, clock)) {
                break;
            }
        }
        self.flush(&mut group, &mut batch, clock);
        batch.ran.resize_with(jobs.len(), || Ran::Back);
        batch
    }

    /// Runs `work`; a panic in it counts as a passing failure. What it had half done is undone while it unwinds, and
    /// `self` holds nothing that changes.
    fn guarded<T>(
        &self,
        job: &Job,
        start: &Start,
        clock: &dyn Clock,
        work: impl FnOnce() -> T,
    ) -> Result<T, Box<Slot>> {
        contained(job, work).map_err(|text| {
            let detail = format!("the executor panicked: {text}");
            Box::new(match job.turn.take_id() {
                Ok(licence) => failed(job, licence, start, clock, Reason::WorkerCrashed, detail),
                Err(taken) => refused(taken),
            })
        })
    }

    fn admit(&self, job: &Job) -> Result<Admitted<'_>, Box<Judgement>> {
        let typed = job.command.command();
        job.turn.look().map_err(|taken| Box::new(Judgement::Rejected(verdict(taken))))?;
        let Some(target) = self.targets.get(&typed.target) else {
            let detail = format!("/target: no target {:?} is configured on this bridge", typed.target);
            return Err(Box::new(Judgement::Rejected(Verdict::new(Stage::Policy, Reason::UnknownTarget, detail))));
        };
        match target.policy.judge(typed, &self.checks) {
            Ok(permitted) => Ok(Admitted { target, permitted }),
            Err(verdict) => Err(Box::new(Judgement::Rejected(verdict))),
        }
    }
}

/// A slot whose command cannot have its id.
fn refused(taken: Taken) -> Slot {
    Slot::Ran(Ran::Judged(Judgement::Rejected(verdict(taken))))
}

fn verdict(taken: Taken) -> Verdict {
    let detail = match taken {
        Taken::ByAnother => {
            "/id: another document has taken the id; ids that differ in case only count as the same".to_owned()
        }
        Taken::Unsure => {
            "/id: a document was refused under this id before, and its dead letter is gone or was changed, so \
                          nobody can tell whether this is another one; give it a fresh id and sign it"
                .to_owned()
        }
    };
    Verdict::new(Stage::Identity, Reason::DuplicateId, detail)
}

/// Runs `work` for `job`; a panic in it comes back as its text.
fn contained<T>(job: &Job, work: impl FnOnce() -> T) -> Result<T, String> {
    let _span = tracing::info_span!("command", id = %job.command.command().id).entered();
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = panic_text(payload.as_ref()).to_owned();
        tracing::error!(id = %job.command.command().id, panic = text, "executing the command panicked");
        text
    })
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
