//! The fence around a target: no path, in whatever op, diff or check, leads anywhere but to a plain file beneath the root
//! that commands may use. Each row of the tables is one command; it is refused for the right reason, and nothing on disk
//! is another than before: no content, no name, no mode, no inode, no time, inside or outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![cfg(unix)]

mod diffs;
mod lexical;
#[path = "../support/mod.rs"]
mod support;
mod tree;
mod world;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use executor::core::{Judgement, Ran};
use serde_json::{Value, json};
use support::{Bench, Stepped, document, verified};
use world::{MARKER, World};

/// One command, and how it must end.
pub struct Row {
    pub ops: Value,
    pub checks: Vec<Value>,
    pub reason: &'static str,
    /// What the detail must say.
    pub rule: String,
    /// Where it must end; empty where that is left open.
    pub stage: &'static str,
}

impl Row {
    pub fn new(ops: Value, reason: &'static str, rule: &str) -> Self {
        Self { ops, checks: Vec::new(), reason, rule: rule.to_owned(), stage: "" }
    }

    pub fn checked(mut self, check: Value) -> Self {
        self.checks.push(check);
        self
    }
}

/// `path` after `prefix`, quoted as git does: every byte as an octal escape.
pub fn quoted(prefix: &str, path: &str) -> String {
    let escaped: String = path.bytes().map(|byte| format!("\\{byte:03o}")).collect();
    format!("\"{prefix}{escaped}\"")
}

/// Sends each row and complains of all that do not end as they must; returns how many distinct ones there were.
fn refuse_all(rows: &[Row]) -> usize {
    let mut world = World::new();
    let mut before = world.record();
    let (mut distinct, mut complaints) = (BTreeSet::new(), Vec::new());
    for row in rows {
        let what = format!("{} {:?}", row.ops, row.checks);
        if let Err(complaint) = refuse(&mut world, row) {
            complaints.push(format!("{what}: {complaint}"));
        }
        if world.record() != before {
            complaints.push(format!("{what}: something on disk is another than before"));
            world = World::new();
            before = world.record();
        }
        distinct.insert(what);
    }
    assert!(complaints.is_empty(), "{} of {} rows:\n{}", complaints.len(), rows.len(), complaints.join("\n"));
    distinct.len()
}

fn refuse(world: &mut World, row: &Row) -> Result<(), String> {
    let mut command = document(row.ops.clone());
    command["validationPlan"] = row.checks.clone().into();
    let (reason, stage, detail) = match world.bench.execute(&verified(command), &Stepped::new(|_| Duration::ZERO)) {
        Ran::Judged(Judgement::Rejected(verdict)) => {
            (verdict.reason, format!("{:?}", verdict.stage).to_lowercase(), verdict.detail)
        }
        Ran::Judged(Judgement::Executed(execution, ..)) => match execution.failure {
            Some((reason, detail)) if execution.diff.is_empty() && execution.files_changed == 0 => {
                (reason, "execution".to_owned(), detail)
            }
            failure => return Err(format!("something was done: {failure:?}")),
        },
        other => return Err(format!("{other:?}")),
    };
    if reason.as_str() != row.reason || !(row.stage.is_empty() || row.stage == stage) {
        return Err(format!("{reason} at {stage}, not {} at {}: {detail}", row.reason, row.stage));
    }
    if !detail.contains(&row.rule) {
        return Err(format!("{detail:?} does not say {:?}", row.rule));
    }
    let place = world.bench.dir.path().to_string_lossy().into_owned();
    if detail.contains(&place) || detail.contains("MARKER") || detail.chars().any(char::is_control) {
        return Err(format!("{detail:?} tells too much"));
    }
    Ok(())
}

#[test]
fn what_a_text_alone_condemns_is_refused_in_every_place() {
    let rows = lexical::rows();
    assert_eq!(refuse_all(&rows), rows.len(), "each row is another");
    assert!(lexical::PATHS.len() >= 130 && rows.len() >= 1_500, "{} {}", lexical::PATHS.len(), rows.len());
}

#[test]
fn what_lies_in_the_tree_is_no_way_out() {
    let has_device = World::new().has_device;
    if !has_device {
        eprintln!("no character device can be made here: its rows are left out");
    }
    let rows = tree::rows(has_device);
    assert_eq!(refuse_all(&rows), rows.len(), "each row is another");
    assert!(rows.len() >= 250, "{}", rows.len());
}

#[test]
fn no_header_of_a_diff_is_a_way_out() {
    let rows = diffs::rows();
    assert_eq!(refuse_all(&rows), rows.len(), "each row is another");
    assert!(rows.len() >= 80, "{}", rows.len());
}

#[test]
fn what_only_looks_forbidden_is_allowed() {
    let mut bench = Bench::new();
    for path in [
        "commands2/x",
        "dir/commands/x",
        "dir/meta",
        "a..b",
        "x/git/config",
        "github/x",
        "HEAD",
        "k/HEAD",
        "k/objects/x",
        "m/commondir",
        "a~b",
        "console/com10.txt",
        "secrets/x",
        "x.keys",
        "straße",
        "日本/語.txt",
    ] {
        bench.ok(json!([{"op": "writeFile", "path": path, "content": "x"}]));
        assert_eq!(bench.read(path).as_deref(), Some(&b"x"[..]), "{path}");
    }
    // What is the bridge's own in CLOUD is any folder elsewhere.
    let mut side = Bench::with(|target| target.is_cloud = false);
    side.ok(json!([{"op": "writeFile", "path": "commands/x", "content": "x"}]));
}

#[test]
fn nothing_is_written_through_a_hard_link() {
    let diff = format!("--- a/hard.txt\n+++ b/hard.txt\n@@ -1 +1 @@\n-{MARKER} hard.txt\n+x\n");
    let mode = "diff --git a/hard.txt b/hard.txt\nold mode 100644\nnew mode 100755\n";
    for ops in [
        json!([{"op": "writeFile", "path": "hard.txt", "content": "x"}]),
        json!([{"op": "writeFile", "path": "hard.txt", "content": format!("{MARKER} hard.txt\n"), "mode": "0755"}]),
        json!([{"op": "replaceText", "path": "hard.txt", "search": "outside", "replace": "x"}]),
        json!([{"op": "moveFile", "from": "a.txt", "to": "hard.txt", "overwrite": true}]),
        json!([{"op": "moveFile", "from": "hard.txt", "to": "moved.txt"},
               {"op": "replaceText", "path": "moved.txt", "search": "outside", "replace": "x"}]),
        json!([{"op": "deleteFile", "path": "hard.txt"}]),
        json!([{"op": "deleteFile", "path": "hard.txt"}, {"op": "writeFile", "path": "hard.txt/x", "content": "x"}]),
        json!([{"op": "applyDiff", "diff": diff}]),
        json!([{"op": "applyDiff", "diff": mode}]),
    ] {
        let mut world = World::new();
        let file = world.bench.dir.path().join("outside/hard.txt");
        let look = || {
            let it = file.metadata().unwrap();
            (std::fs::read(&file).unwrap(), it.ino(), it.mode(), it.mtime(), it.mtime_nsec())
        };
        let before = look();
        world.bench.ok(ops.clone());
        assert_eq!(look(), before, "{ops}");
        assert_eq!(file.metadata().unwrap().nlink(), 1, "{ops}: the file in the tree is another now");
    }
}
