use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use poolctl_runtime::Shutdown;

use super::super::events::Outcome;
use super::super::runner::{RunError, Runner, Site};
use super::super::suite::{Selection, Suite};
use super::names;
use crate::process::Progress;

/// Longer than any test here waits.
const LONG: Duration = Duration::from_secs(300);

/// A suite in shell. It has the tests TestGood, TestHangs, TestPanics and TestAfter, and knows the flags that Go gives a test binary.
const FAKE_SUITE: &str = r#"#!/bin/sh
for argument; do
    case $argument in
        -test.list=*) printf 'TestGood\nTestHangs\nTestPanics\nTestAfter\n'; exit 0 ;;
        -test.skip=*) skip=${argument#-test.skip=} ;;
        -test.run=*) only=${argument#-test.run=} ;;
    esac
done
chosen() { case $skip in *$1[\|\)]*) return 1 ;; esac; [ -z "$only" ] || case $only in *$1[\|\)]*) ;; *) return 1 ;; esac; }
say() { printf '\026%s\n' "$1"; }
trap 'echo interrupted >>"$SAID"; exit 1' INT
if chosen TestGood; then say '=== RUN   TestGood'; say '--- PASS: TestGood (0.01s)'; fi
if chosen TestHangs; then say '=== RUN   TestHangs'; echo '    waiting for a Service'; while :; do sleep 0.05; done; fi
if chosen TestPanics; then
    say '=== RUN   TestPanics'; say '--- FAIL: TestPanics (0.02s)'
    printf 'panic: nil map\n\ngoroutine 7 [running]:\n'; exit 2
fi
if chosen TestAfter; then say '=== RUN   TestAfter'; say '--- PASS: TestAfter (0.03s)'; fi
say PASS
"#;

/// Where the fake suite runs: here.
struct FakeSite {
    folder: tempfile::TempDir,
    cleaned: Cell<usize>,
}

impl FakeSite {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("suite.sh"), script).unwrap();
        Self { folder, cleaned: Cell::new(0) }
    }

    fn said(&self) -> PathBuf {
        self.folder.path().join("said")
    }
}

impl Site for FakeSite {
    async fn command(&self, arguments: &[String]) -> Result<Command, String> {
        let mut command = Command::new("sh");
        command.arg(self.folder.path().join("suite.sh")).args(arguments).env("SAID", self.said());
        Ok(command)
    }

    async fn clean(&self) -> Result<(), String> {
        self.cleaned.set(self.cleaned.get() + 1);
        Ok(())
    }
}

fn runner<'a>(
    site: &'a FakeSite,
    folder: &'a Path,
    progress: &'a Progress,
    shutdown: &'a Shutdown,
) -> Runner<'a, FakeSite> {
    Runner {
        suite: Suite::ServingApi,
        site,
        arguments: Vec::new(),
        parallel: 1,
        folder,
        progress,
        shutdown,
        deadline: (Instant::now() + LONG, LONG),
        processes: 0,
    }
}

fn everything() -> Selection {
    Selection::AllBut { pattern: None, but: names(&[]) }
}

#[tokio::test]
async fn a_hang_and_a_panic_cost_one_result_each() {
    let (site, folder) = (FakeSite::new(FAKE_SUITE), tempfile::tempdir().unwrap());
    let (progress, shutdown) = (Progress::silent(), Shutdown::new());
    let mut runner = runner(&site, folder.path(), &progress, &shutdown);
    let listed = runner.list(None).await.unwrap();
    assert_eq!(listed, names(&["TestAfter", "TestGood", "TestHangs", "TestPanics"]));

    let plan = runner.run(everything(), listed, Duration::from_secs(1)).await.unwrap();
    let outcome = |case: &str| plan.results()[case].outcome;
    assert_eq!(outcome("TestGood"), Outcome::Pass);
    assert_eq!(outcome("TestAfter"), Outcome::Pass);
    let hangs = &plan.results()["TestHangs"];
    assert_eq!((hangs.outcome, hangs.note.as_deref()), (Outcome::Fail, Some("timed out after 1 s")));
    assert_eq!(hangs.printed, ["    waiting for a Service"]);
    let panics = &plan.results()["TestPanics"];
    assert_eq!((panics.outcome, panics.note.as_deref()), (Outcome::Fail, Some("ended the suite: panic: nil map")));
    assert_eq!(runner.processes, 3, "one for the hang, one for the panic, one for the rest");
    assert_eq!(site.cleaned.get(), 2, "after each that was lost");
    assert_eq!(
        std::fs::read_to_string(site.said()).unwrap(),
        "interrupted\n",
        "it was asked to clean up behind itself"
    );
    assert!(folder.path().join("output-3.log").is_file());
}

