//! `ghost-bridge init`: makes a CLOUD out of a folder, again and again without harm.
//!
//! It never overwrites a file that it did not write, and looks at everything before it makes anything.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use publisher::PublisherConfig;
use publisher::destination::{Destination, Look};

use crate::exit::{Failure, one_line, print};
use crate::git::{self, GitError};
use crate::layout::{Layout, RETRIES};
use crate::service::publishing;

use super::Globals;
use super::guard::{self, Guard};

/// What git is to leave alone.
const IGNORED: [&str; 3] = ["commands/.retries.json", ".bridge.lock", "meta/journal/"];
/// The branch of a repository that is made here.
const BRANCH: &str = "main";
/// The largest `.gitignore` that is read, in bytes.
const MAX_IGNORE_BYTES: u64 = 1024 * 1024;

/// The command line of `init`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The folder; without it, CLOUD as for the other commands
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Where the folder stands with git.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repository {
    /// It is the top of a work tree.
    Here,
    /// It is in none.
    None,
}

/// Makes a CLOUD.
///
/// # Errors
/// When no folder is named, it lies in another repository, a place is taken, or it cannot be written.
pub fn run(globals: &Globals, args: &Args) -> Result<(), Failure> {
    let wished = match &args.dir {
        Some(dir) => dir.clone(),
        None => {
            let settings = globals.settings()?;
            let missing = "which folder? name it: ghost-bridge init DIR (or --cloud DIR, or CLOUD=DIR)";
            globals.wished_cloud(&settings).ok_or_else(|| Failure::usage(missing))?
        }
    };
    let repository = look(&wished)?;
    fs::create_dir_all(&wished).map_err(|error| unwritable(&wished, &error))?;
    let layout = Layout::at(&wished).map_err(Failure::config)?;
    layout.require_fit().map_err(Failure::config)?;
    let ignored = Ignore::look(&layout.at_path(".gitignore"))?;
    let mut report = String::new();
    match repository {
        Repository::Here => drop(publisher::format_check(layout.cloud()).map_err(Failure::config)?),
        Repository::None => {
            make_repository(&layout)?;
            let _ = writeln!(report, "  made   a git repository, branch {BRANCH}");
        }
    }
    let made = layout.make_folders().map_err(Failure::config)?;
    if !made.is_empty() {
        let _ = writeln!(report, "  made   {}/", made.join("/, "));
    }
    if make_retries(&layout.at_path(RETRIES))? {
        let _ = writeln!(report, "  made   {RETRIES}");
    }
    if !ignored.missing.is_empty() {
        ignored.append()?;
        let _ = writeln!(report, "  added  to .gitignore: {}", ignored.missing.join(", "));
    }
    report_guard(&layout, &mut report)?;
    mind(globals, &layout, &mut report);
    if report.is_empty() {
        report.push_str("  nothing to do: all is there\n");
    }
    let cloud = layout.cloud().display();
    print(&format!("CLOUD {cloud}\n{report}{}", next_steps(&layout)))
}

/// Makes a repository that the bridge can publish to, whatever git makes by default here: an operator's template may
/// hold a HEAD, hooks and a configuration. By what objects are named is left to git, for a remote that is made here is
/// like it.
fn make_repository(layout: &Layout) -> Result<(), Failure> {
    let branch = format!("--initial-branch={BRANCH}");
    git::ask(layout.cloud(), &["init", "--quiet", "--template=", &branch]).map_err(Failure::config)?;
    publisher::format_check(layout.cloud()).map_err(Failure::config).map(drop)
}

/// The lines that the `.gitignore` of CLOUD lacks.
///
/// # Errors
/// When there is something else in its place, or it cannot be read.
pub fn missing_ignores(layout: &Layout) -> Result<Vec<&'static str>, Failure> {
    Ok(Ignore::look(&layout.at_path(".gitignore"))?.missing)
}

