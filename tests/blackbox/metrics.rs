//! What the running service says of itself over HTTP: metrics, health, readiness, status.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::cloud::describe;
use crate::harness::http::request;
use crate::harness::{Bridge, Cloud, Doc, git};

/// The metrics of the contract, as their families are printed.
const FAMILIES: [(&str, &str); 17] = [
    ("ghost_bridge_build", "info"),
    ("ghost_bridge_mailbox_depth", "gauge"),
    ("ghost_bridge_mailbox_capacity", "gauge"),
    ("ghost_bridge_mailbox_wait_seconds", "histogram"),
    ("ghost_bridge_message_duration_seconds", "histogram"),
    ("ghost_bridge_actor_restarts", "counter"),
    ("ghost_bridge_commands", "counter"),
    ("ghost_bridge_command_seconds", "histogram"),
    ("ghost_bridge_commands_pending", "gauge"),
    ("ghost_bridge_commands_in_flight", "gauge"),
    ("ghost_bridge_unpushed_commits", "gauge"),
    ("ghost_bridge_pushes", "counter"),
    ("ghost_bridge_publish_degraded", "gauge"),
    ("ghost_bridge_retries_pending", "gauge"),
    ("ghost_bridge_repository_packs", "gauge"),
    ("ghost_bridge_files_apart", "gauge"),
    ("ghost_bridge_ignored_files", "counter"),
];
const ACTORS: [&str; 5] = ["watcher", "verifier", "executor", "archiver", "publisher"];

fn ready(bridge: &Bridge<'_>) {
    bridge.wait_for("the bridge to be ready", || bridge.get("/readyz").status == 200);
}

#[test]
fn every_metric_of_the_contract_is_there_after_the_start() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let page = bridge.get("/metrics");
    assert_eq!(page.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(page.body.ends_with("\n# EOF\n"), "{}", page.body);
    for (family, kind) in FAMILIES {
        assert!(page.body.contains(&format!("# HELP {family} ")), "{family}");
        assert!(page.body.contains(&format!("# TYPE {family} {kind}\n")), "{family}");
        let series = page.body.lines().filter(|line| line.starts_with(family)).count();
        assert!(series > 0, "{family} has no series");
    }
    for actor in ACTORS {
        let capacity = bridge.metric(&format!("ghost_bridge_mailbox_capacity{{actor=\"{actor}\"}}"));
        assert!(capacity.is_some_and(|it| it > 0.0), "{actor}: {capacity:?}");
        let restarts = bridge.metric(&format!("ghost_bridge_actor_restarts_total{{actor=\"{actor}\"}}"));
        assert_eq!(restarts, Some(0.0), "{actor}");
    }
    assert!(!page.body.contains(&cloud.secret));
    bridge.stop();
}

#[test]
fn figures_move_with_what_is_done() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    cloud.write("commands/.hidden", "x");
    cloud.write("commands/notes.txt", "x");
    bridge.run_beside(&Doc::noop("well"));
    let forged = Doc::noop("forged").signed("a-forgers-own-secret-of-32-bytes");
    cloud.drop_file("forged.json", &forged);
    bridge.published("bridge: DLQ bad_hmac");
    let becomes = |series: &str, expected: f64| {
        bridge.wait_for(&format!("{series} {expected}"), || bridge.metric(series) == Some(expected));
    };
    becomes("ghost_bridge_commands_total{outcome=\"ok\",reason=\"none\"}", 1.0);
    becomes("ghost_bridge_commands_total{outcome=\"rejected\",reason=\"bad_hmac\"}", 1.0);
    for until in ["filed", "committed", "pushed"] {
        becomes(&format!("ghost_bridge_command_seconds_count{{until=\"{until}\"}}"), 2.0);
    }
    // A name that a document has before it is renamed into place counts, too, where a scan happens to see it.
    let hidden = "ghost_bridge_ignored_files_total{reason=\"hidden\"}";
    bridge.wait_for("the hidden file to be counted", || bridge.metric(hidden).is_some_and(|count| count >= 1.0));
    becomes("ghost_bridge_ignored_files_total{reason=\"not_json\"}", 1.0);
    becomes("ghost_bridge_message_duration_seconds_count{actor=\"verifier\",message=\"candidate\"}", 2.0);
    becomes("ghost_bridge_message_duration_seconds_count{actor=\"executor\",message=\"verified\"}", 1.0);
    becomes("ghost_bridge_message_duration_seconds_count{actor=\"archiver\",message=\"outcome\"}", 2.0);
    becomes("ghost_bridge_mailbox_wait_seconds_count{actor=\"publisher\"}", 2.0);
    for gauge in [
        "commands_pending",
        "commands_in_flight",
        "unpushed_commits",
        "publish_degraded",
        "retries_pending",
        "files_apart",
    ] {
        becomes(&format!("ghost_bridge_{gauge}"), 0.0);
    }
    for actor in ACTORS {
        becomes(&format!("ghost_bridge_mailbox_depth{{actor=\"{actor}\"}}"), 0.0);
    }
    assert!(bridge.metric("ghost_bridge_pushes_total{result=\"ok\"}").unwrap() >= 1.0);
    bridge.stop();
}

