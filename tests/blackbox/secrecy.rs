//! The secret is nowhere: not in a log, an artifact, an object of the repository, or any process's environment.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{TimeDelta, Utc};
use serde_json::json;

use crate::harness::document::sha256;
use crate::harness::git::{outcomes, results, with_subject};
use crate::harness::snapshot::files;
use crate::harness::{Bridge, Cloud, Doc};

/// The forms in which a secret could give itself away.
fn tells(secret: &str) -> Vec<Vec<u8>> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![
        secret.as_bytes().to_vec(),
        secret.replace('/', "\\/").into_bytes(),
        STANDARD.encode(secret).into_bytes(),
        hex.into_bytes(),
        sha256(secret.as_bytes()).into_bytes(),
    ]
}

fn assert_clean(what: &str, bytes: &[u8], tells: &[Vec<u8>]) {
    for tell in tells {
        assert!(!bytes.windows(tell.len()).any(|window| window == tell), "{what} holds the secret");
    }
}

/// Documents of every kind of end, some of which tempt the bridge to quote what it should not.
fn every_kind(cloud: &Cloud, next: &str) -> Vec<Vec<u8>> {
    let signed = |document: Doc| document.signed(&cloud.secret);
    let plan = json!([{ "check": "exists", "path": "docs/nothing.txt" }]);
    vec![
        signed(Doc::noop("good")),
        signed(Doc::write("writes", "docs/a.txt", "x")),
        Doc::noop("by-next").signed(next),
        signed(Doc::noop("fails").with("validationPlan", plan)),
        signed(Doc::write("escapes", "../x", "x")),
        signed(Doc::noop("expired").window(-600, -300)),
        signed(Doc::noop("surprise").with("surprise", json!(1))),
        signed(Doc::noop("good").with("nonce", json!("again"))),
        Doc::noop("forged").signed("a-forgers-own-secret"),
        Doc::noop("unsigned").bytes(),
        b"rubbish".to_vec(),
    ]
}

#[test]
fn the_secret_appears_nowhere() {
    let cloud = Cloud::new();
    let next = format!("next+{:032x}/=", rand::random::<u128>());
    let old = format!("old+{:032x}/=", rand::random::<u128>());
    let secrets: Vec<Vec<u8>> = [cloud.secret.as_str(), &next, &old].into_iter().flat_map(tells).collect();
    let notes = cloud.world().join("notes");
    fs::create_dir(&notes).unwrap();
    let spying = cloud.git_with(&format!("{{ env; echo \"ARGUMENTS $0 $*\"; }} > \"{}/$$\"", notes.display()));
    let bridge = Bridge::start_with(&cloud, |run| {
        let ends = (Utc::now() + TimeDelta::hours(1)).to_rfc3339();
        run.env("PATH", spying).env("GPT_BRIDGE_HMAC_SECRET_NEXT", &next).env("GPT_BRIDGE_HMAC_ROTATION_ENDS", ends);
        run.env("RUST_LOG", "trace").env("GPT_BRIDGE_HMAC_SECRET_OLD", &old);
    });
    let documents = every_kind(&cloud, &next);
    for (number, bytes) in documents.iter().enumerate() {
        cloud.drop_file(&format!("{number}.json"), bytes);
        bridge.history("one commit each", |history| outcomes(history).len() == number + 1);
    }
    assert_eq!(with_subject(&cloud.published(), &results("by-next", 0)).len(), 1);

    let process = PathBuf::from(format!("/proc/{}", bridge.pid()));
    for name in ["environ", "cmdline"] {
        // A process that is not dumpable may refuse to show its environment, which will do as well.
        if let Ok(bytes) = fs::read(process.join(name)) {
            assert_clean(&format!("/proc/<pid>/{name}"), &bytes, &secrets);
        }
    }
    let children = children_of(bridge.pid());
    for child in &children {
        assert_clean(
            "a child's environment",
            &fs::read(format!("/proc/{child}/environ")).unwrap_or_default(),
            &secrets,
        );
    }
    let log = bridge.log_path().to_owned();
    bridge.stop();

    assert_clean("the bridge's log", &fs::read(log).unwrap(), &secrets);
    for root in [cloud.root().to_owned(), cloud.remote()] {
        let all = files(&root);
        assert!(all.len() > 20);
        all.iter().for_each(|path| assert_clean(&path.display().to_string(), &fs::read(path).unwrap(), &secrets));
        assert_clean("an object", &objects(&cloud, &root), &secrets);
    }
    let written = files(&notes);
    assert!(!written.is_empty(), "the bridge ran no git that was in PATH");
    written.iter().for_each(|path| {
        let bytes = fs::read(path).unwrap();
        assert_clean("a child's environment", &bytes, &secrets);
        assert!(!String::from_utf8_lossy(&bytes).contains("GPT_BRIDGE_HMAC"), "a child is told of a secret's variable");
    });
}

