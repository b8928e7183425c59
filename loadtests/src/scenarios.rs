//! What is measured. Each scenario starts what it needs, measures, judges and stops it again.

pub mod chaos;
pub mod cold_start;
pub mod gateway;
pub mod herd;
pub mod idle;
pub mod wrapper;
pub mod zipf;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::bail;
use clap::builder::RangedU64ValueParser;

use crate::binaries::Binaries;
use crate::plot::Plot;
use crate::report::Report;

/// Most of anything that is counted on the command line: what is planned must fit in memory.
const MOST: u64 = 1_000_000;

/// A number of things to measure. Measuring none proves nothing.
pub(crate) fn count<T>() -> RangedU64ValueParser<T>
where
    T: TryFrom<u64> + Clone + Send + Sync + 'static,
    T::Error: std::error::Error + Send + Sync + 'static,
{
    RangedU64ValueParser::new().range(1..=MOST)
}

/// A factor or a rate in `range`.
pub(crate) fn number_in(range: &RangeInclusive<f64>, text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("expected a number from {} to {}", range.start(), range.end()))
}

/// How long a scenario takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Length {
    /// A smoke run of seconds: every step, with few samples. Its figures mean nothing
    #[arg(long)]
    pub quick: bool,
}

/// Options of the scenarios that start the whole stack.
#[derive(Clone, Debug, clap::Args)]
pub struct StackOptions {
    /// Seed of everything that is drawn: equal seeds give equal schedules, inputs and choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The model file behind every model
    #[arg(long, value_name = "FILE", default_value = "examples/models/digits.onnx")]
    pub model_file: PathBuf,
    /// Where the binaries are.
    #[command(flatten)]
    pub binaries: Binaries,
    /// How long it takes.
    #[command(flatten)]
    pub length: Length,
}

impl StackOptions {
    /// The model file.
    ///
    /// # Errors
    /// It is not there.
    pub fn model_file(&self) -> anyhow::Result<&PathBuf> {
        if !self.model_file.is_file() {
            bail!(
                "no model at {}: run from the repository's root, or say where it is with --model-file",
                self.model_file.display()
            );
        }
        Ok(&self.model_file)
    }
}

/// What a scenario found.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Figures and verdicts.
    pub report: Report,
    /// Plots of its page.
    pub plots: Vec<Plot>,
}
