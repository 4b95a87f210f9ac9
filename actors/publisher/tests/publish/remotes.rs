//! Remotes that move on, go away, refuse, hang and lie.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use publisher::{PublisherConfig, Push};

use crate::world::{World, git, run, subjects, try_git, until, write};

fn pushed(world: &World, id: &str) -> bool {
    world.has_on_remote(&format!("bridge: results {id} (exit=0)"))
}

#[test]
fn the_remote_moves_on_again_and_again_and_nothing_is_lost() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        let clone = world.clone("other");
        for n in 0..15 {
            write(&clone, &format!("theirs/{n}.txt"), "x\n");
            git(&clone, &["add", "-A"]);
            git(&clone, &["commit", "-qm", &format!("theirs {n}")]);
            let filed = world.file(&format!("c-{n}"));
            bridge.send(filed).await;
            until("their push", || {
                try_git(&clone, &["pull", "-q", "--rebase"]);
                try_git(&clone, &["push", "-q"]).status.success()
            })
            .await;
        }
        until("the last", || (0..15).all(|n| pushed(&world, &format!("c-{n}")))).await;
        let all = subjects(&world.remote, "main");
        assert_eq!(all.len(), 31, "{all:?}");
        for n in 0..15 {
            assert!(all.contains(&format!("theirs {n}")));
        }
        let of_bridge: Vec<_> = all.iter().filter(|s| s.starts_with("bridge: ")).cloned().collect();
        let expected: Vec<_> = (0..15).map(|n| format!("bridge: results c-{n} (exit=0)")).collect();
        assert_eq!(of_bridge, expected, "in their order");
        assert_eq!(git(&world.remote, &["rev-list", "--merges", "--count", "main"]), "0");
        until("the work tree", || (0..15).all(|n| world.cloud.join(format!("theirs/{n}.txt")).exists())).await;
        bridge.quiet(&world, 15).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
        world.assert_sound();
    });
}

#[test]
fn a_remote_that_is_away_is_found_again() {
    let mut world = World::seeded();
    let config = PublisherConfig { attempts: 3, ..world.config() };
    run(config, |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let away = world.remote.with_extension("away");
        std::fs::rename(&world.remote, &away).unwrap();
        let filed = world.file("a");
        bridge.send(filed).await;
        until("degraded", || bridge.status.is_degraded()).await;
        assert!(bridge.status.degraded_reason().unwrap().contains("does not appear to be a git repository"));
        let filed = world.file("b");
        bridge.send(filed).await;
        until("commits all the same", || subjects(&world.cloud, "main").len() == 3).await;
        until("their count", || bridge.status.unpushed_commits() == 2).await;
        until("a push that fails", || bridge.status.pushes(Push::Failed) >= 1).await;
        std::fs::rename(&away, &world.remote).unwrap();
        until("both", || pushed(&world, "a") && pushed(&world, "b")).await;
        until("health", || !bridge.status.is_degraded() && bridge.status.unpushed_commits() == 0).await;
        assert!(bridge.status.pushes(Push::Ok) >= 1);
    });
}

#[test]
fn a_hook_that_refuses_degrades_and_is_tried_again() {
    let mut world = World::seeded();
    let hook = world.remote.join("hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho not today >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = PublisherConfig { attempts: 2, ..world.config() };
    run(config, |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("degraded", || bridge.status.is_degraded()).await;
        let reason = bridge.status.degraded_reason().unwrap();
        assert!(reason.contains("pre-receive hook declined"), "{reason}");
        std::fs::remove_file(&hook).unwrap();
        until("the push", || pushed(&world, "a")).await;
        until("health", || !bridge.status.is_degraded()).await;
    });
}

