//! The other commands: `init`, `sign`, `smoke` and `demo`.

use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::harness::cloud::{BINARY, describe, mode, names};
use crate::harness::document::assert_signed;
use crate::harness::git::results;
use crate::harness::snapshot::snapshot;
use crate::harness::{Bridge, Cloud, Doc};

const FOLDERS: [&str; 9] =
    ["commands", "results", "diffs", "archive", "dead_letter", "logs", "meta", "summaries", "context"];

fn init(cloud: &Cloud) -> Output {
    let output = cloud.program(BINARY).arg("init").arg(cloud.root()).output().unwrap();
    assert!(output.status.success(), "init: {}", describe(&output));
    output
}

#[test]
fn init_makes_a_cloud_and_makes_it_once() {
    let cloud = Cloud::empty();
    init(&cloud);
    FOLDERS.iter().for_each(|folder| assert!(cloud.path(folder).is_dir(), "{folder}"));
    assert_eq!(cloud.json("meta/retries.json"), json!({}));
    let ignored = cloud.text(".gitignore");
    assert!(ignored.lines().any(|line| line == "commands/.retries.json"), "{ignored}");
    for path in ["commands/.retries.json", "meta/journal/x", ".bridge.lock"] {
        assert!(cloud.git_succeeds(cloud.root(), &["check-ignore", "-q", path]), "{path} is not ignored");
    }
    assert_eq!(cloud.git(&["rev-parse", "--show-toplevel"]), cloud.root().canonicalize().unwrap().to_str().unwrap());
    let hook = cloud.path(".git/hooks/pre-commit");
    assert_ne!(mode(&hook) & 0o111, 0, "the guard can be run");

    let before = snapshot(cloud.root(), &[]);
    init(&cloud);
    assert_eq!(snapshot(cloud.root(), &[]), before, "a second time changes nothing");
}

#[test]
fn init_takes_cloud_from_the_environment() {
    let cloud = Cloud::empty();
    let output = cloud.program(BINARY).arg("init").env("CLOUD", cloud.root()).output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    assert!(cloud.path("commands").is_dir());
}

#[test]
fn init_overwrites_no_file_of_anybodys() {
    let cloud = Cloud::empty();
    fs::create_dir(cloud.root()).unwrap();
    cloud.git(&["init", "-q"]);
    cloud.write(".gitignore", "# mine\n*.o\nno newline at the end");
    cloud.write(".git/hooks/pre-commit", "#!/bin/sh\n# mine\nexit 0\n");
    cloud.write("meta/retries.json", "{\"x\": {\"attempts\": 1, \"last_error\": \"e\", \"last_ts\": \"t\"}}");
    cloud.write("results/mine.json", "mine");
    cloud.write("README.md", "mine");
    let own =
        ["README.md", "results/mine.json", "meta/retries.json", ".git/hooks/pre-commit", ".git/HEAD", ".git/config"];
    let before = own.map(|path| cloud.read(path));
    for _ in 0..2 {
        init(&cloud);
        assert_eq!(own.map(|path| cloud.read(path)), before);
        let ignored = cloud.text(".gitignore");
        assert!(ignored.starts_with("# mine\n*.o\nno newline at the end\n"), "{ignored}");
        assert_eq!(ignored.lines().filter(|line| *line == "commands/.retries.json").count(), 1, "{ignored}");
    }
}

#[test]
fn the_guard_blocks_the_control_file_and_nothing_else() {
    let cloud = Cloud::new();
    cloud.write("commands/.retries.json", "{}");
    cloud.write("work.txt", "work");
    cloud.git(&["add", "work.txt"]);
    cloud.git(&["add", "-f", "commands/.retries.json"]);
    assert!(!cloud.git_succeeds(cloud.root(), &["commit", "-q", "-m", "with a control file"]), "the guard let it pass");
    assert!(cloud.exists("work.txt"));
    let staged = cloud.git(&["diff", "--cached", "--name-only"]);
    assert!(staged.lines().any(|line| line == "work.txt"), "what a person staged stays staged: {staged}");
    cloud.git_succeeds(cloud.root(), &["rm", "-q", "--cached", "-f", "commands/.retries.json"]);
    cloud.git(&["commit", "-q", "-m", "without"]);
}

