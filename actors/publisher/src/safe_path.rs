//! The paths that the bridge's own commits may hold: beneath the eight published folders and nowhere else.

/// The folders that are published. Nothing outside them is ever put into a commit by the bridge.
pub const SAFE: [&str; 8] = ["archive", "context", "dead_letter", "diffs", "logs", "meta", "results", "summaries"];

/// The folders, as they stand in a tree, whose files stay as they are once they are published.
pub(crate) const KEPT: [&[u8]; 5] = [b"archive/", b"dead_letter/", b"diffs/", b"logs/", b"results/"];

/// The executor's recovery state: beneath `meta/`, and yet never published.
const JOURNAL: &str = "meta/journal";

/// The longest path that is taken, in bytes.
const MAX_BYTES: usize = 4096;

/// Why a path may not be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no path that the bridge publishes")]
pub struct UnsafePath {
    /// The path, as given.
    pub path: String,
}

/// A path relative to CLOUD, `/`-separated, of a file beneath one of the [`SAFE`] folders; never in `meta/journal/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafePath(String);

impl SafePath {
    /// Checks a path.
    ///
    /// # Errors
    /// When the path is absolute, not normal, outside the published folders, or leads into a `.git`.
    pub fn parse(path: &str) -> Result<Self, UnsafePath> {
        let refused = || UnsafePath { path: path.to_owned() };
        let mut parts = path.split('/');
        let top = parts.next().ok_or_else(refused)?;
        let odd = |part: &str| part.is_empty() || part == "." || part == ".." || part.eq_ignore_ascii_case(".git");
        let rest: Vec<&str> = parts.collect();
        let journal = path.strip_prefix(JOURNAL).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let bad = !SAFE.contains(&top)
            || rest.is_empty()
            || rest.iter().any(|part| odd(part))
            || journal
            || path.len() > MAX_BYTES
            || path.contains('\0');
        if bad { Err(refused()) } else { Ok(Self(path.to_owned())) }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The published folder and the components below it.
    pub(crate) fn split(&self) -> (&str, Vec<&str>) {
        let (top, rest) = self.0.split_once('/').unwrap_or((&self.0, ""));
        (top, rest.split('/').collect())
    }
}

impl std::fmt::Display for SafePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a path of a tree lies beneath a folder that the bridge owns, or is a file in the place of one: there its own
/// version wins over any other.
#[must_use]
pub fn is_ours(path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok_and(|path| SAFE.contains(&path) || SafePath::parse(path).is_ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_files_beneath_the_published_folders_pass() {
        for good in ["results/a.json", "logs/2026/11/23/0000/bridge-x.log", "meta/retries.json", "meta/journal.json"] {
            assert_eq!(SafePath::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "results",
            "results/",
            "/results/a",
            "commands/a.json",
            "src/a",
            "results/../src/a",
            "results/./a",
            "results//a",
            "meta/journal/1",
            "meta/journal",
            "results/.git/config",
            "results/.GIT/x",
            ".git/config",
            "results/a\0b",
            "Results/a",
        ] {
            assert_eq!(SafePath::parse(bad), Err(UnsafePath { path: bad.to_owned() }), "{bad:?}");
        }
    }
}
