//! What git says when something fails: the line that tells most, and whether it passes by itself. Pure.

/// The longest line that is passed on.
const MAX_CHARS: usize = 300;

/// What git and ssh say when only a person can help: who we are, or who the other side is, is not accepted.
const FOR_A_PERSON: [&str; 24] = [
    "Permission denied (",
    "Permission to ",
    "Authentication failed",
    "could not read Username",
    "could not read Password",
    "terminal prompts disabled",
    "Invalid username or ",
    "Access denied",
    "access denied",
    "Too many authentication failures",
    "no supported authentication methods",
    "error: 401",
    "error: 403",
    "Repository not found",
    "Host key verification failed",
    "REMOTE HOST IDENTIFICATION HAS CHANGED",
    "No matching host key type found",
    "certificate verification failed",
    "SSL certificate problem",
    "certificate problem",
    "Could not resolve host",
    "Name or service not known",
    "is not a git command",
    "mirror can't be combined",
];

/// Of these a name server says that it passes.
const PASSING: [&str; 1] = ["Temporary failure in name resolution"];

/// What says nothing that another line does not say better.
const EMPTY_WORDS: [&str; 9] = [
    "error: failed to push some refs",
    "fatal: Could not read from remote repository",
    "fatal: the remote end hung up",
    "fatal: early EOF",
    "fatal: expected flush",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
    "Done",
    "Everything up-to-date",
];

/// How a line begins that is only said beside others.
const ASIDE: [&str; 6] = ["hint:", "To ", "warning:", "Warning:", "@@@", "remote: Enumerating"];

/// Whether only a person can help: nothing here changes it, and trying it again soon is in vain.
#[must_use]
pub fn needs_a_person(words: &str) -> bool {
    FOR_A_PERSON.iter().any(|phrase| words.contains(phrase)) && !PASSING.iter().any(|phrase| words.contains(phrase))
}

/// The line that tells most, shortened, without what a URL may hold before an `@`.
#[must_use]
pub fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let says = |starts: &[&str], line: &str| starts.iter().any(|start| line.starts_with(start));
    let telling = |line: &&str| !says(&EMPTY_WORDS, line) && !says(&ASIDE, line);
    let is_fatal = |line: &&str| telling(line) && says(&["fatal: ", "error: ", "ERROR: "], line);
    let line = lines().find(|line| needs_a_person(line)).or_else(|| lines().find(is_fatal));
    let line = line.or_else(|| lines().find(telling)).or_else(|| lines().next()).unwrap_or("no message");
    passed_on(line)
}

/// What the remote itself said, if anything: the first line that tells something.
#[must_use]
pub fn of_the_remote(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("remote:")).map(str::trim);
    lines.find(|line| line.chars().any(char::is_alphanumeric)).map(passed_on)
}

fn passed_on(line: &str) -> String {
    without_credentials(line).chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect()
}

/// `https://user:token@host` as `https://***@host`.
#[must_use]
pub fn without_credentials(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after.find(|c: char| c == '/' || c == '\'' || c.is_whitespace()).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str("***@");
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_get_into_messages() {
        let line = "fatal: unable to access 'https://me:s3cr3t@github.com/a/b/': x ssh://k@h/p";
        assert_eq!(without_credentials(line), "fatal: unable to access 'https://***@github.com/a/b/': x ssh://***@h/p");
        assert_eq!(without_credentials("fatal: no"), "fatal: no");
    }

    #[test]
    fn the_telling_line_is_found_and_whether_it_is_for_a_person() {
        let tail = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n";
        for (said, line, person) in [
            ("git@h: Permission denied (publickey).\n", "git@h: Permission denied (publickey).", true),
            ("Host key verification failed.\n", "Host key verification failed.", true),
            (
                "ssh: Could not resolve hostname h: Name or service not known\n",
                "ssh: Could not resolve hostname h: Name or service not known",
                true,
            ),
            (
                "ssh: Could not resolve hostname h: Temporary failure in name resolution\n",
                "ssh: Could not resolve hostname h: Temporary failure in name resolution",
                false,
            ),
            (
                "ssh: connect to host h port 22: Connection refused\n",
                "ssh: connect to host h port 22: Connection refused",
                false,
            ),
            (
                "fatal: '/r.git' does not appear to be a git repository\n",
                "fatal: '/r.git' does not appear to be a git repository",
                false,
            ),
        ] {
            let found = complaint(format!("{said}{tail}").as_bytes());
            assert_eq!((found.as_str(), needs_a_person(&found)), (line, person));
        }
        let https = "fatal: could not read Username for 'https://h': terminal prompts disabled\n";
        assert!(needs_a_person(&complaint(https.as_bytes())));
        let hook = "the operator's hook says no\nerror: failed to push some refs to '/r.git'\n";
        assert_eq!(complaint(hook.as_bytes()), "the operator's hook says no");
        let silent = "error: failed to push some refs to '/r.git'\n";
        assert_eq!(complaint(silent.as_bytes()), "error: failed to push some refs to '/r.git'");
        assert_eq!(complaint(b""), "no message");
    }

    #[test]
    fn the_remotes_own_words_are_found() {
        let said = b"remote: \nremote: ----\nremote: error: GH006: Protected branch\nTo x\n";
        assert_eq!(of_the_remote(said).as_deref(), Some("error: GH006: Protected branch"));
        assert_eq!(of_the_remote(b"To x\n"), None);
    }
}
