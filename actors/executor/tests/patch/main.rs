//! The patch engine by itself: what it makes of trees in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
// The git here is a bystander that makes, applies and shows diffs: no service, no secrets.
#![allow(clippy::disallowed_methods)]
#![cfg(unix)]

mod against_git;
mod backwards;
mod conflicts;
mod features;
mod history;
mod hostile;
mod twins;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::process::Command;

use executor::patch::files::{self, FilesError, Kind};
use executor::patch::parse::parse;
use executor::patch::{Diff, Name};
use executor::tree::Image;

/// Path → content, and whether it is executable.
pub type Files = BTreeMap<String, (Vec<u8>, bool)>;

pub fn files<const N: usize>(files: [(&str, &str); N]) -> Files {
    files.into_iter().map(|(path, content)| (path.to_owned(), (content.as_bytes().to_vec(), false))).collect()
}

/// What comes of `before` by `diff`, or why nothing does.
pub fn play(before: &Files, diff: &[u8]) -> Result<Files, String> {
    let parsed = parse(diff.to_vec());
    match parsed.fault {
        Some(fault) => Err(fault.to_string()),
        None => play_as(Kind::Sent, before, &parsed.diff),
    }
}

pub fn play_as(kind: Kind, before: &Files, diff: &Diff) -> Result<Files, String> {
    // As policy has it.
    let mut names = diff.files.iter().flat_map(|file| file.old.iter().chain(&file.new));
    if let Some(name) = names.find(|name| name.as_str().is_none()) {
        return Err(format!("a path must be UTF-8: {name}"));
    }
    let look = |name: &Name| {
        let image = |(content, executable): &(Vec<u8>, bool)| Image {
            content: content.as_slice().into(),
            bits: if *executable { 0o755 } else { 0o644 },
        };
        Ok::<_, Infallible>(before.get(name.as_str().unwrap()).map(image))
    };
    let outcomes = files::play(diff, kind, look, |_| false);
    let outcomes = outcomes.map_err(|error| match error {
        FilesError::Patch(error) => error.to_string(),
        FilesError::TooLarge(what) => what,
        FilesError::Look(never) => match never {},
    })?;
    let mut after = before.clone();
    for (name, image) in files::result(&outcomes) {
        let name = name.as_str().unwrap().to_owned();
        match image {
            Some(image) => drop(after.insert(name, (image.content.to_vec(), image.bits & 0o100 != 0))),
            None => drop(after.remove(&name)),
        }
    }
    Ok(after)
}

/// A git that knows no settings but the repository's.
pub fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    git.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap()).args(["-c", "safe.directory=*"]);
    for inherited in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX"] {
        git.env_remove(inherited);
    }
    git
}

/// What git prints; it must succeed.
pub fn printed(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub fn lay(root: &Path, files: &Files) {
    use std::os::unix::fs::PermissionsExt;
    for (path, (content, executable)) in files {
        let full = root.join(path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(&full, content).unwrap();
        std::fs::set_permissions(&full, PermissionsExt::from_mode(if *executable { 0o755 } else { 0o644 })).unwrap();
    }
}

pub fn gather(root: &Path) -> Files {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Files::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.extend((path.file_name().unwrap() != ".git").then_some(path));
            } else {
                let executable = path.metadata().unwrap().permissions().mode() & 0o100 != 0;
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, (std::fs::read(&path).unwrap(), executable));
            }
        }
    }
    found
}
