//! Filed is filed: a refused document that comes again, in whatever spelling, when what it was refused for has passed.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::harness::document::sha256;
use crate::harness::git::{Commit, results, with_subject};
use crate::harness::snapshot::{Snapshot, snapshot};
use crate::harness::{Bridge, Cloud, Doc, audit};

/// What a life begins with.
#[derive(Clone, Copy, Debug)]
enum Life {
    Same,
    Restart,
    Kill,
    FreshClone,
    LostLog,
}

/// Documents that are refused as long as nothing lies in `docs/`.
fn refused() -> Vec<(Doc, &'static str)> {
    let diff = "--- a/docs/p.txt\n+++ b/docs/p.txt\n@@ -1 +1 @@\n-old\n+new\n";
    let expect = json!({ "sha256": sha256(b"old\n") });
    let docs = [
        ("replace", json!([{ "op": "replaceText", "path": "docs/r.txt", "search": "old", "replace": "new" }])),
        ("diff", json!([{ "op": "applyDiff", "diff": diff }])),
        ("expects", json!([{ "op": "writeFile", "path": "docs/e.txt", "content": "new\n", "expect": expect }])),
        ("moves", json!([{ "op": "moveFile", "from": "docs/m.txt", "to": "docs/moved.txt" }])),
    ];
    let reason = |id| if id == "diff" { "patch_conflict" } else { "precondition_failed" };
    docs.into_iter().map(|(id, ops)| (Doc::new(id, ops).with("patchType", json!("hybrid")), reason(id))).collect()
}

/// The same document in other spellings, all of them signed by the signature that it has.
pub fn spellings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let text = std::str::from_utf8(bytes).unwrap();
    let value: Value = serde_json::from_slice(bytes).unwrap();
    let Value::Object(fields) = &value else { panic!("no object") };
    let members: Vec<String> = fields.iter().rev().map(|(key, value)| format!("{}: {value}", json!(key))).collect();
    vec![
        bytes.to_vec(),
        value.to_string().into_bytes(),
        format!("{text}\r\n").into_bytes(),
        text.replacen("MAIN", "\\u004dAIN", 1).into_bytes(),
        text.replacen("\"target\"", "\"t\\u0061rget\"", 1).into_bytes(),
        format!("{{{}}}", members.join(" ,")).into_bytes(),
    ]
}

fn tree(cloud: &Cloud) -> Snapshot {
    snapshot(&cloud.path("docs"), &[])
}

fn letters_of(history: &[Commit]) -> usize {
    history.iter().filter(|commit| commit.subject.starts_with("bridge: DLQ")).count()
}

fn start(cloud: &Cloud) -> Bridge<'_> {
    // Each command rolls over soon.
    Bridge::start_with(cloud, |run| {
        run.env("GHOST_BRIDGE__PUBLISH__WINDOW", "2");
    })
}

