//! What a crash left, whatever it was, becomes what the journal decided on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![cfg(unix)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use executor::apply::HiddenNames;
use executor::journal::entry::{Begun, Ended, Entry, FileChange, Mark};
use executor::journal::{Draft, Journal};
use executor::recovery::{Recovery, recover};
use executor::tree::Image;
use protocol::audit::{AuditEntry, AuditResult};
use protocol::ledger::Ledger;
use protocol::message::Execution;
use protocol::path::RelativePath;
use protocol::reason::Reason;
use serde_json::json;
use support::{document, verified};

struct Bench {
    dir: tempfile::TempDir,
    journal: Journal,
    ledger: Arc<Ledger>,
    /// When commands are executed.
    at: DateTime<Utc>,
}

type State<'a> = Option<&'a str>;

fn image(text: &str) -> Image {
    Image { content: text.as_bytes().into(), bits: 0o644 }
}

fn execution(failed: bool, at: DateTime<Utc>) -> Execution {
    Execution {
        failure: failed.then(|| (Reason::ValidationFailed, "no".to_owned())),
        executed_at: at,
        finished_at: at,
        duration_ms: 1,
        files_changed: 1,
        bytes_written: 1,
        ops: Vec::new(),
        checks: Vec::new(),
        diff: Vec::new(),
        attempts: 1,
    }
}

/// How a record ended before the crash.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It had happened when it was begun.
    Stands,
    /// Its checks went well.
    Decided,
    /// They did not.
    Failed,
    /// It was undone, to be tried again.
    Void,
    /// The crash came before its checks had a verdict.
    Open,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("cloud/meta")).unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        let (journal, _) = Journal::open(&dir.path().join("cloud")).unwrap();
        Self { dir, journal, ledger: Arc::default(), at: DateTime::UNIX_EPOCH }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("tree").join(path)
    }

    fn put(&self, path: &str, state: State<'_>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match state {
            Some(text) => std::fs::write(path, text).unwrap(),
            None => drop(std::fs::remove_file(path)),
        }
    }

    fn state(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    /// Records a command; gives its hidden names and the hash of its document back.
    fn record(&self, changes: &[(&str, State<'_>, State<'_>)], end: End) -> (HiddenNames, protocol::digest::Sha256) {
        self.record_in("tree", changes, end)
    }

    /// The same for the target whose root is `root`.
    fn record_in(
        &self,
        root: &str,
        changes: &[(&str, State<'_>, State<'_>)],
        end: End,
    ) -> (HiddenNames, protocol::digest::Sha256) {
        let command = verified(document(json!([{"op": "noop"}])));
        let checked = end != End::Stands;
        let change = |(path, before, after): &(&str, State<'_>, State<'_>)| FileChange {
            path: RelativePath::parse(path).unwrap(),
            before: before.map(|text| Mark::of(&image(text))),
            after: after.map(image),
            undo: before.map(image).filter(|_| checked),
        };
        let begun = Begun {
            file: "c.json".into(),
            raw: Arc::clone(command.raw()),
            secret: command.secret(),
            received_at: command.received_at(),
            // As for a command that failed before its mutation was known.
            root: if changes.is_empty() { PathBuf::new() } else { self.dir.path().join(root) },
            changes: changes.iter().map(change).collect(),
            folders: vec![RelativePath::parse("made").unwrap(), RelativePath::parse("made/deep").unwrap()],
            attempts: 1,
            outcome: (!checked).then(|| execution(false, self.at)),
        };
        let written = self.journal.append(&[Draft { entry: Entry::Begun(begun), root: None }]).unwrap();
        let (sequence, run) = (written[0].sequence, written[0].run);
        let outcome = match end {
            End::Stands | End::Open => return (HiddenNames { run, sequence }, command.input_sha256()),
            End::Decided => Some(execution(false, self.at)),
            End::Failed => Some(execution(true, self.at)),
            End::Void => None,
        };
        let ended = Entry::Ended(Ended { begun: sequence, outcome });
        self.journal.append(&[Draft { entry: ended, root: None }]).unwrap();
        (HiddenNames { run, sequence }, command.input_sha256())
    }

    /// The command is in the audit log.
    fn file(&self, input_sha256: protocol::digest::Sha256) {
        self.ledger.record(&AuditEntry {
            ts: String::new(),
            id: None,
            action: None,
            result: AuditResult::Ok,
            exit: Some(0),
            files_changed: 1,
            hmac_ok: true,
            input_sha256,
        });
    }

    /// The next life of the process.
    fn recover(&mut self) -> Recovery {
        let (journal, found) = Journal::open(&self.dir.path().join("cloud")).unwrap();
        assert!(found.same_boot, "the journal of this very test");
        self.journal = journal;
        recover(&self.journal, found, &self.ledger).unwrap()
    }

    fn hidden(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with('.')).collect()
    }
}

