//! The diff against the real git: it leads from the old tree to the new one, and back with `-R`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
// The git here is a bystander that reads a patch: no service, no secrets.
#![allow(clippy::disallowed_methods)]
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use executor::core::Judgement;
use executor::overlay::{Change, Origin};
use executor::tree::Image;
use proptest::prelude::*;
use protocol::git_id::ObjectFormat;
use protocol::path::RelativePath;
use serde_json::json;
use support::Bench;

const PATHS: [&str; 9] =
    ["a", "b.txt", "dir/c", "dir/d e.txt", "dir b/x y", "é/ü.txt", "日本", "z/deep/er/f", "a/below"];

fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("x\n"),
        Just("y\n"),
        Just("long line of text\n"),
        Just("crlf\r\n"),
        Just("\n"),
        Just("- a\n"),
        Just("+ \\\n")
    ];
    let text = (prop::collection::vec(line, 0..40), prop_oneof![Just(""), Just("no newline"), Just("\r")])
        .prop_map(|(lines, end)| format!("{}{end}", lines.concat()).into_bytes());
    let binary = prop::collection::vec(any::<u8>(), 0..300).prop_map(|mut bytes| {
        bytes.push(0);
        bytes
    });
    prop_oneof![4 => text, 1 => binary, 1 => Just(b"\xff\xfe no utf-8\n".to_vec())]
}

fn path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&PATHS[..])
}

fn op() -> impl Strategy<Value = serde_json::Value> {
    let encode = |bytes: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
    prop_oneof![
        3 => (path(), content(), prop_oneof![Just("0644"), Just("0755")]).prop_map(move |(path, content, mode)|
            json!({"op": "writeFile", "path": path, "content": encode(content), "encoding": "base64", "mode": mode})),
        2 => (path(), path()).prop_map(|(from, to)| json!({"op": "moveFile", "from": from, "to": to, "overwrite": true})),
        1 => path().prop_map(|path| json!({"op": "deleteFile", "path": path})),
        2 => path().prop_map(|path| json!({"op": "replaceText", "path": path, "search": "y\n", "replace": "changed\nto this\n"})),
        // Stands for an applyDiff that leads there; its diff depends on the tree as it is by then.
        4 => (prop::option::of(path()), path(), prop::option::of(content()), any::<bool>()).prop_map(move |(from, to, content, mode)|
            json!({"op": "wish", "from": from, "to": to, "content": content.map(encode), "executable": mode})),
    ]
}

/// The `applyDiff` that fulfils a wish in the tree at `root`; `None` where it is no diff of text.
fn fulfil(wish: &serde_json::Value, root: &Path) -> Option<serde_json::Value> {
    let image = |(content, executable): &(Vec<u8>, bool)| Image {
        content: content.as_slice().into(),
        bits: if *executable { 0o755 } else { 0o644 },
    };
    let files = files(root);
    let (from, to) = (wish["from"].as_str(), wish["to"].as_str().unwrap());
    let mut after = match (wish["content"].as_str(), from.or(Some(to)).and_then(|from| files.get(from))) {
        (Some(content), _) => Some((base64::engine::general_purpose::STANDARD.decode(content).unwrap(), false)),
        (None, Some(moved)) if from.is_some() => Some(moved.clone()),
        (None, _) => None,
    };
    if let Some(after) = &mut after {
        after.1 = wish["executable"].as_bool().unwrap();
    }
    let path = |path: &str| RelativePath::parse(path).unwrap();
    let origin = from.filter(|from| *from != to).and_then(|from| files.get_key_value(from));
    let mut changes = vec![Change {
        path: path(to),
        before: files.get(to).map(image),
        after: after.as_ref().map(image),
        origin: origin.map(|(from, file)| Origin { path: path(from), image: image(file), gone: true }),
    }];
    let gone = |(from, file): (&String, &(Vec<u8>, bool))| Change {
        path: path(from),
        before: Some(image(file)),
        after: None,
        origin: None,
    };
    changes.extend(origin.map(gone));
    let diff = String::from_utf8(executor::diff::render(&changes, ObjectFormat::default())).ok()?;
    Some(json!({"op": "applyDiff", "diff": diff}))
}

