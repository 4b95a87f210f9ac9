//! What was filed while nobody listened.

use crate::world::{World, files_of, git, run, subjects, until, write};

#[expect(clippy::await_holding_refcell_ref, reason = "one thread, and nobody else borrows meanwhile")]
#[test]
fn every_line_without_a_commit_gets_one_across_roll_overs_and_restarts() {
    let mut world = World::unborn();
    let config = world.config();
    let (a, b) = (world.file("a"), world.file("b"));
    // `a` and `b` are lost, the log rolls, `c` is filed and a last line is cut short.
    drop((a, b));
    let rolled = world.roll("x");
    world.file("c");
    let odd = world.reject("odd");
    let log = crate::world::read(&world.cloud, "logs/bridge.log").unwrap();
    write(&world.cloud, "logs/bridge.log", &format!("{log}{{\"ts\":\"cut"));
    let expected = [
        "bridge: results a (exit=0)",
        "bridge: results b (exit=0)",
        "bridge: roll over 2 commands",
        "bridge: results c (exit=0)",
        "bridge: DLQ malformed",
    ];
    let world = std::rc::Rc::new(std::cell::RefCell::new(world));
    let inside = std::rc::Rc::clone(&world);
    run(config.clone(), |bridge| async move {
        let world = inside.borrow();
        bridge.quiet(&world, 4).await;
        assert_eq!(subjects(&world.cloud, "main"), expected);
        assert_eq!(files_of(&world.cloud, "main"), [odd.artifacts[0].as_str(), "logs/bridge.log"]);
        assert!(files_of(&world.cloud, "main~2").contains(&rolled));
        bridge.stop().await;
    });
    // Once more: nothing is committed twice, and what comes now goes on from there.
    let log = crate::world::read(&world.borrow().cloud, "logs/bridge.log").unwrap();
    let whole = &log[..=log.rfind('\n').unwrap()];
    write(&world.borrow().cloud, "logs/bridge.log", whole);
    let inside = std::rc::Rc::clone(&world);
    run(config, |bridge| async move {
        let filed = inside.borrow_mut().file("d");
        bridge.send(filed).await;
        bridge.quiet(&inside.borrow(), 1).await;
        assert_eq!(subjects(&inside.borrow().cloud, "main")[5..], ["bridge: results d (exit=0)"]);
        inside.borrow().assert_sound();
    });
}

#[test]
fn messages_that_were_lost_or_come_late_cost_nothing() {
    let mut world = World::unborn();
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        bridge.quiet(&world, 1).await;
        let lost = world.file("b");
        let c = world.file("c");
        bridge.send(c).await;
        until("all three", || subjects(&world.cloud, "main").len() == 3).await;
        // It was committed from the log; now its message comes after all.
        bridge.send(lost).await;
        let d = world.file("d");
        bridge.send(d).await;
        until("the last", || subjects(&world.cloud, "main").last().is_some_and(|s| s.contains(" d "))).await;
        let expected: Vec<_> = ["a", "b", "c", "d"].map(|id| format!("bridge: results {id} (exit=0)")).to_vec();
        assert_eq!(subjects(&world.cloud, "main"), expected);
        assert_eq!(files_of(&world.cloud, "main~2").len(), 5, "b with all its artifacts");
    });
}

#[test]
fn a_chain_that_is_broken_on_disk_does_not_hold_up_publishing() {
    let mut world = World::unborn();
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        bridge.quiet(&world, 1).await;
        let b = world.file("b");
        // The log on disk is gone: the line before `b` is not to be found.
        std::fs::remove_file(world.cloud.join("logs/bridge.log")).unwrap();
        let c = world.file("c");
        drop(b);
        bridge.send(c).await;
        until("c", || subjects(&world.cloud, "main").last().is_some_and(|s| s.contains(" c "))).await;
        assert_eq!(bridge.stop().await.uncommitted, 0);
    });
}

#[test]
fn a_person_who_resets_the_branch_gets_the_lost_commits_again() {
    let mut world = World::unborn();
    run(world.config(), |bridge| async move {
        for id in ["a", "b"] {
            let filed = world.file(id);
            bridge.send(filed).await;
        }
        bridge.quiet(&world, 2).await;
        git(&world.cloud, &["reset", "-q", "--soft", "HEAD~1"]);
        let c = world.file("c");
        bridge.send(c).await;
        let expected: Vec<_> = ["a", "b", "c"].map(|id| format!("bridge: results {id} (exit=0)")).to_vec();
        until("all of them", || subjects(&world.cloud, "main") == expected).await;
        world.assert_sound();
    });
}

#[test]
fn a_person_who_commits_here_is_built_upon() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        bridge.quiet(&world, 1).await;
        write(&world.cloud, "src/a.txt", "mine\n");
        git(&world.cloud, &["commit", "-qam", "by hand"]);
        let b = world.file("b");
        bridge.send(b).await;
        until("the push", || world.has_on_remote("bridge: results b (exit=0)")).await;
        let expected = ["first", "bridge: results a (exit=0)", "by hand", "bridge: results b (exit=0)"];
        assert_eq!(subjects(&world.remote, "main"), expected);
        bridge.quiet(&world, 2).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}

#[test]
fn what_is_filed_and_rolled_while_a_recovery_runs_is_found_once_and_whole() {
    let mut world = World::unborn();
    world.file("a");
    let now = chrono::Utc::now();
    let cancel = std::sync::Arc::default();
    // It looks at the folders now, and at the log later.
    let mut core = publisher::core::Core::open(world.config(), cancel, true, now).unwrap();
    let letter = world.refuse("b", protocol::reason::Reason::BadHmac, false);
    let rolled = world.roll("x");
    core.recover(now).unwrap();
    let expected = ["bridge: results a (exit=0)", "bridge: DLQ bad_hmac", "bridge: roll over 2 commands"];
    assert_eq!(subjects(&world.cloud, "main"), expected);
    assert_eq!(files_of(&world.cloud, "main~1"), [letter.artifacts[0].as_str(), "logs/bridge.log"]);
    // The line after the roll comes by message, which tells of the roll once more.
    let mut after = world.file("c");
    after.log_rolled_to = Some(rolled.clone());
    let settled = core.commit(&[publisher::pending::Pending::from(after)], now).unwrap();
    assert_eq!((settled.items, core.is_recovering()), (1, false));
    assert_eq!(subjects(&world.cloud, "main")[3..], ["bridge: results c (exit=0)"]);
    let kept = crate::world::read(&world.cloud, &rolled).unwrap();
    assert_eq!(git(&world.cloud, &["show", &format!("main:{rolled}")]), kept.trim_end());
    world.assert_sound();
}
