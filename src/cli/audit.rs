//! `ghost-bridge audit`: holds the log, the artifacts and the branch against one another, and names the first thing that
//! does not fit.

use std::fmt::Write as _;

use chrono::Utc;
use serde_json::json;

use crate::audit::{self, Report};
use crate::exit::{Failure, print};
use crate::layout::Layout;
use crate::secrets::Taken;

use super::Globals;

/// The most findings that `--all` lists.
const MAX_LISTED: usize = 10_000;

const TEACH: &str = "\
It walks the chain of the audit log from its first line, hashes every artifact that a line implies, looks for artifacts \
that no line tells of, and compares all of it with the commit that is checked out: also a tail of the log that was \
cut off together with its artifacts is found so. Nothing is changed. A bridge may run: what is being filed right now is \
no finding.

Integrity files are signed by the bridge. Signatures are checked where GPT_BRIDGE_HMAC_SECRET is set (and \
GPT_BRIDGE_HMAC_SECRET_NEXT with GPT_BRIDGE_HMAC_ROTATION_ENDS). One by a secret that has been changed since cannot be \
checked, and is counted so, unless that secret is at hand under another name that begins with GPT_BRIDGE_HMAC_SECRET, such \
as GPT_BRIDGE_HMAC_SECRET_OLD; it is called forged only where its own command was signed by a secret at hand.

What is missing or changed and committed comes back by: git -C CLOUD checkout HEAD -- PATH

Exit status: 0 all fits, 1 something does not (stderr names the first).

Examples:
  ghost-bridge audit
  ghost-bridge audit --all
  ghost-bridge audit --json | jq .findings_count";

/// The command line of `audit`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = TEACH)]
pub struct Args {
    /// List everything that does not fit (at most 10,000), not only the first
    #[arg(long)]
    all: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Audits.
///
/// # Errors
/// When something does not fit, or CLOUD or git cannot be read.
pub fn run(globals: &Globals, args: &Args, taken: Taken) -> Result<(), Failure> {
    let keyrings = taken.keyrings(Utc::now()).map_err(Failure::config)?;
    let settings = globals.settings()?;
    let layout = Layout::at(&globals.cloud(&settings)?).map_err(Failure::config)?;
    layout.require_work_tree().map_err(Failure::config)?;
    let report = audit::run(layout.cloud(), &keyrings)?;
    print(&if args.json { document(&report, args.all) } else { text(&report, args.all) })?;
    let Some(first) = report.findings.first() else { return Ok(()) };
    let more = match report.findings.len() - 1 {
        0 => String::new(),
        more if args.all => format!("; {more} more above"),
        more => format!("; {more} more, list them with --all"),
    };
    Err(Failure::failed(format!("the audit found: {}{more}", first.sentence())))
}

fn listed(report: &Report, all: bool) -> usize {
    if all { MAX_LISTED } else { report.findings.len().min(1) }
}

fn document(report: &Report, all: bool) -> String {
    let findings: Vec<_> = report.findings.iter().take(listed(report, all)).collect();
    let value = json!({
        "clean": report.findings.is_empty(),
        "lines": report.lines,
        "artifacts": report.artifacts,
        "bytes": report.bytes,
        "head": report.head,
        "committed_artifacts": report.committed,
        "uncommitted_lines": report.uncommitted_lines,
        "signatures": {
            "checked": report.signatures_checked,
            "good": report.signatures_good,
            "cannot_be_checked": report.signatures_unknown,
        },
        "bridge_runs": report.running,
        "findings_count": report.findings.len(),
        "findings": findings,
    });
    format!("{value:#}\n")
}

fn text(report: &Report, all: bool) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "log         {} lines", report.lines);
    let _ = writeln!(
        text,
        "artifacts   {} files read, {} of them as committed; {} bytes in all",
        report.artifacts, report.committed, report.bytes
    );
    let _ = match &report.head {
        Some(head) => writeln!(
            text,
            "commit      {} ({} lines not committed yet)",
            head.get(..12).unwrap_or(head),
            report.uncommitted_lines
        ),
        None => writeln!(text, "commit      none yet: nothing to compare with"),
    };
    let _ = match (report.signatures_checked, report.signatures_unknown) {
        (false, _) => writeln!(text, "signatures  not checked: GPT_BRIDGE_HMAC_SECRET is not set"),
        (true, 0) => writeln!(text, "signatures  {} good", report.signatures_good),
        (true, unknown) => writeln!(
            text,
            "signatures  {} good, {unknown} cannot be checked: their secret is not at hand (set it as GPT_BRIDGE_HMAC_SECRET_OLD)",
            report.signatures_good
        ),
    };
    if report.findings.is_empty() {
        text.push_str("all fits\n");
        return text;
    }
    let _ = writeln!(text, "findings    {}", report.findings.len());
    let shown = listed(report, all);
    for finding in report.findings.iter().take(shown) {
        let _ = writeln!(text, "  {}", finding.sentence());
    }
    if all && report.findings.len() > shown {
        let _ = writeln!(text, "  and {} more", report.findings.len() - shown);
    }
    text
}
