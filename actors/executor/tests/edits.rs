//! The edits that agents speak: texts replaced and inserted, patches in an envelope, preconditions by path, and what a refusal
//! tells a program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![cfg(unix)]

mod support;

use std::time::Duration;

use executor::core::Judgement;
use protocol::reason::{Reason as R, Verdict};
use ring::digest;
use serde_json::{Value, json};
use support::{Bench, Stepped, document, executed, verified};

fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hybrid(ops: Value) -> Value {
    let mut command = document(ops);
    command["patchType"] = json!("hybrid");
    command
}

fn refused(bench: &mut Bench, ops: Value) -> Verdict {
    match bench.run(hybrid(ops)) {
        Judgement::Rejected(verdict) => verdict,
        other => panic!("not refused: {other:?}"),
    }
}

fn numbered(count: usize) -> String {
    (1..=count).map(|number| format!("line {number}\n")).collect()
}

#[test]
fn ops_in_a_row_on_one_file_say_its_hash_at_both_ends() {
    let mut bench = Bench::new();
    bench.write("f", b"a\nb\nc\nb\n");
    let ops = json!([
        { "op": "replaceText", "path": "f", "search": "b", "replace": "x", "count": "all" },
        { "op": "insertText", "path": "f", "line": 1, "anchor": "a", "text": "new\n" },
        { "op": "replaceText", "path": "f", "search": "x", "replace": "y", "line": 5 },
        { "op": "writeFile", "path": "g", "content": "g" },
    ]);
    let execution = executed(bench.run(hybrid(ops)));
    assert_eq!(execution.failure, None);
    assert_eq!(bench.read("f").unwrap(), b"a\nnew\nx\nc\ny\n");
    let hashes: Vec<_> =
        execution.ops.iter().map(|op| (op.before_sha256.is_some(), op.after_sha256.is_some())).collect();
    assert_eq!(hashes, [(true, false), (false, false), (false, true), (false, true)]);
    assert_eq!(execution.ops[2].after_sha256.unwrap().to_string(), sha256(b"a\nnew\nx\nc\ny\n"));
}

#[test]
fn an_insertion_needs_a_line_that_is_known() {
    let mut bench = Bench::new();
    bench.write("f", b"a\nb\n");
    let insert = |line: u64, more: Value| {
        let mut op = json!({ "op": "insertText", "path": "f", "line": line, "text": "x\n" });
        op.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([op])
    };
    let known = json!({ "expect": { "sha256": sha256(b"a\nb\n") } });
    let verdict = refused(&mut bench, insert(1, json!({ "anchor": "b" })));
    assert_eq!(verdict.reason, R::PatchConflict);
    let hint = &verdict.hints[0];
    assert_eq!((hint.file.as_deref(), hint.op, hint.line), (Some("f"), Some(1), Some(1)));
    assert_eq!((hint.sent.as_deref(), hint.found.as_deref(), &hint.candidates), (Some("b"), Some("a"), &Some(vec![2])));
    assert_eq!(refused(&mut bench, insert(3, known.clone())).reason, R::PatchConflict);
    assert_eq!(executed(bench.run(hybrid(insert(0, known)))).failure, None);
    assert_eq!(bench.read("f").unwrap(), b"x\na\nb\n");
}

