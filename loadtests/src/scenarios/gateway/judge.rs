//! What the gateway must show beside its peers.

use super::{Case, DIRECT, GATEWAY, Measured, Results};
use crate::report::{Report, Verdict};
use crate::rounds::median;

/// The peer that sets the budget.
const RIVAL: &str = "haproxy";

/// Adds ratios and verdicts.
pub(super) fn compare(results: &Results, report: &mut Report) {
    for ((case, name), measured) in results {
        let failed: u64 = measured.recorder.errors.values().sum();
        if failed > 0 {
            report.verdicts.push(Verdict::promise(
                format!("{name} at {case}: every request is answered with 200"),
                false,
                format!("{failed} failures: {:?}", measured.recorder.errors),
            ));
        }
    }
    let cases: Vec<Case> = results.keys().filter(|(_, name)| name == GATEWAY).map(|(case, _)| *case).collect();
    for case in cases {
        let of = |name: &str| results.get(&(case, name.to_owned()));
        let (Some(direct), Some(ours), Some(rival)) = (of(DIRECT), of(GATEWAY), of(RIVAL)) else { continue };
        let label = format!("{}_c{}", case.body.replace(' ', ""), case.concurrency);
        let added = added_p50(ours, direct) / added_p50(rival, direct);
        let cpu = cpu(ours) / cpu(rival);
        let throughput = median(ours.rounds.iter().map(|round| round.per_second))
            / median(rival.rounds.iter().map(|round| round.per_second));
        report.ratio(format!("added_p50_gateway_to_{RIVAL}_{label}"), added);
        report.ratio(format!("cpu_gateway_to_{RIVAL}_{label}"), cpu);
        report.ratio(format!("throughput_gateway_to_{RIVAL}_{label}"), throughput);
        report.verdicts.push(Verdict::budget(
            format!("{case}: added p50 and CPU per request at most {RIVAL}'s"),
            added <= 1.0 && cpu <= 1.0,
            format!("added p50 × {added:.2}, CPU × {cpu:.2}"),
        ));
    }
}

/// Median over rounds of what a proxy adds to the direct median of the same round, in microseconds.
pub(super) fn added_p50(measured: &Measured, direct: &Measured) -> f64 {
    median(measured.rounds.iter().zip(&direct.rounds).map(|(through, direct)| through.p50_us - direct.p50_us))
}

fn cpu(measured: &Measured) -> f64 {
    median(measured.rounds.iter().map(|round| round.cpu_us))
}

#[cfg(test)]
mod tests {
    use super::super::Round;
    use super::*;

    const CASE: Case = Case { body: "1 KiB", body_bytes: 1024, concurrency: 1 };

    fn measured(rounds: &[(f64, f64)]) -> Measured {
        let rounds =
            rounds.iter().map(|&(p50_us, cpu_us)| Round { p50_us, per_second: 1e6 / p50_us, cpu_us }).collect();
        Measured { rounds, ..Measured::default() }
    }

    fn report(gateway: &[(f64, f64)]) -> Report {
        let results = Results::from([
            ((CASE, DIRECT.to_owned()), measured(&[(50.0, 5.0), (60.0, 5.0), (50.0, 5.0)])),
            ((CASE, RIVAL.to_owned()), measured(&[(150.0, 10.0), (160.0, 10.0), (150.0, 10.0)])),
            ((CASE, GATEWAY.to_owned()), measured(gateway)),
        ]);
        let mut report = Report::begin("gateway", 1);
        compare(&results, &mut report);
        report
    }

    #[test]
    fn added_latency_is_taken_round_by_round() {
        let report = report(&[(100.0, 5.0), (110.0, 5.0), (900.0, 5.0)]);
        assert_eq!(report.ratios["added_p50_gateway_to_haproxy_1KiB_c1"], 0.5);
        assert_eq!(report.ratios["cpu_gateway_to_haproxy_1KiB_c1"], 0.5);
        assert!(report.verdicts.iter().all(|verdict| verdict.held));
    }

    #[test]
    fn more_latency_or_more_processor_time_misses_the_budget() {
        for slower in [[(170.0, 5.0); 3], [(100.0, 11.0); 3]] {
            assert!(report(&slower).verdicts.iter().any(|verdict| !verdict.held));
        }
    }

    #[test]
    fn a_failed_request_breaks_a_promise() {
        let mut failed = measured(&[(50.0, 5.0)]);
        failed.recorder.error("502");
        let mut report = Report::begin("gateway", 1);
        compare(&Results::from([((CASE, GATEWAY.to_owned()), failed)]), &mut report);
        assert!(!report.verdicts[0].held, "{:?}", report.verdicts);
    }
}
