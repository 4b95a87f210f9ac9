//! What becomes of a good command: its artifacts, its integrity, its one commit, and the diff that undoes it.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::cloud::{mode, set_mode};
use crate::harness::document::{assert_signed, sha256};
use crate::harness::git::{Commit, assert_sound, results, with_subject};
use crate::harness::{Bridge, Cloud, Doc, audit, have};

/// The four artifacts of a command that succeeded, and the log.
fn artifacts(id: &str) -> Vec<String> {
    let mut paths = vec![
        format!("archive/{id}.json"),
        format!("diffs/{id}.patch"),
        "logs/bridge.log".to_owned(),
        format!("results/{id}.integrity.json"),
        format!("results/{id}.json"),
    ];
    paths.sort();
    paths
}

/// Holds everything that the bridge says of one well executed command against the contract.
fn assert_filed(cloud: &Cloud, history: &[Commit], document: &Doc, bytes: &[u8]) -> Value {
    let id = document.id();
    let commits = with_subject(history, &results(id, 0));
    assert_eq!(commits.len(), 1, "one commit for {id}");
    assert_eq!(commits[0].files, artifacts(id));
    assert_eq!(cloud.read(&format!("archive/{id}.json")), bytes, "the archive is a byte-exact copy");
    assert!(!cloud.exists(&format!("dead_letter/{id}.json")));

    let result = cloud.json(&format!("results/{id}.json"));
    let keys = [
        "id",
        "status",
        "exit_code",
        "reason",
        "detail",
        "target",
        "action",
        "patch_type",
        "issued_at",
        "received_at",
        "executed_at",
        "finished_at",
        "duration_ms",
        "files_changed",
        "bytes_written",
        "ops",
        "checks",
        "constraints",
        "attempts",
    ];
    keys.iter().for_each(|key| assert!(result.get(key).is_some(), "{key} is missing in {result}"));
    assert_eq!(result["id"], json!(id));
    assert_eq!((&result["status"], &result["exit_code"]), (&json!("ok"), &json!(0)));
    assert_eq!((&result["reason"], &result["detail"]), (&Value::Null, &Value::Null));
    assert_eq!((&result["action"], &result["patch_type"]), (&json!("applyPatch"), &document.get("patchType")));
    assert_eq!((&result["target"], &result["issued_at"]), (&document.get("target"), &document.get("issued_at")));
    assert_eq!((&result["attempts"], &result["constraints"]["ok"]), (&json!(1), &json!(true)));
    let moments = ["received_at", "executed_at", "finished_at"].map(|key| instant(&result[key]));
    assert!(moments.is_sorted(), "{moments:?}");

    let integrity = cloud.json(&format!("results/{id}.integrity.json"));
    let hash = |path: String| json!(sha256(&cloud.read(&path)));
    assert_eq!(integrity["id"], json!(id));
    assert_eq!(integrity["input_sha256"], json!(sha256(bytes)));
    assert_eq!(integrity["archive_sha256"], json!(sha256(bytes)));
    assert_eq!(integrity["result_sha256"], hash(format!("results/{id}.json")));
    assert_eq!(integrity["diff_sha256"], hash(format!("diffs/{id}.patch")));
    for key in ["issued_at", "executed_at", "duration_ms", "files_changed"] {
        assert_eq!(integrity[key], result[key], "{key}");
    }
    assert_eq!(integrity["constraints"], document.get("constraints"));
    assert_eq!((&integrity["limits_ok"], &integrity["hmac_ok"]), (&json!(true), &json!(true)));
    assert_eq!((&integrity["exit_code"], &integrity["secret"]), (&json!(0), &json!("current")));
    assert_signed(&integrity, &cloud.secret);

    let lines = audit::verified(cloud.root());
    assert_eq!(audit::count(&lines, &sha256(bytes), "ok"), 1, "one audit line for {id}");
    result
}

