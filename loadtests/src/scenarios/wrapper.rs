//! What the model server costs above the model.

mod judge;
mod kserve;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::builder::ArgPredicate;

use super::{Findings, Length, count};
use crate::affinity::{self, Split};
use crate::bare::BareLoop;
use crate::binaries;
use crate::closed_loop::ClosedLoop;
use crate::inference::{Encoding, Inference};
use crate::plot::{Bar, Bars, Plot, Unit};
use crate::process::Process;
use crate::progress::Progress;
use crate::record::Recorder;
use crate::report::{Report, Series};
use crate::rounds::{self, median};
use crate::steady_loop::SteadyLoop;

/// How long a server may take until it is ready: Python's imports on a busy machine.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// Requests per second and processor time of model-wrapper beside a bare ONNX Runtime loop
///
/// The bare loop runs on one core with one thread for the model, the load on another. The server runs on the loop's core, and
/// a second one with only the model's thread there and the others beside the load. They take turns of a fraction of a second,
/// each round in another order, and are compared within a round: the speed of a shared machine wanders over seconds. Figures
/// are medians of rounds. Real models are compared with the loop by requests per second, the tiny one by processor time: what
/// the server adds.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the models of `make models` are
    #[arg(long, value_name = "DIR", default_value = ".cache/models")]
    pub models_dir: PathBuf,
    /// Models to measure, by the name of their file
    #[arg(long, value_delimiter = ',', default_value = "tiny,ppocr-rec,resnet50")]
    pub models: Vec<String>,
    /// How tensors travel
    #[arg(long, value_delimiter = ',', default_value = "binary,json")]
    pub encodings: Vec<Encoding>,
    /// Rounds
    #[arg(long, default_value_t = 100, value_parser = count::<usize>(), conflicts_with = "quick")]
    pub rounds: usize,
    /// Length of one measurement in milliseconds, and a run of the model more
    #[arg(long, default_value_t = 100, value_parser = count::<u64>(), conflicts_with = "quick")]
    pub milliseconds: u64,
    /// What the wrapper runs on; beside peers, which have one core, it is one
    #[arg(long, value_delimiter = ',', default_value = "one,two", conflicts_with = "peers")]
    #[arg(default_value_if("peers", ArgPredicate::IsPresent, "one"))]
    pub cores: Vec<Cores>,
    /// Other servers beside the wrapper
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<Peer>,
    /// The Python that has kserve and onnxruntime installed
    #[arg(long, default_value = "python3", requires = "peers")]
    pub python: PathBuf,
    /// Seed of the inputs: equal seeds give equal inputs
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What is started.
    #[command(flatten)]
    pub wrapper: binaries::Wrapper,
    /// How long it takes.
    #[command(flatten)]
    pub length: Length,
}

/// What the wrapper may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Cores {
    /// The core of the bare loop: what is served beside the model takes from the model
    One,
    /// That one for the model's thread, and the load's for its other threads, as where a pod has a core to spare
    Two,
}

/// A server to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// KServe's Python model server around an onnxruntime session
    Kserve,
}

/// What model-wrapper calls the threads that run models.
const MODEL_THREAD: &str = "model";

/// The name of the series without a server.
pub(crate) const BARE: &str = "bare";

/// What was measured of one way to run one model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) per_second: Vec<f64>,
    pub(crate) cpu_us: Vec<f64>,
    pub(crate) recorder: Recorder,
    elapsed: Duration,
    bare_runs: u64,
    rss_bytes: Option<u64>,
}

/// By model, then by the way it was run.
pub(crate) type Results = BTreeMap<String, BTreeMap<String, Measured>>;

struct Server {
    name: &'static str,
    addr: SocketAddr,
    process: Process,
}

/// A way to run the model.
enum Way {
    Bare(BareLoop),
    Served(SteadyLoop),
}

/// Runs the scenario.
///
/// # Errors
/// A model is missing, or a server could not be started or asked.
pub async fn run(args: &Args) -> anyhow::Result<Findings> {
    let mut args = args.clone();
    if args.length.quick {
        (args.rounds, args.milliseconds) = (2, 100);
    }
    // What is named twice is measured once: a way's rounds are compared with those of the same number of another.
    once(&mut args.models);
    once(&mut args.encodings);
    once(&mut args.cores);
    once(&mut args.peers);
    let split = affinity::split()?;
    let mut report = Report::begin("wrapper", args.seed);
    let mut results = Results::new();
    for model in &args.models {
        let measured = one_model(&args, split, model, &mut report).await;
        results.insert(model.clone(), measured.with_context(|| format!("model {model}"))?);
    }
    for (model, ways) in &results {
        for (way, measured) in ways {
            report.series.push(measured.series(model, way));
        }
    }
    judge::compare(&results, &mut report);
    Ok(Findings { plots: plots(&results), report })
}

