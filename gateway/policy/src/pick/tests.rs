use std::sync::Arc;
use std::thread;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

mod trials;

use super::*;
use crate::{EjectionPolicy, Health, Slots};

const MS: Duration = Duration::from_millis(1);
const NOW: Moment = Moment::from_micros(1_000_000);

#[derive(Debug)]
struct FakeReplica {
    slots: Slots,
    health: Health,
}

impl Replica for FakeReplica {
    fn slots(&self) -> &Slots {
        &self.slots
    }

    fn health(&self) -> &Health {
        &self.health
    }
}

type Held = Vec<Slot<Arc<FakeReplica>>>;

/// A replica with `taken` of `concurrency` slots taken for as long as the guards in `held` live.
fn busy(concurrency: u32, taken: u32, held: &mut Held) -> Arc<FakeReplica> {
    let replica = idle(concurrency);
    held.extend((0..taken).filter_map(|_| Slot::acquire(Arc::clone(&replica)).ok()));
    replica
}

fn idle(concurrency: u32) -> Arc<FakeReplica> {
    Arc::new(FakeReplica { slots: Slots::new(concurrency), health: Health::new() })
}

fn eject(replica: &FakeReplica) {
    let policy = EjectionPolicy::default();
    (0..policy.consecutive_failures).for_each(|_| {
        replica.health.record_failure(&policy, NOW);
    });
    assert!(replica.health.is_ejected(NOW));
}

fn cpu(service_time: Duration, replicas: &[Arc<FakeReplica>]) -> Class<'_, Arc<FakeReplica>> {
    Class { device: Device::Cpu, cost: 1.0, service_time, wants_trial: false, replicas }
}

fn gpu(service_time: Duration, replicas: &[Arc<FakeReplica>]) -> Class<'_, Arc<FakeReplica>> {
    Class { device: Device::Gpu, cost: 12.0, service_time, wants_trial: false, replicas }
}

fn rng() -> SmallRng {
    SmallRng::seed_from_u64(7)
}

/// For a request whose deadline is as near as what it aims at.
fn within(target: Duration) -> Aim {
    Aim { target, trial: target }
}

