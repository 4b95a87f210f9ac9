//! The judgement itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use protocol::command::{Command, Configured, Document, VerifiedCommand};
use protocol::digest::Sha256;
use protocol::message::{Content, Rejection};
use protocol::reason::{Reason, Stage, Verdict};
use protocol::schema::fault;
use protocol::signing::Keyring;
use protocol::time::format_utc;

/// How a command's validity window is held against the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRules {
    /// What is granted to `issued_at` for clocks that go wrong; nothing is granted to `expires_at`.
    pub clock_skew: TimeDelta,
    /// The longest time between `issued_at` and `expires_at`.
    pub max_lifetime: TimeDelta,
}

/// All that a verdict depends on, but for the document and the time.
#[derive(Clone, Debug)]
pub struct Judge {
    /// The accepted secrets.
    pub keyring: Arc<Keyring>,
    /// The configured targets' names.
    pub targets: BTreeSet<String>,
    /// The configured checks' names.
    pub checks: BTreeSet<String>,
    /// The rules of time.
    pub time: TimeRules,
    /// The largest document, in bytes; only for the sentence in a dead letter.
    pub max_command_bytes: u64,
}

impl Judge {
    /// Judges what was read at `received_at`, at the time `now`.
    ///
    /// # Errors
    /// The rejection to be filed; boxed, as it is the rare and the large case.
    pub fn judge(
        &self,
        content: Content,
        received_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<VerifiedCommand, Box<Rejection>> {
        let raw = match &content {
            Content::Document(raw) => Arc::clone(raw),
            Content::TooLarge { size, sha256, .. } => {
                let detail = format!("the file is {size} bytes long; at most {} are allowed", self.max_command_bytes);
                let verdict = Verdict::new(Stage::File, Reason::TooLarge, detail);
                return Err(Box::new(rejection(verdict, *sha256, content)));
            }
            Content::NotRegular { kind, bytes } => {
                let verdict = Verdict::new(
                    Stage::File,
                    Reason::NotRegular,
                    format!("a command must be a regular file, found {kind}"),
                );
                let sha256 = Sha256::of(bytes);
                return Err(Box::new(rejection(verdict, sha256, content)));
            }
        };
        let reject = |verdict| rejection(verdict, Sha256::of(&raw), content.clone());
        let document = Document::parse(Arc::clone(&raw)).map_err(|verdict| Box::new(reject(verdict)))?;
        let id = document.id();
        let authentic = document.authenticate(&self.keyring, now).map_err(|(_, verdict)| {
            let mut rejection = reject(verdict);
            rejection.id = id.clone();
            Box::new(rejection)
        })?;
        let configured =
            Configured { is_target: &|name| self.targets.contains(name), is_check: &|name| self.checks.contains(name) };
        let command = authentic.read(&configured).and_then(|command| {
            self.check_time(&command, now)?;
            Ok(command)
        });
        match command {
            Ok(command) => Ok(authentic.verified(command, received_at)),
            Err(verdict) => {
                let mut rejection = reject(verdict);
                rejection.id = id;
                rejection.hmac_ok = true;
                Err(Box::new(rejection))
            }
        }
    }

    fn check_time(&self, command: &Command, now: DateTime<Utc>) -> Result<(), Verdict> {
        if command.expires_at - command.issued_at > self.time.max_lifetime {
            let most = self.time.max_lifetime.num_seconds();
            return Err(fault(
                "/expires_at",
                format!("lies more than {most} s after issued_at, the longest lifetime allowed here"),
            ));
        }
        let late = |reason, detail| Err(Verdict::new(Stage::Time, reason, detail));
        let clock = format_utc(now);
        if now + self.time.clock_skew < command.issued_at {
            return late(
                Reason::NotYetValid,
                format!("/issued_at: the command is not valid before then; the bridge's clock says {clock}"),
            );
        }
        if now >= command.expires_at {
            let end = format_utc(command.expires_at);
            return late(
                Reason::Expired,
                format!("/expires_at: the command expired at {end}; the bridge's clock says {clock}"),
            );
        }
        Ok(())
    }
}

fn rejection(verdict: Verdict, input_sha256: Sha256, content: Content) -> Rejection {
    Rejection { verdict, id: None, hmac_ok: false, content, input_sha256, attempts: 0 }
}
