//! Execution: from the dry run over the record in the journal to the files.

use std::sync::Arc;
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use protocol::command::Op;
use protocol::message::Execution;
use protocol::path::RelativePath;
use protocol::reason::Reason;
use protocol::receipt::Receipt;

use super::outcome::{Conclusion, Start, conclude, failed};
use super::{
    Admitted, Batch, Executor, Group, Job, Judgement, MAX_ATTEMPTS, Mutation, Planned, Ran, Slot, Target, contained,
    refused,
};
use crate::after::After;
use crate::apply::{Applied, ApplyError, HiddenNames};
use crate::checks;
use crate::clock::{Clock, Deadline};
use crate::journal::entry::{Begun, Ended, Entry, FileChange, Mark};
use crate::journal::{Draft, JournalError, Written};
use crate::overlay::Change;
use crate::plan::{Plan, PlanError, plan};
use crate::policy::Permitted;
use crate::tree::{Folder, Tree, TreeError};

/// How often undoing is tried before the tree is left to the next start.
const UNDO_TRIES: u32 = 3;
/// The first delay before a verdict is recorded again; it doubles.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// The longest delay before a verdict is recorded again: about half a minute in all.
const MAX_DELAY: Duration = Duration::from_secs(15);
/// A sequence that no record has.
const NO_RECORD: u64 = 0;
/// Why an apply did not come to its end.
type Failure = (Reason, String);

impl Executor {
    /// The dry run. From where it succeeds, execution is reached: the id is taken, whatever the outcome.
    pub(super) fn plan(&self, job: &Job, admitted: Admitted<'_>, start: &Start, clock: &dyn Clock) -> Slot {
        if let Some(slot) = self.spent(job, start, clock) {
            return slot;
        }
        let Admitted { target, permitted } = admitted;
        let deadline = start.deadline(clock, permitted.max_runtime_ms);
        let planned = self.dry_run(target, &permitted, &job.command.command().ops, &deadline);
        if let Err(PlanError::Refused(verdict)) = planned {
            return Slot::Ran(Ran::Judged(Judgement::Rejected(verdict)));
        }
        let licence = match job.turn.take_id() {
            Ok(licence) => licence,
            Err(taken) => return refused(taken),
        };
        match planned.and_then(|(tree, plan)| join(job, target, permitted, tree, plan, start, clock)) {
            Ok((mutation, execution)) => {
                Slot::Planned(Box::new(Planned { licence, start: *start, mutation: Some(mutation), execution }))
            }
            Err(PlanError::Failed { reason, detail }) => failed(job, licence, start, clock, reason, detail),
            Err(PlanError::Starved(detail)) => {
                release(job);
                Slot::Ran(Ran::Starved(detail))
            }
            Err(PlanError::Refused(verdict)) => Slot::Ran(Ran::Judged(Judgement::Rejected(verdict))),
        }
    }

    /// What comes of a job whose tries are spent already, because the process ended in each of them, or in the last.
    fn spent(&self, job: &Job, start: &Start, clock: &dyn Clock) -> Option<Slot> {
        if job.attempts < MAX_ATTEMPTS {
            return None;
        }
        let licence = match job.turn.take_id() {
            Ok(licence) => licence,
            Err(taken) => return Some(refused(taken)),
        };
        let detail = format!("gave up after {} tries; the process ended in the last one", job.attempts);
        let failure = Some((Reason::RetriesExhausted, detail));
        let execution = start.report(clock, job.attempts, Plan::default(), Vec::new(), failure);
        Some(Slot::Planned(Box::new(Planned { licence, start: *start, mutation: None, execution })))
    }

    fn dry_run(
        &self,
        target: &Target,
        permitted: &Permitted,
        ops: &[Op],
        deadline: &Deadline<'_>,
    ) -> Result<(Tree, Plan), PlanError> {
        // Opened anew for each command, so that a root that was replaced is found.
        let root = Dir::open_ambient_dir(&target.root, ambient_authority())
            .map_err(|error| PlanError::of_io("the root of the target cannot be opened", &error))?;
        let tree = Tree::remembering(root, Arc::clone(&self.siblings));
        let names: Vec<&'static str> = ops.iter().map(Op::name).collect();
        let plan = plan(&tree, permitted, &names, deadline)?;
        Ok((tree, plan))
    }

