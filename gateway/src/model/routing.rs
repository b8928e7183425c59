//! What a request is routed by.

use std::sync::Arc;

use gateway_policy::{Class, Device, Moment, ServiceTimes, SizeBucket};

use crate::model_route::ModelRoute;
use crate::replica::Replica;

/// The request that a replica is wanted for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) size: SizeBucket,
    pub(crate) deadline: Moment,
    /// Whether the time of its answer is a service time: not that of statistics or of a stream.
    pub(crate) is_timed: bool,
}

/// The replicas of a model on one device at one cost.
pub(crate) struct ReplicaClass {
    pub(crate) device: Device,
    pub(crate) cost: f64,
    pub(crate) replicas: Vec<Arc<Replica>>,
}

/// What a request is routed by: an immutable snapshot.
pub(crate) struct Routing {
    pub(crate) classes: Vec<ReplicaClass>,
    /// Whether the route names its replicas itself and they are of one kind, so that nothing is scored.
    pub(crate) single_static: bool,
    /// Whether the control plane can bring up replicas.
    pub(crate) scalable: bool,
}

impl Routing {
    /// Without any replica, and without a way to get one.
    pub(crate) const fn empty() -> Self {
        Self { classes: Vec::new(), single_static: false, scalable: false }
    }

    /// Of the replicas among `members` that are not suspended. A variant without one is a cold class.
    pub(crate) fn new(route: &ModelRoute, members: &[Arc<Replica>], now: Moment) -> Self {
        let mut classes: Vec<ReplicaClass> = Vec::new();
        for replica in members.iter().filter(|replica| !replica.is_suspended(now)) {
            let (device, cost) = (replica.spec.device, replica.cost());
            let same = |class: &&mut ReplicaClass| class.device == device && class.cost.total_cmp(&cost).is_eq();
            match classes.iter_mut().find(same) {
                Some(class) => class.replicas.push(Arc::clone(replica)),
                None => classes.push(ReplicaClass { device, cost, replicas: vec![Arc::clone(replica)] }),
            }
        }
        let single_static = classes.len() == 1 && route.variants.is_empty();
        for variant in &route.variants {
            if classes.iter().all(|class| class.device != variant.device) {
                classes.push(ReplicaClass { device: variant.device, cost: variant.cost, replicas: Vec::new() });
            }
        }
        Self { classes, single_static, scalable: !route.variants.is_empty() }
    }

    /// The classes as scoring wants them, for a request of this size.
    pub(crate) fn scored<'a>(
        &'a self,
        service_times: &'a [ServiceTimes; Device::ALL.len()],
        size: SizeBucket,
        now: Moment,
    ) -> impl Iterator<Item = Class<'a, Arc<Replica>>> + Clone {
        self.classes.iter().map(move |class| {
            let service_times = &service_times[class.device.index()];
            Class {
                device: class.device,
                cost: class.cost,
                service_time: service_times.estimate(size, now),
                wants_trial: service_times.wants_trial(size, now),
                replicas: &class.replicas,
            }
        })
    }

    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.classes.iter().flat_map(|class| &class.replicas)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.replicas.is_empty())
    }
}
