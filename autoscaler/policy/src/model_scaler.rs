//! The scaling of one model: its demand, its window, its decision.

mod inputs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_policy::{Device, Moment};

use crate::Fleet;
use crate::demand::{ModelReport, Seen};
use crate::desired::{Decider, Wanted};
use crate::explain::{DemandSeen, Explanation, VariantExplanation, Why};
use crate::ids::{GatewayId, ModelKey};
use crate::plan::{Fit, Mix, Plan, plan};
use crate::revision::Revision;
use crate::service::ServiceTimes;
use crate::windows::Window;
use inputs::Inputs;

const DEVICES: usize = Device::ALL.len();

/// What is known of the gateways as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contacts {
    pub(crate) known: usize,
    pub(crate) unknown: usize,
    /// Demand that was not reported may exist.
    pub(crate) uncertain: bool,
    /// Age of the oldest of their last reports.
    pub(crate) report_age: Option<Duration>,
}

/// Scales one model.
#[derive(Clone, Debug)]
pub(crate) struct ModelScaler {
    key: ModelKey,
    variants: [Option<Arc<Revision>>; DEVICES],
    seen: BTreeMap<GatewayId, Seen>,
    service: ServiceTimes,
    window: Window,
    decider: Decider,
    last_active: Option<Moment>,
    /// A leader's first decision for a model finds what another had wanted.
    taken_over: bool,
    desired: Mix,
    why: [Why; DEVICES],
    /// Nothing is demanded and nothing is wanted beyond the minimum: until a report changes that, nothing has to be
    /// computed.
    calm: bool,
}

impl ModelScaler {
    pub(crate) fn new(key: ModelKey, variants: [Option<Arc<Revision>>; DEVICES]) -> Self {
        let mut model = Self {
            key,
            variants: [None, None],
            seen: BTreeMap::new(),
            service: ServiceTimes::default(),
            window: Window::new(Duration::from_secs(1)),
            decider: Decider::default(),
            last_active: None,
            taken_over: false,
            desired: Mix::default(),
            why: [Why::NoDemand; DEVICES],
            calm: false,
        };
        model.set_variants(variants);
        model
    }

    pub(crate) fn set_variants(&mut self, variants: [Option<Arc<Revision>>; DEVICES]) {
        let longest = |variants: &[Option<Arc<Revision>>; DEVICES]| {
            variants.iter().flatten().map(|revision| revision.scaling.stable_window).max()
        };
        let window = longest(&variants);
        if window != longest(&self.variants) {
            self.window = Window::new(window.unwrap_or_default());
        }
        self.variants = variants;
        self.calm = false;
    }

    pub(crate) fn variant(&self, device: Device) -> Option<&Arc<Revision>> {
        self.variants[device.index()].as_ref()
    }

    pub(crate) fn report(&mut self, gateway: &GatewayId, report: &ModelReport, now: Moment) {
        let news = self.seen.entry(gateway.clone()).or_default().update(report);
        for answered in news.answered {
            self.service.record(answered, now);
        }
        if news.arrivals > 0 || report.held > 0 || report.in_flight > 0 {
            self.last_active = Some(now);
            self.calm = false;
        }
    }

    pub(crate) fn held(&mut self, gateway: &GatewayId, held: u32, now: Moment) {
        self.seen.entry(gateway.clone()).or_default().held = held;
        if held > 0 {
            self.last_active = Some(now);
            self.calm = false;
        }
    }

    /// The gateway's report did not mention the model.
    pub(crate) fn unmentioned(&mut self, gateway: &GatewayId) {
        if let Some(seen) = self.seen.get_mut(gateway) {
            seen.calm();
        }
    }

    pub(crate) fn forget(&mut self, gateway: &GatewayId) {
        self.seen.remove(gateway);
    }

    pub(crate) const fn is_calm(&self) -> bool {
        self.calm
    }

