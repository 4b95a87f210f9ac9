//! The names in a diff's headers: unquoting, prefixes, time stamps.

use chrono::DateTime;

/// How a name that is not quoted ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// At the line's end.
    Line,
    /// At a tab, after which other programs write a time stamp.
    Tab,
}

/// Undoes git's quoting: the name, and what follows the closing quote. `None` where `text` is not quoted well.
pub(super) fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut name = Vec::new();
    loop {
        match rest {
            [b'"', tail @ ..] => return Some((name, tail)),
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                name.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = tail;
            }
            [b'\\', letter, tail @ ..] => {
                name.push(match letter {
                    b'a' => 0x07,
                    b'b' => 0x08,
                    b'f' => 0x0c,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 0x0b,
                    b'"' | b'\\' => *letter,
                    _ => return None,
                });
                rest = tail;
            }
            [b'\n', ..] | [] => return None,
            [byte, tail @ ..] => {
                name.push(*byte);
                rest = tail;
            }
        }
    }
}

/// A name without its first component where `strip` says so; `None` where it has none, or an empty one.
pub(super) fn stripped(name: &[u8], strip: bool) -> Option<&[u8]> {
    if !strip {
        return (!name.is_empty()).then_some(name);
    }
    let slash = memchr::memchr(b'/', name).filter(|slash| *slash > 0)?;
    name.get(slash + 1..).filter(|rest| !rest.is_empty())
}

/// The whole name at the begin of `text` (a header line after its keyword), unquoted, nothing stripped. Where it is
/// alone on its line, a quote that is not closed there is no name: git would look for its end on the lines that follow.
pub(super) fn whole(text: &[u8], ends: Ends) -> Option<Vec<u8>> {
    if let Some((name, _)) = unquote(text) {
        return Some(name);
    }
    if ends == Ends::Line && text.starts_with(b"\"") {
        return None;
    }
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0x0b | 0x0c) || ends == Ends::Tab && *byte == b'\t';
    let end = text.iter().position(is_end).unwrap_or(text.len());
    text.get(..end).filter(|name| !name.is_empty()).map(<[u8]>::to_vec)
}

/// The whole name of a plain diff's `---` or `+++` line: a time stamp at the line's end, if there is one, tells where
/// the name ends, whatever it holds.
pub(super) fn whole_traditional(text: &[u8]) -> Option<Vec<u8>> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    if let Some((name, _)) = unquote(line) {
        return Some(name);
    }
    match without_time(line) {
        Some(name) => (!name.is_empty()).then(|| name.to_vec()),
        None => whole(text, Ends::Tab),
    }
}

/// Whether it is `/dev/null`, alone or before white space.
pub(super) fn is_null(text: &[u8]) -> bool {
    text.strip_prefix(b"/dev/null").is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

/// `text` without a suffix that looks like `pattern`, in which `9` stands for a digit and `+` for either sign.
fn cut<'t>(text: &'t [u8], pattern: &[u8]) -> Option<&'t [u8]> {
    let start = text.len().checked_sub(pattern.len())?;
    let (head, tail) = text.split_at_checked(start)?;
    let fits = |(wanted, found): (&u8, &u8)| match wanted {
        b'9' => found.is_ascii_digit(),
        b'+' => matches!(found, b'+' | b'-'),
        other => other == found,
    };
    pattern.iter().zip(tail).all(fits).then_some(head)
}

/// The line without `2010-07-05 19:41:17.620000023 -0500` at its end, and the tab or spaces before it; fraction, zone
/// and time may lack, and the year may have two digits.
fn without_time(line: &[u8]) -> Option<&[u8]> {
    line.last().filter(|byte| byte.is_ascii_digit())?;
    let rest = cut(line, b" +9999").or_else(|| cut(line, b" +99:99")).unwrap_or(line);
    let whole_seconds = |text| cut(text, b" 99:99:99");
    let fraction = || {
        let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let head = rest.get(..rest.len() - digits).filter(|_| digits > 0)?;
        whole_seconds(head.strip_suffix(b".")?)
    };
    let rest = whole_seconds(rest).or_else(fraction).unwrap_or(rest);
    let rest = cut(rest, b"9999-99-99").or_else(|| cut(rest, b"99-99-99"))?;
    match rest {
        [head @ .., b'\t'] => Some(head),
        [.., b' '] => {
            let spaces = rest.iter().rev().take_while(|byte| **byte == b' ').count();
            rest.get(..rest.len() - spaces)
        }
        _ => None,
    }
}

/// Whether the time stamp after the last tab is the epoch, by which GNU diff says that there is no such file.
pub(super) fn is_epoch(text: &[u8]) -> bool {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let stamp = memchr::memrchr(b'\t', line).and_then(|tab| line.get(tab + 1..));
    let Some(stamp) = stamp.and_then(|stamp| std::str::from_utf8(stamp).ok()) else { return false };
    if !stamp.starts_with("1969-12-31 ") && !stamp.starts_with("1970-01-01 ") {
        return false;
    }
    DateTime::parse_from_str(stamp, "%Y-%m-%d %H:%M:%S%.f %z")
        .is_ok_and(|time| time.timestamp() == 0 && time.timestamp_subsec_nanos() == 0)
}
