//! Packs, loose objects, reflogs and leftovers, in a repository that is in use.

use publisher::housekeeping::{LOOSE_MAX, PACKS_MAX, PACKS_URGENT, clutter};

use crate::world::{World, git, run, try_git, until, write};

#[test]
fn packs_and_peoples_loose_objects_are_consolidated_in_a_quiet_moment() {
    let mut world = World::seeded();
    // What a person wants to stay as it is, and what an index of a person's over several packs names.
    let folder = world.cloud.join(".git/objects/pack");
    let packs = || {
        let packs = std::fs::read_dir(&folder).unwrap().flatten().map(|it| it.path());
        packs.filter(|path| path.extension().is_some_and(|it| it == "pack")).collect::<Vec<_>>()
    };
    git(&world.cloud, &["repack", "-adq"]);
    std::fs::write(packs()[0].with_extension("keep"), "theirs\n").unwrap();
    write(&world.cloud, "theirs.txt", "theirs\n");
    git(&world.cloud, &["add", "theirs.txt"]);
    git(&world.cloud, &["commit", "-qm", "theirs"]);
    git(&world.cloud, &["repack", "-dq"]);
    git(&world.cloud, &["multi-pack-index", "write"]);
    let theirs = packs();
    assert_eq!(theirs.len(), 2);
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let objects = world.cloud.join(".git/objects");
        let commands = PACKS_MAX as u64 + 10;
        for n in 0..commands {
            let filed = world.file(&format!("c-{n}"));
            bridge.send(filed).await;
            until("its commit", || bridge.status.committed() > n).await;
        }
        until("fewer packs", || clutter(&objects).packs < PACKS_MAX).await;
        bridge.quiet(&world, commands).await;
        // A person's commit of many files leaves as many loose objects.
        for n in 0..2 * LOOSE_MAX {
            write(&world.cloud, &format!("many/{n}.txt"), &format!("{n}\n"));
        }
        until("no lock", || try_git(&world.cloud, &["add", "many"]).status.success()).await;
        until("their commit", || try_git(&world.cloud, &["commit", "-qm", "many"]).status.success()).await;
        until("no loose objects", || {
            let counts = git(&world.cloud, &["count-objects"]);
            // All of them, so that nobody removes any more what is checked below.
            counts.split(' ').next().unwrap() == "0"
        })
        .await;
        let kept = std::fs::read_dir(objects.join("pack")).unwrap().flatten();
        let kept = kept.filter(|entry| entry.path().extension().is_some_and(|it| it == "keep")).count();
        assert_eq!(kept, 1, "every pack is named by the branch");
        assert!(theirs.iter().all(|pack| pack.exists()));
        git(&world.cloud, &["multi-pack-index", "verify"]);
        world.assert_sound();
    });
}

#[test]
fn many_packs_are_consolidated_although_there_is_never_a_quiet_moment() {
    let mut world = World::seeded();
    let packs = {
        let objects = world.cloud.join(".git/objects");
        move || clutter(&objects).packs
    };
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        // What cannot be pushed is never quiet.
        let away = world.remote.with_extension("away");
        std::fs::rename(&world.remote, &away).unwrap();
        let (mut sent, mut most) = (0, 0);
        while sent < PACKS_URGENT as u64 || packs() >= PACKS_MAX {
            let filed = world.file(&format!("c-{sent}"));
            bridge.send(filed).await;
            sent += 1;
            until("its commit", || bridge.status.committed() >= sent).await;
            most = most.max(packs());
            assert!(sent < 20 * PACKS_URGENT as u64, "they are never consolidated");
        }
        assert!(most > 2 * PACKS_MAX, "{most}: there was a quiet moment");
        std::fs::rename(&away, &world.remote).unwrap();
        until("a push", || git(&world.remote, &["rev-list", "--count", "main"]) == (sent + 1).to_string()).await;
        bridge.quiet(&world, sent).await;
        world.assert_sound();
    });
}

#[test]
fn a_reflog_that_has_grown_is_trimmed_and_keeps_what_people_did() {
    let mut world = World::seeded();
    let zero = "0".repeat(40);
    let head = git(&world.cloud, &["rev-parse", "HEAD"]);
    let line = move |what: &str| format!("{zero} {head} A <a@b> 1700000000 +0000\t{what}\n");
    for log in ["HEAD", "refs/heads/main"] {
        let text = line("commit: mine") + &line("bridge: 1 commits").repeat(10_000);
        write(&world.cloud, &format!(".git/logs/{log}"), &text);
    }
    let first = line("commit: mine");
    run(world.config(), |bridge| async move {
        for n in 0..PACKS_MAX as u64 + 10 {
            let filed = world.file(&format!("c-{n}"));
            bridge.send(filed).await;
            until("its commit", || bridge.status.committed() > n).await;
        }
        for log in ["HEAD", "refs/heads/main"] {
            let path = world.cloud.join(".git/logs").join(log);
            let lines = || std::fs::read_to_string(&path).unwrap().lines().count();
            until("a shorter reflog", || lines() < 2_000).await;
            assert!(lines() > 1_000);
            assert!(std::fs::read_to_string(&path).unwrap().starts_with(&first));
        }
        assert_eq!(git(&world.cloud, &["rev-parse", "main@{0}"]), git(&world.cloud, &["rev-parse", "main"]));
    });
}
