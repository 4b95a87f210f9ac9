//! Documents without a valid signature beyond what an hour has letters for.

use chrono::TimeDelta;

use super::*;

const LETTER: &str = "dead_letter/unauthenticated-20260102T03.json";

fn at(minute: &str) -> chrono::DateTime<Utc> {
    format!("2026-01-02T{minute}:00Z").parse().unwrap()
}

/// A bench whose clock stands, with `most` letters an hour.
fn bench(most: u64) -> Bench {
    let mut bench = Bench::new(64, 256);
    bench.config.unauthenticated_per_hour = most;
    bench.clock = Some(at("03:10"));
    bench
}

/// Forged documents that wait in `commands/`.
fn forged(bench: &Bench, numbers: std::ops::Range<usize>) -> Vec<Outcome> {
    numbers
        .map(|number| {
            let (file, bytes) = (format!("f{number}.json"), format!("{{\"id\":\"f{number}\"}}"));
            fs::write(bench.path(&format!("commands/{file}")), &bytes).unwrap();
            rejected(&file, Some(&format!("f{number}")), Reason::BadHmac, document(bytes.as_bytes()))
        })
        .collect()
}

fn names(bench: &Bench, folder: &str) -> usize {
    fs::read_dir(bench.path(folder)).unwrap().count()
}

#[test]
fn beyond_the_bound_documents_are_counted_and_the_hour_has_one_letter() {
    let mut bench = bench(3);
    let outcomes = forged(&bench, 0..150);
    let done = bench.file(outcomes);
    assert_eq!((done.filed.len(), done.counted.len()), (3, 147));
    assert_eq!(done.letter_due, Some(at("03:10") + TimeDelta::seconds(2)), "as soon as no more come");
    assert_eq!((names(&bench, "commands"), names(&bench, "dead_letter"), bench.lines().len()), (0, 3, 3));
    let outcomes = forged(&bench, 150..160);
    assert_eq!(bench.file(outcomes).filed.len(), 0, "the hour has had its letters");
    bench.clock = Some(at("04:01"));
    let done = bench.file(Vec::new());
    assert_eq!((done.filed.len(), done.letter_due), (1, None));
    assert_eq!(done.filed[0].artifacts, [LETTER]);
    assert_eq!(done.filed[0].subject.to_string(), "bridge: DLQ bad_hmac");
    let letter = bench.json(LETTER);
    let told = &letter["unauthenticated"];
    assert_eq!((&told["count"], told["first"].as_array().unwrap().len()), (&157.into(), 100));
    assert_eq!((&told["from"], &told["to"]), (&"2026-01-02T03:00:00.000Z".into(), &"2026-01-02T03:10:00.000Z".into()));
    assert_eq!(told["first"][0]["file"], "f3.json");
    assert_eq!(told["first"][0]["input_sha256"], Sha256::of(b"{\"id\":\"f3\"}").to_string());
    assert_eq!((&letter["id"], &letter["hmac_ok"]), (&"unauthenticated-20260102T03".into(), &false.into()));
    let line = bench.lines().pop().unwrap().entry;
    assert_eq!(letter["input_sha256"], line.input_sha256.to_string());
    assert_eq!(line.id.unwrap().as_str(), "unauthenticated-20260102T03");
    // The next hour has letters of its own.
    let outcomes = forged(&bench, 200..203);
    assert_eq!(bench.file(outcomes).filed.len(), 2, "the line of the letter is of this hour, too");
}

#[test]
fn what_comes_after_the_letter_waits_for_the_end_of_the_hour_and_has_a_second_one() {
    let mut bench = bench(0);
    let outcomes = forged(&bench, 0..5);
    bench.file(outcomes);
    bench.clock = Some(at("03:11"));
    let done = bench.file(Vec::new());
    assert_eq!((done.filed.len(), done.letter_due), (1, None));
    assert_eq!(bench.json(LETTER)["unauthenticated"]["count"], 5);
    bench.restart();
    let outcomes = forged(&bench, 5..12);
    assert_eq!(bench.file(outcomes).letter_due, Some(at("04:00")));
    bench.clock = Some(at("03:59"));
    assert_eq!(bench.file(Vec::new()).filed.len(), 0);
    // As if the first had been rolled over meanwhile.
    fs::create_dir_all(bench.path("dead_letter/2026/01/02/0000")).unwrap();
    fs::rename(bench.path(LETTER), bench.path("dead_letter/2026/01/02/0000/unauthenticated-20260102T03.json")).unwrap();
    bench.clock = Some(at("04:00"));
    let done = bench.file(Vec::new());
    let second = done.filed[0].artifacts[0].clone();
    assert!(second.starts_with("dead_letter/unauthenticated-20260102T03-"), "{second}");
    assert_eq!(bench.json(&second)["unauthenticated"]["count"], 7);
    assert_eq!((bench.lines().len(), bench.file(Vec::new()).filed.len()), (2, 0));
}

#[test]
fn the_same_documents_again_are_counted_again() {
    let mut bench = bench(0);
    for (clock, letters) in [("03:10", 1), ("03:20", 2), ("04:10", 3)] {
        bench.clock = Some(at(clock));
        let outcomes = forged(&bench, 0..5);
        assert_eq!(bench.file(outcomes).counted.len(), 5, "{clock}");
        bench.clock = Some(at(clock) + TimeDelta::minutes(40));
        assert_eq!(bench.file(Vec::new()).filed.len(), 1, "{clock}");
        assert_eq!(names(&bench, "dead_letter"), letters, "{clock}");
    }
}

