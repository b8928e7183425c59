//! Wrapper processes killed at random under load.

mod judge;
mod killer;
mod leaks;

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Findings, StackOptions, count, number_in};
use crate::arrivals::{Arrivals, Spread};
use crate::http1::Keep;
use crate::open_loop::{self, Shot, Target};
use crate::outcome::Outcome;
use crate::plot::{Axis, Chart, Curve, Mark, Plot, Scale, Unit};
use crate::progress::Progress;
use crate::record::Recorder;
use crate::report::Report;
use crate::stack::{ModelSpec, Stack, StackSettings};

use killer::Kill;

/// Models under load.
const MODELS: [&str; 3] = ["digits-a", "digits-b", "digits-c"];

/// Replicas that each model keeps, so that a kill leaves one that could take what is retried.
const MIN_REPLICAS: u32 = 2;

/// Requests to each model around a kill, within [`VOLLEY_SPREAD`]: a run of the model takes so little time that a kill
/// would otherwise seldom meet one.
const VOLLEY: u32 = 12;

/// Time before and after a kill in which the volley is sent.
const VOLLEY_SPREAD: Duration = Duration::from_millis(3);

/// A caller's patience.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Rates of the load that can be asked for: none, so that only volleys are sent, up to more than one thread keeps.
const RATES: RangeInclusive<f64> = 0.0..=100_000.0;

/// How long the stack may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(60);

/// SIGKILL to random wrapper processes under load
///
/// Only requests in flight on a killed process may fail; the pool must refill; no process, socket or gauge may be left
/// over. Around each kill a volley of requests makes sure that some are in flight. Exits with 1 when that is broken.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 60, value_parser = count::<u64>(), conflicts_with = "quick")]
    pub seconds: u64,
    /// Requests per second besides the volleys
    #[arg(long, default_value_t = 100.0, value_parser = |text: &str| number_in(&RATES, text))]
    pub rate: f64,
    /// How they are spread over time
    #[arg(long, default_value = "poisson")]
    pub arrivals: Spread,
    /// Mean time between kills in milliseconds, Poisson
    #[arg(long, default_value_t = 1500, value_parser = count::<u64>(), conflicts_with = "quick")]
    pub kill_every_ms: u64,
    /// Idle replicas in the warm pool
    #[arg(long, default_value_t = 4, conflicts_with = "quick")]
    pub pool: u32,
    /// What it runs on.
    #[command(flatten)]
    pub stack: StackOptions,
}

/// Runs the scenario.
///
/// # Errors
/// The stack could not be started or asked, or a process could not be killed.
pub async fn run(args: &Args) -> anyhow::Result<Findings> {
    let options = &args.stack;
    let mut args = args.clone();
    if options.length.quick {
        (args.seconds, args.kill_every_ms, args.pool) = (4, 700, 2);
    }
    let mut report = Report::begin("chaos", options.seed);
    let models =
        MODELS.map(|name| ModelSpec { min_replicas: MIN_REPLICAS, ..ModelSpec::new(name, Duration::from_secs(600)) });
    let model_file = options.model_file()?;
    let settings = StackSettings { binaries: &options.binaries, model_file, pool: args.pool, order: None };
    let stack = Stack::start(&settings, &models).await?;
    report.command(stack.command_line());
    wait_until_whole(&stack).await?;
    let mut targets = Vec::new();
    for name in MODELS {
        let request = stack.request(name, options.seed, &[]).await?;
        targets.push(Target { addr: stack.gateway, request, keep: Keep::Labels, patience: ANSWER_PATIENCE });
    }

    let length = Duration::from_secs(args.seconds);
    let kill_times = kill_times(args.kill_every_ms, options.seed, length);
    let plan = plan(Arrivals::new(args.arrivals, args.rate, options.seed), options.seed, length, &kill_times);
    let sent = plan.len();
    let mut progress = Progress::start("requests under chaos", sent as u64);
    let mut recorder = Recorder::default();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let start = Instant::now();
    let killing = tokio::spawn(killer::run(stack.admin, stack.pid(), kill_times, start, options.seed));
    open_loop::run(plan, &targets, start, |outcome| {
        recorder.outcome(&outcome);
        outcomes.push(outcome);
        progress.step();
    })
    .await;
    let elapsed = start.elapsed();
    drop(progress);
    let kills = killing.await.context("the killer panicked")??;
    let whole = wait_until_whole(&stack).await;
    let leaks = leaks::look(&stack).await?;

    report.series.push(recorder.series("requests", "three models of two replicas", elapsed));
    report.figure("kills", kills.len() as f64);
    report.figure("failed_in_flight_on_a_killed_process", judge::explained(&outcomes, &kills) as f64);
    report.verdicts.extend(judge::judge(&outcomes, sent, &kills));
    report.verdicts.push(judge::refilled(&whole));
    report.verdicts.extend(leaks.verdicts());
    let plots = vec![plot(&outcomes, &kills)];
    stack.stop()?;
    Ok(Findings { report, plots })
}

