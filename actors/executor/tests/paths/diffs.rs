//! What a diff's headers may say, spelled in every way that git would read.

use protocol::path::PathRule;
use serde_json::json;

use crate::Row;

const LINK: &str = "is a symbolic link, and links are never followed";
const MODE: &str = "only regular files (100644, 100755) may be changed by a diff";

/// A hunk that makes a file of one line.
const NEW: &str = "@@ -0,0 +1 @@\n+x\n";
/// A hunk that fits `a.txt`.
const EDIT: &str = "@@ -1,3 +1,3 @@\n one\n-two\n+x\n three\n";

fn row(text: &str, reason: &'static str, rule: &str) -> Row {
    Row::new(json!([{"op": "applyDiff", "diff": text}]), reason, rule)
}

pub fn rows() -> Vec<Row> {
    let mut rows = escapes();
    rows.extend(denials());
    rows.extend(modes());
    rows.extend(conflicts());
    rows
}

fn escapes() -> Vec<Row> {
    let parent = PathRule::ParentFolder.to_string();
    let absolute = PathRule::Absolute.to_string();
    let (parent, absolute) = (parent.as_str(), absolute.as_str());
    let table = [
        (format!("--- a/../x\n+++ b/../x\n{EDIT}"), parent),
        (format!("--- a/a.txt\n+++ b/../x\n{EDIT}"), parent),
        (format!("--- /dev/null\n+++ b/dir/../../x\n{NEW}"), parent),
        (format!("--- /dev/null\n+++ \"b/\\056\\056/x\"\n{NEW}"), parent),
        (format!("--- /dev/null\n+++ \"b/dir\\057..\\057..\\057x\"\n{NEW}"), parent),
        (format!("--- /dev/null\n+++ b/../x\t2020-01-01 00:00:00.000000000 +0000\n{NEW}"), parent),
        (format!("--- a/../x\t1970-01-01 00:00:00.000000000 +0000\n+++ b/../x\n{NEW}"), parent),
        ("--- a/../outside/o.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n".to_owned(), parent),
        (format!("--- ../x\n+++ ../x\n{EDIT}"), parent),
        (format!("--- x/../y\n+++ y/../y\n{EDIT}"), parent),
        (format!("diff --git a/../x b/../x\nnew file mode 100644\n--- /dev/null\n+++ b/../x\n{NEW}"), parent),
        ("diff --git a/../x b/../x\nnew file mode 100644\nindex 0000000..e69de29\n".to_owned(), parent),
        ("diff --git a/../x b/../x\ndeleted file mode 100644\n".to_owned(), parent),
        ("diff --git a/../x b/../x\nold mode 100644\nnew mode 100755\n".to_owned(), parent),
        ("diff --git \"a/\\056./x\" \"b/\\056./x\"\nold mode 100644\nnew mode 100755\n".to_owned(), parent),
        ("diff --git a/a.txt b/n\nrename from a.txt\nrename to ../n\n".to_owned(), parent),
        ("diff --git a/a.txt b/n\nrename from ../outside/o.txt\nrename to n\n".to_owned(), parent),
        ("diff --git a/a.txt b/n\nrename old ../outside/o.txt\nrename new n\n".to_owned(), parent),
        ("diff --git a/a.txt b/n\nrename from \"\\056\\056/outside/o.txt\"\nrename to n\n".to_owned(), parent),
        ("diff --git a/a.txt b/n\ncopy from ../outside/o.txt\ncopy to n\n".to_owned(), parent),
        ("diff --git a/a.txt b/n\ncopy from a.txt\ncopy to dir/../../n\n".to_owned(), parent),
        (format!("--- /dev/null\n+++ b//etc/x\n{NEW}"), absolute),
        (format!("--- /dev/null\n+++ /etc/x\n{NEW}"), absolute),
        (format!("--- /etc/x\n+++ /etc/x\n{EDIT}"), absolute),
        (format!("--- /dev/null\n+++ /dev/null/x\n{NEW}"), absolute),
        (format!("--- /dev/null\n+++ \"/dev/null\"\n{NEW}"), absolute),
        (format!("--- /dev/null\n+++ \"b/\\057etc/x\"\n{NEW}"), absolute),
        ("diff --git a/a.txt b/n\nrename from a.txt\nrename to /tmp/n\n".to_owned(), absolute),
        ("diff --git a/a.txt b/n\ncopy from /etc/passwd\ncopy to n\n".to_owned(), absolute),
        ("diff --git a/a.txt b/n\ncopy from /dev/null\ncopy to n\n".to_owned(), absolute),
        (format!("--- /dev/null\n+++ b/./n\n{NEW}"), "\".\""),
        (format!("--- /dev/null\n+++ b/dir//n\n{NEW}"), "empty component"),
        (format!("--- /dev/null\n+++ b/dir/\n{NEW}"), "empty component"),
        ("diff --git a/a.txt b/n\nrename from a.txt\nrename to out/n\n".to_owned(), LINK),
        ("diff --git a/leaf b/n\nrename from leaf\nrename to n\n".to_owned(), LINK),
        ("diff --git a/leaf b/leaf\nold mode 100644\nnew mode 100755\n".to_owned(), LINK),
        ("diff --git a/leaf b/leaf\ndeleted file mode 100644\n".to_owned(), LINK),
        ("diff --git a/dangling b/dangling\nnew file mode 100644\n".to_owned(), LINK),
        ("diff --git a/leaf-out b/n\ncopy from leaf-out\ncopy to n\n".to_owned(), LINK),
        // A later file of the diff, also one whose hunks cannot be read.
        (format!("--- a/a.txt\n+++ b/a.txt\n{EDIT}--- /dev/null\n+++ b/../x\n{NEW}"), parent),
        (format!("--- a/a.txt\n+++ b/a.txt\n{EDIT}--- a/../x\n+++ b/../x\n@@ -1,9 +1 @@\n x\n"), parent),
        (format!("From: x\nSubject: y\n\n---\n a | 1 +\n\n--- /dev/null\n+++ b/../x\n{NEW}-- \n2.47\n"), parent),
    ];
    table.iter().map(|(text, rule)| row(text, "path_escape", rule)).collect()
}

