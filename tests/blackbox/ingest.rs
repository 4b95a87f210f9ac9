//! What the bridge makes of files as they arrive: slowly, in masses, and such as are none of its business.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rand::seq::SliceRandom as _;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::git::{Commit, assert_sound, results, with_subject};
use crate::harness::{Bridge, Cloud, Doc, audit};

/// How many commands arrive at once.
const MANY: usize = 2_000;

/// Writes `bytes` under their final name, in pieces, over two seconds.
fn dribble(cloud: &Cloud, name: &str, bytes: &[u8]) {
    let mut file = std::fs::File::create(cloud.path("commands").join(name)).unwrap();
    for piece in bytes.chunks(bytes.len().div_ceil(40)) {
        // The producer's own pace, which is the point here.
        std::thread::sleep(Duration::from_millis(50));
        file.write_all(piece).unwrap();
        file.sync_data().unwrap();
    }
}

#[test]
fn a_document_that_is_written_slowly_is_executed_once() {
    let cloud = Cloud::new();
    let bridge = Bridge::start_with(&cloud, |run| {
        // A machine under load may hold the producer up between two pieces; that must not decide.
        run.env("GHOST_BRIDGE__INGEST__SETTLE_MS", "20000");
    });
    let document = Doc::write("slow", "docs/slow.txt", &"slow\n".repeat(2_000));
    let bytes = document.signed(&cloud.secret);
    dribble(&cloud, "slow.json", &bytes);
    let history = bridge.published(&results("slow", 0));
    bridge.emptied();
    assert_eq!(cloud.read("archive/slow.json"), bytes);
    assert_eq!(cloud.text("docs/slow.txt"), "slow\n".repeat(2_000));
    assert_eq!(with_subject(&history, &results("slow", 0)).len(), 1);
    bridge.barrier();
    assert_eq!(cloud.dead_letters(), []);
    assert_eq!(audit::verified(cloud.root()).len(), 2);
    bridge.stop();
}

#[test]
fn a_document_that_is_never_finished_is_dead_lettered_in_the_end() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let bytes = Doc::noop("half").signed(&cloud.secret);
    cloud.drop_file("half.json", &bytes[..bytes.len() / 2]);
    bridge.published("bridge: DLQ malformed");
    bridge.emptied();
    // The whole document is another one, and welcome.
    bridge.run(&Doc::noop("half"));
    bridge.stop();
}

#[test]
fn what_is_no_command_is_left_alone() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let good = Doc::noop("hidden").signed(&cloud.secret);
    let strangers: [(&str, &[u8]); 7] = [
        (".hidden.json", &good),
        (".retries.json", b"{}"),
        (".json", &good),
        ("empty.json", b""),
        ("notes.txt", b"notes"),
        ("command.json.tmp", &good),
        ("json", &good),
    ];
    strangers.iter().for_each(|(name, bytes)| cloud.drop_file(name, bytes));
    bridge.run_beside(&Doc::noop("first"));
    // Later still, after more than one look at the folder.
    let history = bridge.run_beside(&Doc::noop("second"));
    for (name, bytes) in strangers {
        assert_eq!(cloud.read(&format!("commands/{name}")), bytes, "{name}");
    }
    assert_eq!(cloud.dead_letters(), []);
    assert_eq!(audit::verified(cloud.root()).len(), 2);
    assert_sound(&history);
    // An empty file is one whose author has not begun: it counts as soon as there is something in it.
    std::fs::write(cloud.path("commands/empty.json"), Doc::noop("begun").signed(&cloud.secret)).unwrap();
    bridge.published(&results("begun", 0));
    bridge.stop();
}

#[test]
fn what_comes_by_a_commit_and_can_never_become_a_command_gets_one_letter() {
    let cloud = Cloud::new();
    let fast = |run: &mut std::process::Command| {
        run.env("GHOST_BRIDGE__INGEST__RESCAN_SECS", "1");
    };
    let bridge = Bridge::start_with(&cloud, fast);
    let other = cloud.other_clone();
    let good = String::from_utf8(Doc::noop("below").signed(&cloud.secret)).unwrap();
    let pushed = ["sub/below.json", "notes.txt", "empty.json", ".hidden.json"].map(|name| format!("commands/{name}"));
    let of = |path: &str| if path.ends_with("empty.json") { "" } else { good.as_str() };
    cloud.push_from(&other, &pushed.each_ref().map(|path| (path.as_str(), of(path))));
    cloud.drop_file("mine.txt", b"nobody pushed it");
    let letters = |history: &[Commit]| with_subject(history, "bridge: DLQ not_regular").len();
    bridge.history("three letters", |history| letters(history) == 3);
    let found = cloud.dead_letters();
    for (file, words) in [("sub", "a folder"), ("notes.txt", "does not end in .json"), ("empty.json", "an empty file")]
    {
        let letter = found.iter().find(|(_, letter)| letter["file"] == file);
        assert!(
            letter.is_some_and(|(_, letter)| letter["detail"].as_str().unwrap().contains(words)),
            "{file}: {found:?}"
        );
    }
    pushed.iter().for_each(|path| assert!(cloud.exists(path), "{path} stays"));
    bridge.stop();
    let bridge = Bridge::start_with(&cloud, fast);
    // Asked once more after the start, and known.
    bridge.wait_for("all to be known", || {
        bridge.metric("ghost_bridge_ignored_files_total{reason=\"empty\"}") == Some(1.0)
    });
    bridge.wait_for("all to be known", || bridge.log().matches("the same document was filed before").count() == 3);
    let history = bridge.run_beside(&Doc::noop("later"));
    assert_eq!(letters(&history), 3);
    assert_sound(&history);
    let audit = cloud.bridge(&["audit", "--all"]).output().unwrap();
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    bridge.stop();
}

