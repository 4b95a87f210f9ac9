//! `doctor`: well on a healthy CLOUD, and it names what is broken, with the remedy.

use std::fs;

use serde_json::Value;

use crate::harness::cloud::{describe, set_mode};
use crate::harness::snapshot::snapshot;
use crate::harness::{Bridge, Cloud, Doc};

use super::json;

/// The status, and the words, of the checks of this name.
fn of<'r>(report: &'r Value, name: &str) -> (Vec<&'r str>, String) {
    let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["name"] == name);
    let (mut states, mut words) = (Vec::new(), String::new());
    for check in checks {
        states.push(check["status"].as_str().unwrap());
        words += &format!("{} {}\n", check["what"].as_str().unwrap(), check["remedy"].as_str().unwrap_or(""));
    }
    (states, words)
}

#[test]
fn a_healthy_cloud_is_well_and_is_not_touched() {
    let cloud = Cloud::new();
    let before = snapshot(cloud.root(), &[".git"]);
    let report = json(&cloud, &["doctor", "--json"], 0);
    assert_eq!(snapshot(cloud.root(), &[".git"]), before);
    for name in [
        "secret",
        "config",
        "cloud",
        "git",
        "format",
        "branch",
        "identity",
        "remote",
        "pushed",
        "guard",
        "gitignore",
        "bridge",
    ] {
        assert_eq!(of(&report, name).0, ["ok"], "{name}: {report:#}");
    }
    assert!(of(&report, "bridge").1.contains("none runs"));
    let bridge = Bridge::start(&cloud);
    let report = json(&cloud, &["doctor", "--json"], 0);
    assert!(of(&report, "bridge").1.contains(&format!("pid {}", bridge.pid())), "{report:#}");
    bridge.stop();
}

#[test]
fn what_is_broken_is_named_with_its_remedy() {
    let cloud = Cloud::new();
    let check = |name: &str, status: &str, words: &str| {
        let report = json(&cloud, &["doctor", "--json"], i32::from(status == "fail"));
        let (states, said) = of(&report, name);
        assert!(states.contains(&status) && said.contains(words), "{name}: {report:#}");
    };
    fs::remove_dir(cloud.path("archive")).unwrap();
    check("cloud", "warn", "there is no archive ghost-bridge init");
    cloud.write("archive", "a file");
    check("cloud", "fail", "archive is no real folder");
    fs::remove_file(cloud.path("archive")).unwrap();
    fs::create_dir(cloud.path("archive")).unwrap();
    let ignore = cloud.text(".gitignore");
    cloud.write(".gitignore", "x\n");
    check("gitignore", "warn", "lacks commands/.retries.json, .bridge.lock, meta/journal/");
    cloud.write(".gitignore", ignore);
    set_mode(&cloud.path(".git/hooks/pre-commit"), 0o644);
    check("guard", "warn", "not installed");
    cloud.git(&["remote", "set-url", "origin", "/nowhere/at/all.git"]);
    check("remote", "fail", "/nowhere/at/all.git cannot be read");
    cloud.git(&["remote", "set-url", "origin", "https://me:hunter2@127.0.0.1:1/x.git"]);
    check("remote", "fail", "https://127.0.0.1:1/x.git cannot be read");
    let output = cloud.bridge(&["doctor"]).output().unwrap();
    assert!(!describe(&output).contains("hunter2"));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("ghost-bridge: remote: "), "{}", describe(&output));
    cloud.git(&["remote", "remove", "origin"]);
    check("remote", "warn", "commits stay local");
    cloud.git(&["checkout", "-q", "--detach"]);
    check("branch", "fail", "HEAD is detached");
    let weak =
        cloud.bridge(&["doctor", "--json"]).env("GPT_BRIDGE_HMAC_SECRET", "aaaaaaaaaaaaaaaaaaaa").output().unwrap();
    let report: Value = serde_json::from_slice(&weak.stdout).unwrap();
    assert_eq!(of(&report, "secret").0, ["warn"]);
    let none = cloud.bridge(&["doctor", "--json"]).env_remove("GPT_BRIDGE_HMAC_SECRET").output().unwrap();
    let report: Value = serde_json::from_slice(&none.stdout).unwrap();
    assert!(of(&report, "secret").1.contains("is not set") && none.status.code() == Some(1));
}

#[test]
fn a_degraded_bridge_is_asked_and_fails() {
    let cloud = Cloud::new();
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("GHOST_BRIDGE__PUBLISH__ATTEMPTS", "1");
    });
    let listen = bridge.address().to_string();
    let asked = || {
        let mut command = cloud.bridge(&["doctor", "--json"]);
        let output = command.env("GHOST_BRIDGE__HTTP__LISTEN", &listen).output().unwrap();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    bridge.wait_for("it to be ready", || bridge.get("/readyz").status == 200);
    assert_eq!(of(&asked().1, "bridge").0, ["ok"]);
    let away = cloud.world().join("away.git");
    fs::rename(cloud.remote(), &away).unwrap();
    cloud.submit(&Doc::noop("meanwhile"));
    bridge.wait_for("it to be degraded", || bridge.get("/readyz").status == 503);
    // The remote itself is well again; the bridge has yet to find out.
    fs::rename(&away, cloud.remote()).unwrap();
    let (status, report) = asked();
    let (states, words) = of(&report, "bridge");
    assert_eq!((states, status), (vec!["fail"], Some(1)), "{report:#}");
    assert!(words.contains("degraded: publisher: "), "{words}");
    // Another one's address.
    let mut command = cloud.bridge(&["doctor", "--json"]);
    let output = command.env("GHOST_BRIDGE__HTTP__LISTEN", "127.0.0.1:1").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (states, words) = of(&report, "bridge");
    assert!(states == ["warn"] && words.contains("does not answer at 127.0.0.1:1"), "{report:#}");
    bridge.stop();
}
