//! The real PM2, with a home of its own, starts the bridge by `config/ecosystem.config.cjs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{TimeDelta, Utc};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use crate::harness::cloud::{BINARY, describe, set_mode, write};
use crate::harness::git::{assert_sound, results, with_subject};
use crate::harness::{Cloud, Doc, LONG_PATIENCE, PATIENCE, audit, poll};

/// Names another PM2 than the one on `PATH`.
const PROGRAM: &str = "GHOST_BRIDGE_PM2";
/// What the app is called in most tests, and the namespace of all.
const NAME: &str = "ghost-bridge";
/// Names the app otherwise than by its CLOUD.
const APP: &str = "GHOST_BRIDGE_APP";
/// How much of the logs a failing test prints.
const TAIL_LINES: usize = 40;

/// The PM2 to be tested with. Where there is none it is said aloud, and is a failure with `CI=true`.
fn program() -> Option<String> {
    let program = std::env::var(PROGRAM).unwrap_or_else(|_| "pm2".to_owned());
    // Looked for and not asked: whatever it is asked, it starts its daemon.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    if folders.any(|folder| folder.join(&program).is_file()) {
        return Some(program);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is missing: npm install -g pm2, or set {PROGRAM}");
    println!("SKIPPED: {program} is not installed; npm install -g pm2, or name one in {PROGRAM}");
    None
}

/// A PM2 with its daemon, ended with all that it started when the test ends.
struct Pm2<'a> {
    cloud: &'a Cloud,
    program: String,
    environment: Vec<(String, String)>,
}

impl<'a> Pm2<'a> {
    fn new(cloud: &'a Cloud) -> Option<Self> {
        Self::with(cloud, &[])
    }

    /// The same with these variables for the daemon.
    fn with(cloud: &'a Cloud, daemon: &[(&str, &str)]) -> Option<Self> {
        let pm2 = Self { cloud, program: program()?, environment: vec![(APP.to_owned(), NAME.to_owned())] };
        let script = pm2.script();
        fs::create_dir_all(script.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(BINARY, &script).unwrap();
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("package.json"), pm2.installed().join("package.json"))
            .unwrap();
        pm2.done(pm2.command(&["ping"]).envs(daemon.iter().copied()));
        Some(pm2)
    }

    fn home(&self) -> PathBuf {
        self.cloud.world().join("pm2")
    }

    /// The folder that the bridge is installed in.
    fn installed(&self) -> PathBuf {
        self.cloud.world().join("installed")
    }

    fn script(&self) -> PathBuf {
        self.installed().join("target/release/ghost-bridge")
    }

