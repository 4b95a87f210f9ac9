//! The index, in lockstep with the branch: what a person sees and commits while the bridge works.

use std::path::Path;

use publisher::PublisherConfig;

use crate::world::{World, files_of, git, run, subjects, try_git, until, write};

/// What git would have to read again to tell whether it changed; nothing is refreshed first.
fn stat_dirty(cloud: &Path) -> String {
    git(cloud, &["diff-files", "--name-only"])
}

#[test]
fn a_person_who_commits_right_after_the_bridge_commits_their_own_file_alone() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        for n in 0..20 {
            let filed = world.file(&format!("c-{n}"));
            bridge.send(filed).await;
            write(&world.cloud, "mine.txt", &format!("{n}\n"));
            let subject = format!("bridge: results c-{n} (exit=0)");
            // The moment that the branch has it.
            until("its commit", || subjects(&world.cloud, "main").contains(&subject)).await;
            until("no lock", || try_git(&world.cloud, &["add", "mine.txt"]).status.success()).await;
            until("their commit", || try_git(&world.cloud, &["commit", "-qm", &format!("mine {n}")]).status.success())
                .await;
            let mine = git(&world.cloud, &["log", "-1", "--format=%H", "--author=Person"]);
            assert_eq!(files_of(&world.cloud, &mine), ["mine.txt"], "{n}");
        }
        bridge.quiet(&world, 20).await;
        until("the push", || bridge.status.unpushed_commits() == 0).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}

#[test]
fn an_older_index_that_a_git_program_puts_back_is_brought_in_line_again() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let index = world.cloud.join(".git/index");
        let older = std::fs::read(&index).unwrap();
        let a = world.file("a");
        bridge.send(a).await;
        until("its commit", || subjects(&world.cloud, "main").len() == 2).await;
        until("no lock", || !world.cloud.join(".git/index.lock").exists()).await;
        // What `git commit` does when the branch moves between its reading of the index and its lock.
        let put = world.cloud.join(".git/theirs");
        std::fs::write(&put, older).unwrap();
        std::fs::rename(&put, &index).unwrap();
        until("the index", || git(&world.cloud, &["diff", "--cached", "--name-only"]).is_empty()).await;
    });
}

#[test]
fn the_index_is_in_line_when_the_branch_moves_and_git_need_not_read_the_files_again() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        for n in 0..5u64 {
            let filed = world.file(&format!("c-{n}"));
            bridge.send(filed).await;
            let subject = format!("bridge: results c-{n} (exit=0)");
            until("its commit", || subjects(&world.cloud, "main").last() == Some(&subject)).await;
        }
        bridge.quiet(&world, 5).await;
        assert_eq!(git(&world.cloud, &["write-tree"]), git(&world.cloud, &["rev-parse", "HEAD^{tree}"]));
        assert_eq!(stat_dirty(&world.cloud), "");
        // A file of the bridge's that somebody changes shows, of the same size or not.
        write(&world.cloud, "results/c-1.json", &"x".repeat("results/c-1.json\n".len()));
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), " M results/c-1.json\n?? meta/");
    });
}

#[test]
fn what_is_staged_stays_staged_and_what_is_half_merged_stays_half_merged() {
    let mut world = World::seeded();
    let cloud = world.cloud.clone();
    write(&cloud, "src/b.txt", "b\n");
    write(&cloud, "src/later.txt", "later\n");
    git(&cloud, &["add", "src/b.txt"]);
    git(&cloud, &["add", "-N", "src/later.txt"]);
    git(&cloud, &["rm", "-q", "--cached", "README.md"]);
    let blob = git(&cloud, &["hash-object", "-w", "src/b.txt"]);
    let stages = format!("100644 {blob} 1\tsrc/a.txt\n100644 {blob} 2\tsrc/a.txt\n100644 {blob} 3\tsrc/a.txt\n");
    std::fs::write(cloud.join("stages"), &stages).unwrap();
    git(&cloud, &["update-index", "--force-remove", "src/a.txt"]);
    let fed = std::fs::File::open(cloud.join("stages")).unwrap();
    let done = std::process::Command::new("git")
        .args(["update-index", "--index-info"])
        .current_dir(&cloud)
        .stdin(fed)
        .status()
        .unwrap();
    assert!(done.success());
    std::fs::remove_file(cloud.join("stages")).unwrap();
    let staged = |cloud: &Path| git(cloud, &["ls-files", "--stage", "--", "src", "README.md"]);
    let before = (staged(&cloud), git(&cloud, &["status", "--porcelain", "--", "src", "README.md"]));
    assert!(before.0.contains(" 3\tsrc/a.txt"), "{before:?}");
    run(world.config(), |bridge| async move {
        for n in 0..3u64 {
            let filed = world.file(&format!("c-{n}"));
            bridge.send(filed).await;
            until("its commit", || bridge.status.committed() > n).await;
        }
        bridge.quiet(&world, 3).await;
        let after = (staged(&cloud), git(&cloud, &["status", "--porcelain", "--", "src", "README.md"]));
        assert_eq!(after, before);
    });
}

#[test]
fn an_index_that_cannot_be_read_holds_up_no_commit_and_is_said() {
    let mut world = World::seeded();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let index = world.cloud.join(".git/index");
        std::fs::write(&index, "no index").unwrap();
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        until("it is said", || bridge.status.index_is_held()).await;
        assert_eq!(std::fs::read(&index).unwrap(), b"no index");
        std::fs::remove_file(&index).unwrap();
        bridge.quiet(&world, 1).await;
        until("the index", || !bridge.status.index_is_held()).await;
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}

