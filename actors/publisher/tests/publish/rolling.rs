//! The artifact folders roll over: in the branch, then on disk, and whatever comes in between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use protocol::reason::Reason;
use publisher::PublisherConfig;

use crate::world::{Bridge, World, files_of, git, read, run, subjects, until, write};

const FOLDERS: [&str; 4] = ["archive", "dead_letter", "diffs", "results"];
const SEGMENT: &str = "2026/11/23";

fn small(world: &World, window: usize) -> PublisherConfig {
    PublisherConfig { window, ..world.config() }
}

/// The paths of a commit's artifacts.
fn tree(dir: &Path, rev: &str) -> Vec<String> {
    let args = [&["ls-tree", "-r", "--name-only", rev, "--"][..], &FOLDERS[..]].concat();
    git(dir, &args).lines().map(str::to_owned).collect()
}

/// The paths of the artifacts on disk.
fn disk(world: &World) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = FOLDERS.map(str::to_owned).to_vec();
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(world.cloud.join(&folder)) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    found
}

/// What differs on disk from what is committed.
fn status(world: &World) -> String {
    let args = [&["status", "--porcelain", "--untracked-files=all", "--", "logs"][..], &FOLDERS[..]].concat();
    git(&world.cloud, &args)
}

/// How many commands each folder holds, whatever its depth: an id once, however many files it has there.
fn commands(paths: &[String]) -> BTreeMap<String, usize> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in paths {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let id = name.replace(".integrity.json", "").replace(".json", "").replace(".patch", "");
        found.entry(folder.to_owned()).or_default().insert(id);
    }
    found.into_iter().map(|(folder, ids)| (folder, ids.len())).collect()
}

/// Every folder is within its bound in every commit, and every commit that moves moves only.
fn assert_bounded(world: &World, window: usize) {
    let revs = git(&world.cloud, &["rev-list", "--reverse", "main"]);
    let mut before: BTreeSet<String> = BTreeSet::new();
    for rev in revs.lines() {
        let paths = tree(&world.cloud, rev);
        for (folder, count) in commands(&paths) {
            let most = if folder.contains('/') { window } else { window + 1 };
            assert!(count <= most, "{count} commands in {folder} of {}", git(&world.cloud, &["log", "-1", rev]));
        }
        let names = |paths: &BTreeSet<String>| -> Vec<String> {
            let mut names: Vec<String> = paths
                .iter()
                .map(|path| format!("{} {}", path.split('/').next().unwrap(), path.rsplit('/').next().unwrap()))
                .collect();
            names.sort();
            names
        };
        let now: BTreeSet<String> = paths.into_iter().collect();
        let subject = git(&world.cloud, &["log", "-1", "--format=%s", rev]);
        if subject.starts_with("bridge: roll over") {
            assert_eq!(names(&now), names(&before), "{subject}: nothing comes and nothing goes");
            assert_ne!(now, before);
        } else {
            assert!(before.is_subset(&now), "{subject}: nothing moves");
        }
        before = now;
    }
}

/// What is filed lies on disk where the branch has it, as it was written.
fn assert_tidy(world: &World, ids: &[String]) {
    assert_eq!(status(world), "");
    let paths = disk(world);
    for id in ids {
        for name in ["results/ID.json", "results/ID.integrity.json", "diffs/ID.patch", "archive/ID.json"] {
            let flat = name.replace("ID", id);
            let (folder, file) = flat.split_once('/').unwrap();
            let found: Vec<_> =
                paths.iter().filter(|path| path.starts_with(folder) && path.ends_with(&format!("/{file}"))).collect();
            assert_eq!(found.len(), 1, "{flat}: {found:?}");
            assert_eq!(read(&world.cloud, found[0]).unwrap(), format!("{flat}\n"));
        }
    }
    world.assert_sound();
}

async fn send_all(world: &mut World, bridge: &Bridge, ids: &[String]) {
    for id in ids {
        let filed = world.file(id);
        bridge.send(filed).await;
    }
}

/// One life of the bridge, in which `scenario` takes place.
fn life(config: &PublisherConfig, world: World, scenario: impl AsyncFnOnce(&mut World, &Bridge) + 'static) -> World {
    let back = std::rc::Rc::new(std::cell::RefCell::new(None));
    let to = std::rc::Rc::clone(&back);
    run(config.clone(), |bridge| async move {
        let mut world = world;
        scenario(&mut world, &bridge).await;
        bridge.stop().await;
        *to.borrow_mut() = Some(world);
    });
    let world = back.borrow_mut().take();
    world.unwrap()
}

