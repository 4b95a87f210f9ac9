//! What a fetch brings into the work tree, and what it leaves.

use crate::world::{World, git, git_with_input, read, run, until, write};

fn deliver(world: &World, clone: &std::path::Path, path: &str, content: &str) {
    git(clone, &["pull", "-q", "--rebase"]);
    write(clone, path, content);
    git(clone, &["add", "-A"]);
    git(clone, &["commit", "-qm", path]);
    let deadline = std::time::Instant::now() + crate::world::PATIENCE;
    while !crate::world::try_git(clone, &["push", "-q"]).status.success() {
        assert!(std::time::Instant::now() < deadline);
        git(clone, &["pull", "-q", "--rebase"]);
    }
    assert!(world.remote.exists());
}

#[test]
fn commands_arrive_by_fetch_and_do_not_come_back_once_they_are_filed() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let clone = world.clone("other");
        deliver(&world, &clone, "commands/x.json", "{\"x\":1}");
        until("the command", || read(&world.cloud, "commands/x.json").is_some()).await;
        assert_eq!(std::fs::read_dir(world.cloud.join("commands")).unwrap().count(), 1, "no temporary file stays");
        // It is filed: its file goes.
        let filed = world.file("x");
        std::fs::remove_file(world.cloud.join("commands/x.json")).unwrap();
        bridge.send(filed).await;
        until("the push", || world.has_on_remote("bridge: results x (exit=0)")).await;
        deliver(&world, &clone, "commands/y.json", "{\"y\":1}");
        until("the next command", || read(&world.cloud, "commands/y.json").is_some()).await;
        assert_eq!(read(&world.cloud, "commands/x.json"), None);
        bridge.quiet(&world, 1).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), " D commands/x.json\n?? meta/");
        assert!(git(&world.remote, &["ls-tree", "-r", "--name-only", "main"]).contains("commands/x.json"));
        // Another document under the old name is a new delivery.
        deliver(&world, &clone, "commands/x.json", "{\"x\":2}");
        until("the new one", || read(&world.cloud, "commands/x.json").as_deref() == Some("{\"x\":2}")).await;
    });
}

#[test]
fn only_what_upstream_changed_and_nobody_here_did_is_checked_out() {
    let world = World::seeded();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let clone = world.clone("other");
        write(&world.cloud, "README.md", "dirty\n");
        write(&world.cloud, "new.txt", "mine, untracked\n");
        std::fs::create_dir(world.cloud.join("blocked")).unwrap();
        std::os::unix::fs::symlink("/tmp", world.cloud.join("linked")).unwrap();
        write(&clone, "README.md", "theirs\n");
        write(&clone, "new.txt", "theirs\n");
        write(&clone, "linked/escape.txt", "theirs\n");
        write(&clone, "run.sh", "#!/bin/sh\n");
        std::os::unix::fs::symlink("run.sh", clone.join("link")).unwrap();
        git(&clone, &["rm", "-q", "src/a.txt"]);
        git(&clone, &["add", "-A"]);
        git(&clone, &["update-index", "--chmod=+x", "run.sh"]);
        git(&clone, &["commit", "-qm", "many"]);
        git(&clone, &["push", "-q"]);
        until("their file", || world.cloud.join("run.sh").exists() && !world.cloud.join("src").join("a.txt").exists())
            .await;
        bridge.quiet(&world, 0).await;
        until("head", || git(&world.cloud, &["log", "-1", "--format=%s"]) == "many").await;
        assert_eq!(read(&world.cloud, "README.md").unwrap(), "dirty\n");
        assert_eq!(read(&world.cloud, "new.txt").unwrap(), "mine, untracked\n");
        assert!(!std::path::Path::new("/tmp/escape.txt").exists());
        assert_eq!(std::fs::read_link(world.cloud.join("link")).unwrap(), std::path::Path::new("run.sh"));
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(world.cloud.join("run.sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "executable as upstream says");
        until("the index", || git(&world.cloud, &["status", "--porcelain"]).contains(" M README.md\n")).await;
        world.assert_sound();
    });
}

#[test]
fn the_log_here_is_the_truth_whatever_upstream_makes_of_it() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        let clone = world.clone("other");
        deliver(&world, &clone, "logs/bridge.log", "forged\n");
        until("it to be put back", || world.has_on_remote("bridge: put back what was published")).await;
        let mine = read(&world.cloud, "logs/bridge.log").unwrap();
        assert!(!mine.contains("forged"));
        let b = world.file("b");
        bridge.send(b).await;
        until("the push", || world.has_on_remote("bridge: results b (exit=0)")).await;
        let log = git(&world.remote, &["show", "main:logs/bridge.log"]);
        assert_eq!(format!("{log}\n"), read(&world.cloud, "logs/bridge.log").unwrap());
    });
}

#[test]
fn a_detached_head_waits_and_goes_on() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        git(&world.cloud, &["switch", "-q", "--detach"]);
        let a = world.file("a");
        bridge.send(a).await;
        until("degraded", || bridge.status.degraded_reason().is_some_and(|r| r.contains("detached"))).await;
        assert_eq!(git(&world.cloud, &["log", "--all", "--format=%s"]), "first");
        git(&world.cloud, &["switch", "-q", "-c", "elsewhere"]);
        until("says so", || bridge.status.degraded_reason().is_some_and(|r| r.contains("elsewhere"))).await;
        git(&world.cloud, &["switch", "-q", "main"]);
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        until("health", || !bridge.status.is_degraded()).await;
        assert_eq!(git(&world.cloud, &["log", "--format=%s", "elsewhere"]), "first");
    });
}

#[test]
fn an_index_that_somebody_holds_is_waited_for() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let lock = world.cloud.join(".git/index.lock");
        std::fs::write(&lock, "").unwrap();
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        assert!(lock.exists(), "it is not ours to remove");
        assert!(bridge.status.index_is_held());
        std::fs::remove_file(&lock).unwrap();
        bridge.quiet(&world, 1).await;
        until("it is over", || !bridge.status.index_is_held()).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}

#[test]
fn a_name_that_is_too_long_here_holds_nothing_up() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let long = "n".repeat(300);
        let commit = format!(
            "commit refs/heads/main\ncommitter P <p@example.org> 1700000000 +0000\ndata 4\nlong\n\
             from refs/heads/main^0\nM 644 inline {long}\ndata 1\nx\nM 644 inline z.txt\ndata 1\nx\n"
        );
        git_with_input(&world.remote, &["fast-import", "--quiet"], commit.as_bytes());
        until("what comes after it", || read(&world.cloud, "z.txt").is_some()).await;
        let filed = world.file("a");
        bridge.send(filed).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        assert!(git(&world.remote, &["ls-tree", "--name-only", "main"]).contains(&long), "it stays in the branch");
        assert!(!bridge.status.is_degraded());
    });
}
