//! Starts that must fail: the right exit status, one line that names the remedy, and nothing created by half.

use std::path::Path;
use std::process::Command;

use crate::harness::cloud::describe;
use crate::harness::snapshot::snapshot;
use crate::harness::{Bridge, Cloud};

/// Runs a command that must fail with `code` and one line on stderr that holds every one of `words`; returns the fault.
fn refusal(command: &mut Command, code: i32, words: &[&str]) -> Option<String> {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = stderr.lines().filter(|line| !line.trim().is_empty()).count();
    let missing: Vec<&&str> =
        words.iter().filter(|word| !stderr.to_lowercase().contains(&word.to_lowercase())).collect();
    let right = output.status.code() == Some(code) && lines == 1 && missing.is_empty();
    (!right).then(|| format!("expected {code} and one line with {words:?}, missing {missing:?}; {}", describe(&output)))
}

/// Collects what is wrong over a table, so that one run shows all.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn expect(&mut self, name: &str, command: &mut Command, code: i32, words: &[&str]) {
        if let Some(fault) = refusal(command, code, words) {
            self.0.push(format!("{name}: {fault}"));
        }
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        assert!(self.0.is_empty() || std::thread::panicking(), "{} faults\n{}", self.0.len(), self.0.join("\n\n"));
    }
}

#[test]
fn wrong_usage_is_64() {
    let cloud = Cloud::new();
    let mut faults = Faults::default();
    faults.expect("no such command", &mut cloud.bridge(&["frobnicate"]), 64, &["frobnicate"]);
    faults.expect("no such flag", &mut cloud.bridge(&["run", "--frobnicate"]), 64, &["--frobnicate"]);
    faults.expect("no secret by flag", &mut cloud.bridge(&["run", "--secret", "x"]), 64, &["--secret"]);
    faults.expect("a log format", &mut cloud.bridge(&["run", "--log-format", "xml"]), 64, &["compact", "json"]);
}

#[test]
fn help_and_version_are_no_failure() {
    let cloud = Cloud::empty();
    for arguments in [
        vec!["--help"],
        vec!["--version"],
        vec!["run", "--help"],
        vec!["init", "--help"],
        vec!["sign", "--help"],
        vec!["smoke", "--help"],
        vec!["demo", "--help"],
    ] {
        let output = cloud.program(crate::harness::cloud::BINARY).args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", describe(&output));
        assert!(!output.stdout.is_empty());
    }
    let help = cloud.program(crate::harness::cloud::BINARY).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in [
        "run",
        "init",
        "sign",
        "smoke",
        "demo",
        "CLOUD",
        "GPT_BRIDGE_HMAC_SECRET",
        "GHOST_BRIDGE_CONFIG",
        "64",
        "70",
        "75",
        "78",
    ] {
        assert!(help.contains(word), "--help does not mention {word}");
    }
}

#[test]
fn secrets_that_will_not_do_are_78() {
    let cloud = Cloud::new();
    let before = snapshot(cloud.root(), &[]);
    let run = || cloud.bridge(&["run"]);
    let next = "GPT_BRIDGE_HMAC_SECRET_NEXT";
    let ends = "GPT_BRIDGE_HMAC_ROTATION_ENDS";
    let secret = "GPT_BRIDGE_HMAC_SECRET";
    let far = (chrono::Utc::now() + chrono::TimeDelta::hours(169)).to_rfc3339();
    let soon = (chrono::Utc::now() + chrono::TimeDelta::hours(1)).to_rfc3339();
    let other = "another-secret-of-32-bytes-000000";
    let mut faults = Faults::default();
    faults.expect("none", run().env_remove(secret), 78, &[secret]);
    faults.expect("empty", run().env(secret, ""), 78, &[secret]);
    faults.expect("15 bytes", run().env(secret, "123456789012345"), 78, &[secret, "16"]);
    faults.expect("next alone", run().env(next, other), 78, &[ends]);
    faults.expect("next too short", run().env(next, "short").env(ends, &soon), 78, &[next, "16"]);
    faults.expect("too far", run().env(next, other).env(ends, &far), 78, &[ends, "168"]);
    faults.expect("no instant", run().env(next, other).env(ends, "tomorrow"), 78, &[ends, "RFC 3339"]);
    faults.expect("to itself", run().env(next, &cloud.secret).env(ends, &soon), 78, &[next, "unset it"]);
    drop(faults);
    assert_eq!(snapshot(cloud.root(), &[]), before, "nothing is created by half");
}

