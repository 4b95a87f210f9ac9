//! PM2's channel, with a stand-in for PM2 at the other end.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};

use crate::harness::cloud::{set_mode, write};
use crate::harness::git::{results, with_subject};
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, audit};

/// The other end of the channel of a bridge.
struct Pm2 {
    lines: BufReader<UnixStream>,
}

impl Pm2 {
    /// Both ends; the child's is given away with [`hand_over`].
    fn new() -> (Self, OwnedFd) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours.set_write_timeout(Some(PATIENCE)).unwrap();
        (Self { lines: BufReader::new(ours) }, theirs.into())
    }

    /// The next message.
    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the bridge says something");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// The next figures for which `wanted` holds.
    fn figures(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.hear();
            assert_eq!(message["type"], "axm:monitor", "{message}");
            if wanted(&message["data"]) {
                return message["data"].clone();
            }
        }
    }

    fn say(&mut self, text: &[u8]) {
        self.lines.get_mut().write_all(text).unwrap();
    }
}

/// Lets the child have `end` and names it as node does. `end` must stay open until the child is started.
fn hand_over(command: &mut Command, end: &OwnedFd) {
    fcntl_setfd(end, FdFlags::empty()).unwrap();
    command.env("NODE_CHANNEL_FD", end.as_raw_fd().to_string()).env("NODE_CHANNEL_SERIALIZATION_MODE", "json");
}

/// A bridge with a stand-in at the other end of its channel.
fn attended(cloud: &Cloud) -> (Bridge<'_>, Pm2) {
    let (pm2, theirs) = Pm2::new();
    let bridge = Bridge::spawn(cloud, |run| hand_over(run, &theirs));
    (bridge, pm2)
}

#[test]
fn it_says_that_it_is_ready_once_it_is_and_then_how_it_fares() {
    let cloud = Cloud::new();
    let (bridge, mut pm2) = attended(&cloud);
    assert_eq!(pm2.hear(), json!("ready"));
    assert!(bridge.log().contains("ready: watching"), "it is wired when it says so");
    let figures = pm2.figures(|_| true);
    for (name, unit) in [
        ("Pending", "commands"),
        ("In flight", "commands"),
        ("Mailbox verifier", "messages"),
        ("Mailbox executor", "messages"),
        ("Mailbox archiver", "messages"),
        ("Mailbox publisher", "messages"),
        ("Filed", "commands"),
        ("Uncommitted", "commands"),
        ("Unpushed", "commits"),
        ("Retries", "commands"),
    ] {
        let expected = format!("ghost-bridge/{}", name.to_lowercase().replace(' ', "_"));
        assert_eq!(figures[name], json!({ "historic": true, "unit": unit, "type": expected, "value": 0 }), "{name}");
    }
    assert_eq!(figures["Degraded"]["value"], "no");
    bridge.run(&Doc::noop("seen"));
    pm2.figures(|figures| figures["Filed"]["value"] == 1 && figures["Unpushed"]["value"] == 0);
    bridge.stop();
}

#[test]
fn what_waits_and_what_hinders_it_is_told() {
    let cloud = Cloud::new();
    let (bridge, mut pm2) = attended(&cloud);
    assert_eq!(pm2.hear(), json!("ready"));
    std::fs::rename(cloud.remote(), cloud.world().join("away")).unwrap();
    cloud.submit(&Doc::noop("stays-here"));
    pm2.figures(|figures| figures["Unpushed"]["value"] == 1);
    std::fs::rename(cloud.path("commands"), cloud.path("commands-away")).unwrap();
    let figures = pm2.figures(|figures| figures["Degraded"]["value"] != "no");
    let reason = figures["Degraded"]["value"].as_str().unwrap();
    assert!(reason.starts_with("yes: ") && reason.len() < 120, "{reason}");
    std::fs::rename(cloud.path("commands-away"), cloud.path("commands")).unwrap();
    std::fs::rename(cloud.world().join("away"), cloud.remote()).unwrap();
    pm2.figures(|figures| figures["Degraded"]["value"] == "no" && figures["Unpushed"]["value"] == 0);
    bridge.stop();
}

#[test]
fn its_shutdown_message_is_an_ordered_stop() {
    let cloud = Cloud::new();
    let (bridge, mut pm2) = attended(&cloud);
    assert_eq!(pm2.hear(), json!("ready"));
    let documents: Vec<Doc> = (0..100).map(|number| Doc::noop(&format!("last-{number:03}"))).collect();
    documents.iter().for_each(|document| {
        cloud.submit(document);
    });
    bridge.wait_for("the first to be filed", || cloud.waiting().len() < documents.len());
    pm2.say(b"\"shutdown\"\n");
    assert_eq!(bridge.ends().code(), Some(0));
    let (lines, history) = (audit::verified(cloud.root()), cloud.published());
    assert_eq!(lines.len() + cloud.waiting().len(), documents.len());
    for line in &lines {
        let id = line["id"].as_str().unwrap();
        assert_eq!(with_subject(&history, &results(id, 0)).len(), 1, "{id} was filed and must be published");
    }
}

