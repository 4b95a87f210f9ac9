//! Published diffs, undone in memory: text and binary files, made, changed, moved and deleted.

use std::convert::Infallible;

use executor::diff::render;
use executor::overlay::{Change, Origin};
use executor::patch::files::{self, Kind};
use executor::patch::parse::parse;
use executor::tree::Image;
use proptest::prelude::*;
use protocol::git_id::ObjectFormat;
use protocol::path::RelativePath;

use super::{Files, play_as};

fn image((content, executable): &(Vec<u8>, bool)) -> Image {
    Image { content: content.as_slice().into(), bits: if *executable { 0o755 } else { 0o644 } }
}

/// The diff that is published for what leads from one tree to the other; `moved` says where files came from.
fn published(before: &Files, after: &Files, moved: &[(&str, &str)], ids: ObjectFormat) -> Vec<u8> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |name: &&String| {
        let origin = moved.iter().find(|(_, to)| to == *name).and_then(|(from, _)| {
            Some(Origin {
                path: RelativePath::parse(from).unwrap(),
                image: image(before.get(*from)?),
                gone: !after.contains_key(*from),
            })
        });
        let path = RelativePath::parse(name).unwrap();
        Change { path, before: before.get(*name).map(image), after: after.get(*name).map(image), origin }
    };
    let changes: Vec<Change> =
        names.iter().filter(|name| before.get(**name) != after.get(**name)).map(change).collect();
    render(&changes, ids)
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec!["x\n", "y\n", "long line of text\n", "crlf\r\n", "\n", "- a\n", "+ \\\n"]);
    let text = (prop::collection::vec(line, 0..40), prop::sample::select(vec!["", "no newline", "\r"]))
        .prop_map(|(lines, end)| format!("{}{end}", lines.concat()).into_bytes());
    let binary = prop::collection::vec(any::<u8>(), 0..300).prop_map(|mut bytes| {
        bytes.push(0);
        bytes
    });
    prop_oneof![4 => text, 2 => binary, 1 => Just(b"\xff\xfe no utf-8\n".to_vec())]
}

fn tree() -> impl Strategy<Value = Files> {
    let paths = prop::sample::select(vec!["a", "b.txt", "dir/c", "dir/d e.txt", "ü/日本"]);
    prop::collection::btree_map(paths.prop_map(str::to_owned), (content(), any::<bool>()), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_published_diff_leads_there_and_back(
        before in tree(),
        mut after in tree(),
        moves in any::<bool>(),
        ids in prop::sample::select(vec![ObjectFormat::Sha1, ObjectFormat::Sha256]),
    ) {
        // The file at "a" becomes "moved", as it is.
        if let (true, Some(file)) = (moves, before.get("a")) {
            after.remove("a");
            after.insert("moved".to_owned(), file.clone());
        }
        let diff = published(&before, &after, &[("a", "moved")], ids);
        if before == after {
            prop_assert!(diff.is_empty());
        } else {
            let parsed = parse(diff);
            prop_assert_eq!(&parsed.fault, &None);
            prop_assert_eq!(play_as(Kind::Published, &before, &parsed.diff), Ok(after.clone()));
            let back = parsed.diff.reversed().unwrap();
            prop_assert_eq!(play_as(Kind::Published, &after, &back), Ok(before.clone()));
            prop_assert_eq!(&back.reversed().unwrap(), &parsed.diff);
            // From any other file there is no way back.
            for file in &parsed.diff.files {
                let (Some(new), true) = (&file.new, file.ids.is_some()) else { continue };
                let mut other = after.clone();
                other.get_mut(new.as_str().unwrap()).unwrap().0.push(b'!');
                let found = play_as(Kind::Published, &other, &back);
                prop_assert!(found.as_ref().is_err_and(|error| error.contains("not the one that the diff was made from")), "{found:?}");
            }
        }
    }
}

#[test]
fn a_literal_is_held_to_the_size_it_says() {
    let before = Files::new();
    let after = Files::from([("b".to_owned(), (vec![0; 100_000], false))]);
    let diff = String::from_utf8(published(&before, &after, &[], ObjectFormat::Sha1)).unwrap();
    let played = |diff: String| {
        let parsed = parse(diff.into_bytes());
        match parsed.fault {
            Some(fault) => Err(fault.to_string()),
            None => play_as(Kind::Published, &before, &parsed.diff),
        }
    };
    assert_eq!(played(diff.clone()), Ok(after));
    for (from, to, expected) in [
        ("literal 100000", "literal 99999", "not 99999 bytes long"),
        ("literal 100000", "literal 100001", "not 100001 bytes long"),
        ("literal 100000", "literal 99999999999", "more than the"),
        ("literal 100000", "delta 100000", "does not hold the file's bytes as a literal"),
        ("literal 100000", "letter 100000", "must begin with \"literal\" or \"delta\""),
        ("\n\nliteral 0", "\nliteral 0", "no base 85"),
        ("0000000000..", "1111111111..", "not the one that the diff was made from"),
        ("\nindex ", "\nindexes ", "a binary diff without a git header"),
    ] {
        assert!(diff.contains(from), "{from}\n{diff}");
        let found = played(diff.replacen(from, to, 1)).unwrap_err();
        assert!(found.contains(expected), "{from} → {to}: {found}");
    }
    let looked = files::play(&parse(diff.into_bytes()).diff, Kind::Sent, |_| Ok::<_, Infallible>(None), |_| false);
    assert!(looked.unwrap_err().to_string().contains("a binary diff is not applied"));
}
