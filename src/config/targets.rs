//! What must hold between CLOUD, the configuration file and the targets' roots (contract sections 1 and 4).

use std::path::{Path, PathBuf};

use executor::policy::SERVICE_FOLDERS;

use super::MAIN_TARGET;
use super::error::{ConfigError, KeyFault};
use super::raw::RawTarget;
use super::source::Source;

/// The longest chain of symbolic links that is followed.
const MAX_LINKS: usize = 40;

/// Refuses a configuration file that lies inside `cloud`, or that a link inside `cloud` leads to: whoever can push
/// could rewrite the one or bend the other.
///
/// # Errors
/// When it does.
pub fn refuse_inside(file: &Path, cloud: &Path) -> Result<(), ConfigError> {
    let inside = || ConfigError::InsideCloud { file: file.to_owned(), cloud: cloud.to_owned() };
    let unreadable = |error: std::io::Error| ConfigError::File { file: file.to_owned(), what: error.to_string() };
    let mut place = std::path::absolute(file).map_err(unreadable)?;
    for _ in 0..MAX_LINKS {
        // Every folder on the way counts: one that is reached through a link inside CLOUD can be bent there.
        let on_the_way = |folder: &Path| folder.canonicalize().is_ok_and(|folder| folder.starts_with(cloud));
        if place.ancestors().skip(1).any(on_the_way) {
            return Err(inside());
        }
        match std::fs::read_link(&place) {
            Ok(next) => place = place.parent().unwrap_or(Path::new("/")).join(next),
            Err(_) => return Ok(()),
        }
    }
    Err(ConfigError::File { file: file.to_owned(), what: "too many symbolic links".to_owned() })
}

/// The canonical root of the target `name`.
///
/// # Errors
/// When it does not exist, is no folder, contains CLOUD, lies inside its `.git` or the bridge's own folders, or is not
/// CLOUD where it must be.
pub fn root(name: &str, raw: Option<&RawTarget>, cloud: &Path, source: &Source) -> Result<PathBuf, ConfigError> {
    let key = ["targets".to_owned(), name.to_owned(), "root".to_owned()];
    let wrong =
        |found: String, expected: &str| source.fault(&key, KeyFault::Wrong { found, expected: expected.to_owned() });
    let Some(wished) = raw.and_then(|raw| raw.root.as_ref()) else {
        if name == MAIN_TARGET {
            return Ok(cloud.to_owned());
        }
        return Err(source
            .fault(&key, KeyFault::Missing { expected: "a path in double quotes: an existing folder".to_owned() }));
    };
    let path = source.base_of(&key).join(wished);
    let shown = |what: &str| format!("{}, {what}", path.display());
    let root = path
        .canonicalize()
        .map_err(|error| wrong(shown(&format!("which cannot be used ({error})")), "an existing folder"))?;
    if !root.is_dir() {
        return Err(wrong(shown("which is no folder"), "an existing folder"));
    }
    if name == MAIN_TARGET && root != cloud {
        return Err(wrong(
            shown("which is not CLOUD"),
            "CLOUD itself for the target MAIN: leave the key out, or give the other folder a target of its own",
        ));
    }
    if root != cloud && cloud.starts_with(&root) {
        return Err(wrong(shown("which contains CLOUD"), "a folder that does not contain CLOUD"));
    }
    if SERVICE_FOLDERS.iter().any(|folder| root.starts_with(cloud.join(folder))) {
        return Err(wrong(
            shown("which lies in one of the bridge's own folders"),
            "a folder outside commands, meta, results, diffs, archive, dead_letter and logs",
        ));
    }
    if root.starts_with(cloud.join(".git")) || cloud_git_folder(cloud).is_some_and(|git| root.starts_with(git)) {
        return Err(wrong(shown("which lies inside CLOUD's .git"), "a folder outside CLOUD's .git"));
    }
    Ok(root)
}

/// Where CLOUD's `.git` really is, should it be a link or the pointer of a linked work tree.
fn cloud_git_folder(cloud: &Path) -> Option<PathBuf> {
    let git = cloud.join(".git");
    if git.is_dir() {
        return git.canonicalize().ok();
    }
    let text = std::fs::read_to_string(&git).ok()?;
    cloud.join(text.strip_prefix("gitdir:")?.trim()).canonicalize().ok()
}
