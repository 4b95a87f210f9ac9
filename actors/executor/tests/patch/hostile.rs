//! Diffs that were cut short, or made to hurt.

use std::fmt::Write as _;

use executor::patch::parse::parse;
use proptest::prelude::*;

use super::{files, play};

const SAMPLE: &str = "\
From 1234 Mon Sep 17
Subject: [PATCH] a sample

diff --git a/f b/f
index 1111111..2222222 100644
--- a/f
+++ b/f
@@ -1,3 +1,3 @@ fn main
 one
-two
+zwei
 three
@@ -5,2 +5,3 @@
 five
 six
+seven
diff --git \"a/\\303\\274\" b/moved
similarity index 90%
rename from \"\\303\\274\"
rename to moved
--- \"a/\\303\\274\"
+++ b/moved
@@ -1 +1 @@
-x
+y
diff --git a/new b/new
new file mode 100755
index 0000000..3333333
--- /dev/null
+++ b/new
@@ -0,0 +1,2 @@
+a
+b
-- 
2.50
";

#[test]
fn a_diff_that_was_cut_short_is_never_half_applied() {
    let before = files([("f", "one\ntwo\nthree\nfour\nfive\nsix\n"), ("ü", "x\n")]);
    let whole = play(&before, SAMPLE.as_bytes()).unwrap();
    assert_eq!(whole.len(), 3);
    let mut applied = Vec::new();
    for end in 0..SAMPLE.len() {
        // What is cut between two hunks or files cannot be told from a whole diff; nor can the last of the counted lines,
        // where it is a new one.
        let last = SAMPLE[..end].rsplit('\n').next().unwrap_or_default();
        if last.starts_with('+') {
            continue;
        }
        if let Ok(after) = play(&before, &SAMPLE.as_bytes()[..end]) {
            let is_between = SAMPLE[..end].ends_with('\n') || SAMPLE[end..].starts_with('\n');
            assert!(after == whole || is_between, "{}", &SAMPLE[..end]);
            applied.push(after);
        }
    }
    applied.dedup();
    let mut expected = vec![before.clone(); 4];
    expected[0].get_mut("f").unwrap().0 = b"one\nzwei\nthree\nfour\nfive\nsix\n".to_vec();
    expected[1].insert("f".to_owned(), whole["f"].clone());
    expected[2] = whole.clone();
    expected[2].remove("new");
    // Nothing but the mode tells of an empty file that is made, so that this is a whole diff, too.
    expected[3] = whole.clone();
    expected[3].get_mut("new").unwrap().0.clear();
    expected.push(whole.clone());
    assert_eq!(applied, expected);
    assert_eq!(applied.last(), Some(&whole));
}

#[test]
fn huge_numbers_are_only_numbers() {
    let before = files([("f", "a\nb\nc\n")]);
    for number in [u64::MAX, u64::MAX / 2, 1 << 62, 1 << 32] {
        for ranges in [
            format!("-{number},3 +{number},3"),
            format!("-1,3 +{number},3"),
            format!("-{number},3 +1,3"),
            format!("-2,{number} +2,3"),
            format!("-2,3 +2,{number}"),
            format!("-{number},0 +{number}"),
        ] {
            let diff = format!("--- a/f\n+++ b/f\n@@ {ranges} @@\n a\n-b\n+x\n c\n");
            let _ = play(&before, diff.as_bytes());
        }
    }
}

#[test]
fn ambiguous_hunks_in_a_huge_monotonous_file_cost_one_look() {
    let before = files([("f", &"\n".repeat(10 * 1024 * 1024))]);
    let mut diff = String::from("--- a/f\n+++ b/f\n");
    for number in 0..2_000_u64 {
        let line = 20_000_000 + number * 10;
        write!(diff, "@@ -{line},7 +{line},7 @@\n\n\n\n-\n+x\n\n\n\n").unwrap();
    }
    let found = play(&before, diff.as_bytes()).unwrap_err();
    assert!(found.contains("as well as at line"), "{found}");
}

#[test]
fn hunks_that_are_all_somewhere_else_end_the_search() {
    // Each hunk is found, far from where it says and otherwise than the one before.
    let lines: String = (0..400_000).fold(String::new(), |mut text, number| {
        writeln!(text, "{number}").unwrap();
        text
    });
    let before = files([("f", &lines)]);
    let mut diff = String::from("--- a/f\n+++ b/f\n");
    for number in 0..8_000_u64 {
        let (line, says) = (number * 3 + 2, 399_000 - number * 7);
        let text = |line| line - 1;
        write!(diff, "@@ -{says},3 +{says},3 @@\n {}\n-{}\n+x\n {}\n", text(line), text(line + 1), text(line + 2))
            .unwrap();
    }
    let found = play(&before, diff.as_bytes());
    match found {
        Ok(after) => assert_eq!(after["f"].0.split(|byte| *byte == b'\n').filter(|line| *line == b"x").count(), 8_000),
        Err(error) => assert!(error.contains("too many hunks have shifted"), "{error}"),
    }
}

#[test]
fn a_small_diff_does_not_write_without_bound() {
    // Each part writes the whole file again.
    let before = files([("f", &format!("{}\nend\n", "x".repeat(8 * 1024 * 1024)))]);
    let copies: String =
        (0..100).map(|number| format!("diff --git a/f b/n{number}\ncopy from f\ncopy to n{number}\n")).collect();
    assert!(play(&before, copies.as_bytes()).unwrap_err().contains("more than"));
}

#[test]
fn a_header_of_blanks_is_read_in_good_time() {
    for line in
        [" ".repeat(60_000), "a/ ".repeat(20_000), "/ /a".repeat(15_000), "\t\"".repeat(30_000), "x ".repeat(400_000)]
    {
        assert!(parse(format!("diff --git a/{line}\nnew file mode 100644\n").into_bytes()).fault.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        at in any::<prop::sample::Index>(),
        length in 0..40_usize,
    ) {
        let mut diff = SAMPLE.as_bytes().to_vec();
        let at = at.index(diff.len());
        let end = (at + length).min(diff.len());
        diff.splice(at..end, bytes);
        let before = files([("f", "one\ntwo\nthree\nfour\nfive\nsix\n"), ("ü", "x\n")]);
        // A name that is no UTF-8 never gets so far.
        let parsed = parse(diff.clone());
        if parsed.diff.files.iter().flat_map(|file| file.old.iter().chain(&file.new)).all(|name| name.as_str().is_some()) {
            let _ = play(&before, &diff);
            let _ = parsed.diff.reversed().and_then(|back| back.reversed());
        }
    }
}

#[test]
fn a_name_whose_quote_is_not_closed_on_its_line_is_refused() {
    let diff =
        "diff --git a/f \"b/q\\\"uot\\\\d\"\nsimilarity index 100%\nrename from f\nrename to \"q\\\"uot\n\\\\d\"\n";
    let fault = parse(diff.as_bytes().to_vec()).fault.map(|fault| fault.to_string());
    assert!(fault.is_some(), "git reads a name of two lines there");
}
