//! What every `git` child is started with, whoever starts it: options that keep it from running programs that nobody asked
//! for, and an environment that points it nowhere else.
//!
//! Whoever can push, and every command, can put files into CLOUD; git's configuration often names programs there (hooks
//! above all). So hooks are off, and programs are looked for in no folder of CLOUD's or a target's. Programs that a
//! child needs, such as ssh, are judged before one is started: [`super::programs`].

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything whose name starts so is a secret, or close to one.
const SECRET_PREFIX: &str = "GPT_BRIDGE_HMAC";

/// A folder without anything in it, which nobody can put anything into.
const NO_HOOKS: &str = "core.hooksPath=/dev/null";

/// Variables of git's that belong to the operator's login. All others come from whatever started the bridge (a hook, an
/// agent's shell) and point git at something: another repository, index, namespace or trace.
const LOGIN: [&str; 15] = [
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_ASKPASS",
    "GIT_PROXY_COMMAND",
    "GIT_TERMINAL_PROMPT",
    "GIT_ALLOW_PROTOCOL",
    "GIT_PROTOCOL_FROM_USER",
    "GIT_EXEC_PATH",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_COUNT",
    "GIT_ATTR_NOSYSTEM",
    "GIT_DEFAULT_HASH",
];

/// The same, by how their names begin.
const LOGIN_PREFIXES: [&str; 8] = [
    "GIT_CONFIG_KEY_",
    "GIT_CONFIG_VALUE_",
    "GIT_AUTHOR_",
    "GIT_COMMITTER_",
    "GIT_SSL_",
    "GIT_PROXY_SSL_",
    "GIT_HTTP_",
    "GIT_DEFAULT_REF_",
];

/// Whether an inherited variable has to go: it is git's, and does not belong to the operator's login.
#[must_use]
pub fn is_foreign(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("GIT_") && !LOGIN.contains(&&*name) && !LOGIN_PREFIXES.iter().any(|start| name.starts_with(start))
}

/// A `git` that is to ask its configuration, and to run nothing: no options, and no program in `fenced` folders is found.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "whoever takes it waits for it with a time limit")]
pub fn plain(fenced: &[PathBuf]) -> Command {
    let mut command = Command::new("git");
    withhold_secrets(&mut command, std::env::vars_os().map(|(name, _)| name));
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", outside(&path, fenced));
    }
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
    command
}

/// A `git` that runs no hook (unless `hooks`), no file system monitor, no housekeeping but the bridge's own, and shows
/// nothing to anybody.
#[must_use]
pub fn prepared(fenced: &[PathBuf], hooks: bool) -> Command {
    let mut command = plain(fenced);
    if !hooks {
        command.args(["-c", NO_HOOKS]);
    }
    command.args(["-c", "core.fsmonitor=false", "-c", "submodule.recurse=false", "-c", "log.showSignature=false"]);
    // What is fetched stays a pack.
    command.args(["-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "fetch.unpackLimit=1"]);
    command.env("GIT_PAGER", "cat").env("GIT_EDITOR", "false").env("GIT_SEQUENCE_EDITOR", "false");
    command
}

/// Keeps a child from inheriting what is secret among the variables `names`.
fn withhold_secrets(command: &mut Command, names: impl Iterator<Item = OsString>) {
    for name in names.filter(|name| name.to_string_lossy().starts_with(SECRET_PREFIX)) {
        command.env_remove(name);
    }
}

/// `PATH` without what is relative, which would be looked for in CLOUD, and without what lies in a `fenced` folder.
fn outside(path: &OsStr, fenced: &[PathBuf]) -> OsString {
    let lies_in = |folder: &Path| fenced.iter().any(|fence| folder.starts_with(fence));
    let is_safe = |folder: &PathBuf| {
        let real = folder.canonicalize();
        folder.is_absolute() && !lies_in(folder) && !real.is_ok_and(|real| lies_in(&real))
    };
    // What was split at its separators can be joined with them again.
    std::env::join_paths(std::env::split_paths(path).filter(is_safe)).unwrap_or_default()
}

/// Nobody is there to answer a question: a desktop's dialogues are not opened, and ssh is told to fail instead of asking.
/// What the operator set up for git himself (`GIT_ASKPASS`, an ssh command of his own) stays.
pub(super) fn ask_nobody(command: &mut Command, own_ssh: bool, is_set: impl Fn(&str) -> bool) {
    command.env_remove("SSH_ASKPASS").env("SSH_ASKPASS_REQUIRE", "never").env("GCM_INTERACTIVE", "never");
    if !own_ssh && !is_set("GIT_SSH_COMMAND") && !is_set("GIT_SSH") {
        command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_the_login_stays() {
        for name in ["GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_KEY_0", "GIT_SSL_CAINFO"] {
            assert!(!is_foreign(OsStr::new(name)), "{name}");
        }
        for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_EMAIL", "GIT_DEFAULT_HASH", "GIT_DEFAULT_REF_FORMAT", "HOME"] {
            assert!(!is_foreign(OsStr::new(name)), "{name}");
        }
        for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_TRACE2_EVENT", "GIT_CONFIG_PARAMETERS"] {
            assert!(is_foreign(OsStr::new(name)), "{name}");
        }
        for name in ["GIT_CONFIG", "GIT_EXTERNAL_DIFF", "GIT_PAGER", "GIT_SHALLOW_FILE", "GIT_OF_TOMORROW"] {
            assert!(is_foreign(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn programs_are_looked_for_outside_of_what_others_write() {
        let fenced = [PathBuf::from("/srv/cloud")];
        let path = outside(OsStr::new("/usr/bin:.::bin:/srv/cloud/bin:/srv/cloudy:/srv/cloud"), &fenced);
        assert_eq!(path, "/usr/bin:/srv/cloudy");
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the command is looked at, not run")]
    fn no_secret_is_inherited() {
        let mut command = Command::new("git");
        let names = ["GPT_BRIDGE_HMAC_SECRET", "GPT_BRIDGE_HMAC_SECRET_NEXT", "GPT_BRIDGE_HMAC_ROTATION_ENDS", "HOME"];
        withhold_secrets(&mut command, names.into_iter().map(OsString::from));
        let mut withheld: Vec<_> = command.get_envs().map(|(name, value)| (name.to_owned(), value.is_none())).collect();
        withheld.sort();
        let mut expected: Vec<_> = names.iter().take(3).map(|name| (OsString::from(name), true)).collect();
        expected.sort();
        assert_eq!(withheld, expected);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the command is looked at, not run")]
    fn nobody_is_asked_and_an_ssh_command_of_the_operators_stays() {
        let ssh = |own: bool, set: &str| {
            let mut command = Command::new("git");
            ask_nobody(&mut command, own, |name| name == set);
            let envs: Vec<_> = command.get_envs().collect();
            assert!(envs.contains(&(OsStr::new("SSH_ASKPASS"), None)));
            envs.iter().any(|(name, value)| *name == "GIT_SSH_COMMAND" && value.is_some())
        };
        assert!(ssh(false, "HOME"));
        assert!(!ssh(true, "HOME") && !ssh(false, "GIT_SSH_COMMAND") && !ssh(false, "GIT_SSH"));
    }
}
