//! A remote whose disk is full: pushes fail there in the middle, and go through when there is room.

use std::fs::{self, File};
use std::io::Write as _;

use crate::harness::git::{assert_sound, results, with_subject};
use crate::harness::{Bridge, Cloud, Doc};

use super::Mount;

/// Room for a repository and some packs.
const DISK: &str = "1m";

#[test]
fn a_remote_whose_disk_is_full_gets_everything_when_there_is_room() {
    let cloud = Cloud::new();
    let place = cloud.world().join("place");
    let Some(_mount) = Mount::of_size(&place, DISK) else { return };
    // The remote moves to the small disk; everybody reaches it where it was.
    cloud.git_at(cloud.world(), &["clone", "-q", "--bare", "remote.git", "place/small.git"]);
    fs::remove_dir_all(cloud.remote()).unwrap();
    std::os::unix::fs::symlink(place.join("small.git"), cloud.remote()).unwrap();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("before"));

    let filler = place.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    let before = cloud.remote_git(&["rev-parse", "main"]);
    let ids: Vec<String> = (0..20).map(|n| format!("full-{n:02}")).collect();
    ids.iter().for_each(|id| drop(cloud.submit(&Doc::noop(id))));
    let all = |history: &[_]| ids.iter().all(|id| with_subject(history, &results(id, 0)).len() == 1);
    bridge.local_history("all to be committed", all);
    bridge.emptied();
    assert_eq!(cloud.remote_git(&["rev-parse", "main"]), before);

    drop(file);
    fs::remove_file(filler).unwrap();
    let history = bridge.history("all to be published", all);
    assert_sound(&history);
    cloud.remote_git(&["fsck", "--full", "--strict", "--no-dangling"]);
    bridge.stop();
}

#[test]
fn a_checkout_that_failed_is_made_up_for_before_anything_new_is_taken_in() {
    let cloud = Cloud::new();
    let Some(mount) = Mount::of_size(&cloud.path("theirs"), DISK) else { return };
    let other = cloud.other_clone();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("before"));
    mount.remount("ro");
    let first = cloud.push_from(&other, &[("theirs/a.txt", "1\n"), ("theirs/b.txt", "b\n")]);
    bridge.local_history("their first commit", |history| history.iter().any(|commit| commit.hash == first));
    cloud.push_from(&other, &[("theirs/a.txt", "2\n"), ("c.txt", "c\n")]);
    cloud.submit(&Doc::noop("meanwhile"));
    bridge.local_history("what is executed", |history| with_subject(history, &results("meanwhile", 0)).len() == 1);
    mount.remount("rw");
    let history = bridge.published(&results("meanwhile", 0));
    assert_sound(&history);
    for (path, content) in [("theirs/a.txt", "2\n"), ("theirs/b.txt", "b\n"), ("c.txt", "c\n")] {
        bridge.wait_for(path, || cloud.exists(path) && cloud.text(path) == content);
    }
    bridge.status_becomes("");
    bridge.stop();
}
