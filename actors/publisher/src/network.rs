//! Fetch and push: two git children, and what their endings mean.
//!
//! A push is a compare-and-swap. It says which commit the remote's branch must be at (`--force-with-lease`, whose
//! name says too much), and the remote is left alone if it is anywhere else: moved on, rewritten, set back to an older
//! commit, gone, or there where it should not be. With a plain push git looks only whether the remote's commit is an
//! ancestor of ours: a branch that somebody set back meanwhile would get back what was dropped. The flag also makes git
//! take a push that is no fast-forward, if the expectation is met. That cannot come up: what is pushed descends from
//! what is expected ([`crate::core::Core::aim`] makes no other aim), so every push that is taken adds, and takes nothing away.
//! So no fetch is needed before a push: one that was refused tells that there is something to be fetched.

use std::path::PathBuf;

use gix::ObjectId;

use crate::ahead::Part;
use crate::core::Core;
use crate::destination::Destination;
use crate::git::words::of_the_remote;
use crate::git::{Git, GitError, Output, failure};
use crate::refs::UPSTREAM;

/// How a fetch ended.
#[derive(Debug)]
pub enum Fetched {
    /// The remote's branch is there.
    Branch,
    /// The remote answered; it has no such branch.
    NoBranch,
    /// The remote answered with objects that git refuses.
    Refused(String),
    /// It did not work.
    Failed(GitError),
}

/// What a push is to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aim {
    /// The commits that it takes along; the last one descends from `expected`.
    pub part: Part,
    /// The commit that the remote's branch must be at; `None`: it must not be there.
    pub expected: Option<ObjectId>,
}

/// How a push ended.
#[derive(Debug)]
pub enum Pushed {
    /// The remote has it.
    Done,
    /// The remote's branch is not where it was expected.
    Overtaken(String),
    /// It did not work.
    Failed(GitError),
}

/// What is pushed was written as deltas already, which are reused as they are. A search for better ones is half of what
/// a push costs here, and finds six per cent.
const NO_DELTA_SEARCH: [&str; 2] = ["-c", "pack.window=0"];

/// Where the remote's branch is decides what the work tree lacks: it is durable before anything is taken in.
const DURABLE_REFERENCE: [&str; 2] = ["-c", "core.fsync=reference"];

/// What is fetched is checked, object by object. What old and careless tools wrote into many a history stays a warning:
/// it harms nobody, and of what reaches index and work tree every path is looked at besides ([`crate::incoming`]).
const TOLERATED: [&str; 27] = [
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badName",
    "badTimezone",
    "duplicateEntries",
    "emptyName",
    "fullPathname",
    "gitattributesLarge",
    "gitattributesLineLength",
    "hasDot",
    "hasDotdot",
    "hasDotgit",
    "largePathname",
    "missingAuthor",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "nulInCommit",
    "nullSha1",
    "symlinkTargetBlob",
    "symlinkTargetLength",
    "treeNotSorted",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
];

/// Options for a fetch that is checked.
fn checked() -> Vec<String> {
    let mut options: Vec<String> = DURABLE_REFERENCE.map(str::to_owned).into();
    options.extend(["-c".to_owned(), "fetch.fsckObjects=true".to_owned()]);
    for tolerated in TOLERATED {
        options.extend(["-c".to_owned(), format!("fetch.fsck.{tolerated}=warn")]);
    }
    options
}

/// Whither, and with what.
#[derive(Clone, Debug)]
pub struct Route {
    /// The children's runner.
    pub git: Git,
    /// The remote's name.
    pub remote: String,
    /// Options that git needs for this remote.
    pub options: Vec<String>,
    /// The branch's short name.
    pub branch: String,
    /// The folder of the repository's objects.
    pub objects: PathBuf,
    /// By what they are named.
    pub ids: gix::hash::Kind,
}

impl Route {
    /// Leads to another remote from now on.
    pub fn lead_to(&mut self, destination: &Destination) {
        (self.remote, self.options) = (destination.remote.clone(), destination.options());
    }
}

/// Fetches the branch.
#[must_use]
pub fn fetch(Route { git, remote, options, branch, .. }: &Route) -> Fetched {
    let refspec = format!("+refs/heads/{branch}:{UPSTREAM}");
    let args = [
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-auto-maintenance",
        "--no-write-fetch-head",
        "--no-prune",
        "--no-recurse-submodules",
        "--",
        remote,
        &refspec,
    ];
    let options: Vec<String> = checked().into_iter().chain(options.iter().cloned()).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    match git.run_with(&options, &args) {
        Err(error) => Fetched::Failed(error),
        Ok(output) if output.status.success() => {
            supervision::crash_point!("remote.fetched");
            Fetched::Branch
        }
        Ok(output) => {
            let says = String::from_utf8_lossy(&output.stderr);
            if says.contains("couldn't find remote ref") {
                return Fetched::NoBranch;
            }
            match refused(&says) {
                Some(object) => Fetched::Refused(object),
                None => Fetched::Failed(failure(&args, &output)),
            }
        }
    }
}

