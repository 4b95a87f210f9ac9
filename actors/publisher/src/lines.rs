//! Short, straight stretches of history, walked here. Most are: a handful of commits, each with one parent. A child that
//! is asked takes as long as a good part of a push, and while others push too, every moment between looking and pushing
//! is a chance for them. What is long, branched or cut off (a shallow clone) is left to git.

use gix::ObjectId;
use gix::objs::Kind;

use crate::commit;
use crate::core::Core;

/// How many commits are walked before git is asked instead.
const WALK_MAX: usize = 256;

/// Two straight lines that begin at one commit: what was done there, and what was done here.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Theirs, oldest first.
    pub(crate) theirs: Vec<ObjectId>,
    /// Ours, oldest first.
    pub(crate) ours: Vec<ObjectId>,
}

impl Lines {
    /// What is ours alone, oldest first: they may have a part of it already.
    pub(crate) fn own(self) -> Vec<ObjectId> {
        let common = self.ours.iter().zip(&self.theirs).take_while(|(ours, theirs)| ours == theirs).count();
        self.ours.into_iter().skip(common).collect()
    }
}

impl Core {
    /// The commits after `older` up to `newer`, oldest first, where each has one parent and they are few. None says
    /// nothing, neither that `older` is an ancestor nor that it is none.
    pub(crate) fn line(&self, older: ObjectId, newer: ObjectId) -> Option<Vec<ObjectId>> {
        let mut line = Vec::new();
        let mut at = newer;
        while at != older {
            if line.len() >= WALK_MAX {
                return None;
            }
            let bytes = self.store.read(at, Kind::Commit).ok()?;
            let commit = commit::parse(at, &bytes).ok()?;
            let [parent] = commit.parents.as_slice() else { return None };
            line.push(at);
            at = *parent;
        }
        line.reverse();
        Some(line)
    }

    /// The lines from `base` to `upstream` and to the branch, where both are short and straight.
    pub(crate) fn lines(&self, base: Option<ObjectId>, upstream: ObjectId) -> Option<Lines> {
        let base = base?;
        let (theirs, ours) = (self.line(base, upstream)?, self.line(base, self.head?)?);
        Some(Lines { theirs, ours })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ObjectId {
        ObjectId::from_bytes_or_panic(&[byte; 20])
    }

    fn own(theirs: &[u8], ours: &[u8]) -> Vec<ObjectId> {
        let ids = |bytes: &[u8]| bytes.iter().copied().map(id).collect();
        Lines { theirs: ids(theirs), ours: ids(ours) }.own()
    }

    #[test]
    fn what_they_have_already_is_not_ours_alone() {
        assert_eq!(own(&[9], &[1, 2]), [id(1), id(2)]);
        assert_eq!(own(&[1, 9], &[1, 2]), [id(2)], "a push that went through and was not noted");
        assert!(own(&[1, 2, 9], &[1, 2]).is_empty());
        assert!(own(&[9], &[]).is_empty());
    }
}
