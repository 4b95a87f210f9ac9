//! What watches the bridge from afar: Prometheus' configuration, its alerts, and the dashboard.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::cloud::describe;
use crate::harness::have;

/// The metrics that the bridge promises (without `ghost_bridge_`), as they are queried.
pub const PROMISED: [&str; 18] = [
    "actor_restarts_total",
    "build_info",
    "command_seconds_bucket",
    "commands_in_flight",
    "commands_pending",
    "commands_total",
    "disk_free_bytes",
    "files_apart",
    "ignored_files_total",
    "mailbox_capacity",
    "mailbox_depth",
    "mailbox_wait_seconds_bucket",
    "message_duration_seconds_bucket",
    "publish_degraded",
    "pushes_total",
    "retries_pending",
    "rotation_ends_timestamp_seconds",
    "unpushed_commits",
];

pub fn config(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn promtool(arguments: &[&str]) {
    // From its own folder: what the files name lies beside them.
    let output = Command::new("promtool").args(arguments).current_dir(config(".")).output().unwrap();
    assert!(output.status.success(), "promtool {arguments:?}: {}", describe(&output));
}

/// The names of the bridge's metrics in `text`, without `ghost_bridge_`.
fn metrics(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap().to_owned();
    text.split("ghost_bridge_").skip(1).map(name).collect()
}

/// What the dashboard asks for: the title of the panel, and the query.
pub fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let (title, query) = (panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap());
            found.push((title.to_owned(), query.to_owned()));
        }
    }
    found
}

/// A query with what Grafana puts in place of its variables.
pub fn filled(query: &str, job: &str, instance: &str) -> String {
    query.replace("$__rate_interval", "1m").replace("$job", job).replace("$instance", instance)
}

pub fn dashboard() -> Value {
    serde_json::from_slice(&fs::read(config("grafana-dashboard.json")).unwrap()).unwrap()
}

#[test]
fn prometheus_takes_the_configuration_and_every_alert_fires_when_it_should_and_only_then() {
    if !have("promtool") {
        return;
    }
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
    // No alert is without a test.
    let (rules, tests) = (fs::read_to_string(config("alerts.yml")), fs::read_to_string(config("alerts_test.yml")));
    let (rules, tests) = (rules.unwrap(), tests.unwrap());
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} is not tested");
    }
}

#[test]
fn alerts_and_dashboard_ask_for_what_the_bridge_tells_and_leave_nothing_out() {
    let promised: BTreeSet<String> = PROMISED.iter().map(|name| (*name).to_owned()).collect();
    let alerts = metrics(&fs::read_to_string(config("alerts.yml")).unwrap());
    let shown = metrics(&dashboard().to_string());
    assert_eq!(alerts.difference(&promised).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(shown, promised);
}

#[test]
fn the_dashboard_shows_the_five_actors_in_order_and_prometheus_understands_its_queries() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels with one id: {panel}");
    }
    let queries = queries(&dashboard);
    let first = |title: &str| queries.iter().position(|(of, _)| of == title).unwrap_or_else(|| panic!("no {title}"));
    assert!(["1 Watcher", "2 Verifier", "3 Executor", "4 Archiver", "5 Publisher", "Remote"].map(first).is_sorted());

    if !have("promtool") {
        return;
    }
    let record = |(number, (_, query)): (usize, &(String, String))| serde_json::json!({ "record": format!("query_{number}"), "expr": filled(query, "j", "i") });
    let rules: Vec<Value> = queries.iter().enumerate().map(record).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    // JSON is YAML.
    fs::write(&file, serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}
