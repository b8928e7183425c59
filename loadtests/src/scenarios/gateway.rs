//! What the gateway adds to a request, beside haproxy and nginx.

mod judge;
mod peers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tempfile::TempDir;

use super::{Findings, Length, count};
use crate::affinity::{self, Core, Split};
use crate::binaries;
use crate::closed_loop::ClosedLoop;
use crate::http1;
use crate::plot::{Bar, Bars, Plot, Unit};
use crate::proc_stats;
use crate::process::Process;
use crate::progress::Progress;
use crate::record::Recorder;
use crate::report::Report;
use crate::rounds::{self, median};

pub use peers::Peer;

/// Bodies of requests; the answer has at most a KiB, as an inference's has.
const BODIES: [(&str, usize); 2] = [("1 KiB", 1024), ("600 KiB", 600 * 1024)];

/// Connections that ask at the same time.
const CONCURRENCIES: [usize; 2] = [1, 64];

/// Load before each measurement: connections open, caches fill.
const WARM_UP: Duration = Duration::from_millis(200);

/// How long a process may take until it accepts connections.
const READY_PATIENCE: Duration = Duration::from_secs(20);

/// Latency and processor time that the gateway adds, beside haproxy and nginx in the same run
///
/// The proxy runs alone on one core; the upstream (loadtest echo) and the load share another. Rounds are interleaved:
/// each asks the upstream directly, then through every proxy, in a fixed number of connections that ask again as soon as
/// they are answered, and the next round in the opposite order. Added latency is a proxy's less the direct one's of the
/// same round. Proxies are compared within a round: what the machine did meanwhile it did to both. Figures are medians of
/// rounds.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Proxies beside the gateway; `--peers none` leaves them out
    #[arg(long, value_delimiter = ',', default_value = "haproxy,nginx")]
    pub peers: Vec<Peer>,
    /// Rounds
    #[arg(long, default_value_t = 48, value_parser = count::<usize>(), conflicts_with = "quick")]
    pub rounds: usize,
    /// Length of one measurement in milliseconds
    #[arg(long, default_value_t = 100, value_parser = count::<u64>(), conflicts_with = "quick")]
    pub milliseconds: u64,
    /// What is measured.
    #[command(flatten)]
    pub gateway: binaries::Gateway,
    /// How long it takes.
    #[command(flatten)]
    pub length: Length,
}

/// What was measured: a body, a concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) body: &'static str,
    pub(crate) body_bytes: usize,
    pub(crate) concurrency: usize,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} c={}", self.body, self.concurrency)
    }
}

/// One measurement of one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Round {
    pub(crate) p50_us: f64,
    pub(crate) per_second: f64,
    /// Processor time of the proxy by request; of the upstream, where it was asked directly.
    pub(crate) cpu_us: f64,
}

/// Everything measured of one server in one case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) rounds: Vec<Round>,
    recorder: Recorder,
    elapsed: Duration,
    rss_bytes: u64,
}

pub(crate) type Results = BTreeMap<(Case, String), Measured>;

/// The name of the series without a proxy.
pub(crate) const DIRECT: &str = "direct";

/// The name of our gateway's series.
pub(crate) const GATEWAY: &str = "gateway";

/// A server that is measured.
struct Subject {
    name: String,
    addr: SocketAddr,
    process: Process,
}

/// Runs the scenario.
///
/// # Errors
/// A server could not be started or asked.
pub async fn run(args: &Args) -> anyhow::Result<Findings> {
    let mut args = args.clone();
    if args.length.quick {
        (args.rounds, args.milliseconds) = (1, 100);
    }
    let split = affinity::split()?;
    let mut report = Report::begin("gateway", None);
    let directory = tempfile::tempdir()?;
    let subjects = start(&args, split, &directory).await?;
    for subject in &subjects {
        report.command(subject.process.command_line());
    }
    let mut results = Results::new();
    let cases: Vec<Case> = BODIES
        .into_iter()
        .flat_map(|(body, body_bytes)| CONCURRENCIES.map(|concurrency| Case { body, body_bytes, concurrency }))
        .collect();
    let mut progress = Progress::start("gateway and peers", (args.rounds * cases.len() * subjects.len()) as u64);
    for round in 0..args.rounds {
        for &case in &cases {
            for turn in rounds::order(round, subjects.len()) {
                let subject = &subjects[turn];
                let measured = results.entry((case, subject.name.clone())).or_default();
                measure(subject, case, Duration::from_millis(args.milliseconds), split.load, measured)
                    .await
                    .with_context(|| format!("{} at {case}", subject.name))?;
                progress.step();
            }
        }
    }
    drop(progress);
    for ((case, name), measured) in &results {
        let mut series = measured.recorder.series(
            &format!("{name} {case}"),
            &format!("POST of {} bytes", case.body_bytes),
            measured.elapsed,
        );
        series.cpu_us_per_request = Some(median(measured.rounds.iter().map(|round| round.cpu_us)));
        series.rss_bytes = Some(measured.rss_bytes);
        report.series.push(series);
    }
    judge::compare(&results, &mut report);
    Ok(Findings { plots: plots(&results, &cases), report })
}

