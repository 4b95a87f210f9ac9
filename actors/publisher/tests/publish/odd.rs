//! Upstreams that hold something odd, and a first push that is raced.

use std::path::Path;

use publisher::PublisherConfig;

use crate::world::{World, git, read, run, script, subjects, until, write};

fn result(id: &str) -> String {
    format!("bridge: results {id} (exit=0)")
}

/// Somebody pushes a file or a link in the place of each of our folders.
fn push(cloud: &Path, odd: &str) {
    for name in ["results", "logs", "context", "meta", "dead_letter"] {
        if odd == "link" {
            std::os::unix::fs::symlink("/tmp", cloud.join(name)).unwrap();
        } else {
            std::fs::write(cloud.join(name), "x\n").unwrap();
        }
    }
    git(cloud, &["add", "-A"]);
    git(cloud, &["commit", "-qm", "odd"]);
    git(cloud, &["pull", "-q", "--rebase"]);
    git(cloud, &["push", "-q"]);
}

#[test]
fn files_and_links_in_the_place_of_our_folders_upstream_give_way() {
    for odd in ["file", "link", "late"] {
        let seeded = World::seeded();
        let mut world = World::unborn();
        git(&world.cloud, &["remote", "add", "origin", seeded.remote.to_str().unwrap()]);
        for folder in ["results", "logs", "context", "summaries", "dead_letter", "diffs", "archive"] {
            std::fs::create_dir(world.cloud.join(folder)).unwrap();
        }
        if odd != "late" {
            push(&seeded.cloud, odd);
        }
        let config = PublisherConfig { window: 2, ..world.config() };
        run(config, |bridge| async move {
            until("a first look", || bridge.status.is_ready()).await;
            if odd == "late" {
                until("the first history", || world.cloud.join("README.md").exists()).await;
                push(&seeded.cloud, odd);
            }
            for n in 0..7 {
                let filed = world.file(&format!("c{n}"));
                bridge.send(filed).await;
            }
            until("the pushes", || (0..7).all(|n| seeded.has_on_remote(&result(&format!("c{n}"))))).await;
            bridge.quiet(&world, 7).await;
            write(&world.cloud, "context/mine.md", "mine\n");
            until("the context", || seeded.has_on_remote("bridge: summaries")).await;
            bridge.quiet(&world, 7).await;
            let log = git(&seeded.remote, &["show", "main:logs/bridge.log"]);
            assert_eq!(format!("{log}\n"), read(&world.cloud, "logs/bridge.log").unwrap());
            // Nothing of ours lies in these two, so what upstream put in their place stands in the branch.
            let args = ["status", "--porcelain", "--", ".", ":!meta", ":!dead_letter"];
            until("status", || git(&world.cloud, &args).is_empty()).await;
            world.assert_sound();
        });
    }
}

#[test]
fn a_first_push_to_an_empty_remote_that_is_raced_goes_on_top() {
    let mut world = World::with_remote();
    let other = World::seeded();
    // Whoever pushes first is overtaken while the pack is on its way.
    let done = world.top().join("done");
    let body = format!(
        "[ -e {done} ] && exit 0\ntouch {done}\nenv -i PATH=\"$PATH\" git -C {other} push -q {remote} main >&2",
        done = done.display(),
        other = other.cloud.display(),
        remote = world.remote.display()
    );
    script(&world.remote.join("hooks"), "pre-receive", &body);
    let config = PublisherConfig { window: 1, ..world.config() };
    run(config, |bridge| async move {
        for n in 0..5 {
            let filed = world.file(&format!("c{n}"));
            bridge.send(filed).await;
        }
        until("the pushes", || (0..5).all(|n| world.has_on_remote(&result(&format!("c{n}"))))).await;
        bridge.quiet(&world, 5).await;
        let all = subjects(&world.remote, "main");
        assert_eq!(all[0], "first");
        assert_eq!(all.iter().filter(|s| s.starts_with("bridge: results")).count(), 5, "{all:?}");
        until("their file", || world.cloud.join("src/a.txt").exists()).await;
        until("status", || git(&world.cloud, &["status", "--porcelain"]) == "?? meta/").await;
        world.assert_sound();
    });
}
