//! CLOUD's folders and its repository.

use std::fs;
use std::io;

use rustix::fs::{Access, access};

use publisher::PublisherConfig;

use crate::git;
use crate::layout::{FOLDERS, Layout};

use super::Report;
use super::remote;
use crate::cli::{guard, init};

/// The oldest git that will do.
const VERSION_FLOOR: (u32, u32) = (2, 30);
/// What git leaves in its folder while something is half done, and what that is.
const HALF_DONE: [(&str, &str); 5] = [
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("index.lock", "another git process, or one that was killed"),
];

/// Looks at all of them.
pub fn look(report: &mut Report, layout: &Layout, config: &PublisherConfig) {
    folders(report, layout);
    version(report, layout);
    match publisher::is_damaged(&publisher::PublisherConfig::new(layout.cloud())) {
        Ok(false) => {}
        Ok(true) => {
            report.warn("git", "a file in .git is damaged", "the bridge's next start mends it, and says what it was")
        }
        Err(error) => return report.says("git", error),
    }
    if let Err(error) = layout.require_work_tree() {
        return report.says("git", error);
    }
    match publisher::format_check(layout.cloud()) {
        Ok(format) => report.ok("format", format),
        Err(error) => report.says("format", error),
    }
    branch(report, layout);
    report.ok("identity", format!("commits are by {} <{}>", config.author_name, config.author_email));
    remote::look(report, layout, config);
    apart(report, layout);
    guards(report, layout);
}

fn folders(report: &mut Report, layout: &Layout) {
    let init = || format!("ghost-bridge init {}", layout.cloud().display());
    let (mut missing, before) = (Vec::new(), report.0.len());
    for folder in FOLDERS {
        let path = layout.at_path(folder);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                if let Err(error) = access(&path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
                    let remedy = "give the bridge's user read and write permission there";
                    report.fail("cloud", format!("{folder}/: {}", io::Error::from(error)), remedy);
                }
            }
            Ok(_) => {
                report.fail("cloud", format!("{folder} is no real folder"), format!("move it away, then: {}", init()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(folder),
            Err(error) => report.fail("cloud", format!("{folder}: {error}"), "see to its permissions"),
        }
    }
    if !missing.is_empty() {
        report.warn(
            "cloud",
            format!("there is no {}", missing.join(", ")),
            format!("{} (or the bridge's start makes them)", init()),
        );
    }
    if report.0.len() == before {
        report.ok("cloud", format!("{}, with all its folders", layout.cloud().display()));
    }
}

fn version(report: &mut Report, layout: &Layout) {
    let install = format!("install git {}.{} or newer", VERSION_FLOOR.0, VERSION_FLOOR.1);
    match git::ask(layout.cloud(), &["--version"]) {
        Err(error) => report.fail("git", error.to_string(), install),
        Ok(text) => match parse_version(&text) {
            Some(version) if version >= VERSION_FLOOR => report.ok("git", text),
            _ => report.fail("git", format!("{text} is too old"), install),
        },
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split(['.', ' ', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn branch(report: &mut Report, layout: &Layout) {
    let ask = |args: &[&str]| git::ask(layout.cloud(), args);
    let is_there = |name: &str| {
        let path = ask(&["rev-parse", "--git-path", name]);
        path.is_ok_and(|path| layout.cloud().join(path).symlink_metadata().is_ok())
    };
    match ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]) {
        Ok(branch) => report.ok("branch", format!("{branch} is checked out")),
        // By a rebase, which the bridge's start gives up: told of below.
        Err(_) if ["rebase-merge/head-name", "rebase-apply/head-name"].iter().any(|name| is_there(name)) => {}
        Err(_) => report.fail("branch", "HEAD is detached", "check out the branch to be published: git switch BRANCH"),
    }
    for (name, what) in HALF_DONE {
        if is_there(name) {
            report.warn(
                "branch",
                format!(".git has {name}: {what}"),
                "finish or abort it; the bridge's start clears what a crash left",
            );
        }
    }
}

/// Files that upstream changed and that were changed here, too.
fn apart(report: &mut Report, layout: &Layout) {
    const NAMED: usize = 3;
    let files = publisher::apart(layout.cloud());
    let Some(first) = files.first() else { return };
    let named: Vec<String> = files.iter().take(NAMED).map(|path| format!("{path:?}")).collect();
    let more = files.len().checked_sub(named.len()).filter(|more| *more > 0).map(|more| format!(" and {more} more"));
    report.warn(
        "apart",
        format!("changed upstream and here, and left as here: {}{}", named.join(", "), more.unwrap_or_default()),
        format!(
            "take the branch's: git -C {} checkout HEAD -- {first:?}; or commit and push what is here",
            layout.cloud().display()
        ),
    );
}

fn guards(report: &mut Report, layout: &Layout) {
    let init = format!("ghost-bridge init {}", layout.cloud().display());
    match guard::is_installed(layout.cloud()) {
        Ok(true) => report.ok("guard", "the pre-commit guard is installed"),
        Ok(false) => {
            report.warn("guard", "the pre-commit guard is not installed, or another hook is there", init.clone())
        }
        Err(error) => report.warn("guard", format!("the hooks cannot be read: {error}"), init.clone()),
    }
    match init::missing_ignores(layout) {
        Ok(missing) if missing.is_empty() => report.ok("gitignore", "the bridge's own state is ignored"),
        Ok(missing) => report.warn("gitignore", format!(".gitignore lacks {}", missing.join(", ")), init),
        Err(failure) => report.says("gitignore", super::words(&failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(parse_version("git version 2.30-rc1"), Some((2, 30)));
        assert_eq!(parse_version("nonsense"), None);
    }
}
