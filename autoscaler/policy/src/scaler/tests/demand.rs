//! What gateways report, and what they do not.

use super::*;

#[test]
fn a_held_request_counts_at_once() {
    let mut rig = Rig::new(&[revision("m", Device::Cpu)]);
    assert_eq!(rig.tick(at(0)), only("m", Device::Cpu, 0));
    let gateway = rig.gateway.clone();
    rig.scaler.held(&gateway, &ModelKey::new("ns", "m"), 1, at(100));
    assert_eq!(rig.decide("m", at(100)), only("m", Device::Cpu, 1));
    assert_eq!(rig.decide("other", at(100)), BTreeMap::new(), "a model that is not in the table is not scaled");
    rig.scaler.held(&gateway, &ModelKey::new("ns", "m"), 35, at(200));
    assert_eq!(rig.decide("m", at(200)), only("m", Device::Cpu, 4));
}

#[test]
fn held_requests_that_will_be_answered_in_time_need_no_replica_of_their_own() {
    let patient = Revision { objective: Some(Duration::from_millis(500)), ..revision("m", Device::Cpu) };
    let mut rig = Rig::new(&[patient]);
    let gateway = rig.gateway.clone();
    rig.scaler.held(&gateway, &ModelKey::new("ns", "m"), 100, at(100));
    // 100 requests of 50 ms (the prior) within 500 ms are ten at a time.
    assert_eq!(rig.decide("m", at(100)), only("m", Device::Cpu, 1));
}

#[test]
fn load_becomes_replicas_and_idleness_zero() {
    let mut rig = Rig::new(&[revision("m", Device::Cpu)]);
    rig.tick(at(0));
    for second in 1..=10 {
        rig.report(&[load("m", 25.0, second * 100)], at(second * 1000));
        rig.tick(at(second * 1000));
    }
    assert_eq!(rig.fleet.ready(&key("m", Device::Cpu)), 3);
    assert_eq!(rig.why("m", Device::Cpu, at(10_000)), Why::StableWindow);
    for second in 11..=39 {
        rig.report(&[load("m", 0.0, 1000)], at(second * 1000));
        rig.tick(at(second * 1000));
        assert!(rig.fleet.ready(&key("m", Device::Cpu)) >= 1, "{second}");
    }
    rig.report(&[load("m", 0.0, 1000)], at(40_000));
    assert_eq!(rig.tick(at(40_000)), only("m", Device::Cpu, 0), "30 s after the last request");
    assert_eq!(rig.why("m", Device::Cpu, at(40_000)), Why::Idle);
    let gateway = rig.gateway.clone();
    rig.scaler.held(&gateway, &ModelKey::new("ns", "m"), 11, at(40_500));
    assert_eq!(rig.decide("m", at(40_500)), only("m", Device::Cpu, 2), "nothing of the past dilutes it");
}

#[test]
fn an_idle_time_below_a_report_is_not_idleness_while_requests_come() {
    let hasty = Revision { scale_to_zero_after: Duration::from_millis(200), ..revision("m", Device::Cpu) };
    let mut rig = Rig::new(&[hasty]);
    // Requests so short that none is under way when the gateway looks.
    let short = |arrivals: u64| ModelReport { average_concurrency: 0.4, ..load("m", 0.0, arrivals) };
    for second in 1..=20u64 {
        rig.report(&[short(second * 2500)], at(second * 1000));
        rig.tick(at(second * 1000));
        rig.tick(at(second * 1000 + 900));
        assert_eq!(rig.fleet.ready(&key("m", Device::Cpu)), 1, "{second}");
    }
    rig.report(&[short(50_000)], at(21_000));
    assert_eq!(rig.tick(at(21_000)), only("m", Device::Cpu, 0));
}

#[test]
fn the_last_replica_waits_for_its_time_even_when_the_windows_are_empty() {
    let patient = Revision { scale_to_zero_after: Duration::from_secs(600), ..revision("m", Device::Cpu) };
    let mut rig = Rig::new(&[patient]);
    rig.report(&[load("m", 5.0, 10)], at(0));
    rig.tick(at(0));
    for second in 1..600 {
        rig.report(&[load("m", 0.0, 10)], at(second * 1000));
        assert_eq!(rig.tick(at(second * 1000)), BTreeMap::new(), "{second}");
    }
    assert_eq!(rig.why("m", Device::Cpu, at(599_000)), Why::RecentRequest);
    rig.report(&[load("m", 0.0, 10)], at(600_000));
    assert_eq!(rig.tick(at(600_000)), only("m", Device::Cpu, 0));
}