const FATES: [(End, bool); 5] =
    [(End::Stands, true), (End::Decided, true), (End::Failed, false), (End::Void, false), (End::Open, false)];

#[test]
fn each_file_gets_the_state_that_was_decided_wherever_the_crash_came() {
    let pairs: [(State<'_>, State<'_>); 4] =
        [(None, Some("new")), (Some("old"), Some("new")), (Some("old"), None), (Some("same"), Some("same"))];
    for (end, stands) in FATES {
        for (before, after) in pairs {
            for found in [before, after] {
                let mut bench = Bench::new();
                bench.put("f", found);
                // Where the journal keeps no before-image, the file that a command displaced is still there.
                let (names, _) = bench.record(&[("f", before, after)], end);
                if found == after && before.is_some() {
                    bench.put(&names.of(0), before);
                }
                let recovery = bench.recover();
                let wanted = if stands { after } else { before };
                assert_eq!(bench.state("f").as_deref(), wanted, "{end:?}: {before:?} to {after:?}, found {found:?}");
                assert_eq!(recovery.outcomes.len(), usize::from(!matches!(end, End::Void | End::Open)));
                assert_eq!(recovery.interrupted.len(), usize::from(end == End::Open));
                assert!(recovery.foreign.is_empty() && bench.hidden().is_empty(), "{end:?}");
                // Once more, as after a crash in recovery itself.
                assert_eq!(bench.recover().restored, 0);
                assert_eq!(bench.state("f").as_deref(), wanted);
            }
        }
    }
}

#[test]
fn a_folder_under_a_hidden_name_is_left_and_stops_nothing() {
    let mut bench = Bench::new();
    bench.put("f", Some("new"));
    let (names, _) = bench.record(&[("f", Some("old"), Some("new"))], End::Decided);
    let within = format!("{}/theirs", names.of(0));
    bench.put(&within, Some("theirs"));
    bench.recover();
    assert_eq!((bench.state("f").as_deref(), bench.state(&within).as_deref()), (Some("new"), Some("theirs")));
}

#[test]
fn an_undone_try_and_the_one_that_stands_leave_what_stands() {
    for found in [Some("old"), Some("new")] {
        let mut bench = Bench::new();
        bench.put("f", found);
        bench.record(&[("f", Some("old"), Some("new"))], End::Void);
        bench.record(&[("f", Some("old"), Some("new"))], End::Stands);
        bench.recover();
        assert_eq!(bench.state("f").as_deref(), Some("new"));
    }
}

#[test]
fn a_row_of_commands_on_one_file_ends_with_the_last_that_stands() {
    for found in [None, Some("a"), Some("b"), Some("c")] {
        let mut bench = Bench::new();
        bench.put("f", found);
        bench.record(&[("f", None, Some("a"))], End::Stands);
        bench.record(&[("f", Some("a"), Some("b"))], End::Stands);
        bench.record(&[("f", Some("b"), Some("c"))], End::Failed);
        let recovery = bench.recover();
        assert_eq!(bench.state("f").as_deref(), Some("b"), "found {found:?}");
        assert_eq!(recovery.outcomes.len(), 3);
    }
}

