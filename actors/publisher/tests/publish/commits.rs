//! What commits hold.

use std::time::Instant;

use crate::world::{World, files_of, git, read, run, subjects, until, write};

#[test]
fn each_command_gets_one_commit_with_exactly_its_artifacts_on_an_unborn_branch() {
    let mut world = World::unborn();
    run(world.config(), |bridge| async move {
        write(&world.cloud, "mine.txt", "not yours\n");
        let first = world.file("a-1");
        let second = world.reject("odd");
        bridge.send(first).await;
        bridge.send(second.clone()).await;
        bridge.quiet(&world, 2).await;
        assert_eq!(subjects(&world.cloud, "main"), ["bridge: results a-1 (exit=0)", "bridge: DLQ malformed"]);
        assert_eq!(
            files_of(&world.cloud, "main~1"),
            [
                "archive/a-1.json",
                "diffs/a-1.patch",
                "logs/bridge.log",
                "results/a-1.integrity.json",
                "results/a-1.json"
            ]
        );
        assert_eq!(files_of(&world.cloud, "main"), [second.artifacts[0].as_str(), "logs/bridge.log"]);
        let log = git(&world.cloud, &["show", "main~1:logs/bridge.log"]);
        assert_eq!(log.lines().count(), 1, "the log up to its own line, not later ones that are on disk already");
        assert_eq!(
            git(&world.cloud, &["log", "-1", "--format=%an <%ae> %cn"]),
            "ghost-bridge <ghost-bridge@localhost> ghost-bridge"
        );
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/\n?? mine.txt");
        assert_eq!(read(&world.cloud, "meta/retries.json").unwrap(), "{}\n");
        assert_eq!(bridge.stop().await.uncommitted, 0);
        world.assert_sound();
    });
}

#[test]
fn a_missing_artifact_does_not_hold_up_the_rest() {
    let mut world = World::unborn();
    run(world.config(), |bridge| async move {
        let filed = world.file("a");
        std::fs::remove_file(world.cloud.join("diffs/a.patch")).unwrap();
        std::fs::remove_file(world.cloud.join("archive/a.json")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", world.cloud.join("archive/a.json")).unwrap();
        bridge.send(filed).await;
        bridge.quiet(&world, 1).await;
        let files = files_of(&world.cloud, "main");
        assert_eq!(files, ["logs/bridge.log", "results/a.integrity.json", "results/a.json"]);
    });
}

#[test]
fn the_log_rolls_over_in_a_commit_of_its_own() {
    let mut world = World::unborn();
    run(world.config(), |bridge| async move {
        let (a, b) = (world.file("a"), world.file("b"));
        let old = read(&world.cloud, "logs/bridge.log").unwrap();
        let rolled = world.roll("x");
        let mut c = world.file("c");
        c.log_rolled_to = Some(rolled.clone());
        for filed in [a, b, c] {
            bridge.send(filed).await;
        }
        bridge.quiet(&world, 3).await;
        let expected = [
            "bridge: results a (exit=0)",
            "bridge: results b (exit=0)",
            "bridge: roll over 2 commands",
            "bridge: results c (exit=0)",
        ];
        assert_eq!(subjects(&world.cloud, "main"), expected);
        assert_eq!(files_of(&world.cloud, "main~1"), [rolled.as_str(), "logs/bridge.log"]);
        assert_eq!(git(&world.cloud, &["show", &format!("main:{rolled}")]), old.trim_end());
        assert_eq!(git(&world.cloud, &["show", "main:logs/bridge.log"]).lines().count(), 1);
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
        world.assert_sound();
    });
}

#[test]
fn summaries_and_context_are_published_as_they_are_found() {
    let world = World::seeded();
    write(&world.cloud, "context/old.md", "old\n");
    git(&world.cloud, &["add", "context"]);
    git(&world.cloud, &["commit", "-qm", "context"]);
    run(world.config(), |bridge| async move {
        write(&world.cloud, "summaries/2026/s.md", "one\n");
        write(&world.cloud, "summaries/.hidden", "no\n");
        std::os::unix::fs::symlink("/etc/passwd", world.cloud.join("summaries/link")).unwrap();
        let has =
            |n| move |w: &World| subjects(&w.remote, "main").iter().filter(|s| *s == "bridge: summaries").count() == n;
        until("the first", || has(1)(&world)).await;
        assert_eq!(files_of(&world.remote, "main"), ["summaries/2026/s.md"]);
        write(&world.cloud, "summaries/2026/s.md", "two, longer\n");
        until("the second", || has(2)(&world)).await;
        assert_eq!(git(&world.remote, &["show", "main:summaries/2026/s.md"]), "two, longer");
        std::fs::remove_file(world.cloud.join("context/old.md")).unwrap();
        until("the third", || has(3)(&world)).await;
        assert_eq!(files_of(&world.remote, "main"), ["context/old.md"]);
        bridge.quiet(&world, 0).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/\n?? summaries/.hidden\n?? summaries/link");
    });
}

#[test]
fn other_peoples_files_survive_dirty_staged_and_untracked() {
    let mut world = World::seeded();
    write(&world.cloud, "README.md", "dirty\n");
    write(&world.cloud, "staged.txt", "staged\n");
    git(&world.cloud, &["add", "staged.txt"]);
    write(&world.cloud, "src/a.txt", "staged a\n");
    git(&world.cloud, &["add", "src/a.txt"]);
    write(&world.cloud, "src/a.txt", "staged a, then dirty\n");
    write(&world.cloud, "untracked.txt", "untracked\n");
    let status = " M README.md\nMM src/a.txt\nA  staged.txt\n?? meta/\n?? untracked.txt";
    run(world.config(), |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        bridge.quiet(&world, 1).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), status);
        // Upstream changes one of them, and another beside.
        let clone = world.clone("other");
        write(&clone, "README.md", "theirs\n");
        write(&clone, "src/b.txt", "b\n");
        git(&clone, &["add", "-A"]);
        git(&clone, &["commit", "-qm", "theirs"]);
        git(&clone, &["push", "-q"]);
        until("their file", || read(&world.cloud, "src/b.txt").is_some()).await;
        let filed = world.file("b");
        bridge.send(filed).await;
        until("the push", || world.has_on_remote("bridge: results b (exit=0)")).await;
        bridge.quiet(&world, 2).await;
        assert_eq!(read(&world.cloud, "README.md").unwrap(), "dirty\n");
        assert_eq!(git(&world.cloud, &["show", "HEAD:README.md"]), "theirs");
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), status);
        assert_eq!(git(&world.cloud, &["show", ":src/a.txt"]), "staged a");
        world.assert_sound();
    });
}

