//! The specialize call.

use std::panic::{AssertUnwindSafe, catch_unwind};

use model_wrapper_admin::{ConflictResponse, SpecializeRequest, SpecializeResponse};
use model_wrapper_protocol::metadata_json;

use super::claim::{Claim, Verdict};
use super::{Held, Identity, ModelSpec, Serving};

/// Holder of a wrapper that was started with a model, in place of a claim's id.
pub const STARTED_WITH_MODEL: &str = "--model";

/// Why a specialize call was not followed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Another claim holds the wrapper.
    #[error("held by another claim")]
    Conflict(ConflictResponse),
    /// The call is for another replica.
    #[error("{0}")]
    WrongReplica(String),
    /// The model cannot be loaded as asked.
    #[error("{0}")]
    Rejected(String),
    /// The wrapper takes no claim any more.
    #[error("this replica is stopping and takes no claim")]
    Stopping,
}

impl Serving {
    /// Claims this wrapper and loads the model. The same claim may call again, while it loads too: all its calls get the one
    /// outcome. If the caller leaves, the load goes on.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn specialize(&self, request: &SpecializeRequest) -> Result<SpecializeResponse, Refusal> {
        match &self.inner.pod_uid {
            Some(own) if *own == request.pod_uid => {}
            Some(own) => {
                return Err(Refusal::WrongReplica(format!(
                    "this is replica {own}, the call is for {}",
                    request.pod_uid
                )));
            }
            None => {
                let message = "this replica was started without --pod-uid, so no call can be for it";
                return Err(Refusal::WrongReplica(message.to_owned()));
            }
        }
        let claim =
            Claim { id: request.claim_id.clone(), revision: request.revision.clone(), digest: request.digest.clone() };
        // Checked before the lock is taken: a call that can never work must not spend the wrapper.
        let spec = self.check(request)?;
        let mut outcome = self.inner.held.subscribe();
        let verdict = {
            let mut lock = self.inner.claim.lock();
            if lock.holder().is_none() && self.inner.gate.stopped().is_some() {
                return Err(Refusal::Stopping);
            }
            let verdict = lock.request(&claim);
            if verdict == Verdict::Conflict {
                return Err(conflict(lock.holder().unwrap_or(&claim)));
            }
            verdict
        };
        if verdict == Verdict::Load {
            self.inner.enter(Held::Loading);
            let inner = self.inner.clone();
            let identity = format!("{}@{}", request.revision, request.digest);
            // The outcome reaches every call of the claim through `held`.
            tokio::task::spawn_blocking(move || {
                let load = AssertUnwindSafe(|| inner.load(&spec, |_| Identity::Claimed(identity)).is_ok());
                if catch_unwind(load).is_err() {
                    inner.enter(Held::Failed("the runtime panicked while it loaded the model".into()));
                }
            });
        }
        let service = loop {
            match &*outcome.borrow_and_update() {
                Held::Serving(service) => break service.clone(),
                Held::Failed(error) => return Err(Refusal::Rejected(error.to_string())),
                Held::Nothing | Held::Loading => {}
            }
            outcome.changed().await.map_err(|_| Refusal::Stopping)?;
        };
        Ok(SpecializeResponse {
            claim_id: claim.id,
            phases: service.phases,
            metadata: metadata_json(service.model.metadata()),
        })
    }

    fn check(&self, request: &SpecializeRequest) -> Result<ModelSpec, Refusal> {
        if request.claim_id.is_empty() || !request.revision.contains('/') {
            let message = "claimId must not be empty and revision must be NAMESPACE/REVISION";
            return Err(Refusal::Rejected(message.to_owned()));
        }
        ModelSpec::of_request(request).map_err(|error| Refusal::Rejected(error.to_string()))
    }
}

fn conflict(holder: &Claim) -> Refusal {
    Refusal::Conflict(ConflictResponse {
        error: format!("this replica is held by claim {} for {}", holder.id, holder.revision),
        claim_id: holder.id.clone(),
        revision: holder.revision.clone(),
    })
}