fn ids(stem: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{stem}{number:03}")).collect()
}

async fn tidy(world: &World) {
    until("the folders to be tidy", || status(world).is_empty()).await;
}

#[test]
fn the_older_half_moves_to_a_segment_in_a_commit_of_its_own() {
    let mut world = World::unborn();
    run(small(&world, 4), |bridge| async move {
        for (number, id) in ids("c", 11).iter().enumerate() {
            let filed = world.file(id);
            bridge.send(filed).await;
            bridge.quiet(&world, number as u64 + 1).await;
        }
        let expected =
            ["bridge: results c004 (exit=0)", "bridge: roll over 3 commands", "bridge: results c005 (exit=0)"];
        assert_eq!(subjects(&world.cloud, "main")[4..7], expected);
        assert_bounded(&world, 4);
        assert_tidy(&world, &ids("c", 11));
        let archive: Vec<String> = disk(&world).into_iter().filter(|path| path.starts_with("archive/")).collect();
        let (zero, one, two) =
            (format!("archive/{SEGMENT}/0000"), format!("archive/{SEGMENT}/0001"), format!("archive/{SEGMENT}/0002"));
        let counts = commands(&archive);
        assert_eq!([&zero, &one, &two].map(|folder| counts[folder]), [4, 4, 1]);
        assert!(archive.contains(&format!("{zero}/c003.json")) && archive.contains(&format!("{one}/c004.json")));
        assert_eq!(counts["archive"], 2);
        bridge.stop().await;
    });
}

#[test]
fn a_group_is_split_by_roll_overs_and_refused_documents_count() {
    let mut world = World::seeded();
    write(&world.cloud, "results/notes.txt", "a person's\n");
    write(&world.cloud, "dead_letter/mine.json", "{}\n");
    let config = small(&world, 6);
    let mut all = Vec::new();
    for number in 0..40 {
        match number % 4 {
            0 => drop(world.reject(&format!("odd{number}"))),
            1 => drop(world.refuse(&format!("no{number}"), Reason::BadHmac, false)),
            _ => {
                all.push(format!("c{number:03}"));
                world.file(all.last().unwrap());
            }
        }
    }
    // Nobody was told: all of it is one recovery.
    run(config, |bridge| async move {
        bridge.quiet(&world, 40).await;
        assert_bounded(&world, 6);
        std::fs::remove_file(world.cloud.join("results/notes.txt")).unwrap();
        std::fs::remove_file(world.cloud.join("dead_letter/mine.json")).unwrap();
        assert_tidy(&world, &all);
        assert_eq!(subjects(&world.cloud, "main").iter().filter(|s| s.contains("roll over")).count(), 9);
        let letters = disk(&world).into_iter().filter(|path| path.starts_with("dead_letter/")).count();
        assert_eq!(letters, 20);
        until("the push", || git(&world.remote, &["rev-parse", "main"]) == git(&world.cloud, &["rev-parse", "main"]))
            .await;
        bridge.stop().await;
    });
}

#[test]
fn a_restart_knows_what_lies_flat_and_leaves_alone_what_belongs_to_nobody() {
    let world = World::unborn();
    let (config, first, then) = (small(&world, 8), ids("a", 7), ids("b", 7));
    write(&world.cloud, "results/mine.json", "{}\n");
    git(&world.cloud, &["add", "results/mine.json"]);
    git(&world.cloud, &["commit", "-qm", "a person's"]);
    let mut world = life(&config, world, {
        let first = first.clone();
        async move |world: &mut World, bridge: &Bridge| {
            send_all(world, bridge, &first).await;
            bridge.quiet(world, 7).await;
        }
    });
    // The log rolls in between: what lies flat is told of by both.
    let rolled = world.roll("x");
    let all = [first, then.clone()].concat();
    world = life(&config, world, async move |world: &mut World, bridge: &Bridge| {
        let mut filed = world.file(&then[0]);
        filed.log_rolled_to = Some(rolled);
        bridge.send(filed).await;
        send_all(world, bridge, &then[1..]).await;
        bridge.quiet(world, 7).await;
    });
    let paths = tree(&world.cloud, "main");
    let flat = |stem: &str| paths.iter().filter(|path| path.starts_with(&format!("archive/{stem}"))).count();
    assert_eq!((flat("a"), flat("b")), (0, 4), "five went when there were nine, and five again");
    assert_tidy(&world, &all);
    assert!(disk(&world).contains("results/mine.json"));
}

