//! Commands that fail after execution began: results with a non-zero exit, a dead letter, and a tree as it was.

use serde_json::{Value, json};

use crate::harness::document::{assert_signed, sha256};
use crate::harness::git::{assert_sound, results, with_subject};
use crate::harness::snapshot::snapshot;
use crate::harness::{Bridge, Cloud, Doc, audit};

/// A command that changes several files, whose last check fails.
fn failing(id: &str, check: &Value) -> Doc {
    let ops = json!([
        { "op": "writeFile", "path": "fresh/deep/new.json", "content": "not json" },
        { "op": "replaceText", "path": "docs/a.txt", "search": "one", "replace": "two" },
        { "op": "moveFile", "from": "docs/b.txt", "to": "moved/b.txt" },
    ]);
    let first = json!({ "check": "exists", "path": "moved/b.txt" });
    Doc::new(id, ops).with("validationPlan", json!([first, check]))
}

#[test]
fn a_failing_check_undoes_everything_and_is_published_as_results() {
    let cloud = Cloud::new();
    cloud.write("docs/a.txt", "one\n");
    cloud.write("docs/b.txt", "b\n");
    let own = [".git", ".bridge.lock", "results", "diffs", "archive", "dead_letter", "logs", "meta"];
    let bridge = Bridge::start(&cloud);
    let before = snapshot(cloud.root(), &own);
    let checks = [
        ("check-exists", json!({ "check": "exists", "path": "docs/b.txt" })),
        ("check-absent", json!({ "check": "absent", "path": "docs/a.txt" })),
        ("check-sha256", json!({ "check": "sha256", "path": "docs/a.txt", "equals": sha256(b"one\n") })),
        ("check-json", json!({ "check": "json", "path": "fresh/deep/new.json" })),
        ("check-json-missing", json!({ "check": "json", "path": "docs/missing.json" })),
    ];
    let documents: Vec<Doc> = checks.iter().map(|(id, check)| failing(id, check)).collect();
    for document in &documents {
        let bytes = cloud.submit(document);
        let id = document.id();
        let history = bridge.published(&results(id, 1));
        bridge.emptied();

        assert_eq!(snapshot(cloud.root(), &own), before, "{id}: the tree is as it was");
        let result = cloud.json(&format!("results/{id}.json"));
        assert_eq!((&result["status"], &result["exit_code"]), (&json!("failed"), &json!(1)), "{id}");
        assert_eq!(result["reason"], json!("validation_failed"));
        assert!(result["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{result}");
        let reports = result["checks"].as_array().unwrap();
        assert_eq!((reports.len(), &reports[0]["exit_code"]), (2, &json!(0)), "{id}: {reports:?}");
        assert_ne!(reports[1]["exit_code"], json!(0));

        let letter = cloud.json(&format!("dead_letter/{id}.json"));
        assert_eq!((&letter["id"], &letter["reason"]), (&json!(id), &json!("validation_failed")));
        assert_eq!((&letter["stage"], &letter["hmac_ok"]), (&json!("execution"), &json!(true)));
        assert_eq!(letter["input_sha256"], json!(sha256(&bytes)));
        assert!(!cloud.exists(&format!("archive/{id}.json")));

        let integrity = cloud.json(&format!("results/{id}.integrity.json"));
        assert_eq!((&integrity["exit_code"], &integrity["hmac_ok"]), (&json!(1), &json!(true)));
        assert_eq!(integrity["result_sha256"], json!(sha256(&cloud.read(&format!("results/{id}.json")))));
        assert_signed(&integrity, &cloud.secret);
        let commits = with_subject(&history, &results(id, 1));
        assert_eq!(commits.len(), 1);
        let expected = [format!("dead_letter/{id}.json"), format!("results/{id}.json")];
        expected.iter().for_each(|path| assert!(commits[0].files.contains(path), "{path} in {:?}", commits[0].files));
        assert!(!commits[0].files.contains(&format!("archive/{id}.json")));
        let lines = audit::verified(cloud.root());
        assert_eq!(audit::count(&lines, &sha256(&bytes), "failed"), 1);
        assert_eq!(lines.last().unwrap()["exit"], json!(1));
    }
    // The id is taken all the same.
    cloud.submit(&Doc::noop("check-json"));
    let history = bridge.published("bridge: DLQ duplicate_id");
    assert!(with_subject(&history, &results("check-json", 0)).is_empty());
    assert_sound(&history);
    bridge.stop();
}

/// A text of `mib` MiB, one line of which says `needle`.
fn haystack(mib: usize) -> String {
    let hay = "nothing to be found in this line\n".repeat(mib * 1024 * 1024 / 33);
    hay + "needle\n"
}

/// A command that writes a small file, then changes the large one.
fn change_the_large_one(id: &str) -> Doc {
    let ops = json!([
        { "op": "writeFile", "path": "fresh/small.txt", "content": "small" },
        { "op": "replaceText", "path": "docs/large.txt", "search": "needle", "replace": "pin" },
    ]);
    Doc::new(id, ops)
}

/// Runs `document`, which must fail with this exit code for one of these reasons and leave the tree as it was.
fn assert_fails(cloud: &Cloud, bridge: &Bridge, document: &Doc, exit_code: u8, reasons: &[&str]) {
    let own = [".git", ".bridge.lock", "results", "diffs", "archive", "dead_letter", "logs", "meta"];
    let before = snapshot(cloud.root(), &own);
    let bytes = cloud.submit(document);
    let id = document.id();
    let history = bridge.published(&results(id, exit_code));
    bridge.emptied();
    assert!(snapshot(cloud.root(), &own) == before, "{id}: the tree has changed");
    let (result, letter) = (cloud.json(&format!("results/{id}.json")), cloud.json(&format!("dead_letter/{id}.json")));
    for document in [&result, &letter] {
        assert!(reasons.contains(&document["reason"].as_str().unwrap()), "{document}");
        let detail = document["detail"].as_str().unwrap();
        assert!(!detail.contains(cloud.world().to_str().unwrap()), "{detail}");
    }
    assert_eq!((&result["status"], &result["exit_code"]), (&json!("failed"), &json!(exit_code)));
    assert!(!cloud.exists(&format!("archive/{id}.json")));
    assert_eq!(with_subject(&history, &results(id, exit_code)).len(), 1);
    assert_eq!(audit::count(&audit::verified(cloud.root()), &sha256(&bytes), "failed"), 1);
    assert_sound(&history);
}

#[test]
fn a_command_over_its_time_is_undone() {
    let cloud = Cloud::new();
    cloud.write("docs/large.txt", haystack(15));
    let bridge = Bridge::start(&cloud);
    // No machine reads, hashes and writes 15 MiB within a millisecond.
    let document = change_the_large_one("too-slow").at("/constraints/maxRuntimeMs", json!(1));
    assert_fails(&cloud, &bridge, &document, 124, &["timeout"]);
    // With time enough the same is done.
    bridge.run(&change_the_large_one("in-time"));
    assert!(cloud.text("docs/large.txt").ends_with("line\npin\n"));
    bridge.stop();
}

#[test]
fn a_file_system_that_refuses_leaves_everything_as_it_was() {
    let cloud = Cloud::new();
    cloud.write("docs/large.txt", haystack(8));
    // A limit on the size of files stands in for a full disk: at most 3 MiB, whatever a shell's block is.
    let bridge = Bridge::start_with(&cloud, |run| {
        let script = "trap '' XFSZ; ulimit -f 3000; exec \"$0\" run";
        let mut limited = cloud.program("sh");
        limited.args(["-c", script]).arg(run.get_program());
        for (name, value) in run.get_envs() {
            if let Some(value) = value {
                limited.env(name, value);
            }
        }
        *run = limited;
    });
    assert_fails(&cloud, &bridge, &change_the_large_one("refused"), 74, &["io_error", "retries_exhausted"]);
    bridge.run(&Doc::write("small-enough", "docs/small.txt", "x"));
    bridge.stop();
}
