//! What this process holds: nothing yet, a model that is being loaded, one that is served, or one that failed.
//!
//! It holds at most one model in its life. A pooled wrapper is born idle and specialized once, by the claim that got the lock
//! first; one with `--model` has its model from the start and takes no claim.

mod claim;
mod gate;
mod memory;
mod model;
mod source;
mod spec;
mod specialize;

use std::sync::Arc;
use std::time::SystemTime;

use model_wrapper_admin::{Phases, StateResponse, WrapperState};
use model_wrapper_onnx::{Runtime, release_unused_memory};
use model_wrapper_protocol::{InferError, Unavailable, metadata_json};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::metrics::{Milestone, WrapperMetrics};
use claim::ClaimLock;
use gate::{Gate, Stop};

pub use crate::executor::{Batching, Timings};
pub use gate::Slot;
pub use memory::Held as HeldMemory;
pub use model::{Loaded, ModelError, ServedModel, load};
pub use source::{Fetched, SourceError, Unloadable, fetch};
pub use spec::{DEFAULT_TIMEOUT, Format, ModelSpec, SpecError};
pub use specialize::{Refusal, STARTED_WITH_MODEL};

pub(crate) use spec::check_digest;

#[cfg(test)]
mod tests;

/// Bytes of a model from which on what loading left behind is worth giving back, and takes longer than a wink anyway.
const LARGE_MODEL: usize = 4 << 20;

/// Handle to what this process holds. Clones share it.
#[derive(Clone)]
pub struct Serving {
    inner: Arc<Inner>,
}

/// Whether requests should be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes: a model is served, or an idle wrapper waits for its claim.
    Ready,
    /// Not now: the model is being loaded, or could not be.
    NotReady,
    /// Not any more.
    Draining,
}

struct Inner {
    runtime: Runtime,
    /// Uid that this replica was started with.
    pod_uid: Option<String>,
    claim: Mutex<ClaimLock>,
    held: watch::Sender<Held>,
    gate: Arc<Gate>,
    metrics: WrapperMetrics,
}

#[derive(Clone)]
enum Held {
    Nothing,
    Loading,
    Serving(Arc<Service>),
    Failed(Arc<str>),
}

/// A served model and what it is served as.
struct Service {
    model: Arc<ServedModel>,
    identity: Identity,
    digest: String,
    phases: Phases,
}

/// What a request's `kferving-revision` must be.
enum Identity {
    /// Of a claimed wrapper: exactly this, never absent.
    Claimed(String),
    /// Of a wrapper started with a model: this, or absent.
    Given(String),
    /// Of a wrapper started with a model that does not know its namespace: this after any namespace, or absent.
    Unplaced(String),
    /// Of a wrapper started with a model and no revision: absent.
    Anonymous,
}

// === impl Serving ===

impl Serving {
    /// A wrapper that holds nothing.
    pub fn idle(runtime: Runtime, pod_uid: Option<String>, metrics: WrapperMetrics) -> Self {
        let gate = Arc::new(Gate::new(metrics.in_flight.clone()));
        let held = watch::Sender::new(Held::Nothing);
        Self { inner: Arc::new(Inner { runtime, pod_uid, claim: Mutex::default(), held, gate, metrics }) }
    }

    /// Serves a model from the start, as `revision` if it has one: `NAMESPACE/REVISION`, or `REVISION` alone where the
    /// namespace is not known. Blocking.
    ///
    /// # Errors
    /// The model cannot be loaded.
    pub fn serve_model(&self, spec: &ModelSpec, revision: Option<&str>) -> Result<(), ModelError> {
        let holder = claim::Claim {
            id: STARTED_WITH_MODEL.to_owned(),
            revision: revision.unwrap_or_default().to_owned(),
            digest: spec.digest.clone().unwrap_or_default(),
        };
        self.inner.claim.lock().request(&holder);
        self.inner.enter(Held::Loading);
        let identity = |digest: &str| match revision {
            Some(revision) if revision.contains('/') => Identity::Given(format!("{revision}@{digest}")),
            Some(revision) => Identity::Unplaced(format!("{revision}@{digest}")),
            None => Identity::Anonymous,
        };
        self.inner.load(spec, identity)
    }

