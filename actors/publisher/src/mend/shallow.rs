//! `shallow`: the commits at which a clone's history ends. It can be found again: these are the ones whose parents are not
//! there.

use std::collections::{BTreeSet, HashSet};

use gix::ObjectId;
use gix::hash::Kind;
use gix::objs::Exists;

use super::places::{Places, damage};
use crate::commit;
use crate::error::WorkError;

/// What is wrong with it, if anything is; a history that is whole has no such file.
pub(crate) fn fault(places: &Places, odb: &gix::odb::Handle, kind: Kind) -> Result<Option<&'static str>, WorkError> {
    let Some(bytes) = super::places::read(&places.common.join("shallow"))? else { return Ok(None) };
    let known = |line: &[u8]| ObjectId::from_hex(line).is_ok_and(|id| id.kind() == kind && odb.exists(&id));
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let fine = !lines.is_empty() && bytes.last() == Some(&b'\n') && lines.iter().all(|line| known(line));
    Ok((!fine).then(|| damage(&bytes)))
}

/// The file as it has to be for what these tips lead to; empty where their history is whole.
pub(crate) fn made_again(odb: &gix::odb::Handle, tips: &BTreeSet<ObjectId>) -> Vec<u8> {
    use gix::prelude::Find as _;
    let (mut ends, mut seen, mut left) = (BTreeSet::new(), HashSet::new(), Vec::from_iter(tips.iter().copied()));
    let mut buffer = Vec::new();
    while let Some(id) = left.pop() {
        if !seen.insert(id) {
            continue;
        }
        // A tag leads on; what is neither commit nor tag has no history.
        let Ok(Some(object)) = odb.try_find(&id, &mut buffer) else { continue };
        if object.kind == gix::objs::Kind::Tag {
            left.extend(gix::objs::TagRefIter::from_bytes(object.data, id.kind()).target_id().ok());
            continue;
        }
        let Some(Ok(commit)) = (object.kind == gix::objs::Kind::Commit).then(|| commit::parse(id, object.data)) else {
            continue;
        };
        if commit.parents.iter().all(|parent| odb.exists(parent)) {
            left.extend(commit.parents);
        } else {
            ends.insert(id);
        }
    }
    ends.iter().map(|id| format!("{id}\n")).collect::<String>().into_bytes()
}
