//! Trees that no honest tool writes, pushed by somebody who has no secret. Each is judged by what it must not do: hold up
//! others, write outside CLOUD, or wait in the index or the work tree for a person's next `git checkout`.

use std::path::Path;
use std::process::Command;

use crate::world::{Bridge, World, git, git_with_input, read, run, script, subjects, try_git, until, write};

/// An entry of a tree: mode, name and object.
type Entry = (&'static str, Vec<u8>, String);

fn entry(mode: &'static str, name: &str, id: &str) -> Entry {
    (mode, name.as_bytes().to_vec(), id.to_owned())
}

/// Objects in the remote, made as they are wanted.
struct Forge<'a>(&'a Path);

impl Forge<'_> {
    fn put(&self, kind: &str, bytes: &[u8]) -> String {
        git_with_input(self.0, &["hash-object", "-t", kind, "-w", "--literally", "--stdin"], bytes)
    }

    /// The id of an object that nobody has.
    fn nobody(&self) -> String {
        "1".repeat(git(self.0, &["rev-parse", "main"]).len())
    }

    fn blob(&self, text: &str) -> String {
        self.put("blob", text.as_bytes())
    }

    /// A tree whose entries stand in this order.
    fn unsorted(&self, entries: &[Entry]) -> String {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(&[mode.as_bytes(), b" ", name, b"\0"].concat());
            let pair = |at: usize| u8::from_str_radix(&id[at..at + 2], 16).unwrap();
            bytes.extend((0..id.len()).step_by(2).map(pair));
        }
        self.put("tree", &bytes)
    }

    fn tree(&self, mut entries: Vec<Entry>) -> String {
        let folder = |mode: &str| mode.trim_start_matches('0').starts_with('4');
        entries.sort_by_key(|(mode, name, _)| [name.as_slice(), if folder(mode) { b"/" } else { b"" }].concat());
        self.unsorted(&entries)
    }

    /// `path` as folders above one entry.
    fn within(&self, folders: &[&str], inner: Entry) -> Entry {
        folders.iter().rev().fold(inner, |below, name| entry("40000", name, &self.tree(vec![below])))
    }

    /// Puts a commit on the remote's branch: its tree with these entries instead of those of the same name.
    fn push(&self, entries: Vec<Entry>) -> String {
        loop {
            let old = git(self.0, &["rev-parse", "main"]);
            let mut all = entries.clone();
            for line in git(self.0, &["ls-tree", "main"]).lines() {
                let (what, name) = line.split_once('\t').unwrap();
                let mut words = what.split(' ');
                let (mode, id) = (words.next().unwrap(), words.nth(1).unwrap());
                let modes = ["40000", "100755", "120000", "160000"];
                let mode = modes.into_iter().find(|known| mode.ends_with(known)).unwrap_or("100644");
                let quoted = name.starts_with('"');
                if !quoted && !all.iter().any(|(_, other, _)| other == name.as_bytes()) && name != "evil" {
                    all.push(entry(mode, name, id));
                }
            }
            if let Some(commit) = self.commit(&self.tree(all), &old) {
                return commit;
            }
        }
    }

    /// None where the bridge was faster.
    fn commit(&self, tree: &str, old: &str) -> Option<String> {
        let commit = git(self.0, &["commit-tree", "-p", old, "-m", "somebody", tree]);
        try_git(self.0, &["update-ref", "refs/heads/main", &commit, old]).status.success().then_some(commit)
    }
}

/// A script that leaves a mark, wherever it runs.
fn payload(world: &World) -> String {
    format!("#!/bin/sh\ntouch '{}'\n", world.top().join("mark").display())
}

