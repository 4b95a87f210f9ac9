//! Two clones of one CLOUD, each with a bridge: a mistake that is told, and nothing is done over and over.

use std::path::Path;

use publisher::PublisherConfig;

use crate::world::{World, git, run, start, subjects, try_git, until, write};

/// The message by which a bridge of that number would publish.
fn message(subject: &str, instance: &str) -> String {
    format!("{subject}\n\nBridge-Instance: {instance}")
}

/// A commit as another bridge makes it, pushed from its clone.
fn publish_as(clone: &Path, instance: &str, path: &str) {
    write(clone, path, "x\n");
    git(clone, &["add", "-A"]);
    git(clone, &["commit", "-qm", &message("bridge: results theirs (exit=0)", instance)]);
    loop {
        git(clone, &["pull", "-q", "--rebase"]);
        if try_git(clone, &["push", "-q"]).status.success() {
            return;
        }
    }
}

fn number(world: &World) -> String {
    let text = std::fs::read_to_string(world.cloud.join(".git/ghost-bridge/instance")).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

#[test]
fn another_bridges_commits_make_it_degraded_and_it_puts_nothing_back_until_a_restart() {
    let mut world = World::seeded();
    let other = world.clone("other");
    let theirs = "00112233445566aa";
    let top = world.cloud.clone();
    let config = PublisherConfig { cloud: top, ..world.config() };
    run(config.clone(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        let body = git(&world.remote, &["log", "-1", "--format=%b", "main"]);
        assert_eq!(body, format!("Bridge-Instance: {}", number(&world)), "it names itself");
        // Somebody drops what was published, under the name of another bridge.
        git(&other, &["pull", "-q", "--rebase"]);
        git(&other, &["rm", "-q", "results/a.json"]);
        publish_as(&other, theirs, "results/theirs.json");
        let tip = git(&world.remote, &["rev-parse", "main"]);
        until("the reason", || bridge.status.degraded_reason().is_some_and(|r| r.contains(theirs))).await;
        let b = world.file("b");
        bridge.send(b).await;
        until("b here", || subjects(&world.cloud, "HEAD").contains(&"bridge: results b (exit=0)".to_owned())).await;
        until("the figure", || bridge.status.unpushed_commits() == 1).await;
        // It is looked at again and again, and stays as it is.
        until("it is said still", || bridge.status.degraded_reason().is_some_and(|r| r.contains(&number(&world))))
            .await;
        publish_as(&other, theirs, "results/theirs-2.json");
        bridge.stop().await;
        assert_eq!(git(&world.remote, &["rev-parse", "main~1"]), tip, "it put nothing back");
        // The other one is stopped, this one is restarted: it takes over.
        let bridge = start(config);
        until("the push", || world.has_on_remote("bridge: results b (exit=0)")).await;
        until("health", || !bridge.status.is_degraded()).await;
        assert!(git(&world.remote, &["ls-tree", "-r", "--name-only", "main"]).contains("results/a.json"));
        // And it is not for ever that it believes everything.
        publish_as(&other, theirs, "results/theirs-3.json");
        until("the reason", || bridge.status.degraded_reason().is_some_and(|r| r.contains("another bridge"))).await;
    });
}

#[test]
fn its_own_restart_and_a_lost_number_are_no_rival_and_a_persons_work_neither() {
    let mut world = World::seeded();
    let other = world.clone("other");
    let config = world.config();
    let (first, second) = (config.clone(), config);
    run(first, |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        bridge.stop().await;
        // A power cut took the number.
        std::fs::write(world.cloud.join(".git/ghost-bridge/instance"), "").unwrap();
        let bridge = start(second);
        let b = world.file("b");
        bridge.send(b).await;
        until("the push", || world.has_on_remote("bridge: results b (exit=0)")).await;
        // A person takes a bridge's commit back, merges, and picks one again.
        git(&other, &["pull", "-q", "--rebase"]);
        git(&other, &["switch", "-qc", "side", "main~2"]);
        git(
            &other,
            &["commit", "-q", "--allow-empty", "-m", &message("bridge: results old (exit=0)", "ffffffffffffffff")],
        );
        git(&other, &["switch", "-q", "main"]);
        git(&other, &["merge", "-q", "--no-ff", "-m", "a merge", "side"]);
        write(&other, "person.txt", "x\n");
        git(&other, &["add", "-A"]);
        git(&other, &["commit", "-qm", "a person"]);
        git(&other, &["push", "-q"]);
        until("their file", || world.cloud.join("person.txt").exists()).await;
        assert!(!bridge.status.is_degraded(), "{:?}", bridge.status.degraded_reason());
    });
}
