//! The scene that every crash is set in: a tree, the commands that wait for it, and how all must be in the end.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::cloud::{names, set_mode};
use crate::harness::document::{assert_signed, sha256};
use crate::harness::git::{Commit, assert_sound, outcomes, results, tip, with_subject};
use crate::harness::snapshot::{Entry, Snapshot, files, snapshot};
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, audit, poll};

/// The bridge's own places in CLOUD.
const OWN: [&str; 8] = [".git", ".bridge.lock", "results", "diffs", "archive", "dead_letter", "logs", "meta"];
/// The folders whose files the bridge alone writes.
const FILED: [&str; 5] = ["results", "diffs", "archive", "dead_letter", "logs"];

/// What became of one document.
struct Expected {
    id: String,
    /// In the audit log.
    result: &'static str,
    subject: String,
    input_sha256: String,
}

/// One of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Every kind of change, and a program that finds it good.
    Checked,
    /// Two changes, and no program.
    Plain,
    /// Every kind of change, and a program that finds fault.
    Refused,
}

/// A CLOUD with commands that wait.
pub struct Scene {
    pub cloud: Cloud,
    config: PathBuf,
    expected: RefCell<Vec<Expected>>,
    after: Snapshot,
    has_remote: bool,
}

impl Scene {
    /// Five commands wait in `commands/`; nothing is pushed.
    pub fn local() -> Self {
        Self::of(Cloud::alone(), false)
    }

    /// The same with a remote that a person pushed to meanwhile.
    pub fn with_remote() -> Self {
        let cloud = Cloud::new();
        let clone = cloud.other_clone();
        cloud.push_from(&clone, &[("upstream/a.txt", "a\n"), ("README.md", "hello again\n")]);
        let mut scene = Self::of(cloud, true);
        scene.after.insert("upstream".to_owned(), Entry::Folder);
        scene.after.insert("upstream/a.txt".to_owned(), file("a\n", 0o644));
        scene.after.insert("README.md".to_owned(), file("hello again\n", 0o644));
        scene
    }

    /// Nothing waits; what `command` is to do is known.
    pub fn awaiting(command: Command) -> Self {
        let mut scene = Self::bare(Cloud::alone(), false);
        match command {
            Command::Checked => scene.after_checked(),
            Command::Plain => {
                scene.cloud.write("docs/a.txt", "two\n");
                scene.after_plain();
            }
            Command::Refused => {
                scene.cloud.write("docs/a.txt", "three\n");
                scene.file("docs/a.txt", "three\n", 0o644);
            }
        }
        scene
    }

    /// Submits it.
    pub fn send(&self, command: Command) {
        match command {
            Command::Checked => self.submit(&checked(), "ok"),
            Command::Plain => self.submit(&plain(), "ok"),
            Command::Refused => self.submit(&refused("docs/b.txt", "docs/d"), "failed"),
        }
    }

    /// Nothing waits, and what is there stays.
    pub fn bare(cloud: Cloud, has_remote: bool) -> Self {
        for (path, content) in
            [("a.txt", "one\n"), ("b.txt", "b\n"), ("c.txt", "c\n"), ("d", "d\n"), ("run.sh", "exit\n")]
        {
            cloud.write(&format!("docs/{path}"), content);
            set_mode(&cloud.path(&format!("docs/{path}")), 0o644);
        }
        let config = cloud.config(
            "[publish]\nlog_kib = 1\nwindow = 2\n[targets.MAIN]\nallow_delete = true\n[checks.yes]\nargv = [\"true\"]\nsandbox = \"best-effort\"\n\
             [checks.no]\nargv = [\"false\"]\nsandbox = \"best-effort\"\n",
        );
        let after = snapshot(cloud.root(), &OWN);
        Self { cloud, config, expected: RefCell::default(), after, has_remote }
    }