/// The object that git's check refused: `error: object 1f2e…: gitmodulesUrl: disallowed submodule url: …`.
fn refused(stderr: &str) -> Option<String> {
    let checked = |line: &str| line.contains("fsck error");
    let object = |line: &&str| line.starts_with("error: object ");
    let line = stderr.lines().find(object).or_else(|| stderr.lines().find(|line| checked(line)));
    let line = line.filter(|_| stderr.lines().any(checked))?;
    Some(line.trim_start_matches("error: ").chars().filter(|c| !c.is_control()).take(200).collect())
}

/// Pushes to the branch if it is where it is expected. It is never forced.
#[must_use]
pub fn push(Route { git, remote, options, branch, .. }: &Route, aim: &Aim) -> Pushed {
    let refspec = format!("{}:refs/heads/{branch}", aim.part.tip);
    let expected = aim.expected.map(|id| id.to_string()).unwrap_or_default();
    let lease = format!("--force-with-lease=refs/heads/{branch}:{expected}");
    let flags = ["push", "--porcelain", "--no-recurse-submodules", "--no-follow-tags"];
    let args = [flags.as_slice(), &[&lease, "--", remote, &refspec]].concat();
    let options: Vec<&str> = NO_DELTA_SEARCH.into_iter().chain(options.iter().map(String::as_str)).collect();
    match git.run_with(&options, &args) {
        Err(error) => Pushed::Failed(error),
        Ok(output) if output.status.success() => {
            supervision::crash_point!("remote.pushed");
            Pushed::Done
        }
        Ok(output) => match rejection(&output.stdout) {
            Some(reason) if is_overtaken(&reason, &output.stderr) => Pushed::Overtaken(reason),
            Some(refused) => {
                let status = output.status.to_string();
                let message = match of_the_remote(&output.stderr) {
                    Some(words) => format!("{refused}: {words}"),
                    None => refused,
                };
                Pushed::Failed(GitError::Failed { verb: "push".to_owned(), status, message })
            }
            // A hook of ours that refuses may have said so on either.
            None => {
                let said = [output.stderr.as_slice(), b"\n", &output.stdout].concat();
                Pushed::Failed(failure(&args, &Output { stderr: said, ..output }))
            }
        },
    }
}

/// Whether a reference was not taken because it is elsewhere: seen by our side before anything was sent, or by the
/// remote when it was about to move it. The remote's words differ between versions and hosts.
fn is_overtaken(reason: &str, stderr: &[u8]) -> bool {
    const MOVED: [&str; 4] =
        ["but expected", "incorrect old value", "reference already exists", "reference is missing"];
    let says = |text: &str| MOVED.iter().any(|word| text.contains(word));
    reason.starts_with("[rejected]") || says(reason) || says(&String::from_utf8_lossy(stderr))
}

/// What `--porcelain` says of a reference that was not taken: `!\t<from>:<to>\t[rejected] (fetch first)`.
fn rejection(stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("!\t"))?;
    Some(line.split('\t').nth(1).unwrap_or(line).to_owned())
}

impl Core {
    /// For [`fetch`] and [`push`], and for what else is done beside the work on the repository.
    #[must_use]
    pub fn route(&self) -> Route {
        Route {
            git: self.git.clone(),
            remote: self.destination.as_ref().map(|it| it.remote.clone()).unwrap_or_default(),
            options: self.destination.as_ref().map(Destination::options).unwrap_or_default(),
            branch: self.branch_name().to_owned(),
            objects: self.objects().to_owned(),
            ids: self.store.ids(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_read_from_the_porcelain() {
        let text = b"To /r.git\n!\tabc:refs/heads/main\t[rejected] (fetch first)\nDone\n";
        assert_eq!(rejection(text).as_deref(), Some("[rejected] (fetch first)"));
        assert_eq!(rejection(b"To x\n*\ta:b\t[new branch]\n"), None);
    }

    #[test]
    fn a_remote_that_moved_is_told_from_one_that_refuses() {
        let moved = b"remote: error: cannot lock ref 'refs/heads/main': is at 1f but expected 2e\n";
        assert!(is_overtaken("[rejected] (stale info)", b""));
        assert!(is_overtaken("[remote rejected] (failed to update ref)", moved));
        assert!(is_overtaken("[remote rejected] (incorrect old value provided)", b""));
        let locked = b"remote: error: cannot lock ref 'refs/heads/main': Unable to create 'main.lock': File exists.\n";
        assert!(!is_overtaken("[remote rejected] (failed to update ref)", locked));
        assert!(!is_overtaken("[remote rejected] (pre-receive hook declined)", b"remote: no\n"));
    }

    #[test]
    fn what_gits_check_refuses_is_told_from_a_remote_that_is_away() {
        let says = "warning: object 1a: hasDot: contains '.'\nerror: object 2b: gitmodulesUrl: disallowed submodule url: -u\n\
                    fatal: fsck error in packed object\nfatal: fetch-pack: invalid index-pack output\n";
        assert_eq!(refused(says).as_deref(), Some("object 2b: gitmodulesUrl: disallowed submodule url: -u"));
        for other in ["fatal: '/r.git' does not appear to be a git repository\n", "error: object 2b is missing\n", ""] {
            assert_eq!(refused(other), None, "{other}");
        }
    }
}