fn sign(cloud: &Cloud, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = cloud.bridge(&["sign"]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may refuse before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn sign_signs_as_the_tests_do() {
    let cloud = Cloud::new();
    let document = Doc::noop("to-sign")
        .with("annotations", json!({ "\u{e9}\u{1f47b}": ["\u{7f}\u{0}/\"\\", -0, 12345678901234567890_u64] }));
    let forged = document.clone().with("hmac", json!("somebody else's"));
    let file = cloud.world().join("document.json");
    fs::write(&file, forged.bytes()).unwrap();
    for (arguments, input) in
        [(vec![], document.bytes()), (vec![], forged.bytes()), (vec![file.to_str().unwrap()], vec![])]
    {
        let output = sign(&cloud, &arguments, &input);
        assert!(output.status.success(), "{}", describe(&output));
        let signed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_signed(&signed, &cloud.secret);
        let mut unsigned = signed;
        unsigned.as_object_mut().unwrap().remove("hmac");
        assert_eq!(unsigned, document.value(), "nothing else is changed");
    }
    assert_eq!(cloud.waiting(), Vec::<String>::new(), "without --submit nothing is submitted");
}

#[test]
fn sign_refuses_what_it_cannot_sign() {
    let cloud = Cloud::new();
    let good = Doc::noop("to-sign").bytes();
    let cases: [(&str, &[u8]); 5] = [
        ("rubbish", b"rubbish"),
        ("no object", b"[]"),
        ("nothing", b""),
        ("a duplicate key", b"{\"id\":\"a\",\"id\":\"b\"}"),
        ("NaN", b"{\"a\":NaN}"),
    ];
    for (name, input) in cases {
        let output = sign(&cloud, &[], input);
        assert!(!output.status.success() && output.stdout.is_empty(), "{name}: {}", describe(&output));
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{name}: {}", describe(&output));
    }
    let output = cloud.bridge(&["sign"]).arg(cloud.world().join("missing.json")).output().unwrap();
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("missing.json"),
        "{}",
        describe(&output)
    );
    let mut without = cloud.bridge(&["sign"]);
    let file = cloud.world().join("good.json");
    fs::write(&file, good).unwrap();
    let output = without.arg(&file).env_remove("GPT_BRIDGE_HMAC_SECRET").output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", describe(&output));
}

#[test]
fn sign_submits_to_a_running_bridge() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let document = Doc::write("submitted", "docs/submitted.txt", "x\n");
    let output = sign(&cloud, &["--submit"], &document.bytes());
    assert!(output.status.success(), "{}", describe(&output));
    bridge.published(&results("submitted", 0));
    bridge.emptied();
    assert_eq!(cloud.text("docs/submitted.txt"), "x\n");
    assert_eq!(names(&cloud.path("commands")), Vec::<String>::new(), "no temporary file is left");
    bridge.stop();
}

#[test]
fn smoke_passes_against_a_running_bridge_and_fails_without_one() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    for _ in 0..2 {
        let output = cloud.bridge(&["smoke"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
        let stdout = String::from_utf8(output.stdout).unwrap();
        for word in ["archive", "results", "integrity", "diff", "commit"] {
            assert!(stdout.to_lowercase().contains(word), "{word} in\n{stdout}");
        }
    }
    bridge.stop();
    let output = cloud.bridge(&["smoke"]).output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", describe(&output));
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim().lines().count(), 1, "{}", describe(&output));
}

