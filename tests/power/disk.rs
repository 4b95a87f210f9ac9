//! A file system in an image, which can lose its power.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{PATIENCE, poll};

/// The smallest that both kinds can be made in, in bytes. Only what is written takes room.
const IMAGE_BYTES: u64 = 320 << 20;
/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN` are one request, `_IOR('X', 125, u32)`.
const SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
/// At once: neither dirty files nor the log are written.
const NOLOGFLUSH: u32 = 2;
/// The boot that the kernel tells of.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What is missing here, if anything.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("power cuts need root".to_owned());
    }
    for program in ["unshare", "mount", "umount", "losetup", "mkfs.ext4", "mkfs.xfs"] {
        if Command::new(program).arg("--version").output().is_err() && Command::new(program).arg("-V").output().is_err()
        {
            return Some(format!("power cuts need {program}"));
        }
    }
    let tried = Command::new("unshare").args(["--mount", "losetup", "--find"]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("power cuts need loop devices: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Some(format!("power cuts need namespaces: {error}")),
    }
}

/// One file system, mounted at `fs` in the world, and folders of the world that lie on it. Its image lies in memory, so
/// that a sync costs what the file system's own work costs.
pub struct Disk {
    world: PathBuf,
    kind: &'static str,
    folders: &'static [&'static str],
    boots: u128,
}

impl Disk {
    /// Makes one in this process's own mount namespace.
    pub fn new(world: &Path, kind: &'static str, folders: &'static [&'static str]) -> Self {
        let disk = Self { world: world.to_owned(), kind, folders, boots: rand::random() };
        for folder in ["memory", "fs"].iter().chain(folders) {
            fs::create_dir(world.join(folder)).unwrap();
        }
        run("mount", &["-t", "tmpfs", "none"], &[&disk.path("memory")]);
        File::create(disk.image()).unwrap().set_len(IMAGE_BYTES).unwrap();
        run(&format!("mkfs.{kind}"), &["-q"], &[&disk.image()]);
        fs::write(disk.path("boot"), disk.boot()).unwrap();
        run("mount", &["--bind"], &[&disk.path("boot"), Path::new(BOOT_ID)]);
        run("mount", disk.options(), &[&disk.image(), &disk.path("fs")]);
        for folder in disk.folders {
            fs::create_dir(disk.path("fs").join(folder)).unwrap();
        }
        disk.bind();
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.join(name)
    }

    fn image(&self) -> PathBuf {
        self.path("memory/image")
    }

    fn options(&self) -> &'static [&'static str] {
        if self.kind == "xfs" { &["-o", "loop,nouuid", "-t", "xfs"] } else { &["-o", "loop", "-t", "ext4"] }
    }

    fn bind(&self) {
        for folder in self.folders {
            run("mount", &["--bind"], &[&self.path("fs").join(folder), &self.path(folder)]);
        }
    }

    fn boot(&self) -> String {
        let digits = format!("{:032x}", self.boots);
        format!("{}-{}-{}-{}-{}\n", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
    }

    /// The power goes: whatever is not on the disk by now never will be.
    pub fn cut(&self) {
        let folder = File::open(self.path("fs")).unwrap();
        let how = NOLOGFLUSH;
        #[allow(unsafe_code, reason = "no crate offers this request; the kernel reads one number from where it points")]
        let done = unsafe { libc::ioctl(folder.as_raw_fd(), SHUTDOWN, &raw const how) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// The power is back. Everybody who had files open there must be gone, or about to.
    pub fn mount_again(&mut self, new_boot: bool) {
        for folder in self.folders.iter().chain(&["fs"]) {
            let gone = poll(PATIENCE, || attempt("umount", &[], &[&self.path(folder)]).status.success());
            assert!(gone, "{folder} cannot be unmounted");
        }
        // A process that is about to end may still hold it, with mounts of its own: then it would be the dead one again.
        let free = poll(PATIENCE, || attempt("losetup", &["--associated"], &[&self.image()]).stdout.is_empty());
        assert!(free, "somebody holds the file system");
        if new_boot {
            self.boots = self.boots.wrapping_add(1);
            fs::write(self.path("boot"), self.boot()).unwrap();
        }
        run("mount", self.options(), &[&self.image(), &self.path("fs")]);
        self.bind();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The namespace takes along what cannot go yet.
        for folder in self.folders.iter().chain(&["fs", "memory"]) {
            let _ = attempt("umount", &["--lazy"], &[&self.path(folder)]);
        }
        let _ = attempt("umount", &["--lazy"], &[Path::new(BOOT_ID)]);
    }
}

fn attempt(program: &str, options: &[&str], paths: &[&Path]) -> Output {
    Command::new(program).args(options).args(paths).output().unwrap()
}

fn run(program: &str, options: &[&str], paths: &[&Path]) {
    let output = attempt(program, options, paths);
    assert!(output.status.success(), "{program} {paths:?}: {}", String::from_utf8_lossy(&output.stderr));
}
