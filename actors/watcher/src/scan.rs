//! One pass over `commands/`, into the queue; and the reading of what may go.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use notify::RecommendedWatcher;
use protocol::command::Document;
use protocol::message::{Candidate, Content};
use protocol::ticket::Ticket;

use crate::folder::{Folder, FolderError, Kind, Reading, Stamp, printable};
use crate::hints::{self, Hint};
use crate::queue::{Look, Next, Noted, Queue};
use crate::status::{Ignored, WatcherStatus};

/// Each so many periodic scans one is made although the folder seems unchanged: a file may have changed in place.
const FULL_EVERY: u32 = 10;
/// A folder that changed as recently may change again without its time showing it.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// Tells whether a document's signature holds. It decides about nothing but who goes first; the verifier judges.
pub type IsSigned = Arc<dyn Fn(&Document) -> bool + Send + Sync>;

/// The names that the checked-out branch has in `commands/`; `None` while nobody can tell.
pub type Committed = Arc<dyn Fn() -> Option<HashSet<OsString>> + Send + Sync>;

/// What the watcher asks others.
#[derive(Clone)]
pub struct Asked {
    /// Whether a document's signature holds.
    pub is_signed: IsSigned,
    /// What came by a commit.
    pub committed: Committed,
}

/// Why a scan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Something tells that there is something to find.
    Wanted,
    /// It is time. Where the folder did not change it is skipped, but not each time.
    Periodic,
    /// Nothing else tells that the folder has changed.
    Look,
}

/// The most ignored names of which it is asked at a time whether they came by a commit.
pub(crate) const MAX_STRANGERS: usize = 1_000;

/// All that a scan needs; it is lent to the blocking thread.
pub(crate) struct Scanner {
    pub(crate) queue: Queue,
    path: PathBuf,
    max_bytes: u64,
    is_signed: IsSigned,
    hint: Hint,
    status: Arc<WatcherStatus>,
    watch: Option<RecommendedWatcher>,
    watch_failed: bool,
    folder_failed: bool,
    parked_told: bool,
    /// Ignored names that nobody has asked about yet.
    pub(crate) strangers: Vec<OsString>,
    /// The folder as it was when the latest scan began, if its time can be relied on.
    unchanged: Option<Stamp>,
    identity: Option<(u64, u64)>,
    skipped: u32,
}

impl Scanner {
    pub(crate) fn new(
        path: PathBuf,
        max_bytes: u64,
        queue: Queue,
        is_signed: IsSigned,
        hint: Hint,
        status: Arc<WatcherStatus>,
    ) -> Self {
        Self {
            queue,
            path,
            max_bytes,
            is_signed,
            hint,
            status,
            watch: None,
            watch_failed: false,
            folder_failed: false,
            parked_told: false,
            strangers: Vec::new(),
            unchanged: None,
            identity: None,
            skipped: 0,
        }
    }

    /// Makes a scan, or skips it where the folder did not change.
    pub(crate) fn scan(&mut self, why: Why) {
        match self.try_scan(why) {
            Ok(()) if self.folder_failed => {
                self.folder_failed = false;
                tracing::info!(path = %self.path.display(), "commands/ is back");
            }
            Ok(()) => {}
            Err(error) => {
                self.queue.forget_waiting();
                (self.watch, self.identity, self.unchanged) = (None, None, None);
                if !std::mem::replace(&mut self.folder_failed, true) {
                    tracing::error!(error = %chain(&error), "no commands are taken up until commands/ is a real folder again");
                }
            }
        }
        self.status.set_reachable(!self.folder_failed);
        self.status.set_pending(self.queue.pending());
    }

