//! The tree of a commit, put up for a dry run: read from the objects, without a checkout and without a word in the
//! repository. No filter and no conversion of line ends is applied: what counts is what was committed.

use std::path::Path;

use executor::replay::stage::{Kind, Stage};
use executor::tree::{Image, MAX_FILE_BYTES};
use protocol::command::FileMode;

use crate::exit::Failure;
use crate::git::{self, GitError};

/// The longest listing of a commit's files that is taken, in bytes: some half a million files.
const MAX_LISTING_BYTES: u64 = 64 * 1024 * 1024;
/// The most that the files that a command names may have together, in bytes.
const MAX_CONTENT_BYTES: u64 = 256 * 1024 * 1024;

/// The commit that `name` stands for in the repository that `root` belongs to.
///
/// # Errors
/// When there is no such commit, or no repository.
pub fn resolve(root: &Path, name: &str) -> Result<String, Failure> {
    let shown = root.display();
    git::ask(root, &["rev-parse", "--git-dir"]).map_err(|error| {
        Failure::config(format!("--on {name}: no such folder, and {shown} belongs to no git repository: {error}"))
    })?;
    let commit = format!("{name}^{{commit}}");
    git::ask(root, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]).map_err(|error| match error {
        GitError::Failed { .. } => Failure::usage(format!(
            "--on {name} is neither a folder nor a commit of the repository of {shown} (see: git log)"
        )),
        other => Failure::failed(other),
    })
}

/// Puts `commit`'s files beneath `root` up in `stage`, as far as the command names them.
///
/// # Errors
/// When git fails or the stand-in cannot be written.
pub fn put_up(root: &Path, commit: &str, stage: &Stage) -> Result<(), Failure> {
    let fault = |path: &str, error: std::io::Error| {
        Failure::failed(format!("cannot write {path} beneath {}: {error}; see to TMPDIR", stage.path().display()))
    };
    let prefix = git::ask(root, &["rev-parse", "--show-prefix"]).map_err(Failure::failed)?;
    // With the prefix as the path the listing holds what lies beneath the root alone.
    let mut args = vec!["ls-tree", "-r", "-z", "--full-tree", commit];
    if !prefix.is_empty() {
        args.extend(["--", prefix.as_str()]);
    }
    let listing = git::read(root, &args, Vec::new(), MAX_LISTING_BYTES).map_err(Failure::failed)?;
    let mut files = Vec::new();
    for line in listing.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        // A name that is no UTF-8 can be named by no command.
        let Some(entry) = std::str::from_utf8(line).ok().and_then(|line| Entry::read(line, &prefix)) else { continue };
        if entry.is_file() && stage.needs(entry.path) {
            files.push(entry);
        } else {
            stage.stand_in(entry.path, entry.kind()).map_err(|error| fault(entry.path, error))?;
        }
    }
    let ids: String = files.iter().map(|file| format!("{}\n", file.id)).collect();
    let most = MAX_CONTENT_BYTES + ids.len() as u64 + listing.len() as u64;
    let output = git::read(root, &["cat-file", "--batch"], ids.into_bytes(), most).map_err(Failure::failed)?;
    let mut rest = output.as_slice();
    for file in files {
        let (content, tail) = blob(rest, file.id).map_err(|what| Failure::failed(format!("{}: {what}", file.path)))?;
        let image = Image { content: content.into(), bits: file.file_mode().bits() };
        stage.file(file.path, &image).map_err(|error| fault(file.path, error))?;
        rest = tail;
    }
    Ok(())
}

/// One line of `ls-tree`.
#[derive(Clone, Copy)]
struct Entry<'l> {
    mode: &'l str,
    id: &'l str,
    path: &'l str,
}

impl<'l> Entry<'l> {
    /// `<mode> <type> <id>\t<path>`; `None` for a path that no tree should hold.
    fn read(line: &'l str, prefix: &str) -> Option<Self> {
        let (head, path) = line.split_once('\t')?;
        let mut head = head.split(' ');
        let (mode, _, id) = (head.next()?, head.next()?, head.next()?);
        let path = path.strip_prefix(prefix)?;
        path.split('/').all(|name| !matches!(name, "" | "." | "..")).then_some(Self { mode, id, path })
    }

    fn is_file(&self) -> bool {
        self.mode.starts_with("100")
    }

    fn file_mode(&self) -> FileMode {
        if self.mode == "100755" { FileMode::Executable } else { FileMode::Regular }
    }

    fn kind(&self) -> Kind {
        match self.mode {
            "120000" => Kind::Link,
            // A submodule is a folder.
            "160000" => Kind::Folder,
            _ => Kind::File,
        }
    }
}

/// The next object of `cat-file --batch`: `<id> blob <size>\n<content>\n`.
fn blob<'o>(output: &'o [u8], id: &str) -> Result<(&'o [u8], &'o [u8]), String> {
    let missing = || format!("the object {id} is not in the repository");
    let end = output.iter().position(|byte| *byte == b'\n').ok_or_else(missing)?;
    let (head, rest) = output.split_at_checked(end + 1).ok_or_else(missing)?;
    let head = std::str::from_utf8(head).unwrap_or_default().trim_end();
    let size = head.strip_prefix(id).and_then(|rest| rest.strip_prefix(" blob ")).ok_or_else(missing)?;
    let size: u64 = size.parse().map_err(|_| missing())?;
    if size > MAX_FILE_BYTES {
        return Err(format!("is larger than the {MAX_FILE_BYTES} bytes that the bridge reads of a file"));
    }
    let (content, rest) =
        usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size)).ok_or_else(missing)?;
    Ok((content, rest.strip_prefix(b"\n").unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn objects_are_read_one_after_the_other_whatever_they_hold() {
        let output = b"aa blob 3\n\n\n\n\nbb blob 0\n\ncc missing\n";
        let (content, rest) = blob(output, "aa").unwrap();
        assert_eq!(content, b"\n\n\n");
        let (content, rest) = blob(rest, "bb").unwrap();
        assert_eq!(content, b"");
        assert!(blob(rest, "cc").unwrap_err().contains("not in the repository"));
        assert!(blob(b"aa blob 9\nshort", "aa").is_err());
        assert!(blob(b"aa blob 99999999999\n", "aa").unwrap_err().contains("is larger"));
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_passed_over() {
        let entry =
            |path: &str| Entry::read(&format!("100644 blob aa\tsub/{path}"), "sub/").map(|entry| entry.path.to_owned());
        assert_eq!(entry("a b/c").as_deref(), Some("a b/c"));
        assert_eq!((entry("../x"), entry("a//b"), entry("./a"), entry("")), (None, None, None, None));
    }
}
