//! What became of one request.

use std::time::Duration;

use crate::http1::{Answer, Failure};

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