#[test]
fn a_files_name_need_not_be_its_documents_id() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let odd: [&[u8]; 7] = [
        b"with space.json",
        b"new\nline.json",
        b"not-utf-8-\xff.json",
        b"--option.json",
        b"$(touch x).json",
        b"a.b.json",
        "\u{1f47b}.json".as_bytes(),
    ];
    for (number, name) in odd.iter().enumerate() {
        let hidden = cloud.path("commands").join(".odd");
        std::fs::write(&hidden, Doc::noop(&format!("odd-{number}")).signed(&cloud.secret)).unwrap();
        std::fs::rename(&hidden, cloud.path("commands").join(OsStr::from_bytes(name))).unwrap();
    }
    let history = bridge.history("all to be published", |history| {
        (0..odd.len()).all(|number| with_subject(history, &results(&format!("odd-{number}"), 0)).len() == 1)
    });
    bridge.emptied();
    assert_eq!(cloud.dead_letters(), []);
    assert_sound(&history);
    bridge.stop();
}

#[test]
fn a_document_of_exactly_the_largest_size_is_executed() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let mut bytes = Doc::noop("largest").signed(&cloud.secret);
    bytes.resize(512 * 1024, b' ');
    cloud.drop_file("largest.json", &bytes);
    bridge.published(&results("largest", 0));
    bridge.emptied();
    assert_eq!(cloud.read("archive/largest.json"), bytes);
    bridge.stop();
}

/// Commands whose order of (`issued_at`, `id`) is their order here, and that of their names is another. Every third
/// shares its `issued_at` with the one before.
fn in_order(count: usize) -> Vec<Doc> {
    let now = Utc::now();
    let begin = now - TimeDelta::seconds(i64::try_from(count).unwrap());
    let document = |number: usize| {
        let step = if number.is_multiple_of(3) { number.saturating_sub(1) } else { number };
        let issued = begin + TimeDelta::seconds(i64::try_from(step).unwrap());
        let id = format!("{}-{number:05}", ["b", "a", "c"][step % 3]);
        Doc::noop(&id).between(issued, now + TimeDelta::hours(12))
    };
    (0..count).map(document).collect()
}

/// The ids of the executed commands, in the order of their commits.
fn executed(history: &[Commit]) -> Vec<String> {
    let id =
        |commit: &Commit| commit.subject.strip_prefix("bridge: results ")?.strip_suffix(" (exit=0)").map(str::to_owned);
    history.iter().filter_map(id).collect()
}

/// Asserts that every command is filed, in order, with one commit that holds its own artifacts and nothing else.
fn assert_all_filed(cloud: &Cloud, documents: &[Doc], history: &[Commit]) {
    let ids: Vec<&str> = documents.iter().map(Doc::id).collect();
    assert_eq!(executed(history), ids, "one commit each, in order");
    assert_sound(history);
    for commit in history {
        let Some(id) = executed(std::slice::from_ref(commit)).pop() else { continue };
        let mut expected = [
            format!("archive/{id}.json"),
            format!("diffs/{id}.patch"),
            "logs/bridge.log".to_owned(),
            format!("results/{id}.integrity.json"),
            format!("results/{id}.json"),
        ];
        expected.sort();
        assert_eq!(commit.files, expected);
    }
    let lines = audit::verified(cloud.root());
    let logged: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(logged, ids, "one audit line each, in order");
    assert_eq!(cloud.dead_letters(), []);
}

#[test]
fn two_thousand_commands_at_once_are_all_filed_in_order() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let documents = in_order(MANY);
    let mut shuffled: Vec<&Doc> = documents.iter().collect();
    shuffled.shuffle(&mut rand::rng());
    // The bridge sleeps while they are dropped, so that it sees them together.
    bridge.freeze();
    shuffled.iter().for_each(|document| {
        cloud.submit(document);
    });
    let begun = std::time::Instant::now();
    bridge.signal(Signal::CONT);
    bridge.wait_long("commands/ to be empty", || cloud.waiting().is_empty());
    println!("filed after {:?}", begun.elapsed());
    let history = bridge.history("all commits", |history| executed(history).len() >= MANY);
    println!("published after {:?}", begun.elapsed());
    assert_all_filed(&cloud, &documents, &history);
    bridge.status_becomes("");
    cloud.git(&["fsck", "--strict"]);
    cloud.remote_git(&["fsck", "--strict"]);
    bridge.stop();
}

