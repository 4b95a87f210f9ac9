//! `audit`: it finds every change, and nothing where nothing was changed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::git::outcomes;
use crate::harness::snapshot::files;
use crate::harness::{Bridge, Cloud, Doc};

use super::{call, json, mixed};

const COMMANDS: usize = 1_000;

/// How a CLOUD is audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// With commits and the secret.
    All,
    /// With commits alone.
    NoSecret,
    /// With the secret alone: as if nothing had been committed yet.
    NoCommits,
}

/// A copy of a CLOUD, to be tampered with.
struct Copy<'c> {
    cloud: &'c Cloud,
    root: PathBuf,
    mode: Mode,
}

impl<'c> Copy<'c> {
    fn of(cloud: &'c Cloud, mode: Mode) -> Self {
        let root = cloud.fresh("copy");
        assert!(Command::new("cp").arg("-a").arg(cloud.root()).arg(&root).status().unwrap().success());
        if mode == Mode::NoCommits {
            fs::remove_dir_all(root.join(".git")).unwrap();
            cloud.git_at(&root, &["init", "-q"]);
        }
        Self { cloud, root, mode }
    }

    fn audit(&self, status: i32) -> Value {
        let mut command = self.cloud.bridge(&["audit", "--all", "--json", "--cloud"]);
        command.arg(&self.root);
        if self.mode == Mode::NoSecret {
            command.env_remove("GPT_BRIDGE_HMAC_SECRET");
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{:?}: {text}", self.mode);
        serde_json::from_str(&text).unwrap()
    }

    /// The artifacts, relative to the root. What only commits cover is left out where there are none.
    fn artifacts(&self) -> Vec<String> {
        let refused: BTreeSet<PathBuf> = match self.mode {
            Mode::NoCommits => {
                let letters = files(&self.root.join("dead_letter"));
                letters
                    .into_iter()
                    .filter(|path| !fs::read_to_string(path).unwrap().contains(r#""execution""#))
                    .collect()
            }
            _ => BTreeSet::new(),
        };
        let folders = ["results", "diffs", "archive", "dead_letter"];
        let all = folders.into_iter().flat_map(|folder| files(&self.root.join(folder)));
        let relative = |path: PathBuf| path.strip_prefix(&self.root).unwrap().to_str().unwrap().to_owned();
        all.filter(|path| !refused.contains(path)).map(relative).collect()
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Tampers with all of `paths` at once and holds that each is named; then everything is put back.
    fn each_is_named(&self, what: &str, paths: &[String], tamper: impl Fn(&Path, Vec<u8>)) -> usize {
        let paths = if self.mode == Mode::NoCommits { one_each(paths) } else { paths.iter().collect() };
        let before: BTreeMap<&String, Vec<u8>> =
            paths.into_iter().map(|path| (path, fs::read(self.path(path)).unwrap())).collect();
        let mut changed = Vec::new();
        for (path, bytes) in &before {
            tamper(&self.path(path), bytes.clone());
            if fs::read(self.path(path)).ok().as_ref() != Some(bytes) {
                changed.push(*path);
            }
        }
        let report = self.audit(1);
        for (path, bytes) in &before {
            fs::write(self.path(path), bytes).unwrap();
        }
        let findings = report["findings"].as_array().unwrap();
        let named: BTreeSet<String> = findings.iter().map(|finding| key(finding["path"].as_str().unwrap())).collect();
        let silent: Vec<_> = changed.iter().filter(|path| !named.contains(&key(path))).collect();
        assert!(silent.is_empty(), "{:?}: {what} is not found in {:?}", self.mode, &silent[..silent.len().min(9)]);
        if self.mode == Mode::NoCommits {
            // An integrity file that names another hash than it should makes two suspects.
            let stems: BTreeSet<&str> = changed.iter().map(|path| stem(path)).collect();
            assert!(named.iter().all(|path| stems.contains(stem(path))), "{what}: only these were changed: {named:?}");
        } else {
            assert_eq!(named.len(), changed.len(), "{:?}: {what}: only these were changed", self.mode);
        }
        changed.len()
    }

    /// The lines of all logs: each log's path, and its lines.
    fn logs(&self) -> Vec<(PathBuf, Vec<String>)> {
        let mut logs = files(&self.root.join("logs"));
        let live = self.path("logs/bridge.log");
        logs.retain(|path| *path != live);
        logs.push(live);
        let lines =
            |path: &PathBuf| fs::read_to_string(path).unwrap().split_inclusive('\n').map(str::to_owned).collect();
        logs.into_iter().map(|path| (path.clone(), lines(&path))).collect()
    }
}

fn filed(commands: usize) -> Cloud {
    let cloud = Cloud::new();
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("GHOST_BRIDGE__PUBLISH__LOG_KIB", "64");
    });
    for number in 0..commands {
        let (name, bytes) = mixed(&cloud, number);
        cloud.drop_file(&name, &bytes);
    }
    bridge.history("one commit each", |history| outcomes(history).len() == commands);
    bridge.emptied();
    bridge.stop();
    cloud
}

/// The folder and the name: of what is missing nobody knows whether it lay flat or was rolled over.
fn key(path: &str) -> String {
    format!("{}/{}", path.split('/').next().unwrap(), path.rsplit('/').next().unwrap())
}

fn stem(path: &str) -> &str {
    path.rsplit('/').next().unwrap().split('.').next().unwrap()
}

/// One of each command's artifacts: without commits they vouch for one another, so that not all may be changed.
fn one_each(paths: &[String]) -> Vec<&String> {
    let mut commands: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for path in paths {
        commands.entry(stem(path)).or_default().push(path);
    }
    commands.into_values().map(|paths| paths[rand::random_range(0..paths.len())]).collect()
}

/// One random byte of another value at a random place.
fn flip(path: &Path, mut bytes: Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(b'\n');
    } else {
        let place = rand::random_range(0..bytes.len());
        bytes[place] ^= rand::random_range(1..=255_u8);
    }
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path, mut bytes: Vec<u8>) {
    bytes.truncate(bytes.len() - rand::random_range(1..=bytes.len().max(1)).min(bytes.len()));
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_change_of_a_thousand_commands_is_found_and_nothing_else() {
    let cloud = filed(COMMANDS);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for mode in [Mode::All, Mode::NoSecret, Mode::NoCommits] {
        let copy = Copy::of(&cloud, mode);
        let clean = copy.audit(0);
        assert_eq!((&clean["clean"], &clean["lines"]), (&Value::Bool(true), &Value::from(COMMANDS)), "{clean}");
        assert_eq!(clean["signatures"]["checked"], Value::Bool(mode != Mode::NoSecret));
        if mode != Mode::NoCommits {
            assert_eq!((&clean["uncommitted_lines"], &clean["committed_artifacts"]), (&0.into(), &clean["artifacts"]));
        }
        let artifacts = copy.artifacts();
        let mut count = |what: &str, number: usize| *counts.entry(format!("{mode:?}: {what}")).or_default() += number;
        for _ in 0..if mode == Mode::NoSecret { 1 } else { 4 } {
            count("bytes changed", copy.each_is_named("a changed byte", &artifacts, flip));
        }
        if mode == Mode::NoSecret {
            continue;
        }
        count("truncations", copy.each_is_named("a truncation", &artifacts, truncate));
        count(
            "additions",
            copy.each_is_named("an addition", &artifacts, |path, mut bytes| {
                bytes.push(b'\n');
                fs::write(path, bytes).unwrap();
            }),
        );
        count("swaps", swaps(&copy, &artifacts));
        count("deletions", deletions(&copy, &artifacts));
        count("log lines", logs(&copy));
        copy.audit(0);
    }
    println!("found: {counts:#?}");
}

/// Neighbours of one folder and ending change places.
fn swaps(copy: &Copy<'_>, artifacts: &[String]) -> usize {
    let mut kinds: BTreeMap<(&str, bool), Vec<&String>> = BTreeMap::new();
    for path in artifacts {
        let folder = path.split('/').next().unwrap();
        kinds.entry((folder, path.ends_with(".integrity.json"))).or_default().push(path);
    }
    let mut partner: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    for paths in kinds.values() {
        for pair in paths.chunks_exact(2) {
            let (one, other) = (copy.path(pair[0]), copy.path(pair[1]));
            partner.insert(one.clone(), fs::read(&other).unwrap());
            partner.insert(other, fs::read(&one).unwrap());
        }
    }
    copy.each_is_named("a swap", artifacts, |path, bytes| {
        fs::write(path, partner.get(path).unwrap_or(&bytes)).unwrap();
    })
}

/// Every seventh artifact is gone: so that lines with several and with one artifact lose one.
fn deletions(copy: &Copy<'_>, artifacts: &[String]) -> usize {
    let some: Vec<String> = artifacts.iter().step_by(7).cloned().collect();
    copy.each_is_named("a deletion", &some, |path, _| fs::remove_file(path).unwrap())
}

/// Each change of a log alone: a flipped byte of each of many lines, lines that are gone, swapped, or cut.
fn logs(copy: &Copy<'_>) -> usize {
    let logs = copy.logs();
    assert!(logs.len() > 2, "the log was rolled: {}", logs.len());
    let count = Cell::new(0);
    let found = |path: &Path, text: String, what: &str| {
        let before = fs::read(path).unwrap();
        fs::write(path, text).unwrap();
        let report = copy.audit(1);
        fs::write(path, before).unwrap();
        let kinds: Vec<&str> =
            report["findings"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
        assert!(kinds.iter().any(|kind| matches!(*kind, "chain" | "log" | "stray")), "{what}: {kinds:?}");
        count.set(count.get() + 1);
        report
    };
    for (path, lines) in [&logs[0], &logs[1], &logs[logs.len() - 1]] {
        // A byte of every line at once: every line is named.
        let flipped = lines.iter().map(|line| {
            let mut bytes = line.clone().into_bytes();
            let place = rand::random_range(0..bytes.len() - 1);
            bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
            String::from_utf8(bytes).unwrap()
        });
        let report = found(path, flipped.collect(), "a byte of each line");
        let breaks = report["findings"].as_array().unwrap().iter().filter(|it| it["kind"] == "chain").count();
        assert!(breaks >= lines.len(), "{breaks} of {} lines", lines.len());
        let middle = lines.len() / 2;
        let without = [&lines[..middle], &lines[middle + 1..]].concat().concat();
        found(path, without, "a line that is gone");
        let mut swapped = lines.clone();
        swapped.swap(middle, middle + 1);
        found(path, swapped.concat(), "lines that changed places");
        let mut doubled = lines.clone();
        doubled.insert(middle, lines[middle].clone());
        found(path, doubled.concat(), "a line that is there twice");
        let whole = lines.concat();
        found(path, whole[..whole.len() - 1].to_owned(), "the last line break");
        found(path, whole[..whole.len() - 40].to_owned(), "half of the last line");
        found(path, lines[..lines.len() - 1].concat(), "the last line");
        found(path, lines[1..].concat(), "the first line");
        found(path, String::new(), "all of it");
        count.set(count.get() + lines.len() - 1);
    }
    count.get()
}

/// The tail of the log is cut off together with its artifacts: what is left fits, and only the commits tell.
#[test]
fn a_tail_that_is_gone_with_its_artifacts_is_found_by_the_commits() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    (0..3).for_each(|number| drop(bridge.run(&Doc::noop(&format!("noop-{number}")))));
    bridge.stop();
    let log = cloud.text("logs/bridge.log");
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    cloud.write("logs/bridge.log", lines[..lines.len() - 1].concat());
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    let id = last["id"].as_str().unwrap();
    let gone: Vec<String> = ["results/ID.json", "results/ID.integrity.json", "diffs/ID.patch", "archive/ID.json"]
        .map(|path| path.replace("ID", id))
        .to_vec();
    gone.iter().for_each(|path| fs::remove_file(cloud.path(path)).unwrap());
    let report = json(&cloud, &["audit", "--json", "--all"], 1);
    let first = &report["findings"][0];
    assert_eq!((&first["kind"], &first["path"]), (&"log".into(), &"logs/bridge.log".into()), "{report}");
    assert_eq!(first["what"], format!("line {}: ends before 1 lines that were committed", lines.len()));
    let missing = report["findings"].as_array().unwrap().iter().filter(|it| it["kind"] == "missing");
    let missing: BTreeSet<&str> = missing.map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(missing, gone.iter().map(String::as_str).collect());
    let output = call(&cloud, &["audit"], 1);
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(
        line.starts_with("ghost-bridge: the audit found: logs/bridge.log line") && line.contains("4 more"),
        "{line}"
    );
}

/// Whatever is filed and published at that moment, nothing is found.
#[test]
fn nothing_is_found_while_the_bridge_works() {
    let cloud = Cloud::new();
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("GHOST_BRIDGE__PUBLISH__LOG_KIB", "4").env("GHOST_BRIDGE__PUBLISH__WINDOW", "8");
    });
    let mut number = 0;
    for round in 0..12 {
        for _ in 0..30 {
            let (name, bytes) = mixed(&cloud, number);
            cloud.drop_file(&name, &bytes);
            number += 1;
        }
        let report = json(&cloud, &["audit", "--json", "--all"], 0);
        assert_eq!(report["bridge_runs"], Value::Bool(true), "round {round}");
    }
    bridge.history("one commit each", |history| outcomes(history).len() == number);
    bridge.stop();
    let report = json(&cloud, &["audit", "--json"], 0);
    assert_eq!((&report["lines"], &report["uncommitted_lines"]), (&number.into(), &0.into()));
}

