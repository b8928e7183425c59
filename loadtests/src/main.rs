//! `loadtest SCENARIO`: measures KFerving on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtests::report::Kind;
use loadtests::result_file::ResultFile;
use loadtests::scenarios::{Findings, chaos, cold_start, gateway, herd, idle, wrapper, zipf};
use loadtests::{bare, echo, files, page, table};
use poolctl_runtime::Shutdown;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures KFerving on this machine
///
/// Each scenario starts the processes it needs, measures, prints a table, and stops them. Exits with 1 when a promise is
/// broken, such as a lost request; a missed budget of time or size is told, and exits with 1 only with --enforce-budgets.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    results: Results,
}

/// What becomes of a result.
#[derive(Debug, clap::Args)]
struct Results {
    /// Writes the result as JSON
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    /// Writes the result as an HTML page with plots
    #[arg(long, value_name = "FILE", global = true)]
    html: Option<PathBuf>,
    /// Exits with 1 also when a budget is missed
    #[arg(long, global = true)]
    enforce_budgets: bool,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    ColdStart(cold_start::Args),
    Gateway(gateway::Args),
    Wrapper(wrapper::Args),
    Idle(idle::Args),
    Herd(herd::Args),
    Zipf(zipf::Args),
    Chaos(chaos::Args),
    Echo(echo::Args),
    #[command(hide = true)]
    Bare(bare::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.scenario {
        Scenario::Echo(_) | Scenario::Bare(_) if cli.results.are_wanted() => {
            anyhow::bail!("--json, --html and --enforce-budgets are for scenarios: this only serves one");
        }
        // Alone on its core, the upstream pays for no other thread.
        Scenario::Echo(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { echo::run(args, &Shutdown::on_signals()?).await })?;
            Ok(ExitCode::SUCCESS)
        }
        Scenario::Bare(args) => {
            bare::run(args)?;
            Ok(ExitCode::SUCCESS)
        }
        scenario => {
            files::raise_limit()?;
            let (json, html) = cli.results.open()?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let findings = runtime.block_on(async {
                let shutdown = Shutdown::on_signals()?;
                // What a scenario started stops when the scenario is dropped.
                tokio::select! {
                    findings = measure(scenario) => findings,
                    () = shutdown.requested() => anyhow::bail!("interrupted: what was started has been stopped"),
                }
            })?;
            tell(&findings, json, html, &cli.results)
        }
    }
}

async fn measure(scenario: &Scenario) -> anyhow::Result<Findings> {
    match scenario {
        Scenario::ColdStart(args) => cold_start::run(args).await,
        Scenario::Gateway(args) => gateway::run(args).await,
        Scenario::Wrapper(args) => wrapper::run(args).await,
        Scenario::Idle(args) => idle::run(args).await,
        Scenario::Herd(args) => herd::run(args).await,
        Scenario::Zipf(args) => zipf::run(args).await,
        Scenario::Chaos(args) => chaos::run(args).await,
        Scenario::Echo(_) | Scenario::Bare(_) => anyhow::bail!("a part of a scenario is not a scenario"),
    }
}

impl Results {
    fn are_wanted(&self) -> bool {
        self.json.is_some() || self.html.is_some() || self.enforce_budgets
    }

    /// Opens both files, for a measurement that cannot be written down is none.
    fn open(&self) -> anyhow::Result<(Option<ResultFile>, Option<ResultFile>)> {
        let open = |path: &Option<PathBuf>| path.as_deref().map(ResultFile::open).transpose();
        Ok((open(&self.json)?, open(&self.html)?))
    }
}

fn tell(
    findings: &Findings,
    json: Option<ResultFile>,
    html: Option<ResultFile>,
    results: &Results,
) -> anyhow::Result<ExitCode> {
    let report = &findings.report;
    print!("{}", table::render(report));
    let json = json.map_or(Ok(()), |file| file.write(&(serde_json::to_string_pretty(report)? + "\n")));
    let html = html.map_or(Ok(()), |file| file.write(&page::render(report, &findings.plots)));
    json.and(html)?;
    let failed = !report.holds(Kind::Promise) || (results.enforce_budgets && !report.holds(Kind::Budget));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