#[test]
fn the_status_and_the_log_tell_each_commands_story() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::write("well", "docs/a.txt", "a\n"));
    cloud.submit(&Doc::new("escapes", json!([{ "op": "writeFile", "path": "../x", "content": "x" }])));
    bridge.published("bridge: DLQ path_escape");
    bridge.emptied();
    bridge.wait_for("both stories", || bridge.get("/status").json()["last_commands"].as_array().unwrap().len() == 2);
    let status = bridge.get("/status").json();
    assert_eq!(status["cloud"], json!(cloud.root().canonicalize().unwrap()));
    assert_eq!(status["phase"], json!("running"));
    assert_eq!(status["commands"]["filed"], json!(2));
    let actors: Vec<&Value> = status["actors"].as_array().unwrap().iter().map(|it| &it["actor"]).collect();
    assert_eq!(actors, ACTORS.map(|actor| json!(actor)).iter().collect::<Vec<_>>());
    let [late, early] = [&status["last_commands"][0], &status["last_commands"][1]];
    assert_eq!(
        (&late["id"], &late["outcome"], &late["reason"]),
        (&json!("escapes"), &json!("rejected"), &json!("path_escape"))
    );
    assert_eq!((&early["id"], &early["outcome"], &early["reason"]), (&json!("well"), &json!("ok"), &Value::Null));
    assert_eq!(early["files_changed"], json!(1));
    let stages = ["waited_ms", "verified_ms", "executed_ms", "filed_ms"].map(|stage| early[stage].as_f64().unwrap());
    let total = early["total_ms"].as_f64().unwrap();
    assert!((stages.iter().sum::<f64>() - total).abs() < 0.01, "{early}");
    let log = bridge.log();
    for (id, words) in [("well", "outcome=\"ok\""), ("escapes", "reason=\"path_escape\"")] {
        let story: Vec<&str> =
            log.lines().filter(|line| line.contains("filed") && line.contains(&format!("id={id} "))).collect();
        assert_eq!(story.len(), 1, "{id}:\n{log}");
        assert!(story[0].contains(words) && story[0].contains("filed_ms="), "{}", story[0]);
    }
    assert!(!bridge.get("/status").body.contains(&cloud.secret));
    bridge.stop();
}

#[test]
fn readiness_follows_the_remote() {
    let cloud = Cloud::new();
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("GHOST_BRIDGE__PUBLISH__ATTEMPTS", "1");
    });
    ready(&bridge);
    assert_eq!(bridge.get("/readyz").json(), json!({ "ready": true, "reasons": [] }));
    let away = cloud.world().join("away.git");
    fs::rename(cloud.remote(), &away).unwrap();
    cloud.submit(&Doc::noop("meanwhile"));
    bridge.wait_for("it to be degraded", || bridge.get("/readyz").status == 503);
    let why = bridge.get("/readyz").json();
    assert_eq!((&why["ready"], &why["reasons"][0]["reason"]), (&json!(false), &json!("degraded")), "{why}");
    assert_eq!(why["reasons"][0]["part"], json!("publisher"), "{why}");
    assert_eq!(bridge.get("/healthz").status, 200, "it is alive all the same");
    assert_eq!(bridge.metric("ghost_bridge_publish_degraded"), Some(1.0));
    bridge.wait_for("the commit that waits", || bridge.metric("ghost_bridge_unpushed_commits") == Some(1.0));
    fs::rename(&away, cloud.remote()).unwrap();
    // It looks again once a minute.
    bridge.wait_long("it to be ready again", || bridge.get("/readyz").status == 200);
    bridge.published(&git::results("meanwhile", 0));
    assert_eq!(bridge.metric("ghost_bridge_publish_degraded"), Some(0.0));
    bridge.stop();
}

