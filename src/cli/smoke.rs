//! `ghost-bridge smoke`: sends a no-op through the running bridge and times what comes back.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use archiver::Folder;
use chrono::{TimeDelta, Utc};
use protocol::id::CommandId;
use protocol::json::{self, Value};
use protocol::signing::SecretSlot;

use crate::exit::{Failure, print};
use crate::git::{self, GitError};
use crate::instance::InstanceLock;
use crate::layout::Layout;
use crate::secrets::Taken;
use crate::service::publishing;

use super::document::Draft;
use super::submit::submit;
use super::{Globals, answer};

/// By when all must have come (contract section 1).
const DEADLINE: Duration = Duration::from_secs(10);
/// The pause between two looks at the disk.
const LOOK: Duration = Duration::from_millis(1);
/// So many looks at the disk pass between two at the segments: a busy bridge with a small window rolls over soon.
const LOOKS_A_SEARCH: u32 = 100;
/// The pause between two questions to git while a commit is awaited.
const LOOK_GIT: Duration = Duration::from_millis(20);
/// The pause between two questions to the remote.
const LOOK_REMOTE: Duration = Duration::from_millis(50);
/// The longest that the remote is asked what is wrong with it.
const WORDS_LIMIT: Duration = Duration::from_secs(5);
/// How many commits back the no-op's own is looked for; a busy bridge makes others meanwhile.
const COMMITS: &str = "--max-count=2000";
/// How long the no-op is valid.
const TTL: TimeDelta = TimeDelta::minutes(5);
/// What comes last, where there is a remote.
const PUSHED: &str = "pushed";
/// The no-op.
const NOOP: &str = r#"{"patchType":"ops","payload":{"inline":{"version":"noop","ops":[{"op":"noop"}]}}}"#;

/// What `smoke --help` says besides.
pub const TEACH: &str = "\
It signs a no-op with the secret, puts it into commands/, and waits for its artifacts, its commit and, where a remote is \
configured, until the remote has that commit. It needs the bridge's own CLOUD, secret and configuration: by these it asks \
the bridge (GET /status) why something did not come.

Exit status: 0 all came within 10 s, 1 something did not (the line says what, and why).

Examples:
  ghost-bridge smoke
  ghost-bridge --cloud ~/sync --config /etc/ghost-bridge/bridge.toml smoke";

/// Something that must come, and when it came.
struct Milestone {
    name: &'static str,
    what: String,
    came: Option<Duration>,
}

impl Milestone {
    fn row(&self, width: usize) -> String {
        let came =
            self.came.map_or_else(|| "did not come".to_owned(), |came| format!("{:.1} ms", came.as_secs_f64() * 1e3));
        format!("  {:<9}  {:<width$}  {came:>12}\n", self.name, self.what)
    }
}

/// Runs the smoke test.
///
/// # Errors
/// When no bridge runs, it rejects the no-op, or something did not come in time.
pub fn run(globals: &Globals, taken: Taken) -> Result<(), Failure> {
    let secrets = super::secrets(taken)?;
    let settings = globals.settings()?;
    let layout = Layout::at(&globals.cloud(&settings)?).map_err(Failure::config)?;
    layout.require_work_tree().map_err(Failure::config)?;
    let config = settings.resolve(layout.cloud()).map_err(Failure::config)?;
    // The remote is asked below, so what git would run for that is judged first.
    let found = publisher::look(&publishing(&config, layout.cloud())).map_err(Failure::failed)?;
    let remote = found.destination.map(|destination| destination.remote).unwrap_or_default();
    let cloud = layout.cloud().display();
    let Some(holder) = InstanceLock::holder(layout.cloud()) else {
        return Err(Failure::failed(format!("no bridge runs on {cloud}; start one: ghost-bridge --cloud {cloud} run")));
    };
    print(&format!("CLOUD {cloud}\nbridge {holder}\n\n"))?;
    let now = Utc::now();
    let slot = if secrets.current_is_over(now) { SecretSlot::Next } else { SecretSlot::Current };
    let id = format!("smoke-{}-{:08x}", now.format("%Y%m%dT%H%M%SZ"), rand::random::<u32>());
    let id = CommandId::parse(&id).map_err(Failure::bug)?;
    let mut draft = Draft::parse(NOOP.as_bytes())?;
    draft.set_id(&id);
    draft.fill(now, TTL, None)?;
    draft.sign(&secrets.keyring(), slot)?;
    submit(&layout, &id, draft.to_text().as_bytes())?;
    let watch = Watch { layout: &layout, id: &id, start: Instant::now() };
    let mut milestones = watch.files()?;
    milestones.push(watch.commit());
    let pushed = watch.pushed(&remote);
    milestones.extend(pushed);
    let width = milestones.iter().map(|milestone| milestone.what.chars().count()).max().unwrap_or(0);
    for milestone in &milestones {
        print(&milestone.row(width))?;
    }
    let missing: Vec<&str> =
        milestones.iter().filter(|milestone| milestone.came.is_none()).map(|milestone| milestone.name).collect();
    if missing.is_empty() {
        return print("\nok\n");
    }
    let why = watch.why(config.http.listen, &remote, &missing);
    let (missing, seconds) = (missing.join(", "), DEADLINE.as_secs());
    Err(Failure::failed(format!("{missing} did not come within {seconds} s: {why}")))
}

/// Looks out for what becomes of one command.
struct Watch<'a> {
    layout: &'a Layout,
    id: &'a CommandId,
    start: Instant,
}