/// Ends the bridge, if there is one.
fn end<'c>(bridge: Option<Bridge<'c>>, how: impl FnOnce(Bridge<'c>)) -> Option<Bridge<'c>> {
    bridge.map(how);
    None
}

#[test]
fn a_refused_document_is_never_executed_when_its_cause_has_passed_however_it_comes_again() {
    let cloud = Cloud::new();
    let bridge = start(&cloud);
    let mut sent = Vec::new();
    for (document, reason) in refused() {
        sent.push(cloud.submit(&document));
        bridge.published(&format!("bridge: DLQ {reason}"));
    }
    let expired = cloud.submit(&Doc::write("late", "docs/late.txt", "late").window(-3600, -60));
    bridge.published("bridge: DLQ expired");
    sent.push(expired);
    bridge.wait_for("all letters", || cloud.dead_letters().len() == sent.len());
    bridge.emptied();
    // What they were refused for passes.
    for name in ["p", "r", "e", "m"] {
        cloud.write(&format!("docs/{name}.txt"), "old\n");
    }
    let before = tree(&cloud);
    let mut running = Some(bridge);
    for (number, life) in
        [Life::Same, Life::Restart, Life::Kill, Life::FreshClone, Life::LostLog, Life::Kill].into_iter().enumerate()
    {
        let bridge = match life {
            Life::Same => running.take(),
            Life::Kill => end(running.take(), Bridge::kill),
            _ => end(running.take(), Bridge::stop),
        };
        match life {
            Life::Same | Life::Restart | Life::Kill => {}
            Life::FreshClone => {
                std::fs::rename(cloud.root(), cloud.world().join("lost")).unwrap();
                std::fs::rename(cloud.other_clone(), cloud.root()).unwrap();
                for folder in ["docs", "commands"] {
                    let _ = std::fs::remove_dir(cloud.path(folder));
                    std::fs::rename(cloud.world().join("lost").join(folder), cloud.path(folder)).unwrap();
                }
            }
            Life::LostLog => std::fs::remove_dir_all(cloud.path("logs")).unwrap(),
        }
        for (which, bytes) in sent.iter().enumerate() {
            // The very bytes under two names, and each spelling under a name of its own, all at one instant.
            cloud.drop_file(&format!("again-{which}.json"), bytes);
            for (how, spelled) in spellings(bytes).iter().enumerate() {
                cloud.drop_file(&format!("spelled-{which}-{how}.json"), spelled);
            }
        }
        let bridge = bridge.unwrap_or_else(|| start(&cloud));
        bridge.emptied();
        let history = bridge.barrier();
        assert_eq!(tree(&cloud), before, "{life:?}: something was executed");
        assert_eq!(letters_of(&history), sent.len(), "{life:?}: {history:?}");
        assert_eq!(cloud.dead_letters().len(), sent.len(), "{life:?}");
        let lines = audit::verified(cloud.root());
        assert_eq!(lines.len(), sent.len() + number + 1, "{life:?}: one line each, and the barriers'");
        running = Some(bridge);
    }
    // A mended document may use the id of a refused one, once.
    end(running, Bridge::kill);
    let bridge = start(&cloud);
    let mended = bridge.run(&Doc::write("replace", "docs/r.txt", "mended\n"));
    assert_eq!(cloud.text("docs/r.txt"), "mended\n");
    for (how, bytes) in spellings(&mended).iter().chain(&spellings(&sent[0])).enumerate() {
        cloud.drop_file(&format!("mended-{how}.json"), bytes);
    }
    bridge.emptied();
    let history = bridge.barrier();
    assert_eq!(with_subject(&history, &results("replace", 0)).len(), 1);
    assert_eq!(letters_of(&history), sent.len());
    bridge.stop();
}

#[test]
fn of_many_spellings_that_come_at_one_instant_one_counts() {
    let cloud = Cloud::new();
    let bytes = Doc::write("many", "docs/many.txt", "once\n").signed(&cloud.secret);
    for (how, spelled) in spellings(&bytes).iter().chain(&spellings(&bytes)).enumerate() {
        cloud.drop_file(&format!("{how}.json"), spelled);
    }
    let bridge = Bridge::start(&cloud);
    bridge.published(&results("many", 0));
    cloud.write("docs/many.txt", "a person's\n");
    bridge.emptied();
    let history = bridge.barrier();
    assert_eq!(with_subject(&history, &results("many", 0)).len(), 1);
    assert_eq!((letters_of(&history), cloud.text("docs/many.txt")), (0, "a person's\n".to_owned()));
    bridge.stop();
}

#[test]
fn where_a_letter_was_changed_nobody_uses_its_id_any_more() {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    let (document, reason) = refused().remove(0);
    let bytes = cloud.submit(&document);
    bridge.published(&format!("bridge: DLQ {reason}"));
    bridge.stop();
    cloud.write("docs/r.txt", "old\n");
    // Somebody who can push makes the letter say that another document was refused.
    let letter = cloud.text("dead_letter/replace.json").replace("docs/r.txt", "docs/x.txt");
    cloud.write("dead_letter/replace.json", letter);
    let bridge = Bridge::start(&cloud);
    cloud.drop_file("revived.json", &spellings(&bytes)[1]);
    bridge.published("bridge: DLQ duplicate_id");
    assert_eq!(cloud.text("docs/r.txt"), "old\n");
    let letter = cloud.dead_letters().into_iter().find(|(_, letter)| letter["reason"] == "duplicate_id").unwrap().1;
    assert!(letter["detail"].as_str().unwrap().contains("fresh id"), "{letter}");
    bridge.stop();
}

/// Documents that came so far, and what they may have done.
#[derive(Default)]
struct World {
    /// Each with its id.
    sent: Vec<(String, Vec<u8>)>,
    /// The files that were seen, and taken away again.
    seen: BTreeSet<String>,
}

impl World {
    /// A fresh document, or another one under the id of an earlier one. It is refused while there is no flag.
    fn fresh(&mut self, cloud: &Cloud, random: &mut StdRng) -> Vec<u8> {
        let number = self.sent.len();
        let id = match random.random_bool(0.3) && number > 0 {
            true => self.sent[random.random_range(0..number)].0.clone(),
            false => format!("r{number}"),
        };
        let flag = json!({ "op": "replaceText", "path": "docs/flag", "search": "flag", "replace": "flag" });
        let write = json!({ "op": "writeFile", "path": format!("docs/out-{number}"), "content": "x" });
        let bytes = Doc::new(&id, json!([flag, write])).signed(&cloud.secret);
        self.sent.push((id, bytes.clone()));
        bytes
    }

    /// Takes away what was written; what was taken away before must not be there again.
    fn look(&mut self, cloud: &Cloud) {
        for number in 0..self.sent.len() {
            let path = format!("docs/out-{number}");
            if std::fs::remove_file(cloud.path(&path)).is_ok() {
                assert!(self.seen.insert(path.clone()), "{path} was written twice");
            }
        }
    }
}

#[test]
fn whatever_comes_in_whatever_spelling_is_filed_once_and_executed_once_at_most() {
    let seed =
        std::env::var("GHOST_BRIDGE_SOAK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("GHOST_BRIDGE_SOAK_SEED={seed}");
    let rounds = std::env::var("GHOST_BRIDGE_REFILED_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(12);
    let (mut random, cloud, mut world) = (StdRng::seed_from_u64(seed), Cloud::new(), World::default());
    let (mut running, mut barriers) = (Some(start(&cloud)), 0);
    for round in 0..rounds {
        if random.random_bool(0.5) {
            cloud.write("docs/flag", "flag\n");
        } else {
            let _ = std::fs::remove_file(cloud.path("docs/flag"));
        }
        for drop in 0..random.random_range(1..12) {
            let bytes = match world.sent.is_empty() || random.random_bool(0.3) {
                true => world.fresh(&cloud, &mut random),
                false => world.sent[random.random_range(0..world.sent.len())].1.clone(),
            };
            let spellings = spellings(&bytes);
            for copy in 0..random.random_range(1..4) {
                let spelled = &spellings[random.random_range(0..spellings.len())];
                cloud.drop_file(&format!("{round}-{drop}-{copy}.json"), spelled);
            }
        }
        let bridge = match random.random_range(0..4) {
            0 => end(running.take(), Bridge::kill),
            1 => end(running.take(), Bridge::stop),
            2 => {
                let Some(bridge) = running.take() else { panic!("no bridge") };
                bridge.emptied();
                Some(bridge)
            }
            _ => running.take(),
        };
        // Only what is filed may be taken away: what a kill left unfiled is put back by the next start.
        let bridge = bridge.unwrap_or_else(|| start(&cloud));
        if random.random_bool(0.5) {
            bridge.emptied();
            bridge.barrier();
            barriers += 1;
            world.look(&cloud);
        }
        running = Some(bridge);
    }
    let Some(bridge) = running else { panic!("no bridge") };
    bridge.emptied();
    bridge.barrier();
    world.look(&cloud);
    bridge.stop();
    let lines = audit::verified(cloud.root());
    let (mut filed, mut sent) = (BTreeMap::new(), BTreeMap::new());
    for line in &lines {
        *filed.entry(line["id"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    world.sent.iter().for_each(|(id, _)| *sent.entry(id.clone()).or_insert(0) += 1);
    filed.retain(|id, _| !id.starts_with("barrier-"));
    assert_eq!(filed, sent, "one line each");
    assert_eq!(lines.len(), world.sent.len() + barriers + 1);
    let executed = lines.iter().filter(|line| line["result"] == "ok").count() - barriers - 1;
    assert_eq!(executed, world.seen.len(), "what was executed has its record, and the other way round");
    assert!(executed > 0 || world.sent.len() < 8, "nothing was executed at all");
}
