//! Whither commits go, and what git's configuration would run on the way.

use std::io;
use std::path::Path;
use std::time::Duration;

use publisher::destination::{Destination, Look};
use publisher::git::words::needs_a_person;
use publisher::{OpenError, PublisherConfig};
use rustix::fs::{Access, access};

use crate::git::{self, GitError};
use crate::layout::Layout;

use super::Report;

/// The longest that a remote is asked.
const REMOTE_LIMIT: Duration = Duration::from_secs(15);
/// How a repository with a work tree may be set up to take a push to the branch that it has checked out.
const TAKES_CURRENT: [&str; 3] = ["ignore", "warn", "updateinstead"];

/// Looks at the configuration, and then at the remote.
pub fn look(report: &mut Report, layout: &Layout, config: &PublisherConfig) {
    let found = match publisher::look(config) {
        Ok(found) => found,
        // Told of already.
        Err(OpenError::Detached { .. } | OpenError::Format { .. }) => return,
        Err(error @ OpenError::Danger { .. }) => return report.says("programs", error),
        Err(error @ (OpenError::ManyRemotes { .. } | OpenError::NoSuchRemote { .. })) => {
            return report.says("remote", error);
        }
        Err(error) => return report.says("git", error),
    };
    report.ok("programs", "git's configuration runs nothing that lies in CLOUD or a target");
    hooks(report, layout, config, &found);
    let Some(destination) = &found.destination else {
        let remedy = format!("git -C {} remote add origin URL", layout.cloud().display());
        return report.warn("remote", "there is no remote: commits stay local", remedy);
    };
    if let Some(branch) = &found.branch {
        follows(report, &found, destination, branch);
        receiver(report, layout, destination, branch);
    }
    answers(report, layout, destination);
    unpushed(report, layout, &destination.remote);
}

fn hooks(report: &mut Report, layout: &Layout, config: &PublisherConfig, found: &Look) {
    let ask = |what: &str| git::ask_with_hooks(layout.cloud(), &["rev-parse", "--git-path", what]);
    let Ok(folder) = ask("hooks").map(|folder| layout.cloud().join(folder)) else { return };
    let lies_inside = folder.canonicalize().is_ok_and(|real| real.starts_with(layout.cloud()));
    let has_own = found.settings.get("core", None, "hookspath").is_some();
    let pushes = access(folder.join("pre-push"), Access::EXEC_OK).is_ok();
    match (config.hooks, pushes) {
        (true, true) => report.ok("hooks", format!("pre-push of {} runs before each push", folder.display())),
        (true, false) => report.ok("hooks", format!("they run from {}, where no pre-push is", folder.display())),
        (false, _) if has_own && lies_inside => report.warn(
            "hooks",
            format!("{} lies in CLOUD: the bridge runs no hook from there, your own git does", folder.display()),
            "whoever can push, and every command, can change them: git config --unset-all core.hooksPath",
        ),
        (false, true) => report.warn(
            "hooks",
            format!("pre-push of {} is not run", folder.display()),
            "set publish.hooks = true if the bridge's pushes are to run it",
        ),
        (false, false) => report.ok("hooks", "the bridge's git runs none"),
    }
}

/// Whether the branch is set up as the bridge publishes it.
fn follows(report: &mut Report, found: &Look, destination: &Destination, branch: &str) {
    let Destination { remote, mirror, .. } = destination;
    if *mirror {
        report.warn(
            "remote",
            format!("{remote} is a mirror: the bridge pushes its branch alone, and your own git everything"),
            format!("git config --unset-all remote.{remote}.mirror"),
        );
    }
    let merge =
        found.settings.get("branch", Some(branch), "merge").filter(|merge| *merge != format!("refs/heads/{branch}"));
    if let Some(merge) = merge {
        report.warn(
            "branch",
            format!("{branch} follows {merge}, but is published as {branch}"),
            format!("git branch --set-upstream-to={remote}/{branch} {branch}"),
        );
    }
}

/// A remote on this machine shows whether it takes what is pushed.
fn receiver(report: &mut Report, layout: &Layout, destination: &Destination, branch: &str) {
    let path = destination.url.strip_prefix("file://").unwrap_or(&destination.url);
    let place = layout.cloud().join(path);
    if path.contains("://") || !place.is_dir() {
        return;
    }
    let ask = |args: &[&str]| git::ask(&place, args).ok();
    let Some(folder) = ask(&["rev-parse", "--absolute-git-dir"]) else { return };
    for folder in ["", "objects", "refs"].map(|below| Path::new(&folder).join(below)) {
        if let Err(error) = access(&folder, Access::WRITE_OK | Access::EXEC_OK) {
            let remedy = "give the bridge's user write permission there";
            return report.fail("remote", format!("{}: {}", folder.display(), io::Error::from(error)), remedy);
        }
    }
    let here = git::ask(layout.cloud(), &["rev-parse", "--show-object-format"]).ok();
    let there = ask(&["rev-parse", "--show-object-format"]);
    if here != there {
        let (here, there) = (here.unwrap_or_default(), there.unwrap_or_default());
        let words = format!("{} has objects by {there}, and CLOUD by {here}", place.display());
        return report.fail("remote", words, format!("make it anew: git init --bare --object-format={here}"));
    }
    let setting = |name: &str| ask(&["config", "--get", name]);
    let is_current = ask(&["rev-parse", "--is-bare-repository"]).as_deref() == Some("false")
        && ask(&["symbolic-ref", "--short", "HEAD"]).as_deref() == Some(branch);
    let takes = setting("receive.denyCurrentBranch")
        .is_some_and(|value| value == "false" || TAKES_CURRENT.contains(&value.to_ascii_lowercase().as_str()));
    if is_current && !takes {
        report.fail(
            "remote",
            format!("{} has {branch} checked out, and refuses a push to it", place.display()),
            format!(
                "git -C {0} switch --detach, or git -C {0} config receive.denyCurrentBranch updateInstead",
                place.display()
            ),
        );
    }
    if let Some(most) = setting("receive.maxInputSize").filter(|most| most != "0") {
        let remedy = "see that it is larger than what gathers while the remote is away";
        report.warn("remote", format!("{} takes no push over {most} (receive.maxInputSize)", place.display()), remedy);
    }
    for name in ["receive.hideRefs", "transfer.hideRefs"] {
        let hidden = ask(&["config", "--get-all", name]).unwrap_or_default();
        let covers =
            |hidden: &str| format!("refs/heads/{branch}/").starts_with(&format!("{}/", hidden.trim_end_matches('/')));
        if hidden.lines().any(covers) {
            report.fail(
                "remote",
                format!("{} hides {branch} ({name})", place.display()),
                format!("git config --unset-all {name}"),
            );
        }
    }
}

fn answers(report: &mut Report, layout: &Layout, destination: &Destination) {
    let (cloud, remote) = (layout.cloud(), destination.remote.as_str());
    let url = git::ask(cloud, &["remote", "get-url", "--", remote]).unwrap_or_default();
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
        Ok(heads) => report.ok("remote", format!("{remote}, {shown}, answers with {} branches", heads.lines().count())),
        Err(error) => {
            let words = match error {
                GitError::Failed { words, .. } => words.replace(&url, &shown),
                other => other.to_string(),
            };
            let attempt = format!("git -C {} fetch {remote}", cloud.display());
            let remedy = match needs_a_person(&words) {
                true => format!(
                    "it does not pass by itself: see to the login, the host's key or the address, then: {attempt}"
                ),
                false => format!("try: {attempt}"),
            };
            report.fail("remote", format!("{shown} cannot be read: {words}"), remedy);
        }
    }
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
}