/// Finds out, without making anything, whether the folder may become a CLOUD.
fn look(wished: &Path) -> Result<Repository, Failure> {
    // Of a folder that is not there yet, the nearest one above tells.
    let absolute = std::path::absolute(wished).map_err(Failure::config)?;
    let nearest = absolute.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("/"));
    let shown = wished.display();
    if absolute.exists() && !absolute.is_dir() {
        return Err(Failure::config(format!("{shown} is no folder; name a folder, or a place where one can be made")));
    }
    match git::ask(nearest, &["rev-parse", "--show-toplevel"]) {
        Ok(top) => {
            let same =
                |a: &Path, b: &Path| a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b);
            if nearest == absolute && same(&absolute, Path::new(&top)) {
                return Ok(Repository::Here);
            }
            Err(Failure::config(format!(
                "{shown} lies inside the git work tree {top}; CLOUD must be the top of a work tree of its own: choose a folder outside"
            )))
        }
        Err(GitError::Failed { what, words }) if words.contains("safe.directory") => {
            Err(Failure::config(GitError::Failed { what, words }))
        }
        Err(GitError::Failed { .. }) => match git::ask(nearest, &["rev-parse", "--is-inside-git-dir"]) {
            Ok(answer) if answer == "true" => Err(Failure::config(format!(
                "{shown} lies inside a git repository's own files; choose a folder outside, or clone that repository and give the clone"
            ))),
            _ => Ok(Repository::None),
        },
        Err(other) => Err(Failure::config(other)),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::config(format!("cannot write {}: {error}; see to its permissions and free space", path.display()))
}

/// Makes the retries index unless something is there.
fn make_retries(path: &Path) -> Result<bool, Failure> {
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Ok(mut file) => match file.write_all(b"{}").and_then(|()| file.sync_all()) {
            Ok(()) => Ok(true),
            Err(error) => {
                // Made just now, and good for nothing.
                let _ = fs::remove_file(path);
                Err(unwritable(path, &error))
            }
        },
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(unwritable(path, &error)),
    }
}

/// A `.gitignore` and the lines that it lacks.
#[derive(Debug)]
struct Ignore {
    path: PathBuf,
    missing: Vec<&'static str>,
    text: String,
}

impl Ignore {
    fn look(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unwritable(path, &error)),
            Ok(metadata) if !metadata.is_file() || metadata.len() > MAX_IGNORE_BYTES => {
                return Err(Failure::config(format!(
                    "{shown} is no regular file of a sensible size, so nothing is added to it; move it away"
                )));
            }
            // Only compared with ASCII lines, so a byte that is no UTF-8 does not matter.
            Ok(_) => String::from_utf8_lossy(&fs::read(path).map_err(|error| unwritable(path, &error))?).into_owned(),
        };
        let has = |wanted: &&str| text.lines().any(|line| line.trim_end() == *wanted);
        let missing = IGNORED.into_iter().filter(|line| !has(line)).collect();
        Ok(Self { path: path.to_owned(), missing, text })
    }

    /// Appends the missing lines, in one write and in the file's own kind of line break.
    fn append(&self) -> Result<(), Failure> {
        let end = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut addition = String::new();
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            addition.push_str(end);
        }
        for line in &self.missing {
            addition.push_str(line);
            addition.push_str(end);
        }
        let append = |mut file: File| file.write_all(addition.as_bytes()).and_then(|()| file.sync_all());
        let opened = OpenOptions::new().append(true).create(true).mode(0o644).open(&self.path);
        opened.and_then(append).map_err(|error| unwritable(&self.path, &error))
    }
}

fn report_guard(layout: &Layout, report: &mut String) -> Result<(), Failure> {
    let installed = guard::install(layout.cloud());
    let note = match installed.map_err(|error| {
        Failure::config(format!(
            "cannot install the pre-commit guard: {error}; see to the permissions of the hooks folder"
        ))
    })? {
        Guard::Kept(_) => return Ok(()),
        Guard::Written(hook) => format!("  made   the pre-commit guard {}", hook.display()),
        Guard::Foreign(hook) => {
            format!("  kept   your own hook {} (so there is no guard; it is optional)", hook.display())
        }
        Guard::Shared(hook) => format!(
            "  kept   {} as it is: core.hooksPath serves other repositories too (the guard is optional)",
            hook.display()
        ),
    };
    report.push_str(&note);
    report.push('\n');
    Ok(())
}

