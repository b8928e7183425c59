//! The floor of the wrapper scenario: ONNX Runtime in a loop, with nothing around it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use model_wrapper_onnx::{LIBRARY_VARIABLE, LoadOptions, ModelFiles, OnnxModel, Optimization, Runtime};
use model_wrapper_protocol::{Backend, DataType, Tensor};
use serde::{Deserialize, Serialize};

use crate::inference::{Inference, InputSpec};
use crate::scenarios::count;

/// Runs before the measurement: the first ones allocate.
const WARM_UP_RUNS: u32 = 3;

/// Runs between two looks at the clock, at most: looking costs as much as a hundredth of the smallest model's run.
const MAX_STRIDE: u64 = 64;

/// Runs a model in a loop and prints the rate as JSON
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The ONNX file
    #[arg(long)]
    pub model: PathBuf,
    /// Seed of the inputs: the server that it is compared with gets the same
    #[arg(long)]
    pub seed: u64,
    /// How long, in milliseconds
    #[arg(long, value_parser = count::<u64>())]
    pub milliseconds: u64,
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

/// Measures.
///
/// # Errors
/// The runtime or the model cannot be loaded, or a run fails.
pub fn run(args: &Args) -> anyhow::Result<Rate> {
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
    let length = Duration::from_millis(args.milliseconds);
    let cpu = crate::proc_stats::usage(std::process::id())?.cpu;
    let start = Instant::now();
    let (mut runs, mut stride) = (0, 1);
    while start.elapsed() < length {
        for _ in 0..stride {
            model.run(&inputs, &[])?;
        }
        runs += stride;
        // A large model looks at the clock after each run, a small one seldom.
        stride = (runs / 8).clamp(1, MAX_STRIDE);
    }
    let elapsed = start.elapsed();
    let cpu = crate::proc_stats::usage(std::process::id())?.cpu.saturating_sub(cpu);
    Ok(Rate { runs, elapsed_us: elapsed.as_secs_f64() * 1e6, cpu_us: cpu.as_secs_f64() * 1e6 })
}
