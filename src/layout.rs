//! CLOUD and its folders: where they are, whether they are fit, and the lines that say so at the start.
//!
//! Everything is looked at before anything is made, so that a start that fails leaves nothing behind.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::git::{self, GitError};

/// The folders of CLOUD, parents first.
pub const FOLDERS: [&str; 10] =
    ["commands", "results", "diffs", "archive", "dead_letter", "logs", "summaries", "context", "meta", "meta/journal"];
/// The retries index, relative to CLOUD.
pub const RETRIES: &str = "meta/retries.json";
/// The size of the probe that finds a full disk, in bytes: more than a file system keeps inside an inode.
const PROBE_BYTES: usize = 16 * 1024;

/// Why CLOUD cannot be used. Displays as one line that names the path and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It is not there.
    #[error("CLOUD {} cannot be used: {source}; give an existing folder, or make one with: ghost-bridge init {}", .path.display(), .path.display())]
    Missing {
        /// The path as given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else.
    #[error("CLOUD {} is no folder; give the top folder of a git work tree", .0.display())]
    NoFolder(PathBuf),
    /// It is in no work tree.
    #[error("CLOUD {} is no git work tree ({source}); make it one with: ghost-bridge init {}", .path.display(), .path.display())]
    NoWorkTree {
        /// The folder.
        path: PathBuf,
        /// What git says.
        source: GitError,
    },
    /// It is not the top of its work tree.
    #[error("CLOUD {} lies inside the git work tree {}; CLOUD must be the top folder of a work tree of its own", .path.display(), .top.display())]
    NotTheTop {
        /// The folder.
        path: PathBuf,
        /// The top.
        top: PathBuf,
    },
    /// Git cannot be asked.
    #[error("{0}")]
    Git(GitError),
    /// Something else stands where a folder must be.
    #[error("{} is {kind}; the bridge's own folders must be real folders: move it away, and the bridge makes the folder", .path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A folder cannot be written.
    #[error("cannot write in {}: {source}; give this user write permission and free space there", .path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// CLOUD and its folders; the root is canonical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    cloud: PathBuf,
}

impl Layout {
    /// The layout of the folder `cloud`, which must exist.
    ///
    /// # Errors
    /// When it does not exist or is no folder.
    pub fn at(cloud: &Path) -> Result<Self, LayoutError> {
        let cloud = cloud.canonicalize().map_err(|source| LayoutError::Missing { path: cloud.to_owned(), source })?;
        if !cloud.is_dir() {
            return Err(LayoutError::NoFolder(cloud));
        }
        Ok(Self { cloud })
    }

    /// The root.
    #[must_use]
    pub fn cloud(&self) -> &Path {
        &self.cloud
    }

    /// Where `path`, relative to CLOUD, is.
    #[must_use]
    pub fn at_path(&self, path: &str) -> PathBuf {
        self.cloud.join(path)
    }

    /// Refuses a CLOUD that is not the top of a git work tree.
    ///
    /// # Errors
    /// When it is not, or git cannot be asked.
    pub fn require_work_tree(&self) -> Result<(), LayoutError> {
        let path = || self.cloud.clone();
        match git::ask(&self.cloud, &["rev-parse", "--show-toplevel"]) {
            Ok(top) => {
                let top = PathBuf::from(top);
                let same = top.canonicalize().is_ok_and(|top| top == self.cloud);
                if same { Ok(()) } else { Err(LayoutError::NotTheTop { path: path(), top }) }
            }
            // Git's own words name their remedy: the folder belongs to another user.
            Err(GitError::Failed { what, words }) if words.contains("safe.directory") => {
                Err(LayoutError::Git(GitError::Failed { what, words }))
            }
            Err(source @ GitError::Failed { .. }) => Err(LayoutError::NoWorkTree { path: path(), source }),
            Err(other) => Err(LayoutError::Git(other)),
        }
    }

    /// Refuses anything but a real folder in the place of one of ours, and a CLOUD that cannot be written.
    ///
    /// # Errors
    /// When a place is taken by something else, a folder lacks permissions, or the disk is full.
    pub fn require_fit(&self) -> Result<(), LayoutError> {
        for folder in FOLDERS {
            let path = self.at_path(folder);
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => writable(&path)?,
                Ok(metadata) => return Err(LayoutError::NotAFolder { path, kind: kind(&metadata) }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(LayoutError::Unwritable { path, source }),
            }
        }
        writable(&self.cloud)?;
        probe(&self.cloud)
    }

