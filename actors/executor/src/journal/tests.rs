//! The journal against a real folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;

use tempfile::TempDir;

use super::*;

fn journal() -> (TempDir, Journal) {
    let dir = TempDir::new().unwrap();
    let (journal, found) = Journal::open(dir.path()).unwrap();
    assert!(found.entries.is_empty());
    (dir, journal)
}

fn begun(name: &str) -> Entry {
    Entry::Begun(entry::Begun {
        file: name.into(),
        raw: vec![b'x'; 1000].into(),
        secret: protocol::signing::SecretSlot::Current,
        received_at: chrono::DateTime::UNIX_EPOCH,
        root: "/".into(),
        changes: Vec::new(),
        folders: Vec::new(),
        attempts: 1,
        outcome: None,
    })
}

fn draft(entry: Entry) -> Draft<'static> {
    Draft { entry, root: None }
}

fn files(dir: &TempDir) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.path().join(PATH)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn names(found: &Found) -> Vec<String> {
    let name = |stored: &Stored| match &stored.entry {
        Entry::Begun(begun) => begun.file.to_string_lossy().into_owned(),
        Entry::Ended(ended) => format!("end of {}", ended.begun),
    };
    found.entries.iter().map(name).collect()
}

#[test]
fn what_was_appended_is_found_in_order_and_sequences_go_on() {
    let (dir, journal) = journal();
    let first = journal.append(&[draft(begun("a")), draft(begun("b"))]).unwrap();
    journal.append(&[draft(Entry::Ended(Ended { begun: first[1].sequence, outcome: None }))]).unwrap();
    let (next, found) = Journal::open(dir.path()).unwrap();
    assert_eq!(names(&found), ["a", "b", &format!("end of {}", first[1].sequence)]);
    assert_eq!((found.torn_bytes, found.same_boot), (0, cfg!(target_os = "linux")));
    let written = next.append(&[draft(begun("c"))]).unwrap();
    assert!(written[0].sequence > first[1].sequence + 1);
    let (_, found) = Journal::open(dir.path()).unwrap();
    assert_eq!(found.segments.len(), 2);
    assert_eq!(names(&found).last().unwrap(), "c");
}

#[test]
fn a_torn_end_is_dropped_wherever_it_is_torn_and_writing_goes_on() {
    let (dir, journal) = journal();
    journal.append(&[draft(begun("a"))]).unwrap();
    let whole = fs::read(&files(&dir)[0]).unwrap();
    journal.append(&[draft(begun("b"))]).unwrap();
    let longer = fs::read(&files(&dir)[0]).unwrap();
    for cut in (0..longer.len()).step_by(7) {
        fs::write(&files(&dir)[0], &longer[..cut]).unwrap();
        let (next, found) = match Journal::open(dir.path()) {
            Ok(opened) => opened,
            Err(error) => panic!("cut at {cut}: {error}"),
        };
        let expected = if cut < whole.len() { 0 } else { 1 };
        assert_eq!(found.entries.len(), expected, "cut at {cut}");
        next.append(&[draft(begun("c"))]).unwrap();
        let (_, found) = Journal::open(dir.path()).unwrap();
        assert_eq!(found.entries.len(), expected + 1, "cut at {cut}");
        fs::remove_file(&files(&dir)[1]).unwrap();
    }
}

#[test]
fn damage_before_the_end_is_no_torn_end() {
    let (dir, journal) = journal();
    journal.append(&[draft(begun("a")), draft(begun("b"))]).unwrap();
    let (next, _) = Journal::open(dir.path()).unwrap();
    next.append(&[draft(begun("c"))]).unwrap();
    let file = files(&dir)[0].clone();
    let whole = fs::read(&file).unwrap();
    for place in [0, 9, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 40, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        fs::write(&file, &damaged).unwrap();
        let error = Journal::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("meta/journal/0000000000000001.wal") && error.contains("backup"), "{place}: {error}");
    }
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert!(Journal::open(dir.path()).is_err(), "cut short");
    fs::remove_file(&file).unwrap();
    assert_eq!(names(&Journal::open(dir.path()).unwrap().1), ["c"], "the oldest may have been let go");
    fs::write(&file, &whole).unwrap();
    let (again, _) = Journal::open(dir.path()).unwrap();
    again.append(&[draft(begun("d"))]).unwrap();
    fs::remove_file(&files(&dir)[1]).unwrap();
    assert!(Journal::open(dir.path()).unwrap_err().to_string().contains("missing"), "a gap");
}

#[test]
fn what_a_failed_sync_may_have_written_all_the_same_does_not_count() {
    let (dir, journal) = journal();
    journal.append(&[draft(begun("a"))]).unwrap();
    let acknowledged = fs::read(&files(&dir)[0]).unwrap();
    journal.append(&[draft(begun("never acknowledged"))]).unwrap();
    let written = fs::read(&files(&dir)[0]).unwrap();
    // The segment as the process leaves it behind, then the next one, then what the disk had of it after all.
    fs::write(&files(&dir)[0], &acknowledged).unwrap();
    let (next, _) = Journal::open(dir.path()).unwrap();
    next.append(&[draft(begun("b"))]).unwrap();
    fs::write(&files(&dir)[0], &written).unwrap();
    let (_, found) = Journal::open(dir.path()).unwrap();
    assert_eq!(names(&found), ["a", "b"]);
    assert_eq!(found.torn_bytes, (written.len() - acknowledged.len()) as u64);
}

