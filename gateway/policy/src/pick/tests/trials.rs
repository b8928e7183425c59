//! When a cheaper class is tried of which too little is known.

use super::*;
use crate::{ServiceTimes, SizeBucket};

const SECOND: Duration = Duration::from_secs(1);
const OBJECTIVE: Duration = Duration::from_millis(20);

/// A model on one replica of each device, with what its requests have shown: at first one on the GPU.
struct FakeModel {
    replicas: [Arc<FakeReplica>; 2],
    times: [ServiceTimes; 2],
    costs: [f64; 2],
    now: Moment,
}

const CPU: usize = 0;
const GPU: usize = 1;

impl FakeModel {
    fn new() -> Self {
        let times = Device::ALL.map(|device| ServiceTimes::new(ServiceTimes::default_prior(device)));
        times[GPU].record_success(Self::size(), 2 * MS, Load::IDLE, NOW);
        Self { replicas: [idle(4), idle(4)], times, costs: [1.0, 12.0], now: NOW }
    }

    fn size() -> SizeBucket {
        SizeBucket::of(1000)
    }

    fn aim(&self) -> Aim {
        Aim::new(Some(OBJECTIVE), self.now + 60 * SECOND, self.now)
    }

    fn choose(&self, aim: Aim) -> (usize, Reason) {
        let class = |index: usize| Class {
            device: Device::ALL[index],
            cost: self.costs[index],
            service_time: self.times[index].estimate(Self::size(), self.now),
            wants_trial: self.times[index].wants_trial(Self::size(), self.now),
            replicas: std::slice::from_ref(&self.replicas[index]),
        };
        let choice = choose([CPU, GPU].map(class).into_iter(), aim, self.now, &mut rng()).unwrap();
        (choice.class, choice.reason)
    }

    /// Sends a request, which its device answers in this many milliseconds or fails.
    fn send(&mut self, answers: [Option<u32>; 2]) -> (usize, Reason) {
        let (class, reason) = self.choose(self.aim());
        if reason == Reason::Trial {
            self.times[class].begin_trial(Self::size(), self.now);
        }
        self.now = self.now + 20 * MS;
        match answers[class] {
            Some(millis) => self.times[class].record_success(Self::size(), millis * MS, Load::IDLE, self.now),
            None => self.times[class].record_failure(Self::size(), MS, self.now),
        }
        (class, reason)
    }

    /// The trials among the requests of so long, one after the other.
    fn trials(&mut self, time: Duration, answers: [Option<u32>; 2]) -> usize {
        let end = self.now + time;
        let sent = std::iter::from_fn(|| (self.now < end).then(|| self.send(answers)));
        sent.filter(|(_, reason)| *reason == Reason::Trial).count()
    }
}

#[test]
fn a_cheaper_class_that_proves_fast_is_used_after_one_trial() {
    let mut model = FakeModel::new();
    let answers = [Some(1), Some(2)];
    assert_eq!(model.send(answers), (CPU, Reason::Trial));
    for _ in 0..100 {
        assert_eq!(model.send(answers), (CPU, Reason::CheapestWithinTarget));
    }
}

#[test]
fn one_that_proves_slow_is_tried_once_a_minute() {
    let mut model = FakeModel::new();
    let answers = [Some(40), Some(2)];
    assert_eq!(model.send(answers), (CPU, Reason::Trial));
    assert_eq!(model.trials(59 * SECOND, answers), 0);
    assert_eq!(model.send(answers), (GPU, Reason::CheapestWithinTarget));
    assert_eq!(model.trials(121 * SECOND, answers), 2);
}

#[test]
fn one_slow_answer_is_mended_by_trials() {
    let mut model = FakeModel::new();
    assert_eq!(model.send([Some(30), Some(2)]), (CPU, Reason::Trial));
    assert_eq!(model.send([Some(1), Some(2)]), (GPU, Reason::CheapestWithinTarget));
    assert_eq!(model.trials(62 * SECOND, [Some(1), Some(2)]), 1);
    assert_eq!(model.send([Some(1), Some(2)]), (CPU, Reason::CheapestWithinTarget));
}

#[test]
fn a_trial_that_fails_is_not_repeated_at_once() {
    let mut model = FakeModel::new();
    let answers = [None, Some(2)];
    assert_eq!(model.send(answers), (CPU, Reason::Trial));
    assert_eq!(model.trials(58 * SECOND, answers), 0);
    assert_eq!(model.trials(120 * SECOND, answers), 2);
}

