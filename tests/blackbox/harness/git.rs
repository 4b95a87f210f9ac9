//! Repositories as the `git` program shows them.

use std::path::Path;
use std::process::Command;

/// The folders that the bridge may publish.
pub const SAFE: [&str; 8] = ["context", "results", "diffs", "summaries", "logs", "archive", "dead_letter", "meta"];

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub hash: String,
    pub parents: Vec<String>,
    pub subject: String,
    /// The paths it changes against its first parent, sorted.
    pub files: Vec<String>,
}

/// Runs a prepared `git` and returns its standard output without the last newline. Panics where it fails.
pub fn output(command: &mut Command) -> String {
    let output = command.output().expect("git runs");
    // `git fsck` names what it finds on standard output.
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{command:?}: {}: {stderr}{stdout}", output.status);
    let mut text = String::from_utf8(output.stdout).expect("git prints UTF-8");
    text.truncate(text.trim_end_matches('\n').len());
    text
}

/// All commits that `rev` reaches, oldest first, with the files of each where `files` says so. Empty for an unborn branch.
pub fn history(git: &mut Command, rev: &str, files: bool) -> Vec<Commit> {
    let format = "--format=%x01%H%x1f%P%x1f%s%x1f";
    git.args(["-c", "core.quotePath=false", "log", "--reverse", "--topo-order", "--root", "-m", "--first-parent"]);
    let result = git
        .args(["--no-renames", if files { "--name-only" } else { "--no-patch" }, format, rev, "--"])
        .output()
        .unwrap();
    if !result.status.success() {
        return Vec::new();
    }
    let text = String::from_utf8(result.stdout).unwrap();
    text.split('\u{1}').skip(1).map(commit).collect()
}

fn commit(text: &str) -> Commit {
    let mut fields = text.split('\u{1f}');
    let mut next = || fields.next().unwrap().to_owned();
    let (hash, parents, subject, rest) = (next(), next(), next(), next());
    let mut files: Vec<String> = rest.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    files.sort();
    Commit { hash, parents: parents.split_whitespace().map(str::to_owned).collect(), subject, files }
}

/// The commit that a repository's branch points at, read straight from its files: cheap enough to poll.
pub fn tip(git_dir: &Path, branch: &str) -> Option<String> {
    let name = format!("refs/heads/{branch}");
    if let Ok(text) = std::fs::read_to_string(git_dir.join(&name)) {
        return Some(text.trim().to_owned());
    }
    let packed = std::fs::read_to_string(git_dir.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| line.strip_suffix(&name).map(|hash| hash.trim().to_owned()))
}

/// The commits with this subject.
pub fn with_subject<'a>(history: &'a [Commit], subject: &str) -> Vec<&'a Commit> {
    history.iter().filter(|commit| commit.subject == subject).collect()
}

/// The commits of commands, executed or refused.
pub fn outcomes(history: &[Commit]) -> Vec<&Commit> {
    let is_outcome = |subject: &str| subject.starts_with("bridge: results ") || subject.starts_with("bridge: DLQ ");
    history.iter().filter(|commit| is_outcome(&commit.subject)).collect()
}

/// Asserts what holds for every history that a bridge wrote: it is linear, and the bridge's own commits touch the safe
/// folders alone.
pub fn assert_sound(history: &[Commit]) {
    for (number, commit) in history.iter().enumerate() {
        let expected: Vec<String> =
            number.checked_sub(1).map(|before| history[before].hash.clone()).into_iter().collect();
        assert_eq!(commit.parents, expected, "the history is not linear at {commit:?}");
        if commit.subject.starts_with("bridge: ") {
            for file in &commit.files {
                let top = file.split('/').next().unwrap();
                let safe = SAFE.contains(&top) && file.contains('/') && !file.starts_with("meta/journal/");
                assert!(safe, "{} was published by {:?}", file, commit.subject);
            }
        }
    }
}

/// The subject of an executed command's commit.
pub fn results(id: &str, exit_code: u8) -> String {
    format!("bridge: results {id} (exit={exit_code})")
}
