use std::time::Duration;

use super::super::events::{Event, Outcome, Reader};
use super::super::suite::Suite;
use super::{journal, recorded};

fn events(output: &str) -> Vec<Event> {
    let mut reader = Reader::default();
    output.lines().flat_map(|line| reader.read(line)).collect()
}

fn printed(test: &str, line: &str) -> Event {
    Event::Printed { test: Some(test.to_owned()), line: line.to_owned() }
}

fn ended(test: &str, outcome: Outcome) -> Event {
    Event::Ended { test: test.to_owned(), outcome, took: Duration::ZERO }
}

#[test]
fn everything_that_is_said_is_read() {
    assert_eq!(
        events(recorded::PLAIN),
        [
            Event::Began("TestSkipped".into()),
            printed("TestSkipped", "    mini_test.go:26: not here"),
            ended("TestSkipped", Outcome::Skip),
            Event::Began("TestPrints".into()),
            printed("TestPrints", "no newline"),
            Event::Began("TestPrints/a_b".into()),
            printed("TestPrints/a_b", "x    mini_test.go:29: bad"),
            ended("TestPrints/a_b", Outcome::Fail),
            ended("TestPrints", Outcome::Fail),
            Event::Closed,
        ]
    );
}

#[test]
fn a_time_is_read_to_its_hundredth() {
    let event = Reader::default().read("\u{16}--- PASS: TestUpdate/x (61.27s)").remove(0);
    assert_eq!(
        event,
        Event::Ended { test: "TestUpdate/x".into(), outcome: Outcome::Pass, took: Duration::from_millis(61_270) }
    );
}

#[test]
fn what_only_looks_like_the_framework_is_output() {
    for line in ["--- PASS: TestX (1.00s)", "=== RUN   TestX", "    --- FAIL: TestX (0.00s)", "PASS"] {
        assert_eq!(Reader::default().read(line), [Event::Printed { test: None, line: line.into() }], "{line}");
    }
    for line in
        ["\u{16}--- PASS: TestX", "\u{16}--- PASS: TestX (-1s)", "\u{16}--- PASS: TestX (1e999s)", "\u{16}=== RUN"]
    {
        assert_eq!(Reader::default().read(line), [], "{line:?}");
    }
}

#[test]
fn cases_of_an_ingress_are_told_from_their_steps() {
    let journal = journal(Suite::Ingress, recorded::PANIC_IN_A_STEP);
    for case in ["basics", "basics/http2", "dispatch/rule", "timeout", "retry"] {
        assert!(journal.is_case(&format!("TestIngressConformance/{case}")), "{case}");
    }
    assert!(!journal.is_case("TestIngressConformance/dispatch/rule/first_host"));
    assert!(!journal.is_case("TestIngressConformance"));
}

#[test]
fn a_pause_does_not_count_as_running() {
    let journal = journal(
        Suite::ServingApi,
        "\u{16}=== RUN   TestA\n\u{16}=== PAUSE TestA\n\u{16}=== RUN   TestB\n\u{16}=== PAUSE TestB\n\u{16}=== CONT  TestA\n",
    );
    // A second per line: A ran for one before its pause, and goes on from the fifth.
    assert_eq!(journal.running(Duration::from_secs(15)), [("TestA", Duration::from_secs(11))]);
    assert_eq!(journal.unfinished().collect::<Vec<_>>(), ["TestA", "TestB"]);
}

#[test]
fn the_culprit_is_the_one_whose_failure_a_panic_reports() {
    let journal = journal(Suite::Ingress, recorded::PANIC_IN_A_STEP);
    assert_eq!(journal.culprit().as_deref(), Some("TestIngressConformance/dispatch/rule"));
    assert_eq!(journal.crash().unwrap().message, "panic: assignment to entry in nil map [recovered, repanicked]");
    assert!(!journal.is_closed());
}

#[test]
fn the_culprit_is_named_by_the_stack_of_its_goroutine() {
    let journal = journal(Suite::ServingE2e, recorded::PANIC_IN_A_GOROUTINE);
    assert_eq!(journal.culprit().as_deref(), Some("TestGoroutine"));
}

#[test]
fn a_name_that_begins_another_is_not_taken_for_it() {
    let output = recorded::PANIC_IN_A_GOROUTINE.replace("TestNeighbour", "TestGo");
    assert_eq!(journal(Suite::ServingE2e, &output).culprit().as_deref(), Some("TestGoroutine"));
}

#[test]
fn nobody_is_accused_without_a_trace() {
    assert_eq!(journal(Suite::ServingE2e, recorded::PANIC_UNNAMED).culprit(), None, "two ran");
    assert_eq!(journal(Suite::ServingE2e, recorded::EXIT).culprit(), None, "two ran");
    let alone = "\u{16}=== RUN   TestExit\n";
    assert_eq!(journal(Suite::ServingE2e, alone).culprit().as_deref(), Some("TestExit"), "the only one that ran");
}

#[test]
fn a_test_that_prints_about_a_panic_did_not_crash() {
    let output = "\u{16}=== RUN   TestA\npanic: said a log\n\u{16}--- FAIL: TestA (1.00s)\n\u{16}FAIL\n";
    let journal = journal(Suite::ServingApi, output);
    assert_eq!(journal.crash(), None);
    assert!(journal.is_closed());
}

#[test]
fn of_a_failed_test_the_last_lines_are_kept() {
    let copied =
        "    stream.go:304: I 18:07:49.925 controller-6dd7b64b66-td6qd [serving-tests/x] Reconcile succeeded\n";
    let many: String = (0..50).map(|n| format!("    line {n}\n{copied}")).collect();
    let output = format!("\u{16}=== RUN   TestA\n{many}\u{16}--- FAIL: TestA (1.00s)\n");
    let journal = journal(Suite::ServingApi, &output);
    let printed = &journal.ended()[0].printed;
    assert_eq!((printed.len(), printed.last().unwrap().as_str()), (20, "    line 49"));
    let passed = journal_of_a_pass(&many);
    assert!(passed.ended()[0].printed.is_empty());
}

fn journal_of_a_pass(lines: &str) -> super::Journal {
    journal(Suite::ServingApi, &format!("\u{16}=== RUN   TestA\n{lines}\u{16}--- PASS: TestA (1.00s)\n"))
}