#[test]
fn a_failure_of_any_request_counts_as_a_look() {
    let mut model = FakeModel::new();
    model.times[CPU].record_failure(FakeModel::size(), MS, model.now);
    assert_eq!(model.trials(59 * SECOND, [Some(1), Some(2)]), 0);
    assert_eq!(model.trials(2 * SECOND, [Some(1), Some(2)]), 1);
}

#[test]
fn a_trial_of_which_nothing_is_recorded_is_not_repeated_at_once_either() {
    let mut model = FakeModel::new();
    model.times[CPU].begin_trial(FakeModel::size(), model.now);
    assert_eq!(model.trials(59 * SECOND, [Some(1), Some(2)]), 0);
    assert_eq!(model.trials(2 * SECOND, [Some(1), Some(2)]), 1);
}

#[test]
fn each_size_class_is_tried_for_itself() {
    let mut model = FakeModel::new();
    model.times[CPU].record_success(SizeBucket::of(1 << 20), 300 * MS, Load::IDLE, model.now);
    assert_eq!(model.send([Some(1), Some(2)]), (CPU, Reason::Trial));
}

#[test]
fn a_device_that_nobody_used_for_days_is_tried() {
    let mut model = FakeModel::new();
    model.times[CPU].record_success(FakeModel::size(), 300 * MS, Load::IDLE, model.now);
    for _ in 0..100 {
        model.now = model.now + Duration::from_hours(1);
        model.times[GPU].record_success(FakeModel::size(), 2 * MS, Load::IDLE, model.now);
        assert_eq!(model.choose(model.aim()), (CPU, Reason::Trial));
    }
}

#[test]
fn a_model_that_is_asked_seldom_has_no_trials() {
    let mut model = FakeModel::new();
    for _ in 0..10 {
        model.now = model.now + 61 * SECOND;
        assert_eq!(model.send([Some(40), Some(2)]), (GPU, Reason::CheapestWithinTarget));
    }
    assert_eq!(model.send([Some(40), Some(2)]), (CPU, Reason::Trial), "a second request within a minute");
}

#[test]
fn a_replica_with_a_request_on_it_is_not_tried() {
    let model = FakeModel::new();
    let slot = Slot::acquire(Arc::clone(&model.replicas[CPU])).unwrap();
    assert_eq!(model.choose(model.aim()), (GPU, Reason::CheapestWithinTarget));
    drop(slot);
    assert_eq!(model.choose(model.aim()), (CPU, Reason::Trial));
}

#[test]
fn a_replica_that_is_ejected_is_not_tried() {
    let model = FakeModel::new();
    eject(&model.replicas[CPU]);
    assert_eq!(model.choose(model.aim()), (GPU, Reason::CheapestWithinTarget));
}

#[test]
fn a_guess_costs_no_caller_its_answer() {
    let model = FakeModel::new();
    let left = |time| model.choose(Aim::new(Some(OBJECTIVE), model.now + time, model.now));
    assert_eq!(left(49 * MS), (GPU, Reason::CheapestWithinTarget));
    assert_eq!(left(50 * MS), (CPU, Reason::Trial));
    assert_eq!(model.choose(model.aim().without_trial()), (GPU, Reason::CheapestWithinTarget));
}

#[test]
fn a_class_that_saves_nothing_is_not_tried() {
    for costs in [[12.0, 12.0], [13.0, 12.0]] {
        let model = FakeModel { costs, ..FakeModel::new() };
        assert_eq!(model.choose(model.aim()), (GPU, Reason::CheapestWithinTarget));
    }
}

#[test]
fn a_dearer_class_is_not_tried_for_a_cheaper_one() {
    let model = FakeModel::new();
    model.times[CPU].record_success(FakeModel::size(), 10 * MS, Load::IDLE, model.now);
    assert_eq!(model.choose(model.aim()), (CPU, Reason::CheapestWithinTarget));
    let model = FakeModel::new();
    model.times[CPU].record_success(FakeModel::size(), 30 * MS, Load::IDLE, model.now);
    model.times[GPU].record_success(FakeModel::size(), 400 * MS, Load::IDLE, model.now);
    assert_eq!(model.choose(model.aim()), (CPU, Reason::Fastest));
}
