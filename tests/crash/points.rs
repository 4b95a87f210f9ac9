//! The places that the sources mark with `crash_point!`: the process is killed at each, each time that it is passed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::harness::{Cloud, Doc, PATIENCE, poll};
use crate::scene::Scene;
use crate::turns::Turns;

/// More often than this no place is passed in a scene.
const MOST_HITS: usize = 200;
/// The deaths that a second life begins after: in the middle of a command with a program, at its verdict, in the middle
/// of one without.
const FIRST_DEATHS: [(&str, usize); 4] =
    [("apply.placed", 4), ("apply.let_go", 3), ("journal.durable", 2), ("apply.undo", 3)];

/// More packs than are left alone.
const PACKS: usize = 60;

/// Fewer places than this are marked only if somebody took some away.
const FEWEST_PLACES: usize = 30;
/// How many kills there are at least, for each name that is marked.
const FEWEST_KILLS_A_PLACE: usize = 3;

/// The names of all places in the sources.
fn places() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = fs::read_dir(root.join("actors")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let sources = crates.chain([root.join("src")]).flat_map(|folder| crate::harness::snapshot::files(&folder));
    let mut found = BTreeSet::new();
    for path in sources.filter(|path| path.extension().is_some_and(|it| it == "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        for rest in text.split("crash_point!(\"").skip(1) {
            found.insert(rest.split('"').next().unwrap().to_owned());
        }
    }
    found
}

fn at(name: &str, hit: usize) -> String {
    format!("{name}={}*off->return", hit - 1)
}

/// One way in which a process comes to a place.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Through all commands of the scene.
    Plain,
    /// The same with a remote.
    Remote,
    /// By a command that is tried again.
    Retried,
    /// In a repository with more packs than are left alone.
    Cluttered,
    /// In the life after this death.
    After((&'static str, usize)),
}

fn ways(name: &str) -> Vec<Way> {
    let after = || FIRST_DEATHS.iter().map(|first| Way::After(*first));
    match name.split('.').next().unwrap() {
        "remote" => vec![Way::Remote],
        "retries" => vec![Way::Retried],
        "housekeeping" => vec![Way::Cluttered],
        "recovery" => after().collect(),
        "journal" => [Way::Plain].into_iter().chain(after()).collect(),
        _ => vec![Way::Plain],
    }
}

/// Kills at `name` at its first, second … passing, until it is not passed so often; returns how often it was.
fn sweep(name: &str, way: Way, turns: &Turns) -> usize {
    for hit in 1..=MOST_HITS {
        let _turn = turns.take();
        let what = format!("{name} at passing {hit} ({way:?})");
        let (scene, killed) = match way {
            Way::Retried => retried(name, hit, &what),
            Way::Cluttered => cluttered(name, hit, &what),
            Way::Plain => {
                let scene = Scene::local();
                let killed = scene.lives_out(&scene.mortal(&at(name, hit)), &what);
                (scene, killed)
            }
            Way::Remote => {
                let scene = Scene::with_remote();
                let killed = scene.lives_out(&scene.mortal(&at(name, hit)), &what);
                (scene, killed)
            }
            Way::After((first, passing)) => {
                let scene = Scene::local();
                assert!(scene.lives_out(&scene.mortal(&at(first, passing)), &what), "{what}: the first life goes on");
                let killed = scene.lives_out(&scene.mortal(&at(name, hit)), &what);
                (scene, killed)
            }
        };
        scene.recovers(&what);
        if !killed {
            return hit - 1;
        }
    }
    panic!("{name} is passed more than {MOST_HITS} times ({way:?})")
}

/// Nothing is done before the packs are fewer.
fn cluttered(name: &str, hit: usize, what: &str) -> (Scene, bool) {
    let scene = Scene::local();
    let cloud = &scene.cloud;
    let folder = cloud.path(".git/objects/pack");
    for number in 0..PACKS {
        cloud.write("pack", format!("{number}\n"));
        let id = cloud.git(&["hash-object", "-w", "pack"]);
        cloud.write("pack", &id);
        let script = format!("git pack-objects -q {:?} < pack", folder.join("pack"));
        let packed = std::process::Command::new("sh").args(["-c", &script]).current_dir(cloud.root()).status();
        assert!(packed.unwrap().success(), "{what}");
    }
    fs::remove_file(cloud.path("pack")).unwrap();
    let bridge = scene.mortal(&at(name, hit));
    let packs = || {
        fs::read_dir(&folder)
            .unwrap()
            .flatten()
            .filter(|it| it.path().extension().is_some_and(|it| it == "pack"))
            .count()
    };
    assert!(poll(PATIENCE, || bridge.end().is_some() || packs() < PACKS), "{what}: neither dead nor tidy");
    let killed = scene.lives_out(&bridge, what);
    drop(bridge);
    (scene, killed)
}

/// The target's folder is away until the bridge has noted a failed try.
fn retried(name: &str, hit: usize, what: &str) -> (Scene, bool) {
    let scene = Scene::bare(Cloud::alone(), false);
    let (root, away) = (scene.cloud.world().join("other"), scene.cloud.world().join("away"));
    fs::create_dir(&root).unwrap();
    scene.configure(&format!("[targets.OTHER]\nroot = {root:?}\n"));
    let bridge = scene.mortal(&at(name, hit));
    let wait = |complaint: &str, condition: &dyn Fn() -> bool| {
        assert!(poll(PATIENCE, || bridge.end().is_some() || condition()), "{what}: {complaint}");
    };
    wait("it is neither dead nor ready", &|| bridge.log().contains("ready: "));
    fs::rename(&root, &away).unwrap();
    scene.submit(&Doc::write("again", "new.txt", "new\n").on("OTHER").window(-10, 3600), "ok");
    wait("no failed try is noted", &|| {
        let history = scene.cloud.subjects(&scene.cloud.path(".git"));
        history.iter().any(|commit| commit.subject == "bridge: retries index update")
    });
    fs::rename(&away, &root).unwrap();
    let killed = scene.lives_out(&bridge, what);
    drop(bridge);
    scene.recovers(what);
    assert_eq!(crate::harness::cloud::names(&root), ["new.txt"], "{what}");
    (scene, killed)
}

#[test]
fn a_crash_at_any_marked_place_loses_nothing_and_does_nothing_twice() {
    let (begun, places, turns, kills) = (Instant::now(), places(), Turns::default(), AtomicUsize::new(0));
    assert!(places.len() >= FEWEST_PLACES, "only {} places are marked: {places:?}", places.len());
    std::thread::scope(|scope| {
        for name in &places {
            for way in ways(name) {
                let (turns, kills) = (&turns, &kills);
                scope.spawn(move || {
                    let count = sweep(name, way, turns);
                    println!("{name}: killed {count} times ({way:?})");
                    // What a second life comes to depends on how far the first one got.
                    assert!(count > 0 || matches!(way, Way::After(_)), "{name} is never passed ({way:?})");
                    kills.fetch_add(count, Ordering::Relaxed);
                });
            }
        }
    });
    let kills = kills.into_inner();
    println!("killed at {kills} places, {} names, in {:?}", places.len(), begun.elapsed());
    assert!(kills >= places.len() * FEWEST_KILLS_A_PLACE, "only {kills} kills at {} places", places.len());
}
