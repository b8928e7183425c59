//! Running the processes of a suite: started, listened to, held to the bounds, until every case has a result.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use poolctl_runtime::Shutdown;
use rustix::process::Signal;

use super::events::{Event, Outcome, Reader};
use super::journal::Journal;
use super::plan::{Ending, Plan, Stuck};
use super::suite::{Selection, Suite};
use super::tail::Tail;
use crate::process::{Process, Progress, SpawnError};

/// How often the output is looked at: bounds are minutes.
const LOOK: Duration = Duration::from_millis(100);

/// A suite that is interrupted removes the objects of its tests: a few requests to the API server each.
const FAREWELL: Duration = Duration::from_secs(15);

/// `-test.list` only prints names.
const LISTING: Duration = Duration::from_secs(30);

/// Beyond the bound for the suite, for the case that nothing else ends it.
const BEYOND: Duration = Duration::from_secs(60);

/// Why a suite could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// The cluster cannot be entered.
    #[error("the suite cannot be started in the cluster: {0}")]
    Site(String),
    /// The binary cannot be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Its output cannot be read.
    #[error("the output of the suite in {path} cannot be read: {source}")]
    Output {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its cases cannot be listed.
    #[error("the suite's binary does not list its tests ({how}); see {log}")]
    List {
        /// What happened instead.
        how: String,
        /// What it printed.
        log: PathBuf,
    },
    /// A further process would end the same way.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// What a lost process left in the cluster cannot be removed.
    #[error("what the suite left in the cluster could not be removed: {0}")]
    Cleaning(String),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A place where the suite's binary can be run.
pub(super) trait Site {
    /// The command that runs the binary with these arguments, where it reaches the cluster. A signal to it reaches the binary.
    fn command(&self, arguments: &[String]) -> impl Future<Output = Result<Command, String>>;

    /// Makes the cluster ready again after a process that was lost.
    fn clean(&self) -> impl Future<Output = Result<(), String>>;
}

/// Runs one suite.
#[derive(Debug)]
pub(super) struct Runner<'a, S> {
    /// Which.
    pub suite: Suite,
    /// Where.
    pub site: &'a S,
    /// The suite's own arguments.
    pub arguments: Vec<String>,
    /// How many cases run side by side.
    pub parallel: usize,
    /// Folder for what the processes print: `output-1.log`, `output-2.log`, …
    pub folder: &'a Path,
    /// Where it is told how far it is.
    pub progress: &'a Progress,
    /// Ends it early.
    pub shutdown: &'a Shutdown,
    /// When the bound for the whole suite is reached, and that bound.
    pub deadline: (Instant, Duration),
    /// Processes so far.
    pub processes: usize,
}

/// A process that ended, or was ended.
struct Past {
    journal: Journal,
    ending: Ending,
    at: Duration,
}

// === impl Runner ===

