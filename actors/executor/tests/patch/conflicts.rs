//! What a conflict says: file, hunk, the first line that differs, and what stands there instead.

use super::{Files, files, play};

fn numbered(lines: std::ops::RangeInclusive<u32>) -> String {
    lines.map(|number| format!("line {number}\n")).collect()
}

fn complaint(before: &Files, diff: &str) -> String {
    play(before, diff.as_bytes()).expect_err(diff)
}

/// A diff of `f` with one or more hunks.
fn of_f(hunks: &str) -> String {
    format!("--- a/f\n+++ b/f\n{hunks}")
}

#[test]
fn a_hunk_that_does_not_fit_says_which_line_differs() {
    let before = files([("f", &numbered(1..=30))]);
    let cases = [
        (
            "@@ -10,3 +10,3 @@ fn main() {\n line 10\n-foo\n+bar\n line 12\n",
            "f hunk 1 (@@ -10,3 +10,3 @@): line 11 should be \"foo\" but is \"line 11\"",
        ),
        (
            "@@ -2,3 +2,4 @@\n line 2\n+new\n line 3\n line 4\n@@ -20,3 +21,3 @@\n line 20\n-line 21\n+x\n line  22\n",
            "f hunk 2 (@@ -20,3 +21,3 @@): line 22 should be \"line  22\" but is \"line 22\", which \
             differs in white space alone",
        ),
        (
            "@@ -29,4 +29,4 @@\n line 29\n-line 30\n+x\n line 31\n line 32\n",
            "f hunk 1 (@@ -29,4 +29,4 @@): line 31 should be \"line 31\" but the file ends before it; line 31 \
             should be \"line 32\" but the file ends before it",
        ),
        (
            "@@ -90,3 +90,3 @@\n line 90\n-line 91\n+x\n line 92\n",
            "f hunk 1 (@@ -90,3 +90,3 @@): the file ends after line 30; nearest at line 14: line 14 should be \"line 90\" but is \
             \"line 14\"; line 15 should be \"line 91\" but is \"line 15\"; line 16 should be \"line 92\" but is \"line 16\"",
        ),
        (
            "@@ -5,3 +5,3 @@\n line 5\r\n-line 6\r\n+x\r\n line 7\r\n",
            "f hunk 1 (@@ -5,3 +5,3 @@): line 5 should be \"line 5\" with CR LF at its end but has LF; line 6 should be \
             \"line 6\" with CR LF at its end but has LF; line 7 should be \"line 7\" with CR LF at its end but has LF: \
             these 3 lines differ in their ends alone",
        ),
        (
            "@@ -29,2 +29,3 @@\n line 29\n line 30\n\\ No newline at end of file\n+new\n",
            "line 7 of the diff: follows a line that is said to have no newline at its end",
        ),
        (
            "@@ -30 +30 @@\n-line 30\n\\ No newline at end of file\n+new\n\\ No newline at end of file\n",
            "f hunk 1 (@@ -30 +30 @@): line 30 should be \"line 30\" with no newline at its end but has LF",
        ),
        (
            "@@ -5,0 +6 @@\n+new\n",
            "f hunk 1 (@@ -5,0 +6 @@): it adds lines without context elsewhere than at the file's end; give it the line \
             before or after",
        ),
        (
            "@@ -5,4 +5,4 @@\n line 5\n-line 6\n+x\n line 7\n line 8\n@@ -6,3 +6,3 @@\n-line 6\n+y\n line 7\n line 8\n",
            "f hunk 2 (@@ -6,3 +6,3 @@): it changes the same lines as hunk 1; send what both do as one hunk",
        ),
        (
            "@@ -4 +4 @@\n-line 6\n+x\n",
            "f hunk 1 (@@ -4 +4 @@): at line 4, where its header says, line 4 should be \"line 6\" but is \"line 4\"; all of its \
             lines stand at line 6, which may be another place: mend the lines or the line number",
        ),
    ];
    for (hunks, expected) in cases {
        let found = complaint(&before, &of_f(hunks));
        assert!(found.ends_with(expected), "{hunks}\n{found}\n{expected}");
    }
}

