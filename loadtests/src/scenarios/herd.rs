//! A thousand callers at the same moment, a model at zero, one replica allowed.

mod judge;
mod watch;

use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Findings, StackOptions, count};
use crate::http1::Keep;
use crate::open_loop::{self, Shot, Target};
use crate::outcome::Outcome;
use crate::plot::{Axis, Chart, Curve, Mark, Plot, Scale, Unit};
use crate::progress::Progress;
use crate::record::Recorder;
use crate::report::Report;
use crate::stack::{ModelSpec, Stack, StackSettings};

/// The model's name.
const MODEL: &str = "digits";

/// Deadlines of the callers, dealt out in turn. The short ones pass while the herd is served, so that both ends are seen:
/// the answer in time and the 504 after the caller's own deadline.
const DEADLINES: [Duration; 5] = [
    Duration::from_secs(30),
    Duration::from_secs(30),
    Duration::from_secs(30),
    Duration::from_millis(100),
    Duration::from_millis(20),
];

/// How long after its deadline a caller still waits for its answer, to tell a late answer from a lost one.
const GRACE: Duration = Duration::from_secs(20);

/// How long the model may take to reach zero again.
const PATIENCE: Duration = Duration::from_secs(60);

/// A thousand requests at once to a model at zero that may have one replica
///
/// Every request must be answered with 200, or with 504 after its own deadline; the replica must never run more than its
/// containerConcurrency. Exits with 1 when that is broken.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Requests
    #[arg(long, default_value_t = 1000, value_parser = count::<usize>())]
    pub requests: usize,
    /// Values of containerConcurrency to try
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_parser = count::<u32>(), conflicts_with = "quick")]
    pub concurrency: Vec<u32>,
    /// Idle replicas in the warm pool
    #[arg(long, default_value_t = 1)]
    pub pool: u32,
    /// What it runs on.
    #[command(flatten)]
    pub stack: StackOptions,
}

/// Runs the scenario.
///
/// # Errors
/// The stack could not be started or asked.
pub async fn run(args: &Args) -> anyhow::Result<Findings> {
    let options = &args.stack;
    let mut args = args.clone();
    if options.length.quick {
        args.concurrency.truncate(1);
    }
    let mut report = Report::begin("herd", options.seed);
    let mut dots = Vec::new();
    for &concurrency in &args.concurrency {
        let outcomes = one_herd(&args, options, concurrency, &mut report)
            .await
            .with_context(|| format!("with containerConcurrency {concurrency}"))?;
        dots.push(Curve {
            name: format!("containerConcurrency {concurrency}"),
            points: outcomes
                .iter()
                .filter(|o| o.succeeded())
                .map(|o| (o.done.as_secs_f64(), o.latency().as_secs_f64() * 1e6))
                .collect(),
            mark: Mark::Dots,
        });
    }
    let plot = Plot::Chart(Chart {
        title: "Answers with 200".to_owned(),
        caption: "All requests are sent at 0. One dot for each answer: when it came and how long it took.".to_owned(),
        x: Axis::new("time since the herd was sent", Scale::Linear, Unit::Seconds),
        y: Axis::new("latency", Scale::Log, Unit::Time),
        curves: dots,
    });
    Ok(Findings { report, plots: vec![plot] })
}

async fn one_herd(
    args: &Args,
    options: &StackOptions,
    concurrency: u32,
    report: &mut Report,
) -> anyhow::Result<Vec<Outcome>> {
    let model = ModelSpec { max_replicas: 1, concurrency, ..ModelSpec::new(MODEL, Duration::from_secs(2)) };
    let model_file = options.model_file()?;
    let settings = StackSettings { binaries: &options.binaries, model_file, pool: args.pool, order: None };
    let stack = Stack::start(&settings, &[model]).await?;
    report.command(stack.command_line());
    stack.wait_until("the model at zero and the pool full", PATIENCE, |s| s.at_zero(MODEL) && s.pools_full()).await?;

    let mut targets = Vec::new();
    for deadline in DEADLINES {
        let timeout = deadline.as_secs_f64().to_string();
        targets.push(Target {
            addr: stack.gateway,
            request: stack.request(MODEL, options.seed, &[("x-request-timeout", &timeout)]).await?,
            keep: Keep::Labels,
            patience: deadline + GRACE,
        });
    }
    let plan = (0..args.requests).map(|index| Shot { at: Duration::ZERO, target: index % targets.len() }).collect();
    let watch = watch::Watch::start(stack.admin, MODEL);
    let mut progress =
        Progress::start(&format!("{} at once, concurrency {concurrency}", args.requests), args.requests as u64);
    let mut recorder = Recorder::default();
    let mut outcomes = Vec::new();
    let start = Instant::now();
    open_loop::run(plan, &targets, start, |outcome| {
        recorder.outcome(&outcome);
        outcomes.push(outcome);
        progress.step();
    })
    .await;
    let elapsed = start.elapsed();
    drop(progress);
    let peaks = watch.end().await?;

    let name = format!("containerConcurrency {concurrency}");
    report.series.push(recorder.series(&name, &format!("{} requests at once", args.requests), elapsed));
    report.figure(format!("peak_in_flight_concurrency_{concurrency}"), f64::from(peaks.in_flight()));
    report.figure(format!("peak_replicas_concurrency_{concurrency}"), peaks.replicas as f64);
    report.verdicts.extend(judge::judge(&outcomes, args.requests, &DEADLINES, concurrency, &peaks));
    stack.stop()?;
    Ok(outcomes)
}
