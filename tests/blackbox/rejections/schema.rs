//! Fields that are missing, unknown, of the wrong type or out of range.

use serde_json::{Value, json};

use super::{Case, Entry};
use crate::harness::{Cloud, Doc};

pub fn cases(cloud: &Cloud) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |document: Doc| {
        let id = format!("schema-{:03}", cases.len());
        cases.push(Case::signed(cloud, "schema", "schema", &document.with("id", json!(id))));
    };
    missing().into_iter().chain(mistyped()).for_each(&mut add);
    ranges().into_iter().chain(ops()).chain(checks()).for_each(&mut add);
    cases.extend(ids(cloud));
    cases.extend(unknown_names(cloud));
    cases
}

fn base() -> Doc {
    Doc::write("x", "docs/new.txt", "new")
}

fn missing() -> Vec<Doc> {
    let fields = [
        "schemaVersion",
        "issued_at",
        "expires_at",
        "nonce",
        "target",
        "action",
        "patchType",
        "payload",
        "allowedActions",
        "constraints",
    ];
    let pointers = [
        "/payload/inline",
        "/payload/inline/version",
        "/payload/inline/ops",
        "/payload/inline/ops/0/op",
        "/payload/inline/ops/0/path",
        "/payload/inline/ops/0/content",
        "/constraints/maxRuntimeMs",
        "/constraints/maxFilesChanged",
    ];
    let mut documents: Vec<Doc> = fields.iter().map(|field| base().without(field)).collect();
    documents.extend(pointers.iter().map(|pointer| base().cut(pointer)));
    documents
}

fn mistyped() -> Vec<Doc> {
    let wrong: [(&str, Value); 26] = [
        ("/surprise", json!(true)),
        ("/Nonce", json!("0")),
        ("/issued_at", json!(1_700_000_000)),
        ("/expires_at", json!(null)),
        ("/nonce", json!(0)),
        ("/target", json!(["MAIN"])),
        ("/action", json!(null)),
        ("/patchType", json!(1)),
        ("/payload", json!([])),
        ("/payload/surprise", json!(1)),
        ("/payload/inline", json!("ops")),
        ("/payload/inline/surprise", json!(1)),
        ("/payload/inline/version", json!(1)),
        ("/payload/inline/ops", json!({})),
        ("/payload/inline/ops/0", json!("noop")),
        ("/validationPlan", json!({})),
        ("/validationPlan", json!(null)),
        ("/allowedActions", json!("writeFile")),
        ("/allowedActions", json!([1])),
        ("/constraints", json!([1, 2])),
        ("/constraints/surprise", json!(1)),
        ("/constraints/maxRuntimeMs", json!("60000")),
        ("/constraints/maxFilesChanged", json!(true)),
        ("/constraints/maxBytesWritten", json!("1")),
        ("/annotations", json!("text")),
        ("/annotations", json!(null)),
    ];
    wrong.into_iter().map(|(pointer, value)| base().at(pointer, value)).collect()
}

fn ranges() -> Vec<Doc> {
    let now = chrono::Utc::now();
    let at = |secs: i64| now + chrono::TimeDelta::seconds(secs);
    let noops = |count: usize| Value::Array(vec![json!({ "op": "noop" }); count]);
    vec![
        base().between(at(0), at(0)),
        base().between(at(0), at(-60)),
        base().window(-10, 86_391),
        base().with("issued_at", json!("2025-08-09T06:24:51")),
        base().with("issued_at", json!("2025-08-09")),
        base().with("expires_at", json!("tomorrow")),
        base().with("expires_at", json!("2025-13-40T25:61:61Z")),
        base().with("allowedActions", json!([])),
        base().with("allowedActions", json!(["writeFile", "noop"])),
        base().with("allowedActions", json!(["writefile"])),
        base().at("/constraints/maxRuntimeMs", json!(0)),
        base().at("/constraints/maxRuntimeMs", json!(-1)),
        base().at("/constraints/maxFilesChanged", json!(-1)),
        base().with("annotations", json!({ "text": "a".repeat(16 * 1024) })),
        base().at("/payload/inline/ops", noops(1001)),
    ]
}

