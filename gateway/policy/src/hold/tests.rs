use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const LIMITS: HoldLimits = HoldLimits { requests: 4, bytes: 100 };

fn at(millis: u64) -> Moment {
    Moment::from_epoch(Duration::from_millis(millis))
}

/// Releases as many as there are `slots`.
fn release(hold: &mut Hold<u32>, mut slots: u32, now: Moment) -> Vec<(u32, Outcome<u32>)> {
    hold.release(now, |_| {
        slots = slots.checked_sub(1)?;
        Some(slots)
    })
}

fn names<S>(outcomes: &[(u32, Outcome<S>)]) -> Vec<u32> {
    outcomes.iter().map(|(name, _)| *name).collect()
}

#[test]
fn first_come_first_served_and_no_more_than_there_are_slots() {
    let mut hold = Hold::new(LIMITS);
    for name in 0..4 {
        hold.join(name, 0, at(100 - u64::from(name)), at(0)).unwrap();
    }
    assert_eq!(names(&release(&mut hold, 3, at(1))), [0, 1, 2]);
    assert_eq!(hold.len(), 1);
    assert_eq!(names(&release(&mut hold, 0, at(1))), []);
    assert_eq!(release(&mut hold, 9, at(1)), [(3, Outcome::Released(8))]);
    assert!(hold.is_empty());
}

#[test]
fn bounded_in_requests_and_in_bytes() {
    let mut hold = Hold::new(LIMITS);
    let ticket = hold.join(0, 100, at(10), at(0)).unwrap();
    assert_eq!(hold.join(1, 1, at(10), at(0)), Err(Refusal::Full), "bytes");
    assert_eq!(hold.join(1, u64::MAX, at(10), at(0)), Err(Refusal::Full), "no overflow");
    assert_eq!(hold.cancel(ticket), Some(0));
    for name in 1..5 {
        hold.join(name, 25, at(10), at(0)).unwrap();
    }
    assert_eq!(hold.join(5, 0, at(10), at(0)), Err(Refusal::Full), "requests");
    assert_eq!((hold.len(), hold.bytes()), (4, 100));
}

#[test]
fn each_waits_to_its_own_deadline() {
    let mut hold = Hold::new(LIMITS);
    hold.join(0, 0, at(30), at(0)).unwrap();
    hold.join(1, 0, at(10), at(0)).unwrap();
    hold.join(2, 0, at(20), at(0)).unwrap();
    assert_eq!(hold.join(3, 0, at(5), at(5)), Err(Refusal::Deadline));
    assert_eq!(release(&mut hold, 0, at(9)), []);
    assert_eq!(release(&mut hold, 0, at(20)), [(1, Outcome::Deadline), (2, Outcome::Deadline)]);
    assert_eq!(hold.len(), 1);
}

#[test]
fn a_slot_never_goes_to_a_request_past_its_deadline() {
    let mut hold = Hold::new(LIMITS);
    hold.join(0, 0, at(10), at(0)).unwrap();
    hold.join(1, 0, at(20), at(0)).unwrap();
    assert_eq!(release(&mut hold, 1, at(10)), [(0, Outcome::Deadline), (1, Outcome::Released(0))]);
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let mut hold = Hold::new(LIMITS);
    let tickets: Vec<_> = (0..4).map(|name| hold.join(name, 25, at(10), at(0)).unwrap()).collect();
    assert_eq!(hold.cancel(tickets[1]), Some(1));
    assert_eq!(hold.cancel(tickets[1]), None, "only once");
    hold.join(4, 25, at(10), at(0)).unwrap();
    assert_eq!(names(&release(&mut hold, 9, at(1))), [0, 2, 3, 4]);
    assert_eq!(hold.cancel(tickets[0]), None, "released before");
    assert_eq!(hold.bytes(), 0);
}

