//! The mix of CPU and GPU replicas that carries a load within its objective at the least cost.
//!
//! A load is a rate of requests, by size. A replica of a device carries as much of it as keeps its average concurrency at
//! the target: with one device this is Knative's rule, concurrency divided by target. With two, sizes that only one
//! device answers within the objective have to go to that one, and the rest goes where there is room; the search is over
//! the number of GPU replicas, from each of which the least number of CPU replicas follows.

use std::time::Duration;

use gateway_policy::{Device, SizeBucket};

use crate::service::Profile;

/// Replicas by device, in the order of [`Device::ALL`].
pub type Mix = [u32; Device::ALL.len()];

const CPU: usize = Device::Cpu.index();
const GPU: usize = Device::Gpu.index();

/// One variant of a model, as something that can be bought.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Concurrency that one replica should have.
    pub concurrency: f64,
    /// Replicas that it has at least.
    pub min: u32,
    /// Replicas that it may have; 0 where its device is not available.
    pub max: u32,
    /// Cost of one replica per second.
    pub cost: f64,
    /// Service times on it.
    pub profile: Profile,
}

/// What is asked of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The variants by device; none for a device without one.
    pub offers: [Option<Offer>; Device::ALL.len()],
    /// Requests per second.
    pub rate: f64,
    /// The share of requests of each size.
    pub sizes: [f64; SizeBucket::COUNT],
    /// Latency per request to aim at.
    pub objective: Option<Duration>,
    /// The replicas that are wanted now: of two plans that cost about the same the one that swaps no device for another
    /// is taken.
    pub current: Mix,
}

/// One mix that was considered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alternative {
    /// The replicas.
    pub replicas: Mix,
    /// Their cost per second.
    pub cost: f64,
    /// Whether they carry the load.
    pub carries: bool,
    /// Whether it would swap replicas of one device for those of another.
    pub swaps: bool,
}

/// How well a plan does what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fit {
    /// It carries the load within the objective.
    WithinObjective,
    /// It carries the load; the objective cannot be met with what may be had.
    ObjectiveMissed,
    /// Everything that may be had does not carry the load.
    Overloaded,
}

/// The plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The replicas.
    pub replicas: Mix,
    /// Their cost per second.
    pub cost: f64,
    /// How well they do.
    pub fit: Fit,
}

/// How much cheaper a plan must be to swap devices for it: swapping costs a cold start and a drain.
const SWAP_MARGIN: f64 = 0.1;

/// Fractions of a replica below this are rounding, not load.
const ROUNDING: f64 = 1e-9;

/// Numbers of GPU replicas that are tried from either end of what is possible. The cost is linear in their number but for
/// the rounding of the CPU replicas, so the best is near an end.
const TRIED_PER_END: u32 = 64;

/// Concurrency that the load makes, on each device, of what has to go there and of what may go to either.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    bound: [f64; Device::ALL.len()],
    free: [f64; Device::ALL.len()],
}

/// Plans. `considered` is told every mix that was looked at, as the way of carrying the load that decided saw it.
pub fn plan(task: &Task, mut considered: impl FnMut(Alternative)) -> Plan {
    let limits =
        |index: usize| task.offers[index].as_ref().map_or((0, 0), |offer| (offer.min.min(offer.max), offer.max));
    let least: Mix = [limits(CPU).0, limits(GPU).0];
    if task.rate <= 0.0 {
        return finish(task, least, Fit::WithinObjective);
    }
    let mut looked_at = Vec::new();
    let mut found = None;
    for (work, fit) in [(within_objective(task), Fit::WithinObjective), (anywhere(task), Fit::ObjectiveMissed)] {
        let Some(work) = work else { continue };
        looked_at.clear();
        found = cheapest(task, &work, &mut |mix| looked_at.push(mix)).map(|replicas| (replicas, fit));
        if found.is_some() {
            break;
        }
    }
    looked_at.into_iter().for_each(&mut considered);
    let (replicas, fit) = found.unwrap_or(([limits(CPU).1, limits(GPU).1], Fit::Overloaded));
    finish(task, replicas, fit)
}

fn finish(task: &Task, replicas: Mix, fit: Fit) -> Plan {
    Plan { replicas, cost: cost(task, replicas), fit }
}

fn cost(task: &Task, replicas: Mix) -> f64 {
    let costs = task.offers.iter().zip(replicas);
    costs.map(|(offer, count)| offer.as_ref().map_or(0.0, |offer| offer.cost * f64::from(count))).sum()
}

fn available(task: &Task, index: usize) -> Option<&Offer> {
    task.offers[index].as_ref().filter(|offer| offer.max > 0)
}