    /// Sets a variable of the shell that PM2 is called from.
    fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    fn unset(&mut self, name: &str) {
        self.environment.retain(|(other, _)| other != name);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.cloud.program(&self.program);
        command.args(arguments).env("PM2_HOME", self.home()).env("NO_COLOR", "1");
        command.env("PM2_DISABLE_VERSION_CHECK", "true").env("COLUMNS", "400");
        command.env("CLOUD", self.cloud.root()).env("GPT_BRIDGE_HMAC_SECRET", &self.cloud.secret);
        command.env("GHOST_BRIDGE__HTTP__LISTEN", "127.0.0.1:0").env("GHOST_BRIDGE__PUBLISH__FETCH_SECS", "1");
        command.env("GHOST_BRIDGE_HOME", self.installed());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn done(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", describe(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.done(&mut self.command(arguments))
    }

    /// What PM2 knows of the bridge.
    fn process(&self) -> Option<Value> {
        self.named(NAME)
    }

    fn named(&self, name: &str) -> Option<Value> {
        self.all().into_iter().find(|process| process["name"] == name)
    }

    fn all(&self) -> Vec<Value> {
        let printed = self.run(&["jlist"]);
        let list = printed.lines().rev().find(|line| line.starts_with('[')).expect("a list");
        serde_json::from_str(list).unwrap()
    }

    fn status(&self) -> String {
        self.process().map_or_else(String::new, |process| process["pm2_env"]["status"].as_str().unwrap().to_owned())
    }

    fn becomes(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut last = None;
        let held = poll(PATIENCE, || {
            last = self.process();
            last.as_ref().is_some_and(&mut wanted)
        });
        assert!(held, "gave up waiting for {what}");
        last.unwrap()
    }

    fn pid(&self) -> Pid {
        let process = self.becomes("a process", |process| process["pid"].as_i64().is_some_and(|pid| pid > 0));
        Pid::from_raw(i32::try_from(process["pid"].as_i64().unwrap()).unwrap()).unwrap()
    }

    /// The bridge's own log.
    fn log(&self) -> String {
        self.kept("error") + &self.kept("out")
    }

    /// What PM2 kept of one of its outputs.
    fn kept(&self, output: &str) -> String {
        fs::read_to_string(self.home().join(format!("logs/{NAME}-{output}.log"))).unwrap_or_default()
    }

    fn starts(&self) -> usize {
        self.log().matches("ready: watching").count()
    }

    /// The daemon's log.
    fn own_log(&self) -> String {
        fs::read_to_string(self.home().join("pm2.log")).unwrap_or_default()
    }

    /// Stops the bridge: it must end by itself, in time, with all in order.
    fn stop(&self) {
        let stopped = self.log().matches("\"stopped\"").count();
        self.run(&["stop", NAME]);
        let process = self.becomes("the stop", |process| process["pm2_env"]["status"] == "stopped");
        assert_eq!(process["pid"], 0);
        assert_eq!(process["pm2_env"]["exit_code"], 0, "the end must be clean");
        assert_eq!(self.log().matches("\"stopped\"").count(), stopped + 1, "it says so itself");
        assert!(!self.own_log().contains("still alive"), "it ends within kill_timeout");
    }

    /// Waits until everything of `ids` is published, once each, and nothing was refused.
    fn all_published(&self, ids: &[String]) {
        let cloud = self.cloud;
        let whole = poll(LONG_PATIENCE, || {
            let history = cloud.subjects(&cloud.remote());
            ids.iter().all(|id| !with_subject(&history, &results(id, 0)).is_empty())
        });
        assert!(whole, "gave up waiting for {} commands", ids.len());
        let history = cloud.published();
        for id in ids {
            assert_eq!(with_subject(&history, &results(id, 0)).len(), 1, "{id}");
        }
        assert_sound(&history);
        audit::verified(cloud.root());
    }
}

impl Drop for Pm2<'_> {
    fn drop(&mut self) {
        let daemon = fs::read_to_string(self.home().join("pm2.pid")).ok();
        let _ = self.command(&["kill"]).output();
        if let Some(pid) = daemon.and_then(|pid| pid.trim().parse().ok()).and_then(Pid::from_raw)
            && !poll(PATIENCE, || test_kill_process(pid).is_err())
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        if std::thread::panicking() {
            for (name, log) in [("the bridge", self.log()), ("PM2", self.own_log())] {
                let lines: Vec<&str> = log.lines().collect();
                println!("-- the log of {name}, last of {} lines", lines.len());
                lines[lines.len().saturating_sub(TAIL_LINES)..].iter().for_each(|line| println!("   {line}"));
            }
        }
    }
}

fn ecosystem() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/ecosystem.config.cjs");
    path.into_os_string().into_string().unwrap()
}

fn ids(stem: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{stem}-{number:03}")).collect()
}

fn submit(cloud: &Cloud, ids: &[String], secret: &str) {
    for id in ids {
        cloud.drop_file(&format!("{id}.json"), &Doc::noop(id).signed(secret));
    }
}

