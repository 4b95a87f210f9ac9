//! A root with files, a folder in which a check may write, and a pipe that tells who is still alive.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use executor::config::{CheckConfig, Requirement};
use executor::sandbox::{End, Facilities, Launcher, RunCheck as _, RunReport};

/// How long a condition may take; a loaded machine never decides a test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The variable that says that the kernel grants no namespaces in this run.
pub const NO_NAMESPACES: &str = "SANDBOX_TEST_NO_NAMESPACES";

/// A temporary folder that everybody can look into.
pub fn open_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Whether there are namespaces: they are wanted, and the kernel grants them.
pub fn granted(facilities: Facilities) -> bool {
    facilities.namespaces && std::env::var_os(NO_NAMESPACES).is_none()
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub launcher: Launcher,
    pub program: CheckConfig,
    pub limit: Duration,
}

impl World {
    /// A check that runs `script` in a shell; it may write in `out`.
    pub fn new(facilities: Facilities, script: &str) -> Self {
        let dir = open_folder();
        fs::create_dir_all(dir.path().join("root/out")).unwrap();
        fs::create_dir_all(dir.path().join("root/docs")).unwrap();
        fs::write(dir.path().join("root/docs/a.txt"), "one\n").unwrap();
        fs::write(dir.path().join("outside.txt"), "nobody's business\n").unwrap();
        let program = CheckConfig {
            argv: vec!["bash".to_owned(), "-c".to_owned(), script.to_owned()],
            max_runtime_ms: 60_000,
            sandbox: Requirement::Required,
            writable: vec!["out".to_owned()],
            readable: Vec::new(),
        };
        Self { dir, launcher: Launcher::with(facilities), program, limit: PATIENCE }
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn root(&self) -> Dir {
        Dir::open_ambient_dir(self.at("root"), ambient_authority()).unwrap()
    }

    pub fn run(&self) -> RunReport {
        self.launcher.run(&self.program, &self.root(), self.limit)
    }

    /// What a script prints that must end well.
    pub fn prints(&self) -> String {
        let report = self.run();
        assert_eq!(report.end, End::Exited(0), "{report:?}");
        report.stdout
    }

    /// A pipe in the folder that may be written. Whoever opened it for writing, and everybody to whom they passed it on,
    /// must be gone before it comes to its end.
    pub fn pipe(&self) -> Pipe {
        Pipe::at(self.at("root/out/pipe"))
    }
}

pub struct Pipe(File);

impl Pipe {
    pub fn at(path: PathBuf) -> Self {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        Self(File::options().read(true).custom_flags(flags).open(path).unwrap())
    }

    /// All that was written, and whether a writer is alive.
    pub fn read(&mut self) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        match self.0.read_to_end(&mut all) {
            Ok(_) => (all, false),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                (all, true)
            }
        }
    }
}

/// Polls `condition` until it holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
