//! The whole product on this machine: `poolctl up` with a models directory made for the scenario.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::inference::{Encoding, Inference};
use crate::process::Process;
use crate::status::Status;

/// How long the stack may take to be ready: it starts its pool first, on a machine that may be busy building.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// How often the status is asked for while something is waited for: often enough not to add to a sample, seldom enough
/// not to disturb it.
const POLL: Duration = Duration::from_millis(10);

/// The namespace of the scenario's models.
pub const NAMESPACE: &str = "default";

/// A model that scenarios ask.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// Its name.
    pub name: String,
    /// Idle time after which its last replica goes.
    pub scale_to_zero_after: Duration,
    /// Most replicas.
    pub max_replicas: u32,
    /// Replicas that stay.
    pub min_replicas: u32,
    /// Requests at a time on one replica.
    pub concurrency: u32,
}

impl ModelSpec {
    /// A model that scales from zero to ten replicas of four requests at a time.
    #[must_use]
    pub fn new(name: impl Into<String>, scale_to_zero_after: Duration) -> Self {
        Self { name: name.into(), scale_to_zero_after, max_replicas: 10, min_replicas: 0, concurrency: 4 }
    }

    /// Its YAML, with the model file of that name beside it.
    fn yaml(&self, file: &str) -> String {
        format!(
            "apiVersion: kferving.dev/v1alpha1\nkind: Model\nmetadata: {{name: {}, namespace: {NAMESPACE}}}\n\
             spec:\n  modelFormat: onnx\n  storageUri: {file}\n  scaleToZeroAfter: {}ms\n  timeout: 60s\n\
             \x20 cpu: {{containerConcurrency: {}, minReplicas: {}, maxReplicas: {}}}\n",
            self.name,
            self.scale_to_zero_after.as_millis(),
            self.concurrency,
            self.min_replicas,
            self.max_replicas,
        )
    }
}

/// The order in which a claim writes and loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// Both together.
    Optimistic,
    /// The write first.
    Sequential,
}

/// A running stack; it stops with this value.
#[derive(Debug)]
pub struct Stack {
    /// The process, dropped before the directory it reads.
    process: Process,
    /// Where requests go.
    pub gateway: SocketAddr,
    /// Where its status is.
    pub admin: SocketAddr,
    /// Where its metrics are.
    pub metrics: SocketAddr,
    _directory: TempDir,
}

/// What a stack is started with.
#[derive(Clone, Debug)]
pub struct StackSettings<'a> {
    /// Where the binaries are.
    pub binaries: &'a Binaries,
    /// The model file behind every model.
    pub model_file: &'a Path,
    /// Idle replicas in its pool.
    pub pool: u32,
    /// Order of a claim; `None` for the product's default.
    pub order: Option<Order>,
}

impl Stack {
    /// Starts the stack and waits until it is ready.
    ///
    /// # Errors
    /// A file could not be written, or the stack did not start; the message has the end of its log.
    pub async fn start(settings: &StackSettings<'_>, models: &[ModelSpec]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("making a models directory")?;
        let file = "model.onnx";
        std::fs::copy(settings.model_file, directory.path().join(file))
            .with_context(|| format!("copying {}", settings.model_file.display()))?;
        for model in models {
            std::fs::write(directory.path().join(format!("{}.yaml", model.name)), model.yaml(file))?;
        }
        let mut command = Command::new(settings.binaries.poolctl()?);
        command.args(["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--namespace", NAMESPACE]);
        command.arg("--pool").arg(settings.pool.to_string()).arg("--models").arg(directory.path());
        command.env("KFERVING_WRAPPER", settings.binaries.wrapper()?);
        if let Some(order) = settings.order {
            command.args(["--claim-order", if order == Order::Optimistic { "optimistic" } else { "sequential" }]);
        }
        let mut process = Process::start("poolctl up", command, None)?;
        let addresses = process.ready(READY_PATIENCE).await?;
        let admin = addresses.admin.context("poolctl up announced no admin address")?;
        let metrics = addresses.metrics.unwrap_or(admin);
        Ok(Self { process, gateway: addresses.ready, admin, metrics, _directory: directory })
    }

    /// What was started.
    #[must_use]
    pub fn command_line(&self) -> &str {
        self.process.command_line()
    }

    /// Process id of `poolctl up`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Its status.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self) -> anyhow::Result<Status> {
        Status::ask(self.admin).await
    }

    /// Waits until its status is as wanted.
    ///
    /// # Errors
    /// It was not within `patience`; the message says what was waited for and what the status was.
    pub async fn wait_until(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> anyhow::Result<Status> {
        let deadline = Instant::now() + patience;
        loop {
            let status = self.status().await?;
            if wanted(&status) {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{what}: not within {patience:?}. Status: {status:?}. Log:{}", self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// An inference that `model` takes, built from its metadata. The catalogue answers it: nothing is woken.
    ///
    /// # Errors
    /// The model is unknown or takes what cannot be drawn.
    pub async fn inference(&self, model: &str, seed: u64) -> anyhow::Result<Inference> {
        Inference::for_model(self.gateway, model, seed).await
    }

    /// The request of an inference of `model`, in the binary encoding, with further headers.
    ///
    /// # Errors
    /// As [`Stack::inference`].
    pub async fn request(&self, model: &str, seed: u64, headers: &[(&str, &str)]) -> anyhow::Result<bytes::Bytes> {
        Ok(self.inference(model, seed).await?.request(&self.gateway.to_string(), Encoding::Binary, headers))
    }

    /// Stops it and waits.
    ///
    /// # Errors
    /// It did not exit with 0.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let status = self.process.stop()?;
        if !status.success() {
            let mut message = format!("poolctl up ended with {status}; its log ends with:");
            // Writing to a String cannot fail.
            let _ = write!(message, "{}", self.log_tail());
            bail!(message);
        }
        Ok(())
    }
}
