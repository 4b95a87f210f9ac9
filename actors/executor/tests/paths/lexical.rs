//! Paths that their text alone condemns, in each place where a command may name one.

use protocol::path::PathRule::{self, *};
use serde_json::{Value, json};

use crate::{Row, quoted};

/// Each path with the rule that it breaks.
pub const PATHS: &[(&str, PathRule)] = &[
    ("/", Absolute),
    ("/etc/passwd", Absolute),
    ("//etc/passwd", Absolute),
    ("/../etc/passwd", Absolute),
    ("/proc/self/root/etc/passwd", Absolute),
    ("a//b", EmptyComponent),
    ("dir/", EmptyComponent),
    ("dir//../x", EmptyComponent),
    (".", CurrentFolder),
    ("./a.txt", CurrentFolder),
    ("dir/./b.txt", CurrentFolder),
    ("dir/.", CurrentFolder),
    ("..", ParentFolder),
    ("../outside/o.txt", ParentFolder),
    ("dir/..", ParentFolder),
    ("dir/../a.txt", ParentFolder),
    ("dir/../../outside/o.txt", ParentFolder),
    ("dir/deep/../../../outside/o.txt", ParentFolder),
    ("missing/../../outside/o.txt", ParentFolder),
    ("out/../a.txt", ParentFolder),
    (".git/../a.txt", ParentFolder),
    ("a.txt/..", ParentFolder),
    ("..\\outside\\o.txt", ReservedCharacter),
    ("dir\\..\\..\\outside\\o.txt", ReservedCharacter),
    ("\\\\server\\share", ReservedCharacter),
    ("\\\\?\\C:\\x", ReservedCharacter),
    ("C:/x", ReservedCharacter),
    ("c:x", ReservedCharacter),
    ("a.txt:stream", ReservedCharacter),
    ("a.txt::$DATA", ReservedCharacter),
    (".git::$INDEX_ALLOCATION/config", ReservedCharacter),
    ("dir/git:x", ReservedCharacter),
    ("a*", ReservedCharacter),
    ("a?", ReservedCharacter),
    ("a\"b", ReservedCharacter),
    ("a<b", ReservedCharacter),
    ("a>b", ReservedCharacter),
    ("a|b", ReservedCharacter),
    ("a\0b", ControlCharacter),
    ("\0", ControlCharacter),
    ("a.txt\0.png", ControlCharacter),
    ("dir\0/x", ControlCharacter),
    ("a\nb", ControlCharacter),
    ("a\r", ControlCharacter),
    ("a\tb", ControlCharacter),
    ("\u{1b}[2Ja", ControlCharacter),
    ("a\u{7f}", ControlCharacter),
    ("a\u{85}b", ControlCharacter),
    ("a\u{a0}b", WhiteSpace),
    ("a\u{2003}b", WhiteSpace),
    ("a\u{2028}b", WhiteSpace),
    ("a\u{3000}b", WhiteSpace),
    // What HFS+ ignores when it compares names.
    (".g\u{200c}it/config", InvisibleCharacter),
    (".git\u{200d}/config", InvisibleCharacter),
    ("\u{200e}.git/config", InvisibleCharacter),
    (".gi\u{200f}t/config", InvisibleCharacter),
    (".\u{202a}git/config", InvisibleCharacter),
    (".g\u{206a}it/hooks/x", InvisibleCharacter),
    (".git\u{feff}/config", InvisibleCharacter),
    (".gitmodules\u{200c}", InvisibleCharacter),
    ("comm\u{200c}ands/x.json", InvisibleCharacter),
    ("sec\u{2060}ret/x", InvisibleCharacter),
    ("a\u{200b}b", InvisibleCharacter),
    ("a\u{202e}txt.exe", InvisibleCharacter),
    ("a\u{2066}b\u{2069}", InvisibleCharacter),
    ("a\u{ad}b", InvisibleCharacter),
    ("a\u{fe0f}", InvisibleCharacter),
    ("a\u{e0041}", InvisibleCharacter),
    ("a\u{3164}", InvisibleCharacter),
    ("\u{f02e}git/config", UnassignedCharacter),
    ("a\u{f03a}b", UnassignedCharacter),
    ("a\u{378}", UnassignedCharacter),
    ("\u{ff0e}\u{ff0e}/outside", NotNormalised),
    ("\u{ff0e}git/config", NotNormalised),
    ("dir\u{ff0f}x", NotNormalised),
    ("\u{2024}\u{2024}/outside", NotNormalised),
    ("\u{2025}/outside", NotNormalised),
    ("\u{2026}", NotNormalised),
    ("\u{fe52}git/config", NotNormalised),
    ("dir\u{ff3c}x", NotNormalised),
    ("\u{fb01}le", NotNormalised),
    ("cafe\u{301}", NotNormalised),
    ("\u{17f}ecret/x", NotNormalised),
    ("\u{212a}ey", NotNormalised),
    ("\u{ff43}ommands/x", NotNormalised),
    ("com\u{b9}", NotNormalised),
    ("LPT\u{b2}.txt", NotNormalised),
    ("com\u{b3}.a", NotNormalised),
    ("git\u{ff5e}1", NotNormalised),
    (".git", LeadingDot),
    (".git/config", LeadingDot),
    (".GIT/config", LeadingDot),
    (".Git/hooks/pre-commit", LeadingDot),
    ("dir/.git/config", LeadingDot),
    ("dir/deep/.GiT", LeadingDot),
    (".g\u{131}t/config", LeadingDot),
    (".github/workflows/ci.yml", LeadingDot),
    (".gitattributes", LeadingDot),
    (".gitmodules", LeadingDot),
    ("dir/.gitignore", LeadingDot),
    (".bridge.lock", LeadingDot),
    (".ghost-bridge-0-0-0.tmp", LeadingDot),
    ("dir/.hidden", LeadingDot),
    ("dir/.hidden/deep/x", LeadingDot),
    ("...", LeadingDot),
    (".. /x", LeadingDot),
    (".git ", LeadingDot),
    (".git.", LeadingDot),
    ("-rf", LeadingHyphen),
    ("dir/--upload-pack=x", LeadingHyphen),
    ("~/x", LeadingTilde),
    ("~root/x", LeadingTilde),
    ("dir/~x", LeadingTilde),
    (" a", OuterSpace),
    ("a ", OuterSpace),
    ("dir /x", OuterSpace),
    ("dir/ x", OuterSpace),
    ("commands /x.json", OuterSpace),
    ("a.", TrailingDot),
    ("a...", TrailingDot),
    ("dir./x", TrailingDot),
    ("commands./x.json", TrailingDot),
    ("a.txt.", TrailingDot),
    ("CON", DeviceName),
    ("nul", DeviceName),
    ("dir/Aux.h", DeviceName),
    ("nul.tar.gz", DeviceName),
    ("PRN.txt/x", DeviceName),
    ("COM1", DeviceName),
    ("com9.log", DeviceName),
    ("lpt0.x", DeviceName),
    ("CONIN$", DeviceName),
    ("conout$.txt", DeviceName),
    ("con .txt", DeviceName),
    ("GIT~1", ShortName),
    ("git~1/config", ShortName),
    ("GIT~2/hooks/x", ShortName),
    ("GI7EBA~1/config", ShortName),
    ("COMMAN~1/x.json", ShortName),
    ("dir/LONGNA~1.TXT", ShortName),
];

