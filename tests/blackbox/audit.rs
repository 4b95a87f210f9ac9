//! The audit log: one line a document, in one chain, across restarts, and the same in the remote.

use serde_json::{Value, json};

use crate::harness::document::sha256;
use crate::harness::git::{Commit, outcomes, results};
use crate::harness::{Bridge, Cloud, Doc, audit};

/// One document of each kind of end, and what its line says: result and exit.
fn documents(cloud: &Cloud, life: u32) -> Vec<(Vec<u8>, &'static str, Value, Value)> {
    let id = |stem: &str| format!("{stem}-{life}");
    let (good, fails, escapes, forged) = (id("good"), id("fails"), id("escapes"), id("forged"));
    let plan = json!([{ "check": "exists", "path": "docs/nothing.txt" }]);
    let signed = |document: Doc| document.signed(&cloud.secret);
    vec![
        (signed(Doc::write(&good, &format!("docs/{life}.txt"), "x")), "ok", json!(0), json!(good)),
        (signed(Doc::noop(&fails).with("validationPlan", plan)), "failed", json!(1), json!(fails)),
        (signed(Doc::write(&escapes, "../x", "x")), "path_escape", Value::Null, json!(escapes)),
        (Doc::noop(&forged).signed("a-forgers-own-secret"), "bad_hmac", Value::Null, json!(forged)),
        (format!("rubbish {life}").into_bytes(), "malformed", Value::Null, Value::Null),
    ]
}

#[test]
fn every_document_has_one_line_in_one_unbroken_chain() {
    let cloud = Cloud::new();
    let mut all = Vec::new();
    for life in 0..3 {
        let bridge = Bridge::start(&cloud);
        let these = documents(&cloud, life);
        for (number, (bytes, ..)) in these.iter().enumerate() {
            cloud.drop_file(&format!("{life}-{number}.json"), bytes);
        }
        all.extend(these);
        bridge.emptied();
        bridge.history("one commit each", |history| outcomes(history).len() == all.len());
        if life == 1 { bridge.kill() } else { bridge.stop() }
    }
    let lines = audit::verified(cloud.root());
    assert_eq!(lines.len(), all.len());
    for (bytes, result, exit, id) in &all {
        let hash = sha256(bytes);
        let own: Vec<&Value> = lines.iter().filter(|line| line["input_sha256"] == hash.as_str()).collect();
        assert_eq!(own.len(), 1, "one line for {id}");
        assert_eq!((&own[0]["result"], &own[0]["exit"], &own[0]["id"]), (&json!(result), exit, id));
        assert_eq!(own[0]["hmac_ok"], json!(!["bad_hmac", "malformed"].contains(result)), "{id}");
        assert_eq!(own[0]["files_changed"], json!(u8::from(*result == "ok")), "{id}");
        let ts = own[0]["ts"].as_str().unwrap();
        assert!(chrono::DateTime::parse_from_rfc3339(ts).is_ok(), "{ts}");
    }
    each_commit_brings_its_own_line(&cloud, &cloud.published());
}

/// In the remote each commit's log is the one before it and one line more, which is its own.
fn each_commit_brings_its_own_line(cloud: &Cloud, history: &[Commit]) {
    let mut before = String::new();
    for commit in outcomes(history) {
        let log = cloud.remote_git(&["show", &format!("{}:logs/bridge.log", commit.hash)]) + "\n";
        let added = log.strip_prefix(&before).unwrap_or_else(|| panic!("{commit:?} changes earlier lines"));
        let line: Value = serde_json::from_str(added).unwrap_or_else(|error| panic!("{commit:?}: {error}: {added}"));
        let subject = match (line["result"].as_str().unwrap(), line["exit"].as_u64()) {
            ("ok" | "failed", Some(exit)) => results(line["id"].as_str().unwrap(), u8::try_from(exit).unwrap()),
            (reason, _) => format!("bridge: DLQ {reason}"),
        };
        assert_eq!(commit.subject, subject);
        before = log;
    }
}

#[test]
fn a_line_that_a_crash_cut_short_is_mended_at_the_next_start() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("before"));
    bridge.stop();
    let mut log = cloud.read("logs/bridge.log");
    log.extend_from_slice(b"{\"ts\":\"2026-01-01T00:00:00Z\",\"id\":\"torn");
    std::fs::write(cloud.path("logs/bridge.log"), log).unwrap();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("after"));
    let lines = audit::verified(cloud.root());
    let ids: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["before", "after"]);
    bridge.stop();
}

#[test]
fn the_log_rolls_and_the_chain_goes_on() {
    let cloud = Cloud::new();
    let start = || {
        Bridge::start_with(&cloud, |run| {
            run.env("GHOST_BRIDGE__PUBLISH__LOG_KIB", "4");
        })
    };
    let bridge = start();
    for number in 0..40 {
        cloud.submit(&Doc::noop(&format!("rolling-{number:02}")));
    }
    bridge.history("one commit each", |history| outcomes(history).len() == 40);
    bridge.emptied();
    let segments = crate::harness::snapshot::files(&cloud.path("logs"));
    assert!(segments.len() > 2, "{segments:?}");
    bridge.kill();
    // Ids of rolled segments stay taken.
    let bridge = start();
    cloud.submit(&Doc::noop("rolling-00"));
    let history = bridge.published("bridge: DLQ duplicate_id");
    bridge.emptied();
    assert_eq!(audit::verified(cloud.root()).len(), 41);
    crate::harness::git::assert_sound(&history);
    bridge.status_becomes("");
    bridge.stop();
}