/// What a person does in CLOUD, in a copy of it: nothing of it may write outside, or run what somebody sent.
fn persons_git_is_safe(world: &World, row: &str) {
    let hooks = |at: &Path| {
        let names = std::fs::read_dir(at.join(".git/hooks")).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let outside = std::fs::read_dir(world.top()).unwrap().count();
    let copy = world.top().join("copy");
    // The bridge works meanwhile: a file of its own may go while it is copied.
    while !Command::new("cp").arg("-a").arg(&world.cloud).arg(&copy).output().unwrap().status.success() {
        std::fs::remove_dir_all(&copy).unwrap();
    }
    let (before, config) = (hooks(&copy), std::fs::read(copy.join(".git/config")).unwrap());
    for args in [&["checkout", "--", "."][..], &["restore", "."], &["stash", "-q", "-u"], &["reset", "-q", "--hard"]] {
        let _whatever_it_says = try_git(&copy, args);
        assert_eq!(hooks(&copy), before, "{row}: {args:?}");
        assert_eq!(std::fs::read(copy.join(".git/config")).unwrap(), config, "{row}: {args:?}");
    }
    assert!(try_git(&copy, &["status"]).status.success(), "{row}: git status");
    std::fs::remove_dir_all(&copy).unwrap();
    assert!(!world.top().join("mark").exists(), "{row}: it ran");
    assert_eq!(std::fs::read_dir(world.top()).unwrap().count(), outside, "{row}: something was written outside");
}

async fn is_published(bridge: &Bridge, world: &mut World, id: &str) {
    let filed = world.file(id);
    bridge.send(filed).await;
    until(&format!("{id} on the remote"), || world.has_on_remote(&format!("bridge: results {id} (exit=0)"))).await;
}

/// What git refuses in a work tree, or nobody could take in: a name, the entries, and a word of the reason.
fn refused(forge: &Forge<'_>, evil: &str) -> Vec<(String, Vec<Entry>, &'static str)> {
    let mut rows = Vec::new();
    let names =
        [".git", ".GIT", "git~1", ".git ", ".git.", ".git::$INDEX_ALLOCATION", ".g\u{200c}it", "x\\.git", "..", "."];
    for name in names {
        let hooks = forge.within(&[name, "hooks"], entry("100755", "post-checkout", evil));
        rows.push((format!("a folder {name:?}"), vec![hooks.clone()], "where"));
        rows.push((
            format!("deep, a folder {name:?}"),
            vec![entry("40000", "evil", &forge.tree(vec![hooks]))],
            "evil/",
        ));
    }
    for name in ["a/b", "/tmp/mark", "../mark", ".git/hooks/post-checkout", "results/"] {
        rows.push((format!("a file {name:?}"), vec![entry("100755", name, evil)], "where"));
    }
    let link = forge.blob("/tmp");
    rows.push(("a file .git".into(), vec![entry("100644", ".git", &forge.blob("gitdir: /tmp"))], "where"));
    rows.push(("a link .git".into(), vec![entry("120000", ".git", &link)], "where"));
    rows.push(("a submodule .git".into(), vec![entry("160000", ".git", &forge.nobody())], "where"));
    rows.push(("a link .gitmodules".into(), vec![entry("120000", ".gitmodules", &link)], "git"));
    let below = forge.tree(vec![entry("100755", "mark", evil)]);
    rows.push((
        "a link and a folder of one name".into(),
        vec![entry("120000", "evil", &link), entry("40000", "evil", &below)],
        "twice",
    ));
    rows.push((
        "a file that is there twice".into(),
        vec![entry("100644", "evil", evil), entry("100644", "evil", &link)],
        "twice",
    ));
    let mut bomb = forge.tree(vec![entry("100644", "f", evil)]);
    for _ in 0..9 {
        bomb = forge.tree((0..10).map(|n| entry("40000", &format!("d{n}"), &bomb)).collect());
    }
    rows.push(("a billion files in ten objects".into(), vec![entry("40000", "evil", &bomb)], "more paths"));
    let deep = vec!["d"; 400];
    rows.push(("400 folders deep".into(), vec![forge.within(&deep, entry("100644", "f", evil))], "deeper"));
    rows
}

#[test]
fn what_git_refuses_in_a_work_tree_is_not_taken_in() {
    let mut world = World::seeded();
    let remote = world.remote.clone();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let forge = Forge(&remote);
        let evil = forge.blob(&payload(&world));
        is_published(&bridge, &mut world, "before").await;
        for (number, (row, entries, word)) in refused(&forge, &evil).into_iter().enumerate() {
            let listed = git(&world.cloud, &["ls-files", "-s"]);
            forge.push(entries);
            until(&format!("{row}: the reason"), || bridge.status.degraded_reason().is_some_and(|r| r.contains(word)))
                .await;
            let reason = bridge.status.degraded_reason().unwrap();
            // Others are filed and committed here.
            let id = format!("row-{number}");
            let filed = world.file(&id);
            bridge.send(filed).await;
            let subject = format!("bridge: results {id} (exit=0)");
            until(&format!("{row}: the commit"), || subjects(&world.cloud, "HEAD").contains(&subject)).await;
            let now = git(&world.cloud, &["ls-files", "-s"]);
            let strange: Vec<&str> = now.lines().filter(|line| !listed.contains(line) && !line.contains(&id)).collect();
            assert!(strange.iter().all(|line| line.ends_with("logs/bridge.log")), "{row}: {strange:?}");
            assert!(!world.cloud.join("evil").exists(), "{row}");
            persons_git_is_safe(&world, &row);
            // The remedy is the one that the reason names, where it names a command.
            match reason.split_once("set it back: ") {
                Some((_, remedy)) => {
                    let words: Vec<&str> = remedy.split(' ').collect();
                    git(&world.cloud, &words[1..]);
                }
                None => {
                    git(&remote, &["update-ref", "refs/heads/main", "main~1"]);
                }
            }
            until(&format!("{row}: all is well again"), || {
                world.has_on_remote(&subject) && !bridge.status.is_degraded()
            })
            .await;
        }
    });
}

