use super::*;
use crate::service::Evidence;

fn offer(concurrency: f64, milliseconds: f64, cost: f64, range: (u32, u32)) -> Option<Offer> {
    let profile = Profile { seconds: [milliseconds / 1000.0; SizeBucket::COUNT], evidence: Evidence::Measured };
    Some(Offer { concurrency, min: range.0, max: range.1, cost, profile })
}

fn small() -> [f64; SizeBucket::COUNT] {
    let mut sizes = [0.0; SizeBucket::COUNT];
    sizes[0] = 1.0;
    sizes
}

fn task(cpu: Option<Offer>, gpu: Option<Offer>, rate: f64) -> Task {
    Task { offers: [cpu, gpu], rate, sizes: small(), objective: None, current: [0, 0] }
}

fn replicas(task: &Task) -> (Mix, Fit) {
    let plan = plan(task, |_| {});
    (plan.replicas, plan.fit)
}

#[test]
fn one_device_is_concurrency_by_target() {
    // 100 requests per second of 50 ms are a concurrency of 5.
    for (target, expected) in [(1.0, 5), (0.7, 8), (2.0, 3), (10.0, 1)] {
        let only_cpu = task(offer(target, 50.0, 1.0, (0, 20)), None, 100.0);
        assert_eq!(replicas(&only_cpu), ([expected, 0], Fit::WithinObjective), "{target}");
    }
}

#[test]
fn without_load_the_minimum_stays() {
    assert_eq!(replicas(&task(offer(1.0, 50.0, 1.0, (0, 9)), offer(1.0, 5.0, 12.0, (1, 2)), 0.0)).0, [0, 1]);
}

#[test]
fn the_cheaper_device_for_the_work_is_taken() {
    let cpu = offer(1.0, 50.0, 1.0, (0, 100));
    // A GPU replica does the work of ten CPU replicas for the price of twelve.
    assert_eq!(replicas(&task(cpu.clone(), offer(1.0, 5.0, 12.0, (0, 2)), 200.0)).0, [10, 0]);
    // For the price of eight.
    assert_eq!(replicas(&task(cpu.clone(), offer(1.0, 5.0, 8.0, (0, 2)), 200.0)).0, [0, 1]);
    // A little more than a GPU replica carries goes to the CPU.
    assert_eq!(replicas(&task(cpu, offer(1.0, 5.0, 8.0, (0, 2)), 230.0)).0, [2, 1]);
}

#[test]
fn what_misses_the_objective_on_the_cpu_goes_to_the_gpu() {
    let mut within = task(offer(1.0, 50.0, 1.0, (0, 100)), offer(1.0, 5.0, 50.0, (0, 2)), 20.0);
    assert_eq!(replicas(&within).0, [1, 0]);
    within.objective = Some(Duration::from_millis(20));
    assert_eq!(replicas(&within), ([0, 1], Fit::WithinObjective));
    within.objective = Some(Duration::from_millis(1));
    assert_eq!(replicas(&within), ([1, 0], Fit::ObjectiveMissed), "no device meets it: then the cheapest");
}

#[test]
fn only_the_sizes_that_need_it_go_to_the_gpu() {
    let mut cpu = offer(1.0, 10.0, 1.0, (0, 100));
    cpu.as_mut().unwrap().profile.seconds[5] = 0.2;
    let gpu = offer(1.0, 5.0, 12.0, (0, 4));
    let mut both = task(cpu, gpu, 1000.0);
    both.objective = Some(Duration::from_millis(50));
    both.sizes[0] = 0.9;
    both.sizes[5] = 0.1;
    // 100 big ones a second are half a GPU replica; of the other half 100 small ones; 800 small ones are 8 CPU replicas.
    assert_eq!(replicas(&both), ([8, 1], Fit::WithinObjective));
}

#[test]
fn an_unavailable_device_carries_nothing() {
    assert_eq!(replicas(&task(offer(1.0, 50.0, 1.0, (0, 100)), offer(1.0, 5.0, 1.0, (0, 0)), 100.0)).0, [5, 0]);
    assert_eq!(
        replicas(&task(offer(1.0, 50.0, 1.0, (0, 0)), offer(1.0, 5.0, 1.0, (0, 0)), 100.0)),
        ([0, 0], Fit::Overloaded)
    );
}

