//! Somebody exchanges folders, files and links in a target as fast as the system can while commands run there. Not a byte
//! is written or read outside, nothing of theirs is lost by a command that is not done, and whatever becomes of a command
//! has one of the reasons that the contract has for it.
//!
//! It runs for `GHOST_BRIDGE_RACE_SECS` seconds (3 where nothing is said), and longer, up to a bound, until commands have
//! been done, refused and undone, and each kind of command has been kept from being done. Now and then nobody exchanges
//! anything: then whatever can be done is done, so that it is no luck that decides whether a kind is one that can be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![cfg(target_os = "linux")]

mod arena;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arena::{Arena, MARKER, PAIRS, Swapper, is_marked, walk};
use executor::core::{Judgement, Ran};
use protocol::digest::Sha256;
use protocol::message::Execution;
use protocol::reason::Reason;
use serde_json::{Value, json};
use support::{Bench, Stepped, document, verified};

/// The longest that the race goes on in wait of outcomes that have not occurred.
const BOUND: Duration = Duration::from_secs(240);

/// One turn of all kinds in so many is a calm one.
const CALM_TURN: u64 = 4;

/// What a command may be refused for here: a link, something else than a file, a file that is not there or holds
/// something else.
const REFUSALS: [Reason; 3] = [Reason::PathEscape, Reason::PreconditionFailed, Reason::PatchConflict];

/// What becomes of a kind of command.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// It is done where nobody is about, and now and then otherwise.
    Either,
    /// It could only be done by reading what is outside.
    Never,
}

struct Kind {
    name: &'static str,
    ends: Ends,
    /// The ops and checks, given a word that no command used before.
    make: fn(&str, &Arena) -> (Value, Value),
}

fn write(path: &str, word: &str) -> Value {
    json!({"op": "writeFile", "path": path, "content": format!("word {word}\n")})
}

fn relocate(from: &str, to: &str) -> Value {
    json!({"op": "moveFile", "from": from, "to": to, "overwrite": true})
}

fn replace(path: &str, search: &str, word: &str) -> Value {
    json!({"op": "replaceText", "path": path, "search": search, "replace": format!("word {word}")})
}

fn diff(text: String) -> Value {
    json!({"op": "applyDiff", "diff": text})
}

