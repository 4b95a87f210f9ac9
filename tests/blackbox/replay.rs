//! An id is taken once, for ever; the same document again is nothing; a forged one is powerless.

use serde_json::json;

use crate::harness::cloud::names;
use crate::harness::document::sha256;
use crate::harness::git::{results, with_subject};
use crate::harness::{Bridge, Cloud, Doc, audit};

/// Asserts that `document` was executed once and left one commit, one audit line and no dead letter.
fn assert_once(cloud: &Cloud, document: &Doc, bytes: &[u8]) {
    let history = cloud.published();
    assert_eq!(with_subject(&history, &results(document.id(), 0)).len(), 1, "one commit for {}", document.id());
    assert!(history.iter().all(|commit| !commit.subject.starts_with("bridge: DLQ")), "{history:?}");
    assert_eq!(cloud.dead_letters(), []);
    let lines = audit::verified(cloud.root());
    assert_eq!(lines.iter().filter(|line| line["input_sha256"] == sha256(bytes)).count(), 1, "{lines:?}");
}

#[test]
fn the_same_document_again_is_removed_quietly_also_after_a_restart_and_after_a_kill() {
    let cloud = Cloud::new();
    let document = Doc::write("once", "docs/once.txt", "written by the command\n");
    let mut bridge = Bridge::start(&cloud);
    let bytes = bridge.run(&document);
    // Who executes it again would undo this person's change.
    cloud.write("docs/once.txt", "changed by a person\n");
    for life in 0..3 {
        // Under its own name and under another.
        cloud.drop_file("once.json", &bytes);
        cloud.drop_file("another-name.json", &bytes);
        bridge.emptied();
        bridge.barrier();
        assert_once(&cloud, &document, &bytes);
        assert_eq!(cloud.text("docs/once.txt"), "changed by a person\n");
        match life {
            0 => bridge.stop(),
            _ => bridge.kill(),
        }
        // The next life finds it waiting at its start.
        cloud.drop_file("once.json", &bytes);
        bridge = Bridge::start(&cloud);
        bridge.emptied();
    }
    bridge.barrier();
    assert_once(&cloud, &document, &bytes);
    assert_eq!(cloud.text("docs/once.txt"), "changed by a person\n");
    bridge.stop();
}

#[test]
fn the_same_refused_document_again_is_removed_quietly() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let bytes = cloud.submit(&Doc::write("escape", "../x", "x"));
    bridge.published("bridge: DLQ path_escape");
    bridge.emptied();
    cloud.drop_file("escape.json", &bytes);
    cloud.drop_file("again.json", &bytes);
    bridge.emptied();
    let history = bridge.barrier();
    assert_eq!(with_subject(&history, "bridge: DLQ path_escape").len(), 1);
    assert_eq!(cloud.dead_letters().len(), 1);
    bridge.stop();
}

#[test]
fn a_fresh_clone_that_brings_old_commands_back_executes_none() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    // The command arrives by git, so it stays in the history.
    let other = cloud.other_clone();
    let document = Doc::write("from-afar", "docs/afar.txt", "far\n");
    let bytes = document.signed(&cloud.secret);
    crate::harness::cloud::write(&other.join("commands/from-afar.json"), &bytes);
    cloud.git_at(&other, &["add", "commands"]);
    cloud.git_at(&other, &["commit", "-q", "-m", "a command"]);
    cloud.git_at(&other, &["push", "-q"]);
    bridge.published(&results("from-afar", 0));
    bridge.stop();
    let before = cloud.published().len();

    // CLOUD is lost; a fresh clone takes its place.
    std::fs::rename(cloud.root(), cloud.world().join("lost")).unwrap();
    let clone = cloud.other_clone();
    std::fs::rename(clone, cloud.root()).unwrap();
    assert!(cloud.exists("commands/from-afar.json"));
    let bridge = Bridge::start(&cloud);
    bridge.emptied();
    let history = bridge.barrier();
    assert_once(&cloud, &document, &bytes);
    assert_eq!(cloud.read("archive/from-afar.json"), bytes);
    let outcomes = history[before..].iter().filter(|commit| commit.subject.starts_with("bridge: results")).count();
    assert_eq!(outcomes, 1, "only the last no-op: {:?}", &history[before..]);
    bridge.stop();
}

