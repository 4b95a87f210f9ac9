//! What is checked and recovered before anything is published.

use std::path::Path;

use publisher::git::programs::TABLE;
use publisher::{OpenError, PublisherConfig, open_check};

use crate::world::{PATIENCE, World, git, read, run, script, start, subjects, try_git, until, write};

fn check(cloud: &Path) -> Result<(), OpenError> {
    open_check(&PublisherConfig::new(cloud))
}

#[test]
fn what_cannot_be_published_is_refused_with_a_remedy() {
    let world = World::seeded();
    assert!(check(&world.cloud).is_ok());
    assert!(check(&World::unborn().cloud).is_ok(), "an unborn branch is fine");
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(check(nothing.path()), Err(OpenError::NotARepository { .. })));
    assert!(matches!(check(&nothing.path().join("gone")), Err(OpenError::NotARepository { .. })));
    assert!(matches!(check(&world.cloud.join("src")), Err(OpenError::NotTheTop { .. })));
    assert!(matches!(check(&world.remote), Err(OpenError::Bare { .. })));
    git(&world.cloud, &["switch", "-q", "--detach"]);
    let error = check(&world.cloud).unwrap_err();
    assert!(matches!(error, OpenError::Detached { .. }));
    for error in [error, check(nothing.path()).unwrap_err(), check(&world.remote).unwrap_err()] {
        let line = error.to_string();
        assert!(!line.contains('\n') && line.contains(": "), "{line}");
    }
}

#[test]
fn a_linked_work_tree_is_published_like_any_other() {
    let mut world = World::seeded();
    git(&world.cloud, &["worktree", "add", "-q", "-b", "bridge", "../linked"]);
    world.cloud = world.top().join("linked");
    assert!(check(&world.cloud).is_ok());
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        let last = || git(&world.cloud, &["log", "-1", "--format=%s", "origin/bridge"]);
        until("the push", || {
            crate::world::try_git(&world.cloud, &["rev-parse", "-q", "--verify", "origin/bridge"]).status.success()
                && last() == "bridge: results a (exit=0)"
        })
        .await;
        bridge.quiet(&world, 1).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}

#[test]
fn locks_that_a_crash_left_are_removed_at_the_start() {
    let mut world = World::seeded();
    let locks = ["index.lock", "HEAD.lock", "packed-refs.lock", "refs/heads/main.lock"];
    for lock in locks {
        write(&world.cloud.join(".git"), lock, "");
    }
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        bridge.quiet(&world, 1).await;
        for lock in locks {
            assert!(!world.cloud.join(".git").join(lock).exists(), "{lock}");
        }
    });
}

/// A person's commit whose editor stays open until there is a file `go`; how it ended is told in a file `end`. Nobody of
/// this process's started it, and with its own end it goes.
#[cfg(target_os = "linux")]
fn commit_in_the_editor(world: &World) {
    let top = world.top();
    let waits = format!("touch {0}/open; until test -e {0}/go || ! test -e {0}; do sleep 0.02; done", top.display());
    let editor = script(top, "editor", &format!("{waits}; echo mine > \"$1\""));
    let commit = format!(
        "(git -c maintenance.auto=false commit -q -a; echo $? > {0}/end.new; mv {0}/end.new {0}/end)",
        top.display()
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("{commit} > {}/said 2>&1 &", top.display())]);
    shell.current_dir(world.cloud.join("src")).env("GIT_EDITOR", editor).env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        shell.env(format!("GIT_{who}_NAME"), "Person").env(format!("GIT_{who}_EMAIL"), "person@example.org");
    }
    assert!(shell.status().unwrap().success());
}