    /// Makes the group's records durable and applies its commands; false where no further job may be begun.
    pub(super) fn flush(&self, group: &mut Group<'_>, batch: &mut Batch, clock: &dyn Clock) -> bool {
        self.flush_slots(std::mem::take(group).slots, batch, clock)
    }

    fn flush_slots(&self, slots: Vec<(&Job, Slot)>, batch: &mut Batch, clock: &dyn Clock) -> bool {
        let planned: Vec<(&Job, &Planned)> =
            slots.iter().filter_map(|(job, slot)| Some((*job, slot.planned()?))).collect();
        let drafts: Vec<Draft<'_>> = planned.iter().map(|(job, planned)| draft(job, planned)).collect();
        let written = if drafts.is_empty() { Ok(Vec::new()) } else { self.journal.append(&drafts) };
        let written = match written {
            Ok(written) => written,
            Err(error) => return self.not_recorded(slots, &error, batch, clock),
        };
        drop(drafts);
        let (mut written, mut goes_on) = (written.into_iter(), true);
        for (job, slot) in slots {
            let ran = match slot {
                Slot::Ran(ran) => ran,
                Slot::Planned(planned) => match written.next() {
                    Some(written) => self.execute(job, *planned, written, batch, clock),
                    None => Ran::Back,
                },
            };
            goes_on &= matches!(ran, Ran::Judged(_)) && batch.fatal.is_none();
            batch.ran.push(ran);
        }
        goes_on
    }

    /// What comes of slots whose records cannot be written. Where there is room for a small one, it is the size of theirs
    /// that is in the way: then each is tried alone, and one that fails alone has failed for a passing cause. Else nothing
    /// can be said of any command, and all of them wait.
    fn not_recorded(
        &self,
        mut slots: Vec<(&Job, Slot)>,
        error: &JournalError,
        batch: &mut Batch,
        clock: &dyn Clock,
    ) -> bool {
        let nothing = Draft { entry: Entry::Ended(Ended { begun: NO_RECORD, outcome: None }), root: None };
        if matches!(error, JournalError::Full(_)) || self.journal.append(&[nothing]).is_err() {
            give_back(&slots, batch, error);
            return false;
        }
        if slots.len() > 1 {
            let mut goes_on = true;
            while batch.stalled.is_none() && !slots.is_empty() {
                goes_on &= self.flush_slots(vec![slots.remove(0)], batch, clock);
            }
            slots.iter().for_each(|(job, _)| release(job));
            return goes_on;
        }
        let Some((job, Slot::Planned(planned))) = slots.pop() else { return true };
        let Planned { licence, start, mutation, .. } = *planned;
        let slot = failed(job, licence, &start, clock, Reason::IoError, sentence(error));
        let gives_up = mutation.is_some();
        match slot {
            // The report of the last try is small.
            Slot::Planned(_) if gives_up => self.flush_slots(vec![(job, slot)], batch, clock),
            Slot::Planned(_) => {
                give_back(&[(job, slot)], batch, error);
                false
            }
            Slot::Ran(ran) => {
                batch.ran.push(ran);
                false
            }
        }
    }

    /// Applies one command whose record is durable.
    fn execute(&self, job: &Job, planned: Planned, written: Written, batch: &mut Batch, clock: &dyn Clock) -> Ran {
        let Planned { licence, start, mutation, execution } = planned;
        licence.begun();
        let is_checked = mutation.as_ref().is_some_and(|mutation| !mutation.checks.is_empty());
        let names = HiddenNames { run: written.run, sequence: written.sequence };
        let applied = match mutation.filter(|it| is_checked || !it.changes.is_empty()) {
            None => AppliedOnce { reports: None, failure: None, is_left: false },
            Some(mutation) => self.guarded_apply(job, &mutation, names, &start, clock),
        };
        let conclusion = applied.failure.map(|(reason, detail)| match applied.is_left {
            true => Conclusion::Final((reason, detail)),
            false => conclude(job, reason, detail),
        });
        let mut execution = Execution { checks: applied.reports.unwrap_or(execution.checks), ..execution };
        let ended = match conclusion {
            None if !is_checked => return Ran::Judged(Judgement::Executed(execution, written.receipt, licence)),
            None => {
                execution = start.finished(clock, execution);
                Some(execution.clone())
            }
            Some(Conclusion::Final(failure)) => {
                execution = start.undone(clock, execution, failure);
                Some(execution.clone())
            }
            Some(Conclusion::Again(again)) => {
                if self.decide(written.sequence, None, batch) {
                    licence.undone();
                    written.receipt.filed();
                }
                return again;
            }
        };
        if !self.decide(written.sequence, ended, batch) {
            return Ran::Back;
        }
        // What could not be undone stays in the journal, so that the next start undoes it.
        let receipt = if applied.is_left { Receipt::default() } else { written.receipt };
        Ran::Judged(Judgement::Executed(execution, receipt, licence))
    }

