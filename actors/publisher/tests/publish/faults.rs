//! What remotes do to those who push: refuse, hang, race, ask for a password, run full. And what a crash leaves.

use std::fs;
use std::path::Path;
use std::time::Duration;

use publisher::PublisherConfig;
use publisher::status::Push;

use crate::world::{World, git, run, script, subjects, try_git, until, write};

fn pushed(world: &World, id: &str) -> bool {
    world.has_on_remote(&format!("bridge: results {id} (exit=0)"))
}

fn hook(world: &World, name: &str, body: &str) {
    script(&world.remote.join("hooks"), name, body);
}

/// Each command once, in order, and nothing else but `others`; both sides are sound.
fn assert_published(world: &World, ids: &[String], others: usize) {
    let all = subjects(&world.remote, "main");
    let ours: Vec<_> = all.iter().filter(|subject| subject.starts_with("bridge: ")).cloned().collect();
    assert_eq!(ours, ids.iter().map(|id| format!("bridge: results {id} (exit=0)")).collect::<Vec<_>>());
    assert_eq!(all.len(), ids.len() + others, "{all:?}");
    assert_eq!(git(&world.remote, &["rev-list", "--merges", "--count", "main"]), "0");
    git(&world.remote, &["fsck", "--full", "--strict"]);
    world.assert_sound();
}

/// Whether a process runs whose command line contains `word`.
fn runs(word: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    })
}

#[test]
fn a_hook_that_hangs_costs_one_attempt_and_leaves_no_process() {
    let mut world = World::seeded();
    // A length that no other process here sleeps for.
    let seconds = format!("{}", 100_000 + std::process::id());
    let mark = world.top().join("hangs");
    hook(&world, "pre-receive", &format!("touch {}\nsleep {seconds}", mark.display()));
    let config = PublisherConfig { git_time_limit: Duration::from_millis(700), ..world.config() };
    run(config, |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("the hook to hang", || mark.exists() && runs(&seconds)).await;
        let b = world.file("b");
        bridge.send(b).await;
        until("commits meanwhile", || bridge.status.committed() == 2).await;
        until("the attempt to end", || bridge.status.pushes(Push::Failed) == 1).await;
        hook(&world, "pre-receive", "exit 0");
        until("both", || pushed(&world, "a") && pushed(&world, "b")).await;
        until("the hook to be gone", || !runs(&seconds)).await;
        assert_published(&world, &["a".to_owned(), "b".to_owned()], 1);
    });
}

#[test]
fn a_hook_that_refuses_at_random_delays_and_loses_nothing() {
    let mut world = World::seeded();
    // Two of three pushes are refused.
    let count = world.top().join("count");
    fs::write(&count, "").unwrap();
    hook(&world, "pre-receive", &format!("echo x >> {0}\ntest $(($(wc -l < {0}) % 3)) = 0", count.display()));
    run(world.config(), |bridge| async move {
        let ids: Vec<_> = (0..20).map(|n| format!("c-{n}")).collect();
        for id in &ids {
            let filed = world.file(id);
            bridge.send(filed).await;
            until("the commit", || subjects(&world.cloud, "main").contains(&format!("bridge: results {id} (exit=0)")))
                .await;
        }
        until("the last", || pushed(&world, "c-19") && bridge.status.unpushed_commits() == 0).await;
        assert!(bridge.status.pushes(Push::Failed) > 0);
        assert_published(&world, &ids, 1);
    });
}

/// A hook of the remote's that puts a commit of somebody else's on the branch, before whatever is being pushed.
const RACE: &str = "unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n\
    test \"$1\" = refs/heads/main || exit 0\n\
    export GIT_AUTHOR_NAME=R GIT_AUTHOR_EMAIL=r@example.org GIT_COMMITTER_NAME=R GIT_COMMITTER_EMAIL=r@example.org\n\
    git update-ref refs/heads/main $(git commit-tree -p main -m race 'main^{tree}')";

#[test]
fn a_server_that_races_every_push_is_no_failure_and_wins_only_while_it_does() {
    let mut world = World::seeded();
    let races = world.top().join("races");
    fs::write(&races, "").unwrap();
    hook(&world, "update", &format!("echo x >> {}\n{RACE}", races.display()));
    run(world.config(), |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        let count = || fs::read_to_string(&races).unwrap().lines().count();
        until("a number of races", || count() >= 8).await;
        assert_eq!((bridge.status.pushes(Push::Failed), bridge.status.is_degraded()), (0, false));
        fs::remove_file(world.remote.join("hooks/update")).unwrap();
        until("the push", || pushed(&world, "a") && bridge.status.unpushed_commits() == 0).await;
        let raced = subjects(&world.remote, "main").iter().filter(|subject| *subject == "race").count();
        assert_eq!(raced, count(), "none of the others' commits is lost");
        assert_published(&world, &["a".to_owned()], 1 + raced);
    });
}

#[test]
fn a_remote_that_wants_a_password_gets_none_and_asks_nobody() {
    let mut world = World::seeded();
    // As a server does that wants a login: git asks for the password of this address.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in listener.incoming().flatten() {
            let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                          Content-Length: 0\r\nConnection: close\r\n\r\n";
            // Whoever hangs up first is no matter here.
            let _request = stream.read(&mut [0; 4096]);
            let _answered = stream.write_all(answer.as_bytes());
        }
    });
    git(&world.cloud, &["remote", "set-url", "origin", &format!("http://me@{address}/r.git")]);
    let config = PublisherConfig { attempts: 2, ..world.config() };
    run(config, |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("degraded", || bridge.status.is_degraded()).await;
        let reason = bridge.status.degraded_reason().unwrap();
        assert!(reason.contains("terminal prompts disabled") || reason.contains("remote-http"), "{reason}");
        assert!(!reason.contains("me@"), "{reason}");
        git(&world.cloud, &["remote", "set-url", "origin", world.remote.to_str().unwrap()]);
        until("the push", || pushed(&world, "a")).await;
    });
}

