//! Other people's work in CLOUD: dirty, staged and untracked files, local commits, hooks. The bridge touches none of it.

use std::fs;

use crate::harness::cloud::{BINARY, describe, mode, set_mode};
use crate::harness::git::{assert_sound, results, with_subject};
use crate::harness::snapshot::{Snapshot, snapshot};
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, poll};

/// What the work tree holds beside the service's own folders.
fn theirs(cloud: &Cloud) -> Snapshot {
    let own =
        [".git", ".bridge.lock", "commands", "results", "diffs", "archive", "dead_letter", "logs", "meta", "upstream"];
    snapshot(cloud.root(), &own)
}

/// What is staged, with its content's hash.
fn staged(cloud: &Cloud) -> String {
    cloud.git(&["diff", "--cached", "--raw", "--no-abbrev", "--no-renames", "HEAD", "--", "work", "untracked"])
}

/// A work tree in the middle of somebody's work.
fn untidy(cloud: &Cloud) {
    for name in
        ["clean.txt", "dirty.txt", "both.txt", "removed.txt", "unstaged-removal.txt", "mode.sh", "contested.txt"]
    {
        cloud.write(&format!("work/{name}"), format!("{name}\n"));
    }
    cloud.git(&["add", "work"]);
    cloud.git(&["commit", "-q", "-m", "work"]);
    cloud.git(&["push", "-q"]);
    cloud.write("work/dirty.txt", "dirty\n");
    cloud.write("work/contested.txt", "my own words\n");
    cloud.write("work/both.txt", "staged\n");
    cloud.write("work/added.txt", "added\n");
    cloud.write("results/mine.txt", "a person's own file in a folder of the bridge's\n");
    cloud.git(&["add", "work/both.txt", "work/added.txt"]);
    cloud.write("work/both.txt", "staged, then changed\n");
    cloud.git(&["rm", "-q", "work/removed.txt"]);
    fs::remove_file(cloud.path("work/unstaged-removal.txt")).unwrap();
    set_mode(&cloud.path("work/mode.sh"), 0o755);
    cloud.write("untracked/deep/file.txt", "untracked\n");
    cloud.write(".env", "TOKEN=untracked\n");
    std::os::unix::fs::symlink("/nowhere", cloud.path("untracked/link")).unwrap();
}

/// The status lines of everything but what the bridge publishes.
fn status(cloud: &Cloud) -> Vec<String> {
    let text = cloud.git(&["status", "--porcelain", "--untracked-files=all"]);
    let shown = text.lines().filter(|line| {
        let path = &line[3..];
        ["work/", "untracked/", ".env", "README"].iter().any(|own| path.starts_with(own))
    });
    shown.map(str::to_owned).collect()
}

#[test]
fn dirty_staged_and_untracked_files_survive_publishing_rebasing_and_init() {
    let cloud = Cloud::new();
    untidy(&cloud);
    let other = cloud.other_clone();
    let (files, index, lines) = (theirs(&cloud), staged(&cloud), status(&cloud));
    assert!(lines.len() >= 10, "{lines:?}");
    let same = |when: &str| {
        assert_eq!(theirs(&cloud), files, "the files {when}");
        assert_eq!(status(&cloud), lines, "git status {when}");
        assert_eq!(staged(&cloud), index, "what is staged {when}");
    };
    let bridge = Bridge::start(&cloud);
    for number in 0..3 {
        bridge.run(&Doc::noop(&format!("beside-{number}")));
    }
    same("after publishing");
    // Upstream changes a file that is clean here, and makes the bridge rebase.
    for round in 0..3 {
        cloud.push_from(&other, &[("upstream/new.txt", &format!("{round}\n"))]);
        bridge.run(&Doc::noop(&format!("rebased-{round}")));
        bridge.wait_for("the upstream file", || {
            cloud.exists("upstream/new.txt") && cloud.text("upstream/new.txt") == format!("{round}\n")
        });
    }
    bridge.barrier();
    same("after rebasing");
    let init = cloud.program(BINARY).arg("init").arg(cloud.root()).output().unwrap();
    assert!(init.status.success(), "{}", describe(&init));
    same("after init");
    bridge.stop();
    same("after the end");
    let history = cloud.published();
    assert_sound(&history);
    for commit in history.iter().filter(|commit| commit.subject.starts_with("bridge: ")) {
        assert!(
            !commit.files.iter().any(|file| file.starts_with("work/") || file.starts_with("untracked/")),
            "{commit:?}"
        );
    }
}