#[test]
fn a_patch_in_an_envelope_does_what_it_says_or_nothing() {
    let mut bench = Bench::new();
    bench
        .write("src/a.py", b"class A:\n    def f(self):\n        x = 1\n\nclass B:\n    def f(self):\n        x = 1\n");
    bench.write("old.txt", b"old\n");
    bench.write("moved.txt", b"one\ntwo\n");
    let patch = "*** Begin Patch\n*** Update File: src/a.py\n@@ class B:\n@@     def f(self):\n-        x = 1\n+        x = 2\n\
                 *** Add File: new.txt\n+hello\n*** Delete File: old.txt\n*** Update File: moved.txt\n*** Move to: to/moved.txt\n\
                 @@\n one\n-two\n+three\n*** End of File\n*** End Patch\n";
    let execution = executed(bench.run(hybrid(json!([{ "op": "applyPatch", "patch": patch }]))));
    assert_eq!(execution.failure, None, "{:?}", execution.failure);
    assert!(bench.read("src/a.py").unwrap().ends_with(b"class B:\n    def f(self):\n        x = 2\n"));
    assert!(bench.read("src/a.py").unwrap().starts_with(b"class A:\n    def f(self):\n        x = 1\n"));
    assert_eq!((bench.read("new.txt").unwrap(), bench.read("old.txt")), (b"hello\n".to_vec(), None));
    assert_eq!((bench.read("to/moved.txt").unwrap(), bench.read("moved.txt")), (b"one\nthree\n".to_vec(), None));
    // (patch, what it says)
    let table = [
        ("*** Begin Patch\n*** Add File: new.txt\n+x\n*** End Patch\n", "is there already"),
        ("*** Begin Patch\n*** Update File: none\n@@\n-a\n+b\n*** End Patch\n", "there is no such file"),
        ("*** Begin Patch\n*** Update File: src/a.py\n@@\n-        x = 3\n+y\n*** End Patch\n", "line 3"),
        (
            "*** Begin Patch\n*** Update File: src/a.py\n@@     def f(self):\n-        x = 1\n+y\n*** End Patch\n",
            "2 times",
        ),
        (
            "*** Begin Patch\n*** Update File: src/a.py\n@@ class C:\n-        x = 1\n+y\n*** End Patch\n",
            "is not in the file",
        ),
        ("*** Begin Patch\n*** Update File: src/a.py\n@@\n+y\n*** End Patch\n", "without context"),
        (
            "*** Begin Patch\n*** Update File: src/a.py\n@@\n class A:\n-    def f(self):\n+y\n*** End of File\n*** End Patch\n",
            "end",
        ),
        ("*** Begin Patch\n*** Update File: src/a.py\n@@\n-        x = 1\n+y\n", "may have been cut short"),
        ("*** Begin Patch\n*** End Patch\n", "names no file"),
        ("*** Begin Patch\n*** Rename File: a\n*** End Patch\n", "begins no file"),
        ("--- a/new.txt\n+++ b/new.txt\n@@ -1 +1 @@\n-hello\n+x\n", "applyDiff instead"),
    ];
    let before = bench.snapshot();
    for (patch, said) in table {
        let verdict = refused(&mut bench, json!([{ "op": "applyPatch", "patch": patch }]));
        assert!(verdict.reason == R::PatchConflict && verdict.detail.contains(said), "{patch}{verdict:?}");
        assert_eq!(bench.snapshot(), before, "{patch}");
    }
    let outside = "*** Begin Patch\n*** Add File: ../x\n+x\n*** End Patch\n";
    assert_eq!(refused(&mut bench, json!([{ "op": "applyPatch", "patch": outside }])).reason, R::PathEscape);
}

#[test]
fn consent_is_asked_for_what_a_patch_in_an_envelope_does() {
    let mut bench = Bench::new();
    bench.write("f", b"a\n");
    let patch =
        |text: &str| json!([{ "op": "applyPatch", "patch": format!("*** Begin Patch\n{text}*** End Patch\n") }]);
    for (text, allowed) in [
        ("*** Add File: n\n+x\n", json!(["moveFile"])),
        ("*** Delete File: f\n", json!(["writeFile"])),
        ("*** Update File: f\n*** Move to: g\n", json!(["writeFile"])),
        ("*** Update File: f\n*** Move to: g\n@@\n-a\n+b\n", json!(["moveFile"])),
    ] {
        let mut command = hybrid(patch(text));
        command["allowedActions"] = allowed;
        let judgement = bench.run(command);
        assert!(
            matches!(&judgement, Judgement::Rejected(verdict) if verdict.reason == R::ActionNotAllowed),
            "{text}{judgement:?}"
        );
    }
}

