//! What a routing decision costs, by the number of replicas. Budget: 200 ns at 1,000 replicas.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gateway_policy::{Aim, Class, Device, Health, Load, Moment, Replica, ServiceTimes, SizeBucket, Slot, Slots, pick};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

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

struct Variant {
    device: Device,
    cost: f64,
    service_times: ServiceTimes,
    replicas: Vec<Arc<FakeReplica>>,
}

impl Variant {
    fn new(device: Device, cost: f64, replicas: usize) -> Self {
        let service_times = ServiceTimes::new(ServiceTimes::default_prior(device));
        for sample in 0..100 {
            let now = Moment::from_micros(sample);
            service_times.record_success(SizeBucket::of(1024), Duration::from_millis(5), Load::IDLE, now);
        }
        let replica = || Arc::new(FakeReplica { slots: Slots::new(4), health: Health::new() });
        Self { device, cost, service_times, replicas: (0..replicas).map(|_| replica()).collect() }
    }
}

/// A pick and the release of its slot, with `full` of the replicas without a free one.
fn decide(criterion: &mut Criterion, name: &str, full: f64) {
    let mut group = criterion.benchmark_group(name);
    for replicas in [2, 100, 1000] {
        let variants = [Variant::new(Device::Cpu, 1.0, replicas / 2), Variant::new(Device::Gpu, 12.0, replicas / 2)];
        let mut rng = SmallRng::seed_from_u64(1);
        let busy: Vec<_> = variants
            .iter()
            .flat_map(|variant| &variant.replicas)
            .filter(|_| rng.random_bool(full))
            .flat_map(|replica| (0..4).filter_map(|_| Slot::acquire(Arc::clone(replica)).ok()))
            .collect();
        group.bench_function(BenchmarkId::from_parameter(replicas), |bencher| {
            bencher.iter(|| {
                let now = black_box(Moment::from_micros(1_000_000));
                let aim = Aim::new(Some(Duration::from_millis(50)), now + Duration::from_secs(60), now);
                let size = SizeBucket::of(black_box(1000));
                let classes = variants.iter().map(|variant| Class {
                    device: variant.device,
                    cost: variant.cost,
                    service_time: variant.service_times.estimate(size, now),
                    wants_trial: variant.service_times.wants_trial(size, now),
                    replicas: &variant.replicas,
                });
                pick(classes, aim, now, &mut rng)
            });
        });
        drop(busy);
    }
    group.finish();
}

fn decisions(criterion: &mut Criterion) {
    decide(criterion, "decision/all free", 0.0);
    decide(criterion, "decision/half full", 0.5);
    decide(criterion, "decision/nearly all full", 0.99);
}

criterion_group!(benches, decisions);
criterion_main!(benches);
