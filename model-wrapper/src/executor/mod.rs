//! Runs a model's requests, one run at a time.
//!
//! A session is not shared between threads, so each model has one thread and a bounded queue before it. A request leaves the
//! queue when its deadline passes or its caller leaves; if it runs by then, the run is cancelled. Requests of a model that is
//! known to be very brief ([`pace`]) run where they arrive while the model is free, and the thread only watches their deadlines.

mod batch;
mod pace;
mod queue;
mod window;
mod worker;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model_wrapper_protocol::{Backend, InferError, InferRequest, Tensor};
use parking_lot::Mutex;

use crate::metrics::WrapperMetrics;
use queue::{Shared, Submitted};

pub(crate) use batch::obstacle;
pub use window::Batching;

#[cfg(test)]
mod tests;

/// Bounds of an executor.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorSettings {
    /// Most requests that wait; one more is refused as busy.
    pub queue_length: usize,
    /// Several requests as one, where wanted.
    pub batching: Option<Batching>,
}

/// Where a request's time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for the model, for others of its batch included.
    pub queue: Duration,
    /// The run.
    pub infer: Duration,
}

/// A model and its thread. Dropped, it cancels the run in progress and waits for the thread.
pub struct Executor {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) type Outcome = Result<(Vec<Tensor>, Timings), InferError>;

// === impl Executor ===

impl Executor {
    /// Starts the model's thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        backend: Box<dyn Backend>,
        settings: ExecutorSettings,
        metrics: WrapperMetrics,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(backend, settings, metrics));
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("model".to_owned()).spawn(move || worker::work(&of_thread))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Runs a request. Dropping the future takes it out of the queue or cancels its run.
    pub async fn infer(&self, request: InferRequest, deadline: Instant) -> Outcome {
        let (ticket, answer) = match self.shared.submit(request, deadline) {
            Submitted::Done(outcome) => return outcome,
            Submitted::Queued(ticket, answer) => (ticket, answer),
        };
        let _leaves = Leaves { shared: &self.shared, ticket };
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(InferError::Internal("the model's thread ended".to_owned())),
            Err(_) => Err(InferError::DeadlineExceeded),
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.lock().take() {
            // Its panics were contained and logged; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// Takes a request back when its caller stops waiting; for an answered one it does nothing.
struct Leaves<'e> {
    shared: &'e Shared,
    ticket: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.shared.leave(self.ticket);
    }
}