fn denials() -> Vec<Row> {
    let dot = PathRule::LeadingDot.to_string();
    let control = PathRule::ControlCharacter.to_string();
    let (dot, control) = (dot.as_str(), control.as_str());
    let table = [
        (format!("--- a/.git/config\n+++ b/.git/config\n{EDIT}"), dot),
        (format!("--- .git/config\n+++ .git/config\n{EDIT}"), dot),
        (format!("--- x/.git/config\n+++ y/.git/config\n{EDIT}"), dot),
        (format!("--- a/a.txt\n+++ b/.git/config\n{EDIT}"), dot),
        (format!("--- a/.git/config\tnow\n+++ b/.git/config\tnow\n{EDIT}"), dot),
        (format!("--- a/.git/config 2020-01-01\n+++ b/.git/config 2020-01-01\n{EDIT}"), dot),
        (format!("--- a/.git/config.orig\n+++ b/.git/config\n{EDIT}"), dot),
        (format!("Index: a.txt\n=====\n--- /dev/null\n+++ b/.git/hooks/x\n{NEW}"), dot),
        (format!("--- /dev/null\n+++ \"b/.\\147it/x\"\n{NEW}"), dot),
        (format!("--- /dev/null\n+++ \"b/\\056GIT/x\"\n{NEW}"), dot),
        (format!("diff --git .git/x .git/x\nnew file mode 100644\n--- /dev/null\n+++ .git/x\n{NEW}"), dot),
        ("diff --git a/.git/x b/.git/x\nnew file mode 100755\nindex 0000000..e69de29\n".to_owned(), dot),
        ("diff --git a/.git/config b/.git/config\ndeleted file mode 100644\n".to_owned(), dot),
        ("diff --git a/a.txt b/n\nrename from a.txt\nrename to .git/hooks/x\n".to_owned(), dot),
        ("diff --git a/a.txt b/n\nrename from .git/config\nrename to n\n".to_owned(), dot),
        ("diff --git a/a.txt b/n\ncopy from .git/config\ncopy to n\n".to_owned(), dot),
        ("diff --git a/a.txt b/n\ncopy from a.txt\ncopy to \"\\056gitattributes\"\n".to_owned(), dot),
        ("diff --git a/.git/x b/.git/x\nnew file mode 100644\nBinary files /dev/null and b/.git/x differ\n".into(), dot),
        ("diff --git a/a.txt b/n\nrename from a.txt\nrename to n\ndiff --git a/n b/n\nrename from b.txt\nrename to .n\n"
            .to_owned(), dot),
        (format!("--- /dev/null\n+++ \"b/a\\000b\"\n{NEW}"), control),
        (format!("--- /dev/null\n+++ b/a\0b\n{NEW}"), control),
        (format!("--- /dev/null\n+++ \"b/a\\nb\"\n{NEW}"), control),
        (format!("--- /dev/null\n+++ \"b/a\\tb\"\n{NEW}"), control),
        ("diff --git a/a.txt b/n\nrename from a.txt\nrename to \"n\\033[2J\"\n".to_owned(), control),
        (format!("--- /dev/null\n+++ \"b/a\\\\b\"\n{NEW}"), "must hold none of"),
        (format!("--- /dev/null\n+++ \"b/n\n{NEW}"), "must hold none of"),
        (format!("--- /dev/null\n+++ \"b/\\377\"\n{NEW}"), "a path must be UTF-8"),
        (format!("--- /dev/null\n+++ \"b/\\300\\256\\300\\256/x\"\n{NEW}"), "a path must be UTF-8"),
        (format!("--- /dev/null\n+++ \"b/\\357\\274\\216git/x\"\n{NEW}"), "NFKC"),
        (format!("--- /dev/null\n+++ \"b/.g\\342\\200\\214it/x\"\n{NEW}"), "zero-width"),
        (format!("--- /dev/null\n+++ b/commands/x.json\n{NEW}"), "the bridge's own folder"),
        ("diff --git a/a.txt b/n\nrename from a.txt\nrename to \"M\\105TA/n\"\n".to_owned(), "the bridge's own folder"),
        (format!("--- a/dir/x.key\n+++ b/dir/x.key\n{EDIT}"), "is denied by this target's rule"),
        (format!("--- /dev/null\n+++ \"b/\\123ecret/x\"\n{NEW}"), "is denied by this target's rule"),
    ];
    table.iter().map(|(text, rule)| row(text, "path_denied", rule)).collect()
}