#[test]
fn a_remote_that_accepts_and_stays_silent_costs_an_attempt_not_the_publisher() {
    let mut world = World::seeded();
    git(&world.cloud, &["config", "protocol.ext.allow", "always"]);
    git(&world.cloud, &["remote", "set-url", "origin", "ext::sh -c sleep% 1000"]);
    let limit = Duration::from_millis(500);
    let config = PublisherConfig { git_time_limit: limit, attempts: 2, ..world.config() };
    run(config, |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("degraded", || bridge.status.is_degraded()).await;
        let reason = bridge.status.degraded_reason().unwrap();
        assert!(reason.contains("without an answer"), "{reason}");
        assert_eq!(subjects(&world.cloud, "main").len(), 2, "commits are made all the while");
        git(&world.cloud, &["remote", "set-url", "origin", world.remote.to_str().unwrap()]);
        until("the push", || pushed(&world, "a")).await;
    });
}

#[test]
fn a_stop_does_not_wait_for_a_silent_remote() {
    let mut world = World::seeded();
    git(&world.cloud, &["config", "protocol.ext.allow", "always"]);
    git(&world.cloud, &["remote", "set-url", "origin", "ext::sh -c sleep% 1000"]);
    run(world.config(), |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("the commit", || bridge.status.committed() == 1).await;
        let start = Instant::now();
        let stopped = bridge.stop_within(Duration::from_millis(800)).await;
        assert_eq!((stopped.unpushed, stopped.uncommitted), (1, 0));
        // Far below the child's own limit of a minute.
        assert!(start.elapsed() < Duration::from_secs(30));
    });
}

#[test]
fn a_stop_pushes_the_commit_that_is_just_being_made() {
    let mut world = World::seeded();
    // No look at the remote comes in between.
    let config = PublisherConfig { fetch_every: Duration::from_secs(3600), ..world.config() };
    run(config, |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || pushed(&world, "a")).await;
        bridge.quiet(&world, 1).await;
        let b = world.file("b");
        bridge.send(b).await;
        let stopped = bridge.stop_within(crate::world::PATIENCE).await;
        assert_eq!((stopped.unpushed, stopped.uncommitted), (0, 0));
        assert!(pushed(&world, "b"));
    });
}

#[test]
fn a_stop_commits_and_pushes_what_waits() {
    let mut world = World::seeded();
    let config = PublisherConfig { fetch_every: Duration::from_secs(3600), ..world.config() };
    run(config, |bridge| async move {
        let all: Vec<_> = (0..300).map(|n| world.file(&format!("c-{n}"))).collect();
        for filed in all {
            bridge.send(filed).await;
        }
        let stopped = bridge.stop().await;
        assert_eq!((stopped.unpushed, stopped.uncommitted), (0, 0));
        assert!(pushed(&world, "c-299"));
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/", "the index was brought in line");
    });
}

/// The person who rewrites the remote: drops the last commit, or replaces it.
fn rewrite(world: &World, how: &str) {
    let clone = world.clone(&format!("rewriter-{how}"));
    git(&clone, &["reset", "-q", "--hard", "HEAD~1"]);
    if how == "replace" {
        write(&clone, "other.txt", "x\n");
        git(&clone, &["add", "-A"]);
        git(&clone, &["commit", "-qm", "instead"]);
    }
    git(&clone, &["push", "-q", "--force"]);
}

#[test]
fn a_rewritten_remote_degrades_loudly_and_is_left_alone() {
    for how in ["drop", "replace"] {
        let mut world = World::seeded();
        run(world.config(), |bridge| async move {
            let filed = world.file("a");
            bridge.send(filed).await;
            until("the push", || pushed(&world, "a") && bridge.status.unpushed_commits() == 0).await;
            rewrite(&world, how);
            let theirs = git(&world.remote, &["rev-parse", "main"]);
            until("degraded", || bridge.status.is_degraded()).await;
            let reason = bridge.status.degraded_reason().unwrap();
            assert!(reason.contains("was rewritten"), "{reason}");
            let filed = world.file("b");
            bridge.send(filed).await;
            until("the commit", || bridge.status.committed() == 2).await;
            let stopped = bridge.stop().await;
            assert_eq!(stopped.unpushed, 2, "the remote lacks the one that was dropped, too");
            assert_eq!(git(&world.remote, &["rev-parse", "main"]), theirs, "{how}: nothing was pushed");
            let expected = ["first", "bridge: results a (exit=0)", "bridge: results b (exit=0)"];
            assert_eq!(subjects(&world.cloud, "main"), expected, "{how}: nothing was rebased");
        });
    }
}