/// What is odd and harms nobody: a name, and the entries.
fn taken(forge: &Forge<'_>, text: &str) -> Vec<(String, Vec<Entry>)> {
    let folder = |name: &str, entries: Vec<Entry>| entry("40000", name, &forge.tree(entries));
    let file = |name: &str| entry("100644", name, text);
    let mut rows = Vec::new();
    let links = [
        "".to_owned(),
        "x".repeat(4_096),
        "x".repeat(70_000),
        "a\0b".to_owned(),
        "/etc/passwd".to_owned(),
        "../..".to_owned(),
    ];
    for target in links {
        let shown: String = target.chars().take(10).collect();
        let link = entry("120000", "link", &forge.blob(&target));
        rows.push((format!("a link to {shown:?}"), vec![folder("evil", vec![link.clone(), file("z")])]));
        rows.push((format!("a link in context/ to {shown:?}"), vec![folder("context", vec![link])]));
    }
    for mode in ["100664", "100600", "100777", "0100644", "120777", "60000", "20666", "160000", "0"] {
        rows.push((
            format!("mode {mode}"),
            vec![folder("evil", vec![(mode, b"odd".to_vec(), text.to_owned()), file("z")])],
        ));
    }
    rows.push(("a folder of mode 40755".into(), vec![("40755", b"evil".to_vec(), forge.tree(vec![file("z")]))]));
    for top in ["results", "commands", "logs", "meta", "context", "archive", "diffs", "dead_letter", "summaries"] {
        rows.push((format!("a file {top}"), vec![entry("100644", top, text)]));
        rows.push((format!("a link {top}"), vec![entry("120000", top, &forge.blob("/tmp"))]));
        rows.push((format!("a submodule {top}"), vec![entry("160000", top, &forge.nobody())]));
    }
    for name in ["results", "diffs", "archive", "dead_letter"] {
        let inner = folder("later.json", vec![file("x")]);
        rows.push((format!("{name}/later.json/x"), vec![folder(name, vec![inner])]));
        rows.push((format!("{name}/2026 as a file"), vec![folder(name, vec![file("2026")])]));
        rows.push((
            format!("{name} with a link"),
            vec![folder(name, vec![entry("120000", "later.json", &forge.blob("/tmp/x"))])],
        ));
    }
    let journal = folder("journal", vec![file("x")]);
    rows.push(("meta/journal as a folder".into(), vec![folder("meta", vec![journal])]));
    rows.push(("meta/journal as a file".into(), vec![folder("meta", vec![file("journal")])]));
    rows.push((
        "meta/retries.json as a folder".into(),
        vec![folder("meta", vec![folder("retries.json", vec![file("x")])])],
    ));
    rows.push((".bridge.lock".into(), vec![file(".bridge.lock")]));
    rows.push((".bridge.lock as a folder".into(), vec![folder(".bridge.lock", vec![file("x")])]));
    rows.push((
        "logs/bridge.log as a folder".into(),
        vec![folder("logs", vec![folder("bridge.log", vec![file("x")])])],
    ));
    let colliding = vec![file("Readme"), file("README"), file("readme"), folder("rEADME", vec![file("x")])];
    rows.push(("names that differ in case".into(), vec![folder("evil", colliding)]));
    let names: [&[u8]; 9] =
        [b"\xff\xfe", b"a\nb", b"\x1b[31m", b"-rf", b" ", b"a\\b", b"con.txt", b"...", "\u{202e}txt".as_bytes()];
    rows.push((
        "strange names".into(),
        vec![folder("evil", names.iter().map(|name| ("100644", name.to_vec(), text.to_owned())).collect())],
    ));
    for top in ["evil", "context", "summaries", "commands", "results"] {
        rows.push((
            format!("{top}/ with a name that is too long"),
            vec![folder(top, vec![file(&"n".repeat(300)), file("z")])],
        ));
    }
    let deep = vec!["d"; 120];
    rows.push((
        "120 folders deep".into(),
        vec![entry("40000", "evil", &forge.tree(vec![forge.within(&deep, file("f"))]))],
    ));
    let many = (0..1_000).map(|n| file(&format!("f{n:05}"))).collect();
    rows.push(("1,000 files".into(), vec![folder("evil", many)]));
    let submodule = entry("160000", "sub", &forge.nobody());
    rows.push(("a submodule that nobody has".into(), vec![folder("evil", vec![submodule, file("z")])]));
    rows.push((
        "entries out of order".into(),
        vec![entry("40000", "evil", &forge.unsorted(&[file("b"), file("a"), file("c")]))],
    ));
    rows
}