    /// Records how a command ended. The verdict is reached: it is tried for a while, and if that is in vain the process has
    /// to start afresh and reach it again.
    fn decide(&self, begun: u64, outcome: Option<Execution>, batch: &mut Batch) -> bool {
        let entry = Entry::Ended(Ended { begun, outcome });
        let mut delay = FIRST_DELAY;
        loop {
            let Err(error) = self.journal.append(&[Draft { entry: entry.clone(), root: None }]) else {
                self.status.set_stalled(None);
                return true;
            };
            self.status.set_stalled(Some(error.to_string()));
            if delay > MAX_DELAY {
                batch.fatal = Some(format!("a verdict cannot be recorded: {error}"));
                return false;
            }
            std::thread::sleep(delay);
            delay *= 2;
        }
    }

    fn guarded_apply(
        &self,
        job: &Job,
        mutation: &Mutation,
        names: HiddenNames,
        start: &Start,
        clock: &dyn Clock,
    ) -> AppliedOnce {
        let deadline = start.deadline(clock, mutation.max_runtime_ms);
        contained(job, || self.apply(mutation, names, &deadline, clock)).unwrap_or_else(|text| {
            let failure = (Reason::WorkerCrashed, format!("the executor panicked: {text}"));
            AppliedOnce { reports: None, failure: Some(failure), is_left: false }
        })
    }

    /// Changes the tree, sees the checks through, and undoes all of it where something fails.
    fn apply(
        &self,
        mutation: &Mutation,
        names: HiddenNames,
        deadline: &Deadline<'_>,
        clock: &dyn Clock,
    ) -> AppliedOnce {
        let mut applied = Applied::begin(&mutation.tree, &mutation.changes, names);
        let (mut reports, mut failure) = (None, applied.apply(deadline).err().map(|error| explain(&error)));
        if failure.is_none() && !mutation.checks.is_empty() {
            // No hidden file is to lie about while a program looks at the tree.
            failure = applied.let_go().err().map(|error| explain(&error));
            if failure.is_none() {
                let (ran, failed) = checks::run(&mutation.tree, &mutation.checks, &*self.runner, clock, deadline);
                (reports, failure) = (Some(ran), failed);
            }
        }
        let Some((reason, detail)) = failure else {
            applied.keep();
            return AppliedOnce { reports, failure: None, is_left: false };
        };
        let mut undone = applied.undo();
        for _ in 1..UNDO_TRIES {
            if undone.is_ok() {
                break;
            }
            undone = applied.undo();
        }
        let failure = match undone {
            Ok(()) => (reason, detail),
            Err(faults) => {
                tracing::error!(faults, "a mutation could not be undone; it is tried again at the next start");
                let detail =
                    format!("{detail}; AND IT COULD NOT BE UNDONE, the tree holds part of the command: {faults}");
                return AppliedOnce { reports, failure: Some((Reason::IoError, detail)), is_left: true };
            }
        };
        AppliedOnce { reports, failure: Some(failure), is_left: false }
    }
}

/// Frees the id of a job that nothing came of, unless it was tried before.
fn release(job: &Job) {
    if job.attempts == 0 {
        job.turn.give_id_back();
    }
}

/// Nothing comes of these slots, as nothing can be recorded.
fn give_back(slots: &[(&Job, Slot)], batch: &mut Batch, error: &JournalError) {
    slots.iter().for_each(|(job, _)| release(job));
    batch.stalled = Some(error.to_string());
}

