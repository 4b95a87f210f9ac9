//! Vectors for the strict reader: what it gives, what it refuses, and the words in which it does so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn ok(text: &str) -> Value {
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn refusal(bytes: impl AsRef<[u8]>) -> String {
    parse(bytes.as_ref()).expect_err("must be refused").to_string()
}

#[test]
fn every_kind_of_value_is_read() {
    let value = ok(" {\"a\" : [null, true, false, -1.5e+3, \"x\"] , \"b\":{} }\r\n\t");
    let object = value.as_object().unwrap();
    let array = object["a"].as_array().unwrap();
    let kinds: Vec<_> = array.iter().chain([&object["b"], &object["a"]]).map(Value::kind).collect();
    assert_eq!(kinds, ["null", "a boolean", "a boolean", "a number", "a string", "an object", "an array"]);
    assert_eq!(array[1].as_bool(), Some(true));
    assert_eq!(array[3].as_number().unwrap().as_str(), "-1.5e+3");
    assert_eq!(array[4].as_str(), Some("x"));
    assert_eq!(array[0].as_str(), None);
}

#[test]
fn strings_resolve_their_escapes() {
    assert_eq!(ok(r#""\"\\\/\b\f\n\r\t""#).as_str(), Some("\"\\/\u{8}\u{c}\n\r\t"));
    assert_eq!(ok(r#""\u0041\u00e9\u00E9\ud83d\uDE00é😀\u0000""#).as_str(), Some("Aéé😀é😀\0"));
    assert_eq!(ok("\"\u{7f}\u{2028}\u{feff}\"").as_str(), Some("\u{7f}\u{2028}\u{feff}"));
}

#[test]
fn numbers_keep_their_literal() {
    for text in ["0", "-0", "10", "1.10", "1E5", "1e-400", "-0.0", "1.7976931348623157e308", "18446744073709551616"] {
        assert_eq!(ok(text).as_number().unwrap().as_str(), text);
    }
    assert_eq!(ok("18446744073709551615").as_u64(), Some(u64::MAX));
    assert_eq!(ok("-0").as_u64(), Some(0));
    for text in ["18446744073709551616", "-1", "1.0", "1e3", "\"1\""] {
        assert_eq!(ok(text).as_u64(), None, "{text}");
    }
    assert!(ok("-12").as_number().unwrap().is_integer());
    assert!(!ok("1E5").as_number().unwrap().is_integer());
}

#[test]
fn the_bounds_are_exact() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    ok(&nested(MAX_DEPTH));
    assert_eq!(refusal(nested(MAX_DEPTH + 1)), "nesting deeper than 128 levels at line 1, column 129");
    let objects = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    ok(&objects(MAX_DEPTH));
    refusal(objects(MAX_DEPTH + 1));
    // Siblings do not add up.
    ok(&format!("[{}]", vec!["[]"; 1_000].join(",")));

    let digits = "9".repeat(MAX_INTEGER_DIGITS);
    ok(&digits);
    ok(&format!("-{digits}"));
    assert_eq!(refusal(format!("{digits}9")), "an integer of more than 4300 digits at line 1, column 1");
    refusal(format!("-{digits}9"));
    assert_eq!(refusal("[1e309]"), "a number beyond the range of a 64-bit float at line 1, column 2");
    refusal(format!("{digits}.0"));
    refusal("-1.7976931348623159e308");
    ok(&format!("0.{digits}9"));
}

#[test]
fn faults_say_what_and_where() {
    let long = "k".repeat(200);
    let cases: Vec<(Vec<u8>, String)> = [
        ("{\n \"id\":1,\n    \"id\":2}", "duplicate key \"id\" at line 3, column 5"),
        ("{\"a\":{\"b\":[{\"\\u0063\":1,\"c\":2}]}}", "duplicate key \"c\" at line 1, column 24"),
        ("", "the text ends where a value was expected, at line 1, column 1"),
        ("{", "the text ends where a key in double quotes was expected, at line 1, column 2"),
        ("{1:2}", "'1' where a key in double quotes was expected, at line 1, column 2"),
        ("{\"a\":1,}", "'}' where a key in double quotes was expected, at line 1, column 8"),
        ("{\"a\" 1}", "'1' where ':' was expected, at line 1, column 6"),
        ("[1,]", "']' where a value was expected, at line 1, column 4"),
        ("[1 é]", "'é' where ',' or ']' was expected, at line 1, column 4"),
        ("[1", "the text ends where ',' or ']' was expected, at line 1, column 3"),
        ("{}\n{}", "text after the end of the value at line 2, column 1"),
        ("{}\u{a0}", "text after the end of the value at line 1, column 3"),
        ("\u{feff}{}", "a byte order mark, which must not be there, at line 1, column 1"),
        ("\"\\ud800\"", "a lone surrogate \\ud800 at line 1, column 2"),
        ("\"\\udc00\"", "a lone surrogate \\udc00 at line 1, column 2"),
        ("\"\\ud800\\u0041\"", "a lone surrogate \\ud800 at line 1, column 2"),
        ("\"\\ud800\\n\"", "a lone surrogate \\ud800 at line 1, column 2"),
        ("\"\\x\"", "an unknown escape '\\' before 'x' at line 1, column 2"),
        ("\"\\u12g4\"", "'g' where a hexadecimal digit was expected, at line 1, column 6"),
        ("\"\\", "the text ends where an escape was expected, at line 1, column 2"),
        ("\"abc", "the text ends where the end of a string was expected, at line 1, column 5"),
        ("\"a\nb\"", "an unescaped control character '\\n' in a string at line 1, column 3"),
        ("01", "a number with a leading zero at line 1, column 1"),
        ("-", "the text ends where a digit was expected, at line 1, column 2"),
        ("1.", "the text ends where a digit was expected, at line 1, column 3"),
        ("1e+", "the text ends where a digit was expected, at line 1, column 4"),
        ("NaN", "'N' where a value was expected, at line 1, column 1"),
        ("-Infinity", "'I' where a digit was expected, at line 1, column 2"),
        ("nul", "the text ends where null was expected, at line 1, column 4"),
        ("+1", "'+' where a value was expected, at line 1, column 1"),
    ]
    .into_iter()
    .map(|(text, message)| (text.as_bytes().to_vec(), message.to_owned()))
    .chain([
        (b"\"\xff\"".to_vec(), "bytes that are not UTF-8 at line 1, column 2".to_owned()),
        (b"\"\xed\xa0\x80\"".to_vec(), "bytes that are not UTF-8 at line 1, column 2".to_owned()),
        (
            format!("{{\"{long}\":1,\"{long}\":2}}").into_bytes(),
            format!("duplicate key \"{}\"… at line 1, column 207", "k".repeat(80)),
        ),
    ])
    .collect();
    for (bytes, message) in cases {
        assert_eq!(refusal(&bytes), message, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn every_prefix_of_a_document_is_refused() {
    let text = r#"{"a":[1.5e3,"é\u00e9\ud83d\ude00",{"b":null}],"c":-0}"#;
    ok(text);
    for end in 0..text.len() {
        refusal(&text.as_bytes()[..end]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes).map_err(|error| error.to_string());
    }

    /// What an independent reader refuses is refused here too, and what is accepted here it accepts.
    #[test]
    fn nothing_is_accepted_that_another_reader_refuses(text in "[\\[\\]{}:,\"\\\\ u0-9a-fntrls.eE+\\-]{0,24}") {
        if parse(text.as_bytes()).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        }
    }
}