#[cfg(target_os = "linux")]
fn wait(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_lock_of_a_commit_whose_editor_is_open_stays_at_a_start_and_goes_once_nobody_lives_who_holds_it() {
    let mut world = World::seeded();
    let lock = world.cloud.join(".git/index.lock");
    write(&world.cloud, "src/a.txt", "mine\n");
    commit_in_the_editor(&world);
    wait("the editor", || world.top().join("open").exists() && lock.exists());
    // Those of a packing beside it; without the references' nothing can be done.
    let [packing, references] = ["objects/pack/multi-pack-index.lock", "packed-refs.lock"].map(|name| {
        write(&world.cloud.join(".git"), name, "");
        world.cloud.join(".git").join(name)
    });
    run(world.config(), |bridge| async move {
        until("the start or its trouble", || bridge.status.is_ready() || bridge.status.is_degraded()).await;
        let trouble = bridge.status.degraded_reason().unwrap_or_default();
        assert!(references.exists() && trouble.contains("packed"), "{trouble}");
        std::fs::remove_file(references).unwrap();
        until("the start", || bridge.status.is_ready()).await;
        assert!(lock.exists() && packing.exists());
        std::fs::remove_file(packing).unwrap();
        write(world.top(), "go", "");
        until("the commit's end", || world.top().join("end").exists()).await;
        let said = read(world.top(), "said").unwrap();
        assert_eq!(read(world.top(), "end").unwrap(), "0\n", "{said}");
        assert_eq!(subjects(&world.cloud, "main"), ["first", "mine"]);
        let a = world.file("a");
        bridge.send(a).await;
        bridge.quiet(&world, 1).await;
        bridge.stop().await;
        // With nobody there it is a crash's.
        std::fs::write(&lock, "").unwrap();
        let next = start(world.config());
        until("the next start", || next.status.is_ready()).await;
        assert!(!lock.exists());
        next.stop().await;
    });
}

#[test]
fn an_index_that_lags_after_a_crash_is_brought_in_line() {
    let mut world = World::seeded();
    let config = world.config();
    let a = world.file("a");
    run(config.clone(), |bridge| async move {
        bridge.send(a).await;
        until("the commit", || bridge.status.committed() >= 1).await;
        // No stop: the run ends as in a crash, perhaps before the index was brought in line.
    });
    run(config, |bridge| async move {
        bridge.quiet(&world, 0).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
        world.assert_sound();
    });
}

/// A rebase of `main` that stopped in the middle, by the backend that git is told to use.
fn stopped_rebase(world: &World, backend: &str) {
    git(&world.cloud, &["switch", "-q", "-c", "side"]);
    write(&world.cloud, "src/a.txt", "theirs\n");
    git(&world.cloud, &["commit", "-qam", "theirs"]);
    git(&world.cloud, &["switch", "-q", "main"]);
    write(&world.cloud, "src/a.txt", "mine\n");
    git(&world.cloud, &["commit", "-qam", "mine"]);
    assert!(!try_git(&world.cloud, &["rebase", "-q", backend, "side"]).status.success(), "it stops at a conflict");
    assert!(!try_git(&world.cloud, &["symbolic-ref", "-q", "HEAD"]).status.success());
}

#[test]
fn a_rebase_that_was_left_half_done_is_set_aside_and_head_goes_back_to_its_branch() {
    for (backend, state) in [("--merge", "rebase-merge"), ("--apply", "rebase-apply")] {
        let mut world = World::seeded();
        stopped_rebase(&world, backend);
        let main = git(&world.cloud, &["rev-parse", "main"]);
        let index = git(&world.cloud, &["ls-files", "--stage", "src"]);
        let file = read(&world.cloud, "src/a.txt").unwrap();
        assert!(file.contains("<<<<<<<"), "{file}");
        assert!(check(&world.cloud).is_ok());
        assert!(world.cloud.join(".git").join(state).exists(), "a look alone changes nothing");
        run(world.config(), |bridge| async move {
            let a = world.file("a");
            bridge.send(a).await;
            until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
            bridge.quiet(&world, 1).await;
            assert_eq!(git(&world.cloud, &["symbolic-ref", "HEAD"]), "refs/heads/main");
            assert_eq!(git(&world.cloud, &["rev-parse", "main~1"]), main, "its own commit stays where it was");
            assert_eq!(git(&world.cloud, &["ls-files", "--stage", "src"]), index);
            assert_eq!(read(&world.cloud, "src/a.txt").unwrap(), file);
            let left: Vec<String> = std::fs::read_dir(world.cloud.join(".git"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.starts_with("rebase-"))
                .collect();
            assert!(matches!(left.as_slice(), [one] if one.starts_with(&format!("{state}.left-"))), "{left:?}");
            assert!(!git(&world.cloud, &["status"]).contains("rebase in progress"));
            world.assert_sound();
        });
    }
}

#[test]
fn a_detached_head_is_refused_where_no_branch_was_being_rebased() {
    let world = World::seeded();
    git(&world.cloud, &["switch", "-q", "--detach"]);
    for name in ["detached HEAD", "refs/heads/gone", "refs/tags/x", "refs/heads/../main", ""] {
        write(&world.cloud, ".git/rebase-merge/head-name", &format!("{name}\n"));
        assert!(matches!(check(&world.cloud), Err(OpenError::Detached { .. })), "{name}");
    }
    write(&world.cloud, ".git/rebase-merge/head-name", "refs/heads/main\n");
    assert!(check(&world.cloud).is_ok());
}

#[test]
fn a_rebase_that_was_given_up_but_not_set_aside_is_set_aside_by_the_next_life() {
    let mut world = World::seeded();
    stopped_rebase(&world, "--merge");
    git(&world.cloud, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        bridge.quiet(&world, 1).await;
        assert!(!world.cloud.join(".git/rebase-merge").exists());
    });
}

#[test]
fn a_first_history_that_was_not_checked_out_to_its_end_is_no_deletion() {
    let seeded = World::seeded();
    for path in ["context/notes.md", "summaries/old.md"] {
        write(&seeded.cloud, path, "theirs\n");
    }
    git(&seeded.cloud, &["add", "-A"]);
    git(&seeded.cloud, &["commit", "-qm", "theirs"]);
    git(&seeded.cloud, &["push", "-q"]);
    // As if it had died when the branch had taken over what the remote has, and one file was there.
    let mut world = World::unborn();
    git(&world.cloud, &["remote", "add", "origin", seeded.remote.to_str().unwrap()]);
    git(&world.cloud, &["fetch", "-q", "origin", "+refs/heads/main:refs/ghost-bridge/upstream"]);
    git(&world.cloud, &["update-ref", "refs/heads/main", "refs/ghost-bridge/upstream"]);
    write(&world.cloud, "context/notes.md", "theirs\n");
    std::fs::create_dir(world.cloud.join("summaries")).unwrap();
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || seeded.has_on_remote("bridge: results a (exit=0)")).await;
        bridge.quiet(&world, 1).await;
        assert_eq!(subjects(&seeded.remote, "main"), ["first", "theirs", "bridge: results a (exit=0)"]);
        assert_eq!(read(&world.cloud, "summaries/old.md").unwrap(), "theirs\n");
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}

#[test]
fn every_setting_of_this_git_that_names_a_program_is_in_the_table() {
    let ends = [
        "command",
        "cmd",
        "program",
        "helper",
        "driver",
        "textconv",
        "editor",
        "pager",
        "smudge",
        "process",
        "askpass",
        "vcs",
        "tunnel",
        "pack",
        "external",
        "fsmonitor",
        "hookspath",
        "hook",
        "gitproxy",
    ];
    let known = git(&std::env::temp_dir(), &["help", "--config-for-completion"]);
    let mut missing = Vec::new();
    for key in known
        .lines()
        .map(str::to_ascii_lowercase)
        .filter(|key| !key.starts_with("color.") && !key.starts_with("advice."))
    {
        let last = key.rsplit('.').next().unwrap();
        let names_a_program = ends.iter().any(|end| last.ends_with(end));
        let listed = |entry: &str| {
            let (mut ours, mut theirs) = (entry.split('.'), key.split('.'));
            ours.next() == theirs.next() && ours.next_back() == theirs.next_back()
        };
        if names_a_program && key != "gitcvs.dbdriver" && !TABLE.iter().any(|(entry, _)| listed(entry)) {
            missing.push(key);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
