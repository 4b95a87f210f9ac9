//! People who rework what was rolled over and pushed: each command keeps its one commit and its one place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use publisher::PublisherConfig;

use crate::world::{Bridge, World, git, run, subjects, try_git, until, write};

const FOLDERS: [&str; 4] = ["archive", "dead_letter", "diffs", "results"];

fn small(world: &World, window: usize) -> PublisherConfig {
    PublisherConfig { window, ..world.config() }
}

fn ids(stem: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{stem}{number:03}")).collect()
}

async fn send_all(world: &mut World, bridge: &Bridge, ids: &[String]) {
    for id in ids {
        let filed = world.file(id);
        bridge.send(filed).await;
    }
}

/// The places of each artifact in a commit, by its folder and name.
fn places(dir: &Path, rev: &str) -> BTreeMap<String, Vec<String>> {
    let args = [&["ls-tree", "-r", "--name-only", rev, "--"][..], &FOLDERS[..]].concat();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in git(dir, &args).lines() {
        let (folder, name) = (path.split('/').next().unwrap(), path.rsplit('/').next().unwrap());
        found.entry(format!("{folder}/{name}")).or_default().push(path.to_owned());
    }
    found
}

/// What differs on disk from what is committed.
fn status(world: &World) -> String {
    let args = [&["status", "--porcelain", "--untracked-files=all", "--", "logs"][..], &FOLDERS[..]].concat();
    git(&world.cloud, &args)
}

async fn all_pushed(world: &World, bridge: &Bridge) {
    until("the pushes", || {
        let tip = |dir: &Path| String::from_utf8(try_git(dir, &["rev-parse", "main"]).stdout).unwrap();
        bridge.status.unpushed_commits() == 0 && tip(&world.cloud) == tip(&world.remote)
    })
    .await;
}

/// All artifacts of these commands are in the branch, each once; each command has one commit; what lies on disk is that.
async fn assert_once(world: &World, bridge: &Bridge, ids: &[String]) {
    all_pushed(world, bridge).await;
    until("the folders to be tidy", || status(world).is_empty()).await;
    all_pushed(world, bridge).await;
    let found = places(&world.remote, "main");
    let twice: Vec<_> = found.values().filter(|places| places.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for id in ids {
        for name in ["results/ID.json", "results/ID.integrity.json", "diffs/ID.patch", "archive/ID.json"] {
            assert!(found.contains_key(&name.replace("ID", id)), "{name} of {id}");
        }
    }
    let all = subjects(&world.remote, "main");
    let commits: Vec<&String> = all.iter().filter(|subject| subject.starts_with("bridge: results")).collect();
    let distinct: BTreeSet<&String> = commits.iter().copied().collect();
    assert_eq!((commits.len(), distinct.len()), (ids.len(), ids.len()), "{all:#?}");
    world.assert_sound();
}

/// Nine commands, the older of them rolled over, all pushed.
async fn nine(world: &mut World, bridge: &Bridge) -> Vec<String> {
    let all = ids("c", 9);
    send_all(world, bridge, &all).await;
    bridge.quiet(world, 9).await;
    all_pushed(world, bridge).await;
    all
}

fn rolled(dir: &Path) -> String {
    git(dir, &["log", "-1", "--format=%H", "--grep=roll over", "main"])
}

#[test]
fn a_roll_over_that_is_reset_or_reverted_here_leaves_each_artifact_in_one_place() {
    for how in ["soft", "mixed", "hard", "revert"] {
        for window in [2, 6] {
            let mut world = World::seeded();
            run(small(&world, window), |bridge| async move {
                let mut all = nine(&mut world, &bridge).await;
                let roll = rolled(&world.cloud);
                if how == "revert" {
                    git(&world.cloud, &["revert", "-n", &roll]);
                    git(&world.cloud, &["commit", "-qm", "revert"]);
                } else {
                    // The log on disk is the archiver's: a person who resets the work tree too puts it back.
                    let log = std::fs::read(world.cloud.join("logs/bridge.log")).unwrap();
                    git(&world.cloud, &["reset", "-q", &format!("--{how}"), &format!("{roll}~1")]);
                    std::fs::write(world.cloud.join("logs/bridge.log"), log).unwrap();
                }
                let more = ids("d", 3);
                send_all(&mut world, &bridge, &more).await;
                bridge.quiet(&world, 12).await;
                all.extend(more);
                assert_once(&world, &bridge, &all).await;
            });
        }
    }
}

/// Rewords a commit (counted from the first) and makes all that came after it anew.
fn reword(dir: &Path, which: usize) {
    let revs = git(dir, &["rev-list", "--reverse", "main"]);
    let mut parent = String::new();
    for (n, rev) in revs.lines().enumerate() {
        if n < which {
            parent = rev.to_owned();
            continue;
        }
        let tree = git(dir, &["rev-parse", &format!("{rev}^{{tree}}")]);
        let subject = git(dir, &["log", "-1", "--format=%s", rev]);
        let subject = if n == which { "reworded".to_owned() } else { subject };
        parent = git(dir, &["commit-tree", "-p", &parent, "-m", &subject, &tree]);
    }
    git(dir, &["update-ref", "refs/heads/main", &parent]);
}

#[test]
fn pushed_commands_that_are_reworded_far_back_are_not_committed_twice() {
    let mut world = World::seeded();
    run(small(&world, 6), |bridge| async move {
        let mut all = nine(&mut world, &bridge).await;
        // As an interactive rebase does it: other messages and parents, the same trees.
        reword(&world.cloud, 3);
        let more = ids("d", 3);
        send_all(&mut world, &bridge, &more).await;
        bridge.quiet(&world, 12).await;
        all.extend(more);
        assert_once(&world, &bridge, &all).await;
    });
}

#[test]
fn commands_that_wait_to_be_pushed_keep_their_commit_when_pushed_ones_below_are_reworded() {
    for window in [2, 6, 100] {
        let mut world = World::seeded();
        run(small(&world, window), |bridge| async move {
            let mut all = nine(&mut world, &bridge).await;
            let away = world.remote.with_extension("away");
            std::fs::rename(&world.remote, &away).unwrap();
            let more = ids("d", 3);
            send_all(&mut world, &bridge, &more).await;
            bridge.quiet(&world, 12).await;
            reword(&world.cloud, 3);
            let last = world.file("last");
            bridge.send(last).await;
            bridge.quiet(&world, 13).await;
            std::fs::rename(&away, &world.remote).unwrap();
            all.extend(more);
            all.push("last".to_owned());
            assert_once(&world, &bridge, &all).await;
        });
    }
}

#[test]
fn the_index_gets_back_what_a_commit_of_somebodys_dropped_long_after_the_last_command() {
    let mut world = World::seeded();
    let config = small(&world, 6);
    let (give, take) = std::sync::mpsc::channel();
    run(config.clone(), |bridge| async move {
        let all = nine(&mut world, &bridge).await;
        bridge.stop().await;
        give.send((world, all)).unwrap();
    });
    let (world, all) = take.recv().unwrap();
    // A new life has moved nothing lately.
    run(config, |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        all_pushed(&world, &bridge).await;
        git(&world.cloud, &["rm", "-qr", "--cached", "diffs", "results"]);
        git(&world.cloud, &["commit", "-qm", "dropped"]);
        let put_back = || subjects(&world.cloud, "main").last().is_some_and(|last| last.contains("put back"));
        until("it to be put back", put_back).await;
        assert_once(&world, &bridge, &all).await;
    });
}

