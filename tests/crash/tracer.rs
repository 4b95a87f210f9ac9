//! Follows a program's system calls, all threads of it, and kills it before the one of a given number that changes a file.
//!
//! Threads are followed, children are not. Every call of the kernel's that can change a file or make it durable counts,
//! but writes to what is no file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::fs::OFlags;

use crate::harness::{PATIENCE, poll};

/// The number of `ptrace`'s event for a thread that was stopped without a signal.
const EVENT_STOP: i32 = 128;

/// What was seen of a program.
#[derive(Debug, Default)]
pub struct Seen {
    /// The calls that change files, in their order: their names, with the file or folder where it is told by a handle.
    pub calls: Vec<String>,
    /// Whether the program was killed before the last of them.
    pub killed: bool,
}

/// A program that is followed.
#[derive(Debug)]
pub struct Traced {
    pid: Pid,
    done: Arc<AtomicBool>,
    tracer: JoinHandle<Seen>,
}

impl Traced {
    /// Follows the process `pid`, which is this one's child, and kills it before its call number `at`, counted from 1.
    pub fn begin(pid: u32, at: usize) -> Self {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap());
        let done = Arc::new(AtomicBool::new(false));
        let (ended, (attached, wait)) = (Arc::clone(&done), std::sync::mpsc::channel());
        // What follows a process is one thread.
        let tracer = std::thread::spawn(move || {
            let tracer = Tracer { pid, at, inside: HashMap::new(), seen: Seen::default() };
            tracer.attach();
            attached.send(()).unwrap();
            tracer.follow(&ended)
        });
        wait.recv().expect("the program can be traced");
        Self { pid, done, tracer }
    }

    /// Whether it was killed.
    pub fn is_over(&self) -> bool {
        self.tracer.is_finished()
    }

    /// Lets the program go on alone, if it lives; tells what was seen.
    pub fn end(self) -> Seen {
        self.done.store(true, Ordering::SeqCst);
        let over = poll(PATIENCE, || {
            // Nothing but a reason for the tracer to wake up. The program may be gone.
            let _ = kill(self.pid, Signal::SIGWINCH);
            self.tracer.is_finished()
        });
        assert!(over, "the program ended by itself");
        self.tracer.join().unwrap()
    }
}

struct Tracer {
    pid: Pid,
    at: usize,
    /// The threads that are within a call.
    inside: HashMap<Pid, bool>,
    seen: Seen,
}

impl Tracer {
    fn attach(&self) {
        // Threads may be made meanwhile, by those that are not followed yet: until none is new.
        let mut known = std::collections::HashSet::new();
        loop {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
            let all: Vec<i32> =
                tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
            let fresh: Vec<i32> = all.into_iter().filter(|task| known.insert(*task)).collect();
            if fresh.is_empty() {
                return;
            }
            for task in fresh.into_iter().map(Pid::from_raw) {
                let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
                match ptrace::seize(task, options).and_then(|()| ptrace::interrupt(task)) {
                    // Followed already because its maker is, or gone.
                    Ok(()) | Err(Errno::EPERM | Errno::ESRCH) => {}
                    Err(error) => panic!("thread {task} cannot be traced: {error}"),
                }
            }
        }
    }

    fn follow(mut self, done: &AtomicBool) -> Seen {
        loop {
            let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let status = match waitid(Id::All, flags) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                // Nobody is left.
                Err(_) => return self.seen,
            };
            if done.load(Ordering::SeqCst) {
                // The end of this thread lets all others go; this one is told to forget the signal that woke us.
                if let Some(thread) = status.pid() {
                    let _ = ptrace::detach(thread, None);
                }
                return self.seen;
            }
            let Some(thread) = status.pid() else { continue };
            let signal = match status {
                WaitStatus::PtraceSyscall(_) => {
                    if self.enters(thread) && self.is_due(thread) {
                        self.seen.killed = true;
                        kill(self.pid, Signal::SIGKILL).unwrap();
                        return self.seen;
                    }
                    None
                }
                WaitStatus::PtraceEvent(_, _, EVENT_STOP) => None,
                // A signal on its way has no event.
                WaitStatus::PtraceEvent(_, signal, 0) | WaitStatus::Stopped(_, signal) => Some(signal),
                _ => None,
            };
            // A thread that died meanwhile is no concern.
            let _ = ptrace::syscall(thread, signal);
        }
    }

    /// Whether the stop is at a call's beginning; they alternate.
    fn enters(&mut self, thread: Pid) -> bool {
        let inside = self.inside.entry(thread).or_insert(false);
        *inside = !*inside;
        *inside
    }

    /// Whether the call that `thread` enters is the one.
    fn is_due(&mut self, thread: Pid) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{}/task/{thread}/syscall", self.pid)) else { return false };
        let Some(call) = Call::parse(&text) else { return false };
        let Some(described) = call.changes_files(self.pid) else { return false };
        self.seen.calls.push(described);
        self.seen.calls.len() == self.at
    }
}

