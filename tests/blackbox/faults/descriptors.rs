//! No file descriptors left.

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::assert_filed_once;
use crate::harness::{Bridge, Cloud, Doc};

/// Sets the limit on descriptors; what it was.
fn limit(bridge: &Bridge<'_>, current: u64) -> Rlimit {
    let pid = Pid::from_raw(i32::try_from(bridge.pid()).unwrap()).unwrap();
    // The bridge's hard limit is the one of this process, and stays.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let was = prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(current), maximum });
    was.expect("the limit of a child can be set")
}

/// The lowest descriptor that is free: with this as the limit none can be opened.
fn first_free(bridge: &Bridge<'_>) -> u64 {
    let open: Vec<String> = crate::harness::cloud::names(std::path::Path::new(&format!("/proc/{}/fd", bridge.pid())));
    (0..).find(|number| !open.contains(&number.to_string())).unwrap()
}

#[test]
fn without_descriptors_commands_wait_and_go_on_when_there_are_some() {
    let cloud = Cloud::alone();
    let bridge = Bridge::start(&cloud);
    cloud.submit(&Doc::write("first", "docs/first.txt", "x"));
    bridge.emptied();
    let mut ids = vec!["first".to_owned()];
    // None at all, then a few more each time, so that one place after the other is where they run out.
    for more in 0..12 {
        let id = format!("more-{more:02}");
        let bytes = Doc::write(&id, &format!("docs/{id}.txt"), "x").signed(&cloud.secret);
        let hidden = cloud.path("commands").join(format!(".{id}.tmp"));
        fs::write(&hidden, bytes).unwrap();
        let said = bridge.log().len();
        let was = limit(&bridge, first_free(&bridge) + more);
        fs::rename(&hidden, cloud.path("commands").join(format!("{id}.json"))).unwrap();
        let log = || bridge.log()[said..].to_owned();
        bridge.wait_for("it to complain, or to do without", || {
            log().contains("ERROR") || log().contains("WARN") || !cloud.exists(&format!("commands/{id}.json"))
        });
        println!("{more} more: {}", log().lines().next().unwrap_or("nothing is said"));
        if more == 0 {
            assert!(log().contains("Too many open files") || log().contains("os error 24"), "{}", log());
            assert!(cloud.exists(&format!("commands/{id}.json")), "it stays");
        }
        limit(&bridge, was.current.unwrap_or(1024));
        bridge.emptied();
        ids.push(id);
    }
    assert_eq!(cloud.dead_letters(), []);
    assert_filed_once(&cloud, bridge, &ids);
}