#[test]
fn two_thousand_at_once() {
    let mut world = World::with_remote();
    run(world.config(), |bridge| async move {
        let all: Vec<_> = (0..2000).map(|n| world.file(&format!("c-{n:04}"))).collect();
        let start = Instant::now();
        for filed in all {
            bridge.send(filed).await;
        }
        until("the commits", || bridge.status.committed() == 2000).await;
        let committed = start.elapsed();
        until("the push", || world.has_on_remote("bridge: results c-1999 (exit=0)")).await;
        println!("2,000 commands: committed after {committed:?}, pushed after {:?}", start.elapsed());
        let expected: Vec<String> = (0..2000).map(|n| format!("bridge: results c-{n:04} (exit=0)")).collect();
        let (rolled, commands): (Vec<_>, Vec<_>) =
            subjects(&world.remote, "main").into_iter().partition(|subject| subject.starts_with("bridge: roll over"));
        assert_eq!((commands, rolled.len()), (expected, 14), "one of 129 commands after 257, and then after 129 more");
        bridge.quiet(&world, 2000).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
        world.assert_sound();
        println!("{}", git(&world.cloud, &["count-objects", "-vH"]));
    });
}

#[test]
fn lone_commands_one_after_another_keep_the_packs_few() {
    let mut world = World::with_remote();
    run(world.config(), |bridge| async move {
        let mut latencies = Vec::new();
        for n in 0..120 {
            let filed = world.file(&format!("c-{n:04}"));
            let subject = filed.subject.to_string();
            let start = Instant::now();
            bridge.send(filed).await;
            until("the push", || bridge.status.committed() == n + 1 && bridge.status.unpushed_commits() == 0).await;
            latencies.push(start.elapsed());
            assert!(world.has_on_remote(&subject));
        }
        latencies.sort();
        println!("a lone command is pushed after {:?} (median), {:?} (worst)", latencies[60], latencies[119]);
        let packs = || std::fs::read_dir(world.cloud.join(".git/objects/pack")).unwrap().count() / 2;
        until("fewer packs", || packs() < 60).await;
        bridge.quiet(&world, 120).await;
        // Packs may be being consolidated right now, and fsck does not bear their going away under it.
        bridge.stop_within(crate::world::PATIENCE).await;
        world.assert_sound();
    });
}
