//! The control socket: what can be asked of a running cluster.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::super::control::{self, Request, Response, SOCKET};
use super::relay;
use super::rig::Rig;

/// Conversations at once; those above wait. Dialled connections are among them: a load test opens hundreds.
const CONNECTIONS: usize = 2048;

/// An address that does not answer is given up.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// Opens the socket. Its folder is in the cluster's private `/run`; only root gets there.
pub(super) fn bind() -> anyhow::Result<UnixListener> {
    let path = Path::new(SOCKET);
    std::fs::create_dir_all(path.parent().expect("the socket is in a folder"))
        .context("cannot make the socket's folder")?;
    UnixListener::bind(path).with_context(|| format!("cannot listen at {SOCKET}"))
}

/// Serves it.
pub(super) async fn serve(listener: UnixListener, rig: Arc<Rig>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, _) = listener.accept().await?;
        let rig = Arc::clone(&rig);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &rig).await {
                tracing::debug!(%error, "a conversation on the control socket ended early");
            }
            drop(place);
        });
    }
}

async fn converse(mut stream: UnixStream, rig: &Rig) -> anyhow::Result<()> {
    let result = match control::receive(&mut stream).await? {
        Request::Status => Ok(Response::Status(rig.status())),
        Request::Stop(component) => rig.stop(&component).await.map(|()| Response::Done),
        Request::Start(component) => rig.start_component(&component).await.map(|()| Response::Done),
        Request::Dial(address) => match tokio::time::timeout(DIAL_DEADLINE, TcpStream::connect(address)).await {
            Ok(Ok(inside)) => {
                control::answer(&mut stream, &Response::Done).await?;
                relay::connect(stream, inside).await;
                return Ok(());
            }
            Ok(Err(error)) => Err(anyhow::Error::new(error).context(format!("cannot connect to {address}"))),
            Err(_) => Err(anyhow::anyhow!("{address} does not answer within {DIAL_DEADLINE:?}")),
        },
    };
    let response = result.unwrap_or_else(|error| Response::Failed(format!("{error:#}")));
    control::answer(&mut stream, &response).await
}