    /// The number of replicas of each variant from now on.
    pub(crate) fn decide(&mut self, now: Moment, fleet: &impl Fleet, contacts: Contacts) -> Mix {
        let scaling = match self.variants.iter().flatten().next() {
            Some(revision) => revision.scaling.clone(),
            None => return Mix::default(),
        };
        let sizes = self.service.mix();
        let load = self.current_load(&sizes);
        self.window.record(load, now);
        let inputs = self.inputs(fleet);
        self.take_over(inputs.ready, now);

        let stable = self.plan(&inputs, inputs.stable, |_| {});
        let panic = self.plan(&inputs, inputs.panic, |_| {});
        let wanted =
            Wanted { stable: stable.replicas, panic: panic.replicas, ready: inputs.ready, strength: inputs.strength };
        let mut desired = self.decider.decide(&scaling, &wanted, now);
        let mut why: [Why; DEVICES] = std::array::from_fn(|index| {
            let (plan, window) = if desired[index] > stable.replicas[index] {
                (panic, Why::PanicWindow)
            } else {
                (stable, Why::StableWindow)
            };
            let most = inputs.offers[index].as_ref().map_or(0, |offer| offer.max);
            if plan.fit == Fit::Overloaded && desired[index] == most { Why::Maximum } else { window }
        });

        let idle = self.is_idle(now);
        if idle && !contacts.uncertain {
            self.decider.reset();
            self.window.clear();
            desired = Mix::default();
            why = [if self.last_active.is_some() { Why::Idle } else { Why::NoDemand }; DEVICES];
        } else {
            self.stand_in(&inputs, &panic, &mut desired, &mut why);
            if contacts.uncertain {
                for index in 0..DEVICES {
                    if desired[index] < self.desired[index] {
                        (desired[index], why[index]) = (self.desired[index], Why::UnknownGateway);
                    }
                }
            }
            if !idle && desired.iter().sum::<u32>() == 0 {
                self.keep_one(&inputs, &mut desired, &mut why);
            }
        }
        self.bound(&inputs, &mut desired, &mut why);
        self.calm = idle
            && !contacts.uncertain
            && desired
                .iter()
                .zip(&inputs.offers)
                .all(|(count, offer)| *count == offer.as_ref().map_or(0, |offer| offer.min.min(offer.max)));
        self.desired = desired;
        self.why = why;
        desired
    }

    /// What went into the last decision, as it would be taken now.
    pub(crate) fn explain(&self, now: Moment, fleet: &impl Fleet, contacts: Contacts) -> Explanation {
        let inputs = self.inputs(fleet);
        let stable_plan = self.plan(&inputs, inputs.stable, |_| {});
        let mut alternatives = Vec::new();
        let panic_plan = self.plan(&inputs, inputs.panic, |alternative| alternatives.push(alternative));
        let variants = Device::ALL.into_iter().filter_map(|device| {
            let index = device.index();
            let (revision, offer) = (self.variants[index].as_ref()?, inputs.offers[index].as_ref()?);
            Some(VariantExplanation {
                device,
                revision: revision.key.clone(),
                unavailable: revision.unavailable.clone(),
                obstacle: inputs.obstacles[index],
                service_time: Duration::from_secs_f64(offer.profile.mean(&inputs.sizes)),
                evidence: offer.profile.evidence,
                target_concurrency: offer.concurrency,
                cost: offer.cost,
                min: offer.min,
                max: offer.max,
                ready: inputs.ready[index],
                desired: self.desired[index],
                why: self.why[index],
            })
        });
        Explanation {
            model: self.key.clone(),
            demand: DemandSeen {
                gateways: contacts.known,
                unknown_gateways: contacts.unknown,
                report_age: contacts.report_age,
                held: self.seen.values().map(|seen| seen.held).sum(),
                in_flight: self.seen.values().map(|seen| seen.in_flight).sum(),
                idle_for: self.last_active.map(|at| now.saturating_since(at)),
            },
            objective: self.objective(),
            stable_concurrency: inputs.stable,
            panic_concurrency: inputs.panic,
            reference: Device::ALL[inputs.reference],
            panicking: self.decider.is_panicking(),
            stable_plan,
            panic_plan,
            alternatives,
            variants: variants.collect(),
        }
    }

