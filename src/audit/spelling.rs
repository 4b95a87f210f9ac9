//! How the bridge spells its own JSON: indented by two blanks, one member a line, a line break at the end.
//!
//! A signature covers what a file says and not how it is laid out; this covers the rest.

/// Whether `bytes` are laid out as the bridge lays out an artifact. Says nothing of what they mean.
#[must_use]
pub fn is_own(bytes: &[u8]) -> bool {
    let mut own = laid_out(bytes);
    own.push(b'\n');
    own == bytes
}

/// The same JSON, laid out anew.
fn laid_out(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut depth, mut rest) = (Vec::with_capacity(bytes.len()), 0_usize, bytes);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * depth));
    };
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b' ' | b'\n' | b'\t' | b'\r' => {}
            b'"' => {
                let (text, after) = tail.split_at(end_of_string(tail));
                out.push(b'"');
                out.extend_from_slice(text);
                rest = after;
            }
            b'{' | b'[' => {
                out.push(*first);
                let blank = tail.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                let (_, next) = tail.split_at(blank);
                match next.split_first() {
                    Some((close @ (b'}' | b']'), after)) => {
                        out.push(*close);
                        rest = after;
                    }
                    _ => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(*first);
            }
            b',' => {
                out.push(b',');
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            other => out.push(*other),
        }
    }
    out
}

/// How many bytes there are to the end of a string that has begun, its closing quote included.
fn end_of_string(text: &[u8]) -> usize {
    let mut escaped = false;
    for (place, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protocol::artifact::to_bytes;
    use serde_json::json;

    #[test]
    fn what_the_bridge_spells_is_its_own_and_no_byte_of_blank_may_change() {
        let value = json!({"a": "x\"{[,: \\", "b": [], "c": {}, "d": [1, {"e": null}], "f": -1.5e3, "g": "\\"});
        let bytes = to_bytes(&value).unwrap();
        assert!(is_own(&bytes));
        for (place, byte) in bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_whitespace()) {
            for other in *b" \n\t\r" {
                let mut changed = bytes.clone();
                changed[place] = other;
                // What says something else, or nothing, is found by its signature or by no longer being JSON.
                let says_the_same =
                    serde_json::from_slice::<serde_json::Value>(&changed).is_ok_and(|read| read == value);
                assert!(other == *byte || !says_the_same || !is_own(&changed), "byte {place}");
            }
        }
        assert!(!is_own(b"{}") && is_own(b"{}\n") && !is_own(b""));
    }
}
