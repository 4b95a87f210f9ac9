//! What lies where the bridge's own files have to go: it came by a commit of somebody's, or by hand.

use std::fs;

use crate::harness::cloud::describe;
use crate::harness::git::{assert_sound, results};
use crate::harness::{Bridge, Cloud, Doc, audit};

/// Whether something was set aside for this name.
fn set_aside(cloud: &Cloud, path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap();
    let mut names = fs::read_dir(cloud.path(folder)).unwrap().map(|entry| entry.unwrap().file_name());
    names.any(|other| other.to_str().unwrap().starts_with(&format!("{name}.in-the-way-")))
}

#[test]
fn a_folder_in_an_artifacts_place_holds_up_nobody_whoever_put_it_there() {
    let cloud = Cloud::new();
    let other = cloud.other_clone();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("before"));
    let ways = ["results/wanted.json", "diffs/wanted.patch", "archive/wanted.json", "dead_letter/refused.json"];
    let inside: Vec<String> = ways.iter().map(|way| format!("{way}/inside.txt")).collect();
    let pushed: Vec<(&str, &str)> = inside.iter().map(|path| (path.as_str(), "pushed\n")).collect();
    let theirs = cloud.push_from(&other, &pushed);
    bridge.local_history("their commit", |history| history.iter().any(|commit| commit.hash == theirs));
    // What is shaped so comes into the branch, and not into the work tree: there a person puts it.
    inside.iter().for_each(|path| cloud.write(path, "by hand\n"));
    fs::create_dir_all(cloud.path("results/wanted.integrity.json/by-hand")).unwrap();
    fs::remove_file(cloud.path("logs/bridge.log")).unwrap();
    fs::create_dir_all(cloud.path("logs/bridge.log/by-hand")).unwrap();
    let bytes = bridge.run(&Doc::noop("wanted"));
    cloud.submit(&Doc::noop("refused").with("target", serde_json::json!("NOWHERE")));
    bridge.published("bridge: DLQ unknown_target");
    let history = bridge.barrier();
    assert_sound(&history);
    for way in ways.iter().chain(&["results/wanted.integrity.json", "logs/bridge.log"]) {
        assert!(cloud.path(way).is_file() && set_aside(&cloud, way), "{way}");
    }
    assert_eq!(cloud.read("archive/wanted.json"), bytes);
    let tree = cloud.remote_git(&["ls-tree", "-r", "--name-only", "main"]);
    assert!(!tree.contains("in-the-way") && !tree.contains("inside.txt"), "{tree}");
    bridge.stop();
    // The next start joins what was written of the log since to what the branch has of it.
    let bridge = Bridge::start(&cloud);
    bridge.barrier();
    assert_eq!(audit::verified(cloud.root()).len(), 5);
    let audit = cloud.bridge(&["audit", "--all"]).output().unwrap();
    assert!(audit.status.success(), "{}", describe(&audit));
    assert_eq!(crate::harness::git::with_subject(&cloud.published(), &results("wanted", 0)).len(), 1);
    bridge.stop();
}
