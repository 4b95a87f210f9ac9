//! People who commit, amend, reset, stash and repack in CLOUD, and others who change upstream what was published.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::world::{Bridge, World, git, read, run, subjects, try_git, until, write};

const PUT_BACK: &str = "bridge: put back what was published";

fn result(id: &str) -> String {
    format!("bridge: results {id} (exit=0)")
}

fn count(all: &[String], subject: &str) -> usize {
    all.iter().filter(|s| *s == subject).count()
}

async fn pushed(bridge: &Bridge, world: &World, id: &str) {
    until("the push", || world.has_on_remote(&result(id)) && bridge.status.unpushed_commits() == 0).await;
}

/// Each command once, in history, and all artifacts in the last tree, in CLOUD and in the remote.
fn assert_published(world: &World, ids: &[&str]) {
    for (dir, rev) in [(&world.cloud, "main"), (&world.remote, "main")] {
        let all = subjects(dir, rev);
        let files = git(dir, &["ls-tree", "-r", "--name-only", rev]);
        for id in ids {
            assert_eq!(count(&all, &result(id)), 1, "{id} in {}: {all:?}", dir.display());
            for path in ["results/ID.json", "results/ID.integrity.json", "diffs/ID.patch", "archive/ID.json"] {
                let path = path.replace("ID", id);
                assert!(files.lines().any(|file| file == path), "{path} in {}", dir.display());
                assert_eq!(git(dir, &["show", &format!("{rev}:{path}")]), path);
            }
        }
        let log = git(dir, &["show", &format!("{rev}:logs/bridge.log")]);
        assert_eq!(log.trim_end(), read(&world.cloud, "logs/bridge.log").unwrap().trim_end());
    }
    world.assert_sound();
}

async fn two_commands(bridge: &Bridge, world: &mut World) {
    for id in ["a", "b"] {
        let filed = world.file(id);
        bridge.send(filed).await;
        pushed(bridge, world, id).await;
    }
    bridge.quiet(world, 2).await;
}

/// Drops artifacts and the log, and changes one.
fn vandalize(dir: &Path) {
    git(dir, &["rm", "-qr", "--cached", "diffs", "results/a.json", "logs"]);
    let changed = dir.with_extension("changed");
    std::fs::write(&changed, "changed\n").unwrap();
    let blob = git(dir, &["hash-object", "-w", changed.to_str().unwrap()]);
    git(dir, &["update-index", "--cacheinfo", &format!("100644,{blob},archive/b.json")]);
    git(dir, &["commit", "-qm", "vandal"]);
}

#[test]
fn what_a_person_drops_from_the_branch_is_put_back_in_one_commit() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        two_commands(&bridge, &mut world).await;
        vandalize(&world.cloud);
        let c = world.file("c");
        bridge.send(c).await;
        pushed(&bridge, &world, "c").await;
        bridge.quiet(&world, 3).await;
        let all = subjects(&world.remote, "main");
        assert_eq!((count(&all, PUT_BACK), count(&all, "vandal")), (1, 1), "{all:?}");
        assert_published(&world, &["a", "b", "c"]);
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}

#[test]
fn what_somebody_drops_upstream_is_put_back_in_one_commit_and_stays_on_disk() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        two_commands(&bridge, &mut world).await;
        let clone = world.clone("other");
        vandalize(&clone);
        git(&clone, &["push", "-q"]);
        until("it to be put back", || world.has_on_remote(PUT_BACK)).await;
        let c = world.file("c");
        bridge.send(c).await;
        pushed(&bridge, &world, "c").await;
        bridge.quiet(&world, 3).await;
        let all = subjects(&world.remote, "main");
        assert_eq!((count(&all, PUT_BACK), count(&all, "vandal")), (1, 1), "{all:?}");
        assert_published(&world, &["a", "b", "c"]);
        assert_eq!(read(&world.cloud, "archive/b.json").unwrap(), "archive/b.json\n");
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}

#[test]
fn a_log_that_was_dropped_while_nobody_was_there_comes_back_without_a_second_commit() {
    let mut world = World::seeded();
    let config = world.config();
    let mut world = {
        let (give, take) = std::sync::mpsc::channel();
        run(config.clone(), |bridge| async move {
            two_commands(&bridge, &mut world).await;
            bridge.stop().await;
            give.send(world).unwrap();
        });
        take.recv().unwrap()
    };
    vandalize(&world.cloud);
    run(config, |bridge| async move {
        let c = world.file("c");
        bridge.send(c).await;
        pushed(&bridge, &world, "c").await;
        bridge.quiet(&world, 1).await;
        assert_eq!(count(&subjects(&world.remote, "main"), PUT_BACK), 1);
        assert_published(&world, &["a", "b", "c"]);
    });
}

#[test]
fn a_pushed_commit_that_is_amended_here_is_put_on_top_of_what_was_pushed() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        write(&world.cloud, "src/a.txt", "one\n");
        git(&world.cloud, &["commit", "-qam", "mine"]);
        until("their commit", || world.has_on_remote("mine")).await;
        let theirs = git(&world.remote, &["rev-parse", "main"]);
        write(&world.cloud, "src/a.txt", "two\n");
        git(&world.cloud, &["commit", "-qa", "--amend", "-m", "mine, better"]);
        until("the amended one", || world.has_on_remote("mine, better")).await;
        assert_eq!(git(&world.remote, &["rev-parse", "main~1"]), theirs, "nothing that was pushed is rewritten");
        assert_eq!(git(&world.remote, &["show", "main:src/a.txt"]), "two");
        let a = world.file("a");
        bridge.send(a).await;
        pushed(&bridge, &world, "a").await;
        bridge.quiet(&world, 1).await;
        assert!(!bridge.status.is_degraded());
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
        assert_published(&world, &["a"]);
    });
}

