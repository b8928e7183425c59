//! What is measured. Each scenario starts what it needs, measures, judges and stops it again.

pub mod chaos;
pub mod cold_start;
pub mod gateway;
pub mod herd;
pub mod idle;
pub mod wrapper;
pub mod zipf;

use std::path::PathBuf;

use anyhow::bail;

use crate::binaries::Binaries;
use crate::plot::Plot;
use crate::report::Report;

/// Options of every scenario.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Seed of everything that is drawn: equal seeds give equal schedules, inputs and choices
    #[arg(long, default_value_t = 1, global = true)]
    pub seed: u64,
    /// A smoke run of seconds: every step, with few samples. Its figures mean nothing
    #[arg(long, global = true)]
    pub quick: bool,
    /// The model file behind the models of cold-start, herd, zipf and chaos
    #[arg(long, value_name = "FILE", default_value = "examples/models/digits.onnx", global = true)]
    pub model_file: PathBuf,
    /// Where the binaries of the product are
    #[command(flatten)]
    pub binaries: Binaries,
}

impl Common {
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
