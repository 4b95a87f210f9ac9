//! Rounds towards the remote. Mostly one is a push and nothing else; where the remote has something that we lack, or may
//! have, it is fetch, take in, push. One child at a time, beside whatever is done on the repository: what is committed
//! while a push runs goes along with the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::Context;
use supervision::effect;

use super::Publisher;
use crate::ahead::Part;
use crate::error::WorkError;
use crate::git::GitError;
use crate::git::words::needs_a_person;
use crate::housekeeping::Clutter;
use crate::integrate::Integrated;
use crate::network::{self, Aim, Fetched, Pushed, Route};
use crate::packs;
use crate::remote::{Backlog, News, Step};
use crate::status::Push;

/// The shortest time between two consolidations of packs; after one that failed it is doubled.
pub(super) const TIDY_PAUSE: Duration = Duration::from_secs(10);

/// The longest: what is damaged stays so until a person sees to it, and packs gather meanwhile.
const TIDY_PAUSE_MAX: Duration = Duration::from_secs(600);

/// Where a round towards the remote stands.
#[derive(Debug)]
pub(super) enum Round {
    /// None is under way.
    Idle,
    /// A child runs.
    Child,
    /// The remote answered the fetch; true: it has the branch.
    Fetched(bool),
    /// What the remote answered is being taken in, or noted: until then it is not known what the next push is to do.
    TakingIn,
    /// A push went through and is to be noted.
    Pushed(Part),
}

impl Publisher {
    /// Begins a round towards the remote if one is due.
    pub(super) fn begin_round(&mut self, now: Instant, ctx: &mut Context<Self>) {
        // A branch that is not ours at the moment takes in nothing.
        if self.trouble.is_some() {
            return;
        }
        let behind_remote = self.destination.is_some() && self.view.unpushed > 0;
        let quiet = self.queue.is_empty() && !behind_remote;
        let clutter = self.view.clutter;
        let tidy = self.stop.is_none() && self.tidy_at.is_none_or(|at| at <= now);
        if tidy && (clutter.is_urgent() || (clutter.is_due() && quiet)) {
            self.consolidate(now, ctx);
            return;
        }
        if self.route.is_none() || self.destination.is_none() {
            return;
        }
        let aim = self.view.aim;
        let behind = self.queue.is_behind() || self.view.recovering;
        // What is being worked on may be a commit that the last push is to take along.
        let waiting = self.working || behind || !self.queue.is_empty() || self.attempts_wait();
        if let Some(stop) = &mut self.stop {
            if waiting || stop.pushed {
                return;
            }
            stop.pushed = true;
            if self.view.unpushed == 0 {
                return;
            }
            self.remote.hurry();
        }
        let hurried = self.stop.as_ref().map(|_| Step::Fetch);
        match (self.remote.step(self.backlog(), now).or(hurried), aim) {
            (Some(Step::Push), Some(aim)) => {
                if self.remote.take_push(now) {
                    self.push(aim, ctx);
                }
            }
            (Some(_), _) => self.fetch(ctx),
            (None, _) => {}
        }
    }

    /// What the next push would take along.
    pub(super) fn backlog(&self) -> Backlog {
        match self.view.aim {
            None => Backlog::Empty,
            Some(_) if self.working || !self.queue.is_empty() => Backlog::Growing,
            Some(_) => Backlog::Still,
        }
    }

    fn fetch(&mut self, ctx: &mut Context<Self>) {
        let Some(route) = self.route.clone() else { return };
        self.round = Round::Child;
        let work = move |(): &mut ()| network::fetch(&route);
        effect(self, ctx, (), work, |actor, ctx, outcome| {
            let now = Instant::now();
            actor.round = Round::Idle;
            match outcome {
                Ok(((), Fetched::Branch)) => actor.round = Round::Fetched(true),
                Ok(((), Fetched::NoBranch)) => actor.round = Round::Fetched(false),
                Ok(((), Fetched::Refused(object))) => {
                    let place = actor.route.as_ref().map(|route| (route.remote.as_str(), route.branch.as_str()));
                    let (remote, branch) = place.unwrap_or_default();
                    actor.blocked(
                        format!(
                            "git refuses what {remote}/{branch} has ({object}): have that branch set back or rewritten"
                        ),
                        now,
                    );
                }
                Ok(((), Fetched::Failed(error))) => actor.unreachable(&error, now),
                Err(panicked) => return actor.broken(&panicked, ctx),
            }
            actor.pump(ctx);
        });
    }

    pub(super) fn integrated(&mut self, result: Result<Integrated, WorkError>, now: Instant, ctx: &mut Context<Self>) {
        self.round = Round::Idle;
        match result {
            Ok(Integrated::Ready) => {
                self.remote.fetched();
                match self.view.aim {
                    Some(aim) if self.remote.take_push(now) => self.push(aim, ctx),
                    Some(_) => {
                        self.remote.waits(now);
                        self.status.set_reached();
                    }
                    None => {
                        // Whoever it was that pushed them, the remote has them all.
                        self.times.pushing(0);
                        self.times.pushed(now, &self.status);
                        self.reached(now, false);
                    }
                }
            }
            Ok(Integrated::Blocked(reason)) => self.blocked(reason, now),
            Err(error @ WorkError::HeadElsewhere { .. }) => self.failed(&error),
            Err(error) => self.unreachable(&error, now),
        }
    }

