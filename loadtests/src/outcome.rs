//! What became of one request.

use std::time::{Duration, Instant};

use crate::http1::{Answer, Failure};
use crate::open_loop::Shot;
use crate::server_timing;

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

    /// Whether it waited for a replica and was the first to use it, as `server-timing` tells. The first use of a replica
    /// that was added beside others tells its activation too, but nobody waited for that.
    #[must_use]
    pub fn woke_a_replica(&self) -> bool {
        let header = self.result.as_ref().ok().and_then(|answer| answer.labels.server_timing.as_deref());
        header.is_some_and(|header| {
            server_timing::phase(header, "claim").is_some()
                && server_timing::phase(header, "hold").is_some_and(|hold| !hold.is_zero())
        })
    }

    /// Whether it was answered with 200.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status() == 200
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Labels;

    fn outcome(server_timing: &str) -> Outcome {
        let start = Instant::now();
        let answer = Answer {
            status: 200,
            labels: Labels { server_timing: Some(server_timing.to_owned()), ..Labels::default() },
            first_byte: start + Duration::from_millis(30),
            done: start + Duration::from_millis(40),
            body: bytes::Bytes::new(),
            body_bytes: 0,
            reusable: true,
        };
        let shot = Shot { at: Duration::from_millis(10), target: 0 };
        Outcome::ended(shot, Duration::from_millis(25), start, Ok(answer))
    }

    #[test]
    fn times_count_from_the_intended_send() {
        let outcome = outcome("hold;dur=0");
        assert_eq!(outcome.time_to_first_byte(), Duration::from_millis(20));
        assert_eq!(outcome.latency(), Duration::from_millis(30));
    }

    #[test]
    fn who_waits_for_a_fresh_replica_wakes_it() {
        assert!(outcome("hold;dur=5, claim;dur=0, specialize;dur=3, load;dur=1, infer;dur=1").woke_a_replica());
        assert!(!outcome("hold;dur=0, claim;dur=0, specialize;dur=3, load;dur=1, infer;dur=1").woke_a_replica());
        assert!(!outcome("hold;dur=5, queue;dur=0, infer;dur=1").woke_a_replica());
    }
}
