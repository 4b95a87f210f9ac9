//! What a repository gathers over months: packs, loose objects, lines in reflogs. Each has its bound, and none is tidied
//! by surprise: git's own automatic housekeeping is off in every child of the bridge's.

use std::fs;
use std::io;
use std::path::Path;

use gix::lock::acquire::Fail;

use crate::core::Core;
use crate::error::WorkError;
use crate::packs;

/// Packs after which a quiet moment is used to consolidate them.
pub const PACKS_MAX: usize = 50;

/// Packs that are consolidated without waiting for a quiet moment: the remote may be away for days.
pub const PACKS_URGENT: usize = 200;

/// Packs from which on looking anything up is slow, for the bridge and for everybody: the publisher is degraded while so
/// many cannot be put together.
pub const PACKS_DEGRADED: usize = 1_000;

/// Loose objects (as estimated) after which a quiet moment is used to pack them. People's commits make them.
pub const LOOSE_MAX: usize = 1024;

/// A reflog that has grown to this is trimmed.
const REFLOG_MAX_BYTES: u64 = 1 << 20;

/// The bridge's own lines that are left in a reflog that is trimmed. Other people's lines all stay.
const REFLOG_KEPT: usize = 1000;

/// What marks a `.keep` file as the bridge's.
pub(crate) const KEEP_NOTE: &str = "ghost-bridge: the branch is about to name what is in this pack\n";

/// What lies in the object database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clutter {
    /// Packs that could be put together with others.
    pub packs: usize,
    /// Loose objects, as estimated.
    pub loose: usize,
}

impl Clutter {
    /// Whether a quiet moment is to be used to tidy up.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.packs >= PACKS_MAX || self.loose >= LOOSE_MAX
    }

    /// Whether that cannot wait for a quiet moment.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.packs >= PACKS_URGENT
    }
}

/// Looks at the object database. One folder of 256 stands for all loose objects, as git itself estimates them.
#[must_use]
pub fn clutter(objects: &Path) -> Clutter {
    const FOLDERS: usize = 256;
    let packs = packs::unsettled(&objects.join("pack")).len();
    Clutter { packs, loose: packs::names(&objects.join("17")).count() * FOLDERS }
}

/// A reflog without the bridge's older lines, and each line beginning where the one before it ends; `None` where that
/// changes nothing.
fn trimmed(log: &str) -> Option<String> {
    let is_ours = |line: &str| line.split_once('\t').is_some_and(|(_, what)| what.starts_with("bridge: "));
    let ours = log.lines().filter(|line| is_ours(line)).count();
    let mut drop = ours.checked_sub(REFLOG_KEPT).filter(|drop| *drop > 0)?;
    let mut out = String::with_capacity(log.len());
    let mut last: Option<&str> = None;
    for line in log.lines() {
        if drop > 0 && is_ours(line) {
            drop -= 1;
            continue;
        }
        let Some((old, rest)) = line.split_once(' ') else { continue };
        out.push_str(last.unwrap_or(old));
        out.push(' ');
        out.push_str(rest);
        out.push('\n');
        last = rest.split(' ').next();
    }
    Some(out)
}

impl Core {
    /// What lies in the object database.
    #[must_use]
    pub fn clutter(&self) -> Clutter {
        clutter(self.objects())
    }

    /// The object database's folder.
    #[must_use]
    pub fn objects(&self) -> &Path {
        self.store.repo().objects.store_ref().path()
    }

    /// Trims the reflogs to which every move of the branch adds a line, if they have grown.
    ///
    /// # Errors
    /// When somebody holds the lock of their reference, or the disk refuses; it is tried again later.
    pub fn trim_reflogs(&self) -> Result<(), WorkError> {
        let repo = self.store.repo();
        self.trim_reflog(&repo.common_dir().join("logs").join(&self.branch), &repo.common_dir().join(&self.branch))?;
        self.trim_reflog(&repo.git_dir().join("logs/HEAD"), &repo.git_dir().join("HEAD"))
    }

    fn trim_reflog(&self, log: &Path, reference: &Path) -> Result<(), WorkError> {
        if log.metadata().map_or(0, |meta| meta.len()) < REFLOG_MAX_BYTES {
            return Ok(());
        }
        // Whoever adds a line holds the reference's lock.
        let lock = gix::lock::Marker::acquire_to_hold_resource(reference, Fail::Immediately, None, 0);
        let _lock =
            lock.map_err(|e| WorkError::Reference { name: reference.display().to_string(), cause: e.to_string() })?;
        let write = || -> io::Result<()> {
            let text = String::from_utf8(fs::read(log)?).map_err(io::Error::other)?;
            let Some(text) = trimmed(&text) else { return Ok(()) };
            let temporary = log.with_extension("bridge");
            fs::write(&temporary, text)?;
            fs::rename(&temporary, log)
        };
        write().map_err(|e| WorkError::io(log, e))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_reflog_loses_the_bridges_older_lines_alone_and_stays_a_chain() {
        let mut log = String::new();
        for n in 0..REFLOG_KEPT + 20 {
            let what = if n % 10 == 0 { "commit: mine" } else { "bridge: 1 commits" };
            log += &format!("{n:040} {:040} A <a@b> 1700000000 +0000\t{what}\n", n + 1);
        }
        assert_eq!(trimmed(&log), None, "few enough");
        for n in REFLOG_KEPT + 20..2 * REFLOG_KEPT {
            log += &format!("{n:040} {:040} A <a@b> 1700000000 +0000\tbridge: 1 commits\n", n + 1);
        }
        let text = trimmed(&log).unwrap();
        let count = |text: &str, what: &str| text.lines().filter(|line| line.ends_with(what)).count();
        assert_eq!(count(&text, "mine"), count(&log, "mine"));
        assert_eq!(count(&text, "1 commits"), REFLOG_KEPT);
        let ends: Vec<(&str, &str)> =
            text.lines().map(|line| (line.get(..40).unwrap(), line.get(41..81).unwrap())).collect();
        assert!(ends.windows(2).all(|pair| pair.first().unwrap().1 == pair.last().unwrap().0));
        assert_eq!(ends.last().unwrap().1, format!("{:040}", 2 * REFLOG_KEPT));
    }
}
