//! A bare remote on the same machine, damaged in every way: the bridge says what git says, and goes on by itself when the
//! remote is put back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{Damage, Readiness, readiness, start};
use crate::harness::git::{results, with_subject};
use crate::harness::snapshot::files;
use crate::harness::{Bridge, Cloud, Doc, LONG_PATIENCE, PATIENCE, poll};

/// Whether git reads the file when it is fetched from or pushed to.
fn is_tried(path: &Path) -> bool {
    let idle = ["description", "sample", "exclude"];
    !idle.iter().any(|end| path.to_str().unwrap().ends_with(end))
}

/// What a bridge made of the damage: told or not, and over when it was put back.
fn trial(template: &Cloud, file: &Path, damage: Damage) -> Result<String, String> {
    let cloud = template.copied();
    let at = cloud.remote().join(file);
    let whole = fs::read(&at).unwrap();
    if !damage.hit(&at, 11) {
        return Ok("as before".to_owned());
    }
    let bridge = start(&cloud);
    cloud.submit(&Doc::noop("trial"));
    let published = || !with_subject(&cloud.subjects(&cloud.remote()), &results("trial", 0)).is_empty();
    let mut said = None;
    let settled = poll(PATIENCE, || {
        if let Readiness::Degraded(reason) = readiness(&bridge) {
            said = Some(reason);
        }
        said.is_some() || published()
    });
    if !settled {
        return Err("neither published nor degraded".to_owned());
    }
    let Some(reason) = said else { return Ok("published".to_owned()) };
    if !reason.contains("git ") {
        return Err(format!("degraded without git's words: {reason}"));
    }
    // What others wrote there meanwhile is not taken back with it.
    let _ = fs::remove_file(&at);
    fs::write(&at, whole).unwrap();
    let over = poll(LONG_PATIENCE, || published() && matches!(readiness(&bridge), Readiness::Ready));
    if over { Ok(format!("recovered after: {reason}")) } else { Err(format!("wedged after: {reason}")) }
}

#[test]
fn a_remote_that_is_damaged_is_told_of_and_costs_nothing_when_it_is_put_back() {
    let template = Cloud::new();
    template.git(&["remote", "set-url", "origin", "../remote.git"]);
    let bridge = Bridge::start(&template);
    bridge.run(&Doc::write("first", "docs/first.txt", "first\n"));
    bridge.stop();
    template.remote_git(&["gc", "-q"]);
    let remote = template.remote();
    let tried: Vec<PathBuf> = files(&remote)
        .into_iter()
        .filter(|path| is_tried(path))
        .map(|path| path.strip_prefix(&remote).unwrap().to_owned())
        .collect();
    let ends = Mutex::new(Vec::new());
    // Nearly all of a trial is waiting for the next try.
    std::thread::scope(|scope| {
        for file in &tried {
            for damage in Damage::ALL {
                let (ends, template) = (&ends, &template);
                scope.spawn(move || {
                    let end = trial(template, file, damage);
                    ends.lock().unwrap().push((file.display().to_string(), format!("{damage:?}"), end));
                });
            }
        }
    });
    let mut ends = ends.into_inner().unwrap();
    ends.sort();
    for (file, damage, end) in &ends {
        println!("{file:60} {damage:7} {end:?}");
    }
    assert!(ends.iter().all(|(_, _, end)| end.is_ok()));
}
