//! systemd's socket, with a stand-in for systemd behind it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::cloud::{BINARY, describe};
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, have};

/// The other side of `NOTIFY_SOCKET`.
struct Systemd(UnixDatagram);

impl Systemd {
    /// Listens, and starts a bridge that is to be watched.
    fn watch(cloud: &Cloud) -> (Bridge<'_>, Self) {
        let path = cloud.world().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let bridge = Bridge::spawn(cloud, |run| {
            run.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
        });
        (bridge, Self(socket))
    }

    fn hear(&self) -> String {
        let mut bytes = [0; 4096];
        let read = self.0.recv(&mut bytes).expect("the bridge says something");
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    }

    fn hear_until(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let said = self.hear();
            if wanted(&said) {
                return said;
            }
        }
    }
}

#[test]
fn systemd_is_told_when_it_is_ready_how_it_fares_that_it_lives_and_that_it_stops() {
    let cloud = Cloud::new();
    let (bridge, systemd) = Systemd::watch(&cloud);
    assert_eq!(systemd.hear(), "READY=1");
    assert!(bridge.log().contains("ready: watching"), "it is wired when it says so");
    let status = systemd.hear();
    assert_eq!(status, "STATUS=serving: 0 pending, 0 in flight, 0 filed, 0 uncommitted, 0 unpushed");
    for _ in 0..5 {
        systemd.hear_until(|said| said == "WATCHDOG=1");
    }
    bridge.run(&Doc::noop("told"));
    systemd.hear_until(|said| said == "STATUS=serving: 0 pending, 0 in flight, 1 filed, 0 uncommitted, 0 unpushed");
    bridge.signal(Signal::TERM);
    let last = systemd.hear_until(|said| said.starts_with("STOPPING=1"));
    assert!(last.contains("\nSTATUS=stopping"), "{last}");
    assert_eq!(bridge.ends().code(), Some(0));
}

#[test]
fn a_socket_that_is_not_there_or_full_holds_nothing_up() {
    let cloud = Cloud::new();
    for name in ["/nobody/there", "@ghost-bridge-nobody-there", "vsock:2:1234"] {
        let bridge = Bridge::start_with(&cloud, |run| {
            run.env("NOTIFY_SOCKET", name);
        });
        bridge.barrier();
        bridge.stop();
    }
    let path = cloud.world().join("full");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"X=1", &path).is_ok() {}
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("NOTIFY_SOCKET", &path);
    });
    bridge.barrier();
    // Once it listens again it hears what is of moment.
    let systemd = Systemd(systemd);
    systemd.0.set_read_timeout(Some(PATIENCE)).unwrap();
    systemd.hear_until(|said| said == "READY=1");
    bridge.stop();
}

/// A file of `config/`.
fn entry(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).unwrap()
}

#[test]
fn systemd_understands_the_unit() {
    if !have("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("ghost-bridge.service");
    let text = entry("ghost-bridge.service");
    let here = text.replace("/opt/ghost-bridge/ghost-bridge", BINARY);
    assert_ne!(here, text);
    std::fs::write(&unit, here).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    // What it does not know it ignores, says so, and calls that a success.
    let complaint = String::from_utf8_lossy(&output.stderr).contains("ghost-bridge.service");
    assert!(output.status.success() && !complaint, "{}", describe(&output));
    for wanted in ["Type=notify", "KillMode=mixed", "RestartPreventExitStatus=64 78"] {
        assert!(text.lines().any(|line| line == wanted), "{wanted}");
    }
    // What the sandbox of checks needs.
    let forbids = |name: &str| text.lines().any(|line| line.starts_with(name));
    assert!(!["RestrictNamespaces=", "SystemCallFilter=", "MemoryDenyWriteExecute="].into_iter().any(forbids));
}

#[test]
fn launchd_could_read_its_entry() {
    if !have("python3") {
        return;
    }
    let script = "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/ghost-bridge.plist");
    let output = Command::new("python3").args(["-c", script]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    let entry: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(entry["KeepAlive"], serde_json::json!({ "SuccessfulExit": false }));
    assert!(entry["ExitTimeOut"].as_u64().unwrap() > 10, "a stop takes up to 10 s");
    let script = entry["ProgramArguments"][2].as_str().unwrap();
    let shell = Command::new("sh").args(["-nec", script]).output().unwrap();
    assert!(shell.status.success() && script.contains("\nexec "), "{script}: {}", describe(&shell));
}
