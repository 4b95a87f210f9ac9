//! CLOUD's folders, its repository and its remote.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::fs::{Access, access};

use crate::config::Publish;
use crate::git::{self, GitError};
use crate::layout::{FOLDERS, Layout};

use super::Report;
use crate::cli::{guard, init};

/// The longest that a remote is asked.
const REMOTE_LIMIT: Duration = Duration::from_secs(15);
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
pub fn look(report: &mut Report, layout: &Layout, publish: &Publish) {
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
    report.ok("identity", format!("commits are by {} <{}>", publish.author_name, publish.author_email));
    remote(report, layout, &publish.remote);
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

fn remote(report: &mut Report, layout: &Layout, remote: &str) {
    let cloud = layout.cloud();
    let Ok(url) = git::ask(cloud, &["remote", "get-url", remote]) else {
        let remedy = format!("git -C {} remote add {remote} URL", cloud.display());
        return report.warn("remote", format!("there is no remote {remote:?}: commits stay local"), remedy);
    };
    let shown = without_credentials(&url);
    if shown != url {
        report.warn(
            "remote",
            format!("the URL of {remote} holds a password"),
            "use a credential helper or a deploy key; run checks can read .git",
        );
    }
    let asked = git::ask_within(cloud, &["-c", "core.askPass=true", "ls-remote", "--heads", remote], REMOTE_LIMIT);
    match asked {
        Ok(heads) => report.ok("remote", format!("{shown} answers, with {} branches", heads.lines().count())),
        Err(error) => {
            let words = match error {
                GitError::Failed { words, .. } => words.replace(&url, &shown),
                other => other.to_string(),
            };
            report.fail(
                "remote",
                format!("{shown} cannot be read: {words}"),
                format!("try: git -C {} fetch {remote}", cloud.display()),
            );
        }
    }
    unpushed(report, layout, remote);
}

fn unpushed(report: &mut Report, layout: &Layout, remote: &str) {
    let ask = |args: &[&str]| git::ask(layout.cloud(), args);
    let Ok(branch) = ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]) else { return };
    let range = format!("refs/remotes/{remote}/{branch}..HEAD");
    let Some(count) = ask(&["rev-list", "--count", &range, "--"]).ok().and_then(|count| count.parse::<u64>().ok())
    else {
        return;
    };
    match count {
        0 => report.ok("pushed", format!("{remote} has every commit, as last seen")),
        count => report.warn(
            "pushed",
            format!("{count} commits are not pushed"),
            "a running bridge pushes them; its log says what holds it up",
        ),
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

/// A URL without user and password.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let Some((user, host)) = host.rsplit_once('@').filter(|(user, _)| user.contains(':') || scheme.starts_with("http"))
    else {
        return url.to_owned();
    };
    let _ = user;
    path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
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
    fn no_password_is_shown() {
        for (url, shown) in [
            ("https://user:pass@host/x.git", "https://host/x.git"),
            ("https://token@host/x@y.git", "https://host/x@y.git"),
            ("ssh://git@host/x.git", "ssh://git@host/x.git"),
            ("git@host:x.git", "git@host:x.git"),
            ("/srv/x.git", "/srv/x.git"),
            ("https://host", "https://host"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(parse_version("git version 2.30-rc1"), Some((2, 30)));
        assert_eq!(parse_version("nonsense"), None);
    }
}