/// Joins what a plan comes to. Checks that run no program are seen on the planned tree: where one fails, nothing need
/// be changed in order to be undone.
fn join(
    job: &Job,
    target: &Target,
    permitted: Permitted,
    tree: Tree,
    plan: Plan,
    start: &Start,
    clock: &dyn Clock,
) -> Result<(Mutation, Execution), PlanError> {
    let deadline = start.deadline(clock, permitted.max_runtime_ms);
    let (attempts, mut plan) = (job.attempts + 1, plan);
    let runs = checks::run_programs(&permitted.checks);
    let (mut reports, mut failure) = (Vec::new(), None);
    if !runs {
        (reports, failure) = checks::look(&After::new(&tree, &plan.changes), &permitted.checks, clock, &deadline);
        if let Some((reason, detail)) = failure.take_if(|(reason, _)| reason.is_passing()) {
            return Err(PlanError::Failed { reason, detail });
        }
    }
    let changes = if failure.is_none() { std::mem::take(&mut plan.changes) } else { Vec::new() };
    let folders = missing_folders(&tree, &changes)
        .map_err(|error| PlanError::Failed { reason: Reason::IoError, detail: error.to_string() })?;
    let execution = start.report(clock, attempts, plan, reports, failure);
    let checks = if runs { permitted.checks } else { Vec::new() };
    let (root, max_runtime_ms) = (target.root.clone(), permitted.max_runtime_ms);
    Ok((Mutation { tree, root, max_runtime_ms, changes, folders, checks }, execution))
}

/// What applying a command came to.
struct AppliedOnce {
    reports: Option<Vec<protocol::artifact::CheckReport>>,
    failure: Option<Failure>,
    /// Whether part of it is left in the tree, because undoing failed: trying again is out of the question.
    is_left: bool,
}

/// What the journal is to hold of a command.
fn draft<'p>(job: &Job, planned: &'p Planned) -> Draft<'p> {
    let is_checked = planned.is_checked();
    let change = |change: &Change| FileChange {
        path: change.path.clone(),
        before: change.before.as_ref().map(Mark::of),
        after: change.after.clone(),
        undo: change.before.clone().filter(|_| is_checked),
    };
    let mutation = planned.mutation.as_ref();
    let begun = Begun {
        file: job.file.clone(),
        raw: std::sync::Arc::clone(job.command.raw()),
        secret: job.command.secret(),
        received_at: job.command.received_at(),
        root: mutation.map(|mutation| mutation.root.clone()).unwrap_or_default(),
        changes: planned.changes().iter().map(change).collect(),
        folders: mutation.map(|mutation| mutation.folders.clone()).unwrap_or_default(),
        attempts: planned.execution.attempts,
        outcome: (!is_checked).then(|| planned.execution.clone()),
    };
    let root = mutation.filter(|mutation| !mutation.changes.is_empty()).map(|mutation| mutation.tree.root());
    Draft { entry: Entry::Begun(begun), root }
}

/// The folders that applying `changes` has to make, each before those beneath it.
fn missing_folders(tree: &Tree, changes: &[Change]) -> Result<Vec<RelativePath>, TreeError> {
    let mut missing = std::collections::BTreeSet::new();
    for change in changes.iter().filter(|change| change.after.is_some() && change.before.is_none()) {
        if change.path.parent().is_none_or(|parent| missing.contains(&parent)) {
            continue;
        }
        let first = match tree.parent(&change.path) {
            Ok(Folder::Open(_)) => continue,
            Ok(Folder::Missing(first)) => first,
            // A file that makes room.
            Err(TreeError::NotFolder { path, .. }) => path,
            Err(error) => return Err(error),
        };
        let above = std::iter::successors(change.path.parent(), RelativePath::parent);
        missing.extend(above.take_while(|folder| folder.as_str().len() >= first.len()));
    }
    Ok(missing.into_iter().collect())
}

fn explain(error: &ApplyError) -> Failure {
    match error {
        ApplyError::Timeout(complaint) => (Reason::Timeout, complaint.clone()),
        // Whatever the tree says now, the plan had found it good: it changed underneath, which is no fault of the command.
        other => (Reason::IoError, other.to_string()),
    }
}

/// Why a record was not written, for a command's author, whom the journal's path does not concern.
fn sentence(error: &JournalError) -> String {
    match error {
        JournalError::Io { source, .. } => format!("the command's record cannot be written: {source}"),
        other => other.to_string(),
    }
}