#[test]
fn it_is_online_once_it_says_so_shows_its_figures_serves_and_stops_in_order() {
    let cloud = Cloud::new();
    let Some(pm2) = Pm2::new(&cloud) else { return };
    // In the bridge's place a script that waits for a word before it becomes the bridge.
    let go = cloud.world().join("go");
    fs::remove_file(pm2.script()).unwrap();
    let script = format!("#!/bin/sh\nwhile [ ! -e '{}' ]; do sleep 0.02; done\nexec '{BINARY}' \"$@\"\n", go.display());
    write(&pm2.script(), script);
    set_mode(&pm2.script(), 0o755);
    let mut start =
        pm2.command(&["start", &ecosystem()]).stdout(fs::File::create(cloud.fresh("start")).unwrap()).spawn().unwrap();
    pm2.becomes("the start", |process| process["pm2_env"]["status"] == "launching");
    for _ in 0..3 {
        assert_eq!(pm2.status(), "launching", "it has not said that it is ready");
        assert!(start.try_wait().unwrap().is_none(), "`pm2 start` waits");
    }
    fs::write(&go, "").unwrap();
    assert!(start.wait().unwrap().success());
    assert_eq!(pm2.starts(), 1, "it was ready when `pm2 start` came back");
    assert_eq!(pm2.status(), "online");

    let shown = pm2.becomes("the figures", |process| process["pm2_env"]["axm_monitor"]["Filed"]["value"] == 0);
    assert_eq!(shown["pm2_env"]["axm_monitor"]["Degraded"]["value"], "no");
    let described = pm2.run(&["describe", NAME]);
    let has = |words: &[&str]| described.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["script path", pm2.script().to_str().unwrap()]), "{described}");
    assert!(has(&["exec cwd", pm2.installed().to_str().unwrap()]), "{described}");
    assert!(has(&["exec mode", "fork"]), "{described}");
    assert!(has(&["version", env!("CARGO_PKG_VERSION")]), "{described}");
    for figure in ["Pending", "In flight", "Mailbox executor", "Unpushed", "Degraded"] {
        assert!(has(&[figure]), "{figure} in\n{described}");
    }

    let smoke = cloud.bridge(&["smoke"]).output().unwrap();
    assert!(smoke.status.success(), "{}", describe(&smoke));
    pm2.becomes("the new figure", |process| process["pm2_env"]["axm_monitor"]["Filed"]["value"] == 1);
    pm2.stop();
    assert!(pm2.log().contains("SIGINT"), "PM2 stops by signal");
}

#[test]
fn after_kill_9_it_is_started_anew_and_nothing_is_lost() {
    let cloud = Cloud::new();
    // And PM2 stops by message.
    let Some(pm2) = Pm2::with(&cloud, &[("PM2_KILL_USE_MESSAGE", "true")]) else { return };
    pm2.run(&["start", &ecosystem()]);
    let mut all = Vec::new();
    for life in 1..=2 {
        let ids = ids(&format!("life-{life}"), 60);
        submit(&cloud, &ids, &cloud.secret);
        assert!(poll(PATIENCE, || cloud.waiting().len() < ids.len()), "the first is filed");
        kill_process(pm2.pid(), Signal::KILL).unwrap();
        all.extend(ids);
        let restarted =
            |process: &Value| process["pm2_env"]["restart_time"] == life && process["pm2_env"]["status"] == "online";
        pm2.becomes("the restart", restarted);
    }
    pm2.all_published(&all);
    assert_eq!(cloud.dead_letters(), []);
    pm2.stop();
    assert!(pm2.log().contains("shutdown message"), "it stopped by message:\n{}", pm2.log());
}