#[test]
fn pushed_commands_that_are_amended_or_reset_here_are_not_committed_twice() {
    for how in ["amend", "reword", "soft", "mixed"] {
        let mut world = World::seeded();
        run(world.config(), |bridge| async move {
            two_commands(&bridge, &mut world).await;
            match how {
                "amend" => {
                    write(&world.cloud, "mine.txt", "mine\n");
                    git(&world.cloud, &["add", "mine.txt"]);
                    git(&world.cloud, &["commit", "-q", "--amend", "-m", "amended"]);
                }
                "reword" => drop(git(&world.cloud, &["commit", "-q", "--amend", "-m", "reworded"])),
                how => drop(git(&world.cloud, &["reset", "-q", &format!("--{how}"), "HEAD~2"])),
            }
            let c = world.file("c");
            bridge.send(c).await;
            pushed(&bridge, &world, "c").await;
            bridge.quiet(&world, 3).await;
            assert_published(&world, &["a", "b", "c"]);
            let all = subjects(&world.remote, "main");
            assert_eq!(count(&all, "amended"), usize::from(how == "amend"), "{all:?}");
            assert_eq!(count(&all, "reworded"), 0, "{all:?}");
            assert!(!bridge.status.is_degraded(), "{how}");
            until("the index", || git(&world.cloud, &["status", "--porcelain"]) == "?? meta/").await;
        });
    }
}

#[test]
fn a_merge_in_the_place_of_a_pushed_commit_is_named_and_waits_for_a_person() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        two_commands(&bridge, &mut world).await;
        let tree = git(&world.cloud, &["rev-parse", "HEAD^{tree}"]);
        let one = git(&world.cloud, &["commit-tree", "-p", "HEAD~2", "-m", "side", &tree]);
        let merge = git(&world.cloud, &["commit-tree", "-p", "HEAD~1", "-p", &one, "-m", "merge", &tree]);
        let theirs = git(&world.remote, &["rev-parse", "main"]);
        git(&world.cloud, &["reset", "-q", "--soft", &merge]);
        let told = |reason: String| reason.contains("amended or reset here") && reason.contains("merge");
        until("degraded", || bridge.status.degraded_reason().is_some_and(told)).await;
        assert_eq!(git(&world.remote, &["rev-parse", "main"]), theirs);
        git(&world.cloud, &["reset", "-q", "--soft", &theirs]);
        let c = world.file("c");
        bridge.send(c).await;
        pushed(&bridge, &world, "c").await;
        until("health", || !bridge.status.is_degraded()).await;
    });
}

/// A stream of commands, and somebody who does something again and again meanwhile.
fn beside_a_stream(commands: u64, deed: impl Fn(&Path, u32) + Send + 'static) {
    let mut world = World::seeded();
    git(&world.cloud, &["branch", "other"]);
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let over = Arc::new(AtomicBool::new(false));
        let (cloud, stop) = (world.cloud.clone(), Arc::clone(&over));
        let person = std::thread::spawn(move || {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) || n == 0 {
                deed(&cloud, n);
                n += 1;
            }
        });
        let ids: Vec<String> = (0..commands).map(|n| format!("c-{n}")).collect();
        for (n, id) in (0..).zip(&ids) {
            let filed = world.file(id);
            bridge.send(filed).await;
            if n % 4 == 0 {
                until("its commit", || bridge.status.committed() > n).await;
            }
        }
        until("commits", || bridge.status.committed() >= commands).await;
        over.store(true, Ordering::Relaxed);
        person.join().unwrap();
        bridge.quiet(&world, commands).await;
        until("the pushes", || ids.iter().all(|id| world.has_on_remote(&result(id)))).await;
        until("all of it", || {
            let tip = |dir: &Path| git(dir, &["rev-parse", "main"]);
            tip(&world.cloud) == tip(&world.remote)
        })
        .await;
        assert_published(&world, &ids.iter().map(String::as_str).collect::<Vec<_>>());
        // What the person did not come to commit is theirs.
        let ours = ["status", "--porcelain", "--", ".", ":!src", ":!mine.txt", ":!meta"];
        until("a clean status", || git(&world.cloud, &ours).is_empty()).await;
    });
}

#[test]
fn commits_by_hand_in_the_midst_of_a_stream_cost_no_command_its_one_commit() {
    beside_a_stream(60, |cloud, n| {
        write(cloud, "mine.txt", &format!("{n}\n"));
        // Git may tell them to try again.
        if try_git(cloud, &["add", "mine.txt"]).status.success() {
            try_git(cloud, &["commit", "-qm", "mine"]);
        }
        std::thread::sleep(std::time::Duration::from_millis(30));
    });
}

#[test]
fn a_repository_that_is_repacked_and_pruned_in_the_midst_of_a_stream_loses_nothing() {
    beside_a_stream(60, |cloud, n| {
        let args: &[&str] = if n % 2 == 0 { &["gc", "-q", "--prune=now"] } else { &["repack", "-adfq"] };
        try_git(cloud, args);
    });
}

#[test]
fn stashes_in_the_midst_of_a_stream_cost_nothing() {
    beside_a_stream(40, |cloud, n| {
        write(cloud, "src/a.txt", &format!("{n}\n"));
        if try_git(cloud, &["stash", "push", "-q", "--", "src"]).status.success() {
            try_git(cloud, &["stash", "drop", "-q"]);
        }
        try_git(cloud, &["checkout", "-q", "--", "src"]);
        std::thread::sleep(std::time::Duration::from_millis(30));
    });
}
