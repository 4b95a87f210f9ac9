//! Opening the repository: what must hold before anything is published.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use rustix::fs::{Access, access};

use crate::ahead::Ahead;
use crate::apart::Apart;
use crate::commit::Signer;
use crate::config::PublisherConfig;
use crate::core::Core;
use crate::destination;
use crate::error::{OpenError, WorkError};
use crate::files::Root;
use crate::git::{Git, check_version};
use crate::half_done;
use crate::index::Keeper;
use crate::instance;
use crate::leftovers;
use crate::objects::Store;
use crate::refs;
use crate::retry_index::RetryIndex;
use crate::rollover::Rolling;
use crate::tree::SafeTree;

/// Memory for objects that are read again and again.
const OBJECT_CACHE_BYTES: usize = 8 << 20;

/// Packs that can be open at a time. The library fixes the number when a repository is opened; packs are consolidated
/// long before there are so many.
const PACK_SLOTS: u16 = 8192;

/// Checks that CLOUD can be published: a git work tree's top, on a branch, with a git program that is new enough.
///
/// # Errors
/// With the remedy, in one line.
pub fn open_check(config: &PublisherConfig) -> Result<(), OpenError> {
    check_version(&Git::new(&existing(&config.cloud)?, config.git_time_limit, Arc::default()))?;
    let repo = open_repository(&config.cloud)?;
    writable(&repo)?;
    // A rebase that stands still is given up at the start, once the instance lock is held.
    match destination::look(config)?.branch {
        None => Ok(()),
        Some(branch) => remote_is_there(&repo, &branch, &config.cloud),
    }
}

/// Checks that the repository in CLOUD keeps its objects and references in a format that can be published to; says which.
///
/// # Errors
/// When it does not, or is no repository that can be opened: with the remedy, in one line.
pub fn format_check(cloud: &Path) -> Result<String, OpenError> {
    let repo = open_repository(cloud)?;
    Ok(format!("objects are named by {}, references kept as files", repo.object_hash()))
}

/// Refuses a configuration that knows no remote any more, although the branch was seen at one: git takes the reference
/// away with the remote, so that one without the other is what is left of a configuration that was lost.
fn remote_is_there(repo: &gix::Repository, branch: &str, cloud: &Path) -> Result<(), OpenError> {
    if !repo.remote_names().is_empty() {
        return Ok(());
    }
    let short = branch.strip_prefix("refs/heads/").unwrap_or(branch);
    let Some(seen) = refs::names(repo, "refs/remotes/").into_iter().find(|name| name.ends_with(&format!("/{short}")))
    else {
        return Ok(());
    };
    let remote = seen.trim_start_matches("refs/remotes/").trim_end_matches(short).trim_end_matches('/').to_owned();
    let cloud = cloud.display();
    Err(OpenError::Damaged {
        file: repo.common_dir().join("config"),
        what: "without a remote".to_owned(),
        remedy: format!(
            "but {seen} tells that there was one: git -C {cloud} remote add {remote} URL; if commits are to stay local from \
             now on: git -C {cloud} update-ref -d {seen}"
        ),
    })
}

/// Whether git's folders can be written: for what is executed must be published, too.
fn writable(repo: &gix::Repository) -> Result<(), OpenError> {
    for folder in [repo.git_dir(), repo.common_dir(), repo.objects.store_ref().path()] {
        access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|e| OpenError::Unwritable { folder: folder.to_owned(), cause: io::Error::from(e).to_string() })?;
    }
    Ok(())
}

/// A child cannot be started in a folder that is not there.
fn existing(cloud: &Path) -> Result<PathBuf, OpenError> {
    cloud.canonicalize().map_err(|e| OpenError::NotARepository { cloud: cloud.to_owned(), cause: e.to_string() })
}

pub(crate) fn open_repository(cloud: &Path) -> Result<gix::Repository, OpenError> {
    let cloud = existing(cloud)?;
    let options = gix::open::Options::default().object_store_slots(gix::odb::store::init::Slots::Given(PACK_SLOTS));
    let mut repo = match gix::open_opts(&cloud, options) {
        Ok(repo) => repo,
        Err(error) => return Err(no_repository(cloud, &error.to_string())),
    };
    supported(&repo, &cloud)?;
    let Some(top) = repo.workdir().map(Path::to_owned) else { return Err(OpenError::Bare { cloud }) };
    let top = top.canonicalize().unwrap_or(top);
    if top != cloud {
        return Err(OpenError::NotTheTop { cloud, top });
    }
    repo.object_cache_size(OBJECT_CACHE_BYTES);
    Ok(repo)
}

