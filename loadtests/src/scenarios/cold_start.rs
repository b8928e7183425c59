//! The first byte of a model at zero: alone, and when several models wake at once.

mod judge;
mod knative;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Findings, StackOptions, count};
use crate::http1::{self, Connection, Keep};
use crate::open_loop::Shot;
use crate::outcome::Outcome;
use crate::plot::{Axis, Bar, Bars, Chart, Curve, Mark, Plot, Scale, Unit};
use crate::progress::Progress;
use crate::record::Recorder;
use crate::report::Report;
use crate::stack::{ModelSpec, Order, Stack, StackSettings};
use crate::status::Claims;

/// Models of the stack. A sample takes the next in turn, while those before it go back to zero.
const MODELS: usize = 8;

/// Models that a burst wakes at once: one half of them, then the other.
const BURST: usize = 4;

/// How long a model may take to reach zero and the pool to fill.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a cold start may take before it counts as lost.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// What is woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// A stack on this machine, started for the scenario
    #[default]
    Embedded,
    /// Services of stock Knative in the cluster of KUBECONFIG
    Knative,
}

/// Sizes of the warm pool that are compared.
const POOLS: [u32; 3] = [0, 1, 4];

/// Bursts for each pool size.
const BURSTS: usize = 25;

/// Idle time after which the models go back to zero.
const SCALE_TO_ZERO: Duration = Duration::from_millis(300);

/// Time to the first byte of a model at zero: with warm pools of several sizes, or of stock Knative
///
/// With --target knative, Services of stock Knative take turns in the cluster of KUBECONFIG. Before each sample Knative wants no
/// replica of the Service, and no pod of it is left, ending ones included. A sample is one inference sent to Knative's own
/// activator with the headers that an ingress sets. Its parts, in order: activator (until the pod exists), schedule, sandbox,
/// containers (until the model server's process begins), load (until its port answers), answer (until the first byte). It runs
/// where pods and cluster IPs are reached: inside e2e/enter, or on a node.
///
/// Else, before each sample the model has no replica and the pool is full, as /status says. A sample is one inference over an
/// open connection to the gateway; its time runs from the send to the first byte. Then bursts: four models at zero are
/// asked at the same moment.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What is woken
    #[arg(long, value_enum, default_value_t)]
    pub target: Target,
    /// Samples for each pool size, or of Knative
    #[arg(long, default_value_t = 120, value_parser = count::<usize>(), conflicts_with = "quick")]
    pub samples: usize,
    /// Sizes of the warm pool to compare [default: 0,1,4]
    #[arg(long, value_delimiter = ',')]
    pub pools: Option<Vec<u32>>,
    /// Bursts for each pool size [default: 25]
    #[arg(long, value_parser = count::<usize>(), conflicts_with = "quick")]
    pub bursts: Option<usize>,
    /// Order of a claim's steps; by default the product's own
    #[arg(long)]
    pub order: Option<Order>,
    /// Idle time after which the models go back to zero, in milliseconds [default: 300]
    #[arg(long)]
    pub scale_to_zero_ms: Option<u64>,
    /// What it runs on.
    #[command(flatten)]
    pub stack: StackOptions,
    #[allow(missing_docs, reason = "a doc comment here would become the help text")]
    #[command(flatten)]
    pub knative: knative::Args,
}

/// What is asked of the stack on this machine.
struct Plan {
    samples: usize,
    bursts: usize,
    order: Option<Order>,
    scale_to_zero: Duration,
}

/// What one pool size showed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pool: u32,
    pub(crate) single: Recorder,
    pub(crate) burst: Recorder,
    /// The slowest of each burst.
    pub(crate) burst_last: Recorder,
    pub(crate) burst_claims: Claims,
    /// Answers of single samples that did not come from a fresh replica.
    pub(crate) not_cold: usize,
    single_for: Duration,
    burst_for: Duration,
}

/// Runs the scenario.
///
/// # Errors
/// The stack could not be started, or did not reach the state that a sample starts from.
pub async fn run(args: &Args) -> anyhow::Result<Findings> {
    let options = &args.stack;
    let samples = if options.length.quick { 4 } else { args.samples };
    match args.target {
        Target::Embedded => {
            ensure!(!args.knative.is_given(), "an option of --target knative is given, but not --target knative");
            embedded(args, samples, options).await
        }
        Target::Knative => {
            let given = args.pools.is_some() || args.bursts.is_some() || args.order.is_some();
            ensure!(
                !given && args.scale_to_zero_ms.is_none(),
                "--pools, --bursts, --order and --scale-to-zero-ms are for the stack on this machine, not for --target knative"
            );
            knative::run(&args.knative, samples, options).await
        }
    }
}

async fn embedded(args: &Args, samples: usize, options: &StackOptions) -> anyhow::Result<Findings> {
    let plan = Plan {
        samples,
        bursts: if options.length.quick { 1 } else { args.bursts.unwrap_or(BURSTS) },
        order: args.order,
        scale_to_zero: args.scale_to_zero_ms.map_or(SCALE_TO_ZERO, Duration::from_millis),
    };
    let mut report = Report::begin("cold-start", options.seed);
    let mut all = Vec::new();
    for &pool in args.pools.as_deref().unwrap_or(&POOLS) {
        all.push(with_pool(&plan, options, pool, &mut report).await.with_context(|| format!("with a pool of {pool}"))?);
    }
    for seen in &all {
        report.series.push(seen.single.series(&format!("pool {}", seen.pool), "one model at zero", seen.single_for));
    }
    for seen in &all {
        let name = format!("burst, pool {}", seen.pool);
        report.series.push(seen.burst.series(&name, &format!("{BURST} models at zero at once"), seen.burst_for));
        let name = format!("burst's last, pool {}", seen.pool);
        report.series.push(seen.burst_last.series(&name, "the last answered of each burst", seen.burst_for));
        report.ratio(format!("burst_hit_rate_pool_{}", seen.pool), seen.burst_claims.hit_rate());
    }
    judge::compare(&all, &mut report);
    Ok(Findings { plots: plots(&all, &report), report })
}