/// What the bridge's start would refuse, and what is published nowhere.
fn mind(globals: &Globals, layout: &Layout, report: &mut String) {
    let config = globals.settings().ok().and_then(|settings| settings.resolve(layout.cloud()).ok());
    let config =
        config.map_or_else(|| PublisherConfig::new(layout.cloud()), |config| publishing(&config, layout.cloud()));
    let said = match publisher::look(&config) {
        Err(error) => error.to_string(),
        Ok(Look { destination: Some(Destination { remote, mirror: true, .. }), .. }) => {
            format!("{remote} is a mirror; the bridge pushes its branch alone")
        }
        Ok(Look { settings, .. }) if !config.hooks && settings.get("core", None, "hookspath").is_some() => {
            "core.hooksPath is set; the bridge runs no hooks unless publish.hooks is true".to_owned()
        }
        Ok(_) => return,
    };
    let _ = writeln!(report, "  mind   {}", one_line(&said));
}

/// What a person does next; what is done already is left out.
fn next_steps(layout: &Layout) -> String {
    let cloud = layout.cloud().display();
    let asked = |args: &[&str]| git::ask(layout.cloud(), args).unwrap_or_default();
    let mut steps = Vec::new();
    // Asked of the object itself: `git status` would run the filters that the repository's configuration names.
    let committed = git::read(layout.cloud(), &["cat-file", "blob", "HEAD:.gitignore"], Vec::new(), MAX_IGNORE_BYTES);
    if committed.ok() != fs::read(layout.at_path(".gitignore")).ok() {
        steps
            .push(format!("git -C {cloud} add .gitignore meta && git -C {cloud} commit -m 'a CLOUD for ghost-bridge'"));
    }
    if asked(&["remote"]).is_empty() {
        steps.push(format!("git -C {cloud} remote add origin URL     (without a remote, commits stay local)"));
    }
    steps.push("export GPT_BRIDGE_HMAC_SECRET=...         (a new one: openssl rand -base64 32)".to_owned());
    steps.push(format!("ghost-bridge --cloud {cloud} run"));
    steps.push(format!("ghost-bridge --cloud {cloud} smoke        (in another terminal)"));
    format!("\nNext:\n  {}\n", steps.join("\n  "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_missing_lines_are_added_and_the_rest_stays() {
        let guard = tempfile::tempdir().unwrap();
        let path = guard.path().join(".gitignore");
        for (before, after) in [
            (None, "commands/.retries.json\n.bridge.lock\nmeta/journal/\n"),
            (Some("target"), "target\ncommands/.retries.json\n.bridge.lock\nmeta/journal/\n"),
            (Some("a\r\n.bridge.lock\r\n"), "a\r\n.bridge.lock\r\ncommands/.retries.json\r\nmeta/journal/\r\n"),
        ] {
            let _ = fs::remove_file(&path);
            if let Some(before) = before {
                fs::write(&path, before).unwrap();
            }
            Ignore::look(&path).unwrap().append().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
            assert!(Ignore::look(&path).unwrap().missing.is_empty());
        }
    }

    #[test]
    fn a_gitignore_that_is_a_link_is_not_written_through() {
        let guard = tempfile::tempdir().unwrap();
        fs::write(guard.path().join("other"), "").unwrap();
        std::os::unix::fs::symlink("other", guard.path().join(".gitignore")).unwrap();
        assert!(Ignore::look(&guard.path().join(".gitignore")).is_err());
    }

    #[test]
    fn a_folder_in_another_repository_is_refused_before_anything_is_made() {
        let guard = tempfile::tempdir().unwrap();
        let top = guard.path().canonicalize().unwrap();
        assert_eq!(look(&top.join("a/b")).unwrap(), Repository::None);
        git::ask(&top, &["init", "--quiet"]).unwrap();
        assert_eq!(look(&top).unwrap(), Repository::Here);
        for inside in ["a", "a/b", ".git", ".git/hooks"] {
            let line = look(&top.join(inside)).unwrap_err().to_string();
            assert!(line.contains("lies inside") && line.contains("choose a folder outside"), "{line}");
        }
        assert!(!top.join("a").exists());
    }

    #[test]
    fn a_retries_index_that_is_there_stays() {
        let guard = tempfile::tempdir().unwrap();
        let path = guard.path().join("retries.json");
        assert!(make_retries(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        fs::write(&path, "mine").unwrap();
        assert!(!make_retries(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
