//! What can go wrong here, told apart by what is to be done about it.

use std::path::PathBuf;

use crate::tree::TreeError;

/// Why the publisher cannot start at all: a matter of configuration. Each message is one line that names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no repository in CLOUD.
    #[error("{} is no git work tree ({cause}): run `ghost-bridge init {}` or clone your repository there", .cloud.display(), .cloud.display())]
    NotARepository {
        /// The folder.
        cloud: PathBuf,
        /// What git's library said.
        cause: String,
    },
    /// The repository has no work tree.
    #[error("{} is a bare repository: CLOUD must be a work tree; clone it without --bare", .cloud.display())]
    Bare {
        /// The folder.
        cloud: PathBuf,
    },
    /// CLOUD lies inside another work tree.
    #[error("{} is not the top of its work tree, {} is: set CLOUD to that folder, or run `git init` in your own", .cloud.display(), .top.display())]
    NotTheTop {
        /// The folder.
        cloud: PathBuf,
        /// The work tree's top.
        top: PathBuf,
    },
    /// The repository keeps its references in a format that is not supported.
    #[error("the repository in {} keeps its references as {references}, which is not supported: clone it anew with `git clone --ref-format=files`, or turn them into files with `git refs migrate --ref-format=files` (git 2.49 or newer)", .cloud.display())]
    Format {
        /// The folder.
        cloud: PathBuf,
        /// How it keeps them.
        references: String,
    },
    /// HEAD names a commit, not a branch.
    #[error("HEAD is detached in {}: check out the branch that is to be published, for example `git switch main`", .cloud.display())]
    Detached {
        /// The folder.
        cloud: PathBuf,
    },
    /// The `git` program is not there.
    #[error("the git program cannot be run ({cause}): install git {floor} or newer and put it on PATH")]
    NoGit {
        /// What the system said.
        cause: String,
        /// The oldest version that will do.
        floor: String,
    },
    /// The `git` program is too old.
    #[error("git {found} is too old: install git {floor} or newer")]
    OldGit {
        /// What is installed.
        found: String,
        /// The oldest version that will do.
        floor: String,
    },
    /// Git's configuration, or a variable, names something that others write.
    #[error("{what} could have git run, or be told, what others write ({why}): {remedy}")]
    Danger {
        /// What names it.
        what: String,
        /// Where that lies.
        why: String,
        /// What helps.
        remedy: String,
    },
    /// There are several remotes, and nothing says which.
    #[error("{} has several remotes ({remotes}) and its branch follows none of them: name one as publish.remote, or give the branch one with `git branch --set-upstream-to=REMOTE/BRANCH`", .cloud.display())]
    ManyRemotes {
        /// The folder.
        cloud: PathBuf,
        /// Their names.
        remotes: String,
    },
    /// The remote that the configuration names is not there, though others are.
    #[error("{} has no remote {remote} (publish.remote), but {others}: name one of these, or make it with `git remote add {remote} URL`", .cloud.display())]
    NoSuchRemote {
        /// The folder.
        cloud: PathBuf,
        /// Its name.
        remote: String,
        /// The names of the others.
        others: String,
    },
    /// One of git's own folders cannot be written.
    #[error("{} cannot be written ({cause}): give the bridge's user read and write permission there", .folder.display())]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// One of git's own files is damaged, and nothing certain tells what was in it.
    #[error("{} is {what}, {remedy}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// How it is.
        what: String,
        /// What is to be done.
        remedy: String,
    },
    /// The repository was opened, but something in it could not be read.
    #[error("the repository in {} cannot be read ({cause}): look at it with `git fsck`", .cloud.display())]
    Unreadable {
        /// The folder.
        cloud: PathBuf,
        /// What was said.
        cause: String,
    },
}

/// Why a piece of work on the repository did not come off. Nothing is lost by any of these: the work is done again.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The branch that is published is no longer the one checked out.
    #[error("{found} instead of {expected}: check out {expected} again to go on (commits wait)")]
    HeadElsewhere {
        /// The branch that was checked out at the start.
        expected: String,
        /// What HEAD says now.
        found: String,
    },
    /// Somebody else moved a reference while we worked.
    #[error("reference {name} could not be moved: {cause}")]
    Reference {
        /// Its full name.
        name: String,
        /// What was said.
        cause: String,
    },
    /// The object database refused.
    #[error("object {what}: {cause}")]
    Object {
        /// An id, or what was to be read or written.
        what: String,
        /// What was said.
        cause: String,
    },
    /// A tree object that cannot be understood.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The file system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A git child failed.
    #[error(transparent)]
    Git(#[from] crate::git::GitError),
    /// The index could not be read.
    #[error("the index: {0}")]
    Index(String),
    /// The repository could not be opened again.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl WorkError {
    pub(crate) fn object(what: impl std::fmt::Display, cause: impl std::fmt::Display) -> Self {
        Self::Object { what: what.to_string(), cause: cause.to_string() }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { path: path.into(), source: source.into() }
    }
}
