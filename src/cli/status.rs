//! `ghost-bridge status`: how the running bridge is, in its own words; where none answers, what the disk tells.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::exit::{Failure, one_line, print};
use crate::git;
use crate::instance::InstanceLock;
use crate::layout::Layout;

use super::Globals;

/// The longest that the bridge may take to answer.
const LIMIT: Duration = Duration::from_secs(3);
/// The longest answer that is taken, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// The most files in `commands/` that are counted.
const MAX_COUNTED: usize = 1_000_000;

const TEACH: &str = "\
It asks the bridge at http.listen (GET /status), so it needs the bridge's configuration. Where none answers, or another \
CLOUD's bridge does, it tells what can be seen on disk: who holds the lock, how many files wait in commands/, how many \
commands have tries noted, and how many commits the remote does not have yet, as last seen.

Exit status: 0 a bridge runs, 1 none does.

Examples:
  ghost-bridge status
  ghost-bridge status --json | jq .commands";

/// The command line of `status`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = TEACH)]
pub struct Args {
    /// Print a JSON object: the bridge's own, or one with `"source": "disk"`
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
///
/// # Errors
/// When no bridge runs on this CLOUD.
pub fn run(globals: &Globals, args: &Args) -> Result<(), Failure> {
    let settings = globals.settings()?;
    let layout = Layout::at(&globals.cloud(&settings)?).map_err(Failure::config)?;
    let remote = settings.publish().remote.clone();
    let config = settings.resolve(layout.cloud()).map_err(Failure::config)?;
    let answer = ask(config.http.listen).filter(|answer| is_of(answer, &layout));
    let holder = InstanceLock::holder(layout.cloud());
    let runs = answer.is_some() || holder.is_some();
    let status = answer.unwrap_or_else(|| disk(&layout, &remote, holder));
    print(&if args.json { format!("{status:#}\n") } else { table(&status) })?;
    if runs {
        return Ok(());
    }
    Err(Failure::failed(format!("no bridge runs on {}; start one with: ghost-bridge run", layout.cloud().display())))
}

/// What the bridge at `listen` says of itself; `None` where nothing that is a bridge answers in time.
fn ask(listen: SocketAddr) -> Option<Value> {
    // Port 0 was any that was free.
    let address = reachable(listen).filter(|address| address.port() != 0)?;
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
fn reachable(listen: SocketAddr) -> Option<SocketAddr> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some(SocketAddr::new(ip, listen.port()))
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
fn is_of(answer: &Value, layout: &Layout) -> bool {
    let cloud = answer.get("cloud").and_then(Value::as_str);
    cloud.is_none_or(|cloud| fs::canonicalize(cloud).is_ok_and(|cloud| cloud == layout.cloud()))
}

/// What can be seen without a bridge.
fn disk(layout: &Layout, remote: &str, holder: Option<String>) -> Value {
    let names = fs::read_dir(layout.at_path("commands")).into_iter().flatten().flatten().take(MAX_COUNTED);
    let waits = names.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".json") && !name.starts_with('.')
    });
    let ask = |args: &[&str]| git::ask(layout.cloud(), args).ok();
    let unpushed = ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]).and_then(|branch| {
        let range = format!("refs/remotes/{remote}/{branch}..HEAD");
        ask(&["rev-list", "--count", &range, "--"])?.parse::<u64>().ok()
    });
    json!({
        "source": "disk",
        "cloud": layout.cloud().display().to_string(),
        "running": holder.is_some(),
        "lock": holder,
        "commands": { "waiting": waits.count(), "retries_noted": publisher::attempts(layout.cloud()).len() },
        "publishing": { "unpushed_commits": unpushed, "files_apart": publisher::apart(layout.cloud()).len() },
    })
}

/// Any JSON object, for people: a line a value, a table a list of objects.
fn table(status: &Value) -> String {
    let (mut lines, mut tables) = (Vec::new(), String::new());
    flatten("", status, &mut lines, &mut tables);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: String = lines.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect();
    lines + &tables
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>, tables: &mut String) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let name = if name.is_empty() { one_line(key) } else { format!("{name}.{}", one_line(key)) };
                flatten(&name, value, lines, tables);
            }
        }
        Value::Array(items) => {
            let rows: Vec<&Map<String, Value>> = items.iter().filter_map(Value::as_object).collect();
            if rows.is_empty() {
                let words: Vec<String> = items.iter().map(word).collect();
                lines.push((name.to_owned(), if words.is_empty() { "none".to_owned() } else { words.join("; ") }));
            } else {
                tables.push_str(&format!("\n{name}\n{}", grid(&rows)));
            }
        }
        other => lines.push((name.to_owned(), word(other))),
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => one_line(text),
        other => one_line(&other.to_string()),
    }
}

/// Objects as rows, their keys as columns, in the order of their first appearance.
fn grid(rows: &[&Map<String, Value>]) -> String {
    let mut keys: Vec<&String> = Vec::new();
    for key in rows.iter().flat_map(|row| row.keys()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut lines = vec![keys.iter().map(|key| one_line(key)).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| keys.iter().map(|key| row.get(*key).map_or_else(String::new, word)).collect()));
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..keys.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
    fn any_object_becomes_lines_and_tables() {
        let status = json!({"a": 1, "b": {"c": "x\ny", "d": []}, "e": [{"k": 1}, {"k": 22, "l": null}]});
        assert_eq!(table(&status), "a    1\nb.c  x y\nb.d  none\n\ne\n  k   l\n  1\n  22  -\n");
    }

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (listen, asked) in [("0.0.0.0:9", "127.0.0.1:9"), ("[::]:9", "[::1]:9"), ("10.0.0.1:9", "10.0.0.1:9")] {
            assert_eq!(reachable(listen.parse().unwrap()), Some(asked.parse().unwrap()));
        }
    }
}
