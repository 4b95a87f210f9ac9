//! `ghost-bridge status`: how the running bridge is, in its own words; where none answers, what the disk tells.

use std::fs;

use serde_json::{Map, Value, json};

use crate::exit::{Failure, one_line, print};
use crate::git;
use crate::instance::InstanceLock;
use crate::layout::Layout;

use super::{Globals, answer};

/// The most files in `commands/` that are counted.
const MAX_COUNTED: usize = 1_000_000;

const TEACH: &str = "\
It asks the bridge at http.listen (GET /status), so it needs the bridge's configuration. Where none answers, or another \
CLOUD's bridge does, it tells what can be seen on disk: who holds the lock, how many files wait in commands/, how many \
commands have tries noted, and how many commits the remote does not have yet, as last seen.

Exit status: 0 a bridge runs, 1 none does.

Examples:
  ghost-bridge status
  ghost-bridge status --json | jq .commands";

/// The command line of `status`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = TEACH)]
pub struct Args {
    /// Print a JSON object: the bridge's own, or one with `"source": "disk"`
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
///
/// # Errors
/// When no bridge runs on this CLOUD.
pub fn run(globals: &Globals, args: &Args) -> Result<(), Failure> {
    let settings = globals.settings()?;
    let layout = Layout::at(&globals.cloud(&settings)?).map_err(Failure::config)?;
    let remote = super::remote_of(&settings, &layout).unwrap_or_default();
    let config = settings.resolve(layout.cloud()).map_err(Failure::config)?;
    let answer = answer::ask(config.http.listen, layout.cloud());
    let holder = InstanceLock::holder(layout.cloud());
    let runs = answer.is_some() || holder.is_some();
    let status = answer.unwrap_or_else(|| disk(&layout, &remote, holder));
    print(&if args.json { format!("{status:#}\n") } else { table(&status) })?;
    if runs {
        return Ok(());
    }
    Err(Failure::failed(format!("no bridge runs on {}; start one with: ghost-bridge run", layout.cloud().display())))
}

/// What can be seen without a bridge.
fn disk(layout: &Layout, remote: &str, holder: Option<String>) -> Value {
    let names = fs::read_dir(layout.at_path("commands")).into_iter().flatten().flatten().take(MAX_COUNTED);
    let waits = names.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".json") && !name.starts_with('.')
    });
    let ask = |args: &[&str]| git::ask(layout.cloud(), args).ok();
    let unpushed = ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]).and_then(|branch| {
        let range = format!("refs/remotes/{remote}/{branch}..HEAD");
        ask(&["rev-list", "--count", &range, "--"])?.parse::<u64>().ok()
    });
    json!({
        "source": "disk",
        "cloud": layout.cloud().display().to_string(),
        "running": holder.is_some(),
        "lock": holder,
        "commands": { "waiting": waits.count(), "retries_noted": publisher::attempts(layout.cloud()).len() },
        "publishing": { "unpushed_commits": unpushed, "files_apart": publisher::apart(layout.cloud()).len() },
    })
}

/// Any JSON object, for people: a line a value, a table a list of objects.
fn table(status: &Value) -> String {
    let (mut lines, mut tables) = (Vec::new(), String::new());
    flatten("", status, &mut lines, &mut tables);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: String = lines.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect();
    lines + &tables
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>, tables: &mut String) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let name = if name.is_empty() { one_line(key) } else { format!("{name}.{}", one_line(key)) };
                flatten(&name, value, lines, tables);
            }
        }
        Value::Array(items) => {
            let rows: Vec<&Map<String, Value>> = items.iter().filter_map(Value::as_object).collect();
            if rows.is_empty() {
                let words: Vec<String> = items.iter().map(word).collect();
                lines.push((name.to_owned(), if words.is_empty() { "none".to_owned() } else { words.join("; ") }));
            } else {
                tables.push_str(&format!("\n{name}\n{}", grid(&rows)));
            }
        }
        other => lines.push((name.to_owned(), word(other))),
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => one_line(text),
        other => one_line(&other.to_string()),
    }
}

/// Objects as rows, their keys as columns, in the order of their first appearance.
fn grid(rows: &[&Map<String, Value>]) -> String {
    let mut keys: Vec<&String> = Vec::new();
    for key in rows.iter().flat_map(|row| row.keys()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut lines = vec![keys.iter().map(|key| one_line(key)).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| keys.iter().map(|key| row.get(*key).map_or_else(String::new, word)).collect()));
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..keys.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_object_becomes_lines_and_tables() {
        let status = json!({"a": 1, "b": {"c": "x\ny", "d": []}, "e": [{"k": 1}, {"k": 22, "l": null}]});
        assert_eq!(table(&status), "a    1\nb.c  x y\nb.d  none\n\ne\n  k   l\n  1\n  22  -\n");
    }
}
