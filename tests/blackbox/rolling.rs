//! The artifact folders roll over: they stay small on disk and in every commit, and nothing is lost on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::harness::cloud::describe;
use crate::harness::document::sha256;
use crate::harness::git::{Commit, assert_sound, outcomes, results, with_subject};
use crate::harness::snapshot::files;
use crate::harness::{Bridge, Cloud, Doc, audit};

const FOLDERS: [&str; 4] = ["archive", "dead_letter", "diffs", "results"];

fn start(cloud: &Cloud, window: usize) -> Bridge<'_> {
    Bridge::start_with(cloud, |run| {
        run.env("GHOST_BRIDGE__PUBLISH__WINDOW", window.to_string()).env("GHOST_BRIDGE__PUBLISH__LOG_KIB", "4");
    })
}

/// How many commands each folder holds.
fn commands<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in paths {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let id = name.replace(".integrity.json", "").replace(".json", "").replace(".patch", "");
        found.entry(folder.to_owned()).or_default().insert(id);
    }
    found.into_iter().map(|(folder, ids)| (folder, ids.len())).collect()
}

fn assert_bounds(counts: &BTreeMap<String, usize>, window: usize, what: &str) {
    for (folder, count) in counts {
        let is_segment = folder.split('/').count() == 5;
        assert!(is_segment || FOLDERS.contains(&folder.as_str()), "{what}: {folder} is neither flat nor a segment");
        let most = if is_segment { window } else { 2 * window };
        assert!(*count <= most, "{what}: {count} commands in {folder}");
    }
}

/// Waits until what is filed is what is committed.
fn wait_until_tidy(bridge: &Bridge<'_>, cloud: &Cloud) {
    bridge.wait_for("the folders to be tidy", || {
        differences(cloud, &FOLDERS).is_empty() && differences(cloud, &["logs"]).is_empty()
    });
}

fn differences(cloud: &Cloud, folders: &[&str]) -> String {
    cloud.git(&[&["status", "--porcelain", "--untracked-files=all", "--"][..], folders].concat())
}

