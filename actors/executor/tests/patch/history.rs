//! The engine against this repository's own history: each commit's diff leads from its parent's tree to its own, and
//! back again.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use executor::patch::files::Kind;
use executor::patch::parse::parse;

use super::{Files, git, play_as, printed};

/// Path → executable and blob id.
type Listing = BTreeMap<String, (bool, String)>;

/// A `git cat-file --batch`.
struct Blobs {
    child: Child,
    input: ChildStdin,
    output: std::io::BufReader<ChildStdout>,
    known: HashMap<String, Vec<u8>>,
}

impl Blobs {
    fn new(root: &Path) -> Self {
        let mut command = git(root);
        command.args(["cat-file", "--batch"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: std::io::BufReader::new(output), known: HashMap::new() }
    }

    fn get(&mut self, id: &str) -> Vec<u8> {
        use std::io::BufRead as _;
        if !self.known.contains_key(id) {
            writeln!(self.input, "{id}").unwrap();
            let mut header = String::new();
            self.output.read_line(&mut header).unwrap();
            let size: usize = header.trim().rsplit(' ').next().unwrap().parse().unwrap();
            let mut content = vec![0; size + 1];
            self.output.read_exact(&mut content).unwrap();
            content.pop();
            self.known.insert(id.to_owned(), content);
        }
        self.known[id].clone()
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listing(root: &Path, commit: &str) -> Listing {
    let text = printed(git(root).args(["ls-tree", "-r", "-z", commit]));
    let text = String::from_utf8(text).unwrap();
    let entry = |line: &str| {
        let (meta, path) = line.split_once('\t').unwrap();
        let mut words = meta.split(' ');
        let mode = words.next().unwrap();
        assert!(mode == "100644" || mode == "100755", "{commit}: {line}: the test knows regular files only");
        (path.to_owned(), (mode == "100755", words.nth(1).unwrap().to_owned()))
    };
    text.split_terminator('\0').map(entry).collect()
}

fn load(blobs: &mut Blobs, listing: &Listing) -> Files {
    listing.iter().map(|(path, (executable, id))| (path.clone(), (blobs.get(id), *executable))).collect()
}

#[test]
fn every_commit_of_this_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if !root.join(".git").exists() {
        println!("NOT TESTED: this is no clone, so that there is no history");
        return;
    }
    if printed(git(&root).args(["rev-parse", "--is-shallow-repository"])) != b"false\n" {
        println!("NOT TESTED: this is a shallow clone, so that the history is not whole");
        return;
    }
    let mut blobs = Blobs::new(&root);
    let commits = String::from_utf8(printed(git(&root).args(["rev-list", "--parents", "HEAD"]))).unwrap();
    let (mut diffs, mut patches) = (0, 0);
    for line in commits.lines() {
        let mut ids = line.split(' ');
        let commit = ids.next().unwrap();
        for parent in ids {
            let (old, new) = (listing(&root, parent), listing(&root, commit));
            let (before, after) = (load(&mut blobs, &old), load(&mut blobs, &new));
            for options in [["-M", "-C"], ["--no-renames", "-U1"], ["--find-copies-harder", "-C20%"]] {
                let diff = printed(
                    git(&root)
                        .args(["diff", "--no-color", "--no-ext-diff", "--text"])
                        .args(options)
                        .args([parent, commit]),
                );
                if diff.is_empty() {
                    continue;
                }
                let parsed = parse(diff);
                assert_eq!(parsed.fault, None, "{commit}");
                assert!(play_as(Kind::Sent, &before, &parsed.diff).as_ref() == Ok(&after), "{commit} {options:?}");
                diffs += 1;
                patches += parsed.diff.files.len();
                if let Some(back) = parsed.diff.reversed() {
                    let back = play_as(Kind::Sent, &after, &back);
                    assert!(back.as_ref() == Ok(&before), "{commit} {options:?}, back: {:?}", back.err());
                }
            }
        }
    }
    println!("{diffs} diffs with {patches} files");
    assert!(diffs > 0 || commits.lines().count() == 1);
}
