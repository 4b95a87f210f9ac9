//! What a power cut or a bad disk left of the repository's own files: found, and mended, before anything relies on them.
//!
//! What is the bridge's own is made again. What is git's is put back from what is certain: a reflog, what is known of the
//! remote, the packs that it is derived from; each time in so many words, and the damaged file is set aside, not deleted.
//! Where nothing is certain, the start is refused with the file's name and a remedy. What is fine is not touched.
//!
//! Files are read here as files, because neither git nor its library opens a repository whose HEAD or configuration cannot
//! be read. A repository that keeps its references in tables (reftable) is left to git there.
//!
//! Only at the start, under the instance lock; [`is_damaged`] looks without it, and changes nothing.

mod branches;
mod head;
mod objects;
mod places;
mod references;
mod reflog;
mod shallow;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use gix::ObjectId;
use gix::hash::Kind;

use self::branches::Found;
use self::head::Head;
use self::objects::Faults;
use self::places::{Aside, Places, damage, refused};
use crate::commit;
use crate::config::PublisherConfig;
use crate::destination;
use crate::error::{OpenError, WorkError};
use crate::git::Git;
use crate::git::settings::choose;
use crate::refs::{UPSTREAM, short};

/// The longest that a child may take here: all objects may have to be fetched again, and looked through.
const TIME_LIMIT: Duration = Duration::from_secs(900);

/// Whether something of the repository has to be mended before it can be opened. Where there is no repository at all,
/// nothing has.
///
/// # Errors
/// When what is damaged cannot be mended; the line names the file and the remedy.
pub fn is_damaged(config: &PublisherConfig) -> Result<bool, OpenError> {
    let Some(mender) = Mender::new(config, DateTime::UNIX_EPOCH)? else { return Ok(false) };
    mender.is_needed().map_err(|e| mender.unreadable(&e))
}

/// Mends what can be mended. To be called under the instance lock.
///
/// # Errors
/// When something is damaged and nothing certain tells what was in it; the line names the file and the remedy.
pub fn mend(config: &PublisherConfig, now: DateTime<Utc>) -> Result<(), OpenError> {
    let Some(mut mender) = Mender::new(config, now)? else { return Ok(()) };
    let mut aside = mender.places.aside(now);
    mender.mend_head(&mut aside)?;
    let named = mender.named()?;
    let head = named.as_deref();
    objects::mend(&mender, &mut aside, head)?;
    // What was fetched is seen by who opens the database anew.
    mender.odb = open_odb(&mender.places, mender.kind).map_err(|e| mender.unreadable(&e))?;
    if mender.places.has_loose_references() {
        branches::mend(&mender, &mut aside, head)?;
    }
    mender.mend_rest(&mut aside).map_err(|e| mender.unreadable(&e))
}

/// A repository to be looked at and mended.
struct Mender {
    places: Places,
    kind: Kind,
    odb: gix::odb::Handle,
    git: Git,
    config: PublisherConfig,
    now: DateTime<Utc>,
}

impl Mender {
    /// The repository of `config`; none where there is none.
    fn new(config: &PublisherConfig, now: DateTime<Utc>) -> Result<Option<Self>, OpenError> {
        let cloud = config.cloud.canonicalize().unwrap_or_else(|_| config.cloud.clone());
        let Some(places) = Places::of(&cloud) else { return Ok(None) };
        let kind = object_format(&places)?;
        objects::borrowed_are_there(&places.objects())?;
        let unreadable = |e: WorkError| OpenError::Unreadable { cloud: cloud.clone(), cause: e.to_string() };
        let odb = open_odb(&places, kind).map_err(unreadable)?;
        let config = PublisherConfig { git_time_limit: TIME_LIMIT, ..config.clone() };
        let git = destination::runner(&config, &cloud, Arc::default());
        Ok(Some(Self { places, kind, odb, git, config, now }))
    }

    fn unreadable(&self, error: &WorkError) -> OpenError {
        OpenError::Unreadable { cloud: self.places.cloud.clone(), cause: error.to_string() }
    }

