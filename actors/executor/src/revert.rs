//! The ops of a command that takes another one back.
//!
//! Each op names with `expect` what it is about to change, so that it cannot hit a file that somebody changed since.
//! Preconditions are held against the tree before anything changes: a file that is moved back and then rewritten is
//! expected at the place where it is now, and nothing at the place where it was.

use protocol::command::{Action, Encoding, Expect, FileMode, Op};
use protocol::path::RelativePath;

use crate::overlay::Change;
use crate::take_back::{File, Undone};
use crate::tree::Image;

/// The ops that lead back to what was before: deletions first, so that there is room, then moves, then writes. A file
/// that was moved is moved back, which needs no permission to delete.
#[must_use]
pub fn ops(undone: &Undone) -> Vec<Op> {
    let leaves = |path: &RelativePath| undone.values().any(|file| file.moved_to.as_ref() == Some(path));
    let mut ops = Vec::new();
    for (path, file) in undone {
        if let (Some(now), None, false) = (&file.now, &file.before, leaves(path)) {
            ops.push(Op::DeleteFile { path: path.to_string(), expect: Some(Expect::Sha256(now.sha256())) });
        }
    }
    let mut writes = Vec::new();
    for (path, file) in undone {
        let Some(before) = &file.before else { continue };
        let moved = file.moved_to.as_ref().and_then(|from| Some((from, undone.get(from)?.now.as_ref()?)));
        let Some((from, image)) = moved else {
            writes.extend(rewritten(path, file, before));
            continue;
        };
        let expect = Some(Expect::Sha256(image.sha256()));
        ops.push(Op::MoveFile { from: from.to_string(), to: path.to_string(), overwrite: false, expect });
        if !image.same_as(before) {
            writes.push(write(path, before, Some(image), Expect::Absent));
        }
    }
    ops.extend(writes);
    ops
}

fn rewritten(path: &RelativePath, file: &File, before: &Image) -> Option<Op> {
    match &file.now {
        Some(now) if now.same_as(before) => None,
        Some(now) => Some(write(path, before, Some(now), Expect::Sha256(now.sha256()))),
        None => Some(write(path, before, None, Expect::Absent)),
    }
}

/// Writes `image` over `old`. Its mode is named only where the file would not have it anyway.
fn write(path: &RelativePath, image: &Image, old: Option<&Image>, expect: Expect) -> Op {
    let inherited = old.map_or(FileMode::Regular, Image::mode);
    let is_text = std::str::from_utf8(&image.content).is_ok() && !image.content.contains(&0);
    Op::WriteFile {
        path: path.to_string(),
        content: image.content.to_vec(),
        encoding: if is_text { Encoding::Utf8 } else { Encoding::Base64 },
        mode: Some(image.mode()).filter(|mode| *mode != inherited),
        expect: Some(expect),
    }
}

/// What `allowedActions` must name for `ops`, each once.
#[must_use]
pub fn actions(ops: &[Op]) -> Vec<Action> {
    let all = [Action::WriteFile, Action::MoveFile, Action::DeleteFile];
    all.into_iter().filter(|action| ops.iter().any(|op| op.action() == Some(*action))).collect()
}

/// Whether `changes` lead to what was before, everywhere and nowhere else.
#[must_use]
pub fn leads_back(undone: &Undone, changes: &[Change]) -> bool {
    let same = |one: Option<&Image>, other: Option<&Image>| match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.same_as(other),
        _ => false,
    };
    let wanted: Vec<_> = undone.iter().filter(|(_, file)| !same(file.now.as_ref(), file.before.as_ref())).collect();
    wanted.len() == changes.len()
        && wanted
            .iter()
            .zip(changes)
            .all(|((path, file), change)| **path == change.path && same(file.before.as_ref(), change.after.as_ref()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn image(content: &[u8], bits: u32) -> Option<Image> {
        Some(Image { content: content.into(), bits })
    }

    /// Path, now, before, and where it was moved to.
    type Row<'r> = (&'r str, Option<Image>, Option<Image>, Option<&'r str>);

    fn undone(files: &[Row<'_>]) -> Undone {
        let path = |text: &str| RelativePath::parse(text).unwrap();
        let file = |(name, now, before, moved): &Row<'_>| {
            (path(name), File { now: now.clone(), before: before.clone(), moved_to: moved.map(path) })
        };
        files.iter().map(file).collect()
    }

    fn told(ops: &[Op]) -> Vec<String> {
        let tell = |op: &Op| match op {
            Op::WriteFile { path, encoding, mode, expect, .. } => {
                let expect = if *expect == Some(Expect::Absent) { "nothing" } else { "a file" };
                format!("write {path} {encoding:?} {mode:?} over {expect}")
            }
            Op::MoveFile { from, to, overwrite, expect: Some(Expect::Sha256(_)) } => {
                format!("move {from} {to} {overwrite}")
            }
            Op::DeleteFile { path, expect: Some(Expect::Sha256(_)) } => format!("delete {path}"),
            other => format!("{other:?}"),
        };
        ops.iter().map(tell).collect()
    }

    #[test]
    fn what_was_made_goes_first_then_moves_then_writes() {
        let undone = undone(&[
            ("edited", image(b"new", 0o644), image(b"old", 0o644), None),
            ("gone.bin", None, image(b"\xff", 0o755), None),
            ("made", image(b"x", 0o644), None, None),
            ("moved", image(b"same", 0o644), None, None),
            ("moved-and-edited", image(b"b", 0o755), None, None),
            ("was", None, image(b"same", 0o640), Some("moved")),
            ("was-other", None, image(b"a", 0o644), Some("moved-and-edited")),
        ]);
        let ops = ops(&undone);
        assert_eq!(
            told(&ops),
            [
                "delete made",
                "move moved was false",
                "move moved-and-edited was-other false",
                "write edited Utf8 None over a file",
                "write gone.bin Base64 Some(Executable) over nothing",
                "write was-other Utf8 Some(Regular) over nothing",
            ]
        );
        assert_eq!(actions(&ops), [Action::WriteFile, Action::MoveFile, Action::DeleteFile]);
    }

    #[test]
    fn a_mode_that_changed_is_written_back_and_what_is_as_it_was_is_left_alone() {
        let undone = undone(&[
            ("mode", image(b"x", 0o755), image(b"x", 0o644), None),
            ("same", image(b"x", 0o644), image(b"x", 0o664), None),
            ("zero", image(b"y", 0o644), image(b"a\0b", 0o644), None),
        ]);
        let ops = ops(&undone);
        assert_eq!(told(&ops), ["write mode Utf8 Some(Regular) over a file", "write zero Base64 None over a file"]);
        assert_eq!(actions(&ops), [Action::WriteFile]);
    }
}