#[test]
fn a_file_that_is_dirty_here_and_changed_upstream_keeps_what_is_here() {
    let cloud = Cloud::new();
    untidy(&cloud);
    let other = cloud.other_clone();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("first"));
    cloud.push_from(
        &other,
        &[
            ("work/contested.txt", "upstream's words\n"),
            ("work/clean.txt", "upstream\n"),
            ("untracked/deep/file.txt", "theirs\n"),
        ],
    );
    // The clean file follows upstream; the others are somebody's work.
    bridge.wait_for("the clean file to follow", || cloud.text("work/clean.txt") == "upstream\n");
    let history = bridge.barrier();
    assert_eq!(cloud.text("work/contested.txt"), "my own words\n");
    assert_eq!(cloud.text("untracked/deep/file.txt"), "untracked\n");
    assert_eq!(cloud.text("work/dirty.txt"), "dirty\n");
    assert_eq!(cloud.text("work/both.txt"), "staged, then changed\n");
    assert_sound(&history);
    assert_eq!(cloud.remote_git(&["show", "main:work/contested.txt"]), "upstream's words");
    bridge.stop();
}

#[test]
fn upstream_changes_reach_clean_files_with_modes_and_deletions() {
    let cloud = Cloud::new();
    for name in ["kept.txt", "gone.txt", "tool.sh"] {
        cloud.write(&format!("work/{name}"), name);
    }
    cloud.git(&["add", "work"]);
    cloud.git(&["commit", "-q", "-m", "work"]);
    cloud.git(&["push", "-q"]);
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("first"));
    let other = cloud.other_clone();
    fs::remove_file(other.join("work/gone.txt")).unwrap();
    set_mode(&other.join("work/tool.sh"), 0o755);
    cloud.push_from(&other, &[("work/kept.txt", "new\n"), ("work/deep/er/new.txt", "new\n")]);
    let executable = || mode(&cloud.path("work/tool.sh")) & 0o111 != 0;
    bridge.wait_for("the work tree to follow", || {
        !cloud.exists("work/gone.txt")
            && cloud.exists("work/deep/er/new.txt")
            && cloud.text("work/kept.txt") == "new\n"
            && executable()
    });
    bridge.barrier();
    bridge.status_becomes("");
    bridge.stop();
}

#[test]
fn a_persons_hooks_and_local_commits_are_left_alone() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("first"));
    // A hook that would refuse every commit is none of the bridge's business: it runs no hooks for its own commits.
    let hook = cloud.path(".git/hooks/prepare-commit-msg");
    fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    set_mode(&hook, 0o755);
    bridge.run(&Doc::noop("hooked"));
    fs::remove_file(&hook).unwrap();
    bridge.status_becomes("");
    // A person commits in CLOUD while the bridge works; git may tell them to try again, and that is all.
    cloud.write("mine.txt", "mine\n");
    let committed = poll(PATIENCE, || {
        cloud.git_succeeds(cloud.root(), &["add", "mine.txt"])
            && cloud.git_succeeds(cloud.root(), &["commit", "-q", "-m", "mine"])
    });
    assert!(committed, "a person could not commit");
    bridge.run(&Doc::noop("after"));
    let history = bridge.history("the person's commit", |history| !with_subject(history, "mine").is_empty());
    assert_sound(&history);
    assert_eq!(with_subject(&history, "mine")[0].files, ["mine.txt"]);
    assert_eq!(with_subject(&history, &results("after", 0)).len(), 1);
    bridge.status_becomes("");
    bridge.stop();
}
