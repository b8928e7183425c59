//! What callers and the model's thread share.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model_wrapper_protocol::{Backend, Cancel, InferError, InferRequest, Tensor};
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::pace::Pace;
use super::window::Window;
use super::{ExecutorSettings, Outcome, Timings, batch};
use crate::metrics::WrapperMetrics;

pub(super) struct Shared {
    state: Mutex<State>,
    /// Tells the model's thread that there may be something to do.
    pub(super) wake: Condvar,
    canceller: Arc<dyn Cancel>,
    queue_length: usize,
    /// Inputs that every request has.
    inputs: usize,
    pub(super) metrics: WrapperMetrics,
}

pub(super) struct State {
    pub(super) queue: VecDeque<Job>,
    /// The model; absent while it runs.
    pub(super) backend: Option<Box<dyn Backend>>,
    /// Tickets of the requests in the run in progress whose callers still wait.
    pub(super) running: Vec<u64>,
    /// When the run in progress must end, if it occupies its caller's thread: its caller cannot look at a clock.
    pub(super) inline_deadline: Option<Instant>,
    /// Whether a run happened on a caller's thread since the model's thread looked.
    pub(super) inline_since_look: bool,
    /// The model's thread sleeps until it is woken.
    pub(super) asleep: bool,
    pub(super) closed: bool,
    pub(super) window: Option<Window>,
    pace: Pace,
    next_ticket: u64,
}

/// A queued request.
pub(super) struct Job {
    pub(super) ticket: u64,
    pub(super) request: InferRequest,
    /// Rows it brings to a batch; none where it must run alone.
    pub(super) rows: Option<usize>,
    pub(super) queued: Instant,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// What became of a submitted request.
pub(super) enum Submitted {
    /// It is finished.
    Done(Outcome),
    /// It waits; the receiver gets its outcome.
    Queued(u64, oneshot::Receiver<Outcome>),
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(backend: Box<dyn Backend>, settings: ExecutorSettings, metrics: WrapperMetrics) -> Self {
        let (canceller, inputs) = (backend.canceller(), backend.metadata().inputs.len());
        Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                backend: Some(backend),
                running: Vec::new(),
                inline_deadline: None,
                inline_since_look: false,
                asleep: false,
                closed: false,
                window: settings.batching.map(Window::new),
                pace: Pace::default(),
                next_ticket: 0,
            }),
            wake: Condvar::new(),
            canceller,
            queue_length: settings.queue_length,
            inputs,
            metrics,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Runs a request here if the model is free and brief, else queues it.
    pub(super) fn submit(&self, request: InferRequest, deadline: Instant) -> Submitted {
        let now = Instant::now();
        if deadline <= now {
            return Submitted::Done(Err(InferError::DeadlineExceeded));
        }
        let mut state = self.lock();
        let rows = state.window.as_mut().and_then(|window| {
            window.arrived(now);
            batch::rows(&request, self.inputs)
        });
        let here = state.queue.is_empty() && state.pace.is_brief(size(&request.inputs)) && !state.would_wait(rows, now);
        if here && let Some(backend) = state.backend.take() {
            return Submitted::Done(self.run_inline(state, backend, &request, deadline));
        }
        if state.queue.len() >= self.queue_length {
            return Submitted::Done(Err(InferError::Busy { limit: self.queue_length }));
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let (answer, receiver) = oneshot::channel();
        state.queue.push_back(Job { ticket, request, rows, queued: now, deadline, answer });
        self.metrics.queue_depth.set(depth(&state.queue));
        drop(state);
        self.wake.notify_one();
        Submitted::Queued(ticket, receiver)
    }

    fn run_inline(
        &self,
        mut state: MutexGuard<'_, State>,
        mut backend: Box<dyn Backend>,
        request: &InferRequest,
        deadline: Instant,
    ) -> Outcome {
        backend.arm();
        state.inline_deadline = Some(deadline);
        state.inline_since_look = true;
        let watcher_sleeps = state.asleep;
        drop(state);
        if watcher_sleeps {
            self.wake.notify_one();
        }
        let started = Instant::now();
        let outputs = contained(backend.as_mut(), &request.inputs, &request.outputs);
        let infer = started.elapsed();
        self.metrics.queue_seconds.observe(0.0);
        self.metrics.infer_seconds.observe(infer.as_secs_f64());

        let mut state = self.lock();
        state.backend = Some(backend);
        state.inline_deadline = None;
        state.observe(infer, size(&request.inputs));
        let more = !state.queue.is_empty() || state.closed;
        drop(state);
        if more {
            self.wake.notify_one();
        }
        match outputs {
            Ok(outputs) => Ok((outputs, Timings { queue: Duration::ZERO, infer })),
            // Only its deadline cancels a run that its caller waits for on its own thread.
            Err(InferError::Cancelled) => Err(InferError::DeadlineExceeded),
            Err(error) => Err(error),
        }
    }

    /// The caller of `ticket` waits no longer.
    pub(super) fn leave(&self, ticket: u64) {
        let mut state = self.lock();
        if let Some(at) = state.queue.iter().position(|job| job.ticket == ticket) {
            state.queue.remove(at);
            self.metrics.queue_depth.set(depth(&state.queue));
        } else if let Some(at) = state.running.iter().position(|&running| running == ticket) {
            state.running.swap_remove(at);
            if state.running.is_empty() {
                // Under the lock: once the run's end was noted, this must not reach the next one.
                self.canceller.cancel();
            }
        }
    }

    /// Cancels the run in progress on a caller's thread if its deadline has passed.
    pub(super) fn cancel_overdue(&self, state: &State, now: Instant) {
        if state.inline_deadline.is_some_and(|deadline| deadline <= now) {
            self.canceller.cancel();
        }
    }

    /// Ends the thread after the run in progress, which is cancelled.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queue.clear();
        if state.backend.is_none() {
            self.canceller.cancel();
        }
        drop(state);
        self.wake.notify_one();
    }
}

// === impl State ===

impl State {
    /// A run of `bytes` of inputs took `infer`.
    pub(super) fn observe(&mut self, infer: Duration, bytes: usize) {
        self.pace.observe(infer, bytes);
    }

    /// Whether a request of `rows` that came now should wait for others.
    fn would_wait(&self, rows: Option<usize>, now: Instant) -> bool {
        match (&self.window, rows) {
            (Some(window), Some(rows)) => window.wait_until(now, rows, now).is_some(),
            _ => false,
        }
    }
}

/// Runs the model; its panic is that request's error.
pub(super) fn contained(
    backend: &mut dyn Backend,
    inputs: &[Tensor],
    outputs: &[String],
) -> Result<Vec<Tensor>, InferError> {
    catch_unwind(AssertUnwindSafe(|| backend.run(inputs, outputs))).unwrap_or_else(|_| {
        tracing::error!("the model's runtime panicked; the request fails, the model stays");
        Err(InferError::Internal("the model's runtime panicked".to_owned()))
    })
}

pub(super) fn depth(queue: &VecDeque<Job>) -> i64 {
    i64::try_from(queue.len()).unwrap_or(i64::MAX)
}

/// Bytes of all inputs.
pub(super) fn size(inputs: &[Tensor]) -> usize {
    inputs.iter().map(|input| input.data.bytes()).sum()
}
