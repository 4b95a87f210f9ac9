//! A strict reader of JSON, RFC 8259.
//!
//! What a signature covers must mean one thing to everybody who reads it. So whatever two readers could understand
//! differently is refused here (contract, section 3): bytes that are no UTF-8, a byte order mark, a key given twice, a
//! lone surrogate, `NaN` and its kin, text after the value, numbers that other readers cannot hold, depths that they
//! cannot reach. Numbers keep their literal, because their canonical form depends on how they were written.
//!
//! Reading takes time and memory in proportion to the input and never panics, whatever the bytes are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// The deepest nesting of arrays and objects; a lone `[]` has depth 1.
pub const MAX_DEPTH: usize = 128;

/// The most digits that an integer may have, its sign not counted: what Python reads by default.
pub const MAX_INTEGER_DIGITS: usize = 4_300;

/// The most characters of the input that an error message quotes.
const MAX_QUOTED_CHARS: usize = 80;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it was written.
    Number(Number),
    /// A string, its escapes resolved.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Object),
}

/// An object's members, sorted by key in code point order (which is the byte order of UTF-8).
pub type Object = BTreeMap<String, Value>;

impl Value {
    /// What the value is, with its article, for messages: `an object`, `a string`, `null`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }

    /// The boolean, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(flag) = self { Some(*flag) } else { None }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<&Number> {
        if let Value::Number(number) = self { Some(number) } else { None }
    }

    /// The number, if it is one that [`Number::as_u64`] can give.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number().and_then(Number::as_u64)
    }

    /// The text, if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }

    /// The elements, if it is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Value::Array(elements) = self { Some(elements) } else { None }
    }

    /// The members, if it is an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&Object> {
        if let Value::Object(members) = self { Some(members) } else { None }
    }
}

/// A number's literal, exactly as it was sent. Equality is that of the literal: `1` is not `1.0`.
///
/// Only [`parse`] makes one, so an integer has at most [`MAX_INTEGER_DIGITS`] and anything else is a finite `f64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number(Box<str>);

impl Number {
    /// The literal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is written as a whole number, with neither fraction nor exponent.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        !self.0.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
    }

    /// Its value, if it is written as a whole number that fits; `-0` is 0, `1.0` and `1e3` are none.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        if &*self.0 == "-0" { Some(0) } else { self.0.parse().ok() }
    }
}

/// Where and why bytes are not the one JSON value that they should be. Displays as one sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, counted from 1; lines end with `\n`.
    pub line: usize,
    /// The column in that line, in bytes, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}, column {}", self.kind, self.line, self.column)
    }
}

impl std::error::Error for ParseError {}

/// What is wrong with a JSON text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// The bytes are not UTF-8.
    #[error("bytes that are not UTF-8")]
    NotUtf8,
    /// The text starts with U+FEFF.
    #[error("a byte order mark, which must not be there,")]
    ByteOrderMark,
    /// The text ends too early.
    #[error("the text ends where {0} was expected,")]
    Ended(&'static str),
    /// Another character than the grammar allows: the one found, and what could stand there.
    #[error("{0:?} where {1} was expected,")]
    Unexpected(char, &'static str),
    /// Something follows the value.
    #[error("text after the end of the value")]
    Trailing,
    /// The same object has this key twice; the key is shortened.
    #[error("duplicate key {0}")]
    DuplicateKey(String),
    /// More than [`MAX_DEPTH`] levels.
    #[error("nesting deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// An unescaped character below U+0020 in a string.
    #[error("an unescaped control character {0:?} in a string")]
    Control(char),
    /// A backslash before a character that makes no escape.
    #[error("an unknown escape '\\' before {0:?}")]
    Escape(char),
    /// Half of a surrogate pair alone.
    #[error("a lone surrogate \\u{0:04x}")]
    LoneSurrogate(u16),
    /// A number with a zero before its first digit.
    #[error("a number with a leading zero")]
    LeadingZero,
    /// More than [`MAX_INTEGER_DIGITS`] digits.
    #[error("an integer of more than {MAX_INTEGER_DIGITS} digits")]
    IntegerTooLong,
    /// A number that no 64-bit float can hold.
    #[error("a number beyond the range of a 64-bit float")]
    FloatOverflow,
}

/// Reads one JSON value, which must be all there is but for white space around it.
///
/// # Errors
/// The first place at which the text breaks a rule of this module.
pub fn parse(bytes: &[u8]) -> Result<Value, ParseError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(locate(bytes, Fault { at: error.valid_up_to(), kind: ParseErrorKind::NotUtf8 })),
    };
    Reader { text, at: 0, depth: 0 }.document().map_err(|fault| locate(bytes, fault))
}

/// A fault at a byte offset; its line is only worked out for the one that ends the reading.
struct Fault {
    at: usize,
    kind: ParseErrorKind,
}

type Reading<T> = Result<T, Fault>;

fn locate(bytes: &[u8], fault: Fault) -> ParseError {
    let before = bytes.get(..fault.at).unwrap_or(bytes);
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    ParseError { line, column, kind: fault.kind }
}

/// A text of the input, quoted, escaped and shortened so that it is fit for a message.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

