//! `replay` and `revert`: looking back at what was filed.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::cloud::{describe, mode, set_mode};
use crate::harness::git::{results, with_subject};
use crate::harness::snapshot::{Entry, Snapshot, snapshot};
use crate::harness::{Bridge, Cloud, Doc};

/// What lies at the top of CLOUD and belongs to the bridge or to git.
const SERVICE: [&str; 11] = [
    ".git",
    ".bridge.lock",
    "commands",
    "meta",
    "results",
    "diffs",
    "archive",
    "dead_letter",
    "logs",
    "summaries",
    "context",
];

const BINARY_BEFORE: &[u8] = b"\x00\xff\xfe before \x80";

fn deletions(command: &mut Command) -> &mut Command {
    command.env("GHOST_BRIDGE__TARGETS__MAIN__ALLOW_DELETE", "true")
}

fn start(cloud: &Cloud) -> Bridge<'_> {
    Bridge::start_with(cloud, |run| {
        deletions(run);
    })
}

/// The files of people in CLOUD; folders that a command made and emptied stay and do not count.
fn tree(cloud: &Cloud) -> Snapshot {
    let mut all = snapshot(cloud.root(), &SERVICE);
    all.retain(|_, entry| *entry != Entry::Folder);
    all
}

/// The same with the modes that git keeps.
fn git_tree(cloud: &Cloud) -> Snapshot {
    let mut tree = tree(cloud);
    for entry in tree.values_mut() {
        if let Entry::File { mode, .. } = entry {
            *mode = if *mode & 0o100 == 0 { 0o644 } else { 0o755 };
        }
    }
    tree
}

fn call(cloud: &Cloud, arguments: &[&str]) -> Output {
    deletions(&mut cloud.bridge(arguments)).output().unwrap()
}

