//! Starts, enters and stops a cluster on this machine.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use e2e::cluster::{self, Cluster, ComponentState, Inside, Place, Started, TestCluster, UpSettings};
use e2e::components::{Cache, Component};
use e2e::process::{Progress, unless_interrupted};
use e2e::stdout;

/// A real Kubernetes cluster with Knative Serving on this machine, in namespaces of its own.
#[derive(Debug, Parser)]
#[command(name = "cluster")]
struct Arguments {
    /// Which cluster: several run side by side.
    #[arg(long, global = true, default_value = cluster::DEFAULT_NAME, env = "KFERVING_CLUSTER")]
    name: String,
    /// Folder of its state; by default .cache/cluster/NAME of the checkout.
    #[arg(long, global = true, env = "KFERVING_CLUSTER_STATE")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Build the cluster's programs that are not in the cache yet: those named, or all.
    Build {
        /// Components.
        components: Vec<String>,
    },
    /// Make the cluster usable; nothing happens when it is.
    Up(Knative),
    /// Run a command while the cluster is usable. One that is started for it ends with it.
    During {
        #[command(flatten)]
        knative: Knative,
        /// Where KUBECONFIG names a cluster elsewhere, run the command for that one, and start none.
        #[arg(long)]
        or_given: bool,
        /// The command, with KUBECONFIG set.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Stop the cluster and leave nothing but its logs.
    Down {
        /// Every cluster of this checkout, with the state in its usual folder.
        #[arg(long)]
        all: bool,
    },
    /// Say whether the cluster runs, and how each component is.
    Status,
    /// Run a command inside, with kubectl and ctr at hand.
    Enter {
        /// The command; by default a shell.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Stop a component: etcd, kube-apiserver, kubelet, containerd …
    Stop {
        /// Its name in `status`.
        component: String,
    },
    /// Start a component that was stopped or has ended.
    Start {
        /// Its name in `status`.
        component: String,
    },
    /// Run one of Knative's own test suites against the cluster, which is started where it does not run.
    Conformance(e2e::conformance::Arguments),
    #[command(name = cluster::INIT, hide = true)]
    Init(Knative),
    #[command(name = cluster::SUPERVISE, hide = true)]
    Supervise(Knative),
}

#[derive(Debug, Default, clap::Args)]
struct Knative {
    /// Take Knative's binaries and YAML from this folder, to test another release.
    #[arg(long)]
    knative_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.command.needs_root() {
        cluster::require_root()?;
    }
    let place = Place::new(&arguments.name, arguments.state.as_deref())?;
    if let Subcommands::Init(knative) = &arguments.command {
        // Without a runtime: its threads would be process 1's too.
        return cluster::init(&place, knative.knative_dir.as_deref());
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(run(arguments.command, &place))
}

// === impl Subcommands ===

impl Subcommands {
    /// Whether it is about a cluster on this machine, which is root's.
    fn needs_root(&self) -> bool {
        match self {
            Self::Build { .. } => false,
            Self::During { or_given, .. } => !or_given || TestCluster::given().is_none(),
            _ => true,
        }
    }
}

async fn run(command: Subcommands, place: &Place) -> anyhow::Result<ExitCode> {
    let progress = Progress::stderr();
    match command {
        Subcommands::Build { components } => build(&components, &progress).await?,
        Subcommands::Up(knative) => up(place, knative, &progress).await?,
        Subcommands::During { knative, or_given, command } => {
            if let Some(given) = TestCluster::given().filter(|_| or_given) {
                return elsewhere(&given, &command).await;
            }
            return during(place, knative, &command, &progress).await;
        }
        Subcommands::Down { all: true } => {
            for place in Place::all()? {
                down(&place, &progress).await?;
            }
        }
        Subcommands::Down { all: false } => down(place, &progress).await?,
        Subcommands::Status => return status(place).await,
        Subcommands::Enter { command } => return enter(place, command).await,
        Subcommands::Stop { component } => Cluster::get(place)?.stop(&component).await?,
        Subcommands::Start { component } => Cluster::get(place)?.start(&component).await?,
        Subcommands::Conformance(arguments) => {
            usable(place, Knative::default(), &progress).await?;
            return e2e::conformance::run(place, &arguments, &progress).await;
        }
        Subcommands::Supervise(knative) => return cluster::supervise(place, knative.knative_dir.as_deref()).await,
        Subcommands::Init(_) => unreachable!("taken care of without a runtime"),
    }
    Ok(ExitCode::SUCCESS)
}

async fn build(names: &[String], progress: &Progress) -> anyhow::Result<()> {
    let known = || Component::ALL.iter().map(|component| component.name()).collect::<Vec<_>>().join(", ");
    let named = |name: &String| {
        Component::named(name).with_context(|| format!("there is no component {name}; there are {}", known()))
    };
    let chosen: Vec<Component> = names.iter().map(named).collect::<Result<_, _>>()?;
    let chosen = if chosen.is_empty() { Component::ALL } else { &chosen };
    let cache = Cache::open()?;
    unless_interrupted(async { Ok(cache.ensure(chosen, progress).await?) }).await?;
    Ok(())
}

fn settings(place: &Place, knative: Knative) -> anyhow::Result<UpSettings> {
    let resolve = |dir: PathBuf| dir.canonicalize().with_context(|| format!("there is no folder {}", dir.display()));
    let executable = std::env::current_exe().context("cannot find this program")?;
    Ok(UpSettings { place: place.clone(), knative_dir: knative.knative_dir.map(resolve).transpose()?, executable })
}

async fn during(
    place: &Place,
    knative: Knative,
    command: &[OsString],
    progress: &Progress,
) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut run = tokio::process::Command::new(program);
    run.args(arguments);
    let status = cluster::during(&settings(place, knative)?, progress, run).await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Becomes the command, once the cluster of `KUBECONFIG` answers.
async fn elsewhere(given: &OsStr, command: &[OsString]) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command")?;
    let description = TestCluster::from_env().await?.description().await?;
    eprintln!("the cluster of KUBECONFIG={} is used: {description}", given.display());
    let error = TestCluster::command(given, program)?.args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

async fn down(place: &Place, progress: &Progress) -> anyhow::Result<()> {
    match cluster::down(place, progress).await? {
        true => eprintln!("cluster {} is stopped; its logs stay in {}", place.name(), place.logs().display()),
        false => eprintln!("cluster {} did not run", place.name()),
    }
    Ok(())
}

async fn up(place: &Place, knative: Knative, progress: &Progress) -> anyhow::Result<()> {
    let cluster = usable(place, knative, progress).await?;
    let (kubeconfig, tools) = (cluster.kubeconfig(), place.tools());
    stdout::print(&format!("export KUBECONFIG={}\nexport PATH={}:$PATH\n", kubeconfig.display(), tools.display()))?;
    Ok(())
}

/// The cluster, started where it did not run, and said so.
async fn usable(place: &Place, knative: Knative, progress: &Progress) -> anyhow::Result<Cluster> {
    Ok(match cluster::up(&settings(place, knative)?, progress).await? {
        Started::Already(cluster, revived) if revived.is_empty() => {
            eprintln!("cluster {} runs already", place.name());
            cluster
        }
        Started::Already(cluster, revived) => {
            eprintln!("cluster {} runs again, with {} started", place.name(), revived.join(", "));
            cluster
        }
        Started::Now(cluster, time) => {
            eprintln!("cluster {} is usable after {time:.1?}", place.name());
            cluster
        }
    })
}

async fn status(place: &Place) -> anyhow::Result<ExitCode> {
    let Some(cluster) = Cluster::running(place) else {
        stdout::print(&format!("cluster {} does not run\n", place.name()))?;
        return Ok(ExitCode::FAILURE);
    };
    let mut text = format!(
        "cluster {} runs: process {}, KUBECONFIG={}\n",
        place.name(),
        cluster.init_pid(),
        cluster.kubeconfig().display()
    );
    let mut all_run = true;
    for component in cluster.components().await? {
        all_run &= matches!(component.state, ComponentState::Running(_));
        let state = match component.state {
            ComponentState::Running(pid) => format!("runs, process {pid} inside"),
            ComponentState::Stopped => "is stopped".to_owned(),
            ComponentState::Dead(how) => how,
        };
        let _ = writeln!(text, "{:24} {state}", component.name);
    }
    stdout::print(&text)?;
    Ok(if all_run { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn enter(place: &Place, mut command: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let program = if command.is_empty() { "bash".into() } else { command.remove(0) };
    let cluster = Cluster::get(place)?;
    let error = cluster.command(Inside::All, &program).await?.args(command).exec();
    Err(error).context("cannot run nsenter")
}
