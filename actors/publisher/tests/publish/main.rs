//! The publisher against real repositories: work trees, bare remotes and hooks in temporary folders.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod apart;
mod commits;
mod faults;
mod hostile;
mod housekeeping;
mod lockstep;
mod odd;
mod persons;
mod pushing;
mod recovery;
mod remotes;
mod retries;
mod reworked;
mod rivals;
mod rolling;
mod speed;
mod startup;
mod switched;
mod work_tree;
mod world;

/// Git's own variable for the format of the repositories that it makes.
const OBJECT_FORMAT: &str = "GIT_DEFAULT_HASH";

/// What is tried in repositories of the other format too: what reads, makes or compares ids.
const IN_BOTH_FORMATS: [&str; 6] = ["apart::", "housekeeping::", "lockstep::", "recovery::", "reworked::", "rolling::"];

/// The same tests, started once more where git makes SHA-256 repositories, or SHA-1 if it makes these anyway. A
/// `GIT_DEFAULT_HASH` of the caller's is taken for all of them.
#[test]
fn what_depends_on_ids_holds_in_repositories_of_the_other_format() {
    if std::env::var_os(OBJECT_FORMAT).is_some() {
        return;
    }
    let usual = world::git(&world::World::unborn().cloud, &["rev-parse", "--show-object-format"]);
    let other = if usual == "sha1" { "sha256" } else { "sha1" };
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let output = again.args(IN_BOTH_FORMATS).env(OBJECT_FORMAT, other).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains(" 0 passed"), "{other}: {said}");
    println!("{other}: {}", said.lines().rfind(|line| line.starts_with("test result")).unwrap_or_default());
}
