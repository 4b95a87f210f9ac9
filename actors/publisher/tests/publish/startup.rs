//! What is checked and recovered before anything is published.

use std::path::Path;

use publisher::{OpenError, PublisherConfig, open_check};

use crate::world::{World, git, run, until, write};

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
