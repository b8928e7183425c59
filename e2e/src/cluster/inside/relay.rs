//! The API server on the caller's loopback: the listener belongs to the caller's network, what it accepts is connected inside.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::super::addresses::API;

/// Connections at once. kubectl, the tests and every controller that somebody runs outside take a handful each.
const CONNECTIONS: usize = 512;

/// Pause after a failed accept, which is mostly a shortage of descriptors that passes.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Relays until the listener fails for good, which it does not.
pub(super) async fn serve(listener: TcpListener) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((outside, _)) = listener.accept().await else {
            tokio::time::sleep(AFTER_FAILURE).await;
            continue;
        };
        tokio::spawn(async move {
            // A connection that cannot be made is closed, as the API server itself would when it is down.
            if let Ok(inside) = TcpStream::connect(API).await {
                connect(outside, inside).await;
            }
            drop(place);
        });
    }
}

/// Carries bytes both ways until both sides are done.
pub(super) async fn connect(mut one: impl AsyncRead + AsyncWrite + Unpin, mut other: TcpStream) {
    let _ = other.set_nodelay(true);
    // Either side may end at any time; each learns it from its own half.
    let _ = copy_bidirectional(&mut one, &mut other).await;
}
