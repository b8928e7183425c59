//! What the gateway must show beside its peers.

use super::{Case, DIRECT, GATEWAY, Measured, Results, Round};
use crate::report::{Report, Standing, Verdict};
use crate::rounds::{confidence, median, middle_half};

/// The peer that sets the budget.
const RIVAL: &str = "haproxy";

/// Adds ratios and verdicts.
pub(super) fn compare(results: &Results, report: &mut Report) {
    for ((case, name), measured) in results {
        let failed: u64 = measured.recorder.errors.values().sum();
        if failed > 0 {
            report.verdicts.push(Verdict::promise(
                format!("{name} at {case}: every request is answered with 200"),
                Standing::Failed,
                format!("{failed} failures: {:?}", measured.recorder.errors),
            ));
        }
    }
    let cases: Vec<Case> = results.keys().filter(|(_, name)| name == GATEWAY).map(|(case, _)| *case).collect();
    for case in cases {
        let of = |name: &str| results.get(&(case, name.to_owned()));
        let (Some(direct), Some(ours), Some(rival)) = (of(DIRECT), of(GATEWAY), of(RIVAL)) else { continue };
        let samples = [direct, ours, rival].map(answered_rounds).into_iter().min().unwrap_or(0);
        let label = format!("{}_c{}", case.body.replace(' ', ""), case.concurrency);
        let added = Compared::of(added_p50s(ours, direct), added_p50s(rival, direct));
        let (cpu_us, per_second) = (|round: &Round| round.cpu_us, |round: &Round| round.per_second);
        let cpu = Compared::of(ours.rounds.iter().map(cpu_us), rival.rounds.iter().map(cpu_us));
        let throughput = Compared::of(ours.rounds.iter().map(per_second), rival.rounds.iter().map(per_second));
        report.ratio(format!("added_p50_gateway_to_{RIVAL}_{label}"), added.median);
        report.ratio(format!("cpu_gateway_to_{RIVAL}_{label}"), cpu.median);
        report.ratio(format!("throughput_gateway_to_{RIVAL}_{label}"), throughput.median);
        report.verdicts.push(Verdict::budget(
            format!("{case}: added p50 and CPU per request at most {RIVAL}'s"),
            Standing::at_most(1.0, added.confidence).and(Standing::at_most(1.0, cpu.confidence)).over(samples),
            format!("added p50 {added}, CPU {cpu}"),
        ));
    }
}

/// Rounds in which something was answered: another round's zeros are no figures.
fn answered_rounds(measured: &Measured) -> u64 {
    measured.rounds.iter().filter(|round| round.per_second > 0.0).count() as u64
}

/// Median over rounds of what a proxy adds to the direct median of the same round, in microseconds.
pub(super) fn added_p50(measured: &Measured, direct: &Measured) -> f64 {
    median(added_p50s(measured, direct))
}

fn added_p50s(measured: &Measured, direct: &Measured) -> impl Iterator<Item = f64> {
    measured.rounds.iter().zip(&direct.rounds).map(|(through, direct)| through.p50_us - direct.p50_us)
}

/// One proxy's figure as a multiple of another's, round by round.
struct Compared {
    median: f64,
    /// Where half of the rounds are.
    middle_half: (f64, f64),
    /// Where the median is with 95 % confidence: how far it can be trusted.
    confidence: (f64, f64),
}

impl Compared {
    fn of(ours: impl Iterator<Item = f64>, theirs: impl Iterator<Item = f64>) -> Self {
        let ratios: Vec<f64> = ours.zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Self { middle_half: middle_half(&ratios), confidence: confidence(&ratios), median: median(ratios) }
    }
}

impl std::fmt::Display for Compared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((low, high), (least, most)) = (self.middle_half, self.confidence);
        let median = self.median;
        write!(f, "× {median:.2} (half of the rounds {low:.2} to {high:.2}, 95 % confidence {least:.2} to {most:.2})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case = Case { body: "1 KiB", body_bytes: 1024, concurrency: 1 };

    fn measured(rounds: &[(f64, f64)]) -> Measured {
        let rounds =
            rounds.iter().map(|&(p50_us, cpu_us)| Round { p50_us, per_second: 1e6 / p50_us, cpu_us }).collect();
        Measured { rounds, ..Measured::default() }
    }

    fn report(gateway: &[(f64, f64)]) -> Report {
        let slower_in_turn = |p50_us: f64, cpu_us| {
            let rounds = [(p50_us, cpu_us), (p50_us + 10.0, cpu_us)].into_iter().cycle();
            measured(&rounds.take(gateway.len()).collect::<Vec<_>>())
        };
        let results = Results::from([
            ((CASE, DIRECT.to_owned()), slower_in_turn(50.0, 5.0)),
            ((CASE, RIVAL.to_owned()), slower_in_turn(150.0, 10.0)),
            ((CASE, GATEWAY.to_owned()), measured(gateway)),
        ]);
        let mut report = Report::begin("gateway", 1);
        compare(&results, &mut report);
        report
    }

    #[test]
    fn added_latency_is_taken_round_by_round() {
        let report = report(&[(100.0, 5.0), (110.0, 5.0), (100.0, 5.0)]);
        assert_eq!(report.ratios["added_p50_gateway_to_haproxy_1KiB_c1"], 0.5);
        assert_eq!(report.ratios["cpu_gateway_to_haproxy_1KiB_c1"], 0.5);
        assert!(report.verdicts.iter().all(Verdict::is_held));
    }

    #[test]
    fn a_round_in_which_the_machine_did_something_else_decides_only_among_few() {
        let mut rounds = vec![(900.0, 5.0), (110.0, 5.0)];
        assert_eq!(report(&rounds).verdicts[0].standing, Standing::Undecided);
        rounds.extend([(100.0, 5.0), (110.0, 5.0)].repeat(5));
        assert_eq!(report(&rounds).verdicts[0].standing, Standing::Held);
    }

    #[test]
    fn more_latency_or_more_processor_time_misses_the_budget() {
        for slower in [[(170.0, 5.0); 3], [(100.0, 11.0); 3]] {
            assert!(report(&slower).verdicts.iter().any(|verdict| !verdict.is_held()));
        }
    }

    #[test]
    fn a_gateway_that_answered_nothing_is_not_fast() {
        let mut results = Results::new();
        for name in [DIRECT, RIVAL, GATEWAY] {
            let silent = Round { p50_us: 0.0, per_second: 0.0, cpu_us: 0.0 };
            let rounds = if name == GATEWAY { vec![silent; 3] } else { measured(&[(50.0, 5.0); 3]).rounds };
            results.insert((CASE, name.to_owned()), Measured { rounds, ..Measured::default() });
        }
        let mut report = Report::begin("gateway", 1);
        compare(&results, &mut report);
        assert_eq!(report.verdicts[0].standing, Standing::Unseen);
    }

    #[test]
    fn a_failed_request_breaks_a_promise() {
        let mut failed = measured(&[(50.0, 5.0)]);
        failed.recorder.error("502");
        let mut report = Report::begin("gateway", 1);
        compare(&Results::from([((CASE, GATEWAY.to_owned()), failed)]), &mut report);
        assert!(!report.verdicts[0].is_held(), "{:?}", report.verdicts);
    }
}