/// Every folder is within its bound in every commit and on disk, and disk and branch agree.
fn assert_small(cloud: &Cloud, history: &[Commit], window: usize) {
    for commit in history {
        let tree = cloud.git(&[&["ls-tree", "-r", "--name-only", &commit.hash, "--"][..], &FOLDERS[..]].concat());
        assert_bounds(&commands(tree.lines()), window, &commit.subject);
    }
    let disk: Vec<String> = FOLDERS
        .iter()
        .flat_map(|folder| files(&cloud.path(folder)))
        .map(|path| path.strip_prefix(cloud.root()).unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_bounds(&commands(disk.iter().map(String::as_str)), window, "on disk");
    let rolled = history.iter().filter(|commit| {
        commit.subject.starts_with("bridge: roll over") && !commit.files.contains(&"logs/bridge.log".to_owned())
    });
    assert!(rolled.count() >= 2, "hardly anything was rolled over");
}

/// Every command's artifacts are there, once, and are what its integrity file says.
fn assert_filed(cloud: &Cloud, id: &str) {
    let filed = |path: String| cloud.filed(&path).unwrap_or_else(|| panic!("{path} is nowhere"));
    let integrity = cloud.json(&filed(format!("results/{id}.integrity.json")));
    for (path, key) in [
        (format!("results/{id}.json"), "result_sha256"),
        (format!("diffs/{id}.patch"), "diff_sha256"),
        (format!("archive/{id}.json"), "archive_sha256"),
    ] {
        assert_eq!(integrity[key], sha256(&cloud.read(&filed(path.clone()))), "{path}");
    }
}

fn asked(cloud: &Cloud, arguments: &[&str]) -> String {
    let output = cloud.bridge(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", describe(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn folders_stay_small_and_everything_is_found_wherever_it_lies() {
    let (cloud, window) = (Cloud::new(), 8);
    let mut bridge = start(&cloud, window);
    let ok: Vec<Doc> =
        (0..100).map(|n| Doc::write(&format!("c-{n:03}"), &format!("docs/{n:03}.txt"), &format!("{n}\n"))).collect();
    let mut bytes = Vec::new();
    for (number, document) in ok.iter().enumerate() {
        bytes.push(cloud.submit(document));
        if number % 4 == 0 {
            // Two forged documents under one id, far from each other.
            let id = format!("forged-{:02}", number % 52);
            cloud.drop_file(&format!("f-{number}.json"), &Doc::noop(&id).signed("a-forgers-own-secret-of-32-bytes"));
        }
    }
    bridge.history("all commits", |history| outcomes(history).len() == 125);
    bridge.emptied();
    wait_until_tidy(&bridge, &cloud);
    let history = cloud.committed();
    assert_sound(&history);
    assert_small(&cloud, &history, window);
    ok.iter().for_each(|document| assert_filed(&cloud, document.id()));
    let letters: BTreeSet<String> = cloud.dead_letters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(letters.len(), 25, "none took another's place: {letters:?}");
    assert_eq!(letters.iter().filter(|name| name.len() == "forged-00.json".len()).count(), 13);

    for id in ["c-000", "c-050", "c-099"] {
        assert!(asked(&cloud, &["replay", id]).contains("plan       1 files"), "{id}");
    }
    let revert = cloud.bridge(&["revert", "c-000"]).output().unwrap();
    assert!(String::from_utf8_lossy(&revert.stdout).contains("docs/000.txt"), "{}", describe(&revert));

    for life in 0..4 {
        bridge.stop();
        let log = cloud.path("logs/bridge.log");
        let length = fs::metadata(&log).unwrap().len();
        let cut = |length| fs::File::options().write(true).open(&log).unwrap().set_len(length).unwrap();
        match life {
            0 => {}
            // In the middle of a line; and with zeros there: as a power cut may leave it.
            1 => cut(length / 2),
            2 => {
                cut(length / 2);
                cut(length);
            }
            _ => fs::remove_dir_all(cloud.path("logs")).unwrap(),
        }
        bridge = start(&cloud, window);
        cloud.drop_file("again.json", &bytes[0]);
        bridge.emptied();
        // Another document under an id that was taken long ago.
        cloud.submit(&Doc::write("c-001", "docs/other.txt", &format!("{life}\n")));
        bridge.history("the refusal", |history| with_subject(history, "bridge: DLQ duplicate_id").len() == life + 1);
        bridge.emptied();
        assert_eq!(cloud.text("docs/000.txt"), "0\n");
        assert!(!cloud.exists("docs/other.txt"));
        let again = cloud.dead_letters().into_iter().filter(|(_, letter)| letter["id"] == "c-001").count();
        assert_eq!(again, life + 1);
    }
    assert_eq!(audit::verified(cloud.root()).len(), 125 + 4);
    assert_sound(&cloud.committed());
    assert_eq!(outcomes(&cloud.committed()).len(), 125 + 4, "nothing was committed twice");
    wait_until_tidy(&bridge, &cloud);
    assert_small(&cloud, &cloud.committed(), window);
    bridge.stop();
}

#[test]
fn a_bridge_that_is_killed_again_and_again_while_it_rolls_over_loses_nothing() {
    let (cloud, window, count) = (Cloud::alone(), 4, 120);
    let ids: Vec<String> = (0..count).map(|number| format!("k-{number:03}")).collect();
    for id in &ids {
        cloud.submit(&Doc::write(id, &format!("docs/{id}.txt"), id));
    }
    let git_dir = cloud.path(".git");
    let commits = || outcomes(&cloud.subjects(&git_dir)).len();
    for life in 1..=5 {
        let bridge = start(&cloud, window);
        bridge.wait_for("some commits", || commits() >= life * 20);
        bridge.kill();
    }
    let bridge = start(&cloud, window);
    bridge.local_history("all commits", |history| outcomes(history).len() >= count);
    bridge.emptied();
    wait_until_tidy(&bridge, &cloud);
    let history = cloud.committed();
    assert_sound(&history);
    for id in &ids {
        assert_eq!(with_subject(&history, &results(id, 0)).len(), 1, "{id}");
        assert_filed(&cloud, id);
    }
    assert_small(&cloud, &history, window);
    assert_eq!(audit::verified(cloud.root()).len(), count);
    bridge.stop();
}

#[test]
fn the_smoke_test_holds_where_hardly_anything_lies_flat() {
    let cloud = Cloud::new();
    let bridge = start(&cloud, 1);
    for _ in 0..3 {
        assert!(asked(&cloud, &["smoke"]).contains("\nok\n"));
    }
    wait_until_tidy(&bridge, &cloud);
    assert_small(&cloud, &cloud.committed(), 1);
    bridge.stop();
}
