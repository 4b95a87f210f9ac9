//! `show`, `dlq` and `completions`.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json as value};

use crate::harness::cloud::describe;
use crate::harness::document::sha256;
use crate::harness::git::results;
use crate::harness::{Bridge, Cloud, Doc};

use super::{call, json};

fn text(cloud: &Cloud, arguments: &[&str]) -> String {
    String::from_utf8(call(cloud, arguments, 0).stdout).unwrap()
}

/// The one line on stderr of a call that says no.
fn refusal(cloud: &Cloud, arguments: &[&str]) -> String {
    let output = call(cloud, arguments, 1);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

fn fits(story: &Value) -> Vec<&str> {
    let artifacts = story["artifacts"].as_array().unwrap();
    assert!(artifacts.iter().all(|it| it["fits"] == true && it["committed"] == true), "{artifacts:#?}");
    artifacts.iter().map(|it| it["path"].as_str().unwrap()).collect()
}

#[test]
fn all_that_is_known_of_a_command_is_shown() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::write("good", "docs/a.txt", "hello\n"));
    let plan = value!([{ "check": "exists", "path": "docs/nothing.txt" }]);
    cloud.submit(&Doc::noop("fails").with("validationPlan", plan));
    bridge.published(&results("fails", 1));
    cloud.submit(&Doc::noop("late").window(-7200, -3600));
    for again in ["again-1.json", "again-2.json"] {
        cloud.drop_file(again, &Doc::noop("good").signed(&cloud.secret));
        bridge.emptied();
    }
    bridge.published("bridge: DLQ duplicate_id");
    bridge.published("bridge: DLQ expired");
    bridge.emptied();

    // With the bridge running, and then without.
    let good = json(&cloud, &["show", "good", "--json"], 0);
    let same = json(&cloud, &["show", "GOOD.json", "--json"], 0);
    assert_eq!((&same["id"], &same["audit"]), (&value!("good"), &good["audit"]));
    bridge.barrier();
    bridge.stop();
    assert_eq!((&good["state"], &good["audit"]["position"]), (&value!("ok"), &value!(1)));
    assert_eq!(good["audit"]["entry"]["id"], "good");
    assert_eq!(good["audit"]["follows_the_line_before"], true);
    assert_eq!((&good["commit"]["subject"], &good["commit"]["pushed"]), (&value!(results("good", 0)), &value!(true)));
    assert_eq!(good["result"]["ops"][0]["path"], "docs/a.txt");
    let others = good["other_lines"].as_array().unwrap();
    assert!(others.len() == 2 && others.iter().all(|line| line["result"] == "duplicate_id"), "{others:?}");
    assert!(others.iter().any(|line| line["letter"] == "dead_letter/good.json"), "{others:?}");
    let paths = fits(&good);
    assert_eq!(paths, ["results/good.json", "results/good.integrity.json", "diffs/good.patch", "archive/good.json"]);
    for artifact in good["artifacts"].as_array().unwrap() {
        assert_eq!(artifact["sha256"], sha256(&cloud.read(artifact["path"].as_str().unwrap())));
    }
    assert_eq!(good["diff"], cloud.text("diffs/good.patch"));
    let page = text(&cloud, &["show", "good"]);
    for wanted in ["outcome      ok, exit 0", "+hello", "(pushed)", "1 of ", "writeFile"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }

    let failed = json(&cloud, &["show", "fails", "--json"], 0);
    assert_eq!((&failed["state"], &failed["result"]["reason"]), (&value!("failed"), &value!("validation_failed")));
    assert!(fits(&failed).contains(&"dead_letter/fails.json"));
    assert!(text(&cloud, &["show", "fails"]).contains("detail       check 1 (exists)"));
    let late = json(&cloud, &["show", "late", "--json"], 0);
    assert_eq!((&late["state"], &late["dead_letter"]["reason"]), (&value!("refused"), &value!("expired")));
    assert_eq!(
        (fits(&late), &late["commit"]["subject"]),
        (vec!["dead_letter/late.json"], &value!("bridge: DLQ expired"))
    );
    // A further document of an id by its own name.
    let letter = cloud.dead_letters().into_iter().find(|(name, _)| name.starts_with("good-")).unwrap().0;
    let second = json(&cloud, &["show", &letter, "--json"], 0);
    assert_eq!((&second["state"], &second["dead_letter"]["reason"]), (&value!("refused"), &value!("duplicate_id")));
}

#[test]
fn what_waits_was_rolled_over_or_tampered_with_is_shown_too() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::noop("old"));
    bridge.stop();
    assert!(refusal(&cloud, &["show", "nobody"]).contains("nothing is known about \"nobody\""));
    cloud.drop_file("any-name.json", &Doc::noop("waits").signed(&cloud.secret));
    let waits = json(&cloud, &["show", "waits", "--json"], 0);
    assert_eq!((&waits["state"], &waits["waiting"]), (&value!("waiting"), &value!("commands/any-name.json")));
    // Rolled over, but for the diff, and with a changed result.
    for (folder, ending) in [("results", "json"), ("results", "integrity.json"), ("archive", "json")] {
        fs::create_dir_all(cloud.path(&format!("{folder}/2026/01/02/0000"))).unwrap();
        let to = cloud.path(&format!("{folder}/2026/01/02/0000/old.{ending}"));
        fs::rename(cloud.path(&format!("{folder}/old.{ending}")), to).unwrap();
    }
    let old = json(&cloud, &["show", "old", "--json"], 0);
    assert!(fits(&old).contains(&"results/2026/01/02/0000/old.integrity.json"));
    json(&cloud, &["audit", "--json"], 0);
    cloud.write("results/2026/01/02/0000/old.json", "{}");
    let old = json(&cloud, &["show", "old", "--json"], 0);
    let artifact = &old["artifacts"][0];
    assert_eq!((&artifact["fits"], &artifact["finding"]), (&value!(false), &value!("is not what was committed")));
    assert!(text(&cloud, &["show", "old"]).contains("DOES NOT FIT"));
    fs::remove_file(cloud.path("diffs/old.patch")).unwrap();
    assert_eq!(json(&cloud, &["show", "old", "--json"], 0)["missing"][0]["path"], "diffs/old.patch");
}

