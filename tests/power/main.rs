//! What a power cut leaves: a file system of its own is shut down under the working bridge without its log being written,
//! and mounted again; then everything must be filed, published and whole, once each.
//!
//! Needs root, loop devices, and `mkfs` for ext4 and XFS. `cargo test --test power -- --nocapture` prints a table;
//! `GHOST_BRIDGE_POWER_SEED` repeats the moments of a run, `GHOST_BRIDGE_POWER_ONLY` takes the rows that begin so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "the tests start programs as an operator would")]
#![allow(dead_code, reason = "the harness is shared with the other black-box tests, which use the rest of it")]

#[path = "../blackbox/harness/mod.rs"]
mod harness;

mod cuts;
mod disk;
mod verdict;

use std::collections::VecDeque;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use cuts::Row;

/// How many file systems are cut side by side.
const SIDE_BY_SIDE: usize = 3;
/// In the environment of a process that has a mount namespace of its own: the row that it is to do.
const ROW: &str = "GHOST_BRIDGE_POWER_ROW";
const SEED: &str = "GHOST_BRIDGE_POWER_SEED";

#[test]
fn what_a_power_cut_leaves_is_filed_and_published_once_and_whole() {
    if let Some(missing) = disk::missing() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        println!("SKIPPED: {missing}");
        return;
    }
    let seed = std::env::var(SEED).ok().map_or_else(rand::random, |seed| seed.parse::<u64>().expect("a number"));
    let only = std::env::var("GHOST_BRIDGE_POWER_ONLY").unwrap_or_default();
    println!("{SEED}={seed}");
    println!("{}", cuts::HEADING);
    let rows: VecDeque<Row> = Row::all().into_iter().filter(|row| row.to_string().starts_with(&only)).collect();
    let (cuts, rows) = (rows.len() * cuts::A_ROW, Mutex::new(rows));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(row) = rows.lock().unwrap().pop_front() else { break };
                    let output = within(&row, seed).output().expect("unshare runs");
                    let text = String::from_utf8_lossy(&output.stdout).into_owned();
                    text.lines().filter(|line| line.starts_with("| ")).for_each(|line| println!("{line}"));
                    if !output.status.success() {
                        failed
                            .lock()
                            .unwrap()
                            .push(format!("{row}\n{text}{}", String::from_utf8_lossy(&output.stderr)));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    failed.iter().for_each(|failed| println!("{failed}"));
    assert!(failed.is_empty(), "{} rows failed; {SEED}={seed} repeats their moments", failed.len());
    println!("{cuts} cuts");
}

/// This very program, in a mount namespace of its own: what is mounted there goes with it.
fn within(row: &Row, seed: u64) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "one_row", "--nocapture"]).env(ROW, row.to_string()).env(SEED, seed.to_string());
    command.stdin(Stdio::null());
    command
}

/// Nothing by itself: what [`within`] starts.
#[test]
fn one_row() {
    let Ok(name) = std::env::var(ROW) else { return };
    let row = Row::all().into_iter().find(|row| row.to_string() == name).expect("a row of this test");
    row.run(std::env::var(SEED).unwrap().parse().unwrap());
}