    /// Makes the folders that are missing, all or none, and gives their names.
    ///
    /// # Errors
    /// When one cannot be made; those made before are gone again.
    pub fn make_folders(&self) -> Result<Vec<&'static str>, LayoutError> {
        let mut made: Vec<&'static str> = Vec::new();
        for folder in FOLDERS {
            let path = self.at_path(folder);
            match fs::create_dir(&path) {
                Ok(()) => made.push(folder),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    for folder in made.iter().rev() {
                        // They are ours and empty; one that somebody filled meanwhile stays.
                        let _ = fs::remove_dir(self.at_path(folder));
                    }
                    return Err(LayoutError::Unwritable { path, source });
                }
            }
        }
        Ok(made)
    }

    /// The start's lines: one for each place, then where the retries index is (contract section 9).
    pub fn banner(&self) {
        let folders = [
            ("CMDS", "commands"),
            ("RES", "results"),
            ("DIFF", "diffs"),
            ("ARCH", "archive"),
            ("DLQ", "dead_letter"),
            ("META", "meta"),
        ];
        tracing::info!("CLOUD -> {}", self.cloud.display());
        for (name, folder) in folders {
            tracing::info!("{name} -> {}", self.at_path(folder).display());
        }
        tracing::info!("retries index -> {}", self.at_path(RETRIES).display());
    }
}

fn kind(metadata: &fs::Metadata) -> &'static str {
    if metadata.is_symlink() {
        "a symbolic link"
    } else if metadata.is_file() {
        "a file"
    } else {
        "neither a file nor a folder"
    }
}

/// Asks the system whether this user may make and remove entries in `folder`.
fn writable(folder: &Path) -> Result<(), LayoutError> {
    use rustix::fs::Access;
    rustix::fs::access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| LayoutError::Unwritable { path: folder.to_owned(), source: error.into() })
}

/// Writes a file and removes it: permissions alone do not tell of a full disk or a spent quota.
fn probe(folder: &Path) -> Result<(), LayoutError> {
    let path = folder.join(format!(".bridge.probe-{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&[b' '; PROBE_BYTES])?;
        file.sync_all()
    };
    // One that a killed start left behind under our process id.
    let _ = fs::remove_file(&path);
    let written = write();
    let _ = fs::remove_file(&path);
    written.map_err(|source| LayoutError::Unwritable { path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cloud() -> (tempfile::TempDir, Layout) {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::at(guard.path()).unwrap();
        (guard, layout)
    }

    #[test]
    fn folders_are_made_once() {
        let (_guard, layout) = cloud();
        layout.require_fit().unwrap();
        assert_eq!(fs::read_dir(layout.cloud()).unwrap().count(), 0, "the probe leaves nothing behind");
        assert_eq!(layout.make_folders().unwrap(), FOLDERS);
        assert!(layout.make_folders().unwrap().is_empty());
        layout.require_fit().unwrap();
    }

    #[test]
    fn whatever_is_no_folder_is_named() {
        let (_guard, layout) = cloud();
        fs::write(layout.at_path("diffs"), "").unwrap();
        let line = layout.require_fit().unwrap_err().to_string();
        assert!(line.contains("diffs is a file") && line.contains("move it away"), "{line}");
        fs::remove_file(layout.at_path("diffs")).unwrap();
        std::os::unix::fs::symlink("/tmp", layout.at_path("results")).unwrap();
        let line = layout.require_fit().unwrap_err().to_string();
        assert!(line.contains("results is a symbolic link"), "{line}");
    }

    #[test]
    fn a_failure_midway_takes_back_what_was_made() {
        let (_guard, layout) = cloud();
        fs::write(layout.at_path("meta"), "").unwrap();
        // meta exists already, so that its folder fails.
        assert!(layout.make_folders().is_err());
        assert_eq!(fs::read_dir(layout.cloud()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_top_of_a_work_tree_will_do() {
        let (_guard, layout) = cloud();
        let line = layout.require_work_tree().unwrap_err().to_string();
        assert!(line.contains("is no git work tree") && line.contains("ghost-bridge init"), "{line}");
        git::ask(layout.cloud(), &["init", "--quiet"]).unwrap();
        layout.require_work_tree().unwrap();
        fs::create_dir(layout.at_path("below")).unwrap();
        let below = Layout::at(&layout.at_path("below")).unwrap();
        assert!(below.require_work_tree().unwrap_err().to_string().contains("lies inside the git work tree"));
        assert!(Layout::at(&layout.at_path("nowhere")).unwrap_err().to_string().contains("ghost-bridge init"));
    }
}
