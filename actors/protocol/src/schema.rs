//! Reading typed fields out of a JSON object, with a JSON pointer (RFC 6901) in every complaint.

use crate::json::{Object, Value};
use crate::reason::{Reason, Stage, Verdict};

/// How much of an offending value a detail quotes, in characters.
const QUOTE_CHARS: usize = 60;

/// The fields of one object.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    pointer: String,
    object: &'a Object,
}

impl<'a> Fields<'a> {
    /// The fields of `object`, which stands at `pointer` in the document.
    #[must_use]
    pub fn new(pointer: String, object: &'a Object) -> Self {
        Self { pointer, object }
    }

    /// The fields of `value`, which must be an object.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(pointer: String, value: &'a Value) -> Result<Self, Verdict> {
        match value {
            Value::Object(object) => Ok(Self::new(pointer, object)),
            other => Err(wrong_type(&pointer, "an object", other)),
        }
    }

    /// Refuses every field that is not in `known`.
    ///
    /// # Errors
    /// For the first unknown field.
    pub fn only(&self, known: &[&str]) -> Result<(), Verdict> {
        match self.object.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(fault(&self.at(key), format!("unknown field; known here: {}", known.join(", ")))),
        }
    }

    /// The pointer of the field `key`.
    #[must_use]
    pub fn at(&self, key: &str) -> String {
        let key: String = key.chars().take(QUOTE_CHARS).collect();
        format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"))
    }

    /// The field `key`, if it is there.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key)
    }

    /// The field `key`.
    ///
    /// # Errors
    /// When it is missing.
    pub fn required(&self, key: &str) -> Result<&'a Value, Verdict> {
        self.get(key).ok_or_else(|| fault(&self.at(key), "required field is missing"))
    }

    /// The string `key`.
    ///
    /// # Errors
    /// When it is missing or no string.
    pub fn string(&self, key: &str) -> Result<&'a str, Verdict> {
        string_value(&self.at(key), self.required(key)?)
    }

    /// The string `key`, if it is there.
    ///
    /// # Errors
    /// When it is no string.
    pub fn optional_string(&self, key: &str) -> Result<Option<&'a str>, Verdict> {
        self.get(key).map(|value| string_value(&self.at(key), value)).transpose()
    }

    /// The array `key`.
    ///
    /// # Errors
    /// When it is missing or no array.
    pub fn array(&self, key: &str) -> Result<&'a [Value], Verdict> {
        match self.required(key)? {
            Value::Array(items) => Ok(items),
            other => Err(wrong_type(&self.at(key), "an array", other)),
        }
    }

    /// The whole number `key`, at least `min`.
    ///
    /// # Errors
    /// When it is missing, no whole number, or out of range.
    pub fn whole(&self, key: &str, min: u64) -> Result<u64, Verdict> {
        self.required(key)?;
        self.optional_whole(key, min).map(|number| number.unwrap_or(min))
    }

    /// The whole number `key`, at least `min`, if it is there.
    ///
    /// # Errors
    /// When it is no whole number, or out of range.
    pub fn optional_whole(&self, key: &str, min: u64) -> Result<Option<u64>, Verdict> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value {
            Value::Number(number) => match number.as_u64() {
                Some(number) if number >= min => Ok(Some(number)),
                _ => {
                    let found = quote(number.as_str());
                    Err(fault(&self.at(key), format!("must be a whole number of at least {min}, found {found}")))
                }
            },
            other => Err(wrong_type(&self.at(key), "a whole number", other)),
        }
    }

    /// The boolean `key`, `false` where it is missing.
    ///
    /// # Errors
    /// When it is no boolean.
    pub fn flag(&self, key: &str) -> Result<bool, Verdict> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong_type(&self.at(key), "true or false", other)),
        }
    }
}

/// The string at `pointer`.
///
/// # Errors
/// When `value` is no string.
pub fn string_value<'a>(pointer: &str, value: &'a Value) -> Result<&'a str, Verdict> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(pointer, "a string", other)),
    }
}

/// A `schema` verdict about the place `pointer`.
pub fn fault(pointer: &str, what: impl std::fmt::Display) -> Verdict {
    Verdict::new(Stage::Schema, Reason::Schema, format!("{pointer}: {what}"))
}

fn wrong_type(pointer: &str, wanted: &str, found: &Value) -> Verdict {
    fault(pointer, format!("must be {wanted}, found {}", found.kind()))
}

/// `text` in quotes, escaped and cut to a readable length.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut cut: String = text.chars().take(QUOTE_CHARS).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}
