//! `cluster conformance SUITE`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use kube::Client;
use poolctl_runtime::Shutdown;

use super::canary::{self, Canary};
use super::compare::Comparison;
use super::events::Outcome;
use super::fixtures::Fixtures;
use super::plan::TestResult;
use super::report::{Report, Verdict};
use super::rig::Rig;
use super::runner::{RunError, Runner};
use super::suite::{Bounds, Selection, Suite, Target};
use super::{images, waiting};
use crate::cluster::{Cluster, Place};
use crate::components::{Binaries, Cache};
use crate::process::Progress;
use crate::stdout;

/// Cases that wait for an ingress and run side by side, to see whether they still do. Each has a pod or two that start and then
/// idle.
const WAITING_SIDE_BY_SIDE: usize = 8;

/// Options of `cluster conformance`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Which suite
    pub suite: Suite,
    /// Run only the cases whose names this regular expression (in Go's form) matches
    #[arg(long, value_name = "PATTERN")]
    pub run: Option<String>,
    /// Class of the ingress under test [default: that of Serving's config-network]
    #[arg(long, value_name = "CLASS")]
    pub ingress_class: Option<String>,
    /// Address that has the node ports of the ingress [default: the load balancer's in its Service]
    #[arg(long, value_name = "ADDRESS")]
    pub ingress_endpoint: Option<String>,
    /// The Service of the ingress, where tests send requests
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = gateway)]
    pub gateway: Option<(String, String)>,
    /// What to do with the cases that are known to wait for an ingress
    #[arg(long, value_enum, default_value_t = Waiting::Ask)]
    pub waiting: Waiting,
    /// Cases side by side [default: the suite's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub parallel: Option<u16>,
    /// Longest time for one case, in seconds [default: the suite's]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub case_timeout: Option<u64>,
    /// Longest time for the whole suite, in seconds [default: the suite's]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub suite_timeout: Option<u64>,
    /// An earlier run's results.json: what fails now and did not then decides the exit status
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Folder for results.json, results.txt and the suite's output [default: conformance/SUITE in the cluster's state]
    #[arg(long, value_name = "FOLDER")]
    pub results: Option<PathBuf>,
}

/// What to do with cases that are expected to fail for want of an ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Waiting {
    /// Ask the cluster: leave them out unless a controller takes up an Ingress of the class
    Ask,
    /// Run them, to see whether they still do
    Check,
    /// Leave them out
    Skip,
    /// Forget about the list: there is an ingress
    Ignore,
}

