//! Commands a second, from documents that wait in `commands/` to commits in the remote.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::Sizes;
use crate::baseline;
use crate::site::Site;
use crate::table::{Row, Table};

/// Commands a second without history.
const AIM: f64 = 1_000.0;
/// How much of it is to be left where the metrics are asked for each second.
const LEFT_WHEN_SCRAPED: f64 = 0.98;
/// How often each is run, on a site of its own or one after the other on one: the median counts.
const RUNS: usize = 3;
/// How many times the baseline that is to be.
const TIMES_BASELINE: f64 = 80.0;

/// Commands a second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Until the last commit in CLOUD: what the bridge itself does.
    committed: f64,
    /// Until the last commit in the remote: with what git does on both sides.
    pushed: f64,
}

/// Runs what waits on `site`, from the moment that the bridge says it is ready.
fn run(site: &Site, commands: u64) -> Rates {
    run_scraped(site, commands, None)
}

/// The median of some runs without history.
fn without_history(commands: u64) -> Rates {
    median((0..RUNS).map(|_| run(&Site::new(0), commands)))
}

/// The run whose pushes were neither the fastest nor the slowest.
fn median(rates: impl Iterator<Item = Rates>) -> Rates {
    let mut rates: Vec<Rates> = rates.collect();
    rates.sort_by(|a, b| a.pushed.total_cmp(&b.pushed));
    rates[rates.len() / 2]
}

/// The same while somebody asks for the metrics at each `pause`.
fn run_scraped(site: &Site, commands: u64, pause: Option<Duration>) -> Rates {
    let before = site.published();
    site.submit(&format!("t{before}n"), commands);
    let mut bridge = site.start();
    let ready = bridge.ready();
    let _scraper = pause.map(|pause| Scraper::start(bridge.address(), pause));
    let begin = bridge.begin + ready;
    let [committed, pushed] =
        site.all_pushed(&mut bridge, before + commands).map(|at| at.saturating_duration_since(begin).as_secs_f64());
    let ready = ready.as_secs_f64();
    eprintln!(
        "  {commands} commands: committed in {committed:.2} s, pushed in {pushed:.2} s, ready after {ready:.2} s"
    );
    let watch = Instant::now();
    bridge.stop();
    eprintln!("  stopped in {:.2} s", watch.elapsed().as_secs_f64());
    Rates { committed: commands as f64 / committed, pushed: commands as f64 / pushed }
}

/// Asks for the metrics until it is dropped.
struct Scraper {
    stop: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Scraper {
    fn start(address: String, pause: Duration) -> Self {
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut scrapes = 0;
            loop {
                let mut stream = TcpStream::connect(&address).unwrap();
                write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.contains("ghost_bridge_commands_total"), "{answer}");
                scrapes += 1;
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            eprintln!("  scraped {scrapes} times");
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// With metrics that are asked for each second, beside the same without.
pub fn scraped(sizes: &Sizes, table: &mut Table) {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        without.push(run(&Site::new(0), sizes.commands));
        with.push(run_scraped(&Site::new(0), sizes.commands, Some(Duration::from_secs(1))));
    }
    let (without, with) = (median(without.into_iter()).pushed, median(with.into_iter()).pushed);
    table.add(Row {
        what: "the same with metrics scraped each second".to_owned(),
        measured: format!("{with:.0}/s"),
        peer: format!("{without:.0}/s, not scraped"),
        ratio: format!("{:.3}", with / without),
        aim: format!("at least {LEFT_WHEN_SCRAPED:.2} of it"),
        met: Some(with >= LEFT_WHEN_SCRAPED * without),
    });
}

/// Without history, beside the baseline.
pub fn plain(sizes: &Sizes, table: &mut Table) {
    let rates = without_history(sizes.commands);
    table.throughput = Some(rates);
    let rate = rates.pushed;
    let mut row = Row {
        what: format!("throughput, {} small writes waiting, pushed", sizes.commands),
        measured: format!("{rate:.0}/s"),
        aim: format!("{AIM:.0}/s, {TIMES_BASELINE:.0} times the baseline"),
        met: Some(rate >= AIM),
        ..Row::default()
    };
    match baseline::run(sizes.baseline, 0) {
        Ok(peer) => {
            table.baseline = Some(peer);
            row.peer = format!("{peer:.1}/s, Python and git");
            row.ratio = format!("{:.0}", rate / peer);
            row.met = Some(rate >= AIM && rate >= TIMES_BASELINE * peer);
        }
        Err(why) => row.peer = why,
    }
    table.add(row);
}

/// With a history, beside the same without.
pub fn with_history(sizes: &Sizes, table: &mut Table, history: u64) {
    let least = if history > 100_000 { 0.8 } else { 0.9 };
    let without = match table.throughput {
        Some(rate) => rate,
        None => {
            let rates = without_history(sizes.commands);
            *table.throughput.insert(rates)
        }
    };
    let site = Site::new(history);
    let rates = median((0..RUNS).map(|_| run(&site, sizes.commands)));
    drop(site);
    for (how, rate, without) in
        [("pushed", rates.pushed, without.pushed), ("committed", rates.committed, without.committed)]
    {
        let of_before = rate / without;
        table.add(Row {
            what: format!("after {history} commands of history, {how}"),
            measured: format!("{rate:.0}/s"),
            peer: format!("{without:.0}/s, the bridge without history"),
            ratio: format!("{of_before:.2}"),
            aim: format!("at least {least:.1} of it"),
            met: Some(of_before >= least),
        });
    }
    if history > 100_000 || sizes.baseline_history == 0 {
        return;
    }
    let mut row = Row { what: format!("the baseline after {history} commands"), ..Row::default() };
    match baseline::run(sizes.baseline_history, history) {
        Ok(peer) => {
            row.measured = format!("{peer:.2}/s");
            if let Some(before) = table.baseline {
                row.peer = format!("{before:.1}/s, the baseline without history");
                row.ratio = format!("{:.3}", peer / before);
            }
        }
        Err(why) => row.measured = why,
    }
    table.add(row);
}
