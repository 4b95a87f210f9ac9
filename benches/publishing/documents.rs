//! Signed documents, and what the bridge files for them.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use protocol::canonical;
use protocol::digest::Sha256;
use protocol::json::{self, Value};
use protocol::signing::{Keyring, Secret, SecretSlot};

/// The secret of every repository that is measured.
pub const SECRET: &str = "a secret for measuring only";
/// Documents that share a folder of the work tree.
const FOLDER: u64 = 1_000;

/// Signs documents.
pub struct Signer(Keyring);

/// A command that was executed well, as the bridge would have filed it.
pub struct Filed {
    pub id: String,
    pub input: Sha256,
    /// Paths within their folder, and bytes: result, integrity, diff, archive.
    pub artifacts: [(&'static str, String, Vec<u8>); 4],
}

impl Signer {
    pub fn new() -> Self {
        Self::of(SECRET.as_bytes())
    }

    /// One who signs with another secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(Keyring::new(&Secret::new(secret.to_vec()).unwrap(), None))
    }

    /// `text`, a JSON object, with its signature as the last field.
    pub fn sign(&self, text: &str) -> Vec<u8> {
        let Value::Object(object) = json::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
        let hmac = self.0.sign(SecretSlot::Current, canonical::object_without(&object, "hmac").as_bytes());
        format!("{},\"hmac\":\"{hmac}\"}}\n", text.strip_suffix('}').unwrap()).into_bytes()
    }

    /// A command that writes one small file.
    pub fn small_write(&self, id: &str, number: u64, now: DateTime<Utc>) -> Vec<u8> {
        let (issued, expires) = (instant(now), instant(now + TimeDelta::hours(12)));
        let path = path(id, number);
        self.sign(&format!(
            r#"{{"schemaVersion":"1.0","id":"{id}","issued_at":"{issued}","expires_at":"{expires}","nonce":"{number}","target":"MAIN","action":"applyPatch","patchType":"ops","payload":{{"inline":{{"version":"1","ops":[{{"op":"writeFile","path":"{path}","content":"a small file of one line, {id}\n"}}]}}}},"validationPlan":[],"allowedActions":["writeFile"],"constraints":{{"maxRuntimeMs":60000,"maxFilesChanged":1}}}}"#
        ))
    }

    /// What the bridge files for [`Self::small_write`].
    pub fn filed(&self, id: String, number: u64, at: DateTime<Utc>) -> Filed {
        let (archive, at) = (self.small_write(&id, number, at), instant(at));
        let (input, path) = (Sha256::of(&archive), path(&id, number));
        let content = format!("a small file of one line, {id}\n");
        let diff = format!(
            "diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{content}"
        );
        let after = Sha256::of(content.as_bytes());
        let bytes = content.len();
        let result = format!(
            "{{\n  \"id\": \"{id}\",\n  \"status\": \"ok\",\n  \"exit_code\": 0,\n  \"reason\": null,\n  \"detail\": null,\n  \"target\": \"MAIN\",\n  \"action\": \"applyPatch\",\n  \"patch_type\": \"ops\",\n  \"issued_at\": \"{at}\",\n  \"received_at\": \"{at}\",\n  \"executed_at\": \"{at}\",\n  \"finished_at\": \"{at}\",\n  \"duration_ms\": 0,\n  \"files_changed\": 1,\n  \"bytes_written\": {bytes},\n  \"ops\": [\n    {{\n      \"op\": \"writeFile\",\n      \"path\": \"{path}\",\n      \"before_sha256\": null,\n      \"after_sha256\": \"{after}\"\n    }}\n  ],\n  \"checks\": [],\n  \"constraints\": {{\n    \"maxRuntimeMs\": 60000,\n    \"maxFilesChanged\": 1,\n    \"ok\": true\n  }},\n  \"attempts\": 1\n}}\n"
        );
        let (of_result, of_diff) = (Sha256::of(result.as_bytes()), Sha256::of(diff.as_bytes()));
        let integrity = self.sign(&format!(
            r#"{{"id":"{id}","input_sha256":"{input}","result_sha256":"{of_result}","diff_sha256":"{of_diff}","archive_sha256":"{input}","issued_at":"{at}","executed_at":"{at}","duration_ms":0,"files_changed":1,"constraints":{{"maxRuntimeMs":60000,"maxFilesChanged":1}},"limits_ok":true,"hmac_ok":true,"exit_code":0,"secret":"current"}}"#
        ));
        let artifacts = [
            ("archive", format!("{id}.json"), archive),
            ("diffs", format!("{id}.patch"), diff.into_bytes()),
            ("results", format!("{id}.integrity.json"), integrity),
            ("results", format!("{id}.json"), result.into_bytes()),
        ];
        Filed { id, input, artifacts }
    }
}

fn path(id: &str, number: u64) -> String {
    format!("work/{:04}/{id}.txt", number / FOLDER)
}

pub fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
