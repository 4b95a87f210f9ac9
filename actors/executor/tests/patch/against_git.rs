//! The engine beside the real git: diffs that git makes lead to the same tree, and whatever becomes of a diff on its
//! way, the engine refuses it or does what git does.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use proptest::prelude::*;

use super::{Files, gather, git, lay, play, printed};

const PATHS: [&str; 7] = ["a", "b.txt", "dir/c", "dir/d e.txt", "ü/日本", "z/deep/er/f", "q\"uote\\d"];

fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => prop::sample::select(vec!["x\n", "y\n", "{\n", "}\n", "\n"]).prop_map(str::to_owned),
        2 => (0..50_u8).prop_map(|number| format!("line {number}\n")),
        1 => prop::sample::select(vec!["-- a\n", "++ b\n", "crlf\r\n", " \n", "@@ -1 +1 @@\n", "\\ No newline\n", "日本\n"])
            .prop_map(str::to_owned),
    ];
    (prop::collection::vec(line, 0..40), prop::sample::select(vec!["", "", "no newline", "\r"]))
        .prop_map(|(lines, end)| format!("{}{end}", lines.concat()).into_bytes())
}

/// How a file changes from one tree to the other.
#[derive(Clone, Debug)]
enum Edit {
    Lines(Vec<(prop::sample::Index, &'static str)>),
    Replace(Vec<u8>),
    Move(prop::sample::Index),
    Copy(prop::sample::Index),
    Delete,
    Mode,
}

fn edit() -> impl Strategy<Value = Edit> {
    let line = prop::sample::select(vec!["", "new\n", "x\n", "}\n", "two\nlines\n"]);
    prop_oneof![
        5 => prop::collection::vec((any::<prop::sample::Index>(), line), 1..5).prop_map(Edit::Lines),
        1 => content().prop_map(Edit::Replace),
        2 => any::<prop::sample::Index>().prop_map(Edit::Move),
        1 => any::<prop::sample::Index>().prop_map(Edit::Copy),
        1 => Just(Edit::Delete),
        1 => Just(Edit::Mode),
    ]
}

fn apply_edits(before: &Files, edits: Vec<(prop::sample::Index, Edit)>) -> Files {
    let mut after = before.clone();
    for (which, edit) in edits {
        let path = (*which.get(&PATHS)).to_owned();
        let Some(file) = after.get(&path).cloned() else {
            if let Edit::Replace(content) = edit {
                after.insert(path, (content, false));
            }
            continue;
        };
        match edit {
            Edit::Replace(content) => drop(after.insert(path, (content, file.1))),
            Edit::Delete => drop(after.remove(&path)),
            Edit::Mode => drop(after.insert(path, (file.0, !file.1))),
            Edit::Move(to) => {
                after.remove(&path);
                after.insert((*to.get(&PATHS)).to_owned(), file);
            }
            Edit::Copy(to) => drop(after.insert((*to.get(&PATHS)).to_owned(), file)),
            Edit::Lines(changes) => {
                let mut lines: Vec<Vec<u8>> =
                    file.0.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                for (at, text) in changes {
                    let at = at.index(lines.len() + 1);
                    let end = (at + 1).min(lines.len());
                    lines.splice(at..end, [text.as_bytes().to_vec()]);
                }
                after.insert(path, (lines.concat(), file.1));
            }
        }
    }
    after
}

/// The diff between two trees, as git makes it in a repository of this format.
fn git_diff(before: &Files, after: &Files, options: &[&str], format: &str) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    printed(git(root).args(["init", "-q", "--object-format", format]));
    let tree = |files: &Files| {
        std::fs::remove_file(root.join(".git/index")).ok();
        for entry in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
            if !entry.ends_with(".git") {
                if entry.is_dir() { std::fs::remove_dir_all(entry) } else { std::fs::remove_file(entry) }.unwrap();
            }
        }
        lay(root, files);
        printed(git(root).args(["-c", "core.autocrlf=false", "add", "-A"]));
        String::from_utf8(printed(git(root).arg("write-tree"))).unwrap().trim().to_owned()
    };
    let (old, new) = (tree(before), tree(after));
    printed(git(root).args(["diff-tree", "-p", "-r", "--full-index"]).args(options).args([old, new]))
}

/// What real git makes of a tree by a diff; `None` where it refuses.
fn git_apply(before: &Files, diff: &[u8], root: &Path) -> Option<Files> {
    lay(root, before);
    let mut command = git(root);
    command.args(["apply", "--whitespace=nowarn", "-"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // Git may refuse before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(diff);
    child.wait().unwrap().success().then(|| gather(root))
}

fn trees() -> impl Strategy<Value = (Files, Files)> {
    let tree = prop::collection::btree_map(prop::sample::select(&PATHS[..]), (content(), any::<bool>()), 0..6);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), edit()), 1..6);
    (tree, edits).prop_map(|(tree, edits)| {
        let before: Files = tree.into_iter().map(|(path, file)| (path.to_owned(), file)).collect();
        let after = apply_edits(&before, edits);
        (before, after)
    })
}

fn format() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["sha1", "sha256"])
}

fn options() -> impl Strategy<Value = Vec<&'static str>> {
    let names = prop::sample::select(vec![
        vec!["-M"],
        vec!["-M", "-C", "--find-copies-harder"],
        vec!["--no-renames"],
        vec!["-M", "--no-prefix"],
    ]);
    (names, prop::sample::select(vec!["-U3", "-U1", "-U5", "--minimal", "--patience"])).prop_map(
        |(mut options, more)| {
            options.push(more);
            options
        },
    )
}

