//! What became of one request.

use std::time::{Duration, Instant};

use crate::http1::{Answer, Failure};
use crate::open_loop::Shot;

/// One request from its intended to its real end. Times count from the start of the run.
#[derive(Debug)]
pub struct Outcome {
    /// Which of the run's targets it was for.
    pub target: usize,
    /// When it was due by the schedule.
    pub intended: Duration,
    /// When it was really sent.
    pub sent: Duration,
    /// When the first byte of the answer came; the end where none came.
    pub first_byte: Duration,
    /// When it ended.
    pub done: Duration,
    /// The answer, or why there is none.
    pub result: Result<Answer, Failure>,
}

impl Outcome {
    /// The outcome of a shot of the run that began at `start`, now that it has ended.
    #[must_use]
    pub fn ended(shot: Shot, sent: Duration, start: Instant, result: Result<Answer, Failure>) -> Self {
        let (first_byte, done) = match &result {
            Ok(answer) => (answer.first_byte.duration_since(start), answer.done.duration_since(start)),
            Err(_) => {
                let now = start.elapsed();
                (now, now)
            }
        };
        Self { target: shot.target, intended: shot.at, sent, first_byte, done, result }
    }

    /// Until the answer was complete, from the *intended* time: a stall of the server that delays later requests counts
    /// against every one of them, as their callers would feel it.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.done.saturating_sub(self.intended)
    }

    /// Until the first byte of the answer, from the intended time.
    #[must_use]
    pub fn time_to_first_byte(&self) -> Duration {
        self.first_byte.saturating_sub(self.intended)
    }

    /// The status, or 0 where no answer came.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.result.as_ref().map_or(0, |answer| answer.status)
    }

    /// What a report counts it under: the status, or the name of the failure.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.result {
            Ok(answer) => answer.status.to_string(),
            Err(failure) => failure.name().to_owned(),
        }
    }

    /// Whether it was answered with 200.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status() == 200
    }
}