#[test]
fn a_silent_gateway_is_unknown_and_not_zero() {
    let mut rig = Rig::new(&[revision("m", Device::Cpu)]);
    rig.report(&[load("m", 25.0, 100)], at(0));
    rig.tick(at(0));
    let other = GatewayId::from("g2");
    rig.scaler.hello(&other, 1, at(1000));
    rig.scaler.snapshot(&other, &[load("m", 20.0, 100)], at(1000));
    rig.tick(at(1000));
    assert_eq!(rig.fleet.ready(&key("m", Device::Cpu)), 4, "25 and then 45 at 10 each, on average");
    rig.scaler.silent(&other);
    for second in 2..=60 {
        rig.report(&[load("m", 0.0, 100)], at(second * 1000));
        rig.tick(at(second * 1000));
        assert!(rig.fleet.ready(&key("m", Device::Cpu)) >= 4, "{second}");
    }
    assert_eq!(
        rig.scaler.explain(&ModelKey::new("ns", "m"), at(60_000), &rig.fleet).unwrap().demand.unknown_gateways,
        1
    );
    rig.report(&[load("m", 0.0, 100)], at(61_000));
    rig.tick(at(61_000));
    assert_eq!(rig.fleet.ready(&key("m", Device::Cpu)), 0, "it has been forgotten and the model idle for 60 s");
}

#[test]
fn a_gateway_that_stops_reporting_is_silent_too() {
    let mut rig = Rig::new(&[revision("m", Device::Cpu)]);
    rig.report(&[load("m", 25.0, 100)], at(0));
    rig.tick(at(0));
    let now = at(0) + SILENT_AFTER + Duration::from_millis(1);
    rig.tick(now);
    let demand = rig.scaler.explain(&ModelKey::new("ns", "m"), now, &rig.fleet).unwrap().demand;
    assert_eq!((demand.gateways, demand.unknown_gateways, demand.in_flight), (1, 1, 25));
    assert_eq!(demand.report_age, Some(SILENT_AFTER + Duration::from_millis(1)));
}

#[test]
fn counts_of_a_gateway_that_started_anew_begin_again() {
    let mut rig = Rig::new(&[revision("m", Device::Cpu)]);
    rig.report(&[load("m", 1.0, 1_000)], at(0));
    let gateway = rig.gateway.clone();
    rig.scaler.hello(&gateway, 2, at(1000));
    rig.report(&[load("m", 0.0, 0)], at(1000));
    rig.tick(at(1000));
    rig.report(&[load("m", 0.0, 1)], at(20_000));
    rig.tick(at(20_000));
    rig.report(&[load("m", 0.0, 1)], at(49_000));
    assert_eq!(rig.tick(at(49_000)), BTreeMap::new(), "the one request of the new start was seen as an arrival");
}

#[test]
fn a_new_leader_takes_nothing_down_before_it_knows() {
    let mut rig = Rig::new(&[revision("m", Device::Cpu)]);
    rig.scaler = Scaler::new(at(0));
    rig.scaler.set_revisions(&[Arc::new(revision("m", Device::Cpu))]);
    rig.fleet.unknown = true;
    assert_eq!(rig.tick(at(0)), BTreeMap::new(), "the watch has not synced");
    rig.fleet.unknown = false;
    rig.fleet.ready = only("m", Device::Cpu, 5);
    assert_eq!(rig.tick(at(1000)), only("m", Device::Cpu, 5));
    assert_eq!(rig.tick(at(59_000)), BTreeMap::new(), "no gateway has come yet");
    rig.tick(at(61_000));
    assert_eq!(rig.fleet.ready(&key("m", Device::Cpu)), 0, "none came within a minute");
}

#[test]
fn nonsense_from_a_gateway_is_no_demand() {
    let mut rig = Rig::new(&[revision("m", Device::Cpu)]);
    for average in [f64::NAN, f64::INFINITY, -5.0] {
        rig.report(&[ModelReport { in_flight: 0, variants: Vec::new(), ..load("m", average, 0) }], at(0));
        assert_eq!(rig.tick(at(0)).get(&key("m", Device::Cpu)).copied().unwrap_or(0), 0, "{average}");
    }
    rig.scaler.snapshot(&GatewayId::from("stranger"), &[load("m", 50.0, 1)], at(0));
    assert_eq!(rig.fleet.ready(&key("m", Device::Cpu)), 0, "it never said hello");
}