#[test]
fn who_was_refused_by_the_replica_keeps_the_former_place() {
    let mut hold = Hold::new(LIMITS);
    let first = hold.join(0, 0, at(10), at(0)).unwrap();
    hold.join(1, 0, at(10), at(0)).unwrap();
    assert_eq!(names(&release(&mut hold, 1, at(1))), [0]);
    hold.rejoin(first, 0, 0, at(10)).unwrap();
    assert_eq!(names(&release(&mut hold, 9, at(3))), [0, 1]);
}

#[test]
fn shutting_down_ends_every_wait_and_lets_nobody_in() {
    let mut hold = Hold::new(LIMITS);
    hold.join(0, 5, at(10), at(0)).unwrap();
    hold.join(1, 5, at(10), at(0)).unwrap();
    let outcomes = hold.shut_down::<Infallible>();
    assert_eq!(outcomes, [(0, Outcome::ShuttingDown), (1, Outcome::ShuttingDown)]);
    assert_eq!(hold.join(2, 0, at(10), at(0)), Err(Refusal::ShuttingDown));
    assert_eq!((hold.len(), hold.bytes()), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Join { bytes: u64, patience: u64 },
    Cancel(usize),
    Release(u32),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..40, 1u64..50).prop_map(|(bytes, patience)| Step::Join { bytes, patience }),
        1 => any::<usize>().prop_map(Step::Cancel),
        2 => (0u32..3).prop_map(Step::Release),
        1 => (0u64..20).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Nobody is lost, nobody leaves twice, the bounds hold, and no request is released before one that came earlier
    /// and still waits.
    #[test]
    fn every_request_leaves_exactly_once_and_in_order(steps in prop::collection::vec(step(), 0..120)) {
        let mut hold = Hold::new(LIMITS);
        let mut now = 0;
        let mut tickets = Vec::new();
        let mut deadlines = Vec::new();
        let mut waiting: Vec<u32> = Vec::new();
        let mut left = HashSet::new();
        for step in steps {
            let mut gone = Vec::new();
            let releases = matches!(step, Step::Release(_));
            match step {
                Step::Join { bytes, patience } => {
                    let name = u32::try_from(tickets.len()).unwrap();
                    if let Ok(ticket) = hold.join(name, bytes, at(now + patience), at(now)) {
                        tickets.push(ticket);
                        deadlines.push(now + patience);
                        waiting.push(name);
                    }
                }
                Step::Cancel(index) if !tickets.is_empty() => {
                    let index = index % tickets.len();
                    let name = u32::try_from(index).unwrap();
                    let cancelled = hold.cancel(tickets[index]);
                    prop_assert_eq!(cancelled, waiting.contains(&name).then_some(name));
                    gone.extend(cancelled);
                }
                Step::Cancel(_) => {}
                Step::Release(slots) => {
                    for (name, outcome) in release(&mut hold, slots, at(now)) {
                        let in_time = deadlines[name as usize] > now;
                        prop_assert_eq!(in_time, matches!(outcome, Outcome::Released(_)));
                        let earlier_waits = waiting
                            .iter()
                            .any(|other| *other < name && deadlines[*other as usize] > now && !gone.contains(other));
                        prop_assert!(!in_time || !earlier_waits);
                        gone.push(name);
                    }
                }
                Step::Wait(millis) => now += millis,
            }
            for name in gone {
                prop_assert!(left.insert(name), "{} left twice", name);
                waiting.retain(|other| *other != name);
            }
            prop_assert_eq!(hold.len(), waiting.len());
            prop_assert!(!releases || waiting.iter().all(|name| deadlines[*name as usize] > now));
            prop_assert!(hold.len() <= LIMITS.requests && hold.bytes() <= LIMITS.bytes);
        }
        let rest: Vec<u32> = hold.shut_down::<Infallible>().into_iter().map(|(name, _)| name).collect();
        prop_assert_eq!(&rest, &waiting);
        prop_assert_eq!(left.len() + rest.len(), tickets.len());
    }
}
