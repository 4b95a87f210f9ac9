//! `ghost-bridge sign`: signs a document, and says beforehand what the bridge would say against it.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use executor::config::TargetConfig;
use executor::policy::Policy;
use protocol::command::{Check, Command, Configured};
use protocol::git_id::ObjectFormat;
use protocol::id::CommandId;
use protocol::json::{Object, Value};
use protocol::reason::Verdict;
use protocol::signing::SecretSlot;

use crate::config::{CheckConfig, Checks, Ingest, Limits, MAIN_TARGET, Requirement, Settings};
use crate::exit::{Failure, one_line, print};
use crate::layout::Layout;
use crate::secrets::{NEXT, ROTATION_ENDS, Secrets, Taken};

use super::Globals;
use super::document::Draft;
use super::submit::submit;

/// The longest validity that `--ttl` takes, in seconds: a year.
const MAX_TTL_SECS: i64 = 31_536_000;

/// The command line of `sign`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The document; `-`, or nothing, is stdin
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Add what is missing: schemaVersion, id, issued_at, expires_at, nonce, target, action, patchType,
    /// validationPlan, allowedActions, constraints; and audience, where the configuration has a cloud_name
    #[arg(long)]
    fill: bool,
    /// How long a filled document is valid, in seconds
    #[arg(long, alias = "valid-for", value_name = "SECS", default_value_t = 300, requires = "fill", value_parser = clap::value_parser!(i64).range(1..=MAX_TTL_SECS))]
    ttl: i64,
    /// Sign with GPT_BRIDGE_HMAC_SECRET_NEXT
    #[arg(long)]
    next: bool,
    /// Put the document into CLOUD/commands/ and print its path instead
    #[arg(long)]
    submit: bool,
}

/// Signs.
///
/// # Errors
/// When the document is no strict JSON object, there is no secret, or it cannot be submitted.
pub fn run(globals: &Globals, args: &Args, taken: Taken) -> Result<(), Failure> {
    let secrets = super::secrets(taken)?;
    for name in secrets.with_blanks() {
        warn(&format!("{name} begins or ends with white space, which is a part of the secret that signs"));
    }
    let settings = globals.settings()?;
    // Found out before stdin is read: a person at a terminal should not type in vain.
    let layout = match args.submit {
        true => Some(Layout::at(&globals.cloud(&settings)?).map_err(Failure::config)?),
        false => None,
    };
    let known = globals.names_a_config().then_some(&settings);
    let now = Utc::now();
    let slot = slot(args.next, &secrets, now)?;
    let mut draft = Draft::parse(&read(args.file.as_deref(), settings.ingest().max_command_bytes)?)?;
    if args.fill {
        // Only of a configuration that was named can be told that it is the bridge's.
        draft.fill(now, TimeDelta::seconds(args.ttl), known.and_then(Settings::cloud_name))?;
    }
    draft.sign(&secrets.keyring(), slot)?;
    let object = draft.object()?;
    if let Some(objection) = objection(&object, known, &settings.ingest(), now) {
        warn(&format!("the bridge would reject this document: {objection}"));
    }
    if let (None, Some(target)) = (known, object.get("target").and_then(Value::as_str).filter(|it| *it != MAIN_TARGET))
    {
        warn(&format!(
            "the bridge would reject this document unless it has a target {}; name its configuration with --config to know",
            one_line(target)
        ));
    }
    let text = draft.to_text();
    let Some(layout) = layout else { return print(&text) };
    let id = object
        .get("id")
        .and_then(Value::as_str)
        .ok_or_else(|| Failure::failed("the document has no id; give it one, or sign with --fill"))?;
    let id = CommandId::parse(id).map_err(|fault| Failure::failed(format!("/id: {fault}")))?;
    let path = submit(&layout, &id, text.as_bytes())?;
    print(&format!("{}\n", path.display()))
}

/// The secret that signs.
pub(super) fn slot(next: bool, secrets: &Secrets, now: DateTime<Utc>) -> Result<SecretSlot, Failure> {
    if next && secrets.rotation.is_none() {
        return Err(Failure::config(format!("--next needs {NEXT} and {ROTATION_ENDS}; set both")));
    }
    if !next && secrets.current_is_over(now) {
        warn("the rotation is over, so the next secret signs; make it the current one");
        return Ok(SecretSlot::Next);
    }
    Ok(if next { SecretSlot::Next } else { SecretSlot::Current })
}

fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "ghost-bridge: warning: {text}");
}

/// Reads the document, within the size that the bridge takes.
fn read(file: Option<&Path>, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let file = file.filter(|file| *file != Path::new("-"));
    let name = file.map_or_else(|| "stdin".to_owned(), |file| file.display().to_string());
    let mut bytes = Vec::new();
    let read = match file {
        Some(file) => File::open(file).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes)),
        None => std::io::stdin().lock().take(max_bytes + 1).read_to_end(&mut bytes),
    };
    read.map_err(|error| {
        Failure::failed(format!("cannot read {name}: {error}; give a readable file, or the document on stdin"))
    })?;
    if bytes.len() as u64 > max_bytes {
        return Err(Failure::failed(format!(
            "{name} is larger than {max_bytes} bytes, the most that the bridge takes; split the command"
        )));
    }
    Ok(bytes)
}

/// What the bridge would say against the document, as far as it can be told from here. Which targets there are is only
/// known with the bridge's own configuration.
pub(super) fn objection(
    object: &Object,
    settings: Option<&Settings>,
    ingest: &Ingest,
    now: DateTime<Utc>,
) -> Option<String> {
    let configured = Configured {
        is_target: &|name| settings.is_none_or(|settings| settings.targets().contains_key(name)),
        is_check: &|name| settings.is_none_or(|settings| settings.checks().contains_key(name)),
        is_cloud: &|name| settings.is_none_or(|settings| settings.cloud_name() == Some(name)),
    };
    let said = |verdict: Verdict| Some(format!("{}, {}", verdict.reason, verdict.detail));
    let command = match Command::read(object, &configured) {
        Ok(command) => command,
        Err(verdict) => return said(verdict),
    };
    let seconds = |count: u64| TimeDelta::seconds(i64::try_from(count).unwrap_or(MAX_TTL_SECS).min(MAX_TTL_SECS));
    if command.expires_at - command.issued_at > seconds(ingest.max_lifetime_secs) {
        return Some(format!("schema, /expires_at: more than {} s after issued_at", ingest.max_lifetime_secs));
    }
    if command.expires_at <= now {
        return Some("expired, /expires_at: lies in the past".to_owned());
    }
    if command.issued_at > now + seconds(ingest.clock_skew_secs) {
        return Some("not_yet_valid, /issued_at: lies in the future".to_owned());
    }
    policy(&command, settings).and_then(said)
}

/// What the target's rules say against the command: with the bridge's own configuration all of them, else those that
/// hold for every target.
fn policy(command: &Command, settings: Option<&Settings>) -> Option<Verdict> {
    let is_cloud = command.target == MAIN_TARGET;
    let any = Limits { max_files_changed: u64::MAX, max_runtime_ms: u64::MAX, max_bytes_written: u64::MAX };
    let lenient = TargetConfig {
        root: PathBuf::new(),
        is_cloud,
        deny: Vec::new(),
        allow_delete: true,
        limits: any,
        ids: ObjectFormat::default(),
    };
    let target = settings.and_then(|settings| settings.targets().get(&command.target));
    let config = target.map_or(lenient, |target| TargetConfig {
        root: PathBuf::new(),
        is_cloud,
        deny: target.deny.clone(),
        allow_delete: target.allow_delete,
        limits: target.limits,
        ids: ObjectFormat::default(),
    });
    let checks = settings.map_or_else(|| stand_ins(command), |settings| settings.checks().clone());
    // Globs were read when the configuration was.
    Policy::new(&command.target, &config).ok()?.judge(command, &checks).err()
}

/// For each program that the command names one of that name.
fn stand_ins(command: &Command) -> Checks {
    let program = CheckConfig {
        argv: Vec::new(),
        max_runtime_ms: 1,
        sandbox: Requirement::Required,
        writable: Vec::new(),
        readable: Vec::new(),
    };
    let name = |check: &Check| if let Check::Run { name } = check { Some(name.clone()) } else { None };
    command.validation_plan.iter().filter_map(name).map(|name| (name, program.clone())).collect()
}
