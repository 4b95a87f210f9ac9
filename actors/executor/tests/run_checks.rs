//! `run` checks as the executor sees them: what is asked of the runner, and what its answers mean.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cap_std::fs::Dir;
use executor::checks::{self, View};
use executor::clock::Deadline;
use executor::config::{CheckConfig, Checks, Requirement};
use executor::core::{Judgement, Ran};
use executor::policy::CheckStep;
use executor::sandbox::{End, RunCheck, RunReport};
use executor::tree::{Image, TreeError};
use protocol::command::Check;
use protocol::path::RelativePath;
use protocol::reason::{Reason as R, Stage};
use serde_json::json;
use support::{Bench, LAST, Stepped, document, executed, verified};

/// What was asked: the program, its limit, and what `a.txt` held then.
type Asked = (String, Duration, String);

/// Answers as it is told, and remembers what it was asked and what it saw.
#[derive(Debug, Clone)]
struct Fake(Arc<Mutex<(Vec<End>, Vec<Asked>)>>);

impl Fake {
    fn new(ends: &[End]) -> Self {
        Self(Arc::new(Mutex::new((ends.iter().rev().cloned().collect(), Vec::new()))))
    }
    fn asked(&self) -> Vec<Asked> {
        self.0.lock().unwrap().1.clone()
    }
}

impl RunCheck for Fake {
    fn run(&self, program: &CheckConfig, root: &Dir, limit: Duration) -> RunReport {
        let mut state = self.0.lock().unwrap();
        state.1.push((program.argv[0].clone(), limit, root.read_to_string("a.txt").unwrap()));
        let end = state.0.pop().expect("it is not asked so often");
        RunReport { end, stdout: "out".to_owned(), stderr: "err\n\u{1b}last\n\n".to_owned(), truncated: true }
    }
}

fn program(name: &str, max_runtime_ms: u64) -> CheckConfig {
    CheckConfig {
        argv: vec![name.to_owned()],
        max_runtime_ms,
        sandbox: Requirement::Required,
        writable: Vec::new(),
        readable: Vec::new(),
    }
}

fn bench(fake: &Fake) -> Bench {
    let checks = Checks::from(
        ["short", "long"].map(|name| (name.to_owned(), program(name, if name == "short" { 1_000 } else { 100_000 }))),
    );
    let bench = Bench::with_checks(checks, Arc::new(fake.clone()));
    bench.write("a.txt", b"one");
    bench
}

fn asks_for(names: &[&str]) -> serde_json::Value {
    let mut command = document(json!([{"op": "writeFile", "path": "a.txt", "content": "two"}]));
    command["validationPlan"] = names.iter().map(|name| json!({"check": "run", "name": name})).collect();
    command
}

#[test]
fn programs_run_after_the_mutation_in_order_within_the_smaller_limit() {
    let fake = Fake::new(&[End::Exited(0), End::Exited(0)]);
    let mut bench = bench(&fake);
    let execution = executed(bench.run(asks_for(&["short", "long"])));
    assert_eq!(execution.failure, None);
    let asked = fake.asked();
    assert_eq!(asked[0], ("short".to_owned(), Duration::from_secs(1), "two".to_owned()));
    // The command itself has 60 s.
    assert_eq!(asked[1], ("long".to_owned(), Duration::from_secs(60), "two".to_owned()));
    let report = &execution.checks[1];
    assert_eq!((report.check, report.name.as_deref(), report.exit_code), ("run", Some("long"), 0));
    assert_eq!((report.stdout.as_str(), report.truncated), ("out", true));
}

