//! `run` checks: the operator's programs, through the whole bridge. What the sandbox holds back is tested at length beside
//! it; here is what a command's author and the operator see.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::document::sha256;
use crate::harness::git::{assert_sound, results};
use crate::harness::snapshot::snapshot;
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, audit, poll};

/// The bridge's own places in CLOUD, and the folder in which checks may write.
const OWN: [&str; 9] = [".git", ".bridge.lock", "results", "diffs", "archive", "dead_letter", "logs", "meta", "out"];
/// Starts, out of sight, what goes on for ever: in a session of its own, without a parent, holding the pipe.
const DAEMON: &str = "exec 9>out/pipe; (setsid bash -c '(while :; do echo beat >&9; sleep 0.05; done) & exit' &); ";
/// The most that is kept of an output.
const MOST: usize = 64 * 1024;

/// A bridge with these scripts as checks, each with further keys.
fn bridge<'a>(cloud: &'a Cloud, checks: &[(&str, &str, &str)]) -> Bridge<'a> {
    cloud.write("out/.keep", "");
    cloud.write("docs/a.txt", "one\n");
    let table = |(name, script, more): &(&str, &str, &str)| {
        format!("[checks.{name}]\nargv = [\"bash\", \"-c\", {}]\nwritable = [\"out\"]\n{more}\n", json!(script))
    };
    let config = cloud.config(&checks.iter().map(table).collect::<String>());
    Bridge::start_with(cloud, |run| {
        run.arg("--config").arg(&config).env("LANG", "C.UTF-8");
        // A bridge that ends while a check runs leaves its temporary folder behind.
        run.env("TMPDIR", cloud.world());
    })
}

/// A command that writes a file and then asks for these programs.
fn command(id: &str, names: &[&str]) -> Doc {
    let plan: Vec<Value> = names.iter().map(|name| json!({ "check": "run", "name": name })).collect();
    let ops = json!([
        { "op": "writeFile", "path": "docs/new.txt", "content": "new\n" },
        { "op": "replaceText", "path": "docs/a.txt", "search": "one", "replace": "two" },
    ]);
    Doc::new(id, ops).with("validationPlan", json!(plan))
}

/// Submits a command that must end with this exit code; its result.
fn outcome(cloud: &Cloud, bridge: &Bridge, document: &Doc, exit_code: u8) -> Value {
    let before = snapshot(cloud.root(), &OWN);
    let bytes = cloud.submit(document);
    let id = document.id();
    let history = bridge.published(&results(id, exit_code));
    bridge.emptied();
    let changed = snapshot(cloud.root(), &OWN) != before;
    assert_eq!(changed, exit_code == 0, "{id}: whether the tree has changed");
    assert_sound(&history);
    let result = if exit_code == 0 { "ok" } else { "failed" };
    assert_eq!(audit::count(&audit::verified(cloud.root()), &sha256(&bytes), result), 1);
    let result = cloud.json(&format!("results/{id}.json"));
    assert_eq!(result["exit_code"], json!(exit_code), "{result}");
    if exit_code != 0 {
        let letter = cloud.json(&format!("dead_letter/{id}.json"));
        assert_eq!((&letter["reason"], &letter["detail"]), (&result["reason"], &result["detail"]));
        assert_eq!(letter["stage"], json!("execution"));
    }
    result
}

/// The pipe's reading end. It comes to its end once everybody is dead who opened it for writing.
fn pipe(path: &Path) -> File {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path).unwrap()
}

/// What was written to the pipe, and whether a writer is alive.
fn read(pipe: &mut File) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    match pipe.read_to_end(&mut all) {
        Ok(_) => (all, false),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            (all, true)
        }
    }
}

#[test]
fn run_check_that_holds_lets_the_command_stand() {
    let cloud = Cloud::new();
    let checks = [
        ("sees-it", "cat docs/new.txt docs/a.txt; echo warned >&2; echo x > out/mark", ""),
        ("again", "cat out/mark; cat; cat ~/x 2>/dev/null; true", "max_runtime_ms = 60000"),
    ];
    let bridge = bridge(&cloud, &checks);
    let plan = json!([
        { "check": "exists", "path": "docs/new.txt" },
        { "check": "run", "name": "sees-it" },
        { "check": "run", "name": "again" },
    ]);
    let result = outcome(&cloud, &bridge, &command("holds", &[]).with("validationPlan", plan), 0);
    let reports = result["checks"].as_array().unwrap();
    assert_eq!(reports.len(), 3);
    assert_eq!((&reports[0]["check"], reports[0].get("name")), (&json!("exists"), None));
    for (number, name, stdout, stderr) in [(1, "sees-it", "new\ntwo\n", "warned\n"), (2, "again", "x\n", "")] {
        let mut report = reports[number].clone();
        assert!(report["duration_ms"].as_u64().is_some());
        report["duration_ms"] = json!(0);
        let wanted = json!({
            "check": "run", "name": name, "exit_code": 0, "duration_ms": 0, "stdout": stdout, "stderr": stderr,
            "truncated": false,
        });
        assert_eq!(report, wanted);
    }
    assert_eq!(cloud.text("docs/a.txt"), "two\n");
    bridge.stop();
}

