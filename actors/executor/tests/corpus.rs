//! `applyDiff` against a corpus of diffs that `git apply` has judged.
//!
//! The corpus is no part of the repository. `GHOST_BRIDGE_CORPORA` names its folder; without it the folder
//! `shared/corpora` beside the workspace is taken where there is one. Without either nothing is tested, and the test
//! says so; under `CI=true` that is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use executor::core::Judgement;
use protocol::reason::Reason as R;
use serde_json::{Value, json};
use support::{Bench, document};

/// Path → mode as git has it, and content.
type Files = BTreeMap<String, (String, Vec<u8>)>;

const BINARY: &str = "a binary patch is no unified diff";
const FOLDER: &str = "a file where a folder was: folders that a command empties stay, as git knows no folders";
const MODE: &str = "regular files of mode 100644 or 100755 only";
const TWICE: &str = "a diff that names a file twice";
const NAME: &str = "a path that the contract denies";

const AS_IT_IS: &str = "a name without a/ or b/ is taken as it is";
const TWO_NAMES: &str = "two names without rename lines";

/// What the bridge applies otherwise than git, or where git does not, and why.
const OTHERWISE: [(&str, &str); 7] = [
    ("t4104-apply-boundary-057", ONE_SIDED),
    ("t4104-apply-boundary-059", ONE_SIDED),
    ("t4104-apply-boundary-064", ONE_SIDED),
    ("t4104-apply-boundary-066", ONE_SIDED),
    ("t4119-apply-config-129", AS_IT_IS),
    ("t4124-apply-ws-rule-163", "a diff without CR fits a file of CR LF; this git was set to convert line ends"),
    ("t4129-apply-samemode-200", ONE_SIDED),
];
const ONE_SIDED: &str = "a hunk without context on one side is not tied to that end of the file";

/// What git applies and the bridge refuses, and why.
const REFUSED: [(&str, R, &str); 41] = [
    ("t4103-apply-binary-040", R::PatchConflict, BINARY),
    ("t4103-apply-binary-041", R::PatchConflict, BINARY),
    ("t4108-apply-threeway-087", R::PatchConflict, BINARY),
    ("t4109-apply-multifrag-088", R::PatchConflict, TWICE),
    ("t4109-apply-multifrag-089", R::PatchConflict, TWICE),
    ("t4109-apply-multifrag-090", R::PatchConflict, TWICE),
    ("t4110-apply-scan-091", R::PatchConflict, TWICE),
    ("t4114-apply-typechange-103", R::PreconditionFailed, FOLDER),
    ("t4114-apply-typechange-104", R::PreconditionFailed, FOLDER),
    ("t4114-apply-typechange-106", R::PathDenied, MODE),
    ("t4114-apply-typechange-107", R::PathDenied, MODE),
    ("t4114-apply-typechange-108", R::PathDenied, MODE),
    ("t4114-apply-typechange-109", R::PathDenied, MODE),
    ("t4114-apply-typechange-110", R::PathDenied, MODE),
    ("t4114-apply-typechange-111", R::PathDenied, MODE),
    ("t4115-apply-symlink-113", R::PathDenied, MODE),
    ("t4116-apply-reverse-118", R::PatchConflict, BINARY),
    ("t4119-apply-config-127", R::PatchConflict, AS_IT_IS),
    ("t4122-apply-symlink-inside-138", R::PathDenied, MODE),
    ("t4127-apply-same-fn-184", R::PatchConflict, TWICE),
    ("t4127-apply-same-fn-185", R::PatchConflict, TWICE),
    ("t4127-apply-same-fn-187", R::PatchConflict, TWICE),
    ("t4129-apply-samemode-208", R::PathDenied, MODE),
    ("t4129-apply-samemode-209", R::PathDenied, MODE),
    ("t4129-apply-samemode-210", R::PathDenied, MODE),
    ("t4134-apply-submodule-239", R::PathDenied, MODE),
    ("t4135-apply-weird-filenames-247", R::PathDenied, NAME),
    ("t4135-apply-weird-filenames-248", R::PathDenied, NAME),
    ("t4135-apply-weird-filenames-249", R::PathDenied, NAME),
    ("t4135-apply-weird-filenames-250", R::PathDenied, NAME),
    ("t4135-apply-weird-filenames-251", R::PathDenied, NAME),
    ("t4135-apply-weird-filenames-252", R::PathDenied, NAME),
    ("t4135-apply-weird-filenames-253", R::PathDenied, NAME),
    ("t4135-apply-weird-filenames-255", R::PathDenied, NAME),
    ("t4135-apply-weird-filenames-257", R::PatchConflict, TWO_NAMES),
    ("t4135-apply-weird-filenames-258", R::PatchConflict, TWO_NAMES),
    ("t4137-apply-submodule-265", R::PathDenied, NAME),
    ("t4137-apply-submodule-266", R::PathDenied, NAME),
    ("t4137-apply-submodule-267", R::PathDenied, NAME),
    ("t4137-apply-submodule-274", R::PathDenied, MODE),
    ("t4137-apply-submodule-275", R::PathDenied, MODE),
];

