//! One model of the table: its replicas, the requests that wait for them, and what both have shown so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_policy::{
    Choice, Class, Device, Hold, HoldLimits, Moment, Outcome, Pick, Reason, Refusal, Replica as _, RetryBudget,
    ServiceTimes, SizeBucket, Slot, Ticket,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::demand::Outbox;
use crate::error;
use crate::metrics::{Metrics, ModelMetrics};
use crate::model_route::{ModelRoute, Unavailable};
use crate::replica::{Origin, Replica, ReplicaId};

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

/// The replicas of a model on one device at one cost.
#[derive(Clone)]
pub(crate) struct ReplicaClass {
    pub(crate) device: Device,
    pub(crate) cost: f64,
    pub(crate) replicas: Vec<Arc<Replica>>,
}

/// What a request is routed by: an immutable snapshot.
pub(crate) struct Routing {
    pub(crate) classes: Vec<ReplicaClass>,
    /// Whether the route names its replicas itself and they are of one kind, so that nothing is scored.
    single_static: bool,
    /// Whether the control plane can bring up replicas.
    pub(crate) scalable: bool,
}

impl Routing {
    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.classes.iter().flat_map(|class| &class.replicas)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.replicas.is_empty())
    }
}

/// What a waiting request needs to be given a replica, and the way to tell it.
struct Waiter {
    size: SizeBucket,
    deadline: Moment,
    told: oneshot::Sender<Outcome<Place>>,
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

/// One model.
pub(crate) struct Model {
    pub(crate) key: ModelKey,
    pub(crate) metrics: ModelMetrics,
    pub(crate) retry_budget: RetryBudget,
    clock: Clock,
    route: ArcSwap<ModelRoute>,
    routing: ArcSwap<Routing>,
    /// All replicas, suspended ones too; `routing` is made from it.
    members: Mutex<Vec<Arc<Replica>>>,
    service_times: [ServiceTimes; Device::ALL.len()],
    served: [[Served; SizeBucket::COUNT]; Device::ALL.len()],
    hold: Mutex<Hold<Waiter>>,
    /// Length of `hold`, readable without its lock.
    waiting: AtomicUsize,
    /// With the moment at which it was told.
    trouble: ArcSwap<Option<(Trouble, Moment)>>,
    presence: Presence,
    outbox: Outbox,
}

/// Requests of a model in the gateway, as an integral over time.
///
/// The integral of the number present up to *t* is `present × t − Σ arrivals + Σ departures`, so that two additions a
/// request replace a lock; all arithmetic wraps, and the difference of two readings is right as long as it fits.
#[derive(Default)]
struct Presence {
    arrivals: AtomicU64,
    present: AtomicU64,
    arrival_sum: AtomicU64,
    departure_sum: AtomicU64,
}

/// A reading of [`Presence`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PresenceReading {
    pub(crate) arrivals: u64,
    /// Request-microseconds since the start, wrapping.
    pub(crate) integral: u64,
}

/// A request's presence, from its arrival to the end of its answer.
pub(crate) struct Present(Arc<Model>);

impl Drop for Present {
    fn drop(&mut self) {
        let presence = &self.0.presence;
        presence.departure_sum.fetch_add(self.0.clock.now().as_micros(), Ordering::Relaxed);
        presence.present.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A slot of a replica together with what follows from freeing it: the next waiting request gets it.
pub(crate) struct Place {
    // Fields are dropped in this order: the slot is free before the queue is looked at.
    pick: Pick<Arc<Replica>>,
    reason: Reason,
    _freed: Freed,
}

/// Looks at the queue when dropped.
struct Freed(Arc<Model>, Device);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.metrics.device(self.1).in_flight.dec();
        self.0.release_held();
    }
}

impl Place {
    fn new(pick: Pick<Arc<Replica>>, reason: Reason, model: &Arc<Model>) -> Self {
        let device = pick.slot.spec.device;
        model.metrics.device(device).in_flight.inc();
        Self { pick, reason, _freed: Freed(Arc::clone(model), device) }
    }

    pub(crate) fn replica(&self) -> &Arc<Replica> {
        self.pick.slot.replica()
    }