#[test]
fn what_is_odd_and_harms_nobody_is_taken_in_and_holds_up_nothing() {
    let mut world = World::seeded();
    let remote = world.remote.clone();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let forge = Forge(&remote);
        let text = forge.blob(&payload(&world));
        write(&world.cloud, "meta/journal/x", "the executor's own\n");
        write(&world.cloud, ".bridge.lock", "this process's\n");
        is_published(&bridge, &mut world, "before").await;
        for (number, (row, entries)) in taken(&forge, &text).into_iter().enumerate() {
            let commit = forge.push(entries);
            let is_in =
                |commit: &str| try_git(&world.cloud, &["merge-base", "--is-ancestor", commit, "HEAD"]).status.success();
            until(&format!("{row}: their commit"), || is_in(&commit)).await;
            is_published(&bridge, &mut world, &format!("row-{number}")).await;
            until(&format!("{row}: no trouble"), || !bridge.status.is_degraded()).await;
            assert!(subjects(&world.remote, "main").len() > number, "{row}");
            assert_eq!(read(&world.cloud, "meta/journal/x").as_deref(), Some("the executor's own\n"), "{row}");
            assert_eq!(read(&world.cloud, ".bridge.lock").as_deref(), Some("this process's\n"), "{row}");
            let index = git(&world.cloud, &["ls-files"]);
            assert!(
                !index.lines().any(|path| path.contains("bridge.lock") || path.starts_with("meta/journal")),
                "{row}"
            );
            persons_git_is_safe(&world, &row);
        }
        // Nothing of what filed commands left was lost over it.
        let results = git(&world.remote, &["ls-tree", "-r", "--name-only", "main", "results/"]);
        assert!(results.lines().filter(|path| path.contains("row-") && !path.contains("integrity")).count() > 50);
    });
}

