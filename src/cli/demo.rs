//! `ghost-bridge demo`: the whole bridge on one machine, with no set-up, in a temporary folder.
//!
//! A bare repository plays the remote, this very program plays the service, and a handful of commands, good and bad, are
//! put into `commands/` one after the other. What became of each is read back from the files, as any reader would.

mod scenes;
mod stage;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use crate::exit::{Failure, print};

use scenes::{Scene, scenes};
use stage::{Seen, Stage};

/// The command line of `demo`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Leave the bridge running until Ctrl-C, to try commands of your own
    #[arg(long)]
    pub keep: bool,
}

/// Runs the demonstration.
///
/// # Errors
/// When git is missing, the service does not start, or anything came out other than it should.
pub fn run(args: &Args) -> Result<(), Failure> {
    let paint = Paint::detect();
    print(&format!("{}\n\n", paint.bold("ghost-bridge demo: signed commands in, file changes and git commits out")))?;
    step("making a CLOUD and a bare remote in a temporary folder")?;
    let mut stage = Stage::set_up()?;
    step(&format!("starting the bridge (its log: {})", stage.log().display()))?;
    stage.start()?;
    let mut rows = Vec::new();
    let scenes = scenes(stage.keyring())?;
    for (number, scene) in scenes.iter().enumerate() {
        step(&format!("{}/{} {}", number + 1, scenes.len(), scene.title))?;
        let seen = stage.play(scene)?;
        rows.push((scene, seen));
    }
    step("waiting until every commit is in the remote")?;
    let filed = scenes.iter().filter(|scene| scene.commits()).count();
    let commits = stage.pushed_commits(filed)?;
    print(&table(&rows, paint))?;
    print(&story(&stage, &commits, paint)?)?;
    let wrong = rows.iter().filter(|(scene, seen)| !scene.is_as_expected(seen)).count();
    if args.keep {
        print(&format!(
            "\nThe bridge goes on; put commands into {}/commands. Ctrl-C ends it.\n",
            stage.cloud().display()
        ))?;
        stage.linger()?;
    } else {
        stage.stop()?;
        print(
            "\nThe bridge is stopped; the temporary folder stays, remove it when you have seen enough.\nNext: `ghost-bridge demo --keep` leaves the bridge running, `ghost-bridge --help` tells how to set up your own.\n",
        )?;
    }
    match wrong {
        0 => Ok(()),
        wrong => Err(Failure::failed(format!(
            "{wrong} of the commands did not end as they should; look into {}",
            stage.log().display()
        ))),
    }
}

fn step(text: &str) -> Result<(), Failure> {
    print(&format!("  … {text}\n"))
}

/// One line a command, in columns.
fn table(rows: &[(&Scene, Seen)], paint: Paint) -> String {
    let width = rows.iter().map(|(scene, _)| scene.title.chars().count()).max().unwrap_or(0);
    let reasons = rows.iter().filter_map(|(_, seen)| seen.reason.as_ref().map(String::len)).max().unwrap_or(6);
    let mut text = format!(
        "\n{}\n",
        paint.bold(&format!(
            "     {:<width$}  {:<8}  {:<reasons$}  {:>8}  artifacts",
            "what was sent", "outcome", "reason", "filed in"
        ))
    );
    for (number, (scene, seen)) in rows.iter().enumerate() {
        let outcome = format!("{:<8}", seen.outcome);
        let outcome = match seen.outcome {
            "ok" => paint.green(&outcome),
            "failed" | "rejected" => paint.yellow(&outcome),
            _ => outcome,
        };
        let mark = if scene.is_as_expected(seen) { paint.green("✓") } else { paint.red("✗") };
        let reason = seen.reason.as_deref().unwrap_or(if seen.outcome == "quiet" { "filed before" } else { "" });
        let _ = writeln!(
            text,
            "{mark} {:>2}  {:<width$}  {outcome}  {reason:<reasons$}  {:>8}  {}",
            number + 1,
            scene.title,
            milliseconds(seen.filed_after),
            seen.artifacts.join(" "),
        );
    }
    text.push_str("\nWhy the bridge said no, as its dead letters tell the author:\n");
    for (number, (_, seen)) in rows.iter().enumerate() {
        if let Some(detail) = &seen.detail {
            let _ = writeln!(text, "{:>4}  {}", number + 1, wrap(detail, 88, "      "));
        }
    }
    text
}

/// The diff of one command, the commits, and where to look.
fn story(stage: &Stage, commits: &[String], paint: Paint) -> Result<String, Failure> {
    let mut text = format!(
        "\n{}\n",
        paint.bold("The published diff of the replaced text (git apply takes it, and takes it back with -R)")
    );
    for line in stage.read(&format!("diffs/{}.patch", scenes::REPLACE_ID))?.lines() {
        let line = match line.as_bytes().first() {
            Some(b'+') => paint.green(line),
            Some(b'-') => paint.red(line),
            _ => line.to_owned(),
        };
        let _ = writeln!(text, "    {line}");
    }
    let _ = writeln!(text, "\n{}", paint.bold("The remote's history, newest first: one commit for each command"));
    for commit in commits {
        let _ = writeln!(text, "    {commit}");
    }
    let _ = writeln!(text, "\n{}", paint.bold("Where to look"));
    for (what, path) in [
        ("CLOUD", stage.cloud().to_path_buf()),
        ("the remote", stage.remote().to_path_buf()),
        ("outcomes", stage.cloud().join("results")),
        ("rejections", stage.cloud().join("dead_letter")),
        ("audit log", stage.cloud().join("logs/bridge.log")),
        ("the bridge's own log", stage.log().to_path_buf()),
    ] {
        let _ = writeln!(text, "    {what:<21} {}", path.display());
    }
    Ok(text)
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// `text` broken at spaces into lines of at most `width` characters; all but the first begin with `indent`.
fn wrap(text: &str, width: usize, indent: &str) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            out.push_str(indent);
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// Colour, where somebody sees it and did not ask for none (<https://no-color.org>).
#[derive(Clone, Copy, Debug)]
struct Paint(bool);

impl Paint {
    fn detect() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    fn red(self, text: &str) -> String {
        self.with("31", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_details_are_broken_at_spaces() {
        assert_eq!(wrap("one two three", 7, "> "), "one two\n> three");
        assert_eq!(wrap("short", 80, ""), "short");
        assert_eq!(wrap("unbreakable", 3, "> "), "unbreakable");
    }
}
