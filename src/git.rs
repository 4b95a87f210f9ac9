//! Small questions to the `git` program: which work tree, which hooks folder, which commits.
//!
//! For the command line only; publishing has its own way to git. Every child has a time limit, bounded output, no
//! terminal, and is started as publishing starts its own ([`publisher::git::environment`]). What was inherited and would
//! point git, or its library, to another repository is taken out of the process itself, before anything else happens.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use protocol::git_id::ObjectFormat;
use publisher::git::environment;

use crate::exit::one_line;

/// The longest that one question may take.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How often a running child is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// The most that is kept of each of a child's outputs, in bytes.
const MAX_OUTPUT_BYTES: u64 = 4 * 1024 * 1024;
/// Why git gave no answer. Displays without a line break.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program cannot be started.
    #[error("cannot start git ({0}); install git 2.30 or newer and see that it is in PATH")]
    Start(#[source] std::io::Error),
    /// It said no.
    #[error("git {what} failed: {words}")]
    Failed {
        /// The subcommand.
        what: String,
        /// What it printed to stderr.
        words: String,
    },
    /// It took too long.
    #[error("git {what} did not end within {} s", .limit.as_secs())]
    TooSlow {
        /// The subcommand.
        what: String,
        /// The longest that it may take.
        limit: Duration,
    },
    /// It printed too much.
    #[error("git {what} printed more than {max_bytes} bytes")]
    TooMuch {
        /// The subcommand.
        what: String,
        /// The most that is taken.
        max_bytes: u64,
    },
}

/// What one question may take.
struct Bounds {
    max_bytes: u64,
    limit: Duration,
    hooks: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_bytes: MAX_OUTPUT_BYTES, limit: TIME_LIMIT, hooks: false }
    }
}

/// The names of the variables that [`forget_inherited`] took out.
static FORGOTTEN: OnceLock<Vec<String>> = OnceLock::new();

/// Takes out of the environment what is git's and does not belong to the operator's login: whatever started the bridge
/// (a hook, a job, an agent's shell) had it for a repository of its own.
///
/// # Safety
/// No other thread may exist yet.
#[allow(unsafe_code)]
pub unsafe fn forget_inherited() {
    let foreign = std::env::vars_os().map(|(name, _)| name).filter(|name| environment::is_foreign(name));
    let foreign: Vec<_> = foreign.collect();
    for name in &foreign {
        // SAFETY: the caller guarantees that nobody else touches the environment.
        unsafe { std::env::remove_var(name) };
    }
    let _first = FORGOTTEN.set(foreign.iter().map(|name| name.to_string_lossy().into_owned()).collect());
}

/// The names of the variables that were taken out.
#[must_use]
pub fn forgotten() -> &'static [String] {
    FORGOTTEN.get().map(Vec::as_slice).unwrap_or_default()
}

/// What git prints when asked `args` in `folder`, without the final line break.
///
/// # Errors
/// When it cannot be started, fails, or takes too long.
pub fn ask(folder: &Path, args: &[&str]) -> Result<String, GitError> {
    ask_within(folder, args, TIME_LIMIT)
}

/// The same, within `limit`.
///
/// # Errors
/// The same.
pub fn ask_within(folder: &Path, args: &[&str], limit: Duration) -> Result<String, GitError> {
    text(folder, args, Bounds { limit, ..Bounds::default() })
}

/// The same as [`ask`], with the hooks that a person's git has: where they are, or that they run.
///
/// # Errors
/// The same.
pub fn ask_with_hooks(folder: &Path, args: &[&str]) -> Result<String, GitError> {
    text(folder, args, Bounds { hooks: true, ..Bounds::default() })
}

fn text(folder: &Path, args: &[&str], bounds: Bounds) -> Result<String, GitError> {
    let (stdout, _) = run(folder, args, None, bounds)?;
    let text = String::from_utf8_lossy(&stdout).into_owned();
    Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
}

/// By what git names files' bytes in the repository that `folder` belongs to; outside of any, by what `git apply` takes
/// there.
#[must_use]
pub fn object_format(folder: &Path) -> ObjectFormat {
    match ask(folder, &["rev-parse", "--show-object-format"]) {
        Ok(format) if format == "sha256" => ObjectFormat::Sha256,
        _ => ObjectFormat::Sha1,
    }
}

/// What git prints when asked `args` in `folder`, given `input`, byte for byte. Objects are taken as they are in this
/// repository: none is replaced, none is fetched.
///
/// # Errors
/// When it cannot be started, fails, takes too long, or prints more than `max_bytes`.
pub fn read(folder: &Path, args: &[&str], input: Vec<u8>, max_bytes: u64) -> Result<Vec<u8>, GitError> {
    let (stdout, is_whole) = run(folder, args, Some(input), Bounds { max_bytes, ..Bounds::default() })?;
    let what = || (*args.first().unwrap_or(&"")).to_owned();
    if is_whole { Ok(stdout) } else { Err(GitError::TooMuch { what: what(), max_bytes }) }
}

/// Runs git; also says whether all of its output is there.
fn run(folder: &Path, args: &[&str], input: Option<Vec<u8>>, bounds: Bounds) -> Result<(Vec<u8>, bool), GitError> {
    let Bounds { max_bytes, limit, hooks } = bounds;
    let what = || (*args.first().unwrap_or(&"")).to_owned();
    let mut command = environment::prepared(&[folder.to_owned()], hooks);
    command.args(args).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    // For a repository that is made. A git that knows no other format does not know the option.
    command.env("GIT_DEFAULT_REF_FORMAT", "files");
    if input.is_some() {
        command.env("GIT_NO_REPLACE_OBJECTS", "1").env("GIT_NO_LAZY_FETCH", "1").env("GIT_LITERAL_PATHSPECS", "1");
    }
    let mut child = command.spawn().map_err(GitError::Start)?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // Git may end before it has read everything; its exit status tells.
        std::thread::spawn(move || pipe.write_all(&input));
    }
    let (stdout, stderr) = (collect(child.stdout.take(), max_bytes), collect(child.stderr.take(), MAX_OUTPUT_BYTES));
    let Some(status) = wait(&mut child, limit) else {
        // The readers end by themselves once the last holder of the pipes is gone; nobody waits for them.
        let _ = child.kill();
        let _ = child.wait();
        return Err(GitError::TooSlow { what: what(), limit });
    };
    let (stdout, is_whole) = stdout.join().unwrap_or_default();
    let (stderr, _) = stderr.join().unwrap_or_default();
    if !status.success() {
        return Err(GitError::Failed { what: what(), words: one_line(&String::from_utf8_lossy(&stderr)) });
    }
    Ok((stdout, is_whole))
}

/// Reads a pipe to its end; keeps at most `max_bytes` and says whether that is all.
fn collect(
    pipe: Option<impl std::io::Read + Send + 'static>,
    max_bytes: u64,
) -> std::thread::JoinHandle<(Vec<u8>, bool)> {
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return (Vec::new(), true) };
        let mut kept = Vec::new();
        // What cannot be read is missing from the answer; the exit status decides anyway.
        let read = pipe.by_ref().take(max_bytes).read_to_end(&mut kept);
        let rest = std::io::copy(&mut pipe, &mut std::io::sink());
        (kept, read.is_ok() && rest.is_ok_and(|rest| rest == 0))
    })
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::sleep(LOOK),
            Err(_) => return None,
        }
    }
    None
}
