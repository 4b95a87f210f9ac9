//! `ghost-bridge replay`: plans a filed command once more and holds the diff that comes of it against the one on file.

use std::path::Path;

use chrono::Utc;
use executor::config::TargetConfig;
use executor::patch::shown;
use executor::replay::stage::Stage;
use executor::replay::{self, Replanned, ReplayError};
use executor::take_back;
use executor::tree::Tree;
use protocol::command::{Command, Configured};
use protocol::reason::Reason;
use protocol::signing::SecretSlot;

use crate::exit::{Failure, one_line, print};
use crate::secrets::{SecretsError, Taken};

use super::filed::{self, Filed, SystemClock, World};
use super::{Globals, commit_tree};

const TEACH: &str = "\
The command is taken from CLOUD/archive/, or from CLOUD/dead_letter/ where it was refused or failed. It is judged by the \
configuration as it is now and played in memory: nothing is executed, nothing is written to the tree, no program of a \
check is started, and no secret is needed. With GPT_BRIDGE_HMAC_SECRET set it also says whether the signature holds.

Without --on the tree is the one before the command: the target as it is now, with the filed diff undone in memory. That \
works as long as nobody changed the command's files since. A command that was refused is planned on the target as it is.

Exit status: 0 the same comes of it, 1 something else does (it says where the diffs part, or why the command is refused).

Examples:
  ghost-bridge replay fix-17
  ghost-bridge replay fix-17 --on HEAD~3            a commit of the target's repository
  ghost-bridge replay fix-17 --on /tmp/checkout     a folder";

/// The command line of `replay`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = TEACH)]
pub struct Args {
    /// The command's id
    #[arg(value_name = "ID")]
    id: String,
    /// The tree to plan it on: a folder, or else a commit of the target's git repository; without it the tree before
    /// the command
    #[arg(long, value_name = "DIR|COMMIT")]
    on: Option<String>,
}

/// A command and the rules that it is planned by.
struct Task<'w> {
    world: &'w World,
    filed: &'w Filed,
    command: &'w Command,
    config: &'w TargetConfig,
}

/// Replays.
///
/// # Errors
/// When there is no such command, or something else comes of it.
pub fn run(globals: &Globals, args: &Args, taken: Taken) -> Result<(), Failure> {
    let id = filed::id(&args.id)?;
    let world = World::open(globals)?;
    let signature = signature(taken)?;
    let filed = match world.archived(&id)? {
        Some(filed) => filed,
        None => world.dead_letter(&id)?.ok_or_else(|| {
            Failure::failed(format!("no command {id} in archive/ or dead_letter/ of {}", world.cloud.display()))
        })?,
    };
    let mut report = format!("command    {} ({})\n", filed.name, filed.path);
    if let Some((reason, detail)) = &filed.refusal {
        report.push_str(&format!("then       {}: {}\n", one_line(reason), one_line(detail)));
    }
    report.push_str(&format!("signature  {}\n", signature(&filed)));
    let configured = Configured {
        is_target: &|name| world.targets.contains_key(name),
        is_check: &|name| world.config.checks.contains_key(name),
        is_cloud: &|name| world.config.cloud_name.as_deref() == Some(name),
    };
    let outcome = match Command::read(filed.document.object(), &configured) {
        Err(verdict) => Err(ReplayError::Refused { reason: verdict.reason, detail: verdict.detail }),
        Ok(command) => {
            let config = world.targets.get(&command.target).ok_or_else(|| Failure::bug("the target is gone"))?;
            let task = Task { world: &world, filed: &filed, command: &command, config };
            report.push_str(&format!("target     {} ({})\n", command.target, config.root.display()));
            task.replan(args.on.as_deref(), &mut report)?
        }
    };
    let verdict = match &outcome {
        Ok(replanned) => planned(&world, &filed, replanned, &mut report),
        Err(ReplayError::Refused { reason, detail }) => refused(&filed, *reason, detail, &mut report),
        Err(ReplayError::Config(error)) => Err(Failure::config(error)),
        Err(error @ ReplayError::Starved(_)) => Err(Failure::failed(error)),
    };
    print(&report)?;
    verdict
}

impl Task<'_> {
    /// Plans the command on the wanted tree; a line of the report says which that is.
    fn replan(&self, on: Option<&str>, report: &mut String) -> Result<Result<Replanned, ReplayError>, Failure> {
        match on {
            Some(on) if Path::new(on).is_dir() => {
                report.push_str(&format!("tree       {}\n", Path::new(on).display()));
                self.plan(&open(Path::new(on))?)
            }
            Some(on) => {
                let commit = commit_tree::resolve(&self.config.root, on)?;
                report.push_str(&format!("tree       commit {commit}\n"));
                self.staged(|stage| commit_tree::put_up(&self.config.root, &commit, stage))
            }
            None if self.filed.refusal.is_some() => {
                report.push_str("tree       as it is now\n");
                self.plan(&open(&self.config.root)?)
            }
            None => {
                report.push_str("tree       as it is now, with the command's diff undone in memory\n");
                let diff = self.world.diff(self.filed)?;
                let tree = open(&self.config.root)?;
                let undone = take_back::undo(&tree, diff.bytes, &self.world.hashes(self.filed)?).map_err(|error| {
                    Failure::failed(format!(
                        "{}: {error}; the tree before the command cannot be had from the one as it is now: name one with \
                         --on DIR or --on COMMIT",
                        diff.path
                    ))
                })?;
                self.staged(|stage| stage.put_back(&tree, &undone).map_err(Failure::failed))
            }
        }
    }

    fn staged(
        &self,
        put_up: impl FnOnce(&Stage) -> Result<(), Failure>,
    ) -> Result<Result<Replanned, ReplayError>, Failure> {
        let paths = match replay::paths(&self.command.target, self.config, &self.world.config.checks, self.command) {
            Ok(paths) => paths,
            Err(error) => return Ok(Err(error)),
        };
        let stage = Stage::new(&paths)
            .map_err(|error| Failure::failed(format!("cannot make a temporary folder: {error}; see to TMPDIR")))?;
        put_up(&stage)?;
        self.plan(&open(stage.path())?)
    }

    fn plan(&self, tree: &Tree) -> Result<Result<Replanned, ReplayError>, Failure> {
        let (name, checks) = (&self.command.target, &self.world.config.checks);
        Ok(replay::replan(name, self.config, checks, self.command, tree, &SystemClock))
    }
}

