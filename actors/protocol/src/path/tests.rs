//! Tables of hostile and of good paths, and what folding makes equal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use PathRule::*;

/// Paths that must be refused, by the rule that says so.
fn hostile() -> Vec<(PathRule, Vec<String>)> {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    vec![
        (EmptyPath, texts(&[""])),
        (Absolute, texts(&["/", "//", "/etc/passwd", "//host/share", "/.", "/..", "/.git"])),
        (EmptyComponent, texts(&["a/", "a//b", "a///b", "a/b/", ".git//x", "a//.."])),
        (CurrentFolder, texts(&[".", "./a", "a/.", "a/./b", ".git/."])),
        (
            ParentFolder,
            texts(&["..", "../a", "a/..", "a/../b", "a/../../b", "a/b/../../../c", ".git/../x", "a\\b/../c", "x\0/.."]),
        ),
        (PathTooLong, vec!["a/".repeat(2_048) + "b", "é".repeat(3_000)]),
        (ComponentTooLong, vec!["a".repeat(256), "é".repeat(128), format!("x/{}/y", "b".repeat(256)), ".".repeat(256)]),
        (
            ReservedCharacter,
            texts(&[
                "a\\b",
                "..\\a",
                "\\",
                "\\\\host\\share",
                "C:",
                "C:\\Windows",
                "C:/Windows",
                "c:a",
                "a:b",
                "file.txt:stream",
                "file.txt::$DATA",
                ".git::$INDEX_ALLOCATION",
                "a*",
                "*",
                "a?b",
                "a\"b",
                "a<b",
                "a>b",
                "a|b",
                "|",
                "%a/x\\..\\..\\y",
                "\\\\?\\C:\\x",
            ]),
        ),
        (
            ControlCharacter,
            texts(&[
                "a\0",
                "\0",
                "a\0.txt",
                "a\nb",
                "a\rb",
                "a\tb",
                "\u{1b}[31m",
                "a\u{7f}",
                "a\u{80}",
                "a\u{85}b",
                "a\u{9f}",
            ]),
        ),
        (
            WhiteSpace,
            texts(&[
                "a\u{a0}b",
                "\u{a0}",
                "a\u{1680}b",
                "a\u{2003}b",
                "a\u{2007}",
                "a\u{2028}b",
                "a\u{2029}b",
                "a\u{202f}b",
                "a\u{205f}b",
                "\u{3000}a",
            ]),
        ),
        (
            InvisibleCharacter,
            texts(&[
                ".g\u{200c}it/config",
                ".git\u{200b}",
                "\u{feff}a",
                "a\u{feff}",
                "a\u{200d}b",
                "a\u{200e}b",
                "a\u{200f}b",
                "a\u{202a}b",
                "a\u{202e}txt.exe",
                "a\u{2060}b",
                "a\u{2066}b",
                "a\u{2069}b",
                "a\u{206a}b",
                "a\u{206f}b",
                "a\u{ad}b",
                "a\u{61c}b",
                "a\u{180e}b",
                "a\u{34f}b",
                "a\u{115f}b",
                "a\u{3164}b",
                "a\u{fe0f}",
                "a\u{180b}b",
                "a\u{fff9}b",
                "a\u{e0001}b",
                "a\u{e0041}b",
                "a\u{e0100}",
                "❤\u{fe0f}",
                "👩\u{200d}🚀",
                "co\u{200d}mmands/x",
            ]),
        ),
        (
            UnassignedCharacter,
            texts(&[
                "a\u{e000}",
                "a\u{f05c}b",
                "\u{f02e}git",
                "a\u{f8ff}",
                "a\u{10fffd}",
                "a\u{378}",
                "a\u{ffff}",
                "a\u{fdd0}",
                "a\u{e0fff}",
            ]),
        ),
        (
            NotNormalised,
            texts(&[
                "e\u{301}",
                "cafe\u{301}.txt",
                "\u{212b}",
                "\u{2126}",
                "\u{fb01}le",
                "\u{ff41}",
                "\u{ff0e}\u{ff0e}",
                "\u{ff0e}git",
                "a\u{ff0f}b",
                "a\u{2100}b",
                "\u{2024}git",
                "\u{2025}",
                "\u{2026}",
                "\u{2025}/\u{2025}/etc",
                "x\u{b2}",
                "COM\u{b9}",
                "lpt\u{b2}.txt",
                "com\u{b3}",
                "\u{17f}ecret",
                "\u{212a}ey",
                "\u{1e9b}\u{323}",
                "\u{1100}\u{1161}",
                "a\u{37e}",
                "\u{2474}",
            ]),
        ),
        (
            LeadingDot,
            texts(&[
                ".git",
                ".GIT",
                ".Git/config",
                "a/.git/hooks/x",
                ".github/workflows/ci.yml",
                ".gitattributes",
                ".gitmodules",
                ".gitignore",
                ".bridge.lock",
                ".env",
                "...",
                "....",
                ".git.",
                ".git ",
                ".a",
                "a/.b",
                ". ",
                ".. ",
                "a/.. /b",
                ".~1",
                ".con",
                ".\u{131}",
                ".g\u{131}t",
            ]),
        ),
        (LeadingHyphen, texts(&["-", "--", "-rf", "--help", "a/-b", "-.git"])),
        (LeadingTilde, texts(&["~", "~root", "~/x", "a/~b", "~1", "~$doc.docx"])),
        (OuterSpace, texts(&[" ", " a", "a ", "a /b", "a/ b", " .git", "a/ /b", "con ", "a. "])),
        (TrailingDot, texts(&["a.", "a..", "git.", "a./b", "con.", "x.txt.", "git~1."])),
        (
            DeviceName,
            texts(&[
                "CON",
                "con",
                "Con.txt",
                "con.tar.gz",
                "PRN",
                "prn.x",
                "AUX",
                "aux.c",
                "NUL",
                "nul.txt",
                "a/nul/b",
                "COM0",
                "com1",
                "COM9.log",
                "LPT0",
                "lpt1",
                "LPT9.x",
                "CONIN$",
                "conout$",
                "CONOUT$.txt",
                "con .txt",
                "nul  .a.b",
            ]),
        ),
        (
            ShortName,
            texts(&[
                "git~1",
                "GIT~1",
                "GIT~1/config",
                "a/GIT~2",
                "PROGRA~1",
                "LONGFI~1.TXT",
                "gi7eba~1",
                "GI7D29~1",
                "a~12",
                "x~0",
                "git~1.x.y",
                "a~1~2",
                "git~1 .x",
                "COMMAN~1/x.json",
            ]),
        ),
    ]
}

