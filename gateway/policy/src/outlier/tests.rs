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