#[test]
fn a_shift_needs_one_place() {
    let twice = format!("{}{}", numbered(1..=9), numbered(1..=9));
    let before = files([("f", &twice)]);
    let hunk = |at: u32| of_f(&format!("@@ -{at},3 +{at},3 @@\n line 5\n-line 6\n+x\n line 7\n"));
    assert_eq!(
        complaint(&before, &hunk(3)),
        "f hunk 1 (@@ -3,3 +3,3 @@): its lines are not where it says, and fit at line 5 as well as at line 14; give it the \
         right line number or more context"
    );
    for (at, place) in [(5, 0), (14, 1)] {
        let after = play(&before, hunk(at).as_bytes()).unwrap();
        let expected: Vec<_> = twice.match_indices("line 6").map(|(at, _)| at).collect();
        let mut text = twice.clone();
        text.replace_range(expected[place]..expected[place] + 6, "x");
        assert_eq!(after["f"].0, text.as_bytes());
    }
    let once = files([("f", &numbered(1..=9))]);
    for at in [2, 3, 4, 6, 9, 1000] {
        assert_eq!(play(&once, hunk(at).as_bytes()), play(&once, hunk(5).as_bytes()), "{at}");
    }
}

#[test]
fn a_hunk_between_two_that_shifted_alike_shifts_with_them() {
    // Ten lines came in front, and the block of the second hunk is there twice.
    let block = "{\n  a\n}\n";
    let head: String = (0..10).map(|number| format!("head {number}\n")).collect();
    let tail = "the end\n";
    let text = format!("{head}{}{}{}{tail}", numbered(1..=9), numbered(20..=29), block.repeat(2));
    let before = files([("f", &text)]);
    let first = "@@ -4,3 +4,3 @@\n line 4\n-line 5\n+x\n line 6\n";
    let between = "@@ -20,3 +20,3 @@\n {\n-  a\n+  b\n }\n";
    let last = "@@ -26 +26 @@\n-the end\n+the very end\n";
    // A line that stands alone must stand where it is said to, so that it proves nothing.
    let last = last.replace("@@\n", "@@\n }\n").replace("-26 +26", "-25,2 +25,2");
    let found = play(&before, of_f(&format!("{first}{between}{last}")).as_bytes()).unwrap();
    let expected = text.replace("line 5\n", "x\n").replace("the end", "the very end").replacen("  a\n", "  b\n", 1);
    assert_eq!(String::from_utf8_lossy(&found["f"].0), expected);
    // Without the last one nobody knows what happened behind the first.
    assert!(complaint(&before, &of_f(&format!("{first}{between}"))).contains("as well as"));
}

#[test]
fn what_cannot_be_read_is_named_by_its_line() {
    let cases = [
        ("", "line 1 of the diff: the text ends and holds no diff of any file"),
        ("no diff\nat all", "line 3 of the diff: the text ends"),
        ("no diff\nat all\n", "line 3 of the diff: the text ends"),
        ("@@ -1 +1 @@\n-a\n+b\n", "line 1 of the diff: a hunk without a file"),
        ("--- a/f\n+++ b/f\n-a\n+b\n", "line 3 of the diff: a hunk header of the form \"@@ -1,2 +3,4 @@\" must follow"),
        ("--- a/f\n+++ b/f\n@@ ... @@\n-a\n+b\nx\n", "its header has no counts that say where it ends"),
        ("--- a/f\n+++ b/f\n@@@ -1 -1 +1 @@@\n- a\n++b\n", "must follow the --- and +++ lines of f"),
        (
            "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-a\n+b\n",
            "f hunk 1 (@@ -1,2 +1,2 @@): line 6 of the diff: the diff ends here, but the @@ line counts 1 more old and 1 more new lines",
        ),
        (
            "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n c\nd\n",
            "line 6 of the diff: follows the hunk's last line by the count of its @@ line",
        ),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n-b\n+c\n", "line 5 of the diff: is one line more than the @@ line counts"),
        ("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-a\n+b", "1 more old and 1 more new lines"),
        ("--- a/f\n+++ b/f\n@@ ... @@\n-a\n+b", "the diff ends without a newline"),
        ("--- a/f\n+++ b/f\n@@ -1,2 +1 @@\n-a\n*b\n", "line 5 of the diff: \"*b\" is no line of a hunk"),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n a\n", "the hunk ends here and changes nothing"),
        ("--- a/f\n+++ b/f\n@@ -1 +99999999999999999999 @@\n-a\n+b\n", "is no hunk header of the form"),
        ("--- /dev/null\n+++ /dev/null\n@@ -1 +1 @@\n-a\n+b\n", "both sides are /dev/null"),
        ("diff --git a/f b/f\n", "line 2 of the diff: the header before this line says nothing"),
        (
            "diff --git a/f b/f\nindex 1..2 100644\n",
            "line 3 of the diff: the header of f says that its content changes",
        ),
        (
            "diff --git a/f b/f\nold mode 100644\nnew mode 100644\n",
            "line 4 of the diff: the patch of f changes nothing",
        ),
        ("diff --git a/f b/f\nnew mode 10x\n", "line 2 of the diff: has no valid mode"),
        ("diff --git a/f b/g\nold mode 100644\nnew mode 100755\n", "the header gives the file no name"),
        (
            "diff --git a/f b/f\n--- a/f\n+++ b/g\n@@ -1 +1 @@\n-a\n+b\n",
            "the header names two files: +++ g, the \"diff --git\" line f",
        ),
        ("diff --git a/f b/f\nnew file mode 100644\n--- a/f\n", "--- must be /dev/null"),
        (
            "diff --git a/f b/g\nrename from f\nrename to g\n--- /dev/null\n+++ b/g\n@@ -0,0 +1 @@\n+b\n",
            "--- is /dev/null, but no \"new file mode\"",
        ),
        ("diff --git a/f b/f\nnew file mode 100644\nrename from f\n", "contradicts a header line before it"),
        ("diff --git a/f b/f\nindex 1..2\n--- a/f\n@@ -1 +1 @@\n-a\n+b\n", "names one side of the file only"),
    ];
    for (diff, expected) in cases {
        let found = complaint(&files([("f", "a\n")]), diff);
        assert!(found.contains(expected), "{diff}\n{found}");
    }
}

