//! What is refused after the schema: time, identity, policy, and the dry run.

use serde_json::{Value, json};

use super::Case;
use crate::harness::document::sha256;
use crate::harness::{Cloud, Doc};

pub fn cases(cloud: &Cloud) -> Vec<Case> {
    let mut cases = time_and_identity(cloud);
    cases.extend(policy(cloud));
    cases.extend(dry_run(cloud));
    cases
}

fn time_and_identity(cloud: &Cloud) -> Vec<Case> {
    let time = |reason, document: &Doc| Case::signed(cloud, reason, "time", document);
    let mut cases = vec![
        time("expired", &Doc::noop("expired").window(-600, -300)),
        // The skew is granted to `issued_at` only.
        time("expired", &Doc::noop("expired-just-now").window(-600, -1)),
        time("expired", &Doc::write("expired-write", "docs/new.txt", "x").window(-86_400, -5)),
        time("not_yet_valid", &Doc::noop("not-yet-valid").window(86_400, 86_700)),
        // Time comes before identity and policy.
        time("expired", &Doc::write("expired-escape", "../x", "x").window(-600, -300)),
    ];
    // `Taken-1` was executed before; another document bears its id, in the same and in another case.
    let identity = |name: &str, document: &Doc| Case {
        name: name.to_owned(),
        ..Case::signed(cloud, "duplicate_id", "identity", document)
    };
    cases.push(identity("again", &Doc::noop("Taken-1")));
    cases.push(identity("again-upper", &Doc::noop("TAKEN-1")));
    cases.push(identity("again-write", &Doc::write("taken-1", "../escape", "x")));
    cases
}

fn policy(cloud: &Cloud) -> Vec<Case> {
    let case = |reason, document: &Doc| Case::signed(cloud, reason, "policy", document);
    let op = |id: &str, op: Value, allowed: Value| {
        Doc::new(id, json!([{ "op": "noop" }, op])).with("allowedActions", allowed)
    };
    let write = json!({ "op": "writeFile", "path": "docs/new.txt", "content": "x" });
    let replace = json!({ "op": "replaceText", "path": "docs/a.txt", "search": "one", "replace": "1", "count": 2 });
    let moving = json!({ "op": "moveFile", "from": "docs/a.txt", "to": "docs/c.txt" });
    let delete = json!({ "op": "deleteFile", "path": "docs/a.txt" });
    let limit = |id: &str, target: &str, field: &str, value: u64| {
        Doc::noop(id).on(target).at(&format!("/constraints/{field}"), json!(value))
    };
    let side = |id: &str, field: &str, value: u64| {
        let constraints = json!({ "maxRuntimeMs": 10_000, "maxFilesChanged": 5, "maxBytesWritten": 100 });
        Doc::noop(id).on("SIDE").with("constraints", constraints).at(&format!("/constraints/{field}"), json!(value))
    };
    vec![
        case("action_not_allowed", &op("write-not-allowed", write, json!(["moveFile", "deleteFile"]))),
        case("action_not_allowed", &op("replace-not-allowed", replace, json!(["moveFile"]))),
        case("action_not_allowed", &op("move-not-allowed", moving, json!(["writeFile"]))),
        case("action_not_allowed", &op("delete-not-allowed", delete.clone(), json!(["writeFile", "moveFile"]))),
        case("delete_denied", &op("delete-denied", delete, json!(["deleteFile"]))),
        case("limit_exceeded", &limit("limit-files", "MAIN", "maxFilesChanged", 101)),
        case("limit_exceeded", &limit("limit-runtime", "MAIN", "maxRuntimeMs", 600_001)),
        case("limit_exceeded", &limit("limit-bytes", "MAIN", "maxBytesWritten", 16 * 1024 * 1024 + 1)),
        case("limit_exceeded", &limit("limit-absurd", "MAIN", "maxFilesChanged", u64::MAX)),
        case("limit_exceeded", &side("limit-side-files", "maxFilesChanged", 6)),
        case("limit_exceeded", &side("limit-side-runtime", "maxRuntimeMs", 10_001)),
        case("limit_exceeded", &side("limit-side-bytes", "maxBytesWritten", 101)),
    ]
}

