//! Paths whose text is good, and what lies in the tree, or what the command itself puts there, is not.

use serde_json::{Value, json};

use crate::Row;

const LINK: &str = "is a symbolic link, and links are never followed";
const BARE: &str = "looks like a bare git repository";
const MAKES_BARE: &str = "look like a bare git repository";
const CASE: &str = "in case only";
const NOT_REGULAR: &str = "not a regular file";
const NOT_FOLDER: &str = "so nothing can lie beneath it";
const NO_FILE: &str = "there is no file at";
const OWN_FOLDER: &str = "lies in the bridge's own folder";
const DENIED: &str = "is denied by this target's rule";

fn write(path: &str) -> Value {
    json!({"op": "writeFile", "path": path, "content": "x\n"})
}

fn relocate(from: &str, to: &str) -> Value {
    json!({"op": "moveFile", "from": from, "to": to})
}

fn replace(path: &str) -> Value {
    json!({"op": "moveFile", "from": "a.txt", "to": path, "overwrite": true})
}

fn delete(path: &str) -> Value {
    json!({"op": "deleteFile", "path": path})
}

fn text(path: &str) -> Value {
    json!({"op": "replaceText", "path": path, "search": "one", "replace": "x"})
}

fn diff(text: &str) -> Value {
    json!({"op": "applyDiff", "diff": text})
}

