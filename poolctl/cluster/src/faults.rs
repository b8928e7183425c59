//! A cluster whose replies are late, lost or repeated on demand, or that stops answering at all.
//!
//! Claims must hold their invariants whatever a reply does. This wraps a real [`Cluster`] and decides, call by call, what
//! becomes of the request and of its reply. Faults that have no counterpart in the trait (a corrupted record, say) are left
//! out: no store we know of has them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;

use crate::{
    Cluster, ClusterError, Deletion, Expected, NewReplica, Patch, Replica, ReplicaEvent, ReplicaUid, Transition,
};

/// An operation of a [`Cluster`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Cluster::get`]
    Get,
    /// [`Cluster::create`]
    Create,
    /// [`Cluster::transition`]
    Transition,
    /// [`Cluster::delete`]
    Delete,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is served.
    None,
    /// The reply comes this much later; the effect does not.
    Delay(Duration),
    /// No effect, and no reply but a timeout.
    LoseRequest,
    /// The effect happens; the reply is a timeout.
    LoseReply,
    /// A retry below us: the effect is asked for twice, the second reply is the one that is seen.
    Repeat,
    /// The caller dies before the request goes out: no effect, and it never resolves.
    HaltBefore,
    /// The caller dies after the effect: it never resolves.
    HaltAfter,
}

impl Fault {
    /// Applies the fault to `call`, whose reply is `lost` when nothing comes back.
    pub async fn apply<T, F: Future<Output = T>>(self, call: impl Fn() -> F, lost: impl FnOnce() -> T) -> T {
        match self {
            Self::None => call().await,
            Self::Delay(by) => {
                let reply = call().await;
                tokio::time::sleep(by).await;
                reply
            }
            Self::LoseRequest => lost(),
            Self::LoseReply => {
                call().await;
                lost()
            }
            Self::Repeat => {
                call().await;
                call().await
            }
            Self::HaltBefore => std::future::pending().await,
            Self::HaltAfter => {
                call().await;
                std::future::pending().await
            }
        }
    }
}

type Plan = Arc<dyn Fn(Operation) -> Fault + Send + Sync>;

/// A [`Cluster`] with faults. Watches are served as they are: a watch that loses changes would break the trait's promise.
#[derive(Clone)]
pub struct FaultyCluster<C> {
    inner: C,
    plan: Plan,
}

impl<C: Cluster> FaultyCluster<C> {
    /// Wraps `inner`; `plan` is asked once for each call, in the order of the calls.
    #[must_use]
    pub fn new(inner: C, plan: impl Fn(Operation) -> Fault + Send + Sync + 'static) -> Self {
        Self { inner, plan: Arc::new(plan) }
    }
}

fn no_reply() -> ClusterError {
    ClusterError::Unavailable("no reply in time (injected)".to_owned())
}

impl<C: Cluster> Cluster for FaultyCluster<C> {
    fn watch(&self) -> impl Stream<Item = ReplicaEvent> + Send + Unpin + 'static {
        self.inner.watch()
    }

    async fn get(&self, uid: &ReplicaUid) -> Result<Option<Replica>, ClusterError> {
        let fault = (self.plan)(Operation::Get);
        fault.apply(|| self.inner.get(uid), || Err(no_reply())).await
    }

    async fn create(&self, new: NewReplica) -> Result<Replica, ClusterError> {
        let fault = (self.plan)(Operation::Create);
        fault.apply(|| self.inner.create(new.clone()), || Err(no_reply())).await
    }

    async fn transition(&self, uid: &ReplicaUid, expected: &Expected, patch: &Patch) -> Transition {
        let fault = (self.plan)(Operation::Transition);
        fault.apply(|| self.inner.transition(uid, expected, patch), || Transition::Unknown).await
    }

    async fn delete(&self, uid: &ReplicaUid, expected: &Expected) -> Deletion {
        let fault = (self.plan)(Operation::Delete);
        fault.apply(|| self.inner.delete(uid, expected), || Deletion::Unknown).await
    }
}
