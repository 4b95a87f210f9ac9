//! The publisher alone, through its public interface, beside `git fast-import` fed the same changes.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use chrono::{TimeDelta, Utc};
use publisher::PublisherConfig;
use publisher::config::GROUP_MAX;
use publisher::core::Core;
use publisher::pending::Pending;

use crate::Sizes;
use crate::documents::Signer;
use crate::history::{Stream, WINDOW};
use crate::site::{Site, git, git_command};
use crate::table::{Row, Table};

/// How many times the peer that is to be.
const TIMES_IMPORT: f64 = 2.0;

/// Files `count` commands' artifacts on disk, [`WINDOW`] commands a folder; gives what is to be committed, and writes the
/// same as a stream for the peer.
fn prepare(site: &Site, count: u64, out: impl Write) -> Vec<Pending> {
    let (signer, begin) = (Signer::new(), Utc::now());
    let mut stream = Stream::new(out);
    let mut batch = Vec::new();
    for number in 0..count {
        let at = begin + TimeDelta::milliseconds(number as i64);
        let filed = signer.filed(format!("c{number:07}"), number, at);
        let place = format!("{}/{:04}", at.format("%Y/%m/%d"), number / WINDOW);
        let (line, rolled) = stream.line(&filed, at);
        if let Some((to, log)) = &rolled {
            stream.commit("bridge: roll over", at).unwrap();
            stream.file(to, log).unwrap();
            stream.out.write_all(b"D logs/bridge.log\n").unwrap();
        }
        let subject = format!("bridge: results {} (exit=0)", filed.id);
        stream.commit(&subject, at).unwrap();
        let mut paths = Vec::new();
        for (folder, name, bytes) in &filed.artifacts {
            let path = format!("{folder}/{place}/{name}");
            let file = site.cloud.join(&path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
            stream.file(&path, bytes).unwrap();
            paths.push(path);
        }
        let log = std::mem::take(&mut stream.log);
        stream.file("logs/bridge.log", &log).unwrap();
        stream.log = log;
        let mut pending = Pending::from_log(subject, paths, line);
        pending.log_rolled_to = rolled.map(|(to, _)| to);
        batch.push(pending);
    }
    stream.out.write_all(b"done\n").unwrap();
    stream.out.flush().unwrap();
    batch
}

/// Commits a second, both ways.
pub fn measure(sizes: &Sizes, table: &mut Table) {
    let (site, count) = (Site::new(0), sizes.commands);
    let mut core = Core::open(PublisherConfig::new(&site.cloud), Arc::default(), true, Utc::now()).unwrap();
    while core.is_recovering() {
        core.recover(Utc::now()).unwrap();
    }
    let stream = site.top().join("stream");
    let batch = prepare(&site, count, BufWriter::with_capacity(1 << 20, File::create(&stream).unwrap()));
    rustix::fs::sync();
    let begin = Instant::now();
    let settled: usize = batch.chunks(GROUP_MAX).map(|group| core.commit(group, Utc::now()).unwrap().items).sum();
    let ours = count as f64 / begin.elapsed().as_secs_f64();
    assert_eq!(settled as u64, count);

    git(site.top(), &["init", "-q", "--bare", "-b", "main", "peer.git"]);
    let peer = site.top().join("peer.git");
    let begin = Instant::now();
    let status = git_command(&peer)
        .args(["fast-import", "--quiet", "--done"])
        .stdin(Stdio::from(File::open(&stream).unwrap()))
        .status()
        .unwrap();
    let theirs = count as f64 / begin.elapsed().as_secs_f64();
    assert!(status.success());
    let tree = |dir| git(dir, &["rev-parse", "main:results", "main:archive", "main:diffs", "main:logs"]);
    assert_eq!(tree(&site.cloud), tree(&peer), "both made the same");
    table.add(Row {
        what: format!("publisher alone, {count} commits, window {WINDOW}"),
        measured: format!("{ours:.0}/s"),
        peer: format!("{theirs:.0}/s, git fast-import"),
        ratio: format!("{:.2}", ours / theirs),
        aim: format!("{TIMES_IMPORT:.0} times"),
        met: Some(ours >= TIMES_IMPORT * theirs),
    });
}