impl<S: Site> Runner<'_, S> {
    /// The test functions that the binary has and the pattern matches. For a suite whose cases are subtests: none, as a binary lists
    /// its functions only.
    ///
    /// # Errors
    /// When the binary cannot be run or fails.
    pub(super) async fn list(&self, pattern: Option<&str>) -> Result<BTreeSet<String>, RunError> {
        if self.suite.container().is_some() {
            return Ok(BTreeSet::new());
        }
        let log = self.folder.join("list.log");
        let arguments = [format!("-test.list={}", pattern.unwrap_or("."))];
        let process = Process::spawn("list of tests", self.command(&arguments).await?, &log)?;
        let failed = |how: String| RunError::List { how, log: log.clone() };
        match tokio::time::timeout(LISTING, process.ended()).await {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(failed(status.to_string())),
            Err(_) => return Err(failed(format!("no end within {} s", LISTING.as_secs()))),
        }
        let text = std::fs::read_to_string(&log).map_err(|source| RunError::Output { path: log.clone(), source })?;
        Ok(text.lines().filter(|line| line.starts_with("Test")).map(str::to_owned).collect())
    }

    /// Runs what is wanted, in as many processes as it takes, no case longer than `bound`.
    ///
    /// # Errors
    /// When it cannot be run to its end; results of single tests are no errors.
    pub(super) async fn run(
        &mut self,
        wanted: Selection,
        listed: BTreeSet<String>,
        bound: Duration,
    ) -> Result<Plan, RunError> {
        let mut plan = Plan::new(self.suite, wanted, listed);
        while let Some(selection) = plan.next() {
            let past = self.process(&selection, bound).await?;
            if past.ending != Ending::Complete {
                self.progress.say(&lost(self.processes, &past.ending));
                self.site.clean().await.map_err(RunError::Cleaning)?;
            }
            plan.ended(&past.journal, &past.ending, past.at)?;
        }
        Ok(plan)
    }

    async fn command(&self, arguments: &[String]) -> Result<Command, RunError> {
        self.site.command(arguments).await.map_err(RunError::Site)
    }

    async fn process(&mut self, selection: &Selection, bound: Duration) -> Result<Past, RunError> {
        self.processes += 1;
        let log = self.folder.join(format!("output-{}.log", self.processes));
        let mut arguments = vec![
            "-test.v=test2json".to_owned(),
            format!("-test.parallel={}", self.parallel),
            format!("-test.timeout={}s", (self.deadline.1 + BEYOND).as_secs()),
        ];
        arguments.extend(self.suite.select(selection));
        arguments.extend(self.arguments.iter().cloned());
        let process = Process::spawn(self.suite.binary(), self.command(&arguments).await?, &log)?;
        let past = self.listen(&process, &log, bound).await;
        process.kill().await;
        past
    }

    /// Follows a process until it has ended or has to be ended.
    async fn listen(&self, process: &Process, log: &Path, bound: Duration) -> Result<Past, RunError> {
        let output = |source| RunError::Output { path: log.to_owned(), source };
        let mut tail = Tail::of(log).map_err(output)?;
        let mut reader = Reader::default();
        let mut journal = Journal::new(self.suite);
        let began = Instant::now();
        let step = self.progress.step(&format!("{}, process {}", self.suite.name(), self.processes));
        let interrupted = self.shutdown.requested();
        tokio::pin!(interrupted);
        loop {
            let status = tokio::select! {
                status = process.ended() => Some(status),
                () = tokio::time::sleep(LOOK) => None,
                () = &mut interrupted => {
                    farewell(process).await;
                    return Err(RunError::Interrupted);
                }
            };
            let mut lines = tail.lines().map_err(output)?;
            if status.is_some() {
                lines.extend(tail.remainder());
            }
            let now = began.elapsed();
            for event in lines.iter().flat_map(|line| reader.read(line)) {
                self.tell(&event, &journal);
                journal.note(event, now);
            }
            let ending = match status {
                Some(_) if journal.is_closed() => Some(Ending::Complete),
                Some(status) => Some(Ending::Died(status.to_string())),
                None if Instant::now() >= self.deadline.0 => Some(Ending::OutOfTime(self.deadline.1)),
                None => is_overdue(&journal.running(now), bound).then_some(Ending::Overdue(bound)),
            };
            if let Some(ending) = ending {
                if status.is_none() {
                    farewell(process).await;
                }
                return Ok(Past { journal, ending, at: now });
            }
            step.note(&so_far(&journal.running(now), bound));
        }
    }

    /// The end of a case is worth a line.
    fn tell(&self, event: &Event, journal: &Journal) {
        let Event::Ended { test, outcome, took } = event else { return };
        if !journal.is_case(test) {
            return;
        }
        let word = match outcome {
            Outcome::Pass => "pass",
            Outcome::Fail => "FAIL",
            Outcome::Skip => "skip",
        };
        self.progress.say(&format!("{word}  {test}  {:.1} s", took.as_secs_f64()));
    }
}

/// Whether to end the process: a case is past its bound. Its neighbours that are about to pass theirs are waited for, as each end
/// costs a further process.
fn is_overdue(running: &[(&str, Duration)], bound: Duration) -> bool {
    let patience = bound / 10;
    let Some((_, longest)) = running.first() else { return false };
    let about_to = |ran: Duration| ran < bound && ran + patience >= bound;
    *longest >= bound && (*longest >= bound + patience || !running.iter().any(|(_, ran)| about_to(*ran)))
}

fn so_far(running: &[(&str, Duration)], bound: Duration) -> String {
    match running.first() {
        None => "no case runs".to_owned(),
        Some((case, ran)) => {
            format!("{} running, {case} for {:.0} s of at most {}", running.len(), ran.as_secs_f64(), bound.as_secs())
        }
    }
}

fn lost(process: usize, ending: &Ending) -> String {
    match ending {
        Ending::Complete => format!("process {process} ran to its end"),
        Ending::Overdue(bound) => format!("process {process} was ended: a case was past its {} s", bound.as_secs()),
        Ending::OutOfTime(bound) => {
            format!("process {process} was ended: the {} s for the suite are over", bound.as_secs())
        }
        Ending::Died(status) => format!("process {process} died ({status})"),
    }
}

/// Lets the suite remove what it can, then ends it.
async fn farewell(process: &Process) {
    process.signal(Signal::INT);
    // A suite that hangs does not answer: it is killed by the caller, and the cluster is cleaned.
    let _ = tokio::time::timeout(FAREWELL, process.ended()).await;
}
