//! How fast commits are made and pushed. Figures, not a judgement: run it by hand, with `--ignored --nocapture`.

use std::time::{Duration, Instant};

use protocol::message::Filed;
use publisher::PublisherConfig;
use publisher::status::Push;

use crate::world::{World, git, run, until, write};

/// How many commands, where `GHOST_BRIDGE_SPEED_COMMANDS` says nothing else.
const COMMANDS: usize = 2000;
/// Commands that share a folder, as the roll-over leaves them.
const FOLDER: usize = 512;
/// Bytes from which on the log rolls.
const LOG_BYTES: u64 = 64 << 10;

fn commands() -> usize {
    std::env::var("GHOST_BRIDGE_SPEED_COMMANDS").ok().and_then(|n| n.parse().ok()).unwrap_or(COMMANDS)
}

/// A command as it is filed: five small files, in folders and logs that do not grow without bound.
fn file(world: &mut World, n: usize) -> Filed {
    let log = world.cloud.join("logs/bridge.log").metadata().map_or(0, |meta| meta.len());
    let rolled = (log >= LOG_BYTES).then(|| world.roll(&format!("{n:08}")));
    let mut filed = world.file_in(&format!("2026/11/23/{:04}/", n / FOLDER), &format!("command-{n:08}"));
    filed.log_rolled_to = rolled;
    filed
}

#[test]
#[ignore = "prints figures"]
fn commits_and_pushes() {
    let mut world = World::seeded();
    let config = PublisherConfig { fetch_every: Duration::from_secs(5), ..world.config() };
    run(config, |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        // What is measured is the publisher: filing a command here takes less than its commit does.
        let start = Instant::now();
        for n in 0..commands() {
            let filed = file(&mut world, n);
            bridge.send(filed).await;
        }
        until("the commits", || bridge.status.committed() == commands() as u64).await;
        let committed = start.elapsed();
        let last = || git(&world.remote, &["rev-parse", "main"]) == git(&world.cloud, &["rev-parse", "main"]);
        until("the pushes", || bridge.status.unpushed_commits() == 0 && last()).await;
        let pushed = start.elapsed();
        let pushes = bridge.status.pushes(Push::Ok);
        println!(
            "{} commands: committed after {committed:.2?}, pushed after {pushed:.2?} by {pushes} pushes",
            commands()
        );
        if let Some(keep) = std::env::var_os("GHOST_BRIDGE_SPEED_KEEP") {
            git(world.top(), &["clone", "-q", "--mirror", "--local", "cloud", keep.to_str().unwrap()]);
        }
    });
}

/// The middle one.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "prints figures"]
fn a_lone_command_beside_a_bare_push() {
    const ROUNDS: usize = 40;
    let mut world = World::seeded();
    git(world.top(), &["clone", "-q", "--mirror", "remote.git", "bare.git"]);
    let config = PublisherConfig { fetch_every: Duration::from_secs(5), ..world.config() };
    run(config, |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let (person, bare) = (world.clone("person"), world.top().join("bare.git"));
        let (mut ours, mut theirs, mut commits) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..ROUNDS {
            // As much as one command's commit holds.
            for path in ["results/N.json", "results/N.integrity.json", "diffs/N.patch", "archive/N.json", "logs/log"] {
                write(&person, &path.replace('N', &n.to_string()), &n.to_string());
            }
            git(&person, &["add", "-A"]);
            git(&person, &["commit", "-q", "-m", "x"]);
            let start = Instant::now();
            git(&person, &["push", "-q", bare.to_str().unwrap(), "HEAD:refs/heads/main"]);
            theirs.push(start.elapsed());
            let filed = world.file(&format!("c-{n}"));
            let before = bridge.status.pushes(Push::Ok);
            let start = Instant::now();
            bridge.send(filed).await;
            until("the commit", || bridge.status.committed() == n as u64 + 1).await;
            commits.push(start.elapsed());
            // Known to be pushed: when the child has ended, as for the bare push.
            while bridge.status.pushes(Push::Ok) == before {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            ours.push(start.elapsed());
            bridge.quiet(&world, n as u64 + 1).await;
        }
        let (ours, theirs, commits) = (median(ours), median(theirs), median(commits));
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!(
            "a lone command is committed after {commits:.1?} and pushed after {ours:.1?}, a bare push takes {theirs:.1?}: {ratio:.2} times"
        );
    });
}