#[test]
fn hostile_paths_are_refused_for_the_right_reason() {
    let mut count = 0;
    for (rule, texts) in hostile() {
        let escape = matches!(rule, EmptyPath | Absolute | EmptyComponent | CurrentFolder | ParentFolder);
        let reason = if escape { Reason::PathEscape } else { Reason::PathDenied };
        for text in texts {
            let fault = RelativePath::parse(&text).expect_err(&format!("{text:?} must be refused"));
            assert_eq!((fault.rule(), fault.reason()), (rule, reason), "{text:?}");
            let sentence = fault.to_string();
            assert!(sentence.starts_with(&rule.to_string()), "{sentence}");
            assert!(
                sentence.chars().all(|c| !c.is_control() && forbidden_character(c) != Some(InvisibleCharacter)),
                "{sentence:?}"
            );
            count += 1;
        }
    }
    assert!(count >= 120, "{count}");
}

#[test]
fn good_paths_are_kept_as_sent() {
    let deep = "a/".repeat(2_047) + "bc";
    let widest = "w".repeat(MAX_COMPONENT_BYTES);
    let good = [
        "a",
        "a/b/c",
        "README.md",
        "src/main.rs",
        "a-b",
        "a~b",
        "a~",
        "a~b1",
        "a~1b",
        "backup~x.txt",
        "a b",
        "docs/My File (1).txt",
        "a.b.c",
        "a..b",
        "a...b",
        "x/a..b/y",
        "Makefile",
        "100%",
        "a'b",
        "a`b",
        "$HOME",
        "#1",
        "a&b",
        "a;b",
        "a,b",
        "a=b",
        "a+b",
        "[x]",
        "{x}",
        "@a",
        "!a",
        "^a",
        "_",
        "0",
        "café.txt",
        "Ünï/çødé",
        "漢字/かな.md",
        "Ελληνικά",
        "ΟΔΟΣ",
        "Привет",
        "עברית",
        "العربية",
        "हिन्दी",
        "ไทย",
        "한국어",
        "🚀",
        "emoji 😀.txt",
        "straße",
        "ı",
        "İstanbul",
        "ø",
        "console",
        "con-1",
        "auxiliary.c",
        "nullable",
        "com",
        "com10",
        "COM1x",
        "lpt",
        "xcon",
        "a.con",
        "file.nul",
        "communicate",
        "CONIN",
        "git",
        "gitconfig",
        "HEAD",
        "commands",
        "results/x",
        "github/x",
        "a~git",
        "x.~1~",
        "v1.~2",
        &deep,
        &widest,
    ];
    for text in good {
        let path = RelativePath::parse(text).unwrap_or_else(|fault| panic!("{text:?}: {fault}"));
        assert_eq!(path.as_str(), text);
        assert_eq!(path.to_string(), text);
        assert_eq!(path.components().collect::<Vec<_>>().join("/"), text);
    }
    assert_eq!(deep.len(), MAX_PATH_BYTES);
}

