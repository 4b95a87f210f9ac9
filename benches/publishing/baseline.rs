//! The Python baseline: one process, git as a child for every step of every command.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where it is looked for when `GHOST_BRIDGE_BASELINE` does not say.
const BESIDE: &str = "../shared/bench/seed_baseline.py";

/// Commands a second, or why there is no figure.
pub fn run(commands: u64, history: u64) -> Result<f64, String> {
    let named = std::env::var_os("GHOST_BRIDGE_BASELINE").map(PathBuf::from);
    let script = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(BESIDE));
    if !script.is_file() {
        return Err("the baseline is missing: name it by GHOST_BRIDGE_BASELINE".to_owned());
    }
    let dir = tempfile::Builder::new().prefix("ghost-bridge-bench-").tempdir().map_err(|error| error.to_string())?;
    eprintln!("  the baseline, {commands} commands after {history}");
    // It wipes the folder and its neighbour of the same name.
    let (cloud, sizes) = (dir.path().join("cloud"), [commands, history].map(|size| size.to_string()));
    let out = Command::new("python3").arg(&script).arg(cloud).args(sizes).output().map_err(|e| e.to_string())?;
    let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    crate::site::done_with(dir);
    let rate = said.split_once(" cmd/s").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
    rate.ok_or_else(|| format!("the baseline failed: {}", wrong.lines().last().unwrap_or_default()))
}
