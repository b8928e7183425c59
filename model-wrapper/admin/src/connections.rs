//! HTTP/1.1 connections to admin ports, opened before they are needed.
//!
//! hyper-util's pooled client cannot connect without a request, and a claim should not pay for the TCP handshake.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::{AdminAddress, AdminError};

/// Idle connections kept per replica. Specialize and drain never overlap; the second lets a state query run beside them.
const MAX_IDLE_PER_ADDRESS: usize = 2;

/// Idle connections kept in all: a pool of some thousand idle replicas; above it a claim connects when it comes.
const MAX_IDLE: usize = 8192;

type Sender = SendRequest<Full<Bytes>>;

/// Connections by address.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    idle: Arc<Mutex<HashMap<AdminAddress, Vec<Sender>>>>,
}

impl Connections {
    /// Opens a connection for later, unless one waits already.
    pub(crate) async fn prepare(&self, address: &AdminAddress) -> Result<(), AdminError> {
        let waiting = {
            let mut idle = self.idle.lock();
            if idle.len() >= MAX_IDLE && !idle.contains_key(address) {
                return Ok(());
            }
            idle.get_mut(address).is_some_and(|senders| {
                senders.retain(|sender| !sender.is_closed());
                !senders.is_empty()
            })
        };
        if !waiting {
            let sender = self.connect(address).await?;
            self.put_back(address, sender);
        }
        Ok(())
    }

    /// Closes what is kept for an address.
    pub(crate) fn forget(&self, address: &AdminAddress) {
        self.idle.lock().remove(address);
    }

    /// Sends a request: over a kept connection where one lives, else over a new one. A kept connection that turns out dead
    /// before the request went out costs one reconnect, never a repeated request.
    pub(crate) async fn send(
        &self,
        address: &AdminAddress,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Lease), AdminError> {
        while let Some(mut sender) = self.take(address) {
            // The previous answer's last byte may be read before its connection has turned around.
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, self.lease(address, sender))),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(AdminError::Interrupted(describe(&failed.into_error()))),
                },
            }
        }
        let mut sender = self.connect(address).await?;
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, self.lease(address, sender))),
            Err(mut failed) => match failed.take_message() {
                Some(_) => Err(AdminError::Unreachable(describe(&failed.into_error()))),
                None => Err(AdminError::Interrupted(describe(&failed.into_error()))),
            },
        }
    }

    fn lease(&self, address: &AdminAddress, sender: Sender) -> Lease {
        Lease { connections: self.clone(), address: address.clone(), sender }
    }

    fn take(&self, address: &AdminAddress) -> Option<Sender> {
        let mut idle = self.idle.lock();
        let senders = idle.get_mut(address)?;
        let live = loop {
            match senders.pop() {
                Some(sender) if sender.is_closed() => {}
                other => break other,
            }
        };
        if senders.is_empty() {
            idle.remove(address);
        }
        live
    }

    fn put_back(&self, address: &AdminAddress, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        let senders = idle.entry(address.clone()).or_default();
        if senders.len() < MAX_IDLE_PER_ADDRESS {
            senders.push(sender);
        }
    }

    async fn connect(&self, address: &AdminAddress) -> Result<Sender, AdminError> {
        let unreachable = |error: std::io::Error| AdminError::Unreachable(format!("{address}: {error}"));
        match address {
            AdminAddress::Tcp(socket) => {
                let stream = TcpStream::connect(socket).await.map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                self.shake_hands(address, stream).await
            }
            AdminAddress::Path(_) | AdminAddress::Abstract(_) => {
                let path = address.socket_path().unwrap_or_default();
                self.shake_hands(address, UnixStream::connect(path).await.map_err(unreachable)?).await
            }
        }
    }

    async fn shake_hands<S>(&self, address: &AdminAddress, stream: S) -> Result<Sender, AdminError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| AdminError::Unreachable(format!("{address}: {}", describe(&error))))?;
        let (idle, address) = (Arc::downgrade(&self.idle), address.clone());
        tokio::spawn(async move {
            // An error here also reaches the request that was under way, if any.
            let _ = connection.await;
            if let Some(idle) = idle.upgrade() {
                let mut idle = idle.lock();
                if let Some(senders) = idle.get_mut(&address) {
                    senders.retain(|sender| !sender.is_closed());
                    if senders.is_empty() {
                        idle.remove(&address);
                    }
                }
            }
        });
        Ok(sender)
    }

    #[cfg(test)]
    pub(crate) fn idle_addresses(&self) -> usize {
        self.idle.lock().len()
    }
}

/// A connection in use; given back once its response was read to the end.
pub(crate) struct Lease {
    connections: Connections,
    address: AdminAddress,
    sender: Sender,
}

impl Lease {
    /// Keeps the connection for the next request.
    pub(crate) fn give_back(self) {
        self.connections.put_back(&self.address, self.sender);
    }
}

/// hyper's message with its cause, which alone says what happened.
fn describe(error: &hyper::Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