#[test]
fn the_log_says_when_a_rotation_is_open_and_when_it_ends() {
    let cloud = Cloud::alone();
    let ends = chrono::Utc::now() + chrono::TimeDelta::seconds(3);
    let rotating = |run: &mut Command| {
        run.env("GPT_BRIDGE_HMAC_SECRET_NEXT", "the-next-secret-of-32-bytes-00000");
        run.env("GPT_BRIDGE_HMAC_ROTATION_ENDS", ends.to_rfc3339());
    };
    let bridge = Bridge::start_with(&cloud, rotating);
    let is_said = |words: &str| bridge.log().lines().any(|line| line.contains(words));
    let over = "only the next secret counts from now on";
    // A machine that took so long for the start proves nothing of what is said before the end.
    if chrono::Utc::now() < ends {
        assert!(is_said("the secret is being rotated") && is_said(&ends.format("%Y-%m-%dT%H:%M:%S").to_string()));
    }
    bridge.wait_for("the end of the rotation", || is_said(over) || is_said("the rotation ended at"));
    bridge.stop();
    let bridge = Bridge::start_with(&cloud, rotating);
    assert!(bridge.log().contains("the rotation ended at"), "{}", bridge.log());
    bridge.stop();
}

#[test]
fn a_cloud_that_is_none_is_78() {
    let cloud = Cloud::new();
    let plain = cloud.world().join("plain-folder");
    std::fs::create_dir(&plain).unwrap();
    let file = cloud.world().join("a-file");
    std::fs::write(&file, "x").unwrap();
    let inner = cloud.root().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let mut faults = Faults::default();
    let mut with = |name: &str, path: &Path, words: &[&str]| {
        faults.expect(name, cloud.bridge(&["run"]).env("CLOUD", path), 78, words);
        faults.expect(name, cloud.bridge(&["run", "--cloud", path.to_str().unwrap()]).env_remove("CLOUD"), 78, words);
    };
    with("no git", &plain, &["plain-folder", "git"]);
    with("missing", &cloud.world().join("missing"), &["missing"]);
    with("a file", &file, &["a-file"]);
    with("not the top", &inner, &["inner"]);
    with("a bare repository", &cloud.remote(), &["remote.git"]);
    faults.expect("unset", cloud.bridge(&["run"]).env_remove("CLOUD"), 78, &["CLOUD"]);
    drop(faults);
    assert_eq!(std::fs::read_dir(&plain).unwrap().count(), 0, "nothing is created by half");
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 0, "nothing is created by half");
}

#[test]
fn service_folders_that_are_none_are_78() {
    let mut faults = Faults::default();
    for folder in ["commands", "results", "diffs", "archive", "dead_letter", "logs", "meta"] {
        let cloud = Cloud::new();
        let path = cloud.path(folder);
        std::fs::remove_dir_all(&path).unwrap();
        let elsewhere = cloud.world().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        faults.expect(&format!("{folder} is a link"), &mut cloud.bridge(&["run"]), 78, &[folder]);
        assert_eq!(
            std::fs::read_dir(&elsewhere).unwrap().count(),
            0,
            "{folder}: something was written through the link"
        );
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "x").unwrap();
        faults.expect(&format!("{folder} is a file"), &mut cloud.bridge(&["run"]), 78, &[folder]);
    }
}

#[test]
fn a_detached_head_is_78() {
    let cloud = Cloud::new();
    cloud.git(&["checkout", "-q", "--detach"]);
    let mut faults = Faults::default();
    faults.expect("detached", &mut cloud.bridge(&["run"]), 78, &["detached"]);
}

/// A file's text, and the words that the refusal must hold.
fn bad_files() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    vec![
        ("syntax", "[publish\nwindow = 1\n", vec![]),
        ("unknown section", "[surprise]\nx = 1\n", vec!["surprise"]),
        ("unknown key", "[publish]\nwindov = 1\n", vec!["windov", "window"]),
        ("unknown top key", "clowd = \"/x\"\n", vec!["clowd"]),
        ("a secret", "secret = \"0123456789abcdef\"\n", vec!["secret"]),
        ("wrong type", "[ingest]\nsettle_ms = \"soon\"\n", vec!["settle_ms"]),
        ("negative", "[publish]\nfetch_secs = -1\n", vec!["fetch_secs"]),
        ("zero window", "[publish]\nwindow = 0\n", vec!["window"]),
        ("zero attempts", "[publish]\nattempts = 0\n", vec!["attempts"]),
        ("a list for a text", "[publish]\nremote = [\"origin\"]\n", vec!["remote"]),
        ("no address", "[http]\nlisten = \"everywhere\"\n", vec!["listen"]),
        ("open to all", "[http]\nlisten = \"0.0.0.0:9464\"\n", vec!["listen", "allow_remote"]),
        ("limits", "[targets.MAIN.limits]\nmax_files_changed = \"many\"\n", vec!["max_files_changed"]),
        ("an unknown limit", "[targets.MAIN.limits]\nmax_files = 1\n", vec!["max_files"]),
        ("no root", "[targets.SIDE]\nallow_delete = true\n", vec!["SIDE", "root"]),
        ("a root that is missing", "[targets.SIDE]\nroot = \"/nonexistent/side\"\n", vec!["SIDE", "/nonexistent/side"]),
        ("a bad glob", "[targets.MAIN]\ndeny = [\"a[\"]\n", vec!["deny"]),
    ]
}