#[test]
fn what_somebody_else_wrote_meanwhile_is_left_and_said() {
    for (end, stands) in FATES {
        let mut bench = Bench::new();
        bench.put("f", Some("theirs"));
        bench.put("g", Some("old"));
        bench.record(&[("f", Some("old"), Some("new")), ("g", Some("old"), Some("new"))], end);
        let recovery = bench.recover();
        assert_eq!(bench.state("f").as_deref(), Some("theirs"));
        assert_eq!(bench.state("g").as_deref(), Some(if stands { "new" } else { "old" }), "the rest is not left half");
        assert_eq!(recovery.foreign.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["f"]);
    }
    let mut bench = Bench::new();
    bench.record(&[("f", Some("old"), Some("new"))], End::Stands);
    assert_eq!(bench.recover().foreign.len(), 1, "a file that is gone was taken by somebody else");
    std::os::unix::fs::symlink("elsewhere", bench.path("f")).unwrap();
    assert_eq!(bench.recover().foreign.len(), 1, "a link is not followed");
}

#[test]
fn an_edit_after_a_command_was_filed_is_nobodys_concern() {
    let mut bench = Bench::new();
    bench.put("f", Some("edited since"));
    let (_, input) = bench.record(&[("f", None, Some("new"))], End::Stands);
    bench.file(input);
    let recovery = bench.recover();
    assert!(recovery.foreign.is_empty());
    assert_eq!(bench.state("f").as_deref(), Some("edited since"));
}

#[test]
fn what_a_volume_lost_within_one_boot_is_put_back() {
    let torn = [Some(""), Some("ne"), Some("\0\0\0"), Some("ne\0")];
    for (end, stands) in FATES {
        for found in torn {
            for is_filed in [false, stands] {
                let mut bench = Bench::new();
                bench.at = Utc::now();
                bench.put("f", found);
                let (_, input) = bench.record(&[("f", Some("old"), Some("new"))], end);
                if is_filed {
                    bench.file(input);
                }
                let recovery = bench.recover();
                // Of a filed command, what is cut elsewhere than between blocks was cut by somebody.
                let is_somebodys = is_filed && found == Some("ne");
                let wanted = match stands {
                    true if is_somebodys => "ne",
                    true => "new",
                    false => "old",
                };
                assert_eq!(bench.state("f").as_deref(), Some(wanted), "{end:?} {found:?} {is_filed}");
                assert_eq!((recovery.restored, recovery.foreign.len()), (usize::from(!is_somebodys), 0));
            }
        }
    }
}

#[test]
fn what_a_volume_took_back_of_filed_commands_is_done_again_and_what_somebody_took_back_is_not() {
    let changes: [(State<'_>, State<'_>); 3] = [(Some("old"), Some("new")), (None, Some("new")), (Some("old"), None)];
    for (before, after) in changes {
        for since in [false, true] {
            let mut bench = Bench::new();
            bench.put("in/f", Some("whatever"));
            bench.put("in/f", before);
            // Since the command somebody put back what was there before, or it is what the volume came back with.
            bench.at = if since { Utc::now() - TimeDelta::hours(1) } else { Utc::now() + TimeDelta::seconds(1) };
            let (_, input) = bench.record(&[("in/f", before, after)], End::Stands);
            bench.file(input);
            let recovery = bench.recover();
            let wanted = if since { before } else { after };
            assert_eq!(bench.state("in/f").as_deref(), wanted, "{before:?} to {after:?}, since: {since}");
            assert_eq!((recovery.restored, recovery.foreign.len()), (usize::from(!since), 0));
        }
    }
}

#[test]
fn all_that_a_volume_took_back_is_found_before_anything_is_put_back() {
    let changes: [(&str, State<'_>, State<'_>); 4] = [
        ("g", Some("old"), Some("new")),
        ("in/deep/f", None, Some("new")),
        ("in/e", None, Some("new")),
        ("z", None, Some("new")),
    ];
    let mut bench = Bench::new();
    bench.put("g", Some("old"));
    bench.at = Utc::now();
    let (_, input) = bench.record(&changes, End::Stands);
    bench.file(input);
    assert_eq!(bench.recover().restored, 4);
    changes.iter().for_each(|(path, ..)| assert_eq!(bench.state(path).as_deref(), Some("new"), "{path}"));
}

/// A program that takes files as they come leaves their folder younger than the command.
#[test]
fn what_somebody_took_away_at_once_is_left_where_nothing_tells_of_a_loss() {
    for lost in [false, true] {
        let mut bench = Bench::new();
        bench.put("h", Some("old"));
        bench.at = Utc::now();
        // The clock of files is coarse.
        while std::fs::metadata(bench.path("")).unwrap().modified().unwrap() < bench.at.into() {
            bench.put("other", Some(""));
            bench.put("other", None);
        }
        let (_, input) = bench.record(&[("f", None, Some("new")), ("h", Some("old"), Some("new"))], End::Stands);
        bench.file(input);
        if !lost {
            bench.put("h", Some("new"));
        }
        bench.recover();
        assert_eq!(bench.state("f").is_some(), lost);
        assert_eq!(bench.state("h").as_deref(), Some("new"));
    }
}

