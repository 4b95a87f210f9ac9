//! The audit: the chain of the log, every artifact that a line of it implies, and the branch, held against one another.
//! Changes nothing, and needs no bridge; one may run.
//!
//! What covers which bytes:
//! - A line of the log is covered by its own hash, by the next line's `prev`, and by there being one way to spell it; the
//!   last lines, which could be cut off, by the log that was committed.
//! - `results/<id>.json`, `diffs/<id>.patch`, `archive/<id>.json` and the dead letter of a failed command by the integrity
//!   file; the archive by the line's `input_sha256` too.
//! - `results/<id>.integrity.json` by its `hmac` and by how the bridge lays out JSON, and by the commit.
//! - The dead letter of a refused document by the commit; before that only in what the line says too.
//! - Everything that was committed by its git id, whatever else is amiss.
//!
//! Limitations: who can write both CLOUD and its `.git`, and has the secret, can make another history that fits; compare
//! with a clone that he cannot write. What is not committed yet, and signed by a secret that is not at hand, is covered by
//! hashes alone.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use protocol::digest::Sha256;
use protocol::signing::Keyring;
use serde::Serialize;

use crate::exit::Failure;
use crate::instance::InstanceLock;

pub mod chain;
mod commits;
pub mod disk;
pub mod judge;
pub mod parallel;
mod progress;
mod spelling;

use chain::Chain;
use commits::Head;
use disk::{Root, Shelf};
use judge::{Judge, Tally};
use progress::Progress;

/// How often suspects are looked at again while a bridge runs: what is being filed right now is no finding.
const LOOKS: usize = 10;
/// The pause before each of these looks.
const PAUSE: Duration = Duration::from_millis(300);

/// The most findings of a sort that are kept; whoever fills a folder with strays shall not fill the memory.
pub const MAX_FINDINGS: usize = 100_000;

/// What is wrong with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The log is not one intact chain.
    Chain,
    /// The log is not what was committed.
    Log,
    /// A file that must be there is not.
    Missing,
    /// Its bytes are others.
    Changed,
    /// Its signature is none of the bridge's.
    Forged,
    /// No line of the log tells of it.
    Stray,
    /// It lies at two places.
    Double,
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The audit line that it is about, counted from 1 through all logs.
    pub position: Option<u64>,
    /// What is wrong.
    pub kind: Kind,
    /// Where, relative to CLOUD.
    pub path: String,
    /// The rest of the sentence that begins with the path.
    pub what: String,
    /// The same wherever the artifact is rolled over to.
    #[serde(skip)]
    pub key: String,
    #[serde(skip)]
    input: Option<Sha256>,
}

impl Finding {
    /// As a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let line = self.position.map_or_else(String::new, |position| format!(" (line {position} of the audit log)"));
        format!("{} {}{line}", self.path, self.what)
    }
}

/// What an audit came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Lines of the log.
    pub lines: u64,
    /// Artifacts that were read.
    pub artifacts: u64,
    /// Bytes that were read, logs included.
    pub bytes: u64,
    /// Artifacts that are in HEAD, byte for byte.
    pub committed: u64,
    /// The commit that was compared with; `None` where there is none.
    pub head: Option<String>,
    /// Lines that are not committed yet.
    pub uncommitted_lines: u64,
    /// Integrity files whose signature held.
    pub signatures_good: u64,
    /// Integrity files that were signed by a secret that is not at hand.
    pub signatures_unknown: u64,
    /// Whether there was a secret to check signatures with.
    pub signatures_checked: bool,
    /// Whether a bridge runs on this CLOUD.
    pub running: bool,
    /// What does not fit, the first first.
    pub findings: Vec<Finding>,
}

/// One look at everything.
#[derive(Debug)]
pub struct Look {
    /// The log.
    pub chain: Chain,
    /// The artifacts' names.
    pub shelf: Shelf,
    /// What was committed.
    pub head: Option<Head>,
}

impl Look {
    /// The commit first, then the log, then the artifacts: what a commit has is in the log, and what the log tells of lies
    /// there by then.
    ///
    /// # Errors
    /// When CLOUD or git cannot be read.
    pub fn take(cloud: &Path, root: &Root) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", cloud.display()));
        let head = Head::read(cloud)?;
        let ids = head.as_ref().map(Head::ids).unwrap_or_default();
        let chain = chain::read(root, ids).map_err(failed)?;
        let shelf = Shelf::list(root).map_err(failed)?;
        Ok(Self { chain, shelf, head })
    }

    /// All that lines are held against.
    pub fn judge<'a>(&'a self, root: &'a Root, keyrings: &'a [Keyring], tally: &'a Tally) -> Judge<'a> {
        Judge { root, shelf: &self.shelf, head: self.head.as_ref(), keyrings, tally }
    }

    fn log(&self, root: &Root) -> Vec<Finding> {
        let finding = |kind, position, path: &str, what: String| Finding {
            position,
            kind,
            path: path.to_owned(),
            // A line keeps its place in the chain when the log is rolled over.
            key: position.map_or_else(|| format!("log {path}"), |position| format!("line {position}")),
            what,
            input: None,
        };
        let broken = self.chain.breaks.iter().take(MAX_FINDINGS).map(|broken| {
            let what = format!("line {}: {}", broken.number, broken.what);
            finding(Kind::Chain, Some(broken.position), &broken.file, what)
        });
        let unlike = self.head.iter().flat_map(|head| head.unlike(root, &self.chain)).map(|unlike| {
            let what =
                unlike.number.map_or_else(|| unlike.what.clone(), |number| format!("line {number}: {}", unlike.what));
            finding(Kind::Log, None, &unlike.file, what)
        });
        broken.chain(unlike).collect()
    }

    /// What lies there although no line tells of it, twice, or not although it is committed.
    fn shelf(&self) -> Vec<Finding> {
        let finding = |kind, path: String, key: String, what: &str| Finding {
            position: None,
            kind,
            path,
            key,
            what: what.to_owned(),
            input: None,
        };
        let strays = self.shelf.items().filter(|item| !item.is_told() && !self.shelf.doubles.contains(&item.key()));
        let strays = strays.map(|item| {
            let what = if item.is_file { "no line of the audit log tells of it" } else { "is no regular file" };
            finding(Kind::Stray, self.shelf.path(item), item.key(), what)
        });
        let doubles = self
            .shelf
            .doubles
            .iter()
            .take(MAX_FINDINGS)
            .map(|key| finding(Kind::Double, key.clone(), key.clone(), "lies there twice"));
        let committed = self.head.iter().flat_map(Head::artifacts);
        let gone = committed.filter(|(folder, name)| self.shelf.find(*folder, name).is_none()).map(|(folder, name)| {
            let key = format!("{}/{name}", folder.name());
            finding(Kind::Missing, key.clone(), key, "is committed, and missing on disk")
        });
        strays.take(MAX_FINDINGS).chain(doubles).chain(gone.take(MAX_FINDINGS)).collect()
    }
}