#[test]
fn a_letter_comes_in_time_however_many_more_come() {
    let mut bench = bench(0);
    let start = at("03:10");
    for second in 0..40 {
        bench.clock = Some(start + TimeDelta::seconds(second));
        let outcomes = forged(&bench, second as usize..second as usize + 1);
        let done = bench.file(outcomes);
        assert_eq!(done.filed.len(), usize::from(second == 30), "{second}");
    }
    assert_eq!(bench.json(LETTER)["unauthenticated"]["count"], 30);
}

#[test]
fn a_restart_neither_begins_the_hour_anew_nor_counts_twice() {
    let mut bench = bench(2);
    let outcomes = forged(&bench, 0..10);
    assert_eq!(bench.file(outcomes).counted.len(), 8);
    // Killed before they left commands/: all of them are found again.
    bench.restart();
    let outcomes = forged(&bench, 0..12);
    let done = bench.file(outcomes);
    assert_eq!((done.filed.len(), done.removed_quietly, done.counted.len()), (0, 10, 2));
    bench.restart();
    bench.clock = Some(at("05:30"));
    let done = bench.file(Vec::new());
    assert_eq!(done.filed.len(), 1, "days later, too");
    assert_eq!(bench.json(LETTER)["unauthenticated"]["count"], 10);
    let lines = bench.lines().len();
    bench.restart();
    assert_eq!(bench.file(Vec::new()).filed.len(), 0);
    assert_eq!(bench.lines().len(), lines);
}

#[test]
fn a_crash_between_the_letter_its_line_and_the_end_of_the_count_files_it_once() {
    let count = "meta/journal/unauthenticated.json";
    for line_is_there in [false, true] {
        let mut bench = bench(0);
        let outcomes = forged(&bench, 0..4);
        bench.file(outcomes);
        let counted = bench.read(count);
        bench.clock = Some(at("04:30"));
        bench.file(Vec::new());
        fs::write(bench.path(count), counted).unwrap();
        if !line_is_there {
            fs::write(bench.path("logs/bridge.log"), "").unwrap();
        }
        let recovery = bench.restart();
        assert_eq!(recovery.completed.len(), usize::from(!line_is_there));
        assert_eq!(bench.file(Vec::new()).filed.len(), 0);
        assert_eq!((bench.lines().len(), names(&bench, "dead_letter")), (1, 1));
    }
}

#[test]
fn no_forged_document_takes_the_name_of_the_letter_and_no_genuine_one_is_counted() {
    let mut bench = bench(1);
    let id = "unauthenticated-20260102T03";
    let bytes = format!("{{\"id\":\"{id}\"}}");
    let forger = rejected("x.json", Some(id), Reason::BadHmac, document(bytes.as_bytes()));
    let (good, bad) = (bench.put("good", "1"), bench.put("bad", "1"));
    let mut outcomes = vec![forger];
    outcomes.extend(forged(&bench, 0..5));
    outcomes.extend([executed(&bench, &good, None), executed(&bench, &bad, Some((Reason::ValidationFailed, "no")))]);
    let done = bench.file(outcomes);
    assert_eq!((done.filed.len(), done.counted.len()), (3, 5));
    assert!(bench.path("archive/good.json").exists() && bench.path("dead_letter/bad.json").exists());
    bench.clock = Some(at("04:00"));
    assert_eq!(bench.file(Vec::new()).filed[0].artifacts, [LETTER]);
}

#[test]
fn a_count_that_cannot_be_read_is_set_aside_and_what_is_no_file_is_counted_by_its_name() {
    let mut bench = bench(0);
    fs::create_dir_all(bench.path("meta/journal/unauthenticated.json/in the way")).unwrap();
    let link = |name: &str| {
        let path = bench.path(&format!("commands/{name}"));
        let _other = std::os::unix::fs::symlink("/nowhere", path);
        rejected(name, None, Reason::NotRegular, Content::NotRegular { kind: "a link", bytes: b"/nowhere"[..].into() })
    };
    let outcomes = vec![link("a.json"), link("b.json")];
    let again = vec![link("a.json"), link("b.json")];
    assert_eq!(bench.file(outcomes).counted.len(), 2);
    bench.restart();
    assert_eq!(bench.file(again).removed_quietly, 2);
    fs::write(bench.path("meta/journal/unauthenticated.json"), "\0\0").unwrap();
    bench.restart();
    bench.file(Vec::new());
    assert_eq!(fs::read_dir(bench.path("meta/journal")).unwrap().count(), 2, "both are set aside");
}

#[test]
fn links_that_hold_the_same_text_are_bounded_like_all_others() {
    let mut bench = bench(2);
    let links = (0..9).map(|number| {
        let name = format!("l{number}.json");
        std::os::unix::fs::symlink("/nowhere", bench.path(&format!("commands/{name}"))).unwrap();
        let content = Content::NotRegular { kind: "a link", bytes: b"/nowhere"[..].into() };
        rejected(&name, None, Reason::NotRegular, content)
    });
    let links: Vec<Outcome> = links.collect();
    let done = bench.file(links);
    assert_eq!((done.filed.len(), done.counted.len(), names(&bench, "commands")), (2, 7, 0));
    assert_eq!(bench.ledger.unauthenticated_within(at("03:59")), 2);
}
