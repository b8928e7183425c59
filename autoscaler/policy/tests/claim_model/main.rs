//! The claim protocol, model-checked: the product's own step, with every order of replies, losses, deaths and crashes.
//!
//! One leader is explored exhaustively within each budget of mishaps, two leaders at once to a bounded depth. The larger
//! budgets take minutes each and are run with
//! `cargo test --release -p autoscaler-policy --test claim_model -- --ignored --nocapture`.

mod model;
mod properties;
mod world;

use std::time::Instant;

use autoscaler_policy::claim::{Order, Settings};
use stateright::{Checker, DiscoveryClassification, HasDiscoveries, Model};

use model::ClaimModel;
use world::{Budget, Safeguards};

const NONE: Budget = Budget {
    crashes: 0,
    deposals: 0,
    deaths: 0,
    retirements: 0,
    refills: 0,
    lost_replies: 0,
    late_requests: 0,
    late_replies: 0,
    repeats: 0,
    rejections: 0,
    scale_changes: 0,
    hurries: 0,
};

/// Two revisions that want a replica each, a pool of two, and room for a third.
fn two_revisions(order: Order, budget: Budget) -> ClaimModel {
    ClaimModel {
        addresses: 3,
        pool: 2,
        revisions: 2,
        desired: 1,
        // Cold starts are explored on their own: with them no state is final while an address is free.
        settings: Settings { order, max_cold_starts: 0, ..Settings::default() },
        budget,
        safeguards: Safeguards::ALL,
    }
}

/// One revision: its spare replicas are what a claim can go wrong with.
fn one_revision(order: Order, budget: Budget) -> ClaimModel {
    ClaimModel { revisions: 1, ..two_revisions(order, budget) }
}

/// No pool: every replica is started for its revision.
fn no_pool(addresses: usize, budget: Budget) -> ClaimModel {
    ClaimModel { addresses, pool: 0, settings: Settings::default(), ..two_revisions(Order::Optimistic, budget) }
}

/// Explores everything (or to a depth) and fails with the steps that lead to a broken property.
fn holds(name: &str, model: ClaimModel, depth: Option<usize>) {
    let started = Instant::now();
    let mut checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
    if let Some(depth) = depth {
        checker = checker.target_max_depth(depth);
    }
    let checker = checker.spawn_bfs().join();
    println!(
        "{name}: {} states, {} steps, depth {}, {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed()
    );
    checker.assert_properties();
}

/// Explores until a property is broken, and fails if none is: a check that cannot fail checks nothing.
fn breaks(name: &str, model: ClaimModel) {
    let checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let broken: Vec<_> = checker
        .discoveries()
        .into_iter()
        .filter(|(property, _)| {
            matches!(checker.discovery_classification(property), DiscoveryClassification::Counterexample)
        })
        .map(|(property, path)| (property, path.into_actions().len()))
        .collect();
    println!("{name}: {broken:?}, {} states", checker.unique_state_count());
    assert!(!broken.is_empty(), "{name}: no property was broken in {} states", checker.unique_state_count());
}

#[test]
fn a_leader_that_dies_at_any_step() {
    let crash = Budget { crashes: 1, ..NONE };
    holds("crash, optimistic", two_revisions(Order::Optimistic, crash), None);
    holds("crash, sequential", two_revisions(Order::Sequential, crash), None);
}

#[test]
fn a_leader_that_dies_while_a_model_cannot_be_loaded() {
    let budget = Budget { crashes: 1, rejections: 1, refills: 1, ..NONE };
    holds("crash and rejection", one_revision(Order::Optimistic, budget), None);
}

#[test]
fn a_leader_that_dies_while_the_pool_shrinks() {
    let budget = Budget { crashes: 1, retirements: 1, ..NONE };
    holds("crash and retirement", one_revision(Order::Optimistic, budget), None);
}

#[test]
fn a_leader_that_dies_while_it_scales_down() {
    let budget = Budget { crashes: 1, scale_changes: 1, ..NONE };
    holds("crash and scale", one_revision(Order::Optimistic, budget), None);
}

#[test]
fn replicas_that_die_and_addresses_that_are_used_again() {
    for order in [Order::Optimistic, Order::Sequential] {
        let budget = Budget { deaths: 1, refills: 1, ..NONE };
        holds("death", two_revisions(order, budget), None);
        holds("death and lost reply", two_revisions(order, Budget { lost_replies: 1, ..budget }), None);
    }
}

#[test]
fn models_that_crash_their_replicas() {
    let model = one_revision(Order::Optimistic, Budget { deaths: 2, refills: 1, ..NONE });
    let settings = Settings { crashes_tolerated: 0, ..model.settings.clone() };
    holds("crashes, none tolerated", ClaimModel { settings, ..model }, None);
}

