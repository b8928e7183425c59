//! Performs tasks: concurrently, within bounds, each with an answer.

use std::time::{Duration, SystemTime};

use autoscaler_policy::claim::{CreateOutcome, DeleteOutcome, Event, GetOutcome, LoadOutcome, WriteOutcome};
use model_wrapper_admin::{AdminError, DrainClaims, TokenSigner};
use poolctl_cluster::{Cluster, ClusterError, Deletion, Transition};
use poolctl_runtime::{Clock, since_1970};
use tokio::sync::Semaphore;

use crate::admin::ReplicaAdmin;
use crate::leader::Task;
use crate::metrics::{EffectKind, Metrics};
use crate::settings::{EffectLimits, Settings};
use crate::translate;

/// Seconds that a token outlives what it is for: the clocks of two machines differ.
pub(crate) const TOKEN_LEEWAY_SECONDS: u64 = 30;

/// What acts on the outside.
pub(crate) struct Effects<C, A> {
    cluster: C,
    admin: A,
    signer: TokenSigner,
    clock: Clock,
    store_timeout: Duration,
    permits: [Semaphore; EffectKind::ALL.len()],
    metrics: Metrics,
}

/// Counts an effect from when it is asked for until it is done or given up.
struct Counted<'a> {
    metrics: &'a Metrics,
    kind: EffectKind,
}

impl<'a> Counted<'a> {
    fn new(metrics: &'a Metrics, kind: EffectKind) -> Self {
        metrics.effects.with_label_values(&[kind.as_str()]).inc();
        Self { metrics, kind }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.effects.with_label_values(&[self.kind.as_str()]).dec();
    }
}

impl Task {
    const fn kind(&self) -> EffectKind {
        match self {
            Self::Write { .. } | Self::Get { .. } | Self::Delete { .. } | Self::Create { .. } => EffectKind::Store,
            Self::Specialize { .. } => EffectKind::Specialize,
            Self::AskState { .. } | Self::Prepare { .. } | Self::Forget { .. } => EffectKind::Query,
            Self::Drain { .. } => EffectKind::Drain,
        }
    }
}

fn permits(limits: EffectLimits) -> [Semaphore; EffectKind::ALL.len()] {
    EffectKind::ALL.map(|kind| Semaphore::new(kind.limit(limits).clamp(1, Semaphore::MAX_PERMITS)))
}

impl<C: Cluster, A: ReplicaAdmin> Effects<C, A> {
    pub(crate) fn new(
        cluster: C,
        admin: A,
        signer: TokenSigner,
        (settings, clock, metrics): (&Settings, Clock, Metrics),
    ) -> Self {
        let store_timeout = settings.store_timeout;
        Self { cluster, admin, signer, clock, store_timeout, permits: permits(settings.limits), metrics }
    }

    pub(crate) fn cluster(&self) -> &C {
        &self.cluster
    }

    /// Does it, and says what came of it to whoever waits for that.
    pub(crate) async fn perform(&self, task: Task) -> Option<Event> {
        let kind = task.kind();
        let _counted = Counted::new(&self.metrics, kind);
        let _permit = self.permits[kind as usize].acquire().await;
        match task {
            Task::Write { ticket, uid, expected, patch } => {
                let write = self.cluster.transition(&uid, &expected, &patch);
                let transition = self.in_time(write).await.unwrap_or(Transition::Unknown);
                let outcome = translate::written(transition, self.clock);
                if outcome == WriteOutcome::Unknown {
                    tracing::warn!(replica = %uid, write = ?ticket.write, "no reply to a write: asking what became of it");
                }
                Some(Event::Written { ticket, outcome })
            }
            Task::Get { uid } => {
                let store_uid = translate::cluster_uid(&uid);
                let reply = self.in_time(self.cluster.get(&store_uid)).await;
                let outcome = reply.map_or(GetOutcome::Unknown, |reply| translate::got(reply, self.clock));
                Some(Event::Got { uid, outcome })
            }
            Task::Delete { uid, label, expected } => {
                let store_uid = translate::cluster_uid(&uid);
                let deletion = self.in_time(self.cluster.delete(&store_uid, &expected)).await;
                let outcome: DeleteOutcome = translate::deleted(deletion.unwrap_or(Deletion::Unknown));
                Some(Event::Deletion { uid, label, outcome })
            }
            Task::Create { claim, replica } => {
                let reply = self.in_time(self.cluster.create(replica)).await;
                let reply = reply.unwrap_or_else(|| Err(ClusterError::Unavailable("no reply in time".to_owned())));
                let outcome: CreateOutcome = translate::created(reply);
                Some(Event::Created { claim, outcome })
            }
            Task::Specialize { uid, claim, address, request, token, within } => {
                let token = self.signer.sign(&token);
                let call = self.admin.specialize(address, &request, &token);
                let reply = tokio::time::timeout(within, call).await.unwrap_or(Err(AdminError::Timeout(within)));
                if let Err(error) = &reply {
                    let revision = &request.revision;
                    tracing::warn!(replica = %uid, %address, %revision, %error, "the replica did not take the model");
                }
                let outcome: LoadOutcome = translate::loaded(reply);
                Some(Event::Specialized { uid, claim, outcome })
            }
            Task::AskState { uid, address } => {
                let outcome = translate::wrapper_state(self.admin.state(address).await);
                Some(Event::State { uid, outcome })
            }
            Task::Drain { uid, claim, address, within } => {
                // Signed when it is sent: it may have waited for its turn.
                let expires = since_1970(SystemTime::now()).as_secs().saturating_add(TOKEN_LEEWAY_SECONDS);
                let token = self.signer.sign_drain(&DrainClaims::new(uid.as_str(), expires));
                if let Err(error) = self.admin.drain(address, within, &token).await {
                    tracing::warn!(replica = %uid, %error, "the drain did not end well: deleting it as it is");
                }
                Some(Event::Drained { uid, claim })
            }
            Task::Prepare { address } => {
                self.admin.prepare(address).await;
                None
            }
            Task::Forget { address } => {
                self.admin.forget(address);
                None
            }
        }
    }

    async fn in_time<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.store_timeout, call).await.ok()
    }
}

/// A name that no other term of leadership has, in any process.
pub(crate) fn incarnation(identity: &str) -> String {
    format!("{identity}-{:x}-{:08x}", since_1970(SystemTime::now()).as_micros(), rand::random::<u32>())
}
