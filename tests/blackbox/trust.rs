//! What lies in CLOUD is never run as the bridge: hooks, and whatever else git's configuration may name. Each is tried
//! with a program that leaves a mark.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::cloud::{describe, set_mode, write};
use crate::harness::{Bridge, Cloud, Doc};

/// Settings that name a program which no child of the bridge needs. `PROGRAM` stands for one in CLOUD.
const UNUSED: [(&str, &str); 30] = [
    ("core.fsmonitor", "PROGRAM"),
    ("core.editor", "PROGRAM"),
    ("core.pager", "PROGRAM"),
    ("pager.log", "PROGRAM"),
    ("pager.config", "PROGRAM"),
    ("sequence.editor", "PROGRAM"),
    ("alias.fetch", "!PROGRAM"),
    ("alias.push", "!PROGRAM"),
    ("alias.rev-list", "!PROGRAM"),
    ("filter.x.clean", "PROGRAM"),
    ("filter.x.smudge", "PROGRAM"),
    ("filter.x.process", "PROGRAM"),
    ("diff.external", "PROGRAM"),
    ("diff.x.command", "PROGRAM"),
    ("diff.x.textconv", "PROGRAM"),
    ("merge.x.driver", "PROGRAM"),
    ("difftool.x.cmd", "PROGRAM"),
    ("mergetool.x.cmd", "PROGRAM"),
    ("mergetool.x.path", "PROGRAM"),
    ("browser.x.cmd", "PROGRAM"),
    ("man.x.cmd", "PROGRAM"),
    ("guitool.x.cmd", "PROGRAM"),
    ("interactive.diffFilter", "PROGRAM"),
    ("trailer.x.command", "PROGRAM"),
    ("submodule.x.update", "!PROGRAM"),
    ("sendemail.sendmailCmd", "PROGRAM"),
    ("imap.tunnel", "PROGRAM"),
    ("tar.x.command", "PROGRAM"),
    ("web.browser", "PROGRAM"),
    ("log.showSignature", "true"),
];

/// Settings that name a program which a child may need.
const NEEDED: [(&str, &str); 22] = [
    ("core.sshCommand", "PROGRAM"),
    ("core.sshCommand", "./tools/mark"),
    ("core.sshCommand", "sh tools/mark"),
    ("core.askPass", "PROGRAM"),
    ("core.gitProxy", "PROGRAM"),
    ("core.alternateRefsCommand", "PROGRAM"),
    ("credential.helper", "PROGRAM"),
    ("credential.helper", "!tools/mark"),
    ("credential.https://example.org.helper", "!f() { PROGRAM; }; f"),
    ("gpg.program", "PROGRAM"),
    ("gpg.ssh.program", "tools/mark"),
    ("gpg.ssh.defaultKeyCommand", "PROGRAM"),
    ("remote.origin.uploadpack", "PROGRAM"),
    ("remote.origin.receivepack", "./tools/mark"),
    ("remote.origin.vcs", "PROGRAM"),
    ("remote.origin.pushurl", "ext::PROGRAM"),
    ("remote.origin.pushurl", "sub/bare.git"),
    ("uploadpack.packObjectsHook", "PROGRAM"),
    ("gc.recentObjectsHook", "PROGRAM"),
    ("include.path", "../tools/gitconfig"),
    ("includeIf.onbranch:main.path", "../tools/gitconfig"),
    ("url.ext::PROGRAM .insteadOf", "nowhere:"),
];

/// A program that leaves a mark, in CLOUD; and where it leaves it.
fn mark(cloud: &Cloud) -> (PathBuf, PathBuf) {
    let marks = cloud.world().join("marks");
    let program = cloud.path("tools/mark");
    script(&program, &format!("echo \"$0 $*\" >> {}", marks.display()));
    (program, marks)
}

fn script(path: &Path, body: &str) {
    write(path, format!("#!/bin/sh\n{body}\n"));
    set_mode(path, 0o755);
}

/// Puts the same program under the name of every hook that a client's git has.
fn hooks(folder: PathBuf, body: &str) {
    for name in [
        "pre-push",
        "reference-transaction",
        "post-index-change",
        "post-checkout",
        "post-merge",
        "post-rewrite",
        "pre-auto-gc",
        "fsmonitor-watchman",
        "pre-commit",
        "post-commit",
        "update",
        "pre-receive",
    ] {
        script(&folder.join(name), body);
    }
}

#[test]
fn no_hook_that_lies_in_cloud_runs_and_the_remotes_own_do() {
    let cloud = Cloud::new();
    let (_, marks) = mark(&cloud);
    let body = format!("echo \"$0 $*\" >> {}; exit 1", marks.display());
    hooks(cloud.path("hooks"), &body);
    cloud.git(&["config", "core.hooksPath", "hooks"]);
    let served = cloud.world().join("served");
    script(&cloud.remote().join("hooks/pre-receive"), &format!("cat >> {}", served.display()));
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("one"));
    // One that a command wrote is an ordinary file, too.
    bridge.run(&Doc::write("two", "hooks/pre-merge-commit", "#!/bin/sh\nfalse\n"));
    let other = cloud.other_clone();
    cloud.push_from(&other, &[("from/upstream.txt", "x\n")]);
    bridge.wait_for("the checkout", || cloud.exists("from/upstream.txt"));
    bridge.run(&Doc::noop("three"));
    bridge.stop();
    assert!(served.exists(), "the remote's own hook");
    assert!(!marks.exists(), "{}", fs::read_to_string(&marks).unwrap());
    let doctor = cloud.bridge(&["doctor"]).output().unwrap();
    assert!(describe(&doctor).contains("lies in CLOUD: the bridge runs no hook"), "{}", describe(&doctor));
    assert!(!marks.exists());
}

