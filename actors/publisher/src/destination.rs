//! Whither commits are published, by git's own configuration; and whether that configuration is one to start a child
//! with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::PublisherConfig;
use crate::core::Core;
use crate::error::{OpenError, WorkError};
use crate::git::Git;
use crate::git::programs::{self, Fences};
use crate::git::settings::{NoChoice, Settings, choose};
use crate::git::words::without_credentials;
use crate::open::{branch_of, open_repository};
use crate::{half_done, refs};

/// The remote that the branch is published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its name.
    pub remote: String,
    /// Where its pushes go, without credentials.
    pub url: String,
    /// Whether it is at github.com, which asks for few pushes.
    pub github: bool,
    /// Whether it is set up as a mirror, which git pushes to as a whole only.
    pub mirror: bool,
}

impl Destination {
    /// Options that git needs for it: to a mirror it pushes no single branch.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let not_whole = || vec!["-c".to_owned(), format!("remote.{}.mirror=false", self.remote)];
        if self.mirror { not_whole() } else { Vec::new() }
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Look {
    /// The branch that is checked out; `None` while a rebase stands still, which a start gives up.
    pub branch: Option<String>,
    /// The remote; `None`: commits stay local.
    pub destination: Option<Destination>,
    /// Git's configuration.
    pub settings: Settings,
}

/// Looks at the repository of `config` without changing anything or asking any remote.
///
/// # Errors
/// When it cannot be published from, with the remedy.
pub fn look(config: &PublisherConfig) -> Result<Look, OpenError> {
    let repo = open_repository(&config.cloud)?;
    let cloud = config.cloud.canonicalize().unwrap_or_else(|_| config.cloud.clone());
    let git = runner(config, &cloud, Arc::default());
    let settings = ask(config, &git, &folders(&repo))?;
    let branch = match half_done::rebase(&repo) {
        Ok(Some(_)) => None,
        _ => Some(branch_of(&repo, &cloud)?),
    };
    let short = branch.as_deref().map(refs::short).unwrap_or_default().to_owned();
    Ok(Look { destination: destination(config, &settings, &short)?, branch: branch.map(|_| short), settings })
}

/// Git's own folders: the work tree's, and the one that several may share.
pub(crate) fn folders(repo: &gix::Repository) -> [PathBuf; 2] {
    [repo.git_dir(), repo.common_dir()].map(Path::to_owned)
}

/// A runner for the children of `config`.
pub(crate) fn runner(config: &PublisherConfig, cloud: &Path, cancel: Arc<std::sync::atomic::AtomicBool>) -> Git {
    Git::new(cloud, config.git_time_limit, cancel).with_fenced(&config.targets).with_hooks(config.hooks)
}

/// Git's configuration, judged.
pub(crate) fn ask(config: &PublisherConfig, git: &Git, folders: &[PathBuf; 2]) -> Result<Settings, OpenError> {
    let cloud = git.folder();
    let unreadable = |cause: String| OpenError::Unreadable { cloud: cloud.to_owned(), cause };
    let variable = |name: &str| std::env::var(name).ok();
    let settings = Settings::ask(git, others(folders, &variable)).map_err(|e| unreadable(e.to_string()))?;
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let git_dirs: Vec<PathBuf> = folders.iter().map(|folder| real(folder)).collect();
    let fences = Fences { cloud: cloud.to_owned(), git_dirs, targets: config.targets.clone() };
    programs::judge(&settings, &fences, config.hooks, &variable)
        .and_then(|()| hooks(config, &settings, &fences, folders))
        .map_err(|danger| OpenError::Danger { what: danger.what, why: danger.why, remedy: danger.remedy })?;
    Ok(settings)
}

/// Files that git reads its configuration from as soon as they are there.
fn others([own, common]: &[PathBuf; 2], variable: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let own = [common.join("config"), own.join("config.worktree")];
    let path = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = path("HOME");
    let settings = path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let global = match path("GIT_CONFIG_GLOBAL") {
        Some(file) => vec![file],
        None => home
            .map(|home| home.join(".gitconfig"))
            .into_iter()
            .chain(settings.map(|at| at.join("git/config")))
            .collect(),
    };
    own.into_iter().chain(global).collect()
}

/// A hook that is wished for may be a link into CLOUD.
fn hooks(
    config: &PublisherConfig,
    settings: &Settings,
    fences: &Fences,
    [_, common]: &[PathBuf; 2],
) -> Result<(), programs::Danger> {
    if !config.hooks {
        return Ok(());
    }
    // The folder itself is judged with the other settings.
    let folder = match settings.get("core", None, "hookspath").map(Path::new) {
        None => common.join("hooks"),
        Some(path) if path.is_absolute() => path.to_owned(),
        Some(_) => return Ok(()),
    };
    for name in HOOKS {
        if let Some(why) = fences.find(&folder.join(name)) {
            let what = format!("the hook {name}");
            return Err(programs::Danger { what, why, remedy: "put the program itself in its place".to_owned() });
        }
    }
    Ok(())
}

/// The hooks that a fetch or a push runs.
const HOOKS: [&str; 3] = ["pre-push", "reference-transaction", "post-index-change"];

/// The destination that the configuration names.
pub(crate) fn destination(
    config: &PublisherConfig,
    settings: &Settings,
    branch: &str,
) -> Result<Option<Destination>, OpenError> {
    let cloud = || config.cloud.clone();
    let remote = choose(settings, branch, config.remote.as_deref()).map_err(|fault| match fault {
        NoChoice::Several(remotes) => OpenError::ManyRemotes { cloud: cloud(), remotes: remotes.join(", ") },
        NoChoice::Missing(remote, others) => {
            OpenError::NoSuchRemote { cloud: cloud(), remote, others: others.join(", ") }
        }
    })?;
    Ok(remote.map(|remote| {
        let url = settings.push_url(&remote).unwrap_or_default();
        Destination {
            github: is_github(&url.to_ascii_lowercase()),
            url: without_credentials(&url),
            mirror: settings.is_true("remote", Some(&remote), "mirror"),
            remote,
        }
    }))
}

impl Core {
    /// Whither commits are published, asked again when git's configuration has changed.
    ///
    /// # Errors
    /// When git cannot be asked, or its configuration is not one to start a child with.
    pub fn destination(&mut self) -> Result<Option<Destination>, WorkError> {
        if !self.settings.is_current() {
            self.settings = ask(&self.config, &self.git, &folders(self.store.repo()))?;
            self.destination = destination(&self.config, &self.settings, refs::short(&self.branch))?;
        }
        Ok(self.destination.clone())
    }

    /// The remote's name, for people.
    pub(crate) fn remote_name(&self) -> &str {
        self.destination.as_ref().map_or("the remote", |destination| &destination.remote)
    }

    /// The reference under which a person's git knows the remote's branch.
    pub(crate) fn tracking(&self) -> Option<String> {
        let remote = &self.destination.as_ref()?.remote;
        Some(format!("refs/remotes/{remote}/{}", self.branch_name()))
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
