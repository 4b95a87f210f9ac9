//! Every verdict that the verifier can give, each by a document that is wrong in exactly that way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use protocol::audit::{AuditEntry, AuditResult};
use protocol::canonical;
use protocol::digest::Sha256;
use protocol::id::CommandId;
use protocol::json::{self, Value};
use protocol::message::{Content, Rejection};
use protocol::reason::{Reason, Stage};
use protocol::signing::{Keyring, Secret, SecretSlot};
use verifier::{Judge, Refusal, TimeRules};

const NOW: &str = "2026-01-02T12:00:00Z";

fn now() -> DateTime<Utc> {
    NOW.parse().unwrap()
}

fn judge() -> Judge {
    Judge {
        keyring: Arc::new(Keyring::new(&Secret::new(b"0123456789abcdef".to_vec()).unwrap(), None)),
        ledger: Arc::default(),
        targets: ["MAIN".to_owned()].into(),
        checks: ["lint".to_owned()].into(),
        cloud_name: Some("blue".to_owned()),
        time: TimeRules { clock_skew: TimeDelta::seconds(30), max_lifetime: TimeDelta::hours(24) },
        max_command_bytes: 512 * 1024,
    }
}

const GOOD: &str = r#"{"schemaVersion":"1.0","id":"a","issued_at":"2026-01-02T11:59:00Z","expires_at":"2026-01-02T12:05:00Z",
    "nonce":"0","target":"MAIN","action":"applyPatch","patchType":"hybrid","payload":{"inline":{"version":"x","ops":[{"op":"noop"}]}},
    "validationPlan":[],"allowedActions":["writeFile","moveFile"],"constraints":{"maxRuntimeMs":60000,"maxFilesChanged":1}}"#;

/// GOOD with `change` made to it, signed.
fn signed(change: impl FnOnce(&mut json::Object)) -> Content {
    let Value::Object(mut object) = json::parse(GOOD.as_bytes()).unwrap() else { panic!() };
    change(&mut object);
    let signature = judge().keyring.sign(SecretSlot::Current, canonical::object_without(&object, "hmac").as_bytes());
    object.insert("hmac".into(), Value::String(signature));
    Content::Document(canonical::to_canonical(&Value::Object(object)).into_bytes().into())
}

fn rejection(content: Content, at: DateTime<Utc>) -> Rejection {
    match judge().judge(content, now(), at) {
        Err(Refusal::Rejected(rejection)) => *rejection,
        other => panic!("must be rejected: {other:?}"),
    }
}

fn verdict(content: Content) -> (Stage, Reason, String, bool) {
    let rejection = rejection(content, now());
    (rejection.verdict.stage, rejection.verdict.reason, rejection.verdict.detail, rejection.hmac_ok)
}

fn set(pointer: &'static str, text: &'static str) -> Content {
    signed(|object| {
        let value = json::parse(text.as_bytes()).unwrap();
        let mut place = object;
        let mut keys: Vec<&str> = pointer.split('/').collect();
        let last = keys.pop().unwrap();
        for key in keys {
            let Some(Value::Object(inner)) = place.get_mut(key) else { panic!("{key}") };
            place = inner;
        }
        place.insert(last.into(), value);
    })
}

#[test]
fn a_good_document_is_verified() {
    let (command, _turn) = judge().judge(signed(|_| ()), now(), now()).unwrap();
    assert_eq!(command.command().id.as_str(), "a");
    assert_eq!(command.secret(), SecretSlot::Current);
    assert_eq!(command.input_sha256(), Sha256::of(command.raw()));
}