#[test]
fn a_pool_that_shrinks_during_claims() {
    for order in [Order::Optimistic, Order::Sequential] {
        holds("retirement", two_revisions(order, Budget { retirements: 1, refills: 1, ..NONE }), None);
    }
}

#[test]
fn replies_that_are_lost_late_or_repeated() {
    for order in [Order::Optimistic, Order::Sequential] {
        holds("lost replies", two_revisions(order, Budget { lost_replies: 2, refills: 1, ..NONE }), None);
        holds("late requests", two_revisions(order, Budget { late_requests: 1, refills: 1, ..NONE }), None);
        holds("late replies", two_revisions(order, Budget { late_replies: 1, refills: 1, ..NONE }), None);
        holds("repeated replies", two_revisions(order, Budget { repeats: 2, ..NONE }), None);
    }
}

#[test]
fn time_that_passes_while_replies_are_awaited() {
    for order in [Order::Optimistic, Order::Sequential] {
        holds("hurry", two_revisions(order, Budget { hurries: 1, refills: 2, ..NONE }), None);
    }
}

#[test]
fn models_that_cannot_be_loaded() {
    for order in [Order::Optimistic, Order::Sequential] {
        holds("rejection", two_revisions(order, Budget { rejections: 2, refills: 2, ..NONE }), None);
    }
}

#[test]
fn replicas_that_come_and_go() {
    holds("scale", two_revisions(Order::Optimistic, Budget { scale_changes: 2, refills: 1, ..NONE }), None);
}

#[test]
fn replicas_that_are_started_for_their_revision() {
    holds("cold", no_pool(2, NONE), None);
    holds("cold and death", no_pool(2, Budget { deaths: 1, ..NONE }), None);
    holds("cold and lost reply", no_pool(3, Budget { lost_replies: 1, ..NONE }), None);
    holds("cold and late request", no_pool(3, Budget { late_requests: 1, ..NONE }), None);
}

#[test]
fn two_leaders_at_once() {
    holds("two leaders", one_revision(Order::Optimistic, Budget { deposals: 1, ..NONE }), Some(13));
}

#[test]
fn without_any_safeguard_a_property_breaks() {
    let crash = two_revisions(Order::Optimistic, Budget { crashes: 1, ..NONE });
    let without = |safeguards| ClaimModel { safeguards, ..crash.clone() };
    breaks("no adoption", without(Safeguards { reports: false, ..Safeguards::ALL }));
    breaks("no reaping", ClaimModel { revisions: 1, ..without(Safeguards { removals: false, ..Safeguards::ALL }) });
    breaks("no claim lock", without(Safeguards { claim_lock: false, ..Safeguards::ALL }));
    breaks("no test before a write", without(Safeguards { write_test: false, ..Safeguards::ALL }));
    breaks(
        "no identity check",
        ClaimModel {
            safeguards: Safeguards { identity_check: false, ..Safeguards::ALL },
            ..two_revisions(Order::Optimistic, Budget { deaths: 1, refills: 1, ..NONE })
        },
    );
}

#[test]
#[ignore = "minutes"]
fn large_two_crashes() {
    holds("two crashes", one_revision(Order::Optimistic, Budget { crashes: 2, ..NONE }), None);
}

#[test]
#[ignore = "minutes"]
fn large_crash_and_death() {
    holds("crash, death", one_revision(Order::Optimistic, Budget { crashes: 1, deaths: 1, refills: 1, ..NONE }), None);
}

#[test]
#[ignore = "minutes"]
fn large_crash_and_late_messages() {
    let budget = Budget { crashes: 1, late_requests: 1, late_replies: 1, ..NONE };
    holds("crash, late messages", one_revision(Order::Optimistic, budget), None);
}

#[test]
#[ignore = "minutes"]
fn large_crash_and_scale_changes() {
    let budget = Budget { crashes: 1, scale_changes: 2, refills: 1, ..NONE };
    holds("crash, scale changes", one_revision(Order::Optimistic, budget), None);
}

#[test]
#[ignore = "minutes"]
fn large_crash_with_two_revisions() {
    let budget = Budget { crashes: 1, retirements: 1, ..NONE };
    holds("crash, retirement, two revisions", two_revisions(Order::Optimistic, budget), None);
}

#[test]
#[ignore = "minutes"]
fn large_cold_crash() {
    holds("cold, crash", no_pool(4, Budget { crashes: 1, ..NONE }), None);
}

#[test]
#[ignore = "minutes"]
fn large_two_leaders() {
    holds("two leaders", one_revision(Order::Optimistic, Budget { deposals: 1, ..NONE }), Some(20));
    let death = Budget { deposals: 1, deaths: 1, ..NONE };
    holds("two leaders, death", one_revision(Order::Optimistic, death), Some(16));
    holds("two leaders, two revisions", two_revisions(Order::Optimistic, Budget { deposals: 1, ..NONE }), Some(14));
}