#[test]
fn run_check_that_fails_undoes_everything_and_says_why() {
    let cloud = Cloud::new();
    let checks = [
        ("exits", "echo said; echo complained >&2; exit 3", ""),
        ("is-killed", "kill -SEGV $$", ""),
        ("holds", "true", ""),
        ("is-slow", "echo begun; sleep 600", "max_runtime_ms = 300"),
        ("much", "head -c 10000000 /dev/zero | tr '\\0' a; head -c 10000000 /dev/zero | tr '\\0' b >&2; exit 1", ""),
    ];
    let bridge = bridge(&cloud, &checks);
    for (name, code, said) in
        [("exits", 3, "exit code 3"), ("is-killed", 139, "signal 11"), ("is-slow", 124, "max_runtime_ms of 300")]
    {
        let result = outcome(&cloud, &bridge, &command(name, &["holds", name, "holds"]), 1);
        assert_eq!(result["reason"], json!("validation_failed"), "{result}");
        let detail = result["detail"].as_str().unwrap();
        assert!(detail.contains(said) && detail.contains(&format!("check 2 (run {name})")), "{detail}");
        let reports = result["checks"].as_array().unwrap();
        let codes: Vec<&Value> = reports.iter().map(|report| &report["exit_code"]).collect();
        assert_eq!(codes, [&json!(0), &json!(code)], "{name}: the third does not run");
    }
    let exits = cloud.json("results/exits.json");
    assert_eq!(
        (&exits["checks"][1]["stdout"], &exits["checks"][1]["stderr"]),
        (&json!("said\n"), &json!("complained\n"))
    );
    assert!(exits["detail"].as_str().unwrap().contains("complained"), "{exits}");
    let much = outcome(&cloud, &bridge, &command("much", &["much"]), 1);
    let report = &much["checks"][0];
    assert_eq!(report["truncated"], json!(true));
    assert_eq!((&report["stdout"], &report["stderr"]), (&json!("a".repeat(MOST)), &json!("b".repeat(MOST))));
    bridge.stop();
}

#[test]
fn run_check_that_nobody_configured_is_refused_before_anything_changes() {
    let cloud = Cloud::new();
    let bridge = bridge(&cloud, &[("known", "true", "")]);
    let before = snapshot(cloud.root(), &OWN);
    cloud.submit(&command("unknown", &["known", "rm -rf /"]));
    bridge.published("bridge: DLQ schema");
    bridge.emptied();
    assert!(snapshot(cloud.root(), &OWN) == before);
    let letter = cloud.json("dead_letter/unknown.json");
    assert_eq!((&letter["reason"], &letter["stage"]), (&json!("schema"), &json!("schema")));
    let wanted = "/validationPlan/1/name: no check \"rm -rf /\" is configured on this bridge";
    assert_eq!(letter["detail"], json!(wanted));
    // The id was not taken.
    outcome(&cloud, &bridge, &command("unknown", &["known"]), 0);
    bridge.stop();
}

