use super::*;

const POLICY: EjectionPolicy =
    EjectionPolicy { consecutive_failures: 5, base: Duration::from_secs(1), max: Duration::from_secs(4) };

fn at(seconds: u64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn fail_times(health: &Health, times: u32, now: Moment) -> Vec<Verdict> {
    (0..times).map(|_| health.record_failure(&POLICY, now)).collect()
}

#[test]
fn the_fifth_failure_in_a_row_ejects() {
    let health = Health::new();
    assert_eq!(fail_times(&health, 4, at(1)), [Verdict::Kept; 4]);
    assert!(!health.is_ejected(at(1)));
    assert_eq!(health.record_failure(&POLICY, at(1)), Verdict::Ejected(at(2)));
    assert!(health.is_ejected(at(1)));
    assert!(!health.is_ejected(at(2)));
}

#[test]
fn a_success_starts_the_count_again() {
    let health = Health::new();
    fail_times(&health, 4, at(1));
    health.record_success();
    assert_eq!(fail_times(&health, 4, at(1)), [Verdict::Kept; 4]);
}

#[test]
fn failures_of_requests_sent_before_do_not_prolong_an_ejection() {
    let health = Health::new();
    assert_eq!(
        fail_times(&health, 9, at(1))[4..],
        [Verdict::Ejected(at(2)), Verdict::Kept, Verdict::Kept, Verdict::Kept, Verdict::Kept]
    );
    assert!(!health.is_ejected(at(2)));
}

#[test]
fn a_readmitted_replica_that_fails_again_goes_for_twice_as_long() {
    let health = Health::new();
    fail_times(&health, 5, at(1));
    assert_eq!(health.record_failure(&POLICY, at(2)), Verdict::Ejected(at(4)));
    assert_eq!(health.record_failure(&POLICY, at(4)), Verdict::Ejected(at(8)));
    assert_eq!(health.record_failure(&POLICY, at(8)), Verdict::Ejected(at(12)), "at most max");
}

#[test]
fn a_late_success_readmits() {
    let health = Health::new();
    fail_times(&health, 5, at(1));
    health.record_success();
    assert!(!health.is_ejected(at(1)));
    assert_eq!(fail_times(&health, 5, at(2))[4], Verdict::Ejected(at(3)), "the backoff restarts");
}

/// Failed runs, with the fleet's results after each.
fn run_failures(health: &Health, replicas: usize, results: impl IntoIterator<Item = u64>) -> Vec<Verdict> {
    let fleets = results.into_iter().map(|results| Fleet { replicas, results });
    fleets.map(|fleet| health.record_failed_run(fleet, &POLICY, at(1))).collect()
}

#[test]
fn runs_that_fail_while_peers_give_results_eject() {
    let health = Health::new();
    assert_eq!(run_failures(&health, 2, [1000, 1010, 1020, 1030, 1039]), [Verdict::Kept; 5]);
    assert_eq!(run_failures(&health, 2, [1040]), [Verdict::Ejected(at(2))]);
    assert!(health.is_ejected(at(1)));
    health.record_success();
    assert!(!health.is_ejected(at(1)));
    assert_eq!(run_failures(&health, 2, [1041; 5]), [Verdict::Kept; 5], "what peers did before says nothing");
}

#[test]
fn few_failed_runs_eject_nobody() {
    let health = Health::new();
    assert_eq!(run_failures(&health, 2, [0, 1000, 2000, 3000]), [Verdict::Kept; 4]);
}

#[test]
fn one_callers_bad_inputs_eject_nobody() {
    let health = Health::new();
    assert_eq!(run_failures(&health, 3, (0..1000).map(|run| 500 + run / 20)), [Verdict::Kept; 1000]);
    let alone = Health::new();
    assert_eq!(run_failures(&alone, 1, [7; 1000]), [Verdict::Kept; 1000], "the one replica gave no result meanwhile");
}

#[test]
fn a_refusal_ends_a_row_of_failures_and_not_one_of_failed_runs() {
    let health = Health::new();
    fail_times(&health, 5, at(1));
    health.record_refusal();
    assert!(!health.is_ejected(at(1)));
    run_failures(&health, 2, [0, 0, 0, 0]);
    health.record_refusal();
    assert_eq!(run_failures(&health, 2, [40]), [Verdict::Ejected(at(2))]);
    health.record_refusal();
    fail_times(&health, 1, at(1));
    health.record_refusal();
    assert!(health.is_ejected(at(1)));
}
