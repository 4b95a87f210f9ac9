//! The canonical form of random documents against Python's own, byte for byte.
//!
//! One long-lived `python3` judges all of them. Where there is none nothing is tested, and the test says so; under
//! `CI=true` that is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use protocol::canonical::{object_without, to_canonical};
use protocol::json::{MAX_INTEGER_DIGITS, parse};

/// Documents that are tried.
const CASES: u32 = 600;

/// Reads a length in decimal on a line, then that many bytes; answers one line, for the canonical form is ASCII.
const SCRIPT: &str = r#"
import json, sys
while True:
    length = sys.stdin.buffer.readline()
    if not length:
        break
    document = json.loads(sys.stdin.buffer.read(int(length)))
    canonical = [json.dumps(document, sort_keys=True, separators=(",", ":"))]
    document.pop("hmac", None)
    canonical.append(json.dumps(document, sort_keys=True, separators=(",", ":")))
    sys.stdout.write("\n".join(canonical) + "\n")
    sys.stdout.flush()
"#;

struct Python {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Python {
    #[expect(clippy::disallowed_methods, reason = "the test's peer is a python3 of its own")]
    fn start() -> Option<Self> {
        let spawned = Command::new("python3").args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = match spawned {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "no python3 to compare with");
                println!("NOT TESTED: there is no python3 to compare with");
                return None;
            }
            other => other.expect("python3 starts"),
        };
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, input, output })
    }

    /// The canonical form of `document`, and that without its `hmac`.
    fn canonical(&mut self, document: &str) -> [String; 2] {
        let input = self.input.as_mut().unwrap();
        write!(input, "{}\n{document}", document.len()).unwrap();
        input.flush().unwrap();
        [(); 2].map(|()| {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            line.strip_suffix('\n').unwrap_or_else(|| panic!("python3 gave up on {document}")).to_owned()
        })
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Its input's end is its own.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// One character of a string's source, and what it means: literal, as a short escape, or as `\u`.
fn spelled() -> impl Strategy<Value = (String, char)> {
    let nasty = prop::sample::select(vec![
        '"',
        '\\',
        '/',
        '\0',
        '\u{8}',
        '\u{c}',
        '\n',
        '\r',
        '\t',
        '\u{1f}',
        ' ',
        '~',
        '\u{7f}',
        '\u{80}',
        '\u{ad}',
        'é',
        '\u{2028}',
        '\u{d7ff}',
        '\u{e000}',
        '\u{feff}',
        '\u{fffd}',
        '\u{fffe}',
        '\u{ffff}',
        '\u{10000}',
        '😀',
        '\u{10ffff}',
        '～',
    ]);
    let character = prop_oneof![nasty, any::<char>(), prop::char::range(' ', '~')];
    (character, 0..4_u8).prop_map(|(character, spelling)| {
        let units = |digits: fn(&u16) -> String| character.encode_utf16(&mut [0; 2]).iter().map(digits).collect();
        let short = match character {
            '"' => Some("\\\""),
            '\\' => Some("\\\\"),
            '/' => Some("\\/"),
            '\u{8}' => Some("\\b"),
            '\u{c}' => Some("\\f"),
            '\n' => Some("\\n"),
            '\r' => Some("\\r"),
            '\t' => Some("\\t"),
            _ => None,
        };
        let source: String = match (spelling, short) {
            (0, _) => units(|unit| format!("\\u{unit:04x}")),
            (1, _) => units(|unit| format!("\\u{unit:04X}")),
            (2, Some(short)) => short.to_owned(),
            _ if character < ' ' || character == '"' || character == '\\' => units(|unit| format!("\\u{unit:04x}")),
            _ => character.to_string(),
        };
        (source, character)
    })
}

/// A string: its source with quotes, and its meaning.
fn string() -> impl Strategy<Value = (String, String)> {
    prop::collection::vec(spelled(), 0..8).prop_map(|characters| {
        let (sources, meaning): (Vec<String>, String) = characters.into_iter().unzip();
        (format!("\"{}\"", sources.concat()), meaning)
    })
}

fn integer() -> impl Strategy<Value = String> {
    let long = (any::<bool>(), "[1-9][0-9]{0,60}")
        .prop_map(|(minus, digits)| format!("{}{digits}", if minus { "-" } else { "" }));
    let longest = (any::<bool>(), 1..=9_u8).prop_map(|(minus, digit)| {
        format!("{}{}", if minus { "-" } else { "" }, char::from(b'0' + digit).to_string().repeat(MAX_INTEGER_DIGITS))
    });
    prop_oneof![8 => any::<i64>().prop_map(|n| n.to_string()), 1 => Just("-0".to_owned()), 8 => long, 1 => longest]
}

/// Floats from random bits, near the edges of the layout, at ties, and as literals that no printer would write.
fn float() -> impl Strategy<Value = String> {
    let printed = |value: f64| if value.is_finite() { format!("{value:?}") } else { "1.5".to_owned() };
    let bits = any::<u64>().prop_map(move |bits| printed(f64::from_bits(bits)));
    let scientific = any::<u64>().prop_map(|bits| {
        let value = f64::from_bits(bits);
        if value.is_finite() { format!("{value:E}") } else { "-0.0e-0".to_owned() }
    });
    let ties = (any::<i64>(), 0..12_i32)
        .prop_map(|(whole, shift)| format!("{:?}", (whole >> 10) as f64 / f64::from(1 << shift)));
    let powers = (-330..308_i32, "[1-9]").prop_map(|(exponent, digit)| format!("{digit}e{exponent}"));
    let layout = ("[1-9][0-9]{0,20}", -30..25_i32).prop_map(|(digits, exponent)| format!("{digits}e{exponent:+}"));
    let odd = ("-?", "(0|[1-9][0-9]{0,24})", "[0-9]{1,40}", "([eE][+-]?[0-9]{1,2})?")
        .prop_map(|(a, b, c, d)| format!("{a}{b}.{c}{d}"));
    prop_oneof![bits, scientific, ties, powers, layout, odd]
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "", " ", "\n", "\r\n", "\t", "  "])
}