    fn is_needed(&self) -> Result<bool, WorkError> {
        if Faults::find(&self.places.objects(), self.kind)?.any() || !self.damaged_logs()?.is_empty() {
            return Ok(true);
        }
        if self.damaged_index().is_some() || shallow::fault(&self.places, &self.odb, self.kind)?.is_some() {
            return Ok(true);
        }
        if !self.places.has_loose_references() {
            return Ok(false);
        }
        let found = Found::read(self)?;
        Ok(match head::read(&self.places, self.kind)? {
            Head::Damaged(_) => true,
            Head::Named(name) => {
                found.is_damaged(self, Some(&name)) || head::elsewhere(&self.places, &name, &found.known())?.is_some()
            }
            Head::Detached => found.is_damaged(self, None),
        })
    }

    /// Lets HEAD name its branch again.
    fn mend_head(&self, aside: &mut Aside) -> Result<(), OpenError> {
        if !self.places.has_loose_references() {
            return Ok(());
        }
        let file = self.places.git_dir.join("HEAD");
        let known = || Found::read(self).map(|found| found.known());
        let unreadable = |e: WorkError| self.unreadable(&e);
        match head::read(&self.places, self.kind).map_err(unreadable)? {
            Head::Detached => Ok(()),
            Head::Named(name) => {
                let elsewhere = known().and_then(|known| head::elsewhere(&self.places, &name, &known));
                elsewhere.map_err(unreadable)?.map_or(Ok(()), Err)
            }
            Head::Damaged(how) => {
                let branch = known().and_then(|known| head::branch(&self.places, &known)).map_err(unreadable)?;
                let Some((branch, from)) = branch else { return Err(head::unknown(&self.places, how)) };
                let mut put = || -> Result<(), WorkError> {
                    if file.exists() {
                        aside.take(&file)?;
                    }
                    places::write_durably(&file, format!("ref: {branch}\n").as_bytes())
                };
                put().map_err(unreadable)?;
                tracing::warn!(file = %file.display(), how, from, branch, "HEAD names its branch again");
                Ok(())
            }
        }
    }

    /// The branch that is checked out.
    fn named(&self) -> Result<Option<String>, OpenError> {
        match head::read(&self.places, self.kind).map_err(|e| self.unreadable(&e))? {
            Head::Named(name) => Ok(Some(name)),
            Head::Detached | Head::Damaged(_) => Ok(None),
        }
    }

    /// Reflogs, the index, `shallow`.
    fn mend_rest(&self, aside: &mut Aside) -> Result<(), WorkError> {
        for (log, whole) in self.damaged_logs()? {
            aside.take(&log)?;
            places::write_durably(&log, &whole)?;
            tracing::warn!(file = %log.display(), "a reflog had lines that were cut short or zeroed: the others stay");
        }
        if let Some(index) = self.damaged_index() {
            aside.take(&index)?;
            tracing::warn!(file = %index.display(), "set aside an index that git could not read: it is made again");
        }
        if let Some(how) = shallow::fault(&self.places, &self.odb, self.kind)? {
            let file = self.places.common.join("shallow");
            let ends = shallow::made_again(&self.odb, &Found::read(self)?.tips());
            aside.take(&file)?;
            if !ends.is_empty() {
                places::write_durably(&file, &ends)?;
            }
            tracing::warn!(file = %file.display(), how, "where the history of this clone ends is found again from its commits");
        }
        Ok(())
    }

    /// Reflogs with lines that are not whole, and what of them is.
    fn damaged_logs(&self) -> Result<Vec<(PathBuf, Vec<u8>)>, WorkError> {
        let mut logs = places::files(&self.places.common.join("logs"));
        if self.places.git_dir != self.places.common {
            logs.push(self.places.git_dir.join("logs/HEAD"));
        }
        let mut found = Vec::new();
        for log in logs {
            let whole = places::read(&log)?.and_then(|bytes| reflog::without_damage(&bytes));
            found.extend(whole.map(|whole| (log, whole)));
        }
        Ok(found)
    }

    /// The index, if it is not what was written.
    fn damaged_index(&self) -> Option<PathBuf> {
        let file = self.places.git_dir.join("index");
        let options = gix::index::decode::Options::default();
        // One that may not be read is another matter.
        let there = file.symlink_metadata().is_ok_and(|meta| meta.is_file()) && std::fs::File::open(&file).is_ok();
        (there && gix::index::File::at(&file, self.kind, false, options).is_err()).then_some(file)
    }

