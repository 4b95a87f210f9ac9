//! The tree as it is going to be, for checks that run no program: what they find there is what they would find on disk.

use std::collections::HashMap;

use protocol::path::RelativePath;

use crate::checks::View;
use crate::overlay::Change;
use crate::tree::{Image, Tree, TreeError};

/// A tree, and the changes that are about to be applied to it.
#[derive(Debug)]
pub struct After<'t> {
    tree: &'t Tree,
    changes: HashMap<&'t str, Option<&'t Image>>,
}

impl<'t> After<'t> {
    /// `tree` with `changes`.
    #[must_use]
    pub fn new(tree: &'t Tree, changes: &'t [Change]) -> Self {
        let changes = changes.iter().map(|change| (change.path.as_str(), change.after.as_ref())).collect();
        Self { tree, changes }
    }

    /// A file on the way to `path` that the command leaves there; `Some(None)` where it takes the last one away.
    fn above(&self, path: &RelativePath) -> Option<Result<(), TreeError>> {
        let mut above = std::iter::successors(path.parent(), RelativePath::parent);
        above.find_map(|folder| match self.changes.get(folder.as_str())? {
            Some(_) => Some(Err(TreeError::NotFolder { path: folder.to_string(), kind: "a file" })),
            None => Some(Ok(())),
        })
    }

    /// Whether the command puts a file somewhere beneath `path`.
    fn is_folder(&self, path: &RelativePath) -> bool {
        let prefix = format!("{path}/");
        self.changes.iter().any(|(path, after)| after.is_some() && path.starts_with(&prefix))
    }
}

impl View for After<'_> {
    fn read(&self, path: &RelativePath) -> Result<Option<Image>, TreeError> {
        match self.changes.get(path.as_str()) {
            Some(Some(image)) => return Ok(Some((*image).clone())),
            Some(None) if !self.is_folder(path) => return Ok(None),
            _ if self.is_folder(path) => {
                return Err(TreeError::NotRegular { path: path.to_string(), kind: "a folder" });
            }
            _ => {}
        }
        match self.above(path) {
            Some(Err(error)) => Err(error),
            Some(Ok(())) => Ok(None),
            None => self.tree.read(path),
        }
    }

    fn is_there(&self, path: &RelativePath) -> Result<bool, TreeError> {
        match self.changes.get(path.as_str()) {
            Some(Some(_)) => return Ok(true),
            _ if self.is_folder(path) => return Ok(true),
            Some(None) => return Ok(false),
            None => {}
        }
        match self.above(path) {
            Some(Err(error)) => Err(error),
            Some(Ok(())) => Ok(false),
            None => self.tree.look(path).map(|found| found.is_some()),
        }
    }
}