fn instant(value: &Value) -> chrono::DateTime<chrono::FixedOffset> {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no instant"));
    chrono::DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_no_op_leaves_its_artifacts_and_one_commit() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let document = Doc::noop("noop-1").with("annotations", json!({ "task": "\u{1f47b} \u{e9}", "n": [1, null, true] }));
    let bytes = bridge.run(&document);
    let history = bridge.barrier();

    let result = assert_filed(&cloud, &history, &document, &bytes);
    assert_eq!((&result["files_changed"], &result["bytes_written"]), (&json!(0), &json!(0)));
    assert_eq!(result["ops"][0]["op"], json!("noop"));
    assert_eq!(cloud.text("diffs/noop-1.patch"), "");
    assert_sound(&history);
    assert!(!cloud.exists("commands/.retries.json"));
    assert!(!cloud.exists("commands/noop-1.json"));
    assert!(cloud.json("meta/retries.json").is_object());
    // What is in the remote is what is on disk.
    for path in artifacts("noop-1").iter().filter(|path| !path.starts_with("logs")) {
        assert_eq!(cloud.remote_git(&["show", &format!("main:{path}")]), cloud.text(path).trim_end_matches('\n'));
    }
    let own = &with_subject(&history, &results("noop-1", 0))[0].hash;
    let log = cloud.remote_git(&["show", &format!("{own}:logs/bridge.log")]) + "\n";
    assert_eq!(audit::verify(&log).last().unwrap()["id"], json!("noop-1"), "the log ends with the command's own line");
    bridge.stop();
}

/// One command with every op that changes something.
fn every_op() -> Doc {
    let old = sha256(b"one two one\n");
    Doc::new(
        "every-op",
        json!([
            { "op": "writeFile", "path": "src/new.txt", "content": "fresh\n", "expect": { "absent": true } },
            { "op": "writeFile", "path": "bin/tool", "content": "IyEvYmluL3NoCg==", "encoding": "base64", "mode": "0755" },
            { "op": "writeFile", "path": "unended.txt", "content": "no newline at the end" },
            { "op": "replaceText", "path": "docs/text.txt", "search": "one", "replace": "1", "count": 2, "expect": { "sha256": old } },
            { "op": "moveFile", "from": "docs/from.txt", "to": "elsewhere/to.txt" },
            { "op": "moveFile", "from": "docs/a.txt", "to": "docs/b.txt", "overwrite": true },
            { "op": "deleteFile", "path": "docs/gone.txt" },
            { "op": "writeFile", "path": "docs/script.sh", "content": "echo again\n" },
        ]),
    )
}

#[test]
fn every_op_changes_the_tree_and_its_diff_applies_both_ways() {
    let cloud = Cloud::new();
    let files = [
        ("docs/text.txt", "one two one\n"),
        ("docs/from.txt", "moved\n"),
        ("docs/a.txt", "a\n"),
        ("docs/b.txt", "b\n"),
        ("docs/gone.txt", "gone\n"),
        ("docs/script.sh", "echo once\n"),
        ("docs/stays.txt", "stays\n"),
    ];
    files.iter().for_each(|(path, content)| cloud.write(path, content));
    set_mode(&cloud.path("docs/script.sh"), 0o755);
    cloud.git(&["add", "docs"]);
    cloud.git(&["commit", "-q", "-m", "docs"]);
    let before = cloud.other_clone();
    cloud.git_at(&before, &["pull", "-q", cloud.root().to_str().unwrap(), "main"]);
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("GHOST_BRIDGE__TARGETS__MAIN__ALLOW_DELETE", "true");
    });
    let document = every_op();
    let bytes = bridge.run(&document);
    let result = assert_filed(&cloud, &cloud.published(), &document, &bytes);

    let after = [
        ("src/new.txt", "fresh\n"),
        ("bin/tool", "#!/bin/sh\n"),
        ("unended.txt", "no newline at the end"),
        ("docs/text.txt", "1 two 1\n"),
        ("elsewhere/to.txt", "moved\n"),
        ("docs/b.txt", "a\n"),
        ("docs/script.sh", "echo again\n"),
        ("docs/stays.txt", "stays\n"),
    ];
    after.iter().for_each(|(path, content)| assert_eq!(cloud.text(path), *content, "{path}"));
    for path in ["docs/from.txt", "docs/a.txt", "docs/gone.txt"] {
        assert!(!cloud.exists(path), "{path}");
    }
    assert_eq!((mode(&cloud.path("bin/tool")), mode(&cloud.path("src/new.txt"))), (0o755, 0o644));
    assert_eq!(mode(&cloud.path("docs/script.sh")), 0o755, "a file keeps its mode unless the op says otherwise");

    assert_eq!(result["ops"].as_array().unwrap().len(), 8);
    assert_eq!(result["ops"][0]["before_sha256"], Value::Null);
    assert_eq!(result["ops"][0]["after_sha256"], json!(sha256(b"fresh\n")));
    assert_eq!(result["ops"][3]["before_sha256"], json!(sha256(b"one two one\n")));
    assert_eq!(
        (&result["ops"][4]["from"], &result["ops"][4]["to"]),
        (&json!("docs/from.txt"), &json!("elsewhere/to.txt"))
    );
    assert_eq!(result["ops"][6]["after_sha256"], Value::Null);

    // The published diff takes the old tree to the new one and back, byte for byte, by git's own judgement.
    let patch = cloud.path("diffs/every-op.patch");
    let patch = patch.to_str().unwrap();
    let original = cloud.git_at(&before, &["write-tree"]);
    cloud.git_at(&before, &["apply", "--index", patch]);
    after.iter().for_each(|(path, content)| assert_eq!(std::fs::read(before.join(path)).unwrap(), content.as_bytes()));
    assert_eq!(mode(&before.join("bin/tool")) & 0o111, 0o111);
    cloud.git_at(&before, &["apply", "--index", "-R", patch]);
    assert_eq!(cloud.git_at(&before, &["write-tree"]), original);
    bridge.stop();
}

