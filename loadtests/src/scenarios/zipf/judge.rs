//! What the trace must show.

use super::{Count, Seen};
use crate::report::{Report, Standing, Verdict};

/// Adds figures, ratios and verdicts.
pub(super) fn compare(all: &[Seen], report: &mut Report) {
    for seen in all {
        let pool = seen.pool;
        let failed: u64 = seen.all.errors.values().sum();
        report.verdicts.push(Verdict::promise(
            format!("pool {pool}: every request is answered with 200"),
            Standing::from(failed == 0 && seen.all.ended() == seen.sent as u64).over(seen.sent as u64),
            format!("{} of {}, {failed} with another end", seen.all.latency.count(), seen.sent),
        ));
        report.ratio(format!("hit_rate_pool_{pool}"), seen.claims.hit_rate());
        report.ratio(format!("cold_share_pool_{pool}"), seen.cold.ended() as f64 / seen.sent.max(1) as f64);
        report.figure(format!("replica_seconds_models_pool_{pool}"), seen.owned_seconds);
        report.figure(format!("replica_seconds_idle_pool_{pool}"), seen.idle_seconds);
    }
    let Some(without) = all.iter().find(|seen| seen.pool == 0) else { return };
    for seen in all.iter().filter(|seen| seen.pool > 0) {
        let pool = seen.pool;
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let gain = without.cold.latency.quantile_us(quantile) / seen.cold.latency.quantile_us(quantile);
            report.ratio(format!("cold_start_{name}_pool_0_to_pool_{pool}"), gain);
        }
        let seconds = |seen: &Seen| seen.owned_seconds + seen.idle_seconds;
        report.ratio(format!("replica_seconds_pool_{pool}_to_pool_0"), seconds(seen) / seconds(without));
    }
}

/// Replica-seconds of models and of idle replicas: each count lasts until the next.
pub(super) fn integrate(counts: &[Count]) -> (f64, f64) {
    counts.windows(2).fold((0.0, 0.0), |(owned, idle), pair| {
        let seconds = pair[1].at - pair[0].at;
        (owned + pair[0].owned * seconds, idle + pair[0].idle * seconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Claims;
    use std::time::Duration;

    #[test]
    fn each_count_lasts_until_the_next() {
        let counts =
            [(0.0, 2.0, 4.0), (1.5, 0.0, 4.0), (2.0, 9.0, 9.0)].map(|(at, owned, idle)| Count { at, owned, idle });
        assert_eq!(integrate(&counts), (3.0, 8.0));
        assert_eq!(integrate(&counts[..1]), (0.0, 0.0));
    }

    fn seen(pool: u32, milliseconds: u64) -> Seen {
        let mut seen = Seen { pool, sent: 10, claims: Claims { hits: 3, misses: 1 }, ..Seen::default() };
        for _ in 0..10 {
            seen.all.success(Duration::from_millis(1));
        }
        seen.cold.success(Duration::from_millis(milliseconds));
        (seen.owned_seconds, seen.idle_seconds) = (6.0, f64::from(pool));
        seen
    }

    #[test]
    fn pools_are_compared_with_none() {
        let mut report = Report::begin("zipf", 1);
        compare(&[seen(4, 5), seen(0, 100)], &mut report);
        assert_eq!(report.ratios["hit_rate_pool_4"], 0.75);
        assert_eq!(report.ratios["cold_share_pool_4"], 0.1);
        assert_eq!(report.ratios["cold_start_p50_pool_0_to_pool_4"].round(), 20.0);
        assert_eq!(report.ratios["replica_seconds_pool_4_to_pool_0"], 1.667);
        assert!(report.verdicts.iter().all(Verdict::is_held));
    }

    #[test]
    fn a_trace_without_a_request_proves_nothing() {
        let mut report = Report::begin("zipf", 1);
        compare(&[Seen::default()], &mut report);
        assert_eq!(report.verdicts[0].standing, Standing::Unseen);
    }

    #[test]
    fn a_failed_or_a_lost_request_breaks_the_promise() {
        for spoil in [|seen: &mut Seen| seen.all.error("503"), |seen: &mut Seen| seen.sent += 1] {
            let mut seen = seen(4, 5);
            spoil(&mut seen);
            let mut report = Report::begin("zipf", 1);
            compare(&[seen], &mut report);
            assert!(!report.verdicts[0].is_held());
        }
    }
}