#[test]
fn what_a_crash_left_flat_on_disk_is_moved_by_the_next_life_and_nothing_else_is() {
    let mut world = World::unborn();
    let (config, all) = (small(&world, 4), ids("c", 23));
    world = life(&config, world, {
        let all = all.clone();
        async move |world: &mut World, bridge: &Bridge| {
            send_all(world, bridge, &all).await;
            bridge.quiet(world, 23).await;
        }
    });
    // As if it had died before it moved any file of the last roll-over but one, and of an early one.
    for id in ["c019", "c020", "c002"] {
        for path in disk(&world).iter().filter(|path| path.contains(id) && path.contains("/2026/")) {
            let (folder, name) = (path.split('/').next().unwrap(), path.rsplit('/').next().unwrap());
            std::fs::rename(world.cloud.join(path), world.cloud.join(folder).join(name)).unwrap();
        }
    }
    // One that was moved, and came back the same; one that is somebody's own.
    let at = |name: &str| disk(&world).into_iter().find(|path| path.ends_with(name)).unwrap();
    std::fs::copy(world.cloud.join(at("/c001.patch")), world.cloud.join("diffs/c001.patch")).unwrap();
    write(&world.cloud, "archive/c001.json", "another\n");
    world = life(&config, world, async move |world: &mut World, _: &Bridge| {
        until("the files to be moved", || status(world) == "?? archive/c001.json").await;
    });
    assert_eq!(read(&world.cloud, "archive/c001.json").unwrap(), "another\n");
    std::fs::remove_file(world.cloud.join("archive/c001.json")).unwrap();
    assert_tidy(&world, &all);
    assert_bounded(&world, 4);
}

#[test]
fn what_was_left_flat_long_ago_is_looked_for_on_the_day_on_which_it_was_written() {
    let mut world = World::unborn();
    let (config, all) = (small(&world, 2), ids("c", 60));
    world = life(&config, world, {
        let all = all.clone();
        async move |world: &mut World, bridge: &Bridge| {
            send_all(world, bridge, &all).await;
            bridge.quiet(world, 60).await;
        }
    });
    assert!(world.cloud.join("diffs").join(SEGMENT).join("0025").exists(), "more segments than are looked at anyway");
    for path in disk(&world).iter().filter(|path| path.contains("/c00")) {
        let (folder, name) = (path.split('/').next().unwrap(), path.rsplit('/').next().unwrap());
        let flat = world.cloud.join(folder).join(name);
        std::fs::rename(world.cloud.join(path), &flat).unwrap();
        // Midnight lay between the file and its line.
        let written: chrono::DateTime<chrono::Utc> = "2026-11-22T23:59:59Z".parse().unwrap();
        std::fs::File::open(&flat).unwrap().set_modified(written.into()).unwrap();
    }
    assert_ne!(status(&world), "");
    world = life(&config, world, async move |world: &mut World, _: &Bridge| tidy(world).await);
    assert_tidy(&world, &all);
    assert_bounded(&world, 2);
}

#[test]
fn a_branch_that_was_put_back_finds_what_was_rolled_over_since() {
    let mut world = World::unborn();
    run(small(&world, 4), |bridge| async move {
        let all = ids("c", 21);
        send_all(&mut world, &bridge, &all).await;
        bridge.quiet(&world, 21).await;
        let rolls = subjects(&world.cloud, "main").len() - 21;
        // Before the second roll-over, between two commands.
        let to = git(&world.cloud, &["log", "--format=%H", "--grep=results c006 ", "main"]);
        git(&world.cloud, &["update-ref", "refs/heads/main", &to]);
        let last = world.file("last");
        bridge.send(last).await;
        bridge.quiet(&world, 22).await;
        until("all to be there again", || {
            subjects(&world.cloud, "main").iter().filter(|s| s.starts_with("bridge: results")).count() == 22
        })
        .await;
        tidy(&world).await;
        assert!(rolls >= 4);
        assert_tidy(&world, &[all, vec!["last".to_owned()]].concat());
        bridge.stop().await;
    });
}

