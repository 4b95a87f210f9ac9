//! A disk that is full, and one that may not be written any more.

use std::fs::{self, File};
use std::io::Write as _;

use serde_json::json;

use super::{Mount, assert_filed_once, hidden, other_target};
use crate::harness::git::{results, tip, with_subject};
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, audit, poll};

/// The size of the disk.
const DISK: &str = "16m";
/// How much is left on it, in KiB: nothing; too little for the record of a command; enough for the record alone; enough for
/// the files too, but not for what is filed or committed of them.
const LEFT_KIB: [u64; 8] = [0, 8, 64, 700, 1_000, 1_300, 1_500, 1_700];
/// What the command writes, in KiB.
const CONTENT_KIB: usize = 300;

/// Fills the disk but for `left` KiB.
fn fill(cloud: &Cloud, left: u64) {
    let mut filler = File::create(cloud.path("filler")).unwrap();
    while filler.write_all(&[b'x'; 4096]).is_ok() {}
    let full = filler.metadata().unwrap().len();
    filler.set_len(full - left * 1024).unwrap();
}

#[test]
fn a_full_disk_loses_nothing_and_all_goes_on_when_there_is_room() {
    let Some((cloud, _mount)) = Cloud::alone_on(|root| Mount::of_size(root, DISK)) else { return };
    cloud.write("docs/a.txt", "before\n");
    let bridge = Bridge::start(&cloud);
    let (mut ids, mut seen) = (Vec::new(), String::new());
    for left in LEFT_KIB {
        let id = format!("left-{left}");
        let content = format!("{left}\n{}\n", "y".repeat(CONTENT_KIB * 1024));
        let before = cloud.text("docs/a.txt");
        let ops = json!([
            { "op": "writeFile", "path": "docs/a.txt", "content": content },
            { "op": "writeFile", "path": format!("fresh/{left}/b.txt"), "content": "b\n" },
        ]);
        let hidden_name = cloud.path("commands").join(format!(".{id}.tmp"));
        fs::write(&hidden_name, Doc::new(&id, ops).signed(&cloud.secret)).unwrap();
        fill(&cloud, left);
        let said = bridge.log().len();
        fs::rename(&hidden_name, cloud.path("commands").join(format!("{id}.json"))).unwrap();
        let log = || bridge.log()[said..].to_owned();
        let mut history = committed(&cloud, &id);
        bridge.wait_for("it to say what is wrong, or to do without", || {
            log().contains("ERROR") || log().contains("may pass") || history()
        });
        seen.push_str(&log());
        let stays = cloud.exists(&format!("commands/{id}.json"));
        println!("{left} KiB left: {}", log().lines().next().unwrap_or_default());
        let now = cloud.text("docs/a.txt");
        assert!(now == before || now == content, "{id}: the file is neither as before nor as after");
        if !cloud.exists(&format!("archive/{id}.json")) {
            assert!(stays, "{id}: the document is gone and not filed");
        }
        fs::remove_file(cloud.path("filler")).unwrap();
        bridge.local_history(&id, |history| !with_subject(history, &results(&id, 0)).is_empty());
        bridge.emptied();
        assert_eq!(cloud.text("docs/a.txt"), content, "{id}");
        assert!(poll(PATIENCE, || hidden(cloud.root()).is_empty()), "{:?}", hidden(cloud.root()));
        ids.push(id);
        // Room for the next one.
        cloud.git(&["gc", "-q", "--prune=now"]);
    }
    for said in ["execution has stopped", "may pass", "filing has stopped"] {
        assert!(seen.contains(said), "no level led to {said:?}:\n{seen}");
    }
    assert_filed_once(&cloud, bridge, &ids);
}

#[test]
fn a_target_that_is_read_only_is_tried_again_while_others_go_on() {
    let cloud = Cloud::alone();
    let root = cloud.world().join("other");
    let Some(mount) = Mount::of_size(&root, "1m") else { return };
    let config = other_target(&cloud, &root);
    let bridge = Bridge::start_with(&cloud, |run| {
        run.arg("--config").arg(&config);
    });
    let attempts = |id: &str| cloud.json("meta/retries.json")[id]["attempts"].as_u64().unwrap_or(0);
    let done = |id: &str, exit| {
        bridge.local_history(id, |history| !with_subject(history, &results(id, exit)).is_empty());
    };
    mount.remount("ro");
    cloud.submit(&Doc::write("passes", "a.txt", "a\n").on("OTHER"));
    bridge.wait_for("the first failed try to be noted", || attempts("passes") > 0);
    cloud.submit(&Doc::noop("beside"));
    done("beside", 0);
    assert!(cloud.exists("commands/passes.json") && names_of(&root).is_empty());
    mount.remount("rw");
    done("passes", 0);
    let result = cloud.json("results/passes.json");
    assert!(result["attempts"].as_u64().unwrap() > 1, "{result}");
    assert_eq!(fs::read_to_string(root.join("a.txt")).unwrap(), "a\n");

    mount.remount("ro");
    cloud.submit(&Doc::write("never", "b.txt", "b\n").on("OTHER"));
    done("never", 74);
    bridge.emptied();
    let (result, letter) = (cloud.json("results/never.json"), cloud.json("dead_letter/never.json"));
    assert_eq!((&result["status"], &result["reason"]), (&json!("failed"), &json!("retries_exhausted")));
    assert_eq!((&result["exit_code"], &result["attempts"], &letter["attempts"]), (&json!(74), &json!(6), &json!(6)));
    assert_eq!(letter["reason"], json!("retries_exhausted"));
    bridge.wait_for("the retries index to be empty", || cloud.json("meta/retries.json") == json!({}));
    mount.remount("rw");
    bridge.stop();
    assert_eq!(names_of(&root), ["a.txt"]);
    assert_eq!(audit::verified(cloud.root()).len(), 3);
    let history = cloud.committed();
    assert_eq!(with_subject(&history, &results("never", 74)).len(), 1);
}

/// Whether the command's commit is there.
fn committed<'a>(cloud: &'a Cloud, id: &str) -> impl FnMut() -> bool + use<'a> {
    let (subject, git_dir) = (results(id, 0), cloud.path(".git"));
    let mut seen = None;
    move || {
        let tip = tip(&git_dir, "main");
        if tip == seen {
            return false;
        }
        seen = tip;
        !with_subject(&cloud.subjects(&git_dir), &subject).is_empty()
    }
}

fn names_of(root: &std::path::Path) -> Vec<String> {
    crate::harness::cloud::names(root)
}
