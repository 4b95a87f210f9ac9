//! Rounds towards the remote: fetch, take in, push. One child at a time, beside whatever is done on the repository.

use std::time::Instant;

use actix::prelude::Context;
use gix::ObjectId;
use supervision::effect;

use super::Publisher;
use crate::error::WorkError;
use crate::integrate::Integrated;
use crate::network::{self, Fetched, Pushed};
use crate::status::Push;

/// Packs after which a quiet moment is used to consolidate them.
const PACKS_MAX: usize = 50;
/// Packs that are consolidated without waiting for a quiet moment: the remote may be away for days.
const PACKS_URGENT: usize = 500;

/// Where a round towards the remote stands: fetch, take in, push.
#[derive(Debug)]
pub(super) enum Round {
    /// None is under way.
    Idle,
    /// A child runs.
    Child,
    /// The remote answered the fetch; true: it has the branch.
    Fetched(bool),
    /// That is being taken in.
    TakingIn,
    /// A push went through and is to be noted.
    Pushed(ObjectId, u64),
}

impl Publisher {
    /// Begins a round towards the remote if one is due.
    pub(super) fn begin_round(&mut self, now: Instant, ctx: &mut Context<Self>) {
        // A branch that is not ours at the moment takes in nothing.
        if self.trouble.is_some() {
            return;
        }
        let behind_remote = self.kind.is_some() && self.view.unpushed > 0;
        let quiet = self.queue.is_empty() && !behind_remote;
        let packs = self.view.packs;
        if self.stop.is_none() && (packs >= PACKS_URGENT || (packs >= PACKS_MAX && quiet)) {
            self.consolidate(ctx);
            return;
        }
        let (Some(route), Some(_)) = (&self.route, self.kind) else { return };
        let (git, remote, branch) = route.clone();
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
        } else if self.remote.due(self.view.unpushed > 0, now) > now {
            return;
        }
        self.round = Round::Child;
        let work = move |(): &mut ()| network::fetch(&git, &remote, &branch);
        effect(self, ctx, (), work, |actor, ctx, outcome| {
            let now = Instant::now();
            actor.round = Round::Idle;
            match outcome {
                Ok(((), Fetched::Branch)) => actor.round = Round::Fetched(true),
                Ok(((), Fetched::NoBranch)) => actor.round = Round::Fetched(false),
                Ok(((), Fetched::Failed(error))) => actor.unreachable(&error.to_string(), now),
                Err(panicked) => return actor.broken(&panicked, ctx),
            }
            actor.pump(ctx);
        });
    }

    pub(super) fn integrated(&mut self, result: Result<Integrated, WorkError>, now: Instant, ctx: &mut Context<Self>) {
        self.round = Round::Idle;
        match result {
            Ok(Integrated::Ready(None)) => {
                // Whoever it was that pushed them, the remote has them all.
                self.times.pushing();
                self.times.pushed(now, &self.status);
                self.reached(now, false);
            }
            Ok(Integrated::Ready(Some((id, count)))) => {
                if self.remote.take_push(now) {
                    self.push(id, count, ctx);
                } else {
                    self.reached(now, false);
                }
            }
            Ok(Integrated::Blocked(reason)) => {
                if self.remote.blocked(reason.clone(), now) {
                    tracing::error!(reason, "degraded: commits stay local until a person decides");
                }
            }
            Err(error @ WorkError::HeadElsewhere { .. }) => self.failed(&error),
            Err(error) => self.unreachable(&error.to_string(), now),
        }
    }

    fn push(&mut self, id: ObjectId, count: u64, ctx: &mut Context<Self>) {
        let Some((git, remote, branch)) = self.route.clone() else { return };
        self.round = Round::Child;
        self.times.pushing();
        let work = move |(): &mut ()| network::push(&git, &remote, &branch, id);
        effect(self, ctx, (), work, move |actor, ctx, outcome| {
            let now = Instant::now();
            actor.round = Round::Idle;
            match outcome {
                Ok(((), Pushed::Done)) => {
                    actor.status.pushed(Push::Ok);
                    actor.times.pushed(now, &actor.status);
                    actor.reached(now, true);
                    actor.round = Round::Pushed(id, count);
                }
                Ok(((), Pushed::Overtaken(reason))) => actor.overtaken(&reason, now),
                Ok(((), Pushed::Failed(error))) => actor.unreachable(&error.to_string(), now),
                Err(panicked) => return actor.broken(&panicked, ctx),
            }
            actor.pump(ctx);
        });
    }

    fn consolidate(&mut self, ctx: &mut Context<Self>) {
        let Some(core) = &mut self.core else { return };
        core.packs_consolidated();
        self.view.packs = 0;
        let (git, _, _) = core.route();
        self.round = Round::Child;
        let work = move |(): &mut ()| network::consolidate(&git);
        effect(self, ctx, (), work, |actor, ctx, outcome| {
            actor.round = Round::Idle;
            match outcome {
                Ok(((), Ok(()))) => {}
                Ok(((), Err(error))) => tracing::warn!(%error, "packs are consolidated later"),
                Err(panicked) => return actor.broken(&panicked, ctx),
            }
            actor.pump(ctx);
        });
    }

    fn reached(&mut self, now: Instant, pushed: bool) {
        let over = if pushed { self.remote.pushed(now) } else { self.remote.succeeded(now) };
        if let Some(trouble) = over {
            tracing::info!(was = trouble.reason(), "publishing again");
        }
    }

    fn unreachable(&mut self, reason: &str, now: Instant) {
        // A look at the remote while there is nothing to push is no push.
        if self.view.unpushed > 0 {
            self.status.pushed(Push::Failed);
        }
        if self.remote.failed(reason, now) {
            tracing::error!(reason, "degraded: the remote cannot be reached, commits stay local; it is tried again");
        } else {
            tracing::debug!(reason, "the remote was not reached");
        }
    }

    fn overtaken(&mut self, reason: &str, now: Instant) {
        self.status.pushed(Push::Overtaken);
        // A stop has one round only; being overtaken does not use it up.
        if let Some(stop) = &mut self.stop {
            stop.pushed = false;
        }
        if self.remote.overtaken(reason, now) {
            tracing::error!(reason, "degraded: somebody else is always faster");
        }
    }
}
