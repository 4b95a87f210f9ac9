//! `ghost-bridge revert`: prints a command, not yet signed, that takes a filed one back.

use chrono::{DateTime, TimeDelta, Utc};
use executor::config::TargetConfig;
use executor::plan::Plan;
use executor::replay::{self, ReplayError};
use executor::revert;
use executor::take_back;
use executor::tree::Tree;
use protocol::command::{
    ACTION, Action, Command, Configured, Encoding, Expect, FileMode, Op, PatchType, SCHEMA_VERSION,
};
use protocol::id::{CommandId, MAX_ID_BYTES};
use protocol::time::format_utc;
use serde_json::{Map, Value, json};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::exit::{Failure, print};

use super::Globals;
use super::filed::{self, Filed, SystemClock, World, warn};

/// The longest validity that `--ttl` takes, in seconds: a day, which is what bridges grant by default.
const MAX_VALID_SECS: i64 = 86_400;
/// What signing adds to a document at most, in bytes.
const SIGNATURE_BYTES: u64 = 128;

const TEACH: &str = "\
It reads CLOUD/diffs/<ID>.patch backwards. Every file that the command changed must still be as the command left it; each \
op says so again with `expect`, so that the revert fails rather than undo what somebody does until it is executed. What is \
printed was played in memory before: it leads back byte for byte, as far as git keeps a file (content, 0644 or 0755).

Nothing is changed and nothing is signed; the target must allow deletions to take back a file that was made.

Exit status: 0 printed, 1 it cannot be taken back (the line says why, and what to do).

Examples:
  ghost-bridge revert fix-17 | ghost-bridge sign --submit
  ghost-bridge revert fix-17 --ttl 3600 > revert.json";

/// The command line of `revert`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = TEACH)]
pub struct Args {
    /// The id of the command to take back
    #[arg(value_name = "ID")]
    id: String,
    /// How long the revert is valid, in seconds
    #[arg(long, alias = "valid-for", value_name = "SECS", default_value_t = 300, value_parser = clap::value_parser!(i64).range(1..=MAX_VALID_SECS))]
    ttl: i64,
}

/// Prints the revert.
///
/// # Errors
/// When there is no such command, or it cannot be taken back.
pub fn run(globals: &Globals, args: &Args) -> Result<(), Failure> {
    let id = filed::id(&args.id)?;
    let world = World::open(globals)?;
    let filed = archived(&world, &id)?;
    // Its checks are history: the command that takes it back has none.
    let configured =
        Configured { is_target: &|name| world.targets.contains_key(name), is_check: &|_| true, is_cloud: &|_| true };
    let command = Command::read(filed.document.object(), &configured)
        .map_err(|verdict| Failure::failed(format!("{}: {}, {}", filed.path, verdict.reason, verdict.detail)))?;
    let config = world.targets.get(&command.target).ok_or_else(|| Failure::bug("the target is gone"))?;
    let diff = world.diff(&filed)?;
    let by_hand = format!(
        "take it back by hand, in {}: git apply -R {}",
        config.root.display(),
        world.cloud.join(&diff.path).display()
    );
    if diff.bytes.is_empty() {
        return Err(Failure::failed(format!("{id} changed nothing; there is nothing to take back")));
    }
    let tree = Tree::open(&config.root).map_err(Failure::config)?;
    let undone = take_back::undo(&tree, diff.bytes, &world.hashes(&filed)?).map_err(|error| {
        Failure::failed(format!("{id} cannot be taken back: {error}; put the file right, or {by_hand}"))
    })?;
    let ops = revert::ops(&undone);
    let draft =
        Revert { of: &filed, command: &command, ops: &ops, now: Utc::now(), valid_for: TimeDelta::seconds(args.ttl) };
    // Its own bounds are not known before it was played, so the widest stand in for them.
    let widest = [config.limits.max_files_changed, config.limits.max_bytes_written];
    let plan = rehearse(&world, config, &tree, &draft.document(config, widest))
        .map_err(|error| Failure::failed(format!("{id} cannot be taken back by a command: {error}; {by_hand}")))?;
    if !revert::leads_back(&undone, &plan.changes) {
        return Err(Failure::failed(format!(
            "{id} cannot be taken back by a command that leads back exactly; {by_hand}"
        )));
    }
    let document = draft.document(config, [plan.files_changed, plan.bytes_written]);
    let text = text(&document);
    let max_bytes = world.config.ingest.max_command_bytes;
    if text.len() as u64 + SIGNATURE_BYTES > max_bytes {
        return Err(Failure::failed(format!(
            "the revert of {id} would be {} bytes long, and ingest.max_command_bytes is {max_bytes}: {} alone makes up most of it; {by_hand}",
            text.len(),
            largest(&ops)
        )));
    }
    if revert::actions(&ops).contains(&Action::DeleteFile) && !config.allow_delete {
        warn(&format!(
            "the revert deletes files, and the target {} has allow_delete = false: the bridge will refuse it as delete_denied \
             until the operator allows deletions",
            command.target
        ));
    }
    print(&text)
}

