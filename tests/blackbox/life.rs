//! The service's life: its banner, its lock, its end by every signal, its secrets' rotation.

use chrono::{TimeDelta, Utc};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::cloud::describe;
use crate::harness::document::{assert_signed, sha256};
use crate::harness::git::{assert_sound, results, with_subject};
use crate::harness::{Bridge, Cloud, Doc, audit};

#[test]
fn the_banner_names_every_resolved_folder_once() {
    let cloud = Cloud::new();
    // A way round about, which the banner resolves.
    let detour = cloud.world().join("home/../cloud");
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("CLOUD", &detour);
    });
    let log = bridge.log();
    let root = cloud.root().canonicalize().unwrap();
    let folders = [
        ("CLOUD", ""),
        ("CMDS", "/commands"),
        ("RES", "/results"),
        ("DIFF", "/diffs"),
        ("ARCH", "/archive"),
        ("DLQ", "/dead_letter"),
        ("META", "/meta"),
    ];
    let says = |words: &[&str]| log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    for (name, folder) in folders {
        let path = format!("{}{folder}", root.display());
        let lines = log.lines().filter(|line| line.contains(name) && line.trim_end().ends_with(&path)).count();
        assert_eq!(lines, 1, "{name} {path} in\n{log}");
    }
    let index = format!("retries index -> {}/meta/retries.json", root.display());
    assert_eq!(says(&[&index]), 1, "{log}");
    bridge.stop();
}

#[test]
fn logs_can_be_json() {
    let cloud = Cloud::new();
    let bridge = Bridge::start_with(&cloud, |run| {
        run.args(["--log-format", "json"]);
    });
    bridge.run(&Doc::noop("logged"));
    for line in bridge.log().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok_and(|value| value.is_object()), "{line}");
    }
    bridge.stop();
}

#[test]
fn a_second_instance_is_75_and_names_the_first() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let second = cloud.bridge(&["run"]).output().unwrap();
    assert_eq!(second.status.code(), Some(75), "{}", describe(&second));
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&bridge.pid().to_string()), "{stderr}");
    let lock = cloud.text(".bridge.lock");
    assert!(lock.contains(&bridge.pid().to_string()) && lock.contains(env!("CARGO_PKG_VERSION")), "{lock}");
    // The first is none the worse for it.
    bridge.run(&Doc::noop("still-here"));
    bridge.stop();
}

#[test]
fn after_a_kill_the_next_start_needs_no_hand() {
    let cloud = Cloud::new();
    for life in 0..4 {
        let bridge = Bridge::start(&cloud);
        for number in 0..10 {
            cloud.submit(&Doc::noop(&format!("life-{life}-{number}")));
        }
        // At another moment in each life: with nothing filed, something filed, everything filed.
        bridge.wait_for("some to be filed", || cloud.waiting().len() <= 10 - life * 3);
        bridge.kill();
    }
    assert!(cloud.exists(".bridge.lock"), "the stale lock file is there, and harmless");
    let bridge = Bridge::start(&cloud);
    let ids: Vec<String> = (0..4).flat_map(|life| (0..10).map(move |number| format!("life-{life}-{number}"))).collect();
    let history = bridge.history("all of every life", |history| {
        ids.iter().all(|id| !with_subject(history, &results(id, 0)).is_empty())
    });
    bridge.emptied();
    assert_sound(&history);
    for id in &ids {
        assert_eq!(with_subject(&history, &results(id, 0)).len(), 1, "{id}");
    }
    assert_eq!(audit::verified(cloud.root()).len(), ids.len());
    assert_eq!(cloud.dead_letters(), []);
    bridge.status_becomes("");
    bridge.stop();
}

fn ends_cleanly_by(signal: Signal) {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let documents: Vec<Doc> = (0..200).map(|number| Doc::noop(&format!("last-{number:03}"))).collect();
    documents.iter().for_each(|document| {
        cloud.submit(document);
    });
    bridge.wait_for("the first to be filed", || cloud.waiting().len() < documents.len());
    let begun = std::time::Instant::now();
    bridge.stop_by(signal);
    println!("ended {:?} after {signal:?}", begun.elapsed());
    // What was filed is published; what was not waits where it was.
    let lines = audit::verified(cloud.root());
    let history = cloud.published();
    assert!(!lines.is_empty());
    assert_eq!(lines.len() + cloud.waiting().len(), documents.len());
    for line in &lines {
        let id = line["id"].as_str().unwrap();
        assert_eq!(with_subject(&history, &results(id, 0)).len(), 1, "{id} was filed and must be published");
    }
    assert_eq!(history.iter().filter(|commit| commit.subject.starts_with("bridge: results")).count(), lines.len());
    assert_sound(&history);
    let status = cloud.git(&["status", "--porcelain"]);
    let surprises: Vec<&str> = status.lines().filter(|line| !line.ends_with("commands/")).collect();
    assert_eq!(surprises, Vec::<&str>::new(), "git status tells the truth after the end");
}

#[test]
fn sigterm_ends_it_cleanly_with_everything_published() {
    ends_cleanly_by(Signal::TERM);
}

#[test]
fn sigint_ends_it_cleanly_with_everything_published() {
    ends_cleanly_by(Signal::INT);
}

#[test]
fn in_the_rotation_window_both_secrets_are_accepted() {
    let cloud = Cloud::new();
    let next = "the-next-secret-of-32-bytes-00000";
    let bridge = Bridge::start_with(&cloud, |run| {
        let ends = (Utc::now() + TimeDelta::hours(100)).to_rfc3339();
        run.env("GPT_BRIDGE_HMAC_SECRET_NEXT", next).env("GPT_BRIDGE_HMAC_ROTATION_ENDS", ends);
    });
    for (id, secret, slot) in [("by-current", cloud.secret.as_str(), "current"), ("by-next", next, "next")] {
        let bytes = Doc::noop(id).signed(secret);
        cloud.drop_file(&format!("{id}.json"), &bytes);
        bridge.published(&results(id, 0));
        bridge.emptied();
        let integrity = cloud.json(&format!("results/{id}.integrity.json"));
        assert_eq!(integrity["secret"], json!(slot));
        assert_eq!(integrity["input_sha256"], json!(sha256(&bytes)));
        assert_signed(&integrity, secret);
    }
    cloud.drop_file("by-none.json", &Doc::noop("by-none").signed("a-third-secret-of-32-bytes-0000000"));
    bridge.published("bridge: DLQ bad_hmac");
    bridge.stop();
}

#[test]
fn after_the_rotation_window_only_the_next_secret_is_accepted() {
    let cloud = Cloud::new();
    let next = "the-next-secret-of-32-bytes-00000";
    let bridge = Bridge::start_with(&cloud, |run| {
        let ended = (Utc::now() - TimeDelta::seconds(5)).to_rfc3339();
        run.env("GPT_BRIDGE_HMAC_SECRET_NEXT", next).env("GPT_BRIDGE_HMAC_ROTATION_ENDS", ended);
    });
    cloud.submit(&Doc::noop("by-the-old"));
    bridge.published("bridge: DLQ bad_hmac");
    cloud.drop_file("by-the-new.json", &Doc::noop("by-the-new").signed(next));
    bridge.published(&results("by-the-new", 0));
    bridge.emptied();
    assert_eq!(cloud.json("dead_letter/by-the-old.json")["reason"], json!("bad_hmac"));
    assert_eq!(cloud.json("results/by-the-new.integrity.json")["secret"], json!("next"));
    bridge.stop();
}