#[test]
fn an_ssh_command_of_the_operators_is_left_as_it_is() {
    let mut world = World::seeded();
    let asked = world.top().join("asked");
    // It notes what it is told.
    let ssh = script(world.top(), "ssh", &format!("echo \"$@\" >> {}\nexit 255", asked.display()));
    git(&world.cloud, &["remote", "set-url", "origin", "ssh://nowhere.invalid/r.git"]);
    git(&world.cloud, &["config", "core.sshCommand", &format!("{} -o Own=yes", ssh.display())]);
    run(world.config(), |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        // The shell makes the file first, and writes into it then.
        let said = || fs::read_to_string(&asked).unwrap_or_default();
        until("ssh", || said().ends_with('\n')).await;
        let said = said();
        assert!(said.contains("Own=yes") && !said.contains("BatchMode"), "the operator's own command stays: {said}");
    });
}

#[test]
fn a_remote_whose_disk_is_full_gets_everything_when_there_is_room() {
    let mut world = World::seeded();
    // As a server ends that cannot write.
    let full = "echo 'fatal: write error: No space left on device' >&2\nexit 128";
    let program = script(world.top(), "full", full);
    git(&world.cloud, &["config", "remote.origin.receivepack", program.to_str().unwrap()]);
    let config = PublisherConfig { attempts: 2, ..world.config() };
    run(config, |bridge| async move {
        let filed = world.file("a");
        bridge.send(filed).await;
        until("degraded", || bridge.status.is_degraded()).await;
        let reason = bridge.status.degraded_reason().unwrap();
        assert!(reason.contains("No space left on device"), "{reason}");
        let filed = world.file("b");
        bridge.send(filed).await;
        until("the commit", || bridge.status.committed() == 2).await;
        git(&world.cloud, &["config", "--unset", "remote.origin.receivepack"]);
        until("both", || pushed(&world, "b") && bridge.status.unpushed_commits() == 0).await;
        assert_published(&world, &["a".to_owned(), "b".to_owned()], 1);
    });
}

#[test]
fn a_shallow_clone_is_published_and_takes_in_what_others_push() {
    let mut world = World::seeded();
    for n in 0..5 {
        write(&world.cloud, "src/a.txt", &n.to_string());
        git(&world.cloud, &["commit", "-qam", &format!("more {n}")]);
    }
    git(&world.cloud, &["push", "-q"]);
    let url = format!("file://{}", world.remote.display());
    git(world.top(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
    world.cloud = world.top().join("shallow");
    assert_eq!(git(&world.cloud, &["rev-list", "--count", "HEAD"]), "1");
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || pushed(&world, "a")).await;
        let clone = world.clone("other");
        write(&clone, "theirs.txt", "x\n");
        git(&clone, &["add", "-A"]);
        git(&clone, &["commit", "-qm", "theirs"]);
        git(&clone, &["push", "-q"]);
        until("their file", || world.cloud.join("theirs.txt").exists()).await;
        let b = world.file("b");
        bridge.send(b).await;
        until("the push", || pushed(&world, "b") && bridge.status.unpushed_commits() == 0).await;
        assert_published(&world, &["a".to_owned(), "b".to_owned()], 7);
    });
}

/// All that a crash may leave in the repository, and what belongs to nobody any more.
const LEFT: [&str; 9] = [
    "index.lock",
    "HEAD.lock",
    "packed-refs.lock",
    "config.lock",
    "shallow.lock",
    "refs/heads/main.lock",
    "refs/remotes/origin/main.lock",
    "refs/ghost-bridge/base.lock",
    "objects/pack/tmp_bridge_pack-0123.pack",
];

fn lies(git_dir: &Path, left: &str) -> bool {
    git_dir.join(left).exists()
}

#[test]
fn whatever_a_crash_left_holds_up_nothing() {
    let mut world = World::seeded();
    let git_dir = world.cloud.join(".git");
    LEFT.iter().for_each(|left| write(&git_dir, left, ""));
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || pushed(&world, "a") && bridge.status.unpushed_commits() == 0).await;
        bridge.quiet(&world, 1).await;
        for left in LEFT {
            assert!(!lies(&git_dir, left), "{left}");
        }
        assert!(try_git(&world.cloud, &["status", "--porcelain"]).status.success());
        assert_published(&world, &["a".to_owned()], 1);
    });
}

#[test]
fn a_rebase_of_another_branch_that_a_person_left_half_done_is_said_and_not_touched() {
    let mut world = World::seeded();
    let git_dir = world.cloud.join(".git");
    git(&world.cloud, &["branch", "other"]);
    write(&git_dir, "rebase-merge/head-name", "refs/heads/other\n");
    run(world.config(), |bridge| async move {
        let a = world.file("a");
        bridge.send(a).await;
        until("the push", || pushed(&world, "a")).await;
        assert!(lies(&git_dir, "rebase-merge/head-name"));
    });
}