type Files = BTreeMap<String, (Vec<u8>, bool)>;

fn files(root: &Path) -> Files {
    let mut found = Files::new();
    for path in PATHS {
        let full = root.join(path);
        if full.is_file() {
            let executable = full.metadata().unwrap().permissions().mode() & 0o100 != 0;
            found.insert(path.to_owned(), (std::fs::read(&full).unwrap(), executable));
        }
    }
    found
}

fn lay(root: &Path, files: &Files) {
    for (path, (content, executable)) in files {
        let full = root.join(path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(&full, content).unwrap();
        std::fs::set_permissions(&full, PermissionsExt::from_mode(if *executable { 0o755 } else { 0o644 })).unwrap();
    }
}

fn git_apply(root: &Path, patch: &Path, reverse: bool) {
    let mut git = Command::new("git");
    git.current_dir(root).env("GIT_CEILING_DIRECTORIES", root.parent().unwrap()).env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.args(["apply", "--whitespace=nowarn"]).args(reverse.then_some("-R")).arg(patch);
    let output = git.output().unwrap();
    let text = String::from_utf8_lossy(&std::fs::read(patch).unwrap()).into_owned();
    assert!(output.status.success(), "reverse={reverse}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
}

/// Whether the diff tells of `path` as a deletion, and not as a rename's origin.
fn is_deletion(diff: &[u8], path: &str) -> bool {
    let text = String::from_utf8_lossy(diff);
    path.is_ascii() && text.contains(&format!("diff --git a/{path} b/{path}\ndeleted file mode")) || !path.is_ascii()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn git_applies_the_diff_both_ways(
        tree in prop::collection::btree_map(prop::sample::select(&PATHS[..8]), (content(), any::<bool>()), 0..7),
        ops in prop::collection::vec(op(), 1..6),
        // Where the target belongs to no repository, to one of either format.
        repository in prop::sample::select(vec![None, Some("sha1"), Some("sha256")]),
    ) {
        let mut bench = Bench::with(|target| {
            if repository == Some("sha256") {
                target.ids = ObjectFormat::Sha256;
            }
        });
        let before: Files = tree.into_iter().map(|(path, file)| (path.to_owned(), file)).collect();
        lay(&bench.root(), &before);
        // Ops that do not fit are left out one by one, so that most cases get somewhere.
        let mut fitting = Vec::new();
        for op in ops {
            let mut copy = Bench::new();
            lay(&copy.root(), &before);
            let mut trial = fitting.clone();
            trial.push(op);
            if trial.last().is_some_and(|op| op["op"] == "wish") {
                let mut so_far = Bench::new();
                lay(&so_far.root(), &before);
                so_far.ok(fitting.clone().into());
                let Some(op) = trial.pop().and_then(|wish| fulfil(&wish, &so_far.root())) else { continue };
                trial.push(op);
            }
            if let Judgement::Executed(execution, ..) = copy.ops(trial.clone().into()) {
                prop_assert_eq!(execution.failure, None);
                fitting = trial;
            }
        }
        let execution = bench.ok(fitting.into());
        let after = files(&bench.root());
        prop_assert_eq!(execution.diff.is_empty(), before == after);
        if before != after {
            let scratch = tempfile::tempdir().unwrap();
            let (tree, patch) = (scratch.path().join("tree"), scratch.path().join("patch"));
            std::fs::create_dir(&tree).unwrap();
            if let Some(format) = repository {
                let mut git = Command::new("git");
                let init = git.args(["init", "-q", "--template=", "--object-format", format]).arg(&tree);
                prop_assert!(init.status().unwrap().success());
            }
            std::fs::write(&patch, &execution.diff).unwrap();
            lay(&tree, &before);
            git_apply(&tree, &patch, false);
            prop_assert_eq!(&files(&tree), &after);
            git_apply(&tree, &patch, true);
            // `git apply -R` brings a deleted file back as 0644 whatever the patch says, also one that git wrote.
            let mut back = files(&tree);
            for (path, file) in &mut back {
                if let (false, Some(original)) = (after.contains_key(path), before.get(path)) {
                    file.1 |= original.1 && is_deletion(&execution.diff, path);
                }
            }
            prop_assert_eq!(&back, &before);
        }
    }
}