    /// The model that may answer a request with this `kferving-revision`. To be asked before the body is read.
    ///
    /// # Errors
    /// This wrapper holds another revision or no model, or takes no request now.
    pub fn admit(&self, identity: Option<&str>) -> Result<Arc<ServedModel>, InferError> {
        let held = self.inner.held.borrow();
        let service = match (&*held, identity) {
            (Held::Serving(service), _) => service,
            (Held::Nothing, None) => return Err(InferError::NotFound("no model is loaded".to_owned())),
            (Held::Nothing, Some(wanted)) => return Err(misdirected("no revision", Some(wanted))),
            (Held::Loading, _) => {
                return Err(unavailable(Unavailable::Loading, "the model is being loaded"));
            }
            // Why is the operator's business and in /state: it names paths.
            (Held::Failed(_), _) => {
                return Err(unavailable(Unavailable::LoadFailed, "the model could not be loaded"));
            }
        };
        if !service.identity.answers(identity) {
            return Err(misdirected(service.identity.name(), identity));
        }
        match self.inner.gate.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(service.model.clone()),
        }
    }

    /// Uid that this replica was started with.
    pub fn pod_uid(&self) -> Option<&str> {
        self.inner.pod_uid.as_deref()
    }

    /// Reports when a milestone of the start was passed.
    pub fn passed(&self, milestone: Milestone, at: SystemTime) {
        self.inner.metrics.passed(milestone, at);
    }

    /// The model held.
    pub fn model(&self) -> Option<Arc<ServedModel>> {
        match &*self.inner.held.borrow() {
            Held::Serving(service) => Some(service.model.clone()),
            _ => None,
        }
    }

    /// Whether requests should be sent here.
    pub fn readiness(&self) -> Readiness {
        if self.inner.gate.stopped().is_some() {
            return Readiness::Draining;
        }
        match &*self.inner.held.borrow() {
            Held::Nothing | Held::Serving(_) => Readiness::Ready,
            Held::Loading | Held::Failed(_) => Readiness::NotReady,
        }
    }

    /// Whether the model is being loaded.
    pub fn is_loading(&self) -> bool {
        matches!(&*self.inner.held.borrow(), Held::Loading)
    }

    /// Takes no request from now on and resolves once the last one is answered.
    pub async fn drain(&self) {
        self.inner.stop(Stop::Draining);
        self.inner.gate.emptied().await;
    }

    /// Takes no request from now on, since the process ends, and resolves once the last one is answered.
    pub async fn shut_down(&self) {
        self.inner.stop(Stop::ShuttingDown);
        self.inner.gate.emptied().await;
    }

    /// Everything that the admin port tells.
    pub fn state(&self) -> StateResponse {
        let inner = &self.inner;
        let held = inner.held.borrow().clone();
        let claim = inner.claim.lock().holder().cloned();
        let by_claim = claim.as_ref().filter(|claim| claim.id != STARTED_WITH_MODEL);
        let service = match &held {
            Held::Serving(service) => Some(service),
            _ => None,
        };
        let digest =
            service.map(|service| service.digest.clone()).or_else(|| by_claim.map(|claim| claim.digest.clone()));
        StateResponse {
            state: inner.state_of(&held),
            pod_uid: inner.pod_uid.clone(),
            claim_id: by_claim.map(|claim| claim.id.clone()),
            revision: claim.as_ref().map(|claim| claim.revision.clone()).filter(|revision| !revision.is_empty()),
            digest,
            error: match &held {
                Held::Failed(error) => Some(error.to_string()),
                _ => None,
            },
            phases: service.map(|service| service.phases),
            metadata: service.map(|service| metadata_json(service.model.metadata())),
            in_flight: u32::try_from(inner.gate.taken()).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
impl Serving {
    /// Serves any backend to requests without a revision, so that a model's faults can be tested through the whole server.
    pub(crate) fn serve_backend(
        &self,
        backend: Box<dyn model_wrapper_protocol::Backend>,
        spec: &ModelSpec,
    ) -> Result<(), ModelError> {
        let loaded =
            Loaded { backend, digest: String::new(), external: Vec::new(), phases: Phases::default(), size: 0 };
        let model = ServedModel::start(loaded, spec, self.inner.gate.clone(), self.inner.metrics.clone())?;
        let (identity, phases) = (Identity::Anonymous, Phases::default());
        let service = Service { model: Arc::new(model), identity, digest: String::new(), phases };
        self.inner.enter(Held::Serving(Arc::new(service)));
        Ok(())
    }
}

// === impl Identity ===

impl Identity {
    /// Whether a request for this revision (`None`: for no one in particular) is for this wrapper.
    fn answers(&self, wanted: Option<&str>) -> bool {
        match (self, wanted) {
            (Self::Claimed(own) | Self::Given(own), Some(wanted)) => own == wanted,
            (Self::Unplaced(own), Some(wanted)) => wanted.split_once('/').is_some_and(|(_, revision)| revision == own),
            (Self::Anonymous, Some(_)) | (Self::Claimed(_), None) => false,
            (Self::Given(_) | Self::Unplaced(_) | Self::Anonymous, None) => true,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Claimed(own) | Self::Given(own) | Self::Unplaced(own) => own,
            Self::Anonymous => "no revision",
        }
    }
}

// === impl Inner ===

impl Inner {
    /// Loads a model and serves it, or notes why it cannot be.
    fn load(&self, spec: &ModelSpec, identity: impl FnOnce(&str) -> Identity) -> Result<(), ModelError> {
        let served = load(&self.runtime, spec).and_then(|loaded| {
            let (digest, phases, size) = (loaded.digest.clone(), loaded.phases, loaded.size);
            let model = ServedModel::start(loaded, spec, self.gate.clone(), self.metrics.clone())?;
            let identity = identity(&digest);
            Ok((Service { model: Arc::new(model), identity, digest, phases }, size))
        });
        match served {
            Ok((service, size)) => {
                self.metrics.load_seconds.set(service.phases.total_us as f64 / 1e6);
                self.metrics.passed(Milestone::Loaded, SystemTime::now());
                tracing::info!(
                    model = spec.name,
                    digest = service.digest,
                    load_us = service.phases.total_us,
                    "serving"
                );
                self.enter(Held::Serving(Arc::new(service)));
                if size >= LARGE_MODEL {
                    release_unused_memory();
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(model = spec.name, %error, "the model cannot be loaded");
                self.enter(Held::Failed(error.to_string().into()));
                Err(error)
            }
        }
    }

    fn enter(&self, held: Held) {
        self.metrics.enter(self.state_of(&held));
        self.held.send_replace(held);
    }

    fn stop(&self, stop: Stop) {
        self.gate.stop(stop);
        self.metrics.enter(WrapperState::Draining);
    }

    fn state_of(&self, held: &Held) -> WrapperState {
        match held {
            _ if self.gate.stopped().is_some() => WrapperState::Draining,
            Held::Nothing => WrapperState::Idle,
            Held::Loading => WrapperState::Loading,
            Held::Serving(_) => WrapperState::Serving,
            Held::Failed(_) => WrapperState::Failed,
        }
    }
}

fn misdirected(held: &str, wanted: Option<&str>) -> InferError {
    InferError::Misdirected { held: held.to_owned(), wanted: wanted.unwrap_or("none").to_owned() }
}

fn unavailable(reason: Unavailable, message: &str) -> InferError {
    InferError::Unavailable { reason, message: message.to_owned() }
}
