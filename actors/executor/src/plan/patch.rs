//! A sent diff, played on the overlay.

use std::collections::BTreeMap;

use protocol::artifact::OpReport;
use protocol::command::Expect;
use protocol::path::RelativePath;
use protocol::reason::Reason;

use super::{Place, PlanError, at, in_time, refuse};
use crate::overlay::Overlay;
use crate::patch::files::{self, FilesError, Kind, Outcome};
use crate::patch::parse::Parsed;
use crate::patch::{Name, PatchError};
use crate::tree::TreeError;

/// Applies all files of a patch, or none: one report a file. Where `expect` says what a file is, and that held, its hunks
/// stand where their headers say.
pub(super) fn play(
    overlay: &mut Overlay<'_>,
    parsed: &Parsed,
    expect: &[(RelativePath, Expect)],
    op: &'static str,
    place: &Place<'_>,
) -> Result<Vec<OpReport>, PlanError> {
    let deadline = place.deadline;
    let refused = |error: &PatchError| match error {
        PatchError::TooMuch(what) => refuse(Reason::LimitExceeded, format!("{}: {what}", place.text)),
        error => place.conflict(format!("{}: {error}", place.text), error.hints()),
    };
    if let Some(fault) = &parsed.fault {
        return Err(refused(fault));
    }
    let text = &place.text;
    let mut look = |name: &Name| {
        in_time(deadline)?;
        let path = path(name, text)?;
        match overlay.now(&path) {
            // A file above, or a folder: whether it makes room is seen when all deletions are done.
            Err(TreeError::NotFolder { .. } | TreeError::NotRegular { kind: "a folder", .. }) => Ok(None),
            other => other.map_err(at(text)),
        }
    };
    let is_known = |name: &Name| {
        let known = |(path, expect): &(RelativePath, Expect)| {
            matches!(expect, Expect::Sha256(_)) && name.as_str() == Some(path.as_str())
        };
        expect.iter().any(known)
    };
    let outcomes = files::play(&parsed.diff, Kind::Sent, &mut look, is_known).map_err(|error| match error {
        FilesError::Patch(error) => refused(&error),
        FilesError::TooLarge(what) => refuse(Reason::LimitExceeded, format!("{text}: {what}")),
        FilesError::Look(error) => error,
    })?;
    carry_over(overlay, &outcomes, text)?;
    Ok(outcomes.iter().map(|outcome| report(outcome, op)).collect())
}

/// Brings the outcomes into the overlay: first whatever goes, so that there is room for what comes.
fn carry_over(overlay: &mut Overlay<'_>, outcomes: &[Outcome], place: &str) -> Result<(), PlanError> {
    let mut origins = BTreeMap::new();
    for outcome in outcomes {
        let Some(from) = &outcome.from else { continue };
        if outcome.is_rename || outcome.to.is_none() {
            let from = path(from, place)?;
            let origin = overlay.origin(&from).map_err(at(place))?;
            origins.entry(from.clone()).or_insert(origin);
            overlay.remove(&from).map_err(at(place))?;
        }
    }
    for outcome in outcomes {
        let (Some(to), Some(after)) = (&outcome.to, &outcome.after) else { continue };
        let to = path(to, place)?;
        overlay.admit(&to).map_err(at(place))?;
        overlay.put(&to, after.clone()).map_err(at(place))?;
        if let (Some(from), true) = (&outcome.from, outcome.is_rename) {
            // A second file that comes of the same one is a copy.
            let origin = origins.insert(path(from, place)?, None).flatten();
            overlay.set_origin(&to, origin).map_err(at(place))?;
        }
    }
    Ok(())
}

fn report(outcome: &Outcome, op: &'static str) -> OpReport {
    let text = |name: &Option<Name>| name.as_ref().and_then(Name::as_str).map(str::to_owned);
    let moves = outcome.to.is_some() && outcome.from.is_some() && outcome.from != outcome.to;
    OpReport {
        op,
        path: if moves { None } else { text(&outcome.to).or_else(|| text(&outcome.from)) },
        from: if moves { text(&outcome.from) } else { None },
        to: if moves { text(&outcome.to) } else { None },
        before_sha256: outcome.before.as_ref().map(crate::tree::Image::sha256),
        after_sha256: outcome.after.as_ref().map(crate::tree::Image::sha256),
    }
}

/// A name as a path. Policy has found it good already.
fn path(name: &Name, place: &str) -> Result<RelativePath, PlanError> {
    let text = name.as_str().unwrap_or_default();
    RelativePath::parse(text).map_err(|fault| refuse(fault.reason(), format!("{place}: {fault}")))
}