async fn with_pool(plan: &Plan, options: &StackOptions, pool: u32, report: &mut Report) -> anyhow::Result<Seen> {
    let names: Vec<String> = (0..MODELS).map(|index| format!("digits-{index}")).collect();
    let idle = plan.scale_to_zero;
    let models: Vec<_> = names.iter().map(|name| ModelSpec { max_replicas: 1, ..ModelSpec::new(name, idle) }).collect();
    let model_file = options.model_file()?;
    let settings = StackSettings { binaries: &options.binaries, model_file, pool, order: plan.order };
    let stack = Stack::start(&settings, &models).await?;
    report.command(stack.command_line());
    let mut requests = Vec::new();
    for name in &names {
        requests.push(stack.request(name, options.seed, &[]).await?);
    }
    let mut seen = Seen { pool, ..Seen::default() };

    let start = Instant::now();
    let mut connection = Some(Connection::open(stack.gateway).await?);
    let mut progress = Progress::start(&format!("cold starts, pool {pool}"), plan.samples as u64);
    for sample in 0..plan.samples {
        let name = &names[sample % MODELS];
        stack
            .wait_until(&format!("{name} at zero and the pool full"), PATIENCE, |s| s.at_zero(name) && s.pools_full())
            .await?;
        let open = match connection.take() {
            Some(open) if !open.is_stale() => open,
            _ => Connection::open(stack.gateway).await?,
        };
        let (outcome, reusable) = ask(open, requests[sample % MODELS].clone(), start).await;
        connection = reusable;
        seen.not_cold += usize::from(outcome.succeeded() && !outcome.woke_a_replica());
        seen.single.outcome_by_first_byte(&outcome);
        progress.step();
    }
    drop(progress);
    seen.single_for = start.elapsed();

    let start = Instant::now();
    let mut progress = Progress::start(&format!("bursts, pool {pool}"), plan.bursts as u64);
    for burst in 0..plan.bursts {
        let from = burst * BURST % MODELS;
        let woken = &names[from..from + BURST];
        let before = stack
            .wait_until("the models of a burst at zero and the pool full", PATIENCE, |s| {
                woken.iter().all(|name| s.at_zero(name)) && s.pools_full()
            })
            .await?;
        let mut asked = JoinSet::new();
        for request in &requests[from..from + BURST] {
            let open = Connection::open(stack.gateway).await?;
            asked.spawn(ask(open, request.clone(), start));
        }
        let mut last: Option<Outcome> = None;
        while let Some(outcome) = asked.join_next().await {
            let (outcome, _) = outcome.context("a request's task panicked")?;
            seen.burst.outcome_by_first_byte(&outcome);
            if last.as_ref().is_none_or(|last| outcome.first_byte > last.first_byte) {
                last = Some(outcome);
            }
        }
        if let Some(last) = last {
            seen.burst_last.outcome_by_first_byte(&last);
        }
        let claims = stack.status().await?.claims().since(before.claims());
        seen.burst_claims.hits += claims.hits;
        seen.burst_claims.misses += claims.misses;
        progress.step();
    }
    drop(progress);
    seen.burst_for = start.elapsed();
    stack.stop()?;
    Ok(seen)
}

async fn ask(mut connection: Connection, request: Bytes, start: Instant) -> (Outcome, Option<Connection>) {
    let sent = start.elapsed();
    let result = http1::within(ANSWER_PATIENCE, connection.exchange(&request, Keep::Labels)).await;
    let reusable = result.as_ref().is_ok_and(|answer| answer.reusable);
    (Outcome::ended(Shot { at: sent, target: 0 }, sent, start, result), reusable.then_some(connection))
}

fn plots(all: &[Seen], report: &Report) -> Vec<Plot> {
    let curves = |recorder: fn(&Seen) -> &Recorder| {
        all.iter()
            .map(|seen| Curve {
                name: format!("pool {}", seen.pool),
                points: recorder(seen).latency.curve(),
                mark: Mark::Line,
            })
            .collect()
    };
    let chart = |title: &str, caption: &str, curves| {
        Plot::Chart(Chart {
            title: title.to_owned(),
            caption: caption.to_owned(),
            x: Axis::new("share of samples", Scale::Percentile, Unit::Share),
            y: Axis::new("time to first byte", Scale::Log, Unit::Time),
            curves,
        })
    };
    let bars = all.iter().filter_map(|seen| {
        let series = report.find(&format!("pool {}", seen.pool))?;
        let phase = |name: &str| series.phases_us.get(name).map_or(0.0, |latency| latency.p50);
        Some(Bar { label: format!("pool {}", seen.pool), segments: judge::segments(series.latency_us.p50, phase) })
    });
    let bars = bars.collect();
    vec![
        chart(
            "One model wakes",
            "Lower is better. At 50 % the median; each further nine takes the same room.",
            curves(|seen| &seen.single),
        ),
        Plot::Bars(Bars {
            title: "Where the time goes".to_owned(),
            caption:
                "Medians of the phases that the answers tell in server-timing, one model waking. Claim, specialize and \
                      load happen while the gateway holds the request."
                    .to_owned(),
            unit: Unit::Time,
            bars,
        }),
        chart("Four models wake at once", "Every request of every burst.", curves(|seen| &seen.burst)),
    ]
}
