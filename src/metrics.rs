//! The metrics of the contract, read from the actors' own figures at each scrape: nothing is kept twice.
//!
//! Every label's values are a closed set, so the number of series is bounded whatever lies in `commands/`. A name is given
//! here without `ghost_bridge_`, without its unit and without `_total` or `_info`: the encoder adds all of these.

use std::fmt;
use std::sync::Arc;

use archiver::Ending;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use protocol::reason::Reason;
use publisher::Push;
use supervision::{Distribution, Histogram};
use watcher::Ignored;

use crate::observed::Observed;

/// The media type of what [`Metrics::exposition`] gives.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What stands for the reason of a command that ended well.
const NO_REASON: &str = "none";

const DURATION_HELP: &str = "Time from when an actor begins work on a message until that work is done, work on a \
                             blocking thread included; messages that are worked on together each take the time of all. \
                             The publisher's work on a message ends when it is noted, its commit is in \
                             ghost_bridge_command_seconds. The watcher is sent no messages: its scans and its readings \
                             count as such";

/// The metrics of one service.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    /// The metrics of what `observed` shows.
    #[must_use]
    pub fn new(observed: Arc<Observed>) -> Self {
        let mut registry = Registry::with_prefix("ghost_bridge");
        registry.register_collector(Box::new(Exporter(observed)));
        Self(registry)
    }

    /// All of them at this moment, as OpenMetrics text.
    ///
    /// # Errors
    /// Never, as long as a text can be written to.
    pub fn exposition(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
struct Exporter(Arc<Observed>);

impl Collector for Exporter {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        let help = "The version that runs";
        page.0.encode_descriptor("build", help, None, MetricType::Info)?.encode_info(&version)?;
        self.actors(&mut page)?;
        self.commands(&mut page)?;
        self.surroundings(&mut page)?;
        self.publishing(&mut page)
    }
}

impl Exporter {
    fn actors(&self, page: &mut Page<'_>) -> fmt::Result {
        let actors = self.0.actors();
        let each = |value: &dyn Fn(&crate::observed::Seen) -> u64| -> Vec<(Labels, u64)> {
            actors.iter().map(|seen| (actor(seen.mailbox.actor()), value(seen))).collect()
        };
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let help = "Messages that were sent to an actor and are not handled yet";
        page.gauge("mailbox_depth", help, None, each(&|seen| count(seen.mailbox.depth())))?;
        let help = "The most messages that an actor's mailbox takes";
        page.gauge("mailbox_capacity", help, None, each(&|seen| count(seen.mailbox.capacity())))?;
        let waits = actors.iter().map(|seen| (actor(seen.mailbox.actor()), seen.mailbox.waits().distribution()));
        let help = "Time that messages waited, from when they were sent until the actor began work on them";
        page.histogram("mailbox_wait", help, waits)?;
        let watching = &self.0.watching;
        let own = [("scan", watching.scan_times()), ("read", watching.read_times())];
        let mut durations: Vec<(Labels, Distribution)> =
            own.into_iter().map(|(name, times)| message("watcher", name, times)).collect();
        for seen in actors {
            let (name, known) = (seen.mailbox.actor(), seen.mailbox.durations());
            durations.extend(known.iter().map(|(of, times)| message(name, &of.to_ascii_lowercase(), times)));
        }
        page.histogram("message_duration", DURATION_HELP, durations)?;
        let help = "Restarts of an actor, and pieces of its work that panicked and were begun anew";
        page.counter("actor_restarts", help, each(&|seen| seen.restarts.get()))
    }

