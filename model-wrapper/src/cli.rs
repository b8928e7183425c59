//! Command line and environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use model_wrapper_admin::{AdminAddress, TokenVerifier, check_model_name};
use poolctl_runtime::{Shutdown, address, announce, descriptors, telemetry};
use prometheus::Registry;
use tokio::net::TcpListener;

use model_wrapper_onnx::{LIBRARY_VARIABLE, Runtime};

use crate::admin::{self, Authority};
use crate::end;
use crate::front::{Front, FrontMetrics};
use crate::inspect::{inspect, name_of};
use crate::knative::{self, UserContainer};
use crate::listen::{self, AdminListener};
use crate::metrics::{Milestone, WrapperMetrics};
use crate::serving::{DEFAULT_TIMEOUT, Format, ModelSpec, Serving, check_digest};

#[cfg(test)]
mod tests;

/// Ports where none is given. Knative's queue-proxy has the same, so a wrapper beside one has others.
const TRAFFIC_PORT: u16 = 8012;
const ADMIN_PORT: u16 = 8022;
const METRICS_PORT: u16 = 9091;

/// Longest timeout: beyond it moments cannot be counted.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Time beyond a request's longest that a stop may take: responses still have to reach slow readers.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Serves a model over the Open Inference Protocol (V1, V2, gRPC), or waits idle in a pool for one
///
/// Where PORT is set and it is not --pooled, it is the user container of a Knative Service, beside Knative's queue-proxy: it
/// serves on that port, as the revision that K_REVISION names, and leaves queue-proxy's ports alone.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a line of JSON for each model: its digest and what it takes and gives.
    Inspect {
        /// Runtime that the models are for.
        #[arg(long, default_value = "onnx")]
        format: Format,
        /// End when standard input is closed: the parent that holds it is gone.
        #[arg(long)]
        exit_on_stdin_close: bool,
        /// Model files.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
}

#[derive(Args, Debug)]
struct Serve {
    /// Model file to serve from the start.
    #[arg(long, env = "KFERVING_MODEL", value_name = "PATH", conflicts_with = "pooled")]
    model: Option<PathBuf>,
    /// Start without a model and wait to be specialized through the admin port.
    #[arg(long, env = "KFERVING_POOLED")]
    pooled: bool,
    /// Name that the model is served under [default: the file's, without its ending]. Paths hold it percent-encoded; behind a
    /// gateway it is the name that the gateway has for the model.
    #[arg(long, env = "KFERVING_NAME")]
    name: Option<String>,
    /// Runtime of the model.
    #[arg(long, env = "KFERVING_FORMAT", default_value = "onnx")]
    format: Format,
    /// Revision that the model is served as, NAMESPACE/REVISION@sha256:HEX; requests that name another get 421
    /// [default: K_REVISION, in the namespace of KFERVING_NAMESPACE or of the service account].
    #[arg(long, env = "KFERVING_REVISION", value_name = "NS/REV@DIGEST")]
    revision: Option<String>,
    /// Address for predictions; port 0 takes a free one [default: 0.0.0.0:8012, or 0.0.0.0:$PORT].
    #[arg(long, env = "KFERVING_LISTEN", value_name = "ADDR", value_parser = address::parse::<TRAFFIC_PORT>)]
    listen: Option<SocketAddr>,
    /// Address of the admin port: IP:PORT, unix:/PATH, or unix:@NAME for an abstract socket [default: 127.0.0.1:8022 with
    /// --model, 0.0.0.0:8022 with --pooled, unix:@model-wrapper/PORT where PORT is set].
    #[arg(long, env = "KFERVING_ADMIN", value_name = "ADDR")]
    admin: Option<AdminAddress>,
    /// Address of /metrics [default: 0.0.0.0:9091, or 0.0.0.0:9095 where PORT is set].
    #[arg(long, env = "KFERVING_METRICS", value_name = "ADDR", value_parser = address::parse::<METRICS_PORT>)]
    metrics: Option<SocketAddr>,
    /// Ed25519 public key (32 bytes in base64) whose signature a specialize or drain call must carry.
    #[arg(long, env = "KFERVING_CLAIM_KEY", value_name = "BASE64")]
    claim_key: Option<String>,
    /// Uid of this replica; specialize and drain calls for another are refused.
    #[arg(long, env = "KFERVING_POD_UID", value_name = "UID")]
    pod_uid: Option<String>,
    /// Requests at a time; 0: no limit but the queue's [default: 0].
    #[arg(long, env = "KFERVING_CONCURRENCY", value_name = "N")]
    concurrency: Option<usize>,
    /// Longest that a request may take, in seconds [default: 60].
    #[arg(long, env = "KFERVING_TIMEOUT", value_name = "SECONDS")]
    timeout: Option<f64>,
    /// End when standard input is closed: the parent that holds it is gone.
    #[arg(long, env = "KFERVING_EXIT_ON_STDIN_CLOSE")]
    exit_on_stdin_close: bool,
}