/// A forged integrity file is told from one whose secret has been changed since, and neither from no secret at all.
#[test]
fn a_secret_that_is_gone_is_no_forgery() {
    let cloud = filed(12);
    let executed = 12 - 3;
    let other = |command: &mut Command| {
        command.env("GPT_BRIDGE_HMAC_SECRET", "another secret, after a rotation").output().unwrap()
    };
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let report = json(&cloud, &["audit", "--json"], 0);
    assert_eq!(report["signatures"]["good"], executed, "{report}");
    let later = other(&mut cloud.bridge(&["audit", "--json"]));
    assert_eq!(later.status.code(), Some(0));
    let signatures = &read(&later.stdout)["signatures"];
    assert_eq!((&signatures["good"], &signatures["cannot_be_checked"]), (&0.into(), &executed.into()));
    // Under another name it serves to look back.
    let old = other(cloud.bridge(&["audit", "--json"]).env("GPT_BRIDGE_HMAC_SECRET_OLD", &cloud.secret));
    let signatures = &read(&old.stdout)["signatures"];
    assert_eq!((&signatures["good"], &signatures["cannot_be_checked"]), (&executed.into(), &0.into()), "{signatures}");
    let only = ["GPT_BRIDGE_HMAC_SECRET_2025", "GPT_BRIDGE_HMAC_SECRET_OLD"];
    let mut command = cloud.bridge(&["audit", "--json"]);
    command.env_remove("GPT_BRIDGE_HMAC_SECRET").env(only[0], "a secret of long ago").env(only[1], &cloud.secret);
    assert_eq!(read(&command.output().unwrap().stdout)["signatures"]["good"], executed);
    let none = cloud.bridge(&["audit"]).env_remove("GPT_BRIDGE_HMAC_SECRET").output().unwrap();
    assert!(String::from_utf8_lossy(&none.stdout).contains("not checked: GPT_BRIDGE_HMAC_SECRET is not set"));
    // Signed anew with a secret that somebody made up, in a repository without a commit.
    fs::remove_dir_all(cloud.path(".git")).unwrap();
    cloud.git(&["init", "-q"]);
    let mut forged = cloud.json("results/c0000.integrity.json");
    forged.as_object_mut().unwrap().remove("hmac");
    let hmac = crate::harness::document::sign(&forged, "a secret that somebody made up");
    let text = cloud.text("results/c0000.integrity.json");
    let (head, _) = text.split_once("\"hmac\": ").unwrap();
    cloud.write("results/c0000.integrity.json", format!("{head}\"hmac\": \"{hmac}\"\n}}\n"));
    let report = json(&cloud, &["audit", "--json"], 1);
    assert_eq!(report["findings"][0]["kind"], "forged", "{report}");
}