#[test]
fn nothing_but_reading_is_answered() {
    let cloud = Cloud::alone();
    let bridge = Bridge::start(&cloud);
    let address = bridge.address();
    assert!(address.ip().is_loopback());
    ready(&bridge);
    let said = bridge.log();
    assert_eq!(request(address, "GET /\u{1}").status, 400);
    for path in ["/", "/metrics/", "/debug", "/../etc/passwd", "/status/x"] {
        assert_eq!(request(address, &format!("GET {path}")).status, 404, "{path}");
    }
    for path in ["/metrics", "/healthz", "/readyz", "/status"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let answer = request(address, &format!("{method} {path}"));
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
        let head = request(address, &format!("HEAD {path}"));
        assert!(matches!(head.status, 200 | 503) && head.body.is_empty(), "{path}: {head:?}");
    }
    assert_eq!(bridge.log(), said, "whoever asks leaves no line in the log");
    bridge.stop();
}

#[test]
fn an_address_that_was_chosen_must_be_free_and_the_default_need_not() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cloud = Cloud::alone();
    let before: BTreeSet<String> = crate::harness::cloud::names(cloud.root()).into_iter().collect();
    let refused = cloud.bridge(&["run"]).env("GHOST_BRIDGE__HTTP__LISTEN", &address).output().unwrap();
    assert_eq!(refused.status.code(), Some(78), "{}", describe(&refused));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    let last = stderr.lines().last().unwrap();
    assert!(last.contains("http.listen") && last.contains(&address) && last.contains("choose another"), "{last}");
    let after: BTreeSet<String> = crate::harness::cloud::names(cloud.root()).into_iter().collect();
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), [".bridge.lock"]);

    // Two bridges with the default address, which somebody else on this machine may hold, too.
    let second = Cloud::alone();
    let default = |cloud| {
        Bridge::start_with(cloud, |run| {
            run.env_remove("GHOST_BRIDGE__HTTP__LISTEN");
        })
    };
    let bridges = [default(&cloud), default(&second)];
    let without =
        bridges.iter().filter(|bridge| bridge.log().contains("no metrics and no health at 127.0.0.1:9464")).count();
    assert!(without >= 1, "one port serves two bridges");
    for (bridge, cloud) in bridges.into_iter().zip([&cloud, &second]) {
        cloud.submit(&Doc::noop("served"));
        bridge
            .local_history("its commit", |history| !git::with_subject(history, &git::results("served", 0)).is_empty());
        bridge.stop();
    }
}

#[test]
fn other_machines_are_let_in_only_where_the_operator_says_so() {
    let cloud = Cloud::alone();
    let run = |allow: &str| {
        let mut command = cloud.bridge(&["run"]);
        command.env("GHOST_BRIDGE__HTTP__LISTEN", "0.0.0.0:0").env("GHOST_BRIDGE__HTTP__ALLOW_REMOTE", allow);
        command
    };
    let refused = run("false").output().unwrap();
    assert_eq!(refused.status.code(), Some(78), "{}", describe(&refused));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("http.allow_remote"), "{}", describe(&refused));
    let bridge = Bridge::start_with(&cloud, |command| {
        command.env("GHOST_BRIDGE__HTTP__LISTEN", "0.0.0.0:0").env("GHOST_BRIDGE__HTTP__ALLOW_REMOTE", "true");
    });
    assert!(bridge.address().ip().is_unspecified());
    assert_eq!(bridge.get("/healthz").status, 200);
    bridge.stop();
}