/// A model to serve and the revision it is served as.
type Wanted = (ModelSpec, Option<String>);

/// Where it listens.
#[derive(Debug, PartialEq, Eq)]
struct Addresses {
    traffic: SocketAddr,
    metrics: SocketAddr,
    /// The default of a user container goes by the port that its traffic got.
    admin: Option<AdminAddress>,
}

impl Cli {
    /// Does what the command line says. Returns the process's exit status.
    ///
    /// # Errors
    /// What was asked for cannot be done; the message says what to change.
    pub fn run(self) -> anyhow::Result<u8> {
        let started = SystemTime::now();
        telemetry::init();
        let library = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        match self.command {
            Some(Command::Inspect { format, exit_on_stdin_close, paths }) => {
                if exit_on_stdin_close {
                    end::when_stdin_closes()?;
                }
                let runtime = Runtime::load(library.as_deref())?;
                let failed = inspect(&runtime, format, &paths, std::io::stdout().lock())?;
                Ok(u8::from(failed > 0))
            }
            None => {
                self.serve.run(library, started)?;
                Ok(0)
            }
        }
    }
}

impl Serve {
    fn run(self, library: Option<PathBuf>, started: SystemTime) -> anyhow::Result<()> {
        // Who waits in a pool has no queue-proxy beside it: it is one itself.
        let place = if self.pooled { None } else { UserContainer::here()? };
        let wanted = self.wanted(place.as_ref())?;
        let addresses = self.addresses(place.as_ref());
        let authority = self.authority(addresses.admin.as_ref())?;
        if let Some(UserContainer { port, revision, configuration, service, namespace }) = &place {
            tracing::info!(port, revision, configuration, service, namespace, "beside Knative's queue-proxy");
        }
        if self.exit_on_stdin_close {
            end::when_stdin_closes()?;
        }
        descriptors::raise_limit();
        let registry = Registry::new();
        let metrics = WrapperMetrics::register(&registry)?;
        let front_metrics = FrontMetrics::register(&registry)?;
        let prepare = move || {
            let runtime = Runtime::load(library.as_deref())?;
            if self.pooled {
                runtime.warm()?;
            }
            let serving = Serving::idle(runtime, self.pod_uid, metrics);
            serving.passed(Milestone::Started, started);
            if let Some((spec, revision)) = &wanted {
                serving.serve_model(spec, revision.as_deref())?;
            }
            Ok(serving)
        };
        // Traffic has a thread of its own: a very brief model runs on it, and nothing there may hold up the admin port.
        let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        control.block_on(async {
            let shutdown = Shutdown::on_signals_or(end::at_once)?;
            let serving = unless_stopped(&shutdown, prepare).await?;
            let front = Front::new(serving.clone(), front_metrics);
            listen_and_serve(&addresses, (serving, front), authority, registry, shutdown).await
        })
    }

    /// What `--model` and the flags beside it say; none for a pooled wrapper.
    fn wanted(&self, place: Option<&UserContainer>) -> anyhow::Result<Option<Wanted>> {
        let Some(path) = &self.model else {
            if !self.pooled {
                bail!("say what to serve: --model PATH, or --pooled to wait for a model");
            }
            let given = self.name.is_some() || self.revision.is_some();
            if given || self.concurrency.is_some() || self.timeout.is_some() {
                bail!(
                    "--name, --revision, --concurrency and --timeout go with --model: a claim brings them to a pooled wrapper"
                );
            }
            return Ok(None);
        };
        let name = match &self.name {
            Some(name) => {
                check_model_name(name).context("--name")?;
                name.clone()
            }
            None => {
                let name = name_of(path).map_err(anyhow::Error::msg)?;
                check_model_name(&name).context("give --name")?;
                name
            }
        };
        let timeout = match self.timeout {
            None => DEFAULT_TIMEOUT,
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .ok()
                .filter(|timeout| !timeout.is_zero() && *timeout <= MAX_TIMEOUT)
                .with_context(|| format!("--timeout must be above 0 seconds and at most a year, got {seconds}"))?,
        };
        let mut spec = ModelSpec {
            format: self.format,
            concurrency: self.concurrency.filter(|&limit| limit > 0),
            timeout,
            ..ModelSpec::new(name, path.clone())
        };
        let revision = match &self.revision {
            None => place.and_then(UserContainer::revision),
            Some(identity) => {
                let (revision, digest) = identity
                    .split_once('@')
                    .filter(|(revision, _)| revision.contains('/'))
                    .with_context(|| format!("--revision must be NAMESPACE/REVISION@sha256:HEX, got '{identity}'"))?;
                check_digest(digest).context("--revision")?;
                spec.digest = Some(digest.to_owned());
                Some(revision.to_owned())
            }
        };
        Ok(Some((spec, revision)))
    }

