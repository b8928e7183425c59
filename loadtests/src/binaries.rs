//! Where the product's binaries are.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Binaries of the whole stack. Each defaults to the file of its name beside this one.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Binaries {
    /// The poolctl binary; by default the one beside loadtest
    #[arg(long, value_name = "PATH")]
    poolctl: Option<PathBuf>,
    #[command(flatten)]
    wrapper: Wrapper,
}

/// The model server's binary, of scenarios that start it alone.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Wrapper {
    /// The model-wrapper binary; by default the one beside loadtest
    #[arg(long = "wrapper", value_name = "PATH")]
    path: Option<PathBuf>,
}

/// The gateway's binary, of scenarios that start it alone.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Gateway {
    /// The gateway binary; by default the one beside loadtest
    #[arg(long = "gateway", value_name = "PATH")]
    path: Option<PathBuf>,
}

impl Binaries {
    /// Whether any was named on the command line.
    pub fn are_given(&self) -> bool {
        let Self { poolctl, wrapper: Wrapper { path } } = self;
        poolctl.is_some() || path.is_some()
    }

    /// `poolctl`
    ///
    /// # Errors
    /// It is not there; the message says how to build it.
    pub fn poolctl(&self) -> anyhow::Result<PathBuf> {
        find(self.poolctl.as_deref(), "poolctl")
    }

    /// `model-wrapper`
    ///
    /// # Errors
    /// It is not there; the message says how to build it.
    pub fn wrapper(&self) -> anyhow::Result<PathBuf> {
        self.wrapper.find()
    }
}

impl Wrapper {
    /// `model-wrapper`
    ///
    /// # Errors
    /// It is not there; the message says how to build it.
    pub fn find(&self) -> anyhow::Result<PathBuf> {
        find(self.path.as_deref(), "model-wrapper")
    }
}

impl Gateway {
    /// `gateway`
    ///
    /// # Errors
    /// It is not there; the message says how to build it.
    pub fn find(&self) -> anyhow::Result<PathBuf> {
        find(self.path.as_deref(), "gateway")
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