/// Every path in every place.
pub fn rows() -> Vec<Row> {
    let long = ["x".repeat(256), format!("dir/{}/x", "é".repeat(128)), format!(".{}", "x".repeat(255))];
    let deep = ["d/".repeat(2_048) + "x", "é".repeat(2_049), format!("{}x", "dir/b/".repeat(700))];
    let paths = PATHS.iter().map(|(path, rule)| ((*path).to_owned(), *rule));
    let long = long.into_iter().map(|path| (path, ComponentTooLong));
    let deep = deep.into_iter().map(|path| (path, PathTooLong));
    let mut rows: Vec<Row> = paths.chain(long).chain(deep).flat_map(|(path, rule)| everywhere(&path, rule)).collect();
    // A diff cannot spell the empty path.
    rows.extend(everywhere("", EmptyPath).into_iter().filter(|row| !row.ops.to_string().contains("applyDiff")));
    rows
}

fn everywhere(path: &str, rule: PathRule) -> Vec<Row> {
    let reason = match rule {
        EmptyPath | Absolute | EmptyComponent | CurrentFolder | ParentFolder => "path_escape",
        _ => "path_denied",
    };
    let zero = "0".repeat(64);
    let ops = [
        json!({"op": "writeFile", "path": path, "content": "x"}),
        json!({"op": "moveFile", "from": path, "to": "new.txt"}),
        json!({"op": "moveFile", "from": "a.txt", "to": path, "overwrite": true}),
        json!({"op": "deleteFile", "path": path}),
        json!({"op": "replaceText", "path": path, "search": "one", "replace": "x"}),
        diff(&format!("--- /dev/null\n+++ {}\n@@ -0,0 +1 @@\n+x\n", quoted("b/", path))),
        diff(&format!("--- {}\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", quoted("a/", path))),
        diff(&format!("diff --git a/a.txt b/n\nrename from a.txt\nrename to {}\n", quoted("", path))),
        diff(&format!("diff --git a/n b/n\ncopy from {}\ncopy to n\n", quoted("", path))),
    ];
    let checks = [
        json!({"check": "exists", "path": path}),
        json!({"check": "absent", "path": path}),
        json!({"check": "sha256", "path": path, "equals": zero}),
        json!({"check": "json", "path": path}),
    ];
    let ops = ops.into_iter().map(|op| Row::new(json!([op]), reason, &rule.to_string()));
    let write = json!([{"op": "writeFile", "path": "new.txt", "content": "x"}]);
    let checks = checks.into_iter().map(|check| Row::new(write.clone(), reason, &rule.to_string()).checked(check));
    ops.chain(checks).map(|row| Row { stage: "policy", ..row }).collect()
}

fn diff(text: &str) -> Value {
    json!({"op": "applyDiff", "diff": text})
}
