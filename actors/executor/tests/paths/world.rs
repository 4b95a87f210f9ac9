//! A tree with everything in it that a path could be led astray by, and a record of all that is on disk.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, makedev, mknodat};

use crate::support::Bench;

/// What stands in each file outside, and must turn up nowhere else.
pub const MARKER: &str = "MARKER-7f3a outside the root";

/// One entry on disk: kind, permissions, inode, times, links, and what it holds or leads to.
pub type Entry = (String, u32, u64, i64, i64, i64, i64, u64, Vec<u8>);

pub struct World {
    pub bench: Bench,
    /// Whether character devices could be made, which needs privileges.
    pub has_device: bool,
}

impl World {
    pub fn new() -> Self {
        let bench = Bench::new();
        let outside = bench.dir.path().join("outside");
        std::fs::create_dir_all(outside.join("deep")).unwrap();
        for name in ["o.txt", "deep/d.txt", "hard.txt"] {
            std::fs::write(outside.join(name), format!("{MARKER} {name}\n")).unwrap();
        }
        files(&bench);
        links(&bench, &outside);
        let root = bench.root();
        mknodat(CWD, root.join("fifo"), FileType::Fifo, 0o644.into(), 0).unwrap();
        drop(UnixListener::bind(root.join("socket")).unwrap());
        let null = mknodat(CWD, root.join("device"), FileType::CharacterDevice, 0o666.into(), makedev(1, 3));
        Self { bench, has_device: null.is_ok() }
    }

    /// All that is on disk beside the executor's own journal.
    pub fn record(&self) -> BTreeMap<PathBuf, Entry> {
        let mut entries = BTreeMap::new();
        for part in ["tree", "outside"] {
            record(&self.bench.dir.path().join(part), &mut entries);
        }
        entries
    }
}

fn files(bench: &Bench) {
    for (path, content) in [
        ("a.txt", "one\ntwo\nthree\n"),
        ("b.txt", "b\n"),
        ("run.sh", "#!/bin/sh\n"),
        ("dir/b.txt", "b\n"),
        ("dir/deep/c.txt", "c\n"),
        ("Docs/Guide/x.md", "x\n"),
        (".git/HEAD", "ref: refs/heads/main\n"),
        (".git/config", "[core]\n"),
        (".git/hooks/pre-commit", "#!/bin/sh\n"),
        (".github/workflows/ci.yml", "on: push\n"),
        ("dir/.hidden", "h\n"),
        ("commands/x.json", "{}\n"),
        ("meta/retries.json", "{}\n"),
        ("logs/bridge.log", "{}\n"),
        ("results/r.json", "{}\n"),
        ("secret/s.txt", "s\n"),
        ("dir/x.key", "k\n"),
        ("bare/HEAD", "ref: refs/heads/main\n"),
        ("bare/config", "[core]\n"),
        ("bare/objects/o", "o\n"),
        ("bare/refs/r", "r\n"),
        ("dir/nested/HEAD", "ref: refs/heads/main\n"),
        ("dir/nested/objects/o", "o\n"),
        ("dir/nested/refs/r", "r\n"),
        ("headless/objects/o", "o\n"),
        ("headless/refs/r", "r\n"),
        ("refless/HEAD", "ref: refs/heads/main\n"),
        ("refless/objects/o", "o\n"),
        ("headed/HEAD", "ref: refs/heads/main\n"),
        ("shared/HEAD", "ref: refs/heads/main\n"),
        ("shared/commondir", "../headless\n"),
        ("names/straße.txt", "x\n"),
        ("names/\u{212a}elvin.txt", "x\n"),
        ("names/\u{131}ota.txt", "x\n"),
        ("names/cafe\u{301}.txt", "x\n"),
        ("names/\u{fb01}x.txt", "x\n"),
        ("names/ΟΔΟΣ.txt", "x\n"),
        ("names/İx.txt", "x\n"),
        ("names/ᾳ.txt", "x\n"),
        ("names/\u{ab70}.txt", "x\n"),
        ("names/Sub/x.txt", "x\n"),
    ] {
        bench.write(path, content.as_bytes());
    }
    std::fs::create_dir(bench.root().join("empty")).unwrap();
    std::fs::set_permissions(bench.root().join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn links(bench: &Bench, outside: &Path) {
    let root = bench.root();
    std::fs::hard_link(outside.join("hard.txt"), root.join("hard.txt")).unwrap();
    std::fs::create_dir(root.join("links")).unwrap();
    let absolute = |path: &Path| path.to_string_lossy().into_owned();
    for (name, leads_to) in [
        ("out", absolute(outside)),
        ("out-relative", "../outside".to_owned()),
        ("in", "dir".to_owned()),
        ("in-absolute", absolute(&root.join("dir"))),
        ("up", "..".to_owned()),
        ("here", ".".to_owned()),
        ("slash", "/".to_owned()),
        ("magic", "/proc/self/root".to_owned()),
        ("handles", "/proc/self/fd".to_owned()),
        ("repository", ".git".to_owned()),
        ("dangling", "nowhere".to_owned()),
        ("dangling-out", "../outside/nothing".to_owned()),
        ("loop", "loop".to_owned()),
        ("ping", "pong".to_owned()),
        ("pong", "ping".to_owned()),
        ("chain", "in".to_owned()),
        ("leaf", "a.txt".to_owned()),
        ("leaf-out", absolute(&outside.join("o.txt"))),
        ("leaf-out-relative", "../outside/o.txt".to_owned()),
        ("links/up", "../../outside".to_owned()),
        ("links/leaf", "../a.txt".to_owned()),
    ] {
        symlink(leads_to, root.join(name)).unwrap();
    }
}

fn record(path: &Path, entries: &mut BTreeMap<PathBuf, Entry>) {
    let metadata = path.symlink_metadata().unwrap();
    let kind = metadata.file_type();
    let holds = match kind {
        it if it.is_file() => std::fs::read(path).unwrap(),
        it if it.is_symlink() => std::fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(),
        _ => Vec::new(),
    };
    if kind.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            record(&entry.unwrap().path(), entries);
        }
    }
    let name = match kind {
        it if it.is_fifo() || it.is_socket() || it.is_char_device() => format!("special {}", metadata.rdev()),
        it => format!("{it:?}"),
    };
    let times = (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec());
    let entry = (name, metadata.mode(), metadata.ino(), times.0, times.1, times.2, times.3, metadata.nlink(), holds);
    entries.insert(path.to_owned(), entry);
}
