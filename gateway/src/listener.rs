//! The listeners and the serving threads.
//!
//! Each thread has its own runtime, its own listener on the shared address (the kernel spreads connections over them) and
//! its own connections to replicas: a warm request starts and ends on one thread.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use poolctl_runtime::Shutdown;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

use crate::connection::{self, Drain};
use crate::gateway::{Gateway, Inner, Worker};
use crate::model::Model;

/// Connections that the kernel keeps for a thread that is busy.
const BACKLOG: i32 = 4096;

/// Pause after a failed accept: usually no file descriptor is left, and one must close first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often replicas are looked after.
const TEND_INTERVAL: Duration = Duration::from_millis(100);

/// Bound sockets, one per serving thread.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<TcpListener>,
    addr: SocketAddr,
}

impl Listeners {
    /// Where they listen; a port of 0 was replaced by the one that the system gave.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Gateway {
    /// Binds `addr` for every serving thread.
    ///
    /// # Errors
    /// The address is in use or not one of this machine.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<Listeners> {
        // Sockets that share their port would also share it with another gateway: a plain one tells.
        drop(TcpListener::bind(addr)?);
        let stall = self.inner.settings.limits.answer_stall_timeout;
        let first = shared_socket(addr, stall)?;
        let addr = first.local_addr()?;
        let mut sockets = vec![first];
        for _ in 1..self.inner.settings.threads {
            sockets.push(shared_socket(addr, stall)?);
        }
        Ok(Listeners { sockets, addr })
    }

    /// Serves until shutdown is requested and the requests in flight are answered, or the drain timeout has passed.
    ///
    /// # Errors
    /// A serving thread could not be started.
    pub async fn serve(&self, listeners: Listeners, shutdown: Shutdown) -> io::Result<()> {
        let drain_timeout = self.inner.settings.limits.drain_timeout;
        let mut threads = Vec::new();
        for (index, socket) in listeners.sockets.into_iter().enumerate() {
            let worker = Arc::new(Worker {
                inner: Arc::clone(&self.inner),
                index,
                timers: Arc::default(),
                departures: Arc::default(),
            });
            threads.push(start_thread(worker, socket, shutdown.clone(), drain_timeout)?);
        }
        let tending = tokio::spawn(tend(Arc::clone(&self.inner)));
        shutdown.requested().await;
        let held =
            tokio::spawn(end_waits_after(Arc::clone(&self.inner), self.inner.settings.limits.held_drain_timeout));
        for thread in threads {
            // An error means that the thread is gone, which is what is waited for.
            let _ = thread.await;
        }
        tending.abort();
        held.abort();
        Ok(())
    }
}

/// A listening socket, one of several on its address. The kernel ends a connection whose client takes no byte for `stall`.
fn shared_socket(addr: SocketAddr, stall: Duration) -> io::Result<TcpListener> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // Accepted connections inherit it: it costs none of them anything. 0 would leave it to the system, whose type is signed.
    let stall = stall.as_millis().clamp(1, i32::MAX as u128) as u32;
    sockopt::set_tcp_user_timeout(&socket, stall)?;
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Runs a serving thread; the receiver resolves when it has ended.
fn start_thread(
    worker: Arc<Worker>,
    socket: TcpListener,
    shutdown: Shutdown,
    drain_timeout: Duration,
) -> io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, wait) = oneshot::channel();
    std::thread::Builder::new().name(format!("gateway-{}", worker.index)).spawn(move || {
        runtime.block_on(accept(worker, socket, shutdown, drain_timeout));
        // Ends what is still open: its time is over.
        drop(runtime);
        let _ = ended.send(());
    })?;
    Ok(wait)
}

async fn accept(worker: Arc<Worker>, socket: TcpListener, shutdown: Shutdown, drain_timeout: Duration) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listener could not be used");
            return;
        }
    };
    // They end with the thread's runtime.
    tokio::spawn(Arc::clone(&worker.timers).keep_ticking());
    tokio::spawn(Arc::clone(&worker.departures).keep_sending());
    let drain = Arc::new(Drain::default());
    let connections = TaskTracker::new();
    let mut stopping = std::pin::pin!(shutdown.requested());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.as_mut() => break,
        };
        match accepted {
            Ok((stream, peer)) => admit(&worker, stream, peer, &drain, &connections),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    admit_backlog(&worker, listener, &drain, &connections);
    drain.begin();
    connections.close();
    if tokio::time::timeout(drain_timeout, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "closing connections that did not finish in time");
    }
}

/// Takes the clients whose connection the kernel took on our behalf, and closes the listener.
fn admit_backlog(
    worker: &Arc<Worker>,
    listener: tokio::net::TcpListener,
    drain: &Arc<Drain>,
    connections: &TaskTracker,
) {
    // The socket itself is asked: what it has told the runtime is older, and whoever is left behind is reset.
    let listener = match listener.into_std() {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "connections that were not accepted yet are reset");
            return;
        }
    };
    loop {
        let accepted = listener.accept().and_then(|(stream, peer)| {
            stream.set_nonblocking(true)?;
            Ok((tokio::net::TcpStream::from_std(stream)?, peer))
        });
        match accepted {
            Ok((stream, peer)) => admit(worker, stream, peer, drain, connections),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // One client left, or a signal came; the others are still there.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, "connections that were not accepted yet are reset");
                return;
            }
        }
    }
}

fn admit(
    worker: &Arc<Worker>,
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    drain: &Arc<Drain>,
    connections: &TaskTracker,
) {
    let metrics = &worker.inner.metrics;
    if metrics.connections.get() >= i64::try_from(worker.inner.settings.limits.max_connections).unwrap_or(i64::MAX) {
        metrics.connections_refused.inc();
        return;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a client left before it was served");
        return;
    }
    let open = OpenConnection::new(Arc::clone(&worker.inner));
    let serving = connection::serve(Arc::clone(worker), stream, peer, Arc::clone(drain));
    connections.spawn(async move {
        serving.await;
        drop(open);
    });
}

/// A client connection in the gauge, until dropped.
struct OpenConnection(Arc<Inner>);

impl OpenConnection {
    fn new(inner: Arc<Inner>) -> Self {
        inner.metrics.connections.inc();
        Self(inner)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.metrics.connections.dec();
    }
}

/// Regular upkeep of all models.
async fn tend(inner: Arc<Inner>) {
    let mut tick = tokio::time::interval(TEND_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        inner.table.load().models().for_each(Model::tend);
    }
}

/// Gives held requests a while to be served during shutdown.
async fn end_waits_after(inner: Arc<Inner>, patience: Duration) {
    tokio::time::sleep(patience).await;
    inner.table.load().models().for_each(|model| model.end_waits());
}
