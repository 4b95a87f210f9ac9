//! The pre-commit guard: a hook that keeps the bridge's own state out of a person's commits.
//!
//! It only ever says no. It changes neither the index nor a file, and every other commit passes: taking such a file
//! *out* of the repository, and committing commands, which is how they travel.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::git;

/// The line by which our own hook is known.
const MARKER: &str = "# ghost-bridge: pre-commit guard";

/// The hook. Git runs it at the top of the work tree.
const HOOK: &str = "\
#!/bin/sh
# ghost-bridge: pre-commit guard
# Keeps the bridge's own state out of commits. It unstages and deletes nothing.
staged=$(git diff --cached --name-only --diff-filter=d -- commands/.retries.json .bridge.lock meta/journal)
[ -z \"$staged\" ] && exit 0
{
  echo 'pre-commit: these belong to the running bridge and must not be committed:'
  printf '%s\\n' \"$staged\" | sed 's/^/  /'
  echo 'Take each out with: git rm --cached -r -- PATH   (the file itself stays)'
} >&2
exit 1
";

/// What became of the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It is written, for the first time or anew.
    Written(PathBuf),
    /// It was there already, as it should be.
    Kept(PathBuf),
    /// Somebody's own hook is there; it stays.
    Foreign(PathBuf),
    /// The hooks folder serves other repositories too; nothing was put there.
    Shared(PathBuf),
}

/// Installs the hook in the repository of the work tree `cloud`.
///
/// # Errors
/// When git cannot be asked, or the hook cannot be written.
pub fn install(cloud: &Path) -> io::Result<Guard> {
    let ask = |what: &str| git::ask_with_hooks(cloud, &["rev-parse", "--git-path", what]).map_err(io::Error::other);
    let folder = cloud.join(ask("hooks")?);
    let own = cloud.join(git::ask(cloud, &["rev-parse", "--git-common-dir"]).map_err(io::Error::other)?);
    // A folder of core.hooksPath outside this repository belongs to all that share it.
    let is_ours = [own.as_path(), cloud].into_iter().any(|home| within(&folder, home));
    let hook = folder.join("pre-commit");
    if !is_ours {
        return Ok(Guard::Shared(hook));
    }
    match fs::symlink_metadata(&hook) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_file() => return Ok(Guard::Foreign(hook)),
        Ok(metadata) => {
            let text = fs::read(&hook)?;
            if !text.split(|byte| *byte == b'\n').any(|line| line == MARKER.as_bytes()) {
                return Ok(Guard::Foreign(hook));
            }
            if text == HOOK.as_bytes() && metadata.permissions().mode() & 0o111 == 0o111 {
                return Ok(Guard::Kept(hook));
            }
        }
    }
    fs::create_dir_all(&folder)?;
    write(&folder, &hook)?;
    Ok(Guard::Written(hook))
}

/// Whether the hook is installed in the repository of the work tree `cloud`, as it should be.
///
/// # Errors
/// When git cannot be asked, or the hook cannot be read.
pub fn is_installed(cloud: &Path) -> io::Result<bool> {
    let hook =
        git::ask_with_hooks(cloud, &["rev-parse", "--git-path", "hooks/pre-commit"]).map_err(io::Error::other)?;
    let hook = cloud.join(hook);
    match fs::symlink_metadata(&hook) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(metadata) => {
            let is_executable = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
            Ok(is_executable && fs::read(&hook)? == HOOK.as_bytes())
        }
    }
}

/// Whether `folder`, or the nearest folder above it that exists, lies in `home`.
fn within(folder: &Path, home: &Path) -> bool {
    let Ok(home) = home.canonicalize() else { return false };
    folder.ancestors().find_map(|place| place.canonicalize().ok()).is_some_and(|place| place.starts_with(home))
}

