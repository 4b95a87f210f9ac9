//! The fence: Landlock for files, a filter of system calls for everything that Landlock has no say in, no capabilities.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use nix::libc;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use super::public;
use super::wire::Order;

/// The newest interface that is known here; what the kernel does not have of it is left out.
const NEWEST: ABI = ABI::V9;
/// Folders of the system with programs, libraries and their data.
const SYSTEM: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store"];
/// Folders of the system of which that is readable which everybody may read.
const SYSTEM_PUBLIC: [&str; 1] = ["/etc"];
/// Devices that hold nothing.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// The system calls that a program does without. Sockets: also those of the file system lead out, and Landlock does not
/// know them before ABI 9; `socketpair` stays. `io_uring` would open them unseen. Keys: the kernel keeps some for each
/// user. The rest shows or changes the machine.
const FORBIDDEN: [i64; 10] = [
    libc::SYS_socket,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
];
/// The bit that marks a system call of the x32 interface, which has the numbers of x86-64 beyond it.
const X32: i64 = 0x4000_0000;

/// Fences this process in, and all that it starts.
///
/// # Errors
/// A sentence that says what the kernel does not have or does not grant. What could be raised stays raised.
pub fn raise(order: &Order) -> Result<(), String> {
    let fence = if order.facilities.fence { files(order) } else { Err("this kernel has no Landlock".to_owned()) };
    drop_capabilities();
    let filter = if order.facilities.fence { calls() } else { Ok(()) };
    fence.and(filter)
}

/// The folders in which the program may write, as far as they are there: reached beneath the current folder, through no
/// symbolic link.
pub fn writable(order: &Order) -> impl Iterator<Item = OwnedFd> {
    order.writable.iter().filter_map(|folder| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(CWD, folder, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS).ok()
    })
}

fn files(order: &Order) -> Result<(), String> {
    let fault = |error: &dyn std::fmt::Display| format!("Landlock failed: {error}");
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(|error| fault(&error))?;
    let read = AccessFs::from_read(NEWEST);
    // Everything but making devices, and sockets that others listen at.
    let write = AccessFs::from_all(NEWEST)
        & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev | AccessFs::ResolveUnix);
    let mut rules = Rules { ruleset: Some(ruleset), fault: None };
    rules.allow_path(Path::new("."), read);
    SYSTEM.iter().for_each(|folder| rules.allow_path(Path::new(folder), read));
    order.readable.iter().for_each(|folder| rules.allow_path(folder, read));
    for part in SYSTEM_PUBLIC.iter().flat_map(|folder| public::parts(Path::new(folder))) {
        rules.allow_path(&part, read);
    }
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    DEVICES.iter().for_each(|path| rules.allow_path(Path::new(path), device));
    rules.allow_path(&order.home, write);
    writable(order).for_each(|folder| rules.allow(folder, write));
    let ruleset = match rules {
        Rules { ruleset: Some(ruleset), fault: None } => ruleset,
        Rules { fault: why, .. } => return Err(fault(&why.unwrap_or_default())),
    };
    let status = ruleset.restrict_self().map_err(|error| fault(&error))?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err("this kernel has no Landlock, or it is not enabled".to_owned());
    }
    Ok(())
}

/// A growing set of rules.
struct Rules {
    ruleset: Option<RulesetCreated>,
    fault: Option<String>,
}

impl Rules {
    /// Allows `access` to what is at `path`, if it is there.
    fn allow_path(&mut self, path: &Path, access: BitFlags<AccessFs>) {
        if let Ok(fd) = PathFd::new(path) {
            self.allow(fd, access);
        }
    }

    fn allow(&mut self, fd: impl AsFd, access: BitFlags<AccessFs>) {
        let is_folder = fstat(&fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        let access = if is_folder { access } else { access & AccessFs::from_file(NEWEST) };
        let Some(ruleset) = self.ruleset.take() else { return };
        match ruleset.add_rule(PathBeneath::new(fd, access)) {
            Ok(ruleset) => self.ruleset = Some(ruleset),
            Err(error) => self.fault = Some(error.to_string()),
        }
    }
}

/// Gives every capability up, for good: also a program that root runs has none.
fn drop_capabilities() {
    for capability in CapabilitySet::all().iter() {
        // Who has none to give up is not asked.
        let _ = remove_capability_from_bounding_set(capability);
    }
    let none = CapabilitySet::empty();
    let _ = set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none });
}

/// Raises the filter of system calls. It sets `no_new_privs`, too.
fn calls() -> Result<(), String> {
    let program = filter().map_err(|error| format!("no filter of system calls can be made here: {error}"))?;
    apply_filter(&program).map_err(|error| format!("this kernel takes no filter of system calls: {error}"))
}

fn filter() -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let twins = if arch == TargetArch::x86_64 { &[0, X32][..] } else { &[0][..] };
    let numbers = FORBIDDEN.iter().flat_map(|call| twins.iter().map(move |twin| *call + twin));
    let rules: BTreeMap<i64, _> = numbers.map(|number| (number, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).map_err(|error| error.to_string())?;
    BpfProgram::try_from(filter).map_err(|error| error.to_string())
}
