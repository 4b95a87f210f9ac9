//! `applyDiff` as a command sees it: what it needs, which paths it may name, what it reports, and that it is whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![cfg(unix)]

mod support;

use std::os::unix::fs::symlink;

use executor::core::Judgement;
use protocol::reason::{Reason as R, Stage};
use serde_json::{Value, json};
use support::{Bench, document, refused};

fn op(diff: &str) -> Value {
    json!({"op": "applyDiff", "diff": diff})
}

fn furnished() -> Bench {
    let bench = Bench::new();
    bench.write("a.txt", b"one\ntwo\nthree\n");
    bench.write("dir/b.txt", b"b\n");
    std::fs::create_dir(bench.dir.path().join("outside")).unwrap();
    std::fs::write(bench.dir.path().join("outside/o.txt"), "one\n").unwrap();
    symlink(bench.dir.path().join("outside"), bench.root().join("out")).unwrap();
    symlink("a.txt", bench.root().join("leaf")).unwrap();
    bench
}

const EDIT: &str = "--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n";
const NEW: &str = "--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+x\n";
const GONE: &str = "--- a/dir/b.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n";
const MOVE: &str = "diff --git a/dir/b.txt b/m\nsimilarity index 100%\nrename from dir/b.txt\nrename to m\n";
const MOVE_AND_EDIT: &str =
    "diff --git a/dir/b.txt b/m\nrename from dir/b.txt\nrename to m\n--- a/dir/b.txt\n+++ b/m\n@@ -1 +1 @@\n-b\n+c\n";
const MOVE_AND_MODE: &str =
    "diff --git a/dir/b.txt b/m\nold mode 100644\nnew mode 100755\nrename from dir/b.txt\nrename to m\n";
const COPY: &str = "diff --git a/a.txt b/c\nsimilarity index 100%\ncopy from a.txt\ncopy to c\n";
const MODE: &str = "diff --git a/a.txt b/a.txt\nold mode 100644\nnew mode 100755\n";

#[test]
fn each_kind_of_change_needs_its_action() {
    let (write, mv, delete) = ("writeFile", "moveFile", "deleteFile");
    let cases: [(&str, &[&str]); 9] = [
        (EDIT, &[write]),
        (NEW, &[write]),
        (GONE, &[delete]),
        (MOVE, &[mv]),
        (MOVE_AND_EDIT, &[write, mv]),
        (MOVE_AND_MODE, &[write, mv]),
        (COPY, &[write]),
        (MODE, &[write]),
        (&(EDIT.to_owned() + MOVE + "diff --git a/a.txt b/a.txt\ndeleted file mode 100644\n"), &[write, mv, delete]),
    ];
    let all = [write, mv, delete];
    for (diff, needed) in cases {
        for subset in 1..8_usize {
            let allowed: Vec<&str> = (0..3).filter(|bit| subset >> bit & 1 == 1).map(|bit| all[bit]).collect();
            let mut command = document(json!([op(diff)]));
            command["allowedActions"] = json!(allowed);
            let judgement = furnished().run(command);
            let is_enough = needed.iter().all(|action| allowed.contains(action));
            match judgement {
                Judgement::Rejected(verdict) if !is_enough => {
                    assert_eq!(
                        (verdict.reason, verdict.stage),
                        (R::ActionNotAllowed, Stage::Policy),
                        "{diff} {allowed:?}"
                    );
                }
                // The last case does not fit, but that is found later.
                Judgement::Rejected(verdict) => {
                    assert_eq!((verdict.reason, needed.len()), (R::PatchConflict, 3), "{diff}")
                }
                Judgement::Executed(..) => assert!(is_enough, "{diff} {allowed:?}"),
            }
        }
    }
    let mut guarded = Bench::with(|target| target.allow_delete = false);
    guarded.write("dir/b.txt", b"b\n");
    assert_eq!(refused(&guarded.ops(json!([op(GONE)]))), (R::DeleteDenied, Stage::Policy));
    guarded.ok(json!([op(MOVE)]));
}