fn replay(cloud: &Cloud, arguments: &[&str], status: i32) -> String {
    let output = call(cloud, &[&["replay"], arguments].concat());
    assert_eq!(output.status.code(), Some(status), "replay {arguments:?}: {}", describe(&output));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The printed revert.
fn revert(cloud: &Cloud, id: &str) -> Value {
    let output = call(cloud, &["revert", id]);
    assert_eq!(output.status.code(), Some(0), "revert {id}: {}", describe(&output));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Why there is none: one line.
fn no_revert(cloud: &Cloud, id: &str) -> String {
    let output = call(cloud, &["revert", id]);
    assert_eq!(output.status.code(), Some(1), "revert {id}: {}", describe(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

/// Gives a printed revert to `sign --submit`; returns its id.
fn submit(cloud: &Cloud, document: &Value) -> String {
    let mut sign = cloud.bridge(&["sign", "--submit"]);
    let mut child = sign.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "nothing speaks against it");
    document["id"].as_str().unwrap().to_owned()
}

fn put_files(cloud: &Cloud) {
    let text: String = (1..=40).map(|line| format!("line {line}\n")).collect();
    let files: [(&str, &[u8], u32); 9] = [
        ("docs/edited.txt", b"one two one\n", 0o644),
        ("docs/gone.sh", b"#!/bin/sh\nno newline at the end", 0o755),
        ("docs/moved.txt", b"moved as it is\n", 0o640),
        ("docs/moved and edited.txt", text.as_bytes(), 0o755),
        ("docs/binary.dat", BINARY_BEFORE, 0o644),
        ("docs/gone.dat", BINARY_BEFORE, 0o755),
        ("docs/mode.sh", b"echo\n", 0o644),
        ("docs/empty", b"", 0o644),
        ("docs/patched.txt", b"a\nb\nc\n", 0o644),
    ];
    for (path, content, mode) in files {
        cloud.write(path, content);
        set_mode(&cloud.path(path), mode);
    }
    cloud.git(&["add", "docs"]);
    cloud.git(&["commit", "-q", "-m", "docs"]);
}

fn everything(id: &str) -> Doc {
    let diff = "--- a/docs/patched.txt\n+++ b/docs/patched.txt\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n";
    let ops = json!([
        { "op": "writeFile", "path": "new/made.txt", "content": "made\u{e4}\n", "mode": "0755" },
        { "op": "writeFile", "path": "docs/binary.dat", "content": "AP+A", "encoding": "base64" },
        { "op": "replaceText", "path": "docs/edited.txt", "search": "one", "replace": "1", "count": 2 },
        { "op": "moveFile", "from": "docs/moved.txt", "to": "new/moved.txt" },
        { "op": "moveFile", "from": "docs/moved and edited.txt", "to": "new/edited.txt" },
        { "op": "replaceText", "path": "new/edited.txt", "search": "line 7\n", "replace": "LINE 7\n" },
        { "op": "writeFile", "path": "docs/mode.sh", "content": "echo\n", "mode": "0755" },
        { "op": "deleteFile", "path": "docs/gone.sh" },
        { "op": "deleteFile", "path": "docs/gone.dat" },
        { "op": "deleteFile", "path": "docs/empty" },
        { "op": "applyDiff", "diff": diff },
    ]);
    Doc::new(id, ops).with("patchType", json!("hybrid"))
}

#[test]
fn a_revert_brings_everything_back_and_a_replay_comes_to_the_same() {
    let cloud = Cloud::new();
    put_files(&cloud);
    let (before, commit) = (git_tree(&cloud), cloud.git(&["rev-parse", "HEAD"]));
    let bridge = start(&cloud);
    bridge.run(&everything("all"));
    let after = tree(&cloud);
    assert_ne!(git_tree(&cloud), before);

    // The tree before it, three times: undone in memory, as a commit, and as a folder that somebody checked out.
    let report = replay(&cloud, &["all"], 0);
    assert!(report.contains("undone in memory") && report.contains("same"), "{report}");
    assert!(report.contains("holds, by the current secret"), "{report}");
    let report = replay(&cloud, &["all", "--on", &commit], 0);
    assert!(report.contains(&commit) && report.contains("same"), "{report}");
    let checkout = cloud.fresh("checkout");
    cloud.git(&["worktree", "add", "-q", "--detach", checkout.to_str().unwrap(), &commit]);
    replay(&cloud, &["all", "--on", checkout.to_str().unwrap()], 0);
    // On another tree something else comes of it, or nothing.
    cloud.write("docs/edited.txt", "x");
    fs::write(checkout.join("docs/edited.txt"), "one two three one\n").unwrap();
    let report = replay(&cloud, &["all", "--on", checkout.to_str().unwrap()], 1);
    assert!(report.contains("different") && report.contains("diff --git a/docs/edited.txt"), "{report}");
    let report = replay(&cloud, &["all", "--on", cloud.root().to_str().unwrap()], 1);
    assert!(report.contains("patch_conflict") || report.contains("precondition_failed"), "{report}");
    let report = replay(&cloud, &["all"], 1);
    assert!(report.contains("docs/edited.txt was changed since") && report.contains("--on"), "{report}");
    cloud.write("docs/edited.txt", "1 two 1\n");
    assert_eq!(tree(&cloud), after, "looking back changes nothing");

    let document = revert(&cloud, "all");
    assert_eq!(document["annotations"], json!({ "reverts": "all" }));
    assert_eq!(document["allowedActions"], json!(["writeFile", "moveFile", "deleteFile"]));
    assert!(document.get("hmac").is_none());
    let id = submit(&cloud, &document);
    bridge.published(&results(&id, 0));
    bridge.emptied();
    assert_eq!(git_tree(&cloud), before, "byte for byte and mode for mode");
    assert_eq!(mode(&cloud.path("docs/moved.txt")), 0o640, "what is moved back keeps its very mode");

    // The other way round it is a command like any other.
    replay(&cloud, &["all", "--on", cloud.root().to_str().unwrap()], 0);
    let line = no_revert(&cloud, "all");
    assert!(line.contains("cannot be taken back") && line.contains("was changed since"), "{line}");
    let again = submit(&cloud, &revert(&cloud, &id));
    bridge.published(&results(&again, 0));
    bridge.emptied();
    assert_eq!(tree(&cloud), after);
    bridge.stop();
}

#[test]
fn a_revert_cannot_hit_a_file_that_changed_after_it_was_printed() {
    let cloud = Cloud::new();
    let bridge = start(&cloud);
    cloud.write("docs/a.txt", "before\n");
    let ops = json!([
        { "op": "writeFile", "path": "docs/a.txt", "content": "after\n" },
        { "op": "writeFile", "path": "docs/b.txt", "content": "made\n" },
    ]);
    bridge.run(&Doc::new("edit", ops));
    let document = revert(&cloud, "edit");
    for (number, path) in ["docs/a.txt", "docs/b.txt"].into_iter().enumerate() {
        let own = cloud.read(path);
        cloud.write(path, "mine\n");
        let line = no_revert(&cloud, "edit");
        assert!(line.contains(path) && line.contains("git apply -R"), "{line}");
        let printed = Doc::noop(&format!("late-{number}"));
        let late = ["payload", "constraints", "allowedActions"]
            .into_iter()
            .fold(printed, |late, field| late.with(field, document[field].clone()));
        cloud.submit(&late);
        let letter = format!("dead_letter/{}.json", late.id());
        bridge.wait_for("the dead letter", || cloud.exists(&letter));
        bridge.emptied();
        assert_eq!(cloud.json(&letter)["reason"], json!("precondition_failed"));
        assert_eq!(cloud.text(path), "mine\n");
        cloud.write(path, own);
    }
    let id = submit(&cloud, &document);
    bridge.published(&results(&id, 0));
    assert_eq!((cloud.text("docs/a.txt").as_str(), cloud.exists("docs/b.txt")), ("before\n", false));
    bridge.stop();
}

#[test]
fn a_pure_rename_and_a_mode_are_known_by_the_result_alone() {
    let cloud = Cloud::new();
    cloud.write("docs/a.txt", "a\n");
    cloud.write("docs/tool", "t\n");
    let bridge = start(&cloud);
    let ops = json!([
        { "op": "moveFile", "from": "docs/a.txt", "to": "docs/b.txt" },
        { "op": "writeFile", "path": "docs/tool", "content": "t\n", "mode": "0755" },
    ]);
    bridge.run(&Doc::new("names", ops));
    bridge.stop();
    for path in ["docs/b.txt", "docs/tool"] {
        let own = cloud.read(path);
        fs::write(cloud.path(path), "changed\n").unwrap();
        assert!(no_revert(&cloud, "names").contains(&format!("{path} was changed since")));
        fs::write(cloud.path(path), own).unwrap();
    }
    set_mode(&cloud.path("docs/tool"), 0o644);
    assert!(no_revert(&cloud, "names").contains("its mode is"));
    set_mode(&cloud.path("docs/tool"), 0o755);
    let document = revert(&cloud, "names");
    assert_eq!(document["allowedActions"], json!(["writeFile", "moveFile"]), "nothing need be deleted");
    fs::remove_file(cloud.path("results/names.json")).unwrap();
    assert!(no_revert(&cloud, "names").contains("cannot be told"));
}

#[test]
fn what_cannot_be_taken_back_is_said_in_one_line() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("nothing"));
    bridge.run(&Doc::write("made", "docs/made.txt", "x\n"));
    cloud.submit(&Doc::write("escape", "../x", "x"));
    bridge.published("bridge: DLQ path_escape");
    cloud.write("docs/big.txt", "x\n".repeat(300_000));
    bridge.run(&Doc::write("shrink", "docs/big.txt", "small\n"));
    bridge.stop();

    for (id, words) in [
        ("nothing", "changed nothing"),
        ("escape", "left nothing behind"),
        ("unknown", "no command unknown in archive/"),
        ("shrink", "docs/big.txt"),
    ] {
        assert!(no_revert(&cloud, id).contains(words), "{id}: {}", no_revert(&cloud, id));
    }
    let replayed = replay(&cloud, &["unknown"], 1);
    assert!(replayed.contains("no command unknown"), "{replayed}");
    for subcommand in ["replay", "revert"] {
        for bad in ["../archive/made", "made.json", "", "a/b", "/etc/passwd"] {
            let output = call(&cloud, &[subcommand, bad]);
            assert_eq!(output.status.code(), Some(64), "{subcommand} {bad:?}: {}", describe(&output));
        }
    }
    let output = call(&cloud, &["replay", "made", "--on", "no-such-branch"]);
    assert_eq!(output.status.code(), Some(64), "{}", describe(&output));

    // Where the target allows no deletions the command is printed all the same, with a warning.
    let output = cloud.bridge(&["revert", "made"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("allow_delete = false"), "{}", describe(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["payload"]["inline"]["ops"][0]["op"], json!("deleteFile"));

    // A diff that is not the one on file is not believed.
    let patch = cloud.text("diffs/made.patch").replace("+x\n", "+y\n");
    cloud.write("diffs/made.patch", patch);
    assert!(no_revert(&cloud, "made").contains("diffs/made.patch is not what the bridge filed"));
    assert!(replay(&cloud, &["made"], 1).contains("diffs/made.patch is not what the bridge filed"));
}

#[test]
fn what_was_rolled_over_is_found_and_what_was_refused_is_planned_too() {
    let cloud = Cloud::new();
    cloud.write("docs/a.txt", "a\n");
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::write("rolled", "docs/a.txt", "b\n"));
    cloud.submit(&Doc::write("escape", "../x", "x"));
    bridge.published("bridge: DLQ path_escape");
    let plan = json!([{ "check": "exists", "path": "docs/missing.txt" }]);
    cloud.submit(&Doc::write("checked", "docs/c.txt", "c\n").with("validationPlan", plan));
    let history = bridge.published(&results("checked", 1));
    assert_eq!(with_subject(&history, &results("rolled", 0)).len(), 1);
    bridge.stop();
    for (folder, names) in [
        ("archive", vec!["rolled.json"]),
        ("diffs", vec!["rolled.patch"]),
        ("results", vec!["rolled.json", "rolled.integrity.json"]),
    ] {
        let segment = cloud.path(folder).join("2026/01/02/0003");
        fs::create_dir_all(&segment).unwrap();
        for name in names {
            fs::rename(cloud.path(folder).join(name), segment.join(name)).unwrap();
        }
    }
    assert!(replay(&cloud, &["rolled"], 0).contains("archive/2026/01/02/0003/rolled.json"));
    let document = revert(&cloud, "rolled");
    assert_eq!(document["payload"]["inline"]["ops"][0]["content"], json!("a\n"));
    let report = replay(&cloud, &["escape"], 0);
    assert!(report.contains("dead_letter/escape.json") && report.contains("for the same reason"), "{report}");
    assert!(replay(&cloud, &["checked"], 0).contains("validation_failed"));
    cloud.write("docs/missing.txt", "there now\n");
    assert!(replay(&cloud, &["checked"], 1).contains("would execute it now"));

    // No secret is needed; another one is said to be another one.
    let output = cloud.bridge(&["replay", "rolled"]).env_remove("GPT_BRIDGE_HMAC_SECRET").output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("no secret is set"));
    let mut other = cloud.bridge(&["replay", "rolled"]);
    let output = other.env("GPT_BRIDGE_HMAC_SECRET", "another secret of 16 bytes").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("DOES NOT HOLD"), "{}", describe(&output));
    let output = cloud.bridge(&["revert", "rolled"]).env_remove("GPT_BRIDGE_HMAC_SECRET").output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
}

#[test]
fn a_commit_is_read_beneath_the_targets_root_without_a_trace() {
    let cloud = Cloud::new();
    let site = cloud.world().join("repository/web [site]");
    let repository = cloud.world().join("repository");
    fs::create_dir_all(site.join("css")).unwrap();
    cloud.git_at(&repository, &["init", "-q"]);
    fs::write(site.join("css/main.css"), "a {}\n").unwrap();
    fs::write(site.join("Read.me"), "x\n").unwrap();
    fs::write(repository.join("css"), "elsewhere\n").unwrap();
    std::os::unix::fs::symlink("/etc", site.join("link")).unwrap();
    cloud.git_at(&repository, &["add", "--all"]);
    cloud.git_at(&repository, &["commit", "-q", "-m", "begin"]);
    cloud.git_at(&repository, &["tag", "then"]);
    let config = cloud.config(&format!("[targets.SITE]\nroot = {:?}\n", site.to_str().unwrap()));
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("GHOST_BRIDGE_CONFIG", &config);
    });
    let ops = json!([
        { "op": "writeFile", "path": "css/main.css", "content": "b {}\n" },
        { "op": "writeFile", "path": "new/page.html", "content": "<p>\n" },
    ]);
    bridge.run(&Doc::new("site", ops).on("SITE"));
    bridge.stop();
    let replay = |id: &str, on: &str| {
        let mut command = cloud.bridge(&["replay", id, "--on", on]);
        let output = command.env("GHOST_BRIDGE_CONFIG", &config).output().unwrap();
        (output.status.code().unwrap(), describe(&output))
    };
    let before = snapshot(&repository, &[]);
    let (status, report) = replay("site", "then");
    assert_eq!(status, 0, "{report}");
    assert_eq!(snapshot(&repository, &[]), before, "neither work tree nor repository is touched");

    // Names beside the files count, and links are found: what stands in for them has no content.
    for (id, path, reason) in [("case", "read.me", "path_denied"), ("link", "link/x", "path_escape")] {
        let document = Doc::write(id, path, "x\n").on("SITE");
        let letter = json!({ "id": id, "reason": "expired", "detail": "", "command": document.value() });
        cloud.write(&format!("dead_letter/{id}.json"), letter.to_string());
        let (status, report) = replay(id, "then");
        assert!(status == 1 && report.contains(reason), "{id}: {report}");
    }
}
