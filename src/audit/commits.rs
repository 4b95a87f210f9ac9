//! What the branch that is checked out holds of the artifacts and the log: what is published must be there, byte for byte.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use archiver::Folder;
use protocol::digest::Sha256;
use protocol::git_id::{GitId, ObjectFormat};
use protocol::id::CommandId;

use crate::exit::Failure;
use crate::git::{self, GitError};

use super::chain::{Chain, LIVE_LOG, MAX_LOG_BYTES, Rolled, letter_names};
use super::disk::{self, ByName, FOLDERS, Root};

/// The longest listing of a commit's files that is taken, in bytes: some ten million files.
const MAX_LISTING_BYTES: u64 = 1024 * 1024 * 1024;

/// A commit.
#[derive(Debug)]
pub struct Head {
    /// Its id.
    pub commit: String,
    artifacts: ByName<GitId>,
    /// Dead letters by the eight digits of the document's hash in their names.
    by_hash: HashMap<String, Arc<str>>,
    logs: BTreeMap<String, GitId>,
    live: Vec<u8>,
}

/// Where the log on disk is not what was committed.
#[derive(Debug, PartialEq, Eq)]
pub struct Unlike {
    /// The log, relative to CLOUD.
    pub file: String,
    /// The first line that differs, from 1; `None` where the whole log does.
    pub number: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Head {
    /// Reads HEAD's; `None` where nothing was committed yet.
    ///
    /// # Errors
    /// When git fails.
    pub fn read(cloud: &Path) -> Result<Option<Self>, Failure> {
        let commit = match git::ask(cloud, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]) {
            Ok(commit) => commit,
            Err(GitError::Failed { words, .. }) if words.is_empty() => return Ok(None),
            Err(other) => return Err(Failure::config(other)),
        };
        let mut args = vec!["ls-tree", "-r", "-z", "--full-tree", &commit, "--", "logs"];
        args.extend(FOLDERS.map(Folder::name));
        let listing = git::read(cloud, &args, Vec::new(), MAX_LISTING_BYTES).map_err(Failure::failed)?;
        let mut head = Self {
            commit: commit.clone(),
            artifacts: ByName::default(),
            by_hash: HashMap::new(),
            logs: BTreeMap::new(),
            live: Vec::new(),
        };
        for line in listing.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
            head.add(&String::from_utf8_lossy(line));
        }
        if let Some(id) = head.logs.remove(LIVE_LOG) {
            head.live = git::read(cloud, &["cat-file", "blob", &id.to_string()], Vec::new(), MAX_LOG_BYTES)
                .map_err(Failure::failed)?;
        }
        Ok(Some(head))
    }

    /// `<mode> <type> <id>\t<path>`.
    fn add(&mut self, line: &str) {
        let Some((head, path)) = line.split_once('\t') else { return };
        let Some(id) = head.rsplit(' ').next().and_then(GitId::from_hex) else { return };
        let (top, name) = (path.split('/').next().unwrap_or_default(), path.rsplit('/').next().unwrap_or_default());
        match FOLDERS.into_iter().find(|folder| folder.name() == top) {
            Some(folder) if !name.starts_with('.') => {
                let name: Arc<str> = Arc::from(name);
                if folder == Folder::DeadLetter
                    && let Some(short) = disk::short_of(&name)
                {
                    self.by_hash.insert(short.to_owned(), Arc::clone(&name));
                }
                self.artifacts.put(folder, name, id);
            }
            None if path == LIVE_LOG || (name.starts_with("bridge-") && name.ends_with(".log")) => {
                self.logs.insert(path.to_owned(), id);
            }
            _ => {}
        }
    }

    /// By what git names what is in it.
    #[must_use]
    pub fn ids(&self) -> ObjectFormat {
        GitId::from_hex(&self.commit).map(|id| id.format()).unwrap_or_default()
    }

    /// The id of the artifact of this name.
    #[must_use]
    pub fn artifact(&self, folder: Folder, name: &str) -> Option<GitId> {
        self.artifacts.get(folder, name).copied()
    }

    /// The name of the dead letter of a document, as far as its hash or its id tell.
    #[must_use]
    pub fn letter(&self, id: Option<&CommandId>, input: &Sha256) -> Option<String> {
        let Some(id) = id else { return self.by_hash.get(&input.short()).map(|name| name.to_string()) };
        let names = letter_names(id, input);
        names.into_iter().rev().find(|name| self.artifact(Folder::DeadLetter, name).is_some())
    }

    /// The names of all artifacts.
    pub fn artifacts(&self) -> impl Iterator<Item = (Folder, &str)> {
        self.artifacts.names()
    }

    /// Where the log on disk is not what was committed, or more of it.
    #[must_use]
    pub fn unlike(&self, root: &Root, chain: &Chain) -> Vec<Unlike> {
        let mut unlike = Vec::new();
        for (path, id) in &self.logs {
            let what = match chain.rolled.iter().find(|rolled| rolled.path == *path) {
                Some(found) if found.id == *id => continue,
                Some(_) => "is not what was committed",
                None => "is committed, and missing on disk",
            };
            unlike.push(Unlike { file: path.clone(), number: None, what: what.to_owned() });
        }
        // Where the log was rolled since, what was the live one's beginning is that of the first log that is not committed.
        match chain.rolled.iter().find(|rolled| !self.logs.contains_key(&rolled.path)) {
            None => unlike.extend(self.differs(LIVE_LOG, &chain.live)),
            Some(Rolled { path, .. }) => match root.read(path, MAX_LOG_BYTES) {
                Ok(bytes) => unlike.extend(self.differs(path, &bytes)),
                Err(error) => {
                    unlike.push(Unlike { file: path.clone(), number: None, what: error.to_string() });
                }
            },
        }
        unlike
    }

    /// How many lines of `chain` are not committed yet.
    #[must_use]
    pub fn uncommitted(&self, chain: &Chain) -> u64 {
        let live = self.live.iter().filter(|byte| **byte == b'\n').count() as u64;
        let rolled = chain.rolled.iter().filter(|rolled| self.logs.contains_key(&rolled.path));
        chain.count.saturating_sub(live + rolled.map(|rolled| rolled.lines).sum::<u64>())
    }

    /// Where `bytes`, which lie at `path`, do not begin as the committed live log does.
    fn differs(&self, path: &str, bytes: &[u8]) -> Option<Unlike> {
        if bytes.starts_with(&self.live) {
            return None;
        }
        let same = self.live.iter().zip(bytes).take_while(|(one, other)| one == other).count();
        let before = self.live.get(..same).unwrap_or_default();
        let number = before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let rest = self.live.get(same..).unwrap_or_default();
        let gone = rest.iter().filter(|byte| **byte == b'\n').count();
        let what = match bytes.len() == same {
            true => format!("ends before {gone} lines that were committed"),
            false => "is not what was committed".to_owned(),
        };
        Some(Unlike { file: path.to_owned(), number: Some(number), what })
    }
}