/// A history with so many rolled-over artifacts that their years are folded: 2 folders with `each` files.
fn with_history(world: &World, each: usize) {
    let mut feed = String::from("blob\nmark :1\ndata 3\nold\ncommit refs/heads/main\n");
    feed += "committer Person <person@example.org> 1700000000 +0000\ndata 7\nhistory\nfrom refs/heads/main^0\n";
    for folder in ["archive", "results"] {
        for n in 0..each {
            feed += &format!("M 100644 :1 {folder}/2025/01/{:02}/0000/{n}.json\n", 1 + n % 28);
        }
    }
    let at = world.top().join("feed");
    std::fs::write(&at, feed).unwrap();
    let fed = std::process::Command::new("git")
        .args(["fast-import", "--quiet"])
        .current_dir(&world.cloud)
        .stdin(std::fs::File::open(&at).unwrap())
        .status()
        .unwrap();
    assert!(fed.success());
    git(&world.cloud, &["reset", "-q", "--hard"]);
    git(&world.cloud, &["push", "-q"]);
}

#[test]
fn years_are_folded_once_there_are_many_entries_and_git_tells_the_truth_all_the_same() {
    let mut world = World::seeded();
    with_history(&world, 200);
    let cloud = world.cloud.clone();
    let size = move || std::fs::metadata(cloud.join(".git/index")).unwrap().len();
    let full = size();
    run(PublisherConfig { fold_from: 400, ..world.config() }, |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        bridge.quiet(&world, 1).await;
        let folded = size();
        assert!(folded * 10 < full, "{folded} of {full} bytes");
        let cloud = &world.cloud.clone();
        let status = || git(cloud, &["status", "--porcelain"]);
        assert_eq!(status(), "?? meta/");
        assert_eq!(git(cloud, &["write-tree"]), git(cloud, &["rev-parse", "HEAD^{tree}"]));
        // A person works on; git unfolds the years, and the bridge folds them again.
        write(cloud, "mine.txt", "mine\n");
        write(cloud, "results/2025/01/01/0000/new.json", "new\n");
        assert_eq!(status(), "?? meta/\n?? mine.txt\n?? results/2025/01/01/0000/new.json");
        git(cloud, &["add", "mine.txt"]);
        assert!(size() > full / 2);
        let b = world.file("b");
        bridge.send(b).await;
        bridge.quiet(&world, 2).await;
        assert!(size() * 10 < full, "folded again");
        assert_eq!(status(), "A  mine.txt\n?? meta/\n?? results/2025/01/01/0000/new.json");
        git(cloud, &["commit", "-qm", "mine"]);
        assert_eq!(files_of(cloud, "HEAD"), ["mine.txt"]);
        // What is staged in a year stays, and that year stays unfolded meanwhile.
        git(cloud, &["add", "results/2025/01/01/0000/new.json"]);
        let c = world.file("c");
        bridge.send(c).await;
        bridge.quiet(&world, 3).await;
        assert_eq!(status(), "A  results/2025/01/01/0000/new.json\n?? meta/");
        git(cloud, &["stash", "-q"]);
        git(cloud, &["stash", "pop", "-q", "--index"]);
        assert_eq!(status(), "A  results/2025/01/01/0000/new.json\n?? meta/");
        git(cloud, &["commit", "-qm", "new"]);
        assert_eq!(files_of(cloud, "HEAD"), ["results/2025/01/01/0000/new.json"]);
        // What is gone from the disk can be had back, and nothing is lost from it by git's own means.
        let old = cloud.join("results/2025/01/02/0000/1.json");
        std::fs::remove_file(&old).unwrap();
        let path = "results/2025/01/02/0000/1.json";
        git(cloud, &["restore", "--ignore-skip-worktree-bits", "--", path]);
        assert!(old.exists());
        git(cloud, &["reset", "-q", "--hard"]);
        git(cloud, &["clean", "-qfd", "results"]);
        assert!(old.exists());
        let d = world.file("d");
        bridge.send(d).await;
        bridge.quiet(&world, 4).await;
        assert_eq!(git(cloud, &["write-tree"]), git(cloud, &["rev-parse", "HEAD^{tree}"]));
        until("the push", || bridge.status.unpushed_commits() == 0).await;
        world.assert_sound();
    });
}

#[test]
fn a_year_that_is_folded_follows_a_roll_over_from_upstream_and_a_new_year_is_folded_with_it() {
    let mut world = World::seeded();
    with_history(&world, 200);
    run(PublisherConfig { fold_from: 400, ..world.config() }, |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        bridge.quiet(&world, 1).await;
        until("the push", || world.has_on_remote("bridge: results a (exit=0)")).await;
        let clone = world.clone("other");
        write(&clone, "results/2025/12/31/0000/x.json", "x\n");
        write(&clone, "results/2026/01/01/0000/y.json", "y\n");
        git(&clone, &["add", "-A"]);
        git(&clone, &["commit", "-qm", "theirs"]);
        git(&clone, &["push", "-q"]);
        until("their files", || world.cloud.join("results/2026/01/01/0000/y.json").exists()).await;
        let b = world.file("b");
        bridge.send(b).await;
        bridge.quiet(&world, 2).await;
        let bytes = std::fs::read(world.cloud.join(".git/index")).unwrap();
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(holds(b"results/2025/\0") && holds(b"results/2026/\0") && !holds(b"0000/y.json"));
        assert_eq!(git(&world.cloud, &["write-tree"]), git(&world.cloud, &["rev-parse", "HEAD^{tree}"]));
        assert_eq!(git(&world.cloud, &["status", "--porcelain"]), "?? meta/");
    });
}