fn object(value: impl Strategy<Value = String> + Clone) -> impl Strategy<Value = String> {
    let signature = prop::sample::select(vec![r#""hmac""#, r#""h\u006dac""#]);
    let key = prop_oneof![4 => string(), 1 => signature.prop_map(|source| (source.to_owned(), "hmac".to_owned()))];
    (prop::collection::vec((key, value), 0..7), space(), space()).prop_map(|(members, before, after)| {
        // By meaning, so that no key comes twice; then by source, so that they come in another order than sorted.
        let unique: BTreeMap<String, (String, String)> =
            members.into_iter().map(|((source, meaning), value)| (meaning, (source, value))).collect();
        let mut members: Vec<_> = unique.into_values().collect();
        members.sort_by(|a, b| b.cmp(a));
        let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}{after}:{before}{value}")).collect();
        format!("{{{before}{}{after}}}", members.join(&format!("{after},{before}")))
    })
}

fn value() -> impl Strategy<Value = String> + Clone {
    let word = prop::sample::select(vec!["null", "true", "false"]).prop_map(str::to_owned);
    let leaf = prop_oneof![1 => word, 4 => string().prop_map(|(source, _)| source), 3 => integer(), 6 => float()];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let array = (prop::collection::vec(inner.clone(), 0..7), space())
            .prop_map(|(elements, gap)| format!("[{gap}{}{gap}]", elements.join(&format!("{gap},"))));
        prop_oneof![array, object(inner)]
    })
    .boxed()
}

#[test]
fn random_documents_have_the_canonical_form_that_python_gives_them() {
    let Some(python) = Python::start() else { return };
    let python = RefCell::new(python);
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&object(value()), |document| {
            let [whole, unsigned] = python.borrow_mut().canonical(&document);
            let value =
                parse(document.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}: {document}")))?;
            prop_assert_eq!(to_canonical(&value), whole);
            prop_assert_eq!(object_without(value.as_object().unwrap(), "hmac"), unsigned);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn random_floats_have_the_digits_that_python_gives_them() {
    let Some(python) = Python::start() else { return };
    let python = RefCell::new(python);
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(float(), 50), |floats| {
            let document = format!("{{\"v\":[{}]}}", floats.join(","));
            let value =
                parse(document.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}: {document}")))?;
            let [whole, _] = python.borrow_mut().canonical(&document);
            prop_assert_eq!(to_canonical(&value), whole);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
