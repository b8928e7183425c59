//! One model of the table: its replicas, the requests that wait for them, and what both have shown so far.

mod holding;
mod place;
mod presence;
mod routing;
mod unanswered;

pub(crate) use place::Place;
pub(crate) use presence::PresenceReading;
pub(crate) use routing::{ReplicaClass, Wanted};
pub(crate) use unanswered::Unanswered;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_policy::{
    Aim, Choice, Device, FailedRuns, Hold, HoldLimits, Moment, Pick, Reason, Replica as _, RetryBudget, ServiceTimes,
    SizeBucket,
};
use parking_lot::Mutex;
use poolctl_runtime::Clock;

use crate::demand::Outbox;
use crate::error;
use crate::metrics::{Metrics, ModelMetrics};
use crate::model_route::{ModelRoute, Unavailable};
use crate::replica::{Origin, Replica, ReplicaId, ReplicaSpec, Terms};
use holding::Waiter;
use presence::Presence;
use routing::Routing;

/// Namespace and name of a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ModelKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::fmt::Display for ModelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Requests of one size class answered since the start.
#[derive(Default)]
pub(crate) struct Served {
    pub(crate) count: AtomicU64,
    pub(crate) total_us: AtomicU64,
}

/// What the autoscaler says of a model that it cannot bring up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: error::Reason,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl From<Trouble> for error::Error {
    fn from(trouble: Trouble) -> Self {
        let Trouble { reason, message, retry_after } = trouble;
        Self::Unavailable { reason, message, retry_after }
    }
}

/// One model.
pub(crate) struct Model {
    pub(crate) key: ModelKey,
    pub(crate) metrics: ModelMetrics,
    pub(crate) retry_budget: RetryBudget,
    clock: Clock,
    route: ArcSwap<ModelRoute>,
    routing: ArcSwap<Routing>,
    /// Whether it has left the table; requests that found it before may still come.
    retired: AtomicBool,
    /// All replicas, suspended ones too; `routing` is made from it.
    members: Mutex<Vec<Arc<Replica>>>,
    service_times: [ServiceTimes; Device::ALL.len()],
    failed_runs: [FailedRuns; Device::ALL.len()],
    served: [[Served; SizeBucket::COUNT]; Device::ALL.len()],
    hold: Mutex<Hold<Waiter>>,
    /// Length of `hold`, readable without its lock.
    waiting: AtomicUsize,
    /// With the moment at which it was told.
    trouble: ArcSwap<Option<(Trouble, Moment)>>,
    presence: Presence,
    outbox: Outbox,
}

impl Model {
    pub(crate) fn new(route: ModelRoute, limits: HoldLimits, clock: Clock, metrics: &Metrics, outbox: Outbox) -> Self {
        let key = ModelKey { namespace: route.namespace.clone(), name: route.name.clone() };
        Self {
            metrics: metrics.of_model(&key.namespace, &key.name),
            retry_budget: RetryBudget::new(),
            clock,
            routing: ArcSwap::from_pointee(Routing::empty()),
            retired: AtomicBool::new(false),
            members: Mutex::new(Vec::new()),
            service_times: Device::ALL.map(|device| ServiceTimes::new(ServiceTimes::default_prior(device))),
            failed_runs: Default::default(),
            served: Default::default(),
            hold: Mutex::new(Hold::new(limits)),
            waiting: AtomicUsize::new(0),
            trouble: ArcSwap::from_pointee(None),
            presence: Presence::default(),
            route: ArcSwap::from_pointee(route),
            key,
            outbox,
        }
    }

    // === What the control plane says ===

    /// Replaces what the table says of this model. The static replicas change at once, so that no request finds none in
    /// between; those that are where they were stay, on new terms. A new one has room for the connections of `threads` threads.
    pub(crate) fn set_route(self: &Arc<Self>, route: ModelRoute, threads: usize) {
        let wanted: Vec<(ReplicaSpec, Terms)> =
            route.replicas.iter().map(|replica| (ReplicaSpec::of_static(replica), Terms::of_static(replica))).collect();
        self.route.store(Arc::new(route));
        let mut left = Vec::new();
        self.change_members(|members| {
            let is_wanted = |member: &Replica| wanted.iter().any(|(spec, _)| *spec == member.spec);
            let stays = |member: &Replica| member.spec.origin == Origin::Claimed || is_wanted(member);
            left = members.extract_if(.., |member| !stays(member)).collect();
            for (spec, terms) in wanted {
                match members.iter().find(|member| member.spec.id == spec.id) {
                    Some(member) => member.set_terms(terms),
                    None => members.push(Arc::new(Replica::new(spec, terms, threads))),
                }
            }
        });
        left.iter().for_each(|replica| replica.close());
    }

    pub(crate) fn route(&self) -> arc_swap::Guard<Arc<ModelRoute>> {
        self.route.load()
    }

