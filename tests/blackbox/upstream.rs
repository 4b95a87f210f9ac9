//! What upstream sends, seen from outside: by somebody who can push and has no secret.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::harness::cloud::{describe, write};
use crate::harness::git::{results, with_subject};
use crate::harness::{Bridge, Cloud, Doc};

/// `git` in the remote with this standard input.
fn feed(cloud: &Cloud, arguments: &[&str], input: &[u8]) -> String {
    let mut git = cloud.program("git");
    let mut child =
        git.arg("-C").arg(cloud.remote()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Puts a commit on the remote's branch that adds one entry (`mode type id`, and a name) to its root.
fn add_entry(cloud: &Cloud, entry: &str, name: &str) -> String {
    let old = cloud.remote_git(&["rev-parse", "main"]);
    let root = cloud.remote_git(&["ls-tree", "main"]);
    let tree = feed(cloud, &["mktree"], format!("{root}\n{entry}\t{name}\n").as_bytes());
    let commit = feed(cloud, &["commit-tree", "-p", &old, "-m", "somebody", &tree], b"");
    cloud.remote_git(&["update-ref", "refs/heads/main", &commit, &old]);
    commit
}

fn reason(bridge: &Bridge<'_>) -> String {
    let status = bridge.get("/status").json();
    status["publishing"]["degraded_reason"].as_str().unwrap_or_default().to_owned()
}

/// A copy of CLOUD in which a person's git does what `arguments` say; returns where it is.
fn persons_copy(cloud: &Cloud, arguments: &[&str]) -> std::path::PathBuf {
    let copy = cloud.fresh("copy");
    let copied = cloud.program("cp").arg("-a").arg(cloud.root()).arg(&copy).output().unwrap();
    assert!(copied.status.success(), "{}", describe(&copied));
    let _whatever_it_says = cloud.git_succeeds(&copy, arguments);
    copy
}

#[test]
fn a_folder_called_git_reaches_neither_index_nor_disk_and_the_remedy_that_is_named_works() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("before"));
    let mark = cloud.world().join("mark");
    let script = format!("#!/bin/sh\ntouch '{}'\n", mark.display());
    let hook = feed(&cloud, &["hash-object", "-w", "--stdin"], script.as_bytes());
    let hooks = feed(&cloud, &["mktree"], format!("100755 blob {hook}\tpost-checkout\n").as_bytes());
    let git = feed(&cloud, &["mktree"], format!("040000 tree {hooks}\thooks\n").as_bytes());
    add_entry(&cloud, &format!("040000 tree {git}"), ".git");
    bridge.wait_for("the reason", || reason(&bridge).contains("\".git\""));
    assert_eq!(bridge.get("/readyz").status, 503);
    // Commands are executed, filed and committed here.
    cloud.submit(&Doc::noop("meanwhile"));
    bridge.local_history("the commit", |history| !with_subject(history, &results("meanwhile", 0)).is_empty());
    bridge.emptied();
    let remedy = reason(&bridge).split_once("set it back: ").unwrap().1.to_owned();
    bridge.stop();
    assert!(!cloud.git(&["ls-files"]).contains(".git/"));
    for arguments in [&["checkout", "--", "."][..], &["restore", "."], &["reset", "-q", "--hard"]] {
        let copy = persons_copy(&cloud, arguments);
        assert!(!copy.join(".git/hooks/post-checkout").exists(), "{arguments:?}");
    }
    assert!(!mark.exists());
    // It stays so over a start.
    let bridge = Bridge::start(&cloud);
    bridge.wait_for("the reason again", || reason(&bridge).contains("\".git\""));
    bridge.stop();
    cloud.git(&remedy.split(' ').skip(1).collect::<Vec<_>>());
    let bridge = Bridge::start(&cloud);
    bridge.published(&results("meanwhile", 0));
    bridge.wait_for("it to be ready", || bridge.get("/readyz").status == 200);
    bridge.stop();
}

#[test]
fn a_link_that_no_file_system_takes_is_left_out_told_once_and_holds_up_nothing() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let empty = feed(&cloud, &["hash-object", "-w", "--stdin"], b"");
    add_entry(&cloud, &format!("120000 blob {empty}"), "odd-link");
    bridge.wait_for("their commit", || cloud.git(&["ls-files"]).contains("odd-link"));
    bridge.run(&Doc::noop("after"));
    assert_eq!(bridge.log().matches("odd-link").count(), 1, "{}", bridge.log());
    bridge.status_becomes(" D odd-link");
    bridge.stop();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("after-a-start"));
    bridge.wait_for("it to be ready", || bridge.get("/readyz").status == 200);
    bridge.stop();
    // A person's checkout brings everything else.
    std::fs::remove_file(cloud.path("README.md")).unwrap();
    let copy = persons_copy(&cloud, &["checkout", "--", "."]);
    assert!(copy.join("README.md").exists());
}

#[test]
fn what_upstream_may_change_in_the_work_tree_is_the_operators_to_say() {
    for (checkout, dotted, denied, plain) in
        [("all", true, true, true), ("allowed", false, false, true), ("commands", false, false, false)]
    {
        let cloud = Cloud::new();
        let config =
            cloud.config(&format!("[targets.MAIN]\ndeny = [\"secret/**\"]\n[ingest]\ncheckout = \"{checkout}\"\n"));
        let bridge = Bridge::start_with(&cloud, |command| {
            command.arg("--config").arg(&config);
        });
        let other = cloud.other_clone();
        let document = String::from_utf8(Doc::noop("pushed").signed(&cloud.secret)).unwrap();
        let changes = [
            (".github/x", "x"),
            ("secret/x", "x"),
            ("docs/x", "x"),
            ("context/x", "x"),
            ("commands/pushed.json", &*document),
        ];
        cloud.push_from(&other, &changes);
        bridge.published(&results("pushed", 0));
        let found = [".github/x", "secret/x", "docs/x", "context/x"].map(|path| cloud.exists(path));
        assert_eq!(found, [dotted, denied, plain, true], "{checkout}");
        bridge.stop();
    }
}

