//! What the kernel says of a process: time on a core, memory.

use std::fs;

/// Kernel ticks a second; the same on every Linux that is about.
const TICKS: f64 = 100.0;

/// Seconds on a core so far: its own, and its children's that have ended.
pub fn cpu(pid: u32) -> [f64; 2] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name may hold anything; what follows its closing bracket are numbers, from the third field on.
    let (_, after) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
    [ticks(14) + ticks(15), ticks(16) + ticks(17)].map(|ticks| ticks / TICKS)
}

/// A line of `/proc/PID/status` that is in KiB (`VmRSS`, `VmHWM`), in MiB.
pub fn memory(pid: u32, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
