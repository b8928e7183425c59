//! Which failures a kill explains.

use std::time::Duration;

use super::killer::Kill;
use crate::outcome::Outcome;
use crate::report::{Standing, Verdict};
use crate::table::time;

/// Failures that a kill explains.
pub(super) fn explained(outcomes: &[Outcome], kills: &[Kill]) -> usize {
    outcomes.iter().filter(|outcome| !outcome.succeeded() && is_explained(outcome, kills)).count()
}

/// A request may fail if it was in flight when a process was killed, on that process: sent before the process had ended,
/// answered after it was killed. An answer that names its replica must name that one. A broken connection to the gateway
/// names none; an answer cut off in its body ends like that.
fn is_explained(outcome: &Outcome, kills: &[Kill]) -> bool {
    let replica = outcome.result.as_ref().ok().and_then(|answer| answer.labels.replica.as_deref());
    kills.iter().any(|kill| {
        outcome.sent <= kill.ended && outcome.done >= kill.at && replica.is_none_or(|replica| replica == kill.replica)
    })
}

/// Verdicts on what became of `sent` requests.
pub(super) fn judge(outcomes: &[Outcome], sent: usize, kills: &[Kill]) -> Vec<Verdict> {
    let failed = outcomes.iter().filter(|outcome| !outcome.succeeded()).count();
    let unexplained: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.succeeded() && !is_explained(outcome, kills))
        .map(|outcome| {
            let labels = outcome.result.as_ref().map(|answer| answer.labels.clone()).unwrap_or_default();
            format!("{} at {:?} until {:?} {labels:?}", outcome.name(), outcome.sent, outcome.done)
        })
        .collect();
    vec![
        Verdict::promise("processes were killed", (!kills.is_empty()).into(), format!("{} SIGKILLs", kills.len())),
        Verdict::promise(
            "every request ends",
            Standing::from(outcomes.len() == sent).over(sent as u64),
            format!("{} of {sent}", outcomes.len()),
        ),
        Verdict::promise(
            "only requests in flight on a killed process fail",
            Standing::from(unexplained.is_empty()).over(sent as u64),
            match unexplained.first() {
                None => format!("{failed} failed, all of them in flight on a killed process"),
                Some(first) => {
                    format!("{} of {failed} failures are not explained, the first: {first}", unexplained.len())
                }
            },
        ),
    ]
}

/// The verdict on the pool and the models' replicas after the last kill.
pub(super) fn refilled(whole: &anyhow::Result<Duration>) -> Verdict {
    let seen = match whole {
        Ok(after) => format!("whole {} after the load", time(after.as_secs_f64() * 1e6)),
        Err(error) => format!("{error:#}"),
    };
    Verdict::promise("models and pool are whole again", whole.is_ok().into(), seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Answer, Failure, Labels};
    use std::time::Instant;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn outcome(status: u16, replica: Option<&str>, sent: u64, done: u64) -> Outcome {
        let now = Instant::now();
        let result = match status {
            0 => Err(Failure::TimedOut),
            status => Ok(Answer {
                status,
                labels: Labels { replica: replica.map(str::to_owned), ..Labels::default() },
                first_byte: now,
                done: now,
                body: bytes::Bytes::new(),
                body_bytes: 0,
                reusable: true,
            }),
        };
        Outcome { target: 0, intended: ms(sent), sent: ms(sent), first_byte: ms(done), done: ms(done), result }
    }

    fn kills() -> Vec<Kill> {
        vec![Kill { replica: "r1".to_owned(), at: ms(100), ended: ms(105) }]
    }

    fn broken(outcomes: &[Outcome], sent: usize, kills: &[Kill]) -> Vec<String> {
        judge(outcomes, sent, kills)
            .into_iter()
            .filter(|verdict| !verdict.is_held())
            .map(|verdict| verdict.promise)
            .collect()
    }

    #[test]
    fn a_request_in_flight_on_the_killed_process_may_fail() {
        for outcome in [
            outcome(502, Some("r1"), 90, 101),
            outcome(502, Some("r1"), 104, 110),
            outcome(502, None, 90, 101),
            outcome(0, None, 90, 200),
        ] {
            assert_eq!(broken(&[outcome], 1, &kills()), Vec::<String>::new());
        }
    }

    #[test]
    fn no_other_may() {
        for outcome in [
            outcome(502, Some("r2"), 90, 101),
            outcome(502, Some("r1"), 106, 110),
            outcome(502, Some("r1"), 90, 99),
            outcome(503, None, 200, 210),
            outcome(0, None, 200, 210),
        ] {
            let broken = broken(std::slice::from_ref(&outcome), 1, &kills());
            assert_eq!(broken, ["only requests in flight on a killed process fail"], "{outcome:?}");
            assert_eq!(explained(&[outcome], &kills()), 0);
        }
    }

    #[test]
    fn a_lost_request_or_a_run_without_kills_proves_nothing() {
        assert_eq!(broken(&[outcome(200, None, 1, 2)], 2, &kills()), ["every request ends"]);
        let without_kills = broken(&[outcome(200, None, 1, 2)], 1, &[]);
        assert_eq!(without_kills, ["processes were killed"]);
        assert_eq!(broken(&[], 0, &[]).len(), 3);
    }

    #[test]
    fn a_pool_that_stays_short_breaks_its_promise() {
        assert!(refilled(&Ok(ms(5))).is_held());
        assert!(!refilled(&Err(anyhow::anyhow!("short"))).is_held());
    }
}
