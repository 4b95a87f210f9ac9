//! What diffs may look like, and what they may do.

use super::{Files, files, play};

fn after(before: &Files, diff: &str) -> Files {
    play(before, diff.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{diff}"))
}

#[test]
fn names_are_found_however_they_are_spelled() {
    let cases = [
        ("--- a/src/x.rs\n+++ b/src/x.rs\n", "src/x.rs"),
        ("--- x.rs\n+++ x.rs\n", "x.rs"),
        ("--- src/x.rs\n+++ src/x.rs\n", "src/x.rs"),
        ("--- a/x.rs\n+++ a/x.rs\n", "x.rs"),
        ("--- x.rs.orig\t2026-01-01 10:00:00\n+++ x.rs\t2026-01-01 10:00:01\n", "x.rs"),
        ("--- x.rs.orig\t2026-01-01 10:00:00.123456789 +0100\n+++ x.rs\t2026-01-01 10:00:01.5 +01:00\n", "x.rs"),
        ("--- x.rs\n+++ x.rs~\n", "x.rs"),
        ("--- ./src/x.rs\n+++ ./src/x.rs\n", "src/x.rs"),
        ("--- a/my file.rs\n+++ b/my file.rs\n", "my file.rs"),
        ("--- a/my file.rs\t\n+++ b/my file.rs\t\n", "my file.rs"),
        ("--- my file.rs 2026-01-01 10:00:00 +0000\n+++ my file.rs 2026-01-01 10:00:00 +0000\n", "my file.rs"),
        ("--- \"a/\\303\\274.rs\"\n+++ \"b/\\303\\274.rs\"\n", "ü.rs"),
        ("--- a/x.rs\r\n+++ b/x.rs\r\n", "x.rs"),
        ("diff --git a/x.rs b/x.rs\n--- a/x.rs\n+++ b/x.rs\n", "x.rs"),
        ("diff --git a/x.rs b/x.rs\r\nindex 1..2 100644\r\n--- a/x.rs\r\n+++ b/x.rs\r\n", "x.rs"),
        ("diff --git i/src/x.rs w/src/x.rs\nindex 1..2\n--- i/src/x.rs\n+++ w/src/x.rs\n", "src/x.rs"),
        ("diff --git src/x.rs src/x.rs\nindex 1..2\n--- src/x.rs\n+++ src/x.rs\n", "src/x.rs"),
        ("diff --git x.rs x.rs\nindex 1..2\n--- x.rs\n+++ x.rs\n", "x.rs"),
        ("Index: x.rs\n=======\n--- x.rs\t(revision 1)\n+++ x.rs\t(working copy)\n", "x.rs"),
        (
            "From 12 Mon Sep 17\nSubject: [PATCH] x\n\n---\n x.rs | 2 +-\n 1 file changed\n\ndiff --git a/x.rs b/x.rs\n--- a/x.rs\n+++ b/x.rs\n",
            "x.rs",
        ),
    ];
    for (header, name) in cases {
        let diff = format!("{header}@@ -1 +1 @@\n-a\n+b\n");
        assert_eq!(after(&files([(name, "a\n")]), &diff), files([(name, "b\n")]), "{diff}");
    }
}

#[test]
fn files_come_and_go() {
    let cases = [
        ("--- /dev/null\n+++ b/d/n\n@@ -0,0 +1 @@\n+x\n", files([]), files([("d/n", "x\n")])),
        ("--- /dev/null\n+++ d/n\n@@ -0,0 +1 @@\n+x\n", files([]), files([("d/n", "x\n")])),
        (
            "--- a/n\t1970-01-01 01:00:00 +0100\n+++ b/n\t2026-01-01 01:00:00 +0100\n@@ -0,0 +1 @@\n+x\n",
            files([]),
            files([("n", "x\n")]),
        ),
        ("--- a/n\n+++ b/n\n@@ -0,0 +1 @@\n+x\n", files([]), files([("n", "x\n")])),
        ("--- a/n\n+++ b/n\n@@ -0,0 +1 @@\n+x\n", files([("n", "")]), files([("n", "x\n")])),
        ("--- a/n\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", files([("n", "x\n")]), files([])),
        ("--- a/n\n+++ b/n\n@@ -1 +0,0 @@\n-x\n", files([("n", "x\n")]), files([("n", "")])),
        ("--- a/n\n+++ b/n\t1970-01-01 00:00:00 +0000\n@@ -1 +0,0 @@\n-x\n", files([("n", "x\n")]), files([])),
        ("diff --git a/n b/n\nnew file mode 100644\nindex 0000000..e69de29\n", files([]), files([("n", "")])),
        ("diff --git a/n b/n\ndeleted file mode 100644\nindex e69de29..0000000\n", files([("n", "")]), files([])),
        (
            "diff --git a/o b/n\nsimilarity index 100%\nrename from o\nrename to n\n",
            files([("o", "x\n")]),
            files([("n", "x\n")]),
        ),
        (
            "diff --git a/o b/n\nrename from o\nrename to n\n--- a/o\n+++ b/n\n@@ -1 +1 @@\n-x\n+y\n",
            files([("o", "x\n")]),
            files([("n", "y\n")]),
        ),
        (
            "diff --git d/o d/n\nrename from d/o\nrename to d/n\n--- d/o\n+++ d/n\n@@ -1 +1 @@\n-x\n+y\n",
            files([("d/o", "x\n")]),
            files([("d/n", "y\n")]),
        ),
        ("diff --git a/o b/n\ncopy from o\ncopy to n\n", files([("o", "x\n")]), files([("o", "x\n"), ("n", "x\n")])),
        (
            "--- a/n\n+++ b/n\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n",
            files([("n", "x")]),
            files([("n", "x\n")]),
        ),
        (
            "--- a/n\n+++ b/n\n@@ -1 +1 @@\n-x\n+x\n\\ Kein Zeilenumbruch am Dateiende.\n",
            files([("n", "x\n")]),
            files([("n", "x")]),
        ),
        (
            "--- a/n\n+++ b/n\n@@ -1,2 +1,2 @@\n a\r\n-b\r\n+c\r\n",
            files([("n", "a\r\nb\r\n")]),
            files([("n", "a\r\nc\r\n")]),
        ),
        ("--- a/n\n+++ b/n\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n\n", files([("n", "a\nb\n\n")]), files([("n", "a\nc\n\n")])),
        ("--- a/n\n+++ b/n\n@@ -3,0 +4 @@\n+d\n", files([("n", "a\nb\nc\n")]), files([("n", "a\nb\nc\nd\n")])),
    ];
    for (diff, before, expected) in cases {
        assert_eq!(after(&before, diff), expected, "{diff}");
    }
}

#[test]
fn modes_change_and_stay() {
    let file = |executable| Files::from([("f".to_owned(), (b"a\n".to_vec(), executable))]);
    let edit = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n";
    assert!(!after(&file(true), "diff --git a/f b/f\nold mode 100755\nnew mode 100644\n")["f"].1);
    assert!(after(&file(false), "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n")["f"].1);
    assert!(after(&file(true), edit)["f"].1);
    // A mode before that is not the file's is no conflict, and changes nothing.
    assert!(after(&file(true), &format!("diff --git a/f b/f\nindex 1..2 100644\n{edit}"))["f"].1);
    assert!(after(&files([]), "diff --git a/n b/n\nnew file mode 100755\n")["n"].1);
    assert!(after(&file(true), "diff --git a/f b/n\nrename from f\nrename to n\n")["n"].1);
}

#[test]
fn the_files_of_one_diff_take_effect_together() {
    let rename = |from: &str, to: &str| format!("diff --git a/{from} b/{to}\nrename from {from}\nrename to {to}\n");
    let before = files([("a", "1\n"), ("b", "2\n"), ("c", "3\n")]);
    assert_eq!(
        after(&before, &(rename("a", "b") + &rename("b", "a"))),
        files([("a", "2\n"), ("b", "1\n"), ("c", "3\n")])
    );
    let circle = rename("a", "b") + &rename("b", "c") + &rename("c", "a");
    assert_eq!(after(&before, &circle), files([("a", "3\n"), ("b", "1\n"), ("c", "2\n")]));
    // A copy takes the file as it was before the diff.
    let edit = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+9\n";
    let copy = "diff --git a/a b/n\ncopy from a\ncopy to n\n";
    let expected = files([("a", "9\n"), ("b", "2\n"), ("c", "3\n"), ("n", "1\n")]);
    assert_eq!(after(&before, &format!("{edit}{copy}")), expected);
    assert_eq!(after(&before, &format!("{copy}{edit}")), expected);
    // What is moved away makes room for another.
    let anew = format!(
        "{}diff --git a/a b/a\nnew file mode 100644\n--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+7\n",
        rename("a", "n")
    );
    assert_eq!(after(&before, &anew)["a"].0, b"7\n");
}
