//! What is refused before a field is read: the file, the JSON, the HMAC.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde_json::json;

use super::{Case, Entry};
use crate::harness::document::{canonical, mac};
use crate::harness::{Cloud, Doc};

/// The largest document, in bytes.
const MAX_BYTES: usize = 512 * 1024;

pub fn cases(cloud: &Cloud) -> Vec<Case> {
    let mut cases = file_cases(cloud);
    cases.extend(json_cases(cloud));
    cases.extend(hmac_cases(cloud));
    cases
}

fn file_cases(cloud: &Cloud) -> Vec<Case> {
    let mut padded = Doc::noop("too-large").signed(&cloud.secret);
    padded.resize(MAX_BYTES + 1, b' ');
    let good = cloud.world().join("outside/good.json");
    std::fs::write(&good, Doc::noop("behind-a-link").signed(&cloud.secret)).unwrap();
    vec![
        Case::raw("too_large", "file", "too-large", Entry::Bytes(padded)),
        Case::raw("too_large", "file", "too-large-rubbish", Entry::Bytes(vec![b'x'; 3 * MAX_BYTES])),
        Case::raw("not_regular", "file", "link-to-a-command", Entry::Link(good)),
        Case::raw("not_regular", "file", "dangling-link", Entry::Link("nowhere".into())),
        Case::raw("not_regular", "file", "link-to-a-device", Entry::Link("/dev/zero".into())),
        Case::raw("not_regular", "file", "fifo", Entry::Fifo),
        Case::raw("not_regular", "file", "folder", Entry::Folder),
    ]
}

fn json_cases(cloud: &Cloud) -> Vec<Case> {
    let good = |id: &str| String::from_utf8(Doc::noop(id).signed(&cloud.secret)).unwrap();
    let with = |member: &str| good("member").replacen('{', &format!("{{{member},"), 1).into_bytes();
    let nested = |depth: usize| with(&format!("\"annotations\":{}{}", "[".repeat(depth), "]".repeat(depth)));
    let texts: Vec<(&str, Vec<u8>)> = vec![
        ("rubbish", b"this is no JSON".to_vec()),
        ("long-rubbish", vec![b'{'; 5000]),
        ("cut-short", good("cut-short").into_bytes()[..200].to_vec()),
        ("white-space", b" \n".to_vec()),
        ("bom", [b"\xef\xbb\xbf".as_slice(), good("bom").as_bytes()].concat()),
        ("not-utf-8", with("\"annotations\":{\"a\":\"\u{e9}\"}").into_iter().filter(|byte| *byte != 0xc3).collect()),
        ("utf-16", good("wide").encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("duplicate-key", with("\"id\":\"other\"")),
        ("duplicate-nested-key", with("\"annotations\":{\"a\":{\"b\":1,\"b\":1}}")),
        ("duplicate-escaped-key", with("\"annotations\":{\"a\":1,\"\\u0061\":1}")),
        ("lone-surrogate", with("\"annotations\":{\"a\":\"\\ud83d\"}")),
        ("lone-surrogate-key", with("\"annotations\":{\"\\udc00\":1}")),
        ("nan", with("\"annotations\":{\"a\":NaN}")),
        ("infinity", with("\"annotations\":{\"a\":-Infinity}")),
        ("overflowing-float", with("\"annotations\":{\"a\":1e999}")),
        ("endless-integer", with(&format!("\"annotations\":{{\"a\":{}}}", "9".repeat(4301)))),
        ("leading-zero", with("\"annotations\":{\"a\":01}")),
        ("trailing-comma", good("trailing-comma").replacen('}', ",}", 1).into_bytes()),
        ("trailing-value", (good("trailing-value") + " {}").into_bytes()),
        ("comment", (good("comment") + "// no").into_bytes()),
        ("control-character", with("\"annotations\":{\"a\":\"\u{1}\"}")),
        ("deep", nested(128)),
        ("no-object-array", b"[]".to_vec()),
        ("no-object-string", b"\"applyPatch\"".to_vec()),
        ("no-object-null", b"null".to_vec()),
    ];
    texts.into_iter().map(|(name, bytes)| Case::raw("malformed", "json", name, Entry::Bytes(bytes))).collect()
}

fn hmac_cases(cloud: &Cloud) -> Vec<Case> {
    let bare = |id: &str| Doc::noop(id);
    let digest = |document: &Doc| mac(canonical(&document.value()).as_bytes(), &cloud.secret);
    let base64 = |document: &Doc| STANDARD.encode(digest(document));
    // A digest of 32 bytes always ends in one `=`.
    let (unpadded, hex, over_bytes, tampered, other) = (
        bare("hmac-unpadded"),
        bare("hmac-hex"),
        bare("hmac-over-the-bytes"),
        bare("hmac-tampered"),
        bare("hmac-of-another"),
    );
    let hex_digest: String = digest(&hex).iter().map(|byte| format!("{byte:02x}")).collect();
    let of_bytes = STANDARD.encode(mac(&over_bytes.bytes(), &cloud.secret));
    let url_safe = (0..).map(|n| bare("hmac-url-safe").with("nonce", json!(n.to_string())));
    let url_safe = url_safe.into_iter().find(|document| base64(document).contains(['+', '/'])).unwrap();
    let documents = vec![
        bare("hmac-missing"),
        bare("hmac-null").with("hmac", json!(null)),
        bare("hmac-number").with("hmac", json!(7)),
        bare("hmac-array").with("hmac", json!(["x"])),
        bare("hmac-empty").with("hmac", json!("")),
        bare("hmac-no-base64").with("hmac", json!("***")),
        bare("hmac-cut").with("hmac", json!(STANDARD.encode([0_u8; 16]))),
        unpadded.clone().with("hmac", json!(STANDARD_NO_PAD.encode(digest(&unpadded)))),
        url_safe.clone().with("hmac", json!(URL_SAFE.encode(digest(&url_safe)))),
        hex.with("hmac", json!(hex_digest)),
        over_bytes.with("hmac", json!(of_bytes)),
        tampered.clone().with("hmac", json!(base64(&tampered))).with("nonce", json!("changed afterwards")),
        other.with("hmac", json!(base64(&bare("hmac-of-yet-another")))),
    ];
    let case = |document: &Doc, bytes: Vec<u8>| Case {
        name: document.id().to_owned(),
        entry: Entry::Bytes(bytes),
        reason: "bad_hmac",
        stage: "hmac",
        id: Some(document.id().to_owned()),
        hmac_ok: false,
    };
    let mut cases: Vec<Case> = documents.iter().map(|document| case(document, document.bytes())).collect();
    let wrong = bare("hmac-wrong-secret");
    cases.push(case(&wrong, wrong.signed("another-secret-of-32-bytes-000000")));
    let newline = bare("hmac-secret-with-newline");
    cases.push(case(&newline, newline.signed(&format!("{}\n", cloud.secret))));
    // Nothing behind the HMAC is looked at before it holds.
    let hopeless = bare("hmac-first").with("surprise", json!(1)).window(-900, -600).with("schemaVersion", json!("9"));
    cases.push(case(&hopeless, hopeless.signed("another-secret-of-32-bytes-000000")));
    // Without a valid id the file's cleaned name serves.
    let nameless = bare("x").with("id", json!("../../etc/passwd"));
    cases.push(Case::raw("bad_hmac", "hmac", "odd name \u{e9} (1)", Entry::Bytes(nameless.bytes())));
    cases
}