#[test]
fn settings_that_no_child_needs_run_nothing() {
    let cloud = Cloud::new();
    let (program, marks) = mark(&cloud);
    write(&cloud.path(".git/info/attributes"), "* filter=x diff=x merge=x\n");
    for (key, value) in UNUSED {
        let value = value.replace("PROGRAM", program.to_str().unwrap());
        cloud.git(&["config", key, &value]);
    }
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::write("one", "docs/a.txt", "a\n"));
    let other = cloud.other_clone();
    cloud.push_from(&other, &[("from/upstream.txt", "x\n")]);
    bridge.wait_for("the checkout", || cloud.exists("from/upstream.txt"));
    bridge.run(&Doc::noop("two"));
    for arguments in [
        &["doctor"][..],
        &["status"],
        &["show", "one"],
        &["audit", "--all"],
        &["init", cloud.root().to_str().unwrap()],
        &["replay", "one"],
        &["revert", "one"],
        &["smoke"],
    ] {
        let output = cloud.bridge(arguments).output().unwrap();
        assert!(!marks.exists(), "{arguments:?}: {}", describe(&output));
    }
    bridge.kill();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("three"));
    bridge.stop();
    assert!(!marks.exists(), "{}", fs::read_to_string(&marks).unwrap());
}

#[test]
fn settings_that_a_child_may_need_are_refused_where_they_name_something_in_cloud() {
    let cloud = Cloud::new();
    let (program, marks) = mark(&cloud);
    write(&cloud.path("tools/gitconfig"), format!("[core]\n\tsshCommand = {}\n", program.display()));
    let mut faults = Vec::new();
    for (key, value) in NEEDED {
        let (key, value) = (key.replace("PROGRAM", "./x"), value.replace("PROGRAM", program.to_str().unwrap()));
        let before = cloud.text(".git/config");
        cloud.git(&["config", &key, &value]);
        let run = cloud.bridge(&["run"]).output().unwrap();
        let doctor = cloud.bridge(&["doctor"]).output().unwrap();
        let init = cloud.bridge(&["init", cloud.root().to_str().unwrap()]).output().unwrap();
        cloud.write(".git/config", before);
        let section = key.split('.').next().unwrap();
        let named =
            |text: &str| text.contains("what others write") && (text.contains(section) || text.contains("gitconfig"));
        let said = [&run.stderr, &doctor.stdout, &init.stdout].map(|text| named(&String::from_utf8_lossy(text)));
        if run.status.code() != Some(78) || doctor.status.code() != Some(1) || said.contains(&false) || marks.exists() {
            let all = [&run, &doctor, &init].map(describe).join("\n");
            faults.push(format!("{key} = {value}: marked {}, said {said:?}, {all}", marks.exists()));
        }
        let _ = fs::remove_file(&marks);
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n\n"));
    // The same of a target; and where a program lies elsewhere, it runs.
    let site = cloud.fresh("site");
    script(&site.join("mark"), "exit 0");
    let config = cloud.config(&format!("[targets.SITE]\nroot = {site:?}\n"));
    cloud.git(&["config", "core.sshCommand", site.join("mark").to_str().unwrap()]);
    let run = cloud.bridge(&["run", "--config", config.to_str().unwrap()]).output().unwrap();
    assert!(run.status.code() == Some(78) && describe(&run).contains("lies in the target"), "{}", describe(&run));
    let outside = cloud.fresh("bin").join("ssh");
    script(
        &outside,
        &format!("echo ran >> {}; echo 'me@host: Permission denied (publickey).' >&2; exit 255", marks.display()),
    );
    cloud.git(&["config", "core.sshCommand", outside.to_str().unwrap()]);
    cloud.git(&["remote", "set-url", "origin", "ssh://me@host/x.git"]);
    let bridge = Bridge::start(&cloud);
    bridge.wait_for("the operator's own ssh", || marks.exists());
    // What only a person can help with is said at once, in git's own words.
    bridge.wait_for("the reason", || bridge.get("/readyz").body.contains("Permission denied (publickey)"));
    assert!(bridge.log().contains("a person has to see to it"), "{}", bridge.log());
    bridge.stop();
}

#[test]
fn a_configuration_that_turns_bad_while_the_bridge_runs_holds_up_pushes_until_it_is_mended() {
    let cloud = Cloud::new();
    let (program, marks) = mark(&cloud);
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("one"));
    cloud.git(&["config", "remote.origin.receivepack", program.to_str().unwrap()]);
    bridge.wait_for("the reason", || bridge.get("/readyz").body.contains("remote.origin.receivepack"));
    cloud.submit(&Doc::noop("two"));
    bridge.local_history("the commit", |history| history.iter().any(|it| it.subject == "bridge: results two (exit=0)"));
    assert!(!marks.exists());
    cloud.git(&["config", "--unset", "remote.origin.receivepack"]);
    bridge.published("bridge: results two (exit=0)");
    bridge.wait_for("health", || bridge.get("/readyz").status == 200);
    bridge.stop();
}

