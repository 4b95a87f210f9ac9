//! The canonical form of a JSON value: the bytes that a signature or a hash covers.
//!
//! It is byte for byte what Python's `json.dumps(value, sort_keys=True, separators=(",", ":"))` prints (contract,
//! section 3): keys in code point order, everything outside printable ASCII escaped, floats as Python's `repr`. It is
//! made from the value as it was sent, never from a typed struct, and making it cannot fail, because
//! [`crate::json::parse`] refused whatever Python could not read.

use crate::json::{Number, Object, Value};

/// The decimal exponents that Python's `repr` writes without an `e`.
const FIXED_EXPONENTS: std::ops::Range<i32> = -4..16;

/// The canonical form of `value`.
#[must_use]
pub fn to_canonical(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

/// The canonical form of `object` without its member `omit`; what lies deeper stays, whatever its key.
#[must_use]
pub fn object_without(object: &Object, omit: &str) -> String {
    let mut out = String::new();
    write_members(&mut out, object.iter().filter(|(key, _)| *key != omit));
    out
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, element);
            }
            out.push(']');
        }
        Value::Object(members) => write_members(out, members.iter()),
    }
}

fn write_members<'a>(out: &mut String, members: impl Iterator<Item = (&'a String, &'a Value)>) {
    out.push('{');
    for (index, (key, value)) in members.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        write_value(out, value);
    }
    out.push('}');
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| !matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\') {
        // The byte found starts a character, since all before it are ASCII.
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = tail.chars();
        if let Some(character) = characters.next() {
            write_escaped(out, character);
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

fn write_escaped(out: &mut String, character: char) {
    let short = match character {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str("\\u");
                for shift in [12, 8, 4, 0] {
                    out.extend(char::from_digit(u32::from(*unit >> shift & 0xf), 16));
                }
            }
            return;
        }
    };
    out.push_str(short);
}

fn write_number(out: &mut String, number: &Number) {
    let literal = number.as_str();
    if !number.is_integer() {
        // A number's literal always parses: its reader has tried.
        write_float(out, literal.parse().unwrap_or_default());
    } else if literal == "-0" {
        // Python's integers have no negative zero.
        out.push('0');
    } else {
        out.push_str(literal);
    }
}

