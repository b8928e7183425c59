use std::collections::BTreeSet;
use std::time::Duration;

use super::super::events::Outcome;
use super::super::plan::{Ending, Plan, Stuck};
use super::super::suite::{Selection, Suite};
use super::{journal, names, recorded};

const NOW: Duration = Duration::from_secs(100);

fn everything() -> Selection {
    Selection::AllBut { pattern: None, but: BTreeSet::new() }
}

fn all_but(but: &[&str]) -> Option<Selection> {
    Some(Selection::AllBut { pattern: None, but: names(but) })
}

fn only(case: &str) -> Option<Selection> {
    Some(Selection::Only(names(&[case])))
}

fn plan(suite: Suite) -> Plan {
    Plan::new(suite, everything(), BTreeSet::new())
}

fn died() -> Ending {
    Ending::Died("exit status: 2".into())
}

fn outcomes(plan: &Plan) -> Vec<(&str, Outcome, Option<&str>)> {
    plan.results().iter().map(|(test, result)| (test.as_str(), result.outcome, result.note.as_deref())).collect()
}

#[test]
fn a_suite_that_runs_through_is_run_once() {
    let mut plan = plan(Suite::ServingApi);
    assert_eq!(plan.next(), Some(everything()));
    plan.ended(&journal(Suite::ServingApi, recorded::PLAIN), &Ending::Complete, NOW).unwrap();
    assert_eq!(plan.next(), None);
    let expected = [
        ("TestPrints", Outcome::Fail, None),
        ("TestPrints/a_b", Outcome::Fail, None),
        ("TestSkipped", Outcome::Skip, None),
    ];
    assert_eq!(outcomes(&plan), expected);
}

#[test]
fn after_a_panic_the_rest_runs_and_the_panic_is_named() {
    let mut plan = plan(Suite::Ingress);
    plan.ended(&journal(Suite::Ingress, recorded::PANIC_IN_A_STEP), &died(), NOW).unwrap();
    let case = |name: &str| format!("TestIngressConformance/{name}");
    let note = plan.results()[&case("dispatch/rule")].note.clone();
    assert_eq!(note.as_deref(), Some("ended the suite: panic: assignment to entry in nil map [recovered, repanicked]"));
    assert_eq!(plan.results()[&case("dispatch/rule")].seconds, 0.05);
    let settled = [case("basics"), case("dispatch/rule"), case("retry")];
    let settled: Vec<&str> = settled.iter().map(String::as_str).collect();
    assert_eq!(plan.next(), all_but(&settled), "timeout and basics/http2 have no result yet");

    // The next process says that it skips those: that is not their result.
    let rest = "\u{16}=== RUN   TestIngressConformance\n\u{16}=== RUN   TestIngressConformance/basics\n\
        \u{16}--- SKIP: TestIngressConformance/basics (0.00s)\n\u{16}=== RUN   TestIngressConformance/timeout\n\
        \u{16}=== PAUSE TestIngressConformance/timeout\n\u{16}=== CONT  TestIngressConformance/timeout\n\
        \u{16}--- PASS: TestIngressConformance/timeout (12.00s)\n\u{16}--- PASS: TestIngressConformance (12.00s)\n\u{16}PASS\n";
    plan.ended(&journal(Suite::Ingress, rest), &Ending::Complete, NOW).unwrap();
    assert_eq!(plan.next(), None);
    assert_eq!(plan.results()[&case("basics")].outcome, Outcome::Pass);
    assert_eq!(plan.results()[&case("timeout")].outcome, Outcome::Pass);
    assert!(!plan.results().contains_key("TestIngressConformance"), "the container is no test of its own");
}

#[test]
fn suspects_of_a_crash_run_alone_and_then_the_rest() {
    let mut plan = plan(Suite::ServingE2e);
    plan.ended(&journal(Suite::ServingE2e, recorded::PANIC_UNNAMED), &died(), NOW).unwrap();
    assert_eq!(plan.next(), only("TestNeighbour"), "TestOther only paused: it is no suspect");

    let passes = "\u{16}=== RUN   TestNeighbour\n\u{16}--- PASS: TestNeighbour (0.30s)\n\u{16}PASS\n";
    plan.ended(&journal(Suite::ServingE2e, passes), &Ending::Complete, NOW).unwrap();
    assert_eq!(plan.next(), only("TestProber"));

    let crashes = "\u{16}=== RUN   TestProber\n\u{16}=== PAUSE TestProber\n\u{16}=== CONT  TestProber\npanic: prober: no answer\n";
    plan.ended(&journal(Suite::ServingE2e, crashes), &died(), NOW).unwrap();
    assert_eq!(plan.next(), all_but(&["TestNeighbour", "TestProber"]));
    let expected = [
        ("TestNeighbour", Outcome::Pass, None),
        ("TestProber", Outcome::Fail, Some("ended the suite: panic: prober: no answer")),
    ];
    assert_eq!(outcomes(&plan), expected);
}

#[test]
fn a_suspect_that_leaves_no_trace_has_failed() {
    let mut plan = plan(Suite::ServingE2e);
    plan.ended(&journal(Suite::ServingE2e, recorded::EXIT), &died(), NOW).unwrap();
    plan.ended(&journal(Suite::ServingE2e, ""), &died(), NOW).unwrap();
    plan.ended(&journal(Suite::ServingE2e, "\u{16}PASS\n"), &Ending::Complete, NOW).unwrap();
    let expected = [
        ("TestExit", Outcome::Fail, Some("it did not run when it was run alone")),
        ("TestNeighbour", Outcome::Fail, Some("ended the suite (exit status: 2)")),
    ];
    assert_eq!(outcomes(&plan), expected);
    assert_eq!(plan.next(), all_but(&["TestExit", "TestNeighbour"]));
}

