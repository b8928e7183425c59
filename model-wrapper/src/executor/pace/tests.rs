use super::*;

const SHORT: Duration = Duration::from_micros(5);

fn measured(run: Duration, bytes: usize) -> Pace {
    let mut pace = Pace::default();
    for _ in 0..MEASURED {
        pace.observe(run, bytes);
    }
    pace
}

#[test]
fn nothing_is_believed_before_it_was_measured() {
    let mut pace = Pace::default();
    for _ in 1..MEASURED {
        pace.observe(SHORT, 64);
        assert!(!pace.is_brief(64));
    }
    pace.observe(SHORT, 64);
    assert!(pace.is_brief(64));
}

#[test]
fn a_larger_request_is_measured_first() {
    let mut pace = measured(SHORT, 64);
    assert!(!pace.is_brief(65));
    pace.observe(SHORT, 1000);
    assert!(pace.is_brief(1000));
}

#[test]
fn one_long_run_counts_at_once_and_for_a_while() {
    let mut pace = measured(SHORT, 64);
    pace.observe(BRIEF * 4, 64);
    assert!(!pace.is_brief(64));
    for _ in 0..64 {
        pace.observe(SHORT, 64);
        assert!(!pace.is_brief(64));
    }
    for _ in 0..64 {
        pace.observe(SHORT, 64);
    }
    assert!(pace.is_brief(64));
}

#[test]
fn a_long_model_is_never_brief() {
    assert!(!measured(BRIEF + SHORT, 64).is_brief(64));
}
