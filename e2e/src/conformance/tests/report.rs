use std::collections::BTreeMap;

use super::super::compare::Comparison;
use super::super::events::Outcome;
use super::super::plan::TestResult;
use super::super::report::{Report, Verdict};
use super::super::suite::Suite;
use super::super::waiting;

fn result(outcome: Outcome, seconds: f64, note: Option<&str>) -> TestResult {
    TestResult { outcome, seconds, note: note.map(str::to_owned), printed: Vec::new() }
}

fn report(tests: &[(&str, Outcome)], waiting: &[&str]) -> Report {
    Report {
        suite: Suite::ServingApi,
        version: "v0.42.2".into(),
        ingress_class: "a.class".into(),
        began_unix_s: 1_700_000_000,
        seconds: 71.2,
        processes: 2,
        tests: tests.iter().map(|(test, outcome)| ((*test).to_owned(), result(*outcome, 1.25, None))).collect(),
        waiting: waiting.iter().map(|case| ((*case).to_owned(), "its Route gets no address".to_owned())).collect(),
    }
}

fn mixed() -> Report {
    let tests = [
        ("TestFails", Outcome::Fail),
        ("TestPasses", Outcome::Pass),
        ("TestPasses/a_step", Outcome::Pass),
        ("TestSkips", Outcome::Skip),
        ("TestSurprises", Outcome::Pass),
        ("TestWaits", Outcome::Fail),
        ("TestWaits/a_step", Outcome::Fail),
    ];
    let mut report = report(&tests, &["TestWaits", "TestWaitsUntried", "TestSurprises"]);
    report.tests.insert("TestWaitsUntried".into(), result(Outcome::Skip, 0.0, Some("not run")));
    report.tests.insert("TestHangs".into(), result(Outcome::Fail, 180.4, Some("timed out after 180 s")));
    report
}

#[test]
fn the_table_has_a_row_per_test_and_a_sum() {
    let expected = "
test               result   seconds
TestFails          FAIL         1.2
TestHangs          FAIL       180.4  timed out after 180 s
TestPasses         pass         1.2
TestPasses/a_step  pass         1.2
TestSkips          skip         1.2
TestSurprises      pass!        1.2  unexpected: take it off the list of those that wait for an ingress
TestWaits          waiting      1.2  its Route gets no address
TestWaits/a_step   waiting      1.2
TestWaitsUntried   waiting      0.0  not run; its Route gets no address

serving-api v0.42.2 (a.class): 3 passed, 2 failed, 3 waiting for an ingress, 1 skipped; 71 s, 2 processes
";
    assert_eq!(mixed().table(), expected.trim_start());
}

#[test]
fn the_table_of_an_ingress_has_its_cases() {
    let mut report = report(
        &[("TestIngressConformance/basics", Outcome::Pass), ("TestIngressConformance/basics/http2", Outcome::Fail)],
        &[],
    );
    report.suite = Suite::Ingress;
    report.processes = 1;
    let expected = "
test          result   seconds
basics        pass         1.2
basics/http2  FAIL         1.2

ingress v0.42.2 (a.class): 1 passed, 1 failed, 0 waiting for an ingress, 0 skipped; 71 s, 1 process
";
    assert_eq!(report.table(), expected.trim_start());
}

#[test]
fn a_suite_that_was_not_started_has_a_row() {
    let mut report = report(&[("TestIngressConformance", Outcome::Fail)], &[]);
    report.suite = Suite::Ingress;
    assert!(report.table().contains("\nTestIngressConformance  FAIL"), "{}", report.table());
}

#[test]
fn a_case_on_the_list_waits_with_its_steps_and_surprises_by_passing() {
    let report = mixed();
    assert_eq!(report.with(Verdict::Waiting), ["TestWaits", "TestWaits/a_step", "TestWaitsUntried"]);
    assert_eq!(report.with(Verdict::UnexpectedPass), ["TestSurprises"]);
    assert_eq!(report.with(Verdict::Fail), ["TestFails", "TestHangs"]);
    assert_eq!(report.verdict("TestElse"), None);
}

#[test]
fn a_report_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    mixed().write(folder.path()).unwrap();
    assert_eq!(Report::read(&folder.path().join("results.json")).unwrap(), mixed());
    assert_eq!(std::fs::read_to_string(folder.path().join("results.txt")).unwrap(), mixed().table());
}

#[test]
fn a_file_that_is_no_report_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.json");
    let error = Report::read(&path).unwrap_err().to_string();
    assert!(error.contains("other.json") && error.contains("read"), "{error}");
    std::fs::write(&path, "{}").unwrap();
    let error = Report::read(&path).unwrap_err().to_string();
    assert!(error.contains("other.json") && error.contains("results.json of an earlier run"), "{error}");
}

#[test]
fn only_what_changed_is_news() {
    let tests = |changed: [Outcome; 4]| {
        let names = ["TestA", "TestB", "TestC", "TestWaits"];
        names.into_iter().zip(changed).collect::<BTreeMap<_, _>>().into_iter().collect::<Vec<_>>()
    };
    let before = report(&tests([Outcome::Pass, Outcome::Fail, Outcome::Skip, Outcome::Pass]), &[]);
    let now = report(&tests([Outcome::Fail, Outcome::Pass, Outcome::Fail, Outcome::Fail]), &["TestWaits"]);
    let comparison = Comparison::of(&now, &before);
    assert_eq!(comparison.newly_failing, ["TestA", "TestC"], "one that waits for an ingress is no news");
    assert_eq!(comparison.newly_passing, ["TestB"]);
    assert_eq!(comparison.to_string(), "newly failing:\n  TestA\n  TestC\nnewly passing:\n  TestB\n");
    assert_eq!(Comparison::of(&now, &now), Comparison::default());
}

#[test]
fn a_new_test_that_fails_and_one_that_is_gone_are_told() {
    let before = report(&[("TestOld", Outcome::Pass)], &[]);
    let now = report(&[("TestNew", Outcome::Fail)], &[]);
    let comparison = Comparison::of(&now, &before);
    assert_eq!(comparison.newly_failing, ["TestNew"]);
    assert_eq!(comparison.gone, ["TestOld"]);
}

#[test]
fn a_case_that_waited_and_runs_now_is_news_when_it_passes_and_none_when_it_fails() {
    let before = report(&[("TestA", Outcome::Skip), ("TestB", Outcome::Skip)], &["TestA", "TestB"]);
    let now = report(&[("TestA", Outcome::Pass), ("TestB", Outcome::Fail)], &[]);
    let comparison = Comparison::of(&now, &before);
    assert_eq!(comparison.newly_passing, ["TestA"]);
    assert_eq!(comparison.newly_failing, [""; 0]);
}

#[test]
fn every_list_can_be_read_and_has_reasons() {
    for suite in [Suite::Ingress, Suite::ServingApi, Suite::ServingRuntime, Suite::ServingE2e, Suite::Ha] {
        for (case, reason) in waiting::list(suite).unwrap() {
            assert!(
                case.starts_with("Test") && !case.contains('/') && reason.len() > 10,
                "{suite:?}: {case}: {reason}"
            );
        }
    }
}

#[test]
fn a_case_without_hope_waits_for_nothing() {
    for suite in [Suite::Ingress, Suite::ServingApi, Suite::ServingRuntime, Suite::ServingE2e, Suite::Ha] {
        let list = waiting::list(suite).unwrap();
        for (case, reason) in suite.hopeless() {
            assert!(reason.len() > 10 && !list.contains_key(*case), "{suite:?}: {case}: {reason}");
        }
    }
}