    fn push(&mut self, aim: Aim, ctx: &mut Context<Self>) {
        let Some(route) = self.route.clone() else { return };
        self.round = Round::Child;
        self.times.pushing(aim.part.left);
        let work = move |(): &mut ()| network::push(&route, &aim);
        effect(self, ctx, (), work, move |actor, ctx, outcome| {
            let now = Instant::now();
            actor.round = Round::Idle;
            match outcome {
                Ok(((), Pushed::Done)) => {
                    actor.status.pushed(Push::Ok);
                    actor.times.pushed(now, &actor.status);
                    actor.reached(now, true);
                    actor.round = Round::Pushed(aim.part);
                }
                Ok(((), Pushed::Overtaken(reason))) => actor.overtaken(&reason, now),
                Ok(((), Pushed::Failed(error))) => {
                    if matches!(error, GitError::TimedOut { .. }) {
                        actor.remote.too_slow();
                    }
                    actor.unreachable(&error, now);
                }
                Err(panicked) => return actor.broken(&panicked, ctx),
            }
            actor.pump(ctx);
        });
    }

    /// A push is noted down. A stop goes on until all is pushed: the last push may have been a part.
    pub(super) fn push_noted(&mut self) {
        if self.view.aim.is_some()
            && let Some(stop) = &mut self.stop
        {
            stop.pushed = false;
        }
    }

    fn consolidate(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let Some(Route { git, objects, ids, .. }) = self.route.clone() else { return };
        self.tidy_at = Some(now + self.tidy_pause);
        self.round = Round::Child;
        let git = git.with_cancel(Arc::clone(&self.tidy_cancel));
        let work = move |(): &mut ()| packs::consolidate(&git, &objects, ids);
        effect(self, ctx, (), work, |actor, ctx, outcome| {
            actor.round = Round::Idle;
            actor.tidied = true;
            match outcome {
                Ok(((), Ok(()))) => {
                    // What is left is counted when the repository is worked on next.
                    actor.view.clutter = Clutter::default();
                    actor.tidy_pause = TIDY_PAUSE;
                    actor.tidy_at = Some(Instant::now() + TIDY_PAUSE);
                }
                // A stop does not wait for it.
                Ok(((), Err(_))) if actor.stop.is_some() => {}
                Ok(((), Err(error))) => {
                    actor.tidy_pause = actor.tidy_pause.saturating_mul(2).min(TIDY_PAUSE_MAX);
                    actor.tidy_at = Some(Instant::now() + actor.tidy_pause);
                    let pause = actor.tidy_pause.as_secs();
                    tracing::warn!(%error, pause, "packs are consolidated later; `git fsck` tells whether one is damaged");
                }
                Err(panicked) => return actor.broken(&panicked, ctx),
            }
            actor.pump(ctx);
        });
    }

    fn reached(&mut self, now: Instant, pushed: bool) {
        self.status.set_reached();
        self.status.set_last_failure(None);
        let over = if pushed { self.remote.pushed(now) } else { self.remote.succeeded(now) };
        if let Some(trouble) = over {
            tracing::info!(was = trouble.reason(), "publishing again");
        }
    }

    fn blocked(&mut self, reason: String, now: Instant) {
        if self.remote.blocked(reason.clone(), now) {
            tracing::error!(reason, "degraded: commits stay local until a person decides");
        }
    }

    fn unreachable(&mut self, error: &dyn std::error::Error, now: Instant) {
        let reason = error.to_string();
        let reason = reason.as_str();
        self.status.set_last_failure(Some(reason.to_owned()));
        // A look at the remote while there is nothing to push is no push.
        if self.view.unpushed > 0 {
            self.status.pushed(Push::Failed);
        }
        let person = needs_a_person(reason);
        match self.remote.failed(reason, person, now) {
            News::Degraded if person => {
                tracing::error!(reason, "degraded: a person has to see to it; commits stay local, it is tried again");
            }
            News::Degraded => tracing::error!(reason, "degraded: commits stay local; it is tried again"),
            News::First => tracing::warn!(reason, "the remote does not take commits yet; it is tried again"),
            News::Nothing => tracing::debug!(reason, "the remote does not take commits"),
        }
    }

    fn overtaken(&mut self, reason: &str, now: Instant) {
        self.status.pushed(Push::Overtaken);
        // A stop has one round only; being overtaken does not use it up.
        if let Some(stop) = &mut self.stop {
            stop.pushed = false;
        }
        if self.remote.overtaken(reason, now) {
            tracing::error!(reason, "degraded: somebody else is always faster; it is tried again");
        }
    }
}
