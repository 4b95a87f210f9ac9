//! What each process of a program may use at most. They keep an accident within bounds; the time limit ends it.

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

/// Open files.
const OPEN_FILES: u64 = 4_096;
/// Processes and threads of the user: of the check alone where it has a user namespace of its own.
pub const PROCESSES: u64 = 1_024;
/// The largest file, in bytes.
const FILE_BYTES: u64 = 1024 * 1024 * 1024;
/// Private memory that can be written, in bytes.
const DATA_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// Addresses, in bytes: far more than memory, because runtimes reserve what they never touch.
const ADDRESS_BYTES: u64 = 256 * 1024 * 1024 * 1024;

/// By how much it gives way to others when there are not enough processors: to the bridge above all, which must be able
/// to end it.
const NICE: i32 = 5;

/// Applies the limits to this process and all that it starts. Where the system's own are tighter, they stay.
pub fn apply(cpu_seconds: u64) {
    let limits = [
        (Resource::Core, 0),
        (Resource::Nofile, OPEN_FILES),
        (Resource::Nproc, PROCESSES),
        (Resource::Fsize, FILE_BYTES),
        (Resource::Data, DATA_BYTES),
        (Resource::As, ADDRESS_BYTES),
        (Resource::Cpu, cpu_seconds),
    ];
    for (resource, most) in limits {
        let most = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        // A system that does not know a limit is none the worse for the others.
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
    // It is asked for less, which is never refused.
    let _ = nice(NICE);
    #[cfg(target_os = "linux")]
    if std::process::id() == 1 {
        // The namespace's own limit, since Linux 6.14: it holds for root, too.
        let _ = std::fs::write("/proc/sys/kernel/pid_max", PROCESSES.to_string());
    }
}
