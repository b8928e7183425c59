//! Knative's rule (its KPA): from what two windows want to what is wanted.

use gateway_policy::{Device, Moment};

use crate::plan::Mix;
use crate::scaling::Scaling;
use crate::windows::Ceiling;

/// What the rule remembers of one model.
#[derive(Clone, Debug, Default)]
pub struct Decider {
    panic_since: Option<Moment>,
    /// The most that was wanted since panic began.
    panic_floor: Mix,
    delayed: [Ceiling; Device::ALL.len()],
}

/// What the rule is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// Replicas for the average of the stable window.
    pub stable: Mix,
    /// Replicas for the average of the panic window.
    pub panic: Mix,
    /// Replicas that serve.
    pub ready: Mix,
    /// Load that one replica of each device carries, in any unit that is the same for both.
    pub strength: [f64; Device::ALL.len()],
}

impl Decider {
    /// The rule of a leader that finds replicas which another had wanted: like Knative's it starts in panic mode, since what
    /// they were wanted for is not known.
    #[must_use]
    pub fn taking_over(ready: Mix, now: Moment) -> Self {
        let many = ready.iter().sum::<u32>() > 1;
        Self {
            panic_since: many.then_some(now),
            panic_floor: if many { ready } else { Mix::default() },
            ..Self::default()
        }
    }

    /// Whether panic mode is on.
    #[must_use]
    pub const fn is_panicking(&self) -> bool {
        self.panic_since.is_some()
    }

    /// Forgets everything: there was no request for so long that the windows have nothing to say.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Takes the decision for this moment.
    pub fn decide(&mut self, scaling: &Scaling, wanted: &Wanted, now: Moment) -> Mix {
        let over_threshold = strength(wanted, wanted.panic) >= scaling.panic_threshold * strength_of_ready(wanted);
        let stable = bounded_step(scaling, wanted.stable, wanted.ready);
        let panic = bounded_step(scaling, wanted.panic, wanted.ready);
        if over_threshold && wanted.panic.iter().sum::<u32>() > 0 {
            self.panic_since = Some(now);
        } else if self.panic_since.is_some_and(|since| now.saturating_since(since) > scaling.stable_window) {
            self.panic_since = None;
            self.panic_floor = Mix::default();
        }
        let mut desired = stable;
        if self.is_panicking() {
            for index in 0..desired.len() {
                // The stable window can want more than the panic window does; and nothing goes down while in panic.
                self.panic_floor[index] = self.panic_floor[index].max(stable[index]).max(panic[index]);
            }
            desired = self.panic_floor;
        }
        for (index, count) in desired.iter_mut().enumerate() {
            *count = self.delayed[index].hold(*count, scaling.scale_down_delay, now);
        }
        desired
    }
}

fn strength(wanted: &Wanted, replicas: Mix) -> f64 {
    replicas.iter().zip(wanted.strength).map(|(count, strength)| f64::from(*count) * strength).sum()
}

/// None counts as one replica, of the weakest kind that is wanted.
fn strength_of_ready(wanted: &Wanted) -> f64 {
    let ready = strength(wanted, wanted.ready);
    if ready > 0.0 {
        return ready;
    }
    let kinds = wanted.panic.iter().zip(wanted.strength).filter(|(count, _)| **count > 0);
    kinds.map(|(_, strength)| strength).fold(f64::INFINITY, f64::min)
}

/// Neither more than the scale-up rate nor less than the scale-down rate allows from what is ready.
fn bounded_step(scaling: &Scaling, wanted: Mix, ready: Mix) -> Mix {
    let mut bounded = wanted;
    for (index, count) in bounded.iter_mut().enumerate() {
        let ready = f64::from(ready[index].max(1));
        // The ceiling lets a rate close to 1 grow by a replica at least.
        let most = (scaling.max_scale_up_rate * ready).ceil();
        let least = (ready / scaling.max_scale_down_rate).floor();
        *count = f64::from(*count).max(least).min(most) as u32;
    }
    bounded
}

#[cfg(test)]
mod tests;
