//! `ghost-bridge doctor`: looks at everything that the bridge stands on, and names the remedy for what is not well.

use std::fmt::Write as _;

use chrono::Utc;
use publisher::PublisherConfig;
use serde::Serialize;
use serde_json::json;

use crate::exit::{Failure, one_line, print};
use crate::layout::Layout;
use crate::secrets::{CURRENT, NEXT, Taken};
use crate::service::publishing;

use super::Globals;

mod machine;
mod remote;
mod repository;
mod services;

const TEACH: &str = "\
It looks at the secret, the configuration, CLOUD's folders, git and what its configuration would run, the remote, the guard and .gitignore, the clock, disk \
space, inotify, the kernel's sandbox, whether a bridge runs and what it says of itself (GET /status), and PM2's and systemd's entries for it. It changes nothing in \
CLOUD. A remote is asked for 15 s at most.

Run it as the user and with the environment of the bridge: what it finds holds for those.

Exit status: 0 nothing fails (there may be warnings), 1 something does.

Examples:
  ghost-bridge doctor
  ghost-bridge --cloud ~/sync --config /etc/ghost-bridge/bridge.toml doctor
  ghost-bridge doctor --json | jq '.checks[] | select(.status != \"ok\")'";

/// The command line of `doctor`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = TEACH)]
pub struct Args {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    what: String,
    remedy: Option<String>,
}

/// The lines so far.
#[derive(Debug, Default)]
struct Report(Vec<Check>);

impl Report {
    fn add(&mut self, name: &'static str, status: Status, what: impl Into<String>, remedy: Option<String>) {
        let remedy = remedy.map(|remedy| one_line(&remedy));
        self.0.push(Check { name, status, what: one_line(&what.into()), remedy });
    }

    fn ok(&mut self, name: &'static str, what: impl Into<String>) {
        self.add(name, Status::Ok, what, None);
    }

    fn warn(&mut self, name: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, Status::Warn, what, Some(remedy.into()));
    }

    fn fail(&mut self, name: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, Status::Fail, what, Some(remedy.into()));
    }

    /// A failure of the program's own words, which name the remedy themselves.
    fn says(&mut self, name: &'static str, words: impl std::fmt::Display) {
        self.add(name, Status::Fail, words.to_string(), None);
    }

    fn count(&self, status: Status) -> usize {
        self.0.iter().filter(|check| check.status == status).count()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.0 {
            let status = match check.status {
                Status::Ok => "ok  ",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            let _ = writeln!(text, "{status}  {:<9}  {}", check.name, check.what);
            if let Some(remedy) = &check.remedy {
                let _ = writeln!(text, "{:17}-> {remedy}", "");
            }
        }
        let _ = writeln!(
            text,
            "{} ok, {} to be looked at, {} failed",
            self.count(Status::Ok),
            self.count(Status::Warn),
            self.count(Status::Fail)
        );
        text
    }
}

/// Looks at everything.
///
/// # Errors
/// When something fails.
pub fn run(globals: &Globals, args: &Args, taken: Taken) -> Result<(), Failure> {
    let mut report = Report::default();
    secrets(&mut report, taken);
    match globals.settings() {
        Err(failure) => report.says("config", words(&failure)),
        Ok(settings) => {
            for note in settings.notes() {
                report.warn("config", note, "unset it, or spell it as README.md does");
            }
            let layout = globals.cloud(&settings).and_then(|cloud| Layout::at(&cloud).map_err(Failure::config));
            match layout {
                Err(failure) => report.says("cloud", words(&failure)),
                Ok(layout) => {
                    let publish = settings.publish().clone();
                    let config = match settings.resolve(layout.cloud()) {
                        Ok(config) => {
                            let file = config.file.as_ref().map(|file| file.display().to_string());
                            report.ok("config", file.unwrap_or_else(|| "none given: built-in defaults".to_owned()));
                            Some(config)
                        }
                        Err(error) => {
                            report.says("config", error);
                            None
                        }
                    };
                    let published = match &config {
                        Some(config) => publishing(config, layout.cloud()),
                        None => {
                            PublisherConfig { remote: publish.remote.clone(), ..PublisherConfig::new(layout.cloud()) }
                        }
                    };
                    repository::look(&mut report, &layout, &published);
                    machine::look(&mut report, &layout, config.as_ref().map(|config| &config.checks));
                    services::look(&mut report, &layout, config.as_ref().map(|config| config.http.listen));
                }
            }
        }
    }
    let fails = report.count(Status::Fail);
    print(&if args.json {
        format!(
            "{:#}\n",
            json!({ "ok": fails == 0, "failed": fails, "warned": report.count(Status::Warn), "checks": report.0 })
        )
    } else {
        report.text()
    })?;
    let Some(first) = report.0.iter().find(|check| check.status == Status::Fail) else { return Ok(()) };
    let remedy = first.remedy.as_ref().map_or_else(String::new, |remedy| format!("; {remedy}"));
    let more = if fails > 1 { format!(" (and {} more above)", fails - 1) } else { String::new() };
    Err(Failure::failed(format!("{}: {}{remedy}{more}", first.name, first.what)))
}

/// A failure's words without the program's name.
fn words(failure: &Failure) -> String {
    let text = failure.to_string();
    text.strip_prefix("ghost-bridge: ").map(str::to_owned).unwrap_or(text)
}

fn secrets(report: &mut Report, taken: Taken) {
    let (now, weakness) = (Utc::now(), taken.weakness());
    match taken.check(now) {
        Err(error) => report.says("secret", error),
        Ok(secrets) if secrets.current_is_over(now) => report.warn(
            "secret",
            format!("the rotation is over, and only {NEXT} counts"),
            format!("make it the current one: set {CURRENT} to it, unset {NEXT} and its end, restart the bridge"),
        ),
        Ok(secrets) if !secrets.with_blanks().is_empty() => report.warn(
            "secret",
            format!("{} begins or ends with white space, which is a part of it", secrets.with_blanks().join(" and ")),
            "take it off wherever the secret is set, unless everybody who signs has it so; then restart the bridge",
        ),
        Ok(_) => match weakness {
            Some(why) => report.warn(
                "secret",
                format!("{CURRENT} is weak: {why}"),
                "rotate to a new one from: openssl rand -base64 32",
            ),
            None => report.ok("secret", format!("{CURRENT} is set; give each CLOUD a secret of its own")),
        },
    }
}
