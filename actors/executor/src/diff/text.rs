//! The hunks of a text file.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

/// Lines of context around a change.
const CONTEXT: u32 = 3;
/// What git writes after a last line that has no newline.
const NO_NEWLINE: &[u8] = b"\\ No newline at end of file\n";

/// Lines with their newlines; only the last may lack it.
fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split_inclusive(|byte| *byte == b'\n')
}

fn diff<'a>(before: &'a [u8], after: &'a [u8]) -> (InternedInput<&'a [u8]>, Diff) {
    let mut input = InternedInput::default();
    input.update_before(lines(before));
    input.update_after(lines(after));
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    (input, diff)
}

/// How many bytes of `before` stand in lines that `after` keeps.
pub(super) fn common_bytes(before: &[u8], after: &[u8]) -> usize {
    let (_, diff) = diff(before, after);
    let kept = |(number, line): (u32, &[u8])| if diff.is_removed(number) { 0 } else { line.len() };
    (0_u32..).zip(lines(before)).map(kept).sum()
}

/// Writes the unified hunks that lead from `before` to `after`.
pub(super) fn hunks(before: &[u8], after: &[u8], out: &mut Vec<u8>) {
    let (_, diff) = diff(before, after);
    let old: Vec<&[u8]> = lines(before).collect();
    let new: Vec<&[u8]> = lines(after).collect();
    let mut group: Vec<Hunk> = Vec::new();
    for hunk in diff.hunks() {
        // Changes whose contexts touch share a hunk.
        if group.last().is_some_and(|last| hunk.before.start - last.before.end > 2 * CONTEXT) {
            write_group(&group, &old, &new, out);
            group.clear();
        }
        group.push(hunk);
    }
    write_group(&group, &old, &new, out);
}

fn write_group(group: &[Hunk], old: &[&[u8]], new: &[&[u8]], out: &mut Vec<u8>) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return };
    let lead = first.before.start.min(CONTEXT);
    let length = u32::try_from(old.len()).unwrap_or(u32::MAX);
    let tail = (length - last.before.end).min(CONTEXT);
    let before = first.before.start - lead..last.before.end + tail;
    let after = first.after.start - lead..last.after.end + tail;
    out.extend_from_slice(format!("@@ -{} +{} @@\n", span(&before), span(&after)).as_bytes());
    let mut at = before.start;
    for hunk in group {
        write_lines(b' ', old, at..hunk.before.start, out);
        write_lines(b'-', old, hunk.before.clone(), out);
        write_lines(b'+', new, hunk.after.clone(), out);
        at = hunk.before.end;
    }
    write_lines(b' ', old, at..before.end, out);
}

/// A range as hunk headers write it: counted from 1, the count left out where it is 1, an empty range by the line before.
fn span(range: &Range<u32>) -> String {
    match range.end - range.start {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        count => format!("{},{count}", range.start + 1),
    }
}

fn write_lines(sign: u8, lines: &[&[u8]], range: Range<u32>, out: &mut Vec<u8>) {
    let range = usize::try_from(range.start).unwrap_or(usize::MAX)..usize::try_from(range.end).unwrap_or(usize::MAX);
    for line in lines.get(range).unwrap_or_default() {
        out.push(sign);
        out.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            out.push(b'\n');
            out.extend_from_slice(NO_NEWLINE);
        }
    }
}
