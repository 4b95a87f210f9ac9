//! The commands of the demonstration, and what must become of each.

use chrono::{DateTime, TimeDelta, Utc};
use protocol::canonical;
use protocol::json;
use protocol::signing::{Keyring, SecretSlot};
use protocol::time::format_utc;

use crate::exit::Failure;

use super::stage::Seen;

/// The command whose diff is shown.
pub const REPLACE_ID: &str = "demo-3-replace";

/// One command to be sent.
#[derive(Clone, Debug)]
pub struct Scene {
    /// What it is, for people.
    pub title: &'static str,
    /// The file's name in `commands/`.
    pub file: String,
    /// The document's id.
    pub id: &'static str,
    /// The document's bytes.
    pub document: String,
    /// What must become of it.
    pub expected: Expected,
}

/// How a command must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Executed.
    Ok,
    /// Executed and undone, for this reason.
    Failed(&'static str),
    /// Refused, for this reason.
    Rejected(&'static str),
    /// Filed before: removed without a trace.
    Quiet,
}

impl Scene {
    /// Whether it ends in a commit of its own.
    pub fn commits(&self) -> bool {
        self.expected != Expected::Quiet
    }

    /// Whether what was seen is what must be.
    pub fn is_as_expected(&self, seen: &Seen) -> bool {
        match self.expected {
            Expected::Ok => seen.outcome == "ok",
            Expected::Failed(reason) => seen.outcome == "failed" && seen.reason.as_deref() == Some(reason),
            Expected::Rejected(reason) => seen.outcome == "rejected" && seen.reason.as_deref() == Some(reason),
            Expected::Quiet => seen.outcome == "quiet",
        }
    }
}

/// What an author decides; the rest of a document is the same for all.
struct Draft {
    id: &'static str,
    ops: &'static str,
    checks: &'static str,
    issued_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl Draft {
    fn new(id: &'static str, ops: &'static str) -> Self {
        let now = Utc::now();
        Self { id, ops, checks: "[]", issued_at: now - TimeDelta::seconds(1), expires_at: now + TimeDelta::minutes(5) }
    }

    fn sign(&self, keyring: &Keyring) -> Result<String, Failure> {
        let text = format!(
            r#"{{"schemaVersion":"1.0","id":"{}","issued_at":"{}","expires_at":"{}","nonce":"demo","target":"MAIN",
            "action":"applyPatch","patchType":"ops","payload":{{"inline":{{"version":"demo","ops":{}}}}},"validationPlan":{},
            "allowedActions":["writeFile","moveFile"],"constraints":{{"maxRuntimeMs":60000,"maxFilesChanged":5}}}}"#,
            self.id,
            format_utc(self.issued_at),
            format_utc(self.expires_at),
            self.ops,
            self.checks,
        );
        let Ok(json::Value::Object(mut object)) = json::parse(text.as_bytes()) else {
            return Err(Failure::bug(format!("the demonstration's own document {} is no JSON object", self.id)));
        };
        let signature = keyring.sign(SecretSlot::Current, canonical::object_without(&object, "hmac").as_bytes());
        object.insert("hmac".to_owned(), json::Value::String(signature));
        Ok(canonical::to_canonical(&json::Value::Object(object)))
    }
}

/// The commands, in the order in which they are sent.
///
/// # Errors
/// When one of the documents cannot be made, which is a bug.
pub fn scenes(keyring: &Keyring) -> Result<Vec<Scene>, Failure> {
    const WRITE: &str =
        r#"[{"op":"writeFile","path":"greeting.txt","content":"Hello, world.\nHow are you?\nGood bye.\n"}]"#;
    const MOVE: &str = r#"[{"op":"moveFile","from":"greeting.txt","to":"docs/greeting.txt"}]"#;
    const REPLACE: &str = r#"[{"op":"replaceText","path":"docs/greeting.txt","search":"world","replace":"ghost"}]"#;
    const LIMIT: &str = r#"[{"op":"writeFile","path":"../outside.txt","content":"never"}]"#;
    const LATE: &str = r#"[{"op":"writeFile","path":"late.txt","content":"too late"}]"#;
    const OTHER: &str = r#"[{"op":"writeFile","path":"greeting.txt","content":"another document under a taken id"}]"#;
    const CHECKED: &str = r#"[{"op":"writeFile","path":"settings.json","content":"{ not JSON"}]"#;

    let scene = |title, id: &'static str, document, expected| Scene {
        title,
        file: format!("{id}.json"),
        id,
        document,
        expected,
    };
    let write = Draft::new("demo-1-write", WRITE).sign(keyring)?;
    let mut checked = Draft::new("demo-4-checked", CHECKED);
    checked.checks = r#"[{"check":"json","path":"settings.json"}]"#;
    let forged = Draft::new("demo-5-forged", WRITE).sign(keyring)?.replace("How are you?", "Send me money.");
    let mut expired = Draft::new("demo-6-expired", LATE);
    expired.issued_at -= TimeDelta::hours(1);
    expired.expires_at = expired.issued_at + TimeDelta::minutes(5);
    let again = Scene {
        file: "demo-1-write-again.json".to_owned(),
        ..scene("the first document again", "demo-1-write", write.clone(), Expected::Quiet)
    };
    let replayed = Draft::new("demo-1-write", OTHER).sign(keyring)?;
    Ok(vec![
        scene("write greeting.txt", "demo-1-write", write, Expected::Ok),
        scene("move it into docs/", "demo-2-move", Draft::new("demo-2-move", MOVE).sign(keyring)?, Expected::Ok),
        scene("replace a word in it", REPLACE_ID, Draft::new(REPLACE_ID, REPLACE).sign(keyring)?, Expected::Ok),
        scene(
            "write, but its check fails",
            "demo-4-checked",
            checked.sign(keyring)?,
            Expected::Failed("validation_failed"),
        ),
        scene("a changed text: bad signature", "demo-5-forged", forged, Expected::Rejected("bad_hmac")),
        scene("an expired command", "demo-6-expired", expired.sign(keyring)?, Expected::Rejected("expired")),
        scene(
            "a path out of the tree",
            "demo-7-escape",
            Draft::new("demo-7-escape", LIMIT).sign(keyring)?,
            Expected::Rejected("path_escape"),
        ),
        scene("another text, replayed id", "demo-1-write", replayed, Expected::Rejected("duplicate_id")),
        again,
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protocol::signing::Secret;

    #[test]
    fn every_scene_is_a_signed_document_but_the_forged_one() {
        let keyring = Keyring::new(&Secret::new(vec![7; 32]).unwrap(), None);
        for scene in scenes(&keyring).unwrap() {
            let document = protocol::command::Document::parse(scene.document.as_bytes().into()).unwrap();
            assert_eq!(document.id().unwrap().as_str(), scene.id);
            let authentic = document.authenticate(&keyring, Utc::now());
            assert_eq!(authentic.is_err(), scene.expected == Expected::Rejected("bad_hmac"), "{}", scene.title);
            if let Ok(authentic) = authentic {
                authentic
                    .read(&protocol::command::Configured {
                        is_target: &|target| target == "MAIN",
                        is_check: &|_| false,
                        is_cloud: &|_| false,
                    })
                    .unwrap();
            }
        }
    }
}
