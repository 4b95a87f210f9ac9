//! Every reason for which a document can be refused, each with documents that are wrong in exactly that way.
//!
//! One bridge judges the whole table; then each case is held against the same promises: one dead letter with reason,
//! stage and a helpful detail, one commit, nothing in `results/`, nothing changed, `commands/` empty.

mod early;
mod late;
mod paths;
mod schema;
mod undone;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::document::sha256;
use crate::harness::git::{Commit, assert_sound, outcomes, results};
use crate::harness::snapshot::{Snapshot, snapshot};
use crate::harness::{Bridge, Cloud, Doc, audit, poll};

/// How long all documents of the table may take to be judged.
const TABLE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// What lies under a case's name in `commands/`.
enum Entry {
    Bytes(Vec<u8>),
    Link(PathBuf),
    Fifo,
    Folder,
}

/// One document and what must become of it.
struct Case {
    /// The file's name in `commands/`, without `.json`.
    name: String,
    entry: Entry,
    reason: &'static str,
    stage: &'static str,
    /// The id, where the document yields a valid one.
    id: Option<String>,
    hmac_ok: bool,
}

impl Case {
    /// A document that fails after its HMAC held.
    fn signed(cloud: &Cloud, reason: &'static str, stage: &'static str, document: &Doc) -> Self {
        let id = document.id().to_owned();
        let entry = Entry::Bytes(document.signed(&cloud.secret));
        Self { name: id.clone(), entry, reason, stage, id: Some(id), hmac_ok: true }
    }

    /// A document that is no regular file, or no JSON.
    fn raw(reason: &'static str, stage: &'static str, name: &str, entry: Entry) -> Self {
        Self { name: name.to_owned(), entry, reason, stage, id: None, hmac_ok: false }
    }

    fn file(&self) -> String {
        format!("{}.json", self.name)
    }