#[test]
fn files_are_counted_as_the_contract_counts_them() {
    let cloud = Cloud::new();
    cloud.write("docs/same.txt", "same\n");
    cloud.write("docs/from.txt", "moved\n");
    let bridge = Bridge::start(&cloud);
    let cases = [
        // A moved file counts as one, and moving writes nothing.
        ("move", json!([{ "op": "moveFile", "from": "docs/from.txt", "to": "docs/to.txt" }]), 1),
        // A file written twice counts once.
        (
            "twice",
            json!([
                { "op": "writeFile", "path": "docs/twice.txt", "content": "1" },
                { "op": "writeFile", "path": "docs/twice.txt", "content": "2" },
            ]),
            1,
        ),
        // A file that ends as it began counts as none.
        ("same", json!([{ "op": "writeFile", "path": "docs/same.txt", "content": "same\n" }]), 0),
    ];
    for (id, ops, files) in cases {
        let constraints = json!({ "maxRuntimeMs": 60000, "maxFilesChanged": files });
        let document = Doc::new(id, ops).with("constraints", constraints);
        let bytes = bridge.run(&document);
        let result = assert_filed(&cloud, &cloud.published(), &document, &bytes);
        assert_eq!(result["files_changed"], json!(files), "{id}");
    }
    assert_eq!(cloud.text("diffs/same.patch"), "");
    assert_eq!((cloud.exists("docs/from.txt"), cloud.text("docs/to.txt").as_str()), (false, "moved\n"));
    bridge.stop();
}

#[test]
fn checks_that_hold_are_reported() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let plan = json!([
        { "check": "exists", "path": "data/a.json" },
        { "check": "absent", "path": "data/b.json" },
        { "check": "sha256", "path": "data/a.json", "equals": sha256(b"{\"a\":1}") },
        { "check": "json", "path": "data/a.json" },
    ]);
    let document = Doc::write("checked", "data/a.json", "{\"a\":1}").with("validationPlan", plan);
    let bytes = bridge.run(&document);
    let result = assert_filed(&cloud, &cloud.published(), &document, &bytes);
    let checks = result["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(names, ["exists", "absent", "sha256", "json"]);
    for check in checks {
        assert_eq!((&check["exit_code"], &check["truncated"]), (&json!(0), &json!(false)), "{check}");
        assert!(check["duration_ms"].is_u64() && check["stdout"].is_string() && check["stderr"].is_string(), "{check}");
    }
    bridge.stop();
}

