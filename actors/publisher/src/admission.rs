//! Whether what upstream has may be taken in at all: it is input, and another bridge may be at work there.

use gix::ObjectId;
use gix::objs::Kind;

use crate::commit;
use crate::core::Core;
use crate::error::WorkError;
use crate::incoming::{self, Unfit};
use crate::integrate::Refusal;
use crate::keep;
use crate::lines::Lines;

impl Core {
    /// Looks at what came since `base`, before the branch, the index or the work tree has anything of it.
    pub(crate) fn admit(
        &self,
        base: Option<ObjectId>,
        upstream: ObjectId,
        lines: Option<&Lines>,
    ) -> Result<(), Refusal> {
        if let Some(base) = base.filter(|_| self.acquainted)
            && let Some((commit, instance)) = self.rival(base, upstream, lines)?
        {
            return Err(Refusal::Blocked(self.two_bridges(commit, &instance)));
        }
        let old = base.map(|base| self.tree_of(base)).transpose()?;
        let new = self.tree_of(upstream)?;
        match incoming::look_through(&|id| self.store.tree_bytes(id), old, new)? {
            Some(unfit) => Err(Refusal::Blocked(self.unfit(base, upstream, &unfit))),
            None => Ok(()),
        }
    }

    fn unfit(&self, base: Option<ObjectId>, upstream: ObjectId, unfit: &Unfit) -> String {
        let (remote, branch) = (self.remote_name(), self.branch_name());
        let path = String::from_utf8_lossy(&unfit.path);
        let back = base.map_or_else(String::new, |base| {
            format!(", or set it back: git push --force-with-lease={branch}:{upstream} {remote} {base}:{branch}")
        });
        format!(
            "{remote}/{branch} is at {}, where {path:?} {}: nothing of it is taken in, and commits stay local; have it taken \
             out of the branch by another commit{back}",
            upstream.to_hex_with_len(10),
            unfit.why
        )
    }

    fn two_bridges(&self, commit: ObjectId, instance: &str) -> String {
        let (remote, branch) = (self.remote_name(), self.branch_name());
        format!(
            "another bridge (instance {instance}, this one is {}) publishes to {remote}/{branch}, too, as commit {} shows: \
             stop one of the two, then restart the one that is to stay; until then nothing is taken in, pushed or put back",
            self.instance,
            commit.to_hex_with_len(10)
        )
    }

    /// The first commit of another bridge's on the way from `base` to `upstream`. What a merge brought along is older than
    /// the merge, and nobody's work on this branch.
    fn rival(
        &self,
        base: ObjectId,
        upstream: ObjectId,
        lines: Option<&Lines>,
    ) -> Result<Option<(ObjectId, String)>, WorkError> {
        let is_other = |instance: &str| instance != self.instance;
        if let Some(lines) = lines {
            for id in &lines.theirs {
                let commit = commit::parse(*id, &self.store.read(*id, Kind::Commit)?)?;
                if let Some(instance) = commit.instance().filter(|instance| is_other(instance)) {
                    return Ok(Some((*id, instance)));
                }
            }
            return Ok(None);
        }
        let range = format!("{base}..{upstream}");
        let format = format!("--format=%H %(trailers:key={},valueonly,separator=%x2C)%x09%s", commit::INSTANCE);
        let list = self.git.check(&["log", "--first-parent", "--reverse", &format, &range, "--"])?;
        let text = String::from_utf8_lossy(&list);
        let found = text.lines().find_map(|line| {
            let (id, rest) = line.split_once(' ')?;
            let (instances, _) =
                rest.split_once('\t').filter(|(_, subject)| subject.as_bytes().starts_with(keep::OURS))?;
            let other = instances.split(',').next_back().filter(|it| commit::is_instance(it) && is_other(it))?;
            Some((ObjectId::from_hex(id.as_bytes()).ok()?, other.to_owned()))
        });
        Ok(found)
    }
}
