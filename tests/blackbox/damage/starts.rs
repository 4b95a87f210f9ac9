//! What else a crash leaves: locks, an index that is older than the branch, a shallow clone that forgot where it ends.

use std::fs;

use super::{Damage, End, end_of_start};
use crate::harness::git::results;
use crate::harness::{Bridge, Cloud, Doc};

/// Every lock that git, its library or the bridge takes, and what git writes beside one.
const LOCKS: [&str; 15] = [
    "index.lock",
    "HEAD.lock",
    "ORIG_HEAD.lock",
    "FETCH_HEAD.lock",
    "packed-refs.lock",
    "packed-refs.new",
    "config.lock",
    "shallow.lock",
    "refs/heads/main.lock",
    "refs/ghost-bridge/base.lock",
    "refs/ghost-bridge/indexed.lock",
    "refs/remotes/origin/main.lock",
    "refs/tags/v1.lock",
    "objects/info/commit-graph.lock",
    "objects/pack/multi-pack-index.lock",
];

#[test]
fn locks_that_a_crash_left_are_gone_before_the_bridge_is_ready() {
    let cloud = Cloud::new();
    for lock in LOCKS {
        cloud.write(&format!(".git/{lock}"), "");
    }
    let (end, log) = end_of_start(&cloud, "first");
    assert_eq!(end, End::Published, "{log}");
    let left: Vec<&str> = LOCKS.into_iter().filter(|lock| cloud.exists(&format!(".git/{lock}"))).collect();
    assert_eq!(left, [] as [&str; 0]);
    // A person's own work finds nothing in its way.
    cloud.git(&["pack-refs", "--all"]);
    cloud.git(&["commit", "--allow-empty", "-q", "-m", "a person"]);
    cloud.git(&["gc", "-q"]);
}

#[test]
fn an_index_that_is_older_than_the_branch_is_brought_in_line_though_its_note_is_lost() {
    for damage in Damage::ALL {
        let cloud = Cloud::new();
        let bridge = Bridge::start(&cloud);
        bridge.run(&Doc::write("first", "results.txt", "first\n"));
        let old = cloud.read(".git/index");
        bridge.run(&Doc::write("second", "results.txt", "second\n"));
        bridge.status_becomes("?? results.txt\n".trim_end());
        bridge.stop();
        cloud.write(".git/index", &old);
        assert!(damage.hit(&cloud.path(".git/refs/ghost-bridge/indexed"), 7));
        let bridge = Bridge::start(&cloud);
        bridge.run(&Doc::noop("third"));
        bridge.status_becomes("?? results.txt");
        bridge.stop();
    }
}

#[test]
fn the_end_of_a_shallow_history_is_found_again() {
    let origin = Cloud::new();
    for n in 0..4 {
        origin.write("n.txt", n.to_string());
        origin.git(&["commit", "-q", "-a", "-m", "more", "--allow-empty"]);
    }
    origin.git(&["push", "-q"]);
    for damage in Damage::ALL {
        let cloud = origin.copied();
        fs::remove_dir_all(cloud.root()).unwrap();
        let url = format!("file://{}", cloud.remote().display());
        cloud.git_at(cloud.world(), &["clone", "-q", "--depth", "2", &url, "cloud"]);
        cloud.git(&["tag", "here"]);
        assert!(damage.hit(&cloud.path(".git/shallow"), 3));
        let (end, log) = end_of_start(&cloud, "first");
        assert_eq!(end, End::Published, "{damage:?}: {log}");
        assert_eq!(cloud.committed().first().unwrap().subject, "more", "{damage:?}");
        cloud.git(&["fsck", "--no-dangling"]);
    }
}

#[test]
fn a_branch_whose_newest_commits_are_lost_gets_them_again_from_the_audit_log() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::write("first", "docs/first.txt", "first\n"));
    let before = cloud.git(&["rev-parse", "HEAD"]);
    bridge.stop();
    // Nothing but the log of the branch, and of that its beginning, tells where the branch was.
    for lost in ["refs/remotes", "refs/ghost-bridge", "logs/HEAD"] {
        let path = cloud.path(".git").join(lost);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    let log = cloud.text(".git/logs/refs/heads/main");
    let first = log.lines().next().unwrap();
    cloud.write(".git/logs/refs/heads/main", format!("{first}\n{}", &first[..50]));
    assert!(Damage::Empty.hit(&cloud.path(".git/refs/heads/main"), 0));
    let (end, log) = end_of_start(&cloud, "second");
    assert_eq!(end, End::Published, "{log}");
    let history = cloud.published();
    for id in ["first", "second"] {
        assert_eq!(history.iter().filter(|it| it.subject == results(id, 0)).count(), 1, "{id}");
    }
    assert!(history.iter().any(|it| it.hash == before), "what was pushed is still there");
}
