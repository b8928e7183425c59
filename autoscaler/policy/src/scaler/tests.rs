use std::collections::BTreeMap;
use std::time::Duration;

use gateway_policy::SizeBucket;

use super::*;
use crate::claim::ConditionReason;
use crate::demand::{SILENT_AFTER, VariantReport};
use crate::explain::{Verdict, Why};
use crate::ids::Digest;
use crate::resources::Resources;
use crate::revision::{Placement, Source};
use crate::scaling::Scaling;

fn at(milliseconds: u64) -> Moment {
    Moment::from_micros(1_000_000_000 + milliseconds * 1000)
}

fn revision(model: &str, device: Device) -> Revision {
    let name = format!("{model}-{device}-00001");
    Revision {
        model: ModelKey::new("ns", model),
        key: RevisionKey::from(format!("ns/{name}")),
        uid: "uid".into(),
        service: format!("{model}-{device}").into(),
        device,
        unavailable: None,
        digest: Digest::from("sha256:00"),
        source: Source { uri: "file:///m".into(), format: "onnx".into(), name: model.into(), config: BTreeMap::new() },
        container_concurrency: 10,
        min_replicas: 0,
        max_replicas: 20,
        placement: Placement {
            pool: Some("default".into()),
            service_account: "default".into(),
            contract: "1".into(),
            resources: Resources::default(),
        },
        cost: if device == Device::Cpu { 1.0 } else { 12.0 },
        objective: None,
        timeout: Duration::from_secs(60),
        scale_to_zero_after: Duration::from_secs(30),
        batching: None,
        scaling: Scaling { utilization: 1.0, ..Scaling::default() },
    }
}

/// Replicas as a test sets them.
#[derive(Default)]
struct FakeFleet {
    ready: BTreeMap<RevisionKey, u32>,
    obstacles: BTreeMap<RevisionKey, ConditionReason>,
    unknown: bool,
}

impl Fleet for FakeFleet {
    fn is_known(&self) -> bool {
        !self.unknown
    }

    fn ready(&self, revision: &RevisionKey) -> u32 {
        self.ready.get(revision).copied().unwrap_or(0)
    }

    fn obstacle(&self, revision: &RevisionKey) -> Option<ConditionReason> {
        self.obstacles.get(revision).copied()
    }
}

/// A scaler with one gateway, and replicas that become ready as soon as they are wanted.
struct Rig {
    scaler: Scaler,
    fleet: FakeFleet,
    gateway: GatewayId,
    follows: bool,
}

impl Rig {
    fn new(revisions: &[Revision]) -> Self {
        let mut scaler = Scaler::new(at(0));
        scaler.set_revisions(&revisions.iter().cloned().map(Arc::new).collect::<Vec<_>>());
        let gateway = GatewayId::from("g1");
        scaler.hello(&gateway, 1, at(0));
        scaler.snapshot(&gateway, &[], at(0));
        Self { scaler, fleet: FakeFleet::default(), gateway, follows: true }
    }

    fn report(&mut self, reports: &[ModelReport], now: Moment) {
        self.scaler.snapshot(&self.gateway, reports, now);
    }

    fn tick(&mut self, now: Moment) -> BTreeMap<RevisionKey, u32> {
        let mut changed = Vec::new();
        self.scaler.tick(now, &self.fleet, &mut changed);
        self.follow(&changed)
    }

    fn decide(&mut self, model: &str, now: Moment) -> BTreeMap<RevisionKey, u32> {
        let mut changed = Vec::new();
        self.scaler.decide(&ModelKey::new("ns", model), now, &self.fleet, &mut changed);
        self.follow(&changed)
    }

    fn follow(&mut self, changed: &[Desired]) -> BTreeMap<RevisionKey, u32> {
        let changed: BTreeMap<_, _> = changed.iter().map(|one| (one.revision.clone(), one.replicas)).collect();
        if self.follows {
            self.fleet.ready.extend(changed.clone());
        }
        changed
    }

    fn why(&self, model: &str, device: Device, now: Moment) -> Why {
        let explanation = self.scaler.explain(&ModelKey::new("ns", model), now, &self.fleet).unwrap();
        explanation.variants.iter().find(|variant| variant.device == device).unwrap().why
    }
}

fn load(model: &str, concurrency: f64, arrivals: u64) -> ModelReport {
    ModelReport {
        model: ModelKey::new("ns", model),
        held: 0,
        in_flight: concurrency.ceil() as u32,
        arrivals,
        average_concurrency: concurrency,
        variants: vec![VariantReport {
            device: Device::Cpu,
            in_flight: concurrency.ceil() as u32,
            service_times: vec![(SizeBucket::of(100), arrivals, Duration::from_millis(10 * arrivals))],
        }],
    }
}

fn key(model: &str, device: Device) -> RevisionKey {
    revision(model, device).key
}

fn only(model: &str, device: Device, replicas: u32) -> BTreeMap<RevisionKey, u32> {
    BTreeMap::from([(key(model, device), replicas)])
}

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
fn limits_hold() {
    let bounded = Revision { min_replicas: 2, max_replicas: 4, ..revision("m", Device::Cpu) };
    let mut rig = Rig::new(std::slice::from_ref(&bounded));
    assert_eq!(rig.tick(at(0)), only("m", Device::Cpu, 2));
    assert_eq!(rig.why("m", Device::Cpu, at(0)), Why::Minimum);
    rig.report(&[load("m", 500.0, 100)], at(1000));
    assert_eq!(rig.tick(at(1000)), only("m", Device::Cpu, 4));
    let annotated = Scaling { max_scale: 3, activation_scale: 2, ..bounded.scaling.clone() };
    let mut rig = Rig::new(&[Revision { min_replicas: 0, scaling: annotated, ..bounded }]);
    rig.tick(at(0));
    rig.report(&[load("m", 1.0, 100)], at(1000));
    assert_eq!(rig.tick(at(1000)), only("m", Device::Cpu, 2), "activation scale");
    rig.report(&[load("m", 500.0, 200)], at(2000));
    assert_eq!(rig.tick(at(2000)), only("m", Device::Cpu, 3), "max-scale");
}

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
fn the_newest_revision_gets_the_demand() {
    let newer = Revision { key: RevisionKey::from("ns/m-cpu-00002"), ..revision("m", Device::Cpu) };
    let mut rig = Rig::new(&[newer.clone(), revision("m", Device::Cpu)]);
    rig.report(&[load("m", 5.0, 100)], at(0));
    assert_eq!(rig.tick(at(0)), BTreeMap::from([(key("m", Device::Cpu), 0), (newer.key, 1)]));
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