async fn wait_until_whole(stack: &Stack) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let whole = stack.wait_until("every model at its replicas and the pool full", PATIENCE, |status| {
        status.pools_full() && MODELS.iter().all(|model| status.serving(model) >= MIN_REPLICAS as usize)
    });
    whole.await.map(|_| start.elapsed())
}

/// Kills stop a little before the load does, so that the last one is seen under load too.
fn kill_times(every_ms: u64, seed: u64, length: Duration) -> Vec<Duration> {
    let per_second = 1000.0 / every_ms as f64;
    Arrivals::new(Spread::Poisson, per_second, seed).until(length.mul_f64(0.9))
}

/// Steady load over all models, and a volley around each kill; by time.
fn plan(load: Arrivals, seed: u64, length: Duration, kill_times: &[Duration]) -> Vec<Shot> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut plan: Vec<Shot> =
        load.until(length).into_iter().map(|at| Shot { at, target: random.random_range(0..MODELS.len()) }).collect();
    for kill in kill_times {
        for shot in 0..VOLLEY {
            let at = kill.saturating_sub(VOLLEY_SPREAD) + (VOLLEY_SPREAD * 2 * shot) / VOLLEY;
            plan.extend((0..MODELS.len()).map(|target| Shot { at, target }));
        }
    }
    plan.sort_by_key(|shot| shot.at);
    plan
}

fn plot(outcomes: &[Outcome], kills: &[Kill]) -> Plot {
    let points = |kept: fn(&Outcome) -> bool| {
        let kept = outcomes.iter().filter(|outcome| kept(outcome));
        kept.map(|outcome| (outcome.intended.as_secs_f64(), outcome.latency().as_secs_f64() * 1e6)).collect::<Vec<_>>()
    };
    let curve = |name: &str, points| Curve { name: name.to_owned(), points, mark: Mark::Dots };
    Plot::Chart(Chart {
        title: "Requests under chaos".to_owned(),
        caption: format!("One dot for each request; {} processes were killed.", kills.len()),
        x: Axis::new("time of the request", Scale::Linear, Unit::Seconds),
        y: Axis::new("latency", Scale::Log, Unit::Time),
        curves: vec![
            curve("answered with 200", points(Outcome::succeeded)),
            curve("failed", points(|outcome| !outcome.succeeded())),
            curve("a process was killed", kills.iter().map(|kill| (kill.at.as_secs_f64(), 100.0)).collect()),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volley_meets_every_kill_on_every_model() {
        let length = Duration::from_secs(10);
        let kills = kill_times(500, 1, length);
        assert!(!kills.is_empty() && kills.iter().all(|kill| *kill < Duration::from_secs(9)));
        let plan = plan(Arrivals::new(Spread::Poisson, 50.0, 1), 1, length, &kills);
        assert!(plan.is_sorted_by_key(|shot| shot.at));
        for kill in kills {
            for target in 0..MODELS.len() {
                let close = plan.iter().filter(|shot| shot.target == target && shot.at.abs_diff(kill) <= VOLLEY_SPREAD);
                assert!(close.count() >= VOLLEY as usize);
            }
        }
    }
}