#[test]
fn what_a_file_is_known_to_be_makes_its_line_numbers_true() {
    let mut bench = Bench::new();
    let text = "{\n  a\n}\n".repeat(4);
    bench.write("f", text.as_bytes());
    let diff = "--- a/f\n+++ b/f\n@@ -5,0 +6 @@\n+  b\n";
    let op = |expect: Value| json!([{ "op": "applyDiff", "diff": diff, "expect": expect }]);
    assert_eq!(refused(&mut bench, json!([{ "op": "applyDiff", "diff": diff }])).reason, R::PatchConflict);
    let other = json!({ "f": { "sha256": sha256(b"x") } });
    assert_eq!(refused(&mut bench, op(other)).reason, R::PreconditionFailed);
    assert_eq!(refused(&mut bench, op(json!({ "f": { "absent": true } }))).reason, R::PreconditionFailed);
    assert_eq!(refused(&mut bench, op(json!({ "../f": { "absent": true } }))).reason, R::PathEscape);
    let known = json!({ "f": { "sha256": sha256(text.as_bytes()) }, "none": { "absent": true } });
    assert_eq!(executed(bench.run(hybrid(op(known)))).failure, None);
    assert!(bench.read("f").unwrap().starts_with(b"{\n  a\n}\n{\n  a\n  b\n}\n"));
}

#[test]
fn a_refused_hunk_tells_a_program_all_lines_that_differ() {
    let mut bench = Bench::new();
    bench.write("f", numbered(30).as_bytes());
    let diff = "--- a/f\n+++ b/f\n@@ -3,4 +3,4 @@\n   line 10\n line 11\n-line  12\n+x\n line 13\n";
    let verdict = refused(&mut bench, json!([{ "op": "noop" }, { "op": "applyDiff", "diff": diff }]));
    assert_eq!(verdict.reason, R::PatchConflict);
    assert!(verdict.detail.contains("nearest at line 10"), "{}", verdict.detail);
    let lines: Vec<_> = verdict.hints.iter().map(|hint| (hint.op, hint.hunk, hint.line)).collect();
    assert_eq!(lines, [(Some(2), Some(1), Some(10)), (Some(2), Some(1), Some(12))]);
    assert_eq!(verdict.hints[0].header.as_deref(), Some("@@ -10,4 +10,4 @@"));
    assert_eq!(
        (verdict.hints[1].sent.as_deref(), verdict.hints[1].found.as_deref()),
        (Some("line  12"), Some("line 12"))
    );
}

#[test]
fn a_diff_that_asks_for_too_much_is_over_the_limit() {
    let mut bench = Bench::new();
    let files: String =
        (0..1_001).map(|number| format!("--- /dev/null\n+++ b/n{number}\n@@ -0,0 +1 @@\n+x\n")).collect();
    let mut command = hybrid(json!([{ "op": "applyDiff", "diff": files }]));
    command["constraints"] = json!({ "maxRuntimeMs": 60000, "maxFilesChanged": 100 });
    let Judgement::Rejected(verdict) = bench.run(command) else { panic!() };
    assert_eq!(verdict.reason, R::LimitExceeded, "{verdict:?}");
}

#[test]
fn the_time_that_a_command_has_bounds_its_plan() {
    let mut bench = Bench::new();
    bench.write("f", numbered(30).as_bytes());
    let diff: String = (0..20).map(|number| format!("--- /dev/null\n+++ b/n{number}\n@@ -0,0 +1 @@\n+x\n")).collect();
    let mut command = hybrid(json!([{ "op": "applyDiff", "diff": diff }]));
    command["constraints"] = json!({ "maxRuntimeMs": 1000, "maxFilesChanged": 100 });
    let before = bench.snapshot();
    // A tenth of a second for each look at the clock: the time is over in the middle of the diff.
    let judgement = bench.judge(&verified(command), &Stepped::new(|reading| Duration::from_millis(100) * reading));
    let Judgement::Executed(execution, ..) = judgement else { panic!("{judgement:?}") };
    assert_eq!(execution.failure.map(|(reason, _)| reason), Some(R::Timeout));
    assert_eq!(bench.snapshot(), before);
}
