//! The same question to stock Knative: one Service at zero, asked through Knative's own activator.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;

use super::ANSWER_PATIENCE;
use crate::http1::{self, Connection, Keep};
use crate::inference::{Encoding, Inference};
use crate::knative::timeline::{self, PHASES, PodTimes, WrapperTimes};
use crate::knative::{self, Cluster, Pods, ServiceSpec};
use crate::plot::{Axis, Bar, Bars, Chart, Curve, Mark, Plot, Scale, Segment, Unit};
use crate::progress::Progress;
use crate::record::Recorder;
use crate::report::{Report, Standing, Verdict};
use crate::scenarios::{Findings, StackOptions, count};
use crate::scrape;

/// Services that take turns. While one is asked those before it stand ready and idle; together they go to zero afterwards, long
/// enough after the last of them was asked that none ends while another wakes.
const SERVICES: usize = 15;

/// What a pod requests: little, so that a small node holds all of them. queue-proxy's request comes on top.
const CPU: &str = "25m";
const MEMORY: &str = "128Mi";

/// Requests at a time, as a Model's default.
const CONCURRENCY: u32 = 4;

/// `timeoutSeconds`: the pod is gone so long after Knative has decided, since queue-proxy drains for longer (30 s).
const TIMEOUT_SECONDS: u32 = 15;

/// `autoscaling.knative.dev/window`: the least that Knative takes.
const WINDOW_SECONDS: u32 = 6;

/// How long all Services may take to be at zero: the window, Knative's grace period (30 s), the end of the pods.
const ZERO_PATIENCE: Duration = Duration::from_secs(240);

/// How long the watch may be behind an answer.
const WATCH_PATIENCE: Duration = Duration::from_secs(30);

/// How often a precondition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Port of the model server's metrics beside queue-proxy.
const METRICS_PORT: u16 = 9095;

/// Series of the report.
const SERIES: &str = "knative";

/// Options of `--target knative`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Options of --target knative")]
// clap names a group after the type, and the scenario's own options are `Args` too.
#[group(id = "knative")]
pub struct Args {
    /// Image that the Services run, with a model of --model-file's name; inside e2e/enter one is made of that and imported
    #[arg(long, value_name = "REFERENCE")]
    pub image: Option<String>,
    /// Services that take turns [default: 15]
    #[arg(long, value_name = "N", value_parser = count::<usize>())]
    pub services: Option<usize>,
    /// Processor that each requests [default: 25m]
    #[arg(long, value_name = "QUANTITY")]
    pub cpu: Option<String>,
    /// Memory that each requests [default: 128Mi]
    #[arg(long, value_name = "QUANTITY")]
    pub memory: Option<String>,
    /// Where the activator takes requests [default: activator-service's cluster IP, port 80]
    #[arg(long, value_name = "ADDR")]
    pub activator: Option<SocketAddr>,
}

impl Args {
    /// Whether any is given.
    pub(super) fn is_given(&self) -> bool {
        let Self { image, services, cpu, memory, activator } = self;
        image.is_some() || services.is_some() || cpu.is_some() || memory.is_some() || activator.is_some()
    }
}

/// A Service that takes turns.
struct Woken {
    name: String,
    revision: String,
    request: Bytes,
}

/// Where and what is measured.
struct Stage {
    cluster: Cluster,
    pods: Pods,
    activator: SocketAddr,
}