#[test]
fn histories_that_old_tools_wrote_are_fetched_all_the_same() {
    let mut world = World::seeded();
    let remote = world.remote.clone();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let forge = Forge(&remote);
        let blob = forge.blob("x");
        let padded = forge.unsorted(&[entry("040000", "old", &forge.tree(vec![entry("100644", "f", &blob)]))]);
        let mut parent = git(&remote, &["rev-parse", "main"]);
        let people = [
            "author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000",
            "author A 1 +0000\ncommitter A 1 +0000",
            "author A <> 1 +0000\ncommitter A <> 1 +0000",
            "author A<a@b> 1 +0000\ncommitter A<a@b> 1 +0000",
            "author A <a@b> 1 -7\ncommitter A <a@b> 1 +051800",
            "author A <a@b> 01 +0000\ncommitter A <a@b> 01 +0000",
            "author A <a@b> 99999999999999999999 +0000\ncommitter A <a@b> 99999999999999999999 +0000",
            "author A <a@b <c>> 1 +0000\ncommitter A <a@b> 1 +0000",
            "author A <a@b> 1 +0000\nauthor B <b@b> 1 +0000\ncommitter A <a@b> 1 +0000",
        ];
        for who in people {
            let commit = format!("tree {padded}\nparent {parent}\n{who}\n\nold\n");
            parent = forge.put("commit", commit.as_bytes());
        }
        // And what was there before, on top of it.
        let tip = git(&remote, &["commit-tree", "-p", &parent, "-m", "today", "main^{tree}"]);
        git(&remote, &["update-ref", "refs/heads/main", &tip]);
        is_published(&bridge, &mut world, "after").await;
        assert!(!bridge.status.is_degraded());
        git(&world.cloud, &["merge-base", "--is-ancestor", &tip, "HEAD"]);
    });
}

#[test]
fn what_gits_own_check_refuses_is_told_as_such_and_not_as_a_remote_that_is_away() {
    let mut world = World::seeded();
    let remote = world.remote.clone();
    run(world.config(), |bridge| async move {
        until("a first look", || bridge.status.is_ready()).await;
        let forge = Forge(&remote);
        let modules = forge.blob("[submodule \"x\"]\n\tpath = x\n\turl = -u./payload\n");
        forge.push(vec![entry("100644", ".gitmodules", &modules)]);
        let said = || {
            bridge.status.degraded_reason().is_some_and(|r| r.contains("gitmodulesUrl") && r.contains("origin/main"))
        };
        until("the reason", said).await;
        let filed = world.file("a");
        bridge.send(filed).await;
        until("the commit", || subjects(&world.cloud, "HEAD").contains(&"bridge: results a (exit=0)".to_owned())).await;
        git(&remote, &["update-ref", "refs/heads/main", "main~1"]);
        until("the push", || world.has_on_remote("bridge: results a (exit=0)") && !bridge.status.is_degraded()).await;
    });
}

#[test]
fn an_index_that_held_what_git_refuses_holds_it_no_more_after_a_start() {
    let mut world = World::seeded();
    let index = world.cloud.join(".git/index");
    // As an older bridge may have left it: git writes no such entry, so a name of the same length is changed.
    write(&world.cloud, "xgit/hooks/post-checkout", "#!/bin/sh\n");
    git(&world.cloud, &["add", "xgit"]);
    let mut bytes = std::fs::read(&index).unwrap();
    let at = bytes.windows(5).position(|part| part == b"xgit/").unwrap();
    bytes[at] = b'.';
    // The entries stay in order: it is the first of them. Without a checksum git believes it.
    let end = bytes.len() - git(&world.cloud, &["rev-parse", "HEAD"]).len() / 2;
    bytes[end..].fill(0);
    std::fs::write(&index, bytes).unwrap();
    std::fs::remove_dir_all(world.cloud.join("xgit")).unwrap();
    run(world.config(), |bridge| async move {
        is_published(&bridge, &mut world, "a").await;
        bridge.quiet(&world, 1).await;
        let listed = git(&world.cloud, &["ls-files"]);
        assert!(!listed.contains(".git/"), "{listed}");
        persons_git_is_safe(&world, "an old index");
    });
}

#[test]
fn upstreams_trees_run_nothing() {
    // What the other tests rely on: a hook that came into place would leave its mark.
    let world = World::seeded();
    script(&world.cloud.join(".git/hooks"), "post-checkout", &payload(&world));
    git(&world.cloud, &["checkout", "-q", "HEAD"]);
    assert!(world.top().join("mark").exists());
}
