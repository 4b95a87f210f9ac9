//! What is known about a command, for people. What came from outside is shown without its control characters.

use std::fmt::Write as _;

use serde_json::Value;

use crate::exit::one_line;

/// How many lines of a diff are shown unless all are wanted.
const DIFF_LINES: usize = 40;

/// The whole page.
#[must_use]
pub fn text(story: &Value, whole_diff: bool) -> String {
    let mut page = String::new();
    head(&mut page, story);
    times(&mut page, story);
    list(&mut page, "ops", at(story, "/result/ops"), op);
    list(&mut page, "checks", at(story, "/result/checks"), check);
    audit(&mut page, story);
    list(&mut page, "artifacts", &story["artifacts"], artifact);
    list(&mut page, "missing", &story["missing"], |it| format!("{} {}", word(&it["path"]), word(&it["finding"])));
    list(&mut page, "other lines with this id", &story["other_lines"], |it| {
        let letter = word(&it["letter"]);
        format!("line {}: {}, document {}, {letter}", it["position"], word(&it["result"]), short(&it["input_sha256"]))
    });
    diff(&mut page, story, whole_diff);
    page
}

/// What `pointer` leads to; null where it leads nowhere.
fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// A value on one line; a dash where there is none.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => one_line(text),
        other => one_line(&other.to_string()),
    }
}

fn short(hash: &Value) -> String {
    word(hash).chars().take(12).collect()
}

fn row(page: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(page, "{name:<12} {value}");
}

fn head(page: &mut String, story: &Value) {
    let (result, letter) = (&story["result"], &story["dead_letter"]);
    let of = |key: &str| if result[key].is_null() { &letter[key] } else { &result[key] };
    row(page, "command", word(if story["id"].is_null() { &story["name"] } else { &story["id"] }));
    let exit = if result["exit_code"].is_null() { String::new() } else { format!(", exit {}", result["exit_code"]) };
    row(page, "outcome", format!("{}{exit}", word(&story["state"])));
    if !of("reason").is_null() {
        row(page, "reason", word(of("reason")));
        row(page, "detail", word(of("detail")));
    }
    if !letter["stage"].is_null() {
        row(
            page,
            "stage",
            format!(
                "{}, signature {}",
                word(&letter["stage"]),
                if letter["hmac_ok"] == true { "good" } else { "not good" }
            ),
        );
    }
    if !result["target"].is_null() {
        let files = format!("{} files changed, {} bytes written", result["files_changed"], result["bytes_written"]);
        row(page, "target", format!("{}, {}, {files}", word(&result["target"]), word(&result["patch_type"])));
    }
    if !of("attempts").is_null() {
        row(page, "attempts", word(of("attempts")));
    }
    if !story["tries_noted"].is_null() {
        row(page, "tries", format!("{} failed so far, by meta/retries.json", story["tries_noted"]));
    }
    if !story["waiting"].is_null() {
        row(page, "waits", word(&story["waiting"]));
    }
    match &story["commit"] {
        Value::Null => row(page, "commit", "none yet"),
        commit => {
            let pushed = match commit["pushed"].as_bool() {
                Some(true) => "pushed",
                Some(false) => "not pushed yet",
                None => "no remote branch to compare with",
            };
            row(page, "commit", format!("{} {} ({pushed})", short(&commit["id"]), word(&commit["subject"])));
        }
    }
}

fn times(page: &mut String, story: &Value) {
    let (result, letter) = (&story["result"], &story["dead_letter"]);
    for key in ["issued_at", "received_at", "executed_at", "finished_at"] {
        if !result[key].is_null() {
            row(page, key, word(&result[key]));
        }
    }
    if !result["duration_ms"].is_null() {
        row(page, "duration", format!("{} ms", result["duration_ms"]));
    }
    if result.is_null() && !letter["rejected_at"].is_null() {
        row(page, "rejected_at", word(&letter["rejected_at"]));
        row(page, "file", word(&letter["file"]));
    }
    if !at(story, "/audit/entry/ts").is_null() {
        row(page, "filed_at", word(at(story, "/audit/entry/ts")));
    }
}

fn list(page: &mut String, name: &str, values: &Value, show: impl Fn(&Value) -> String) {
    let Some(values) = values.as_array().filter(|values| !values.is_empty()) else { return };
    let _ = writeln!(page, "{name}");
    for value in values {
        let _ = writeln!(page, "  {}", show(value));
    }
}

fn op(op: &Value) -> String {
    let place =
        if op["from"].is_null() { word(&op["path"]) } else { format!("{} -> {}", word(&op["from"]), word(&op["to"])) };
    format!("{:<12} {place}  {} -> {}", word(&op["op"]), short(&op["before_sha256"]), short(&op["after_sha256"]))
}

fn check(check: &Value) -> String {
    let name = if check["name"].is_null() { String::new() } else { format!(" {}", word(&check["name"])) };
    format!("{}{name}: exit {}, {} ms", word(&check["check"]), check["exit_code"], check["duration_ms"])
}

fn audit(page: &mut String, story: &Value) {
    let audit = &story["audit"];
    if audit.is_null() {
        return row(page, "audit line", "none");
    }
    let chained = if audit["follows_the_line_before"] == true { "chained" } else { "NOT CHAINED to the line before" };
    row(
        page,
        "audit line",
        format!("{} of {}, {chained}; {} line {}", audit["position"], audit["of"], word(&audit["file"]), audit["line"]),
    );
}

fn artifact(artifact: &Value) -> String {
    let verdict = match (artifact["fits"].as_bool(), artifact["committed"] == true) {
        (Some(true), true) => "fits, as committed".to_owned(),
        (Some(true), false) => "fits, not committed yet".to_owned(),
        (Some(false), _) => format!("DOES NOT FIT: {}", word(&artifact["finding"])),
        (None, _) => "no audit line tells of it".to_owned(),
    };
    format!("{}  {}  {verdict}", word(&artifact["path"]), word(&artifact["sha256"]))
}

fn diff(page: &mut String, story: &Value, whole: bool) {
    let Some(diff) = story["diff"].as_str().filter(|diff| !diff.is_empty()) else { return };
    let (lines, most) = (diff.lines().count(), if whole { usize::MAX } else { DIFF_LINES });
    let _ = writeln!(page, "diff");
    for line in diff.lines().take(most) {
        let clean: String = line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        let _ = writeln!(page, "  {clean}");
    }
    if lines > most {
        let _ = writeln!(page, "  ... {} lines more (--diff shows them)", lines - most);
    }
}