#[test]
fn a_case_past_its_bound_has_failed_and_its_neighbours_run_again() {
    let output = "\u{16}=== RUN   TestSlow\n\u{16}=== PAUSE TestSlow\n\u{16}=== RUN   TestNew\n\u{16}=== PAUSE TestNew\n\
        \u{16}=== CONT  TestSlow\n    waiting for the Service\n\u{16}=== RUN   TestSlow/step\n\u{16}--- PASS: TestSlow/step (1.00s)\n\
        \u{16}=== CONT  TestNew\n";
    let journal = journal(Suite::ServingApi, output);
    let mut plan = plan(Suite::ServingApi);
    plan.ended(&journal, &Ending::Overdue(Duration::from_secs(95)), NOW).unwrap();
    assert_eq!(plan.next(), all_but(&["TestSlow"]));
    let result = &plan.results()["TestSlow"];
    assert_eq!(result.note.as_deref(), Some("timed out after 96 s"));
    assert_eq!(result.printed, ["    waiting for the Service"]);
    assert_eq!(plan.results()["TestSlow/step"].outcome, Outcome::Pass, "what ended before keeps its result");
}

#[test]
fn nothing_is_lost_when_the_time_for_the_suite_is_over() {
    let listed = names(&["TestA", "TestB", "TestC"]);
    let mut plan = Plan::new(Suite::ServingApi, everything(), listed);
    let output = "\u{16}=== RUN   TestA\n\u{16}--- PASS: TestA (1.00s)\n\u{16}=== RUN   TestB\n";
    plan.ended(&journal(Suite::ServingApi, output), &Ending::OutOfTime(Duration::from_secs(60)), NOW).unwrap();
    assert_eq!(plan.next(), None);
    let expected = [
        ("TestA", Outcome::Pass, None),
        ("TestB", Outcome::Fail, Some("not ended when the 60 s for the suite were over")),
        ("TestC", Outcome::Fail, Some("not reached before the 60 s for the suite were over")),
    ];
    assert_eq!(outcomes(&plan), expected);
}

#[test]
fn no_process_is_started_for_nothing() {
    let mut plan = Plan::new(Suite::ServingApi, everything(), names(&["TestA", "TestB"]));
    let output = "\u{16}=== RUN   TestA\n\u{16}--- PASS: TestA (1.00s)\n\u{16}=== RUN   TestB\n";
    plan.ended(&journal(Suite::ServingApi, output), &Ending::Overdue(Duration::from_secs(60)), NOW).unwrap();
    assert_eq!(plan.next(), None, "all that are known have a result");
}

#[test]
fn what_is_left_of_a_choice_is_run_until_nothing_is() {
    let mut plan = Plan::new(Suite::ServingApi, Selection::Only(names(&["TestA", "TestB"])), BTreeSet::new());
    let output = "\u{16}=== RUN   TestA\n\u{16}--- PASS: TestA (1.00s)\n\u{16}=== RUN   TestB\n";
    plan.ended(&journal(Suite::ServingApi, output), &Ending::Overdue(Duration::from_secs(60)), NOW).unwrap();
    assert_eq!(plan.next(), None, "both have a result");
}

#[test]
fn a_case_that_was_held_back_has_no_result() {
    let held_back = Selection::AllBut { pattern: None, but: names(&["TestPrints"]) };
    let mut plan = Plan::new(Suite::ServingApi, held_back.clone(), BTreeSet::new());
    assert_eq!(plan.next(), Some(held_back));
    plan.ended(&journal(Suite::ServingApi, recorded::PLAIN), &Ending::Complete, NOW).unwrap();
    assert!(!plan.results().contains_key("TestPrints"));
}

#[test]
fn a_suite_that_cannot_begin_is_an_error() {
    let mut plan = plan(Suite::ServingApi);
    let output = "flag provided but not defined: -ingress\nUsage of serving-api.test:\n";
    let error = plan.ended(&journal(Suite::ServingApi, output), &died(), NOW).unwrap_err();
    assert!(matches!(error, Stuck::BeforeAnyTest { .. }));
    assert!(error.to_string().contains("flag provided but not defined"), "{error}");
}

/// Every process that is lost gives at least one case a result: a run ends, whatever the suite does.
#[test]
fn each_lost_process_settles_a_case() {
    let mut plan = plan(Suite::ServingE2e);
    let mut open: Vec<String> = (0..6).map(|n| format!("Test{n}")).collect();
    let mut processes = 0;
    while let Some(selection) = plan.next() {
        processes += 1;
        assert!(processes < 20, "no end: {:?}", plan.results());
        let chosen: Vec<String> = match &selection {
            Selection::AllBut { but, .. } => open.iter().filter(|case| !but.contains(*case)).cloned().collect(),
            Selection::Only(only) => only.iter().cloned().collect(),
        };
        let mut output = String::new();
        for case in &chosen {
            output += &format!("\u{16}=== RUN   {case}\n\u{16}=== PAUSE {case}\n");
        }
        for case in chosen.iter().take(2) {
            output += &format!("\u{16}=== CONT  {case}\n");
        }
        let ending = if chosen.is_empty() { Ending::Complete } else { died() };
        plan.ended(&journal(Suite::ServingE2e, &output), &ending, NOW).unwrap();
        open.retain(|case| !plan.results().contains_key(case));
    }
    assert_eq!(plan.results().len(), 6);
}
