//! `ghost-bridge dlq`: the dead letters: which there are, what they say, and putting one in again, signed anew.

use std::fmt::Write as _;

use chrono::Utc;
use clap::Subcommand;
use protocol::command::Document;
use protocol::git_id::ObjectFormat;
use protocol::id::CommandId;
use protocol::reason::Reason;
use serde_json::{Value, json};

use crate::audit::chain::{self, Chain};
use crate::audit::disk::{Root, Shelf};
use crate::config::Settings;
use crate::exit::{Failure, one_line, print};
use crate::layout::Layout;
use crate::secrets::Taken;

use super::document::Draft;
use super::submit::submit;
use super::{Globals, sign};

mod letters;

use letters::Letter;

/// The most dead letters that `--limit` takes.
const MAX_LISTED: usize = 1_000_000;
/// How much of a detail a row of the table shows, in characters.
const DETAIL_CHARS: usize = 100;

const TEACH: &str = "\
A dead letter is a document that was refused, or a command that failed and was undone. `requeue` signs the document anew \
and puts it into CLOUD/commands/: for one that failed for a cause that is gone, such as a target that was not configured \
or a file that was in the way. A document counts once, however it is spelled, so it becomes another one: valid from now, \
for as long as it was, with a fresh nonce. It keeps its id where that is free, and gets a new one where a command that bears \
it was executed, however that ended. Its signature must be by a secret at hand, so that nobody's forgery is signed; else \
look at it and sign it anew yourself, as the line says.

Exit status: 0 done, 1 no such dead letter, or it cannot go in again.

Examples:
  ghost-bridge dlq list
  ghost-bridge dlq list --reason expired --limit 5 --json
  ghost-bridge dlq show fix-17
  ghost-bridge dlq requeue fix-17
  ghost-bridge dlq show fix-17 --unsigned | ghost-bridge sign --fill --submit";

/// The command line of `dlq`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = TEACH)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List the dead letters, the newest first
    List {
        /// Only those with this reason
        #[arg(long, value_name = "REASON", value_parser = reason)]
        reason: Option<Reason>,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show a dead letter and its document
    Show {
        /// The document's id, or the dead letter's file name
        #[arg(value_name = "ID")]
        name: String,
        /// Print the document alone, without what has to be made anew, for `sign --fill`
        #[arg(long)]
        unsigned: bool,
    },
    /// Sign a dead letter's document anew and put it into CLOUD/commands/
    Requeue {
        /// The document's id, or the dead letter's file name
        #[arg(value_name = "ID")]
        name: String,
    },
}

/// Reads a reason's name.
fn reason(text: &str) -> Result<Reason, String> {
    let all = || Reason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ");
    Reason::parse(text).ok_or_else(|| format!("no reason; there are {}", all()))
}

/// Does it.
///
/// # Errors
/// When there is no such dead letter, it cannot go in again, or CLOUD cannot be read.
pub fn run(globals: &Globals, args: &Args, taken: Taken) -> Result<(), Failure> {
    let settings = globals.settings()?;
    let layout = Layout::at(&globals.cloud(&settings)?).map_err(Failure::config)?;
    let root = Root::open(layout.cloud()).map_err(Failure::config)?;
    match &args.command {
        Command::List { reason, limit, json } => list(&root, *reason, *limit, *json),
        Command::Show { name, unsigned } => show(&root, name, *unsigned),
        Command::Requeue { name } => {
            let known = globals.names_a_config().then_some(&settings);
            Requeue { layout: &layout, root: &root, settings: &settings, known }.run(name, taken)
        }
    }
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::failed(format!("cannot read CLOUD: {error}; see to its permissions"))
}

fn list(root: &Root, reason: Option<Reason>, limit: usize, as_json: bool) -> Result<(), Failure> {
    let shelf = Shelf::list(root).map_err(unreadable)?;
    let mut found = letters::all(root, &shelf);
    found.retain(|letter| reason.is_none_or(|reason| letter.reason == reason.as_str()));
    found.sort_by(|a, b| (&b.rejected_at, &b.path).cmp(&(&a.rejected_at, &a.path)));
    let all = found.len();
    found.truncate(limit.min(MAX_LISTED));
    if as_json {
        return print(&format!("{:#}\n", json!(found)));
    }
    let width = |of: &dyn Fn(&Letter) -> usize, least: usize| found.iter().map(of).max().unwrap_or(0).max(least);
    let names = width(&|letter| letter.name().chars().count(), 2);
    let reasons = width(&|letter| letter.reason.len(), 6);
    let mut table = format!("{:<names$}  {:<reasons$}  {:<24}  DETAIL\n", "ID", "REASON", "WHEN");
    for letter in &found {
        let detail = one_line(&letter.detail);
        let cut: String = detail.chars().take(DETAIL_CHARS).collect();
        let more = if cut.len() < detail.len() { "..." } else { "" };
        let (name, reason, when) = (letter.name(), one_line(&letter.reason), one_line(&letter.rejected_at));
        let _ = writeln!(table, "{name:<names$}  {reason:<reasons$}  {when:<24}  {cut}{more}");
    }
    if found.len() < all {
        let _ = writeln!(table, "{} of {all}; --limit {all} lists all", found.len());
    }
    print(&table)
}