#[test]
fn what_else_is_said_to_it_does_no_harm() {
    let cloud = Cloud::new();
    let (bridge, mut pm2) = attended(&cloud);
    assert_eq!(pm2.hear(), json!("ready"));
    pm2.say(b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n[[[[\n\xff\xfe\n\"SHUTDOWN\"\n{\"type\":\"shutdown\"}\n\n\"");
    // A line that does not end, of more than is ever kept, and its end looks like what is waited for.
    for _ in 0..64 {
        pm2.say(&[b'x'; 64 * 1024]);
    }
    pm2.say(b"\"shutdown\"\n");
    bridge.run(&Doc::noop("unmoved"));
    pm2.say(b"\"shut");
    pm2.figures(|_| true);
    pm2.say(b"down\"\n");
    assert_eq!(bridge.ends().code(), Some(0));
}

#[test]
fn a_manager_that_goes_is_not_missed() {
    let cloud = Cloud::new();
    let (bridge, mut pm2) = attended(&cloud);
    assert_eq!(pm2.hear(), json!("ready"));
    drop(pm2);
    bridge.wait_for("the end of the channel to be noted", || bridge.log().contains("channel has ended"));
    bridge.run(&Doc::noop("alone"));
    assert_eq!(bridge.log().matches("channel has ended").count(), 1);
    bridge.stop();
    // And one that is gone before the start.
    let (pm2, theirs) = Pm2::new();
    drop(pm2);
    let bridge = Bridge::spawn(&cloud, |run| hand_over(run, &theirs));
    bridge.run(&Doc::noop("alone-from-the-first"));
    bridge.stop();
}

#[test]
fn a_manager_that_does_not_listen_holds_nothing_up() {
    let cloud = Cloud::new();
    let (pm2, theirs) = Pm2::new();
    // So full that not even the first message finds room.
    let full = UnixStream::from(theirs);
    full.set_nonblocking(true).unwrap();
    let error = (0..).find_map(|_| (&full).write(b" ").err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    full.set_nonblocking(false).unwrap();
    let theirs = full.into();
    let bridge = Bridge::spawn(&cloud, |run| hand_over(run, &theirs));
    bridge.run(&Doc::noop("unheard"));
    // Nor is a word from it missed.
    pm2.lines.get_ref().write_all(b"\"shutdown\"\n").unwrap();
    assert_eq!(bridge.ends().code(), Some(0));
}

#[test]
fn a_number_without_a_channel_is_passed_over() {
    let cloud = Cloud::new();
    let file = std::fs::File::create(cloud.fresh("file")).unwrap();
    fcntl_setfd(&file, FdFlags::empty()).unwrap();
    let numbers = ["", "1", "-3", "three", "1000", &file.as_raw_fd().to_string()];
    for number in numbers {
        let bridge = Bridge::start_with(&cloud, |run| {
            run.env("NODE_CHANNEL_FD", number);
        });
        bridge.wait_for("the fault to be noted", || bridge.log().contains(&format!("NODE_CHANNEL_FD={number}: ")));
        bridge.barrier();
        bridge.stop();
    }
}

#[test]
fn no_child_inherits_the_channel() {
    let cloud = Cloud::new();
    // Runs beneath the bridge's own git.
    let (hook, seen) = (cloud.remote().join("hooks/update"), cloud.world().join("seen"));
    let script = format!("#!/bin/sh\n{{ env; ls -l /proc/self/fd /proc/$PPID/fd; }} >'{}'\n", seen.display());
    write(&hook, script);
    set_mode(&hook, 0o755);
    let (mut pm2, theirs) = Pm2::new();
    let notify = cloud.world().join("notify");
    let _socket = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    let bridge = Bridge::spawn(&cloud, |run| {
        hand_over(run, &theirs);
        run.env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", "60000000").env("A_WITNESS", "is-here");
    });
    drop(theirs);
    assert_eq!(pm2.hear(), json!("ready"));
    bridge.run(&Doc::noop("with-children"));
    let seen = std::fs::read_to_string(&seen).unwrap();
    for name in ["NODE_CHANNEL", "NOTIFY_SOCKET", "WATCHDOG"] {
        assert!(!seen.contains(name), "{name} in\n{seen}");
    }
    assert!(seen.contains("A_WITNESS=is-here"), "the hook sees the environment of the bridge's git:\n{seen}");
    assert!(seen.contains("/proc/self/fd:") && !seen.contains("socket:["), "{seen}");
    bridge.stop();
}
