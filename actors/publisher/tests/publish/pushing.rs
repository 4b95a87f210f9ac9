//! A push adds to what the remote is known to have, or does nothing at all.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use publisher::PublisherConfig;
use publisher::status::Push;

use crate::world::{World, git, git_with_input, run, script, subjects, try_git, until, write};

fn pushed(world: &World, id: &str) -> bool {
    world.has_on_remote(&format!("bridge: results {id} (exit=0)"))
}

/// No look at the remote but those that a push asks for.
fn without_looks(world: &World) -> PublisherConfig {
    PublisherConfig { fetch_every: Duration::from_secs(3600), ..world.config() }
}

/// Has every fetch and push noted down by the remote's side; returns how many there were of each.
fn counted(world: &World) -> impl Fn() -> (usize, usize) + use<> {
    let logs = ["upload-pack", "receive-pack"].map(|service| {
        let log = world.top().join(format!("{service}.log"));
        let program = script(world.top(), service, &format!("echo x >> {}\nexec git {service} \"$@\"", log.display()));
        git(
            &world.cloud,
            &["config", &format!("remote.origin.{}", service.replace('-', "")), program.to_str().unwrap()],
        );
        log
    });
    move || {
        let [fetches, pushes] = [0, 1].map(|n| std::fs::read_to_string(&logs[n]).unwrap_or_default().lines().count());
        (fetches, pushes)
    }
}

#[test]
fn a_lone_command_costs_one_push_and_no_fetch() {
    let mut world = World::seeded();
    let contacts = counted(&world);
    run(without_looks(&world), |bridge| async move {
        until("the first look", || contacts().0 == 1).await;
        for n in 0..5 {
            let filed = world.file(&format!("c-{n}"));
            bridge.send(filed).await;
            until("the push", || pushed(&world, &format!("c-{n}")) && bridge.status.unpushed_commits() == 0).await;
        }
        assert_eq!(contacts(), (1, 5));
    });
}

#[test]
fn a_remote_that_moved_on_is_looked_at_and_pushed_to_at_once() {
    let mut world = World::seeded();
    let config = without_looks(&world);
    run(config, |bridge| async move {
        let clone = world.clone("other");
        for n in 0..3 {
            let filed = world.file(&format!("c-{n}"));
            bridge.send(filed).await;
            until("the push", || pushed(&world, &format!("c-{n}")) && bridge.status.unpushed_commits() == 0).await;
            git(&clone, &["pull", "-q", "--rebase"]);
            write(&clone, "theirs.txt", &n.to_string());
            git(&clone, &["add", "-A"]);
            git(&clone, &["commit", "-qm", &format!("theirs {n}")]);
            git(&clone, &["push", "-q"]);
        }
        assert_eq!(bridge.status.pushes(Push::Failed), 0, "being overtaken is no failure");
        let filed = world.file("last");
        bridge.send(filed).await;
        until("the push", || pushed(&world, "last")).await;
        let all = subjects(&world.remote, "main");
        let expected = (0..3).flat_map(|n| [format!("bridge: results c-{n} (exit=0)"), format!("theirs {n}")]);
        assert_eq!(all[1..7], expected.collect::<Vec<_>>());
        assert_eq!(all.len(), 8);
    });
}

#[test]
fn what_was_dropped_from_the_remote_is_not_pushed_back() {
    let mut world = World::seeded();
    run(without_looks(&world), |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("the push", || pushed(&world, "a") && bridge.status.unpushed_commits() == 0).await;
        // The remote's commit is an ancestor of ours now: to a plain push that looks like one that is merely behind.
        git(&world.remote, &["update-ref", "refs/heads/main", "main~1"]);
        let filed = world.file("b");
        bridge.send(filed).await;
        until("degraded", || bridge.status.is_degraded()).await;
        let reason = bridge.status.degraded_reason().unwrap();
        assert!(reason.contains("was rewritten"), "{reason}");
        bridge.stop().await;
        assert_eq!(subjects(&world.remote, "main"), ["first"]);
    });
}

#[test]
fn a_branch_that_is_gone_from_the_remote_is_pushed_whole() {
    let mut world = World::seeded();
    run(without_looks(&world), |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("the push", || pushed(&world, "a") && bridge.status.unpushed_commits() == 0).await;
        git(&world.remote, &["update-ref", "-d", "refs/heads/main"]);
        let filed = world.file("b");
        bridge.send(filed).await;
        until("the push", || pushed(&world, "b") && bridge.status.unpushed_commits() == 0).await;
        assert_eq!(subjects(&world.remote, "main"), subjects(&world.cloud, "main"));
        assert!(!bridge.status.is_degraded());
    });
}

/// A person's history of `commits` commits, every hundredth of which merges a side branch.
fn import(cloud: &Path, commits: u32) {
    let mut stream = String::new();
    for n in 1..=commits {
        let side = n % 100 == 50;
        let branch = if side { "side" } else { "main" };
        let from = if side { "from refs/heads/main\n" } else { "" };
        let merge = if n % 100 == 60 { "merge refs/heads/side\n" } else { "" };
        let date = format!("P <p@example.org> {} +0000", 1_700_000_000 + n);
        write!(stream, "commit refs/heads/{branch}\ncommitter {date}\ndata 1\nx\n{from}{merge}").unwrap();
        write!(stream, "M 644 inline {branch}.txt\ndata {}\n{n}\n", n.to_string().len()).unwrap();
    }
    git_with_input(cloud, &["fast-import", "--quiet", "--force"], stream.as_bytes());
    git(cloud, &["reset", "-q", "--hard", "main"]);
}

#[test]
fn much_that_gathered_is_pushed_in_parts() {
    let mut world = World::with_remote();
    import(&world.cloud, 40_000);
    let contacts = counted(&world);
    run(without_looks(&world), |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("all", || pushed(&world, "a") && bridge.status.unpushed_commits() == 0).await;
        assert_eq!(git(&world.remote, &["rev-parse", "main"]), git(&world.cloud, &["rev-parse", "main"]));
        assert!((3..=5).contains(&contacts().1), "{:?}", contacts());
        assert_eq!(try_git(&world.remote, &["fsck", "--connectivity-only"]).status.code(), Some(0));
    });
}
