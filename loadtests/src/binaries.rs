//! Where the product's binaries are.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Binaries that scenarios start. Each defaults to the file of its name beside this one.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Binaries {
    /// The poolctl binary; by default the one beside loadtest
    #[arg(long, value_name = "PATH", global = true)]
    poolctl: Option<PathBuf>,
    /// The gateway binary; by default the one beside loadtest
    #[arg(long, value_name = "PATH", global = true)]
    gateway: Option<PathBuf>,
    /// The model-wrapper binary; by default the one beside loadtest
    #[arg(long, value_name = "PATH", global = true)]
    wrapper: Option<PathBuf>,
}

impl Binaries {
    /// `poolctl`
    ///
    /// # Errors
    /// It is not there; the message says how to build it.
    pub fn poolctl(&self) -> anyhow::Result<PathBuf> {
        find(self.poolctl.as_deref(), "poolctl")
    }

    /// `gateway`
    ///
    /// # Errors
    /// It is not there; the message says how to build it.
    pub fn gateway(&self) -> anyhow::Result<PathBuf> {
        find(self.gateway.as_deref(), "gateway")
    }

    /// `model-wrapper`
    ///
    /// # Errors
    /// It is not there; the message says how to build it.
    pub fn wrapper(&self) -> anyhow::Result<PathBuf> {
        find(self.wrapper.as_deref(), "model-wrapper")
    }
}

/// This executable, to start parts of itself as processes of their own.
///
/// # Errors
/// The system does not tell.
pub fn itself() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("asking for the path of this executable")
}

fn find(given: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => itself()?.with_file_name(name),
    };
    if !path.is_file() {
        bail!("no {name} at {}: build it with `cargo build --release -p {name}` or say where it is", path.display());
    }
    Ok(path)
}