fn edit(path: &str) -> Value {
    diff(&format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-one\n+x\n"))
}

fn make(path: &str) -> String {
    format!("diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n")
}

fn rename(from: &str, to: &str) -> String {
    format!("diff --git a/{from} b/{to}\nsimilarity index 100%\nrename from {from}\nrename to {to}\n")
}

/// The four checks that look at a path.
fn checks(path: &str) -> [Value; 4] {
    let zero = "0".repeat(64);
    [
        json!({"check": "exists", "path": path}),
        json!({"check": "absent", "path": path}),
        json!({"check": "sha256", "path": path, "equals": zero}),
        json!({"check": "json", "path": path}),
    ]
}

/// Every op and check on `path`.
fn every_use(path: &str) -> Vec<(Value, Option<Value>)> {
    let copy = format!("diff --git a/{path} b/n\ncopy from {path}\ncopy to n\n");
    let ops = [
        write(path),
        relocate(path, "n"),
        relocate("a.txt", path),
        replace(path),
        delete(path),
        text(path),
        edit(path),
        diff(&make(path)),
        diff(&rename("a.txt", path)),
        diff(&rename(path, "n")),
        diff(&copy),
        json!({"op": "writeFile", "path": path, "content": "x", "expect": {"absent": true}}),
    ];
    let ops = ops.into_iter().map(|op| (json!([op]), None));
    ops.chain(checks(path).map(|check| (json!([write("n")]), Some(check)))).collect()
}

fn every(path: &str, reason: &'static str, rule: &'static str, stage: &'static str) -> impl Iterator<Item = Row> {
    every_use(path).into_iter().map(move |(ops, check)| {
        let row = Row { stage, ..Row::new(ops, reason, rule) };
        check.into_iter().fold(row, Row::checked)
    })
}

pub fn rows(has_device: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for path in [
        "out/new.txt",
        "out/o.txt",
        "out/deep/d.txt",
        "out-relative/o.txt",
        "in/b.txt",
        "in-absolute/b.txt",
        "up/outside/o.txt",
        "here/a.txt",
        "slash/etc/passwd",
        "magic/etc/passwd",
        "handles/0",
        "repository/config",
        "dangling/x",
        "dangling-out/x",
        "loop/x",
        "ping/x",
        "chain/b.txt",
        "links/up/o.txt",
        "out",
        "in",
        "dangling",
        "dangling-out",
        "loop",
        "ping",
        "leaf",
        "leaf-out",
        "leaf-out-relative",
        "links/leaf",
        "leaf/x",
    ] {
        rows.extend(every(path, "path_escape", LINK, "dryrun"));
    }
    for path in ["bare/x", "bare/HEAD", "bare/hooks/pre-commit", "dir/nested/config", "shared/config"] {
        rows.extend(every(path, "path_denied", BARE, "dryrun"));
    }
    for path in ["commands/x.json", "Commands/x", "META", "meta/retries.json", "Logs/bridge.log", "DEAD_LETTER/a/b"] {
        rows.extend(every(path, "path_denied", OWN_FOLDER, "policy"));
    }
    for path in ["results/r.json", "diffs/x", "archive/x", "ARCH\u{131}VE/x", "dIFFS"] {
        rows.push(Row::new(json!([write(path)]), "path_denied", OWN_FOLDER));
    }
    for path in ["secret/s.txt", "SECRET/deep/er/x", "dir/x.key", "dir/X.KEY", "my.Key/below/x"] {
        rows.extend(every(path, "path_denied", DENIED, "policy"));
    }
    rows.extend(in_the_way(has_device));
    rows.extend(clashes());
    rows.extend(repositories());
    rows.extend(sequences());
    rows
}

/// Whatever is no plain file where one is needed, and no folder where one is.
fn in_the_way(has_device: bool) -> Vec<Row> {
    let mut specials = vec!["fifo", "socket", "empty", "dir", "dir/deep", "Docs"];
    specials.extend(has_device.then_some("device"));
    let mut rows = Vec::new();
    for path in specials {
        let refused = |op: Value| Row::new(json!([op]), "precondition_failed", NOT_REGULAR);
        rows.extend([write(path), relocate(path, "n"), relocate("a.txt", path), replace(path)].map(refused));
        rows.extend([delete(path), text(path), diff(&make(path)), diff(&rename("a.txt", path))].map(refused));
        let [exists, absent, sha256, json] = checks(path);
        let failed = |check: Value, rule: &str| Row::new(json!([write("n")]), "validation_failed", rule).checked(check);
        rows.extend([exists, sha256, json].map(|check| failed(check, NOT_REGULAR)));
        rows.push(failed(absent, "is there"));
    }
    let files: &[&str] = if has_device { &["a.txt", "fifo", "socket", "device"] } else { &["a.txt", "fifo", "socket"] };
    for file in files {
        let (below, deep) = (format!("{file}/x"), format!("{file}/x/y"));
        let refused = |op: Value| Row::new(json!([op]), "precondition_failed", NOT_FOLDER);
        rows.extend([write(&below), write(&deep), delete(&below), text(&below)].map(refused));
        rows.extend([relocate(&below, "n"), relocate("b.txt", &below), diff(&make(&below))].map(refused));
        rows.push(Row::new(json!([edit(&below)]), "patch_conflict", "there is no such file"));
        let [exists, _, sha256, json] = checks(&below);
        let failed = |check| Row::new(json!([write("n")]), "validation_failed", NOT_FOLDER).checked(check);
        rows.extend([exists, sha256, json].map(failed));
    }
    for path in ["gone", "gone/deep/x", "dir/gone"] {
        let refused = |op: Value| Row::new(json!([op]), "precondition_failed", NO_FILE);
        rows.extend([relocate(path, "n"), delete(path), text(path)].map(refused));
        rows.push(Row::new(json!([edit(path)]), "patch_conflict", "there is no such file"));
    }
    rows
}

/// New names that a file system which folds case or normalises would take for a sibling's.
fn clashes() -> Vec<Row> {
    let mut rows = Vec::new();
    for path in [
        "A.txt",
        "A.TXT",
        "DIR/x",
        "Dir/deep/x",
        "dir/DEEP/x",
        "dir/B.TXT",
        "docs/x",
        "Docs/guide/y",
        "Docs/Guide/X.md",
        "FIFO",
        "LEAF",
        "OUT/x",
        "names/STRASSE.txt",
        "names/STRA\u{1e9e}E.txt",
        "names/strasse.TXT",
        "names/kelvin.txt",
        "names/Kelvin.txt",
        "names/iota.txt",
        "names/IOTA.TXT",
        "names/café.txt",
        "names/CAFÉ.txt",
        "names/fix.txt",
        "names/οδος.txt",
        "names/οδοσ.txt",
        "names/i\u{307}x.txt",
        "names/αι.txt",
        "names/\u{13a0}.txt",
        "names/sub/x.txt",
    ] {
        let ops = [write(path), relocate("b.txt", path), diff(&make(path)), diff(&rename("b.txt", path))];
        rows.extend(ops.map(|op| Row { stage: "dryrun", ..Row::new(json!([op]), "path_denied", CASE) }));
    }
    for ops in [
        json!([write("n"), write("N")]),
        json!([write("q/x"), write("Q/y")]),
        json!([write("q/r/x"), write("q/R/y")]),
        json!([write("q/x"), write("Q")]),
        json!([write("Q"), write("q/x")]),
        json!([write("ß"), write("SS")]),
        json!([write("ı"), write("I")]),
        json!([write("σ"), write("ς")]),
        json!([write("n"), relocate("a.txt", "N")]),
        json!([relocate("a.txt", "n"), relocate("b.txt", "N")]),
        json!([relocate("a.txt", "A.TXT")]),
        json!([relocate("a.txt", "n"), relocate("n", "A.TXT")]),
        json!([delete("a.txt"), write("A.TXT")]),
        json!([delete("dir/b.txt"), write("dir/B.txt")]),
        json!([diff(&make("q/x")), diff(&make("Q/y"))]),
        json!([diff(&(make("n") + &make("N")))]),
        json!([diff(&(rename("a.txt", "n") + &rename("b.txt", "N")))]),
        json!([diff(&rename("a.txt", "n")), diff(&rename("n", "A.txt"))]),
        json!([diff(&rename("a.txt", "a.TXT"))]),
    ] {
        rows.push(Row::new(ops, "path_denied", CASE));
    }
    rows
}

/// Folders that git would take for a repository once the command was done.
fn repositories() -> Vec<Row> {
    let mut rows = Vec::new();
    for ops in [
        json!([write("k/HEAD"), write("k/objects/x"), write("k/refs/x")]),
        json!([write("k/refs/x"), write("k/HEAD"), write("k/objects/x")]),
        json!([write("k/objects/x"), write("k/refs/x"), write("k/HEAD"), write("k/config")]),
        json!([write("k/head"), write("k/Objects/x"), write("k/REFS/x")]),
        json!([write("k/HEAD"), write("k/objects"), write("k/refs")]),
        json!([write("k/HEAD/x"), write("k/objects/x"), write("k/refs/x")]),
        json!([write("d/e/p/HEAD"), write("d/e/p/objects/x"), write("d/e/p/refs/x")]),
        json!([write("HEAD"), write("objects/x"), write("refs/x")]),
        json!([write("dir/HEAD"), write("dir/objects/x"), write("dir/refs/heads/main")]),
        json!([write("headless/HEAD")]),
        json!([write("refless/refs/x")]),
        json!([write("refless/refs")]),
        json!([write("headed/objects/x"), write("headed/refs/x")]),
        json!([relocate("a.txt", "headless/HEAD")]),
        json!([relocate("a.txt", "k/HEAD"), write("k/objects/x"), relocate("b.txt", "k/refs/x")]),
        json!([relocate("a.txt", "n"), relocate("n", "headless/HEAD")]),
        json!([write("n"), relocate("n", "headless/HEAD")]),
        json!([relocate("headless/objects/o", "refless/refs/o")]),
        json!([diff(&make("headless/HEAD"))]),
        json!([diff(&rename("a.txt", "headless/HEAD"))]),
        json!([diff("diff --git a/a.txt b/headless/HEAD\ncopy from a.txt\ncopy to headless/HEAD\n")]),
        json!([diff(&(make("k/HEAD") + &make("k/objects/x") + &make("k/refs/x")))]),
        json!([diff(&make("k/HEAD")), write("k/objects/x"), diff(&rename("a.txt", "k/refs/x"))]),
        // A file HEAD beside a file commondir: git looks for objects and refs where that one says.
        json!([write("k/HEAD"), write("k/commondir")]),
        json!([write("k/commondir"), write("k/HEAD")]),
        json!([write("k/Head"), write("k/COMMONDIR")]),
        json!([write("headed/commondir")]),
        json!([relocate("a.txt", "headed/commondir")]),
        json!([diff(&make("headed/commondir"))]),
        json!([write("HEAD"), write("commondir")]),
    ] {
        rows.push(Row { stage: "dryrun", ..Row::new(ops, "path_denied", MAKES_BARE) });
    }
    rows
}

/// Steps each of which may be good, and that end where nothing may be.
fn sequences() -> Vec<Row> {
    let table: Vec<(Value, &'static str, &str)> = vec![
        (json!([write("n"), write("n/x")]), "precondition_failed", NOT_FOLDER),
        (json!([write("n"), write("n/x/y/z")]), "precondition_failed", NOT_FOLDER),
        (json!([write("n/x"), write("n")]), "precondition_failed", NOT_REGULAR),
        (json!([write("n/x/y"), write("n/x")]), "precondition_failed", NOT_REGULAR),
        (json!([write("n/x"), relocate("a.txt", "n")]), "precondition_failed", NOT_REGULAR),
        (json!([relocate("a.txt", "n"), write("n/x")]), "precondition_failed", NOT_FOLDER),
        (json!([relocate("a.txt", "n"), relocate("b.txt", "n/x")]), "precondition_failed", NOT_FOLDER),
        (json!([delete("a.txt"), write("a.txt/x"), write("a.txt")]), "precondition_failed", NOT_REGULAR),
        (json!([delete("a.txt"), write("a.txt/x"), relocate("b.txt", "a.txt")]), "precondition_failed", NOT_REGULAR),
        (json!([delete("a.txt"), write("a.txt"), write("a.txt/x")]), "precondition_failed", NOT_FOLDER),
        (json!([delete("a.txt"), delete("a.txt")]), "precondition_failed", NO_FILE),
        (json!([delete("a.txt"), relocate("a.txt", "n")]), "precondition_failed", NO_FILE),
        (json!([delete("a.txt"), text("a.txt")]), "precondition_failed", NO_FILE),
        (json!([relocate("a.txt", "n"), delete("a.txt")]), "precondition_failed", NO_FILE),
        (json!([relocate("a.txt", "n"), relocate("a.txt", "m")]), "precondition_failed", NO_FILE),
        (json!([relocate("a.txt", "a.txt")]), "precondition_failed", "onto itself"),
        (json!([relocate("a.txt", "b.txt")]), "precondition_failed", "exists already"),
        (json!([relocate("a.txt", "a.txt/x"), write("a.txt")]), "precondition_failed", NOT_FOLDER),
        (json!([delete("dir/deep/c.txt"), write("dir/deep")]), "precondition_failed", NOT_REGULAR),
        (json!([delete("dir/deep/c.txt"), relocate("a.txt", "dir/deep")]), "precondition_failed", NOT_REGULAR),
        (json!([delete("leaf"), write("leaf")]), "path_escape", LINK),
        (json!([delete("out"), write("out/o.txt")]), "path_escape", LINK),
        (json!([relocate("leaf", "n"), write("leaf")]), "path_escape", LINK),
        (json!([relocate("out", "n"), write("n/o.txt")]), "path_escape", LINK),
        (json!([write("n"), relocate("n", "out/n")]), "path_escape", LINK),
        (json!([write("n"), relocate("n", "leaf-out")]), "path_escape", LINK),
        (json!([relocate("a.txt", "n"), relocate("n", "m"), relocate("m", "in/m")]), "path_escape", LINK),
        (json!([write("n"), diff(&rename("n", "out/n"))]), "path_escape", LINK),
        (json!([diff(&rename("a.txt", "n")), relocate("n", "links/up/n")]), "path_escape", LINK),
        (json!([diff(&rename("a.txt", "n")), diff(&rename("n", "dangling"))]), "path_escape", LINK),
        (json!([diff(&(rename("a.txt", "b.txt") + &rename("b.txt", "up/x")))]), "path_escape", LINK),
        (json!([diff(&(rename("a.txt", "n") + &rename("b.txt", "bare/x")))]), "path_denied", BARE),
        (json!([relocate("a.txt", "n"), relocate("n", "bare/config")]), "path_denied", BARE),
        (json!([relocate("bare/config", "n")]), "path_denied", BARE),
        (json!([delete("bare/HEAD"), write("bare/config")]), "path_denied", BARE),
        (json!([delete("shared/commondir"), write("shared/config")]), "path_denied", BARE),
        (json!([write("n"), relocate("n", ".git/hooks/post-checkout")]), "path_denied", "begin with a dot"),
        (json!([write("n"), relocate("n", "commands/n.json")]), "path_denied", OWN_FOLDER),
        (json!([write("n"), diff(&rename("n", "meta/journal/n"))]), "path_denied", OWN_FOLDER),
        (json!([relocate("a.txt", "n"), relocate("n", "secret/n")]), "path_denied", DENIED),
        (json!([write("ok"), write("ok2"), write("out/x")]), "path_escape", LINK),
        (json!([write("ok"), delete("b.txt"), write("../x")]), "path_escape", "\"..\""),
        (json!([{"op": "noop"}, write("fifo")]), "precondition_failed", NOT_REGULAR),
    ];
    table.into_iter().map(|(ops, reason, rule)| Row::new(ops, reason, rule)).collect()
}