#[test]
fn a_repository_that_is_lost_whole_is_made_anew_with_everything_in_its_place() {
    let mut world = World::unborn();
    let (config, all) = (small(&world, 4), ids("c", 30));
    world.reject("odd");
    world = life(&config, world, {
        let all = all.clone();
        async move |world: &mut World, bridge: &Bridge| {
            send_all(world, bridge, &all).await;
            bridge.quiet(world, 31).await;
        }
    });
    let before = disk(&world);
    assert!(before.iter().any(|path| path.starts_with(&format!("dead_letter/{SEGMENT}"))));
    std::fs::remove_dir_all(world.cloud.join(".git")).unwrap();
    git(world.top(), &["init", "-q", "-b", "main", "cloud"]);
    world = life(&config, world, async move |world: &mut World, bridge: &Bridge| {
        bridge.quiet(world, 31).await;
    });
    assert_tidy(&world, &all);
    assert_eq!(disk(&world), before, "nothing had to move");
    assert_eq!(files_of(&world.cloud, "main~5").len(), 5, "each commit with its artifacts");
    assert_eq!(subjects(&world.cloud, "main").len(), 31);
}

#[test]
fn an_index_that_a_crash_left_halfway_forgets_what_was_rolled_over_since() {
    let mut world = World::unborn();
    let (config, first, then) = (small(&world, 4), ids("a", 3), ids("b", 9));
    world.file("zero");
    world = life(&config, world, {
        let first = first.clone();
        async move |world: &mut World, bridge: &Bridge| {
            send_all(world, bridge, &first).await;
            bridge.quiet(world, 4).await;
        }
    });
    // As if it had died between the index and the note of it; a person has staged something of his own.
    git(&world.cloud, &["update-ref", "refs/ghost-bridge/indexed", "main~3"]);
    write(&world.cloud, "results/mine.json", "{}\n");
    git(&world.cloud, &["add", "results/mine.json"]);
    let all = [first, then.clone()].concat();
    world = life(&config, world, async move |world: &mut World, bridge: &Bridge| {
        send_all(world, bridge, &then).await;
        bridge.quiet(world, 9).await;
    });
    assert_eq!(status(&world), "A  results/mine.json");
    git(&world.cloud, &["rm", "-qf", "results/mine.json"]);
    assert_tidy(&world, &all);
}

#[test]
fn what_is_in_the_way_is_said_and_wedges_nothing() {
    let mut world = World::unborn();
    run(small(&world, 2), |bridge| async move {
        // A file where a folder should be, and another artifact's name that is taken.
        write(&world.cloud, "diffs/2026", "mine\n");
        write(&world.cloud, &format!("archive/{SEGMENT}/0000/c000.json"), "mine\n");
        let all = ids("c", 9);
        send_all(&mut world, &bridge, &all).await;
        bridge.quiet(&world, 9).await;
        assert_bounded(&world, 2);
        assert_eq!(read(&world.cloud, "diffs/2026").unwrap(), "mine\n");
        assert_eq!(read(&world.cloud, &format!("archive/{SEGMENT}/0000/c000.json")).unwrap(), "mine\n");
        assert_eq!(read(&world.cloud, "archive/c000.json").unwrap(), "archive/c000.json\n", "it stays where it is");
        std::fs::remove_file(world.cloud.join("diffs/2026")).unwrap();
        std::fs::remove_file(world.cloud.join(format!("archive/{SEGMENT}/0000/c000.json"))).unwrap();
        tidy(&world).await;
        assert_tidy(&world, &all);
        bridge.stop().await;
    });
}

#[test]
fn a_file_in_a_segments_place_in_the_branch_leaves_its_day_flat() {
    let mut world = World::unborn();
    write(&world.cloud, "diffs/2026", "mine\n");
    git(&world.cloud, &["add", "diffs/2026"]);
    git(&world.cloud, &["commit", "-qm", "a person's"]);
    run(small(&world, 2), |bridge| async move {
        let all = ids("c", 9);
        send_all(&mut world, &bridge, &all).await;
        bridge.quiet(&world, 9).await;
        assert!(!subjects(&world.cloud, "main").iter().any(|subject| subject.contains("roll over")));
        assert_tidy(&world, &all);
        assert_eq!(read(&world.cloud, "diffs/2026").unwrap(), "mine\n");
        bridge.stop().await;
    });
}
