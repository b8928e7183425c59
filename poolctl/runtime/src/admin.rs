//! The listener that operators and Prometheus read: `/metrics` and `/healthz`.

mod connection;
mod standing;

use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Shutdown;
use connection::Connection;
use standing::Standing;

/// Connections at a time: an autoscaler holds two, Prometheus, probes and people one each. The bound leaves descriptors to
/// everything else that the process does.
const MAX_CONNECTIONS: usize = 64;

/// Longest that a request may take to arrive whole. They are small: a metrics request has 200 bytes, a claim 1 KB.
const ARRIVAL: Duration = Duration::from_secs(10);

/// How long answers may be on their way once the server stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Routes for `/metrics` (Prometheus text format) and `/healthz` (200 while the process runs).
pub fn router(registry: Registry) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).with_state(registry)
}

/// Serves `router` over HTTP/1.1 until shutdown is requested and requests in flight are answered, or a second later.
///
/// A client may be silent for as long as it likes, but must send a request that it began within 10 s, with a body
/// of at most 32 KiB, and takes no place from others: of more than 64 connections the one that has been without an answer under way for longest is closed.
pub async fn serve<L: Listener>(listener: L, router: Router, shutdown: Shutdown) {
    serve_with(ARRIVAL, listener, router, shutdown).await;
}

async fn serve_with<L: Listener>(arrival: Duration, mut listener: L, router: Router, shutdown: Shutdown) {
    let (tasks, over) = (TaskTracker::new(), CancellationToken::new());
    let mut open = Vec::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => break,
        };
        if !has_room(&mut open) {
            tracing::debug!(MAX_CONNECTIONS, "a connection was refused: all others are being answered");
            continue;
        }
        let standing = Arc::new(Standing::default());
        open.push(Arc::downgrade(&standing));
        let connection = Connection { standing, router: router.clone(), arrival };
        let (shutdown, over) = (shutdown.clone(), over.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = connection.serve(stream, shutdown) => {}
                () = over.cancelled() => {}
            }
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(FAREWELL, tasks.wait()).await.is_err() {
        tracing::debug!(open = tasks.len(), "closing admin connections that did not finish in time");
        over.cancel();
        tasks.wait().await;
    }
}

/// Whether there is a place for one more; the connection that has done nothing for longest makes room for it.
fn has_room(open: &mut Vec<Weak<Standing>>) -> bool {
    if open.len() < MAX_CONNECTIONS {
        return true;
    }
    open.retain(|standing| standing.strong_count() > 0);
    if open.len() < MAX_CONNECTIONS {
        return true;
    }
    let standings = open.iter().enumerate().filter_map(|(index, standing)| Some((index, standing.upgrade()?)));
    let waiting = standings.filter_map(|(index, standing)| Some((standing.waiting_since()?, index, standing)));
    let Some((_, index, standing)) = waiting.min_by_key(|(since, ..)| *since) else { return false };
    standing.displace();
    open.swap_remove(index);
    true
}

async fn metrics(State(registry): State<Registry>) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz() -> &'static str {
    "ok"
}

#[cfg(test)]
mod tests;