    fn of(cloud: Cloud, has_remote: bool) -> Self {
        let mut scene = Self::bare(cloud, has_remote);
        scene.submit(&checked(), "ok");
        scene.submit(&plain(), "ok");
        scene.submit(&refused("moved/b.txt", "docs/d/e.txt"), "failed");
        scene.submit(&last(), "ok");
        let forged = Doc::noop("forged").signed("a-forgers-own-secret-of-32-bytes");
        scene.cloud.drop_file("forged.json", &forged);
        scene.expect("forged", &forged, "bad_hmac", "bridge: DLQ bad_hmac".to_owned());
        scene.after_checked();
        scene.after_plain();
        scene.file("docs/a.txt", "four\n", 0o644);
        scene
    }

    fn after_plain(&mut self) {
        self.file("docs/a.txt", "three\n", 0o644);
        self.folder("plain");
        self.file("plain/new.txt", "plain\n", 0o644);
    }

    /// What the tree is after [`checked`].
    fn after_checked(&mut self) {
        ["docs/b.txt", "docs/c.txt", "docs/d"].iter().for_each(|path| drop(self.after.remove(*path)));
        ["fresh", "fresh/deep", "moved", "docs/d"].iter().for_each(|path| self.folder(path));
        self.file("docs/a.txt", "two\n", 0o644);
        self.file("docs/d/e.txt", "e\n", 0o644);
        self.file("docs/run.sh", "exit\n", 0o755);
        self.file("fresh/deep/new.txt", "new\n", 0o644);
        self.file("moved/b.txt", "b\n", 0o644);
    }

    pub fn file(&mut self, path: &str, content: &str, mode: u32) {
        self.after.insert(path.to_owned(), file(content, mode));
    }

    pub fn folder(&mut self, path: &str) {
        self.after.insert(path.to_owned(), Entry::Folder);
    }

    /// Puts a command into `commands/` that is to end so.
    pub fn submit(&self, document: &Doc, result: &'static str) {
        let (bytes, id) = (self.cloud.submit(document), document.id());
        self.expect(id, &bytes, result, results(id, u8::from(result != "ok")));
    }

    fn expect(&self, id: &str, bytes: &[u8], result: &'static str, subject: String) {
        let expected = Expected { id: id.to_owned(), result, subject, input_sha256: sha256(bytes) };
        self.expected.borrow_mut().push(expected);
    }

    /// Adds to the configuration file.
    pub fn configure(&self, toml: &str) {
        OpenOptions::new().append(true).open(&self.config).unwrap().write_all(toml.as_bytes()).unwrap();
    }

