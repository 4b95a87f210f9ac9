//! Which of git's settings name a program, and whether one could run what others wrote.
//!
//! Whoever can push writes CLOUD, and commands write the targets. What git would run from there, it would run as the
//! bridge and outside of every fence. So each setting that names a program is in one table. Most are of no use to the
//! bridge: its children are started so that none of these runs. What they need (ssh, credentials) is judged: a program
//! that lies in CLOUD or a target, or of which that cannot be told, is refused. Pure but for links, which are followed.

use std::path::{Component, Path, PathBuf};

use self::shell::{UNKNOWN, split};
use super::settings::{Entry, Settings};
use super::words::without_credentials;

mod shell;
#[cfg(test)]
mod tests;

/// What the bridge does about a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// None of the bridge's children runs it: it is switched off, or belongs to commands that the bridge does not use.
    Unused,
    /// A child may run it: it has to lie outside.
    Program,
    /// The same of one that git runs without a shell: all of the value is its name, spaces and all.
    Executable,
    /// The operator's hooks: switched off unless they are wished for, and then they have to lie outside.
    Hooks,
    /// Further configuration: it has to lie outside.
    Include,
    /// A remote's address, which may name a program or a repository with hooks of its own.
    Address,
}

/// Every setting that names a program, or leads to one. `*` stands for a subsection, also for none.
pub const TABLE: &[(&str, Rule)] = &[
    ("core.hookspath", Rule::Hooks),
    ("include.path", Rule::Include),
    ("includeif.*.path", Rule::Include),
    ("core.sshcommand", Rule::Program),
    ("core.askpass", Rule::Executable),
    ("core.gitproxy", Rule::Program),
    ("core.alternaterefscommand", Rule::Program),
    ("credential.*.helper", Rule::Program),
    ("gpg.*.program", Rule::Executable),
    ("gpg.ssh.defaultkeycommand", Rule::Program),
    ("remote.*.uploadpack", Rule::Program),
    ("remote.*.receivepack", Rule::Program),
    ("remote.*.vcs", Rule::Program),
    ("uploadpack.packobjectshook", Rule::Program),
    ("gc.recentobjectshook", Rule::Program),
    ("remote.*.url", Rule::Address),
    ("remote.*.pushurl", Rule::Address),
    ("url.*.insteadof", Rule::Address),
    ("url.*.pushinsteadof", Rule::Address),
    ("core.fsmonitor", Rule::Unused),
    ("core.editor", Rule::Unused),
    ("core.pager", Rule::Unused),
    ("pager.*", Rule::Unused),
    ("sequence.editor", Rule::Unused),
    ("alias.*", Rule::Unused),
    ("filter.*.clean", Rule::Unused),
    ("filter.*.smudge", Rule::Unused),
    ("filter.*.process", Rule::Unused),
    ("diff.external", Rule::Unused),
    ("diff.*.command", Rule::Unused),
    ("diff.*.textconv", Rule::Unused),
    ("merge.*.driver", Rule::Unused),
    ("difftool.*.cmd", Rule::Unused),
    ("difftool.*.path", Rule::Unused),
    ("mergetool.*.cmd", Rule::Unused),
    ("mergetool.*.path", Rule::Unused),
    ("guitool.*.cmd", Rule::Unused),
    ("browser.*.cmd", Rule::Unused),
    ("browser.*.path", Rule::Unused),
    ("man.*.cmd", Rule::Unused),
    ("man.*.path", Rule::Unused),
    ("interactive.difffilter", Rule::Unused),
    ("trailer.*.command", Rule::Unused),
    ("trailer.*.cmd", Rule::Unused),
    ("submodule.*.update", Rule::Unused),
    ("sendemail.*.tocmd", Rule::Unused),
    ("sendemail.*.cccmd", Rule::Unused),
    ("sendemail.*.headercmd", Rule::Unused),
    ("sendemail.*.sendmailcmd", Rule::Unused),
    ("sendemail.*.smtpserver", Rule::Unused),
    ("imap.tunnel", Rule::Unused),
    ("tar.*.command", Rule::Unused),
    ("instaweb.httpd", Rule::Unused),
    ("instaweb.browser", Rule::Unused),
    ("init.templatedir", Rule::Unused),
];