#[test]
fn the_operators_own_hooks_run_where_they_are_wished_for_and_their_words_are_passed_on() {
    let cloud = Cloud::new();
    let (_, marks) = mark(&cloud);
    let own = cloud.fresh("hooks");
    let verdict = cloud.world().join("verdict");
    fs::write(&verdict, "0").unwrap();
    script(
        &own.join("pre-push"),
        &format!(
            "echo \"$0\" >> {}; [ \"$(cat {})\" = 0 ] && exit 0; echo 'the budget of pushes is spent'; exit 1",
            marks.display(),
            verdict.display()
        ),
    );
    cloud.git(&["config", "core.hooksPath", own.to_str().unwrap()]);
    let without = Bridge::start(&cloud);
    without.run(&Doc::noop("one"));
    without.stop();
    assert!(!marks.exists(), "they are off");
    let wished = |command: &mut std::process::Command| {
        command.env("GHOST_BRIDGE__PUBLISH__HOOKS", "true").env("GHOST_BRIDGE__PUBLISH__ATTEMPTS", "2");
    };
    let bridge = Bridge::start_with(&cloud, wished);
    bridge.run(&Doc::noop("two"));
    assert!(marks.exists());
    fs::write(&verdict, "1").unwrap();
    cloud.submit(&Doc::noop("three"));
    bridge.wait_for("the hook's words", || bridge.get("/readyz").body.contains("the budget of pushes is spent"));
    assert!(bridge.get("/status").json()["publishing"]["last_failure"].as_str().unwrap().contains("budget"));
    fs::write(&verdict, "0").unwrap();
    bridge.published("bridge: results three (exit=0)");
    bridge.stop();
    // Not from where others write, be it by a link.
    fs::remove_file(own.join("pre-push")).unwrap();
    cloud.git(&["config", "core.hooksPath", "tools"]);
    let refused = |words: &str| {
        let mut command = cloud.bridge(&["run"]);
        wished(&mut command);
        let output = command.output().unwrap();
        assert!(output.status.code() == Some(78) && describe(&output).contains(words), "{}", describe(&output));
    };
    refused("core.hookspath");
    cloud.git(&["config", "--unset", "core.hooksPath"]);
    std::os::unix::fs::symlink("../../tools/mark", cloud.path(".git/hooks/pre-push")).unwrap();
    refused("the hook pre-push");
}

#[test]
fn variables_that_were_inherited_for_another_repository_change_nothing() {
    let cloud = Cloud::new();
    let place = cloud.fresh("elsewhere");
    fs::create_dir(&place).unwrap();
    let at = |name: &str| place.join(name).to_str().unwrap().to_owned();
    let lead_astray = |command: &mut std::process::Command| {
        command.env("GIT_DIR", at("dir")).env("GIT_WORK_TREE", at("tree")).env("GIT_INDEX_FILE", at("index"));
        command.env("GIT_OBJECT_DIRECTORY", at("objects")).env("GIT_COMMON_DIR", at("common"));
        command.env("GIT_NAMESPACE", "other").env("GIT_CEILING_DIRECTORIES", cloud.root()).env("GIT_PREFIX", "x/");
        command
            .env("GIT_TRACE", at("trace"))
            .env("GIT_TRACE2_EVENT", at("trace2"))
            .env("GIT_SHALLOW_FILE", at("shallow"));
        command.env("GIT_CONFIG_PARAMETERS", "'core.worktree'='/nowhere'").env("GIT_QUARANTINE_PATH", at("quarantine"));
        command.env("GIT_REPLACE_REF_BASE", "refs/x/").env("GIT_EXTERNAL_DIFF", "false").env("GIT_ATTR_SOURCE", "HEAD");
    };
    let bridge = Bridge::start_with(&cloud, lead_astray);
    bridge.run(&Doc::write("one", "docs/a.txt", "a\n"));
    bridge.run(&Doc::noop("two"));
    bridge.status_becomes("?? docs/a.txt");
    assert!(cloud.git(&["ls-files", "--", "results"]).contains("results/two.json"));
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE"] {
        assert!(bridge.log().contains(name), "{name} is told");
    }
    for arguments in [&["status"][..], &["doctor"], &["show", "one"], &["audit"], &["smoke"]] {
        let mut command = cloud.bridge(arguments);
        lead_astray(&mut command);
        let output = command.output().unwrap();
        assert!(output.status.code().is_some_and(|code| code == 0), "{arguments:?}: {}", describe(&output));
    }
    bridge.stop();
    cloud.git(&["fsck", "--strict"]);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}
