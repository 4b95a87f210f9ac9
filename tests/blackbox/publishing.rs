//! How outcomes reach the remote, and what the bridge does when the remote moves, goes away or is not there.

use std::fs;

use crate::harness::cloud::{set_mode, write};
use crate::harness::git::{Commit, assert_sound, results, with_subject};
use crate::harness::{Bridge, Cloud, Doc};

fn all_published(ids: &[String], history: &[Commit]) -> bool {
    ids.iter().all(|id| !with_subject(history, &results(id, 0)).is_empty())
}

fn assert_each_once(ids: &[String], history: &[Commit]) {
    for id in ids {
        assert_eq!(with_subject(history, &results(id, 0)).len(), 1, "one commit for {id}");
    }
}

#[test]
fn a_remote_that_others_move_on_loses_nothing() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let other = cloud.other_clone();
    let (mut ids, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..10 {
        for part in 0..3 {
            let id = format!("round-{round}-{part}");
            cloud.submit(&Doc::noop(&id));
            ids.push(id);
        }
        let path = format!("theirs/{round}.txt");
        theirs.push((cloud.push_from(&other, &[(&path, &format!("{round}\n"))]), path, format!("{round}\n")));
    }
    let history = bridge.history("all to be published", |history| all_published(&ids, history));
    bridge.emptied();
    assert_sound(&history);
    assert_each_once(&ids, &history);
    for (hash, path, _) in &theirs {
        let commit =
            history.iter().find(|commit| commit.hash == *hash).unwrap_or_else(|| panic!("{path}: {hash} is lost"));
        assert_eq!(commit.files, std::slice::from_ref(path));
    }
    // Their files appear in the work tree, and nothing looks changed there.
    for (_, path, content) in &theirs {
        bridge.wait_for(path, || cloud.exists(path) && cloud.text(path) == *content);
    }
    bridge.status_becomes("");
    assert_eq!(crate::harness::audit::verified(cloud.root()).len(), ids.len());
    cloud.git(&["fsck", "--strict"]);
    cloud.remote_git(&["fsck", "--strict"]);
    bridge.stop();
}

#[test]
fn a_remote_that_is_away_gets_everything_when_it_is_back() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("before"));
    let hidden = cloud.world().join("away.git");
    fs::rename(cloud.remote(), &hidden).unwrap();
    let ids: Vec<String> = (0..5).map(|number| format!("away-{number}")).collect();
    for id in &ids {
        cloud.submit(&Doc::write(id, &format!("docs/{id}.txt"), id));
    }
    // Publishing never holds up execution: they are executed, filed and committed here.
    let local = bridge.local_history("all to be committed", |history| all_published(&ids, history));
    assert_each_once(&ids, &local);
    bridge.emptied();
    fs::rename(&hidden, cloud.remote()).unwrap();
    let history = bridge.history("all to be published", |history| all_published(&ids, history));
    assert_each_once(&ids, &history);
    assert_sound(&history);
    assert_eq!(
        history.iter().map(|commit| &commit.hash).collect::<Vec<_>>(),
        local.iter().map(|commit| &commit.hash).collect::<Vec<_>>()
    );
    bridge.stop();
}

#[test]
fn a_remote_that_refuses_gets_everything_when_it_relents() {
    let cloud = Cloud::new();
    let hook = cloud.remote().join("hooks/pre-receive");
    write(&hook, "#!/bin/sh\necho 'closed today' >&2\nexit 1\n");
    set_mode(&hook, 0o755);
    let bridge = Bridge::start(&cloud);
    let ids: Vec<String> = (0..3).map(|number| format!("refused-{number}")).collect();
    for id in &ids {
        cloud.submit(&Doc::noop(id));
    }
    bridge.local_history("all to be committed", |history| all_published(&ids, history));
    bridge.emptied();
    assert_eq!(cloud.published().len(), 1, "the remote refuses");
    fs::remove_file(&hook).unwrap();
    let history = bridge.history("all to be published", |history| all_published(&ids, history));
    assert_each_once(&ids, &history);
    assert_sound(&history);
    bridge.stop();
}

#[test]
fn what_could_not_be_pushed_in_one_life_is_pushed_in_the_next() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let hidden = cloud.world().join("away.git");
    fs::rename(cloud.remote(), &hidden).unwrap();
    cloud.submit(&Doc::noop("unpushed"));
    bridge.local_history("the commit", |history| all_published(&["unpushed".to_owned()], history));
    bridge.kill();
    fs::rename(&hidden, cloud.remote()).unwrap();
    let bridge = Bridge::start(&cloud);
    let history = bridge.published(&results("unpushed", 0));
    assert_each_once(&["unpushed".to_owned()], &history);
    bridge.stop();
}