/// Variables of the operator's that name a program.
pub const VARIABLES: [&str; 5] = ["GIT_SSH_COMMAND", "GIT_SSH", "GIT_ASKPASS", "GIT_PROXY_COMMAND", "GIT_EXEC_PATH"];

/// Those of them that are run without a shell: editors set them to paths with spaces.
const BARE: [&str; 2] = ["GIT_SSH", "GIT_ASKPASS"];

/// Variables that lead to configuration.
pub const CONFIGURATION: [&str; 4] = ["HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"];

/// Programs that run a file which they are given by name, and look for it where they are started: in CLOUD.
const INTERPRETERS: [&str; 35] = [
    "sh", "bash", "dash", "ash", "ksh", "zsh", "fish", "busybox", ".", "source", "python", "python2", "python3",
    "perl", "ruby", "node", "nodejs", "deno", "bun", "php", "lua", "tclsh", "make", "npm", "npx", "yarn", "pnpm",
    "cargo", "just", "rake", "bundle", "poetry", "uv", "java", "pwsh",
];

/// Words of a shell's that a program's name follows.
const PREFIXES: [&str; 12] = ["{", "}", "!", "then", "do", "else", "if", "while", "exec", "env", "command", "nohup"];

/// The rule for a setting, if it has one.
#[must_use]
pub fn rule(entry: &Entry) -> Option<Rule> {
    let (section, subsection, name) = entry.parts();
    TABLE.iter().find(|(key, _)| fits(key, section, subsection, name)).map(|(_, rule)| *rule)
}

fn fits(key: &str, section: &str, subsection: Option<&str>, name: &str) -> bool {
    let mut parts = key.split('.');
    let first = parts.next() == Some(section);
    match (parts.next(), parts.next()) {
        (Some("*"), None) => first,
        (Some("*"), Some(last)) => first && last == name,
        (Some(middle), Some(last)) => first && subsection == Some(middle) && last == name,
        (Some(last), None) => first && subsection.is_none() && last == name,
        (None, _) => false,
    }
}

/// Where nothing may be run from.
#[derive(Clone, Debug)]
pub struct Fences {
    /// The work tree, canonical.
    pub cloud: PathBuf,
    /// Git's own folders, which nobody but the operator writes, wherever they are.
    pub git_dirs: Vec<PathBuf>,
    /// The targets' roots, canonical.
    pub targets: Vec<PathBuf>,
}

/// What was found, in words for a line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Danger {
    /// What names it: a setting with its file, or a variable.
    pub what: String,
    /// What is wrong with what it names. It shows no more of a value than a path.
    pub why: String,
    /// What helps.
    pub remedy: String,
}

impl Fences {
    /// Where `path` lies, if it lies where others write. A link that leads there counts as well.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<String> {
        let path = resolved(&self.cloud.join(path));
        [path.clone(), followed(&path)].iter().find_map(|path| self.lies_in(path))
    }

    /// The same, of CLOUD alone.
    fn in_cloud(&self, path: &Path) -> Option<String> {
        Self { targets: Vec::new(), ..self.clone() }.find(path)
    }

    fn lies_in(&self, path: &Path) -> Option<String> {
        if self.git_dirs.iter().any(|dir| path.starts_with(dir)) {
            return None;
        }
        if path.starts_with(&self.cloud) {
            return Some(format!("{} lies in CLOUD", path.display()));
        }
        let target = self.targets.iter().find(|target| {
            // No command gets at what begins with a dot.
            let is_hidden = |part: Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
            path.strip_prefix(target).is_ok_and(|below| !below.components().any(is_hidden))
        })?;
        Some(format!("{} lies in the target {}", path.display(), target.display()))
    }
}