/// Runs the scenario.
///
/// # Errors
/// The cluster is not usable, or a Service does not reach the state that a sample starts from.
pub(super) async fn run(args: &Args, samples: usize, options: &StackOptions) -> anyhow::Result<Findings> {
    let services = args.services.unwrap_or(if options.length.quick { 2 } else { SERVICES });
    let image = match &args.image {
        Some(image) => {
            ensure!(
                !options.binaries.are_given(),
                "--image has its model server in it: leave out --poolctl and --wrapper, of which one is made without --image"
            );
            image.clone()
        }
        None => knative::make_image(&options.binaries, options.model_file()?)?,
    };
    let spec = ServiceSpec {
        image,
        cpu: args.cpu.clone().unwrap_or_else(|| CPU.to_owned()),
        memory: args.memory.clone().unwrap_or_else(|| MEMORY.to_owned()),
        concurrency: CONCURRENCY,
        timeout_seconds: TIMEOUT_SECONDS,
        window_seconds: WINDOW_SECONDS,
    };
    let mut report = Report::begin("cold-start", options.seed);
    let cluster = Cluster::connect().await?;
    let activator = match args.activator {
        Some(given) => given,
        None => cluster.activator().await?,
    };
    let stage = Stage { pods: cluster.pods(), cluster, activator };
    let woken = stage.deploy(services, &spec, options).await?;

    let start = Instant::now();
    let mut recorder = Recorder::default();
    let mut progress = Progress::start("cold starts of stock Knative", samples as u64);
    for sample in 0..samples {
        let turn = sample % services;
        if turn == 0 {
            stage.all_at_zero(&woken).await?;
        }
        let service = &woken[turn];
        stage.until(&format!("{} at zero and nothing on its way", service.name), || stage.is_at_zero(service)).await?;
        stage.wake(service, &mut recorder).await?;
        progress.step();
    }
    drop(progress);
    let target = format!(
        "Services of stock Knative through its activator at http://{activator}, image {}, requests cpu {} memory {}",
        spec.image, spec.cpu, spec.memory
    );
    report.series.push(recorder.series(SERIES, &target, start.elapsed()));
    judge(&recorder, samples, &mut report);
    let findings = Findings { plots: plots(&recorder, &report), report };
    stage.cluster.end().await?;
    Ok(findings)
}

// === impl Stage ===

impl Stage {
    async fn deploy(&self, services: usize, spec: &ServiceSpec, options: &StackOptions) -> anyhow::Result<Vec<Woken>> {
        let stem = options.model_file.file_stem().and_then(|stem| stem.to_str()).context("--model-file has no name")?;
        let mut progress = Progress::start("Services", services as u64);
        let mut woken = Vec::new();
        for index in 0..services {
            let name = format!("{stem}-{index}").to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            let revision = self.cluster.deploy(&name, spec).await?;
            let request = self.request(stem, &revision, options.seed).await?;
            woken.push(Woken { name, revision, request });
            progress.step();
        }
        Ok(woken)
    }

