//! What the system refuses: a full disk, a file system that may not be written any more, no file descriptors left, syncs
//! that fail. Nothing is lost or done twice, and all goes on by itself when the system does.

mod descriptors;
mod disk;
mod remote;
mod sync;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::cloud::names;
use crate::harness::git::{assert_sound, outcomes, results, with_subject};
use crate::harness::snapshot::files;
use crate::harness::{Bridge, Cloud, audit};

/// A file system in memory; it is taken away again when this is dropped.
struct Mount(PathBuf);

impl Mount {
    /// A file system of `size` at `path`; nothing where this user may not mount.
    fn of_size(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"], path);
        if !mounted {
            // Nothing that could be installed would help.
            println!("SKIPPED: this user may not mount: what a full or a read-only disk does is not tested");
        }
        mounted.then(|| Self(path.to_owned()))
    }

    fn remount(&self, option: &str) {
        assert!(mount(&["-o", &format!("remount,{option}")], &self.0), "remounting {option}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a bridge that still holds it lets go of it later.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    Command::new("mount").args(arguments).arg(path).output().is_ok_and(|output| output.status.success())
}

/// A second target in the configuration.
fn other_target(cloud: &Cloud, root: &Path) -> PathBuf {
    cloud.config(&format!("[targets.OTHER]\nroot = {root:?}\nallow_delete = true\n"))
}

/// Waits until all of these are filed and committed, stops the bridge, and holds what is left against what must be: each
/// filed once, as `ok`, nothing hidden about, the journal empty.
fn assert_filed_once(cloud: &Cloud, bridge: Bridge<'_>, ids: &[String]) {
    bridge.local_history("all of them", |history| {
        ids.iter().all(|id| !with_subject(history, &results(id, 0)).is_empty())
    });
    bridge.emptied();
    bridge.stop();
    let (history, lines) = (cloud.committed(), audit::verified(cloud.root()));
    assert_sound(&history);
    assert_eq!((outcomes(&history).len(), lines.len()), (ids.len(), ids.len()), "{history:?}\n{lines:?}");
    for id in ids {
        assert_eq!(with_subject(&history, &results(id, 0)).len(), 1, "{id}");
        assert_eq!(lines.iter().filter(|line| line["id"] == json!(id) && line["result"] == json!("ok")).count(), 1);
        assert!(cloud.exists(&format!("archive/{id}.json")), "{id}");
    }
    assert_eq!(hidden(cloud.root()), Vec::<PathBuf>::new());
    assert_eq!(names(&cloud.path("meta/journal")), Vec::<String>::new(), "the journal");
    assert_eq!(cloud.json("meta/retries.json"), json!({}));
    cloud.git(&["fsck", "--strict", "--no-dangling"]);
}

/// The files that the bridge makes on its way and has to take away again.
fn hidden(root: &Path) -> Vec<PathBuf> {
    let is_hidden = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(".ghost-bridge-") || name.starts_with(".filing-")
    };
    files(root).into_iter().filter(|path| !path.starts_with(root.join(".git"))).filter(is_hidden).collect()
}
