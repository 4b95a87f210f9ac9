//! Which remote is published to, and what is said where none can be.

use crate::harness::cloud::describe;
use crate::harness::git::results;
use crate::harness::{Bridge, Cloud, Doc};

#[test]
fn the_remote_needs_no_special_name() {
    let cloud = Cloud::new();
    cloud.git(&["remote", "rename", "origin", "hub"]);
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("one"));
    bridge.wait_for("its name in the log", || {
        bridge.log().contains("remote=hub") || bridge.log().contains("remote=\"hub\"")
    });
    assert!(bridge.log().contains("branch=main") || bridge.log().contains("branch=\"main\""), "{}", bridge.log());
    let status = bridge.get("/status").json();
    assert_eq!(
        (status["publishing"]["remote"].as_str(), status["publishing"]["branch"].as_str()),
        (Some("hub"), Some("main"))
    );
    bridge.stop();
    // Beside another one it is still the one that the branch follows.
    cloud.git(&["remote", "add", "origin", "/nowhere/at/all.git"]);
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("two"));
    bridge.stop();
    let smoke = cloud.bridge(&["doctor"]).output().unwrap();
    assert!(describe(&smoke).contains("hub, "), "{}", describe(&smoke));
}

#[test]
fn several_remotes_and_none_of_them_meant_is_refused() {
    let cloud = Cloud::new();
    cloud.git(&["remote", "rename", "origin", "a"]);
    cloud.git(&["branch", "--unset-upstream"]);
    cloud.git(&["remote", "add", "b", "/nowhere/at/all.git"]);
    let output = cloud.bridge(&["run"]).output().unwrap();
    let said = describe(&output);
    assert!(output.status.code() == Some(78) && said.contains("a, b") && said.contains("publish.remote"), "{said}");
    let doctor = cloud.bridge(&["doctor"]).output().unwrap();
    assert!(doctor.status.code() == Some(1) && describe(&doctor).contains("publish.remote"), "{}", describe(&doctor));
    let wish = |name: &'static str| {
        move |command: &mut std::process::Command| {
            command.env("GHOST_BRIDGE__PUBLISH__REMOTE", name);
        }
    };
    let bridge = Bridge::start_with(&cloud, wish("a"));
    bridge.run(&Doc::noop("one"));
    bridge.stop();
    let mut command = cloud.bridge(&["run"]);
    wish("c")(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.code() == Some(78) && describe(&output).contains("no remote c"), "{}", describe(&output));
}

#[test]
fn without_a_remote_commits_stay_local_and_one_line_says_so() {
    let cloud = Cloud::alone();
    let bridge = Bridge::start(&cloud);
    cloud.submit(&Doc::noop("one"));
    bridge.local_history("the commit", |history| history.iter().any(|it| it.subject == results("one", 0)));
    bridge.wait_for("the line", || bridge.log().contains("there is no remote: commits stay local"));
    cloud.submit(&Doc::noop("two"));
    bridge.local_history("the commit", |history| history.iter().any(|it| it.subject == results("two", 0)));
    assert_eq!(bridge.log().matches("there is no remote").count(), 1);
    bridge.stop();
}

#[test]
fn a_mirror_gets_the_branch_and_doctor_says_what_it_is() {
    let cloud = Cloud::new();
    cloud.git(&["config", "remote.origin.mirror", "true"]);
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("one"));
    bridge.stop();
    let doctor = cloud.bridge(&["doctor"]).output().unwrap();
    assert!(describe(&doctor).contains("origin is a mirror"), "{}", describe(&doctor));
}

#[test]
fn the_first_failure_after_a_start_is_a_warning_in_gits_own_words() {
    let cloud = Cloud::new();
    cloud.git(&["remote", "set-url", "origin", "/nowhere/at/all.git"]);
    let bridge = Bridge::start(&cloud);
    let words = "'/nowhere/at/all.git' does not appear to be a git repository";
    bridge.wait_for("the warning", || bridge.log().lines().any(|line| line.contains("WARN") && line.contains(words)));
    let failure = || bridge.get("/status").json()["publishing"]["last_failure"].as_str().map(str::to_owned);
    bridge.wait_for("the status", || failure().is_some_and(|failure| failure.contains(words)));
    cloud.git(&["remote", "set-url", "origin", cloud.remote().to_str().unwrap()]);
    bridge.run(&Doc::noop("one"));
    bridge.wait_for("its end", || failure().is_none());
    bridge.stop();
}

#[test]
fn doctor_sees_what_a_remote_on_this_machine_would_refuse() {
    let cloud = Cloud::new();
    let other = cloud.other_clone();
    cloud.git(&["remote", "set-url", "origin", other.to_str().unwrap()]);
    let check = |words: &str, fails: bool| {
        let output = cloud.bridge(&["doctor"]).output().unwrap();
        let said = describe(&output);
        assert!(said.contains(words) && (output.status.code() == Some(1)) == fails, "{words}: {said}");
    };
    check("has main checked out", true);
    cloud.git_at(&other, &["config", "receive.denyCurrentBranch", "updateInstead"]);
    cloud.git_at(&other, &["config", "receive.maxInputSize", "1m"]);
    check("takes no push over 1m", false);
    cloud.git_at(&other, &["config", "receive.hideRefs", "refs/heads"]);
    check("hides main", true);
}