    /// The inference that wakes a Service, with the headers that an ingress sets. What the model takes is asked of the model.
    async fn request(&self, model: &str, revision: &str, seed: u64) -> anyhow::Result<Bytes> {
        // A host of this form names the revision too, as the headers do.
        let host = format!("{revision}.{}.svc.cluster.local", self.cluster.namespace());
        let path = format!("/v2/models/{model}");
        let mut connection = Connection::open(self.activator).await?;
        let question = http1::get(&host, &path);
        let answer = http1::within(ANSWER_PATIENCE, connection.exchange(&question, Keep::Body)).await?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "{path} of {revision} answered {}: {text}", answer.status);
        let inference = Inference::from_metadata(model, &text, seed)?;
        let namespace = self.cluster.namespace();
        let headers = [("knative-serving-namespace", namespace), ("knative-serving-revision", revision)];
        Ok(inference.request(&host, Encoding::Json, &headers))
    }

    /// Lets everything end, so that a round begins on a quiet node.
    async fn all_at_zero(&self, woken: &[Woken]) -> anyhow::Result<()> {
        self.until("all Services at zero", async || Ok(self.pods.none())).await?;
        for service in woken {
            let name = &service.name;
            self.until(&format!("{name} at zero"), || self.is_at_zero(service)).await?;
        }
        Ok(())
    }

    /// What a sample starts from: Knative wants no replica, and the API itself has no pod of it, ending ones included. Other
    /// Services' pods neither start nor end.
    async fn is_at_zero(&self, service: &Woken) -> anyhow::Result<bool> {
        Ok(self.pods.at_rest()
            && self.cluster.wants_none(&service.revision).await?
            && self.cluster.has_no_pod(&service.revision).await?)
    }

    async fn wake(&self, service: &Woken, recorder: &mut Recorder) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.activator).await?;
        let (sent, clock) = (SystemTime::now(), Instant::now());
        let answer = http1::within(ANSWER_PATIENCE, connection.exchange(&service.request, Keep::Labels)).await;
        let answer = match answer {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) => {
                recorder.error(&answer.status.to_string());
                return Ok(());
            }
            Err(failure) => {
                recorder.error(failure.name());
                return Ok(());
            }
        };
        let took = answer.first_byte.duration_since(clock);
        let pod = self.pod(service).await?;
        let wrapper = wrapper_times(pod.ip.as_deref().context("a pod that answered without an address")?).await?;
        ensure!(wrapper.started > sent, "{} was answered by a process older than the request", service.name);
        recorder.success(took);
        for (phase, time) in timeline::phases(sent, sent + took, &pod, wrapper) {
            recorder.phases.entry(phase.to_owned()).or_default().record(time);
        }
        Ok(())
    }

    /// The one pod of a Service that was woken, once the watch has told that it is ready.
    async fn pod(&self, service: &Woken) -> anyhow::Result<PodTimes> {
        let deadline = Instant::now() + WATCH_PATIENCE;
        loop {
            let pods = self.pods.of(&service.name);
            match pods.as_slice() {
                [pod] if pod.is_at_rest() => return Ok(pod.clone()),
                _ if Instant::now() > deadline => bail!("{} has not one ready pod: {pods:?}", service.name),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn until(&self, what: &str, mut condition: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let deadline = Instant::now() + ZERO_PATIENCE;
        while !condition().await? {
            ensure!(Instant::now() < deadline, "{what}: not within {ZERO_PATIENCE:?}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

/// What the model server's own clock says of its start.
async fn wrapper_times(ip: &str) -> anyhow::Result<WrapperTimes> {
    let address = SocketAddr::new(ip.parse().with_context(|| format!("the pod's address {ip}"))?, METRICS_PORT);
    let page = scrape::metrics(address).read().await?;
    let page = String::from_utf8_lossy(&page);
    let milestone = |name: &str| {
        let metric = format!("kferving_wrapper_start_timestamp_seconds{{milestone=\"{name}\"}}");
        let seconds = scrape::samples(&page, &metric).first().copied();
        let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        since.map(|since| UNIX_EPOCH + since).with_context(|| format!("http://{address}/metrics has no {metric}"))
    };
    Ok(WrapperTimes { started: milestone("started")?, ready: milestone("ready")? })
}

fn judge(recorder: &Recorder, samples: usize, report: &mut Report) {
    let errors: u64 = recorder.errors.values().sum();
    report.verdicts.push(Verdict::promise(
        "every request is answered",
        Standing::from(errors == 0).over(recorder.ended()),
        format!("{} answered, {errors} not", recorder.latency.count()),
    ));
    // A sample whose pod was older than its request ends the scenario, so all that were counted were cold.
    report.verdicts.push(Verdict::promise(
        "every sample woke a pod of its own",
        Standing::from(recorder.ended() == samples as u64).over(recorder.ended()),
        format!("{} of {samples}", recorder.ended()),
    ));
}

fn plots(recorder: &Recorder, report: &Report) -> Vec<Plot> {
    let curve = Curve { name: SERIES.to_owned(), points: recorder.latency.curve(), mark: Mark::Line };
    let median = |phase: &str| recorder.phases.get(phase).map_or(0.0, |times| times.quantile_us(0.5));
    let segments = PHASES.map(|phase| Segment { name: phase.to_owned(), value: median(phase) });
    let total = report.find(SERIES).map_or(0.0, |series| series.latency_us.p50);
    vec![
        Plot::Chart(Chart {
            title: "One Service of stock Knative wakes".to_owned(),
            caption: "Lower is better. At 50 % the median; each further nine takes the same room.".to_owned(),
            x: Axis::new("share of samples", Scale::Percentile, Unit::Share),
            y: Axis::new("time to first byte", Scale::Log, Unit::Time),
            curves: vec![curve],
        }),
        Plot::Bars(Bars {
            title: "Where the time goes".to_owned(),
            caption: format!(
                "Medians of the parts; the median of the whole is {}. Medians need not add up.",
                crate::table::time(total)
            ),
            unit: Unit::Time,
            bars: vec![Bar { label: SERIES.to_owned(), segments: segments.into() }],
        }),
    ]
}
