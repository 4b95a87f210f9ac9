//! The retries index: what is noted, what goes, and what it never holds up.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use protocol::reason::Reason;
use publisher::{PublisherConfig, attempts};

use crate::world::{Bridge, World, files_of, git, read, run, subjects, until, write};

const INDEX: &str = "meta/retries.json";
const UPDATE: &str = "bridge: retries index update";
/// Before whatever the log of a [`World`] says.
const EARLIER: &str = "2026-11-22T00:00:00.000Z";
/// After it.
const LATER: &str = "2026-11-24T00:00:00.000Z";

fn index(entries: &[(&str, u32, &str)]) -> String {
    let entry = |(id, attempts, at): &(&str, u32, &str)| {
        format!("\"{id}\": {{\"attempts\": {attempts}, \"last_error\": \"io_error: disk\", \"last_ts\": \"{at}\"}}")
    };
    format!("{{{}}}\n", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
}

fn updates(world: &World) -> usize {
    subjects(&world.cloud, "main").iter().filter(|subject| *subject == UPDATE).count()
}

fn committed(world: &World) -> Option<String> {
    let shown = crate::world::try_git(&world.cloud, &["show", &format!("main:{INDEX}")]);
    shown.status.success().then(|| String::from_utf8(shown.stdout).unwrap())
}

fn counts(pairs: &[(&str, u32)]) -> BTreeMap<String, u32> {
    pairs.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect()
}

/// Names of files that were set aside.
fn aside(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.cloud.join("meta")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("retries.json.bad-")).collect()
}

async fn noted(world: &World, bridge: &Bridge, expected: &[(&str, u32)]) {
    let expected = counts(expected);
    until("the index", || {
        attempts(&world.cloud) == expected
            && bridge.status.retries_pending() == expected.len() as u64
            && (committed(world) == read(&world.cloud, INDEX) || (expected.is_empty() && committed(world).is_none()))
    })
    .await;
}

#[test]
fn a_failed_try_is_noted_in_a_commit_of_its_own_and_goes_when_the_command_is_settled() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        bridge.tried("a", 1).await;
        bridge.tried("b", 2).await;
        noted(&world, &bridge, &[("a", 1), ("b", 2)]).await;
        assert_eq!(subjects(&world.cloud, "main").last().unwrap(), UPDATE);
        assert_eq!(files_of(&world.cloud, "main"), [INDEX]);
        let text = read(&world.cloud, INDEX).unwrap();
        for part in ["\"attempts\": 2", "\"last_error\": \"io_error: no space left\"", "\"2023-11-14T22:13:22.000Z\""] {
            assert!(text.contains(part), "{text}");
        }
        bridge.tried("a", 2).await;
        noted(&world, &bridge, &[("a", 2), ("b", 2)]).await;
        let before = updates(&world);
        let a = world.file("a");
        let mut own = a.artifacts.clone();
        bridge.send(a).await;
        noted(&world, &bridge, &[("b", 2)]).await;
        let expected = ["bridge: results a (exit=0)", UPDATE];
        assert_eq!(subjects(&world.cloud, "main")[before + 1..], expected, "first its commit, then the index");
        own.push("logs/bridge.log".to_owned());
        own.sort();
        assert_eq!(files_of(&world.cloud, "main~1"), own);
        assert_eq!(files_of(&world.cloud, "main"), [INDEX]);
        let b = world.refuse("b", Reason::PatchConflict, true);
        bridge.send(b).await;
        noted(&world, &bridge, &[]).await;
        assert_eq!(committed(&world).unwrap(), "{}\n");
        until("the push", || subjects(&world.remote, "main") == subjects(&world.cloud, "main")).await;
        bridge.quiet(&world, 2).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "");
        world.assert_sound();
    });
}

#[test]
fn neither_a_forger_nor_another_document_of_that_id_settles_a_command() {
    let mut world = World::unborn();
    run(world.config(), |bridge| async move {
        bridge.tried("a", 3).await;
        noted(&world, &bridge, &[("a", 3)]).await;
        for filed in [world.refuse("a", Reason::BadHmac, false), world.refuse("a", Reason::DuplicateId, true)] {
            bridge.send(filed).await;
        }
        bridge.quiet(&world, 2).await;
        bridge.tried("b", 1).await;
        noted(&world, &bridge, &[("a", 3), ("b", 1)]).await;
    });
}

#[test]
fn what_comes_in_a_burst_is_written_and_committed_together() {
    let world = World::unborn();
    run(world.config(), |bridge| async move {
        let start = Instant::now();
        let ids: Vec<String> = (0..300).map(|n| format!("c-{n:03}")).collect();
        for id in &ids {
            bridge.tried(id, 1).await;
        }
        let all: Vec<(&str, u32)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        noted(&world, &bridge, &all).await;
        // One at once, and then one a pause.
        let most = 2 + start.elapsed().as_secs();
        assert!(updates(&world) as u64 <= most, "{} updates", updates(&world));
        // While no commit can be made, everything waits for one.
        let before = updates(&world);
        git(&world.cloud, &["symbolic-ref", "HEAD", "refs/heads/elsewhere"]);
        for id in &ids {
            bridge.tried(id, 2).await;
        }
        until("the file", || attempts(&world.cloud).values().all(|count| *count == 2)).await;
        assert_eq!(updates(&world), before);
        git(&world.cloud, &["symbolic-ref", "HEAD", "refs/heads/main"]);
        until("the branch", || committed(&world) == read(&world.cloud, INDEX)).await;
        assert_eq!(updates(&world), before + 1);
        world.assert_sound();
    });
}