#[test]
fn what_the_contract_allows_at_its_edges_is_executed() {
    let cloud = Cloud::new();
    let other = cloud.world().join("other-target");
    std::fs::create_dir(&other).unwrap();
    let config = cloud.config(&format!("[targets.OTHER]\nroot = {:?}\n", other.to_str().unwrap()));
    let bridge = Bridge::start_with(&cloud, |run| {
        run.arg("--config").arg(&config);
    });
    let long_id = format!("L{}", "x".repeat(127));
    let documents = [
        Doc::noop("without-a-plan").without("validationPlan"),
        Doc::noop("hybrid").with("patchType", json!("hybrid")),
        Doc::noop(&long_id),
        Doc::noop("skewed").window(20, 320),
        Doc::noop("full-day").window(-60, 86_340),
        Doc::noop("no.dots-and_9"),
        Doc::noop("no-files").at("/constraints/maxFilesChanged", json!(0)),
        Doc::write("elsewhere", "a b/\u{e9}t\u{e9}.txt", "there").on("OTHER"),
    ];
    documents.iter().for_each(|document| {
        cloud.submit(document);
    });
    let offset = chrono::Utc::now().with_timezone(&chrono::FixedOffset::east_opt(19_800).unwrap());
    let offset = Doc::noop("offset").with("issued_at", json!((offset - chrono::TimeDelta::seconds(2)).to_rfc3339()));
    cloud.submit(&offset);
    let ids: Vec<&str> = documents.iter().chain([&offset]).map(Doc::id).collect();
    let history = bridge.history("all to be published", |history| {
        ids.iter().all(|id| !with_subject(history, &results(id, 0)).is_empty())
    });
    assert_sound(&history);
    assert_eq!(cloud.dead_letters(), []);
    assert_eq!(std::fs::read(other.join("a b/\u{e9}t\u{e9}.txt")).unwrap(), b"there");
    bridge.stop();
}

/// The operator's script, to the letter.
const OPERATORS_SCRIPT: &str = r#"import os, json, base64, hmac, hashlib
from datetime import datetime, timedelta, timezone
CLOUD=os.environ.get("CLOUD","/Users/sawyer/gitSync/_GPTsync")
sec=os.environ["GPT_BRIDGE_HMAC_SECRET"]
now=datetime.now(timezone.utc)
ID="noop-"+now.strftime("%Y%m%dT%H%M%SZ")
doc={
  "schemaVersion":"1.0","id":ID,
  "issued_at":now.strftime("%Y-%m-%dT%H:%M:%SZ"),
  "expires_at":(now+timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ"),
  "nonce":"0","target":"MAIN","action":"applyPatch","patchType":"hybrid",
  "payload":{"inline":{"version":"noop","ops":[{"op":"noop"}]}},
  "validationPlan":[],
  "allowedActions":["writeFile","moveFile"],
  "constraints":{"maxRuntimeMs":60000,"maxFilesChanged":1}
}
payload=json.dumps({k:v for k,v in doc.items() if k!="hmac"},separators=(",",":"),sort_keys=True).encode()
doc["hmac"]=base64.b64encode(hmac.new(sec.encode(), payload, hashlib.sha256).digest()).decode()
out=f"{CLOUD}/commands/{ID}.json"
open(out,"w").write(json.dumps(doc, indent=2))
print(out)
"#;

#[test]
fn the_operators_python_script_works_to_the_letter() {
    if !have("python3") {
        return;
    }
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let mut python = Command::new("python3");
    python.args(["-c", OPERATORS_SCRIPT]).env("CLOUD", cloud.root()).env("GPT_BRIDGE_HMAC_SECRET", &cloud.secret);
    let begun = std::time::Instant::now();
    let output = python.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let id = printed.trim().rsplit('/').next().unwrap().strip_suffix(".json").unwrap().to_owned();
    let history = bridge.published(&results(&id, 0));
    println!("published {:?} after the script was started", begun.elapsed());

    bridge.emptied();
    let bytes = cloud.read(&format!("archive/{id}.json"));
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    assert_signed(&document, &cloud.secret);
    let commits = with_subject(&history, &results(&id, 0));
    assert_eq!((commits.len(), &commits[0].files), (1, &artifacts(&id)));
    let integrity = cloud.json(&format!("results/{id}.integrity.json"));
    assert_eq!(integrity["input_sha256"], json!(sha256(&bytes)));
    assert_signed(&integrity, &cloud.secret);
    assert_eq!(cloud.read(&format!("diffs/{id}.patch")), b"");
    bridge.stop();
}