#[test]
fn a_dead_letter_goes_in_again_when_its_cause_is_gone() {
    let cloud = Cloud::new();
    cloud.write("docs/from.txt", "x");
    cloud.write("docs/to.txt", "in the way");
    let bridge = Bridge::start(&cloud);
    let ops = value!([{ "op": "moveFile", "from": "docs/from.txt", "to": "docs/to.txt" }]);
    cloud.submit(&Doc::new("move", ops));
    cloud.submit(&Doc::noop("late").window(-7200, -3600));
    let plan = value!([{ "check": "exists", "path": "docs/nothing.txt" }]);
    cloud.submit(&Doc::noop("fails").with("validationPlan", plan));
    cloud.drop_file("forged.json", &Doc::noop("forged").signed("a-forgers-own-secret"));
    cloud.drop_file("rubbish.json", b"rubbish");
    bridge.published("bridge: DLQ malformed");
    bridge.barrier();

    let all = json(&cloud, &["dlq", "list", "--json"], 0);
    let times: Vec<&str> = all.as_array().unwrap().iter().map(|it| it["rejected_at"].as_str().unwrap()).collect();
    assert!(times.len() == 5 && times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let late = json(&cloud, &["dlq", "list", "--reason", "expired", "--json"], 0);
    assert_eq!((late.as_array().unwrap().len(), &late[0]["id"]), (1, &value!("late")));
    assert_eq!(json(&cloud, &["dlq", "list", "--limit", "2", "--json"], 0).as_array().unwrap().len(), 2);
    assert!(text(&cloud, &["dlq", "list", "--limit", "2"]).contains("2 of 5; --limit 5 lists all"));
    call(&cloud, &["dlq", "list", "--reason", "weather"], 64);
    assert!(text(&cloud, &["dlq", "show", "move"]).contains("\"op\": \"moveFile\""));

    for (name, why) in [("forged", "no secret that counts now has signed it"), ("nobody", "no dead letter is called")] {
        let line = refusal(&cloud, &["dlq", "requeue", name]);
        assert!(line.contains(why), "{line}");
        assert!(name == "nobody" || line.contains("--unsigned | ghost-bridge --cloud"), "{line}");
    }
    let rubbish = cloud.dead_letters().into_iter().find(|(name, _)| name.starts_with("rubbish-")).unwrap().0;
    assert!(refusal(&cloud, &["dlq", "requeue", &rubbish]).contains("no JSON"));
    assert_eq!(cloud.waiting(), Vec::<String>::new());

    // Refused anew for the same cause, and executed once it is gone: never taken away as known.
    call(&cloud, &["dlq", "requeue", "move"], 0);
    bridge.wait_for("a second letter", || cloud.dead_letters().iter().any(|(name, _)| name.starts_with("move-")));
    bridge.emptied();
    fs::remove_file(cloud.path("docs/to.txt")).unwrap();
    call(&cloud, &["dlq", "requeue", "move"], 0);
    bridge.published(&results("move", 0));
    assert_eq!(cloud.text("docs/to.txt"), "x");

    // Under its id where that is free, under a new one where it is not; for as long as it was valid.
    let again = |name: &str| {
        bridge.freeze();
        call(&cloud, &["dlq", "requeue", name], 0);
        let file = cloud.waiting().pop().unwrap();
        let document = cloud.json(&format!("commands/{file}"));
        bridge.signal(rustix::process::Signal::CONT);
        bridge.emptied();
        let instant = |key: &str| document[key].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        ((document["id"] == name), (instant("expires_at") - instant("issued_at")).num_seconds())
    };
    assert_eq!((again("late"), again("move"), again("fails")), ((true, 3600), (false, 3601), (false, 3601)));
    bridge.published(&results("late", 0));

    // By hand, too.
    for (name, keeps) in [("late", false), ("fails", false)] {
        let unsigned = call(&cloud, &["dlq", "show", name, "--unsigned"], 0).stdout;
        let draft: Value = serde_json::from_slice(&unsigned).unwrap();
        assert_eq!((draft["id"] == name, draft["hmac"].is_null(), draft["expires_at"].is_null()), (keeps, true, true));
        let mut sign = cloud.bridge(&["sign", "--fill", "--submit"]);
        let mut child = sign.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&unsigned).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", describe(&output));
    }
    bridge.emptied();
    bridge.stop();
    json(&cloud, &["audit", "--json"], 0);
}

#[test]
fn shells_complete_the_command_line() {
    let cloud = Cloud::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&cloud, &["completions", shell]);
        assert!(script.contains("ghost-bridge") && script.contains("requeue"), "{shell}");
    }
    call(&cloud, &["completions", "abacus"], 64);
}
