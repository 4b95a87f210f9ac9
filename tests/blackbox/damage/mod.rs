//! What a power cut, or a disk that goes bad, leaves of the files that a start reads: empty, zeroed, cut short, or with a
//! byte changed. Whatever it was, the bridge publishes afterwards, or says why it does not; it is never ready otherwise.

mod remedies;
mod remote;
mod starts;
mod sweep;

use std::fmt;
use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::harness::cloud::{mode, set_mode};
use crate::harness::git::{results, with_subject};
use crate::harness::http::request;
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, poll};

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Empty,
    Zeroed,
    Half,
    Byte,
}

impl Damage {
    const ALL: [Self; 4] = [Self::Empty, Self::Zeroed, Self::Half, Self::Byte];

    /// The bytes afterwards; none where it changes nothing.
    fn of(self, bytes: &[u8], seed: u64) -> Option<Vec<u8>> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut after = bytes.to_vec();
        match self {
            Self::Empty => after.clear(),
            Self::Zeroed => after.fill(0),
            Self::Half => after.truncate(bytes.len() / 2),
            Self::Byte if after.is_empty() => {}
            Self::Byte => {
                let at = random.random_range(0..after.len());
                after[at] ^= random.random_range(1..=255_u8);
            }
        }
        (after != bytes).then_some(after)
    }

    /// Does it to a file; tells whether that changed it.
    fn hit(self, path: &Path, seed: u64) -> bool {
        let Some(after) = self.of(&fs::read(path).unwrap(), seed) else { return false };
        let bits = mode(path);
        fs::remove_file(path).unwrap();
        fs::write(path, after).unwrap();
        set_mode(path, bits);
        true
    }
}

/// What became of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// It was ready, and a new command went all the way to the remote.
    Published,
    /// It was refused with this line.
    Refused(String),
    /// It is degraded, with this reason.
    Degraded(String),
    /// It was ready, and yet the new command got stuck, or something else that must not be.
    Wrong(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published => write!(f, "publishes"),
            Self::Refused(line) => write!(f, "refused: {line}"),
            Self::Degraded(reason) => write!(f, "degraded: {reason}"),
            Self::Wrong(what) => write!(f, "WRONG: {what}"),
        }
    }
}

/// Starts a bridge that gives up hope soon, and says what it says.
fn start(cloud: &Cloud) -> Bridge<'_> {
    Bridge::spawn(cloud, |run| {
        run.env("GHOST_BRIDGE__PUBLISH__ATTEMPTS", "2");
    })
}

/// What `/readyz` says: nothing that speaks against it, or what is degraded.
enum Readiness {
    Ready,
    Degraded(String),
    NotYet,
}

fn readiness(bridge: &Bridge<'_>) -> Readiness {
    let log = bridge.log();
    let Some(rest) = log.split("http -> http://").nth(1) else { return Readiness::NotYet };
    let Some(Ok(address)) = rest.split_whitespace().next().map(str::parse) else { return Readiness::NotYet };
    let answer = request(address, "GET /readyz");
    if answer.status == 200 {
        return Readiness::Ready;
    }
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let reasons = body["reasons"].as_array().cloned().unwrap_or_default();
    let degraded = reasons.iter().find(|reason| reason["reason"] == "degraded");
    degraded.map_or(Readiness::NotYet, |it| Readiness::Degraded(it["detail"].as_str().unwrap_or_default().to_owned()))
}

/// Starts a bridge on `cloud` and sees what becomes of it and of a new command.
fn end_of_start(cloud: &Cloud, id: &str) -> (End, String) {
    let bridge = start(cloud);
    let mut end = None;
    let mut seen = Readiness::NotYet;
    poll(PATIENCE, || {
        end = bridge.end();
        if end.is_none() && bridge.log().contains("http -> http://") {
            seen = readiness(&bridge);
        }
        end.is_some() || !matches!(seen, Readiness::NotYet)
    });
    let log = bridge.log();
    if let Some(status) = end {
        let line = log.lines().last().unwrap_or_default().replace(&cloud.world().display().to_string(), "");
        let right = status.code() == Some(78);
        return (if right { End::Refused(line) } else { End::Wrong(format!("{status}: {line}")) }, log);
    }
    let end = match seen {
        Readiness::NotYet => End::Wrong("neither ready nor degraded".to_owned()),
        Readiness::Degraded(reason) => End::Degraded(reason),
        Readiness::Ready => publishes(cloud, &bridge, id),
    };
    let log = bridge.log();
    if let End::Published = end {
        bridge.stop();
    }
    (end, log)
}

/// Whether a new command goes all the way.
fn publishes(cloud: &Cloud, bridge: &Bridge<'_>, id: &str) -> End {
    cloud.submit(&Doc::write(id, &format!("docs/{id}.txt"), "new\n"));
    let mut trouble = None;
    let published = poll(PATIENCE, || {
        if let Readiness::Degraded(reason) = readiness(bridge) {
            trouble = Some(reason);
        }
        trouble.is_some() || !with_subject(&cloud.subjects(&cloud.remote()), &results(id, 0)).is_empty()
    });
    match trouble {
        Some(reason) => End::Wrong(format!("ready, then degraded: {reason}")),
        None if !published => End::Wrong("ready, but the command is not published".to_owned()),
        None => End::Published,
    }
}
