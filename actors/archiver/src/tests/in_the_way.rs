//! What lies where an artifact or the log has to go and is none: filing goes on, and nothing is lost.

use super::*;
use std::os::unix::fs::symlink;

/// Ways to be in the way.
const KINDS: [&str; 4] = ["a folder", "a full folder", "a link", "a FIFO"];

fn obstruct(path: &Path, kind: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match kind {
        "a folder" => fs::create_dir(path).unwrap(),
        "a full folder" => {
            fs::create_dir(path).unwrap();
            fs::write(path.join("inside"), "somebody's").unwrap();
        }
        "a link" => symlink("/etc/hostname", path).unwrap(),
        _ => rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap(),
    }
}

/// The names that something was set aside under, for this one.
fn aside(path: &Path) -> Vec<std::path::PathBuf> {
    let name = format!("{}.in-the-way-", path.file_name().unwrap().to_str().unwrap());
    let all = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap());
    all.filter(|entry| entry.file_name().to_str().unwrap().starts_with(&name)).map(|entry| entry.path()).collect()
}

#[test]
fn what_lies_where_an_artifact_has_to_go_is_set_aside_and_nobody_waits() {
    let good = ["diffs/a.patch", "results/a.json", "results/a.integrity.json", "archive/a.json"];
    let bad = ["dead_letter/a.json", "results/a.json"];
    let cases = good.iter().map(|name| (*name, true)).chain(bad.iter().map(|name| (*name, false)));
    for (name, is_good) in cases {
        for kind in KINDS {
            let mut bench = Bench::new(64, 256);
            obstruct(&bench.path(name), kind);
            let command = bench.put("a", "1");
            let failure = (!is_good).then_some((Reason::ValidationFailed, "no"));
            let done = bench.file(vec![executed(&bench, &command, failure), refused("other")]);
            assert_eq!(done.filed.len(), 2, "{name}: {kind}");
            assert!(done.filed[0].artifacts.contains(&name.to_owned()), "{name}: {kind}");
            assert!(fs::symlink_metadata(bench.path(name)).unwrap().is_file(), "{name}: {kind}");
            let [set_aside] = &aside(&bench.path(name))[..] else { panic!("{name}: {kind} is not set aside once") };
            if kind == "a full folder" {
                assert_eq!(fs::read(set_aside.join("inside")).unwrap(), b"somebody's");
            }
            // A start takes it for nothing of its own.
            let recovery = bench.restart();
            assert_eq!((recovery.lines, recovery.completed, recovery.incomplete), (2, vec![], vec![]));
        }
    }
}

fn refused(id: &str) -> Outcome {
    rejected(&format!("{id}.json"), Some(id), Reason::BadHmac, document(format!("{{\"id\":\"{id}\"}}").as_bytes()))
}

#[test]
fn a_dead_letter_takes_its_own_name_whatever_lies_there() {
    let mut bench = Bench::new(64, 256);
    let input = Sha256::of(b"{\"id\":\"x\"}");
    let names = ["x", &format!("x-{}", input.short()), &format!("x-{}-{input}", input.short())];
    names.iter().for_each(|name| obstruct(&bench.path(&format!("dead_letter/{name}.json")), "a full folder"));
    let done = bench.file(vec![refused("x")]);
    assert_eq!(done.filed[0].artifacts, ["dead_letter/x.json"]);
    assert_eq!(bench.json("dead_letter/x.json")["id"], "x");
}

#[test]
fn a_folder_in_the_place_of_a_temporary_file_holds_up_neither_filing_nor_a_start() {
    let mut bench = Bench::new(64, 256);
    let obstruct = |bench: &Bench| obstruct(&bench.path("results/.filing-a.json"), "a full folder");
    obstruct(&bench);
    let command = bench.put("a", "1");
    assert_eq!(bench.file(vec![executed(&bench, &command, None)]).filed.len(), 1);
    obstruct(&bench);
    assert_eq!(bench.restart().lines, 1);
    assert_eq!(aside(&bench.path("results/a.json")).len(), 2);
    assert_eq!(bench.restart().lines, 1);
    assert_eq!(aside(&bench.path("results/a.json")).len(), 2, "what is set aside is left alone from then on");
}

#[test]
fn what_lies_where_the_log_has_to_be_is_set_aside_at_work_and_at_the_start() {
    for kind in KINDS {
        let mut bench = Bench::new(64, 256);
        obstruct(&bench.path("logs/bridge.log"), kind);
        assert_eq!(bench.restart().lines, 0);
        assert_eq!(aside(&bench.path("logs/bridge.log")).len(), 1, "{kind}");
        let first = bench.file(vec![refused("one")]).filed.remove(0);
        fs::remove_file(bench.path("logs/bridge.log")).unwrap();
        obstruct(&bench.path("logs/bridge.log"), kind);
        let second = bench.file(vec![refused("two")]).filed.remove(0);
        let link = |text: &str| AuditLine::parse(text.trim_end()).unwrap();
        assert_eq!(link(&second.audit_line).prev, link(&first.audit_line).hash, "{kind}: the chain goes on");
        assert_eq!(bench.read("logs/bridge.log"), second.audit_line.as_bytes());
        assert_eq!(aside(&bench.path("logs/bridge.log")).len(), 2, "{kind}");
    }
}

#[test]
fn what_lies_where_the_log_rolls_to_is_set_aside() {
    let day = Utc::now().format("%Y/%m/%d").to_string();
    let year = &day[..4];
    for blocked in [year.to_owned(), format!("{day}/0000")] {
        for kind in ["a link", "a FIFO"] {
            let mut bench = Bench::new(1, 256);
            obstruct(&bench.path(&format!("logs/{blocked}")), kind);
            for number in 0..9 {
                bench.file(vec![refused(&format!("r{number}"))]);
            }
            assert!(bench.path(&format!("logs/{year}")).is_dir(), "{blocked}: {kind}");
            assert_eq!(bench.lines().len(), 9, "{blocked}: {kind}");
            assert_eq!(bench.restart().chain_break, None);
        }
    }
}
