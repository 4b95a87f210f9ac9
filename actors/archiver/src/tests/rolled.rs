//! What was rolled over is filed: it is neither replaced, nor filed again, nor lost with the log.

use super::recovered as recovered_of;
use super::*;

/// Moves what lies flat to a segment, as the publisher does.
fn roll(bench: &Bench, segment: &str) {
    for folder in ["results", "diffs", "archive", "dead_letter"] {
        let to = bench.path(&format!("{folder}/{segment}"));
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(bench.path(folder)).unwrap().flatten() {
            if entry.path().is_file() {
                fs::rename(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
}

fn today() -> String {
    Utc::now().format("%Y/%m/%d").to_string()
}

fn files(bench: &Bench) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["results", "diffs", "archive", "dead_letter"] {
        collect(&bench.path(folder), &mut found);
    }
    let mut names: Vec<String> =
        found.iter().map(|path| path.strip_prefix(bench.dir.path()).unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_dead_letter_that_was_rolled_over_keeps_its_name_for_itself() {
    let mut bench = Bench::new(64, 256);
    let bad = |file: &str, bytes: &[u8]| rejected(file, Some("a"), Reason::BadHmac, document(bytes));
    let (one, two, three) = (br#"{"id":"a","n":1}"#, br#"{"id":"a","n":2}"#, br#"{"id":"A","n":3}"#);
    bench.file(vec![bad("1.json", one)]);
    roll(&bench, &format!("{}/0000", today()));
    let beside = |bytes: &[u8], id: &str| format!("dead_letter/{id}-{}.json", Sha256::of(bytes).short());
    assert_eq!(bench.file(vec![bad("2.json", two)]).filed[0].artifacts, [beside(two, "a")]);
    bench.restart();
    assert_eq!(bench.file(vec![bad("1.json", one), bad("2.json", two)]).removed_quietly, 2, "filed for ever");
    let other_case = rejected("3.json", Some("A"), Reason::BadHmac, document(three));
    assert_eq!(bench.file(vec![other_case]).filed[0].artifacts, [beside(three, "A")]);
    let command = bench.put("a", "1");
    let failed = bench.file(vec![executed(&bench, &command, Some((Reason::IoError, "disk")))]);
    assert_eq!(failed.filed[0].artifacts[3], format!("dead_letter/a-{}.json", command.input_sha256().short()));
}

#[test]
fn what_is_no_file_and_was_filed_is_known_by_its_letters_name_wherever_that_lies() {
    let mut bench = Bench::new(64, 256);
    let link = |file: &str| {
        let content = Content::NotRegular { kind: "a symbolic link", bytes: b"somewhere".as_slice().into() };
        rejected(file, None, Reason::NotRegular, content)
    };
    assert_eq!(bench.file(vec![link("one.json")]).filed.len(), 1);
    roll(&bench, "2026/01/02/0003");
    bench.restart();
    let done = bench.file(vec![link("one.json"), link("two.json")]);
    assert_eq!((done.removed_quietly, done.filed.len()), (1, 1), "another link of the same text is another document");
    roll(&bench, "2026/01/02/0004");
    assert_eq!(bench.file(vec![link("one.json"), link("two.json")]).removed_quietly, 2);
}

#[test]
fn a_power_cut_is_mended_where_the_artifacts_lie() {
    let mut bench = Bench::new(64, 256);
    let (ok, bad) = (bench.put("a", "1"), bench.put("b", "1"));
    bench.file(vec![rejected("b0.json", Some("b"), Reason::BadHmac, document(br#"{"id":"b"}"#))]);
    let outcomes = [executed(&bench, &ok, None), executed(&bench, &bad, Some((Reason::IoError, "disk")))];
    let [Outcome::Executed(one), Outcome::Executed(two)] = outcomes else { panic!("not executed") };
    let executions = [one.execution.clone(), two.execution.clone()];
    bench.file(vec![Outcome::Executed(one), Outcome::Executed(two)]);
    let segment = format!("{}/0000", today());
    roll(&bench, &segment);
    let (before, content) = (files(&bench), |bench: &Bench| files(bench).iter().map(|path| bench.read(path)).collect());
    let were: Vec<Vec<u8>> = content(&bench);
    fs::write(bench.path(&format!("results/{segment}/a.json")), "").unwrap();
    fs::write(bench.path(&format!("results/{segment}/b.integrity.json")), "{").unwrap();
    fs::write(bench.path(&format!("archive/{segment}/a.json")), "").unwrap();
    fs::write(bench.path(&format!("diffs/{segment}/.filing-a.patch")), "half").unwrap();
    bench.restart();
    let recovered = [&ok, &bad].into_iter().zip(executions);
    let recovered = recovered.map(|(command, execution)| recovered_of(&bench, command, execution));
    assert!(restore(&bench.config, &keyring(), &bench.ledger, recovered.collect()).unwrap().is_empty());
    assert_eq!((files(&bench), content(&bench)), (before, were), "nothing lies flat, and all is as it was");
}

#[test]
fn a_log_that_was_lost_is_made_again_from_what_was_rolled_over() {
    let mut bench = Bench::new(64, 256);
    for round in 0..3 {
        let command = bench.put(&format!("c{round}"), "1");
        let failed = bench.put(&format!("f{round}"), "1");
        let forged = format!(r#"{{"id":"x{round}"}}"#);
        bench.file(vec![
            executed(&bench, &command, None),
            executed(&bench, &failed, Some((Reason::IoError, "d"))),
            rejected("x.json", Some(&format!("x{round}")), Reason::BadHmac, document(forged.as_bytes())),
        ]);
        roll(&bench, &format!("2026/01/0{}/0000", round + 1));
    }
    let log = bench.read("logs/bridge.log");
    assert_eq!(bench.restart().completed, Vec::<String>::new());
    // Its end is lost: the newest segments tell.
    let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    fs::write(bench.path("logs/bridge.log"), lines[..5].concat()).unwrap();
    assert_eq!(bench.restart().completed.len(), 4);
    assert_eq!(bench.lines().len(), 9);
    // All of it is lost.
    fs::remove_file(bench.path("logs/bridge.log")).unwrap();
    assert_eq!(bench.restart().completed.len(), 9);
    assert_eq!(bench.restart().completed.len(), 0);
    let again = command("c0", "another");
    assert!(bench.ledger.is_taken(&again.command().id), "an id is taken for ever");
    // What somebody changed is vouched for by nobody.
    fs::write(bench.path("archive/2026/01/02/0000/c1.json"), "changed").unwrap();
    fs::remove_file(bench.path("logs/bridge.log")).unwrap();
    assert_eq!(bench.restart().completed.len(), 8);
}

#[test]
fn the_form_of_a_filed_document_is_read_back_from_wherever_it_lies_and_only_if_its_bytes_are_those() {
    let mut bench = Bench::new(64, 256);
    let refuse = |bench: &Bench, file: &str, command: &VerifiedCommand| {
        let Entrance::Turn(turn) = enter(&bench.ledger, command) else { panic!("no turn") };
        let Outcome::Rejected(mut rejected) =
            rejected(file, Some(command.command().id.as_str()), Reason::PreconditionFailed, document(command.raw()))
        else {
            panic!("not rejected")
        };
        (rejected.rejection.turn, rejected.rejection.hmac_ok) = (Some(Arc::new(turn)), true);
        Outcome::Rejected(rejected)
    };
    let (one, two, done) = (command("a", "1"), command("a", "2"), bench.put("b", "1"));
    let outcomes = vec![refuse(&bench, "1.json", &one), refuse(&bench, "2.json", &two), executed(&bench, &done, None)];
    bench.file(outcomes);
    let known = |bench: &Bench, command: &VerifiedCommand| {
        let signed = Signed { id: Some(&command.command().id), form: command.form() };
        match bench.ledger.enter(Sha256::of(b"another spelling"), Some(signed)) {
            Entrance::Filed(_) => "filed",
            Entrance::Turn(turn) if turn.look().is_ok() => "free",
            Entrance::Turn(_) => "refused",
            other => panic!("{other:?}"),
        }
    };
    let all = |bench: &Bench| [&one, &two, &done, &command("a", "3"), &command("b", "3")].map(|it| known(bench, it));
    let expected = ["filed", "filed", "filed", "free", "refused"];
    assert_eq!(all(&bench), expected, "as filed here");
    let again = |bench: &mut Bench| {
        bench.restart();
        let ledger = Ledger::reading(crate::Filed::under(bench.dir.path()));
        recover(&bench.config, &keyring(), &ledger).unwrap();
        bench.ledger = Arc::new(ledger);
    };
    again(&mut bench);
    assert_eq!(all(&bench), expected, "flat");
    roll(&bench, "2026/01/02/10000");
    again(&mut bench);
    assert_eq!(all(&bench), expected, "rolled over");
    let letter = bench.path("dead_letter/2026/01/02/10000/a.json");
    let text = fs::read_to_string(&letter).unwrap().replace("\"nonce\":\"1\"", "\"nonce\":\"3\"");
    fs::write(&letter, text).unwrap();
    again(&mut bench);
    assert_eq!(all(&bench), ["refused", "filed", "filed", "refused", "refused"], "changed: nobody can tell any more");
    fs::remove_file(&letter).unwrap();
    fs::create_dir(&letter).unwrap();
    again(&mut bench);
    assert_eq!(all(&bench)[0], "refused", "a folder in its place holds nothing up");
}

#[test]
fn the_ten_thousandth_segment_of_a_day_is_read_and_comes_last() {
    let mut bench = Bench::new(64, 1);
    let mut sent = Vec::new();
    for (number, segment) in ["9998", "9999", "10000"].iter().enumerate() {
        let command = bench.put(&format!("c{number}"), "1");
        bench.file(vec![executed(&bench, &command, None)]);
        let folder = bench.path(&format!("logs/{}/{segment}", today()));
        fs::create_dir_all(&folder).unwrap();
        fs::rename(bench.path("logs/bridge.log"), folder.join(format!("bridge-2026010{number}T000000.000Z.log")))
            .unwrap();
        bench.log = None;
        sent.push(command);
    }
    let recovery = bench.restart();
    assert_eq!((recovery.lines, recovery.chain_break), (3, None));
    assert!(sent.iter().all(|command| bench.ledger.is_filed(command.input_sha256())));
    let day =
        cap_std::fs::Dir::open_ambient_dir(bench.path("logs").join(today()), cap_std::ambient_authority()).unwrap();
    assert_eq!(crate::history::segment_number(&day, 1).unwrap(), "10001");
}

#[test]
fn a_log_that_lies_in_two_places_after_a_roll_that_was_cut_short_counts_once() {
    let mut bench = Bench::new(1, 256);
    for number in 0..9 {
        let bytes = format!("{{\"id\":\"r{number}\"}}");
        bench.file(vec![rejected("r.json", None, Reason::BadHmac, document(bytes.as_bytes()))]);
    }
    let mut paths = Vec::new();
    collect(&bench.path("logs"), &mut paths);
    paths.sort();
    let current = paths.pop().unwrap();
    let segment = paths.pop().unwrap();
    let (rolled, last) = (fs::read(&segment).unwrap(), fs::read(&current).unwrap());
    let before = bench.lines().len();
    bench.config.log_kib = 64;
    // The newest lines were lost with the rename: the old log is back under its name, whole, or longer than its copy.
    for copied in [rolled.len(), rolled.len() / 2, 0] {
        fs::write(&current, &rolled).unwrap();
        fs::write(&segment, &rolled[..copied]).unwrap();
        let recovery = bench.restart();
        assert_eq!(recovery.chain_break, None, "{copied} bytes were copied");
        assert!(recovery.lines >= before as u64 - 1);
        fs::write(&segment, &rolled).unwrap();
        fs::write(&current, &last).unwrap();
    }
    assert_eq!(bench.restart().chain_break, None, "two logs that differ both stay");
    assert_eq!(bench.lines().len(), before);
    let cabinet = Cabinet::open(&bench.config.cloud).unwrap();
    crate::log::copy(&cabinet.logs, &cabinet.logs, "elsewhere").unwrap();
    assert!(!current.exists() && fs::read(bench.path("logs/elsewhere")).unwrap() == last);
}