#[test]
fn a_checkpoint_lets_go_what_is_filed_and_keeps_the_rest() {
    let (dir, journal) = journal();
    let root = Dir::open_ambient_dir(dir.path(), ambient_authority()).unwrap();
    let write = |name: &str| {
        let drafts = [Draft { entry: begun(name), root: Some(&root) }];
        journal.append(&drafts).unwrap().pop().unwrap().receipt
    };
    let (first, second) = (write("a"), write("b"));
    journal.checkpoint(true).unwrap();
    assert_eq!(files(&dir).len(), 1, "neither is filed");
    first.filed();
    journal.checkpoint(true).unwrap();
    assert_eq!(files(&dir).len(), 1, "one is not filed");
    drop(second);
    journal.checkpoint(true).unwrap();
    assert_eq!(files(&dir).len(), 1, "a receipt that is lost files nothing");
    let (next, found) = Journal::open(dir.path()).unwrap();
    let receipts: Vec<Receipt> = found.entries.iter().map(|stored| next.reopen(stored.segment, Some(&root))).collect();
    next.checkpoint(true).unwrap();
    assert_eq!(files(&dir).len(), 1);
    receipts.into_iter().for_each(Receipt::filed);
    next.checkpoint(true).unwrap();
    assert!(files(&dir).is_empty() && next.is_empty());
}

#[test]
fn what_has_no_verdict_is_called_off_once_and_a_later_verdict_stays() {
    let (dir, journal) = journal();
    let written = journal.append(&[draft(begun("a")), draft(begun("b"))]).unwrap();
    let end = |place: usize| Entry::Ended(Ended { begun: written[place].sequence, outcome: None });
    journal.append(&[draft(end(0))]).unwrap();
    assert_eq!((journal.call_off().unwrap(), journal.call_off().unwrap()), (1, 0));
    journal.append(&[draft(end(1))]).unwrap();
    journal.checkpoint(true).unwrap();
    let ends = [&written[0], &written[1], &written[1]].map(|written| format!("end of {}", written.sequence));
    let (_, found) = Journal::open(dir.path()).unwrap();
    assert_eq!(names(&found)[2..], ends, "kept until the next start undid them");
}

#[test]
fn full_segments_are_left_and_go_oldest_first() {
    let (dir, journal) = journal();
    let large = |name: &str| {
        let Entry::Begun(begun) = begun(name) else { panic!() };
        let raw = vec![b'y'; usize::try_from(SEGMENT_BYTES).unwrap()].into();
        journal.append(&[draft(Entry::Begun(entry::Begun { raw, ..begun }))]).unwrap().pop().unwrap().receipt
    };
    let receipts = [large("a"), large("b"), large("c")];
    assert!(journal.has_full_segments());
    assert_eq!(files(&dir).len(), 3);
    let [first, second, third] = receipts;
    second.filed();
    journal.checkpoint(false).unwrap();
    assert_eq!(files(&dir).len(), 3, "the oldest is not filed");
    first.filed();
    journal.checkpoint(false).unwrap();
    assert_eq!(files(&dir).len(), 1);
    third.filed();
    journal.checkpoint(false).unwrap();
    assert_eq!(files(&dir).len(), 1, "the one that is written to stays");
    journal.checkpoint(true).unwrap();
    assert!(files(&dir).is_empty());
}

#[test]
fn a_foreign_file_is_left_alone_and_a_foreign_version_is_named() {
    let (dir, journal) = journal();
    journal.append(&[draft(begun("a"))]).unwrap();
    fs::write(dir.path().join(PATH).join("notes.txt"), "x").unwrap();
    assert_eq!(Journal::open(dir.path()).unwrap().1.entries.len(), 1);
    let mut bytes = fs::read(&files(&dir)[0]).unwrap();
    bytes[8] = 9;
    fs::write(&files(&dir)[0], bytes).unwrap();
    assert!(Journal::open(dir.path()).unwrap_err().to_string().contains("format 9"));
}

#[test]
fn a_link_in_the_place_of_the_folder_is_refused() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("meta")).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join(PATH)).unwrap();
    assert!(Journal::open(dir.path()).is_err());
}

#[test]
fn a_crash_while_the_next_segment_is_made_does_not_damage_a_torn_one() {
    let (dir, journal) = journal();
    journal.append(&[draft(begun("a"))]).unwrap();
    journal.append(&[draft(begun("b"))]).unwrap();
    let first = files(&dir)[0].clone();
    let whole = fs::read(&first).unwrap();
    fs::write(&first, &whole[..whole.len() - 5]).unwrap();
    for cut in [0, 1, HEADER_BYTES - 1] {
        let (next, _) = Journal::open(dir.path()).unwrap();
        next.append(&[draft(begun("c"))]).unwrap();
        let second = files(&dir)[1].clone();
        let header = fs::read(&second).unwrap();
        fs::write(&second, &header[..cut]).unwrap();
        let (third, found) = Journal::open(dir.path()).unwrap();
        assert_eq!(names(&found), ["a"], "cut at {cut}");
        third.append(&[draft(begun("d"))]).unwrap();
        let (_, found) = Journal::open(dir.path()).unwrap();
        assert_eq!(names(&found), ["a", "d"], "cut at {cut}");
        files(&dir)[1..].iter().for_each(|file| fs::remove_file(file).unwrap());
    }
}

#[test]
fn a_full_journal_takes_verdicts_alone() {
    let (_dir, journal) = journal();
    let written = journal.append(&[draft(begun("a"))]).unwrap();
    journal.state().left.push_front(Segment::new(0, MAX_BYTES));
    assert!(matches!(journal.append(&[draft(begun("b"))]), Err(JournalError::Full(_))));
    let verdict = Entry::Ended(Ended { begun: written[0].sequence, outcome: None });
    journal.append(&[draft(verdict)]).unwrap();
}
