//! The judgement itself.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use protocol::command::{Command, Configured, Document, VerifiedCommand};
use protocol::digest::{Hasher, Sha256};
use protocol::id::CommandId;
use protocol::ledger::{Entrance, FiledBefore, Ledger, Signed, Turn};
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
    /// What was filed.
    pub ledger: Arc<Ledger>,
    /// The configured targets' names.
    pub targets: BTreeSet<String>,
    /// The configured checks' names.
    pub checks: BTreeSet<String>,
    /// The name of this CLOUD, where it has one.
    pub cloud_name: Option<String>,
    /// The rules of time.
    pub time: TimeRules,
    /// The largest document, in bytes; only for the sentence in a dead letter.
    pub max_command_bytes: u64,
}

/// Why a document goes no further.
#[derive(Debug)]
pub enum Refusal {
    /// It is refused, and that is to be filed; boxed, as it is large.
    Rejected(Box<Rejection>),
    /// It was filed before: it is to be removed.
    Filed {
        /// Its id, if it holds a valid one.
        id: Option<CommandId>,
        /// The hash of its bytes.
        input_sha256: Sha256,
        /// The ledger's word.
        filed: FiledBefore,
    },
    /// A copy of it is being settled. It is to come again.
    InHand,
    /// What was filed under its id cannot be read at the moment. It is to come again.
    Unreadable(io::Error),
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(Box::new(rejection))
    }
}

impl Judge {
    /// Judges what was read at `received_at`, at the time `now`. A document that was filed before is not judged again,
    /// whatever would be thought of it by now.
    ///
    /// # Errors
    /// Why it goes no further.
    pub fn judge(
        &self,
        content: Content,
        received_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(VerifiedCommand, Arc<Turn>), Refusal> {
        let raw = match &content {
            Content::Document(raw) => Arc::clone(raw),
            Content::TooLarge { size, sha256, .. } => {
                let detail = format!("the file is {size} bytes long; at most {} are allowed", self.max_command_bytes);
                let verdict = Verdict::new(Stage::File, Reason::TooLarge, detail);
                let turn = self.enter(None, *sha256, None)?;
                return Err(rejection(verdict, *sha256, content.clone(), Some(turn)).into());
            }
            Content::NotRegular { kind, bytes } => {
                let verdict = Verdict::new(
                    Stage::File,
                    Reason::NotRegular,
                    format!("a command must be a regular file, found {kind}"),
                );
                let sha256 = not_regular(bytes);
                return Err(rejection(verdict, sha256, content, None).into());
            }
        };
        let input = Sha256::of(&raw);
        let document = match Document::parse(Arc::clone(&raw)) {
            Ok(document) => document,
            Err(verdict) => return Err(rejection(verdict, input, content, Some(self.enter(None, input, None)?)).into()),
        };
        let id = document.id();
        let authentic = match document.authenticate(&self.keyring, now) {
            Ok(authentic) => authentic,
            Err((_, verdict)) => {
                let turn = self.enter(id.as_ref(), input, None)?;
                return Err(Rejection { id, ..rejection(verdict, input, content, Some(turn)) }.into());
            }
        };
        let turn = self.enter(id.as_ref(), input, Some(authentic.form()))?;
        let configured = Configured {
            is_target: &|name| self.targets.contains(name),
            is_check: &|name| self.checks.contains(name),
            is_cloud: &|name| self.cloud_name.as_deref() == Some(name),
        };
        let command = authentic.read(&configured).and_then(|command| {
            self.check_time(&command, now)?;
            Ok(command)
        });
        match command {
            Ok(command) => Ok((authentic.verified(command, received_at), turn)),
            Err(verdict) => {
                Err(Rejection { id, hmac_ok: true, ..rejection(verdict, input, content, Some(turn)) }.into())
            }
        }
    }

    /// The turn of a document, unless it was filed or is being settled; `form` is known once its signature held.
    fn enter(&self, id: Option<&CommandId>, input: Sha256, form: Option<Sha256>) -> Result<Arc<Turn>, Refusal> {
        match self.ledger.enter(input, form.map(|form| Signed { id, form })) {
            Entrance::Turn(turn) => Ok(Arc::new(turn)),
            Entrance::Filed(filed) => Err(Refusal::Filed { id: id.cloned(), input_sha256: input, filed }),
            Entrance::InHand => Err(Refusal::InHand),
            Entrance::Unreadable(error) => Err(Refusal::Unreadable(error)),
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

fn rejection(verdict: Verdict, input_sha256: Sha256, content: Content, turn: Option<Arc<Turn>>) -> Rejection {
    Rejection { verdict, id: None, hmac_ok: false, content, input_sha256, attempts: 0, turn }
}

/// What stands for the bytes of an entry that is no file. No document begins so: whoever makes a link whose text is a
/// document's does not make that document a filed one.
fn not_regular(bytes: &[u8]) -> Sha256 {
    let mut hasher = Hasher::default();
    hasher.update(b"\0");
    hasher.update(bytes);
    hasher.finish()
}
