//! Edits as agents send them, from the document to the commit: what is applied, what its diff says, and what a refusal tells
//! the program that has to mend it.

use serde_json::{Value, json};

use crate::harness::git::results;
use crate::harness::{Bridge, Cloud, Doc};

fn hybrid(id: &str, ops: Value) -> Doc {
    Doc::new(id, ops).with("patchType", json!("hybrid"))
}

#[test]
fn agents_own_operations_are_filed_like_all_others() {
    let cloud = Cloud::new();
    let text = "import a\n\ndef one():\n    x = 1\n\ndef two():\n    x = 1\n";
    cloud.write("src/a.py", text);
    cloud.git(&["add", "src"]);
    cloud.git(&["commit", "-q", "-m", "src"]);
    let bridge = Bridge::start(&cloud);
    let patch = "*** Begin Patch\n*** Update File: src/a.py\n@@ def two():\n-    x = 1\n+    x = 2\n*** Add File: new.txt\n+hello\n*** End Patch\n";
    let document = hybrid(
        "agents",
        json!([
            { "op": "applyPatch", "patch": patch },
            { "op": "insertText", "path": "src/a.py", "line": 1, "anchor": "import a", "text": "import b\n" },
            { "op": "replaceText", "path": "src/a.py", "search": "x = ", "replace": "y = ", "count": "all" },
        ]),
    );
    bridge.run(&document);
    let after = "import a\nimport b\n\ndef one():\n    y = 1\n\ndef two():\n    y = 2\n";
    assert_eq!((cloud.text("src/a.py").as_str(), cloud.text("new.txt").as_str()), (after, "hello\n"));
    let result = cloud.json("results/agents.json");
    let ops: Vec<&str> = result["ops"].as_array().unwrap().iter().map(|op| op["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["applyPatch", "applyPatch", "insertText", "replaceText"]);
    assert_eq!((&result["files_changed"], &result["ops"][2]["after_sha256"]), (&json!(2), &Value::Null));
    // What is published is git's diff, whatever was sent.
    let before = cloud.other_clone();
    cloud.git_at(&before, &["pull", "-q", cloud.root().to_str().unwrap(), "main"]);
    let diff = cloud.path("diffs/agents.patch");
    cloud.git_at(&before, &["apply", diff.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(before.join("src/a.py")).unwrap(), after);
    bridge.published(&results("agents", 0));
    bridge.stop();
}

#[test]
fn a_refused_edit_has_hints_that_mend_it() {
    let cloud = Cloud::new();
    let text: String = (1..=30).map(|number| format!("line {number}\n")).collect();
    cloud.write("f.txt", &text);
    let bridge = Bridge::start(&cloud);
    let diff = |line: &str| format!("--- a/f.txt\n+++ b/f.txt\n@@ -3,3 +3,3 @@\n line 10\n-{line}\n+new\n line 12\n");
    let edit = |id: &str, line: &str| hybrid(id, json!([{ "op": "applyDiff", "diff": diff(line) }]));
    cloud.submit(&edit("spoiled", "line  11"));
    bridge.published("bridge: DLQ patch_conflict");
    let letter = cloud.json("dead_letter/spoiled.json");
    assert!(
        letter["detail"].as_str().unwrap().contains("line 11 should be \"line  11\" but is \"line 11\""),
        "{letter}"
    );
    let hint = &letter["hints"][0];
    assert_eq!(
        hint,
        &json!({
            "file": "f.txt", "op": 1, "hunk": 1, "line": 11, "sent": "line  11", "found": "line 11",
            "candidates": [10], "header": "@@ -10,3 +10,3 @@",
        })
    );
    // As the hint would have it; the id is free, because nothing was executed.
    bridge.run(&edit("spoiled", hint["found"].as_str().unwrap()));
    assert!(cloud.text("f.txt").contains("line 10\nnew\nline 12\n"));
    // The same diff again: it stands there already, and nothing is changed a second time.
    cloud.submit(&edit("again", "line 11"));
    bridge.wait_for("the refusal", || cloud.exists("dead_letter/again.json"));
    let letter = cloud.json("dead_letter/again.json");
    assert_eq!(letter["reason"], "patch_conflict", "{letter}");
    cloud.submit(&Doc::noop("elsewhere").with("target", json!("NOWHERE")));
    bridge.published("bridge: DLQ unknown_target");
    assert_eq!(cloud.json("dead_letter/elsewhere.json")["hints"], Value::Null);
    bridge.stop();
}
