//! The claim protocol, model-checked: the product's own step in every order of replies, losses, deaths and crashes.

mod model;
mod world;

use std::time::{Duration, Instant};

use autoscaler_policy::claim::{Order, Settings};
use stateright::{Checker, Model};

use model::ClaimModel;
use world::{Budget, Safeguards};

fn settings(order: Order) -> Settings {
    // Cold starts are explored on their own: with them no state is final while an address is free.
    Settings { order, max_cold_starts: 0, ..Settings::default() }
}

fn small(order: Order, budget: Budget) -> ClaimModel {
    ClaimModel {
        addresses: 3,
        pool: 2,
        revisions: 2,
        desired: 1,
        settings: settings(order),
        budget,
        safeguards: Safeguards::ALL,
    }
}

fn explore(name: &str, model: ClaimModel, depth: Option<usize>) {
    let started = Instant::now();
    let mut checker = model.checker().threads(1);
    if let Some(depth) = depth {
        checker = checker.target_max_depth(depth);
    }
    let checker = checker.spawn_bfs().join();
    println!(
        "{name}: {} states, {} generated, depth {}, {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed()
    );
    for (name, path) in checker.discoveries() {
        if !name.starts_with("everything") {
            println!("{name}:");
            for action in path.into_actions() {
                println!("  {action:?}");
            }
        }
    }
    checker.assert_properties();
    let _ = Duration::ZERO;
}

fn b() -> Budget {
    Budget::default()
}
#[test]
fn crash() {
    explore("crash", small(Order::Optimistic, Budget { crashes: 1, ..b() }), None);
}
#[test]
fn crash_seq() {
    explore("crash_seq", small(Order::Sequential, Budget { crashes: 1, ..b() }), None);
}
#[test]
fn death() {
    explore("death", small(Order::Optimistic, Budget { deaths: 1, refills: 1, ..b() }), None);
}
#[test]
fn retire() {
    explore("retire", small(Order::Optimistic, Budget { retirements: 1, refills: 1, ..b() }), None);
}
#[test]
fn lost() {
    explore("lost", small(Order::Optimistic, Budget { lost_replies: 1, ..b() }), None);
}
#[test]
fn late() {
    explore("late", small(Order::Optimistic, Budget { late_requests: 1, late_replies: 1, repeats: 1, ..b() }), None);
}
#[test]
fn reject() {
    explore("reject", small(Order::Optimistic, Budget { rejections: 1, refills: 1, ..b() }), None);
}
#[test]
fn scale() {
    explore("scale", small(Order::Optimistic, Budget { scale_changes: 2, refills: 1, ..b() }), None);
}

macro_rules! combo {
    ($name:ident, $budget:expr) => {
        #[test]
        #[ignore]
        fn $name() {
            explore(stringify!($name), small(Order::Optimistic, $budget), None);
        }
    };
}
combo!(x_crash_lost, Budget { crashes: 1, lost_replies: 1, ..b() });
combo!(x_death_retire, Budget { deaths: 1, retirements: 1, refills: 1, ..b() });
combo!(x_death_lost, Budget { deaths: 1, lost_replies: 1, refills: 1, ..b() });
combo!(x_scale_lost, Budget { scale_changes: 2, lost_replies: 1, ..b() });
combo!(x_scale_death, Budget { scale_changes: 2, deaths: 1, refills: 1, ..b() });
combo!(x_reject_lost, Budget { rejections: 1, lost_replies: 1, refills: 2, ..b() });
combo!(x_late2, Budget { late_requests: 2, retirements: 1, refills: 1, ..b() });
fn one(order: Order, budget: Budget) -> ClaimModel {
    ClaimModel { revisions: 1, ..small(order, budget) }
}
macro_rules! one {
    ($name:ident, $budget:expr) => {
        #[test]
        #[ignore]
        fn $name() {
            explore(stringify!($name), one(Order::Optimistic, $budget), None);
        }
    };
}
one!(y_crash_death, Budget { crashes: 1, deaths: 1, refills: 1, ..b() });
one!(y_crash2, Budget { crashes: 2, ..b() });
one!(y_crash_scale, Budget { crashes: 1, scale_changes: 2, refills: 1, ..b() });
one!(y_crash_late, Budget { crashes: 1, late_requests: 1, late_replies: 1, ..b() });
one!(y_crash_retire, Budget { crashes: 1, retirements: 1, refills: 1, ..b() });
one!(y_crash_reject, Budget { crashes: 1, rejections: 1, refills: 1, ..b() });
one!(y_two, Budget { deposals: 1, ..b() });
one!(y_two_death, Budget { deposals: 1, deaths: 1, ..b() });
one!(y_two_scale, Budget { deposals: 1, scale_changes: 1, ..b() });
#[test]
#[ignore]
fn z_two2() {
    explore("two2", small(Order::Optimistic, Budget { deposals: 1, ..b() }), Some(14));
}
fn cold(budget: Budget) -> ClaimModel {
    ClaimModel { pool: 0, addresses: 2, settings: Settings::default(), ..small(Order::Optimistic, budget) }
}
#[test]
#[ignore]
fn c_cold() {
    explore("cold", cold(b()), None);
}
#[test]
#[ignore]
fn c_cold_crash() {
    explore("cold_crash", ClaimModel { addresses: 4, ..cold(Budget { crashes: 1, ..b() }) }, None);
}
#[test]
#[ignore]
fn c_cold_lost() {
    explore("cold_lost", ClaimModel { addresses: 3, ..cold(Budget { lost_replies: 1, ..b() }) }, None);
}
#[test]
#[ignore]
fn c_cold_late() {
    explore("cold_late", ClaimModel { addresses: 3, ..cold(Budget { late_requests: 1, ..b() }) }, None);
}
#[test]
#[ignore]
fn c_cold_death() {
    explore("cold_death", cold(Budget { deaths: 1, ..b() }), None);
}