    /// A bridge with these places to die at; it may be dead at any moment.
    pub fn mortal(&self, failpoints: &str) -> Bridge<'_> {
        Bridge::spawn(&self.cloud, |run| {
            run.arg("--config").arg(&self.config).env("FAILPOINTS", failpoints);
        })
    }

    /// Waits until the bridge was killed, or has nothing left to do and was stopped. True where it was killed.
    pub fn lives_out(&self, bridge: &Bridge<'_>, what: &str) -> bool {
        let mut settled = self.settled();
        let mut ended = None;
        assert!(
            poll(PATIENCE, || {
                ended = bridge.end();
                // Before that line a signal would kill it.
                ended.is_some() || (bridge.log().contains("retries index ->") && settled())
            }),
            "{what}: neither dead nor done"
        );
        if ended.is_none() {
            bridge.signal(Signal::TERM);
        }
        let status = bridge.ends();
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        assert!(killed || status.code() == Some(0), "{what}: {status}");
        killed
    }

    /// Starts a bridge that is let live, and holds the end of it all against what must be.
    pub fn recovers(&self, what: &str) {
        let bridge = Bridge::start_with(&self.cloud, |run| {
            run.arg("--config").arg(&self.config);
        });
        bridge.emptied();
        let expected = |id: &Value| self.expected.borrow().iter().any(|it| it.result != "ok" && *id == json!(it.id));
        let letters = self.cloud.dead_letters();
        let surprise = letters.iter().find(|(_, letter)| !expected(&letter["id"]));
        assert!(surprise.is_none(), "{what}: {surprise:?}");
        bridge.wait_for(&format!("{what}: everything to be filed and published"), self.settled());
        bridge.stop();
        self.assert_whole(what);
    }

    /// Whether nothing waits and all has its commits.
    fn settled(&self) -> impl FnMut() -> bool {
        let git_dir = if self.has_remote { self.cloud.remote() } else { self.cloud.path(".git") };
        let (mut seen, mut held) = (None, false);
        move || {
            let tip = tip(&git_dir, "main");
            if tip.is_some() && tip != seen {
                let history = self.cloud.subjects(&git_dir);
                held = self.expected.borrow().iter().all(|it| !with_subject(&history, &it.subject).is_empty());
                seen = tip;
            }
            held && self.cloud.waiting().is_empty()
        }
    }

    /// Whether all is settled, and nothing is left to be tidied up in quiet moments.
    pub fn quiet(&self) -> impl FnMut() -> bool {
        let mut settled = self.settled();
        move || {
            let git_dir = self.cloud.path(".git");
            let indexed = std::fs::read_to_string(git_dir.join("refs/ghost-bridge/indexed"));
            settled()
                && names(&self.cloud.path("meta/journal")).is_empty()
                && indexed.is_ok_and(|id| Some(id.trim()) == tip(&git_dir, "main").as_deref())
        }
    }

    fn history(&self) -> Vec<Commit> {
        if self.has_remote { self.cloud.published() } else { self.cloud.committed() }
    }

    fn assert_whole(&self, what: &str) {
        let cloud = &self.cloud;
        let found = snapshot(cloud.root(), &OWN);
        let differs: BTreeSet<&String> =
            found.keys().chain(self.after.keys()).filter(|path| found.get(*path) != self.after.get(*path)).collect();
        assert!(differs.is_empty(), "{what}: the tree is not as it must be at {differs:?}");
        let hidden: Vec<PathBuf> = files(cloud.root())
            .into_iter()
            .filter(|path| !path.starts_with(cloud.path(".git")))
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with(".ghost-bridge-") || name.starts_with(".filing-") || name.starts_with(".bridge.probe")
            })
            .collect();
        assert_eq!(hidden, Vec::<PathBuf>::new(), "{what}: hidden files are left");
        assert_eq!(names(&cloud.path("meta/journal")), Vec::<String>::new(), "{what}: the journal");
        assert_eq!(cloud.json("meta/retries.json"), json!({}), "{what}: the retries index");

        let lines = audit::verified(cloud.root());
        assert_eq!(lines.len(), self.expected.borrow().len(), "{what}: {lines:?}");
        let history = self.history();
        assert_sound(&history);
        assert_eq!(outcomes(&history).len(), self.expected.borrow().len(), "{what}: {history:?}");
        let expected = self.expected.borrow();
        for expected in expected.iter() {
            let count = audit::count(&lines, &expected.input_sha256, expected.result);
            assert_eq!(count, 1, "{what}: {}: {lines:?}", expected.id);
            let commits = with_subject(&history, &expected.subject);
            assert_eq!(commits.len(), 1, "{what}: {}", expected.id);
            self.assert_filed(expected, commits[0], what);
        }
        let status = cloud.git(&[&["status", "--porcelain", "--untracked-files=all", "--"][..], &FILED[..]].concat());
        assert_eq!(status, "", "{what}: what is filed is what is committed");
    }

    /// That one command's artifacts are there, agree with each other, and were committed together.
    fn assert_filed(&self, expected: &Expected, commit: &Commit, what: &str) {
        let (cloud, id) = (&self.cloud, &expected.id);
        let (ok, executed) = (expected.result == "ok", !expected.subject.contains("DLQ"));
        let present = [
            (format!("results/{id}.json"), "result_sha256", executed),
            (format!("diffs/{id}.patch"), "diff_sha256", executed),
            (format!("archive/{id}.json"), "archive_sha256", ok),
            (format!("dead_letter/{id}.json"), "dead_letter_sha256", !ok),
        ];
        for (path, _, there) in &present {
            assert_eq!(cloud.filed(path).is_some(), *there, "{what}: {path}");
            assert_eq!(commit.files.contains(path), *there, "{what}: {path} in {commit:?}");
        }
        assert!(commit.files.contains(&"logs/bridge.log".to_owned()), "{what}: {commit:?}");
        if !executed {
            return;
        }
        let filed = |path: &str| cloud.filed(path).unwrap_or_else(|| panic!("{what}: {path} is nowhere"));
        let integrity = cloud.json(&filed(&format!("results/{id}.integrity.json")));
        assert_signed(&integrity, &cloud.secret);
        assert_eq!(integrity["input_sha256"], json!(expected.input_sha256), "{what}");
        for (path, key, there) in &present {
            let hash = if *there { json!(sha256(&cloud.read(&filed(path)))) } else { Value::Null };
            assert_eq!(integrity[*key], hash, "{what}: {path}");
        }
        if ok {
            assert_eq!(
                sha256(&cloud.read(&filed(&format!("archive/{id}.json")))),
                expected.input_sha256,
                "{what}: {id}"
            );
        }
        let result = cloud.json(&filed(&format!("results/{id}.json")));
        assert_eq!(result["status"], json!(if ok { "ok" } else { "failed" }), "{what}: {result}");
    }
}