fn archived(world: &World, id: &CommandId) -> Result<Filed, Failure> {
    if let Some(filed) = world.archived(id)? {
        return Ok(filed);
    }
    let cloud = world.cloud.display();
    Err(Failure::failed(match world.dead_letter(id) {
        Ok(None) => format!("no command {id} in archive/ of {cloud}; see: ls {cloud}/archive"),
        _ => format!("{id} was refused or failed, and left nothing behind; there is nothing to take back"),
    }))
}

/// Plays the revert in memory, as the bridge would, but that deletions are allowed.
fn rehearse(world: &World, config: &TargetConfig, tree: &Tree, document: &Value) -> Result<Plan, ReplayError> {
    let refused =
        |verdict: protocol::reason::Verdict| ReplayError::Refused { reason: verdict.reason, detail: verdict.detail };
    let parsed = protocol::command::Document::parse(text(document).into_bytes().into()).map_err(refused)?;
    let command = Command::read(parsed.object(), &Configured::ANYTHING).map_err(refused)?;
    let config = TargetConfig { allow_delete: true, ..config.clone() };
    replay::replan(&command.target, &config, &world.config.checks, &command, tree, &SystemClock).map(|it| it.plan)
}

/// All that the document is made of.
struct Revert<'a> {
    of: &'a Filed,
    command: &'a Command,
    ops: &'a [Op],
    now: DateTime<Utc>,
    valid_for: TimeDelta,
}

impl Revert<'_> {
    fn document(&self, config: &TargetConfig, [files, bytes]: [u64; 2]) -> Value {
        let actions: Vec<&str> = revert::actions(self.ops).into_iter().map(Action::as_str).collect();
        let runtime = self.command.constraints.max_runtime_ms.min(config.limits.max_runtime_ms);
        json!({
            "schemaVersion": SCHEMA_VERSION,
            "id": fresh_id(&self.of.name, self.now),
            "issued_at": format_utc(self.now),
            "expires_at": format_utc(self.now + self.valid_for),
            "nonce": format!("{:016x}", rand::random::<u64>()),
            "target": self.command.target,
            "action": ACTION,
            "patchType": PatchType::Ops.as_str(),
            "payload": { "inline": { "version": "1", "ops": self.ops.iter().map(op).collect::<Vec<_>>() } },
            "validationPlan": [],
            "allowedActions": actions,
            "constraints": { "maxRuntimeMs": runtime, "maxFilesChanged": files, "maxBytesWritten": bytes },
            "annotations": { "reverts": self.of.name },
        })
    }
}

/// `revert-<id>-<time>`; what is too long of the id is left out.
fn fresh_id(id: &str, now: DateTime<Utc>) -> String {
    let time = now.format("%Y%m%dT%H%M%S%3fZ").to_string();
    let room = MAX_ID_BYTES.saturating_sub("revert--".len() + time.len());
    format!("revert-{}-{time}", id.chars().take(room).collect::<String>())
}