fn make_by_diff(path: &str, word: &str) -> Value {
    diff(format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+word {word}\n"))
}

const KINDS: &[Kind] = &[
    Kind { name: "write beneath a folder", ends: Ends::Either, make: |w, _| (json!([write("p/a.txt", w)]), json!([])) },
    Kind {
        name: "write beneath two folders",
        ends: Ends::Either,
        make: |w, _| (json!([write("p/deep/c.txt", w)]), json!([])),
    },
    Kind {
        name: "make folders",
        ends: Ends::Either,
        make: |w, _| (json!([write("p/a.txt", w), write("p/new/er/x", w), write("q/new/y", w)]), json!([])),
    },
    Kind { name: "write a leaf", ends: Ends::Either, make: |w, _| (json!([write("leaf.txt", w)]), json!([])) },
    Kind {
        name: "replace in a leaf",
        ends: Ends::Either,
        make: |w, _| (json!([replace("leaf.txt", "word", w)]), json!([])),
    },
    Kind {
        name: "replace what is outside",
        ends: Ends::Never,
        make: |w, _| (json!([replace("leaf.txt", MARKER, w)]), json!([])),
    },
    Kind {
        name: "replace what is outside beneath a folder",
        ends: Ends::Never,
        make: |w, _| (json!([replace("p/deep/c.txt", MARKER, w)]), json!([])),
    },
    Kind {
        name: "delete a leaf",
        ends: Ends::Either,
        make: |w, _| (json!([{"op": "deleteFile", "path": "leaf.txt"}, write("note", w)]), json!([])),
    },
    Kind {
        name: "move a leaf",
        ends: Ends::Either,
        make: |w, _| (json!([relocate("leaf.txt", "p/moved"), write("note", w)]), json!([])),
    },
    Kind {
        name: "move onto a leaf",
        ends: Ends::Either,
        make: |w, _| (json!([relocate("p/b.txt", "leaf.txt"), write("note", w)]), json!([])),
    },
    Kind {
        name: "write where a folder comes",
        ends: Ends::Either,
        make: |w, _| (json!([write("shape", w)]), json!([])),
    },
    Kind {
        name: "write beneath a folder that becomes another",
        ends: Ends::Either,
        make: |w, _| (json!([replace("q/a.txt", "word", w), write("q/n", w)]), json!([])),
    },
    Kind {
        name: "write where another name is outside",
        ends: Ends::Either,
        make: |w, _| (json!([replace("hard.txt", "word", w)]), json!([])),
    },
    Kind {
        name: "delete where another name is outside",
        ends: Ends::Either,
        make: |w, _| (json!([{"op": "deleteFile", "path": "hard.txt"}, write("note", w)]), json!([])),
    },
    Kind {
        name: "make by diff",
        ends: Ends::Either,
        make: |w, _| (json!([make_by_diff("p/deep/n", w), make_by_diff("p/n", w)]), json!([])),
    },
    Kind {
        name: "copy by diff",
        ends: Ends::Either,
        make: |w, _| {
            let copy = "diff --git a/leaf.txt b/copy\ncopy from leaf.txt\ncopy to copy\n";
            (json!([diff(copy.to_owned()), write("note", w)]), json!([]))
        },
    },
    Kind {
        name: "rename by diff",
        ends: Ends::Either,
        make: |w, _| {
            let rename = "diff --git a/p/data.json b/moved\nrename from p/data.json\nrename to moved\n";
            (json!([diff(rename.to_owned()), write("note", w)]), json!([]))
        },
    },
    Kind {
        name: "find the hash of what is outside",
        ends: Ends::Never,
        make: |w, arena| {
            let equals = Sha256::of(&std::fs::read(arena.outside.join("deep/data.json")).unwrap()).to_string();
            (json!([write("note", w)]), json!([{"check": "sha256", "path": "p/deep/data.json", "equals": equals}]))
        },
    },
    Kind {
        name: "parse what is outside",
        ends: Ends::Never,
        make: |w, _| (json!([write("note", w)]), json!([{"check": "json", "path": "p/data.json"}])),
    },
    Kind {
        name: "parse what is outside, after a program",
        ends: Ends::Never,
        make: |w, _| {
            let checks = json!([{"check": "json", "path": "p/deep/data.json"}, {"check": "run", "name": "program"}]);
            (json!([write("note", w)]), checks)
        },
    },
    Kind {
        name: "find a file",
        ends: Ends::Either,
        make: |w, _| {
            let checks = json!([{"check": "exists", "path": "p/deep/c.txt"}, {"check": "exists", "path": "leaf.txt"}]);
            (json!([write("note", w)]), checks)
        },
    },
    Kind { name: "change everything", ends: Ends::Either, make: |w, _| (everything(w), json!([])) },
    Kind {
        name: "change everything, in vain",
        ends: Ends::Never,
        make: |w, _| (everything(w), json!([{"check": "run", "name": "program"}])),
    },
];

fn everything(word: &str) -> Value {
    json!([
        write("fresh", word),
        write("p/a.txt", word),
        write("p/deep/c.txt", word),
        write("p/new/x", word),
        replace("q/a.txt", "word", word),
        {"op": "deleteFile", "path": "q/b.txt"},
        write("leaf.txt", word),
        write("shape", word),
        write("hard.txt", word),
        relocate("p/b.txt", "q/b2.txt"),
    ])
}

/// How often a kind of command ended how.
#[derive(Default)]
struct Tally {
    done: u64,
    refused: u64,
    failed: u64,
    half: u64,
}

#[test]
fn whoever_swaps_names_gets_nothing_out_or_in() {
    let seconds = std::env::var("GHOST_BRIDGE_RACE_SECS").map_or(3, |text| text.parse().expect("whole seconds"));
    let (start, least) = (Instant::now(), Duration::from_secs(seconds));
    let mut arena = Arena::new();
    let (outside, secrets) = (arena.outside(), arena.secrets());
    assert!(secrets.len() >= 6);
    let swapper = Swapper::start(&arena.bench.root());
    swapper.hold();
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let is_complete = |tallies: &BTreeMap<&str, Tally>| {
        let is_seen = |kind: &Kind| tallies.get(kind.name).is_some_and(|tally| tally.refused + tally.failed > 0);
        let some = |of: fn(&Tally) -> u64| tallies.values().map(of).sum::<u64>() > 0;
        KINDS.iter().all(is_seen) && some(|it| it.done) && some(|it| it.refused) && some(|it| it.failed)
    };
    for (round, kind) in (0_u64..).zip(KINDS.iter().cycle()) {
        if start.elapsed() >= least && (is_complete(&tallies) || start.elapsed() >= BOUND) {
            break;
        }
        let is_calm = (round / KINDS.len() as u64).is_multiple_of(CALM_TURN);
        let word = format!("w{round}");
        let (ops, checks) = (kind.make)(&word, &arena);
        let mut command = document(ops);
        command["validationPlan"] = checks;
        let command = verified(command);
        arena.mend();
        let before = arena.belongings();
        if !is_calm {
            swapper.go_on();
        }
        let ran = arena.bench.execute(&command, &Stepped::new(|_| start.elapsed()));
        swapper.hold();
        let what = format!("round {round}, {}: {ran:?}", kind.name);
        assert_eq!(arena.outside(), outside, "{what}");
        // The author's own guess at a hash comes back in the complaint that it is wrong.
        let tells = |secret: &String| what.replace(&format!("expected {secret}"), "").contains(secret);
        assert!(!is_marked(what.as_bytes()) && !secrets.iter().any(tells), "{what}");
        let mut calm = Tally::default();
        let tally = if is_calm { &mut calm } else { tallies.entry(kind.name).or_default() };
        match judge(&ran) {
            Outcome::Done(execution) => {
                assert!(kind.ends != Ends::Never && !is_marked(&execution.diff), "{what}");
                let belongings = arena.belongings();
                let holds = |it: &Vec<u8>| it.starts_with(format!("word {word}").as_bytes());
                assert!(belongings.iter().any(holds), "{what}: nothing of it is there");
                tally.done += 1;
            }
            Outcome::Refused(reason) => {
                assert!(REFUSALS.contains(&reason), "{what}");
                assert_eq!(arena.belongings(), before, "{what}");
                tally.refused += 1;
            }
            Outcome::Failed => {
                assert_eq!(arena.belongings(), before, "{what}");
                tally.failed += 1;
            }
            Outcome::Half => {
                println!("{what}");
                tally.half += 1;
            }
        }
        assert!(!is_calm || (calm.done == 1) == (kind.ends == Ends::Either), "nobody was about in {what}");
        assert_eq!(arena.hidden(), Vec::<std::path::PathBuf>::new(), "{what}");
        walk(&arena.bench.root(), &mut |path| {
            let is_file = path.symlink_metadata().unwrap().is_file();
            assert!(!is_file || !is_marked(&std::fs::read(path).unwrap()), "{what}: {}", path.display());
        });
    }
    let swaps = swapper.swaps();
    drop(swapper);
    for (name, Tally { done, refused, failed, half }) in &tallies {
        println!("{name}: {done} done, {refused} refused, {failed} failed, {half} not undone");
    }
    println!("{swaps:?} swaps in {:?}", start.elapsed());
    assert!(swaps.iter().all(|swaps| *swaps > 0), "{swaps:?} of {PAIRS:?}");
    assert!(is_complete(&tallies), "not every outcome occurred within {BOUND:?}");
    assert!(tallies.values().all(|tally| tally.half == 0));
    calm(&mut arena);
}

/// When nobody is about any more, commands are done as ever; and what was outside is not in the journal either.
fn calm(arena: &mut Arena) {
    arena.mend();
    let before = arena.belongings();
    let mut in_vain = document(everything("vain"));
    in_vain["validationPlan"] = json!([{"check": "run", "name": "program"}]);
    let ran = arena.bench.execute(&verified(in_vain), &Stepped::new(|_| Duration::ZERO));
    assert!(matches!(judge(&ran), Outcome::Failed), "{ran:?}");
    assert_eq!(arena.belongings(), before, "all of it is undone, what it deleted as well");
    arena.bench.ok(everything("last"));
    assert_eq!(arena.bench.read("leaf.txt").as_deref(), Some(&b"word last\n"[..]));
    assert!(arena.hidden().is_empty());
    let mut files = 0;
    // As the files outside spell it; a command that searches for it has it in quotes.
    let marked = format!("{MARKER} ");
    walk(&arena.bench.dir.path().join("cloud"), &mut |path| {
        if path.is_file() {
            let content = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
            assert!(!content.contains(&marked), "{}", path.display());
            files += 1;
        }
    });
    assert!(files > 0, "there is a journal");
}

enum Outcome<'r> {
    Done(&'r Execution),
    Refused(Reason),
    /// Tried and undone.
    Failed,
    /// Tried and not wholly undone.
    Half,
}

fn judge(ran: &Ran) -> Outcome<'_> {
    match ran {
        Ran::Judged(Judgement::Rejected(verdict)) => Outcome::Refused(verdict.reason),
        Ran::Judged(Judgement::Executed(execution, ..)) => match &execution.failure {
            None => Outcome::Done(execution),
            Some((Reason::ValidationFailed, _)) => Outcome::Failed,
            Some((Reason::IoError, detail)) if detail.contains("COULD NOT BE UNDONE") => Outcome::Half,
            other => panic!("{other:?}"),
        },
        Ran::Again { reason: Reason::IoError, .. } => Outcome::Failed,
        other => panic!("{other:?}"),
    }
}

