//! The floor of the wrapper scenario: ONNX Runtime in a loop, with nothing around it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use model_wrapper_onnx::{LIBRARY_VARIABLE, LoadOptions, ModelFiles, OnnxModel, Optimization, Runtime};
use model_wrapper_protocol::{Backend, DataType, Tensor};
use poolctl_runtime::announce;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::affinity::Core;
use crate::binaries;
use crate::inference::{Inference, InputSpec};
use crate::process::Process;
use crate::scenarios::count;

/// Runs before the first measurement: the first ones allocate.
const WARM_UP_RUNS: u32 = 3;

/// How long loading the model may take.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// Runs between two looks at the clock, at most: looking costs as much as a hundredth of the smallest model's run.
const MAX_STRIDE: u64 = 64;

/// Runs a model in a loop for as many milliseconds as each line says that one caller sends, and answers each with the rate
/// as JSON
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The ONNX file
    #[arg(long)]
    pub model: PathBuf,
    /// Seed of the inputs: the server that it is compared with gets the same
    #[arg(long)]
    pub seed: u64,
    /// Threads that one operator may use
    #[arg(long, default_value_t = 1, value_parser = count::<usize>())]
    pub threads: usize,
}

/// What the loop achieved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Runs.
    pub runs: u64,
    /// Time they took, in microseconds.
    pub elapsed_us: f64,
    /// Processor time they took, in microseconds.
    pub cpu_us: f64,
}

/// Serves one caller until it leaves.
///
/// # Errors
/// The runtime or the model cannot be loaded, a run fails, or a line is no number.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut bare = Bare::load(args)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    announce::line("ready", listener.local_addr()?)?;
    let (mut caller, _) = listener.accept()?;
    caller.set_nodelay(true)?;
    for line in BufReader::new(caller.try_clone()?).lines() {
        let line = line?;
        let milliseconds = line.parse().with_context(|| format!("expected milliseconds, got '{line}'"))?;
        let rate = bare.measure(Duration::from_millis(milliseconds))?;
        caller.write_all(format!("{}\n", serde_json::to_string(&rate)?).as_bytes())?;
    }
    Ok(())
}

struct Bare {
    model: OnnxModel,
    inputs: Vec<Tensor>,
}

impl Bare {
    fn load(args: &Args) -> anyhow::Result<Self> {
        let library = std::env::var_os(LIBRARY_VARIABLE).map(PathBuf::from);
        let runtime = Runtime::load(library.as_deref())?;
        let file = std::fs::read(&args.model).with_context(|| format!("reading {}", args.model.display()))?;
        let files = ModelFiles { model: file, ..ModelFiles::default() };
        let options =
            LoadOptions { name: "bare".to_owned(), intra_threads: args.threads, optimization: Optimization::default() };
        let mut model = OnnxModel::load(&runtime, &files, &options)?;
        let specs: Vec<InputSpec> = model
            .metadata()
            .inputs
            .iter()
            .map(|input| InputSpec {
                name: input.name.clone(),
                datatype: input.datatype.name().to_owned(),
                shape: input.shape.clone(),
            })
            .collect();
        let inference = Inference::draw("bare", specs, args.seed)?;
        let mut inputs = Vec::new();
        for input in inference.inputs() {
            let bytes: Vec<u8> = input.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            inputs.push(Tensor::fixed(&input.name, DataType::Fp32, input.shape.clone(), Bytes::from(bytes))?);
        }
        for _ in 0..WARM_UP_RUNS {
            model.run(&inputs, &[])?;
        }
        Ok(Self { model, inputs })
    }

    /// Measures once the caches hold the model again.
    fn measure(&mut self, length: Duration) -> anyhow::Result<Rate> {
        self.model.run(&self.inputs, &[])?;
        let cpu = processor_time();
        let start = Instant::now();
        let (mut runs, mut stride) = (0, 1);
        while start.elapsed() < length {
            for _ in 0..stride {
                self.model.run(&self.inputs, &[])?;
            }
            runs += stride;
            // A large model looks at the clock after each run, a small one seldom.
            stride = (runs / 8).clamp(1, MAX_STRIDE);
        }
        let elapsed = start.elapsed();
        let cpu = processor_time().saturating_sub(cpu);
        Ok(Rate { runs, elapsed_us: elapsed.as_secs_f64() * 1e6, cpu_us: cpu.as_secs_f64() * 1e6 })
    }
}

/// Of this process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Neither is ever negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The loop in a process of its own.
#[derive(Debug)]
pub struct BareLoop {
    process: Process,
    stream: tokio::io::BufReader<TcpStream>,
}

impl BareLoop {
    /// Loads `model` in a process on one core.
    ///
    /// # Errors
    /// It could not be started, or does not take the model.
    pub async fn start(model: &Path, seed: u64, core: Core) -> anyhow::Result<Self> {
        let mut command = Command::new(binaries::itself()?);
        command.arg("bare").arg("--model").arg(model).args(["--seed", &seed.to_string()]);
        let mut process = Process::start("loadtest bare", command, Some(core))?;
        let addr = process.ready(READY_PATIENCE).await?.ready;
        let stream = tokio::io::BufReader::new(TcpStream::connect(addr).await?);
        Ok(Self { process, stream })
    }

    /// What was started, for people to repeat.
    #[must_use]
    pub fn command_line(&self) -> &str {
        self.process.command_line()
    }

    /// Measures for a while.
    ///
    /// # Errors
    /// A run failed.
    pub async fn measure(&mut self, length: Duration) -> anyhow::Result<Rate> {
        let mut line = format!("{}\n", length.as_millis());
        self.stream.write_all(line.as_bytes()).await?;
        line.clear();
        if self.stream.read_line(&mut line).await? == 0 {
            let status = self.process.stop()?;
            bail!("the bare loop ended with {status}; its log ends with:{}", self.process.log_tail());
        }
        serde_json::from_str(&line).context("reading the bare loop's rate")
    }
}
