//! Where the demonstration plays: a temporary folder with a CLOUD, a bare remote and a running bridge.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use protocol::digest::Sha256;
use protocol::json;
use protocol::signing::{Keyring, Secret};

use crate::exit::Failure;

use super::scenes::Scene;

/// The longest wait for anything; far more than it should take on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks at the disk.
const LOOK: Duration = Duration::from_micros(300);
/// The pause between two looks at the remote, each of which starts a git.
const LOOK_REMOTE: Duration = Duration::from_millis(20);
/// The bytes of the throw-away secret, before they are spelled in hex.
const SECRET_BYTES: usize = 32;

/// What was seen of a command's end.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `ok`, `failed`, `rejected` or `quiet`.
    pub outcome: &'static str,
    /// The dead letter's reason.
    pub reason: Option<String>,
    /// The dead letter's detail.
    pub detail: Option<String>,
    /// The folders that hold its artifacts.
    pub artifacts: &'static [&'static str],
    /// From the renaming into `commands/` until it was filed.
    pub filed_after: Duration,
}

/// CLOUD, the remote and the running bridge.
pub struct Stage {
    cloud: PathBuf,
    remote: PathBuf,
    log: PathBuf,
    secret: String,
    keyring: Keyring,
    bridge: Option<Child>,
}