/// A CLOUD with more packs than are left lying.
fn with_many_packs() -> Cloud {
    let cloud = Cloud::new();
    cloud.git(&["config", "maintenance.auto", "false"]);
    for n in 0..60 {
        cloud.git(&["commit", "-q", "--allow-empty", "-m", &format!("a person's {n}")]);
        cloud.git(&["repack", "-dq"]);
    }
    cloud.git(&["push", "-q"]);
    cloud
}

#[test]
fn a_stop_ends_a_consolidation_of_packs_and_pushes_what_waited_behind_it() {
    let cloud = with_many_packs();
    let mark = cloud.world().join("mark");
    let mark = mark.display();
    let hangs =
        cloud.git_with(&format!("case \" $* \" in *\" --window=0 \"*) echo $$ > '{mark}'; exec sleep 10000;; esac"));
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("PATH", hangs);
    });
    bridge.wait_for("a consolidation", || cloud.world().join("mark").exists());
    cloud.submit(&Doc::noop("behind"));
    bridge.local_history("the commit", |history| all_published(&["behind".to_owned()], history));
    bridge.emptied();
    bridge.stop();
    assert_each_once(&["behind".to_owned()], &cloud.published());
    let pid = fs::read_to_string(cloud.world().join("mark")).unwrap();
    let ended = !fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| line.contains("10000"));
    assert!(ended, "the consolidation outlives the bridge");
    assert_sound(&cloud.committed());
}

#[test]
fn a_thousand_packs_that_cannot_be_put_together_are_told_and_marked_ones_are_none() {
    let cloud = Cloud::new();
    cloud.git(&["config", "maintenance.auto", "false"]);
    cloud.git(&["repack", "-adq"]);
    let folder = cloud.path(".git/objects/pack");
    let is_pack = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "pack");
    let first = crate::harness::snapshot::files(&folder).into_iter().find(is_pack).unwrap();
    for number in 0..1_010 {
        for part in ["pack", "idx"] {
            fs::copy(first.with_extension(part), folder.join(format!("pack-{number:040x}.{part}"))).unwrap();
        }
        if number >= 1_005 {
            fs::write(folder.join(format!("pack-{number:040x}.keep")), "mine").unwrap();
        }
    }
    let says_nothing = cloud.git_with("case \" $* \" in *\" --window=0 \"*) exit 0;; esac");
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("PATH", says_nothing);
    });
    bridge.wait_for("to be degraded", || bridge.get("/readyz").body.contains("packs could not be put together"));
    let packs = bridge.metric("ghost_bridge_repository_packs").unwrap();
    assert!((1_005.0..1_010.0).contains(&packs), "{packs}");
    bridge.run(&Doc::noop("all-the-same"));
    for number in 0..900 {
        ["pack", "idx"]
            .iter()
            .for_each(|part| fs::remove_file(folder.join(format!("pack-{number:040x}.{part}"))).unwrap());
    }
    bridge.wait_for("to be ready", || bridge.get("/readyz").status == 200);
    bridge.stop();
}

#[test]
fn a_consolidation_that_is_killed_leaves_nothing_among_the_packs() {
    let cloud = with_many_packs();
    // The kernel kills it once it has written half a KiB.
    let dies = cloud.git_with("case \" $* \" in *\" --window=0 \"*) ulimit -f 1;; esac");
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("PATH", dies);
    });
    bridge.wait_for("a consolidation that dies", || bridge.log().contains("not put together"));
    bridge.run(&Doc::noop("beside"));
    bridge.stop();
    let names = crate::harness::snapshot::files(&cloud.path(".git/objects"));
    let left: Vec<_> = names.iter().filter(|path| path.to_string_lossy().contains("tmp_")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_sound(&cloud.committed());
}

#[test]
fn a_command_that_someone_pushes_is_executed() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let other = cloud.other_clone();
    let document = String::from_utf8(Doc::write("pushed", "docs/pushed.txt", "x\n").signed(&cloud.secret)).unwrap();
    let hash = cloud.push_from(&other, &[("commands/pushed.json", &document)]);
    let history = bridge.published(&results("pushed", 0));
    bridge.emptied();
    assert_eq!(cloud.read("archive/pushed.json"), document.as_bytes());
    assert!(history.iter().any(|commit| commit.hash == hash), "their commit is intact");
    assert_sound(&history);
    // It stays filed: no later fetch brings the file back.
    cloud.push_from(&other, &[("theirs.txt", "x")]);
    bridge.wait_for("their file", || cloud.exists("theirs.txt"));
    bridge.barrier();
    assert_eq!(cloud.waiting(), Vec::<String>::new());
    bridge.stop();
}

