//! `ghost-bridge show`: everything that is known about a command, wherever it lies.

use std::path::Path;
use std::time::Duration;

use archiver::Folder;
use chrono::Utc;
use protocol::audit::AuditResult;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::signing::Keyring;
use serde_json::{Value, json};

use crate::audit::Look;
use crate::audit::chain::{Line, letter_names, stems};
use crate::audit::disk::{Item, MAX_ARTIFACT_BYTES, Root};
use crate::audit::judge::{self, Tally};
use crate::exit::{Failure, print};
use crate::instance::InstanceLock;
use crate::layout::Layout;
use crate::secrets::Taken;

use super::Globals;

mod commit;
mod text;
mod waiting;

const TEACH: &str = "\
It looks through the audit log, results/, diffs/, archive/ and dead_letter/ (also where they were rolled over), \
commands/, meta/retries.json and git's history. Every artifact is held against its integrity file, its audit line and \
the commit, as `audit` does. Nothing is changed, and no bridge need run.

A dead letter can be named by its file, too: a second document under a taken id is filed as <ID>-<8 hex>.json.

Exit status: 0 shown, 1 nothing is known about it.

Examples:
  ghost-bridge show fix-17
  ghost-bridge show fix-17 --diff
  ghost-bridge show fix-17-1f2e3d4c.json
  ghost-bridge show fix-17 --json | jq '.commit.pushed'";

/// How often it is looked again while a bridge runs and something does not fit.
const LOOKS: usize = 3;
/// The pause before that.
const PAUSE: Duration = Duration::from_millis(200);

/// The command line of `show`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = TEACH)]
pub struct Args {
    /// The command's id, or the file name of its dead letter
    #[arg(value_name = "ID")]
    id: String,
    /// Print the whole diff, not only its beginning
    #[arg(long)]
    diff: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Shows.
///
/// # Errors
/// When nothing is known about the command, or CLOUD or git cannot be read.
pub fn run(globals: &Globals, args: &Args, taken: Taken) -> Result<(), Failure> {
    let name = args.id.strip_suffix(".json").unwrap_or(&args.id);
    let name = name.rsplit('/').next().unwrap_or(name);
    let keyrings = taken.keyrings(Utc::now()).map_err(Failure::config)?;
    let settings = globals.settings()?;
    let layout = Layout::at(&globals.cloud(&settings)?).map_err(Failure::config)?;
    layout.require_work_tree().map_err(Failure::config)?;
    let remote = super::remote_of(&settings, &layout).unwrap_or_default();
    let look = || story(layout.cloud(), name, &remote, &keyrings);
    let mut found = look()?;
    for _ in 0..LOOKS {
        // What a running bridge is just filing, rolling over or publishing does not fit for a moment.
        if found.as_ref().is_some_and(fits) || InstanceLock::holder(layout.cloud()).is_none() {
            break;
        }
        std::thread::sleep(PAUSE);
        found = look()?;
    }
    let Some(story) = found else {
        let cloud = layout.cloud().display();
        return Err(Failure::failed(format!(
            "nothing is known about {name:?} in {cloud}: it is in no line of the audit log, in no folder and not in commands/"
        )));
    };
    print(&if args.json { format!("{story:#}\n") } else { text::text(&story, args.diff) })
}

/// Whether nothing of a story is amiss.
fn fits(story: &Value) -> bool {
    let all = |key: &str| story.get(key).and_then(Value::as_array).into_iter().flatten();
    all("missing").next().is_none()
        && all("artifacts").all(|artifact| artifact.get("fits").and_then(Value::as_bool) != Some(false))
}

/// What the search stands on.
struct Search<'a> {
    root: &'a Root,
    look: &'a Look,
    name: &'a str,
}

/// What is known, as JSON; `None` where nothing is.
fn story(cloud: &Path, name: &str, remote: &str, keyrings: &[Keyring]) -> Result<Option<Value>, Failure> {
    let root = Root::open(cloud).map_err(Failure::config)?;
    let look = Look::take(cloud, &root)?;
    let search = Search { root: &root, look: &look, name };
    let lines = search.lines();
    let waits = waiting::find(cloud, name);
    // The line that took the id, else the latest.
    let main = lines.iter().find(|line| line.result.takes_id()).or(lines.last()).copied();
    let items = search.items(main);
    if main.is_none() && items.is_empty() && waits.is_none() {
        return Ok(None);
    }
    let tally = Tally::default();
    let findings = main.map(|line| look.judge(&root, keyrings, &tally).line(line)).unwrap_or_default();
    let artifacts: Vec<Value> = items.iter().map(|item| search.artifact(item, main, &findings)).collect();
    let is_listed = |path: &str| items.iter().any(|item| look.shelf.path(item) == path);
    let missing = findings.iter().filter(|finding| !is_listed(&finding.path));
    let missing: Vec<Value> = missing.map(|it| json!({ "path": it.path, "finding": it.what })).collect();
    let others = lines.iter().filter(|line| main.is_none_or(|main| line.position != main.position));
    let others: Vec<Value> = others.map(|line| search.other(line)).collect();
    let state = match main.map(|line| line.result) {
        Some(AuditResult::Rejected(_)) => "refused",
        Some(executed) => executed.as_str(),
        None if waits.is_some() => "waiting",
        None => "not in the audit log",
    };
    let parse = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let is_result = |item: &Item| item.folder == Folder::Results && !item.name.ends_with(".integrity.json");
    let diff = search.read(&items, |item| item.folder == Folder::Diffs);
    Ok(Some(json!({
        "id": main.and_then(|line| line.id.as_ref()).map(CommandId::as_str),
        "name": name,
        "state": state,
        "result": parse(search.read(&items, is_result)),
        "dead_letter": parse(search.read(&items, |item| item.folder == Folder::DeadLetter)),
        "audit": main.map(|line| search.audit(line)),
        "artifacts": artifacts,
        "missing": missing,
        "commit": main.and_then(|line| commit::find(cloud, remote, line, &items)),
        "tries_noted": publisher::attempts(cloud).get(name).copied(),
        "waiting": waits,
        "other_lines": others,
        "diff": diff.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    })))
}