#[test]
fn a_rewritten_remote_can_be_accepted() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("the push", || pushed(&world, "a") && bridge.status.unpushed_commits() == 0).await;
        rewrite(&world, "replace");
        until("degraded", || bridge.status.is_degraded()).await;
        git(&world.cloud, &["update-ref", "-d", "refs/ghost-bridge/base"]);
        until("the push", || pushed(&world, "a")).await;
        assert_eq!(subjects(&world.remote, "main"), ["first", "instead", "bridge: results a (exit=0)"]);
        until("health", || !bridge.status.is_degraded()).await;
        bridge.quiet(&world, 1).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}

#[test]
fn a_conflict_between_others_is_left_to_them() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let clone = world.clone("other");
        write(&world.cloud, "README.md", "mine\n");
        write(&clone, "README.md", "theirs\n");
        git(&clone, &["commit", "-qam", "theirs"]);
        // Both at once, so that no push of ours comes between.
        std::fs::rename(&world.remote, world.remote.with_extension("away")).unwrap();
        git(&world.cloud, &["commit", "-qam", "mine"]);
        git(&clone, &["push", "-q", world.remote.with_extension("away").to_str().unwrap(), "main"]);
        std::fs::rename(world.remote.with_extension("away"), &world.remote).unwrap();
        let filed = world.file("a");
        bridge.send(filed).await;
        until("degraded", || bridge.status.degraded_reason().is_some_and(|r| r.contains("both changed README.md")))
            .await;
        assert_eq!(git(&world.cloud, &["show", "HEAD~1:README.md"]), "mine");
        assert_eq!(subjects(&world.remote, "main"), ["first", "theirs"]);
        // The person solves it.
        git(&world.cloud, &["fetch", "-q"]);
        bridge.quiet(&world, 1).await;
        git(&world.cloud, &["rebase", "-q", "-X", "theirs", "origin/main"]);
        until("the push", || pushed(&world, "a")).await;
        until("health", || !bridge.status.is_degraded()).await;
    });
}

#[test]
fn an_unborn_branch_takes_the_remotes_history() {
    let seeded = World::seeded();
    let mut world = World::unborn();
    git(&world.cloud, &["remote", "add", "origin", seeded.remote.to_str().unwrap()]);
    run(world.config(), |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        let subject = "bridge: results a (exit=0)";
        until("the push", || seeded.has_on_remote(subject)).await;
        assert_eq!(subjects(&seeded.remote, "main"), ["first", subject]);
        until("their file", || world.cloud.join("src/a.txt").exists()).await;
        bridge.quiet(&world, 1).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}

#[test]
fn a_remote_that_is_configured_later_gets_everything() {
    let mut world = World::unborn();
    run(world.config(), |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        bridge.quiet(&world, 1).await;
        assert!(!bridge.status.is_degraded());
        git(world.top(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        git(&world.cloud, &["remote", "add", "origin", world.remote.to_str().unwrap()]);
        until("the push", || pushed(&world, "a")).await;
    });
}

#[test]
fn pushes_keep_their_pace() {
    let mut world = World::seeded();
    let config = PublisherConfig { max_pushes_per_minute: Some(1), ..world.config() };
    run(config, |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("the first at once", || pushed(&world, "a")).await;
        let filed = world.file("b");
        bridge.send(filed).await;
        until("the commit", || bridge.status.committed() == 2).await;
        assert!(!pushed(&world, "b"));
        bridge.stop().await;
        assert!(pushed(&world, "b"), "a stop does not wait for its turn");
    });
}
