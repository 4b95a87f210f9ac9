//! People at work in CLOUD while the bridge is: their commits, and what they do to its own.

use crate::harness::git::{assert_sound, results, with_subject};
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, poll};

const PUT_BACK: &str = "bridge: put back what was published";

/// A person's commit; git may tell them to try again.
fn commit(cloud: &Cloud, path: &str, text: &str, message: &str) {
    cloud.write(path, text);
    let done = poll(PATIENCE, || {
        cloud.git_succeeds(cloud.root(), &["add", path])
            && cloud.git_succeeds(cloud.root(), &["commit", "-q", "-m", message])
    });
    assert!(done, "a person could not commit {path}");
}

#[test]
fn who_commits_right_after_a_command_commits_their_own_file_alone() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    for number in 0..5 {
        let id = format!("beside-{number}");
        bridge.run(&Doc::noop(&id));
        commit(&cloud, "mine.txt", &id, &format!("mine {number}"));
    }
    let history = bridge.history("all of it", |history| !with_subject(history, "mine 4").is_empty());
    assert_sound(&history);
    for number in 0..5 {
        assert_eq!(with_subject(&history, &format!("mine {number}"))[0].files, ["mine.txt"]);
        assert_eq!(with_subject(&history, &results(&format!("beside-{number}"), 0)).len(), 1);
    }
    assert!(with_subject(&history, PUT_BACK).is_empty());
    bridge.status_becomes("");
    bridge.stop();
}

#[test]
fn what_a_person_drops_comes_back_once_and_no_command_is_committed_twice() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    for id in ["one", "two", "three"] {
        bridge.run(&Doc::noop(id));
    }
    bridge.status_becomes("");
    cloud.git(&["rm", "-q", "-r", "--cached", "results", "archive", "logs"]);
    cloud.git(&["commit", "-q", "-m", "tidied"]);
    bridge.run(&Doc::noop("four"));
    let history = bridge.history("the last", |history| {
        !with_subject(history, PUT_BACK).is_empty() && !with_subject(history, &results("four", 0)).is_empty()
    });
    assert_eq!(with_subject(&history, PUT_BACK).len(), 1);
    for id in ["one", "two", "three", "four"] {
        assert_eq!(with_subject(&history, &results(id, 0)).len(), 1, "{id}");
        cloud.remote_git(&["cat-file", "-e", &format!("main:results/{id}.json")]);
    }
    bridge.status_becomes("");
    cloud.git(&["fsck", "--strict"]);
    bridge.stop();
}