fn file(content: &str, mode: u32) -> Entry {
    Entry::File { mode, content: content.as_bytes().to_vec() }
}

/// Every kind of change in one command, and a program that has to find it good.
fn checked() -> Doc {
    let ops = json!([
        { "op": "replaceText", "path": "docs/a.txt", "search": "one", "replace": "two" },
        { "op": "writeFile", "path": "fresh/deep/new.txt", "content": "new\n" },
        { "op": "moveFile", "from": "docs/b.txt", "to": "moved/b.txt" },
        { "op": "deleteFile", "path": "docs/c.txt" },
        { "op": "deleteFile", "path": "docs/d" },
        { "op": "writeFile", "path": "docs/d/e.txt", "content": "e\n" },
        { "op": "writeFile", "path": "docs/run.sh", "content": "exit\n", "mode": "0755" },
    ]);
    let plan = json!([{ "check": "exists", "path": "moved/b.txt" }, { "check": "run", "name": "yes" }]);
    Doc::new("checked", ops).with("validationPlan", plan).window(-40, 3600)
}

/// One that no program looks at, and that builds on the one before.
fn plain() -> Doc {
    let ops = json!([
        { "op": "replaceText", "path": "docs/a.txt", "search": "two", "replace": "three" },
        { "op": "writeFile", "path": "plain/new.txt", "content": "plain\n" },
    ]);
    Doc::new("plain", ops).window(-30, 3600)
}

/// One that is undone: its program finds fault.
fn refused(moved: &str, deleted: &str) -> Doc {
    let ops = json!([
        { "op": "replaceText", "path": "docs/a.txt", "search": "three", "replace": "never" },
        { "op": "writeFile", "path": "gone/deep/x.txt", "content": "x\n" },
        { "op": "moveFile", "from": moved, "to": "docs/new-b.txt" },
        { "op": "deleteFile", "path": deleted },
        { "op": "writeFile", "path": "docs/run.sh", "content": "exit 1\n", "mode": "0644" },
    ]);
    let plan = json!([{ "check": "run", "name": "no" }]);
    Doc::new("refused", ops).with("validationPlan", plan).window(-20, 3600)
}

/// One that needs the tree as it was before the one that was undone.
fn last() -> Doc {
    let ops = json!([{ "op": "replaceText", "path": "docs/a.txt", "search": "three", "replace": "four" }]);
    Doc::new("last", ops).window(-10, 3600)
}
