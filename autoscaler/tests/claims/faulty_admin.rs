//! Admin ports whose replies meet faults, in front of real ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use autoscaler::ReplicaAdmin;
use model_wrapper_admin::{
    AdminClient, AdminError, DrainResponse, SpecializeRequest, SpecializeResponse, StateResponse,
};
use poolctl_cluster::faults::Fault;

/// A call to an admin port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Specialize,
    State,
    Drain,
}

#[derive(Clone)]
pub(crate) struct FaultyAdmin {
    inner: AdminClient,
    plan: Arc<dyn Fn(Call) -> Fault + Send + Sync>,
}

impl FaultyAdmin {
    pub(crate) fn new(inner: AdminClient, plan: impl Fn(Call) -> Fault + Send + Sync + 'static) -> Self {
        Self { inner, plan: Arc::new(plan) }
    }
}

fn no_reply<T>() -> Result<T, AdminError> {
    Err(AdminError::Interrupted("no reply (injected)".to_owned()))
}

impl ReplicaAdmin for FaultyAdmin {
    async fn prepare(&self, address: SocketAddr) {
        ReplicaAdmin::prepare(&self.inner, address).await;
    }

    fn forget(&self, address: SocketAddr) {
        ReplicaAdmin::forget(&self.inner, address);
    }

    async fn specialize(
        &self,
        address: SocketAddr,
        request: &SpecializeRequest,
        token: &str,
    ) -> Result<SpecializeResponse, AdminError> {
        let call = || ReplicaAdmin::specialize(&self.inner, address, request, token);
        (self.plan)(Call::Specialize).apply(call, no_reply).await
    }

    async fn state(&self, address: SocketAddr) -> Result<StateResponse, AdminError> {
        (self.plan)(Call::State).apply(|| ReplicaAdmin::state(&self.inner, address), no_reply).await
    }

    async fn drain(&self, address: SocketAddr, deadline: Duration, token: &str) -> Result<DrainResponse, AdminError> {
        (self.plan)(Call::Drain).apply(|| ReplicaAdmin::drain(&self.inner, address, deadline, token), no_reply).await
    }
}
