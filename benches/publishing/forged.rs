//! How long a genuine command takes among a great many forged ones.

use std::fs;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};

use crate::Sizes;
use crate::documents::Signer;
use crate::latency::median;
use crate::site::{Bridge, Site, wait};
use crate::table::{Row, Table};

const LOOK: Duration = Duration::from_micros(200);
/// The longest that it may take, in seconds.
const AIM: f64 = 1.0;
/// Commands alone, the first of which pays for what is made once.
const ALONE: u64 = 5;

/// One command, from its drop until its result is there.
fn one(site: &Site, bridge: &mut Bridge, number: u64) -> Duration {
    let id = format!("genuine{number}");
    let bytes = Signer::new().small_write(&id, number, Utc::now());
    let (hidden, result) = (site.cloud.join(format!("commands/.{id}")), site.cloud.join(format!("results/{id}.json")));
    fs::write(&hidden, bytes).unwrap();
    let begin = Instant::now();
    fs::rename(hidden, site.cloud.join(format!("commands/{id}.json"))).unwrap();
    wait("its result", LOOK, || {
        bridge.check();
        result.exists().then(|| begin.elapsed())
    })
}

/// Forged documents that claim to be older arrive at once, and the genuine one behind them.
pub fn measure(sizes: &Sizes, table: &mut Table) {
    let site = Site::new(0);
    let mut bridge = site.start();
    bridge.ready();
    let alone: Vec<Duration> = (0..ALONE).map(|number| one(&site, &mut bridge, number)).skip(1).collect();
    let (forger, old) = (Signer::of(b"a secret of somebody else's"), Utc::now() - TimeDelta::hours(1));
    let aside = site.top().join("forged");
    fs::create_dir(&aside).unwrap();
    let names: Vec<String> = (0..sizes.forged).map(|number| format!("forged{number:07}.json")).collect();
    for (number, name) in names.iter().enumerate() {
        let bytes = forger.small_write(name.trim_end_matches(".json"), number as u64, old);
        fs::write(aside.join(name), bytes).unwrap();
    }
    names.iter().for_each(|name| fs::rename(aside.join(name), site.cloud.join("commands").join(name)).unwrap());
    let among = one(&site, &mut bridge, ALONE);
    let (left, since) = (site.waiting(), Instant::now());
    let gone = wait("the forged ones to go", Duration::from_millis(5), || {
        bridge.check();
        (site.waiting() == 0).then(|| since.elapsed())
    });
    eprintln!("  {left} of them were left then; gone {:.1} s later", gone.as_secs_f64());
    bridge.stop();
    let (among, alone) = (among.as_secs_f64(), median(&alone).as_secs_f64());
    table.add(Row {
        what: format!("a genuine command behind {} forged ones, drop to filed", sizes.forged),
        measured: format!("{:.0} ms", among * 1e3),
        peer: format!("{:.1} ms alone", alone * 1e3),
        ratio: format!("{:.0}", among / alone),
        aim: format!("{AIM:.0} s"),
        met: Some(among <= AIM),
    });
}
