//! The model's thread.

use std::time::{Duration, Instant};

use model_wrapper_protocol::{Backend, InferError, InferRequest, Tensor};
use tokio::sync::oneshot;

use super::queue::{Job, Shared, State, contained, depth, size};
use super::{Outcome, Timings, batch};

/// How often the thread looks at runs on callers' threads. They last some microseconds; one that does not is cancelled that
/// much after its deadline at the latest.
const WATCH: Duration = Duration::from_millis(50);

/// Runs batches until the executor is closed.
pub(super) fn work(shared: &Shared) {
    let mut state = shared.lock();
    // Requests in the queue when the thread began to wait for more.
    let mut waited_with = None;
    loop {
        if state.backend.is_none() {
            shared.cancel_overdue(&state, Instant::now());
            shared.wake.wait_for(&mut state, WATCH);
        } else if state.closed {
            return;
        } else if state.queue.is_empty() {
            waited_with = None;
            if std::mem::take(&mut state.inline_since_look) {
                shared.wake.wait_for(&mut state, WATCH);
            } else {
                state.asleep = true;
                shared.wake.wait(&mut state);
                state.asleep = false;
            }
        } else if let Some((picked, until)) = form(&mut state) {
            if let Some(until) = until {
                waited_with.get_or_insert(state.queue.len());
                shared.wake.wait_until(&mut state, until);
                continue;
            }
            let waited = waited_with.take().map(|before| state.queue.len().saturating_sub(before));
            if let Some(window) = &mut state.window {
                window.formed(waited);
            }
            let jobs = take(&mut state, &picked);
            shared.metrics.queue_depth.set(depth(&state.queue));
            let Some(mut backend) = state.backend.take() else { continue };
            state.running.extend(jobs.iter().map(|job| job.ticket));
            backend.arm();
            drop(state);
            let done = run(shared, backend.as_mut(), jobs);
            state = shared.lock();
            state.running.clear();
            state.backend = Some(backend);
            state.observe(done.infer, done.bytes);
            if done.mixes_rows {
                state.window = None;
            }
            // The model is free before its callers can ask again.
            drop(state);
            for (answer, outcome) in done.answers {
                // Its caller may have left.
                let _ = answer.send(outcome);
            }
            state = shared.lock();
        }
    }
}

/// A run that ended.
struct Done {
    answers: Vec<(oneshot::Sender<Outcome>, Outcome)>,
    infer: Duration,
    /// Bytes of the inputs of one run.
    bytes: usize,
    /// The model does not give a row for each row: it must not be batched.
    mixes_rows: bool,
}

/// Positions of the requests to run next, and until when to wait before. Requests whose deadline has passed are answered.
fn form(state: &mut State) -> Option<(Vec<usize>, Option<Instant>)> {
    let now = Instant::now();
    while state.queue.front().is_some_and(|job| job.deadline <= now) {
        if let Some(late) = state.queue.pop_front() {
            // Its caller may have left.
            let _ = late.answer.send(Err(InferError::DeadlineExceeded));
        }
    }
    let oldest = state.queue.front()?;
    let Some(window) = &state.window else { return Some((vec![0], None)) };
    let (picked, rows) = batch::pick(state.queue.iter().map(|job| (&job.request, job.rows)), window.max_rows());
    let until = oldest.rows.and_then(|_| window.wait_until(oldest.queued, rows, now));
    Some((picked, until))
}

/// Takes the jobs at `positions`, which ascend, out of the queue.
fn take(state: &mut State, positions: &[usize]) -> Vec<Job> {
    positions.iter().enumerate().filter_map(|(taken, &at)| state.queue.remove(at - taken)).collect()
}

/// Runs jobs, as one where there are several.
fn run(shared: &Shared, backend: &mut dyn Backend, jobs: Vec<Job>) -> Done {
    let started = Instant::now();
    let requests: Vec<&InferRequest> = jobs.iter().map(|job| &job.request).collect();
    let rows: Vec<usize> = jobs.iter().filter_map(|job| job.rows).collect();
    let mut mixes_rows = false;
    let (results, bytes) = match requests.as_slice() {
        [one] => (vec![contained(backend, &one.inputs, &one.outputs)], size(&one.inputs)),
        several => {
            let inputs = batch::join(several);
            let outcome = contained(backend, &inputs, &several[0].outputs);
            let results = match outcome.map(|outputs| batch::part(&outputs, &rows)) {
                Ok(Some(parted)) => parted.into_iter().map(Ok).collect(),
                Ok(None) => {
                    tracing::warn!("the model does not answer a row for each row: batching is off from now on");
                    mixes_rows = true;
                    several.iter().map(|request| contained(backend, &request.inputs, &request.outputs)).collect()
                }
                // One bad request must not fail the others of its batch.
                Err(error) if alone_may_differ(&error) => {
                    several.iter().map(|request| contained(backend, &request.inputs, &request.outputs)).collect()
                }
                Err(error) => vec![Err(error); several.len()],
            };
            (results, size(&inputs))
        }
    };
    let infer = started.elapsed();
    shared.metrics.infer_seconds.observe(infer.as_secs_f64());
    if !rows.is_empty() {
        shared.metrics.batch_rows.observe(rows.iter().sum::<usize>() as f64);
    }
    let answers = jobs.into_iter().zip(results).map(|(job, result): (Job, Result<Vec<Tensor>, InferError>)| {
        let timings = Timings { queue: started.saturating_duration_since(job.queued), infer };
        shared.metrics.queue_seconds.observe(timings.queue.as_secs_f64());
        (job.answer, result.map(|outputs| (outputs, timings)))
    });
    Done { answers: answers.collect(), infer, bytes, mixes_rows }
}

/// Whether a batch that failed so may hold requests that succeed alone.
fn alone_may_differ(error: &InferError) -> bool {
    matches!(
        error,
        InferError::BadRequest(_)
            | InferError::InvalidInput { .. }
            | InferError::RunFailed(_)
            | InferError::Internal(_)
    )
}
