//! A trace of bursts over many models, most of them rarely asked, with and without a warm pool.

mod judge;
mod trace;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::oneshot;

use super::{Findings, StackOptions, count, number_in};
use crate::http1::Keep;
use crate::open_loop::{self, Shot, Target};
use crate::outcome::Outcome;
use crate::plot::{Axis, Bar, Bars, Chart, Curve, Mark, Plot, Scale, Segment, Unit};
use crate::progress::Progress;
use crate::record::Recorder;
use crate::report::Report;
use crate::stack::{ModelSpec, Stack, StackSettings};
use crate::status::{Claims, Status};

/// How long every model may take to reach zero and the pool to fill.
const PATIENCE: Duration = Duration::from_secs(60);

/// A caller's patience.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// How much faster than told a trace can be played: from slower than life to what a stack of processes can follow.
const SQUEEZES: RangeInclusive<f64> = 0.1..=1000.0;

/// How often replicas are counted.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// A trace of bursts over 20 models with Zipf popularity, with a warm pool and without
///
/// Ten minutes of bursts are squeezed into one: arrivals come ten times as fast and models go back to zero ten times as
/// soon. Every pool size gets the same trace. The hit rate is the share of activations that found a warm replica;
/// replica-seconds are what both kinds of replicas took, in squeezed time.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Sizes of the warm pool to compare
    #[arg(long, value_delimiter = ',', default_value = "4,0")]
    pub pools: Vec<u32>,
    /// Models
    #[arg(long, default_value_t = 20, value_parser = count::<usize>(), conflicts_with = "quick")]
    pub models: usize,
    /// Length of the trace in seconds, squeezed
    #[arg(long, default_value_t = 60, value_parser = count::<u64>(), conflicts_with = "quick")]
    pub seconds: u64,
    /// How much faster than told the trace is played
    #[arg(long, default_value_t = 10.0, value_parser = |text: &str| number_in(&SQUEEZES, text))]
    pub squeeze: f64,
    /// What it runs on.
    #[command(flatten)]
    pub stack: StackOptions,
}

/// What one pool size showed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pool: u32,
    pub(crate) sent: usize,
    pub(crate) all: Recorder,
    pub(crate) cold: Recorder,
    pub(crate) claims: Claims,
    /// Replica-seconds of models and of the idle pool.
    pub(crate) owned_seconds: f64,
    pub(crate) idle_seconds: f64,
    elapsed: Duration,
    /// Time to first byte of cold answers, over time.
    cold_points: Vec<(f64, f64)>,
    counts: Vec<Count>,
}

/// Replicas at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Count {
    pub(crate) at: f64,
    pub(crate) owned: f64,
    pub(crate) idle: f64,
}

/// Runs the scenario.
///
/// # Errors
/// The stack could not be started or asked.
pub async fn run(args: &Args) -> anyhow::Result<Findings> {
    let options = &args.stack;
    let mut args = args.clone();
    if options.length.quick {
        (args.models, args.seconds) = (4, 3);
    }
    let mut report = Report::begin("zipf", options.seed);
    let shape = trace::Shape { models: args.models, length: Duration::from_secs(args.seconds), squeeze: args.squeeze };
    let plan = shape.draw(options.seed);
    let mut all = Vec::new();
    for &pool in &args.pools {
        let seen = one_pool(&args, options, pool, &plan, &mut report).await;
        all.push(seen.with_context(|| format!("with a pool of {pool}"))?);
    }
    for seen in &all {
        report.series.push(seen.all.series(
            &format!("pool {}, all", seen.pool),
            "every request of the trace",
            seen.elapsed,
        ));
        let cold = format!("pool {}, cold starts", seen.pool);
        report.series.push(seen.cold.series(
            &cold,
            "first byte of answers that waited for a fresh replica",
            seen.elapsed,
        ));
    }
    judge::compare(&all, &mut report);
    Ok(Findings { plots: plots(&all), report })
}

