//! What the autoscaler asks of a replica itself: its admin port.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use model_wrapper_admin::{
    AdminClient, AdminError, DrainResponse, SpecializeRequest, SpecializeResponse, StateResponse,
};

/// The admin port of replicas.
///
/// A trait so that faults can be put between the autoscaler and real replicas; the client of the admin port implements
/// it.
pub trait ReplicaAdmin: Clone + Send + Sync + 'static {
    /// Opens a connection ahead of its use. A failure shows when the connection is needed.
    fn prepare(&self, address: SocketAddr) -> impl Future<Output = ()> + Send;

    /// Closes the connections to a replica that is gone.
    fn forget(&self, address: SocketAddr);

    /// Loads a model for a claim.
    fn specialize(
        &self,
        address: SocketAddr,
        request: &SpecializeRequest,
        token: &str,
    ) -> impl Future<Output = Result<SpecializeResponse, AdminError>> + Send;

    /// What the replica is doing.
    fn state(&self, address: SocketAddr) -> impl Future<Output = Result<StateResponse, AdminError>> + Send;

    /// Takes no new requests from now on; returns when none is left or `deadline` has passed.
    fn drain(
        &self,
        address: SocketAddr,
        deadline: Duration,
        token: &str,
    ) -> impl Future<Output = Result<DrainResponse, AdminError>> + Send;
}

impl ReplicaAdmin for AdminClient {
    async fn prepare(&self, address: SocketAddr) {
        if let Err(error) = Self::prepare(self, address).await {
            tracing::debug!(%address, %error, "no connection ahead of a claim");
        }
    }

    fn forget(&self, address: SocketAddr) {
        Self::forget(self, address);
    }

    async fn specialize(
        &self,
        address: SocketAddr,
        request: &SpecializeRequest,
        token: &str,
    ) -> Result<SpecializeResponse, AdminError> {
        Self::specialize(self, address, request, Some(token)).await
    }

    async fn state(&self, address: SocketAddr) -> Result<StateResponse, AdminError> {
        Self::state(self, address).await
    }

    async fn drain(&self, address: SocketAddr, deadline: Duration, token: &str) -> Result<DrainResponse, AdminError> {
        self.wait_for_drain(address, deadline, Some(token)).await
    }
}