#[test]
fn demo_shows_every_outcome() {
    let world = Cloud::empty();
    let output = world.program(BINARY).arg("demo").env("TMPDIR", world.world()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let words = [
        "bad_hmac",
        "expired",
        "path_escape",
        "duplicate_id",
        "archive",
        "dead_letter",
        "bridge: results ",
        "bridge: DLQ bad_hmac",
        "bridge: DLQ expired",
        "bridge: DLQ path_escape",
    ];
    words.iter().for_each(|word| assert!(stdout.contains(word), "{word:?} in\n{stdout}"));
    assert!(!stdout.contains('\u{1b}'), "no colour where no terminal is");
    println!("{stdout}");
}

/// What the README has as code: its fenced lines and its spans.
fn code_of(readme: &str) -> Vec<String> {
    let (mut code, mut fenced) = (Vec::new(), false);
    for line in readme.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            code.extend(line.split(['|', '&', ';', '#']).map(|part| part.trim().to_owned()));
        } else {
            code.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    code
}

#[test]
fn every_command_of_the_readme_is_known_with_its_options() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let cloud = Cloud::empty();
    let code = code_of(&readme);
    let mut seen = std::collections::BTreeSet::new();
    for line in code.iter().filter_map(|line| line.strip_prefix("ghost-bridge ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_name = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
        let names = words.iter().take(if words[0] == "dlq" { 2 } else { 1 });
        let command: Vec<&str> = names.take_while(is_name).copied().collect();
        let help = cloud.program(BINARY).args(&command).arg("--help").output().unwrap();
        assert!(help.status.success(), "{line}: {}", describe(&help));
        let help = String::from_utf8(help.stdout).unwrap();
        for option in words.iter().filter(|word| word.starts_with("--")) {
            let option = option.split('=').next().unwrap();
            assert!(help.contains(option), "{line}: no {option}");
        }
        seen.insert(command.join(" "));
    }
    for command in ["init", "run", "smoke", "sign", "replay", "revert", "status", "show", "audit", "dlq list", "doctor"]
    {
        assert!(seen.contains(command), "{command} is not in the README: {seen:?}");
    }
    let ci = std::fs::read_to_string(root.join(".ci/run")).unwrap();
    let benches: Vec<&String> = code.iter().filter(|line| line.starts_with("cargo bench")).collect();
    assert!(benches.len() > 2, "{benches:?}");
    for bench in benches {
        let name = bench.split("--bench ").nth(1).and_then(|rest| rest.split_whitespace().next());
        assert!(name.is_none_or(|name| ci.contains(&format!("--bench {name} "))), "CI does not run {bench}");
    }
}

/// What `sign` warns of; it signs all the same.
fn warnings(output: &Output) -> String {
    assert!(output.status.success() && !output.stdout.is_empty(), "{}", describe(output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn sign_warns_of_what_the_targets_rules_refuse() {
    let cloud = Cloud::new();
    let named = cloud.config("cloud_name = \"blue\"\n[targets.MAIN]\ndeny = [\"private/**\"]\n").display().to_string();
    let write = |path: &str| Doc::write("warned", path, "x");
    let deletes = Doc::new("deletes", json!([{ "op": "deleteFile", "path": "docs/x" }]));
    let check = json!([{ "check": "run", "name": "lint" }]);
    for (document, without, with) in [
        (write("docs/x"), "", ""),
        (write("../x"), "path_escape", "path_escape"),
        (write("a/../../x"), "path_escape", "path_escape"),
        (write(".git/hooks/x"), "path_denied", "path_denied"),
        (write("results/x"), "path_denied", "path_denied"),
        (write("private/x"), "", "path_denied"),
        (deletes, "", "delete_denied"),
        (write("x").with("allowedActions", json!(["moveFile"])), "action_not_allowed", "action_not_allowed"),
        (write("x").on("SITE"), "unless it has a target", "unknown_target"),
        (write("x").with("validationPlan", check), "", "no check"),
        (write("x").with("audience", json!("blue")), "", ""),
        (write("x").with("audience", json!("green")), "", "unknown_target, /audience"),
    ] {
        let said = |arguments: &[&str]| warnings(&sign(&cloud, arguments, &document.bytes()));
        for (found, expected) in [(said(&[]), without), (said(&["--config", &named]), with)] {
            assert!(found.contains(expected) && expected.is_empty() == found.is_empty(), "{document:?}: {found:?}");
        }
    }
    let filled = |arguments: &[&str]| {
        let ops = br#"{"payload":{"inline":{"version":"1","ops":[{"op":"deleteFile","path":"docs/x"}]}}}"#;
        let output = sign(&cloud, &[&["--fill"], arguments].concat(), ops);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(filled(&[])["allowedActions"], json!(["writeFile", "moveFile", "deleteFile"]));
    assert_eq!(
        (filled(&[])["audience"].clone(), filled(&["--config", &named])["audience"].clone()),
        (Value::Null, json!("blue"))
    );
    let seconds = |document: Value| {
        let instant = |key: &str| document[key].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        (instant("expires_at") - instant("issued_at")).num_seconds()
    };
    assert_eq!((seconds(filled(&["--ttl", "77"])), seconds(filled(&["--valid-for", "77"]))), (77, 77), "one thing");
}

#[test]
fn a_document_for_another_cloud_is_refused_by_one_that_has_the_same_secret() {
    let cloud = Cloud::new();
    let for_blue = |id: &str| Doc::write(id, "docs/blue.txt", "x").with("audience", json!("blue"));
    for (life, (name, taken)) in [(None, false), (Some("green"), false), (Some("blue"), true)].into_iter().enumerate() {
        let bridge = Bridge::start_with(&cloud, |run| {
            run.envs(name.map(|name| ("GHOST_BRIDGE__CLOUD_NAME", name)));
        });
        let id = format!("for-blue-{life}");
        cloud.submit(&for_blue(&id));
        if taken {
            bridge.published(&results(&id, 0));
        } else {
            let letter = format!("dead_letter/{id}.json");
            bridge.wait_for("the letter", || cloud.exists(&letter));
            let letter = cloud.json(&letter);
            assert_eq!((&letter["reason"], &letter["hmac_ok"]), (&json!("unknown_target"), &json!(true)));
            assert!(letter["detail"].as_str().unwrap().contains("/audience"), "{letter}");
            assert!(!cloud.exists("docs/blue.txt"));
        }
        bridge.emptied();
        bridge.stop();
    }
}
