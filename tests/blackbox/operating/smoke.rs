//! `smoke` where not all comes: no, with the reason.

use std::fs;
use std::process::Output;

use crate::harness::cloud::{describe, set_mode, write};
use crate::harness::{Bridge, Cloud};

/// Runs it against `bridge`; it must say no in one line.
fn refused(cloud: &Cloud, bridge: &Bridge<'_>) -> (String, String) {
    let output: Output =
        cloud.bridge(&["smoke"]).env("GHOST_BRIDGE__HTTP__LISTEN", bridge.address().to_string()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    let (said, line) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!said.contains("\nok\n"), "{said}");
    assert_eq!(line.trim().lines().count(), 1, "{line}");
    (said, line)
}

#[test]
fn a_remote_that_is_away_is_said_in_gits_words() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    fs::rename(cloud.remote(), cloud.world().join("away.git")).unwrap();
    let (said, line) = refused(&cloud, &bridge);
    let came = |name: &str| said.lines().any(|row| row.trim_start().starts_with(name) && row.ends_with("ms"));
    assert!(came("archive") && came("commit") && !came("pushed"), "{said}");
    assert!(line.contains("pushed did not come within 10 s") && line.contains("remote.git"), "{line}");
    bridge.stop();
}

#[test]
fn a_degraded_bridge_says_why_itself() {
    let cloud = Cloud::new();
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("GHOST_BRIDGE__PUBLISH__ATTEMPTS", "1");
    });
    let hook = cloud.remote().join("hooks/pre-receive");
    write(&hook, "#!/bin/sh\necho 'not on a Friday' >&2\nexit 1\n");
    set_mode(&hook, 0o755);
    let (_, line) = refused(&cloud, &bridge);
    assert!(line.contains("pushed did not come") && line.contains("publisher: "), "{line}");
    assert!(line.contains("pre-receive hook declined") || line.contains("not on a Friday"), "{line}");
    bridge.stop();
}