#[test]
fn a_rotation_by_restarts_refuses_nothing_inside_its_window() {
    let cloud = Cloud::new();
    let Some(mut pm2) = Pm2::new(&cloud) else { return };
    let (old, new) = (cloud.secret.clone(), "the-next-secret-of-32-bytes-00000");
    let restart = |pm2: &Pm2<'_>| pm2.run(&["restart", &ecosystem(), "--update-env"]);
    pm2.run(&["start", &ecosystem()]);

    // The window opens while commands by the old secret are on their way; from then on both sign.
    let mut all = ids("before", 40);
    submit(&cloud, &all, &old);
    pm2.set("GPT_BRIDGE_HMAC_SECRET_NEXT", new);
    pm2.set("GPT_BRIDGE_HMAC_ROTATION_ENDS", &(Utc::now() + TimeDelta::hours(1)).to_rfc3339());
    restart(&pm2);
    for (stem, secret) in [("old-in-window", old.as_str()), ("new-in-window", new)] {
        let ids = ids(stem, 40);
        submit(&cloud, &ids, secret);
        all.extend(ids);
    }
    restart(&pm2);
    pm2.all_published(&all);

    // The window closes while commands by the new one are on their way.
    let last = ids("new-at-the-end", 40);
    submit(&cloud, &last, new);
    pm2.set("GPT_BRIDGE_HMAC_SECRET", new);
    pm2.unset("GPT_BRIDGE_HMAC_SECRET_NEXT");
    pm2.unset("GPT_BRIDGE_HMAC_ROTATION_ENDS");
    restart(&pm2);
    pm2.all_published(&last);
    assert_eq!(cloud.dead_letters(), [], "nothing was refused");
    let slot = |id: &str| cloud.json(&format!("results/{id}.integrity.json"))["secret"].clone();
    assert_eq!((slot("old-in-window-000"), slot("new-in-window-000")), ("current".into(), "next".into()));

    let kept = pm2.process().unwrap()["pm2_env"].clone();
    for place in [&kept, &kept["env"]] {
        assert_eq!(place["GPT_BRIDGE_HMAC_SECRET_NEXT"].as_str().unwrap_or_default(), "", "PM2 forgets it");
        assert_eq!(place["GPT_BRIDGE_HMAC_SECRET"], new);
    }
    submit(&cloud, &["too-late".to_owned()], &old);
    assert!(poll(PATIENCE, || cloud.exists("dead_letter/too-late.json")), "the old secret counts no more");
    assert_eq!(cloud.json("dead_letter/too-late.json")["reason"], "bad_hmac");
    assert_eq!(pm2.starts(), 4);
    pm2.stop();
}

#[test]
fn a_wrong_configuration_is_not_started_again_and_again() {
    let cloud = Cloud::new();
    let Some(mut pm2) = Pm2::new(&cloud) else { return };
    pm2.set("GPT_BRIDGE_HMAC_SECRET", "too-short");
    // PM2 itself may call that a success or not.
    let _ = pm2.command(&["start", &ecosystem()]).output().unwrap();
    let process = pm2.becomes("the end", |process| process["pm2_env"]["exit_code"] == 78);
    assert_eq!((&process["pm2_env"]["restart_time"], &process["pid"]), (&0.into(), &0.into()));
    // Something that ends in another way, and by the same rules, is restarted meanwhile.
    let rules = ["--interpreter", "none", "--name", "other", "--exp-backoff-restart-delay", "200"];
    pm2.run(&[&["start", "/bin/false"], &rules[..]].concat());
    let again = |process: Value| process["pm2_env"]["restart_time"].as_u64() >= Some(2);
    assert!(poll(PATIENCE, || pm2.named("other").is_some_and(again)), "the other one is restarted");
    assert_eq!(pm2.log().matches("at least 16 are required").count(), 1, "{}", pm2.log());
    // Once it is mended it starts.
    pm2.set("GPT_BRIDGE_HMAC_SECRET", &cloud.secret);
    pm2.run(&["restart", &ecosystem(), "--update-env"]);
    assert_eq!(pm2.status(), "online");
    pm2.stop();
}

#[test]
fn good_lines_go_to_the_one_log_and_warnings_to_the_other() {
    let cloud = Cloud::new();
    let Some(mut pm2) = Pm2::new(&cloud) else { return };
    pm2.set("GHOST_BRIDGE_NOBODY_KNOWS_THIS", "x");
    pm2.run(&["start", &ecosystem()]);
    assert!(poll(PATIENCE, || pm2.kept("out").contains("ready: watching")), "{}", pm2.log());
    assert!(poll(PATIENCE, || pm2.kept("error").contains("GHOST_BRIDGE_NOBODY_KNOWS_THIS")), "{}", pm2.log());
    pm2.stop();
    let levels = |output: &str| -> std::collections::BTreeSet<String> {
        let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["level"].as_str().unwrap().to_owned();
        pm2.kept(output).lines().map(line).collect()
    };
    assert_eq!((levels("out"), levels("error")), (["INFO".to_owned()].into(), ["WARN".to_owned()].into()));
}

