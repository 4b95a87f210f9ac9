#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use super::*;

const SETTLE: Duration = Duration::from_millis(500);

fn stamp(size: u64) -> Stamp {
    Stamp { size, inode: 1, ..Stamp::default() }
}

fn key(id: &str) -> OrderKey {
    OrderKey { issued_at: chrono::DateTime::from_timestamp(1, 0), id: id.to_owned() }
}

/// A scan that comes upon `names`, each a document whose id is its name.
fn scan(queue: &mut Queue, names: &[&str], now: Instant) {
    queue.begin_scan();
    for name in names {
        if queue.sighted(OsStr::new(name), &stamp(1), now) {
            queue.looked(OsStr::new(name), stamp(1), Look::Document(key(name)), now);
        }
    }
    queue.end_scan();
}

/// Lets go all that may, in order.
fn drain(queue: &mut Queue) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(next) = queue.next().or_else(|| queue.next_unsigned()) {
        queue.boarded(&next.name);
        names.push(next.name.to_string_lossy().into_owned());
    }
    names
}

#[test]
fn what_a_listing_missed_goes_before_what_it_showed() {
    let (mut queue, now) = (Queue::new(SETTLE, 100), Instant::now());
    scan(&mut queue, &["c"], now);
    assert!(drain(&mut queue).is_empty(), "an older one may have been missed");
    assert!(queue.wants_confirmation());
    scan(&mut queue, &["d", "c", "a"], now);
    assert_eq!(drain(&mut queue), ["a", "c"]);
    assert!(queue.wants_confirmation());
    scan(&mut queue, &["d"], now);
    assert_eq!(drain(&mut queue), ["d"]);
    scan(&mut queue, &[], now);
    assert!(!queue.wants_confirmation());
}

#[test]
fn a_name_in_flight_goes_once_and_comes_back_after_a_growing_pause() {
    let (mut queue, mut now) = (Queue::new(SETTLE, 100), Instant::now());
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        scan(&mut queue, &["a"], now);
        scan(&mut queue, &["a"], now);
        assert_eq!(drain(&mut queue), ["a"]);
        scan(&mut queue, &["a"], now);
        assert!(drain(&mut queue).is_empty(), "it is in flight");
        assert!(!queue.released(OsStr::new("a"), now));
        now += Duration::from_secs(pause) - Duration::from_millis(1);
        scan(&mut queue, &["a"], now);
        scan(&mut queue, &["a"], now);
        assert!(drain(&mut queue).is_empty(), "not before {pause} s");
        now += Duration::from_millis(1);
    }
}

#[test]
fn another_file_under_a_name_in_flight_is_looked_at_when_that_is_over() {
    let (mut queue, now) = (Queue::new(SETTLE, 100), Instant::now());
    scan(&mut queue, &["a"], now);
    scan(&mut queue, &["a"], now);
    drain(&mut queue);
    queue.begin_scan();
    assert!(!queue.sighted(OsStr::new("a"), &stamp(2), now));
    queue.end_scan();
    assert!(queue.released(OsStr::new("a"), now));
    queue.begin_scan();
    assert!(queue.sighted(OsStr::new("a"), &stamp(2), now));
}

#[test]
fn what_does_not_parse_settles_by_either_clock() {
    let (name, now) = (OsStr::new("a"), Instant::now());
    let look = |unchanged: Duration| {
        let mut queue = Queue::new(SETTLE, 100);
        queue.begin_scan();
        assert!(queue.sighted(name, &stamp(1), now));
        queue.looked(name, stamp(1), Look::Unparsed(unchanged), now);
        queue.end_scan();
        queue
    };
    assert_eq!(look(SETTLE).pending(), 1, "old enough by the wall clock");
    // Its time lies ahead of the wall clock: the monotonic one decides.
    let mut queue = look(Duration::ZERO);
    assert_eq!((queue.pending(), queue.settled_at()), (0, Some(now + SETTLE)));
    queue.begin_scan();
    assert!(!queue.sighted(name, &stamp(1), now + SETTLE / 2));
    assert!(queue.sighted(name, &stamp(2), now + SETTLE / 2), "it grew");
    queue.looked(name, stamp(2), Look::Unparsed(Duration::ZERO), now + SETTLE / 2);
    queue.end_scan();
    assert_eq!(queue.settled_at(), Some(now + SETTLE / 2 + SETTLE), "and starts anew");
    queue.begin_scan();
    let later = now + SETTLE * 2;
    assert!(queue.sighted(name, &stamp(2), later));
    queue.looked(name, stamp(2), Look::Unparsed(Duration::ZERO), later);
    queue.end_scan();
    assert_eq!((queue.pending(), queue.settled_at()), (1, None));
}

#[test]
fn of_more_than_fit_the_first_are_kept_and_the_rest_is_found_later() {
    let (mut queue, now) = (Queue::new(SETTLE, 4), Instant::now());
    let all = ["h", "b", "g", "a", "f", "c", "e", "d"];
    scan(&mut queue, &all, now);
    assert_eq!(queue.pending(), 4);
    assert!(queue.is_saturated());
    assert_eq!(drain(&mut queue), ["a", "b", "c", "d"]);
    assert!(queue.wants_refill());
    for name in ["a", "b", "c", "d"] {
        queue.released(OsStr::new(name), now);
    }
    // The released ones are gone from disk, but are forgotten only when this scan is through.
    scan(&mut queue, &["h", "g", "f", "e"], now);
    scan(&mut queue, &["h", "g", "f", "e"], now);
    scan(&mut queue, &["h", "g", "f", "e"], now);
    assert_eq!(drain(&mut queue), ["e", "f", "g", "h"]);
    assert!(!queue.wants_refill());
}