fn show(root: &Root, name: &str, unsigned: bool) -> Result<(), Failure> {
    let shelf = Shelf::list(root).map_err(unreadable)?;
    let letter = letters::find(root, &shelf, name)?;
    if unsigned {
        let mut draft = Draft::parse(letter.document()?.as_bytes())?;
        draft.remove(&["hmac", "nonce", "issued_at", "expires_at"]);
        // Whoever took the id, this document cannot have it any more.
        let chain = chain::read(root, ObjectFormat::default()).map_err(unreadable)?;
        if letter.id.as_deref().is_some_and(|id| taken_by(&chain, id).is_some()) {
            draft.remove(&["id"]);
        }
        return print(&draft.to_text());
    }
    let mut text = String::new();
    for (name, value) in [
        ("dead letter", letter.path.as_str()),
        ("id", letter.id.as_deref().unwrap_or("-")),
        ("reason", &letter.reason),
        ("detail", &letter.detail),
        ("stage", &letter.stage),
        ("rejected_at", &letter.rejected_at),
        ("file", &letter.file),
        ("signature", if letter.hmac_ok { "good" } else { "not good" }),
    ] {
        let _ = writeln!(text, "{name:<12} {}", one_line(value));
    }
    let _ = writeln!(text, "{:<12} {}", "attempts", letter.attempts);
    let _ = writeln!(text, "{:<12} {}", "sha256", letter.input_sha256);
    let document = letter.document().ok().and_then(|text| serde_json::from_str::<Value>(text).ok());
    match (document, &letter.raw_base64) {
        (Some(document), _) => {
            let _ = writeln!(text, "document\n{document:#}");
        }
        (None, Some(raw)) => {
            let _ = writeln!(text, "document     is no JSON; its beginning in base64: {}", one_line(raw));
        }
        (None, None) => text.push_str("document     none\n"),
    }
    print(&text)
}

/// The place in the chain of the line whose command took `id`.
fn taken_by(chain: &Chain, id: &str) -> Option<u64> {
    let id = id.to_ascii_lowercase();
    let is_taker =
        |line: &&chain::Line| line.result.takes_id() && line.id.as_ref().is_some_and(|own| own.folded() == id);
    chain.lines.iter().find(is_taker).map(|line| line.position)
}

/// What a requeue needs to know.
struct Requeue<'a> {
    layout: &'a Layout,
    root: &'a Root,
    settings: &'a Settings,
    /// The bridge's own configuration, where it was named.
    known: Option<&'a Settings>,
}

impl Requeue<'_> {
    fn run(&self, name: &str, taken: Taken) -> Result<(), Failure> {
        let secrets = super::secrets(taken)?;
        let keyring = secrets.keyring();
        let shelf = Shelf::list(self.root).map_err(unreadable)?;
        let letter = letters::find(self.root, &shelf, name)?;
        let raw = letter.document()?;
        let chain = chain::read(self.root, ObjectFormat::default()).map_err(unreadable)?;
        let refuse =
            |why: String| Failure::failed(format!("{} cannot go in again: {why}; {}", letter.path, self.anew(&letter)));
        let now = Utc::now();
        let document = Document::parse(raw.as_bytes().into()).map_err(|verdict| refuse(verdict.detail))?;
        let authentic = document
            .authenticate(&keyring, now)
            .map_err(|_| refuse("no secret that counts now has signed it".to_owned()))?;
        let ingest = self.settings.ingest();
        let taken = authentic.document().id().is_none_or(|id| taken_by(&chain, id.as_str()).is_some());
        let mut draft = Draft::parse(raw.as_bytes())?;
        draft.renew(now, taken).map_err(refuse)?;
        draft.sign(&keyring, sign::slot(false, &secrets, now)?)?;
        let object = draft.object()?;
        if let Some(objection) = sign::objection(&object, self.known, &ingest, now) {
            return Err(refuse(format!("the bridge would refuse it: {objection}")));
        }
        let text = draft.to_text();
        if text.len() as u64 > ingest.max_command_bytes {
            return Err(refuse(format!("it is larger than {} bytes", ingest.max_command_bytes)));
        }
        let id = object.get("id").and_then(protocol::json::Value::as_str).map(CommandId::parse);
        let Some(Ok(id)) = id else { return Err(refuse("it has no id".to_owned())) };
        let path = submit(self.layout, &id, text.as_bytes())?;
        print(&format!("{}\n", path.display()))
    }

    /// How to sign the document anew.
    fn anew(&self, letter: &Letter) -> String {
        let cloud = quoted(&self.layout.cloud().to_string_lossy());
        let name = quoted(&letter.name());
        format!(
            "sign it anew: ghost-bridge --cloud {cloud} dlq show {name} --unsigned | ghost-bridge --cloud {cloud} sign --fill --submit"
        )
    }
}

/// `text` as a shell takes it for one word.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Whether `name` can be an id.
fn is_id(name: &str) -> bool {
    CommandId::parse(name).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_shell_takes_what_is_quoted_for_one_word() {
        for (text, wanted) in [("/srv/sync", "/srv/sync"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''")] {
            assert_eq!(quoted(text), wanted);
        }
    }
}
