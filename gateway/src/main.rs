//! `gateway --config FILE`: the data plane alone, in front of replicas that a file names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use gateway::config::{self, Config};
use gateway::{Gateway, GatewaySettings};
use poolctl_runtime::{Shutdown, address, admin, announce, descriptors, telemetry};

// Small bodies and heads are allocated and freed at every request: glibc's allocator costs several times as much there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Where to listen when neither the command line nor the file says.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Most serving threads. One for each core is best: more than this is a slip of the finger.
const MAX_THREADS: i64 = 1024;

/// Routes inference requests to the replicas that a configuration file names.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration: `listen`, `models` and `limits`. Models are taken over anew when the file changes.
    #[arg(long, env = "KFERVING_CONFIG")]
    config: PathBuf,
    /// Address for predictions; overrides the file's.
    #[arg(long, env = "KFERVING_LISTEN", value_parser = address::parse::<8080>)]
    listen: Option<SocketAddr>,
    /// Address for /metrics and /healthz.
    #[arg(long, env = "KFERVING_ADMIN", default_value = "127.0.0.1:8081", value_parser = address::parse::<8081>)]
    admin: SocketAddr,
    /// Namespace of requests whose Host names none; without it a model's bare name is enough where it is unique.
    #[arg(long, env = "KFERVING_NAMESPACE", value_parser = namespace)]
    namespace: Option<String>,
    /// Serving threads; default: the cores that this process may use.
    #[arg(long, env = "KFERVING_THREADS", value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS))]
    threads: Option<u16>,
}

fn namespace(text: &str) -> Result<String, String> {
    config::check_name(text).map_err(|expected| format!("expected {expected}"))?;
    Ok(text.to_owned())
}

fn main() -> ExitCode {
    telemetry::init();
    let arguments = Arguments::parse();
    // Serving threads have runtimes of their own; this one carries signals, the admin listener and the file's watch.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    descriptors::raise_limit();
    let shutdown = Shutdown::on_signals()?;
    let config = Config::read(&arguments.config).with_context(|| arguments.config.display().to_string())?;
    config.doubts().iter().for_each(|doubt| tracing::warn!("{doubt}"));
    let registry = prometheus::Registry::new();
    let defaults = GatewaySettings::default();
    let settings = GatewaySettings {
        namespace: arguments.namespace,
        threads: arguments.threads.map_or(defaults.threads, usize::from),
        limits: config.limits.clone(),
    };
    let gateway = Gateway::new(settings, &registry)?;
    gateway.set_models(config.models.clone());

    let listen = arguments.listen.or(config.listen).unwrap_or(DEFAULT_LISTEN);
    let listeners = gateway.bind(listen).with_context(|| format!("listening on {listen} failed"))?;
    let listening = listeners.local_addr();
    let admin_listener = tokio::net::TcpListener::bind(arguments.admin)
        .await
        .with_context(|| format!("listening on {} failed (--admin)", arguments.admin))?;
    let admin_addr = admin_listener.local_addr()?;
    // Outlives the drain, so that its end can be watched.
    let drained = Shutdown::new();
    let admin_server = tokio::spawn(admin::serve(admin_listener, admin::router(registry), drained.clone()));
    let watching = tokio::spawn(config::watch(gateway.clone(), arguments.config, config, shutdown.clone()));

    announce::line("admin", admin_addr)?;
    announce::line("ready", listening)?;
    gateway.serve(listeners, shutdown).await?;
    drained.request();
    watching.await?;
    admin_server.await?;
    Ok(())
}