#[test]
fn an_override_follows_a_restart_and_is_withdrawn_by_one() {
    let cloud = Cloud::new();
    let Some(mut pm2) = Pm2::new(&cloud) else { return };
    let allow = "GHOST_BRIDGE__TARGETS__MAIN__ALLOW_DELETE";
    cloud.write("a.txt", "x");
    let delete = |id: &str| {
        let op = json!([{ "op": "deleteFile", "path": "a.txt" }]);
        let document = Doc::new(id, op).with("allowedActions", json!(["writeFile", "moveFile", "deleteFile"]));
        cloud.drop_file(&format!("{id}.json"), &document.signed(&cloud.secret));
        let (result, letter) = (format!("archive/{id}.json"), format!("dead_letter/{id}.json"));
        assert!(poll(PATIENCE, || cloud.exists(&result) || cloud.exists(&letter)), "{id} is judged");
        cloud.exists(&letter).then(|| cloud.json(&letter)["reason"].as_str().unwrap().to_owned())
    };
    let denied = Some("delete_denied".to_owned());
    pm2.run(&["start", &ecosystem()]);
    assert_eq!(delete("before"), denied);
    pm2.set(allow, "true");
    pm2.run(&["restart", &ecosystem(), "--update-env"]);
    assert_eq!(delete("allowed"), None, "it was set");
    cloud.write("a.txt", "x");
    pm2.unset(allow);
    pm2.run(&["restart", &ecosystem(), "--update-env"]);
    assert_eq!(delete("after"), denied, "it was withdrawn");
    // Also by an end that PM2 answers with a start of its own.
    kill_process(pm2.pid(), Signal::KILL).unwrap();
    pm2.becomes("the restart", |process| process["pm2_env"]["status"] == "online" && process["pid"] != 0);
    assert_eq!(delete("restarted"), denied);
    pm2.set(allow, "true");
    pm2.run(&["start", &ecosystem()]);
    assert_eq!(delete("again"), None, "a start of what runs is a restart");
    pm2.stop();
}

#[test]
fn each_cloud_has_an_app_of_its_own() {
    let (cloud, other) = (Cloud::new(), Cloud::new());
    let Some(mut pm2) = Pm2::new(&cloud) else { return };
    pm2.unset(APP);
    let start = |pm2: &Pm2<'_>, cloud: &Cloud| {
        let mut command = pm2.command(&["start", &ecosystem()]);
        pm2.done(command.env("CLOUD", cloud.root()).env("GPT_BRIDGE_HMAC_SECRET", &cloud.secret));
    };
    let serves = |cloud: &Cloud, id: &str| {
        cloud.drop_file(&format!("{id}.json"), &Doc::noop(id).signed(&cloud.secret));
        assert!(poll(PATIENCE, || cloud.exists(&format!("archive/{id}.json"))), "{id} is executed");
    };
    start(&pm2, &cloud);
    serves(&cloud, "first");
    let first = pm2.all()[0].clone();
    start(&pm2, &other);
    serves(&other, "second");
    serves(&cloud, "third");
    let all = pm2.all();
    assert_eq!(all.len(), 2);
    let untouched = all.iter().find(|process| process["name"] == first["name"]).unwrap();
    assert_eq!((&untouched["pid"], &untouched["pm2_env"]["restart_time"]), (&first["pid"], &json!(0)));
    for process in &all {
        let name = process["name"].as_str().unwrap();
        assert!(name.starts_with("ghost-bridge-cloud-"), "{name}");
        assert_eq!(process["pm2_env"]["namespace"], NAME);
        let own = pm2.run(&["logs", name, "--nostream", "--lines", "100"]);
        assert!(own.contains("ready: watching"), "{name}:\n{own}");
    }
    // By the name of all both are followed.
    let seen = cloud.fresh("logs");
    let mut follow = pm2.command(&["logs", NAME, "--lines", "100"]);
    let mut follow = follow.stdout(fs::File::create(&seen).unwrap()).spawn().unwrap();
    let both = poll(PATIENCE, || fs::read_to_string(&seen).unwrap().matches("ready: watching").count() == 2);
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert!(both, "{}", fs::read_to_string(&seen).unwrap());
    pm2.run(&["stop", NAME]);
    assert!(poll(PATIENCE, || pm2.all().iter().all(|process| process["pm2_env"]["status"] == "stopped")), "both stop");
}
