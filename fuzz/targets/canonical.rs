//! The canonical form: plain ASCII on one line, its own canonical form, the same for every spelling of a value, and all
//! that the value says. Without a member it is the form of the object that lacks it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::canonical::{object_without, to_canonical};
use protocol::json::{self, Value};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes) else { return };
    let canonical = to_canonical(&value);
    assert!(canonical.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{canonical}");
    let again = json::parse(canonical.as_bytes()).unwrap_or_else(|error| panic!("{error}: {canonical}"));
    assert_eq!(to_canonical(&again), canonical);
    assert!(means(&value, &again), "{value:?}\n{again:?}");
    let respelled = respelled(&value);
    let other = json::parse(respelled.as_bytes()).unwrap_or_else(|error| panic!("{error}: {respelled}"));
    assert_eq!(to_canonical(&other), canonical);
    if let Value::Object(object) = value {
        for key in object.keys().map(String::as_str).chain(["hmac", ""]) {
            let mut less = object.clone();
            less.remove(key);
            assert_eq!(object_without(&object, key), to_canonical(&Value::Object(less)));
        }
    }
});

/// Whether two values say the same, numbers compared as numbers of their kind.
fn means(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_integer() => {
            let zero = |text: &str| text == "-0" || text == "0";
            other.is_integer() && (one == other || (zero(one.as_str()) && zero(other.as_str())))
        }
        (Value::Number(one), Value::Number(other)) => {
            let bits = |text: &str| text.parse::<f64>().unwrap().to_bits();
            !other.is_integer() && bits(one.as_str()) == bits(other.as_str())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| means(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|((key, one), (name, other))| key == name && means(one, other))
        }
        _ => one == other,
    }
}

/// The value with its keys in the opposite order, white space wherever it may be, and every character escaped.
fn respelled(value: &Value) -> String {
    let text = |text: &str| {
        let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        format!("\"{units}\"")
    };
    match value {
        Value::Null => " null\n".to_owned(),
        Value::Bool(flag) => format!("\t{flag} "),
        Value::Number(number) => format!("\r{} ", number.as_str()),
        Value::String(string) => text(string),
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(respelled).collect();
            format!("[ {} ]", elements.join(" , "))
        }
        Value::Object(members) => {
            let members = members.iter().rev().map(|(key, value)| format!("{} :{}", text(key), respelled(value)));
            format!("{{\n{} }}", members.collect::<Vec<_>>().join(",\t"))
        }
    }
}
