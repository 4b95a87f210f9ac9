//! The command line: what it offers, how it teaches, and where each subcommand is.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::{FILE_VARIABLE, Settings};
use crate::exit::{Failure, one_line, print};
use crate::layout::Layout;
use crate::manager::Inherited;
use crate::secrets::{Secrets, Taken};
use crate::service::publishing;
use crate::telemetry::LogFormat;

mod answer;
mod audit;
mod commit_tree;
mod completions;
mod demo;
mod dlq;
mod doctor;
mod document;
mod filed;
mod guard;
mod init;
mod replay;
mod revert;
pub mod run;
mod show;
mod sign;
mod smoke;
mod status;
mod submit;

/// The variable that names CLOUD.
const CLOUD_VARIABLE: &str = "CLOUD";

const ABOUT: &str = "\
Executes signed commands that arrive in a git repository, and publishes what became of them.

A command is a JSON document, signed with HMAC-SHA256, that somebody puts into CLOUD/commands/ (CLOUD is the top of a \
git work tree). The bridge checks it, plays it in memory, applies it whole or not at all, files its result, its diff and a \
copy, and publishes each command as one commit.";

const TEACH: &str = "\
Environment:
  CLOUD                          the root; --cloud beats it, it beats the file's `cloud`
  GPT_BRIDGE_HMAC_SECRET         the shared secret, byte for byte; at least 16 bytes
  GPT_BRIDGE_HMAC_SECRET_NEXT    a second accepted secret, while rotating
  GPT_BRIDGE_HMAC_ROTATION_ENDS  RFC 3339 instant from which only NEXT counts; at most 168 h ahead
  GHOST_BRIDGE_CONFIG            the configuration file; --config beats it
  GHOST_BRIDGE__SECTION__KEY     overrides one key, as in GHOST_BRIDGE__PUBLISH__FETCH_SECS=2
  RUST_LOG                       what is logged, as in publisher=debug,info

Exit status:
  0   done, or stopped cleanly
  1   smoke, demo, sign, replay, revert, status, show, audit, dlq or doctor: it did not come out well
  64  the command line is wrong
  70  a bug, or a spent restart budget
  75  another instance holds the lock
  78  the configuration or the surroundings are wrong

Examples:
  ghost-bridge demo                                see it all work, with nothing set up
  ghost-bridge init ~/sync                         make a CLOUD
  CLOUD=~/sync ghost-bridge run                    serve it
  CLOUD=~/sync ghost-bridge smoke                  is it serving?
  ghost-bridge --cloud ~/sync sign --fill --submit task.json
  ghost-bridge replay fix-17                       does the same still come of it?
  ghost-bridge revert fix-17 | ghost-bridge sign --submit
  ghost-bridge show fix-17                         what became of it?
  ghost-bridge audit                               is all that was filed as it was filed?
  ghost-bridge doctor                              is all set up well?";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "ghost-bridge", version, about = ABOUT, after_long_help = TEACH, max_term_width = 100)]
#[command(after_help = "`ghost-bridge --help` tells of the environment, the exit statuses, and examples.")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What every subcommand takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Globals {
    /// The root: the top of the git work tree that carries commands in and results out
    #[arg(long, global = true, value_name = "DIR")]
    cloud: Option<PathBuf>,
    /// The configuration file (bridge.toml); it must lie outside CLOUD
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the log is spelled
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch, verify, execute, file and publish, until SIGINT or SIGTERM
    Run,
    /// Make a CLOUD: its folders, the .gitignore lines, the pre-commit guard, and a repository where there is none
    Init(init::Args),
    /// Sign a command document and print it, or put it into CLOUD/commands/
    Sign(sign::Args),
    /// Send a no-op through the running bridge and time what comes back
    #[command(after_long_help = smoke::TEACH)]
    Smoke,
    /// Plan a filed command once more, and say whether the same diff comes of it
    Replay(replay::Args),
    /// Print a command, still to be signed, that takes a filed one back
    Revert(revert::Args),
    /// Tell how the running bridge is, or what the disk tells where none answers
    Status(status::Args),
    /// Show everything that is known about a command: outcome, times, artifacts, audit line, commit, diff
    Show(show::Args),
    /// Hold the audit log, every artifact and the branch against one another
    Audit(audit::Args),
    /// List, show and requeue the documents that were refused or failed
    Dlq(dlq::Args),
    /// Check secret, configuration, CLOUD, git, remote, clock, disk, kernel and services, each with its remedy
    Doctor(doctor::Args),
    /// Print what a shell needs to complete this command line
    Completions(completions::Args),
    /// Show everything on this machine in a temporary folder, with nothing set up
    Demo(demo::Args),
    /// A stage of the sandbox that checks run in; the bridge starts it by itself
    #[command(name = executor::sandbox::SUBCOMMAND, hide = true)]
    CheckLauncher,
}

