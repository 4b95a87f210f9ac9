//! How long an audit takes: `cargo bench --bench audit [-- COMMANDS]`.
//!
//! A CLOUD with so many filed commands is made: results, integrity files, diffs, archive and the audit log, rolled over,
//! signed, chained and committed, as the bridge leaves them. It is audited by the real program. Beside it, in the same run
//! and on the same disk, the floor: the same files read and hashed with SHA-256 on as many threads, with nothing compared.
//!
//! It works in the folder for temporary files: `TMPDIR=/some/folder` chooses another disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "git makes the repository, and the program is measured as it is started")]

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use protocol::artifact::to_bytes;
use protocol::audit::{AuditEntry, AuditLine, AuditResult};
use protocol::canonical;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::json::{self, Value};
use protocol::signing::{Keyring, Secret, SecretSlot};
use serde_json::json;

/// Commands, unless the command line says otherwise.
const COMMANDS: usize = 100_000;
/// Commands in a segment folder, as `publish.window` has it.
const WINDOW: usize = 256;
/// The size from which a log rolls over, as `publish.log_kib` has it.
const LOG_BYTES: usize = 64 * 1024;
const RUNS: usize = 3;
const SECRET: &str = "a secret for measuring only, of more than 32 bytes";
const AT: &str = "2026-01-02T03:04:05.678Z";

/// Writes files to disk and into a commit.
struct Maker {
    root: PathBuf,
    git: Child,
    import: BufWriter<ChildStdin>,
}

