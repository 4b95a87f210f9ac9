//! Whatever a command did is taken back by the ops that its own diff leads to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;

use base64::Engine as _;
use executor::core::Judgement;
use executor::replay::stage::Stage;
use executor::replay::{ReplayError, replan};
use executor::take_back::{UndoError, undo};
use executor::tree::Tree;
use executor::{config::Checks, revert};
use proptest::prelude::*;
use protocol::command::{Action, Command, Constraints, PatchType};
use protocol::digest::Sha256;
use serde_json::json;
use support::{Bench, document, target, verified};

const PATHS: [&str; 7] = ["a", "b.txt", "dir/c", "dir/d e.txt", "é/ü", "z/deep/f", "dir b/x"];

fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec!["x\n", "y\n", "a longer line\n", "crlf\r\n", "\n"]);
    let text = (prop::collection::vec(line, 0..30), prop::sample::select(vec!["", "no newline"]))
        .prop_map(|(lines, end)| format!("{}{end}", lines.concat()).into_bytes());
    prop_oneof![3 => text, 1 => Just(b"\xff no utf-8\n".to_vec()), 1 => Just(b"\0binary\xff".to_vec())]
}

fn op() -> impl Strategy<Value = serde_json::Value> {
    let path = || prop::sample::select(&PATHS[..]);
    let encode = |bytes: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
    prop_oneof![
        3 => (path(), content(), prop::sample::select(vec!["0644", "0755"])).prop_map(move |(path, content, mode)|
            json!({"op": "writeFile", "path": path, "content": encode(content), "encoding": "base64", "mode": mode})),
        2 => (path(), path()).prop_map(|(from, to)| json!({"op": "moveFile", "from": from, "to": to, "overwrite": true})),
        2 => path().prop_map(|path| json!({"op": "deleteFile", "path": path})),
        1 => path().prop_map(|path| json!({"op": "replaceText", "path": path, "search": "y\n", "replace": "changed\n"})),
    ]
}

/// A command of these ops that may do everything.
fn command(like: &Command, ops: Vec<protocol::command::Op>) -> Command {
    Command {
        patch_type: PatchType::Ops,
        ops,
        validation_plan: Vec::new(),
        allowed_actions: vec![Action::WriteFile, Action::MoveFile, Action::DeleteFile],
        constraints: Constraints { max_runtime_ms: 60_000, max_files_changed: 100, max_bytes_written: None },
        ..like.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_command_did_is_taken_back(
        files in prop::collection::btree_map(prop::sample::select(&PATHS[..]), content(), 4..7),
        ops in prop::collection::vec(op(), 1..5),
    ) {
        let mut bench = Bench::new();
        for (path, content) in &files {
            bench.write(path, content);
        }
        let sent = verified(document(json!(ops)));
        let Judgement::Executed(execution, ..) = bench.judge(&sent, &support::Stepped::new(|_| std::time::Duration::ZERO))
        else { return Ok(()) };
        prop_assume!(execution.failure.is_none());
        let tree = Tree::open(&bench.root()).unwrap();
        let mut known = BTreeMap::new();
        for op in &execution.ops {
            op.from.as_ref().map(|from| known.remove(from));
            let path = op.to.as_ref().or(op.path.as_ref()).unwrap();
            match op.after_sha256 {
                Some(hash) => known.insert(path.clone(), hash),
                None => known.remove(path),
            };
        }
        let undone = undo(&tree, execution.diff.clone(), &known).unwrap();

        // The ops lead back, and are what the bridge would take.
        let ops = revert::ops(&undone);
        let (config, checks, clock) = (target(bench.root()), Checks::new(), support::Stepped::new(|_| std::time::Duration::ZERO));
        let back = replan("MAIN", &config, &checks, &command(sent.command(), ops), &tree, &clock).unwrap();
        prop_assert!(revert::leads_back(&undone, &back.plan.changes));
        for (path, file) in &undone {
            let before = file.before.as_ref().map(|image| image.content.to_vec());
            prop_assert_eq!(before.as_ref(), files.get(path.as_str()), "{}", path);
        }

        // On the tree that was put back the command comes to the same diff.
        let paths = executor::replay::paths("MAIN", &config, &checks, sent.command()).unwrap();
        let stage = Stage::new(&paths).unwrap();
        stage.put_back(&tree, &undone).unwrap();
        let again = replan("MAIN", &config, &checks, sent.command(), &Tree::open(stage.path()).unwrap(), &clock).unwrap();
        prop_assert_eq!(again.plan.diff, execution.diff.clone());

        // A file that changed is noticed, whichever it is.
        if let Some((path, file)) = undone.iter().find(|(_, file)| file.now.is_some()) {
            let mut changed = file.now.as_ref().unwrap().content.to_vec();
            changed.push(b'!');
            bench.write(path.as_str(), &changed);
            let error = undo(&tree, execution.diff.clone(), &known).unwrap_err();
            prop_assert!(matches!(&error, UndoError::Changed { path: named, .. } if named == path.as_str()), "{}", error);
        }
    }
}

#[test]
fn a_diff_that_is_none_or_leads_elsewhere_is_refused() {
    let bench = Bench::new();
    bench.write("a", b"x\n");
    let tree = Tree::open(&bench.root()).unwrap();
    let known = BTreeMap::from([("a".to_owned(), Sha256::of(b"x\n"))]);
    let refused = |diff: &str| undo(&tree, diff.as_bytes().to_vec(), &known).unwrap_err();
    assert!(matches!(refused("rubbish\n"), UndoError::Diff(_)));
    let outside = "diff --git a/../x b/../x\nindex 1..2 100644\n--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n";
    assert!(matches!(refused(outside), UndoError::Path(_)));
    assert!(matches!(refused("--- a/a\n+++ b/a\n@@ -1 +1 @@\n-y\n+x\n"), UndoError::Diff(_)), "there is no index line");
    assert!(undo(&tree, Vec::new(), &known).unwrap().is_empty());
}

#[test]
fn a_replay_says_why_the_bridge_would_not_execute() {
    let bench = Bench::new();
    let command = verified(document(json!([{"op": "writeFile", "path": "x.key", "content": ""}])));
    let tree = Tree::open(&bench.root()).unwrap();
    let clock = support::Stepped::new(|_| std::time::Duration::ZERO);
    let planned = replan("MAIN", &target(bench.root()), &Checks::new(), command.command(), &tree, &clock);
    assert!(matches!(planned.unwrap_err(), ReplayError::Refused { reason: protocol::reason::Reason::PathDenied, .. }));
}