/// `path` without `.` and `..`.
fn resolved(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// Where `path` leads if its links are followed, as far as it is there.
fn followed(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

/// Judges all settings and variables. `hooks`: the operator wishes for his own. `variable` asks the environment.
///
/// # Errors
/// For the first that could run what others wrote, or read it as configuration.
pub fn judge(
    settings: &Settings,
    fences: &Fences,
    hooks: bool,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Danger> {
    let words = Words { fences, variable };
    for name in CONFIGURATION {
        let Some(path) = variable(name).filter(|path| Path::new(path).is_absolute()) else { continue };
        // A target's files do not begin with a dot, as those that are looked for in a home do.
        let place =
            if name.starts_with("GIT_") { fences.find(Path::new(&path)) } else { fences.in_cloud(Path::new(&path)) };
        if let Some(why) = place {
            let remedy = format!("set {name} to what lies elsewhere");
            return Err(Danger { what: format!("the variable {name}"), why, remedy });
        }
    }
    for file in settings.files() {
        if let Some(why) = fences.find(file) {
            let remedy = "take its values into .git/config, and the include out".to_owned();
            return Err(Danger { what: "git's configuration".to_owned(), why, remedy });
        }
    }
    for entry in settings.entries() {
        words.entry(entry, hooks).map_err(|why| Danger::of(entry, why))?;
    }
    for remote in settings.remotes() {
        for url in [settings.url(remote), settings.push_url(remote)].into_iter().flatten() {
            words.address(&url).map_err(|why| {
                let remedy = "let the remote lie elsewhere".to_owned();
                Danger { what: format!("the address of the remote {remote}"), why, remedy }
            })?;
        }
    }
    for name in VARIABLES {
        let Some(value) = variable(name) else { continue };
        let judged = if BARE.contains(&name) { words.executable(&value) } else { words.command(&value) };
        judged.map_err(|why| {
            let remedy = format!("give a program that lies elsewhere, with its full path, or unset {name}");
            Danger { what: format!("the variable {name}"), why, remedy }
        })?;
    }
    Ok(())
}

impl Danger {
    fn of(entry: &Entry, why: String) -> Self {
        let file = entry.file.as_ref().map_or_else(|| "the environment".to_owned(), |file| file.display().to_string());
        let remedy = match rule(entry) {
            Some(Rule::Include) => "take its values into .git/config, and the include out".to_owned(),
            Some(Rule::Hooks) => {
                "leave publish.hooks at false, or let core.hooksPath name a folder elsewhere".to_owned()
            }
            Some(Rule::Address) => "let the remote lie elsewhere".to_owned(),
            _ => "name a program that lies elsewhere, with its full path, or take it out".to_owned(),
        };
        Self { what: without_credentials(&format!("{} in {file}", entry.key)), why, remedy }
    }
}

/// Judges what is to be run.
struct Words<'a> {
    fences: &'a Fences,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Words<'_> {
    fn entry(&self, entry: &Entry, hooks: bool) -> Result<(), String> {
        match rule(entry) {
            None | Some(Rule::Unused) => Ok(()),
            Some(Rule::Hooks) if !hooks => Ok(()),
            Some(Rule::Hooks) => self.path(&entry.value, &self.fences.cloud),
            Some(Rule::Include) => {
                let beside = entry.file.as_deref().and_then(Path::parent).unwrap_or(&self.fences.cloud);
                self.path(&entry.value, beside)
            }
            Some(Rule::Address) => match entry.parts() {
                ("url", Some(base), _) => self.address(base),
                _ => self.address(&entry.value),
            },
            Some(Rule::Program) => self.command(&entry.value),
            Some(Rule::Executable) => self.executable(&entry.value),
        }
    }

    fn path(&self, value: &str, beside: &Path) -> Result<(), String> {
        match self.expanded(value) {
            Some(path) => self.fences.find(&beside.join(path)).map_or(Ok(()), Err),
            None => Err(format!("it cannot be told where {value} lies")),
        }
    }

    /// `~` and git's own prefix as paths; `None` where that cannot be said.
    fn expanded(&self, word: &str) -> Option<PathBuf> {
        match word.strip_prefix('~') {
            None if word.starts_with("%(prefix)") => Some(PathBuf::from(word.replacen("%(prefix)", "/usr", 1))),
            None => Some(PathBuf::from(word)),
            Some("") => (self.variable)("HOME").map(PathBuf::from),
            Some(rest) => Some(PathBuf::from((self.variable)("HOME")?).join(rest.strip_prefix('/')?)),
        }
    }

    /// An address: `ext::` runs what follows, `foreign::` a helper of that name, and a path is a repository, whose hooks
    /// run as the bridge.
    fn address(&self, url: &str) -> Result<(), String> {
        if let Some((helper, rest)) = url.split_once("::") {
            self.command(helper)?;
            return if matches!(helper, "ext" | "fd") { self.command(rest) } else { Ok(()) };
        }
        let local = match url.strip_prefix("file://") {
            Some(path) => Some(path),
            // `host:path` unless a slash comes before the colon.
            None => {
                Some(url).filter(|url| !url.contains("://") && !url.split('/').next().unwrap_or_default().contains(':'))
            }
        };
        match local.and_then(|path| self.fences.in_cloud(Path::new(path))) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// A program that is run without a shell. One without a slash is looked for in `PATH`.
    fn executable(&self, value: &str) -> Result<(), String> {
        if value.contains('/') { self.path(value, &self.fences.cloud) } else { Ok(()) }
    }

    /// Something that a shell, or git, is to run. Whatever in it could be a file where others write is refused.
    fn command(&self, value: &str) -> Result<(), String> {
        if Path::new(value).is_absolute() {
            self.fences.find(Path::new(value)).map_or(Ok(()), Err)?;
        }
        // Of a program that runs files: its name, until the file has come.
        let mut interpreter: Option<String> = None;
        // Whether ssh reads a configuration, which can name programs, from the next word.
        let (mut is_ssh, mut reads_next) = (false, false);
        let mut at_start = true;
        for word in split(value.strip_prefix('!').unwrap_or(value), self.variable) {
            let Some(word) = word else {
                (at_start, interpreter) = (true, None);
                continue;
            };
            let begins = std::mem::replace(&mut at_start, PREFIXES.contains(&word.as_str()));
            if word.contains(UNKNOWN) && (begins || word.contains('/')) {
                return Err("it cannot be told which program a variable in it names".to_owned());
            }
            let is_path = word.contains('/') || word.starts_with('~') || (word == ".." || word == "." && !begins);
            let configuration = word.strip_prefix("-F").filter(|file| is_ssh && !file.is_empty());
            if is_path || std::mem::take(&mut reads_next) {
                self.word(&word)?;
            } else if let Some(file) = configuration {
                self.word(file)?;
            }
            reads_next = is_ssh && word == "-F";
            let name = word.rsplit('/').next().unwrap_or_default();
            if begins {
                is_ssh = name == "ssh";
            }
            // `python3.12` is one, too.
            let family = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
            let is_one = |name: &str| INTERPRETERS.contains(&name);
            if (is_one(name) || !family.is_empty() && is_one(family)) && (begins || name != ".") {
                interpreter = Some(family.to_owned()).filter(|family| !family.is_empty()).or(Some(name.to_owned()));
            } else if let Some(program) = &interpreter {
                let given = word.strip_prefix('-').filter(|options| !options.starts_with('-'));
                match given {
                    // What a shell is to do stands in the words that follow.
                    Some(options) if program.ends_with("sh") && options.contains('c') => {
                        (at_start, interpreter) = (true, None);
                    }
                    _ if word.starts_with('-') => {}
                    _ if is_path => interpreter = None,
                    _ => return Err(format!("what it gives to {program} would be looked for in CLOUD")),
                }
            }
        }
        Ok(())
    }

    /// A path among the words. A relative one is not shown: it may be no path, but a secret.
    fn word(&self, word: &str) -> Result<(), String> {
        let path = self.expanded(word).ok_or_else(|| "it cannot be told where a path in it leads".to_owned())?;
        match self.fences.find(&path) {
            Some(why) if path.is_absolute() => Err(why),
            Some(_) => Err("a relative path in it would be looked for in CLOUD".to_owned()),
            None => Ok(()),
        }
    }
}