#[test]
fn a_file_that_stands_apart_is_counted_named_and_forgotten_when_both_agree() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::write("writes", "docs/both.txt", "a command's\n"));
    let other = cloud.other_clone();
    cloud.push_from(&other, &[("docs/both.txt", "theirs\n")]);
    let counted = |count: f64| bridge.metric("ghost_bridge_files_apart") == Some(count);
    bridge.wait_for("the figure", || counted(1.0));
    assert_eq!(bridge.get("/status").json()["publishing"]["files_apart"], 1);
    bridge.wait_for("doctor to name it", || {
        let output = cloud.bridge(&["doctor"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("docs/both.txt")
    });
    cloud.git(&["checkout", "HEAD", "--", "docs/both.txt"]);
    bridge.wait_for("the figure to go", || counted(0.0));
    bridge.stop();
    let output = cloud.bridge(&["doctor"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("docs/both.txt"));
}

#[test]
fn two_bridges_on_one_branch_are_told_and_do_not_undo_each_other() {
    let cloud = Cloud::new();
    let first = Bridge::start(&cloud);
    first.run(&Doc::noop("one"));
    let clone = cloud.other_clone();
    let run_there = |command: &mut std::process::Command| {
        command.env("CLOUD", &clone);
    };
    let second = Bridge::start_with(&cloud, run_there);
    second.wait_for("the second to have looked", || second.get("/readyz").status == 200);
    // The second has something to publish: it is a rival from then on.
    let document = Doc::noop("two").signed(&cloud.secret);
    write(&clone.join("commands/.two.json"), document);
    std::fs::rename(clone.join("commands/.two.json"), clone.join("commands/two.json")).unwrap();
    second.published(&results("two", 0));
    first.wait_for("the first to say so", || reason(&first).contains("another bridge"));
    assert!(first.get("/readyz").body.contains("another bridge"));
    let tip = cloud.remote_git(&["rev-parse", "main"]);
    cloud.submit(&Doc::noop("three"));
    first.local_history("its own commit", |history| !with_subject(history, &results("three", 0)).is_empty());
    second.wait_for("the second to be well", || second.get("/readyz").status == 200);
    assert_eq!(cloud.remote_git(&["rev-parse", "main"]), tip, "nothing goes back and forth");
    second.stop();
    first.stop();
    // The one that is to stay is restarted.
    let first = Bridge::start(&cloud);
    first.published(&results("three", 0));
    first.wait_for("it to be well", || first.get("/readyz").status == 200);
    let history = cloud.published();
    for id in ["one", "two", "three"] {
        assert_eq!(with_subject(&history, &results(id, 0)).len(), 1, "{id}");
    }
    first.stop();
}

fn rewrite(cloud: &Cloud, other: &Path, to: &str, file: Option<&str>) {
    cloud.git_at(other, &["fetch", "-q"]);
    cloud.git_at(other, &["reset", "-q", "--hard", to]);
    if let Some(file) = file {
        write(&other.join(file), "x");
        cloud.git_at(other, &["add", "."]);
        cloud.git_at(other, &["commit", "-q", "-m", "rewritten"]);
    }
    cloud.git_at(other, &["push", "-q", "--force", "origin", "HEAD:main"]);
}

#[test]
fn the_readmes_remedy_for_a_rewritten_remote_works_and_the_figure_is_gits() {
    for file in [Some("rewritten.txt"), None] {
        let cloud = Cloud::new();
        let bridge = Bridge::start(&cloud);
        for id in ["a", "b", "c"] {
            bridge.run(&Doc::noop(id));
        }
        let first = cloud.published()[0].hash.clone();
        rewrite(&cloud, &cloud.other_clone(), &first, file);
        let rewritten = cloud.remote_git(&["rev-parse", "main"]);
        bridge.wait_for("the reason", || reason(&bridge).contains("was rewritten"));
        for id in ["d", "e"] {
            cloud.submit(&Doc::noop(id));
        }
        let has = |history: &[_], id: &str| !with_subject(history, &results(id, 0)).is_empty();
        bridge.local_history("both commits", |history| has(history, "d") && has(history, "e"));
        bridge.emptied();
        let gits = || cloud.git(&["rev-list", "--count", &format!("{rewritten}..HEAD")]).parse::<f64>().unwrap();
        assert!(gits() >= 5.0);
        bridge.wait_for("the figure to be git's", || bridge.metric("ghost_bridge_unpushed_commits") == Some(gits()));
        bridge.stop();
        // As the README says.
        cloud.git(&["fetch", "-q"]);
        cloud.git(&["rebase", "-q", "--autostash", "origin/main"]);
        cloud.git(&["update-ref", "-d", "refs/ghost-bridge/base"]);
        let bridge = Bridge::start(&cloud);
        let history = bridge.published(&results("e", 0));
        bridge.wait_for("it to be ready", || bridge.get("/readyz").status == 200);
        assert!(history.iter().any(|commit| commit.hash == rewritten), "their history is under it");
        for id in ["a", "b", "c", "d", "e"] {
            assert_eq!(with_subject(&history, &results(id, 0)).len(), 1, "{id}");
        }
        bridge.wait_for("the figure", || bridge.metric("ghost_bridge_unpushed_commits") == Some(0.0));
        bridge.run(&Doc::noop("f"));
        bridge.stop();
    }
}
