//! The cases of Knative's `autoscaler_test.go`, for one device and then for two.

use std::time::Duration;

use gateway_policy::Moment;

use super::*;

fn second(second: u64) -> Moment {
    Moment::from_micros(second * 1_000_000)
}

/// CPU replicas wanted for an average of the stable and of the panic window, at a target of 10.
fn wanted(stable: f64, panic: f64, ready: u32) -> Wanted {
    let replicas = |load: f64| [(load / 10.0_f64).ceil() as u32, 0];
    Wanted { stable: replicas(stable), panic: replicas(panic), ready: [ready, 0], strength: [10.0, 100.0] }
}

fn decide(decider: &mut Decider, wanted: Wanted, now: Moment) -> u32 {
    decider.decide(&Scaling::default(), &wanted, now)[0]
}

#[test]
fn the_stable_window_rules_when_nothing_is_sudden() {
    for (stable, ready, expected) in
        [(0.0, 0, 0), (1.0, 1, 1), (10.0, 1, 1), (10.1, 1, 2), (100.0, 10, 10), (40.0, 4, 4)]
    {
        let mut decider = Decider::default();
        assert_eq!(decide(&mut decider, wanted(stable, stable, ready), second(1)), expected, "{stable} on {ready}");
    }
}

#[test]
fn twice_what_is_ready_starts_panic() {
    let mut decider = Decider::default();
    assert_eq!(decide(&mut decider, wanted(100.0, 190.0, 10), second(1)), 10);
    assert!(!decider.is_panicking(), "19 of 10 is below the threshold of 200 %");
    assert_eq!(decide(&mut decider, wanted(100.0, 200.0, 10), second(2)), 20);
    assert!(decider.is_panicking());
}

#[test]
fn no_replica_counts_as_one() {
    let mut decider = Decider::default();
    assert_eq!(decide(&mut decider, wanted(10.0, 10.0, 0), second(1)), 1);
    assert!(!decider.is_panicking(), "one wanted of none is no surge");
    assert_eq!(decide(&mut decider, wanted(5.0, 20.0, 0), second(1)), 2);
    assert!(decider.is_panicking());
}

#[test]
fn nothing_goes_down_while_panicking() {
    let mut decider = Decider::default();
    assert_eq!(decide(&mut decider, wanted(50.0, 100.0, 5), second(10)), 10);
    assert_eq!(decide(&mut decider, wanted(60.0, 20.0, 10), second(20)), 10);
    assert_eq!(
        decide(&mut decider, wanted(130.0, 20.0, 10), second(30)),
        13,
        "but it goes up, also for the stable window"
    );
    assert_eq!(
        decide(&mut decider, wanted(80.0, 20.0, 13), second(70)),
        13,
        "a stable window after the surge it still holds"
    );
    assert_eq!(decide(&mut decider, wanted(80.0, 20.0, 13), second(71)), 8, "one later it does not");
}

#[test]
fn a_surge_that_goes_on_extends_panic() {
    let mut decider = Decider::default();
    decide(&mut decider, wanted(10.0, 100.0, 5), second(0));
    decide(&mut decider, wanted(10.0, 100.0, 5), second(50));
    assert_eq!(decide(&mut decider, wanted(10.0, 10.0, 10), second(100)), 10);
    assert_eq!(decide(&mut decider, wanted(10.0, 10.0, 10), second(111)), 5, "down by half at most");
}

#[test]
fn steps_up_and_down_are_bounded() {
    let scaling = Scaling { max_scale_up_rate: 2.0, ..Scaling::default() };
    let mut decider = Decider::default();
    assert_eq!(decider.decide(&scaling, &wanted(1000.0, 10.0, 10), second(1))[0], 20);
    let slow = Scaling { max_scale_up_rate: 1.1, ..Scaling::default() };
    let mut decider = Decider::default();
    assert_eq!(decider.decide(&slow, &wanted(30.0, 30.0, 2), second(1))[0], 3, "a rate near 1 still grows by one");
    let mut decider = Decider::default();
    assert_eq!(decide(&mut decider, wanted(1.0, 1.0, 100), second(1)), 50);
    assert_eq!(decide(&mut decider, wanted(0.0, 0.0, 1), second(2)), 0, "the last one may go");
}

#[test]
fn a_scale_down_delay_holds_the_greatest_number() {
    let scaling = Scaling { scale_down_delay: Duration::from_secs(30), ..Scaling::default() };
    let mut decider = Decider::default();
    assert_eq!(decider.decide(&scaling, &wanted(30.0, 30.0, 3), second(0))[0], 3);
    assert_eq!(decider.decide(&scaling, &wanted(20.0, 20.0, 3), second(29))[0], 3);
    assert_eq!(decider.decide(&scaling, &wanted(20.0, 20.0, 3), second(30))[0], 2);
}

#[test]
fn a_leader_that_takes_over_starts_in_panic() {
    let mut decider = Decider::taking_over([6, 1], second(0));
    let calm = Wanted { stable: [1, 0], panic: [1, 0], ready: [6, 1], strength: [10.0, 100.0] };
    assert_eq!(decider.decide(&Scaling::default(), &calm, second(30)), [6, 1]);
    assert_eq!(decider.decide(&Scaling::default(), &calm, second(61)), [3, 0]);
    assert!(!Decider::taking_over([1, 0], second(0)).is_panicking(), "one replica says nothing of a surge");
}

#[test]
fn a_swap_of_devices_is_no_surge() {
    // Ten CPU replicas carry as much as one GPU replica; wanting that one instead is not ten times what is there.
    let swap = Wanted { stable: [0, 1], panic: [0, 1], ready: [10, 0], strength: [10.0, 100.0] };
    let mut decider = Decider::default();
    assert_eq!(decider.decide(&Scaling::default(), &swap, second(1)), [5, 1]);
    assert!(!decider.is_panicking());
}