/// One thing that happens to a diff on its way.
#[derive(Clone, Debug)]
enum Harm {
    Drop(prop::sample::Index),
    Double(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Number(prop::sample::Index, u8),
    Byte(prop::sample::Index, u8),
    Insert(prop::sample::Index, &'static str),
}

fn harm() -> impl Strategy<Value = Harm> {
    let index = any::<prop::sample::Index>;
    let line = prop::sample::select(vec![
        " x\n",
        "+x\n",
        "-x\n",
        "\n",
        "x\n",
        "@@ -3,2 +3,2 @@\n",
        "\\ No newline at end of file\n",
    ]);
    prop_oneof![
        1 => index().prop_map(Harm::Drop),
        1 => index().prop_map(Harm::Double),
        1 => (index(), index()).prop_map(|(one, other)| Harm::Swap(one, other)),
        4 => (index(), 0..10_u8).prop_map(|(at, digit)| Harm::Number(at, digit)),
        1 => (index(), prop::sample::select(b"x}+- \n\\@".to_vec())).prop_map(|(at, byte)| Harm::Byte(at, byte)),
        1 => (index(), line).prop_map(|(at, line)| Harm::Insert(at, line)),
    ]
}

/// Harms a diff, but no name in it: names without prefix are a difference on purpose.
fn harmed(diff: &[u8], harms: &[Harm]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = diff.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    for harm in harms {
        if lines.is_empty() {
            break;
        }
        let count = lines.len();
        match harm {
            Harm::Drop(at) => drop(lines.remove(at.index(count))),
            Harm::Double(at) => lines.insert(at.index(count), lines[at.index(count)].clone()),
            Harm::Swap(one, other) => lines.swap(one.index(count), other.index(count)),
            Harm::Insert(at, line) => lines.insert(at.index(count + 1), line.as_bytes().to_vec()),
            Harm::Number(at, digit) => {
                let headers: Vec<usize> = (0..count).filter(|line| lines[*line].starts_with(b"@@")).collect();
                if !headers.is_empty() {
                    let line = &mut lines[*at.get(&headers)];
                    let digits: Vec<usize> = (0..line.len()).filter(|byte| line[*byte].is_ascii_digit()).collect();
                    if !digits.is_empty() {
                        line[*at.get(&digits)] = b'0' + digit;
                    }
                }
            }
            Harm::Byte(at, byte) => {
                let line = &mut lines[at.index(count)];
                if !line.starts_with(b"---") && !line.starts_with(b"+++") && !line.starts_with(b"diff") {
                    let at = at.index(line.len());
                    line[at] = *byte;
                }
            }
        }
    }
    lines.concat()
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_diff_that_git_makes_leads_to_the_same_tree(
        (before, after) in trees(), options in options(), format in format()
    ) {
        let diff = git_diff(&before, &after, &options, format);
        if before == after {
            prop_assert!(diff.is_empty());
        } else {
            let text = String::from_utf8_lossy(&diff).into_owned();
            prop_assert_eq!(play(&before, &diff), Ok(after), "{}", text);
        }
    }
}

#[test]
fn whatever_becomes_of_a_diff_the_engine_refuses_or_does_what_git_does() {
    let [both, ours, gits] = [0; 3].map(std::cell::Cell::new);
    let count = |counter: &std::cell::Cell<u32>| counter.set(counter.get() + 1);
    let mut runner = proptest::test_runner::TestRunner::new(cases(400));
    let shift =
        (any::<prop::sample::Index>(), prop::collection::vec(prop::sample::select(vec!["x\n", "}\n", "top\n"]), 0..6));
    let strategy = (trees(), prop::collection::vec(harm(), 0..3), any::<bool>(), prop::collection::vec(shift, 0..3));
    let result = runner.run(&(strategy), |((mut before, after), harms, is_plain, shifts)| {
        let mut diff = git_diff(&before, &after, &["-M", "-U2"], "sha1");
        if is_plain {
            let keeps = |line: &&[u8]| !line.starts_with(b"diff ") && !line.starts_with(b"index ");
            diff = diff.split_inclusive(|byte| *byte == b'\n').filter(keeps).collect::<Vec<_>>().concat();
        }
        let diff = harmed(&diff, &harms);
        // The tree may have moved on since.
        for (number, (at, lines)) in shifts.iter().enumerate() {
            if let Some((content, _)) = before.values_mut().nth(number) {
                let mut all: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
                let at = at.index(all.len() + 1);
                all.splice(at..at, lines.iter().map(|line| line.as_bytes()));
                *content = all.concat();
            }
        }
        let scratch = tempfile::tempdir().unwrap();
        // Git leaves out what its counts do not take in; here the lines count where they tell for certain.
        let parsed = executor::patch::parse::parse(diff.clone()).diff;
        let counts = |hunk: &executor::patch::Hunk| {
            hunk.right_header().is_some_and(|right| parsed.text[hunk.header.clone()] == *right.as_bytes())
        };
        prop_assume!(parsed.files.iter().all(|file| file.hunks().iter().all(counts)));
        match (play(&before, &diff), git_apply(&before, &diff, scratch.path())) {
            (Ok(here), Some(there)) => {
                count(&both);
                prop_assert_eq!(here, there, "{}", String::from_utf8_lossy(&diff));
            }
            (Ok(_), None) => count(&ours),
            (Err(_), Some(_)) => count(&gits),
            (Err(_), None) => {}
        }
        Ok(())
    });
    println!("both apply {}, this alone {}, git alone {}", both.get(), ours.get(), gits.get());
    result.unwrap();
    assert!(both.get() > 50, "git and the engine applied only {}", both.get());
}
