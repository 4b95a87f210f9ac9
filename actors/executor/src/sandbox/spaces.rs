//! Namespaces of one's own: pids, network, IPC, host name and mounts, beneath a user namespace in which the user stays
//! who it is. They come on top of the fence, where the kernel grants them.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};

use super::fence;
use super::wire::Order;

/// What is kept as it is: the kernel's own, which is no place to keep anything.
const UNTOUCHED: &str = "/proc";

/// Moves this process, and all that it starts from now on, into namespaces of their own. Its next child is pid 1.
///
/// # Errors
/// When the kernel does not grant them. This process must not go on then: it may be half inside.
pub fn enter(order: &Order) -> io::Result<()> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    // The kernel lets only such a process say who it is in its namespace. There is no secret in this one.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let inside = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNS;
    match unshare(inside | CloneFlags::CLONE_NEWUSER) {
        Ok(()) => {
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{user} {user} 1\n"))?;
            fs::write("/proc/self/gid_map", format!("{group} {group} 1\n"))?;
            // No user namespace within this one: what it would grant, the program does not need. A kernel that does
            // not know the limit grants nothing that the fence does not hold.
            let _ = fs::write("/proc/sys/user/max_user_namespaces", "0");
        }
        // Root may where user namespaces are turned off.
        Err(_) if user == 0 => unshare(inside)?,
        Err(error) => return Err(error.into()),
    }
    // Without it modes, times and owners can be changed where the user may; contents cannot in any case.
    let _ = read_only(order);
    Ok(())
}

/// Mounts everything read-only but the program's home and what it may write.
fn read_only(order: &Order) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let home = openat(CWD, &order.home, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut kept = vec![PathBuf::from(UNTOUCHED)];
    for folder in fence::writable(order).chain([home]) {
        kept.push(own_mount(&folder)?);
    }
    for (place, flags) in mounts(&fs::read_to_string("/proc/self/mountinfo")?) {
        if !kept.iter().any(|kept| place.starts_with(kept)) {
            // One that is out of reach, or not ours to change, stays as it is.
            let _ = mount_remount(&place, MountFlags::BIND | MountFlags::RDONLY | flags, "");
        }
    }
    Ok(())
}

/// Makes `folder` a mount of its own: where it is.
fn own_mount(folder: &OwnedFd) -> io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let place = fs::read_link(&link)?;
    mount_bind(link.as_str(), link.as_str())?;
    Ok(place)
}

/// The places of all mounts, with those flags that a new one must repeat.
fn mounts(table: &str) -> Vec<(PathBuf, MountFlags)> {
    let line = |line: &str| {
        let mut fields = line.split(' ').skip(4);
        let place = unescape(fields.next()?);
        let flags = fields.next()?.split(',').map(|option| match option {
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "noatime" => MountFlags::NOATIME,
            "nodiratime" => MountFlags::NODIRATIME,
            "relatime" => MountFlags::RELATIME,
            _ => MountFlags::empty(),
        });
        Some((place, flags.collect()))
    };
    table.lines().filter_map(line).collect()
}

/// A path of the table: blanks and the like stand there as `\ooo`.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Path::new(std::ffi::OsStr::from_bytes(&bytes)).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_table_of_mounts_is_read() {
        let table = "22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw\n\
                     28 1 254:1 / / rw,noatime - ext4 /dev/vda1 rw\n\
                     30 28 0:27 /x /a\\040b\\134c ro - tmpfs tmpfs rw\n\
                     cut short";
        let found = mounts(table);
        assert_eq!(found.len(), 3);
        let all = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
        assert_eq!(found[0], (PathBuf::from("/sys"), all));
        assert_eq!(found[1], (PathBuf::from("/"), MountFlags::NOATIME));
        assert_eq!(found[2], (PathBuf::from("/a b\\c"), MountFlags::empty()));
    }
}