fn dry_run(cloud: &Cloud) -> Vec<Case> {
    let case = |reason, document: &Doc| Case::signed(cloud, reason, "dry_run", document);
    let new =
        |name: &str, content: &str| json!({ "op": "writeFile", "path": format!("docs/{name}"), "content": content });
    let existing = |expect: Value| json!({ "op": "writeFile", "path": "docs/a.txt", "content": "x", "expect": expect });
    let moving = |from: &str, to: &str| json!({ "op": "moveFile", "from": from, "to": to });
    let replace = |path: &str, search: &str, count: Value| {
        let mut op = json!({ "op": "replaceText", "path": path, "search": search, "replace": "two" });
        if !count.is_null() {
            op["count"] = count;
        }
        op
    };
    let bound = |id: &str, ops: Value, constraints: Value| Doc::new(id, ops).with("constraints", constraints);
    let side = json!({ "maxRuntimeMs": 10_000, "maxFilesChanged": 5 });
    let delete = json!([{ "op": "deleteFile", "path": "docs/missing.txt" }]);
    let two = json!([new("1.txt", "1"), new("2.txt", "2")]);
    let after_absent = json!([new("1.txt", "1"), {
        "op": "writeFile", "path": "docs/1.txt", "content": "2", "expect": { "sha256": sha256(b"1") },
    }]);
    vec![
        case(
            "too_many_files",
            &bound("files-2-of-1", two.clone(), json!({ "maxRuntimeMs": 60000, "maxFilesChanged": 1 })),
        ),
        case(
            "too_many_files",
            &bound("files-1-of-0", json!([new("1.txt", "1")]), json!({ "maxRuntimeMs": 60000, "maxFilesChanged": 0 })),
        ),
        case(
            "too_many_bytes",
            &bound(
                "bytes-4-of-3",
                json!([new("1.txt", "1234")]),
                json!({ "maxRuntimeMs": 60000, "maxFilesChanged": 1, "maxBytesWritten": 3 }),
            ),
        ),
        case(
            "too_many_bytes",
            &bound("bytes-2-of-1", two, json!({ "maxRuntimeMs": 60000, "maxFilesChanged": 2, "maxBytesWritten": 1 })),
        ),
        case(
            "too_many_bytes",
            &bound("bytes-of-the-target", json!([new("1.txt", &"x".repeat(101))]), side.clone()).on("SIDE"),
        ),
        case("precondition_failed", &Doc::new("expect-other", json!([existing(json!({ "sha256": "0".repeat(64) }))]))),
        case("precondition_failed", &Doc::new("expect-absent", json!([existing(json!({ "absent": true }))]))),
        case("precondition_failed", &Doc::new("expect-the-state-before", after_absent)),
        case("precondition_failed", &Doc::new("move-missing", json!([moving("docs/missing.txt", "docs/c.txt")]))),
        case("precondition_failed", &Doc::new("move-onto", json!([moving("docs/a.txt", "docs/b.txt")]))),
        case(
            "precondition_failed",
            &Doc::new("replace-in-missing", json!([replace("docs/missing.txt", "one", json!(1))])),
        ),
        case("precondition_failed", &bound("delete-missing", delete, side).on("SIDE")),
        case("precondition_failed", &Doc::write("beneath-a-file", "docs/a.txt/b.txt", "x")),
        case("precondition_failed", &Doc::write("onto-a-folder", "docs", "x")),
        case("patch_conflict", &Doc::new("replace-none", json!([replace("docs/a.txt", "absent", json!(1))]))),
        case("patch_conflict", &Doc::new("replace-default-count", json!([replace("docs/a.txt", "one", Value::Null)]))),
        case("patch_conflict", &Doc::new("replace-too-few", json!([replace("docs/a.txt", "one", json!(3))]))),
        // All or nothing: the first op would have been possible.
        case(
            "patch_conflict",
            &Doc::new("replace-second", json!([new("1.txt", "1"), replace("docs/a.txt", "absent", json!(1))])),
        ),
    ]
}