#[test]
fn a_command_that_someone_pushes_waits_for_no_rescan() {
    let cloud = Cloud::new();
    let bridge = Bridge::start_with(&cloud, |command| {
        command.env("GHOST_BRIDGE__INGEST__RESCAN_SECS", "3600");
    });
    let other = cloud.other_clone();
    for n in 0..3 {
        let id = format!("pushed-{n}");
        let document = String::from_utf8(Doc::noop(&id).signed(&cloud.secret)).unwrap();
        cloud.push_from(&other, &[(&format!("commands/{id}.json"), &document)]);
        bridge.published(&results(&id, 0));
    }
    bridge.emptied();
    bridge.stop();
}

#[test]
fn an_unborn_branch_is_born_with_the_first_command() {
    let cloud = Cloud::unborn();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("first-of-all"));
    let history = cloud.published();
    assert_each_once(&["first-of-all".to_owned()], &history);
    assert_sound(&history);
    bridge.run(&Doc::noop("second"));
    bridge.stop();
}

#[test]
fn without_a_remote_commits_stay_local() {
    let cloud = Cloud::alone();
    let bridge = Bridge::start(&cloud);
    let ids = ["alone-1".to_owned(), "alone-2".to_owned()];
    for id in &ids {
        cloud.submit(&Doc::noop(id));
    }
    let history = bridge.local_history("both commits", |history| all_published(&ids, history));
    bridge.emptied();
    assert_each_once(&ids, &history);
    assert_sound(&history);
    bridge.stop();
}

#[test]
fn a_rewritten_remote_is_never_forced_nor_followed() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("rewritten-away"));
    bridge.barrier();
    // Someone throws the bridge's commits away.
    let first = cloud.published()[0].hash.clone();
    let other = cloud.other_clone();
    cloud.git_at(&other, &["reset", "-q", "--hard", &first]);
    write(&other.join("rewritten.txt"), "x");
    cloud.git_at(&other, &["add", "."]);
    cloud.git_at(&other, &["commit", "-q", "-m", "rewritten"]);
    cloud.git_at(&other, &["push", "-q", "--force", "origin", "HEAD:main"]);
    let rewritten = cloud.remote_git(&["rev-parse", "main"]);

    cloud.submit(&Doc::noop("after"));
    let history = bridge.local_history("the commit", |history| all_published(&["after".to_owned()], history));
    bridge.wait_for("the bridge to say that it is degraded", || bridge.log().to_lowercase().contains("degraded"));
    bridge.emptied();
    assert_each_once(&["rewritten-away".to_owned(), "after".to_owned()], &history);
    assert_eq!(cloud.remote_git(&["rev-parse", "main"]), rewritten);
    assert!(!cloud.exists("rewritten.txt"), "the rewritten history is not followed");
    assert_sound(&history);
    bridge.stop();
    assert_eq!(cloud.remote_git(&["rev-parse", "main"]), rewritten);
}

#[test]
fn git_status_tells_the_truth_when_the_bridge_is_quiet() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    for number in 0..5 {
        bridge.run(&Doc::noop(&format!("status-{number}")));
    }
    bridge.status_becomes("");
    cloud.write("README.md", "changed\n");
    cloud.write("notes.txt", "new\n");
    // A command's own change in CLOUD is a change like any other: it is not the bridge's to commit.
    bridge.run(&Doc::write("writes", "docs/written.txt", "x\n"));
    bridge.status_becomes(" M README.md\n?? docs/written.txt\n?? notes.txt");
    bridge.stop();
    assert_eq!(
        cloud.git(&["status", "--porcelain", "--untracked-files=all"]),
        " M README.md\n?? docs/written.txt\n?? notes.txt"
    );
}

#[test]
fn summaries_and_context_are_published_as_they_are_found() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    cloud.write("summaries/today.md", "# today\n");
    cloud.write("context/deep/notes.md", "notes\n");
    let paths = ["context/deep/notes.md", "summaries/today.md"];
    let published = |path: &str| cloud.git_succeeds(&cloud.remote(), &["cat-file", "-e", &format!("main:{path}")]);
    bridge.wait_for("both files in the remote", || paths.iter().all(|path| published(path)));
    let history = cloud.published();
    let summaries = history.iter().filter(|commit| commit.files.iter().any(|file| paths.contains(&file.as_str())));
    summaries.for_each(|commit| assert_eq!(commit.subject, "bridge: summaries"));
    assert_sound(&history);
    assert_eq!(cloud.remote_git(&["show", "main:summaries/today.md"]), "# today");
    bridge.stop();
}

#[test]
fn locks_that_a_crash_left_in_git_do_not_wedge_the_next_start() {
    let cloud = Cloud::new();
    for lock in ["index.lock", "HEAD.lock", "packed-refs.lock", "refs/heads/main.lock"] {
        fs::write(cloud.path(".git").join(lock), "").unwrap();
    }
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("unwedged"));
    bridge.status_becomes("");
    assert_sound(&cloud.published());
    bridge.stop();
}