fn modes() -> Vec<Row> {
    let mut rows = Vec::new();
    for mode in ["120000", "160000", "040000", "100600", "100664", "100777", "104755", "000000", "010644", "060000"] {
        rows.extend([
            row(
                &format!("diff --git a/n b/n\nnew file mode {mode}\n--- /dev/null\n+++ b/n\n{NEW}"),
                "path_denied",
                MODE,
            ),
            row(&format!("diff --git a/a.txt b/a.txt\nold mode 100644\nnew mode {mode}\n"), "path_denied", MODE),
        ]);
    }
    let link = "diff --git a/a.txt b/a.txt\n";
    for text in [
        format!("{link}old mode 120000\nnew mode 100644\n"),
        format!("{link}deleted file mode 120000\n--- a/a.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"),
        format!("{link}index 1111111..2222222 120000\n--- a/a.txt\n+++ b/a.txt\n{EDIT}"),
        format!("{link}index 1111111..2222222 160000\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-Subproject\n+commit\n"),
        format!("{link}deleted file mode 100644\n{link}new file mode 120000\n--- /dev/null\n+++ b/a.txt\n{NEW}"),
        "diff --git a/a.txt b/n\nold mode 100644\nnew mode 120000\nrename from a.txt\nrename to n\n".to_owned(),
        "diff --git a/a.txt b/n\nold mode 100644\nnew mode 160000\ncopy from a.txt\ncopy to n\n".to_owned(),
        "diff --git a/n b/n\nnew file mode 120000\nGIT binary patch\nliteral 0\nHcmV?d00001\n\n".to_owned(),
    ] {
        rows.push(row(&text, "path_denied", MODE));
    }
    rows
}

fn conflicts() -> Vec<Row> {
    let table = [
        (format!("--- /dev/null\n+++ /dev/null\n{NEW}"), "both sides are /dev/null"),
        (format!("--- /dev/null\n+++ b/\n{NEW}"), "gives the file no name"),
        (format!("diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/b.txt\n{EDIT}"), "names two files"),
        (format!("diff --git a/a.txt b/n\n--- a/a.txt\n+++ b/n\n{EDIT}"), "names two files"),
        ("diff --git a/a.txt b/n\nrename from a.txt\n".to_owned(), "one side"),
        ("diff --git a/a.txt b/n\nrename to n\n".to_owned(), "one side"),
        ("diff --git a/a.txt b/n\nrename from a.txt\ncopy to n\n".to_owned(), "contradicts"),
        ("diff --git a/a.txt b/a.txt\nnew file mode 100644\ndeleted file mode 100644\n".to_owned(), "contradicts"),
        (
            format!("diff --git a/a.txt b/n\nrename from a.txt\nrename to n\n--- a/a.txt\n+++ b/.git/x\n{EDIT}"),
            "names another file",
        ),
        (
            format!("diff --git a/n b/n\nnew file mode 100644\n--- /dev/null\n+++ b/../n\n{NEW}"),
            "names another file",
        ),
        ("diff --git a/a.txt b/a.txt\nold mode 100644\nnew mode 10x755\n".to_owned(), "no valid mode"),
        ("diff --git a/a.txt b/a.txt\nnew mode 99999999999\nold mode 100644\n".to_owned(), "no valid mode"),
        ("diff --git a/n b/n\nnew file mode 100644\nGIT binary patch\nliteral 0\nHcmV?d00001\n\n".to_owned(), "binary"),
        ("Binary files a/a.txt and b/a.txt differ\n".to_owned(), "binary"),
        (format!("--- /dev/null\n+++ b/a.txt\n{NEW}"), "there already"),
        ("diff --git a/a.txt b/b.txt\nrename from a.txt\nrename to b.txt\n".to_owned(), "there already"),
        ("diff --git a/gone b/n\nrename from gone\nrename to n\n".to_owned(), "no such file"),
        ("--- a/dir\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n".to_owned(), "no such file"),
        (
            "diff --git a/a.txt b/n\nrename from a.txt\nrename to n\ndiff --git a/b.txt b/n\nrename from b.txt\nrename to n\n"
                .to_owned(),
            "names it twice",
        ),
    ];
    let mut rows: Vec<Row> = table.iter().map(|(text, rule)| row(text, "patch_conflict", rule)).collect();
    let copy = |from: &str| format!("diff --git a/{from} b/n\ncopy from {from}\ncopy to n\n");
    rows.push(row(&copy("fifo"), "precondition_failed", "not a regular file"));
    rows.push(row(&copy("socket"), "precondition_failed", "not a regular file"));
    rows
}
