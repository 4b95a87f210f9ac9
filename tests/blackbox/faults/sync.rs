//! Syncs that fail: nobody knows then what reached the disk.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use super::assert_filed_once;
use crate::harness::{Bridge, Cloud, Doc, PATIENCE, have, poll};

/// A tracer that makes calls fail; it is taken away when this is dropped.
struct Saboteur(Child);

impl Saboteur {
    /// Lets the first three `call`s of each thread fail.
    fn of(cloud: &Cloud, bridge: &Bridge<'_>, call: &str) -> Self {
        let log = cloud.fresh("strace");
        let inject = format!("inject={call}:error=EIO:when=1..3");
        let mut strace = Command::new("strace");
        strace.args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &inject,
            "-p",
            &bridge.pid().to_string(),
        ]);
        let child = strace.stdin(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let attached = || fs::read_to_string(&log).unwrap_or_default().contains("attached");
        assert!(poll(PATIENCE, attached), "strace cannot attach");
        Self(child)
    }
}

impl Drop for Saboteur {
    fn drop(&mut self) {
        // Told to end it lets go of the bridge; killed it would too, but say so.
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.0.wait();
    }
}

fn submit(cloud: &Cloud, ids: &mut Vec<String>, stem: &str) {
    for number in 0..3 {
        let id = format!("{stem}-{number}");
        cloud.submit(&Doc::write(&id, &format!("docs/{id}.txt"), "x\n"));
        ids.push(id);
    }
}

fn survives(call: &str, complaint: &str, killed: bool) {
    if !have("strace") {
        return;
    }
    let (cloud, mut ids) = (Cloud::alone(), Vec::new());
    let mut bridge = Bridge::start(&cloud);
    submit(&cloud, &mut ids, "before");
    bridge.emptied();
    let saboteur = Saboteur::of(&cloud, &bridge, call);
    submit(&cloud, &mut ids, "during");
    bridge.wait_for("the failure to be said", || bridge.log().contains(complaint));
    if killed {
        bridge.kill();
        drop(saboteur);
        bridge = Bridge::start(&cloud);
    } else {
        bridge.emptied();
        drop(saboteur);
    }
    submit(&cloud, &mut ids, "after");
    assert_filed_once(&cloud, bridge, &ids);
    for id in &ids {
        assert_eq!(cloud.text(&format!("docs/{id}.txt")), "x\n");
    }
    assert_eq!(cloud.dead_letters(), []);
}

#[test]
fn a_record_that_cannot_be_synced_is_written_again() {
    survives("fdatasync", "execution has stopped", false);
}

#[test]
fn a_kill_after_a_record_that_could_not_be_synced_costs_nothing() {
    survives("fdatasync", "execution has stopped", true);
}

#[test]
fn artifacts_that_cannot_be_synced_are_filed_later() {
    survives("fsync", "filing has stopped", false);
}

#[test]
fn a_kill_after_artifacts_that_could_not_be_synced_costs_nothing() {
    survives("fsync", "filing has stopped", true);
}

#[test]
fn a_journal_that_cannot_be_synced_away_stays_until_it_can() {
    survives("syncfs", "cannot be synced", false);
}

#[test]
fn a_kill_after_a_journal_that_could_not_be_synced_away_costs_nothing() {
    survives("syncfs", "cannot be synced", true);
}
