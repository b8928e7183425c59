use std::sync::Arc;
use std::thread;

use proptest::prelude::*;

use super::{Replica, Slot, Slots};
use crate::Health;

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

fn replica(concurrency: u32) -> Arc<FakeReplica> {
    Arc::new(FakeReplica { slots: Slots::new(concurrency), health: Health::new() })
}

#[test]
fn a_slot_is_free_again_when_its_guard_is_dropped() {
    let replica = replica(1);
    let slot = Slot::acquire(Arc::clone(&replica)).ok();
    assert!(slot.is_some());
    assert!(!replica.slots.has_free());
    assert!(Slot::acquire(Arc::clone(&replica)).is_err());
    drop(slot);
    assert!(replica.slots.has_free());
    assert_eq!(replica.slots.in_flight(), 0);
}

#[test]
fn a_slot_knows_what_it_met() {
    let replica = replica(3);
    let first = Slot::acquire(Arc::clone(&replica)).ok().unwrap();
    let second = Slot::acquire(Arc::clone(&replica)).ok().unwrap();
    assert_eq!((first.load().ahead, second.load().ahead), (0, 1));
    assert_eq!(second.load().concurrency, 3);
}

#[test]
fn zero_sets_no_limit() {
    let replica = replica(0);
    let slots: Vec<_> = (0..1000).filter_map(|_| Slot::acquire(Arc::clone(&replica)).ok()).collect();
    assert_eq!(slots.len(), 1000);
    assert!(replica.slots.has_free());
}

#[test]
fn a_concurrency_that_changes_counts_what_is_in_flight() {
    let replica = replica(3);
    let mut slots: Vec<_> = (0..3).filter_map(|_| Slot::acquire(Arc::clone(&replica)).ok()).collect();
    replica.slots.set_concurrency(2);
    assert_eq!((replica.slots.in_flight(), replica.slots.load().concurrency), (3, 2));
    slots.pop();
    assert!(Slot::acquire(Arc::clone(&replica)).is_err(), "two are in flight");
    slots.pop();
    slots.extend(Slot::acquire(Arc::clone(&replica)).ok());
    assert!(!replica.slots.has_free());
    replica.slots.set_concurrency(0);
    assert!(replica.slots.has_free());
    assert_eq!(slots.len(), 2);
}

#[test]
fn threads_together_never_exceed_the_concurrency() {
    const CONCURRENCY: u32 = 3;
    let replica = replica(CONCURRENCY);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let slot = Slot::acquire(Arc::clone(&replica));
                    assert!(replica.slots.in_flight() <= CONCURRENCY);
                    drop(slot);
                }
            });
        }
    });
    assert_eq!(replica.slots.in_flight(), 0);
}

proptest! {
    #[test]
    fn in_flight_is_the_number_of_guards(concurrency in 1u32..6, steps in prop::collection::vec(any::<(bool, usize)>(), 0..60)) {
        let replica = replica(concurrency);
        let mut guards = Vec::new();
        for (acquire, index) in steps {
            if acquire {
                let full = guards.len() == concurrency as usize;
                match Slot::acquire(Arc::clone(&replica)) {
                    Ok(slot) => {
                        prop_assert!(!full);
                        guards.push(slot);
                    }
                    Err(_) => prop_assert!(full),
                }
            } else if !guards.is_empty() {
                drop(guards.swap_remove(index % guards.len()));
            }
            prop_assert_eq!(replica.slots.in_flight() as usize, guards.len());
        }
    }
}