#[test]
fn a_note_that_waits_does_not_outlive_its_command() {
    let mut world = World::unborn();
    run(world.config(), |bridge| async move {
        let ids: Vec<String> = (0..50).map(|n| format!("c-{n:02}")).collect();
        for id in &ids {
            let filed = world.file(id);
            bridge.tried(id, 1).await;
            bridge.send(filed).await;
        }
        bridge.tried("left", 1).await;
        bridge.quiet(&world, 50).await;
        noted(&world, &bridge, &[("left", 1)]).await;
        let artifacts = |n: usize| files_of(&world.cloud, &format!("main~{n}"));
        for (n, subject) in subjects(&world.cloud, "main").iter().rev().enumerate() {
            assert_eq!(artifacts(n).contains(&INDEX.to_owned()), subject == UPDATE, "{subject}");
        }
    });
}

#[test]
fn a_stop_notes_and_pushes_what_waits() {
    let world = World::seeded();
    // No look at the remote comes in between.
    let config = PublisherConfig { fetch_every: Duration::from_secs(3600), ..world.config() };
    run(config, |bridge| async move {
        bridge.tried("a", 1).await;
        until("the push", || world.has_on_remote(UPDATE)).await;
        bridge.quiet(&world, 0).await;
        bridge.tried("b", 2).await;
        assert_eq!(bridge.stop_within(crate::world::PATIENCE).await.unpushed, 0);
        assert_eq!(attempts(&world.cloud), counts(&[("a", 1), ("b", 2)]));
        assert_eq!(subjects(&world.remote, "main"), ["first", UPDATE, UPDATE]);
    });
}

#[test]
fn a_start_goes_on_with_what_it_finds() {
    let mut world = World::unborn();
    let (config, cloud) = (world.config(), world.cloud.clone());
    assert_eq!(attempts(&cloud), BTreeMap::new());
    run(config.clone(), |bridge| async move {
        bridge.tried("a", 4).await;
        bridge.tried("b", 5).await;
        bridge.stop().await;
        assert_eq!(attempts(&cloud), counts(&[("a", 4), ("b", 5)]));
    });
    let before = updates(&world);
    run(config, |bridge| async move {
        noted(&world, &bridge, &[("a", 4), ("b", 5)]).await;
        let a = world.file("a");
        bridge.send(a).await;
        noted(&world, &bridge, &[("b", 5)]).await;
        let expected = ["bridge: results a (exit=0)", UPDATE];
        assert_eq!(subjects(&world.cloud, "main")[before..], expected, "a start by itself commits nothing");
    });
}

#[test]
fn a_crash_between_a_command_and_the_index_is_mended_at_the_start() {
    let mut world = World::unborn();
    let config = world.config();
    // `old` was settled and the log rolled; `a` was settled; `x` was refused, and came again later.
    world.file("old");
    world.roll("x");
    world.file("a");
    world.refuse("x", Reason::Expired, true);
    let cloud = world.cloud.clone();
    run(config.clone(), |bridge| async move {
        until("the commits", || bridge.status.committed() == 3).await;
        bridge.stop().await;
    });
    // `c` is filed and has no commit yet; the index still tells of all of them, and of one that was not settled.
    world.file("c");
    let entries = [("old", 1, EARLIER), ("a", 2, LATER), ("x", 3, LATER), ("c", 4, EARLIER), ("left", 5, EARLIER)];
    write(&cloud, INDEX, &index(&entries));
    run(config, |bridge| async move {
        until("the index", || attempts(&cloud) == counts(&[("left", 5), ("x", 3)])).await;
        until("its commit", || subjects(&cloud, "main").last().is_some_and(|subject| subject == UPDATE)).await;
        until("the figure", || bridge.status.retries_pending() == 2).await;
        let all = subjects(&cloud, "main");
        assert_eq!(all[all.len() - 2..], ["bridge: results c (exit=0)", UPDATE], "what is filed comes first");
        assert_eq!(git(&cloud, &["show", &format!("main:{INDEX}")]) + "\n", read(&cloud, INDEX).unwrap());
    });
}

#[test]
fn commits_that_a_person_took_back_come_before_the_index() {
    let mut world = World::unborn();
    // Nothing but the note itself looks at the branch.
    let config = PublisherConfig { fetch_every: Duration::from_secs(3600), ..world.config() };
    run(config, |bridge| async move {
        for id in ["a", "b"] {
            let filed = world.file(id);
            bridge.send(filed).await;
        }
        bridge.quiet(&world, 2).await;
        git(&world.cloud, &["reset", "-q", "--soft", "HEAD~1"]);
        bridge.tried("c", 1).await;
        noted(&world, &bridge, &[("c", 1)]).await;
        let expected = ["bridge: results a (exit=0)", "bridge: results b (exit=0)", UPDATE];
        assert_eq!(subjects(&world.cloud, "main"), expected);
    });
}

