//! Reading the audit log back: the segments under `logs/<yyyy>/<mm>/<dd>/<nnnn>/` in the order of their paths, then
//! `logs/bridge.log`. Never changes anything.

use std::thread::Builder;

use cap_fs_ext::DirExt as _;
use cap_std::fs::Dir;
use chrono::{DateTime, NaiveDateTime, Utc};
use protocol::audit::{AuditEntry, AuditLine};
use protocol::digest::Sha256;
use protocol::segment::{self, DAY_DIGITS, MAX_LOG_BYTES};

use crate::error::ArchiveError;
use crate::files::{Found, LOGS, look};
use crate::log::BRIDGE_LOG;

/// The time in a segment's name.
const TIME: &str = "%Y%m%dT%H%M%S%.3fZ";
/// Logs that are read side by side before their lines are gone through in order: some MiB in memory.
const ROUND: usize = 64;
/// The most threads that read them.
const READERS: usize = 4;
/// Lines after which a long reading says how far it is.
const PROGRESS: u64 = 500_000;

/// Where the chain of the log does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainBreak {
    /// The log, relative to CLOUD.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// What reading the whole log showed.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub lines: u64,
    pub first_break: Option<ChainBreak>,
}

/// A segment's name.
pub(crate) fn segment_name(rolled: DateTime<Utc>) -> String {
    format!("bridge-{}.log", rolled.format(TIME))
}

fn segment_time(name: &str) -> Option<DateTime<Utc>> {
    let time = name.strip_prefix("bridge-")?.strip_suffix(".log")?;
    NaiveDateTime::parse_from_str(time, TIME).ok().map(|time| time.and_utc())
}

/// Reads every line in order and hands its entry to `visit`; notes the first place where the chain does not hold.
pub(crate) fn read(logs: &Dir, mut visit: impl FnMut(&AuditEntry)) -> Result<History, ArchiveError> {
    let (mut history, mut prev) = (History::default(), Sha256::ZERO);
    let mut paths = segments(logs)?;
    paths.push(BRIDGE_LOG.to_owned());
    let mut told = 0;
    for round in paths.chunks(ROUND) {
        for (path, lines) in round.iter().zip(read_logs(logs, round)?) {
            for (number, line) in lines.into_iter().enumerate() {
                let fault = match &line {
                    None => Some("is no intact line"),
                    Some(line) if line.prev != prev => Some("does not follow the line before"),
                    Some(_) => None,
                };
                if let (Some(what), None) = (fault, &history.first_break) {
                    history.first_break = Some(ChainBreak { file: format!("{LOGS}/{path}"), line: number + 1, what });
                }
                let Some(line) = line else { continue };
                prev = line.hash;
                history.lines += 1;
                visit(&line.entry);
            }
        }
        if history.lines >= told + PROGRESS {
            told = history.lines;
            tracing::info!(lines = told, "reading the audit log");
        }
    }
    Ok(history)
}

/// The lines of each of these logs: reading them one by one is what a start spends most of its time on.
fn read_logs(logs: &Dir, paths: &[String]) -> Result<Vec<Vec<Option<AuditLine>>>, ArchiveError> {
    let readers = std::thread::available_parallelism().map_or(1, usize::from).min(READERS);
    let share = paths.len().div_ceil(readers).max(1);
    if share == paths.len() {
        return paths.iter().map(|path| lines(logs, path)).collect();
    }
    std::thread::scope(|scope| {
        let read = |paths: &[String]| paths.iter().map(|path| lines(logs, path)).collect::<Result<Vec<_>, _>>();
        let begin = |paths| (paths, Builder::new().spawn_scoped(scope, move || read(paths)));
        let shares: Vec<_> = paths.chunks(share).map(begin).collect();
        let mut found = Vec::with_capacity(paths.len());
        for (paths, thread) in shares {
            found.extend(match thread {
                // A panic goes on where it would have been without threads.
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                // No thread is to be had: then it takes a little longer.
                Err(_) => read(paths)?,
            });
        }
        Ok(found)
    })
}