#[test]
fn each_wrong_diff_has_its_reason_and_changes_nothing() {
    let edit = |path: &str| format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-one\n+x\n");
    let new = |path: &str| format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n");
    let rename = |from: &str, to: &str| format!("diff --git a/{from} b/{to}\nrename from {from}\nrename to {to}\n");
    let mode =
        |mode: &str| format!("diff --git a/l b/l\nnew file mode {mode}\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+x\n");
    let cases = [
        (new("../x"), R::PathEscape),
        (new("x/../../y"), R::PathEscape),
        (new("/x"), R::PathEscape),
        ("--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-a\n+b\n".to_owned(), R::PathEscape),
        (new(".git/hooks/x"), R::PathDenied),
        ("--- /dev/null\n+++ \"b/.\\147it/x\"\n@@ -0,0 +1 @@\n+x\n".to_owned(), R::PathDenied),
        ("--- /dev/null\n+++ \"b/\\377\"\n@@ -0,0 +1 @@\n+x\n".to_owned(), R::PathDenied),
        (new("meta/x"), R::PathDenied),
        (new("Secret/x"), R::PathDenied),
        (new("x.KEY"), R::PathDenied),
        (rename("a.txt", "secret/x"), R::PathDenied),
        (rename("secret/x", "n"), R::PathDenied),
        (rename("../x", "n"), R::PathEscape),
        (edit("leaf"), R::PathEscape),
        (edit("out/o.txt"), R::PathEscape),
        (new("out/n"), R::PathEscape),
        (rename("out/o.txt", "n"), R::PathEscape),
        (rename("a.txt", "A.TXT"), R::PathDenied),
        (new("DIR/x"), R::PathDenied),
        (new("dir"), R::PreconditionFailed),
        (new("a.txt/x"), R::PreconditionFailed),
        (mode("120000"), R::PathDenied),
        (mode("160000"), R::PathDenied),
        (mode("100600"), R::PathDenied),
        (mode("040000"), R::PathDenied),
        ("diff --git a/a.txt b/a.txt\nold mode 100644\nnew mode 120000\n".to_owned(), R::PathDenied),
        (edit("a.txt").replace("--- ", "diff --git a/a.txt b/a.txt\nindex 1..2 120000\n--- "), R::PathDenied),
        (edit("gone"), R::PatchConflict),
        (new("a.txt"), R::PatchConflict),
        (edit("dir/b.txt"), R::PatchConflict),
        (rename("a.txt", "dir/b.txt"), R::PatchConflict),
        ("no diff\n".to_owned(), R::PatchConflict),
        (String::new(), R::PatchConflict),
        // All or nothing, and what policy forbids comes before what cannot be read or does not fit.
        (EDIT.to_owned() + &edit("gone"), R::PatchConflict),
        (EDIT.to_owned() + "@@ nonsense\n@@ -1 +1 @@\n", R::PatchConflict),
        (edit("gone") + &new("../x"), R::PathEscape),
        (new("../x") + "@@ -1,2 +1 @@\n", R::PathEscape),
        (new("../x").replace("+x\n", "*x\n"), R::PathEscape),
    ];
    let mut bench = furnished();
    let before = bench.snapshot();
    for (diff, reason) in cases {
        let judgement = bench.ops(json!([op(&diff)]));
        let Judgement::Rejected(verdict) = &judgement else { panic!("{diff}: {judgement:?}") };
        assert_eq!(verdict.reason, reason, "{diff}: {verdict}");
        assert!(verdict.detail.starts_with("op 1 (applyDiff): "), "{verdict}");
        assert!(!verdict.detail.contains(&*bench.dir.path().to_string_lossy()), "{verdict}");
        assert_eq!(bench.snapshot(), before, "{diff}");
    }
    assert_eq!(std::fs::read(bench.dir.path().join("outside/o.txt")).unwrap(), b"one\n");
}

#[test]
fn a_detail_says_where_to_mend_the_diff() {
    let mut bench = furnished();
    let diff = EDIT.replace("two", "2");
    let Judgement::Rejected(verdict) = bench.ops(json!([{"op": "noop"}, op(&diff)])) else { panic!() };
    let expected = "op 2 (applyDiff): a.txt hunk 1 (@@ -1,3 +1,3 @@): line 2 should be \"2\" but is \"two\"";
    assert_eq!((verdict.stage, verdict.detail.as_str()), (Stage::DryRun, expected));
}

#[test]
fn each_file_has_a_report_and_counts() {
    let mut bench = furnished();
    let execution = bench.ok(json!([op(&format!("{EDIT}{NEW}{COPY}{MOVE}")), {"op": "deleteFile", "path": "n"}]));
    let told: Vec<_> = execution
        .ops
        .iter()
        .map(|it| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let sides = (it.before_sha256.is_some(), it.after_sha256.is_some());
            (it.op, text(&it.path), text(&it.from), text(&it.to), sides)
        })
        .collect();
    let row = |path: &str, from: &str, to: &str, before, after| {
        ("applyDiff", path.to_owned(), from.to_owned(), to.to_owned(), (before, after))
    };
    assert_eq!(
        told[..4],
        [
            row("a.txt", "", "", true, true),
            row("n", "", "", false, true),
            row("", "a.txt", "c", true, true),
            row("", "dir/b.txt", "m", true, true),
        ]
    );
    assert_eq!(execution.ops[2].before_sha256, execution.ops[2].after_sha256, "a copy of the file as it was before");
    // The edit, the copy and the move; bytes of the edit and the copy.
    assert_eq!((execution.files_changed, execution.bytes_written), (3, 15 + 14));
    assert_eq!(bench.read("c").unwrap(), b"one\ntwo\nthree\n");
    let text = String::from_utf8(execution.diff).unwrap();
    assert!(text.contains("rename from dir/b.txt\nrename to m\n"), "{text}");
}

#[test]
fn files_change_places_and_kinds_of_command_mix() {
    let mut bench = furnished();
    let rename = |from: &str, to: &str| format!("diff --git a/{from} b/{to}\nrename from {from}\nrename to {to}\n");
    let swap = rename("a.txt", "dir/b.txt") + &rename("dir/b.txt", "a.txt");
    let write = json!({"op": "writeFile", "path": "a.txt", "content": "b\n"});
    let execution = bench.ok(json!([op(&swap), write, op("--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-b\n+c\n")]));
    assert_eq!(
        (bench.read("a.txt").unwrap(), bench.read("dir/b.txt").unwrap()),
        (b"c\n".to_vec(), b"one\ntwo\nthree\n".to_vec())
    );
    assert_eq!(execution.files_changed, 2);
    // A folder may take a file's place.
    bench.ok(json!([op(&rename("a.txt", "a.txt/below"))]));
    assert_eq!(bench.read("a.txt/below").unwrap(), b"c\n");
}

#[test]
fn bounds_hold_for_diffs() {
    let mut command = document(json!([op(&format!("{EDIT}{NEW}"))]));
    command["constraints"]["maxFilesChanged"] = 1.into();
    assert_eq!(refused(&furnished().run(command.clone())).0, R::TooManyFiles);
    command["constraints"] = json!({"maxRuntimeMs": 1000, "maxFilesChanged": 2, "maxBytesWritten": 16});
    assert_eq!(refused(&furnished().run(command.clone())).0, R::TooManyBytes);
    command["constraints"]["maxBytesWritten"] = 17.into();
    assert!(matches!(furnished().run(command), Judgement::Executed(..)));
}