async fn one_pool(
    args: &Args,
    options: &StackOptions,
    pool: u32,
    plan: &[Shot],
    report: &mut Report,
) -> anyhow::Result<Seen> {
    let names: Vec<String> = (1..=args.models).map(|rank| format!("model-{rank:02}")).collect();
    let idle = trace::SCALE_TO_ZERO_AFTER.div_f64(args.squeeze);
    let models: Vec<_> = names.iter().map(|name| ModelSpec::new(name, idle)).collect();
    let model_file = options.model_file()?;
    let settings = StackSettings { binaries: &options.binaries, model_file, pool, order: None };
    let stack = Stack::start(&settings, &models).await?;
    report.command(stack.command_line());
    let mut targets = Vec::new();
    for name in &names {
        let request = stack.request(name, options.seed, &[]).await?;
        targets.push(Target { addr: stack.gateway, request, keep: Keep::Labels, patience: ANSWER_PATIENCE });
    }
    let before = stack
        .wait_until("every model at zero and the pool full", PATIENCE, |s| s.owned() == 0 && s.pools_full())
        .await?;

    let mut seen = Seen { pool, sent: plan.len(), ..Seen::default() };
    let mut progress = Progress::start(&format!("trace, pool {pool}"), plan.len() as u64);
    let start = Instant::now();
    let (stop, stopped) = oneshot::channel();
    let counting = tokio::spawn(count_replicas(stack.admin, start, stopped));
    open_loop::run(plan.to_vec(), &targets, start, |outcome| {
        seen.take(&outcome);
        progress.step();
    })
    .await;
    seen.elapsed = start.elapsed();
    drop(progress);
    // The counter has ended by itself only when it failed, which it then returns.
    let _ = stop.send(());
    seen.counts = counting.await.context("counting replicas panicked")??;
    (seen.owned_seconds, seen.idle_seconds) = judge::integrate(&seen.counts);
    seen.claims = stack.status().await?.claims().since(before.claims());
    stack.stop()?;
    Ok(seen)
}

impl Seen {
    fn take(&mut self, outcome: &Outcome) {
        self.all.outcome(outcome);
        if outcome.succeeded() && outcome.woke_a_replica() {
            self.cold.outcome_by_first_byte(outcome);
            let microseconds = outcome.time_to_first_byte().as_secs_f64() * 1e6;
            self.cold_points.push((outcome.intended.as_secs_f64(), microseconds));
        }
    }
}

async fn count_replicas(
    admin: SocketAddr,
    start: Instant,
    mut stopped: oneshot::Receiver<()>,
) -> anyhow::Result<Vec<Count>> {
    let mut counts = Vec::new();
    loop {
        let status = Status::ask(admin).await?;
        counts.push(Count {
            at: start.elapsed().as_secs_f64(),
            owned: status.owned() as f64,
            idle: status.idle() as f64,
        });
        tokio::select! {
            _ = &mut stopped => return Ok(counts),
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
    }
}

fn plots(all: &[Seen]) -> Vec<Plot> {
    let curve = |name: String, mark, points| Curve { name, points, mark };
    let over_time = |title: &str, caption: &str, y, curves| {
        Plot::Chart(Chart {
            title: title.to_owned(),
            caption: caption.to_owned(),
            x: Axis::new("time into the squeezed trace", Scale::Linear, Unit::Seconds),
            y,
            curves,
        })
    };
    let named = |seen: &Seen| format!("pool {}", seen.pool);
    let bars = all.iter().map(|seen| Bar {
        label: named(seen),
        segments: vec![
            Segment { name: "of models".to_owned(), value: seen.owned_seconds },
            Segment { name: "idle in the pool".to_owned(), value: seen.idle_seconds },
        ],
    });
    vec![
        over_time(
            "Cold starts over the trace",
            "One dot for each answer that waited for a fresh replica: its time to first byte.",
            Axis::new("time to first byte", Scale::Log, Unit::Time),
            all.iter().map(|seen| curve(named(seen), Mark::Dots, seen.cold_points.clone())).collect(),
        ),
        Plot::Chart(Chart {
            title: "Every request".to_owned(),
            caption: "Latency from the intended time, cold and warm.".to_owned(),
            x: Axis::new("share of requests", Scale::Percentile, Unit::Share),
            y: Axis::new("latency", Scale::Log, Unit::Time),
            curves: all.iter().map(|seen| curve(named(seen), Mark::Line, seen.all.latency.curve())).collect(),
        }),
        over_time(
            "Replicas",
            "Replicas of models, and those that wait in the pool.",
            Axis::new("replicas", Scale::Linear, Unit::Count),
            all.iter()
                .flat_map(|seen| {
                    let points =
                        |value: fn(&Count) -> f64| seen.counts.iter().map(|count| (count.at, value(count))).collect();
                    let models = curve(format!("{}, models", named(seen)), Mark::Step, points(|count| count.owned));
                    let idle = curve(format!("{}, idle", named(seen)), Mark::Step, points(|count| count.idle));
                    if seen.pool > 0 { vec![models, idle] } else { vec![models] }
                })
                .collect(),
        ),
        Plot::Bars(Bars {
            title: "Replica-seconds".to_owned(),
            caption: "What the trace took: a warm pool buys its speed with replicas that wait.".to_owned(),
            unit: Unit::Seconds,
            bars: bars.collect(),
        }),
    ]
}