#[tokio::test]
async fn the_bound_for_the_suite_holds() {
    let (site, folder) = (FakeSite::new(FAKE_SUITE), tempfile::tempdir().unwrap());
    let (progress, shutdown) = (Progress::silent(), Shutdown::new());
    let mut runner = runner(&site, folder.path(), &progress, &shutdown);
    let listed = runner.list(None).await.unwrap();
    let bound = Duration::from_secs(1);
    runner.deadline = (Instant::now() + bound, bound);
    let plan = runner.run(everything(), listed, LONG).await.unwrap();
    assert_eq!(plan.results()["TestGood"].outcome, Outcome::Pass);
    let note = |case: &str| plan.results()[case].note.clone().unwrap();
    assert_eq!(note("TestHangs"), "not ended when the 1 s for the suite were over");
    assert_eq!(note("TestAfter"), "not reached before the 1 s for the suite were over");
    assert_eq!(runner.processes, 1);
}

#[tokio::test]
async fn an_interruption_ends_the_suite() {
    let (site, folder) = (FakeSite::new(FAKE_SUITE), tempfile::tempdir().unwrap());
    let (progress, shutdown) = (Progress::silent(), Shutdown::new());
    let mut runner = runner(&site, folder.path(), &progress, &shutdown);
    let ask = async {
        let log = folder.path().join("output-1.log");
        while !std::fs::read_to_string(&log).unwrap_or_default().contains("TestHangs") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shutdown.request();
    };
    let (result, ()) = tokio::join!(runner.run(everything(), names(&[]), LONG), ask);
    assert!(matches!(result, Err(RunError::Interrupted)), "{result:?}");
    assert_eq!(std::fs::read_to_string(site.said()).unwrap(), "interrupted\n");
}

#[tokio::test]
async fn a_suite_that_ends_at_once_is_an_error_with_its_words() {
    let site = FakeSite::new("echo 'flag provided but not defined: -x'; exit 2");
    let folder = tempfile::tempdir().unwrap();
    let (progress, shutdown) = (Progress::silent(), Shutdown::new());
    let mut runner = runner(&site, folder.path(), &progress, &shutdown);
    let error = runner.run(everything(), names(&[]), LONG).await.unwrap_err().to_string();
    assert!(error.contains("exit status: 2") && error.contains("flag provided but not defined: -x"), "{error}");
    let error = runner.list(None).await.unwrap_err().to_string();
    assert!(error.contains("list.log"), "{error}");
}

#[tokio::test]
async fn cases_that_run_side_by_side_past_the_bound_are_ended_together() {
    let both = "printf '\\026=== RUN   TestA\\n'; sleep 0.15; printf '\\026=== RUN   TestB\\n'; exec sleep 600";
    let site = FakeSite::new(both);
    let folder = tempfile::tempdir().unwrap();
    let (progress, shutdown) = (Progress::silent(), Shutdown::new());
    let mut runner = runner(&site, folder.path(), &progress, &shutdown);
    let wanted = Selection::Only(names(&["TestA", "TestB"]));
    let plan = runner.run(wanted, names(&[]), Duration::from_secs(5)).await.unwrap();
    assert_eq!(runner.processes, 1, "B was 0.15 s behind A, which is nothing beside 5 s");
    assert!(plan.results().values().all(|result| result.outcome == Outcome::Fail));
}
