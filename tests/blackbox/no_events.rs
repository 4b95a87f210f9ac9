//! A system that gives no file system events.

use std::process::Command;

use crate::harness::{Bridge, Cloud, Doc};

/// Starts a program where the user may have no inotify instance; what is behind it is the program.
const WITHOUT: [&str; 5] =
    ["--map-root-user", "--user", "sh", "-c", "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\""];

#[test]
fn without_events_a_command_does_not_wait_for_the_periodic_scan() {
    let works = Command::new("unshare").args(WITHOUT).arg("true").output().is_ok_and(|output| output.status.success());
    if !works {
        println!("SKIPPED: no user namespaces here");
        return;
    }
    let cloud = Cloud::new();
    let bridge = Bridge::start_with(&cloud, |run| {
        let mut without = cloud.program("unshare");
        without.args(WITHOUT).arg(run.get_program()).args(run.get_args());
        without.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // An hour: the test would end before the scan that it must not wait for.
        without.env("GHOST_BRIDGE__INGEST__RESCAN_SECS", "3600");
        *run = without;
    });
    bridge.wait_for("the want of events to be told", || bridge.log().contains("no file system events"));
    for number in 0..3 {
        bridge.run(&Doc::noop(&format!("unseen-{number}")));
    }
    bridge.stop();
}
