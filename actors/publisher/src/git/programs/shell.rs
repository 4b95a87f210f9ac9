//! The words of a shell's line, as far as telling programs from data needs them. Pure.

/// What a variable that is unknown leaves in a word.
pub const UNKNOWN: char = '\u{fffd}';

/// The words of a shell's line; `None` between two commands. Quotes are taken off, and a shell's `name=value` and
/// `--option=value` are two words. Nothing here is exact: a word too many is harmless.
pub fn split(line: &str, variable: &dyn Fn(&str) -> Option<String>) -> Vec<Option<String>> {
    let mut words = vec![];
    let mut word = String::new();
    let mut letters = line.chars().peekable();
    let end = |word: &mut String, words: &mut Vec<Option<String>>| {
        if !word.is_empty() {
            words.push(Some(std::mem::take(word)));
        }
    };
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => {}
            // A space that is escaped belongs to the word: `/mnt/c/Program\ Files/…`.
            '\\' => match letters.peek().copied() {
                Some(' ') => word.extend(letters.next()),
                Some('\\') => letters.by_ref().take(1).for_each(drop),
                _ => {}
            },
            '$' => {
                let braced = letters.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(c) = letters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                if braced {
                    letters.by_ref().take_while(|c| *c != '}').for_each(drop);
                } else if name.is_empty() && letters.next_if(|c| *c != '(').is_none() {
                    // What the words between brackets are is seen when they come.
                    continue;
                }
                let is_start = word.is_empty() && words.last().is_none_or(Option::is_none);
                match variable(&name).filter(|_| !name.is_empty()) {
                    // A secret may hold any letter: only what begins like a path is one.
                    Some(value) if is_start || value.starts_with('/') => word.push_str(&value),
                    Some(value) => word.extend(value.chars().filter(|c| *c != '/')),
                    None => word.push(UNKNOWN),
                }
            }
            ';' | '|' | '&' | '(' | ')' | '`' | '\n' => {
                end(&mut word, &mut words);
                words.push(None);
            }
            ' ' | '\t' | '<' | '>' | '=' | ',' => end(&mut word, &mut words),
            // Not in `host:path`, and not in an address.
            ':' if letters.peek() == Some(&'/') => {
                end(&mut word, &mut words);
                while letters.next_if_eq(&'/').is_some() {
                    word = "/".to_owned();
                }
            }
            other => word.push(other),
        }
    }
    end(&mut word, &mut words);
    words
}
