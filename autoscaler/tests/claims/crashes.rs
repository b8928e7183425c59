//! The autoscaler dies before and after each effect of a claim; the next one finds the same store and makes it good.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use autoscaler::Settings;
use autoscaler_policy::claim::{self, Order};
use poolctl_cluster::faults::{Fault, FaultyCluster};
use tokio::sync::Notify;

use crate::faulty_admin::FaultyAdmin;
use crate::gateway::FakeGateway;
use crate::stack::{Stack, admin_client, revision, serves_once};

/// Effects that no claim needs as many of: the test has gone through all of them when one claim ends before.
const TOO_MANY_EFFECTS: usize = 20;

/// Counts effects of both kinds together; the `nth` halts.
struct HaltAt {
    nth: usize,
    how: Fault,
    count: AtomicUsize,
    halted: Notify,
}

impl HaltAt {
    fn next(&self) -> Fault {
        if self.count.fetch_add(1, Ordering::SeqCst) + 1 < self.nth {
            return Fault::None;
        }
        // A process that is dead does nothing more: every later effect halts before it happens.
        if self.count.load(Ordering::SeqCst) > self.nth {
            return Fault::HaltBefore;
        }
        self.halted.notify_one();
        self.how
    }
}

fn settings(order: Order) -> Settings {
    Settings { claims: claim::Settings { order, ..claim::Settings::default() }, ..Settings::default() }
}

/// Whether the claim got as far as its `nth` effect.
async fn crash_at(nth: usize, how: Fault, order: Order) -> bool {
    let stack = Stack::with_pool(2).await;
    let gateway = FakeGateway::new("gateway-1");
    let halt = Arc::new(HaltAt { nth, how, count: AtomicUsize::new(0), halted: Notify::new() });
    let halted = {
        let (store, admin) = (Arc::clone(&halt), Arc::clone(&halt));
        let around = (
            FaultyCluster::new(stack.cluster.clone(), move |_| store.next()),
            FaultyAdmin::new(admin_client(), move |_| admin.next()),
        );
        let first = stack.start_with(around, settings(order), vec![revision("digits")]);
        gateway.connect(&first.socket).await;
        gateway.hold("digits");
        let served = serves_once(&stack, &gateway, "digits");
        tokio::select! {
            () = halt.halted.notified() => {
                // What the effect set off is allowed to reach the gateway, or not: both are crashes that happen.
                tokio::task::yield_now().await;
                true
            }
            () = served => false,
        }
    };
    gateway.disconnect();

    let second = stack.start(settings(order), vec![revision("digits")]);
    gateway.connect(&second.socket).await;
    serves_once(&stack, &gateway, "digits").await;
    drop(second);
    stack.end().await;
    halted
}

async fn crash_at_every_effect(how: Fault, order: Order) {
    let mut reached = 0;
    for nth in 1..=TOO_MANY_EFFECTS {
        if !crash_at(nth, how, order).await {
            break;
        }
        reached = nth;
    }
    // P1, specialize and P2 at least.
    assert!((3..TOO_MANY_EFFECTS).contains(&reached), "{reached} effects");
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_before_each_effect() {
    crash_at_every_effect(Fault::HaltBefore, Order::Optimistic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_after_each_effect() {
    crash_at_every_effect(Fault::HaltAfter, Order::Optimistic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_before_each_effect_in_sequential_order() {
    crash_at_every_effect(Fault::HaltBefore, Order::Sequential).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_after_each_effect_in_sequential_order() {
    crash_at_every_effect(Fault::HaltAfter, Order::Sequential).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_in_use_survives_its_autoscaler() {
    let stack = Stack::with_pool(2).await;
    let gateway = FakeGateway::new("gateway-1");
    let first = stack.start(settings(Order::Optimistic), vec![revision("digits")]);
    gateway.connect(&first.socket).await;
    gateway.hold("digits");
    serves_once(&stack, &gateway, "digits").await;
    let before = gateway.known().replicas;
    drop(first);
    gateway.disconnect();

    let second = stack.start(settings(Order::Optimistic), vec![revision("digits")]);
    gateway.connect(&second.socket).await;
    serves_once(&stack, &gateway, "digits").await;
    assert!(gateway.known().replicas.keys().eq(before.keys()), "nothing was claimed anew");
    drop(second);
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_autoscalers_at_once_leave_one_replica() {
    let stack = Stack::with_pool(4).await;
    let gateways = [FakeGateway::new("gateway-1"), FakeGateway::new("gateway-2")];
    let rivals: Vec<_> = (0..2).map(|_| stack.start(settings(Order::Optimistic), vec![revision("digits")])).collect();
    for (gateway, rival) in gateways.iter().zip(&rivals) {
        gateway.connect(&rival.socket).await;
    }
    for gateway in &gateways {
        gateway.hold("digits");
    }
    for gateway in &gateways {
        serves_once(&stack, gateway, "digits").await;
    }
    assert!(gateways[0].known().replicas.keys().eq(gateways[1].known().replicas.keys()));
    drop(rivals);
    stack.end().await;
}
