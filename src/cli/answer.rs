//! What the running bridge says of itself: its `GET /status`, asked from the same machine.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// The longest that the bridge may take to answer.
const LIMIT: Duration = Duration::from_secs(3);
/// The longest answer that is taken, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// The reasons of `reasons` that pass by themselves: a start and a stop.
const PASSING: [&str; 2] = ["starting", "stopping"];

/// What the bridge of `cloud`, which is canonical, says where it is to listen; `None` where nothing answers in time that
/// is a bridge, or it is another CLOUD's.
#[must_use]
pub fn ask(listen: SocketAddr, cloud: &Path) -> Option<Value> {
    fetch(listen).filter(|answer| is_of(answer, cloud))
}

/// What hinders it for longer than a passing moment, each with the part that it is about.
#[must_use]
pub fn hindrances(answer: &Value) -> Vec<String> {
    let text = |reason: &Value, key: &str| reason.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let reasons = answer.get("reasons").and_then(Value::as_array).into_iter().flatten();
    let lasting = reasons.filter(|reason| !PASSING.contains(&text(reason, "reason").as_str()));
    lasting.map(|reason| format!("{}: {}", text(reason, "part"), text(reason, "detail"))).collect()
}

/// Why its last attempt to reach the remote failed, where none has come off since.
#[must_use]
pub fn last_failure(answer: &Value) -> Option<String> {
    answer.pointer("/publishing/last_failure").and_then(Value::as_str).map(str::to_owned)
}

fn fetch(listen: SocketAddr) -> Option<Value> {
    // Port 0 was any that was free.
    let address = Some(reachable(listen)).filter(|address| address.port() != 0)?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    // By version 1.0 the answer comes in one piece and ends with the connection.
    stream.write_all(format!("GET /status HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    body(&bytes)
}

/// Where somebody on this machine reaches what listens there.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The JSON object in an answer that says yes.
fn body(answer: &[u8]) -> Option<Value> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end + 4)?;
    let first = head.split(|byte| *byte == b'\r').next()?;
    let is_good = first.starts_with(b"HTTP/1.") && first.split(|byte| *byte == b' ').nth(1) == Some(b"200");
    let value: Value = serde_json::from_slice(body).ok().filter(|_| is_good)?;
    value.is_object().then_some(value)
}

/// Whether an answer is about this CLOUD: a machine may have several.
fn is_of(answer: &Value, cloud: &Path) -> bool {
    let named = answer.get("cloud").and_then(Value::as_str);
    named.is_none_or(|named| fs::canonicalize(named).is_ok_and(|named| named == cloud))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_good_answer_that_is_an_object_counts() {
        let good = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        assert_eq!(body(good), Some(json!({ "a": 1 })));
        for bad in [
            &b"HTTP/1.1 404 Not Found\r\n\r\n{}"[..],
            b"HTTP/1.1 200 OK\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\n\r\n{",
            b"SSH-2.0-x 200 \r\n\r\n{}",
            b"",
        ] {
            assert_eq!(body(bad), None);
        }
    }

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (listen, asked) in [("0.0.0.0:9", "127.0.0.1:9"), ("[::]:9", "[::1]:9"), ("10.0.0.1:9", "10.0.0.1:9")] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn a_start_and_a_stop_hinder_nothing_for_long() {
        let reason = |reason: &str| json!({ "reason": reason, "part": "publisher", "detail": "why" });
        let reasons = ["starting", "degraded", "stopping", "over_budget"].map(reason);
        let answer = json!({ "reasons": reasons });
        assert_eq!(hindrances(&answer), ["publisher: why", "publisher: why"]);
        assert_eq!(hindrances(&json!({})), Vec::<String>::new());
    }
}