#[test]
fn what_somebody_cut_short_since_is_left_within_one_boot() {
    for is_filed in [false, true] {
        let mut bench = Bench::new();
        bench.at = Utc::now() - TimeDelta::hours(1);
        bench.put("f", Some(""));
        let (_, input) = bench.record(&[("f", Some("old"), Some("new"))], End::Stands);
        if is_filed {
            bench.file(input);
        }
        let recovery = bench.recover();
        assert_eq!(bench.state("f").as_deref(), Some(""));
        assert_eq!((recovery.restored, recovery.foreign.len()), (0, usize::from(!is_filed)));
    }
}

#[test]
fn files_and_folders_take_each_others_place() {
    let changes = [("made", Some("a file"), None), ("made/deep/x", None, Some("x"))];
    for (end, stands) in FATES {
        for done in [false, true] {
            let mut bench = Bench::new();
            if done {
                bench.put("made/deep/x", Some("x"));
            } else {
                bench.put("made", Some("a file"));
            }
            let (names, _) = bench.record(&changes, end);
            if done {
                bench.put(&names.of(0), Some("a file"));
            }
            bench.recover();
            assert_eq!(bench.state("made/deep/x").is_some(), stands, "{end:?} {done}");
            assert_eq!(bench.state("made").is_some(), !stands, "{end:?} {done}");
            assert!(bench.hidden().is_empty());
        }
    }
}

#[test]
fn folders_of_what_was_undone_go_if_nobody_uses_them() {
    for used in [false, true] {
        let mut bench = Bench::new();
        bench.put("made/deep/x", Some("x"));
        if used {
            bench.put("made/theirs", Some("y"));
        }
        bench.record(&[("made/deep/x", None, Some("x"))], End::Open);
        bench.recover();
        assert_eq!((bench.path("made/deep").exists(), bench.path("made").exists()), (false, used));
    }
}

#[test]
fn a_target_that_is_away_stops_the_start() {
    let bench = Bench::new();
    bench.record(&[("f", None, Some("x"))], End::Stands);
    std::fs::remove_dir_all(bench.path("")).unwrap();
    let (journal, found) = Journal::open(&bench.dir.path().join("cloud")).unwrap();
    let error = recover(&journal, found, &bench.ledger).unwrap_err().to_string();
    assert!(error.contains("mount or restore it"), "{error}");
}

#[test]
fn a_command_that_changed_nothing_needs_no_target() {
    let mut bench = Bench::new();
    bench.record(&[], End::Stands);
    std::fs::remove_dir_all(bench.path("")).unwrap();
    assert_eq!(bench.recover().outcomes.len(), 1);
}

#[test]
fn what_is_settled_counts_as_no_try_that_goes_on() {
    let mut bench = Bench::new();
    bench.record(&[("f", None, Some("x"))], End::Stands);
    bench.record(&[("g", None, Some("x"))], End::Open);
    let recovery = bench.recover();
    let (settled, open) = (recovery.outcomes[0].command.command().id.to_string(), &recovery.interrupted[0].0);
    let noted = [(settled, 3), (open.to_string(), 2), ("other".to_owned(), 4)].into();
    assert_eq!(recovery.tries(noted), [(open.to_string(), 2), ("other".to_owned(), 4)].into());
}

#[test]
fn targets_within_one_another_are_one_tree() {
    let mut bench = Bench::new();
    bench.put("in/ner/f", Some("old"));
    bench.record_in("tree/in/ner", &[("f", Some("old"), Some("new")), ("g", None, Some("g"))], End::Stands);
    bench.record(&[("in/ner/f", Some("new"), Some("old")), ("in/ner/g", Some("g"), None)], End::Stands);
    bench.recover();
    assert_eq!((bench.state("in/ner/f").as_deref(), bench.state("in/ner/g")), (Some("old"), None));
}
