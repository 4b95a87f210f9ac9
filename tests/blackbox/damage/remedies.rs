//! Starts that are refused because nothing certain tells what was there: what the line says to do works.

use std::fs;
use std::path::Path;

use super::{Damage, End, end_of_start};
use crate::harness::cloud::set_mode;
use crate::harness::git::results;
use crate::harness::snapshot::files;
use crate::harness::{Bridge, Cloud, Doc};

/// A CLOUD that has published something and stands still.
fn published() -> Cloud {
    let cloud = Cloud::new();
    let bridge = Bridge::start(&cloud);
    bridge.run(&Doc::write("first", "docs/first.txt", "first\n"));
    bridge.stop();
    cloud
}

/// The line with which the start is refused; it holds all of `words`.
fn refusal(cloud: &Cloud, words: &[&str]) -> String {
    let bridge = Bridge::spawn(cloud, |_| {});
    let (status, line) = (bridge.ends(), bridge.log());
    assert_eq!((status.code(), line.lines().count()), (Some(78), 1), "{line}");
    assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
    line
}

/// Does, in a shell, what the line says from `from` on, with what only a person knows put in.
fn obey(cloud: &Cloud, line: &str, from: &str, known: &[(&str, &str)]) {
    let at = line.find(from).unwrap_or_else(|| panic!("{from}: {line}"));
    let mut script = line[at..].trim().trim_end_matches('`').replace('`', "");
    known.iter().for_each(|(word, value)| script = script.replace(word, value));
    let output = cloud.program("sh").args(["-e", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn assert_publishes(cloud: &Cloud) {
    let (end, log) = end_of_start(cloud, "after");
    assert_eq!(end, End::Published, "{log}");
    cloud.git(&["fsck", "--no-dangling"]);
}

/// The same where there is no remote.
fn assert_commits(cloud: &Cloud) {
    let bridge = Bridge::start(cloud);
    cloud.submit(&Doc::noop("local"));
    bridge.local_history("its commit", |history| history.iter().any(|it| it.subject == results("local", 0)));
    bridge.stop();
    cloud.git(&["fsck", "--no-dangling"]);
}

#[test]
fn a_configuration_that_is_lost_is_made_anew_as_the_line_says() {
    for damage in [Damage::Empty, Damage::Zeroed] {
        let cloud = published();
        assert!(damage.hit(&cloud.path(".git/config"), 0));
        let line = refusal(&cloud, &[".git/config", "remote add origin URL"]);
        obey(&cloud, &line, "mv ", &[("URL", cloud.remote().to_str().unwrap())]);
        assert_publishes(&cloud);
    }
}

#[test]
fn a_configuration_that_lost_its_remote_is_refused_until_it_is_said_what_is_meant() {
    let cloud = published();
    cloud.git(&["config", "--remove-section", "remote.origin"]);
    let line = refusal(&cloud, &[".git/config", "refs/remotes/origin/main"]);
    let command = line.split("; if commits").next().unwrap();
    obey(&cloud, command, "git -C", &[("URL", cloud.remote().to_str().unwrap())]);
    assert_publishes(&cloud);
    // Or commits are to stay here.
    cloud.git(&["config", "--remove-section", "remote.origin"]);
    let line = refusal(&cloud, &["stay local"]);
    obey(&cloud, line.split("from now on: ").nth(1).unwrap(), "git -C", &[]);
    assert_commits(&cloud);
}

#[test]
fn a_head_that_nothing_tells_of_is_written_as_the_line_says() {
    let cloud = published();
    cloud.git(&["branch", "twin"]);
    fs::remove_dir_all(cloud.path(".git/logs")).unwrap();
    assert!(Damage::Zeroed.hit(&cloud.path(".git/HEAD"), 0));
    let line = refusal(&cloud, &[".git/HEAD", "zeroed"]);
    obey(&cloud, &line, "echo ", &[("BRANCH", "main")]);
    assert_publishes(&cloud);
}

#[test]
fn a_head_that_names_a_branch_that_never_was_is_refused() {
    let cloud = published();
    cloud.write(".git/HEAD", "ref: refs/heads/mbin\n");
    let line = refusal(&cloud, &[".git/HEAD", "mbin", "refs/heads/main"]);
    obey(&cloud, line.split("`, or").next().unwrap(), "git -C", &[]);
    assert_publishes(&cloud);
}

#[test]
fn a_branch_that_nothing_tells_of_is_put_back_as_the_line_says() {
    let cloud = published();
    let tip = cloud.git(&["rev-parse", "HEAD"]);
    cloud.git(&["remote", "remove", "origin"]);
    for lost in ["logs", "refs/remotes", "refs/ghost-bridge"] {
        // Git takes away what is left of the remote.
        let _ = fs::remove_dir_all(cloud.path(".git").join(lost));
    }
    assert!(Damage::Empty.hit(&cloud.path(".git/refs/heads/main"), 0));
    let line = refusal(&cloud, &[".git/refs/heads/main", "empty"]);
    obey(&cloud, line.split("it, then `").nth(1).unwrap(), "rm -f ", &[("COMMIT", &tip)]);
    assert_commits(&cloud);
}

#[test]
fn a_branch_that_the_remote_alone_can_tell_of_waits_for_it() {
    let cloud = published();
    for lost in ["logs", "refs/remotes", "refs/ghost-bridge"] {
        fs::remove_dir_all(cloud.path(".git").join(lost)).unwrap();
    }
    assert!(Damage::Empty.hit(&cloud.path(".git/refs/heads/main"), 0));
    let away = cloud.world().join("away.git");
    fs::rename(cloud.remote(), &away).unwrap();
    refusal(&cloud, &[".git/refs/heads/main", "empty", "origin", "start again"]);
    fs::rename(away, cloud.remote()).unwrap();
    assert_publishes(&cloud);
    let subjects = cloud.subjects(&cloud.remote());
    assert_eq!(subjects.iter().filter(|it| it.subject == results("first", 0)).count(), 1);
}

#[test]
fn objects_that_nobody_else_has_are_fetched_from_a_clone_as_the_line_says() {
    let cloud = published();
    let clone = cloud.other_clone();
    cloud.git(&["repack", "-a", "-d", "-q"]);
    cloud.git(&["remote", "remove", "origin"]);
    let pack = files(&cloud.path(".git/objects/pack")).into_iter().find(|file| is_pack(file)).unwrap();
    set_mode(&pack, 0o644);
    assert!(Damage::Half.hit(&pack, 0));
    let line = refusal(&cloud, &[pack.file_name().unwrap().to_str().unwrap(), "--refetch"]);
    assert!(pack.exists(), "a start that is refused leaves all as it was");
    obey(&cloud, &line, "git -C", &[("PATH-OF-CLONE", clone.to_str().unwrap())]);
    assert_commits(&cloud);
}

#[test]
fn objects_that_are_borrowed_from_what_is_away_are_not_lost() {
    let cloud = published();
    // As a clone does that was made with `--reference`.
    let (lender, away) = (cloud.world().join("lender.git"), cloud.world().join("away.git"));
    cloud.git_at(cloud.world(), &["clone", "-q", "--mirror", "remote.git", "lender.git"]);
    cloud.write(".git/objects/info/alternates", format!("{}\n", lender.join("objects").display()));
    cloud.git(&["repack", "-a", "-d", "-l", "-q"]);
    let refs = cloud.git(&["for-each-ref"]);
    fs::rename(&lender, &away).unwrap();
    refusal(&cloud, &["info/alternates", "lender.git"]);
    fs::rename(&away, &lender).unwrap();
    assert_eq!(cloud.git(&["for-each-ref"]), refs, "nothing was touched");
    assert_publishes(&cloud);
}

fn is_pack(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "pack")
}
