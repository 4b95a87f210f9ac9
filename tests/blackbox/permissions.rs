//! What the bridge makes is not for others to write, whatever it was started with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::harness::cloud::BINARY;
use crate::harness::{Bridge, Cloud, Doc};

/// All files and folders beneath `folder` that the group or others can write.
fn open_to_others(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        if !metadata.is_symlink() && metadata.permissions().mode() & 0o022 != 0 {
            found.push(format!("{:o} {}", metadata.permissions().mode() & 0o7777, entry.path().display()));
        }
        if metadata.is_dir() {
            open_to_others(&entry.path(), found);
        }
    }
}

#[test]
fn a_umask_of_nothing_opens_nothing_to_others() {
    let cloud = Cloud::empty();
    let open = |arguments: &str| {
        let mut command = cloud.program("sh");
        let program = cloud.bridge(&[]);
        command.args(["-c", &format!("umask 000; exec \"$0\" {arguments}"), BINARY]);
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    };
    assert!(open("init \"$CLOUD\"").status().unwrap().success());
    let mut found = Vec::new();
    open_to_others(&cloud.path("meta"), &mut found);
    // What is looked at from here on is the bridge's and its children's.
    assert!(cloud.program("chmod").args(["-R", "go-w"]).arg(cloud.root()).status().unwrap().success());
    let remote = cloud.remote();
    assert!(cloud.program("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&remote).status().unwrap().success());
    cloud.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    let bridge = Bridge::start_with(&cloud, |run| {
        let mut command = open("run");
        command.env("GHOST_BRIDGE__PUBLISH__WINDOW", "2");
        *run = command;
    });
    for number in 0..6 {
        bridge.run(&Doc::write(&format!("c{number}"), &format!("docs/{number}/a.txt"), "a\n"));
    }
    // What comes from elsewhere is fetched and checked out.
    let clone = cloud.fresh("clone");
    assert!(cloud.program("git").args(["clone", "-q"]).arg(&remote).arg(&clone).status().unwrap().success());
    fs::create_dir(clone.join("notes")).unwrap();
    fs::write(clone.join("notes/from-elsewhere.txt"), "x\n").unwrap();
    for arguments in [&["add", "."][..], &["commit", "-q", "-m", "notes"], &["push", "-q"]] {
        let mut git = cloud.program("git");
        assert!(git.arg("-C").arg(&clone).args(arguments).status().unwrap().success());
    }
    bridge.wait_for("the checkout", || cloud.exists("notes/from-elsewhere.txt"));
    bridge.run(&Doc::noop("last"));
    open_to_others(cloud.root(), &mut found);
    bridge.stop();
    open_to_others(cloud.root(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}
