//! Fetch and push: two git children, and what their endings mean.

use gix::ObjectId;

use crate::core::Core;
use crate::error::WorkError;
use crate::git::{Git, GitError, failure};
use crate::refs::UPSTREAM;

/// How a fetch ended.
#[derive(Debug)]
pub enum Fetched {
    /// The remote's branch is there.
    Branch,
    /// The remote answered; it has no such branch.
    NoBranch,
    /// It did not work.
    Failed(GitError),
}

/// How a push ended.
#[derive(Debug)]
pub enum Pushed {
    /// The remote has it.
    Done,
    /// The remote's branch has something that we do not have.
    Overtaken(String),
    /// It did not work.
    Failed(GitError),
}

/// What the configuration says of the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteKind {
    /// Whether it is at github.com, which asks for few pushes.
    pub github: bool,
}

/// Fetches `branch` (its short name).
#[must_use]
pub fn fetch(git: &Git, remote: &str, branch: &str) -> Fetched {
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
    match git.run(&args, None) {
        Err(error) => Fetched::Failed(error),
        Ok(output) if output.status.success() => {
            supervision::crash_point!("remote.fetched");
            Fetched::Branch
        }
        Ok(output) => {
            let no_branch = String::from_utf8_lossy(&output.stderr).contains("couldn't find remote ref");
            if no_branch { Fetched::NoBranch } else { Fetched::Failed(failure(&args, &output)) }
        }
    }
}

/// Pushes a commit to `branch`. It is never forced.
#[must_use]
pub fn push(git: &Git, remote: &str, branch: &str, id: ObjectId) -> Pushed {
    let refspec = format!("{id}:refs/heads/{branch}");
    let args = ["push", "--porcelain", "--no-recurse-submodules", "--", remote, &refspec];
    match git.run(&args, None) {
        Err(error) => Pushed::Failed(error),
        Ok(output) if output.status.success() => {
            supervision::crash_point!("remote.pushed");
            Pushed::Done
        }
        Ok(output) => match rejection(&output.stdout) {
            Some(reason) if reason.starts_with("[rejected]") => Pushed::Overtaken(reason),
            Some(message) => {
                let status = output.status.to_string();
                Pushed::Failed(GitError::Failed { verb: "push".to_owned(), status, message })
            }
            None => Pushed::Failed(failure(&args, &output)),
        },
    }
}

/// What `--porcelain` says of a reference that was not taken: `!\t<from>:<to>\t[rejected] (fetch first)`.
fn rejection(stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("!\t"))?;
    Some(line.split('\t').nth(1).unwrap_or(line).to_owned())
}

impl Core {
    /// What the configuration says of the remote, read afresh; `None` where it is not configured.
    ///
    /// # Errors
    /// When git does not run.
    pub fn remote_kind(&self) -> Result<Option<RemoteKind>, WorkError> {
        let output = self.git.run(&["remote", "get-url", "--push", "--", &self.config.remote], None)?;
        if !output.status.success() {
            return Ok(None);
        }
        let url = String::from_utf8_lossy(&output.stdout).to_ascii_lowercase();
        Ok(Some(RemoteKind { github: is_github(url.trim()) }))
    }

    /// The children's runner, the remote and the branch, for [`fetch`] and [`push`].
    #[must_use]
    pub fn route(&self) -> (Git, String, String) {
        (self.git.clone(), self.config.remote.clone(), self.branch_name().to_owned())
    }
}

/// Whether a URL's host is github.com: `https://github.com/…`, `ssh://git@github.com:22/…`, `git@github.com:…`.
fn is_github(url: &str) -> bool {
    let authority = match url.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
        None => url.split_once(':').map(|(host, _)| host).unwrap_or_default(),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    host == "github.com" || host == "ssh.github.com" || host == "www.github.com"
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
    fn github_is_told_by_its_host_alone() {
        for yes in [
            "https://github.com/a/b",
            "https://me:t@github.com/a/b",
            "git@github.com:a/b.git",
            "ssh://git@github.com:22/a",
        ] {
            assert!(is_github(yes), "{yes}");
        }
        for no in [
            "/srv/github.com/a",
            "https://example.org/github.com",
            "git@gitlab.com:github.com/a",
            "https://notgithub.com/a",
        ] {
            assert!(!is_github(no), "{no}");
        }
    }
}