/// Audits `cloud`, which must be the canonical top of a work tree.
///
/// # Errors
/// When CLOUD or git cannot be read.
pub fn run(cloud: &Path, keyrings: &[Keyring]) -> Result<Report, Failure> {
    let root = Root::open(cloud).map_err(|error| Failure::config(format!("{}: {error}", cloud.display())))?;
    let tally = Tally::default();
    let look = Look::take(cloud, &root)?;
    let judge = look.judge(&root, keyrings, &tally);
    let lines = &look.chain.lines;
    let found = Progress::over(&tally.lines, lines.len() as u64, || parallel::map(lines, |line| judge.line(line)));
    let mut findings = look.log(&root);
    findings.extend(found.into_iter().flatten());
    findings.extend(look.shelf());
    let running = InstanceLock::holder(cloud).is_some();
    let seen = lines.last().map_or(0, |line| line.position);
    for round in 0..if running { LOOKS } else { 1 } {
        if findings.is_empty() {
            break;
        }
        if running && round > 0 {
            std::thread::sleep(PAUSE);
        }
        findings = again(cloud, &root, keyrings, &findings, seen)?;
    }
    let number = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    Ok(Report {
        lines: look.chain.count,
        artifacts: number(&tally.artifacts),
        bytes: number(&tally.bytes) + look.chain.bytes,
        committed: number(&tally.committed),
        uncommitted_lines: look.head.as_ref().map_or(look.chain.count, |head| head.uncommitted(&look.chain)),
        head: look.head.map(|head| head.commit),
        signatures_good: number(&tally.signed),
        signatures_unknown: number(&tally.unknown_secret),
        signatures_checked: !keyrings.is_empty(),
        running,
        findings: sorted(findings),
    })
}

/// What of `before` is found once more. Only suspects are judged, and the lines after `seen`, which may tell of strays.
fn again(
    cloud: &Path,
    root: &Root,
    keyrings: &[Keyring],
    before: &[Finding],
    seen: u64,
) -> Result<Vec<Finding>, Failure> {
    let keys: HashSet<&str> = before.iter().map(|finding| finding.key.as_str()).collect();
    let inputs: HashSet<Sha256> = before.iter().filter_map(|finding| finding.input).collect();
    let (look, tally) = (Look::take(cloud, root)?, Tally::default());
    let judge = look.judge(root, keyrings, &tally);
    // Lines of a log that rolled over while it was read are missed, and their artifacts taken for strays.
    let stems: HashSet<&str> =
        before.iter().filter(|finding| finding.input.is_none()).filter_map(|finding| stem(&finding.key)).collect();
    let is_stray = |line: &chain::Line| match &line.id {
        Some(id) => chain::stems(id, &line.input).iter().any(|stem| stems.contains(stem.as_str())),
        None => !stems.is_empty(),
    };
    let is_suspect = |line: &&chain::Line| line.position > seen || inputs.contains(&line.input) || is_stray(line);
    let lines: Vec<chain::Line> = look.chain.lines.iter().filter(is_suspect).cloned().collect();
    let mut findings = look.log(root);
    findings.extend(parallel::map(&lines, |line| judge.line(line)).into_iter().flatten());
    findings.extend(look.shelf());
    findings.retain(|finding| keys.contains(finding.key.as_str()));
    Ok(findings)
}

/// What an artifact's name begins with, before what tells of its kind.
fn stem(key: &str) -> Option<&str> {
    let (_, name) = key.rsplit_once('/')?;
    [".integrity.json", ".json", ".patch"].iter().find_map(|kind| name.strip_suffix(kind))
}

/// In the order of the chain, then what belongs to no line; each file once.
fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| {
        let rank = |finding: &Finding| (finding.position.unwrap_or(u64::MAX), finding.kind != Kind::Chain);
        (rank(a), a.kind != Kind::Log, &a.path).cmp(&(rank(b), b.kind != Kind::Log, &b.path))
    });
    let mut named = HashSet::new();
    findings.retain(|finding| named.insert(finding.key.clone()));
    findings
}
