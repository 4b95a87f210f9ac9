//! Whether a bridge runs, and what starts one.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::answer;
use crate::instance::InstanceLock;
use crate::layout::Layout;

use super::Report;

/// Where a unit may lie.
const UNITS: [&str; 2] = ["/etc/systemd/system/ghost-bridge.service", "/lib/systemd/system/ghost-bridge.service"];
/// The largest entry that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Looks at both.
pub fn look(report: &mut Report, layout: &Layout, listen: Option<SocketAddr>) {
    match InstanceLock::holder(layout.cloud()) {
        Some(holder) => bridge(report, layout, &holder, listen),
        None => report.ok("bridge", "none runs on this CLOUD"),
    }
    let unit = UNITS.iter().map(Path::new).find_map(|path| Some((path, read(path)?)));
    if let Some((path, unit)) = unit {
        systemd(report, layout, path, &unit);
    }
    let home = std::env::var_os("PM2_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pm2")));
    if let Some(dump) = home.map(|home| home.join("dump.pm2"))
        && let Some(text) = read(&dump)
    {
        pm2(report, &dump, &text);
    }
}

/// What the running bridge says of itself.
fn bridge(report: &mut Report, layout: &Layout, holder: &str, listen: Option<SocketAddr>) {
    let Some(answer) = listen.and_then(|listen| answer::ask(listen, layout.cloud())) else {
        let listen = listen.map_or_else(|| "http.listen".to_owned(), |listen| listen.to_string());
        return match listen.ends_with(":0") {
            true => report.ok("bridge", format!("runs: {holder}; it cannot be asked, since http.listen names no port")),
            false => report.warn(
                "bridge",
                format!("runs: {holder}; it does not answer at {listen}, so whether it is degraded is not known"),
                "run this with the bridge's own configuration, and look at its log",
            ),
        };
    };
    let hindrances = answer::hindrances(&answer);
    if !hindrances.is_empty() {
        let remedy = "the bridge's log says since when and what it tries; the runbook in README.md what to do";
        return report.fail("bridge", format!("runs: {holder}, and is degraded: {}", hindrances.join("; ")), remedy);
    }
    match answer::last_failure(&answer) {
        Some(failure) => report.warn(
            "bridge",
            format!("runs: {holder}; its last attempt to reach the remote failed: {failure}"),
            "it is tried again; it counts as degraded after publish.attempts failures in a row",
        ),
        None => report.ok("bridge", format!("runs: {holder}")),
    }
}

fn read(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= MAX_BYTES).then(|| fs::read_to_string(path).ok()).flatten()
}

fn systemd(report: &mut Report, layout: &Layout, path: &Path, unit: &str) {
    let values = |key: &str| -> Vec<String> {
        let lines = unit.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        lines.map(|value| value.trim().to_owned()).collect()
    };
    let shown = path.display();
    for folder in values("WorkingDirectory") {
        if !Path::new(folder.trim_start_matches('-')).is_dir() {
            return report.fail(
                "systemd",
                format!("{shown}: WorkingDirectory={folder} is no folder"),
                "correct it, then: systemctl daemon-reload",
            );
        }
    }
    let writable = values("ReadWritePaths");
    let is_strict = values("ProtectSystem").iter().any(|value| value == "strict");
    let covers = |line: &String| {
        line.split_whitespace().any(|path| layout.cloud().starts_with(path.trim_start_matches(['-', '+'])))
    };
    if is_strict && !writable.iter().any(covers) {
        let remedy = format!("add ReadWritePaths={}, then: systemctl daemon-reload", layout.cloud().display());
        return report.warn("systemd", format!("{shown} does not let the bridge write to this CLOUD"), remedy);
    }
    report.ok("systemd", shown.to_string());
}

/// PM2 keeps its processes' environment, the secrets too, in this file: of it only where they run is read.
fn pm2(report: &mut Report, dump: &Path, text: &str) {
    let Ok(Value::Array(entries)) = serde_json::from_str::<Value>(text) else { return };
    let is = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str) == Some("ghost-bridge");
    for entry in entries.iter().filter(|entry| is(entry, "name") || is(entry, "namespace")) {
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        let folder = entry.get("pm_cwd").and_then(Value::as_str).unwrap_or_default();
        if Path::new(folder).is_dir() {
            report.ok("pm2", format!("runs {name} in {folder}"));
        } else {
            let remedy =
                format!("pm2 delete {name} && pm2 start config/ecosystem.config.cjs, from where it is installed");
            report.fail("pm2", format!("would run {name} in {folder:?}, which is no folder"), remedy);
        }
        let parent = dump.parent().map(fs::metadata);
        use std::os::unix::fs::PermissionsExt as _;
        if parent.is_some_and(|meta| meta.is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)) {
            report.warn("pm2", "others can look into PM2's folder, which holds the secrets", "chmod 700 ~/.pm2");
        }
    }
}