/// Recursive descent, one function a production; `depth` bounds the recursion.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn document(mut self) -> Reading<Value> {
        if self.text.starts_with('\u{feff}') {
            return Err(self.fault(ParseErrorKind::ByteOrderMark));
        }
        self.skip_space();
        let value = self.value()?;
        self.skip_space();
        if self.at < self.text.len() {
            return Err(self.fault(ParseErrorKind::Trailing));
        }
        Ok(value)
    }

    fn value(&mut self) -> Reading<Value> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object).map(Value::Object),
            Some(b'[') => self.nested(Self::array).map(Value::Array),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn word(&mut self, word: &'static str, value: Value) -> Reading<Value> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return Err(self.unexpected(word));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn nested<T>(&mut self, inner: fn(&mut Self) -> Reading<T>) -> Reading<T> {
        if self.depth == MAX_DEPTH {
            return Err(self.fault(ParseErrorKind::TooDeep));
        }
        self.depth += 1;
        self.at += 1;
        self.skip_space();
        let value = inner(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// What follows `[` and white space.
    fn array(&mut self) -> Reading<Vec<Value>> {
        let mut elements = Vec::new();
        if self.eat(b']') {
            return Ok(elements);
        }
        loop {
            elements.push(self.value()?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(elements);
            }
            self.expect(b',', "',' or ']'")?;
            self.skip_space();
        }
    }

    /// What follows `{` and white space.
    fn object(&mut self) -> Reading<Object> {
        let mut members = Object::new();
        if self.eat(b'}') {
            return Ok(members);
        }
        loop {
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            match members.entry(self.string()?) {
                Entry::Occupied(member) => {
                    return Err(Fault { at: start, kind: ParseErrorKind::DuplicateKey(quoted(member.key())) });
                }
                Entry::Vacant(place) => {
                    self.skip_space();
                    self.expect(b':', "':'")?;
                    self.skip_space();
                    place.insert(self.value()?);
                }
            }
            self.skip_space();
            if self.eat(b'}') {
                return Ok(members);
            }
            self.expect(b',', "',' or '}'")?;
            self.skip_space();
        }
    }

    /// A string, from its opening quote on.
    fn string(&mut self) -> Reading<String> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let start = self.at;
            let rest = self.text.as_bytes().get(start..).unwrap_or_default();
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
            self.at += plain;
            string.push_str(self.since(start));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                Some(control) => return Err(self.fault(ParseErrorKind::Control(char::from(control)))),
                None => return Err(self.fault(ParseErrorKind::Ended("the end of a string"))),
            }
        }
    }

    /// An escape, from its backslash on.
    fn escape(&mut self) -> Reading<char> {
        let start = self.at;
        self.at += 1;
        let character = match self.peek() {
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape(start);
            }
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            _ => {
                let kind = self.here().map_or(ParseErrorKind::Ended("an escape"), ParseErrorKind::Escape);
                return Err(Fault { at: start, kind });
            }
        };
        self.at += 1;
        Ok(character)
    }

    /// What follows `\u`, and the other half of a pair where it is the first one; `start` is the backslash.
    fn unicode_escape(&mut self, start: usize) -> Reading<char> {
        let unit = self.code_unit()?;
        let lone = Fault { at: start, kind: ParseErrorKind::LoneSurrogate(unit) };
        if !(0xd800..0xdc00).contains(&unit) {
            return char::from_u32(u32::from(unit)).ok_or(lone);
        }
        if !(self.eat(b'\\') && self.eat(b'u')) {
            return Err(lone);
        }
        let pair = [unit, self.code_unit()?];
        char::decode_utf16(pair).next().and_then(Result::ok).ok_or(lone)
    }

    /// Four hexadecimal digits.
    fn code_unit(&mut self) -> Reading<u16> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = match self.peek() {
                Some(byte @ b'0'..=b'9') => byte - b'0',
                Some(byte @ b'a'..=b'f') => byte - b'a' + 10,
                Some(byte @ b'A'..=b'F') => byte - b'A' + 10,
                _ => return Err(self.unexpected("a hexadecimal digit")),
            };
            unit = unit << 4 | u16::from(digit);
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Reading<Number> {
        let start = self.at;
        self.eat(b'-');
        let first = self.at;
        self.digits()?;
        let digits = self.at - first;
        if digits > 1 && self.text.as_bytes().get(first) == Some(&b'0') {
            return Err(Fault { at: first, kind: ParseErrorKind::LeadingZero });
        }
        let mut integer = true;
        if self.eat(b'.') {
            integer = false;
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            integer = false;
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        let literal = self.since(start);
        if integer && digits > MAX_INTEGER_DIGITS {
            return Err(Fault { at: start, kind: ParseErrorKind::IntegerTooLong });
        }
        if !integer && !literal.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(Fault { at: start, kind: ParseErrorKind::FloatOverflow });
        }
        Ok(Number(literal.into()))
    }

    /// At least one decimal digit.
    fn digits(&mut self) -> Reading<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, name: &'static str) -> Reading<()> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected(name)) }
    }

    /// The text from `start` up to here. Both are always beside an ASCII character, so the range is a good one.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The character that stands here.
    fn here(&self) -> Option<char> {
        self.text.get(self.at..).and_then(|rest| rest.chars().next())
    }

    fn unexpected(&self, expected: &'static str) -> Fault {
        self.fault(match self.here() {
            Some(found) => ParseErrorKind::Unexpected(found, expected),
            None => ParseErrorKind::Ended(expected),
        })
    }

    fn fault(&self, kind: ParseErrorKind) -> Fault {
        Fault { at: self.at, kind }
    }
}

#[cfg(test)]
#[path = "json/tests.rs"]
mod tests;
