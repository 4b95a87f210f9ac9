//! Which branch the bridge's notes were made for: [`BASE`], [`INDEXED`] and [`UPSTREAM`] tell of one branch, and do not say
//! which. Its name is kept beside them, written when a repository is opened for another branch than before.
//!
//! Where it is missing or damaged nobody knows whose they are, and who looks for a lost branch passes them over.

use std::fs;
use std::path::{Path, PathBuf};

use gix::refs::FullName;

use crate::core::Core;
use crate::error::WorkError;
use crate::instance::{FOLDER, replace};
use crate::refs::{self, BASE, INDEXED, UPSTREAM};

/// The name's file, beside the bridge's number.
const FILE: &str = "branch";

/// The longest that is read of it; a branch's name is shorter.
const MAX_BYTES: u64 = 4096;

fn file(common: &Path) -> PathBuf {
    common.join(FOLDER).join(FILE)
}

/// The full name of the branch that the notes were made for, where that is known.
pub(crate) fn branch(common: &Path) -> Option<String> {
    let file = file(common);
    let small = file.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTES);
    let text = fs::read_to_string(file).ok().filter(|_| small)?;
    // A name that was cut short could be another branch's.
    let name = text.strip_suffix('\n')?;
    let valid = name.starts_with("refs/heads/") && FullName::try_from(name).is_ok();
    valid.then(|| name.to_owned())
}

impl Core {
    /// At the start, before anything relies on the notes: those of another branch are forgotten, and found out again for
    /// this one. Notes that are in this branch's history say nothing wrong of it, whoever made them.
    pub(crate) fn open_notes(&self) -> Result<(), WorkError> {
        let repo = self.store.repo();
        let noted = branch(repo.common_dir());
        if noted.as_deref() == Some(self.branch.as_str()) {
            return Ok(());
        }
        if !self.has_noted()? {
            // They may still be this branch's, and tell that it was amended or reset.
            let Some(other) = noted else { return Ok(()) };
            tracing::warn!(branch = self.branch, other, "what was noted of another branch is forgotten");
            refs::forget(repo, &[BASE, INDEXED, UPSTREAM])?;
        }
        let file = file(repo.common_dir());
        let folder = file.parent().unwrap_or(&file);
        let written = fs::create_dir_all(folder).and_then(|()| replace(&file, format!("{}\n", self.branch).as_bytes()));
        if let Err(error) = written {
            tracing::warn!(file = %file.display(), %error, "whose notes the bridge's are is not kept");
        }
        Ok(())
    }

    /// Whether the branch has in its history what was noted of where it was.
    fn has_noted(&self) -> Result<bool, WorkError> {
        for name in [BASE, INDEXED] {
            let Some(noted) = refs::read(self.store.repo(), name)? else { continue };
            let inside = self.head.map_or(Ok(false), |head| self.is_ancestor(noted, head))?;
            if !inside {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_whole_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(branch(dir.path()), None);
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        for (text, name) in [
            ("refs/heads/team/x\n", Some("refs/heads/team/x")),
            ("refs/heads/team/x", None),
            ("refs/heads/a..b\n", None),
            ("refs/tags/v1\n", None),
            ("\0\0\0\0\n", None),
            ("", None),
        ] {
            fs::write(file(dir.path()), text).unwrap();
            assert_eq!(branch(dir.path()).as_deref(), name, "{text:?}");
        }
    }
}
