//! The clock, the disk and the kernel.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use executor::config::{Checks, Requirement};
use protocol::time::{format_utc, parse_rfc3339};

use crate::audit::chain;
use crate::audit::disk::Root;
use crate::layout::Layout;

use super::Report;

/// How far the clock and the file system's time may lie apart.
const MAX_SKEW: TimeDelta = TimeDelta::seconds(2);
/// Before this the clock cannot be right: it is older than the program.
const EPOCH: &str = "2026-01-01T00:00:00Z";
/// Free space, in bytes: less is too little, and less is little.
const SPACE: [u64; 2] = [100 * 1024 * 1024, 1024 * 1024 * 1024];
/// Free inodes: the same. A command takes four.
const INODES: [u64; 2] = [1_000, 50_000];
/// inotify instances and watches that should be allowed for a user.
const INOTIFY: [(&str, u64); 2] = [("max_user_instances", 16), ("max_user_watches", 1_024)];

/// Looks at all of them.
pub fn look(report: &mut Report, layout: &Layout, checks: Option<&Checks>) {
    clock(report, layout, Utc::now());
    space(report, layout.cloud());
    inotify(report);
    sandbox(report, checks);
}

fn clock(report: &mut Report, layout: &Layout, now: DateTime<Utc>) {
    let set = "set the clock, by NTP for example: commands are judged by it";
    if parse_rfc3339(EPOCH).is_some_and(|epoch| now < epoch) {
        return report.fail("clock", format!("it says {}", format_utc(now)), set);
    }
    // Of a file that is made now, the file system tells its own time.
    let written = tempfile::tempfile().and_then(|file| file.metadata()).and_then(|metadata| metadata.modified());
    if let Ok(written) = written.map(DateTime::<Utc>::from)
        && (written - DateTime::<Utc>::from(SystemTime::now())).abs() > MAX_SKEW
    {
        return report.warn(
            "clock",
            format!("it says {}, and the file system {}", format_utc(now), format_utc(written)),
            set,
        );
    }
    match last_line(layout) {
        Some(last) if last > now + MAX_SKEW => {
            report.warn("clock", format!("the last audit line is of {}, which is to come", format_utc(last)), set);
        }
        _ => report.ok("clock", format_utc(now)),
    }
}

/// When the last line of the log was written.
fn last_line(layout: &Layout) -> Option<DateTime<Utc>> {
    let live = Root::open(layout.cloud()).ok().and_then(|root| chain::files(&root).ok())?.live;
    let line = chain::lines(&live).last()?.ok()?;
    parse_rfc3339(&line.entry.ts)
}

fn space(report: &mut Report, cloud: &Path) {
    let stat = match rustix::fs::statvfs(cloud) {
        Ok(stat) => stat,
        Err(error) => {
            return report.warn("disk", format!("cannot be asked: {}", std::io::Error::from(error)), "look with: df");
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // Some file systems do not count inodes.
    let inodes = if stat.f_files == 0 { u64::MAX } else { stat.f_favail };
    let what = match inodes {
        u64::MAX => format!("{} MiB free", free / (1024 * 1024)),
        inodes => format!("{} MiB and {inodes} inodes free", free / (1024 * 1024)),
    };
    let remedy = format!("make room on the file system of {}", cloud.display());
    let is_below = |level: usize| {
        SPACE.get(level).is_some_and(|least| free < *least) || INODES.get(level).is_some_and(|least| inodes < *least)
    };
    if is_below(0) {
        report.fail("disk", what, remedy);
    } else if is_below(1) {
        report.warn("disk", what, remedy);
    } else {
        report.ok("disk", what);
    }
}

fn inotify(report: &mut Report) {
    let limits = INOTIFY.map(|(name, least)| {
        let text = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).unwrap_or_default();
        (name, least, text.trim().parse::<u64>().ok())
    });
    if let Some((name, least, Some(found))) =
        limits.iter().find(|(_, least, found)| found.is_some_and(|found| found < *least))
    {
        return report.warn(
            "inotify",
            format!("fs.inotify.{name} is {found}: without events, commands wait up to a second for the next look at commands/"),
            format!("sysctl fs.inotify.{name}={}", least * 8),
        );
    }
    match limits.iter().all(|(.., found)| found.is_some()) {
        true => report
            .ok("inotify", limits.map(|(name, _, found)| format!("{name} {}", found.unwrap_or_default())).join(", ")),
        false => report
            .ok("inotify", "not on this system; commands/ is looked at once a second, more often while there is work"),
    }
}

fn sandbox(report: &mut Report, checks: Option<&Checks>) {
    let required = checks.is_some_and(|checks| checks.values().any(|check| check.sandbox == Requirement::Required));
    match (executor::sandbox::probe(), required) {
        (Ok(()), _) => report.ok("sandbox", "a program was run fenced in (Landlock, seccomp)"),
        (Err(why), true) => report.fail(
            "sandbox",
            format!("checks cannot be fenced in, and fail: {why}"),
            "use Linux 5.13 or newer with Landlock, or sandbox = \"best-effort\" for programs that you trust",
        ),
        (Err(why), false) => report.warn(
            "sandbox",
            format!("run checks could not be fenced in: {why}"),
            "no check that needs it is configured; else use Linux 5.13 or newer with Landlock",
        ),
    }
}
