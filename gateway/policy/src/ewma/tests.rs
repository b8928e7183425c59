use std::thread;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const PRIOR: Duration = Duration::from_millis(20);

fn at(millis: u64) -> Moment {
    Moment::from_epoch(Duration::from_millis(millis))
}

fn small() -> SizeBucket {
    SizeBucket::of(0)
}

fn measured(latency: Duration, samples: u64) -> ServiceTimes {
    let times = ServiceTimes::new(PRIOR);
    for sample in 0..samples {
        times.record_success(small(), latency, Load::IDLE, at(sample));
    }
    times
}

#[track_caller]
fn assert_near(actual: Duration, expected: Duration) {
    let ratio = actual.as_secs_f64() / expected.as_secs_f64();
    assert!((0.98..1.02).contains(&ratio), "{actual:?} is not near {expected:?}");
}

#[test]
fn the_prior_until_measured() {
    let times = ServiceTimes::new(PRIOR);
    assert_eq!(times.estimate(small(), at(0)), PRIOR);
    assert!(!times.is_measured(small()));
    times.record_success(small(), 3 * MS, Load::IDLE, at(1));
    assert!(times.is_measured(small()));
    assert_near(times.estimate(small(), at(1)), 3 * MS);
}

#[test]
fn a_class_without_samples_borrows_from_the_nearest() {
    let times = measured(3 * MS, 1);
    let large = SizeBucket::of(600 * 1024);
    assert_near(times.estimate(large, at(1)), 3 * MS);
    times.record_success(SizeBucket::of(200 * 1024), 9 * MS, Load::IDLE, at(1));
    assert_near(times.estimate(large, at(1)), 9 * MS);
    assert_near(times.estimate(small(), at(1)), 3 * MS);
}

#[test]
fn it_follows_a_change() {
    let times = measured(10 * MS, 1000);
    for sample in 0..2000 {
        times.record_success(small(), 2 * MS, Load::IDLE, at(1000 + sample));
    }
    assert_near(times.estimate(small(), at(3000)), 2 * MS);
}

#[test]
fn a_slow_first_answer_is_soon_forgotten() {
    let times = ServiceTimes::new(PRIOR);
    times.record_success(small(), 300 * MS, Load::IDLE, at(0));
    for sample in 1..100 {
        times.record_success(small(), 2 * MS, Load::IDLE, at(sample));
    }
    assert!(times.estimate(small(), at(100)) < 6 * MS, "{:?}", times.estimate(small(), at(100)));
}

#[test]
fn after_a_long_pause_a_sample_counts_half() {
    let times = measured(10 * MS, 50);
    times.record_success(small(), 20 * MS, Load::IDLE, at(3_600_000));
    assert_near(times.estimate(small(), at(3_600_000)), 15 * MS);
}

#[test]
fn what_was_measured_under_load_predicts_that_load() {
    let times = ServiceTimes::new(PRIOR);
    let load = Load { ahead: 3, concurrency: 4 };
    times.record_success(small(), 35 * MS, load, at(0));
    assert_near(times.estimate(small(), at(0)), 20 * MS);
    assert_near(crate::predict(times.estimate(small(), at(0)), load, Duration::ZERO), 35 * MS);
}

#[test]
fn failing_fast_is_no_way_to_look_fast() {
    let times = measured(10 * MS, 300);
    for failure in 0..100 {
        times.record_failure(small(), Duration::from_micros(50), at(300 + failure));
    }
    assert!(times.estimate(small(), at(400)) > 30 * MS, "{:?}", times.estimate(small(), at(400)));
}

#[test]
fn an_unmeasured_device_that_fails_is_penalised_too() {
    let times = ServiceTimes::new(PRIOR);
    times.record_failure(small(), MS, at(0));
    assert_near(times.estimate(small(), at(0)), 10 * PRIOR);
    assert!(!times.is_measured(small()));
}

#[test]
fn one_failure_in_a_hundred_changes_little() {
    let times = measured(10 * MS, 300);
    for request in 0..2000 {
        if request % 100 == 0 {
            times.record_failure(small(), MS, at(300 + request));
        } else {
            times.record_success(small(), 10 * MS, Load::IDLE, at(300 + request));
        }
    }
    let estimate = times.estimate(small(), at(2300));
    assert!(estimate > 10 * MS && estimate < 13 * MS, "{estimate:?}");
}