#[test]
fn more_than_there_is_takes_all_there_is() {
    let all = task(offer(1.0, 50.0, 1.0, (0, 3)), offer(1.0, 5.0, 12.0, (0, 1)), 10_000.0);
    assert_eq!(replicas(&all), ([3, 1], Fit::Overloaded));
}

#[test]
fn devices_are_not_swapped_for_a_trifle() {
    // Nine CPU replicas for 9 or a GPU replica for 8.5.
    let mut near = task(offer(1.0, 50.0, 1.0, (0, 100)), offer(1.0, 5.0, 8.5, (0, 2)), 180.0);
    assert_eq!(replicas(&near).0, [0, 1]);
    near.current = [9, 0];
    assert_eq!(replicas(&near).0, [9, 0]);
    near.offers[1] = offer(1.0, 5.0, 7.0, (0, 2));
    assert_eq!(replicas(&near).0, [0, 1], "a fifth cheaper is worth it");
}

#[test]
fn every_mix_that_was_considered_is_told() {
    let mut seen = Vec::new();
    let plan = plan(&task(offer(1.0, 50.0, 1.0, (0, 100)), offer(1.0, 5.0, 12.0, (0, 2)), 300.0), |mix| seen.push(mix));
    let mixes: Vec<Mix> = seen.iter().map(|mix| mix.replicas).collect();
    assert_eq!(mixes, [[15, 0], [5, 1], [0, 2]]);
    assert_eq!(plan.replicas, [15, 0]);
    assert_eq!(plan.cost, 15.0);
}

#[test]
fn a_mix_is_told_once_also_where_none_keeps_the_objective() {
    for objective in [None, Some(Duration::from_millis(1))] {
        let overloaded = task(offer(1.0, 50.0, 1.0, (0, 2)), offer(1.0, 5.0, 12.0, (0, 2)), 1e6);
        let mut told = Vec::new();
        plan(&Task { objective, ..overloaded }, |mix| told.push(mix.replicas));
        assert_eq!(told, [[2, 0], [2, 1], [2, 2]], "{objective:?}");
    }
}

/// The search against trying every mix.
mod properties {
    use proptest::prelude::*;

    use super::*;

    fn carries(task: &Task, mix: Mix) -> bool {
        let (cpu, gpu) = (task.offers[CPU].as_ref().unwrap(), task.offers[GPU].as_ref().unwrap());
        let need = |offer: &Offer| task.rate * offer.profile.seconds[0];
        let part = |offer: &Offer, count: u32| f64::from(count) * offer.concurrency / need(offer);
        part(cpu, mix[CPU]) + part(gpu, mix[GPU]) >= 1.0 - 1e-6
    }

    proptest! {
        #[test]
        fn no_cheaper_mix_carries_the_load(
            rate in 0.1_f64..2000.0,
            cpu in (0.1_f64..4.0, 1.0_f64..200.0, 0.1_f64..5.0, 0_u32..3, 0_u32..12),
            gpu in (0.1_f64..4.0, 1.0_f64..50.0, 0.1_f64..30.0, 0_u32..2, 0_u32..8),
        ) {
            let range = |min: u32, more: u32| (min, min + more);
            let task = task(
                offer(cpu.0, cpu.1, cpu.2, range(cpu.3, cpu.4)),
                offer(gpu.0, gpu.1, gpu.2, range(gpu.3, gpu.4)),
                rate,
            );
            let result = plan(&task, |_| {});
            let limits = [range(cpu.3, cpu.4), range(gpu.3, gpu.4)];
            for index in [CPU, GPU] {
                prop_assert!((limits[index].0..=limits[index].1).contains(&result.replicas[index]));
            }
            let mut cheapest = f64::INFINITY;
            for c in limits[CPU].0..=limits[CPU].1 {
                for g in limits[GPU].0..=limits[GPU].1 {
                    // A GPU more than is needed for all the load is never considered; it is never cheaper either.
                    if carries(&task, [c, g]) {
                        cheapest = cheapest.min(cost(&task, [c, g]));
                    }
                }
            }
            if cheapest.is_finite() {
                prop_assert!(result.fit == Fit::WithinObjective);
                prop_assert!(carries(&task, result.replicas));
                prop_assert!(result.cost <= cheapest + 1e-6, "{result:?} but {cheapest}");
            } else {
                prop_assert_eq!(result.fit, Fit::Overloaded);
            }
        }
    }
}