#[test]
fn each_end_that_is_not_good_undoes_everything_and_stops_the_plan() {
    let text = |text: &str| text.to_owned();
    for (end, name, reason, code, words) in [
        (End::Exited(3), "short", R::ValidationFailed, 3, "exit code 3; the last it said is \" last\""),
        (End::Signalled(9), "short", R::ValidationFailed, 137, "signal 9"),
        (End::OverTime, "short", R::ValidationFailed, 124, "max_runtime_ms of 1000"),
        (End::OverTime, "long", R::Timeout, 124, "maxRuntimeMs of 60000"),
        (End::NotStarted(text("no such program")), "short", R::ValidationFailed, 127, "no such program"),
        (End::Refused(text("no fence")), "short", R::ValidationFailed, 126, "no fence"),
        (End::Broken(text("no process")), "short", R::IoError, 74, "no process"),
    ] {
        let fake = Fake::new(std::slice::from_ref(&end));
        let mut bench = bench(&fake);
        // On the last try, so that a passing failure is reported, too.
        bench.attempts = LAST;
        let execution = executed(bench.run(asks_for(&[name, "short"])));
        let (found, mut detail) = execution.failure.clone().unwrap();
        if reason == R::IoError {
            assert_eq!(found, R::RetriesExhausted);
            detail = detail.split_once("io_error: ").unwrap().1.to_owned();
        } else {
            assert_eq!(found, reason, "{end:?}");
        }
        assert!(detail.contains(words), "{detail}");
        assert!(reason == R::Timeout || detail.starts_with(&format!("check 1 (run {name}): ")), "{detail}");
        let codes: Vec<i32> = execution.checks.iter().map(|report| report.exit_code).collect();
        assert_eq!(codes, [code], "{end:?}");
        assert_eq!(bench.read("a.txt").unwrap(), b"one");
    }
}

#[test]
fn a_program_that_is_not_configured_is_refused() {
    let fake = Fake::new(&[]);
    let mut bench = bench(&fake);
    match bench.run(asks_for(&["short", "x\"y"])) {
        Judgement::Rejected(verdict) => {
            assert_eq!((verdict.reason, verdict.stage), (R::Schema, Stage::Schema));
            let wanted = "/validationPlan/1/name: no check \"x\\\"y\" is configured on this bridge";
            assert_eq!(verdict.detail, wanted);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((bench.read("a.txt").unwrap(), fake.asked().len()), (b"one".to_vec(), 0));
}

#[test]
fn a_panic_while_a_program_runs_undoes_everything() {
    let fake = Fake::new(&[]);
    let mut bench = bench(&fake);
    let command = verified(asks_for(&["short"]));
    let ran = bench.execute(&command, &Stepped::new(|_| Duration::ZERO));
    assert!(matches!(ran, Ran::Again { attempts: 1, reason: R::WorkerCrashed, .. }), "{ran:?}");
    assert_eq!(bench.read("a.txt").unwrap(), b"one");
}

/// A tree that is nowhere but here.
struct Planned;

impl View for Planned {
    fn read(&self, path: &RelativePath) -> Result<Option<Image>, TreeError> {
        let there = path.as_str() == "planned.json";
        Ok(there.then(|| Image { content: b"{}".as_slice().into(), bits: 0o644 }))
    }
    fn is_there(&self, path: &RelativePath) -> Result<bool, TreeError> {
        self.read(path).map(|image| image.is_some())
    }
}

#[test]
fn what_needs_no_program_is_judged_on_any_view_up_to_the_first_program() {
    let look = |check: fn(String) -> Check, path: &str| CheckStep::Look {
        check: check(path.to_owned()),
        path: RelativePath::parse(path).unwrap(),
    };
    let clock = Stepped::new(|_| Duration::ZERO);
    let deadline = Deadline::new(&clock, clock.0, 1_000);
    let good = [
        look(|path| Check::Json { path }, "planned.json"),
        look(|path| Check::Absent { path }, "other"),
        CheckStep::Run { name: "p".to_owned(), program: program("p", 1) },
        look(|path| Check::Exists { path }, "other"),
    ];
    let (reports, failure) = checks::look(&Planned, &good, &clock, &deadline);
    assert_eq!((reports.len(), failure), (2, None));
    assert!(checks::run_programs(&good) && !checks::run_programs(&good[..2]));
    let bad = [look(|path| Check::Exists { path }, "other"), look(|path| Check::Exists { path }, "planned.json")];
    let (reports, failure) = checks::look(&Planned, &bad, &clock, &deadline);
    assert_eq!((reports.len(), failure.unwrap().0), (1, R::ValidationFailed));
}