#[test]
fn a_bad_configuration_file_names_file_and_key() {
    let cloud = Cloud::new();
    let before = snapshot(cloud.root(), &[]);
    let mut faults = Faults::default();
    for (name, text, words) in bad_files() {
        let path = cloud.config(text);
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let words: Vec<&str> = words.iter().copied().chain([file.as_str()]).collect();
        // The environment's own overrides must not mend what the file says wrong.
        let clean = || {
            let mut command = cloud.bridge(&["run"]);
            command.env_remove("GHOST_BRIDGE__HTTP__LISTEN").env_remove("GHOST_BRIDGE__PUBLISH__FETCH_SECS");
            command
        };
        faults.expect(name, clean().arg("--config").arg(&path), 78, &words);
        faults.expect(&format!("{name}, by environment"), clean().env("GHOST_BRIDGE_CONFIG", &path), 78, &words);
    }
    let missing = cloud.world().join("missing.toml");
    faults.expect("missing", cloud.bridge(&["run", "--config"]).arg(&missing), 78, &["missing.toml"]);
    let inside = cloud.path("bridge.toml");
    std::fs::write(&inside, "").unwrap();
    faults.expect("inside CLOUD", cloud.bridge(&["run", "--config"]).arg(&inside), 78, &["bridge.toml", "CLOUD"]);
    let link = cloud.world().join("link.toml");
    std::os::unix::fs::symlink(&inside, &link).unwrap();
    faults.expect("inside CLOUD behind a link", cloud.bridge(&["run", "--config"]).arg(&link), 78, &["CLOUD"]);
    std::fs::remove_file(&inside).unwrap();
    faults.expect(
        "an override",
        cloud.bridge(&["run"]).env("GHOST_BRIDGE__PUBLISH__WINDOW", "many"),
        78,
        &["GHOST_BRIDGE__PUBLISH__WINDOW"],
    );
    faults.expect(
        "an unknown override",
        cloud.bridge(&["run"]).env("GHOST_BRIDGE__PUBLISH__WINDOV", "1"),
        78,
        &["windov"],
    );
    faults.expect(
        "an underscore too few",
        cloud.bridge(&["run"]).env("GHOST_BRIDGE_PUBLISH__WINDOW", "5"),
        78,
        &["GHOST_BRIDGE_PUBLISH__WINDOW", "GHOST_BRIDGE__PUBLISH__WINDOW"],
    );
    drop(faults);
    assert_eq!(snapshot(cloud.root(), &[]), before, "nothing is created by half");
}

#[test]
fn a_target_around_or_inside_the_repository_is_78() {
    let cloud = Cloud::new();
    let mut faults = Faults::default();
    let roots = [cloud.world().to_owned(), cloud.path(".git"), cloud.path(".git/hooks"), Path::new("/").to_owned()];
    for root in roots {
        let path = cloud.config(&format!("[targets.SIDE]\nroot = {:?}\n", root.to_str().unwrap()));
        faults.expect(root.to_str().unwrap(), cloud.bridge(&["run", "--config"]).arg(&path), 78, &["SIDE"]);
    }
}

#[test]
fn a_repository_that_cannot_be_written_is_78() {
    // Permissions do not stop a test that runs as root; a mount does.
    let apart = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-r", "-m", "sh", "-c", script]);
        command
    };
    if !apart("true").status().is_ok_and(|status| status.success()) {
        eprintln!("left out: `unshare -r -m` does not work here, so that nothing can be mounted read-only");
        assert!(std::env::var_os("CI").is_none(), "CI has to have it");
        return;
    }
    let cloud = Cloud::new();
    let bridge = cloud.bridge(&["run"]);
    let mut command = apart("mount --bind .git .git && mount -o remount,bind,ro .git && exec timeout 60 \"$0\" run");
    command.arg(bridge.get_program()).current_dir(cloud.root());
    command.env_clear().envs(bridge.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let before = snapshot(cloud.root(), &[]);
    assert_eq!(refusal(&mut command, 78, &[".git", "cannot be written", "permission"]), None);
    assert_eq!(snapshot(cloud.root(), &[]), before, "nothing was created");
}
