//! A real Prometheus scrapes the bridge, with the configuration that the project ships.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use chrono::{TimeDelta, Utc};

use crate::harness::cloud::describe;
use crate::harness::git::results;
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, have, poll};
use crate::watching::{PROMISED, config, dashboard, filled, queries};

/// A Prometheus that scrapes one bridge every second; it is killed when the test ends.
struct Prometheus {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Prometheus {
    fn start(cloud: &Cloud, target: &str) -> Self {
        let folder = cloud.fresh("prometheus");
        fs::create_dir(&folder).unwrap();
        fs::copy(config("alerts.yml"), folder.join("alerts.yml")).unwrap();
        let text = fs::read_to_string(config("prometheus.yml")).unwrap();
        let here = text.replace("127.0.0.1:9464", target).replace("_interval: 15s", "_interval: 1s");
        assert!(here.contains(target) && here.matches("_interval: 1s").count() == 2, "{here}");
        fs::write(folder.join("prometheus.yml"), here).unwrap();
        // It has no way to say which port it took; somebody else may take this one first, and then the test fails.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let log = folder.join("log");
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, url, log }
    }

    /// What a query gives at this moment: one line a series, none where it cannot be asked yet.
    fn ask(&self, query: &str) -> Vec<String> {
        let output = Command::new("promtool").args(["query", "instant", &self.url, query]).output().unwrap();
        if !output.status.success() {
            let text = describe(&output);
            assert!(text.contains("connection refused") || text.contains("503"), "{query}: {text}");
        }
        // Nothing is printed as an empty line.
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Asks until the answer is as `wanted`.
    fn until(&self, query: &str, wanted: impl Fn(&[String]) -> bool) {
        let mut last = Vec::new();
        let held = poll(PATIENCE, || {
            last = self.ask(query);
            wanted(&last)
        });
        assert!(held, "{query} gives {last:?}; its log: {}", fs::read_to_string(&self.log).unwrap_or_default());
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the bridge answers, as its log says.
fn address(log: &str) -> String {
    let (_, rest) = log.split_once("http -> http://").expect("the bridge says where it answers");
    rest.split(|c: char| c.is_whitespace() || c == '"').next().unwrap().to_owned()
}

fn is_there(lines: &[String]) -> bool {
    !lines.is_empty()
}

#[test]
fn prometheus_scrapes_it_knows_every_metric_and_raises_an_alert() {
    if !have("promtool") || !have("prometheus") {
        return;
    }
    let cloud = Cloud::new();
    let bridge = Bridge::start_with(&cloud, |run| {
        let ends = (Utc::now() + TimeDelta::hours(1)).to_rfc3339();
        run.env("GPT_BRIDGE_HMAC_SECRET_NEXT", "the-next-secret-of-32-bytes-00000");
        run.env("GPT_BRIDGE_HMAC_ROTATION_ENDS", ends);
    });
    bridge.wait_for("the address", || bridge.log().contains("http -> http://"));
    let instance = address(&bridge.log());
    let prometheus = Prometheus::start(&cloud, &instance);
    prometheus.until("up{job=\"ghost-bridge\"} == 1", is_there);

    // What the tests hold the alerts and the dashboard against is what the bridge tells.
    bridge.run(&Doc::write("seen", "docs/seen.txt", "seen\n"));
    cloud.drop_file("forged.json", &Doc::noop("forged").signed("nobody-s-secret-of-32-bytes-00000"));
    bridge.published("bridge: DLQ bad_hmac");
    for name in PROMISED {
        prometheus.until(&format!("ghost_bridge_{name}"), is_there);
    }
    prometheus.until("ghost_bridge_commands_total{outcome=\"ok\"} == 1", is_there);
    prometheus.until("ghost_bridge_commands_total{reason=\"bad_hmac\"} == 1", is_there);
    let alert = |name: &str, more: &str| format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"{more}}}");
    prometheus.until(&alert("GhostBridgeDeadLetters", ", reason=\"bad_hmac\""), is_there);
    prometheus.until(&alert("GhostBridgeRotationEnds", ""), is_there);

    // Every query of the dashboard is answered with something, but for those that ask for what did not happen.
    bridge.run(&Doc::write("seen-too", "docs/seen.txt", "seen too\n"));
    bridge.published(&results("seen-too", 0));
    for (title, query) in queries(&dashboard()) {
        let query = filled(&query, "ghost-bridge", &instance);
        if title == "Restarts of actors" {
            assert_eq!(prometheus.ask(&query), Vec::<String>::new());
        } else {
            prometheus.until(&query, is_there);
        }
    }
    bridge.stop();
    prometheus.until("up{job=\"ghost-bridge\"} == 0", is_there);
}
