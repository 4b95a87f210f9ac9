//! What git's configuration says, as git itself reads it: every value with the file that it comes from. Pure but for
//! [`Settings::ask`].

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Git, GitError};

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file that it stands in; `None` for one that is given by the environment.
    pub file: Option<PathBuf>,
    /// Section and name in lower case, the subsection as it is written: `remote.Origin.url`.
    pub key: String,
    /// Its value; a name without one is true.
    pub value: String,
}

impl Entry {
    /// Section, subsection and name.
    #[must_use]
    pub fn parts(&self) -> (&str, Option<&str>, &str) {
        let (section, rest) = self.key.split_once('.').unwrap_or((&self.key, ""));
        match rest.rsplit_once('.') {
            Some((subsection, name)) => (section, Some(subsection), name),
            None => (section, None, rest),
        }
    }
}

/// A file's number, length and time.
type Mark = (u64, u64, i64, i64);

/// All values, in the order in which git reads them: of several for one name the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    entries: Vec<Entry>,
    /// The files, and by what each is known again.
    files: Vec<(PathBuf, Option<Mark>)>,
}

impl Settings {
    /// Asks git. The files `besides` are none yet, perhaps, and count as soon as they are there.
    ///
    /// # Errors
    /// When it does not run, or cannot read its configuration.
    pub fn ask(git: &Git, besides: Vec<PathBuf>) -> Result<Self, GitError> {
        let before: Vec<_> = besides.into_iter().map(|file| (mark(&file), file)).collect();
        let listing = git.list_settings(&["config", "--list", "-z", "--show-origin", "--includes"])?;
        let mut settings = Self::parse(&listing, git.folder());
        let missing = |file: &PathBuf| !settings.files.iter().any(|(known, _)| known == file);
        let besides: Vec<_> = before.into_iter().filter(|(_, file)| missing(file)).collect();
        settings.files.extend(besides.into_iter().map(|(mark, file)| (file, mark)));
        Ok(settings)
    }

    /// What `git config --list -z --show-origin` printed in `folder`.
    #[must_use]
    pub fn parse(listing: &[u8], folder: &Path) -> Self {
        let text = String::from_utf8_lossy(listing);
        let mut fields = text.split('\0');
        let mut settings = Self::default();
        while let (Some(origin), Some(line)) = (fields.next(), fields.next()) {
            let (key, value) = line.split_once('\n').unwrap_or((line, "true"));
            let file = origin.strip_prefix("file:").map(|file| folder.join(file));
            if let Some(file) = &file
                && !settings.files.iter().any(|(known, _)| known == file)
            {
                settings.files.push((file.clone(), mark(file)));
            }
            settings.entries.push(Entry { file, key: key.to_owned(), value: value.to_owned() });
        }
        settings
    }

    /// Every value.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The files that any of them stands in, or will.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(file, _)| file.as_path())
    }

    /// Whether no file that was read has changed since.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.files.iter().all(|(file, then)| mark(file) == *then)
    }

    /// The value that counts for a name of the given section and subsection.
    #[must_use]
    pub fn get(&self, section: &str, subsection: Option<&str>, name: &str) -> Option<&str> {
        let is_it = |entry: &&Entry| entry.parts() == (section, subsection, name);
        self.entries.iter().rev().find(is_it).map(|entry| entry.value.as_str())
    }

    /// Whether that value means yes.
    #[must_use]
    pub fn is_true(&self, section: &str, subsection: Option<&str>, name: &str) -> bool {
        let Some(value) = self.get(section, subsection, name) else { return false };
        let is_word = ["true", "yes", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes));
        is_word || value.parse::<i64>().is_ok_and(|number| number != 0)
    }

    /// The remotes that have an address, in the order in which they stand there.
    #[must_use]
    pub fn remotes(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for entry in &self.entries {
            if let ("remote", Some(name), "url" | "pushurl" | "vcs") = entry.parts()
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        names
    }

    /// Where a remote's pushes go, after git's own rewriting; `None` where it has no address.
    #[must_use]
    pub fn push_url(&self, remote: &str) -> Option<String> {
        if let Some(url) = self.get("remote", Some(remote), "pushurl") {
            return Some(self.rewritten(url, "insteadof"));
        }
        let url = self.get("remote", Some(remote), "url")?;
        let pushed = self.rewritten(url, "pushinsteadof");
        Some(if pushed == url { self.rewritten(url, "insteadof") } else { pushed })
    }

    /// Where it is fetched from; `None` where it has no address.
    #[must_use]
    pub fn url(&self, remote: &str) -> Option<String> {
        self.get("remote", Some(remote), "url").map(|url| self.rewritten(url, "insteadof"))
    }

    /// `url` with the longest prefix that `url.<base>.<name>` names replaced by its base.
    fn rewritten(&self, url: &str, name: &str) -> String {
        let rule = |entry: &&Entry| matches!(entry.parts(), ("url", Some(_), given) if given == name);
        let fits = self.entries.iter().filter(rule).filter(|entry| url.starts_with(entry.value.as_str()));
        let Some(longest) = fits.max_by_key(|entry| entry.value.len()) else { return url.to_owned() };
        let base = longest.parts().1.unwrap_or_default();
        format!("{base}{}", url.strip_prefix(longest.value.as_str()).unwrap_or(url))
    }
}

