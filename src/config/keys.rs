//! Every key of `bridge.toml`: what it takes, and within which bounds.
//!
//! One table says it for the reader of the file, the bound checks and the error messages, so that they cannot disagree.

use std::fmt;

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A table of further keys.
    Table,
    /// A text; the words say which.
    Text(&'static str),
    /// A list of texts; the words say which.
    List(&'static str),
    /// `true` or `false`.
    Flag,
    /// A whole number from the first to the second, both included.
    Whole(u64, u64),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => f.write_str("a table"),
            Self::Text(words) | Self::List(words) => f.write_str(words),
            Self::Flag => f.write_str("true or false"),
            Self::Whole(min, max) => write!(f, "a whole number from {min} to {max}"),
        }
    }
}

/// A day in milliseconds: the longest time that a target or a check may grant.
const DAY_MS: u64 = 86_400_000;

/// What may be written by a check.
const WRITABLE: &str = "a list of folders beneath the target's root, such as [\"target\"]: relative, without . and .., not \
                        .git and none of the bridge's own";

/// The keys, in the order in which they are listed for a reader. `*` stands for a name of the operator's choosing.
const KEYS: &[(&str, Expected)] = &[
    ("cloud", Expected::Text("a path in double quotes: the top of the git work tree")),
    ("cloud_name", Expected::Text("a name in double quotes that says which CLOUD this is, of at most 128 characters")),
    ("targets", Expected::Table),
    ("targets.*", Expected::Table),
    ("targets.*.root", Expected::Text("a path in double quotes: an existing folder")),
    ("targets.*.deny", Expected::List("a list of globs, such as [\"secrets/**\"]")),
    ("targets.*.allow_delete", Expected::Flag),
    ("targets.*.limits", Expected::Table),
    ("targets.*.limits.max_files_changed", Expected::Whole(1, 1_000_000)),
    ("targets.*.limits.max_runtime_ms", Expected::Whole(1, DAY_MS)),
    ("targets.*.limits.max_bytes_written", Expected::Whole(1, 1 << 30)),
    ("checks", Expected::Table),
    ("checks.*", Expected::Table),
    ("checks.*.argv", Expected::List("a non-empty list, the program first, such as [\"cargo\", \"check\"]")),
    ("checks.*.max_runtime_ms", Expected::Whole(1, DAY_MS)),
    ("checks.*.sandbox", Expected::Text("\"required\" or \"best-effort\"")),
    ("checks.*.writable", Expected::List(WRITABLE)),
    ("checks.*.readable", Expected::List("a list of absolute folders other than /, such as [\"/srv/toolchain\"]")),
    ("ingest", Expected::Table),
    ("ingest.settle_ms", Expected::Whole(0, 60_000)),
    ("ingest.rescan_secs", Expected::Whole(1, 3_600)),
    ("ingest.clock_skew_secs", Expected::Whole(0, 3_600)),
    ("ingest.max_lifetime_secs", Expected::Whole(1, 31_536_000)),
    ("ingest.max_command_bytes", Expected::Whole(1_024, 524_288)),
    ("ingest.unauthenticated_per_hour", Expected::Whole(0, 1_000_000)),
    ("ingest.checkout", Expected::Text("\"all\", \"allowed\" or \"commands\"")),
    ("publish", Expected::Table),
    ("publish.remote", Expected::Text("the name of a git remote, such as \"origin\"")),
    ("publish.hooks", Expected::Flag),
    ("publish.fetch_secs", Expected::Whole(1, 3_600)),
    ("publish.attempts", Expected::Whole(1, 100)),
    ("publish.max_pushes_per_minute", Expected::Whole(0, 6_000)),
    ("publish.window", Expected::Whole(1, 1_500)),
    ("publish.log_kib", Expected::Whole(1, 10_240)),
    ("publish.author_name", Expected::Text("a name without < > or line breaks, in double quotes")),
    ("publish.author_email", Expected::Text("a mail address without < > or blanks, in double quotes")),
    ("http", Expected::Table),
    ("http.listen", Expected::Text("an address and a port, such as \"127.0.0.1:9464\"")),
    ("http.allow_remote", Expected::Flag),
    ("supervision", Expected::Table),
    ("supervision.max_restarts", Expected::Whole(0, 1_000)),
    ("supervision.within_secs", Expected::Whole(1, 86_400)),
];

/// Whether the tables under this section are named by the operator, so that their names keep their case.
#[must_use]
pub fn holds_names(section: &str) -> bool {
    matches!(section, "targets" | "checks")
}

/// What the key at `path` takes; `None` where there is no such key.
#[must_use]
pub fn expected(path: &[String]) -> Option<Expected> {
    KEYS.iter().find(|(key, _)| matches(key, path)).map(|(_, expected)| *expected)
}

/// The names of the keys directly under `path`.
#[must_use]
pub fn below(path: &[String]) -> Vec<&'static str> {
    KEYS.iter()
        .filter_map(|(key, _)| {
            let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
            matches(parent, path).then_some(name)
        })
        .collect()
}

/// The key that a variable's name without its prefix resembles where underscores are not counted, spelled as the rest of an
/// overriding variable: `Some(None)` where only a section is recognised, `None` where nothing is.
#[must_use]
pub fn resembling(name: &str) -> Option<Option<String>> {
    let parts: Vec<&str> = name.split('_').filter(|part| !part.is_empty()).collect();
    let flat = parts.join("_");
    let upper = flat.to_ascii_uppercase();
    let spelled = |key: &str| key.to_ascii_uppercase().replace('.', "__");
    let leaves = KEYS.iter().filter(|(_, expected)| *expected != Expected::Table).map(|(key, _)| *key);
    let found = leaves.clone().find_map(|key| match key.split_once(".*.") {
        None => (upper == spelled(key).replace("__", "_")).then(|| spelled(key)),
        Some((section, rest)) => {
            let (section, rest) = (spelled(section), spelled(rest));
            let head = upper.strip_prefix(&section)?.strip_prefix('_')?;
            let length = head.strip_suffix(&rest.replace("__", "_"))?.strip_suffix('_')?.len();
            // The operator's own name keeps its case.
            let start = section.len() + 1;
            let own = flat.get(start..start + length).filter(|own| !own.is_empty())?;
            Some(format!("{section}__{own}__{rest}"))
        }
    });
    let sections = KEYS.iter().filter(|(key, expected)| *expected == Expected::Table && !key.contains('.'));
    let mut sections = sections.map(|(key, _)| key.to_ascii_uppercase());
    let is_in =
        |section: String| upper.strip_prefix(&section).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    (found.is_some() || sections.any(is_in)).then_some(found)
}

fn matches(key: &str, path: &[String]) -> bool {
    let mut parts = key.split('.').filter(|part| !part.is_empty());
    let same = path.iter().all(|segment| parts.next().is_some_and(|part| part == "*" || part == segment));
    same && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn names_stand_for_the_operators_own() {
        assert_eq!(expected(&path("targets.SITE.allow_delete")), Some(Expected::Flag));
        assert_eq!(expected(&path("targets.SITE.allow")), None);
        assert_eq!(expected(&path("ingest.settle_ms.x")), None);
        assert_eq!(below(&path("targets.SITE")), ["root", "deny", "allow_delete", "limits"]);
        assert_eq!(
            below(&[]),
            ["cloud", "cloud_name", "targets", "checks", "ingest", "publish", "http", "supervision"]
        );
    }
}
