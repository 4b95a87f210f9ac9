//! The way back: a file's patch turned around, and a published diff undone in memory.

use super::hunk::Stated;
use super::{Body, Diff, FilePatch, Hunk, binary};

impl Diff {
    /// The diff that leads back: the files' patches [reversed](FilePatch::reversed), the last one first. `None` where one
    /// of them has no way back.
    #[must_use]
    pub fn reversed(&self) -> Option<Self> {
        let files = self.files.iter().rev().map(FilePatch::reversed).collect::<Option<_>>()?;
        Some(Self { text: self.text.clone(), files })
    }
}

impl FilePatch {
    /// The patch that leads back. `None` for a copy, which has no way back that leaves its source alone, and for a plain
    /// diff that leaves open whether it makes its file.
    #[must_use]
    pub fn reversed(&self) -> Option<Self> {
        if self.copies {
            return None;
        }
        let creates = self.creates?;
        // An index line gives the one mode that stays as the old one.
        let has_both = self.new_mode.is_some() || self.deletes;
        let (old_mode, new_mode) =
            if has_both { (self.new_mode, self.old_mode) } else { (self.old_mode, self.new_mode) };
        let body = match &self.body {
            Body::Text(hunks) => Body::Text(hunks.iter().map(Hunk::reversed).collect()),
            Body::Binary(literals) => {
                Body::Binary(literals.clone().map(|it| binary::Literals { after: it.before, before: it.after }))
            }
        };
        Some(Self {
            old: self.new.clone(),
            new: self.old.clone(),
            creates: Some(self.deletes),
            deletes: creates,
            old_mode,
            new_mode,
            ids: self.ids.clone().map(|(before, after)| (after, before)),
            body,
            ..self.clone()
        })
    }
}

impl Hunk {
    fn reversed(&self) -> Self {
        Self {
            stated: self.stated.map(|stated| Stated { old: stated.new, new: stated.old }),
            old_lines: self.new_lines,
            new_lines: self.old_lines,
            grown: -self.grown,
            is_reversed: !self.is_reversed,
            ..self.clone()
        }
    }
}
