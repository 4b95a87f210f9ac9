//! The formats in which git may keep objects and references: whatever it makes by default, `init` and `demo` make what
//! works, SHA-256 works throughout, and what does not work is refused by its name.

use std::fs;
use std::process::Command;

use crate::harness::cloud::{BINARY, OBJECT_FORMAT, describe};
use crate::harness::git::{assert_sound, results};
use crate::harness::{Bridge, Cloud, Doc};

/// What a git of tomorrow, or an operator, may have set.
const DEFAULTS: [(&str, &str); 2] = [(OBJECT_FORMAT, "sha256"), ("GIT_DEFAULT_REF_FORMAT", "reftable")];

/// What is tried in repositories of the other format too: what reads, makes or compares ids.
const IN_BOTH_FORMATS: [&str; 6] = ["audit::a_", "look_back::", "persons::", "pipeline::", "replay::", "rolling::"];

/// A template with all that a repository may be given from there, and a configuration that asks for it and more.
fn odd_defaults(cloud: &Cloud) {
    let template = cloud.world().join("template");
    fs::create_dir_all(template.join("hooks")).unwrap();
    fs::write(template.join("HEAD"), "ref: refs/heads/theirs\n").unwrap();
    fs::write(template.join("config"), "[core]\n\tbare = true\n").unwrap();
    fs::write(template.join("hooks/pre-commit"), "#!/bin/sh\nexit 1\n").unwrap();
    let config = cloud.world().join("home/gitconfig");
    let before = fs::read_to_string(&config).unwrap();
    let more = format!(
        "[init]\n\tdefaultBranch = trunk\n\tdefaultObjectFormat = sha256\n\tdefaultRefFormat = reftable\n\ttemplateDir = {}\n",
        template.display()
    );
    fs::write(config, before + &more).unwrap();
}

#[test]
fn init_makes_what_works_whatever_git_makes_by_default() {
    for set in [[].as_slice(), &DEFAULTS] {
        let cloud = Cloud::empty();
        odd_defaults(&cloud);
        let mut init = cloud.program(BINARY);
        init.arg("init").arg(cloud.root()).env_remove("GIT_DEFAULT_REF_FORMAT").envs(set.iter().copied());
        let output = init.output().unwrap();
        assert!(output.status.success(), "{}", describe(&output));
        assert_eq!(cloud.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
        let bridge = Bridge::start(&cloud);
        cloud.submit(&Doc::write("a", "a.txt", "a\n"));
        bridge.local_history("the commit", |all| all.iter().any(|commit| commit.subject == results("a", 0)));
        bridge.stop();
    }
}

#[test]
fn demo_works_whatever_git_makes_by_default() {
    for format in ["sha1", "sha256"] {
        let cloud = Cloud::empty();
        odd_defaults(&cloud);
        let mut demo = cloud.program(BINARY);
        let output = demo.arg("demo").env("TMPDIR", cloud.world()).envs(DEFAULTS).env(OBJECT_FORMAT, format).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    }
}

#[test]
fn references_as_reftable_are_refused_by_name() {
    let cloud = Cloud::empty();
    let made = cloud.program("git").args(["init", "-q", "--ref-format=reftable"]).arg(cloud.root()).output().unwrap();
    if !made.status.success() {
        println!("SKIPPED: this git knows no reftable");
        return;
    }
    let refused = |command: &mut Command, status: i32| {
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{}", describe(&output));
        assert!(said.contains("reftable") && said.contains("--ref-format=files"), "{}", describe(&output));
    };
    refused(&mut cloud.bridge(&["init"]), 78);
    refused(&mut cloud.bridge(&["run"]), 78);
    refused(&mut cloud.bridge(&["doctor"]), 1);
    assert!(!cloud.exists("commands"), "nothing is created by half");
}

#[test]
fn a_remote_may_keep_its_references_as_it_likes() {
    let cloud = Cloud::new();
    let remote = cloud.fresh("reftable").with_extension("git");
    let mut init = cloud.program("git");
    let made =
        init.args(["init", "-q", "--bare", "-b", "main", "--ref-format=reftable"]).arg(&remote).output().unwrap();
    if !made.status.success() {
        println!("SKIPPED: this git knows no reftable");
        return;
    }
    cloud.git(&["remote", "set-url", "origin", remote.to_str().unwrap()]);
    let bridge = Bridge::start(&cloud);
    cloud.submit(&Doc::write("a", "a.txt", "a\n"));
    let subjects = || cloud.subjects(&remote).iter().any(|commit| commit.subject == results("a", 0));
    bridge.wait_for("the push", subjects);
    bridge.stop();
}

#[test]
fn a_sha256_repository_is_sound_whatever_a_person_does_there() {
    let cloud = Cloud::in_format("sha256");
    for place in [cloud.root().to_owned(), cloud.remote()] {
        assert_eq!(cloud.git_at(&place, &["rev-parse", "--show-object-format"]), "sha256");
    }
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::write("a", "binary", "a\0b"));
    cloud.git(&["gc", "-q", "--prune=now"]);
    bridge.run(&Doc::write("b", "binary", "c\0d"));
    let other = cloud.other_clone();
    let theirs = cloud.push_from(&other, &[("theirs.txt", "theirs\n")]);
    let history = bridge.run_beside(&Doc::write("c", "text", "c\n"));
    assert!(history.iter().any(|commit| commit.hash == theirs));
    bridge.published(&results("c", 0));
    assert_sound(&cloud.published());
    cloud.git(&["fsck", "--full", "--strict"]);
    cloud.remote_git(&["fsck", "--full", "--strict"]);
    assert_eq!(cloud.git(&["status", "--porcelain"]), "?? binary\n?? text");
    // The diff says what git says: it applies where the target is.
    cloud.git(&["apply", "-R", "diffs/b.patch"]);
    assert_eq!(cloud.read("binary"), b"a\0b");
    bridge.stop();
    for command in ["doctor", "audit"] {
        let output = cloud.bridge(&[command]).output().unwrap();
        assert!(output.status.success(), "{command}: {}", describe(&output));
    }
}

