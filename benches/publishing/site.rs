//! A CLOUD with its bare remote in the folder for temporary files, and a bridge that runs on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::documents::{SECRET, Signer};
use crate::history;

/// The longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// The pause between two looks while nothing depends on microseconds.
const LOOK: Duration = Duration::from_millis(1);
/// From so many commands of history on, the artifacts of old segments are in the branch alone: five files a command.
const SPARSE_FROM: u64 = 200_000;
/// What `init` would have put there.
const IGNORED: &str = "commands/\nwork/\n.bridge.lock\nmeta/journal/\n";

/// Folders that are needed no more. What is removed costs what is made next: ext4 without a journal gives no inode
/// out again for a minute, and looks at each one that it passes over.
static DONE: Mutex<Vec<tempfile::TempDir>> = Mutex::new(Vec::new());

/// A CLOUD and its remote.
pub struct Site {
    /// There until the site is dropped.
    dir: Option<tempfile::TempDir>,
    top: PathBuf,
    pub cloud: PathBuf,
    pub remote: PathBuf,
}

/// A bridge that runs; it is killed when dropped.
pub struct Bridge {
    child: Child,
    log: PathBuf,
    /// When it was started.
    pub begin: Instant,
}

/// The `git` program in `dir`, without anybody's configuration.
pub fn git_command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_DEFAULT_REF_FORMAT", "files");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Person").env(format!("GIT_{who}_EMAIL"), "person@example.org");
    }
    command
}

/// Runs git and returns what it prints.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = git_command(dir).args(args).output().unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

/// The commit that `main` names in a git folder, by its file alone; empty while there is none.
pub fn tip(git_dir: &Path) -> String {
    fs::read_to_string(git_dir.join("refs/heads/main")).unwrap_or_default().trim_end().to_owned()
}

/// Looks until `condition` gives something.
pub fn wait<T>(what: &str, pause: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "gave up waiting for {what}");
        std::thread::sleep(pause);
    }
}

impl Site {
    /// A CLOUD with a history of `history` commands, pushed.
    pub fn new(history: u64) -> Self {
        let dir = tempfile::Builder::new().prefix("ghost-bridge-bench-").tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let (cloud, remote) = (top.join("cloud"), top.join("remote.git"));
        git(&top, &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        if history >= 10_000 {
            eprintln!("  making {history} commands of history");
        }
        let watch = Instant::now();
        history::fill(&remote, history, &[(".gitignore", IGNORED), ("meta/retries.json", "{}")]);
        git(&top, &["clone", "-q", "--no-checkout", "remote.git", "cloud"]);
        if history >= SPARSE_FROM {
            // Folders that are not there: of their parents, cone mode then takes the files and no other folder.
            git(
                &cloud,
                &[
                    "sparse-checkout",
                    "set",
                    "--cone",
                    "--sparse-index",
                    "logs",
                    "meta",
                    "context",
                    "summaries",
                    "results/none",
                    "diffs/none",
                    "archive/none",
                    "dead_letter/none",
                ],
            );
        }
        git(&cloud, &["checkout", "-q", "main"]);
        for folder in ["commands", "results", "diffs", "archive", "dead_letter", "logs", "summaries", "context"] {
            fs::create_dir_all(cloud.join(folder)).unwrap();
        }
        // A clone packs its references; their files are what is watched.
        let head = git(&cloud, &["rev-parse", "HEAD"]);
        fs::create_dir_all(cloud.join(".git/refs/heads")).unwrap();
        for place in [cloud.join(".git/refs/heads/main"), remote.join("refs/heads/main")] {
            fs::write(place, format!("{head}\n")).unwrap();
        }
        // What it cost to write all this must not be paid by what is measured.
        rustix::fs::sync();
        if history >= 10_000 {
            eprintln!("  made in {:.0} s", watch.elapsed().as_secs_f64());
        }
        Self { dir: Some(dir), top, cloud, remote }
    }

    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Puts `count` signed small writes into `commands/`.
    pub fn submit(&self, prefix: &str, count: u64) {
        let (signer, now) = (Signer::new(), chrono::Utc::now());
        for number in 0..count {
            let id = format!("{prefix}{number:07}");
            fs::write(self.cloud.join(format!("commands/{id}.json")), signer.small_write(&id, number, now)).unwrap();
        }
        rustix::fs::sync();
    }

    /// Starts the release binary on it.
    pub fn start(&self) -> Bridge {
        let log = self.top.join("bridge.log");
        let out = File::create(&log).unwrap();
        let begin = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_ghost-bridge"))
            .args(["--cloud".as_ref(), self.cloud.as_os_str(), "run".as_ref()])
            .env_remove("RUST_LOG")
            .env("GPT_BRIDGE_HMAC_SECRET", SECRET)
            .env("GHOST_BRIDGE__HTTP__LISTEN", "127.0.0.1:0")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .unwrap();
        Bridge { child, log, begin }
    }

    /// Commits of executed commands in the remote.
    pub fn published(&self) -> u64 {
        let count = git(&self.remote, &["rev-list", "--count", "--grep", "^bridge: results .*(exit=0)$", "main"]);
        count.parse().unwrap()
    }

    pub fn waiting(&self) -> usize {
        fs::read_dir(self.cloud.join("commands")).unwrap().count()
    }

    /// Waits until `commands/` is empty and the remote has all `count` commands; the moments when the last of them was
    /// committed, and when it came.
    pub fn all_pushed(&self, bridge: &mut Bridge, count: u64) -> [Instant; 2] {
        let look = |git_dir: &Path, seen: &mut (String, Instant)| {
            let at = tip(git_dir);
            if at != seen.0 {
                *seen = (at, Instant::now());
            }
        };
        let (mut here, mut there, mut judged) =
            ((String::new(), Instant::now()), (String::new(), Instant::now()), String::new());
        wait("all to be pushed", LOOK, || {
            look(&self.cloud.join(".git"), &mut here);
            look(&self.remote, &mut there);
            bridge.check();
            if there.0 == judged || there.0 != here.0 || self.waiting() > 0 {
                return None;
            }
            judged.clone_from(&there.0);
            (self.published() == count).then_some([here.1, there.1])
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.dir.take().into_iter().for_each(done_with);
    }
}

/// A folder that is needed no more; it stays until everything is measured.
pub fn done_with(dir: tempfile::TempDir) {
    DONE.lock().unwrap().push(dir);
}

/// Removes the folders of all sites.
pub fn remove_all() {
    DONE.lock().unwrap().clear();
}

impl Bridge {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended.
    pub fn check(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the bridge ended: {}", self.log());
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Where its HTTP server listens: host and port.
    pub fn address(&self) -> String {
        let log = self.log();
        let (_, after) = log.split_once("http -> http://").unwrap();
        after.split_whitespace().next().unwrap().to_owned()
    }

    /// Waits until it says that it is ready; how long that took from its start.
    pub fn ready(&mut self) -> Duration {
        wait("the bridge to be ready", LOOK, || {
            self.check();
            self.log().contains("ready: watching").then(|| self.begin.elapsed())
        })
    }

    /// Ends it as an operator would, and waits for that.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // It may have been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