/// Runs a suite on a running cluster, prints the table and says by its status whether something fails that should not.
///
/// # Errors
/// When the suite could not be run to its end.
pub async fn run(place: &Place, arguments: &Arguments, progress: &Progress) -> anyhow::Result<ExitCode> {
    let baseline = arguments.baseline.as_deref().map(Report::read).transpose()?;
    if let Some(other) = baseline.as_ref().filter(|baseline| baseline.suite != arguments.suite) {
        anyhow::bail!("the baseline is of {}: give one of {}", other.suite.name(), arguments.suite.name());
    }
    let shutdown = Shutdown::on_signals().context("cannot install the signal handlers")?;
    let report = report(place, arguments, progress, &shutdown).await?;
    stdout::print(&report.table())?;
    let Some(baseline) = baseline else {
        return Ok(if report.with(Verdict::Fail).is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    };
    let comparison = Comparison::of(&report, &baseline);
    stdout::print(&format!("\n{comparison}"))?;
    Ok(if comparison.newly_failing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a suite on a running cluster, and writes its results.
///
/// # Errors
/// When the suite could not be run to its end.
pub async fn report(
    place: &Place,
    arguments: &Arguments,
    progress: &Progress,
    shutdown: &Shutdown,
) -> anyhow::Result<Report> {
    let suite = arguments.suite;
    let cluster = Cluster::get(place)?;
    let _alone = alone_on(place)?;
    let folder = arguments.results.clone().unwrap_or_else(|| place.path("conformance").join(suite.name()));
    renew(&folder).with_context(|| format!("cannot make the folder {} for the results", folder.display()))?;
    let cache = Cache::open()?;
    let component = [suite.component()];
    let binaries = tokio::select! {
        built = cache.ensure(&component, progress) => built?,
        () = shutdown.requested() => return Err(RunError::Interrupted.into()),
    };
    let step = progress.step("images of the tests");
    let imported = images::import(&cluster, &cache, &binaries, suite).await?;
    step.done(&format!("{} imported, {} there already", imported.new, imported.known));

    let client = cluster.client().await?;
    let kept = place.data("conformance-settings.json");
    let mut fixtures = Fixtures::of(client.clone(), &objects(&binaries, suite), kept).await?;
    let class = arguments.ingress_class.clone().unwrap_or_else(|| fixtures.ingress_class());
    let target = Target { ingress_class: class.clone(), ingress_endpoint: arguments.ingress_endpoint.clone() };
    fixtures.set(suite.settings(&target));
    let rig = Rig {
        cluster: &cluster,
        fixtures: &fixtures,
        binary: binaries.path(suite.binary())?,
        gateway: arguments.gateway.clone(),
    };
    fixtures.lay().await?;
    let bounds = bounds(arguments);
    let began = Instant::now();
    let runner = Runner {
        suite,
        site: &rig,
        arguments: suite.arguments(&target),
        parallel: arguments.parallel.map_or(suite.parallel(), usize::from),
        folder: &folder,
        progress,
        shutdown,
        deadline: (began + bounds.suite, bounds.suite),
        processes: 0,
    };
    let outcome = results(&client, &class, runner, arguments).await;
    // Whatever came of it, the cluster is left as it was found.
    let cleared = fixtures.take_away().await;
    let Results { tests, waiting, processes } = outcome?;
    let report = Report {
        suite,
        version: binaries.version(suite.component()).unwrap_or_default().to_owned(),
        ingress_class: class,
        began_unix_s: (SystemTime::now() - began.elapsed())
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        seconds: began.elapsed().as_secs_f64(),
        processes,
        tests,
        waiting,
    };
    report.write(&folder)?;
    cleared.with_context(|| format!("the results are in {}, but the cluster is not clean", folder.display()))?;
    Ok(report)
}

/// What came of a suite's cases.
struct Results {
    tests: BTreeMap<String, TestResult>,
    waiting: BTreeMap<String, String>,
    processes: usize,
}

// === impl Results ===

impl Results {
    /// Of a suite that was not started, as every one of its waits would last until its end.
    fn unserved(suite: Suite, reason: String) -> Self {
        let result = TestResult {
            outcome: Outcome::Fail,
            seconds: canary::PATIENCE.as_secs_f64(),
            note: Some(reason),
            printed: Vec::new(),
        };
        let test = suite.container().unwrap_or(suite.name()).to_owned();
        Self { tests: BTreeMap::from([(test, result)]), waiting: BTreeMap::new(), processes: 0 }
    }
}

/// Runs the suite, if there is any sense in it.
async fn results(
    client: &Client,
    class: &str,
    runner: Runner<'_, Rig<'_>>,
    arguments: &Arguments,
) -> anyhow::Result<Results> {
    if runner.suite != Suite::Ingress && arguments.waiting != Waiting::Ask {
        return cases(runner, arguments, arguments.waiting).await;
    }
    let canary = tokio::select! {
        canary = canary::ask(client, class, runner.progress) => canary.context("cannot try the ingress class")?,
        () = runner.shutdown.requested() => return Err(RunError::Interrupted.into()),
    };
    match canary {
        Canary::Served => cases(runner, arguments, Waiting::Ignore).await,
        Canary::Ignored(reason) if runner.suite == Suite::Ingress => Ok(Results::unserved(runner.suite, reason)),
        Canary::Ignored(reason) => {
            runner.progress.say(&format!("{reason}. Cases that wait for one are left out"));
            cases(runner, arguments, Waiting::Skip).await
        }
    }
}

/// Runs the cases: those that should pass first, so that the others, which mostly hang, do not disturb them.
async fn cases(mut runner: Runner<'_, Rig<'_>>, arguments: &Arguments, waiting: Waiting) -> anyhow::Result<Results> {
    let bounds = bounds(arguments);
    let list = match waiting {
        Waiting::Ignore => BTreeMap::new(),
        Waiting::Ask | Waiting::Check | Waiting::Skip => waiting::list(runner.suite)?,
    };
    let pattern = arguments.run.as_deref();
    let mut listed = runner.list(pattern).await?;
    let hopeless = runner.suite.hopeless().iter().filter(|(case, _)| listed.remove(*case));
    let mut tests: BTreeMap<String, TestResult> =
        hopeless.map(|(case, reason)| ((*case).to_owned(), not_run(reason))).collect();
    let unknown: Vec<&str> = list.keys().map(String::as_str).filter(|case| !listed.contains(*case)).collect();
    if pattern.is_none() && !unknown.is_empty() {
        runner.progress.say(&format!(
            "on the list of those that wait for an ingress, but not in the suite: {}",
            unknown.join(", ")
        ));
    }
    let reasons: BTreeMap<String, String> = list.into_iter().filter(|(case, _)| listed.contains(case)).collect();
    let held_back: BTreeSet<String> = reasons.keys().cloned().collect();
    let ready: BTreeSet<String> = listed.difference(&held_back).cloned().collect();

    let but = held_back.iter().chain(tests.keys()).cloned().collect();
    let wanted = Selection::AllBut { pattern: arguments.run.clone(), but };
    if runner.suite.container().is_some() || !ready.is_empty() {
        tests.extend(runner.run(wanted, ready, bounds.case).await?.into_results());
    }
    match waiting {
        Waiting::Check if !held_back.is_empty() => {
            runner.parallel = runner.parallel.max(WAITING_SIDE_BY_SIDE);
            let wanted = Selection::Only(held_back.clone());
            tests.extend(runner.run(wanted, held_back, bounds.waiting_case).await?.into_results());
        }
        Waiting::Check | Waiting::Ignore => {}
        Waiting::Ask | Waiting::Skip => tests.extend(held_back.into_iter().map(|case| (case, not_run("not run")))),
    }
    anyhow::ensure!(!tests.is_empty(), "no case of {} matches {}", runner.suite.name(), pattern.unwrap_or("."));
    Ok(Results { tests, waiting: reasons, processes: runner.processes })
}

fn not_run(why: &str) -> TestResult {
    TestResult { outcome: Outcome::Skip, seconds: 0.0, note: Some(why.to_owned()), printed: Vec::new() }
}

fn bounds(arguments: &Arguments) -> Bounds {
    let standard = arguments.suite.bounds();
    let case = arguments.case_timeout.map_or(standard.case, Duration::from_secs);
    Bounds {
        case,
        waiting_case: standard.waiting_case.min(case),
        suite: arguments.suite_timeout.map_or(standard.suite, Duration::from_secs),
    }
}

/// Keeps a second run away until it is dropped: all suites use the same namespaces.
fn alone_on(place: &Place) -> anyhow::Result<File> {
    let path = place.path("conformance.lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!("a suite runs on cluster {} already", place.name()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// The objects that the suite's own set-up script creates.
fn objects(binaries: &Binaries, suite: Suite) -> Vec<PathBuf> {
    let folder = binaries.dir(suite.component()).map(|dir| dir.join("config")).unwrap_or_default();
    suite.objects().iter().map(|file| folder.join(file)).collect()
}

/// `NAMESPACE/NAME`
fn gateway(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    let (namespace, name) = parts.ok_or_else(|| format!("{text:?}: expected NAMESPACE/NAME of a Service"))?;
    Ok((namespace.to_owned(), name.to_owned()))
}

/// Makes the folder; results of an earlier run in it are removed, as this one may be interrupted.
fn renew(folder: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("output-") || name == "list.log" || name.starts_with("results.") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
