//! Blocking work off the actor's thread, with its panics contained.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use actix::prelude::{Actor, ActorFutureExt, AsyncContext, WrapFuture};

/// An effect panicked; the state it was lent is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

/// Lends `state` to `work` on a blocking thread, then calls `then` on the actor with the state and the work's result, or
/// with the panic that ate the state. The actor goes on taking messages meanwhile; whoever needs one effect at a time
/// takes the state out of an `Option` and puts it back in `then`.
pub fn effect<A, S, R>(
    actor: &A,
    ctx: &mut A::Context,
    state: S,
    work: impl FnOnce(&mut S) -> R + Send + 'static,
    then: impl FnOnce(&mut A, &mut A::Context, Result<(S, R), Panicked>) + 'static,
) where
    A: Actor,
    A::Context: AsyncContext<A>,
    S: Send + 'static,
    R: Send + 'static,
{
    let blocking = tokio::task::spawn_blocking(move || {
        let mut state = state;
        let result = work(&mut state);
        (state, result)
    });
    let done = async move {
        blocking.await.map_err(|error| match error.try_into_panic() {
            Ok(payload) => Panicked(panic_text(payload.as_ref())),
            Err(_) => Panicked("the runtime is shutting down".to_owned()),
        })
    };
    ctx.spawn(done.into_actor(actor).map(|outcome, actor, ctx| then(actor, ctx, outcome)));
}

/// Runs `work` here and now; a panic in it comes back as an error. What `work` had half changed stays so: whoever calls
/// this vouches that nothing is, or that it is thrown away.
///
/// # Errors
/// When `work` panicked.
pub fn contained<R>(work: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked(panic_text(payload.as_ref())))
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