/// A scan that comes upon what is no signed document under `unsigned`, and then upon `signed` documents.
fn mixed(queue: &mut Queue, unsigned: &[&str], signed: &[&str], now: Instant) {
    queue.begin_scan();
    for (name, is_signed) in unsigned.iter().map(|name| (name, false)).chain(signed.iter().map(|name| (name, true))) {
        let look = if is_signed { Look::Document(key(name)) } else { Look::Unsigned };
        if queue.sighted(OsStr::new(name), &stamp(1), now) {
            queue.looked(OsStr::new(name), stamp(1), look, now);
        }
    }
    queue.end_scan();
}

#[test]
fn what_is_not_signed_goes_while_nothing_else_may_and_confirms_no_order() {
    let (mut queue, now) = (Queue::new(SETTLE, 100), Instant::now());
    mixed(&mut queue, &["1", "2", "z"], &["c"], now);
    assert!(queue.next().is_none() && queue.wants_confirmation(), "an older one may have been missed");
    mixed(&mut queue, &["1", "2", "z"], &["a", "c"], now);
    assert_eq!(drain(&mut queue), ["a", "c", "1", "2", "z"]);
}

#[test]
fn forged_documents_without_end_take_no_room_from_a_signed_one() {
    let (mut queue, now) = (Queue::new(SETTLE, 4), Instant::now());
    mixed(&mut queue, &["1", "2", "3", "4", "5", "6"], &["a", "b"], now);
    assert!(queue.is_saturated());
    assert!(queue.wants_confirmation(), "none of the signed ones was left on disk");
    mixed(&mut queue, &["1", "2", "3", "4", "5", "6"], &["a", "b"], now);
    let next = |queue: &mut Queue| queue.next().map(|next| next.name.to_string_lossy().into_owned());
    assert_eq!(next(&mut queue).as_deref(), Some("a"));
    queue.boarded(OsStr::new("a"));
    assert_eq!(next(&mut queue).as_deref(), Some("b"));
    let (mut queue, all) = (Queue::new(SETTLE, 4), ["a", "b", "c", "d", "e"]);
    mixed(&mut queue, &["1"], &all, now);
    assert_eq!(drain(&mut queue), ["a", "b", "c", "d"], "a forged one waits on disk");
}

#[test]
fn files_over_the_size_bound_without_end_take_no_room_from_a_signed_document() {
    let (mut queue, now) = (Queue::new(SETTLE, 4), Instant::now());
    for _ in 0..2 {
        queue.begin_scan();
        for name in ["1", "2", "3", "4", "5", "6", "a", "b"] {
            let look = if name < "a" { Look::TooLarge(SETTLE) } else { Look::Document(key(name)) };
            if queue.sighted(OsStr::new(name), &stamp(1), now) {
                queue.looked(OsStr::new(name), stamp(1), look, now);
            }
        }
        queue.end_scan();
    }
    assert_eq!(drain(&mut queue), ["a", "b"]);
    assert!(queue.next_large().is_some(), "the others still wait");
}

#[test]
fn a_folder_that_stays_is_never_taken_up_again() {
    let (mut queue, mut now) = (Queue::new(SETTLE, 100), Instant::now());
    let (name, mut folder) = (OsStr::new("a"), Stamp { kind: Kind::Folder, ..stamp(1) });
    let look = |queue: &mut Queue, folder: Stamp, now| {
        queue.begin_scan();
        if queue.sighted(name, &folder, now) {
            queue.looked(name, folder, Look::NotRegular, now);
        }
        queue.end_scan();
    };
    look(&mut queue, folder, now);
    look(&mut queue, folder, now);
    assert_eq!(drain(&mut queue), ["a"]);
    queue.released(name, now);
    for _ in 0..3 {
        now += MAX_BACK_OFF;
        folder.modified += 1;
        look(&mut queue, folder, now);
        assert_eq!(queue.pending(), 0);
    }
    folder.inode += 1;
    look(&mut queue, folder, now);
    assert_eq!(queue.pending(), 1, "another folder is another matter");
}

#[test]
fn an_ignored_name_is_new_once_and_few_are_remembered() {
    let (mut queue, name) = (Queue::new(SETTLE, 100), OsStr::new("x"));
    for expected in [Noted::New, Noted::Known] {
        queue.begin_scan();
        assert_eq!(queue.ignore(name, Ignored::NotJson), expected);
        queue.end_scan();
    }
    scan(&mut queue, &[], Instant::now());
    assert!(queue.ignored.is_empty(), "what is gone is forgotten");
    queue.begin_scan();
    for number in 0..MAX_IGNORED {
        assert_eq!(queue.ignore(OsStr::new(&number.to_string()), Ignored::NotJson), Noted::New);
    }
    assert_eq!(queue.ignore(name, Ignored::NotJson), Noted::TooMany);
    assert_eq!(queue.ignore(name, Ignored::NotJson), Noted::Known);
    assert_eq!(queue.ignored.len(), MAX_IGNORED);
}
