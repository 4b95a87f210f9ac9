//! What is to be pushed, and what the remote must have for it: counted where the branch was moved by others, carried
//! on where it was moved here.

use chrono::{DateTime, Utc};
use gix::ObjectId;

use crate::ahead::{PART_MAX, Part, STEP};
use crate::core::Core;
use crate::error::WorkError;
use crate::network::Aim;
use crate::refs;

impl Core {
    /// What a push of about `most` commits is to bring about. None where there is nothing to push, or where a push would
    /// do more than add: where the branch was moved here and no longer contains what the remote has.
    #[must_use]
    pub fn aim(&self, most: u64) -> Option<Aim> {
        let expected = if self.absent { None } else { self.base };
        let part = self.ahead.part(most).filter(|_| self.loaded && (self.descends || expected.is_none()))?;
        Some(Aim { part, expected })
    }

    /// Counts what the remote does not have, and sees whether it would only be added to.
    pub(crate) fn count_unpushed(&mut self) -> Result<(), WorkError> {
        self.base = refs::read(self.store.repo(), refs::BASE)?;
        self.descends = true;
        let from = if self.absent { None } else { self.base };
        let Some(head) = self.head.filter(|head| Some(*head) != from) else {
            self.ahead.restart([]);
            return Ok(());
        };
        if let Some(base) = from
            && let Some(line) = self.line(base, head)
        {
            self.ahead.restart([(head, line.len() as u64)]);
            return Ok(());
        }
        let mut count = 0;
        let ours = match from {
            Some(base) => format!("{base}...{head}"),
            None => head.to_string(),
        };
        let output = self.git.check(&["rev-list", "--count", "--left-right", &ours, "--"])?;
        let text = String::from_utf8_lossy(&output);
        let mut numbers = text.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        if let (Some(theirs), Some(ours)) = (numbers.next(), numbers.next()) {
            // Without a base all of it counts as theirs.
            self.descends = from.is_none() || theirs == 0;
            count = if from.is_none() { theirs + ours } else { ours };
        }
        let mut marks = if count > PART_MAX { self.way_to(from, head)? } else { Vec::new() };
        marks.retain(|(_, at)| *at < count);
        marks.push((head, count));
        self.ahead.restart(marks);
        Ok(())
    }

    /// Counts what is ahead of a remote whose history is another than it was: more than since the last push.
    pub(crate) fn count_excess(&mut self) -> Result<(), WorkError> {
        let upstream = refs::read(self.store.repo(), refs::UPSTREAM)?;
        let (Some(head), Some(upstream)) = (self.head, upstream.filter(|_| !self.absent)) else { return Ok(()) };
        let range = format!("{upstream}..{head}");
        let output = self.git.check(&["rev-list", "--count", &range, "--"])?;
        let count: u64 = String::from_utf8_lossy(&output).trim().parse().unwrap_or_default();
        self.excess = count.saturating_sub(self.ahead.commits());
        Ok(())
    }

    /// Every so many commits on the way from `base` to `head`. It keeps to first parents, and to those that descend from
    /// `base`: so each commit descends from the one before, whatever was merged in.
    fn way_to(&self, base: Option<ObjectId>, head: ObjectId) -> Result<Vec<(ObjectId, u64)>, WorkError> {
        let mut args = vec!["rev-list", "--first-parent", "--reverse"];
        let range = match base {
            Some(base) => {
                args.push("--ancestry-path");
                format!("{base}..{head}")
            }
            None => head.to_string(),
        };
        args.extend([range.as_str(), "--"]);
        let list = self.git.check(&args)?;
        let lines = list.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let every = lines.zip(1..).filter(|(_, at)| u64::is_multiple_of(*at, STEP));
        // A list that is too long to be kept is cut short: then there are fewer marks.
        Ok(every.filter_map(|(line, at)| Some((ObjectId::from_hex(line).ok()?, at))).collect())
    }

    /// A push went through.
    ///
    /// # Errors
    /// When that cannot be noted down; it is noted after the next push then.
    pub fn pushed(&mut self, part: &Part, now: DateTime<Utc>) -> Result<(), WorkError> {
        self.base = Some(part.tip);
        self.absent = false;
        let counted = self.ahead.pushed(part);
        refs::keep(self.store.repo(), refs::BASE, part.tip, &self.signature(now))?;
        // Where somebody moved the branch meanwhile.
        if counted { Ok(()) } else { self.count_unpushed().inspect_err(|_| self.loaded = false) }
    }
}
