//! A diff that somebody sent: reading and applying it takes a bounded time, changes only files that it names, and what it
//! did can be published and taken back.
#![no_main]

use std::collections::BTreeSet;

use executor::overlay::Change;
use executor::patch::files::Kind;
use executor::patch::parse::parse;
use executor::tree::Image;
use fuzz::{Files, change, format, play};
use libfuzzer_sys::fuzz_target;
use protocol::path::RelativePath;

fuzz_target!(|bytes: &[u8]| {
    // Files, if any, end with 0xff; the diff is what comes last.
    let mut parts: Vec<&[u8]> = bytes.split(|byte| *byte == 0xff).collect();
    let Some(text) = parts.pop() else { return };
    let parsed = parse(text.to_vec());
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut before = Files::new();
    for (number, patch) in parsed.diff.files.iter().enumerate() {
        let names = patch.old.iter().chain(&patch.new);
        named.extend(names.filter_map(|name| name.as_str().map(str::to_owned)));
        assert!(patch.line <= parsed.diff.text.len() + 1);
        let sides = patch.hunks().iter().map(|hunk| (hunk.before(text), hunk.after(text)));
        let (old, new): (Vec<_>, Vec<_>) = sides.unzip();
        assert!(old.iter().chain(&new).map(Vec::len).sum::<usize>() <= 2 * text.len());
        // What the diff wants to see, with what was given around it.
        if let Some(name) = patch.old.as_ref().and_then(|name| name.as_str()) {
            let given = parts.get(number).copied().unwrap_or_default();
            let content = [given, &old.concat()].concat();
            before.entry(name.to_owned()).or_insert(Image { content: content.into(), bits: 0o644 });
        }
    }
    if parsed.fault.is_some()
        || parsed.diff.files.iter().flat_map(|it| it.old.iter().chain(&it.new)).any(|it| it.as_str().is_none())
    {
        return;
    }
    let Ok(after) = play(Kind::Sent, &before, &parsed.diff) else { return };
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if old == new {
            continue;
        }
        assert!(named.contains(name), "{name} was never named");
        // Paths are judged by others, before anything is published.
        let Ok(path) = RelativePath::parse(name) else { return };
        changes.push(Change { path, before: old.cloned(), after: new.cloned(), origin: None });
    }
    if changes.is_empty() {
        return;
    }
    let published = parse(executor::diff::render(&changes, format(text)));
    assert_eq!(published.fault, None);
    let there = play(Kind::Published, &before, &published.diff).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(change(&there), change(&after));
    let back = published.diff.reversed().expect("every published diff has a way back");
    let back = play(Kind::Published, &there, &back).unwrap_or_else(|error| panic!("back: {error}"));
    assert_eq!(change(&back), change(&before));
});