#[test]
fn segments_that_somebody_moves_back_or_deletes_upstream_stay_in_their_place() {
    for how in ["revert", "delete", "change"] {
        let mut world = World::seeded();
        run(small(&world, 4), |bridge| async move {
            let mut all = nine(&mut world, &bridge).await;
            let clone = world.clone("other");
            match how {
                "revert" => {
                    git(&clone, &["revert", "-n", &rolled(&clone)]);
                    git(&clone, &["commit", "-qm", "revert"]);
                }
                "delete" => {
                    git(&clone, &["rm", "-qr", "archive/2026", "results/2026"]);
                    git(&clone, &["commit", "-qm", "delete"]);
                }
                _ => {
                    write(&clone, "archive/2026/11/23/0000/c000.json", "changed\n");
                    write(&clone, "archive/c000.json", "archive/c000.json\n");
                    git(&clone, &["add", "archive"]);
                    git(&clone, &["commit", "-qm", "change"]);
                }
            }
            git(&clone, &["push", "-q"]);
            let more = ids("d", 5);
            send_all(&mut world, &bridge, &more).await;
            bridge.quiet(&world, 14).await;
            all.extend(more);
            assert_once(&world, &bridge, &all).await;
        });
    }
}

#[test]
fn lines_of_the_log_that_somebody_commits_before_the_bridge_does_get_their_own_commits() {
    for (added, rolled) in [(false, false), (true, false), (false, true), (true, true)] {
        somebody_was_quicker(added, rolled);
    }
}

/// Filed, and then the bridge died before the commit. A person commits what git calls modified, and perhaps what is new.
fn somebody_was_quicker(added: bool, rolled: bool) {
    let mut world = World::seeded();
    let config = small(&world, 6);
    let (give, take) = std::sync::mpsc::channel();
    run(config.clone(), |bridge| async move {
        let all = nine(&mut world, &bridge).await;
        bridge.stop().await;
        give.send((world, all)).unwrap();
    });
    let (mut world, mut all) = take.recv().unwrap();
    let lost = ids("lost", 2);
    lost.iter().for_each(|id| drop(world.file(id)));
    if rolled {
        world.roll("x");
        all.push("young".to_owned());
        world.file("young");
    }
    write(&world.cloud, "src/a.txt", "mine\n");
    if added {
        git(&world.cloud, &["add", "logs", "src"]);
    }
    git(&world.cloud, &["commit", "-qam", "mine"]);
    run(config, |bridge| async move {
        let last = world.file("last");
        bridge.send(last).await;
        all.extend(lost);
        all.push("last".to_owned());
        let count = all.len() as u64 - 9;
        until("the last", || bridge.status.committed() >= count).await;
        assert_once(&world, &bridge, &all).await;
        assert_eq!(git(&world.remote, &["show", "main:src/a.txt"]), "mine");
        let log = git(&world.remote, &["show", "main:logs/bridge.log"]);
        assert_eq!(format!("{log}\n"), std::fs::read_to_string(world.cloud.join("logs/bridge.log")).unwrap());
    });
}

#[test]
fn lines_that_somebody_commits_while_the_bridge_runs_get_their_own_commits() {
    let mut world = World::seeded();
    run(small(&world, 6), |bridge| async move {
        let mut all = nine(&mut world, &bridge).await;
        let late = ids("late", 2);
        let filed: Vec<_> = late.iter().map(|id| world.file(id)).collect();
        git(&world.cloud, &["commit", "-qam", "mine"]);
        for filed in filed {
            bridge.send(filed).await;
        }
        until("their commits", || bridge.status.committed() >= 11).await;
        all.extend(late);
        assert_once(&world, &bridge, &all).await;
    });
}