    fn try_scan(&mut self, why: Why) -> Result<(), FolderError> {
        // Taken before anything is looked at: what comes meanwhile raises it anew.
        let hinted = self.hint.take();
        supervision::fault_point!("watcher.effect", Err(FolderError::NoName(self.path.clone())));
        let folder = Folder::open(&self.path)?;
        let own = folder.own_stamp()?;
        let may_skip = match why {
            Why::Wanted => false,
            Why::Periodic => self.skipped < FULL_EVERY - 1,
            Why::Look => true,
        };
        if may_skip && !hinted && self.unchanged == Some(own) && !self.queue.waits_later() {
            self.skipped += u32::from(why == Why::Periodic);
            return Ok(());
        }
        self.skipped = 0;
        // Watched before it is listed, or what comes in between would raise no hint.
        self.keep_watch(&own);
        let still = age(&own, Utc::now()) > COARSEST_CLOCK;
        self.unchanged = still.then_some(own);
        self.status.count_scan();
        self.queue.begin_scan();
        folder.each_name(|name| self.visit(&folder, name))?;
        self.queue.end_scan();
        Ok(())
    }

    fn keep_watch(&mut self, own: &Stamp) {
        let identity = Some((own.device, own.inode));
        if self.watch.is_some() && self.identity == identity {
            return;
        }
        self.identity = identity;
        self.watch = None;
        match hints::watch(&self.path, self.hint.clone()) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.watch_failed = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.watch_failed, true) {
                    tracing::warn!(
                        path = %self.path.display(), %error,
                        "no file system events: commands/ is looked at ten times a second while there is work, else once; \
                         on Linux raise fs.inotify.max_user_watches and fs.inotify.max_user_instances"
                    );
                }
            }
        }
        self.status.set_polling(self.watch.is_none());
    }

    fn visit(&mut self, folder: &Folder, name: &OsStr) {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b".") {
            return self.ignore(name, Ignored::Hidden);
        }
        if !bytes.ends_with(b".json") {
            return self.ignore(name, Ignored::NotJson);
        }
        let stamp = match folder.stamp(name) {
            Reading::Whole(stamp) => stamp,
            Reading::Refused(error) => return tracing::warn!(file = printable(name), %error, "cannot look at a file"),
            Reading::Changed | Reading::Gone => return,
        };
        if stamp.kind == Kind::File && stamp.size == 0 {
            return self.ignore(name, Ignored::Empty);
        }
        if !self.queue.sighted(name, &stamp, Instant::now()) {
            return;
        }
        let Some(look) = self.look(folder, name, &stamp) else { return };
        if !self.queue.looked(name, stamp, look, Instant::now()) && !std::mem::replace(&mut self.parked_told, true) {
            tracing::error!(
                file = printable(name),
                "too many folders in commands/ that cannot be removed: further ones stay; remove them"
            );
        }
    }

    fn look(&self, folder: &Folder, name: &OsStr, stamp: &Stamp) -> Option<Look> {
        if stamp.kind != Kind::File {
            return Some(Look::NotRegular);
        }
        let unchanged = || age(stamp, Utc::now());
        if stamp.size > self.max_bytes {
            return Some(Look::TooLarge(unchanged()));
        }
        match folder.read(name, stamp) {
            Reading::Whole(bytes) => Some(match Document::parse(bytes) {
                Ok(document) if (self.is_signed)(&document) => Look::Document(document.order_key()),
                Ok(_) => Look::Unsigned,
                Err(_) => Look::Unparsed(unchanged()),
            }),
            // It is being written right now: unchanged for no time.
            Reading::Changed => Some(Look::Unparsed(Duration::ZERO)),
            Reading::Gone => None,
            Reading::Refused(error) => {
                tracing::error!(file = printable(name), %error, "cannot read a command; it is tried again: give the service the right to read it");
                Some(Look::Unreadable)
            }
        }
    }

    fn ignore(&mut self, name: &OsStr, reason: Ignored) {
        match self.queue.ignore(name, reason) {
            Noted::New => {
                self.status.count_ignored(reason);
                if reason != Ignored::Hidden && self.strangers.len() < MAX_STRANGERS {
                    self.strangers.push(name.to_owned());
                }
                let temporary = reason == Ignored::Hidden && Path::new(name).extension() != Some(OsStr::new("json"));
                if temporary {
                    // Careful producers write under such a name first: one for each command is no news.
                    tracing::debug!(file = printable(name), reason = reason.as_str(), "ignored");
                } else {
                    tracing::info!(file = printable(name), reason = reason.as_str(), "ignored");
                }
            }
            Noted::TooMany => tracing::warn!(
                "so many files in commands/ are ignored that further ones are neither counted nor reported"
            ),
            Noted::Known => {}
        }
    }
}