fn corpora() -> Option<PathBuf> {
    let folder = match std::env::var_os("GHOST_BRIDGE_CORPORA") {
        Some(given) => PathBuf::from(given),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(
        std::env::var_os("GHOST_BRIDGE_CORPORA").is_none(),
        "GHOST_BRIDGE_CORPORA is no folder: {}",
        folder.display()
    );
    assert!(std::env::var("CI").as_deref() != Ok("true"), "no corpora: set GHOST_BRIDGE_CORPORA to their folder");
    println!("NOT TESTED: no corpora were given; set GHOST_BRIDGE_CORPORA to their folder");
    None
}

fn read(value: &Value) -> Files {
    let Value::Object(files) = value else { return Files::new() };
    let file = |value: &Value| {
        let (mode, content) = (value[0].as_str().unwrap(), value[1].as_str().unwrap());
        // A link's target is spelled as it is.
        let content = if mode == "120000" { content.as_bytes().to_vec() } else { STANDARD.decode(content).unwrap() };
        (mode.to_owned(), content)
    };
    files.iter().map(|(path, value)| (path.clone(), file(value))).collect()
}

fn lay(bench: &Bench, files: &Files) {
    for (path, (mode, content)) in files {
        let full = bench.root().join(path);
        if mode == "120000" {
            std::fs::create_dir_all(full.parent().unwrap()).unwrap();
            symlink(std::str::from_utf8(content).unwrap(), full).unwrap();
        } else {
            bench.write(path, content);
            let bits = if mode == "100755" { 0o755 } else { 0o644 };
            std::fs::set_permissions(full, PermissionsExt::from_mode(bits)).unwrap();
        }
    }
}

fn found(bench: &Bench) -> Files {
    let root = bench.root();
    let all = bench.snapshot().into_iter().filter_map(|(path, content, mode)| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        if path.is_symlink() {
            let target = std::fs::read_link(&path).unwrap().to_str().unwrap().as_bytes().to_vec();
            return Some((name, ("120000".to_owned(), target)));
        }
        let mode = if mode & 0o100 == 0 { "100644" } else { "100755" };
        content.map(|content| (name, (mode.to_owned(), content)))
    });
    all.collect()
}

#[test]
fn git_and_the_bridge_agree() {
    let Some(folder) = corpora() else { return };
    let text = std::fs::read_to_string(folder.join("git_apply.jsonl")).unwrap();
    let (mut applied, mut rejected, mut refused, mut otherwise, mut wrong) = (0, 0, 0, 0, Vec::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let patch = STANDARD.decode(case["patch_b64"].as_str().unwrap()).unwrap();
        let expects = case["expect"] == "apply";
        // A command is JSON, so that its diff is UTF-8.
        let Ok(diff) = String::from_utf8(patch) else {
            assert!(!expects, "{name} is no UTF-8 and applies");
            rejected += 1;
            continue;
        };
        let mut bench = Bench::with(|target| target.deny.clear());
        let before = read(&case["before"]);
        lay(&bench, &before);
        let mut command = document(json!([{"op": "applyDiff", "diff": diff}]));
        command["patchType"] = json!("unified");
        let judgement = bench.run(command);
        let after = found(&bench);
        let listed = REFUSED.iter().find(|(listed, ..)| *listed == name);
        match &judgement {
            Judgement::Rejected(verdict) => {
                assert_eq!(after, before, "{name}: rejected, but changed");
                match listed {
                    Some((_, reason, _)) if *reason == verdict.reason => refused += 1,
                    _ if expects => wrong.push(format!("{name} is refused: {verdict}")),
                    _ => rejected += 1,
                }
            }
            Judgement::Executed(execution, ..)
                if execution.failure.is_none() && OTHERWISE.iter().any(|(listed, _)| *listed == name) =>
            {
                assert!(!expects || after != read(&case["after"]), "{name} is no exception any more");
                otherwise += 1;
            }
            Judgement::Executed(execution, ..) if execution.failure.is_none() => match expects {
                true if after == read(&case["after"]) => applied += 1,
                true => wrong.push(format!("{name}: other bytes")),
                false => wrong.push(format!("{name} is applied, though git says {}", case["git_err"])),
            },
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    println!(
        "git_apply.jsonl: {applied} applied, {rejected} rejected, {refused} refused by the contract, {otherwise} applied otherwise"
    );
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
    assert!(applied > 0 && rejected > 0 && refused == REFUSED.len() && otherwise == OTHERWISE.len());
}

/// Edits as agents send them, with what should become of each.
#[test]
fn edits_end_as_they_should() {
    let Some(folder) = corpora() else { return };
    let text = std::fs::read_to_string(folder.join("edits.jsonl")).unwrap();
    let (mut cases, mut wrong) = (0, Vec::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut bench = Bench::with(|target| target.deny.clear());
        for (path, content) in case["before"].as_object().into_iter().flatten() {
            bench.write(path, content.as_str().unwrap().as_bytes());
        }
        let mut command = document(case["ops"].clone());
        command["patchType"] = json!("hybrid");
        let judgement = bench.run(command);
        let is_accepted = matches!(&judgement, Judgement::Executed(execution, ..) if execution.failure.is_none());
        let stands = |tree: &Value| {
            let mut files = tree.as_object().unwrap().iter();
            files.all(|(path, content)| bench.read(path).as_deref() == Some(content.as_str().unwrap().as_bytes()))
        };
        let want = &case["want"];
        let is_right = match (want.get("after"), want.get("not_after"), want.get("refused")) {
            (Some(after), ..) => is_accepted && stands(after),
            (_, Some(not_after), _) => !stands(not_after),
            (.., Some(_)) => !is_accepted,
            // Either will do.
            _ => true,
        };
        if let (false, Judgement::Rejected(verdict)) = (is_accepted, &judgement) {
            let is_patch = verdict.reason == R::PatchConflict;
            assert!(!is_patch || verdict.detail.contains("op 1"), "{}: {}", case["id"], verdict.detail);
        }
        cases += 1;
        if !is_right {
            wrong.push(format!("{} ({}): {judgement:?}", case["id"], case["should"]));
        }
    }
    println!("edits.jsonl: {cases} cases, {} otherwise than they should", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