#[test]
fn a_diff_applies_in_the_repository_of_its_target_whatever_cloud_is() {
    let cloud = Cloud::in_format("sha256");
    let (mut toml, mut targets) = (String::new(), Vec::new());
    for (name, format) in [("OLD", Some("sha1")), ("NEW", Some("sha256")), ("NONE", None)] {
        let root = cloud.world().join(name);
        fs::create_dir(&root).unwrap();
        if let Some(format) = format {
            cloud.git_at(&root, &["init", "-q", "--object-format", format]);
        }
        fs::write(root.join("binary"), b"a\0b").unwrap();
        toml += &format!("[targets.{name}]\nroot = {:?}\n", root.to_str().unwrap());
        targets.push((name, root));
    }
    let config = cloud.config(&toml);
    let bridge = Bridge::start_with(&cloud, |run| {
        run.arg("--config").arg(&config);
    });
    for (name, root) in targets {
        bridge.run(&Doc::write(name, "binary", "c\0d").on(name));
        let patch = cloud.path(&format!("diffs/{name}.patch"));
        cloud.git_at(&root, &["apply", "-R", patch.to_str().unwrap()]);
        assert_eq!(fs::read(root.join("binary")).unwrap(), b"a\0b", "{name}");
    }
    bridge.stop();
}

/// The same tests, started once more where git makes SHA-256 repositories, or SHA-1 if it makes these anyway. A
/// `GIT_DEFAULT_HASH` of the caller's is taken for all of them.
#[test]
fn what_depends_on_ids_holds_in_repositories_of_the_other_format() {
    if std::env::var_os(OBJECT_FORMAT).is_some() {
        return;
    }
    let usual = Cloud::alone().git(&["rev-parse", "--show-object-format"]);
    let other = if usual == "sha1" { "sha256" } else { "sha1" };
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(IN_BOTH_FORMATS).env(OBJECT_FORMAT, other).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains(" 0 passed"), "{other}: {said}");
    println!("{other}: {}", said.lines().rfind(|line| line.starts_with("test result")).unwrap_or_default());
}
