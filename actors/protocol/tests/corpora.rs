//! The strict reader and the canonical form against corpora that others made: vectors of Python's canonical form, and
//! the parsing files of JSONTestSuite.
//!
//! The corpora are no part of the repository. `GHOST_BRIDGE_CORPORA` names their folder; without it the folder
//! `shared/corpora` beside the workspace is taken where there is one. Without either nothing is tested, and the tests
//! say so; under `CI=true` that is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

use protocol::canonical::to_canonical;
use protocol::json::{Value, parse};

/// The two files of JSONTestSuite that RFC 8259 allows and the contract does not.
const DUPLICATE_KEYS: [&str; 2] = ["y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"];

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

#[test]
fn python_vectors() {
    let Some(folder) = corpora() else { return };
    let lines = std::fs::read(folder.join("canonical_sample.jsonl")).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let vector: serde_json::Value = serde_json::from_slice(line).unwrap();
        let field = |key: &str| vector[key].as_str().unwrap_or_else(|| panic!("no {key} in {vector}"));
        let (name, document) = (field("name"), field("document"));
        // A command is an object, so a verifier refuses any other value as well.
        let read = parse(document.as_bytes()).map_err(|error| error.to_string()).and_then(|value| match value {
            Value::Object(_) => Ok(value),
            other => Err(format!("{} where an object is wanted", other.kind())),
        });
        match field("verdict") {
            "accept" => {
                let value = read.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(to_canonical(&value), field("canonical"), "{name}");
                accepted += 1;
            }
            "reject" => {
                assert!(read.is_err(), "{name} was accepted");
                refused += 1;
            }
            other => panic!("{name}: unknown verdict {other}"),
        }
    }
    println!("canonical vectors: {accepted} accepted, {refused} refused");
    assert!(accepted > 0 && refused > 0);
}

/// A folder of this test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("corpora-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[expect(clippy::disallowed_methods, reason = "the test unpacks its data with the tar program")]
#[test]
fn json_test_suite() {
    let Some(folder) = corpora() else { return };
    let scratch = Scratch::new();
    let archive = folder.join("JSONTestSuite_test_parsing.tar.gz");
    let status = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&scratch.0).status().expect("tar runs");
    assert!(status.success(), "tar cannot unpack {}", archive.display());

    let (mut accepted, mut refused, mut either) = (0, 0, 0);
    for entry in std::fs::read_dir(scratch.0.join("test_parsing")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let wrapped = [b"{\"v\":", bytes.as_slice(), b"}"].concat();
        let verdicts = [parse(&bytes), parse(&wrapped)];
        if name.starts_with("n_") || DUPLICATE_KEYS.contains(&name.as_str()) {
            for verdict in &verdicts {
                assert!(verdict.is_err(), "{name} was accepted");
            }
            refused += 1;
        } else if name.starts_with("y_") {
            for verdict in &verdicts {
                let value = verdict.as_ref().unwrap_or_else(|error| panic!("{name}: {error}"));
                let canonical = to_canonical(value);
                let again = parse(canonical.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(to_canonical(&again), canonical, "{name}");
            }
            accepted += 1;
        } else {
            assert!(name.starts_with("i_"), "{name}");
            either += 1;
        }
    }
    println!("JSONTestSuite: {accepted} accepted, {refused} refused, {either} free");
    assert!(accepted > 0 && refused > 0 && either > 0);
}
