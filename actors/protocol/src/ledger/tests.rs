#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use crate::reason::Reason;

/// Documents that can be read back, by their bytes.
#[derive(Default)]
struct Shelf(Vec<(&'static str, &'static str)>);

impl ReadBack for Shelf {
    fn form(&self, _: &CommandId, input: Half, _: bool) -> io::Result<Option<Sha256>> {
        let mut found = self.0.iter().filter(|(bytes, _)| input.begins(Sha256::of(bytes.as_bytes())));
        match found.next() {
            Some((_, "?")) => Err(io::Error::other("not now")),
            found => Ok(found.map(|(_, form)| Sha256::of(form.as_bytes()))),
        }
    }
}

fn id(text: &str) -> CommandId {
    CommandId::parse(text).unwrap()
}

fn entry(id: &str, result: AuditResult, input: &str) -> AuditEntry {
    AuditEntry {
        ts: String::new(),
        id: CommandId::parse(id).ok(),
        action: None,
        result,
        exit: None,
        files_changed: 0,
        hmac_ok: result != AuditResult::Rejected(Reason::BadHmac),
        input_sha256: Sha256::of(input.as_bytes()),
    }
}

const REFUSED: AuditResult = AuditResult::Rejected(Reason::PreconditionFailed);

fn enter(ledger: &Arc<Ledger>, name: &str, input: &str, form: &str) -> Entrance {
    let id = id(name);
    ledger.enter(Sha256::of(input.as_bytes()), Some(Signed { id: Some(&id), form: Sha256::of(form.as_bytes()) }))
}

fn turn(ledger: &Arc<Ledger>, name: &str, input: &str, form: &str) -> Arc<Turn> {
    match enter(ledger, name, input, form) {
        Entrance::Turn(turn) => Arc::new(turn),
        other => panic!("no turn: {other:?}"),
    }
}

#[test]
fn a_document_has_one_turn_at_a_time_by_its_bytes_and_by_its_form() {
    let ledger = Arc::new(Ledger::default());
    let first = turn(&ledger, "a", "bytes", "form");
    assert!(matches!(enter(&ledger, "a", "bytes", "form"), Entrance::InHand));
    assert!(matches!(enter(&ledger, "a", "other bytes", "form"), Entrance::InHand));
    assert!(matches!(ledger.enter(Sha256::of(b"bytes"), None), Entrance::InHand), "whatever is thought of it by now");
    let another = turn(&ledger, "a", "mended", "mended form");
    drop(first);
    let first = turn(&ledger, "a", "bytes", "form");
    first.filed(&entry("a", REFUSED, "bytes"));
    assert!(matches!(enter(&ledger, "a", "other bytes", "form"), Entrance::Filed(_)));
    drop(first);
    assert!(matches!(enter(&ledger, "a", "other bytes", "form"), Entrance::Filed(_)));
    assert!(matches!(enter(&ledger, "a", "bytes", "form"), Entrance::Filed(_)));
    drop(another);
    assert_eq!(turn(&ledger, "a", "mended", "mended form").look(), Ok(()), "a mended document may use the id");
}

#[test]
fn an_id_is_taken_by_execution_alone_and_for_every_spelling_of_its_case() {
    let ledger = Arc::new(Ledger::default());
    ledger.record(&entry("Task-1", AuditResult::Rejected(Reason::BadHmac), "forged"));
    let (one, two) = (turn(&ledger, "Task-1", "1", "one"), turn(&ledger, "tASK-1", "2", "two"));
    assert_eq!((one.look(), two.look()), (Ok(()), Ok(())));
    let licence = one.take_id().unwrap();
    assert_eq!((one.look(), two.look()), (Ok(()), Err(Taken::ByAnother)));
    assert_eq!(two.take_id().unwrap_err(), Taken::ByAnother);
    two.give_id_back();
    assert!(one.take_id().is_ok(), "its own, again");
    one.give_id_back();
    assert!(two.take_id().is_ok());
    drop((licence, one, two));
    assert!(turn(&ledger, "Task-1", "1", "one").take_id().is_ok(), "what was dropped holds nothing");
}

#[test]
fn what_has_happened_and_is_not_filed_is_held_until_it_is() {
    let ledger = Arc::new(Ledger::default());
    let turn_of = || turn(&ledger, "a", "bytes", "form");
    let licence = turn_of().take_id().unwrap();
    licence.begun();
    licence.undone();
    drop(licence);
    let licence = turn_of().take_id().unwrap();
    licence.begun();
    drop(licence);
    assert!(matches!(enter(&ledger, "a", "bytes", "form"), Entrance::InHand), "it would be executed twice");
    let other = turn(&ledger, "a", "else", "other");
    assert_eq!(other.look(), Err(Taken::ByAnother));
}

#[test]
fn after_a_start_forms_are_read_back_for_documents_of_the_same_id() {
    let shelf = Shelf(vec![("one", "form one"), ("two", "form two"), ("done", "form done"), ("broken", "?")]);
    let ledger = Arc::new(Ledger::reading(shelf));
    for (id, result, input) in [
        ("a", REFUSED, "one"),
        ("a", REFUSED, "two"),
        ("b", AuditResult::Ok, "done"),
        ("c", REFUSED, "broken"),
        ("d", REFUSED, "gone"),
        ("e", AuditResult::Failed, "gone, too"),
        ("f", AuditResult::Rejected(Reason::BadHmac), "forged"),
    ] {
        ledger.record(&entry(id, result, input));
    }
    for (id, form) in [("a", "form one"), ("a", "form two"), ("b", "form done")] {
        assert!(matches!(enter(&ledger, id, "another spelling", form), Entrance::Filed(_)), "{id} {form}");
    }
    assert_eq!(turn(&ledger, "a", "mended", "form three").look(), Ok(()));
    assert_eq!(turn(&ledger, "b", "another", "form three").look(), Err(Taken::ByAnother));
    assert!(matches!(enter(&ledger, "c", "another spelling", "x"), Entrance::Unreadable(_)));
    let unsure = turn(&ledger, "d", "another spelling", "x");
    assert_eq!((unsure.look(), unsure.take_id().unwrap_err()), (Err(Taken::Unsure), Taken::Unsure));
    assert_eq!(turn(&ledger, "e", "spelling", "y").look(), Err(Taken::ByAnother));
    assert_eq!(turn(&ledger, "f", "genuine", "z").look(), Ok(()), "a forged document is nobody's");
    assert_eq!(turn(&ledger, "A", "A", "form one").look(), Ok(()), "the form holds the id as it is spelled");
}

#[test]
fn an_id_has_a_letter_once_something_under_it_was_refused_or_failed() {
    let ledger = Ledger::default();
    ledger.record(&entry("good", AuditResult::Ok, "a"));
    ledger.record(&entry("Old", AuditResult::Rejected(Reason::Expired), "b"));
    ledger.record(&entry("bad", AuditResult::Failed, "c"));
    assert_eq!(["good", "oLD", "bad", "new"].map(|text| ledger.has_letter(&id(text))), [false, true, true, false]);
    assert_eq!((ledger.len(), ledger.is_empty()), (3, false));
    assert_eq!(["good", "OLD", "BAD"].map(|text| ledger.is_taken(&id(text))), [true, false, true]);
}