/// A folder that becomes another while its own folders are made holds nobody up: what was begun in it goes on in it.
#[test]
fn a_folder_that_becomes_another_holds_nobody_up() {
    for at in 2..60 {
        let mut bench = Bench::new();
        bench.write("p/a.txt", b"old\n");
        let root = bench.root();
        let clock = Stepped::new(move |number| {
            if number == at {
                std::fs::rename(root.join("p"), root.join("away")).unwrap();
                std::fs::create_dir(root.join("p")).unwrap();
            }
            Duration::ZERO
        });
        let ops = json!([write("p/a.txt", "x"), write("p/new/er/x", "x"), write("p/new/y", "x"), write("z/z", "x")]);
        let ran = bench.execute(&verified(document(ops)), &clock);
        match judge(&ran) {
            Outcome::Done(_) => {
                let places = ["p/new/y", "away/new/y"].map(|path| bench.read(path).is_some());
                assert!(places.contains(&true), "at reading {at}: {ran:?}");
            }
            Outcome::Failed => {
                let old = ["p/a.txt", "away/a.txt"].map(|path| bench.read(path) == Some(b"old\n".to_vec()));
                assert!(old.contains(&true) && !bench.root().join("z").exists(), "at reading {at}: {ran:?}");
            }
            Outcome::Refused(reason) => panic!("at reading {at}: {reason}"),
            Outcome::Half => panic!("at reading {at}: {ran:?}"),
        }
    }
}
