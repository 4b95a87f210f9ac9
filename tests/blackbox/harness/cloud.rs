//! A throw-away CLOUD: a folder with a clone, its bare remote, and an isolated home for git.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use super::document::Doc;
use super::git::{self, Commit};
use super::snapshot::files;
use super::{PATIENCE, poll};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_ghost-bridge");

const CONFIG_OF_GIT: &str = "[user]\n\tname = A Person\n\temail = person@example.org\n[init]\n\tdefaultBranch = main\n\
                             [advice]\n\tdetachedHead = false\n[pull]\n\trebase = true\n";

/// Git's own variable for the format of the repositories that it makes: `sha1` or `sha256`.
pub const OBJECT_FORMAT: &str = "GIT_DEFAULT_HASH";

/// One test's world. Everything lies beneath one temporary folder and goes with it.
pub struct Cloud {
    world: TempDir,
    root: PathBuf,
    /// The secret of this world.
    pub secret: String,
    serial: AtomicU32,
    /// What git makes here, if not its own default.
    objects: Option<OsString>,
}

impl Cloud {
    /// A clone of a bare remote, initialised by the bridge, with a first commit by a person, pushed.
    pub fn new() -> Self {
        Self::unborn().begun()
    }

    /// The same, on whatever `mount` puts into the world before anything is made there: CLOUD is going to be its `cloud`.
    #[allow(dead_code, reason = "not every test program cares")]
    pub fn new_on<M>(mount: impl FnOnce(&Path) -> M) -> (Self, M) {
        let cloud = Self::empty();
        let mounted = mount(cloud.world());
        (cloud.cloned().begun(), mounted)
    }

    /// The same, both with objects of this format.
    #[allow(dead_code, reason = "not every test program cares")]
    pub fn in_format(objects: &str) -> Self {
        Self { objects: Some(objects.into()), ..Self::empty() }.cloned().begun()
    }

    /// The same without any commit.
    pub fn unborn() -> Self {
        Self::empty().cloned()
    }

