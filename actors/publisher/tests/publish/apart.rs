//! Files that upstream changed and that were changed here, too; and what of upstream's changes is taken at all.

use std::sync::Arc;

use publisher::{Checkout, Permits, PublisherConfig};

use crate::world::{World, git, read, run, start, try_git, until, write};

fn push(clone: &std::path::Path, changes: &[(&str, &str)]) {
    loop {
        git(clone, &["pull", "-q", "--rebase"]);
        changes.iter().for_each(|(path, content)| write(clone, path, content));
        git(clone, &["add", "-A"]);
        try_git(clone, &["commit", "-qm", "a person"]);
        if try_git(clone, &["push", "-q"]).status.success() {
            return;
        }
    }
}

#[test]
fn what_stands_apart_is_counted_across_a_restart_until_both_agree_again() {
    let world = World::seeded();
    let other = world.clone("other");
    let config = world.config();
    let again = config.clone();
    run(config, |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        // As a command would.
        write(&world.cloud, "src/a.txt", "a command's\n");
        write(&world.cloud, "README.md", "a command's, too\n");
        push(&other, &[("src/a.txt", "theirs\n"), ("README.md", "theirs\n"), ("commands/x.json", "{}")]);
        until("both are counted", || bridge.status.files_apart() == 2).await;
        until("the list", || publisher::apart(&world.cloud) == ["README.md", "src/a.txt"]).await;
        bridge.stop().await;
        let bridge = start(again);
        until("still", || bridge.status.files_apart() == 2).await;
        git(&world.cloud, &["checkout", "-q", "HEAD", "--", "src/a.txt"]);
        until("one agrees", || bridge.status.files_apart() == 1).await;
        push(&other, &[("README.md", "a command's, too\n")]);
        until("both agree", || bridge.status.files_apart() == 0).await;
        until("the list", || publisher::apart(&world.cloud).is_empty()).await;
        assert!(!bridge.status.is_degraded());
    });
}

#[test]
fn with_commands_alone_nothing_else_is_taken_into_the_work_tree() {
    let mut world = World::seeded();
    let other = world.clone("other");
    let config = PublisherConfig { checkout: Checkout::Commands, ..world.config() };
    run(config, |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let changes = [
            ("src/a.txt", "theirs\n"),
            ("new.txt", "x"),
            ("results/x.json", "{}"),
            ("context/c.md", "c\n"),
            ("commands/x.json", "{}"),
        ];
        push(&other, &changes);
        until("the document", || read(&world.cloud, "commands/x.json").is_some()).await;
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        assert_eq!(read(&world.cloud, "src/a.txt").as_deref(), Some("a\n"));
        assert!(read(&world.cloud, "new.txt").is_none() && read(&world.cloud, "results/x.json").is_none());
        assert_eq!(read(&world.cloud, "context/c.md").as_deref(), Some("c\n"), "it is exchanged");
        let there = git(&world.remote, &["show", "main:src/a.txt", "main:new.txt", "main:context/c.md"]);
        assert_eq!(there, "theirs\nxc", "the branch has it all");
        assert_eq!((bridge.status.files_apart(), bridge.status.is_degraded()), (0, false));
    });
}

#[test]
fn with_what_commands_may_touch_the_operators_rules_hold_for_upstream() {
    let world = World::seeded();
    let other = world.clone("other");
    let permits = Permits(Arc::new(|path: &str| !path.starts_with("src/")));
    let config = PublisherConfig { checkout: Checkout::Allowed(permits), ..world.config() };
    run(config, |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        push(&other, &[("src/a.txt", "theirs\n"), ("new.txt", "x"), ("commands/x.json", "{}")]);
        until("what is permitted", || read(&world.cloud, "new.txt").is_some()).await;
        until("the document", || read(&world.cloud, "commands/x.json").is_some()).await;
        assert_eq!(read(&world.cloud, "src/a.txt").as_deref(), Some("a\n"));
    });
}
