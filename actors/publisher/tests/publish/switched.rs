//! A person who checks out another branch while the bridge is stopped: what was noted of the one tells nothing of the other.

use chrono::Utc;
use publisher::mend;

use crate::world::{World, git, run, subjects, until, write};

const DAMAGES: [&str; 3] = ["", "\0\0\0\0\n", "0123456789"];

/// What the bridge published on `dev`, which goes on where `main` is.
fn published_on_dev() -> World {
    let mut world = World::seeded();
    git(&world.cloud, &["switch", "-q", "-c", "dev"]);
    let (config, a) = (world.config(), world.file("a"));
    let cloud = world.cloud.clone();
    run(config, |bridge| async move {
        bridge.send(a).await;
        until("the push", || bridge.status.committed() == 1 && bridge.status.unpushed_commits() == 0).await;
        let tip = || git(&cloud, &["rev-parse", "dev"]);
        until("the notes", || {
            ["base", "indexed"].iter().all(|name| {
                let note = ["rev-parse", "-q", "--verify", &format!("refs/ghost-bridge/{name}")];
                String::from_utf8_lossy(&crate::world::try_git(&cloud, &note).stdout).trim_end() == tip()
            })
        })
        .await;
        bridge.stop().await;
    });
    world
}

fn damage(world: &World, branch: &str, bytes: &str) {
    write(&world.cloud, &format!(".git/refs/heads/{branch}"), bytes);
}

#[test]
fn a_branch_that_is_damaged_is_not_put_on_what_was_noted_of_another() {
    let world = published_on_dev();
    git(&world.cloud, &["switch", "-q", "main"]);
    let main = git(&world.cloud, &["rev-parse", "main"]);
    for bytes in DAMAGES {
        damage(&world, "main", bytes);
        mend(&world.config(), Utc::now()).unwrap();
        assert_eq!(git(&world.cloud, &["rev-parse", "main"]), main, "{bytes:?}");
    }
    // Without its log the remote tells, and without both nothing does.
    let log = world.cloud.join(".git/logs/refs/heads/main");
    for lost in [&log, &world.cloud.join(".git/logs/HEAD")] {
        std::fs::remove_file(lost).unwrap();
    }
    damage(&world, "main", "");
    mend(&world.config(), Utc::now()).unwrap();
    assert_eq!(git(&world.cloud, &["rev-parse", "main"]), main);
    git(&world.cloud, &["remote", "remove", "origin"]);
    damage(&world, "main", "");
    let refused = mend(&world.config(), Utc::now()).unwrap_err().to_string();
    assert!(refused.contains("refs/heads/main"), "{refused}");
}

#[test]
fn what_was_noted_of_nobody_knows_which_branch_tells_nothing_and_of_the_branch_itself_all() {
    let world = published_on_dev();
    let (dev, first) = (git(&world.cloud, &["rev-parse", "dev"]), git(&world.cloud, &["rev-parse", "main"]));
    // Neither its log nor the remote tells where it was.
    std::fs::remove_dir_all(world.cloud.join(".git/logs")).unwrap();
    git(&world.cloud, &["remote", "remove", "origin"]);
    damage(&world, "dev", "");
    mend(&world.config(), Utc::now()).unwrap();
    assert_eq!(git(&world.cloud, &["rev-parse", "dev"]), dev);
    std::fs::remove_file(world.cloud.join(".git/ghost-bridge/branch")).unwrap();
    damage(&world, "dev", "");
    assert!(mend(&world.config(), Utc::now()).is_err());
    assert_eq!(git(&world.cloud, &["rev-parse", "main"]), first);
}

#[test]
fn a_branch_that_is_switched_to_stays_where_it_is_and_is_published_from_there() {
    let mut world = published_on_dev();
    let dev = git(&world.cloud, &["rev-parse", "dev"]);
    git(&world.cloud, &["switch", "-q", "main"]);
    let status = git(&world.cloud, &["status", "--porcelain"]);
    run(world.config(), |bridge| async move {
        bridge.quiet(&world, 0).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), status);
        let letter = world.reject("b");
        bridge.send(letter).await;
        until("the push", || world.has_on_remote("bridge: DLQ malformed")).await;
        bridge.quiet(&world, 1).await;
        let history = subjects(&world.cloud, "main");
        assert!(!history.contains(&"bridge: results a (exit=0)".to_owned()), "{history:?}");
        assert_eq!(history[0], "first");
        assert_eq!(git(&world.cloud, &["rev-parse", "dev"]), dev);
        bridge.stop().await;
        assert_eq!(git(&world.cloud, &["rev-parse", "main"]), git(&world.remote, &["rev-parse", "main"]));
        world.assert_sound();
    });
}