impl Watch<'_> {
    fn in_time(&self) -> bool {
        self.start.elapsed() < DEADLINE
    }

    /// Waits for the artifacts.
    fn files(&self) -> Result<Vec<Milestone>, Failure> {
        let id = self.id;
        let wanted = [
            ("archive", Folder::Archive, format!("{id}.json")),
            ("results", Folder::Results, format!("{id}.json")),
            ("integrity", Folder::Results, format!("{id}.integrity.json")),
            ("diff", Folder::Diffs, format!("{id}.patch")),
        ];
        let mut milestones = wanted.clone().map(|(name, folder, file)| {
            let what = format!("{}/{file}", folder.name());
            Milestone { name, what, came: None }
        });
        let letter = self.layout.at_path(&format!("dead_letter/{id}.json"));
        let mut looks = 0_u32;
        while self.in_time() && milestones.iter().any(|milestone| milestone.came.is_none()) {
            looks = looks.wrapping_add(1);
            let everywhere = looks.is_multiple_of(LOOKS_A_SEARCH);
            for (milestone, (_, folder, file)) in milestones.iter_mut().zip(&wanted) {
                let there = milestone.came.is_none()
                    && (self.layout.at_path(&milestone.what).exists() || everywhere && self.is_rolled(*folder, file));
                if there {
                    milestone.came = Some(self.start.elapsed());
                }
            }
            if let Ok(letter) = fs::read(&letter) {
                return Err(rejected(&letter));
            }
            std::thread::sleep(LOOK);
        }
        Ok(milestones.into())
    }

    /// Whether it was rolled over already. The clock of the bridge is this machine's.
    fn is_rolled(&self, folder: Folder, file: &str) -> bool {
        let day = Utc::now().date_naive().pred_opt();
        archiver::find_since(self.layout.cloud(), folder, file, day).is_ok_and(|found| found.is_some())
    }

    fn subject(&self) -> String {
        format!("bridge: results {} (exit=0)", self.id)
    }

    /// The hash of the command's commit on the branch, if it is there. A rebase gives it another.
    fn find_commit(&self) -> Option<String> {
        let log = git::ask(self.layout.cloud(), &["log", COMMITS, "--format=%H %s", "HEAD"]).ok()?;
        let subject = self.subject();
        log.lines()
            .find_map(|line| line.split_once(' ').filter(|(_, text)| *text == subject).map(|(hash, _)| hash.to_owned()))
    }

    /// Waits for the commit.
    fn commit(&self) -> Milestone {
        let mut came = None;
        while came.is_none() && self.in_time() {
            match self.find_commit() {
                Some(_) => came = Some(self.start.elapsed()),
                None => std::thread::sleep(LOOK_GIT),
            }
        }
        Milestone { name: "commit", what: self.subject(), came }
    }

    /// Waits until the remote has the commit; `None` where there is no remote.
    fn pushed(&self, remote: &str) -> Option<Milestone> {
        let cloud = self.layout.cloud();
        git::ask(cloud, &["remote", "get-url", "--", remote]).ok()?;
        let branch = git::ask(cloud, &["symbolic-ref", "--short", "HEAD"]).ok()?;
        let mut came = None;
        while came.is_none() && self.in_time() {
            if self.remote_has_it(remote, &branch) {
                came = Some(self.start.elapsed());
            } else {
                std::thread::sleep(LOOK_REMOTE);
            }
        }
        Some(Milestone { name: PUSHED, what: format!("{remote}/{branch}"), came })
    }

    /// Why something did not come: the bridge's own words, else git's, else where to look.
    fn why(&self, listen: SocketAddr, remote: &str, missing: &[&str]) -> String {
        let answer = answer::ask(listen, self.layout.cloud());
        let mut causes = answer.as_ref().map(answer::hindrances).unwrap_or_default();
        if causes.is_empty() && missing == [PUSHED] {
            let asked = || {
                let arguments = ["-c", "core.askPass=true", "ls-remote", "--heads", remote];
                match git::ask_within(self.layout.cloud(), &arguments, WORDS_LIMIT) {
                    Err(GitError::Failed { words, .. }) => Some(words),
                    Err(error) => Some(error.to_string()),
                    Ok(_) => None,
                }
            };
            causes.extend(answer.as_ref().and_then(answer::last_failure).or_else(asked));
        }
        if !causes.is_empty() {
            return format!("{}; the bridge goes on trying (see its log, and: ghost-bridge doctor)", causes.join("; "));
        }
        match missing {
            [PUSHED] => "the remote answers, but is slow or paced (publish.max_pushes_per_minute), or refuses what is \
                         pushed; the bridge goes on trying, and its log says why"
                .to_owned(),
            _ => "see the bridge's log, and whether it has the same CLOUD and secret".to_owned(),
        }
    }

    /// Whether the remote's own word on its branch is a commit that holds ours.
    fn remote_has_it(&self, remote: &str, branch: &str) -> bool {
        let cloud = self.layout.cloud();
        let reference = format!("refs/heads/{branch}");
        let limit = DEADLINE.saturating_sub(self.start.elapsed());
        let asked = git::ask_within(cloud, &["ls-remote", "--exit-code", remote, &reference], limit);
        let Ok(listed) = asked else { return false };
        let (Some(tip), Some(commit)) = (listed.split_whitespace().next(), self.find_commit()) else { return false };
        git::ask(cloud, &["merge-base", "--is-ancestor", &commit, tip]).is_ok()
    }
}

fn rejected(letter: &[u8]) -> Failure {
    let value = json::parse(letter).ok();
    let field = |key: &str| value.as_ref()?.as_object()?.get(key).and_then(Value::as_str).map(str::to_owned);
    let (reason, detail) = (field("reason").unwrap_or_default(), field("detail").unwrap_or_default());
    Failure::failed(format!("the bridge rejected the no-op: {reason}: {detail}"))
}
