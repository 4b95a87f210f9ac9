//! What becomes of commands: reasons, counts, modes, links, and the tree after a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![cfg(unix)]

mod support;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::time::Duration;

use executor::core::{Job, Judgement, MAX_ATTEMPTS, Ran};
use protocol::reason::{Reason as R, Stage};
use serde_json::json;
use support::{Bench, Stepped, document, executed, refused, verified};

fn w(path: &str) -> serde_json::Value {
    json!({"op": "writeFile", "path": path, "content": "new\n"})
}

fn furnished() -> Bench {
    let bench = Bench::new();
    bench.write("a.txt", b"one one two\n");
    bench.write("dir/b.txt", b"b\n");
    bench.write("bare/HEAD", b"ref: x\n");
    std::fs::create_dir_all(bench.root().join("bare/objects")).unwrap();
    std::fs::create_dir_all(bench.root().join("bare/refs")).unwrap();
    std::fs::create_dir(bench.dir.path().join("outside")).unwrap();
    std::fs::write(bench.dir.path().join("outside/o.txt"), "outside\n").unwrap();
    symlink(bench.dir.path().join("outside"), bench.root().join("out")).unwrap();
    symlink("dir", bench.root().join("in")).unwrap();
    symlink("a.txt", bench.root().join("leaf")).unwrap();
    symlink("nowhere", bench.root().join("dangling")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, bench.root().join("fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .unwrap();
    bench
}

#[test]
fn each_wrong_op_has_its_reason_and_changes_nothing() {
    let zero = "0".repeat(64);
    let cases = [
        (json!([w("../x")]), R::PathEscape),
        (json!([w("/x")]), R::PathEscape),
        (json!([w(".git/x")]), R::PathDenied),
        (json!([w("meta/x")]), R::PathDenied),
        (json!([w("Commands/x")]), R::PathDenied),
        (json!([w("LOGS")]), R::PathDenied),
        (json!([w("Secret/deep/x")]), R::PathDenied),
        (json!([w("x/A.KEY/y")]), R::PathDenied),
        (json!([w("out/x")]), R::PathEscape),
        (json!([w("in/x")]), R::PathEscape),
        (json!([w("leaf")]), R::PathEscape),
        (json!([w("dangling")]), R::PathEscape),
        (json!([{"op": "deleteFile", "path": "leaf"}]), R::PathEscape),
        (json!([{"op": "moveFile", "from": "leaf", "to": "z"}]), R::PathEscape),
        (json!([{"op": "moveFile", "from": "a.txt", "to": "out/z"}]), R::PathEscape),
        (json!([{"op": "replaceText", "path": "out/o.txt", "search": "o", "replace": "x"}]), R::PathEscape),
        (json!([w("fifo")]), R::PreconditionFailed),
        (json!([w("fifo/x")]), R::PreconditionFailed),
        (json!([w("dir")]), R::PreconditionFailed),
        (json!([w("a.txt/x")]), R::PreconditionFailed),
        (json!([w("n"), w("n/x")]), R::PreconditionFailed),
        (json!([w("n/x"), w("n")]), R::PreconditionFailed),
        (json!([w("bare/x")]), R::PathDenied),
        (json!([w("bare/hooks/x")]), R::PathDenied),
        (json!([w("k/HEAD"), w("k/objects/x"), w("k/refs/x")]), R::PathDenied),
        (json!([w("HEAD"), w("objects/x"), w("Refs/x")]), R::PathDenied),
        (json!([w("A.txt")]), R::PathDenied),
        (json!([w("DIR/x")]), R::PathDenied),
        (json!([w("q/x"), w("Q/y")]), R::PathDenied),
        (json!([{"op": "moveFile", "from": "a.txt", "to": "A.TXT"}]), R::PathDenied),
        (json!([{"op": "moveFile", "from": "gone", "to": "z"}]), R::PreconditionFailed),
        (json!([{"op": "moveFile", "from": "a.txt", "to": "dir/b.txt"}]), R::PreconditionFailed),
        (json!([{"op": "moveFile", "from": "a.txt", "to": "a.txt", "overwrite": true}]), R::PreconditionFailed),
        (json!([{"op": "moveFile", "from": "dir", "to": "z"}]), R::PreconditionFailed),
        (json!([{"op": "deleteFile", "path": "gone"}]), R::PreconditionFailed),
        (json!([{"op": "deleteFile", "path": "a.txt"}, {"op": "deleteFile", "path": "a.txt"}]), R::PreconditionFailed),
        (json!([{"op": "replaceText", "path": "gone", "search": "o", "replace": "x"}]), R::PreconditionFailed),
        (json!([{"op": "replaceText", "path": "a.txt", "search": "one", "replace": "x"}]), R::PatchConflict),
        (json!([{"op": "replaceText", "path": "a.txt", "search": "three", "replace": "x"}]), R::PatchConflict),
        (
            json!([{"op": "writeFile", "path": "a.txt", "content": "", "expect": {"absent": true}}]),
            R::PreconditionFailed,
        ),
        (
            json!([{"op": "writeFile", "path": "a.txt", "content": "", "expect": {"sha256": zero}}]),
            R::PreconditionFailed,
        ),
        (json!([w("z"), {"op": "deleteFile", "path": "z", "expect": {"sha256": zero}}]), R::PreconditionFailed),
    ];
    let mut bench = furnished();
    let before = bench.snapshot();
    for (ops, reason) in cases {
        let judgement = bench.ops(ops.clone());
        let Judgement::Rejected(verdict) = &judgement else { panic!("{ops}: {judgement:?}") };
        assert_eq!(verdict.reason, reason, "{ops}: {verdict}");
        assert!(!verdict.detail.contains(&*bench.dir.path().to_string_lossy()), "{verdict}");
        assert_eq!(bench.snapshot(), before, "{ops}");
    }
    assert_eq!(std::fs::read(bench.dir.path().join("outside/o.txt")).unwrap(), b"outside\n");
}

#[test]
fn policy_comes_before_the_dry_run_and_identity_before_policy() {
    let mut bench = furnished();
    let mut both = document(json!([{"op": "deleteFile", "path": "gone"}, w("meta/x")]));
    assert_eq!(refused(&bench.run(both.clone())), (R::PathDenied, Stage::Policy));
    both["allowedActions"] = json!(["moveFile"]);
    assert_eq!(refused(&bench.run(both)), (R::ActionNotAllowed, Stage::Policy));
    for (key, value) in [("maxFilesChanged", 101), ("maxRuntimeMs", 600_001), ("maxBytesWritten", 16 * 1024 * 1024 + 1)]
    {
        let mut over = document(json!([{"op": "noop"}]));
        over["constraints"][key] = value.into();
        assert_eq!(refused(&bench.run(over)), (R::LimitExceeded, Stage::Policy), "{key}");
    }
    let first = document(json!([w("x")]));
    assert!(matches!(bench.run(first.clone()), Judgement::Executed(..)));
    let mut other = document(json!([w("meta/x")]));
    other["id"] = first["id"].as_str().unwrap().to_uppercase().into();
    assert_eq!(refused(&bench.run(other)), (R::DuplicateId, Stage::Identity));
    let mut guarded = Bench::with(|target| target.allow_delete = false);
    guarded.write("a", b"");
    assert_eq!(refused(&guarded.ops(json!([{"op": "deleteFile", "path": "a"}]))), (R::DeleteDenied, Stage::Policy));
}

#[test]
fn counts_are_those_of_the_contract() {
    let mv = |from: &str, to: &str| json!({"op": "moveFile", "from": from, "to": to, "overwrite": true});
    let del = |path: &str| json!({"op": "deleteFile", "path": path});
    let chmod = json!({"op": "writeFile", "path": "a.txt", "content": "one one two\n", "mode": "0755"});
    let cases = [
        (json!([{"op": "noop"}]), (0, 0)),
        (json!([]), (0, 0)),
        (json!([w("n"), w("n")]), (1, 4)),
        (json!([w("n"), del("n")]), (0, 0)),
        (json!([mv("a.txt", "z"), mv("z", "a.txt")]), (0, 0)),
        (json!([mv("a.txt", "y/z")]), (1, 0)),
        (json!([mv("a.txt", "z"), w("z")]), (1, 4)),
        (json!([mv("a.txt", "dir/b.txt")]), (1, 0)),
        (json!([mv("a.txt", "z"), w("a.txt")]), (2, 4)),
        (json!([chmod]), (1, 0)),
        (json!([del("a.txt")]), (1, 0)),
        (json!([del("a.txt"), w("a.txt/x")]), (2, 4)),
        (json!([mv("a.txt", "z"), mv("dir/b.txt", "a.txt"), mv("z", "dir/b.txt")]), (2, 0)),
    ];
    for (ops, expected) in cases {
        let mut bench = furnished();
        let execution = bench.ok(ops.clone());
        assert_eq!((execution.files_changed, execution.bytes_written), expected, "{ops}");
        assert_eq!(execution.diff.is_empty(), expected.0 == 0, "{ops}");
    }
    let mut bench = furnished();
    let mut over = document(json!([w("n"), w("m")]));
    over["constraints"]["maxFilesChanged"] = 1.into();
    assert_eq!(refused(&bench.run(over.clone())).0, R::TooManyFiles);
    over["constraints"] = json!({"maxRuntimeMs": 1000, "maxFilesChanged": 2, "maxBytesWritten": 7});
    assert_eq!(refused(&bench.run(over)).0, R::TooManyBytes);
}

#[test]
fn modes_stay_unless_the_op_says_otherwise_and_hard_links_are_not_written_through() {
    let mut bench = furnished();
    let mode =
        |bench: &Bench, path: &str| std::fs::metadata(bench.root().join(path)).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(bench.root().join("a.txt"), PermissionsExt::from_mode(0o750)).unwrap();
    std::fs::hard_link(bench.root().join("a.txt"), bench.dir.path().join("outside/hard")).unwrap();
    bench.ok(json!([w("a.txt"), w("new"), {"op": "writeFile", "path": "x", "content": "", "mode": "0755"}]));
    assert_eq!([mode(&bench, "a.txt"), mode(&bench, "new"), mode(&bench, "x")], [0o750, 0o644, 0o755]);
    assert_eq!(std::fs::read(bench.dir.path().join("outside/hard")).unwrap(), b"one one two\n");
    bench.ok(json!([{"op": "moveFile", "from": "a.txt", "to": "m"}]));
    assert_eq!(mode(&bench, "m"), 0o750);
    bench.ok(json!([{"op": "writeFile", "path": "m", "content": "", "mode": "0644"}]));
    assert_eq!(mode(&bench, "m"), 0o644);
}

#[test]
fn text_is_replaced_in_any_bytes() {
    let mut bench = Bench::new();
    bench.write("a", b"\xff\xe2\x82one\xe2\x82\xac\xfeone");
    bench.ok(json!([{"op": "replaceText", "path": "a", "search": "one", "replace": "\u{20ac}", "count": 2}]));
    assert_eq!(bench.read("a").unwrap(), b"\xff\xe2\x82\xe2\x82\xac\xe2\x82\xac\xfe\xe2\x82\xac");
}

/// A command that touches everything: replaces, makes folders, moves, deletes, turns a file into a folder.
fn everything() -> serde_json::Value {
    json!([
        w("a.txt"), w("p/q/r.txt"), {"op": "moveFile", "from": "dir/b.txt", "to": "p/moved.txt"},
        w("swap"), {"op": "deleteFile", "path": "old"}, w("old/inside"),
    ])
}

#[test]
fn a_failing_check_undoes_everything() {
    let zero = "0".repeat(64);
    for check in [
        json!({"check": "exists", "path": "gone"}),
        json!({"check": "absent", "path": "p/q/r.txt"}),
        json!({"check": "json", "path": "a.txt"}),
        json!({"check": "sha256", "path": "a.txt", "equals": zero}),
        json!({"check": "exists", "path": "p"}),
    ] {
        let mut bench = furnished();
        bench.write("old", b"old\n");
        let before = bench.snapshot();
        let mut command = document(everything());
        command["validationPlan"] =
            json!([{"check": "exists", "path": "old/inside"}, check, {"check": "exists", "path": "a.txt"}]);
        let execution = executed(bench.run(command));
        assert_eq!(execution.failure.as_ref().map(|(reason, _)| *reason), Some(R::ValidationFailed), "{check}");
        assert_eq!((execution.exit_code(), execution.files_changed, execution.diff.len()), (1, 0, 0));
        assert_eq!(execution.checks.iter().map(|report| report.exit_code).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(bench.snapshot(), before, "{check}");
    }
}

#[test]
fn the_deadline_undoes_everything_wherever_it_falls() {
    let mut fell = 0;
    for at in 2.. {
        let mut bench = furnished();
        bench.write("old", b"old\n");
        let before = bench.snapshot();
        let clock = Stepped::new(move |number| if number >= at { Duration::from_secs(61) } else { Duration::ZERO });
        let execution = executed(bench.judge(&verified(document(everything())), &clock));
        if execution.failure.is_none() {
            assert!(clock.readings() <= at && bench.read("old/inside").is_some());
            break;
        }
        assert_eq!(execution.exit_code(), 124, "{:?}", execution.failure);
        assert_eq!(bench.snapshot(), before, "at reading {at}");
        fell += 1;
    }
    assert!(fell > 15, "the deadline was looked at only {fell} times");
}

#[test]
fn whoever_swaps_a_folder_for_a_link_gets_nothing_written_outside() {
    let mut failed = 0;
    for at in 2..60 {
        let mut bench = furnished();
        let (root, outside) = (bench.root(), bench.dir.path().join("outside"));
        let swap = outside.clone();
        let clock = Stepped::new(move |number| {
            if number == at {
                std::fs::rename(root.join("dir"), root.join("away")).unwrap();
                symlink(&swap, root.join("dir")).unwrap();
            }
            Duration::ZERO
        });
        let ops = json!([w("dir/n1"), w("dir/b.txt"), w("dir/o.txt"), w("dir/new/x"), {"op": "moveFile", "from": "a.txt", "to": "dir/z"}]);
        let ran = bench.execute(&verified(document(ops)), &clock);
        let well = matches!(&ran, Ran::Judged(Judgement::Executed(execution, ..)) if execution.failure.is_none());
        failed += u32::from(!well);
        let names: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["o.txt"], "at reading {at}");
        assert_eq!(std::fs::read(outside.join("o.txt")).unwrap(), b"outside\n");
        assert!(
            ["a.txt", "dir/z", "away/z"].iter().any(|path| bench.read(path).is_some()),
            "at reading {at}: the moved file is lost"
        );
    }
    assert!(failed > 10, "the swap was seen only {failed} times");
}

#[test]
fn a_file_changed_meanwhile_is_left_as_it_is() {
    let mut gave_way = 0;
    for at in 2..30 {
        let mut bench = furnished();
        let root = bench.root();
        let clock = Stepped::new(move |number| {
            if number == at {
                std::fs::write(root.join("a.txt"), "theirs\n").unwrap();
            }
            Duration::ZERO
        });
        let ran = bench.execute(&verified(document(json!([w("a.txt"), w("n/x")]))), &clock);
        if let Ran::Again { attempts, reason, .. } = ran {
            assert_eq!((attempts, reason), (1, R::IoError));
            assert_eq!(bench.read("a.txt").unwrap(), b"theirs\n");
            assert!(!bench.root().join("n").exists());
            gave_way += 1;
        }
    }
    assert!(gave_way >= 2, "the change between plan and mutation was seen {gave_way} times");
}

#[test]
fn a_panic_is_a_passing_failure_and_undone() {
    for at in 2..40 {
        let mut bench = furnished();
        bench.write("old", b"old\n");
        let before = bench.snapshot();
        let clock = Stepped::new(move |number| {
            assert_ne!(number, at, "unlucky");
            Duration::ZERO
        });
        let command = verified(document(everything()));
        let job = [support::job(&bench.ledger, &command)];
        let mut batch = bench.executor.run(&job, &clock);
        let Some(Ran::Again { attempts, reason, detail }) = batch.ran.pop() else {
            assert!(at > 15);
            return;
        };
        assert_eq!((attempts, reason), (1, R::WorkerCrashed));
        assert!(detail.contains("unlucky"), "{detail}");
        assert_eq!(bench.snapshot(), before, "at reading {at}");
        // Its id is its own while it waits: another document that bears it is refused.
        let calm = Stepped::new(|_| Duration::ZERO);
        let mut other = document(json!([w("x")]));
        other["id"] = command.command().id.as_str().into();
        assert_eq!(refused(&bench.judge(&verified(other), &calm)), (R::DuplicateId, Stage::Identity));
        let again = job.map(|job| Job { attempts, ..job });
        let Some(Ran::Judged(judgement)) = bench.executor.run(&again, &calm).ran.pop() else { panic!("not judged") };
        assert_eq!(executed(judgement).attempts, 2);
    }
}

#[test]
fn nothing_is_left_behind_and_reports_tell_each_op() {
    let mut bench = furnished();
    bench.write("old", b"old\n");
    let inode = std::fs::metadata(bench.root().join("a.txt")).unwrap().ino();
    let execution = bench.ok(everything());
    assert_ne!(std::fs::metadata(bench.root().join("a.txt")).unwrap().ino(), inode, "replaced, not rewritten");
    assert!(bench.snapshot().iter().all(|(path, ..)| !path.to_string_lossy().ends_with(".tmp")));
    assert_eq!(execution.ops.len(), 6);
    assert!(
        execution.ops[0].before_sha256.is_some()
            && execution.ops[1].before_sha256.is_none()
            && execution.ops[4].after_sha256.is_none()
    );
    assert_eq!(execution.ops[2].before_sha256, execution.ops[2].after_sha256);
}

#[test]
fn a_command_whose_tries_are_spent_is_not_tried_again() {
    let mut bench = Bench::with_program(Box::new(|_| panic!("it is run")));
    bench.attempts = MAX_ATTEMPTS;
    let mut command = document(json!([w("x")]));
    command["validationPlan"] = json!([{"check": "run", "name": "program"}]);
    let execution = executed(bench.run(command));
    assert_eq!(execution.failure.as_ref().map(|(reason, _)| *reason), Some(R::RetriesExhausted));
    assert_eq!((execution.attempts, bench.read("x")), (MAX_ATTEMPTS, None));
}

#[test]
fn a_command_in_a_hurry_waits_for_no_other() {
    let bench = Bench::new();
    let job = |hurries: bool, path: &str| {
        let mut command = document(json!([w(path)]));
        if hurries {
            command["constraints"]["maxRuntimeMs"] = 500.into();
        }
        support::job(&bench.ledger, &verified(command))
    };
    let jobs = [job(false, "a"), job(true, "b"), job(false, "c"), job(true, "d")];
    // Each reading is 45 ms later: one command has enough with half a second, two have not.
    let clock = Stepped::new(|number| Duration::from_millis(45) * number);
    let batch = bench.executor.run(&jobs, &clock);
    for ran in batch.ran {
        let Ran::Judged(judgement) = ran else { panic!("not judged: {ran:?}") };
        assert_eq!(executed(judgement).failure, None);
    }
}