#[test]
fn an_index_that_was_never_published_is_and_goes_with_its_commands() {
    let mut world = World::seeded();
    write(&world.cloud, INDEX, &index(&[("a", 2, EARLIER)]));
    run(world.config(), |bridge| async move {
        until("its commit", || world.has_on_remote(UPDATE)).await;
        let a = world.file("a");
        bridge.send(a).await;
        until("the entry to go", || git(&world.remote, &["show", &format!("main:{INDEX}")]) == "{}").await;
    });
}

#[test]
fn whatever_is_no_index_is_set_aside_and_kept() {
    let garbage = |at: &Path| fs::write(at, "{ not json").unwrap();
    let large = |at: &Path| fs::File::create(at).unwrap().set_len(publisher::retries::MAX_INDEX_BYTES + 1).unwrap();
    let link = |at: &Path| symlink("/etc/passwd", at).unwrap();
    let folder = |at: &Path| fs::create_dir(at).unwrap();
    let makers: [&dyn Fn(&Path); 4] = [&garbage, &large, &link, &folder];
    for make in makers {
        let world = World::unborn();
        fs::create_dir(world.cloud.join("meta")).unwrap();
        make(&world.cloud.join(INDEX));
        let before = fs::symlink_metadata(world.cloud.join(INDEX)).unwrap();
        assert_eq!(attempts(&world.cloud), BTreeMap::new());
        run(world.config(), |bridge| async move {
            until("ready", || bridge.status.is_ready()).await;
            assert_eq!(read(&world.cloud, INDEX).unwrap(), "{}\n");
            let aside = aside(&world);
            assert_eq!(aside.len(), 1, "{aside:?}");
            let kept = fs::symlink_metadata(world.cloud.join("meta").join(&aside[0])).unwrap();
            assert_eq!((kept.file_type(), kept.len()), (before.file_type(), before.len()));
            bridge.tried("a", 1).await;
            noted(&world, &bridge, &[("a", 1)]).await;
            assert_eq!(files_of(&world.cloud, "main"), [INDEX], "what was set aside is not published");
        });
    }
}

#[test]
fn what_somebody_wrote_over_it_meanwhile_is_kept_too() {
    let world = World::unborn();
    run(world.config(), |bridge| async move {
        bridge.tried("a", 1).await;
        noted(&world, &bridge, &[("a", 1)]).await;
        for (count, theirs) in ["half writ", &index(&[("theirs", 1, LATER)])].into_iter().enumerate() {
            write(&world.cloud, INDEX, theirs);
            let tries = u32::try_from(count).unwrap() + 2;
            bridge.tried("a", tries).await;
            noted(&world, &bridge, &[("a", tries)]).await;
            let kept = aside(&world).into_iter().any(|name| read(&world.cloud.join("meta"), &name).unwrap() == theirs);
            assert!(kept, "{theirs}");
            assert_eq!(aside(&world).len(), count + 1);
        }
        fs::remove_file(world.cloud.join(INDEX)).unwrap();
        bridge.tried("a", 5).await;
        noted(&world, &bridge, &[("a", 5)]).await;
    });
}

#[test]
fn an_index_that_cannot_be_written_holds_up_nothing() {
    let mut world = World::seeded();
    let meta = world.cloud.join("meta");
    // Nothing can be written where the folder should be.
    fs::write(&meta, "in the way").unwrap();
    run(world.config(), |bridge| async move {
        bridge.tried("a", 1).await;
        let b = world.file("b");
        bridge.send(b).await;
        until("the push", || world.has_on_remote("bridge: results b (exit=0)")).await;
        assert!(bridge.status.is_ready() && !bridge.status.is_degraded());
        until("it to be known", || bridge.status.retries_pending() == 1).await;
        fs::remove_file(&meta).unwrap();
        noted(&world, &bridge, &[("a", 1)]).await;
        // The same while it runs, and a stop does not wait for it.
        fs::rename(&meta, world.cloud.join("elsewhere")).unwrap();
        fs::write(&meta, "in the way").unwrap();
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        until("it to be known", || bridge.status.retries_pending() == 0).await;
        let start = Instant::now();
        let stopped = bridge.stop_within(crate::world::PATIENCE).await;
        assert_eq!((stopped.uncommitted, stopped.unpushed), (0, 0));
        assert!(start.elapsed() < crate::world::PATIENCE);
    });
}

#[test]
fn a_temporary_file_that_a_crash_left_goes_at_the_start() {
    let world = World::unborn();
    write(&world.cloud, "meta/.ghost-bridge-1-2-3.tmp", "half");
    run(world.config(), |bridge| async move {
        until("ready", || bridge.status.is_ready()).await;
        let entries = fs::read_dir(world.cloud.join("meta")).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["retries.json"]);
    });
}