/// A finite float, as Python's `repr` lays it out: the shortest digits that read back as the same float, with an
/// exponent only where it lies outside [`FIXED_EXPONENTS`], and never without a mark of being a float.
fn write_float(out: &mut String, float: f64) {
    if float.is_sign_negative() {
        out.push('-');
    }
    let (digits, exponent) = shortest_digits(float.abs());
    let (first, others) = digits.split_at(1);
    if !FIXED_EXPONENTS.contains(&exponent) {
        out.push_str(first);
        if !others.is_empty() {
            out.push('.');
            out.push_str(others);
        }
        out.push_str(if exponent < 0 { "e-" } else { "e+" });
        let magnitude = exponent.unsigned_abs();
        if magnitude < 10 {
            out.push('0');
        }
        out.push_str(&magnitude.to_string());
        return;
    }
    let zeros = |out: &mut String, count: usize| out.extend(std::iter::repeat_n('0', count));
    match usize::try_from(exponent) {
        // Smaller than one: zeros between the point and the digits.
        Err(_) => {
            out.push_str("0.");
            zeros(out, exponent.unsigned_abs() as usize - 1);
            out.push_str(&digits);
        }
        Ok(exponent) if exponent < others.len() => {
            let (whole, fraction) = digits.split_at(exponent + 1);
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
        Ok(exponent) => {
            out.push_str(&digits);
            zeros(out, exponent - others.len());
            out.push_str(".0");
        }
    }
}

/// The shortest significant digits of a float that is not negative, without zeros at either end (`0` for zero), and
/// the decimal exponent of the first of them.
///
/// The digits are ryu's, for Rust's own formatting rounds ties otherwise than Python does; only their layout is undone.
fn shortest_digits(float: f64) -> (String, i32) {
    let mut buffer = ryu::Buffer::new();
    let printed = buffer.format_finite(float);
    let (mantissa, exponent) = printed.split_once('e').unwrap_or((printed, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = String::with_capacity(whole.len() + fraction.len());
    digits.push_str(whole);
    digits.push_str(fraction);
    let leading_zeros = digits.bytes().take_while(|digit| *digit == b'0').count();
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return ("0".to_owned(), 0);
    }
    // All three are below 400, so that nothing is cut off or overflows.
    let exponent = exponent.parse::<i32>().unwrap_or_default() + whole.len() as i32 - 1 - leading_zeros as i32;
    (significant.to_owned(), exponent)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::json::parse;

    fn canonical(text: &str) -> String {
        to_canonical(&parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}")))
    }

    #[test]
    fn keys_are_sorted_by_code_point_at_every_depth() {
        // U+FF5E sorts before U+1F600 by code point, after it by UTF-16 code unit.
        assert_eq!(
            canonical(r#"{"b":[{"d":1,"c":2}],"\u0061":3,"😀":4,"～":5,"":6,"B":7,"10":8,"9":9}"#),
            r#"{"":6,"10":8,"9":9,"B":7,"a":3,"b":[{"c":2,"d":1}],"\uff5e":5,"\ud83d\ude00":4}"#
        );
    }

    #[test]
    fn strings_are_escaped_as_python_does() {
        assert_eq!(canonical(r#""\/ \" \\ \b\f\n\r\t \u0000\u001f ~""#), r#""/ \" \\ \b\f\n\r\t \u0000\u001f ~""#);
        assert_eq!(
            canonical("\"\u{7f}\u{80}é\u{2028}漢\u{ffff}😀\u{10ffff}x\""),
            r#""\u007f\u0080\u00e9\u2028\u6f22\uffff\ud83d\ude00\udbff\udfffx""#
        );
        assert_eq!(canonical(r#""\u00E9\uD83D\uDE00""#), r#""\u00e9\ud83d\ude00""#);
    }

    #[test]
    fn integers_stay_as_they_are() {
        let long = "7".repeat(4_300);
        for text in ["0", "-1", "9007199254740993", "-9223372036854775809", &long] {
            assert_eq!(canonical(text), text);
        }
        assert_eq!(canonical("-0"), "0");
    }

    #[test]
    fn floats_are_laid_out_as_python_does() {
        let cases = [
            ("0.0", "0.0"),
            ("-0.0", "-0.0"),
            ("-0e0", "-0.0"),
            ("0e99", "0.0"),
            ("1e-400", "0.0"),
            ("-1e-400", "-0.0"),
            ("1.0", "1.0"),
            ("1.10", "1.1"),
            ("-2.5", "-2.5"),
            ("1e0", "1.0"),
            ("1e05", "100000.0"),
            ("100e-6", "0.0001"),
            ("0.00012", "0.00012"),
            ("0.0001", "0.0001"),
            ("0.00009", "9e-05"),
            ("0.000012", "1.2e-05"),
            ("1e-10", "1e-10"),
            ("1.5e-100", "1.5e-100"),
            ("5e-324", "5e-324"),
            ("4.9e-324", "5e-324"),
            ("123456.75", "123456.75"),
            ("1e15", "1000000000000000.0"),
            ("9999999999999998.0", "9999999999999998.0"),
            ("1e16", "1e+16"),
            ("12345678901234567.0", "1.2345678901234568e+16"),
            ("1e21", "1e+21"),
            ("1e22", "1e+22"),
            ("1E100", "1e+100"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("2.2250738585072014e-308", "2.2250738585072014e-308"),
            ("9007199254740993.00000000000000000000000000000000001", "9007199254740994.0"),
            ("0.1000000000000000055511151231257827021181583404541015625", "0.1"),
            // Two shortest candidates are equally near: Python takes the even one.
            ("765128985317386.25", "765128985317386.2"),
            ("616284504732314.25", "616284504732314.2"),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn one_key_is_left_out_at_the_top_only() {
        let value = parse(br#"{"hmac":"x","b":{"hmac":1},"a":[]}"#).unwrap();
        let object = value.as_object().unwrap();
        assert_eq!(object_without(object, "hmac"), r#"{"a":[],"b":{"hmac":1}}"#);
        assert_eq!(object_without(object, "none"), to_canonical(&value));
        assert_eq!(object_without(&Object::new(), "hmac"), "{}");
    }

    #[test]
    fn the_canonical_form_is_its_own() {
        for text in [r#"{"a":[1.5,"\u00e9",null,{"b":-0}],"c":1e300}"#, "[]", "\"\"", "1e-7"] {
            let once = canonical(text);
            assert_eq!(canonical(&once), once);
        }
    }
}