#[test]
fn faults_name_the_rule_and_show_the_component() {
    let sentence = |text: &str| RelativePath::parse(text).unwrap_err().to_string();
    assert_eq!(sentence("a/.git/x"), "a path's component must not begin with a dot: \".git\"");
    assert_eq!(sentence("a/../x"), "a path must have no component \"..\": \"a/../x\"");
    assert_eq!(
        sentence("a\u{202e}b"),
        "a path's component must hold no format, bidi or zero-width character: \"a\\u{202e}b\""
    );
    let long = sentence(&"x".repeat(10_000));
    assert_eq!(long, format!("a path must have at most 4096 bytes: \"{}\"…", "x".repeat(80)));
}

#[test]
fn a_path_knows_its_parts() {
    let path = RelativePath::parse("Commands/b/c.txt").unwrap();
    assert_eq!(path.file_name(), "c.txt");
    let parents: Vec<_> = std::iter::successors(path.parent(), RelativePath::parent).map(|p| p.to_string()).collect();
    assert_eq!(parents, ["Commands/b", "Commands"]);
    assert!(path.is_beneath("commands"));
    assert!(!path.is_beneath("command"));
    assert!(!path.is_beneath("b"));
    assert!(RelativePath::parse("COMMANDS").unwrap().is_beneath("commands"));
    assert!(!RelativePath::parse("commands2/x").unwrap().is_beneath("commands"));
    assert_eq!(RelativePath::parse("c").unwrap().file_name(), "c");
    assert_eq!(serde_json::to_value(&path).unwrap(), "Commands/b/c.txt");
}

#[test]
fn folding_makes_equal_what_file_systems_confuse() {
    for alike in [
        &["README", "readme", "ReadMe"][..],
        &["Ünï", "ünÏ", "u\u{308}ni\u{308}"],
        &["ΟΔΟΣ", "οδος", "οδοσ"],
        &["straße", "STRASSE", "STRAẞE"],
        &["\u{17f}et", "set", "SET"],
        &["\u{212a}", "k", "K"],
        &["\u{fb01}x", "fix", "FIX"],
        &["ǅ", "ǆ", "dž"],
        &["ᏸ", "Ᏸ"],
    ] {
        let folded: std::collections::BTreeSet<_> = alike.iter().map(|text| fold(text)).collect();
        assert_eq!(folded.len(), 1, "{alike:?} -> {folded:?}");
    }
    assert_ne!(fold("a"), fold("á"));
}

#[test]
fn folding_is_stable_for_every_character() {
    for character in '\0'..=char::MAX {
        let text = character.to_string();
        let folded = fold(&text);
        let variants = [folded.clone(), character.to_lowercase().to_string(), character.to_uppercase().to_string()];
        for variant in variants.iter().filter(|variant| **variant != text) {
            assert_eq!(fold(variant), folded, "{character:?} {variant:?}");
        }
    }
}

#[test]
fn every_accepted_character_is_visible_and_portable() {
    for character in '\0'..=char::MAX {
        let text = format!("a{character}a");
        if RelativePath::parse(&text).is_ok() {
            assert!(!character.is_control() && (character == ' ' || !character.is_whitespace()), "{character:?}");
            assert_eq!(text.nfkc().collect::<String>(), text);
        } else {
            assert!(!character.is_ascii_alphanumeric(), "{character:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        match RelativePath::parse(&text) {
            Ok(path) => prop_assert_eq!(path.as_str(), text),
            Err(fault) => prop_assert!(fault.to_string().chars().count() < 1_200),
        }
    }

    /// Whatever is accepted stays below the root when it is resolved as text, by any system's separators.
    #[test]
    fn what_is_accepted_goes_down_only(text in "[abcG./\\\\:~1\\- ]{0,12}") {
        if let Ok(path) = RelativePath::parse(&text) {
            let parts: Vec<&str> = path.as_str().split(['/', '\\', ':']).collect();
            prop_assert_eq!(&parts, &path.components().collect::<Vec<_>>());
            for part in parts {
                prop_assert!(!part.is_empty() && !part.starts_with(['.', '-', '~', ' ']) && !part.ends_with(['.', ' ']));
            }
            let mut walked = path.clone();
            let mut depth = 1;
            while let Some(parent) = walked.parent() {
                prop_assert!(RelativePath::parse(parent.as_str()).is_ok());
                walked = parent;
                depth += 1;
            }
            prop_assert_eq!(depth, path.components().count());
        }
    }
}
