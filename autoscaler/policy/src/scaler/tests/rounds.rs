//! Looks at all models, at once and in parts.

use super::*;

/// Ten thousand models of two variants, all with demand.
fn ten_thousand() -> Scaler {
    let revisions: Vec<_> =
        (0..10_000).flat_map(|n| Device::ALL.map(|device| Arc::new(revision(&format!("m{n}"), device)))).collect();
    let mut scaler = Scaler::new(at(0));
    scaler.set_revisions(&revisions);
    let gateway = GatewayId::from("g");
    scaler.hello(&gateway, 1, at(0));
    let reports: Vec<_> = (0..10_000).map(|n| load(&format!("m{n}"), 5.0, 100)).collect();
    scaler.snapshot(&gateway, &reports, at(0));
    scaler
}

#[test]
fn ten_thousand_models_and_only_changes_are_returned() {
    let mut scaler = ten_thousand();
    let fleet = FakeFleet::default();
    let mut changed = Vec::new();
    scaler.tick(at(0), &fleet, &mut changed);
    assert_eq!(changed.iter().filter(|one| one.replicas > 0).count(), 10_000);
    changed.clear();
    scaler.tick(at(1000), &fleet, &mut changed);
    assert_eq!(changed, []);
}

#[test]
fn a_round_in_parts_decides_what_one_at_once_does() {
    let models = ["a", "b", "c"];
    let revisions = models.map(|model| revision(model, Device::Cpu));
    let (mut whole, mut parts) = (Rig::new(&revisions), Rig::new(&revisions));
    assert_eq!(whole.tick(at(0)), parts.tick(at(0)));
    for second in 1..=120 {
        let now = at(second * 1000);
        // One model is never used, one for a while, one throughout.
        let for_a_while = if second < 20 { 12.0 } else { 0.0 };
        let reports = [load("b", for_a_while, second.min(20) * 100), load("c", 25.0, second * 100)];
        whole.report(&reports, now);
        parts.report(&reports, now);
        let due = parts.scaler.begin_round(now);
        assert!(!due.contains(&ModelKey::new("ns", "a")), "nothing is decided for a model that has no demand");
        let mut decided = BTreeMap::new();
        for model in due {
            decided.extend(parts.decide(&model.name, now));
        }
        assert_eq!(whole.tick(now), decided, "second {second}");
    }
    assert_eq!(parts.fleet.ready(&key("b", Device::Cpu)), 0);
    assert_eq!(parts.fleet.ready(&key("c", Device::Cpu)), 3);
}
