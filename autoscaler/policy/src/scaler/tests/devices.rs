//! Models on two devices.

use super::*;

#[test]
fn an_unavailable_device_has_no_replicas_and_says_so() {
    let gpu =
        Revision { unavailable: Some("no GPU on this machine".into()), min_replicas: 1, ..revision("m", Device::Gpu) };
    let fast = Revision { objective: Some(Duration::from_millis(1)), ..revision("m", Device::Cpu) };
    let mut rig = Rig::new(&[fast, gpu]);
    rig.tick(at(0));
    rig.report(&[load("m", 5.0, 100)], at(1000));
    assert_eq!(rig.tick(at(1000)), only("m", Device::Cpu, 1));
    assert_eq!(rig.why("m", Device::Gpu, at(1000)), Why::DeviceUnavailable);
}

#[test]
fn the_cpu_stands_in_while_the_gpu_is_cold() {
    let cpu = Revision { objective: Some(Duration::from_millis(20)), ..revision("m", Device::Cpu) };
    let gpu = Revision { objective: Some(Duration::from_millis(20)), max_replicas: 2, ..revision("m", Device::Gpu) };
    let mut rig = Rig::new(&[cpu, gpu]);
    rig.follows = false;
    rig.tick(at(0));
    let gateway = rig.gateway.clone();
    rig.scaler.held(&gateway, &ModelKey::new("ns", "m"), 1, at(100));
    // 50 ms on a CPU misses 20 ms, 5 ms on a GPU does not.
    let both = BTreeMap::from([(key("m", Device::Cpu), 1), (key("m", Device::Gpu), 1)]);
    assert_eq!(rig.decide("m", at(100)), both);
    assert_eq!(rig.why("m", Device::Cpu, at(100)), Why::ColdStandby);
    rig.fleet.ready = only("m", Device::Cpu, 1);
    assert_eq!(rig.decide("m", at(200)), BTreeMap::new());
    rig.fleet.ready = both;
    rig.scaler.held(&gateway, &ModelKey::new("ns", "m"), 0, at(300));
    assert_eq!(rig.decide("m", at(300)), only("m", Device::Cpu, 0), "the GPU serves now");
}

#[test]
fn the_cpu_takes_the_whole_load_when_the_gpu_cannot_be_had() {
    let cpu = Revision { objective: Some(Duration::from_millis(20)), ..revision("m", Device::Cpu) };
    let gpu = Revision { objective: Some(Duration::from_millis(20)), max_replicas: 2, ..revision("m", Device::Gpu) };
    let mut rig = Rig::new(&[cpu, gpu]);
    rig.follows = false;
    rig.fleet.obstacles.insert(key("m", Device::Gpu), ConditionReason::NoCapacity);
    rig.report(&[ModelReport { variants: Vec::new(), held: 40, ..load("m", 40.0, 100) }], at(0));
    let changed = rig.tick(at(0));
    assert_eq!(changed[&key("m", Device::Cpu)], 8, "{changed:?}");
    assert!(changed[&key("m", Device::Gpu)] > 0, "and goes on trying");
    assert_eq!(rig.why("m", Device::Cpu, at(0)), Why::Substitute);
}

#[test]
fn load_on_the_gpu_is_counted_in_the_cpus_terms() {
    let mut rig = Rig::new(&[revision("m", Device::Cpu), Revision { max_replicas: 4, ..revision("m", Device::Gpu) }]);
    rig.fleet.ready = only("m", Device::Gpu, 1);
    let on_gpu = ModelReport {
        variants: vec![VariantReport {
            device: Device::Gpu,
            in_flight: 5,
            service_times: vec![(SizeBucket::of(100), 1000, Duration::from_secs(5))],
        }],
        ..load("m", 5.0, 1000)
    };
    rig.report(&[on_gpu], at(0));
    rig.tick(at(0));
    let explanation = rig.scaler.explain(&ModelKey::new("ns", "m"), at(0), &rig.fleet).unwrap();
    assert!((explanation.stable_concurrency - 50.0).abs() < 1e-6, "{}", explanation.stable_concurrency);
    assert_eq!(explanation.reference, Device::Cpu);
    assert!(explanation.alternatives.len() > 1, "{:?}", explanation.alternatives);
}

#[test]
fn nothing_is_said_about_an_objective_before_a_measurement() {
    let aimed = |objective| Revision { objective, ..revision("m", Device::Cpu) };
    let verdict = |rig: &Rig| rig.scaler.explain(&ModelKey::new("ns", "m"), at(0), &rig.fleet).unwrap().verdict();
    let unanswered = |concurrency| ModelReport { variants: Vec::new(), ..load("m", concurrency, 1) };
    for (objective, measured) in [
        (Some(Duration::from_millis(20)), Verdict::WithinObjective),
        (Some(Duration::from_millis(5)), Verdict::ObjectiveMissed),
        (None, Verdict::NoObjective),
    ] {
        let mut rig = Rig::new(&[aimed(objective)]);
        let before = if objective.is_some() { Verdict::Unmeasured } else { Verdict::NoObjective };
        assert_eq!(verdict(&rig), before, "without a request");
        rig.report(&[unanswered(1.0)], at(0));
        rig.tick(at(0));
        assert_eq!(verdict(&rig), before, "a guess of the service time");
        rig.report(&[load("m", 1.0, 100)], at(0));
        rig.tick(at(0));
        assert_eq!(verdict(&rig), measured, "10 ms a request");
    }
    let mut rig = Rig::new(&[aimed(Some(Duration::from_millis(20)))]);
    rig.report(&[unanswered(1e6)], at(0));
    rig.tick(at(0));
    assert_eq!(verdict(&rig), Verdict::Overloaded, "concurrency is counted, not guessed");
}

#[test]
fn a_maximum_that_carries_less_than_the_load_is_the_reason() {
    let why = |concurrency| {
        let mut rig = Rig::new(&[Revision { max_replicas: 3, ..revision("m", Device::Cpu) }]);
        rig.report(&[load("m", concurrency, 100)], at(0));
        rig.tick(at(0));
        let explanation = rig.scaler.explain(&ModelKey::new("ns", "m"), at(0), &rig.fleet).unwrap();
        (explanation.variants[0].desired, explanation.variants[0].why)
    };
    assert_eq!(why(25.0), (3, Why::StableWindow), "it carries 30");
    assert_eq!(why(60.0), (3, Why::Maximum));
}