fn ops() -> Vec<Doc> {
    let diff = "--- a/docs/a.txt\n+++ b/docs/a.txt\n@@ -1 +1 @@\n-one one\n+two\n";
    let op = |op: Value| Doc::new("x", json!([op]));
    let good = json!({ "op": "writeFile", "path": "docs/new.txt", "content": "new" });
    let spoilt = |field: &str, value: Value| {
        let mut op = good.clone();
        op[field] = value;
        op
    };
    vec![
        op(json!({ "op": "explode" })),
        op(json!({ "op": 1 })),
        op(json!({ "op": "noop", "path": "docs/a.txt" })),
        op(spoilt("surprise", json!(1))),
        op(spoilt("path", json!(["docs", "new.txt"]))),
        op(spoilt("content", json!(null))),
        op(spoilt("encoding", json!("latin-1"))),
        op(spoilt("encoding", json!("base64"))),
        op(json!({ "op": "writeFile", "path": "docs/new.txt", "content": "YQ", "encoding": "base64" })),
        op(spoilt("mode", json!("0777"))),
        op(spoilt("mode", json!(644))),
        op(spoilt("expect", json!("absent"))),
        op(spoilt("expect", json!({ "absent": false }))),
        op(spoilt("expect", json!({ "sha256": "abc" }))),
        op(spoilt("expect", json!({ "absent": true, "surprise": 1 }))),
        op(json!({ "op": "moveFile", "from": "docs/a.txt" })),
        op(json!({ "op": "moveFile", "from": "docs/a.txt", "to": "docs/c.txt", "overwrite": "yes" })),
        op(json!({ "op": "deleteFile" })),
        op(json!({ "op": "replaceText", "path": "docs/a.txt", "search": "one" })),
        op(json!({ "op": "replaceText", "path": "docs/a.txt", "search": "one", "replace": "two", "count": "2" })),
        op(json!({ "op": "applyDiff", "diff": diff })).with("patchType", json!("ops")),
        op(json!({ "op": "applyDiff" })).with("patchType", json!("unified")),
        op(json!({ "op": "applyDiff", "diff": diff, "path": "docs/a.txt" })).with("patchType", json!("hybrid")),
        op(good).with("patchType", json!("unified")),
    ]
}

fn checks() -> Vec<Doc> {
    let plan = |check: Value| base().with("validationPlan", json!([check]));
    vec![
        plan(json!("exists")),
        plan(json!({ "check": "imagine", "path": "docs/a.txt" })),
        plan(json!({ "check": "exists" })),
        plan(json!({ "check": "exists", "path": 1 })),
        plan(json!({ "check": "exists", "path": "docs/a.txt", "equals": "x" })),
        plan(json!({ "check": "sha256", "path": "docs/a.txt" })),
        plan(json!({ "check": "sha256", "path": "docs/a.txt", "equals": "zz" })),
        plan(json!({ "check": "run" })),
        plan(json!({ "check": "run", "name": ["lint"] })),
        plan(json!({ "check": "run", "name": "lint", "path": "docs/a.txt" })),
        plan(json!({ "check": "run", "argv": ["rm", "-rf", "/"] })),
    ]
}

/// Ids that are none: the dead letter is named after the file.
fn ids(cloud: &Cloud) -> Vec<Case> {
    let ids = [
        json!(""),
        json!(".hidden"),
        json!("-dash"),
        json!("a/b"),
        json!("../up"),
        json!("a b"),
        json!("a\u{e9}"),
        json!("x.integrity"),
        json!("x.json"),
        json!("y".repeat(129)),
        json!(7),
        json!(null),
        json!("a\n"),
    ];
    let documents = ids.into_iter().map(|id| base().with("id", id)).chain([base().without("id")]);
    let case = |(number, document): (usize, Doc)| {
        let entry = Entry::Bytes(document.signed(&cloud.secret));
        Case { name: format!("odd-id-{number}"), entry, reason: "schema", stage: "schema", id: None, hmac_ok: true }
    };
    documents.enumerate().map(case).collect()
}

/// Names that are well formed and mean nothing here.
fn unknown_names(cloud: &Cloud) -> Vec<Case> {
    let case = |reason: &'static str, id: &str, field: &str, value: &str| {
        Case::signed(cloud, reason, "schema", &Doc::noop(id).with(field, json!(value)))
    };
    vec![
        case("unsupported_version", "version-2", "schemaVersion", "2.0"),
        case("unsupported_version", "version-1", "schemaVersion", "1"),
        case("unknown_action", "action-other", "action", "deployPatch"),
        case("unknown_action", "action-case", "action", "ApplyPatch"),
        case("unknown_patch_type", "patch-type-other", "patchType", "binary"),
        case("unknown_patch_type", "patch-type-empty", "patchType", ""),
        case("unknown_target", "target-other", "target", "ELSEWHERE"),
        case("unknown_target", "target-case", "target", "main"),
    ]
}
