//! What a herd must find.

use std::time::Duration;

use super::watch::Peaks;
use crate::outcome::Outcome;
use crate::report::{Standing, Verdict};

/// How long after its deadline a request must have its 504: timers and a thousand answers on a busy machine.
const LATE: Duration = Duration::from_secs(5);

/// Verdicts on a herd of `sent` requests whose deadlines are by target.
pub(super) fn judge(
    outcomes: &[Outcome],
    sent: usize,
    deadlines: &[Duration],
    concurrency: u32,
    peaks: &Peaks,
) -> Vec<Verdict> {
    let label = |promise: &str| format!("containerConcurrency {concurrency}: {promise}");
    let answered = outcomes.iter().filter(|outcome| outcome.status() != 0).count();
    let deadline = |outcome: &Outcome| deadlines[outcome.target];
    let waited = |outcome: &Outcome| outcome.done.saturating_sub(outcome.sent);
    let others: Vec<&Outcome> = outcomes.iter().filter(|outcome| !matches!(outcome.status(), 200 | 504)).collect();
    let timed_out = || outcomes.iter().filter(|outcome| outcome.status() == 504);
    let early = timed_out().filter(|outcome| waited(outcome) < deadline(outcome)).count();
    let late = timed_out().filter(|outcome| waited(outcome) > deadline(outcome) + LATE).count();
    let succeeded = outcomes.iter().filter(|outcome| outcome.succeeded()).count();
    vec![
        Verdict::promise(
            label("none is lost"),
            Standing::from(outcomes.len() == sent && answered == sent).over(sent as u64),
            format!("{answered} of {sent} answered"),
        ),
        Verdict::promise(
            label("every answer is 200 or 504"),
            Standing::from(others.is_empty()).over(outcomes.len() as u64),
            match others.first() {
                None => format!("{succeeded} × 200, {} × 504", timed_out().count()),
                Some(first) => format!("{} others, one of them {}", others.len(), first.name()),
            },
        ),
        Verdict::promise(
            label("a 504 comes after the caller's own deadline, and soon"),
            Standing::from(early == 0 && late == 0).over(outcomes.len() as u64),
            format!("{early} before it, {late} more than {LATE:?} after it"),
        ),
        Verdict::promise(label("some are answered"), (succeeded > 0).into(), format!("{succeeded} × 200")),
        Verdict::promise(
            label("the replica never runs more than it may"),
            Standing::from(peaks.in_flight() <= concurrency && peaks.replicas <= 1).over(peaks.looks),
            format!(
                "at most {} in flight by the wrapper, {} by the gateway, {} replicas; {} looks",
                peaks.by_wrapper, peaks.by_gateway, peaks.replicas, peaks.looks
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Answer, Failure, Labels};
    use std::time::Instant;

    const DEADLINES: [Duration; 2] = [Duration::from_secs(30), Duration::from_millis(50)];
    const PEAKS: Peaks = Peaks { looks: 9, by_wrapper: 2, by_gateway: 1, replicas: 1 };

    fn outcome(status: u16, target: usize, milliseconds: u64) -> Outcome {
        let now = Instant::now();
        let answer = Answer {
            status,
            labels: Labels::default(),
            first_byte: now,
            done: now,
            body: bytes::Bytes::new(),
            body_bytes: 0,
            reusable: true,
        };
        let done = Duration::from_millis(milliseconds);
        let result = if status == 0 { Err(Failure::TimedOut) } else { Ok(answer) };
        Outcome { target, intended: Duration::ZERO, sent: Duration::ZERO, first_byte: done, done, result }
    }

    fn broken(outcomes: &[Outcome], sent: usize, concurrency: u32, peaks: &Peaks) -> Vec<String> {
        judge(outcomes, sent, &DEADLINES, concurrency, peaks)
            .into_iter()
            .filter(|verdict| !verdict.is_held())
            .map(|verdict| verdict.promise.split(": ").nth(1).unwrap().to_owned())
            .collect()
    }

    #[test]
    fn answers_in_time_and_timeouts_after_the_deadline_are_right() {
        let outcomes = [outcome(200, 0, 10), outcome(504, 1, 51), outcome(200, 1, 49)];
        assert_eq!(broken(&outcomes, 3, 2, &PEAKS), Vec::<String>::new());
    }

    #[test]
    fn a_herd_of_none_proves_nothing() {
        assert_eq!(broken(&[], 0, 2, &Peaks { looks: 0, ..PEAKS }).len(), 5);
    }

    #[test]
    fn each_promise_can_break() {
        let fine = || outcome(200, 0, 10);
        assert_eq!(broken(&[fine()], 2, 2, &PEAKS), ["none is lost"]);
        assert_eq!(broken(&[fine(), outcome(0, 0, 10)], 2, 2, &PEAKS), ["none is lost", "every answer is 200 or 504"]);
        assert_eq!(broken(&[fine(), outcome(503, 0, 10)], 2, 2, &PEAKS), ["every answer is 200 or 504"]);
        let timely = "a 504 comes after the caller's own deadline, and soon";
        assert_eq!(broken(&[fine(), outcome(504, 1, 49)], 2, 2, &PEAKS), [timely]);
        assert_eq!(broken(&[fine(), outcome(504, 1, 5_051)], 2, 2, &PEAKS), [timely]);
        assert_eq!(broken(&[outcome(504, 1, 51)], 1, 2, &PEAKS), ["some are answered"]);
        let bounded = "the replica never runs more than it may";
        assert_eq!(broken(&[fine()], 1, 1, &PEAKS), [bounded]);
        assert_eq!(broken(&[fine()], 1, 2, &Peaks { replicas: 2, ..PEAKS }), [bounded]);
        assert_eq!(broken(&[fine()], 1, 2, &Peaks { looks: 0, ..PEAKS }), [bounded]);
    }
}
