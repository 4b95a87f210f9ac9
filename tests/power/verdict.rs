//! What was sent, and whether all of it came to its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::audit;
use crate::harness::cloud::describe;
use crate::harness::document::sha256;
use crate::harness::git::{assert_sound, outcomes, results, tip, with_subject};
use crate::harness::snapshot::files;
use crate::harness::{Bridge, Cloud, Doc};

/// The folders whose files the bridge alone writes.
const FILED: [&str; 5] = ["results", "diffs", "archive", "dead_letter", "logs"];
/// The most commands of one CLOUD: each is issued a second after the one before.
const MOST: i64 = 1_000;

/// One command.
struct Command {
    id: String,
    input_sha256: String,
    /// In the audit log.
    result: &'static str,
    subject: String,
}

/// The commands of one CLOUD. Each that is good counts on in one file, and writes or moves one of its own.
pub struct Sent {
    target: &'static str,
    /// The target's root.
    root: PathBuf,
    commands: RefCell<Vec<Command>>,
    /// What the files are to be after all of them.
    files: RefCell<BTreeMap<String, String>>,
    count: RefCell<usize>,
}

impl Sent {
    /// For the target of this name and root.
    pub fn begin(target: &'static str, root: PathBuf) -> Self {
        std::fs::write(root.join("count.txt"), counted(0)).unwrap();
        let files = BTreeMap::from([("count.txt".to_owned(), counted(0))]);
        Self { target, root, commands: RefCell::default(), files: RefCell::new(files), count: RefCell::default() }
    }

    /// Puts so many commands into `commands/`, to be executed in the order in which they are made here.
    pub fn send(&self, cloud: &Cloud, commands: usize) {
        for _ in 0..commands {
            let number = self.commands.borrow().len();
            let id = format!("c{number:04}");
            match number % 8 {
                3 => {
                    let ops = json!([{ "op": "deleteFile", "path": "count.txt" }]);
                    self.refuse(cloud, &self.at(number, Doc::new(&id, ops)), &cloud.secret, "delete_denied");
                }
                6 => {
                    self.refuse(cloud, &self.at(number, Doc::noop(&id)), "a-forgers-own-secret-of-32-bytes", "bad_hmac")
                }
                kind => self.execute(cloud, number, &id, kind),
            }
        }
    }

    fn execute(&self, cloud: &Cloud, number: usize, id: &str, kind: usize) {
        let (mut files, mut count) = (self.files.borrow_mut(), self.count.borrow_mut());
        let mut ops = vec![
            json!({ "op": "replaceText", "path": "count.txt", "search": counted(*count), "replace": counted(*count + 1) }),
        ];
        *count += 1;
        files.insert("count.txt".to_owned(), counted(*count));
        let path = format!("docs/{}/{id}.txt", number % 7);
        let before = format!("docs/{}/c{:04}.txt", (number + 6) % 7, number.wrapping_sub(1));
        // The file of the command before, if that made one.
        if kind == 5
            && let Some(content) = files.remove(&before)
        {
            ops.push(json!({ "op": "moveFile", "from": before, "to": path }));
            files.insert(path, content);
        } else {
            ops.push(json!({ "op": "writeFile", "path": path, "content": content(number) }));
            files.insert(path, content(number));
        }
        let plan = if kind == 1 { json!([{ "check": "run", "name": "yes" }]) } else { json!([]) };
        let document = self.at(number, Doc::new(id, Value::Array(ops))).with("validationPlan", plan);
        let bytes = cloud.submit(&document);
        self.expect(id, &bytes, "ok", results(id, 0));
    }

    fn refuse(&self, cloud: &Cloud, document: &Doc, secret: &str, reason: &'static str) {
        let bytes = document.signed(secret);
        cloud.drop_file(&format!("{}.json", document.id()), &bytes);
        self.expect(document.id(), &bytes, reason, format!("bridge: DLQ {reason}"));
    }

