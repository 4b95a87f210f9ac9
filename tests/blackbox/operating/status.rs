//! `status`: in the bridge's words where it answers, else by what lies on disk.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json as value};

use crate::harness::cloud::describe;
use crate::harness::{Bridge, Cloud, Doc};

use super::json;

#[test]
fn where_nobody_answers_the_disk_tells() {
    let cloud = Cloud::new();
    cloud.drop_file("waits.json", &Doc::noop("waits").signed(&cloud.secret));
    let report = json(&cloud, &["status", "--json"], 1);
    assert_eq!((&report["source"], &report["running"]), (&value!("disk"), &value!(false)));
    assert_eq!((&report["commands"]["waiting"], &report["publishing"]["unpushed_commits"]), (&value!(1), &value!(0)));
    let bridge = Bridge::start(&cloud);
    bridge.emptied();
    let report = json(&cloud, &["status", "--json"], 0);
    assert!(report["lock"].as_str().unwrap().starts_with(&format!("pid {}", bridge.pid())), "{report}");
    bridge.stop();
}

/// Answers one request with this, and gives the port.
fn answering(body: &Value) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{body}");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
            request.extend_from_slice(&byte);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, thread)
}

#[test]
fn the_answer_of_this_clouds_bridge_counts_and_no_other() {
    let cloud = Cloud::new();
    let ask = |body: &Value, arguments: &[&str]| {
        let (port, server) = answering(body);
        let mut command = cloud.bridge(arguments);
        let output = command.env("GHOST_BRIDGE__HTTP__LISTEN", format!("127.0.0.1:{port}")).output().unwrap();
        assert!(server.join().unwrap().starts_with("GET /status HTTP/1.0\r\n"));
        output
    };
    let own = cloud.root().canonicalize().unwrap();
    let body = value!({ "cloud": own, "phase": "running", "last_commands": [{ "id": "a", "outcome": "ok" }] });
    let output = ask(&body, &["status", "--json"]);
    assert!(output.status.success(), "{}", describe(&output));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), body);
    let page = String::from_utf8(ask(&body, &["status"]).stdout).unwrap();
    assert!(page.contains("phase  running") && page.contains("last_commands\n  id  outcome\n  a   ok\n"), "{page}");
    let output = ask(&value!({ "cloud": "/another", "phase": "running" }), &["status", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["source"], "disk");
}
