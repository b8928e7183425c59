//! One replica as the data plane sees it: where it is, what it holds, how busy and how healthy it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gateway_policy::{Device, Health, Moment, Slots};
use http::HeaderValue;
use parking_lot::Mutex;

use crate::model_route::StaticReplica;
use crate::upstream::{H1Pool, H2Slot};

/// Who a replica is to the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReplicaId {
    /// NAMESPACE/REVISION; empty for a static replica.
    pub(crate) revision: String,
    /// Uid of the replica; the URL of a static one.
    pub(crate) uid: String,
}

/// Where a replica came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A configuration file: nobody replaces it.
    Static,
    /// The autoscaler.
    Claimed,
}

/// How a replica came to be, as the autoscaler measured it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Activation {
    /// The pause after an attempt that had failed.
    pub(crate) backoff: Duration,
    pub(crate) claim: Duration,
    pub(crate) specialize: Duration,
    pub(crate) load: Duration,
}

/// What is known of a replica when it appears, and does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaSpec {
    pub(crate) id: ReplicaId,
    pub(crate) origin: Origin,
    pub(crate) claim_id: String,
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    pub(crate) device: Device,
    /// Digest of the model it holds; empty for a static replica.
    pub(crate) digest: String,
    pub(crate) activation: Option<Activation>,
}

impl ReplicaSpec {
    /// Of a replica that a configuration names.
    pub(crate) fn of_static(replica: &StaticReplica) -> Self {
        Self {
            id: ReplicaId { revision: String::new(), uid: replica.url.clone() },
            origin: Origin::Static,
            claim_id: String::new(),
            name: replica.url.trim_start_matches("http://").to_owned(),
            addr: replica.addr,
            device: replica.device,
            digest: String::new(),
            activation: None,
        }
    }
}

/// On what terms a replica is used. They may change while requests run on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Terms {
    /// Relative cost of a replica-second.
    pub(crate) cost: f64,
    /// Requests at a time; 0 sets no limit.
    pub(crate) concurrency: u32,
}

impl Terms {
    /// Of a replica that a configuration names.
    pub(crate) const fn of_static(replica: &StaticReplica) -> Self {
        Self { cost: replica.cost, concurrency: replica.concurrency }
    }
}

/// The first suspension of a replica that refuses connections; each further one without a success lasts twice as long.
const FIRST_SUSPENSION: Duration = Duration::from_millis(250);

/// The longest suspension.
const LONGEST_SUSPENSION: Duration = Duration::from_secs(8);

/// One replica.
pub(crate) struct Replica {
    pub(crate) spec: ReplicaSpec,
    /// `kferving-revision` of requests to it.
    pub(crate) identity: Option<HeaderValue>,
    /// `kferving-replica` of its answers.
    pub(crate) name_header: HeaderValue,
    /// The bits of an `f64`.
    cost: AtomicU64,
    slots: Slots,
    health: Health,
    /// No new request may go to it.
    closed: AtomicBool,
    /// It has answered a request for the revision that it is meant to hold.
    answered: AtomicBool,
    /// Microseconds of the moment until which it is left out because it refused a connection.
    suspended_until: AtomicU64,
    suspensions: AtomicU64,
    first_use: Mutex<Option<Activation>>,
    h1: Box<[Arc<H1Pool>]>,
    h2: Box<[H2Slot]>,
}

impl Replica {
    /// A replica with room for the connections of `threads` threads.
    pub(crate) fn new(spec: ReplicaSpec, terms: Terms, threads: usize) -> Self {
        let identity = (spec.origin == Origin::Claimed)
            .then(|| HeaderValue::from_str(&format!("{}@{}", spec.id.revision, spec.digest)).ok())
            .flatten();
        let name_header = HeaderValue::from_str(&spec.name).unwrap_or(HeaderValue::from_static("unnamed"));
        Self {
            identity,
            name_header,
            cost: AtomicU64::new(terms.cost.to_bits()),
            slots: Slots::new(terms.concurrency),
            health: Health::new(),
            closed: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            suspended_until: AtomicU64::new(0),
            suspensions: AtomicU64::new(0),
            first_use: Mutex::new(spec.activation),
            h1: (0..threads).map(|_| Arc::new(H1Pool::new())).collect(),
            h2: (0..threads).map(|_| H2Slot::default()).collect(),
            spec,
        }
    }

    /// Changes the terms. The requests in flight stay, and count.
    pub(crate) fn set_terms(&self, terms: Terms) {
        self.cost.store(terms.cost.to_bits(), Ordering::Relaxed);
        self.slots.set_concurrency(terms.concurrency);
    }

    /// Relative cost of a replica-second.
    pub(crate) fn cost(&self) -> f64 {
        f64::from_bits(self.cost.load(Ordering::Relaxed))
    }

    /// Stops new requests. Sequentially consistent with a request that takes a slot and then looks: after this, whoever
    /// takes a slot sees it closed.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.h1.iter().for_each(|pool| pool.clear());
        self.h2.iter().for_each(H2Slot::clear);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether it has answered for its revision, so that a long body need not wait for its consent.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// It answered a request.
    pub(crate) fn record_answer(&self) {
        if !self.has_answered() {
            self.answered.store(true, Ordering::Relaxed);
        }
        if self.suspensions.load(Ordering::Relaxed) != 0 {
            self.suspensions.store(0, Ordering::Relaxed);
        }
    }

    /// Leaves it out for a while: it refused a connection.
    pub(crate) fn suspend(&self, now: Moment) {
        let doublings = self.suspensions.fetch_add(1, Ordering::Relaxed).min(10);
        let end = now + FIRST_SUSPENSION.saturating_mul(1 << doublings).min(LONGEST_SUSPENSION);
        self.suspended_until.store(end.as_micros(), Ordering::Relaxed);
    }

    pub(crate) fn is_suspended(&self, now: Moment) -> bool {
        now.as_micros() < self.suspended_until.load(Ordering::Relaxed)
    }

    /// How it came to be: to the first request only.
    pub(crate) fn take_first_use(&self) -> Option<Activation> {
        if self.has_answered() {
            return None;
        }
        self.first_use.lock().take()
    }

    /// The HTTP/1.1 connections of a thread.
    pub(crate) fn h1(&self, thread: usize) -> &Arc<H1Pool> {
        &self.h1[thread]
    }

    /// The HTTP/2 connection of a thread.
    pub(crate) fn h2(&self, thread: usize) -> &H2Slot {
        &self.h2[thread]
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn sweep(&self, now: Moment) {
        self.h1.iter().for_each(|pool| pool.sweep(now));
    }
}

impl gateway_policy::Replica for Replica {
    fn slots(&self) -> &Slots {
        &self.slots
    }

    fn health(&self) -> &Health {
        &self.health
    }
}