#[test]
fn a_penalty_decays_while_nothing_is_sent() {
    let times = measured(10 * MS, 300);
    for failure in 0..1000 {
        times.record_failure(small(), MS, at(300 + failure));
    }
    assert!(times.estimate(small(), at(1300)) > 500 * MS);
    assert_near(times.estimate(small(), at(200_000)), 10 * MS);
}

#[test]
fn a_penalty_is_bounded() {
    let times = measured(10 * MS, 10);
    for failure in 0..10_000 {
        times.record_failure(small(), Duration::MAX, at(10 + failure));
    }
    assert!(times.estimate(small(), at(10_010)) <= PENALTY_LIMIT);
}

#[test]
fn an_idle_cell_survives_the_wrap_of_its_clock() {
    let times = measured(10 * MS, 50);
    let wrap = (u64::from(TICK_MASK) + 1) << TICK_SHIFT;
    let later = Moment::from_micros(wrap);
    times.record_success(small(), 20 * MS, Load::IDLE, later);
    let estimate = times.estimate(small(), later);
    assert!(estimate > 10 * MS && estimate < 20 * MS, "{estimate:?}");
}

#[test]
fn threads_lose_no_cell() {
    let times = ServiceTimes::new(PRIOR);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for sample in 0..1000 {
                    times.record_success(small(), 5 * MS, Load::IDLE, at(sample));
                    assert_near(times.estimate(small(), at(sample)), 5 * MS);
                }
            });
        }
    });
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    micros: u64,
    pause_millis: u64,
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let sample = (1u64..10_000_000, 0u64..30_000).prop_map(|(micros, pause_millis)| Sample { micros, pause_millis });
    prop::collection::vec(sample, 1..50)
}

fn replay(samples: &[Sample]) -> (ServiceTimes, Moment) {
    let times = ServiceTimes::new(PRIOR);
    let mut now = at(0);
    for sample in samples {
        now = now + Duration::from_millis(sample.pause_millis);
        times.record_success(small(), Duration::from_micros(sample.micros), Load::IDLE, now);
    }
    (times, now)
}

proptest! {
    #[test]
    fn the_estimate_lies_between_the_samples(samples in samples()) {
        let (times, now) = replay(&samples);
        let estimate = times.estimate(small(), now).as_micros() as f64;
        let least = samples.iter().map(|sample| sample.micros).min().unwrap() as f64;
        let most = samples.iter().map(|sample| sample.micros).max().unwrap() as f64;
        prop_assert!(least * 0.999 - 1.0 <= estimate && estimate <= most * 1.001 + 1.0);
    }

    #[test]
    fn a_slower_sample_never_lowers_the_estimate(samples in samples(), index in any::<prop::sample::Index>(), more in 1u64..1_000_000) {
        let (times, now) = replay(&samples);
        let mut slower = samples.clone();
        index.get_mut(&mut slower[..]).micros += more;
        let (slower, _) = replay(&slower);
        // One microsecond: both means are rounded to 32-bit floats at each step.
        let tolerance = Duration::from_micros(1) + times.estimate(small(), now) / 100_000;
        prop_assert!(slower.estimate(small(), now) + tolerance >= times.estimate(small(), now));
    }

    #[test]
    fn reads_change_nothing_and_later_ones_are_never_higher(
        samples in samples(), failures in 0usize..20, pauses in prop::collection::vec(0u64..5_000, 1..20),
    ) {
        let (times, mut now) = replay(&samples);
        for _ in 0..failures {
            times.record_failure(small(), MS, now);
        }
        let before = times.estimate(small(), now);
        let mut last = before;
        let start = now;
        for pause in pauses {
            now = now + Duration::from_millis(pause);
            let estimate = times.estimate(small(), now);
            prop_assert!(estimate <= last);
            last = estimate;
        }
        prop_assert_eq!(times.estimate(small(), start), before);
    }
}