    fn addresses(&self, place: Option<&UserContainer>) -> Addresses {
        let (traffic, metrics) = match place {
            Some(place) => (place.port, knative::METRICS_PORT),
            None => (TRAFFIC_PORT, METRICS_PORT),
        };
        let everywhere = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let admin = match (place, self.pooled) {
            (Some(_), _) => None,
            (None, true) => Some(everywhere(ADMIN_PORT).into()),
            (None, false) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT)).into()),
        };
        Addresses {
            traffic: self.listen.unwrap_or_else(|| everywhere(traffic)),
            metrics: self.metrics.unwrap_or_else(|| everywhere(metrics)),
            admin: self.admin.clone().or(admin),
        }
    }

    fn authority(&self, admin: Option<&AdminAddress>) -> anyhow::Result<Authority> {
        if let Some(key) = &self.claim_key {
            return Ok(Authority::Key(TokenVerifier::from_base64(key).context("--claim-key")?));
        }
        if self.pooled {
            tracing::warn!("started with --pooled and without --claim-key: no claim will be taken");
            return Ok(Authority::Nobody);
        }
        Ok(if admin.is_none_or(AdminAddress::is_local) { Authority::Local } else { Authority::Nobody })
    }
}

/// What `prepare` makes, on a thread of its own: it may take minutes. A signal meanwhile ends the process, and well, for nothing
/// has begun that would have to be finished.
async fn unless_stopped<T: Send + 'static>(
    shutdown: &Shutdown,
    prepare: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::select! {
        prepared = tokio::task::spawn_blocking(prepare) => prepared.context("the runtime panicked")?,
        () = shutdown.requested() => end::well(),
    }
}

/// Listens everywhere, says so, and serves until a signal and the end of what has begun.
async fn listen_and_serve(
    addresses: &Addresses,
    (serving, front): (Serving, Front),
    authority: Authority,
    registry: Registry,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let traffic = listen::tcp("--listen", addresses.traffic)?;
    let address = traffic.local_addr()?;
    // Named by the port, so that two on one machine do not meet.
    let beside = || AdminAddress::Abstract(format!("model-wrapper/{}", address.port()));
    let admin = AdminListener::bind(&addresses.admin.clone().unwrap_or_else(beside)).await?;
    let metrics = listen::tcp("--metrics", addresses.metrics)?;
    admin.announce()?;
    announce::line("metrics", metrics.local_addr()?)?;

    // They answer until the last request is through: a drain is watched on them.
    let ended = Shutdown::new();
    let admin = admin.serve(admin::router(serving.clone(), authority), ended.clone());
    let metrics =
        tokio::spawn(poolctl_runtime::admin::serve(metrics, poolctl_runtime::admin::router(registry), ended.clone()));
    let traffic = serve_traffic(front, traffic, shutdown.clone())?;
    serving.passed(Milestone::Ready, SystemTime::now());
    announce::line("ready", address)?;

    shutdown.requested().await;
    let limit = serving.model().map_or(Duration::ZERO, |model| model.timeout()) + STOP_GRACE;
    let stopped = async {
        serving.shut_down().await;
        // The sender is dropped with the thread, however it ends.
        let _ = traffic.await;
    };
    if tokio::time::timeout(limit, stopped).await.is_err() {
        tracing::warn!(?limit, in_flight = serving.state().in_flight, "stopping with requests unanswered");
        end::at_once();
    }
    ended.request();
    for server in [admin, metrics] {
        // A reader that keeps a connection busy must not keep the process.
        if let Ok(joined) = tokio::time::timeout(STOP_GRACE, server).await {
            joined.context("a listener's task failed")?;
        }
    }
    if serving.is_loading() {
        // A claim's load may take minutes more, and nobody waits for it any longer.
        end::well();
    }
    Ok(())
}

/// Serves predictions on a thread and a tokio runtime of their own. The receiver resolves when it has ended.
fn serve_traffic(
    front: Front,
    listener: TcpListener,
    shutdown: Shutdown,
) -> anyhow::Result<tokio::sync::oneshot::Receiver<()>> {
    let listener = listener.into_std()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (running, ended) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("traffic".to_owned()).spawn(move || {
        let _running: tokio::sync::oneshot::Sender<()> = running;
        let served = runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            front.serve(listener, shutdown.requested()).await;
            std::io::Result::Ok(())
        });
        if let Err(error) = served {
            tracing::error!(%error, "the traffic listener failed");
        }
    })?;
    Ok(ended)
}