/// Every object of a repository, unpacked.
fn objects(cloud: &Cloud, repository: &Path) -> Vec<u8> {
    let mut git = cloud.program("git");
    let output = git.arg("-C").arg(repository).args(["cat-file", "--batch-all-objects", "--batch"]).output().unwrap();
    assert!(output.status.success() && output.stdout.len() > 1_000);
    output.stdout
}

fn children_of(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn no_command_line_tool_prints_the_secret() {
    let cloud = Cloud::new();
    let secrets = tells(&cloud.secret);
    let file = cloud.world().join("document.json");
    fs::write(&file, Doc::noop("signed").bytes()).unwrap();
    let file = file.to_str().unwrap();
    let runs: [&[&str]; 6] = [
        &["sign", file],
        &["sign", "/nonexistent"],
        &["init"],
        &["smoke", "--nonsense"],
        &["run", "--nonsense"],
        &["--help"],
    ];
    for arguments in runs {
        let output = cloud.bridge(arguments).output().unwrap();
        assert_clean(&format!("the output of {arguments:?}"), &[output.stdout, output.stderr].concat(), &secrets);
    }
    // A secret that is refused is not quoted either.
    let short = "too-short-15-by";
    let output = cloud.bridge(&["run"]).env("GPT_BRIDGE_HMAC_SECRET", OsStr::new(short)).output().unwrap();
    assert_clean("the refusal", &[output.stdout, output.stderr].concat(), &tells(short));
}

#[test]
fn white_space_around_a_secret_is_warned_of_and_told_to_whoever_signs_without_it() {
    let cloud = Cloud::new();
    let broken = format!("{}\n", cloud.secret);
    let of = |file: &str, secret: &str| {
        cloud.drop_file(&format!("{file}.json"), &Doc::noop(file).signed(secret));
    };
    let detail = |file: &str| cloud.json(&format!("dead_letter/{file}.json"))["detail"].to_string();
    let bridge = Bridge::start_with(&cloud, |run| {
        run.env("GPT_BRIDGE_HMAC_SECRET", &broken);
    });
    of("theirs-is-plain", &cloud.secret);
    bridge.published("bridge: DLQ bad_hmac");
    assert!(detail("theirs-is-plain").contains("the bridge was given has white space"));
    assert!(bridge.log().contains("begins or ends with white space"));
    of("same", &broken);
    bridge.emptied();
    bridge.stop();
    let bridge = Bridge::start(&cloud);
    assert!(!bridge.log().contains("white space"));
    of("theirs-is-broken", &broken);
    of("theirs-is-another", "another secret altogether");
    bridge.emptied();
    assert!(detail("theirs-is-broken").contains("a line break at its end"));
    assert!(!detail("theirs-is-another").contains("line break at its end"));
    bridge.stop();
    let file = cloud.world().join("document.json");
    fs::write(&file, Doc::noop("signed").bytes()).unwrap();
    for (arguments, secret, warns) in [
        (["sign", file.to_str().unwrap()], &broken, true),
        (["sign", file.to_str().unwrap()], &cloud.secret, false),
        (["doctor", "--json"], &broken, true),
        (["doctor", "--json"], &cloud.secret, false),
    ] {
        let output = cloud.bridge(&arguments).env("GPT_BRIDGE_HMAC_SECRET", secret).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let warned = String::from_utf8_lossy(&said).contains("begins or ends with white space");
        assert_eq!(warned, warns, "{arguments:?}");
        assert_clean("the output", &said, &tells(&cloud.secret));
    }
}