#[test]
fn run_check_sees_no_secret_no_network_and_nothing_else() {
    let cloud = Cloud::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = cloud.world().display();
    let refused = format!(
        "n=0; for c in 'cat /proc/self/environ' 'cat /proc/1/environ' 'ls ..' 'ls {world}' 'cat {world}/bridge-0.toml' \
         'touch docs/x' 'rm docs/new.txt' 'touch .git/x' 'touch results/x' 'touch commands/x' 'ls /tmp' 'ls /root' \
         'ls /run' 'cat /etc/shadow'; do if eval \"$c\" 2>/dev/null; then echo \"possible: $c\"; else n=$((n+1)); fi; done; \
         echo $n refused; (: > /dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo connected; true"
    );
    let checks = [("environment", "env -0 | sort -z | tr '\\0' '\\n'", ""), ("refused", refused.as_str(), "")];
    let bridge = bridge(&cloud, &checks);
    let result = outcome(&cloud, &bridge, &command("fenced", &["environment", "refused"]), 0);
    assert_eq!(result["checks"][1]["stdout"], json!("14 refused\n"), "{result}");
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let printed = result["checks"][0]["stdout"].as_str().unwrap();
    let names: Vec<&str> = printed.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    // A shell adds its own.
    let names: Vec<&str> = names.into_iter().filter(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name)).collect();
    assert_eq!(names, ["HOME", "LANG", "PATH"], "{printed}");
    assert!(printed.contains("LANG=C.UTF-8\n"), "{printed}");
    assert!(!result.to_string().contains(&cloud.secret));
    bridge.stop();
}

#[test]
fn run_check_over_the_commands_time_is_dead_before_the_result_is_there() {
    let cloud = Cloud::new();
    let script = format!("{DAEMON} trap '' TERM; while :; do sleep 1; done");
    let bridge = bridge(&cloud, &[("for-ever", &script, "max_runtime_ms = 60000")]);
    // With more and more time, until it has begun what must be dead in the end.
    let begun = [1_500, 10_000, 40_000].iter().any(|limit| {
        let mut pipe = pipe(&cloud.path("out/pipe"));
        let id = format!("for-ever-{limit}");
        let document = command(&id, &["for-ever"]).at("/constraints/maxRuntimeMs", json!(limit));
        cloud.submit(&document);
        let result = cloud.path(&format!("results/{id}.json"));
        bridge.wait_for("the result", || result.exists());
        let (written, alive) = read(&mut pipe);
        assert!(!alive, "the result is there and something still runs");
        bridge.published(&results(&id, 124));
        let result = cloud.json(&format!("results/{id}.json"));
        assert_eq!((&result["reason"], &result["checks"][0]["exit_code"]), (&json!("timeout"), &json!(124)));
        assert!(result["detail"].as_str().unwrap().contains("maxRuntimeMs"), "{result}");
        assert_eq!(cloud.text("docs/a.txt"), "one\n");
        std::fs::remove_file(cloud.path("out/pipe")).unwrap();
        written.starts_with(b"beat\n")
    });
    assert!(begun, "it never began");
    bridge.stop();
}

#[test]
fn run_check_dies_with_the_bridge() {
    let cloud = Cloud::new();
    let bridge = bridge(&cloud, &[("for-ever", &format!("{DAEMON} sleep 600"), "max_runtime_ms = 600000")]);
    let mut pipe = pipe(&cloud.path("out/pipe"));
    cloud.submit(&command("for-ever", &["for-ever"]));
    bridge.wait_for("the check to run", || !read(&mut pipe).0.is_empty());
    bridge.signal(Signal::KILL);
    drop(bridge);
    assert!(poll(PATIENCE, || !read(&mut pipe).1), "the check outlives the bridge");
}

#[test]
fn run_check_does_not_hold_up_a_stop() {
    let cloud = Cloud::new();
    let bridge = bridge(&cloud, &[("for-ever", &format!("{DAEMON} sleep 600"), "max_runtime_ms = 600000")]);
    let mut pipe = pipe(&cloud.path("out/pipe"));
    cloud.submit(&command("for-ever", &["for-ever"]).at("/constraints/maxRuntimeMs", json!(600_000)));
    bridge.wait_for("the check to run", || !read(&mut pipe).0.is_empty());
    bridge.stop();
    assert!(poll(PATIENCE, || !read(&mut pipe).1), "the check outlives the bridge");
    // It has no outcome yet: the next start finds it again, and a stop is no try that failed.
    assert_eq!(cloud.waiting(), ["for-ever.json"]);
    let bridge = self::bridge(&cloud, &[("for-ever", &format!("{DAEMON} sleep 600"), "max_runtime_ms = 600000")]);
    bridge.wait_for("the check to run again", || !read(&mut pipe).0.is_empty());
    bridge.stop();
    assert_eq!(cloud.json("meta/retries.json"), json!({}));
}

#[test]
fn run_check_stages_are_nobody_elses_business() {
    let cloud = Cloud::new();
    let help = cloud.bridge(&["--help"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains("check-launcher"));
    let output = cloud.bridge(&["check-launcher"]).stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the bridge"), "{output:?}");
}
