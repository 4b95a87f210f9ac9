//! The strict reader of JSON beside a lenient one: what the strict one takes, the other takes too and reads as the same
//! value; what only the lenient one takes breaks a rule that the strict one names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::json::{self, ParseErrorKind, Value};

/// Two readers of decimal fractions may differ in the last bits.
const CLOSE: f64 = 1e-14;

fuzz_target!(|bytes: &[u8]| {
    let strict = json::parse(bytes);
    let lenient = serde_json::from_slice::<serde_json::Value>(bytes);
    match (strict, lenient) {
        (Ok(strict), Ok(lenient)) => assert!(same(&strict, &lenient), "{strict:?}\n{lenient:?}"),
        (Ok(strict), Err(error)) => {
            // The other one bounds depth one level earlier, and reads whole numbers as floats where they are long.
            let said = error.to_string();
            assert!(said.contains("recursion limit") || said.contains("out of range"), "{error}: {strict:?}");
        }
        (Err(error), Ok(lenient)) => {
            let ours = matches!(
                error.kind,
                ParseErrorKind::DuplicateKey(_)
                    | ParseErrorKind::TooDeep
                    | ParseErrorKind::IntegerTooLong
                    | ParseErrorKind::FloatOverflow
            );
            assert!(ours, "{error}: {lenient}");
        }
        (Err(error), Err(_)) => {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            assert!((1..=lines).contains(&error.line), "{error}");
            assert!((1..=bytes.len() + 1).contains(&error.column), "{error}");
            assert!(error.to_string().len() < 1_000, "{error}");
        }
    }
});

fn same(strict: &Value, lenient: &serde_json::Value) -> bool {
    use serde_json::Value as Lenient;
    match (strict, lenient) {
        (Value::Null, Lenient::Null) => true,
        (Value::Bool(one), Lenient::Bool(other)) => one == other,
        (Value::String(one), Lenient::String(other)) => one == other,
        (Value::Number(one), Lenient::Number(other)) => {
            let (one, other) = (one.as_str().parse::<f64>().unwrap(), other.as_f64().unwrap());
            one == other || (one - other).abs() <= CLOSE * one.abs() || one.abs() < f64::MIN_POSITIVE / CLOSE
        }
        (Value::Array(one), Lenient::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Lenient::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(key, one)| other.get(key).is_some_and(|it| same(one, it)))
        }
        _ => false,
    }
}