#[test]
fn what_a_file_as_a_whole_cannot_do() {
    let before = files([("f", "a\n"), ("g", "b\n")]);
    let cases = [
        ("--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n", "f: the diff makes this file, but it is there already"),
        ("--- a/h\n+++ b/h\n@@ -1 +1 @@\n-a\n+b\n", "h: there is no such file"),
        ("diff --git a/f b/f\ndeleted file mode 100644\n", "f: the diff deletes the file, but does not take away all"),
        ("diff --git a/f b/g\nrename from f\nrename to g\n", "g: the diff makes this file, but it is there already"),
        ("diff --git a/f b/g\ncopy from f\ncopy to g\n", "g: the diff makes this file, but it is there already"),
        ("diff --git a/h b/i\nrename from h\nrename to i\n", "h: there is no such file"),
        (
            "diff --git a/f b/h\nrename from f\nrename to h\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n",
            "line 5 of the diff: +++ names another file than h",
        ),
        (
            "diff --git a/f b/h\nrename from f\nrename to h\ndiff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n",
            "f: the diff names it twice (again in line 4)",
        ),
        (
            "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n",
            "f: the diff names it twice (again in line 6)",
        ),
        (
            "--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+x\n--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+y\n",
            "n: the diff names it twice (again in line 5)",
        ),
        (
            "diff --git a/f b/f\nindex 1..2 100644\nBinary files a/f and b/f differ\n",
            "f: a binary diff is not applied; send the file",
        ),
        (
            "diff --git a/f b/f\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIc${k`000310RR91\n\nliteral 0\nHcmV?d00001\n\n",
            "f: a binary diff is not applied; send the file",
        ),
        (
            "--- /dev/null\n+++ b/n\n@@ -1 +1 @@\n-a\n+x\n",
            "the file is made by this diff, so that no old line can be there",
        ),
        (
            "--- a/f\n+++ /dev/null\n@@ -1 +1 @@\n-a\n+x\n",
            "the file is deleted by this diff, so that no line can remain",
        ),
    ];
    for (diff, expected) in cases {
        let found = complaint(&before, diff);
        assert!(found.contains(expected), "{diff}\n{found}");
    }
}

#[test]
fn details_are_short_and_show_nothing_strange() {
    let long = "x".repeat(5_000);
    let before = files([("f", &format!("{long}1\n\u{202e}evil\u{7}\n"))]);
    let found = complaint(&before, &of_f(&format!("@@ -1,2 +1,2 @@\n {long}2\n-a\n+b\n")));
    assert!(found.len() < 600, "{found}");
    assert!(found.contains("xxx2\" (5001 bytes) but is …\"xxx"), "{found}");
    let found = complaint(&before, &of_f(&format!("@@ -1,2 +1,2 @@\n {long}1\n-a\n+b\n")));
    assert!(found.contains("line 2 should be \"a\" but is \"\\u{202e}evil\\u{7}\""), "{found}");
    let name = format!("--- a/{long}\n+++ b/{long}\n@@ -1 +1 @@\n-a\n+b\n");
    assert!(complaint(&before, &name).len() < 400);
}
