//! A routing decision, its accounting and its retry check allocate nothing, whatever the number of replicas.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use gateway_policy::{
    Aim, Class, Device, EjectionPolicy, Health, Moment, Replica, RetryBudget, ServiceTimes, SizeBucket, Slot, Slots,
    pick,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

struct Counting;

thread_local! {
    /// Of this thread: the test harness allocates on others.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory that it hands out.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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

#[test]
fn a_decision_and_its_accounting_allocate_nothing() {
    let replicas: Vec<_> =
        (0..1000).map(|_| Arc::new(FakeReplica { slots: Slots::new(1), health: Health::new() })).collect();
    let full: Vec<_> = replicas[..990].iter().filter_map(|replica| Slot::acquire(Arc::clone(replica)).ok()).collect();
    let times = ServiceTimes::new(ServiceTimes::default_prior(Device::Cpu));
    let budget = RetryBudget::new();
    let mut rng = SmallRng::seed_from_u64(3);
    let size = SizeBucket::of(1000);
    let mut granted = 0;

    let before = ALLOCATIONS.get();
    for request in 0..1000 {
        let now = Moment::from_micros(request * 1000);
        budget.record_request(now);
        let class = Class {
            device: Device::Cpu,
            cost: 1.0,
            service_time: times.estimate(size, now),
            wants_trial: times.wants_trial(size, now),
            replicas: &replicas,
        };
        let aim = Aim::new(None, now + Duration::from_millis(50), now);
        let picked = pick(std::iter::once(class), aim, now, &mut rng);
        let picked = picked.expect("ten replicas are free");
        if request % 10 == 0 {
            times.record_failure(size, Duration::from_millis(1), now);
            picked.slot.health().record_failure(&EjectionPolicy::default(), now);
            granted += usize::from(budget.try_retry(now) == gateway_policy::retry::Retry::Granted);
        } else {
            times.record_success(size, Duration::from_millis(2), picked.slot.load(), now);
            picked.slot.health().record_success();
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!((full.len(), granted), (990, 100));
}
