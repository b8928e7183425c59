//! What cold starts must show.

use super::Seen;
use crate::plot::Segment;
use crate::report::{Report, Standing, Verdict};
use crate::table::time;

/// First byte from zero with a pool, median and 99th percentile.
const BUDGET_P50_US: f64 = 10_000.0;
const BUDGET_P99_US: f64 = 50_000.0;

/// Adds ratios between pool sizes and the verdicts.
pub(super) fn compare(all: &[Seen], report: &mut Report) {
    for seen in all {
        let errors: u64 = seen.single.errors.values().chain(seen.burst.errors.values()).sum();
        let answered = seen.single.ended() + seen.burst.ended() - errors;
        report.verdicts.push(Verdict::promise(
            format!("pool {}: every request is answered", seen.pool),
            Standing::from(errors == 0).over(seen.single.ended() + seen.burst.ended()),
            format!("{answered} answered, {errors} not"),
        ));
        report.verdicts.push(Verdict::promise(
            format!("pool {}: every sample is a cold start", seen.pool),
            Standing::from(seen.not_cold == 0).over(seen.single.ended()),
            format!("{} warm of {}", seen.not_cold, seen.single.ended()),
        ));
    }
    for seen in all.iter().filter(|seen| seen.pool > 0) {
        let (p50, p99) = (seen.single.latency.quantile_us(0.5), seen.single.latency.quantile_us(0.99));
        report.verdicts.push(Verdict::budget(
            format!("pool {}: p50 ≤ {}, p99 ≤ {}", seen.pool, time(BUDGET_P50_US), time(BUDGET_P99_US)),
            Standing::from(p50 <= BUDGET_P50_US && p99 <= BUDGET_P99_US).over(seen.single.latency.count()),
            format!("p50 {}, p99 {}", time(p50), time(p99)),
        ));
    }
    let Some(without) = all.iter().find(|seen| seen.pool == 0) else { return };
    for seen in all.iter().filter(|seen| seen.pool > 0) {
        let gain = |quantile| without.single.latency.quantile_us(quantile) / seen.single.latency.quantile_us(quantile);
        report.ratio(format!("p50_pool_0_to_pool_{}", seen.pool), gain(0.5));
        report.ratio(format!("p99_pool_0_to_pool_{}", seen.pool), gain(0.99));
    }
}

/// The pieces of the median first byte, from the medians of its phases. A hold encloses claim, specialize and load; what no
/// phase tells is the gateway, the network and this client. Medians need not add up: no piece is below 0.
pub(super) fn segments(first_byte: f64, phase: impl Fn(&str) -> f64) -> Vec<Segment> {
    let activation = ["claim", "specialize", "load"].map(|name| (name, phase(name)));
    let activated: f64 = activation.iter().map(|(_, time)| time).sum();
    let hold = phase("hold").max(activated);
    let run = phase("queue") + phase("infer");
    let others = [("rest of the hold", hold - activated), ("queue and infer", run), ("rest", first_byte - hold - run)];
    let pieces = activation.into_iter().chain(others);
    pieces.map(|(name, time)| Segment { name: name.to_owned(), value: time.max(0.0) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn seen(pool: u32, milliseconds: u64) -> Seen {
        let mut seen = Seen { pool, ..Seen::default() };
        for _ in 0..100 {
            seen.single.success(Duration::from_millis(milliseconds));
        }
        seen
    }

    fn broken(all: &[Seen]) -> Vec<String> {
        let mut report = Report::begin("cold-start", 1);
        compare(all, &mut report);
        report.verdicts.into_iter().filter(|verdict| !verdict.is_held()).map(|verdict| verdict.promise).collect()
    }

    #[test]
    fn a_fast_pool_is_within_budget_and_its_gain_is_told() {
        let all = [seen(0, 200), seen(4, 5)];
        assert_eq!(broken(&all), Vec::<String>::new());
        let mut report = Report::begin("cold-start", 1);
        compare(&all, &mut report);
        assert!((report.ratios["p50_pool_0_to_pool_4"] - 40.0).abs() < 0.5, "{:?}", report.ratios);
    }

    #[test]
    fn the_pieces_of_a_first_byte_add_up_to_it() {
        let phase = |name: &str| match name {
            "hold" => 8.0,
            "specialize" => 3.0,
            "load" => 2.0,
            "infer" => 1.0,
            _ => 0.0,
        };
        let values: Vec<f64> = segments(10.0, phase).into_iter().map(|segment| segment.value).collect();
        assert_eq!(values, [0.0, 3.0, 2.0, 3.0, 1.0, 1.0]);
        assert!(segments(1.0, phase).iter().all(|segment| segment.value >= 0.0));
    }

    #[test]
    fn a_slow_pool_misses_its_budget_and_no_pool_has_none() {
        assert_eq!(broken(&[seen(0, 900), seen(1, 11)]), ["pool 1: p50 ≤ 10.00 ms, p99 ≤ 50.00 ms"]);
    }

    #[test]
    fn without_samples_nothing_holds() {
        let nothing = Seen { pool: 1, ..Seen::default() };
        assert_eq!(broken(&[nothing]).len(), 3);
        let mut failed = Seen { pool: 1, ..Seen::default() };
        failed.single.error("503");
        assert_eq!(broken(&[failed])[1], "pool 1: p50 ≤ 10.00 ms, p99 ≤ 50.00 ms");
    }

    #[test]
    fn a_warm_sample_or_a_failure_breaks_a_promise() {
        let mut warm = seen(1, 5);
        warm.not_cold = 1;
        assert_eq!(broken(&[warm]), ["pool 1: every sample is a cold start"]);
        let mut failed = seen(1, 5);
        failed.burst.error("503");
        assert_eq!(broken(&[failed]), ["pool 1: every request is answered"]);
    }
}