    pub(crate) fn slot(&self) -> &Slot<Arc<Replica>> {
        &self.pick.slot
    }

    /// Why this replica's device serves the request.
    pub(crate) const fn reason(&self) -> Reason {
        self.reason
    }
}

impl Model {
    pub(crate) fn new(route: ModelRoute, limits: HoldLimits, clock: Clock, metrics: &Metrics, outbox: Outbox) -> Self {
        let key = ModelKey { namespace: route.namespace.clone(), name: route.name.clone() };
        Self {
            metrics: metrics.of_model(&key.namespace, &key.name),
            retry_budget: RetryBudget::new(),
            clock,
            routing: ArcSwap::from_pointee(Routing { classes: Vec::new(), single_static: false, scalable: false }),
            members: Mutex::new(Vec::new()),
            service_times: Device::ALL.map(|device| ServiceTimes::new(ServiceTimes::default_prior(device))),
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

    /// Replaces what the table says of this model.
    pub(crate) fn set_route(self: &Arc<Self>, route: ModelRoute) {
        self.route.store(Arc::new(route));
        self.change_members(|_| {});
    }

    pub(crate) fn route(&self) -> arc_swap::Guard<Arc<ModelRoute>> {
        self.route.load()
    }

    /// Notes what keeps the autoscaler from bringing the model up, or that nothing does.
    pub(crate) fn set_trouble(&self, trouble: Option<Trouble>) {
        let hopeless = trouble.is_some();
        let now = self.clock.now();
        self.trouble.store(Arc::new(trouble.map(|trouble| (trouble, now))));
        if hopeless {
            self.end_waits_without_hope();
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

    /// Ends what is left of a model that is no longer in the table: nobody waits, no new request goes to its replicas.
    pub(crate) fn retire(self: &Arc<Self>) {
        for member in self.members() {
            if member.spec.origin == Origin::Static {
                self.remove_replica(&member.spec.id);
            }
        }
        self.end_waits();
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

    /// Leaves a replica that refuses connections out for a while.
    pub(crate) fn suspend(self: &Arc<Self>, replica: &Replica) {
        replica.suspend(self.clock.now());
        self.change_members(|_| {});
    }

    pub(crate) fn members(&self) -> Vec<Arc<Replica>> {
        self.members.lock().clone()
    }

    /// Changes the replicas and makes the routing snapshot anew.
    fn change_members(self: &Arc<Self>, change: impl FnOnce(&mut Vec<Arc<Replica>>)) {
        {
            let mut members = self.members.lock();
            change(&mut members);
            self.routing.store(Arc::new(self.routing_of(&members)));
        }
        self.release_held();
    }

    fn routing_of(&self, members: &[Arc<Replica>]) -> Routing {
        let now = self.clock.now();
        let route = self.route.load();
        let mut classes: Vec<ReplicaClass> = Vec::new();
        for replica in members.iter().filter(|replica| !replica.is_suspended(now)) {
            let (device, cost) = (replica.spec.device, replica.spec.cost);
            let same = |class: &&mut ReplicaClass| class.device == device && class.cost.total_cmp(&cost).is_eq();
            match classes.iter_mut().find(same) {
                Some(class) => class.replicas.push(Arc::clone(replica)),
                None => classes.push(ReplicaClass { device, cost, replicas: vec![Arc::clone(replica)] }),
            }
        }
        let single_static = classes.len() == 1 && route.variants.is_empty();
        for variant in &route.variants {
            if classes.iter().all(|class| class.device != variant.device) {
                let cold = ReplicaClass { device: variant.device, cost: variant.cost, replicas: Vec::new() };
                classes.push(cold);
            }
        }
        Routing { classes, single_static, scalable: !route.variants.is_empty() }
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

    /// Why no request can be served, if so.
    pub(crate) fn unavailable(&self) -> Option<error::Error> {
        let route = self.route.load();
        let Unavailable { reason, message } = route.unavailable.as_ref()?;
        let reason = error::Reason::of_unavailable(reason);
        Some(error::Error::Unavailable { reason, message: message.clone(), retry_after: None })
    }

    /// Takes a slot for a request, unless earlier ones wait or all are taken.
    pub(crate) fn try_place(self: &Arc<Self>, size: SizeBucket, deadline: Moment, now: Moment) -> Option<Place> {
        if self.waiting.load(Ordering::SeqCst) != 0 {
            return None;
        }
        let (pick, reason) = self.pick(size, deadline, now)?;
        Some(Place::new(pick, reason, self))
    }

    fn pick(&self, size: SizeBucket, deadline: Moment, now: Moment) -> Option<(Pick<Arc<Replica>>, Reason)> {
        let target = gateway_policy::target(self.route.load().objective, deadline, now);
        loop {
            let routing = self.routing.load();
            let classes = self.scored(&routing, size, now);
            let pick = gateway_policy::pick(classes, target, now, &mut rand::rng())?;
            // Closed after this snapshot was taken: the next one does not have it.
            if !pick.slot.is_closed() {
                let reason = if routing.single_static { Reason::Static } else { pick.choice.reason };
                return Some((pick, reason));
            }
        }
    }

    fn scored<'a>(
        &'a self,
        routing: &'a Routing,
        size: SizeBucket,
        now: Moment,
    ) -> impl Iterator<Item = Class<'a, Arc<Replica>>> + Clone {
        routing.classes.iter().map(move |class| Class {
            device: class.device,
            cost: class.cost,
            service_time: self.service_times(class.device).estimate(size, now),
            replicas: &class.replicas,
        })
    }

    /// What [`Model::try_place`] would choose now, for people.
    pub(crate) fn choice(&self, size: SizeBucket, target: Duration, now: Moment) -> Option<(Choice, Device)> {
        let routing = self.routing.load();
        let mut choice = gateway_policy::choose(self.scored(&routing, size, now), target, now, &mut rand::rng())?;
        if routing.single_static {
            choice.reason = Reason::Static;
        }
        Some((choice, routing.classes[choice.class].device))
    }

    pub(crate) fn service_times(&self, device: Device) -> &ServiceTimes {
        &self.service_times[device.index()]
    }

    // === Holding ===

    /// Holds a request until a replica takes it.
    pub(crate) fn hold(
        self: &Arc<Self>,
        size: SizeBucket,
        bytes: u64,
        deadline: Moment,
        former: Option<Ticket>,
    ) -> Result<Held, Refusal> {
        let (told, outcome) = oneshot::channel();
        let now = self.clock.now();
        let (ticket, waiting) = {
            let mut hold = self.hold.lock();
            let waiter = Waiter { size, deadline, told };
            let ticket = match former {
                Some(ticket) => hold.rejoin(ticket, waiter, bytes, deadline).map(|()| ticket)?,
                None => hold.join(waiter, bytes, deadline, now)?,
            };
            self.publish(&hold);
            (ticket, hold.len())
        };
        // A slot freed between the failed pick and the join is found here.
        self.release_held();
        if waiting.is_power_of_two() && self.waiting.load(Ordering::SeqCst) != 0 {
            // The first is told at once; of a growing crowd each doubling, and the whole on the tick.
            self.outbox.held(&self.key, waiting);
        }
        Ok(Held { model: Arc::clone(self), ticket, outcome, waits: true, since: now })
    }

    /// Gives free slots to waiting requests, first come first served, and ends the waits past their deadline.
    pub(crate) fn release_held(self: &Arc<Self>) {
        while self.waiting.load(Ordering::SeqCst) != 0 {
            let now = self.clock.now();
            let outcomes = {
                let mut hold = self.hold.lock();
                let outcomes = hold.release(now, |waiter| self.pick(waiter.size, waiter.deadline, now));
                self.publish(&hold);
                outcomes
            };
            if outcomes.is_empty() {
                return;
            }
            for (waiter, outcome) in outcomes {
                let outcome = match outcome {
                    Outcome::Released((pick, reason)) => Outcome::Released(Place::new(pick, reason, self)),
                    Outcome::Deadline => Outcome::Deadline,
                    Outcome::ShuttingDown => Outcome::ShuttingDown,
                };
                // Whoever left in the meantime gives its place back by dropping it, which releases the next.
                let _ = waiter.told.send(outcome);
            }
        }
    }

    /// Ends every wait and holds no more: the gateway stops.
    pub(crate) fn end_waits(&self) {
        let outcomes = {
            let mut hold = self.hold.lock();
            let outcomes = hold.shut_down::<Place>();
            self.publish(&hold);
            outcomes
        };
        outcomes.into_iter().for_each(|(waiter, outcome)| drop(waiter.told.send(outcome)));
    }

    /// Wakes the waiting requests of a model that cannot come up: dropping their channel makes them look why.
    fn end_waits_without_hope(&self) {
        if !self.routing.load().is_empty() {
            return;
        }
        let mut hold = self.hold.lock();
        let waiters: Vec<Waiter> = {
            let mut all = Vec::new();
            for outcome in hold.release(self.clock.now(), |_| Some(())) {
                all.push(outcome.0);
            }
            all
        };
        self.publish(&hold);
        drop(hold);
        drop(waiters);
    }

    fn publish(&self, hold: &Hold<Waiter>) {
        self.waiting.store(hold.len(), Ordering::SeqCst);
        self.metrics.held.set(hold.len() as i64);
        self.metrics.held_bytes.set(hold.bytes() as i64);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    // === Accounting ===

    /// Counts an arrival; the request is present until the guard is dropped.
    pub(crate) fn arrive(self: &Arc<Self>, now: Moment) -> Present {
        self.presence.arrivals.fetch_add(1, Ordering::Relaxed);
        self.presence.arrival_sum.fetch_add(now.as_micros(), Ordering::Relaxed);
        self.presence.present.fetch_add(1, Ordering::Relaxed);
        self.retry_budget.record_request(now);
        Present(Arc::clone(self))
    }

    pub(crate) fn presence(&self, now: Moment) -> PresenceReading {
        let presence = &self.presence;
        let present = presence.present.load(Ordering::Relaxed);
        let integral = present
            .wrapping_mul(now.as_micros())
            .wrapping_sub(presence.arrival_sum.load(Ordering::Relaxed))
            .wrapping_add(presence.departure_sum.load(Ordering::Relaxed));
        PresenceReading { arrivals: presence.arrivals.load(Ordering::Relaxed), integral }
    }

    /// Notes the time from sending a request to the head of its answer.
    pub(crate) fn record_served(&self, place: &Place, size: SizeBucket, latency: Duration, now: Moment) {
        let device = place.replica().spec.device;
        self.service_times(device).record_success(size, latency, place.slot().load(), now);
        place.replica().health().record_success();
        let served = self.served(device, size);
        served.count.fetch_add(1, Ordering::Relaxed);
        served.total_us.fetch_add(latency.as_micros() as u64, Ordering::Relaxed);
    }

    /// Notes a failure of a replica; ejects it when it keeps failing.
    pub(crate) fn record_failure(&self, place: &Place, size: SizeBucket, latency: Duration, now: Moment) {
        let replica = place.replica();
        let device = replica.spec.device;
        self.service_times(device).record_failure(size, latency, now);
        let verdict = replica.health().record_failure(&gateway_policy::EjectionPolicy::default(), now);
        if let gateway_policy::Verdict::Ejected(until) = verdict {
            self.metrics.device(device).ejections.inc();
            let seconds = until.saturating_since(now).as_secs();
            tracing::warn!(model = %self.key, replica = replica.spec.name, seconds, "ejected a replica that keeps failing");
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

/// A request that waits. Dropping it leaves the queue at once.
pub(crate) struct Held {
    model: Arc<Model>,
    ticket: Ticket,
    outcome: oneshot::Receiver<Outcome<Place>>,
    waits: bool,
    since: Moment,
}

impl Held {
    /// Waits for the end of the wait; `None` when the model turned out to be unable to come up.
    pub(crate) async fn wait(mut self) -> (Option<Outcome<Place>>, Ticket) {
        let outcome = (&mut self.outcome).await.ok();
        self.waits = false;
        (outcome, self.ticket)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let waited = self.model.clock.now().saturating_since(self.since);
        self.model.metrics.hold_duration.observe(waited.as_secs_f64());
        if self.waits {
            let mut hold = self.model.hold.lock();
            let left = hold.cancel(self.ticket);
            self.model.publish(&hold);
            drop(hold);
            drop(left);
        }
    }
}