    /// Notes what keeps the autoscaler from bringing the model up, or that nothing does.
    pub(crate) fn set_trouble(&self, trouble: Option<Trouble>) {
        let hopeless = trouble.is_some();
        let now = self.clock.now();
        self.trouble.store(Arc::new(trouble.map(|trouble| (trouble, now))));
        if hopeless && self.routing.load().is_empty() {
            self.disappoint();
        }
    }

    /// What keeps the model from coming up, until the time at which another attempt may be made.
    pub(crate) fn trouble(&self, now: Moment) -> Option<Trouble> {
        let trouble = self.trouble.load();
        let (trouble, since) = trouble.as_ref().as_ref()?;
        let over = trouble.retry_after.is_some_and(|pause| now.saturating_since(*since) >= pause);
        (!over).then(|| trouble.clone())
    }

    /// Adds a replica; one of the same identity stays as it is.
    pub(crate) fn add_replica(self: &Arc<Self>, replica: Arc<Replica>) {
        self.change_members(|members| {
            if members.iter().all(|member| member.spec.id != replica.spec.id) {
                members.push(replica);
            }
        });
    }

    /// Ends what is left of a model that is no longer in the table: nobody waits, no new request goes to its replicas. Those
    /// of the autoscaler are not closed: a model of the same name may get them.
    pub(crate) fn retire(self: &Arc<Self>) {
        self.retired.store(true, Ordering::SeqCst);
        let mut left = Vec::new();
        self.change_members(|members| left = std::mem::take(members));
        left.iter().filter(|replica| replica.spec.origin == Origin::Static).for_each(|replica| replica.close());
        self.disappoint();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Takes a replica out. After this no new request goes to it.
    pub(crate) fn remove_replica(self: &Arc<Self>, id: &ReplicaId) -> Option<Arc<Replica>> {
        let mut removed = None;
        self.change_members(|members| {
            let position = members.iter().position(|member| member.spec.id == *id);
            removed = position.map(|position| members.swap_remove(position));
        });
        removed.inspect(|replica| replica.close())
    }

    /// Leaves a replica that refuses connections, or holds another revision, out for a while. The last static one stays:
    /// nobody would bring up another.
    pub(crate) fn suspend(self: &Arc<Self>, replica: &Replica) {
        let is_last = self.routing.load().replicas().count() <= 1;
        if replica.spec.origin == Origin::Claimed || !is_last {
            replica.suspend(self.clock.now());
            self.change_members(|_| {});
        }
    }

    pub(crate) fn members(&self) -> Vec<Arc<Replica>> {
        self.members.lock().clone()
    }

    /// Changes the replicas and makes the routing snapshot anew.
    fn change_members(self: &Arc<Self>, change: impl FnOnce(&mut Vec<Arc<Replica>>)) {
        {
            let mut members = self.members.lock();
            change(&mut members);
            let routing = if self.is_retired() {
                Routing::empty()
            } else {
                Routing::new(&self.route.load(), &members, self.clock.now())
            };
            self.routing.store(Arc::new(routing));
        }
        self.release_held();
    }

    pub(crate) fn routing(&self) -> arc_swap::Guard<Arc<Routing>> {
        self.routing.load()
    }

    /// What regular upkeep does: suspended replicas come back, idle connections close, nobody waits for longer than a
    /// tick on an ejection that ended.
    pub(crate) fn tend(self: &Arc<Self>) {
        let now = self.clock.now();
        let (ready, routed) = {
            let members = self.members.lock();
            members.iter().for_each(|replica| replica.sweep(now));
            (
                members.iter().filter(|replica| !replica.is_suspended(now)).count(),
                self.routing.load().replicas().count(),
            )
        };
        if ready != routed {
            self.change_members(|_| {});
        } else {
            self.release_held();
        }
    }

    // === Picking ===

    /// Why no request can be served, whatever the replicas, if so.
    pub(crate) fn unavailable(&self) -> Option<error::Error> {
        let route = self.route.load();
        let Unavailable { reason, message } = route.unavailable.as_ref()?;
        let reason = error::Reason::of_unavailable(reason);
        Some(error::Error::Unavailable { reason, message: message.clone(), retry_after: None })
    }

    /// Why a request that came now would not be served, though it waited, if so.
    pub(crate) fn unready(&self) -> Option<error::Error> {
        if let Some(error) = self.unavailable() {
            return Some(error);
        }
        if !self.routing.load().is_empty() {
            return None;
        }
        let no_replica = || error::Error::Unavailable {
            reason: error::Reason::NoCapacity,
            message: format!("model {} has no replica", self.key),
            retry_after: None,
        };
        let trouble = self.trouble(self.clock.now()).map(error::Error::from);
        trouble.or_else(|| self.route.load().variants.is_empty().then(no_replica))
    }

    /// Takes a slot for a request, unless earlier ones wait or all are taken.
    pub(crate) fn try_place(self: &Arc<Self>, wanted: Wanted, now: Moment) -> Option<Place> {
        if self.waiting.load(Ordering::SeqCst) != 0 {
            return None;
        }
        let (pick, reason) = self.pick(wanted, now)?;
        Some(Place::new(pick, reason, self))
    }

    fn pick(&self, wanted: Wanted, now: Moment) -> Option<(Pick<Arc<Replica>>, Reason)> {
        let aim = self.aim(wanted, now);
        loop {
            let routing = self.routing.load();
            let classes = routing.scored(&self.service_times, wanted.size, now);
            let pick = gateway_policy::pick(classes, aim, now, &mut rand::rng())?;
            // Closed after this snapshot was taken: the next one does not have it.
            if pick.slot.is_closed() {
                continue;
            }
            if pick.choice.reason == Reason::Trial {
                self.service_times(pick.slot.spec.device).begin_trial(wanted.size, now);
            }
            let reason = if routing.single_static { Reason::Static } else { pick.choice.reason };
            return Some((pick, reason));
        }
    }

    /// What scoring aims at for this request.
    pub(crate) fn aim(&self, wanted: Wanted, now: Moment) -> Aim {
        let aim = Aim::new(self.route.load().objective, wanted.deadline, now);
        if wanted.is_timed { aim } else { aim.without_trial() }
    }

    /// What [`Model::try_place`] would choose now, for people.
    pub(crate) fn choice(&self, wanted: Wanted, now: Moment) -> Option<(Choice, Device)> {
        let routing = self.routing.load();
        let classes = routing.scored(&self.service_times, wanted.size, now);
        let mut choice = gateway_policy::choose(classes, self.aim(wanted, now), now, &mut rand::rng())?;
        if routing.single_static {
            choice.reason = Reason::Static;
        }
        Some((choice, routing.classes[choice.class].device))
    }

    pub(crate) fn service_times(&self, device: Device) -> &ServiceTimes {
        &self.service_times[device.index()]
    }

    // === Accounting ===

    /// Counts an arrival: the request is present until it departs.
    pub(crate) fn arrive(&self, now: Moment) {
        self.presence.arrive(now);
        self.retry_budget.record_request(now);
    }

    /// A request that arrived is answered or gone.
    pub(crate) fn depart(&self, now: Moment) {
        self.presence.depart(now);
    }

    pub(crate) fn presence(&self, now: Moment) -> PresenceReading {
        self.presence.read(now)
    }

    /// Notes the time from sending a request to the head of its answer.
    pub(crate) fn record_served(&self, place: &Place, size: SizeBucket, latency: Duration, now: Moment) {
        let device = place.replica().spec.device;
        self.service_times(device).record_success(size, latency, place.slot().load(), now);
        self.failed_runs[device.index()].record_result();
        self.record_answer(place);
        let served = self.served(device, size);
        served.count.fetch_add(1, Ordering::Relaxed);
        served.total_us.fetch_add(latency.as_micros() as u64, Ordering::Relaxed);
    }

    /// Notes that a replica answered, with something that tells nothing of runs.
    pub(crate) fn record_answer(&self, place: &Place) {
        place.replica().health().record_success();
    }

    /// Notes that the model's run failed on a replica: whose fault that is may show from what else the device does.
    pub(crate) fn record_failed_run(&self, place: &Place, size: SizeBucket, latency: Duration, now: Moment) {
        let device = place.replica().spec.device;
        if self.failed_runs[device.index()].record_failed_run() {
            self.service_times(device).record_failure(size, latency, now);
        }
        self.record_answer(place);
    }

    /// Notes a failure of a replica; ejects it when it keeps failing.
    pub(crate) fn record_failure(&self, place: &Place, size: SizeBucket, latency: Duration, now: Moment) {
        let replica = place.replica();
        let device = replica.spec.device;
        self.service_times(device).record_failure(size, latency, now);
        self.count_failure(replica, now);
    }

    /// Counts a failure against a replica. One that keeps failing is ejected, and the autoscaler is asked to look at it: it
    /// may hang for good.
    pub(crate) fn count_failure(&self, replica: &Replica, now: Moment) {
        let verdict = replica.health().record_failure(&gateway_policy::EjectionPolicy::default(), now);
        if let gateway_policy::Verdict::Ejected(until) = verdict {
            self.metrics.device(replica.spec.device).ejections.inc();
            let seconds = until.saturating_since(now).as_secs();
            tracing::warn!(model = %self.key, replica = replica.spec.name, seconds, "ejected a replica that keeps failing");
            self.report_fault(replica, crate::demand::Fault::Unreachable);
        }
    }

    pub(crate) fn served(&self, device: Device, size: SizeBucket) -> &Served {
        &self.served[device.index()][size.index()]
    }

    /// Tells the autoscaler that a replica could not be used.
    pub(crate) fn report_fault(&self, replica: &Replica, fault: crate::demand::Fault) {
        if replica.spec.origin == Origin::Claimed {
            self.outbox.fault(&replica.spec.id, fault);
        }
    }
}