#[test]
fn another_document_under_a_taken_id_is_a_duplicate_in_every_life() {
    let cloud = Cloud::new();
    let mut bridge = Bridge::start(&cloud);
    let genuine = bridge.run(&Doc::write("Mine", "docs/mine.txt", "first\n"));
    for (number, id) in ["Mine", "mine", "MINE", "Mine"].into_iter().enumerate() {
        if number == 3 {
            bridge.kill();
            bridge = Bridge::start(&cloud);
        }
        let bytes = cloud.submit(&Doc::write(id, "docs/mine.txt", "second\n"));
        let hash = sha256(&bytes);
        let letter = || cloud.dead_letters().into_iter().find(|(_, letter)| letter["input_sha256"] == hash.as_str());
        bridge.wait_for("the dead letter", || letter().is_some());
        assert_eq!(letter().unwrap().1["reason"], json!("duplicate_id"));
        bridge.emptied();
    }
    let history =
        bridge.history("four dead letters", |history| with_subject(history, "bridge: DLQ duplicate_id").len() == 4);
    assert_eq!(with_subject(&history, &results("Mine", 0)).len(), 1);
    assert_eq!(cloud.text("docs/mine.txt"), "first\n");
    assert_eq!(cloud.read("archive/Mine.json"), genuine);
    assert_eq!(names(&cloud.path("archive")).iter().filter(|name| name.eq_ignore_ascii_case("mine.json")).count(), 1);
    bridge.stop();
}

#[test]
fn a_forged_document_with_a_known_id_neither_blocks_nor_replaces_anything() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    // Made once: another second would make other documents of them.
    let template = Doc::write("known", "docs/known.txt", "forged\n");
    let forged = |n: u32| template.clone().with("nonce", json!(n.to_string())).signed("a-forgers-own-secret");
    let forge = |n: u32| {
        let hash = sha256(&forged(n));
        cloud.drop_file("known.json", &forged(n));
        bridge.wait_for("the forged one's dead letter", || {
            cloud.dead_letters().iter().any(|(_, letter)| letter["input_sha256"] == hash.as_str())
        });
        bridge.emptied();
    };
    // Before the genuine one,
    forge(1);
    assert_eq!(cloud.json("dead_letter/known.json")["reason"], json!("bad_hmac"));
    let first_letter = cloud.read("dead_letter/known.json");
    let genuine = bridge.run(&Doc::write("known", "docs/known.txt", "genuine\n"));
    let paths = ["archive/known.json", "results/known.json", "results/known.integrity.json", "diffs/known.patch"];
    let artifacts = paths.map(|path| cloud.read(path));
    assert_eq!(artifacts[0], genuine);
    // and after it.
    forge(2);
    forge(3);
    let history = bridge.barrier();
    assert_eq!(paths.map(|path| cloud.read(path)), artifacts);
    assert_eq!(cloud.read("dead_letter/known.json"), first_letter);
    for n in [2, 3] {
        let name = format!("dead_letter/known-{}.json", &sha256(&forged(n))[..8]);
        assert_eq!(cloud.json(&name)["hmac_ok"], json!(false));
    }
    assert_eq!(cloud.text("docs/known.txt"), "genuine\n");
    assert_eq!(with_subject(&history, &results("known", 0)).len(), 1);
    assert_eq!(with_subject(&history, "bridge: DLQ bad_hmac").len(), 3);
    bridge.stop();
}

#[test]
fn a_genuine_command_that_fails_keeps_the_forged_ones_dead_letter() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    cloud.drop_file("fails.json", &Doc::noop("fails").signed("a-forgers-own-secret"));
    bridge.published("bridge: DLQ bad_hmac");
    bridge.emptied();
    let forged = cloud.read("dead_letter/fails.json");
    let plan = json!([{ "check": "exists", "path": "docs/nothing.txt" }]);
    let bytes = cloud.submit(&Doc::noop("fails").with("validationPlan", plan));
    bridge.published(&results("fails", 1));
    bridge.emptied();
    assert_eq!(cloud.read("dead_letter/fails.json"), forged);
    let name = format!("dead_letter/fails-{}.json", &sha256(&bytes)[..8]);
    assert_eq!(cloud.json(&name)["reason"], json!("validation_failed"));
    bridge.stop();
}