impl Stage {
    /// Makes the folder, the remote, and a CLOUD with a first commit.
    ///
    /// # Errors
    /// When git is missing or the folder cannot be made.
    pub fn set_up() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("ghost-bridge-demo-").tempdir();
        let folder = folder.map_err(|error| {
            Failure::failed(format!("cannot make a temporary folder: {error}; set TMPDIR to one with room"))
        })?;
        // It stays: whoever saw the table wants to look, and after a failure the log tells why.
        let folder = folder.keep();
        let root = fs::canonicalize(&folder)
            .map_err(|error| Failure::failed(format!("cannot use {}: {error}", folder.display())))?;
        let random: [u8; SECRET_BYTES] = rand::random();
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = Secret::new(secret.clone().into_bytes()).map_err(Failure::bug)?;
        let stage = Self {
            cloud: root.join("cloud"),
            remote: root.join("remote.git"),
            log: root.join("bridge.log"),
            keyring: Keyring::new(&key, None),
            secret,
            bridge: None,
        };
        stage.git(&["init", "--quiet", "--bare", "--initial-branch=main", &stage.remote.to_string_lossy()], &root)?;
        stage.git(&["clone", "--quiet", &stage.remote.to_string_lossy(), &stage.cloud.to_string_lossy()], &root)?;
        stage.program(&["init"])?;
        stage.git(&["add", ".gitignore", "meta"], &stage.cloud)?;
        stage.git(&["commit", "--quiet", "--message", "a CLOUD for ghost-bridge"], &stage.cloud)?;
        stage.git(&["push", "--quiet", "origin", "HEAD:main"], &stage.cloud)?;
        Ok(stage)
    }

    /// Starts this very program as the service and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(&mut self) -> Result<(), Failure> {
        let failed = |what: &str, error: std::io::Error| {
            Failure::failed(format!("cannot {what}: {error}; see that the temporary folder has room"))
        };
        let log = File::create(&self.log).map_err(|error| failed("write the bridge's log", error))?;
        let mut command = self.ours(&["run"])?;
        command.env("GPT_BRIDGE_HMAC_SECRET", &self.secret).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.bridge = Some(command.spawn().map_err(|error| failed("start the service", error))?);
        let log = self.log.clone();
        let ready = || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"));
        self.wait("the bridge to be ready", LOOK_REMOTE, ready)
    }

    /// Sends a command and waits for its end.
    ///
    /// # Errors
    /// When there is no end in time.
    pub fn play(&mut self, scene: &Scene) -> Result<Seen, Failure> {
        let place = self.cloud.join("commands").join(&scene.file);
        let hidden = self.cloud.join("commands").join(format!(".{}.tmp", scene.file));
        let letters = self.letters(scene);
        let before: Vec<bool> = letters.iter().map(|letter| letter.exists()).collect();
        let send = fs::write(&hidden, &scene.document).and_then(|()| fs::rename(&hidden, &place));
        send.map_err(|error| Failure::failed(format!("cannot put {} into commands/: {error}", scene.file)))?;
        let start = Instant::now();
        let gone = place.clone();
        self.wait(&format!("the end of {}", scene.file), LOOK, || !gone.exists())?;
        let filed_after = start.elapsed();
        let letter =
            letters.iter().zip(before).find(|(letter, before)| !before && letter.exists()).map(|(letter, _)| letter);
        let has = |path: &str| self.cloud.join(path).exists();
        let (outcome, text) = match letter {
            Some(letter) => ("rejected", fs::read(letter).ok()),
            None if scene.commits() && has(&format!("archive/{}.json", scene.id)) => ("ok", None),
            None => ("quiet", None),
        };
        let field = |key: &str| {
            let value = json::parse(text.as_deref()?).ok()?;
            value.as_object()?.get(key)?.as_str().map(str::to_owned)
        };
        let outcome = if field("stage").as_deref() == Some("execution") { "failed" } else { outcome };
        let artifacts = match outcome {
            "ok" => ["results", "diffs", "archive"].as_slice(),
            "failed" => &["results", "diffs", "dead_letter"],
            "rejected" => &["dead_letter"],
            _ => &[],
        };
        Ok(Seen { outcome, reason: field("reason"), detail: field("detail"), artifacts, filed_after })
    }

    /// The remote's commits, newest first, once it holds one for each of `filed` commands.
    ///
    /// # Errors
    /// When they do not arrive in time.
    pub fn pushed_commits(&mut self, filed: usize) -> Result<Vec<String>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.git(&["log", "--format=%h %s", "main"], &self.remote)?;
            if log.lines().filter(|line| line.contains(" bridge: results ") || line.contains(" bridge: DLQ ")).count()
                >= filed
            {
                return Ok(log.lines().map(str::to_owned).collect());
            }
            self.still_waiting("the commits in the remote", deadline)?;
            std::thread::sleep(LOOK_REMOTE);
        }
    }

    /// Ends the service and waits for it.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut bridge) = self.bridge.take() else { return Ok(()) };
        if let Some(pid) = i32::try_from(bridge.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // One that is gone already is found by the wait below.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        match bridge.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                Err(Failure::failed(format!("the bridge did not stop cleanly ({status}); {}", self.log_tail())))
            }
            Err(error) => Err(Failure::failed(format!("cannot wait for the bridge: {error}"))),
        }
    }

    /// Waits until the service ends by itself: Ctrl-C reaches it as well.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn linger(&mut self) -> Result<(), Failure> {
        let Some(mut bridge) = self.bridge.take() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::bug)?;
        // Ctrl-C in a terminal goes to the whole process group; it must not end this process before the service.
        let waiting = std::thread::spawn(move || bridge.wait());
        runtime.block_on(async {
            while !waiting.is_finished() {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    () = tokio::time::sleep(LOOK_REMOTE) => {}
                }
            }
        });
        match waiting.join() {
            Ok(Ok(status)) if status.success() => Ok(()),
            _ => Err(Failure::failed(format!("the bridge did not stop cleanly; {}", self.log_tail()))),
        }
    }

    /// The root of the work tree.
    pub fn cloud(&self) -> &Path {
        &self.cloud
    }

    /// The bare repository.
    pub fn remote(&self) -> &Path {
        &self.remote
    }

    /// The service's log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The key that the service accepts.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// A file of CLOUD.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &str) -> Result<String, Failure> {
        fs::read_to_string(self.cloud.join(path))
            .map_err(|error| Failure::failed(format!("cannot read {path}: {error}")))
    }

    /// Where the dead letter of a scene may turn up.
    fn letters(&self, scene: &Scene) -> [PathBuf; 2] {
        let short = Sha256::of(scene.document.as_bytes()).short();
        [format!("{}.json", scene.id), format!("{}-{short}.json", scene.id)]
            .map(|name| self.cloud.join("dead_letter").join(name))
    }

    fn wait(&mut self, what: &str, pause: Duration, mut is_there: impl FnMut() -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !is_there() {
            self.still_waiting(what, deadline)?;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    fn still_waiting(&mut self, what: &str, deadline: Instant) -> Result<(), Failure> {
        if let Some(Ok(Some(status))) = self.bridge.as_mut().map(Child::try_wait) {
            return Err(Failure::failed(format!("the bridge ended early ({status}); {}", self.log_tail())));
        }
        if Instant::now() > deadline {
            return Err(Failure::failed(format!("waited {} s for {what}; {}", PATIENCE.as_secs(), self.log_tail())));
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        format!("its last words: {}", text.lines().last().unwrap_or("none"))
    }

    #[expect(clippy::disallowed_methods, reason = "the demonstration starts its own service, which ends by a signal")]
    /// This very program, on this CLOUD, away from the configuration of whoever runs it.
    fn ours(&self, args: &[&str]) -> Result<Command, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("cannot find this program's own file: {error}")))?;
        let mut command = Command::new(program);
        let inherited = std::env::vars_os().map(|(key, _)| key);
        for key in inherited.filter(|key| key.to_string_lossy().starts_with("GHOST_BRIDGE_")) {
            command.env_remove(key);
        }
        self.isolate(&mut command);
        command
            .args(args)
            .env("CLOUD", &self.cloud)
            .env("GHOST_BRIDGE__HTTP__LISTEN", "127.0.0.1:0")
            .env_remove("RUST_LOG");
        Ok(command)
    }

    fn program(&self, args: &[&str]) -> Result<(), Failure> {
        run(self.ours(args)?, &format!("ghost-bridge {}", args.join(" "))).map(drop)
    }

    #[expect(clippy::disallowed_methods, reason = "git must run here under an identity and a configuration of its own")]
    fn git(&self, args: &[&str], folder: &Path) -> Result<String, Failure> {
        let mut command = Command::new("git");
        command.args(args).current_dir(folder);
        self.isolate(&mut command);
        run(command, &format!("git {}", args.first().unwrap_or(&"")))
    }

    /// The demonstration must neither depend on somebody's git configuration nor touch it.
    fn isolate(&self, command: &mut Command) {
        for key in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_TEMPLATE_DIR"] {
            command.env_remove(key);
        }
        command.env("GIT_DEFAULT_REF_FORMAT", "files");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        for (role, value) in [("NAME", "ghost-bridge demo"), ("EMAIL", "demo@localhost")] {
            command.env(format!("GIT_AUTHOR_{role}"), value).env(format!("GIT_COMMITTER_{role}"), value);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut bridge) = self.bridge.take() {
            // Only after a failure: nobody is left to wait for a clean stop.
            let _ = bridge.kill();
            let _ = bridge.wait();
        }
    }
}

fn run(mut command: Command, what: &str) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output();
    let output = output
        .map_err(|error| Failure::failed(format!("cannot start {what}: {error}; is git installed and in PATH?")))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::failed(format!("{what} failed ({}): {words}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