fn write(folder: &Path, hook: &Path) -> io::Result<()> {
    let hidden = folder.join(format!(".pre-commit.{}-{:08x}", std::process::id(), rand::random::<u32>()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(&hidden)?;
        file.write_all(HOOK.as_bytes())?;
        // Whatever the umask took away: git ignores a hook that is not executable.
        file.set_permissions(Permissions::from_mode(0o755))?;
        file.sync_all()?;
        fs::rename(&hidden, hook)
    };
    write().inspect_err(|_| {
        // The half-written file is ours alone.
        let _ = fs::remove_file(&hidden);
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOBODY: [&str; 6] = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];

    fn repository() -> (tempfile::TempDir, PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let cloud = guard.path().canonicalize().unwrap();
        git::ask(&cloud, &["init", "--quiet", "--initial-branch=main"]).unwrap();
        fs::create_dir(cloud.join("commands")).unwrap();
        (guard, cloud)
    }

    fn commit(cloud: &Path) -> Result<String, git::GitError> {
        git::ask_with_hooks(cloud, &[&NOBODY[..], &["commit", "--quiet", "--message", "x"]].concat())
    }

    #[test]
    fn it_blocks_the_bridges_state_and_nothing_else() {
        let (_guard, cloud) = repository();
        fs::write(cloud.join("commands/.retries.json"), "{}").unwrap();
        git::ask(&cloud, &["add", "--force", "."]).unwrap();
        commit(&cloud).unwrap();
        assert!(!is_installed(&cloud).unwrap());
        assert!(matches!(install(&cloud).unwrap(), Guard::Written(_)));
        assert!(is_installed(&cloud).unwrap());
        assert!(matches!(install(&cloud).unwrap(), Guard::Kept(_)));
        // Changed: blocked, and everything is as it was.
        fs::write(cloud.join("commands/.retries.json"), "{ }").unwrap();
        fs::write(cloud.join("commands/a.json"), "{}").unwrap();
        git::ask(&cloud, &["add", "--force", "."]).unwrap();
        let before = git::ask(&cloud, &["status", "--porcelain"]).unwrap();
        let words = commit(&cloud).unwrap_err().to_string();
        assert!(words.contains("commands/.retries.json") && words.contains("git rm --cached"), "{words}");
        assert_eq!(git::ask(&cloud, &["status", "--porcelain"]).unwrap(), before);
        // Taken out of the repository, beside a command: passes.
        git::ask(&cloud, &["rm", "--quiet", "--cached", "--force", "commands/.retries.json"]).unwrap();
        commit(&cloud).unwrap();
    }

    #[test]
    fn an_unborn_branch_is_guarded_too() {
        let (_guard, cloud) = repository();
        install(&cloud).unwrap();
        fs::write(cloud.join(".bridge.lock"), "").unwrap();
        git::ask(&cloud, &["add", "--force", "."]).unwrap();
        assert!(commit(&cloud).is_err());
        git::ask(&cloud, &["rm", "--quiet", "--cached", ".bridge.lock"]).unwrap();
        fs::write(cloud.join("commands/a.json"), "{}").unwrap();
        git::ask(&cloud, &["add", "commands"]).unwrap();
        commit(&cloud).unwrap();
    }

    #[test]
    fn somebody_elses_hook_and_shared_folders_stay_as_they_are() {
        let (_guard, cloud) = repository();
        let hook = cloud.join(".git/hooks/pre-commit");
        fs::create_dir_all(cloud.join(".git/hooks")).unwrap();
        fs::write(&hook, "#!/bin/sh\ntrue\n").unwrap();
        assert_eq!(install(&cloud).unwrap(), Guard::Foreign(hook.clone()));
        assert_eq!(fs::read_to_string(&hook).unwrap(), "#!/bin/sh\ntrue\n");
        let elsewhere = tempfile::tempdir().unwrap();
        git::ask(&cloud, &["config", "core.hooksPath", &elsewhere.path().to_string_lossy()]).unwrap();
        assert!(matches!(install(&cloud).unwrap(), Guard::Shared(_)));
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        git::ask(&cloud, &["config", "core.hooksPath", ".githooks"]).unwrap();
        assert_eq!(install(&cloud).unwrap(), Guard::Written(cloud.join(".githooks/pre-commit")));
    }
}