    fn cloned(self) -> Self {
        let remote = self.remote();
        git::output(self.program("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&remote));
        git::output(self.program("git").args(["clone", "-q"]).arg(&remote).arg(self.root()).env("GIT_TRACE", "0"));
        self.init();
        self
    }

    fn begun(self) -> Self {
        self.write("README.md", "hello\n");
        self.git(&["add", "README.md", ".gitignore", "meta"]);
        self.git(&["commit", "-q", "-m", "begin"]);
        self.git(&["push", "-q", "-u", "origin", "main"]);
        self
    }

    /// A repository without a remote, made by `init` itself.
    pub fn alone() -> Self {
        let cloud = Self::empty();
        cloud.init();
        cloud
    }

    /// The same, on whatever `mount` puts where CLOUD is going to be; nothing where it cannot.
    pub fn alone_on<M>(mount: impl FnOnce(&Path) -> Option<M>) -> Option<(Self, M)> {
        let cloud = Self::empty();
        let mounted = mount(cloud.root())?;
        cloud.init();
        Some((cloud, mounted))
    }

    /// Only the home; CLOUD itself is not there.
    pub fn empty() -> Self {
        let world = TempDir::with_prefix("ghost-bridge-test-").unwrap();
        let home = world.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("gitconfig"), CONFIG_OF_GIT).unwrap();
        let root = world.path().join("cloud");
        let secret = format!("blackbox+{:032x}/=", rand::random::<u128>());
        Self { world, root, secret, serial: AtomicU32::new(0), objects: std::env::var_os(OBJECT_FORMAT) }
    }

    /// The same world once more, file by file. Its remote is its own only where CLOUD names it by `../remote.git`.
    pub fn copied(&self) -> Self {
        let world = TempDir::with_prefix("ghost-bridge-test-").unwrap();
        let from = format!("{}/.", self.world().display());
        git::output(Command::new("cp").arg("-a").arg(from).arg(world.path()));
        let root = world.path().join("cloud");
        Self { world, root, secret: self.secret.clone(), serial: AtomicU32::new(0), objects: self.objects.clone() }
    }

    fn init(&self) {
        let output = self.program(BINARY).arg("init").arg(self.root()).output().unwrap();
        assert!(output.status.success(), "init: {}", describe(&output));
    }

    pub fn world(&self) -> &Path {
        self.world.path()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn remote(&self) -> PathBuf {
        self.world().join("remote.git")
    }

    /// A path inside CLOUD.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A name in the world that was not used before.
    pub fn fresh(&self, stem: &str) -> PathBuf {
        let number = self.serial.fetch_add(1, Ordering::Relaxed);
        self.world().join(format!("{stem}-{number}"))
    }

    /// A program in a clean environment: nothing of the caller's but `PATH`.
    pub fn program(&self, program: &str) -> Command {
        let home = self.world().join("home");
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &home).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", home.join("gitconfig"));
        command.env("LC_ALL", "C.UTF-8").env("GIT_TERMINAL_PROMPT", "0").current_dir(self.world());
        // Whatever git makes by default: what becomes of the other format is tried by itself.
        command.env("GIT_DEFAULT_REF_FORMAT", "files");
        command.envs(self.objects.iter().map(|format| (OBJECT_FORMAT, format)));
        command
    }

    /// Puts a `git` before the real one that does what `script` says, and goes on as the real one if that comes to its
    /// end. Returns the `PATH` by which it is found.
    pub fn git_with(&self, script: &str) -> OsString {
        let path = std::env::var_os("PATH").unwrap();
        let folders: Vec<_> = std::env::split_paths(&path).collect();
        let real = folders.iter().map(|folder| folder.join("git")).find(|path| path.is_file()).expect("git is in PATH");
        let folder = self.fresh("bin");
        let git = folder.join("git");
        write(&git, format!("#!/bin/sh\n{script}\nexec \"{}\" \"$@\"\n", real.display()));
        set_mode(&git, 0o755);
        std::env::join_paths([folder].into_iter().chain(folders)).unwrap()
    }

    /// The bridge with `CLOUD` and the secret set.
    pub fn bridge(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(BINARY);
        command.args(arguments).env("CLOUD", self.root()).env("GPT_BRIDGE_HMAC_SECRET", &self.secret);
        command.env("GHOST_BRIDGE__HTTP__LISTEN", "127.0.0.1:0").env("GHOST_BRIDGE__PUBLISH__FETCH_SECS", "1");
        command
    }

    fn git_in(&self, folder: &Path) -> Command {
        let mut command = self.program("git");
        // The tests look on; they must not take the index lock that the bridge may want.
        command.arg("-C").arg(folder).env("GIT_OPTIONAL_LOCKS", "0");
        command
    }

    /// `git` in CLOUD.
    pub fn git(&self, arguments: &[&str]) -> String {
        self.git_at(&self.root, arguments)
    }

    /// `git` in the bare remote.
    pub fn remote_git(&self, arguments: &[&str]) -> String {
        self.git_at(&self.remote(), arguments)
    }

    /// `git` in any folder.
    pub fn git_at(&self, folder: &Path, arguments: &[&str]) -> String {
        git::output(self.git_in(folder).args(arguments))
    }

    /// Whether `git` with these arguments succeeds in `folder`.
    pub fn git_succeeds(&self, folder: &Path, arguments: &[&str]) -> bool {
        self.git_in(folder).args(arguments).output().unwrap().status.success()
    }

    /// What the remote's branch holds, oldest first.
    pub fn published(&self) -> Vec<Commit> {
        git::history(&mut self.git_in(&self.remote()), "main", true)
    }

    /// What CLOUD's branch holds, oldest first.
    pub fn committed(&self) -> Vec<Commit> {
        git::history(&mut self.git_in(&self.root), "HEAD", true)
    }

    /// The history of a repository's `main` without the commits' files: cheap enough to poll.
    pub fn subjects(&self, folder: &Path) -> Vec<Commit> {
        git::history(&mut self.git_in(folder), "main", false)
    }

    /// Another person's clone of the remote.
    pub fn other_clone(&self) -> PathBuf {
        let folder = self.fresh("other");
        git::output(self.program("git").args(["clone", "-q"]).arg(self.remote()).arg(&folder));
        folder
    }

    /// A person's commit of everything changed in another clone, with these files, pushed however often the bridge gets
    /// in between; returns its hash on the remote.
    pub fn push_from(&self, clone: &Path, changes: &[(&str, &str)]) -> String {
        changes.iter().for_each(|(path, content)| write(&clone.join(path), content));
        self.git_at(clone, &["add", "--all"]);
        self.git_at(
            clone,
            &[
                "commit",
                "-q",
                "-m",
                &format!("a person changes {:?}", changes.iter().map(|(path, _)| path).collect::<Vec<_>>()),
            ],
        );
        let pushed = poll(PATIENCE, || {
            self.git_succeeds(clone, &["pull", "-q", "--rebase", "origin", "main"])
                && self.git_succeeds(clone, &["push", "-q", "origin", "HEAD:main"])
        });
        assert!(pushed, "a person could not push {changes:?}");
        self.git_at(clone, &["rev-parse", "HEAD"])
    }

    /// Writes a file in CLOUD as a person would, with its parents.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        write(&self.path(relative), content);
    }