fn mark(file: &Path) -> Option<Mark> {
    file.metadata().ok().map(|file| (file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// Why no remote can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoChoice {
    /// There are several, and nothing says which.
    Several(Vec<String>),
    /// The one that is wished for is not there, but others are.
    Missing(String, Vec<String>),
}

/// The remote that `branch` is published to: `wish`, else the branch's own upstream remote, else `origin`, else the only
/// one there is. Nothing where there is none at all: commits stay local.
///
/// # Errors
/// When several are there and none of these, or the one wished for is not among them.
pub fn choose(settings: &Settings, branch: &str, wish: Option<&str>) -> Result<Option<String>, NoChoice> {
    let names = settings.remotes();
    let owned = || names.iter().map(|name| (*name).to_owned()).collect();
    if let Some(wish) = wish {
        return match names.as_slice() {
            [] => Ok(None),
            names if names.contains(&wish) => Ok(Some(wish.to_owned())),
            _ => Err(NoChoice::Missing(wish.to_owned(), owned())),
        };
    }
    let upstream = settings.get("branch", Some(branch), "remote");
    let is_there = |wanted: &str| names.iter().copied().find(|name| *name == wanted);
    let chosen = upstream.and_then(is_there).or_else(|| is_there("origin"));
    match (chosen, names.as_slice()) {
        (Some(name), _) | (None, &[name]) => Ok(Some(name.to_owned())),
        (None, []) => Ok(None),
        (None, _) => Err(NoChoice::Several(owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settings(lines: &[&str]) -> Settings {
        let listing: String =
            lines.iter().map(|line| format!("file:.git/config\0{}\0", line.replacen('=', "\n", 1))).collect();
        Settings::parse(listing.as_bytes(), Path::new("/cloud"))
    }

    #[test]
    fn values_are_read_with_their_files() {
        let listing =
            b"file:.git/config\0core.bare\nfalse\0file:/home/x/.gitconfig\0alias.a.b\n!x\ny\0command line:\0a.b\0";
        let settings = Settings::parse(listing, Path::new("/cloud"));
        let files: Vec<_> = settings.files().collect();
        assert_eq!(files, [Path::new("/cloud/.git/config"), Path::new("/home/x/.gitconfig")]);
        let entry = &settings.entries()[1];
        assert_eq!((entry.parts(), entry.value.as_str()), (("alias", Some("a"), "b"), "!x\ny"));
        assert_eq!(settings.entries()[2].file, None);
        assert!(settings.is_true("a", None, "b") && !settings.is_true("core", None, "bare"));
    }

    #[test]
    fn the_remote_is_the_upstream_else_origin_else_the_only_one() {
        let choice = |lines: &[&str], wish| choose(&settings(lines), "main", wish);
        let some = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(choice(&[], None), Ok(None));
        assert_eq!(choice(&["remote.hub.url=/r"], None), some("hub"));
        assert_eq!(choice(&["remote.hub.url=/r", "remote.origin.url=/o"], None), some("origin"));
        let both = ["remote.hub.url=/r", "remote.origin.url=/o", "branch.main.remote=hub"];
        assert_eq!(choice(&both, None), some("hub"));
        assert_eq!(choice(&both, Some("origin")), some("origin"));
        assert_eq!(choice(&["remote.hub.url=/r", "branch.main.remote=."], None), some("hub"));
        assert_eq!(choice(&["remote.hub.url=/r", "branch.other.remote=x"], None), some("hub"));
        let two = ["remote.a.url=/a", "remote.b.url=/b"];
        assert_eq!(choice(&two, None), Err(NoChoice::Several(vec!["a".into(), "b".into()])));
        assert_eq!(choice(&two, Some("b")), some("b"));
        assert_eq!(choice(&two[..1], Some("c")), Err(NoChoice::Missing("c".into(), vec!["a".into()])));
        assert_eq!(choice(&[], Some("origin")), Ok(None), "one that nobody made yet");
        assert_eq!(choice(&["remote.origin.fetch=+refs/heads/*:x"], None), Ok(None), "one without an address");
    }

    #[test]
    fn addresses_are_rewritten_as_git_does() {
        let lines = [
            "remote.a.url=gh:x/y",
            "remote.a.pushurl=p:z",
            "remote.b.url=gh:x/y",
            "remote.c.url=/r",
            "url.https://github.com/.insteadof=gh:",
            "url.git@github.com:.pushinsteadof=gh:",
            "url./srv/.insteadof=p:",
        ];
        let settings = settings(&lines);
        assert_eq!(settings.url("a").unwrap(), "https://github.com/x/y");
        assert_eq!(settings.push_url("a").unwrap(), "/srv/z");
        assert_eq!(settings.push_url("b").unwrap(), "git@github.com:x/y");
        assert_eq!((settings.push_url("c").unwrap().as_str(), settings.push_url("d")), ("/r", None));
    }
}