async fn start(args: &Args, split: Split, directory: &TempDir) -> anyhow::Result<Vec<Subject>> {
    let mut echo = Command::new(binaries::itself()?);
    echo.arg("echo");
    let mut echo = Process::start("loadtest echo", echo, Some(split.load))?;
    let upstream = echo.ready(READY_PATIENCE).await?.ready;

    let config = directory.path().join("gateway.yaml");
    std::fs::write(&config, gateway_config(upstream))?;
    let mut command = Command::new(args.gateway.find()?);
    command.arg("--config").arg(&config).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut gateway = Process::start("gateway", command, Some(split.subject))?;
    let addr = gateway.ready(READY_PATIENCE).await?.ready;
    let mut subjects = vec![
        Subject { name: DIRECT.to_owned(), addr: upstream, process: echo },
        Subject { name: GATEWAY.to_owned(), addr, process: gateway },
    ];
    for peer in args.peers.iter().filter(|peer| **peer != Peer::None) {
        let (mut process, addr) = peer.start(upstream, directory.path(), split.subject)?;
        process.accepting(addr, READY_PATIENCE).await?;
        subjects.push(Subject { name: peer.name().to_owned(), addr, process });
    }
    Ok(subjects)
}

/// One model whose only replica is the upstream, of a concurrency that never holds a request back.
fn gateway_config(upstream: SocketAddr) -> String {
    format!(
        "listen: 127.0.0.1:0\nmodels:\n  - name: echo\n    namespace: default\n    timeout: 60s\n    replicas:\n      \
         - {{url: \"http://{upstream}\", device: cpu, cost: 1, concurrency: 1000}}\n"
    )
}

async fn measure(
    subject: &Subject,
    case: Case,
    duration: Duration,
    core: Core,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let request: Bytes =
        http1::post("echo.default.localhost", "/v2/models/echo/infer", &[], &vec![b'x'; case.body_bytes]);
    let load = ClosedLoop { addr: subject.addr, request, concurrency: case.concurrency, core: Some(core) };
    load.clone().run(WARM_UP.min(duration)).await?;
    let before = proc_stats::usage(subject.process.pid())?;
    let load = load.run(duration).await?;
    let after = proc_stats::usage(subject.process.pid())?;
    let requests = load.recorder.ended().max(1) as f64;
    measured.rounds.push(Round {
        p50_us: load.recorder.latency.quantile_us(0.5),
        per_second: load.recorder.latency.count() as f64 / load.elapsed.as_secs_f64(),
        cpu_us: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / requests,
    });
    measured.recorder.merge(&load.recorder);
    measured.elapsed += load.elapsed;
    measured.rss_bytes = measured.rss_bytes.max(after.rss_bytes);
    Ok(())
}

fn plots(results: &Results, cases: &[Case]) -> Vec<Plot> {
    let bars = |title: String, caption: &str, unit, cases: &[Case], value: &dyn Fn(&Measured, &Measured) -> f64| {
        let bars = cases.iter().flat_map(|case| {
            let direct = results.get(&(*case, DIRECT.to_owned()));
            let of_case = results.iter().filter(move |((known, name), _)| known == case && name != DIRECT);
            of_case.filter_map(move |((case, name), measured)| {
                Some(Bar::plain(format!("{name}, {case}"), name.clone(), value(measured, direct?)))
            })
        });
        Plot::Bars(Bars { title, caption: caption.to_owned(), unit, bars: bars.collect() })
    };
    // One scale for all would show the largest case alone: they differ a thousandfold.
    let latencies = cases.iter().map(|case| {
        bars(
            format!("Added latency, median, {case}"),
            "A proxy's median less the direct one of the same round; c is the number of connections. Lower is better.",
            Unit::Time,
            std::slice::from_ref(case),
            &judge::added_p50,
        )
    });
    let others = [
        bars(
            "Processor time per request".to_owned(),
            "Of the proxy's process alone. Lower is better.",
            Unit::Time,
            cases,
            &|measured, _| median(measured.rounds.iter().map(|round| round.cpu_us)),
        ),
        bars(
            "Requests per second".to_owned(),
            "Successes, proxy on one core. Higher is better.",
            Unit::Count,
            cases,
            &|measured, _| median(measured.rounds.iter().map(|round| round.per_second)).round(),
        ),
    ];
    latencies.chain(others).collect()
}
