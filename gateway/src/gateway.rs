//! The gateway as a library: a handle that is told about models, connected to the autoscaler and served.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use gateway_policy::HoldLimits;
use parking_lot::Mutex;
use poolctl_runtime::{Clock, since_1970};
use prometheus::Registry;

use crate::caller::{CallerPermit, Callers};
use crate::demand::{Outbox, Urgent};
use crate::departures::Departures;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::model::{Model, ModelKey};
use crate::model_route::ModelRoute;
use crate::reading::Readings;
use crate::replica::{Replica, ReplicaId, ReplicaSpec, Terms};
use crate::settings::GatewaySettings;
use crate::table::Table;
use crate::timer::Timers;

/// The data plane of one process. Clones are handles to the same one.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

/// What all serving threads share.
pub(crate) struct Inner {
    pub(crate) settings: GatewaySettings,
    pub(crate) clock: Clock,
    /// Grows with each start of a gateway: microseconds of the wall clock.
    pub(crate) epoch: u64,
    pub(crate) metrics: Metrics,
    pub(crate) callers: Option<Callers>,
    /// Bodies that are being read.
    pub(crate) readings: Readings,
    pub(crate) table: ArcSwap<Table>,
    /// Replicas that the autoscaler told of, by identity, whether or not their model is in the table yet.
    claimed: Mutex<HashMap<ReplicaId, ClaimedReplica>>,
    outbox: Outbox,
    urgent: Mutex<Option<tokio::sync::mpsc::Receiver<Urgent>>>,
}

/// A replica of the autoscaler, and the model that it serves.
#[derive(Clone)]
struct ClaimedReplica {
    model: ModelKey,
    replica: Arc<Replica>,
}

/// One serving thread's view of the gateway.
pub(crate) struct Worker {
    pub(crate) inner: Arc<Inner>,
    pub(crate) index: usize,
    pub(crate) timers: Arc<Timers>,
    pub(crate) departures: Arc<Departures>,
}

impl Gateway {
    /// A gateway without models.
    ///
    /// # Errors
    /// `registry` holds metrics of the same names already.
    pub fn new(settings: GatewaySettings, registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Metrics::register(registry)?;
        let (outbox, urgent) = Outbox::new(metrics.demand_dropped.clone());
        let settings = GatewaySettings { threads: settings.threads.max(1), ..settings };
        let inner = Inner {
            callers: settings.limits.caller_concurrency.map(Callers::new),
            readings: Readings::new(metrics.reading_bytes.clone(), settings.limits.reading_bytes),
            settings,
            clock: Clock::start(),
            epoch: since_1970(SystemTime::now()).as_micros() as u64,
            metrics,
            table: ArcSwap::from_pointee(Table::default()),
            claimed: Mutex::new(HashMap::new()),
            outbox,
            urgent: Mutex::new(Some(urgent)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Replaces the whole table of models, atomically. A model that stays keeps its replicas, its held requests and what
    /// was measured of it.
    pub fn set_models(&self, routes: Vec<ModelRoute>) {
        self.inner.set_models(routes);
    }
}

impl Inner {
    /// Counts a request of this caller, until its permit is dropped; without a limit there is none.
    pub(crate) fn admit(&self, caller: IpAddr) -> Result<Option<CallerPermit>, Error> {
        self.callers.as_ref().map(|callers| callers.admit(caller)).transpose()
    }

    fn set_models(&self, routes: Vec<ModelRoute>) {
        // Held for the whole change: a replica that arrives meanwhile finds either the old table or the new one.
        let claimed = self.claimed.lock();
        let before = self.table.load_full();
        let limits =
            HoldLimits { requests: self.settings.limits.hold_requests, bytes: self.settings.limits.hold_bytes };
        let mut models = Vec::with_capacity(routes.len());
        for route in routes {
            let model = match before.get(&route.namespace, &route.name) {
                Some(model) => Arc::clone(model),
                None => {
                    let model = Model::new(route.clone(), limits, self.clock, &self.metrics, self.outbox.clone());
                    let model = Arc::new(model);
                    let own = claimed.values().filter(|claimed| claimed.model == model.key);
                    own.for_each(|claimed| model.add_replica(Arc::clone(&claimed.replica)));
                    model
                }
            };
            model.set_route(route, self.settings.threads);
            models.push(model);
        }
        let after = Table::new(models);
        for model in before.models() {
            if after.get(&model.key.namespace, &model.key.name).is_none() {
                model.retire();
            }
        }
        self.table.store(Arc::new(after));
    }

    // === What the autoscaler says ===

    pub(crate) fn add_claimed(&self, key: ModelKey, spec: ReplicaSpec, terms: Terms) {
        let mut claimed = self.claimed.lock();
        let id = spec.id.clone();
        // Announced anew after a reconnect: it stays as it is.
        let entry = claimed.entry(id).or_insert_with(|| ClaimedReplica {
            model: key,
            replica: Arc::new(Replica::new(spec, terms, self.settings.threads)),
        });
        if let Some(model) = self.table.load().get(&entry.model.namespace, &entry.model.name) {
            model.set_trouble(None);
            model.add_replica(Arc::clone(&entry.replica));
        }
    }

    /// After this no new request goes to the replica.
    pub(crate) fn remove_claimed(&self, id: &ReplicaId) {
        let removed = self.claimed.lock().remove(id);
        let Some(ClaimedReplica { model: key, replica }) = removed else { return };
        if let Some(model) = self.table.load().get(&key.namespace, &key.name) {
            model.remove_replica(id);
        }
        // Its model may just be leaving the table, and have none of its replicas any more.
        replica.close();
    }

    /// Drops every replica of the autoscaler that is not among `announced`.
    pub(crate) fn retain_claimed(&self, announced: &HashSet<ReplicaId>) {
        let unknown: Vec<ReplicaId> =
            self.claimed.lock().keys().filter(|id| !announced.contains(*id)).cloned().collect();
        unknown.iter().for_each(|id| self.remove_claimed(id));
    }

    /// The specs of all replicas of the autoscaler.
    pub(crate) fn claimed(&self) -> Vec<ReplicaSpec> {
        self.claimed.lock().values().map(|claimed| claimed.replica.spec.clone()).collect()
    }

    /// The receiver of urgent messages: for one demand stream at a time.
    pub(crate) fn take_urgent(&self) -> Option<tokio::sync::mpsc::Receiver<Urgent>> {
        self.urgent.lock().take()
    }
}
