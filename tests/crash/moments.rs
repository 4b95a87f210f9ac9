//! Random moments: commands that build on one another stream in while the bridge is killed again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::harness::{Cloud, Doc, audit};
use crate::scene::Scene;

/// How many commands there are.
const COMMANDS: usize = 200;
/// How often the bridge is killed.
const ROUNDS: usize = 30;
/// The files that they change, so few that most commands meet another.
const FILES: usize = 8;
/// The longest life, in milliseconds from the moment that the bridge is ready.
const LONGEST_LIFE: u64 = 250;

/// What the commands come to, one after the other.
#[derive(Debug, Default)]
struct Model {
    files: BTreeMap<String, String>,
    /// Folders stay when their last file goes.
    folders: BTreeSet<String>,
}

impl Model {
    fn put(&mut self, path: String, content: String) {
        self.folders.insert(path.rsplit_once('/').unwrap().0.to_owned());
        self.files.insert(path, content);
    }
}

/// A command that works on the tree as it is after those before it, and what the tree is then.
fn next(number: usize, model: &mut Model, random: &mut StdRng) -> Vec<Value> {
    let mut ops = Vec::new();
    // What a command expects is asked of the tree before it.
    let before: BTreeSet<String> = model.files.keys().cloned().collect();
    for op in 0..random.random_range(1..=3) {
        let path = format!("work/{}/f.txt", random.random_range(0..FILES));
        let other = format!("work/{}/f.txt", random.random_range(0..FILES));
        let content = format!("{number}.{op}\n");
        match model.files.get(&path).cloned() {
            None => {
                let mut op = json!({ "op": "writeFile", "path": path, "content": content });
                if !before.contains(&path) {
                    op["expect"] = json!({ "absent": true });
                }
                ops.push(op);
            }
            Some(_) if random.random_bool(0.2) => {
                model.files.remove(&path);
                ops.push(json!({ "op": "deleteFile", "path": path }));
                continue;
            }
            Some(text) if random.random_bool(0.5) && !model.files.contains_key(&other) => {
                model.files.remove(&path);
                model.put(other.clone(), text);
                ops.push(json!({ "op": "moveFile", "from": path, "to": other }));
                continue;
            }
            Some(text) => {
                ops.push(json!({ "op": "replaceText", "path": path, "search": text, "replace": content }));
            }
        }
        model.put(path, content);
    }
    ops
}

/// The commands in their order, and the tree after all of them. Some ask a program.
fn commands(random: &mut StdRng) -> (Vec<Doc>, Model) {
    let mut model = Model::default();
    let documents = (0..COMMANDS)
        .map(|number| {
            let plan = if random.random_bool(0.1) { json!([{ "check": "run", "name": "yes" }]) } else { json!([]) };
            let ops = next(number, &mut model, random);
            let start = i64::try_from(number).unwrap() - 3000;
            Doc::new(&format!("c-{number:03}"), json!(ops)).with("validationPlan", plan).window(start, 7200)
        })
        .collect();
    (documents, model)
}

#[test]
fn kills_at_random_moments_leave_the_tree_that_the_commands_make_in_their_order() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (documents, model) = commands(&mut random);
    let mut scene = Scene::bare(Cloud::alone(), false);
    scene.folder("work");
    model.folders.iter().for_each(|path| scene.folder(path));
    model.files.iter().for_each(|(path, content)| scene.file(path, content, 0o644));
    let begun = Instant::now();
    let mut left = documents.iter();
    for _ in 0..ROUNDS {
        let bridge = scene.mortal("");
        bridge.wait_for("the bridge to be ready", || bridge.log().contains("retries index ->"));
        // Some come while it runs. They come in their order, so that they are executed in it.
        for document in left.by_ref().take(COMMANDS.div_ceil(ROUNDS)) {
            scene.submit(document, "ok");
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..LONGEST_LIFE)));
        bridge.kill();
    }
    left.for_each(|document| scene.submit(document, "ok"));
    scene.recovers(&format!("seed {seed}"));
    let lines = audit::verified(scene.cloud.root());
    let filed: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(filed, documents.iter().map(Doc::id).collect::<Vec<_>>(), "the order of filing");
    println!("{COMMANDS} commands, {ROUNDS} kills in {:?}", begun.elapsed());
}
