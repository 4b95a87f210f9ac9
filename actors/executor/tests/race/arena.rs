//! A tree whose names are exchanged for others as fast as the system can, and what of it can be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use executor::sandbox::{End, RunReport};
use protocol::digest::Sha256;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::Bench;

/// What every file outside holds, and nothing else.
pub const MARKER: &str = "MARKER-5c1e";

/// The names that change places, beneath the root. The second of each pair is what must not be reached, or must not be
/// mistaken for the first.
pub const PAIRS: [(&str, &str); 6] = [
    ("p", "p-link"),
    ("p/deep", "p/deep-link"),
    ("q", "q-other"),
    ("leaf.txt", "leaf-link"),
    ("shape", "shape-folder"),
    ("hard.txt", "hard-link"),
];

pub struct Arena {
    pub bench: Bench,
    pub outside: PathBuf,
}

impl Arena {
    pub fn new() -> Self {
        // The one program that can be run says no, so that the whole mutation is undone after it stood.
        let bench = Bench::with_program(Box::new(|_| RunReport::of(End::Exited(1))));
        let outside = bench.dir.path().join("outside");
        std::fs::create_dir_all(outside.join("deep")).unwrap();
        for name in ["a.txt", "b.txt", "data.json", "leaf.txt", "deep/c.txt", "deep/data.json"] {
            std::fs::write(outside.join(name), format!("{{\"is\": \"{MARKER} {name}\"}}\n")).unwrap();
        }
        // What has a second name inside is inside as well: it may be read there, but not written.
        std::fs::write(outside.join("hard.txt"), "word of two names\n").unwrap();
        let arena = Self { bench, outside };
        arena.mend();
        arena
    }

    /// Brings the tree back to what it was in the beginning, where commands have changed it.
    pub fn mend(&self) {
        let root = self.bench.root();
        for entry in std::fs::read_dir(&root).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
        for path in ["p/a.txt", "p/b.txt", "p/data.json", "p/deep/c.txt", "p/deep/data.json", "q/a.txt", "q/b.txt"] {
            self.bench.write(path, format!("word of {path}\n").as_bytes());
        }
        for path in ["q-other/a.txt", "q-other/b.txt", "leaf.txt", "shape", "shape-folder/within"] {
            self.bench.write(path, format!("word of {path}\n").as_bytes());
        }
        self.bench.write("hard.txt", b"word of hard.txt\n");
        std::fs::hard_link(self.outside.join("hard.txt"), root.join("hard-link")).unwrap();
        symlink(&self.outside, root.join("p-link")).unwrap();
        symlink("../../outside/deep", root.join("p/deep-link")).unwrap();
        symlink(self.outside.join("leaf.txt"), root.join("leaf-link")).unwrap();
    }

    /// Everything outside: names, inodes, modes, modification times, contents. The file with a second name inside has its
    /// own count of names, which is nobody's concern.
    pub fn outside(&self) -> BTreeMap<PathBuf, (u64, u32, i64, i64, Vec<u8>)> {
        let mut all = BTreeMap::new();
        walk(&self.outside, &mut |path| {
            let it = path.symlink_metadata().unwrap();
            let content = if it.is_file() { std::fs::read(path).unwrap() } else { Vec::new() };
            all.insert(path.to_owned(), (it.ino(), it.mode(), it.mtime(), it.mtime_nsec(), content));
        });
        all
    }

    /// All that is in the tree, whatever its name: contents of files, destinations of links, and how many folders.
    pub fn belongings(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        walk(&self.bench.root(), &mut |path| {
            let it = path.symlink_metadata().unwrap();
            all.push(match it.file_type() {
                kind if kind.is_file() => std::fs::read(path).unwrap(),
                kind if kind.is_symlink() => std::fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(),
                _ => b"a folder".to_vec(),
            });
        });
        all.sort();
        all
    }

    /// The hidden names that lie about, in the tree and outside.
    pub fn hidden(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in [self.bench.root(), self.outside.clone()] {
            walk(&folder, &mut |path| {
                if path.file_name().unwrap().to_string_lossy().starts_with(".ghost-bridge-") {
                    found.push(path.to_owned());
                }
            });
        }
        found
    }

    /// The hashes of what is outside and is not to be read.
    pub fn secrets(&self) -> BTreeSet<String> {
        let contents = self.outside().into_values().map(|(.., content)| content);
        contents.filter(|it| is_marked(it)).map(|it| Sha256::of(&it).to_string()).collect()
    }
}

pub fn is_marked(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
}

pub fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        visit(&path);
        if path.symlink_metadata().unwrap().is_dir() {
            walk(&path, visit);
        }
    }
}

/// A thread that exchanges names, one pair after the other, unless it is told to hold still.
pub struct Swapper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    end: AtomicBool,
    hold: AtomicBool,
    holds: AtomicBool,
    swaps: [AtomicU64; PAIRS.len()],
}

impl Swapper {
    pub fn start(root: &Path) -> Self {
        let (shared, root) = (Arc::new(Shared::default()), root.to_owned());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for number in (0..PAIRS.len()).cycle() {
                while theirs.hold.load(Ordering::SeqCst) && !theirs.end.load(Ordering::SeqCst) {
                    theirs.holds.store(true, Ordering::SeqCst);
                    std::thread::park_timeout(std::time::Duration::from_millis(50));
                }
                if theirs.end.load(Ordering::SeqCst) {
                    return;
                }
                theirs.holds.store(false, Ordering::SeqCst);
                let (one, other) = PAIRS[number];
                // In vain where a command has just taken one of them away.
                if renameat_with(CWD, root.join(one), CWD, root.join(other), RenameFlags::EXCHANGE).is_ok() {
                    theirs.swaps[number].fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Returns when no name changes any more.
    pub fn hold(&self) {
        self.shared.hold.store(true, Ordering::SeqCst);
        while !self.shared.holds.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }

    /// Returns when names change again.
    pub fn go_on(&self) {
        let all = || self.swaps().iter().sum::<u64>();
        let before = all();
        self.shared.hold.store(false, Ordering::SeqCst);
        self.thread.iter().for_each(|thread| thread.thread().unpark());
        while all() == before {
            std::thread::yield_now();
        }
    }

    /// How often each pair changed places.
    pub fn swaps(&self) -> [u64; PAIRS.len()] {
        std::array::from_fn(|number| self.shared.swaps[number].load(Ordering::Relaxed))
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().unwrap();
        }
    }
}
