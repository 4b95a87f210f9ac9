//! The bridge as process 1, as in a container without an init.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::cloud::{BINARY, describe, set_mode, write};
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, have, poll};

/// How a namespace of processes is made here, where it can be.
fn apart() -> Option<Vec<&'static str>> {
    let apart = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let as_root = ["--user", "--map-root-user"];
    let ways = [apart.to_vec(), [&as_root[..], &apart[..]].concat()];
    let works = |way: &Vec<&str>| {
        let mut command = Command::new("unshare");
        command.args(way).arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let found = ways.into_iter().find(works);
    if found.is_none() {
        println!("SKIPPED: `unshare --pid` does not work here");
        assert!(std::env::var_os("CI").is_none(), "CI has to have it");
    }
    found
}

fn as_process_one(cloud: &Cloud, way: &[&str], run: &Command) -> Command {
    let mut command = cloud.program("unshare");
    command.args(way).args([BINARY, "run"]);
    command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// What `/proc` says of a process: its name, its state and its parent.
fn seen(pid: &str) -> Option<(String, char, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((head.split_once('(')?.1.to_owned(), fields.next()?.chars().next()?, fields.next()?.to_owned()))
}

/// The children of a process: their ids, and whether they are zombies.
fn children(of: &str) -> Vec<(String, bool)> {
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let own =
        all.filter_map(|pid| seen(&pid).filter(|(.., parent)| parent == of).map(|(_, state, _)| (pid, state == 'Z')));
    own.collect()
}

/// Gives the remote a hook with a child that outlives it, runs commands until three of these have ended, and waits until
/// process `one` has no zombie among its children. Then stops the bridge by a signal to `one`.
fn orphans_are_reaped(cloud: &Cloud, bridge: Bridge<'_>, one: &str) {
    let marks = cloud.world().join("marks");
    let hook = cloud.remote().join("hooks/post-receive");
    let orphan = format!(
        "#!/bin/sh\nhook=$$\n(while kill -0 $hook 2>/dev/null; do sleep 0.01; done; echo x >> '{}') >/dev/null 2>&1 &\n",
        marks.display()
    );
    write(&hook, orphan);
    set_mode(&hook, 0o755);
    for id in ["a", "b", "c"] {
        bridge.run(&Doc::noop(id));
    }
    let ended = || fs::read_to_string(&marks).unwrap_or_default().lines().count();
    bridge.wait_for("the orphans' end", || ended() >= 3);
    assert!(poll(PATIENCE, || !children(one).iter().any(|(_, zombie)| *zombie)), "zombies: {:?}", children(one));
    let environment = fs::read(format!("/proc/{one}/environ")).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&environment).contains(&cloud.secret), "it keeps no secret");

    kill_process(Pid::from_raw(one.parse().unwrap()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(bridge.ends().code(), Some(0));
    assert!(bridge.log().contains("stopped"), "the bridge itself was told");
}

#[test]
fn orphans_of_others_are_reaped_and_signals_handed_on() {
    let cloud = Cloud::new();
    let Some(way) = apart() else { return };
    let bridge = Bridge::start_with(&cloud, |run| *run = as_process_one(&cloud, &way, run));
    let one = children(&bridge.pid().to_string()).pop().expect("process 1 of the namespace").0;
    orphans_are_reaped(&cloud, bridge, &one);
}

#[test]
fn a_subreaper_reaps_as_well() {
    let cloud = Cloud::new();
    if !have("python3") {
        return;
    }
    let become_one = "import ctypes, os, sys; assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0; os.execv(sys.argv[1], sys.argv[1:])";
    let bridge = Bridge::start_with(&cloud, |run| {
        let mut command = cloud.program("python3");
        command.args(["-c", become_one, BINARY, "run"]);
        command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        *run = command;
    });
    let one = bridge.pid().to_string();
    orphans_are_reaped(&cloud, bridge, &one);
}

#[test]
fn its_exit_status_is_the_bridges() {
    let cloud = Cloud::new();
    let Some(way) = apart() else { return };
    let mut command = as_process_one(&cloud, &way, &cloud.bridge(&[]));
    let output = command.env("GPT_BRIDGE_HMAC_SECRET", "short").output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", describe(&output));
    let bridge = Bridge::start_with(&cloud, |run| *run = as_process_one(&cloud, &way, run));
    let one = children(&bridge.pid().to_string()).pop().unwrap().0;
    let inner = children(&one).into_iter().find(|(pid, _)| seen(pid).is_some_and(|(name, ..)| name == "ghost-bridge"));
    kill_process(Pid::from_raw(inner.expect("the bridge").0.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(bridge.ends().code(), Some(137));
}
