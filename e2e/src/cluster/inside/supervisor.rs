//! The supervisor: starts every component in order, tells `up` when the cluster is usable, and then serves the relay and the
//! control socket for as long as the cluster lives.

use std::net::TcpListener as StdTcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::{TcpListener, UnixStream};

use super::super::handshake::{self, Report};
use super::super::settings::Place;
use super::rig::Rig;
use super::{relay, server, watch};
use crate::process::Progress;

/// The whole life of the supervisor.
///
/// # Errors
/// When the cluster cannot be started, or the `up` that starts it ends. The processes of the cluster end with the supervisor.
pub async fn run(place: &Place, knative_dir: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (relay, mut up) = handed_in().context("this subcommand is for the supervisor inside a cluster's namespaces")?;
    let progress = Progress::stderr();
    let relay = tokio::spawn(relay::serve(relay));
    let started = tokio::select! {
        started = Rig::start(place, knative_dir, &progress) => started,
        Err(gone) = handshake::kept(&mut up) => return Err(gone),
    };
    let rig = match started {
        Ok(rig) => Arc::new(rig),
        Err(error) => {
            handshake::report(&mut up, &Report::Failed(format!("{error:#}"))).await?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let control = server::bind()?;
    handshake::report(&mut up, &Report::Ready).await?;
    tokio::select! {
        result = relay => result?.context("the relay to the API server ended")?,
        result = server::serve(control, Arc::clone(&rig)) => result.context("the control socket ended")?,
        gone = orphaned(up) => return Err(gone),
        never = watch::deaths(rig.processes(), &progress) => match never {},
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns when the `up` that started the cluster ends before it said that the cluster is to stay.
async fn orphaned(mut up: UnixStream) -> anyhow::Error {
    match handshake::kept(&mut up).await {
        Ok(()) => std::future::pending().await,
        Err(gone) => gone,
    }
}

/// What process 1 passed on: the relay's listener as standard input, the line to `up` as standard output.
fn handed_in() -> anyhow::Result<(TcpListener, UnixStream)> {
    let relay = StdTcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let up = StdUnixStream::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    relay.set_nonblocking(true).context("standard input is no socket")?;
    up.set_nonblocking(true).context("standard output is no socket")?;
    Ok((TcpListener::from_std(relay)?, UnixStream::from_std(up)?))
}