    /// What another leader had wanted is not known, but that there are replicas says that there was demand.
    fn take_over(&mut self, ready: Mix, now: Moment) {
        if std::mem::replace(&mut self.taken_over, true) || ready.iter().sum::<u32>() == 0 {
            return;
        }
        self.decider = Decider::taking_over(ready, now);
        self.desired = ready;
        self.last_active = self.last_active.or(Some(now));
    }

    fn is_idle(&self, now: Moment) -> bool {
        let busy = self.seen.values().any(|seen| seen.held > 0 || seen.in_flight > 0 || seen.asked);
        let wait = self.variants.iter().flatten().map(|revision| revision.scale_to_zero_after).max();
        let over = |at: Moment| now.saturating_since(at) >= wait.unwrap_or_default();
        !busy && self.last_active.is_none_or(over)
    }

    /// While the device that the plan prefers has no replica, another serves.
    fn stand_in(&self, inputs: &Inputs, panic: &Plan, desired: &mut Mix, why: &mut [Why; DEVICES]) {
        let cold = |index: usize, desired: &Mix| desired[index] > 0 && inputs.ready[index] == 0;
        let any_ready = inputs.ready.iter().any(|count| *count > 0);
        for (preferred, other) in
            [(Device::Gpu.index(), Device::Cpu.index()), (Device::Cpu.index(), Device::Gpu.index())]
        {
            let Some(offer) = inputs.offers[other].as_ref().filter(|offer| offer.max > 0) else { continue };
            if inputs.obstacles[preferred].is_some() && desired[preferred] > inputs.ready[preferred] {
                let mut offers = inputs.offers.clone();
                if let Some(blocked) = &mut offers[preferred] {
                    blocked.max = inputs.ready[preferred];
                    blocked.min = blocked.min.min(blocked.max);
                }
                let without = plan(&self.task(inputs, inputs.panic.max(inputs.stable), offers), |_| {});
                if without.replicas[other] > desired[other] {
                    (desired[other], why[other]) = (without.replicas[other], Why::Substitute);
                }
            }
            if cold(preferred, desired) && panic.replicas[preferred] > 0 {
                // What serves goes on serving; a CPU replica is started beside a cold GPU, never a GPU beside a cold CPU.
                let spare = if any_ready { inputs.ready[other] } else { u32::from(preferred == Device::Gpu.index()) };
                let spare = spare.min(offer.max);
                if spare > desired[other] {
                    (desired[other], why[other]) = (spare, Why::ColdStandby);
                }
            }
        }
    }

    /// The last replica stays for a while after the last request: the one that serves, or the cheapest.
    fn keep_one(&self, inputs: &Inputs, desired: &mut Mix, why: &mut [Why; DEVICES]) {
        let available = (0..DEVICES).filter(|index| inputs.offers[*index].as_ref().is_some_and(|offer| offer.max > 0));
        let rank = |index: &usize| {
            let cost = inputs.offers[*index].as_ref().map_or(f64::INFINITY, |offer| offer.cost);
            (inputs.ready[*index] == 0, self.desired[*index] == 0, cost)
        };
        let best = available.min_by(|a, b| {
            let (a, b) = (rank(a), rank(b));
            (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2))
        });
        if let Some(index) = best {
            (desired[index], why[index]) = (1, Why::RecentRequest);
        }
    }

    fn bound(&self, inputs: &Inputs, desired: &mut Mix, why: &mut [Why; DEVICES]) {
        for index in 0..DEVICES {
            let (Some(offer), Some(revision)) = (&inputs.offers[index], &self.variants[index]) else {
                desired[index] = 0;
                continue;
            };
            let activation = revision.scaling.activation_scale;
            if desired[index] > 0 && desired[index] < activation {
                (desired[index], why[index]) = (activation, Why::Minimum);
            }
            if revision.unavailable.is_some() {
                (desired[index], why[index]) = (0, Why::DeviceUnavailable);
            } else if desired[index] > offer.max {
                (desired[index], why[index]) = (offer.max, Why::Maximum);
            } else if desired[index] < offer.min {
                (desired[index], why[index]) = (offer.min, Why::Minimum);
            }
        }
    }
}