    pub fn read(&self, relative: &str) -> Vec<u8> {
        let path = self.path(relative);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn text(&self, relative: &str) -> String {
        String::from_utf8(self.read(relative)).unwrap()
    }

    pub fn json(&self, relative: &str) -> Value {
        serde_json::from_slice(&self.read(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
    }

    pub fn exists(&self, relative: &str) -> bool {
        self.path(relative).symlink_metadata().is_ok()
    }

    /// Puts bytes into `commands/` under this name, whole from the first moment.
    pub fn drop_file(&self, name: &str, bytes: &[u8]) {
        let hidden = self.path("commands").join(format!(".{:032x}.tmp", rand::random::<u128>()));
        fs::write(&hidden, bytes).unwrap();
        fs::rename(&hidden, self.path("commands").join(name)).unwrap();
    }

    /// Signs a document, puts it into `commands/<id>.json` and returns its bytes.
    pub fn submit(&self, document: &Doc) -> Vec<u8> {
        let bytes = document.signed(&self.secret);
        self.drop_file(&format!("{}.json", document.id()), &bytes);
        bytes
    }

    /// The names in `commands/` that are not hidden.
    pub fn waiting(&self) -> Vec<String> {
        names(&self.path("commands")).into_iter().filter(|name| !name.starts_with('.')).collect()
    }

    /// The dead letters, each with its name, wherever they lie.
    pub fn dead_letters(&self) -> Vec<(String, Value)> {
        loop {
            let all = files(&self.path("dead_letter")).into_iter();
            let shown: Vec<PathBuf> =
                all.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect();
            let read = |path: &PathBuf| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                let bytes = fs::read(path).ok()?;
                Some((name, serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path:?}: {error}"))))
            };
            // One that was rolled over in between is found again.
            if let Some(letters) = shown.iter().map(read).collect() {
                return letters;
            }
        }
    }

    /// Where the artifact lies that was filed under this flat path: there, or in a segment.
    pub fn filed(&self, flat: &str) -> Option<String> {
        let (folder, name) = flat.split_once('/').unwrap();
        let found: Vec<String> = files(&self.path(folder))
            .iter()
            .filter(|path| path.file_name().unwrap() == name)
            .map(|path| path.strip_prefix(&self.root).unwrap().to_str().unwrap().to_owned())
            .collect();
        assert!(found.len() <= 1, "{found:?}");
        found.into_iter().next()
    }

    /// A configuration file outside CLOUD.
    pub fn config(&self, toml: &str) -> PathBuf {
        let path = self.fresh("bridge").with_extension("toml");
        fs::write(&path, toml).unwrap();
        path
    }
}

/// Writes a file with its parents.
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A file's permission bits.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The names in a folder, sorted; none where it is missing.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A program's end, for messages.
pub fn describe(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n-- stdout\n{stdout}\n-- stderr\n{stderr}", output.status)
}