    /// The document as the one that comes so late.
    fn at(&self, number: usize, document: Doc) -> Doc {
        document.with("target", json!(self.target)).window(i64::try_from(number).unwrap() - MOST, 3_600)
    }

    fn expect(&self, id: &str, bytes: &[u8], result: &'static str, subject: String) {
        let command = Command { id: id.to_owned(), input_sha256: sha256(bytes), result, subject };
        self.commands.borrow_mut().push(command);
    }

    /// Waits until all is published, and looks at everything.
    pub fn judge(&self, cloud: &Cloud, bridge: &Bridge<'_>) {
        let commands = self.commands.borrow();
        bridge.emptied();
        let letters = cloud.dead_letters();
        let refused = commands.iter().filter(|command| command.result != "ok").count();
        assert_eq!(
            letters.len(),
            refused,
            "{:?}",
            letters.iter().map(|(_, letter)| &letter["detail"]).collect::<Vec<_>>()
        );
        let (git_dir, mut seen) = (cloud.remote(), None);
        bridge.wait_for("everything to be published", || {
            let tip = tip(&git_dir, "main");
            let changed = tip.is_some() && tip != seen;
            seen.clone_from(&tip);
            changed && outcomes(&cloud.subjects(&git_dir)).len() >= commands.len()
        });
        bridge.wait_for("readiness", || bridge.get("/readyz").status == 200);
        bridge.wait_for("nothing to be left to push", || tip(&git_dir, "main") == tip(&cloud.path(".git"), "main"));
        let lines = audit::verified(cloud.root());
        assert_eq!(lines.len(), commands.len(), "{lines:?}");
        let history = cloud.published();
        assert_sound(&history);
        assert_eq!(outcomes(&history).len(), commands.len(), "{history:?}");
        for Command { id, input_sha256, result, subject } in commands.iter() {
            assert_eq!(audit::count(&lines, input_sha256, result), 1, "{id} in the log");
            let same = commands.iter().filter(|command| command.subject == *subject).count();
            assert_eq!(with_subject(&history, subject).len(), same, "{id} in the history");
        }
        self.assert_files(cloud);
        let output = cloud.bridge(&["audit"]).output().unwrap();
        assert!(output.status.success(), "audit: {}", describe(&output));
        bridge.wait_for("git status to be clean", || {
            cloud.git(&[&["status", "--porcelain", "--untracked-files=all", "--"][..], &FILED[..]].concat()).is_empty()
        });
        // What is pushed while it looks is missing to it.
        for repository in [cloud.root().to_owned(), git_dir] {
            bridge.wait_for("git fsck to find nothing", || {
                cloud.git_succeeds(&repository, &["fsck", "--connectivity-only", "--no-dangling"])
            });
        }
    }

    fn assert_files(&self, cloud: &Cloud) {
        let wanted = self.files.borrow();
        for (path, content) in wanted.iter() {
            let found = std::fs::read_to_string(self.root.join(path));
            assert_eq!(found.ok().as_ref(), Some(content), "{path}");
        }
        let relative = |path: &PathBuf| path.strip_prefix(&self.root).unwrap().to_str().unwrap().to_owned();
        let found: Vec<String> = files(&self.root.join("docs")).iter().map(relative).collect();
        let surplus: Vec<&String> = found.iter().filter(|path| !wanted.contains_key(*path)).collect();
        assert_eq!(surplus, Vec::<&String>::new());
        let hidden = files(cloud.root()).into_iter().chain(files(&self.root)).filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let is_ours = name.starts_with(".ghost-bridge-") || name.starts_with(".filing-");
            is_ours && !path.starts_with(cloud.path(".git"))
        });
        assert_eq!(hidden.collect::<Vec<_>>(), Vec::<PathBuf>::new());
    }
}

fn counted(count: usize) -> String {
    format!("n={count}.\n")
}

/// Longer than what an inode may hold by itself.
fn content(number: usize) -> String {
    (0..40).fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "line {line} of command {number}");
        text
    })
}