impl Search<'_> {
    /// The lines that are about it, in order.
    fn lines(&self) -> Vec<&Line> {
        let id = CommandId::parse(self.name).ok().map(|id| id.folded());
        let is_own = |line: &&Line| line.id.as_ref().is_some_and(|own| Some(own.folded()) == id);
        let own: Vec<&Line> = self.look.chain.lines.iter().filter(is_own).collect();
        if !own.is_empty() {
            return own;
        }
        // The name of a dead letter: its document is known by its hash.
        let Some(input) = self.letter_input() else { return Vec::new() };
        self.look.chain.lines.iter().filter(|line| line.input == input).collect()
    }

    fn letter_input(&self) -> Option<Sha256> {
        let item = self.look.shelf.find(Folder::DeadLetter, &format!("{}.json", self.name))?;
        let bytes = self.root.read(&self.look.shelf.path(item), MAX_ARTIFACT_BYTES).ok()?;
        judge::letter_input(&bytes)
    }

    /// Its artifacts: those that the line may have, and those that bear the name.
    fn items(&self, line: Option<&Line>) -> Vec<&Item> {
        let shelf = &self.look.shelf;
        let executed = |stem: &str| {
            let (json, integrity) = (format!("{stem}.json"), format!("{stem}.integrity.json"));
            [
                shelf.find(Folder::Results, &json),
                shelf.find(Folder::Results, &integrity),
                shelf.find(Folder::Diffs, &format!("{stem}.patch")),
                shelf.find(Folder::Archive, &json),
            ]
        };
        let named = shelf.find(Folder::DeadLetter, &format!("{}.json", self.name));
        let mut found: Vec<&Item> = Vec::new();
        match line {
            Some(Line { id: Some(id), result, input, .. }) => {
                if result.takes_id() {
                    let all = stems(id, input).into_iter().rev();
                    found = all
                        .map(|stem| executed(&stem).into_iter().flatten().collect())
                        .find(|it: &Vec<_>| !it.is_empty())
                        .unwrap_or_default();
                }
                if *result != AuditResult::Ok {
                    let letters = letter_names(id, input);
                    found.extend(letters.iter().rev().find_map(|name| shelf.find(Folder::DeadLetter, name)));
                }
            }
            Some(Line { id: None, input, .. }) => found
                .extend(shelf.letters(&input.short()).filter(|item| named.is_none_or(|named| named.name == item.name))),
            None => found.extend(executed(self.name).into_iter().flatten().chain(named)),
        }
        found
    }

    /// A line that is not the main one, with its own dead letter.
    fn other(&self, line: &Line) -> Value {
        let names = line.id.as_ref().map(|id| letter_names(id, &line.input)).into_iter().flatten();
        let own = names.filter_map(|name| self.look.shelf.find(Folder::DeadLetter, &name)).find(|item| {
            let bytes = self.root.read(&self.look.shelf.path(item), MAX_ARTIFACT_BYTES).unwrap_or_default();
            judge::letter_input(&bytes) == Some(line.input)
        });
        json!({
            "position": line.position,
            "result": line.result.as_str(),
            "input_sha256": line.input,
            "letter": own.map(|item| self.look.shelf.path(item)),
        })
    }

    /// The bytes of the first of `items` that is `wanted`.
    fn read(&self, items: &[&Item], wanted: impl Fn(&Item) -> bool) -> Option<Vec<u8>> {
        let item = items.iter().find(|item| wanted(item))?;
        self.root.read(&self.look.shelf.path(item), MAX_ARTIFACT_BYTES).ok()
    }

    fn artifact(&self, item: &Item, line: Option<&Line>, findings: &[crate::audit::Finding]) -> Value {
        let path = self.look.shelf.path(item);
        let finding = findings.iter().find(|finding| finding.path == path).map(|finding| finding.what.as_str());
        let bytes = self.root.read(&path, MAX_ARTIFACT_BYTES).ok();
        json!({
            "path": path,
            "bytes": bytes.as_ref().map(Vec::len),
            "sha256": bytes.as_deref().map(Sha256::of),
            "committed": self.look.head.as_ref().is_some_and(|head| head.artifact(item.folder, &item.name).is_some()),
            // Nothing vouches for what no line tells of.
            "fits": line.map(|_| finding.is_none()),
            "finding": finding,
        })
    }

    fn audit(&self, line: &Line) -> Value {
        let place = self.look.chain.place(self.root, line.position).ok();
        let (file, number, text) = place.unwrap_or_default();
        let is_intact = self.look.chain.breaks.iter().all(|broken| broken.position != line.position);
        json!({
            "position": line.position,
            "of": self.look.chain.count,
            "file": file,
            "line": number,
            "follows_the_line_before": is_intact,
            "entry": serde_json::from_str::<Value>(&text).ok(),
        })
    }
}
