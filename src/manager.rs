//! What the bridge says to the process manager that started it, and hears from it: PM2 over node's channel, systemd over
//! its socket.
//!
//! Both are told when the bridge is ready, PM2 also how it fares, once a second; from PM2 a `shutdown` message is heard
//! and means what SIGTERM means. Where neither started the program nothing of this runs.
//!
//! Invariant: the bridge does the same with and without a manager. Nothing here waits for one, keeps more than one
//! message for it, or fails because of it; a manager that is gone is noted once and forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

mod figures;
mod inherited;
mod pm2;
mod pulse;
mod systemd;

pub use inherited::{Inherited, take};
pub use pulse::Threads;

use crate::observed::{Observed, Phase};
use figures::Figures;
use pm2::Channel;
use systemd::Notifier;

/// The pause between two looks at whether the publisher is ready.
const READY_LOOK: Duration = Duration::from_millis(10);
/// How often figures are told: as often as PM2's own library does it.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// The shortest pause between two signs of life, whatever a watchdog asks for.
const MIN_BEAT: Duration = Duration::from_millis(10);

/// The service's side of its process manager.
#[derive(Debug)]
pub struct Manager {
    shutdown: Arc<Notify>,
    notifier: Option<Arc<Notifier>>,
}

impl Manager {
    /// Begins to attend to the manager that `inherited` leads to, on the current actix system.
    pub fn attend(inherited: Inherited, observed: Arc<Observed>, threads: Threads) -> Self {
        let Inherited { channel, notify, watchdog, faults } = inherited;
        for fault in faults {
            tracing::warn!(fault, "the process manager is not told of anything");
        }
        let channel = channel.and_then(|stream| noted("PM2's channel cannot be used", Channel::new(stream)));
        let notifier = notify.and_then(|name| noted("NOTIFY_SOCKET cannot be used", Notifier::open(&name)));
        let notifier = notifier.map(Arc::new);
        let shutdown = Arc::new(Notify::new());
        if channel.is_some() || notifier.is_some() {
            let every = watchdog.map_or(FIGURES_EVERY, |limit| (limit / 2).clamp(MIN_BEAT, FIGURES_EVERY));
            let (shutdown, notifier) = (Arc::clone(&shutdown), notifier.clone());
            let watched = watchdog.is_some();
            let attendant = Attendant {
                channel,
                notifier,
                observed,
                threads,
                shutdown,
                every,
                watched,
                ready: false,
                status: None,
            };
            drop(actix::spawn(attendant.attend()));
        }
        Self { shutdown, notifier }
    }

    /// Waits until the manager asks for a stop by message: for ever where it does not.
    pub async fn asks_to_stop(&self) -> &'static str {
        self.shutdown.notified().await;
        "the process manager's shutdown message"
    }

    /// Says that the bridge stops.
    pub fn stopping(&self) {
        if let Some(notifier) = &self.notifier {
            // systemd stops what it asked to stop, whether it is told so or not.
            let _ = notifier.say(systemd::STOPPING);
        }
    }
}

/// The value, or nothing and a line in the log.
fn noted<T>(what: &str, result: std::io::Result<T>) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(%error, "{what}; the bridge goes on without it")).ok()
}

/// Lives as long as the service, where there is a manager.
struct Attendant {
    channel: Option<Channel>,
    notifier: Option<Arc<Notifier>>,
    observed: Arc<Observed>,
    threads: Threads,
    shutdown: Arc<Notify>,
    every: Duration,
    watched: bool,
    ready: bool,
    /// What systemd was last told of how the bridge fares.
    status: Option<String>,
}

impl Attendant {
    async fn attend(mut self) {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => {
                    self.tell();
                    next = Instant::now() + if self.ready { self.every } else { READY_LOOK };
                }
                heard = turn(&mut self.channel) => self.heard(heard),
            }
        }
    }

    fn heard(&mut self, heard: std::io::Result<bool>) {
        match heard {
            Ok(false) => {}
            Ok(true) => self.shutdown.notify_one(),
            Err(error) => {
                tracing::info!(%error, "the process manager's channel has ended; the bridge goes on without it");
                self.channel = None;
            }
        }
    }

    /// Whether commands can be executed, filed and committed: the actors run, and the publisher holds the repository.
    fn is_ready(&self) -> bool {
        self.observed.phase() == Phase::Running && self.observed.publishing.is_ready()
    }

    /// Says what there is to say at this moment.
    fn tell(&mut self) {
        if !self.ready {
            self.ready = self.is_ready() && self.say_ready();
            if !self.ready {
                return;
            }
        }
        let figures = Figures::of(&self.observed);
        if let Some(channel) = &mut self.channel {
            channel.offer(&pm2::monitor(&figures));
        }
        if let Some(notifier) = &self.notifier {
            let status = systemd::status(&figures);
            if self.status.as_ref() != Some(&status) && notifier.say(&status).is_ok() {
                self.status = Some(status);
            }
            if self.watched && self.threads.are_alive() {
                // One that did not go out is made up for by the next.
                let _ = notifier.say(systemd::WATCHDOG);
            }
        }
    }

    /// Whether everybody could be told that the bridge is ready.
    fn say_ready(&mut self) -> bool {
        if let Some(notifier) = &self.notifier
            && let Err(error) = notifier.say(systemd::READY)
        {
            if error.kind() == std::io::ErrorKind::WouldBlock {
                return false;
            }
            tracing::warn!(%error, "systemd cannot be told that the bridge is ready; it goes on without it");
            self.notifier = None;
        }
        if let Some(channel) = &mut self.channel {
            channel.offer(pm2::READY);
        }
        true
    }
}

/// The channel's next turn; none ever where there is no channel.
async fn turn(channel: &mut Option<Channel>) -> std::io::Result<bool> {
    match channel {
        Some(channel) => channel.turn().await,
        None => std::future::pending().await,
    }
}
