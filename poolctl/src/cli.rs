//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use poolctl_image::Reference;
use poolctl_runtime::address;

/// Serverless inference: models, warm pools, and the whole stack on one machine.
#[derive(Debug, Parser)]
#[command(name = "poolctl", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run gateway, autoscaler, warm pool and model servers on this machine
    Up(UpArgs),
    /// Show models, pools and their replicas
    Status(StatusArgs),
    /// Show what changes: rate, concurrency, latency and replicas of each model
    Top(TopArgs),
    /// Say why a model has its replicas, and what its next request would cost on each device
    Explain(ExplainArgs),
    /// Make a container image of a model and the server that answers for it
    Package(Box<PackageArgs>),
    /// Print the CustomResourceDefinitions of Model and WarmPool
    Crds(CrdsArgs),
}

/// Arguments of `poolctl up`.
#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    /// Directory of Model and WarmPool YAML files [default: ./models]
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,

    /// Idle replicas that the pool called default keeps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub pool: Option<u32>,

    /// Namespace of models that name none, and of requests whose host names none
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    pub namespace: Option<String>,

    /// Where requests are answered; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address::parse::<8080>)]
    pub listen: SocketAddr,

    /// Where status, metrics and explanations are answered; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_ADMIN, value_parser = address::parse::<8081>)]
    pub admin: SocketAddr,

    /// The model-wrapper program [default: beside this one]
    #[arg(long, value_name = "PATH", env = "KFERVING_WRAPPER")]
    pub wrapper: Option<PathBuf>,

    /// Order of a claim: optimistic sends the claim and the model together, sequential one after the other
    #[arg(long, value_enum, default_value_t = ClaimOrder::Optimistic)]
    pub claim_order: ClaimOrder,
}

/// Order of the two halves of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClaimOrder {
    /// Both at once: the replica's own lock settles who wins.
    Optimistic,
    /// The model is sent once the claim is written.
    Sequential,
}

/// Where a command finds the running stack.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// Admin address of the running stack
    #[arg(long, value_name = "URL", default_value_t = format!("http://{DEFAULT_ADMIN}"))]
    pub server: String,
}

const DEFAULT_ADMIN: &str = "127.0.0.1:8081";

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// As the admin API has it.
    Json,
    /// The same as YAML.
    Yaml,
    /// Tables with more columns.
    Wide,
}

/// Arguments of `poolctl status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The running stack.
    #[command(flatten)]
    pub server: ServerArgs,

    /// Form of the output [default: tables]
    #[arg(long, short, value_enum)]
    pub output: Option<Output>,
}

/// Arguments of `poolctl top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// The running stack.
    #[command(flatten)]
    pub server: ServerArgs,

    /// Form of the output [default: a table]
    #[arg(long, short, value_enum)]
    pub output: Option<DataFormat>,

    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub interval: Duration,

    /// Print one table, of the first interval, and end
    #[arg(long)]
    pub once: bool,
}

/// Arguments of `poolctl explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// The model: NAME, or NAMESPACE/NAME
    pub model: String,

    /// Length of the next request's body
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub bytes: u64,

    /// The running stack.
    #[command(flatten)]
    pub server: ServerArgs,

    /// Form of the output [default: text]
    #[arg(long, short, value_enum)]
    pub output: Option<DataFormat>,
}

/// Arguments of `poolctl package`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("destination").args(["output", "push"]).required(true).multiple(true))]
pub struct PackageArgs {
    /// The model: a file, or a folder that holds one. Without it the image waits idle in a warm pool for a model
    #[arg(value_name = "MODEL")]
    pub model: Option<PathBuf>,

    /// Where the image is written: a tar file for `docker load` and `ctr images import`, or, where the path ends in a
    /// slash or is a folder, an OCI image layout
    #[arg(long, short, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// Registry and name that the image is pushed to, REGISTRY/NAME:TAG; credentials are those of `docker login`
    #[arg(long, value_name = "REFERENCE", value_parser = reference)]
    pub push: Option<Reference>,

    /// Name of the image [default: what --push names, else localhost/NAME:latest]
    #[arg(long, short, value_name = "REFERENCE", value_parser = reference)]
    pub tag: Option<Reference>,

    /// Name that the model is served under [default: the file's, without its ending]
    #[arg(long)]
    pub name: Option<String>,

    /// Image whose layers and settings it is put on: an OCI image layout, as a folder or a tar file
    #[arg(long, value_name = "BASE")]
    pub from: Option<PathBuf>,

    /// How much time goes into making the layers smaller: 0 (none) to 9
    #[arg(long, value_name = "LEVEL", default_value_t = 6, value_parser = clap::value_parser!(u32).range(0..=9))]
    pub compress: u32,

    /// The model-wrapper program [default: beside this one]
    #[arg(long, value_name = "PATH", env = "KFERVING_WRAPPER")]
    pub wrapper: Option<PathBuf>,

    /// Form of what is said about the image [default: text]
    #[arg(long, value_enum)]
    pub report: Option<DataFormat>,
}

/// Form of an output that has no wide table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DataFormat {
    /// For programs.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Arguments of `poolctl crds`.
#[derive(Clone, Debug, Args)]
pub struct CrdsArgs {
    /// Write one file for each into this directory instead
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
}

fn namespace(text: &str) -> Result<String, String> {
    poolctl_api::check_namespace(text)?;
    Ok(text.to_owned())
}

fn reference(text: &str) -> Result<Reference, String> {
    let reference: Reference =
        text.parse().map_err(|error| format!("{error}: expected [REGISTRY/]NAME[:TAG], the name in lower case"))?;
    match reference.digest() {
        None => Ok(reference),
        Some(_) => {
            Err("an image that is being made gets a tag, NAME:TAG; its digest follows from what is in it".to_owned())
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    /// A faster look would cost the stack more than it shows.
    const LEAST: Duration = Duration::from_millis(100);
    let interval = poolctl_api::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < LEAST { Err("expected at least 100ms".to_owned()) } else { Ok(interval) }
}