impl Maker {
    fn new(root: &Path) -> Self {
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(root).args(args);
            command
        };
        assert!(git(&["init", "-q", "-b", "main"]).status().unwrap().success());
        let mut import = git(&["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = BufWriter::new(import.stdin.take().unwrap());
        write!(stdin, "commit refs/heads/main\ncommitter a <a@b> 1767323045 +0000\ndata 1\nx\n").unwrap();
        Self { root: root.to_owned(), git: import, import: stdin }
    }

    fn put(&mut self, path: &str, bytes: &[u8]) {
        let place = self.root.join(path);
        if fs::write(&place, bytes).is_err() {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(&place, bytes).unwrap();
        }
        write!(self.import, "M 100644 inline {path}\ndata {}\n", bytes.len()).unwrap();
        self.import.write_all(bytes).unwrap();
        self.import.write_all(b"\n").unwrap();
    }

    fn finish(mut self) {
        self.import.flush().unwrap();
        drop(self.import);
        assert!(self.git.wait().unwrap().success());
    }
}

fn signed(keyring: &Keyring, document: &serde_json::Value) -> Vec<u8> {
    let text = serde_json::to_vec(document).unwrap();
    let Value::Object(object) = json::parse(&text).unwrap() else { panic!() };
    let hmac = keyring.sign(SecretSlot::Current, canonical::object_without(&object, "hmac").as_bytes());
    let mut document = document.clone();
    document.as_object_mut().unwrap().insert("hmac".to_owned(), json!(hmac));
    to_bytes(&document).unwrap()
}

/// An artifact's folder, ending and bytes.
type Artifact = (&'static str, &'static str, Vec<u8>);

/// The artifacts of one command, and the hash of its document.
fn artifacts(keyring: &Keyring, id: &str) -> (Vec<Artifact>, Sha256) {
    let path = format!("work/{id}.txt");
    let limits = json!({ "maxRuntimeMs": 60000, "maxFilesChanged": 1 });
    let content = format!("a small file of one line, {path}\n");
    let document = signed(
        keyring,
        &json!({
            "schemaVersion": "1.0", "id": id, "issued_at": AT, "expires_at": AT, "nonce": "0123456789abcdef",
            "target": "MAIN", "action": "applyPatch", "patchType": "ops", "validationPlan": [],
            "payload": { "inline": { "version": "1", "ops": [{ "op": "writeFile", "path": path, "content": content }] } },
            "allowedActions": ["writeFile"], "constraints": limits,
        }),
    );
    let hash = Sha256::of(content.as_bytes());
    let diff = format!(
        "diff --git a/{path} b/{path}\nnew file mode 100644\nindex {:040}..{:040}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{content}",
        0, 1
    );
    let result = to_bytes(&json!({
        "id": id, "status": "ok", "exit_code": 0, "reason": null, "detail": null, "target": "MAIN", "action": "applyPatch",
        "patch_type": "ops", "issued_at": AT, "received_at": AT, "executed_at": AT, "finished_at": AT, "duration_ms": 1,
        "files_changed": 1, "bytes_written": content.len(), "checks": [], "attempts": 1,
        "ops": [{ "op": "writeFile", "path": path, "before_sha256": null, "after_sha256": hash }],
        "constraints": { "maxRuntimeMs": 60000, "maxFilesChanged": 1, "ok": true },
    })).unwrap();
    let input = Sha256::of(&document);
    let integrity = signed(
        keyring,
        &json!({
            "id": id, "input_sha256": input, "result_sha256": Sha256::of(&result), "diff_sha256": Sha256::of(diff.as_bytes()),
            "archive_sha256": input, "issued_at": AT, "executed_at": AT, "duration_ms": 1, "files_changed": 1,
            "constraints": limits, "limits_ok": true, "hmac_ok": true, "exit_code": 0, "secret": "current",
        }),
    );
    let files = vec![
        ("results", "json", result),
        ("results", "integrity.json", integrity),
        ("diffs", "patch", diff.into_bytes()),
        ("archive", "json", document),
    ];
    (files, input)
}

fn line(id: &str, input: Sha256, prev: Sha256) -> AuditLine {
    let entry = AuditEntry {
        ts: AT.to_owned(),
        id: CommandId::parse(id).ok(),
        action: Some("applyPatch".to_owned()),
        result: AuditResult::Ok,
        exit: Some(0),
        files_changed: 1,
        hmac_ok: true,
        input_sha256: input,
    };
    AuditLine::chain(entry, prev).unwrap()
}

/// A CLOUD with `count` filed commands, all but the last few hundred rolled over.
fn filed(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let keyring = Keyring::new(&Secret::new(SECRET.into()).unwrap(), None);
    let mut maker = Maker::new(dir.path());
    let (mut log, mut logs, mut prev) = (String::new(), 0, Sha256::ZERO);
    for number in 0..count {
        let id = format!("c{number:07}");
        let (files, input) = artifacts(&keyring, &id);
        let segment = match count - number {
            0..=WINDOW => String::new(),
            _ => format!("/2026/01/{:02}/{:04}", 1 + number / (WINDOW * 100) % 28, number / WINDOW),
        };
        for (folder, ending, bytes) in files {
            maker.put(&format!("{folder}{segment}/{id}.{ending}"), &bytes);
        }
        if log.len() >= LOG_BYTES {
            let place = format!("logs/2026/01/02/{:04}/bridge-20260102T030405.{logs:03}Z.log", logs / WINDOW);
            maker.put(&place, log.as_bytes());
            log.clear();
            logs += 1;
        }
        let line = line(&id, input, prev);
        prev = line.hash;
        log.push_str(&line.to_text().unwrap());
    }
    maker.put("logs/bridge.log", log.as_bytes());
    maker.finish();
    dir
}

/// What was used: time on the clock, seconds of processor time, and the most memory in KiB.
#[derive(Clone, Copy)]
struct Used {
    wall: Duration,
    processor: f64,
    memory: u64,
}

/// Seconds of processor time of all children that have ended.
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // `cutime` and `cstime`, fields 16 and 17 of proc(5), in ticks of which there are 100 a second.
    fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn audit(cloud: &Path, count: usize) -> Used {
    let (begin, before, mut memory) = (Instant::now(), children(), 0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ghost-bridge"));
    command.args(["audit", "--json", "--cloud"]).arg(cloud).env("GPT_BRIDGE_HMAC_SECRET", SECRET);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
        memory = memory.max(peak.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let used = Used { wall: begin.elapsed(), processor: children() - before, memory };
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.get("clean"), Some(&json!(true)), "{report:#}");
    assert_eq!(report.get("committed_artifacts"), Some(&json!(4 * count)), "{report:#}");
    assert_eq!(report.pointer("/signatures/good"), Some(&json!(count)), "{report:#}");
    used
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() { files(&entry.path(), found) } else { found.push(entry.path()) }
    }
}

/// Reads and hashes the same files, and nothing else; also tells how many bytes those are.
fn floor(cloud: &Path) -> (Duration, u64) {
    let begin = Instant::now();
    let mut all = Vec::new();
    for folder in ["results", "diffs", "archive", "logs"] {
        files(&cloud.join(folder), &mut all);
    }
    let (next, bytes, last) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(Sha256::ZERO));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(path) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let read = fs::read(path).unwrap();
                    bytes.fetch_add(read.len() as u64, Ordering::Relaxed);
                    *last.lock().unwrap() = Sha256::of(&read);
                }
            });
        }
    });
    (begin.elapsed(), bytes.into_inner())
}

fn main() {
    // Cargo adds arguments of its own.
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(COMMANDS);
    let cloud = filed(count);
    let mut runs: Vec<(Used, Duration, u64)> = Vec::new();
    for _ in 0..RUNS {
        let used = audit(cloud.path(), count);
        let (floor, bytes) = floor(cloud.path());
        runs.push((used, floor, bytes));
    }
    runs.sort_by_key(|(used, ..)| used.wall);
    let (used, least, bytes) = *runs.get(RUNS / 2).unwrap();
    let ratio = used.wall.as_secs_f64() / least.as_secs_f64();
    println!("{count} commands, {} files, {} MiB, median of {RUNS}:", 4 * count, bytes / (1024 * 1024));
    println!(
        "  audited           {:8.2} s, {:.2} s of processor time, {} MiB of memory at most",
        used.wall.as_secs_f64(),
        used.processor,
        used.memory / 1024
    );
    println!("  read and hashed   {:8.2} s", least.as_secs_f64());
    println!("  ratio             {ratio:8.2}");
}
