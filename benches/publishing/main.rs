//! How fast, how large and how quiet the whole bridge is: the release binary, real git, a bare remote on the same disk.
//!
//! `cargo bench --bench publishing [-- --rows throughput,lone --commands 5000]`; `-- --help` tells of rows and sizes. It
//! works in the folder for temporary files (`TMPDIR=/some/folder` chooses another disk) and removes what it made.
//!
//! Each row is measured beside a peer in the same run, so that the ratio says more than the figures: the same design as a
//! short Python script that calls git for everything (`GHOST_BRIDGE_BASELINE` names it), `git fast-import` fed the same
//! changes, `git push` of one commit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "nothing here is the service: its children run in the open")]

mod baseline;
mod commits;
mod documents;
mod forged;
mod history;
mod latency;
mod process;
mod quiet;
mod site;
mod table;
mod throughput;

use clap::Parser;

use crate::table::Table;

/// The rows, in their order, and whether they are measured when nothing else is said.
const ROWS: [(&str, bool); 12] = [
    ("throughput", true),
    ("scraped", true),
    ("history-50k", true),
    ("history-1m", false),
    ("publisher", true),
    ("lone", true),
    ("start", true),
    ("disk", true),
    ("idle", true),
    ("waiting", true),
    ("forged", true),
    ("start-1m", false),
];

/// What is measured, and how large it is.
#[derive(Clone, Debug, clap::Parser)]
#[command(about = "Measures the whole bridge: throughput, latency, start, disk, idle cost, memory")]
pub struct Sizes {
    /// Rows, separated by commas: throughput, scraped, history-50k, history-1m, publisher, lone, start, start-1m, disk, idle,
    /// waiting, forged; or all. Without it, all but those with a million commands of history
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Commands that wait, for throughput, history and disk; commits, for publisher
    #[arg(long, default_value_t = 5_000)]
    commands: u64,
    /// Commands sent one by one, for lone
    #[arg(long, default_value_t = 50)]
    lone: usize,
    /// Commands of history for start
    #[arg(long, default_value_t = 100_000)]
    start_history: u64,
    /// Commands of history for idle
    #[arg(long, default_value_t = 10_000)]
    idle_history: u64,
    /// Seconds that idle lasts
    #[arg(long, default_value_t = 60)]
    idle_secs: u64,
    /// Documents for waiting
    #[arg(long, default_value_t = 200_000)]
    waiting: u64,
    /// Documents for forged
    #[arg(long, default_value_t = 20_000)]
    forged: u64,
    /// Commands that the Python baseline executes without history
    #[arg(long, default_value_t = 100)]
    baseline: u64,
    /// Commands that it executes with 50,000 commands of history; preparing that takes it a minute or two. 0 leaves it out
    #[arg(long, default_value_t = 5)]
    baseline_history: u64,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

impl Sizes {
    fn wants(&self, row: &str, by_default: bool) -> bool {
        let named = |name: &str| self.rows.iter().any(|wished| wished == name);
        if self.rows.is_empty() { by_default } else { named(row) || named("all") }
    }
}

fn main() {
    let sizes = Sizes::parse();
    let known = |name: &String| name == "all" || ROWS.iter().any(|(row, _)| row == name);
    if let Some(unknown) = sizes.rows.iter().find(|name| !known(name)) {
        eprintln!("no such row: {unknown}; the rows are all, {}", ROWS.map(|(row, _)| row).join(", "));
        std::process::exit(64);
    }
    let mut table = Table::default();
    for (row, by_default) in ROWS {
        if !sizes.wants(row, by_default) {
            continue;
        }
        eprintln!("{row}");
        match row {
            "throughput" => throughput::plain(&sizes, &mut table),
            "scraped" => throughput::scraped(&sizes, &mut table),
            "history-50k" => throughput::with_history(&sizes, &mut table, 50_000),
            "history-1m" => throughput::with_history(&sizes, &mut table, 1_000_000),
            "publisher" => commits::measure(&sizes, &mut table),
            "lone" => latency::lone(&sizes, &mut table),
            "start" => latency::start(&mut table, sizes.start_history),
            "start-1m" => latency::start(&mut table, 1_000_000),
            "disk" => quiet::disk(&sizes, &mut table),
            "idle" => quiet::idle(&sizes, &mut table),
            "forged" => forged::measure(&sizes, &mut table),
            _ => quiet::waiting(&sizes, &mut table),
        }
    }
    println!("{table}");
    site::remove_all();
}