    fn commands(&self, page: &mut Page<'_>) -> fmt::Result {
        let (watching, filing, publishing) = (&self.0.watching, &self.0.filing, &self.0.publishing);
        let ended = |ending: Ending| {
            let reason = ending.reason().map_or(NO_REASON, Reason::as_str).to_owned();
            (vec![("outcome", ending.as_str().to_owned()), ("reason", reason)], filing.ended(ending))
        };
        let mut commands = vec![ended(Ending::Ok)];
        commands
            .extend(Reason::ALL.iter().map(|reason| ended(Ending::Failed(*reason))).filter(|(_, count)| *count > 0));
        commands.extend(Reason::ALL.iter().map(|reason| ended(Ending::Rejected(*reason))));
        let help = "Documents that were judged and filed: outcome ok, failed (executed and undone) or rejected (nothing \
                    was changed)";
        page.counter("commands", help, commands)?;
        let until = [
            ("filed", filing.filed_after()),
            ("committed", publishing.committed_after()),
            ("pushed", publishing.pushed_after()),
        ];
        let until = until.map(|(until, times)| (vec![("until", until.to_owned())], times.distribution()));
        let help = "Time from a document's first sight until it was filed, committed, and on the remote; documents that an \
                    earlier run had seen are left out";
        page.histogram("command", help, until)?;
        let help = "Documents in commands/ that wait for their place in flight";
        page.gauge("commands_pending", help, None, alone(watching.pending() as u64))?;
        let help = "Documents that are being judged, executed or filed";
        page.gauge("commands_in_flight", help, None, alone(watching.in_flight() as u64))?;
        let ignored =
            Ignored::ALL.map(|reason| (vec![("reason", reason.as_str().to_owned())], watching.ignored(reason)));
        let help = "Names in commands/ that are none of the bridge's business; each counts once while it stays";
        page.counter("ignored_files", help, ignored)
    }

    fn surroundings(&self, page: &mut Page<'_>) -> fmt::Result {
        if let Some(free) = self.0.disk_free() {
            page.gauge("disk_free", "Room that the disk of CLOUD has for the bridge", Some(Unit::Bytes), alone(free))?;
        }
        if let Some(ends) = self.0.rotation_ends {
            let help =
                "From when on only the next secret counts, in seconds since 1970; there where secrets are rotated";
            let ends = u64::try_from(ends.timestamp()).unwrap_or_default();
            page.gauge("rotation_ends_timestamp", help, Some(Unit::Seconds), alone(ends))?;
        }
        Ok(())
    }

    fn publishing(&self, page: &mut Page<'_>) -> fmt::Result {
        let publishing = &self.0.publishing;
        let help = "Commits on the branch that the remote does not have; all of them where there is no remote";
        let unit = Some(Unit::Other("commits".to_owned()));
        page.gauge("unpushed", help, unit, alone(publishing.unpushed_commits()))?;
        let pushes = Push::ALL.map(|push| (vec![("result", push.as_str().to_owned())], publishing.pushes(push)));
        let help = "Pushes by their result: ok, overtaken (somebody else was faster) or failed, also where the remote was \
                    not even reached";
        page.counter("pushes", help, pushes)?;
        let help = "1 while something hinders publishing for longer than a passing moment, else 0";
        page.gauge("publish_degraded", help, None, alone(u64::from(publishing.is_degraded())))?;
        let help = "Commands in the retries index: they failed for a passing cause and are not settled yet";
        page.gauge("retries_pending", help, None, alone(publishing.retries_pending()))?;
        let help = "Packs of the repository that are not put together yet; degraded from 1,000 on";
        page.gauge("repository_packs", help, None, alone(publishing.packs()))?;
        let help = "Files that upstream changed and that were changed here, too: they stay apart until both agree";
        page.gauge("files_apart", help, None, alone(publishing.files_apart()))
    }
}

fn actor(name: &str) -> Labels {
    vec![("actor", name.to_owned())]
}

fn message(actor: &str, message: &str, times: &Histogram) -> (Labels, Distribution) {
    (vec![("actor", actor.to_owned()), ("message", message.to_owned())], times.distribution())
}

/// The one series of a metric without labels.
fn alone(value: u64) -> [(Labels, u64); 1] {
    [(Labels::new(), value)]
}

/// What is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels, u64)>) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        series.into_iter().try_for_each(|(labels, value)| {
            one(&mut metric, &labels, |series| series.encode_counter::<Labels, u64, f64>(&value, None))
        })
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        series.into_iter().try_for_each(|(labels, value)| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            one(&mut metric, &labels, |series| series.encode_gauge(&value))
        })
    }

    /// A histogram in seconds.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, Distribution)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        series.into_iter().try_for_each(|(labels, seen)| {
            one(&mut metric, &labels, |series| {
                series.encode_histogram::<Labels>(seen.sum, seen.count, &seen.buckets, None)
            })
        })
    }
}

fn one(
    metric: &mut MetricEncoder<'_>,
    labels: &Labels,
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if labels.is_empty() { write(metric) } else { write(&mut metric.encode_family(labels)?) }
}

#[cfg(test)]
mod tests;
