//! The exposition, held against OpenMetrics 1.0 and against the names of the contract.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::Utc;

use super::*;
use crate::config::Supervision;

/// What the contract promises: the names as they are printed, and their labels.
const PROMISED: [(&str, &str, &[&str]); 19] = [
    ("ghost_bridge_build_info", "info", &["version"]),
    ("ghost_bridge_mailbox_depth", "gauge", &["actor"]),
    ("ghost_bridge_mailbox_capacity", "gauge", &["actor"]),
    ("ghost_bridge_mailbox_wait_seconds", "histogram", &["actor"]),
    ("ghost_bridge_message_duration_seconds", "histogram", &["actor", "message"]),
    ("ghost_bridge_actor_restarts_total", "counter", &["actor"]),
    ("ghost_bridge_commands_total", "counter", &["outcome", "reason"]),
    ("ghost_bridge_command_seconds", "histogram", &["until"]),
    ("ghost_bridge_commands_pending", "gauge", &[]),
    ("ghost_bridge_commands_in_flight", "gauge", &[]),
    ("ghost_bridge_disk_free_bytes", "gauge", &[]),
    ("ghost_bridge_rotation_ends_timestamp_seconds", "gauge", &[]),
    ("ghost_bridge_unpushed_commits", "gauge", &[]),
    ("ghost_bridge_pushes_total", "counter", &["result"]),
    ("ghost_bridge_publish_degraded", "gauge", &[]),
    ("ghost_bridge_retries_pending", "gauge", &[]),
    ("ghost_bridge_files_apart", "gauge", &[]),
    ("ghost_bridge_repository_packs", "gauge", &[]),
    ("ghost_bridge_ignored_files_total", "counter", &["reason"]),
];

/// One metric family as it is printed.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    unit: Option<String>,
    /// Name, labels, value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads an exposition, and finds fault with whatever is not strictly as it must be.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    assert!(!body.contains("# EOF"), "the end comes once");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in body.lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            let (word, rest) = meta.split_once(' ').unwrap();
            let (name, value) = rest.split_once(' ').unwrap();
            if word == "HELP" {
                assert!(!families.contains_key(name), "{name} comes twice");
                current = name.to_owned();
            }
            assert_eq!(name, current, "metadata of one family stand together: {line}");
            let family = families.entry(name.to_owned()).or_default();
            assert!(family.samples.is_empty(), "metadata come before samples: {line}");
            match word {
                "HELP" => family.help = value.to_owned(),
                "TYPE" => family.kind = value.to_owned(),
                "UNIT" => family.unit = Some(value.to_owned()),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        let family = families.get_mut(&current).unwrap();
        assert!(name.starts_with(&current), "{line} belongs to {current}");
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            let (key, value) = label.split_once('=').unwrap();
            (key.to_owned(), value.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned())
        });
        family.samples.push((name.to_owned(), labels.collect(), value.parse().unwrap()));
    }
    families
}

/// The endings that samples of a kind may have.
fn endings(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        "gauge" => &[""],
        other => panic!("the kind {other}"),
    }
}

fn observed() -> Arc<Observed> {
    let supervision = Supervision { max_restarts: 5, within_secs: 30 };
    let mut observed = Observed::new("/".into(), supervision, Utc::now());
    observed.rotation_ends = Some(Utc::now());
    Arc::new(observed)
}

#[test]
fn the_exposition_holds_the_contracts_metrics_and_nothing_else() {
    let families = parse(&Metrics::new(observed()).exposition().unwrap());
    for (name, kind, labels) in PROMISED {
        let ending = if matches!(kind, "counter" | "info") { endings(kind)[0] } else { "" };
        let family = &families[name.strip_suffix(ending).unwrap()];
        assert_eq!(family.kind, kind, "{name}");
        assert!(family.help.len() > 10, "{name}: {}", family.help);
        assert!(!family.samples.is_empty(), "{name} has a series from the start");
        for (sample, found, _) in &family.samples {
            let base = name.strip_suffix(ending).unwrap();
            assert!(endings(kind).iter().any(|ending| *sample == format!("{base}{ending}")), "{sample}");
            let found: BTreeSet<&str> = found.keys().map(String::as_str).filter(|label| *label != "le").collect();
            assert_eq!(found, labels.iter().copied().collect(), "{sample}");
        }
    }
    assert_eq!(families.len(), PROMISED.len(), "{:?}", families.keys());
}

#[test]
fn a_unit_is_the_end_of_its_metrics_name() {
    let families = parse(&Metrics::new(observed()).exposition().unwrap());
    let with_unit: Vec<(&str, &str)> =
        families.iter().filter_map(|(name, family)| Some((name.as_str(), family.unit.as_deref()?))).collect();
    for (name, unit) in &with_unit {
        assert!(name.ends_with(&format!("_{unit}")), "{name} {unit}");
    }
    assert_eq!(with_unit.len(), 6, "four kinds of time, commits and bytes: {with_unit:?}");
}

#[test]
fn a_histogram_rises_to_its_count_and_figures_move() {
    let observed = observed();
    observed.verifier.mailbox.waits().observe(Duration::from_millis(2));
    observed.verifier.mailbox.duration("Candidate").observe(Duration::from_secs(2));
    let families = parse(&Metrics::new(Arc::clone(&observed)).exposition().unwrap());
    let of = |family: &str, sample: &str, label: &str, value: &str| -> Vec<f64> {
        let samples = families[family].samples.iter();
        let wanted = samples.filter(|(name, labels, _)| {
            *name == format!("{family}{sample}") && labels.get(label).is_some_and(|it| it == value)
        });
        wanted.map(|(_, _, value)| *value).collect()
    };
    let waits = "ghost_bridge_mailbox_wait_seconds";
    let buckets = of(waits, "_bucket", "actor", "verifier");
    assert_eq!(buckets.len(), supervision::BOUNDS.len() + 1);
    assert!(buckets.is_sorted(), "buckets are cumulative");
    assert_eq!((buckets[0], buckets.last()), (0.0, Some(&1.0)));
    assert_eq!(of(waits, "_sum", "actor", "verifier"), [0.002]);
    let durations = of("ghost_bridge_message_duration_seconds", "_sum", "message", "candidate");
    assert_eq!(durations, [2.0]);
}
