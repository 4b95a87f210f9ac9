//! How long the patch engine takes beside `git apply`: a diff of 1 MiB and 2,000 hunks over a file of 10 MiB.
//!
//! `cargo run --release -p executor --example apply_speed`. Git's time is that of the whole program, so the engine's is
//! that of reading the file and the diff, applying it, and writing the result to disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use executor::patch::files::{Kind, play, result};
use executor::patch::parse::parse;
use executor::tree::Image;

const FILE_BYTES: usize = 10 * 1024 * 1024;
const HUNKS: usize = 2_000;
const HUNK_BYTES: usize = 1200 * 1024 / HUNKS;
const RUNS: usize = 9;

/// Lines of about 50 bytes, a fifth of which are there again and again.
fn file() -> String {
    let mut text = String::with_capacity(FILE_BYTES + 100);
    let mut number = 0_u64;
    while text.len() < FILE_BYTES {
        match number % 5 {
            0 => text.push_str("        }\n"),
            _ => writeln!(text, "    let value_{number} = compute({}, {number});", number.wrapping_mul(0x9e37_79b9))
                .unwrap(),
        }
        number += 1;
    }
    text
}

/// Hunks at equal distances, each with three lines of context and as many changed lines as fit. `shift` is by how many
/// lines they miss their place.
fn diff(file: &str, shift: usize) -> String {
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let mut text = String::from("--- a/file\n+++ b/file\n");
    let distance = lines.len() / HUNKS;
    for hunk in 0..HUNKS {
        let start = hunk * distance + 10;
        let (mut body, mut size, mut changed) = (String::new(), 0, 0);
        for line in lines.iter().skip(start + 3) {
            if size + 8 * line.len() > HUNK_BYTES {
                break;
            }
            (size, changed) = (size + 2 * line.len() + 10, changed + 1);
            write!(body, "-{line}+changed {line}").unwrap();
        }
        let count = changed + 6;
        let says = start + 1 + shift;
        writeln!(text, "@@ -{says},{count} +{says},{count} @@").unwrap();
        // Git's own diffs have the old lines first; in turns they are as good.
        for line in lines.iter().skip(start).take(3) {
            write!(text, " {line}").unwrap();
        }
        text.push_str(&body);
        for line in lines.iter().skip(start + 3 + changed).take(3) {
            write!(text, " {line}").unwrap();
        }
    }
    text
}

fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort();
    times.into_iter().nth(RUNS / 2).unwrap_or_default()
}

fn engine(root: &Path) -> Duration {
    let start = Instant::now();
    let parsed = parse(std::fs::read(root.join("diff")).expect("the diff"));
    assert_eq!(parsed.fault, None);
    let before = Image { content: std::fs::read(root.join("original")).expect("the file").into(), bits: 0o644 };
    let outcomes =
        play(&parsed.diff, Kind::Sent, |_| Ok::<_, Infallible>(Some(before.clone())), |_| false).expect("it applies");
    for image in result(&outcomes).into_values().flatten() {
        std::fs::write(root.join("ours"), &image.content).expect("written");
    }
    start.elapsed()
}

fn git(root: &Path) -> Duration {
    std::fs::copy(root.join("original"), root.join("file")).expect("copied");
    let start = Instant::now();
    let mut git = Command::new("git");
    git.current_dir(root).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CEILING_DIRECTORIES", root);
    let status = git.args(["apply", "--whitespace=nowarn", "diff"]).status().expect("git runs");
    assert!(status.success());
    start.elapsed()
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let file = file();
    std::fs::write(root.join("original"), &file).expect("written");
    for (name, shift) in [("every hunk in its place", 0), ("every hunk 7 lines off", 7)] {
        let diff = diff(&file, shift);
        std::fs::write(root.join("diff"), &diff).expect("written");
        let (ours, theirs) = (median(|| engine(root)), median(|| git(root)));
        assert_eq!(std::fs::read(root.join("ours")).ok(), std::fs::read(root.join("file")).ok(), "the results differ");
        println!(
            "{name}: {HUNKS} hunks in {} KiB over {} MiB: engine {ours:.1?}, git apply {theirs:.1?}, ratio {:.3}",
            diff.len() / 1024,
            file.len() / 1024 / 1024,
            ours.as_secs_f64() / theirs.as_secs_f64()
        );
    }
}
