//! The rows of the table: one CLOUD, and one power cut after the other.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::disk::Disk;
use crate::harness::snapshot::files;
use crate::harness::{Bridge, Cloud};
use crate::verdict::Sent;

pub const HEADING: &str =
    "| file system, what lies on it, window | commands | boot | filed at the cut | back after | verdict |";
/// How many commands are under way at a cut, and whether the machine starts anew after it.
const LOADS: [(usize, bool); 6] = [(1, false), (5, false), (120, false), (1, true), (5, true), (120, true)];
/// Cuts in a row.
pub const A_ROW: usize = LOADS.len();
/// The longest that is waited after the condition for a cut.
const LATER: u64 = 60;
/// The same where all is filed, and publishing is under way.
const MUCH_LATER: u64 = 500;

/// What lies on the file system that loses its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Cloud,
    CloudAndRemote,
    /// A target of its own, and nothing else.
    Target,
}

impl Lost {
    fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Cloud => &["cloud"],
            Self::CloudAndRemote => &["cloud", "remote.git"],
            Self::Target => &["target"],
        }
    }
}

/// One CLOUD.
#[derive(Clone, Debug)]
pub struct Row {
    kind: &'static str,
    /// What loses its power.
    lost: Lost,
    window: u32,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.kind, self.lost.folders().join(" and "), self.window)
    }
}

/// Numbers that follow from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

impl Row {
    pub fn all() -> Vec<Self> {
        let mut rows = Vec::new();
        for kind in ["ext4", "xfs"] {
            for lost in [Lost::Cloud, Lost::CloudAndRemote] {
                rows.extend([2, 256].map(|window| Self { kind, lost, window }));
            }
            rows.push(Self { kind, lost: Lost::Target, window: 256 });
        }
        rows
    }

    /// All cuts; one that fails ends its CLOUD, and the next begins with a new one.
    pub fn run(&self, seed: u64) {
        let mut chance =
            Chance(seed ^ self.to_string().bytes().fold(0, |sum, byte| (sum << 5) ^ sum ^ u64::from(byte)));
        let (mut done, mut failed) = (0, 0);
        while done < A_ROW {
            if self.cuts(&mut chance, &mut done).is_err() {
                failed += 1;
            }
        }
        assert_eq!(failed, 0, "cuts failed");
    }

    fn cuts(&self, chance: &mut Chance, done: &mut usize) -> Result<(), ()> {
        let (cloud, mut disk) = Cloud::new_on(|world| Disk::new(world, self.kind, self.lost.folders()));
        if self.lost == Lost::CloudAndRemote {
            // As a remote has to be that outlives a power cut: git's default leaves references to chance.
            cloud.remote_git(&["config", "core.fsync", "committed,reference"]);
            sync(cloud.root());
        }
        let target = cloud.world().join("target");
        let sent = match self.lost {
            Lost::Target => Sent::begin("DATA", target),
            _ => Sent::begin("MAIN", cloud.root().to_owned()),
        };
        let mut bridge = self.start(&cloud);
        while let Some((commands, new_boot)) = LOADS.get(*done).copied() {
            *done += 1;
            let mut said = String::new();
            let cut = AssertUnwindSafe(|| {
                self.cut(&cloud, &mut disk, bridge, &sent, (commands, new_boot), chance, &mut said)
            });
            let result = catch_unwind(cut);
            let verdict = result.as_ref().map_or_else(|panic| why(panic.as_ref()), |_| "good".to_owned());
            let boot = if new_boot { "new" } else { "same" };
            println!("| {self} | {commands} | {boot} | {said} | {verdict} |");
            bridge = result.map_err(drop)?;
        }
        bridge.stop();
        Ok(())
    }

    fn start<'a>(&self, cloud: &'a Cloud) -> Bridge<'a> {
        // Logs roll where folders do.
        let (window, log) = (self.window, if self.window == 2 { 4 } else { 64 });
        let target = match self.lost {
            Lost::Target => format!("[targets.DATA]\nroot = {:?}\n", cloud.world().join("target")),
            _ => String::new(),
        };
        let config = cloud.config(&format!(
            "{target}[publish]\nwindow = {window}\nlog_kib = {log}\n[checks.yes]\nargv = [\"true\"]\nsandbox = \"best-effort\"\n"
        ));
        Bridge::start_with(cloud, |run| {
            run.arg("--config").arg(config);
        })
    }

    #[allow(clippy::too_many_arguments, reason = "a cut is about all of these")]
    fn cut<'a>(
        &self,
        cloud: &'a Cloud,
        disk: &mut Disk,
        bridge: Bridge<'a>,
        sent: &Sent,
        (commands, new_boot): (usize, bool),
        chance: &mut Chance,
        said: &mut String,
    ) -> Bridge<'a> {
        // What its producer did not sync is nobody's promise: all of it is on the disk before the bridge sees any.
        bridge.freeze();
        sent.send(cloud, commands);
        [cloud.path("commands"), cloud.world().join("fs")].iter().for_each(|folder| sync(folder));
        bridge.signal(Signal::CONT);
        let left = usize::try_from(chance.below(commands as u64 + 1)).unwrap();
        bridge.wait_for("commands to be filed", || cloud.waiting().len() <= left);
        std::thread::sleep(Duration::from_micros(chance.below(1_000 * if left == 0 { MUCH_LATER } else { LATER })));
        if self.lost == Lost::Target {
            // Alone it is lost with the machine that held it: the bridge sees nothing of it before it ends.
            bridge.freeze();
        }
        disk.cut();
        bridge.kill();
        *said = format!("{} | never", commands - left);
        disk.mount_again(new_boot);
        if self.lost == Lost::CloudAndRemote {
            // Its keeper's work: git leaves such a lock for ever, and the bridge can only say what git says.
            let locks =
                files(&cloud.remote()).into_iter().filter(|path| path.extension().is_some_and(|it| it == "lock"));
            locks.for_each(|lock| std::fs::remove_file(lock).unwrap());
        }
        let back = Instant::now();
        let bridge = self.start(cloud);
        sent.judge(cloud, &bridge);
        *said = format!("{} | {:.1} s", commands - left, back.elapsed().as_secs_f64());
        bridge
    }
}

/// What a panic said first.
fn why(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("FAILED: {}", text.and_then(|text| text.lines().next()).unwrap_or("a panic"))
}

fn sync(folder: &Path) {
    let synced = std::fs::File::open(folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
    assert!(synced.is_ok(), "{synced:?}");
}
