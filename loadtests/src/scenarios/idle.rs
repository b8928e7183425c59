//! What a warm replica costs while nobody needs it.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::{Findings, Length, count};
use crate::binaries;
use crate::http1::{self, Connection, Keep};
use crate::plot::{Axis, Chart, Curve, Mark, Plot, Scale, Unit};
use crate::proc_stats;
use crate::process::Process;
use crate::progress::Progress;
use crate::record::Recorder;
use crate::report::{Report, Standing, Verdict};
use crate::table::time;

/// An Ed25519 public key in base64 whose private half nobody has: these wrappers are never claimed.
const UNUSED_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// How long a wrapper may take until it is ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// Rest before memory is read: what was needed to start has been given back by then.
const REST: Duration = Duration::from_millis(300);

/// From spawn to ready.
const BUDGET_READY_US: f64 = 150_000.0;

/// Resident memory.
const BUDGET_RSS_BYTES: u64 = 40_000_000;

/// Time from spawn to ready and memory of an idle wrapper, as it stands in a warm pool
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Wrappers to start, one after the other
    #[arg(long, default_value_t = 30, value_parser = count::<u64>(), conflicts_with = "quick")]
    pub samples: u64,
    /// What is started.
    #[command(flatten)]
    pub wrapper: binaries::Wrapper,
    /// How long it takes.
    #[command(flatten)]
    pub length: Length,
}

/// Runs the scenario.
///
/// # Errors
/// A wrapper did not become ready.
pub async fn run(args: &Args) -> anyhow::Result<Findings> {
    let samples = if args.length.quick { 2 } else { args.samples };
    let mut report = Report::begin("idle", None);
    let mut ready = Recorder::default();
    let mut rss = 0;
    let start = Instant::now();
    let mut progress = Progress::start("idle wrappers", samples);
    for _ in 0..samples {
        let mut command = Command::new(args.wrapper.find()?);
        command.args(["--pooled", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
        command.args(["--claim-key", UNUSED_KEY, "--pod-uid", "idle"]);
        let spawned = Instant::now();
        let mut process = Process::start("model-wrapper", command, None)?;
        let addr = process.ready(READY_PATIENCE).await?.ready;
        let health = http1::get(&addr.to_string(), "/v2/health/ready");
        let answer = Connection::open(addr).await?.exchange(&health, Keep::Nothing).await?;
        ready.success(spawned.elapsed());
        if answer.status != 200 {
            bail!("an idle wrapper that announced itself ready answered {} to /v2/health/ready", answer.status);
        }
        tokio::time::sleep(REST).await;
        rss = rss.max(proc_stats::usage(process.pid())?.rss_bytes);
        report.command(process.command_line());
        process.stop()?;
        progress.step();
    }
    drop(progress);
    let mut series = ready.series("spawn to ready", "model-wrapper --pooled", start.elapsed());
    series.rss_bytes = Some(rss);
    report.series.push(series);
    report.verdicts.extend(judge(ready.latency.count(), ready.latency.quantile_us(0.5), rss));
    let plot = Plot::Chart(Chart {
        title: "Spawn to ready".to_owned(),
        caption: "From the start of the process to its answer to /v2/health/ready.".to_owned(),
        x: Axis::new("share of samples", Scale::Percentile, Unit::Share),
        y: Axis::new("time", Scale::Linear, Unit::Time),
        curves: vec![Curve { name: "ready".to_owned(), points: ready.latency.curve(), mark: Mark::Line }],
    });
    Ok(Findings { report, plots: vec![plot] })
}

fn judge(samples: u64, ready_p50_us: f64, rss_bytes: u64) -> [Verdict; 2] {
    [
        Verdict::budget(
            format!("ready at most {} after spawn (median)", time(BUDGET_READY_US)),
            Standing::from(ready_p50_us <= BUDGET_READY_US).over(samples),
            time(ready_p50_us),
        ),
        Verdict::budget(
            format!("resident memory at most {} MB (largest)", BUDGET_RSS_BYTES / 1_000_000),
            Standing::from(rss_bytes <= BUDGET_RSS_BYTES).over(samples),
            format!("{:.1} MB", rss_bytes as f64 / 1e6),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_budget_can_be_missed() {
        let held = |p50, rss| judge(1, p50, rss).map(|verdict| verdict.is_held());
        assert_eq!(held(149_000.0, 39_000_000), [true, true]);
        assert_eq!(held(151_000.0, 39_000_000), [false, true]);
        assert_eq!(held(149_000.0, 41_000_000), [true, false]);
    }

    #[test]
    fn no_wrapper_is_within_no_budget() {
        assert_eq!(judge(0, 0.0, 0).map(|verdict| verdict.standing), [Standing::Unseen; 2]);
    }
}