/// The document, one field a line, so that a person can read what is going to be signed.
fn text(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

/// An op as a document spells it.
fn op(op: &Op) -> Value {
    let mut fields = Map::new();
    let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    set("op", json!(op.name()));
    match op {
        Op::WriteFile { path, content, encoding, mode, .. } => {
            set("path", json!(path));
            match (encoding, std::str::from_utf8(content)) {
                (Encoding::Utf8, Ok(text)) => set("content", json!(text)),
                _ => {
                    set("content", json!(STANDARD.encode(content)));
                    set("encoding", json!("base64"))
                }
            };
            match mode {
                Some(FileMode::Regular) => set("mode", json!("0644")),
                Some(FileMode::Executable) => set("mode", json!("0755")),
                None => None,
            };
        }
        Op::MoveFile { from, to, .. } => {
            set("from", json!(from));
            set("to", json!(to));
        }
        Op::DeleteFile { path, .. } => {
            set("path", json!(path));
        }
        // A revert holds none of these.
        Op::Noop | Op::ReplaceText { .. } | Op::InsertText { .. } | Op::ApplyDiff { .. } | Op::ApplyPatch { .. } => {}
    }
    let (Op::WriteFile { expect, .. } | Op::MoveFile { expect, .. } | Op::DeleteFile { expect, .. }) = op else {
        return Value::Object(fields);
    };
    match expect {
        Some(Expect::Sha256(hash)) => set("expect", json!({ "sha256": hash })),
        Some(Expect::Absent) => set("expect", json!({ "absent": true })),
        None => None,
    };
    Value::Object(fields)
}

/// The file that takes most room.
fn largest(ops: &[Op]) -> &str {
    let written = ops.iter().filter_map(|op| match op {
        Op::WriteFile { path, content, .. } => Some((content.len(), path.as_str())),
        _ => None,
    });
    written.max().map_or("no file", |(_, path)| path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protocol::digest::Sha256;
    use protocol::json;

    #[test]
    fn a_fresh_id_is_one_however_long_the_old_one_was() {
        let now = protocol::time::parse_rfc3339("2026-01-02T03:04:05.678Z").unwrap();
        assert_eq!(fresh_id("fix-17", now), "revert-fix-17-20260102T030405678Z");
        for id in ["a", &"a".repeat(MAX_ID_BYTES), &format!("{}.", "b".repeat(100))] {
            CommandId::parse(&fresh_id(id, now)).unwrap();
        }
    }

    #[test]
    fn ops_are_read_back_as_they_were() {
        let write = |content: &[u8], encoding, mode, expect| Op::WriteFile {
            path: "a/b".to_owned(),
            content: content.to_vec(),
            encoding,
            mode,
            expect,
        };
        let hash = Some(Expect::Sha256(Sha256::of(b"x")));
        let ops = [
            write(b"t\xc3\xa4xt\r\n\"\\\x01", Encoding::Utf8, None, hash),
            write(b"\xff\0", Encoding::Base64, Some(FileMode::Executable), Some(Expect::Absent)),
            Op::MoveFile { from: "a".to_owned(), to: "b".to_owned(), overwrite: false, expect: hash },
            Op::DeleteFile { path: "c".to_owned(), expect: hash },
        ];
        let document = json!({
            "schemaVersion": "1.0", "id": "a", "issued_at": "2026-01-02T03:04:05Z", "expires_at": "2026-01-02T03:04:06Z",
            "nonce": "", "target": "MAIN", "action": "applyPatch", "patchType": "ops",
            "payload": { "inline": { "version": "1", "ops": ops.iter().map(op).collect::<Vec<_>>() } },
            "allowedActions": ["writeFile"], "constraints": { "maxRuntimeMs": 1, "maxFilesChanged": 1 },
        });
        let json::Value::Object(object) = json::parse(text(&document).as_bytes()).unwrap() else { unreachable!() };
        assert_eq!(Command::read(&object, &Configured::ANYTHING).unwrap().ops, ops);
    }
}