/// A file that goes, with its ticket.
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    pub(crate) next: Next,
}

/// What became of a job: a candidate, or a file that is not what it was.
pub(crate) enum Done {
    Read(Candidate),
    Stale(Ticket),
}

/// How to read the files that go.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) path: PathBuf,
    pub(crate) max_bytes: u64,
    pub(crate) settle: Duration,
    pub(crate) abort: Arc<AtomicBool>,
}

impl Reader {
    /// Reads the files of `jobs`, in order.
    pub(crate) fn read(&self, jobs: Vec<Job>) -> Vec<Done> {
        let folder = Folder::open(&self.path);
        let read = |job: Job| {
            let content = folder.as_ref().ok().and_then(|folder| self.content(folder, &job.next));
            match content {
                Some(content) => Done::Read(Candidate { ticket: job.ticket, content, received_at: Utc::now() }),
                None => Done::Stale(job.ticket),
            }
        };
        jobs.into_iter().map(read).collect()
    }

    /// Which of these ignored names came by a commit, and can never become a command as they are; `None` while that
    /// cannot be told. Whoever committed them does not see the log.
    pub(crate) fn committed(&self, names: &[OsString], committed: &Committed) -> Option<Vec<(Next, &'static str)>> {
        let known = committed()?;
        let folder = Folder::open(&self.path).ok()?;
        let look = |name: &OsString| {
            let stamp = whole(folder.stamp(name))?;
            let kind = match stamp.kind {
                Kind::File if stamp.size == 0 => "an empty file",
                Kind::File => "a file whose name does not end in .json",
                other => other.words(),
            };
            let next = Next { name: Arc::from(name.as_os_str()), stamp, first_seen: Instant::now(), parsed: false };
            let is_ignored =
                !name.as_encoded_bytes().ends_with(b".json") || stamp.kind == Kind::File && stamp.size == 0;
            is_ignored.then_some((next, kind))
        };
        Some(names.iter().filter(|name| known.contains(*name)).filter_map(look).collect())
    }

    /// What lies under the name, if it is what was seen; whatever else it is, the next scan finds out.
    fn content(&self, folder: &Folder, next: &Next) -> Option<Content> {
        let (name, stamp) = (&*next.name, &next.stamp);
        if stamp.kind != Kind::File {
            let bytes = match stamp.kind {
                Kind::Link => whole(folder.link_text(name))?,
                _ => Arc::from([]),
            };
            let same = whole(folder.stamp(name)).is_some_and(|now| (now.kind, now.inode) == (stamp.kind, stamp.inode));
            return same.then_some(Content::NotRegular { kind: stamp.kind.words(), bytes });
        }
        if stamp.size > self.max_bytes {
            let large = whole(folder.read_large(name, stamp, &self.abort))?;
            return Some(Content::TooLarge { head: large.head, size: large.size, sha256: large.sha256 });
        }
        let bytes = whole(folder.read(name, stamp))?;
        // Clocks of file systems tick coarsely: what parsed a moment ago may be half a document under the same stamp.
        let fresh = next.parsed && age(stamp, Utc::now()) < self.settle;
        if fresh && Document::parse(Arc::clone(&bytes)).is_err() {
            return None;
        }
        Some(Content::Document(bytes))
    }
}

fn whole<T>(reading: Reading<T>) -> Option<T> {
    match reading {
        Reading::Whole(value) => Some(value),
        Reading::Changed | Reading::Gone | Reading::Refused(_) => None,
    }
}

/// How long ago a file was changed; zero when that time lies ahead.
fn age(stamp: &Stamp, wall: DateTime<Utc>) -> Duration {
    let now = wall.timestamp_nanos_opt().unwrap_or(i64::MAX);
    Duration::from_nanos(u64::try_from(now.saturating_sub(stamp.modified)).unwrap_or(0))
}

/// An error and what it came from, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