    fn place(&self, cloud: &Cloud) {
        let path = cloud.path("commands").join(OsStr::from_bytes(self.file().as_bytes()));
        match &self.entry {
            Entry::Bytes(bytes) => cloud.drop_file(&self.file(), bytes),
            Entry::Link(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            Entry::Fifo => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
            Entry::Folder => std::fs::create_dir(path).unwrap(),
        }
    }
}

/// The configuration of the table's bridge, and what its targets hold.
fn furnish(cloud: &Cloud) -> PathBuf {
    let outside = cloud.world().join("outside");
    crate::harness::cloud::write(&outside.join("secret.txt"), "outside\n");
    for root in [cloud.root().to_owned(), cloud.world().join("side")] {
        for (path, content) in [
            ("docs/a.txt", "one one\n"),
            ("docs/b.txt", "b\n"),
            ("Case.txt", "case\n"),
            ("bare/HEAD", "x\n"),
            ("headed/HEAD", "x\n"),
        ] {
            crate::harness::cloud::write(&root.join(path), content);
        }
        std::fs::create_dir_all(root.join("bare/objects")).unwrap();
        std::fs::create_dir_all(root.join("bare/refs")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link-out")).unwrap();
        std::os::unix::fs::symlink("docs", root.join("link-in")).unwrap();
        std::os::unix::fs::symlink(outside.join("secret.txt"), root.join("leaf-link")).unwrap();
    }
    let side = cloud.world().join("side");
    crate::harness::cloud::write(&side.join("private/key.txt"), "k\n");
    cloud.config(&format!(
        "[targets.SIDE]\nroot = {:?}\nallow_delete = true\ndeny = [\"private/**\", \"**/*.lock\"]\n\
         [targets.SIDE.limits]\nmax_files_changed = 5\nmax_runtime_ms = 10000\nmax_bytes_written = 100\n",
        side.to_str().unwrap()
    ))
}

/// All that no rejected command may change.
fn untouchable(cloud: &Cloud) -> Vec<Snapshot> {
    // What the service itself keeps in CLOUD; `.gitignore` and every other file of a person's stay in sight.
    let own = [".git", ".bridge.lock", "commands", "results", "diffs", "archive", "dead_letter", "logs", "meta"];
    vec![
        snapshot(cloud.root(), &own),
        snapshot(&cloud.world().join("side"), &[]),
        snapshot(&cloud.world().join("outside"), &[]),
    ]
}

#[test]
fn every_reason_has_its_dead_letter() {
    let cloud = Cloud::new();
    let config = furnish(&cloud);
    let bridge = Bridge::start_with(&cloud, |run| {
        run.arg("--config").arg(&config);
    });
    bridge.run(&Doc::noop("Taken-1"));
    let mut cases = early::cases(&cloud);
    cases.extend(schema::cases(&cloud));
    cases.extend(late::cases(&cloud));
    cases.extend(paths::cases(&cloud));
    let before = untouchable(&cloud);
    cases.iter().for_each(|case| case.place(&cloud));

    if !poll(TABLE_PATIENCE, || cloud.waiting().is_empty()) {
        panic!("still in commands/: {:?}", cloud.waiting());
    }
    let mut faults = Vec::new();
    if untouchable(&cloud) != before {
        faults.push("something outside the service's own folders has changed".to_owned());
    }
    let letters: BTreeMap<String, (String, Value)> = cloud
        .dead_letters()
        .into_iter()
        .map(|(name, letter)| (letter["file"].as_str().unwrap_or_default().to_owned(), (name, letter)))
        .collect();
    let expected = cases.len() + 1;
    let history = bridge.history("one commit each", |history| outcomes(history).len() >= expected);
    for case in &cases {
        if let Err(fault) = case.judge(&cloud, &letters, &history) {
            faults.push(format!("{} ({}): {fault}", case.name.escape_debug(), case.reason));
        }
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
    assert_eq!(outcomes(&history).len(), expected, "one commit each, and no other");
    assert_eq!(letters.len(), cases.len(), "one dead letter each, and no other");
    assert_sound(&history);
    let lines = audit::verified(cloud.root());
    assert_eq!(lines.len(), expected, "one audit line each");
    bridge.stop();
}

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

impl Case {
    fn judge(
        &self,
        cloud: &Cloud,
        letters: &BTreeMap<String, (String, Value)>,
        history: &[Commit],
    ) -> Result<(), String> {
        let Some((name, letter)) = letters.get(&self.file()) else {
            let outcome = self.id.as_ref().map(|id| cloud.exists(&format!("archive/{id}.json")));
            return Err(format!("no dead letter (executed: {outcome:?})"));
        };
        let detail = letter["detail"].as_str().unwrap_or_default();
        ensure!(letter["reason"] == json!(self.reason), "reason {} ({detail})", letter["reason"]);
        ensure!(letter["stage"] == json!(self.stage), "stage {} instead of {}", letter["stage"], self.stage);
        ensure!(letter["id"] == json!(self.id), "id {} instead of {:?}", letter["id"], self.id);
        ensure!(letter["hmac_ok"] == json!(self.hmac_ok), "hmac_ok {}", letter["hmac_ok"]);
        ensure!(detail.chars().count() >= 10, "detail {detail:?}");
        let world = cloud.world().to_str().unwrap();
        ensure!(!detail.contains(world) && !detail.contains(&cloud.secret), "detail says too much: {detail:?}");
        ensure!(letter["attempts"].is_u64(), "attempts {}", letter["attempts"]);
        let rejected_at = letter["rejected_at"].as_str().unwrap_or_default();
        ensure!(chrono::DateTime::parse_from_rfc3339(rejected_at).is_ok(), "rejected_at {rejected_at:?}");
        self.judge_content(letter)?;

        let stem = name.strip_suffix(".json").unwrap();
        let hash = letter["input_sha256"].as_str().unwrap_or_default();
        let short = &hash[..8.min(hash.len())];
        match &self.id {
            // Where two of these differ in case only, a bridge that has macOS in mind sees the plain name as taken.
            Some(id) if self.reason == "duplicate_id" && stem == format!("{id}-{short}") => {}
            Some(id) => ensure!(stem == id, "filed as {name}"),
            None => ensure!(stem.ends_with(&format!("-{short}")), "filed as {name}, hash {hash}"),
        }
        for id in self.id.iter().filter(|id| *id != "Taken-1") {
            for path in ["results/{}.json", "results/{}.integrity.json", "diffs/{}.patch", "archive/{}.json"] {
                let path = path.replace("{}", id);
                ensure!(!cloud.exists(&path), "{path} is there");
            }
            let results = results(id, 1);
            ensure!(history.iter().all(|commit| commit.subject != results), "a commit {results:?}");
        }
        let path = format!("dead_letter/{name}");
        let commits: Vec<&Commit> =
            outcomes(history).into_iter().filter(|commit| commit.files.contains(&path)).collect();
        ensure!(commits.len() == 1, "{} commits hold {path}", commits.len());
        let subject = format!("bridge: DLQ {}", self.reason);
        ensure!(commits[0].subject == subject, "the commit's subject is {:?}", commits[0].subject);
        ensure!(commits[0].files == [path, "logs/bridge.log".to_owned()], "the commit holds {:?}", commits[0].files);
        Ok(())
    }

    /// The document inside its dead letter, or its first bytes.
    fn judge_content(&self, letter: &Value) -> Result<(), String> {
        let Entry::Bytes(bytes) = &self.entry else { return Ok(()) };
        ensure!(letter["input_sha256"] == json!(sha256(bytes)), "input_sha256 {}", letter["input_sha256"]);
        match self.stage {
            "file" => {}
            "json" if self.name.starts_with("no-object") => {}
            "json" => {
                use base64::Engine as _;
                ensure!(letter["command"] == Value::Null, "command {}", letter["command"]);
                let head = base64::engine::general_purpose::STANDARD.encode(&bytes[..bytes.len().min(4096)]);
                ensure!(letter["raw_base64"] == json!(head), "raw_base64 {}", letter["raw_base64"]);
            }
            _ => {
                let document: Value = serde_json::from_slice(bytes).unwrap();
                ensure!(letter["command"] == document, "command {}", letter["command"]);
            }
        }
        Ok(())
    }
}