/// The work where each size goes only to a device that answers it within the objective; `None` when one size has no such
/// device.
fn within_objective(task: &Task) -> Option<Work> {
    let objective = task.objective.map_or(f64::INFINITY, |objective| objective.as_secs_f64());
    let mut work = Work::default();
    for size in 0..SizeBucket::COUNT {
        let rate = task.rate * task.sizes[size];
        if rate <= 0.0 {
            continue;
        }
        let seconds = |index| available(task, index).map(|offer| offer.profile.seconds[size]);
        let in_time = |index| seconds(index).filter(|seconds| *seconds <= objective);
        match (in_time(CPU), in_time(GPU)) {
            (Some(cpu), Some(gpu)) => {
                work.free[CPU] += rate * cpu;
                work.free[GPU] += rate * gpu;
            }
            (Some(cpu), None) => work.bound[CPU] += rate * cpu,
            (None, Some(gpu)) => work.bound[GPU] += rate * gpu,
            (None, None) => return None,
        }
    }
    Some(work)
}

/// The work where each size goes to any device: late is better than not at all. `None` without a device.
fn anywhere(task: &Task) -> Option<Work> {
    let mut work = Work::default();
    let seconds = |index| available(task, index).map(|offer| task.rate * offer.profile.mean(&task.sizes));
    match (seconds(CPU), seconds(GPU)) {
        (Some(cpu), Some(gpu)) => work.free = [cpu, gpu],
        (Some(cpu), None) => work.bound[CPU] = cpu,
        (None, Some(gpu)) => work.bound[GPU] = gpu,
        (None, None) => return None,
    }
    Some(work)
}

/// The cheapest mix that carries the work, if any does.
fn cheapest(task: &Task, work: &Work, considered: &mut impl FnMut(Alternative)) -> Option<Mix> {
    let gpu_range = match available(task, GPU) {
        Some(gpu) => {
            let all = whole((work.bound[GPU] + work.free[GPU]) / gpu.concurrency);
            let bound = whole(work.bound[GPU] / gpu.concurrency);
            let least = gpu.min.max(bound);
            least..=all.max(least).min(gpu.max)
        }
        None => 0..=0,
    };
    let (first, last) = (*gpu_range.start(), *gpu_range.end());
    let near_an_end = |count: &u32| count - first < TRIED_PER_END || last - count < TRIED_PER_END;
    let candidates: Box<dyn Iterator<Item = u32>> = if last.saturating_sub(first) < 2 * TRIED_PER_END {
        Box::new(first..=last)
    } else {
        Box::new((first..first + TRIED_PER_END).chain(last - TRIED_PER_END + 1..=last).filter(near_an_end))
    };
    let mut best: Option<(f64, Mix)> = None;
    for gpu in candidates {
        let cpu_needed = cpu_beside(task, work, gpu);
        let (cpu_min, cpu_max) = available(task, CPU).map_or((0, 0), |offer| (offer.min, offer.max));
        let carries = cpu_needed <= cpu_max;
        let replicas = [cpu_needed.max(cpu_min).min(cpu_max), gpu];
        let cost = cost(task, replicas);
        let swaps = (replicas[CPU] < task.current[CPU] && gpu > task.current[GPU])
            || (replicas[CPU] > task.current[CPU] && gpu < task.current[GPU]);
        considered(Alternative { replicas, cost, carries, swaps });
        let weighed = if swaps { cost * (1.0 + SWAP_MARGIN) } else { cost };
        if carries && best.is_none_or(|(least, _)| weighed < least) {
            best = Some((weighed, replicas));
        }
    }
    best.map(|(_, replicas)| replicas)
}

/// CPU replicas that the work needs beside this many GPU replicas; `u32::MAX` when no number is enough.
fn cpu_beside(task: &Task, work: &Work, gpu: u32) -> u32 {
    let room = available(task, GPU).map_or(0.0, |offer| offer.concurrency * f64::from(gpu)) - work.bound[GPU];
    if room < -ROUNDING {
        return u32::MAX;
    }
    let share_on_gpu = if work.free[GPU] > 0.0 { (room / work.free[GPU]).clamp(0.0, 1.0) } else { 0.0 };
    let on_cpu = work.bound[CPU] + work.free[CPU] * (1.0 - share_on_gpu);
    match available(task, CPU) {
        Some(offer) => whole(on_cpu / offer.concurrency),
        None if on_cpu > ROUNDING => u32::MAX,
        None => 0,
    }
}

/// Rounds up to whole replicas; a float conversion saturates.
fn whole(replicas: f64) -> u32 {
    (replicas - ROUNDING).ceil().max(0.0) as u32
}

#[cfg(test)]
mod tests;