/// Refuses references that are not kept as files: whoever reads them as such reports damage. Objects may be named by
/// either of git's hashes.
///
/// The library reads no reftable, and git 2.47 does not write one that a power cut leaves whole: it syncs a table before
/// the end of it is written, whatever `core.fsync` says. All references are lost with one such table.
fn supported(repo: &gix::Repository, cloud: &Path) -> Result<(), OpenError> {
    match repo.config_snapshot().string("extensions.refStorage") {
        Some(format) if !format.eq_ignore_ascii_case(b"files") => {
            Err(OpenError::Format { cloud: cloud.to_owned(), references: format.to_string() })
        }
        _ => Ok(()),
    }
}

/// Tells a folder inside somebody's work tree from one that has nothing to do with git.
fn no_repository(cloud: PathBuf, cause: &str) -> OpenError {
    match cloud.ancestors().skip(1).find(|above| above.join(".git").exists()) {
        Some(top) => OpenError::NotTheTop { top: top.to_owned(), cloud },
        None => OpenError::NotARepository { cloud, cause: cause.lines().next().unwrap_or_default().to_owned() },
    }
}

pub(crate) fn branch_of(repo: &gix::Repository, cloud: &Path) -> Result<String, OpenError> {
    let unreadable = |e: WorkError| OpenError::Unreadable { cloud: cloud.to_owned(), cause: e.to_string() };
    refs::head_branch(repo).map_err(unreadable)?.ok_or_else(|| OpenError::Detached { cloud: cloud.to_owned() })
}

impl Core {
    /// Opens the repository and finds out what an earlier run left to do. `first` is true once a process: only then are
    /// stale locks removed.
    ///
    /// # Errors
    /// When the repository is not fit, or the disk refuses.
    pub fn open(
        config: PublisherConfig,
        cancel: Arc<AtomicBool>,
        first: bool,
        now: DateTime<Utc>,
    ) -> Result<Self, WorkError> {
        let repo = open_repository(&config.cloud)?;
        let cloud = existing(&config.cloud)?;
        let git = destination::runner(&config, &cloud, cancel);
        // Before the first child that might run what it names.
        let settings = destination::ask(&config, &git, &destination::folders(&repo))?;
        let git = git.with_own_ssh(settings.get("core", None, "sshcommand").is_some());
        if first {
            leftovers::remove_locks(&repo);
            if let Some(rebase) = half_done::rebase(&repo)? {
                half_done::give_up(&repo, &rebase, now)?;
            }
            leftovers::remove_unfinished_packs(&repo.objects.store_ref().path().join("pack"), SystemTime::from(now));
            leftovers::tell_of_operations(&repo);
        }
        let branch = branch_of(&repo, &cloud)?;
        let head = refs::read(&repo, &branch)?;
        let destination = destination::destination(&config, &settings, refs::short(&branch))?;
        let mut core = Self {
            root: Root::open(&cloud).map_err(|e| WorkError::io(&cloud, e))?,
            signer: Signer::new(&config.author_name, &config.author_email),
            instance: instance::of(repo.git_dir()),
            acquainted: false,
            apart: Apart::open(repo.git_dir()),
            store: Store::new(repo),
            config,
            git,
            branch,
            head: None,
            loaded: false,
            tree: SafeTree::default(),
            log: Vec::new(),
            last_hash: None,
            recovery: None,
            remembered: Default::default(),
            gap_at: None,
            ahead: Ahead::default(),
            base: None,
            descends: true,
            excess: 0,
            absent: false,
            owed: None,
            seen: BTreeMap::new(),
            retries: RetryIndex::default(),
            rolling: Rolling::default(),
            index: Keeper::default(),
            keep: None,
            foreign: true,
            behind: false,
            settings,
            destination,
        };
        core.load(head)?;
        core.open_notes()?;
        let left = refs::read(core.store.repo(), refs::INDEXED)?;
        core.open_kept(left, now)?;
        core.open_indexed(now)?;
        core.open_base(now)?;
        core.open_retries(now);
        core.behind = core.lacks_pushed()?;
        if !core.behind {
            core.start_recovery()?;
        }
        Ok(core)
    }
}