    /// Whether a commit and its tree are there.
    fn is_whole(&self, id: ObjectId) -> bool {
        use gix::objs::Exists as _;
        use gix::prelude::Find as _;
        let mut buffer = Vec::new();
        let Ok(Some(object)) = self.odb.try_find(&id, &mut buffer) else { return false };
        let is_commit = object.kind == gix::objs::Kind::Commit;
        is_commit && commit::parse(id, object.data).is_ok_and(|commit| self.odb.exists(&commit.tree))
    }

    /// Whether `newer` has `older` among what came before it.
    fn descends(&self, newer: ObjectId, older: ObjectId) -> bool {
        let (newer, older) = (newer.to_string(), older.to_string());
        let output = self.git.run(&["merge-base", "--is-ancestor", &older, &newer]);
        newer != older && output.is_ok_and(|output| output.status.success())
    }

    /// Fetches a branch from the remote; tells whether it has it.
    fn fetch(&self, branch: &str, flags: &[&str]) -> bool {
        let Some(remote) = self.remote() else { return false };
        let refspec = format!("+{branch}:{UPSTREAM}");
        let usual = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"];
        let args = [usual.as_slice(), flags, &["--", &remote, &refspec]].concat();
        // Where a reference here still names what is lost, git complains, and has what it fetched all the same.
        match self.git.run(&args) {
            Ok(output) => output.status.success(),
            Err(error) => {
                tracing::warn!(%error, "the remote was asked for what is lost here");
                false
            }
        }
    }

    /// The remote, if it is configured.
    fn remote(&self) -> Option<String> {
        let folders = [self.places.git_dir.clone(), self.places.common.clone()];
        let settings = destination::ask(&self.config, &self.git, &folders);
        // What git would run for it is judged first, here as elsewhere.
        let settings =
            settings.map_err(|error| tracing::warn!(%error, "the remote is not asked for what is lost")).ok()?;
        let branch = self.named().ok().flatten().unwrap_or_default();
        choose(&settings, short(&branch), self.config.remote.as_deref()).ok().flatten()
    }
}

fn open_odb(places: &Places, kind: Kind) -> Result<gix::odb::Handle, WorkError> {
    let objects = places.objects();
    gix::odb::at(&objects, kind).map_err(|e| WorkError::io(objects, e))
}

/// What the configuration says of the objects' names; a configuration that cannot be read ends the start.
fn object_format(places: &Places) -> Result<Kind, OpenError> {
    let file = places.common.join("config");
    let Some(bytes) =
        places::read_through(&file).map_err(|e| refused(&file, e.to_string(), "see to its permissions"))?
    else {
        return Err(lost_config(places, &file, "missing"));
    };
    if bytes.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace()) {
        return Err(lost_config(places, &file, damage(&bytes)));
    }
    let parsed =
        gix::config::File::from_bytes_no_includes(&bytes, gix::config::file::Metadata::default(), Default::default());
    let Ok(parsed) = parsed else { return Err(lost_config(places, &file, damage(&bytes))) };
    let format = parsed.string("extensions.objectFormat");
    let sha256 = format.is_some_and(|format| format.eq_ignore_ascii_case(b"sha256"));
    let kind = if sha256 { Kind::Sha256 } else { Kind::Sha1 };
    // One that lost its end says less than there was: nothing would be what it is called.
    match objects::format_by_names(&places.objects()) {
        Some(seen) if seen != kind => Err(lost_config(places, &file, "damaged")),
        _ => Ok(kind),
    }
}

/// Only people know what was in it.
fn lost_config(places: &Places, file: &Path, how: &str) -> OpenError {
    let (cloud, at) = (places.cloud.display(), file.display());
    let sha256 = objects::format_by_names(&places.objects()) == Some(Kind::Sha256);
    let init = if sha256 { "git init --object-format=sha256" } else { "git init --object-format=sha1" };
    let remedy = format!(
        "and only you know what was in it: put it back from a backup, or make it anew: mv {at} {at}.bad; {init} {cloud}; \
         git -C {cloud} remote add origin URL"
    );
    refused(file, how, remedy)
}