#[test]
fn optional_fields_may_be_missing_or_there() {
    for content in [
        signed(|object| drop(object.remove("validationPlan"))),
        set("audience", r#""blue""#),
        set("annotations", r#"{"model":"m","n":[1.5,-0,"é"]}"#),
        set("constraints/maxBytesWritten", "0"),
        set("allowedActions", r#"["writeFile","writeFile"]"#),
        set("payload/inline/ops", "[]"),
        set(
            "validationPlan",
            r#"[{"check":"exists","path":"x"},{"check":"absent","path":"y"},{"check":"json","path":"z"}]"#,
        ),
        set(
            "payload/inline/ops",
            r#"[{"op":"writeFile","path":"x","content":"AA==","encoding":"base64","mode":"0755","expect":{"absent":true}},
            {"op":"moveFile","from":"x","to":"y","overwrite":true},{"op":"deleteFile","path":"y"},
            {"op":"replaceText","path":"x","search":"a","replace":"","count":2}]"#,
        ),
    ] {
        judge().judge(content, now(), now()).unwrap();
    }
}

#[test]
fn each_fault_has_its_reason_and_names_its_place() {
    use Reason::*;
    let too_many = format!("[{}]", vec![r#"{"op":"noop"}"#; 1001].join(","));
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(16 * 1024));
    let cases: Vec<(&'static str, String, Reason, &str)> = [
        ("schemaVersion", r#""2.0""#, UnsupportedVersion, "/schemaVersion"),
        ("schemaVersion", "1.0", Schema, "/schemaVersion"),
        ("extra", "1", Schema, "/extra"),
        ("id", r#""../x""#, Schema, "/id"),
        ("id", r#""a.json""#, Schema, "/id"),
        ("id", r#""a.integrity""#, Schema, "/id"),
        ("id", "7", Schema, "/id"),
        ("issued_at", r#""2026-01-02 11:59:00""#, Schema, "/issued_at"),
        ("issued_at", r#""2026-01-02T11:59:00""#, Schema, "/issued_at"),
        ("expires_at", r#""2026-01-02T11:59:00Z""#, Schema, "/expires_at"),
        ("expires_at", r#""2026-01-04T11:59:00Z""#, Schema, "/expires_at"),
        ("nonce", "0", Schema, "/nonce"),
        ("target", r#""OTHER""#, UnknownTarget, "/target"),
        ("audience", r#""green""#, UnknownTarget, "/audience"),
        ("audience", r#""""#, UnknownTarget, "/audience"),
        ("audience", "null", Schema, "/audience"),
        ("action", r#""run""#, UnknownAction, "/action"),
        ("patchType", r#""magic""#, UnknownPatchType, "/patchType"),
        ("payload", "{}", Schema, "/payload/inline"),
        ("payload/more", "1", Schema, "/payload/more"),
        ("payload/inline/more", "1", Schema, "/payload/inline/more"),
        ("payload/inline/version", "1", Schema, "/payload/inline/version"),
        ("payload/inline/ops", "{}", Schema, "/payload/inline/ops"),
        ("payload/inline/ops", &too_many, Schema, "/payload/inline/ops"),
        ("payload/inline/ops", r#"[{"op":"noop"},{"op":"fly"}]"#, Schema, "/payload/inline/ops/1/op"),
        ("payload/inline/ops", r#"[{"op":"noop","path":"x"}]"#, Schema, "/payload/inline/ops/0/path"),
        ("payload/inline/ops", r#"[{"op":"applyDiff"}]"#, Schema, "/payload/inline/ops/0/diff"),
        ("payload/inline/ops", r#"[{"op":"applyDiff","diff":"","path":"x"}]"#, Schema, "/payload/inline/ops/0/path"),
        ("payload/inline/ops", r#"[{"op":"writeFile","path":"x"}]"#, Schema, "/payload/inline/ops/0/content"),
        (
            "payload/inline/ops",
            r#"[{"op":"writeFile","path":"x","content":"A","encoding":"base64"}]"#,
            Schema,
            "/0/content",
        ),
        ("payload/inline/ops", r#"[{"op":"writeFile","path":"x","content":"A","mode":"0777"}]"#, Schema, "/0/mode"),
        (
            "payload/inline/ops",
            r#"[{"op":"writeFile","path":"x","content":"A","expect":{"absent":false}}]"#,
            Schema,
            "/0/expect",
        ),
        ("payload/inline/ops", r#"[{"op":"replaceText","path":"x","search":"","replace":""}]"#, Schema, "/0/search"),
        (
            "payload/inline/ops",
            r#"[{"op":"replaceText","path":"x","search":"a","replace":"","count":0}]"#,
            Schema,
            "/0/count",
        ),
        ("patchType", r#""unified""#, Schema, "/payload/inline/ops/0/op"),
        ("validationPlan", r#"[{"check":"run"}]"#, Schema, "/validationPlan/0/name"),
        ("validationPlan", r#"[{"check":"run","name":"x","argv":["y"]}]"#, Schema, "/validationPlan/0/argv"),
        ("validationPlan", r#"[{"check":"sha256","path":"x","equals":"abc"}]"#, Schema, "/validationPlan/0/equals"),
        ("allowedActions", "[]", Schema, "/allowedActions"),
        ("allowedActions", r#"["fly"]"#, Schema, "/allowedActions/0"),
        ("constraints/maxRuntimeMs", "0", Schema, "/constraints/maxRuntimeMs"),
        ("constraints/maxRuntimeMs", "1.0", Schema, "/constraints/maxRuntimeMs"),
        ("constraints/maxFilesChanged", "-1", Schema, "/constraints/maxFilesChanged"),
        ("constraints/more", "1", Schema, "/constraints/more"),
        ("annotations", "[]", Schema, "/annotations"),
        ("annotations", &long, Schema, "/annotations"),
    ]
    .map(|(pointer, text, reason, names)| (pointer, text.to_owned(), reason, names))
    .into();
    for (pointer, text, reason, names) in cases {
        let shown: String = text.chars().take(80).collect();
        let (stage, found, detail, hmac_ok) = verdict(set(pointer, text.leak()));
        assert_eq!((stage, found), (Stage::Schema, reason), "{pointer} = {shown}: {detail}");
        assert!(detail.contains(names), "{pointer} = {shown}: {detail}");
        assert!(hmac_ok);
    }
}

#[test]
fn required_fields_are_required() {
    let Value::Object(object) = json::parse(GOOD.as_bytes()).unwrap() else { panic!() };
    for key in object.keys().filter(|key| *key != "validationPlan") {
        let (_, reason, detail, _) = verdict(signed(|object| drop(object.remove(key))));
        assert_eq!(reason, Reason::Schema, "{key}");
        assert!(detail.contains(&format!("/{key}")), "{detail}");
    }
}

#[test]
fn the_clock_decides_with_skew_for_the_start_only() {
    let at = |offset| rejection(signed(|_| ()), now() + offset).verdict.reason;
    let is_good = |offset| judge().judge(signed(|_| ()), now(), now() + offset).is_ok();
    // Issued 60 s before NOW, expires 300 s after it.
    assert!(is_good(TimeDelta::seconds(-90)));
    assert_eq!(at(TimeDelta::seconds(-91)), Reason::NotYetValid);
    assert!(is_good(TimeDelta::seconds(299)));
    assert_eq!(at(TimeDelta::seconds(300)), Reason::Expired);
}

#[test]
fn nothing_is_looked_at_before_the_hmac_holds() {
    let forged = Content::Document(GOOD.replace("1.0", "9.9").into_bytes().into());
    let (stage, reason, detail, hmac_ok) = verdict(forged);
    assert_eq!((stage, reason, hmac_ok), (Stage::Hmac, Reason::BadHmac, false));
    assert!(detail.contains("not signed"), "{detail}");
    for hmac in ["7", r#""""#, r#""AAAA""#, "null"] {
        let document = GOOD.replacen('{', &format!("{{\"hmac\":{hmac},"), 1);
        let rejection = rejection(Content::Document(document.into_bytes().into()), now());
        assert_eq!(rejection.verdict.reason, Reason::BadHmac, "{hmac}");
        assert_eq!(rejection.id.unwrap().as_str(), "a");
    }
}

#[test]
fn what_is_no_document_is_refused_first() {
    for (text, reason) in [
        ("", Reason::Malformed),
        ("[]", Reason::Malformed),
        ("{", Reason::Malformed),
        (r#"{"a":1,"a":2}"#, Reason::Malformed),
    ] {
        assert_eq!(verdict(Content::Document(text.as_bytes().into())).1, reason, "{text}");
    }
    let large = Content::TooLarge { head: b"x".as_slice().into(), size: 600_000, sha256: Sha256::of(b"x") };
    assert_eq!(verdict(large).1, Reason::TooLarge);
    let link = Content::NotRegular { kind: "a symbolic link", bytes: b"/etc/passwd".as_slice().into() };
    let (stage, reason, detail, _) = verdict(link);
    assert_eq!((stage, reason), (Stage::File, Reason::NotRegular));
    assert!(!detail.contains("passwd"));
}

/// What became of a document in the end: filed, as this line says.
fn line(id: Option<&str>, hmac_ok: bool, input_sha256: Sha256) -> AuditEntry {
    let result = AuditResult::Rejected(if hmac_ok { Reason::Expired } else { Reason::BadHmac });
    let id = id.map(|id| CommandId::parse(id).unwrap());
    AuditEntry { ts: String::new(), id, action: None, result, exit: None, files_changed: 0, hmac_ok, input_sha256 }
}

#[test]
fn a_filed_document_is_not_judged_again_however_it_is_spelled_and_a_copy_waits() {
    let judge = judge();
    let spelled = |text: &str| Content::Document(text.as_bytes().into());
    let Content::Document(raw) = signed(|_| ()) else { panic!() };
    let text = std::str::from_utf8(&raw).unwrap().to_owned();
    let blank = text.replacen(',', ", ", 1);
    let (_, turn) = judge.judge(spelled(&text), now(), now()).unwrap();
    for copy in [&text, &blank] {
        assert!(matches!(judge.judge(spelled(copy), now(), now()), Err(Refusal::InHand)));
    }
    turn.filed(&line(Some("a"), true, Sha256::of(text.as_bytes())));
    let later = now() + TimeDelta::days(9);
    for copy in [&text, &blank, &format!(" {text}\n"), &text.replacen("MAIN", "\\u004dAIN", 1)] {
        for at in [now(), later] {
            assert!(matches!(judge.judge(spelled(copy), now(), at), Err(Refusal::Filed { .. })), "{copy}");
        }
    }
    // One that nobody signed says nothing of one that somebody did, except by the same bytes.
    let forged = text.replacen("\"hmac\":\"", "\"hmac\":\"AA", 1);
    let Err(Refusal::Rejected(rejection)) = judge.judge(spelled(&forged), now(), now()) else { panic!() };
    assert_eq!(rejection.verdict.reason, Reason::BadHmac);
    assert!(matches!(judge.judge(spelled(&forged), now(), now()), Err(Refusal::InHand)));
    rejection.turn.unwrap().filed(&line(Some("a"), false, Sha256::of(forged.as_bytes())));
    assert!(matches!(judge.judge(spelled(&forged), now(), now()), Err(Refusal::Filed { .. })));
}

#[test]
fn a_link_whose_text_is_a_documents_is_not_that_document() {
    let judge = judge();
    let Content::Document(raw) = signed(|_| ()) else { panic!() };
    let link = Content::NotRegular { kind: "a symbolic link", bytes: Arc::clone(&raw) };
    let Err(Refusal::Rejected(rejection)) = judge.judge(link, now(), now()) else { panic!() };
    judge.ledger.record(&line(None, false, rejection.input_sha256));
    assert!(judge.judge(Content::Document(raw), now(), now()).is_ok());
}

#[test]
fn a_cloud_without_a_name_takes_no_document_that_is_for_one() {
    let judge = Judge { cloud_name: None, ..judge() };
    for name in [r#""blue""#, r#""""#] {
        let Err(Refusal::Rejected(rejection)) = judge.judge(set("audience", name), now(), now()) else { panic!() };
        assert_eq!(rejection.verdict.reason, Reason::UnknownTarget);
    }
    assert!(judge.judge(signed(|_| ()), now(), now()).is_ok());
}