/// A call: its number and its arguments.
struct Call {
    number: i64,
    arguments: Vec<u64>,
}

impl Call {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let argument = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
        Some(Self { number, arguments: words.take(6).filter_map(argument).collect() })
    }

    /// What the call does to files; nothing where it does not.
    fn changes_files(&self, pid: Pid) -> Option<String> {
        use nix::libc;
        let argument = |number: usize| self.arguments.get(number).copied().unwrap_or_default();
        let file = |descriptor: u64| {
            let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap_or_default();
            (link.is_absolute() && !link.starts_with("/dev")).then(|| name_of(&link))
        };
        let named = |name: &str, at: usize| Some(format!("{name} {}", file(argument(at)).unwrap_or_default()));
        match self.number {
            // The log on stderr.
            libc::SYS_write | libc::SYS_writev if argument(0) <= 2 => None,
            libc::SYS_write => Some(format!("write {}", file(argument(0))?)),
            libc::SYS_pwrite64 => Some(format!("pwrite64 {}", file(argument(0))?)),
            libc::SYS_writev | libc::SYS_pwritev | libc::SYS_pwritev2 => Some(format!("writev {}", file(argument(0))?)),
            libc::SYS_copy_file_range => Some(format!("copy_file_range {}", file(argument(2))?)),
            libc::SYS_sendfile => Some(format!("sendfile {}", file(argument(0))?)),
            libc::SYS_openat if creates(argument(2)) => named("openat", 0),
            // The flags are behind a pointer.
            libc::SYS_openat2 if creates(read_word(pid, argument(2))?) => named("openat2", 0),
            libc::SYS_renameat | libc::SYS_renameat2 => named("rename", 0),
            libc::SYS_unlinkat => named("unlink", 0),
            libc::SYS_mkdirat => named("mkdir", 0),
            libc::SYS_linkat | libc::SYS_symlinkat => named("link", 0),
            libc::SYS_ftruncate => named("ftruncate", 0),
            libc::SYS_fallocate => named("fallocate", 0),
            libc::SYS_fchmod => named("fchmod", 0),
            libc::SYS_fchmodat => named("fchmodat", 0),
            libc::SYS_fchown | libc::SYS_fchownat => named("fchown", 0),
            libc::SYS_utimensat => named("utimensat", 0),
            libc::SYS_fsync => named("fsync", 0),
            libc::SYS_fdatasync => named("fdatasync", 0),
            libc::SYS_syncfs => named("syncfs", 0),
            libc::SYS_truncate => Some("truncate".to_owned()),
            number => older(number).map(str::to_owned),
        }
    }
}

/// Calls that name a path from the working folder on; newer machines have none of them.
#[cfg(target_arch = "x86_64")]
fn older(number: i64) -> Option<&'static str> {
    use nix::libc;
    match number {
        libc::SYS_rename => Some("rename"),
        libc::SYS_unlink => Some("unlink"),
        libc::SYS_mkdir => Some("mkdir"),
        libc::SYS_rmdir => Some("rmdir"),
        libc::SYS_link => Some("link"),
        libc::SYS_symlink => Some("symlink"),
        libc::SYS_chmod => Some("chmod"),
        libc::SYS_creat => Some("creat"),
        _ => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn older(_: i64) -> Option<&'static str> {
    None
}

fn read_word(pid: Pid, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut bytes, address).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

fn creates(flags: u64) -> bool {
    let flags = OFlags::from_bits_retain(u32::try_from(flags & u64::from(u32::MAX)).unwrap_or_default());
    flags.intersects(OFlags::CREATE | OFlags::TRUNC)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