/// Leaves the first of equal values.
fn once<T: PartialEq>(values: &mut Vec<T>) {
    for value in std::mem::take(values) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
}

async fn one_model(
    args: &Args,
    split: Split,
    model: &str,
    report: &mut Report,
) -> anyhow::Result<BTreeMap<String, Measured>> {
    let file = args.models_dir.join(format!("{model}.onnx"));
    if !file.is_file() {
        bail!("no {}: `make models` makes it, --models-dir says where it is, --models leaves it out", file.display());
    }
    let mut servers = Vec::new();
    for &cores in &args.cores {
        servers.push(start_wrapper(&args.wrapper, split, cores, model, &file).await?);
    }
    for peer in &args.peers {
        match peer {
            Peer::Kserve => {
                let (process, addr) = kserve::start(&args.python, model, &file, split.subject, READY_PATIENCE).await?;
                servers.push(Server { name: "kserve", addr, process });
            }
        }
    }
    let inference = Inference::for_model(servers[0].addr, model, args.seed).await?;
    let bare = BareLoop::start(&file, args.seed, split.subject).await?;
    report.command(bare.command_line());
    let mut ways = vec![(BARE.to_owned(), Way::Bare(bare))];
    for server in &servers {
        report.command(server.process.command_line());
        for &encoding in &args.encodings {
            let load = ClosedLoop {
                addr: server.addr,
                request: inference.request(&server.addr.to_string(), encoding, &[]),
                concurrency: judge::concurrency(model),
                core: Some(split.load),
            };
            ways.push((
                format!("{} {}", server.name, judge::name(encoding)),
                Way::Served(SteadyLoop::open(load, server.process.pid()).await?),
            ));
        }
    }

    let length = Duration::from_millis(args.milliseconds);
    let mut results: BTreeMap<String, Measured> = BTreeMap::new();
    let mut progress = Progress::start(&format!("{model}, bare and served"), (args.rounds * ways.len()) as u64);
    for round in 0..args.rounds {
        for turn in rounds::order(round, ways.len()) {
            let (name, way) = &mut ways[turn];
            let measured = results.entry(name.clone()).or_default();
            measured.measure(way, length).await.with_context(|| name.clone())?;
            progress.step();
        }
    }
    Ok(results)
}

async fn start_wrapper(
    wrapper: &binaries::Wrapper,
    split: Split,
    cores: Cores,
    model: &str,
    file: &Path,
) -> anyhow::Result<Server> {
    let mut command = Command::new(wrapper.find()?);
    command.arg("--model").arg(file).args(["--name", model, "--concurrency", "64"]);
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
    let mut process = Process::start("model-wrapper", command, Some(split.subject))?;
    let addr = process.ready(READY_PATIENCE).await?.ready;
    if cores == Cores::Two {
        affinity::pin_threads_but(MODEL_THREAD, process.pid(), split.load)?;
    }
    Ok(Server { name: judge::wrapper(cores), addr, process })
}

impl Measured {
    async fn measure(&mut self, way: &mut Way, length: Duration) -> anyhow::Result<()> {
        match way {
            Way::Bare(bare) => {
                let rate = bare.measure(length).await?;
                self.per_second.push(rate.runs as f64 / rate.elapsed_us * 1e6);
                self.cpu_us.push(rate.cpu_us / rate.runs as f64);
                self.bare_runs += rate.runs;
            }
            Way::Served(load) => {
                let served = load.measure(length).await?;
                let requests = served.recorder.ended().max(1) as f64;
                self.per_second.push(served.recorder.latency.count() as f64 / served.elapsed.as_secs_f64());
                self.cpu_us.push(served.cpu.as_secs_f64() * 1e6 / requests);
                self.recorder.merge(&served.recorder);
                self.elapsed += served.elapsed;
                self.rss_bytes = self.rss_bytes.max(Some(served.rss_bytes));
            }
        }
        Ok(())
    }

    fn series(&self, model: &str, way: &str) -> Series {
        let mut series = self.recorder.series(&format!("{model} {way}"), model, self.elapsed);
        if way == BARE {
            // The loop tells its rate, not the time of each run: its latencies stay 0.
            series.samples = self.bare_runs;
            series.throughput_per_s = median(self.per_second.iter().copied()).round();
        }
        series.cpu_us_per_request = Some(median(self.cpu_us.iter().copied()));
        series.rss_bytes = self.rss_bytes;
        series
    }
}

fn plots(results: &Results) -> Vec<Plot> {
    results
        .iter()
        .map(|(model, ways)| {
            let bars = ways
                .iter()
                .map(|(way, measured)| Bar::plain(way, way, median(measured.per_second.iter().copied()).round()));
            Plot::Bars(Bars {
                title: format!("{model}: requests per second"),
                caption: format!(
                    "One core for the model, {} connections. Higher is better.",
                    judge::concurrency(model)
                ),
                unit: Unit::Count,
                bars: bars.collect(),
            })
        })
        .collect()
}