/// The hash of the last line that is intact; zeros where there is none.
pub(crate) fn last_hash(logs: &Dir) -> Result<Sha256, ArchiveError> {
    let mut paths = segments(logs)?;
    paths.push(BRIDGE_LOG.to_owned());
    for path in paths.iter().rev() {
        if let Some(line) = lines(logs, path)?.into_iter().flatten().last() {
            return Ok(line.hash);
        }
    }
    Ok(Sha256::ZERO)
}

/// The path of the log that rolled last, relative to `logs/`.
pub(crate) fn last_segment(logs: &Dir) -> Result<Option<String>, ArchiveError> {
    Ok(segments(logs)?.pop())
}

/// The bytes of a log; none where there is no such file.
pub(crate) fn bytes(logs: &Dir, path: &str) -> Result<Vec<u8>, ArchiveError> {
    match look(logs, path, MAX_LOG_BYTES).map_err(ArchiveError::io("read", format!("{LOGS}/{path}")))? {
        Found::File(bytes) => Ok(bytes),
        Found::Nothing => Ok(Vec::new()),
        Found::Other => Err(ArchiveError::NotAFolder { path: format!("{LOGS}/{path}"), found: "no regular file" }),
    }
}

/// When the log rolled last.
pub(crate) fn last_rolled(logs: &Dir) -> Result<Option<DateTime<Utc>>, ArchiveError> {
    Ok(last_segment(logs)?.as_deref().and_then(|path| path.rsplit('/').next()).and_then(segment_time))
}

/// The counter of the segment folder of a day that takes the next log.
pub(crate) fn segment_number(day: &Dir, window: usize) -> Result<String, ArchiveError> {
    let numbers = names(day, LOGS, |name| segment::number(name).is_some())?;
    let Some(last) = numbers.iter().max_by_key(|name| segment::number(name)) else { return Ok("0000".to_owned()) };
    // What is no folder is set aside when the folder is made.
    let Ok(held) = day.open_dir_nofollow(last) else { return Ok(last.clone()) };
    if names(&held, last, |_| true)?.len() < window {
        return Ok(last.clone());
    }
    Ok(format!("{:04}", segment::number(last).unwrap_or_default() + 1))
}

fn lines(logs: &Dir, path: &str) -> Result<Vec<Option<AuditLine>>, ArchiveError> {
    let bytes = bytes(logs, path)?;
    let body = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let parse = |line: &[u8]| std::str::from_utf8(line).ok().and_then(AuditLine::parse);
    Ok(body.split(|byte| *byte == b'\n').map(parse).collect())
}

/// The segments' paths relative to `logs/`, in order.
fn segments(logs: &Dir) -> Result<Vec<String>, ArchiveError> {
    let mut found = Vec::new();
    let all = logs.try_clone().map_err(ArchiveError::io("open", LOGS))?;
    let mut level = vec![(String::new(), all)];
    for number in 0..=DAY_DIGITS.len() {
        let mut below = Vec::new();
        for (path, dir) in level {
            for name in names(&dir, LOGS, |name| segment::is_level(number, name))? {
                // A link is no segment folder, whatever its name.
                if let Ok(inner) = dir.open_dir_nofollow(&name) {
                    below.push((format!("{path}{name}/"), inner));
                }
            }
        }
        level = below;
    }
    for (path, dir) in level {
        let is_file = |name: &str| dir.symlink_metadata(name).is_ok_and(|metadata| metadata.is_file());
        let logs = names(&dir, LOGS, |name| segment_time(name).is_some() && is_file(name))?;
        found.extend(logs.into_iter().map(|name| format!("{path}{name}")));
    }
    found.sort_by(|one, other| segment::order(one).cmp(&segment::order(other)));
    Ok(found)
}

/// The names in `dir` that `keep` wants, sorted.
pub(crate) fn names(dir: &Dir, path: &str, keep: impl Fn(&str) -> bool) -> Result<Vec<String>, ArchiveError> {
    let mut names = Vec::new();
    for entry in dir.entries().map_err(ArchiveError::io("list", path))? {
        let entry = entry.map_err(ArchiveError::io("list", path))?;
        if let Some(name) = entry.file_name().to_str().filter(|name| keep(name)) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