fn open(root: &Path) -> Result<Tree, Failure> {
    Tree::open(root).map_err(|error| Failure::config(format!("{error}; give a folder that can be read")))
}

/// What can be said of a document's signature.
fn signature(taken: Taken) -> Result<impl Fn(&Filed) -> &'static str, Failure> {
    let now = Utc::now();
    let keyring = match taken.check(now) {
        Ok(secrets) => Some(secrets.keyring()),
        Err(SecretsError::Missing) => None,
        Err(error) => return Err(Failure::config(error)),
    };
    Ok(move |filed: &Filed| match &keyring {
        None => "not checked: no secret is set",
        Some(keyring) => match filed.document.clone().authenticate(keyring, now) {
            Ok(authentic) => match authentic.verified_by() {
                SecretSlot::Current => "holds, by the current secret",
                SecretSlot::Next => "holds, by the next secret",
            },
            Err(_) => "DOES NOT HOLD by any secret that is set here (was it rotated since?)",
        },
    })
}

/// Holds a plan against what is on file.
fn planned(world: &World, filed: &Filed, replanned: &Replanned, report: &mut String) -> Result<(), Failure> {
    let plan = &replanned.plan;
    report.push_str(&format!("plan       {} files, {} bytes written\n", plan.files_changed, plan.bytes_written));
    for name in &replanned.programs {
        report.push_str(&format!("not run    the check {name:?}: a replay starts no program\n"));
    }
    if let Some((reason, _)) = &filed.refusal {
        report.push_str("different  the bridge would execute it now\n");
        let (name, reason) = (&filed.name, one_line(reason));
        return Err(Failure::failed(format!(
            "{name} ended as {reason}, and nothing speaks against its plan on this tree; whether its signature and its time \
             are good is not judged here"
        )));
    }
    let diff = world.diff(filed)?;
    if diff.bytes == plan.diff {
        report.push_str(&format!("same       byte for byte {} ({} bytes)\n", diff.path, diff.bytes.len()));
        return Ok(());
    }
    let Difference { line, file, then, now } = first_difference(&diff.bytes, &plan.diff);
    report.push_str(&format!(
        "different  from {} at line {line}{file}\n  then     {then}\n  now      {now}\n",
        diff.path
    ));
    Err(Failure::failed(format!("{} comes to another diff on this tree, from line {line} on", filed.name)))
}

/// Holds a refusal against what is on file.
fn refused(filed: &Filed, reason: Reason, detail: &str, report: &mut String) -> Result<(), Failure> {
    let detail = one_line(detail);
    report.push_str(&format!("now        {reason}: {detail}\n"));
    if filed.refusal.as_ref().is_some_and(|(then, _)| then == reason.as_str()) {
        report.push_str("same       it is refused again, for the same reason\n");
        return Ok(());
    }
    report.push_str("different  the bridge would not execute it on this tree\n");
    Err(Failure::failed(format!("{} would end as {reason} on this tree: {detail}", filed.name)))
}

/// Where two diffs part.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    /// The number of the first line that is not the same, from 1.
    line: usize,
    /// The header of the file that it belongs to, after a comma; nothing where both have none.
    file: String,
    /// How the one has the line,
    then: String,
    /// and how the other.
    now: String,
}

fn first_difference(then: &[u8], now: &[u8]) -> Difference {
    let lines = |bytes: &[u8]| bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (then, now) = (lines(then), lines(now));
    let same = then.iter().zip(&now).take_while(|(one, other)| one == other).count();
    let header = then.iter().take(same).rfind(|line| line.starts_with(b"diff --git "));
    let tell = |lines: &[Vec<u8>]| lines.get(same).map_or_else(|| "(the diff ends)".to_owned(), |line| shown(line));
    let file = header.map_or_else(String::new, |line| format!(", in {}", shown(line)));
    Difference { line: same + 1, file, then: tell(&then), now: tell(&now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_told() {
        let cases = [
            ("diff --git a/x b/x\nb\n", "diff --git a/x b/x\ny\n", 2, ", in \"diff --git a/x b/x\"", "\"b\"", "\"y\""),
            ("a\n", "a\nb\n", 2, "", "(the diff ends)", "\"b\""),
            ("", "a\n", 1, "", "(the diff ends)", "\"a\""),
        ];
        for (one, other, line, file, then, now) in cases {
            let (file, then, now) = (file.to_owned(), then.to_owned(), now.to_owned());
            let wanted = Difference { line, file, then, now };
            assert_eq!(first_difference(one.as_bytes(), other.as_bytes()), wanted);
        }
    }
}