#[test]
fn commands_that_wait_at_the_start_are_executed_in_order() {
    let cloud = Cloud::new();
    let documents = in_order(60);
    documents.iter().rev().for_each(|document| {
        cloud.submit(document);
    });
    let bridge = Bridge::start(&cloud);
    let history = bridge.history("all commits", |history| executed(history).len() >= 60);
    bridge.emptied();
    assert_all_filed(&cloud, &documents, &history);
    bridge.stop();
}

#[test]
fn a_later_document_under_the_same_name_is_not_lost() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    for number in 0..40 {
        let document = Doc::noop(&format!("same-name-{number}")).with("annotations", json!({ "number": number }));
        bridge.wait_for("the name to be free", || !cloud.exists("commands/same.json"));
        cloud.drop_file("same.json", &document.signed(&cloud.secret));
    }
    let history = bridge.history("all commits", |history| executed(history).len() == 40);
    assert_sound(&history);
    bridge.emptied();
    bridge.stop();
}

/// Forged documents `<stem>-<number>` that claim to be older than everything else.
fn drop_forged(cloud: &Cloud, stem: &str, count: usize) {
    let old = Utc::now() - TimeDelta::hours(20);
    for number in 0..count {
        let document = Doc::noop(&format!("{stem}-{number:05}")).between(old, old + TimeDelta::hours(23));
        let bytes = document.signed("somebody else's secret");
        std::fs::write(cloud.path("commands").join(format!("{stem}-{number:05}.json")), bytes).unwrap();
    }
}

#[test]
fn a_genuine_command_does_not_wait_behind_forged_ones() {
    const FORGED: usize = 6_000;
    let cloud = Cloud::new();
    drop_forged(&cloud, "forged", FORGED);
    cloud.submit(&Doc::noop("genuine"));
    let bridge = Bridge::start_with(&cloud, |run| {
        // A letter each: their lines tell who went first.
        run.env("GHOST_BRIDGE__INGEST__UNAUTHENTICATED_PER_HOUR", "1000000");
    });
    bridge.published(&results("genuine", 0));
    bridge.kill();
    let lines = audit::verified(cloud.root());
    let place = lines.iter().position(|line| line["id"] == "genuine").unwrap();
    assert!(place < FORGED / 2, "{place} forged ones went before it");
}

#[test]
fn forged_documents_beyond_the_bound_get_one_letter_that_counts_them() {
    const FORGED: usize = 40;
    let cloud = Cloud::new();
    let few = |run: &mut std::process::Command| {
        run.env("GHOST_BRIDGE__INGEST__UNAUTHENTICATED_PER_HOUR", "5");
    };
    let bridge = Bridge::start_with(&cloud, few);
    drop_forged(&cloud, "first", FORGED / 2);
    bridge.emptied();
    bridge.kill();
    let bridge = Bridge::start_with(&cloud, few);
    drop_forged(&cloud, "second", FORGED / 2);
    bridge.emptied();
    let of_hour = || cloud.dead_letters().into_iter().find(|(name, _)| name.contains("unauthenticated-"));
    bridge.wait_for("the letter", || of_hour().is_some());
    let counted = |letter: &serde_json::Value| letter["unauthenticated"]["count"].as_u64().unwrap_or(1);
    let total = || cloud.dead_letters().iter().map(|(_, letter)| counted(letter)).sum::<u64>();
    let mut bridge = bridge;
    if total() < FORGED as u64 {
        // The rest came after the letter, and waits for the end of the hour.
        bridge.barrier();
        bridge.kill();
        let path = cloud.path("meta/journal/unauthenticated.json");
        let mut count: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        count["hour"] = json!("20260102T03");
        std::fs::write(&path, count.to_string()).unwrap();
        bridge = Bridge::start_with(&cloud, few);
        bridge.wait_for("the rest", || total() == FORGED as u64);
    }
    let history = bridge.barrier();
    let letters = cloud.dead_letters();
    assert_eq!(total(), FORGED as u64, "each ends in exactly one place");
    // An hour may have begun meanwhile.
    assert!(letters.len() <= 13, "{}", letters.len());
    assert_eq!(with_subject(&history, "bridge: DLQ bad_hmac").len(), letters.len());
    let (name, told) = of_hour().unwrap();
    assert_eq!(told["unauthenticated"]["first"].as_array().unwrap().len() as u64, counted(&told).min(100));
    assert_sound(&history);
    let audit = cloud.bridge(&["audit", "--all"]).output().unwrap();
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    let listed = cloud.bridge(&["dlq", "list"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains(name.trim_end_matches(".json")));
    bridge.stop();
}