fn reason(classes: &[Class<'_, Arc<FakeReplica>>], target: Duration) -> Option<(usize, Reason)> {
    choose(classes.iter().copied(), within(target), NOW, &mut rng()).map(|choice| (choice.class, choice.reason))
}

#[test]
fn the_cheapest_of_those_within_the_target() {
    let (one, two) = ([idle(4)], [idle(4)]);
    assert_eq!(reason(&[cpu(20 * MS, &one), gpu(2 * MS, &two)], 50 * MS), Some((0, Reason::CheapestWithinTarget)));
    assert_eq!(reason(&[cpu(80 * MS, &one), gpu(2 * MS, &two)], 50 * MS), Some((1, Reason::CheapestWithinTarget)));
}

#[test]
fn the_fastest_when_none_is_within_the_target() {
    let (one, two) = ([idle(4)], [idle(4)]);
    assert_eq!(reason(&[cpu(80 * MS, &one), gpu(60 * MS, &two)], 50 * MS), Some((1, Reason::Fastest)));
    assert_eq!(reason(&[cpu(80 * MS, &one), gpu(60 * MS, &two)], Duration::ZERO), Some((1, Reason::Fastest)));
}

#[test]
fn load_spills_to_the_other_device_before_the_target_is_missed() {
    let mut held = Held::new();
    let two = [idle(4)];
    let one = [busy(4, 1, &mut held)];
    assert_eq!(reason(&[cpu(30 * MS, &one), gpu(2 * MS, &two)], 40 * MS), Some((0, Reason::CheapestWithinTarget)));
    let one = [busy(4, 3, &mut held)];
    assert_eq!(reason(&[cpu(30 * MS, &one), gpu(2 * MS, &two)], 40 * MS), Some((1, Reason::CheapestWithinTarget)));
}

#[test]
fn a_full_class_leaves_one_candidate() {
    let mut held = Held::new();
    let (one, two) = ([busy(1, 1, &mut held)], [idle(1)]);
    assert_eq!(reason(&[cpu(MS, &one), gpu(MS, &two)], 50 * MS), Some((1, Reason::OnlyCandidate)));
    assert_eq!(reason(&[gpu(MS, &two)], Duration::ZERO), Some((0, Reason::OnlyCandidate)));
}

#[test]
fn a_cold_class_shows_in_the_reason_where_it_would_have_been_preferred() {
    let one = [idle(4)];
    assert_eq!(reason(&[cpu(80 * MS, &one), gpu(2 * MS, &[])], 50 * MS), Some((0, Reason::ColdStandby)));
    assert_eq!(
        reason(&[cpu(20 * MS, &one), gpu(2 * MS, &[])], 50 * MS),
        Some((0, Reason::OnlyCandidate)),
        "warm or cold, the GPU would not have been chosen"
    );
    assert_eq!(reason(&[cpu(20 * MS, &[]), gpu(2 * MS, &[])], 50 * MS), None);
}

#[test]
fn the_prediction_is_that_of_the_chosen_replica() {
    let mut held = Held::new();
    let one = [busy(2, 1, &mut held)];
    let choice = choose([cpu(10 * MS, &one)].into_iter(), within(50 * MS), NOW, &mut rng()).unwrap();
    assert_eq!(choice.predicted, 15 * MS);
}

#[test]
fn of_two_the_less_loaded_is_chosen() {
    let mut held = Held::new();
    let pair = [busy(4, 3, &mut held), busy(4, 1, &mut held)];
    let mixed = [busy(1, 0, &mut held), busy(8, 1, &mut held)];
    for seed in 0..20 {
        let mut rng = SmallRng::seed_from_u64(seed);
        assert_eq!(choose([cpu(MS, &pair)].into_iter(), within(MS), NOW, &mut rng).unwrap().replica, 1);
        assert_eq!(choose([cpu(MS, &mixed)].into_iter(), within(MS), NOW, &mut rng).unwrap().replica, 0);
    }
}

#[test]
fn two_choices_balance_far_better_than_one() {
    const REPLICAS: usize = 50;
    const REQUESTS: usize = 1000;
    let replicas: Vec<_> = (0..REPLICAS).map(|_| idle(1000)).collect();
    let mut rng = rng();
    let held: Vec<_> =
        (0..REQUESTS).map(|_| pick([cpu(MS, &replicas)].into_iter(), within(MS), NOW, &mut rng).unwrap()).collect();
    let most = replicas.iter().map(|replica| replica.slots.in_flight()).max().unwrap();
    let mean = u32::try_from(held.len() / REPLICAS).unwrap();
    // One random choice gives a maximum of about mean + 2.5 √mean = 31 here, two give mean + ln ln n / ln 2.
    assert!(most <= mean + 4, "{most} on one replica, {mean} in the mean");
}

#[test]
fn the_last_free_slot_of_a_thousand_replicas_is_found() {
    let mut held = Held::new();
    let mut replicas: Vec<_> = (0..999).map(|_| busy(1, 1, &mut held)).collect();
    replicas.insert(617, idle(1));
    let mut rng = rng();
    for _ in 0..50 {
        let pick = pick([cpu(MS, &replicas)].into_iter(), within(MS), NOW, &mut rng).unwrap();
        assert_eq!(pick.choice.replica, 617);
        assert!(super::pick([cpu(MS, &replicas)].into_iter(), within(MS), NOW, &mut rng).is_none());
    }
}

#[test]
fn ejections_are_ignored_where_they_would_leave_nobody() {
    let mut held = Held::new();
    for count in [1, 2, 5] {
        let replicas: Vec<_> = (0..count).map(|_| idle(1)).collect();
        replicas.iter().for_each(|replica| eject(replica));
        assert!(choose([cpu(MS, &replicas)].into_iter(), within(MS), NOW, &mut rng()).is_some(), "{count}");
    }
    let replicas = [busy(1, 1, &mut held), idle(1)];
    eject(&replicas[1]);
    assert!(
        choose([cpu(MS, &replicas)].into_iter(), within(MS), NOW, &mut rng()).is_none(),
        "a healthy replica will be free soon: the request is held for it"
    );
}

#[test]
fn threads_that_race_for_slots_get_each_one_once() {
    const SLOTS: usize = 64;
    let replicas: Vec<_> = (0..SLOTS / 2).map(|_| idle(2)).collect();
    let taken: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|seed| {
                let replicas = &replicas;
                scope.spawn(move || {
                    let mut rng = SmallRng::seed_from_u64(seed);
                    let picks: Vec<_> =
                        std::iter::from_fn(|| pick([cpu(MS, replicas)].into_iter(), within(MS), NOW, &mut rng))
                            .collect();
                    let count = picks.len();
                    std::mem::forget(picks);
                    count
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, SLOTS);
}

#[derive(Clone, Debug)]
struct Sketch {
    concurrency: u32,
    taken: u32,
    ejected: bool,
}

fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
    let sketch = (1u32..4, 0u32..4, prop::bool::weighted(0.3)).prop_map(|(concurrency, taken, ejected)| Sketch {
        concurrency,
        taken: taken.min(concurrency),
        ejected,
    });
    prop::collection::vec(sketch, 0..12)
}

fn build(sketches: &[Sketch], held: &mut Held) -> Vec<Arc<FakeReplica>> {
    sketches
        .iter()
        .map(|sketch| {
            let replica = busy(sketch.concurrency, sketch.taken, held);
            if sketch.ejected {
                eject(&replica);
            }
            replica
        })
        .collect()
}

fn eligible_in(sketches: &[Sketch]) -> bool {
    let all_ejected = sketches.iter().all(|sketch| sketch.ejected);
    sketches.iter().any(|sketch| sketch.taken < sketch.concurrency && (all_ejected || !sketch.ejected))
}

proptest! {
    #[test]
    fn picks_are_never_full_or_ejected_and_never_missed(
        (cpu_sketch, gpu_sketch) in (sketches(), sketches()),
        times in (1u32..100, 1u32..100, 0u32..100, 0u32..100),
        wants_trial in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut held = Held::new();
        let (cpus, gpus) = (build(&cpu_sketch, &mut held), build(&gpu_sketch, &mut held));
        let (cpu_time, gpu_time, target, left) = times;
        let classes = [Class { wants_trial, ..cpu(cpu_time * MS, &cpus) }, gpu(gpu_time * MS, &gpus)];
        let aim = Aim { target: target * MS, trial: (target + left) * MS };
        let picked = pick(classes.into_iter(), aim, NOW, &mut SmallRng::seed_from_u64(seed));
        let exists = eligible_in(&cpu_sketch) || eligible_in(&gpu_sketch);
        prop_assert_eq!(picked.is_some(), exists);
        if let Some(picked) = picked {
            let sketches = [&cpu_sketch, &gpu_sketch][picked.choice.class];
            let sketch = &sketches[picked.choice.replica];
            prop_assert!(sketch.taken < sketch.concurrency);
            prop_assert!(!sketch.ejected || sketches.iter().all(|sketch| sketch.ejected));
            prop_assert_eq!(picked.slot.load().ahead, sketch.taken);
            let Choice { predicted, reason, class, .. } = picked.choice;
            match reason {
                Reason::CheapestWithinTarget => prop_assert!(predicted <= aim.target),
                Reason::Trial => {
                    prop_assert!(wants_trial && class == 0 && sketch.taken == 0 && !sketch.ejected);
                    prop_assert!(predicted > aim.target && predicted <= aim.trial);
                }
                Reason::Fastest | Reason::OnlyCandidate | Reason::ColdStandby => {}
                Reason::Static => prop_assert!(false, "the policy knows of no route"),
            }
        }
    }
}