/// Reads the command line and does what it says.
///
/// # Errors
/// Whatever goes wrong, as one line and an exit status.
pub fn main(taken: Taken, inherited: Inherited) -> Result<(), Failure> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return print(&error.render().to_string());
        }
        Err(error) => return Err(usage(&error)),
    };
    match cli.command {
        Command::Run => run::run(&cli.globals, taken, inherited),
        Command::Init(args) => init::run(&cli.globals, &args),
        Command::Sign(args) => sign::run(&cli.globals, &args, taken),
        Command::Smoke => smoke::run(&cli.globals, taken),
        Command::Replay(args) => replay::run(&cli.globals, &args, taken),
        Command::Revert(args) => revert::run(&cli.globals, &args),
        Command::Status(args) => status::run(&cli.globals, &args),
        Command::Show(args) => show::run(&cli.globals, &args, taken),
        Command::Audit(args) => audit::run(&cli.globals, &args, taken),
        Command::Dlq(args) => dlq::run(&cli.globals, &args, taken),
        Command::Doctor(args) => doctor::run(&cli.globals, &args, taken),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Demo(args) => demo::run(&args),
        // Nothing before this line has started a thread, and nothing may.
        Command::CheckLauncher => executor::sandbox::main().map_err(|error| {
            Failure::usage(format!("{} is for the bridge's own use: {error}", executor::sandbox::SUBCOMMAND))
        }),
    }
}

/// Clap's complaint as one line: its first paragraph and its tips.
fn usage(error: &clap::Error) -> Failure {
    if matches!(error.kind(), ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) {
        return Failure::usage(
            "which command: run, init, sign, smoke, status, show, audit, dlq, doctor, replay, revert, demo or completions? (try: ghost-bridge --help)",
        );
    }
    let text = error.render().to_string();
    let complaint: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).collect();
    let complaint = one_line(&complaint.join(" "));
    let tips: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("tip:")).collect();
    let complaint = complaint.strip_prefix("error: ").unwrap_or(&complaint);
    let tips = if tips.is_empty() { String::new() } else { format!("; {}", tips.join("; ")) };
    Failure::usage(format!("{complaint}{tips} (try: ghost-bridge --help)"))
}

impl Globals {
    /// How the log is spelled.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// The configuration file: `--config`, else the environment.
    fn config_file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| variable(FILE_VARIABLE))
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// When it is wrong.
    pub fn settings(&self) -> Result<Settings, Failure> {
        Settings::load(self.config_file().as_deref()).map_err(Failure::config)
    }

    /// Whether a configuration file was named.
    #[must_use]
    pub fn names_a_config(&self) -> bool {
        self.config_file().is_some()
    }

    /// Where CLOUD is wished to be: `--cloud`, else the environment, else the configuration.
    #[must_use]
    pub fn wished_cloud(&self, settings: &Settings) -> Option<PathBuf> {
        self.cloud.clone().or_else(|| variable(CLOUD_VARIABLE)).or_else(|| settings.cloud())
    }

    /// The same, where there must be one.
    ///
    /// # Errors
    /// When nothing names it.
    pub fn cloud(&self, settings: &Settings) -> Result<PathBuf, Failure> {
        let missing = "CLOUD is not set; name the git work tree with --cloud DIR or CLOUD=DIR (make one with: ghost-bridge init DIR)";
        self.wished_cloud(settings).filter(|cloud| cloud != Path::new("")).ok_or_else(|| Failure::config(missing))
    }
}

/// The remote that CLOUD is published to; `None` where there is none, or none that a child may be led to.
fn remote_of(settings: &Settings, layout: &Layout) -> Option<String> {
    let config = settings.clone().resolve(layout.cloud()).ok()?;
    publisher::look(&publishing(&config, layout.cloud())).ok()?.destination.map(|found| found.remote)
}

/// A path from the environment; an empty variable counts as one that is not set.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The secrets, checked.
///
/// # Errors
/// When there are none, or they are unfit.
fn secrets(taken: Taken) -> Result<Secrets, Failure> {
    taken.check(chrono::Utc::now()).map_err(Failure::config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_complaint_is_one_line_that_leads_to_the_help() {
        for args in [
            &["ghost-bridge"][..],
            &["ghost-bridge", "rum"],
            &["ghost-bridge", "run", "--clod", "x"],
            &["ghost-bridge", "run", "--log-format", "xml"],
        ] {
            let line = usage(&Cli::try_parse_from(args).unwrap_err()).to_string();
            assert!(line.contains("ghost-bridge --help") && !line.contains('\n') && !line.contains("Usage"), "{line}");
        }
    }
}
