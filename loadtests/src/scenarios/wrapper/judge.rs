//! What the model server must show beside the bare loop.

use std::collections::BTreeMap;

use super::{BARE, Cores, Measured, Results};
use crate::inference::Encoding;
use crate::report::{Report, Standing, Verdict};
use crate::rounds::{confidence, median, middle_half};

/// The model whose run costs next to nothing: what is left is the server.
const TINY: &str = "tiny";

/// Share of the bare loop's rate that a real model reaches when served.
const BUDGET_SHARE: f64 = 0.97;

/// Processor time by request above the inference, of the tiny model.
const BUDGET_ABOVE_US: f64 = 25.0;

/// How many times KServe's Python server it answers, of the tiny model in JSON.
const BUDGET_TO_KSERVE: f64 = 40.0;

/// Connections that keep a model busy: the tiny one needs many, as a run takes less time than a round trip.
pub(super) fn concurrency(model: &str) -> usize {
    if model == TINY { 64 } else { 4 }
}

/// What series call it, by what it runs on.
pub(super) const fn wrapper(cores: Cores) -> &'static str {
    match cores {
        Cores::One => "wrapper",
        Cores::Two => "wrapper, 2 cores,",
    }
}

/// What series call it.
pub(super) const fn name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Binary => "binary",
        Encoding::Json => "JSON",
    }
}

/// Adds ratios, figures and verdicts.
pub(super) fn compare(results: &Results, report: &mut Report) {
    for (model, ways) in results {
        for (way, measured) in ways {
            let failed: u64 = measured.recorder.errors.values().sum();
            if failed > 0 {
                report.verdicts.push(Verdict::promise(
                    format!("{model} {way}: every request is answered with 200"),
                    Standing::Failed,
                    format!("{failed} failures: {:?}", measured.recorder.errors),
                ));
            }
        }
        beside_bare(model, ways, Cores::One, report);
        beside_bare(model, ways, Cores::Two, report);
        beside_kserve(model, ways, report);
    }
}

/// Rounds in which something was answered: another round's zeros are no figures.
fn answered_rounds(measured: &Measured) -> u64 {
    measured.per_second.iter().filter(|rate| **rate > 0.0).count() as u64
}

fn beside_bare(model: &str, ways: &BTreeMap<String, Measured>, cores: Cores, report: &mut Report) {
    let Some(bare) = ways.get(BARE) else { return };
    let (suffix, place) = match cores {
        Cores::One => ("", "on its core"),
        Cores::Two => ("_two_cores", "with another core for the server"),
    };
    for (encoding, label) in [("binary", "binary"), ("JSON", "json")] {
        let Some(served) = ways.get(&format!("{} {encoding}", wrapper(cores))) else { continue };
        let samples = answered_rounds(served).min(answered_rounds(bare));
        // Round by round: the machine may be slower in one than in another.
        let shares: Vec<f64> =
            served.per_second.iter().zip(&bare.per_second).map(|(served, bare)| served / bare).collect();
        let share = median(shares.iter().copied());
        let above = median(served.cpu_us.iter().copied()) - median(bare.cpu_us.iter().copied());
        report.ratio(format!("wrapper_to_bare_{model}_{label}{suffix}"), share);
        let of_cpu = median(served.cpu_us.iter().zip(&bare.cpu_us).map(|(served, bare)| bare / served));
        report.ratio(format!("cpu_bare_to_wrapper_{model}_{label}{suffix}"), of_cpu);
        report.figure(format!("cpu_us_above_inference_{model}_{label}{suffix}"), above);
        if model == TINY {
            report.verdicts.push(Verdict::budget(
                format!(
                    "{model} {encoding}: at most {BUDGET_ABOVE_US} µs of processor time above the inference, {place}"
                ),
                Standing::from(above <= BUDGET_ABOVE_US).over(samples),
                format!("{above:.1} µs"),
            ));
        } else if encoding == "binary" {
            report.verdicts.push(Verdict::budget(
                format!("{model} {encoding}: at least {:.0} % of the bare loop, {place}", BUDGET_SHARE * 100.0),
                Standing::at_least(BUDGET_SHARE, confidence(&shares)).over(samples),
                format!(
                    "{} (half of the rounds {}; the median's 95 % confidence {}); {} of the processor time is the bare run's",
                    percent(share),
                    range(middle_half(&shares)),
                    range(confidence(&shares)),
                    percent(of_cpu),
                ),
            ));
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn range((low, high): (f64, f64)) -> String {
    format!("{:.1} to {:.1} %", low * 100.0, high * 100.0)
}

fn beside_kserve(model: &str, ways: &BTreeMap<String, Measured>, report: &mut Report) {
    for (encoding, label) in [("binary", "binary"), ("JSON", "json")] {
        let of = |server: &str| ways.get(&format!("{server} {encoding}"));
        let (Some(ours), Some(theirs)) = (of("wrapper"), of("kserve")) else { continue };
        let rounds = ours.per_second.iter().zip(&theirs.per_second).filter(|(_, theirs)| **theirs > 0.0);
        let times: Vec<f64> = rounds.map(|(ours, theirs)| ours / theirs).collect();
        let (times, (least, most), compared) = (median(times.iter().copied()), confidence(&times), times.len() as u64);
        if compared > 0 {
            report.ratio(format!("wrapper_to_kserve_{model}_{label}"), times);
        }
        if model == TINY && encoding == "JSON" {
            report.verdicts.push(Verdict::budget(
                format!("{model} {encoding}: at least {BUDGET_TO_KSERVE} times KServe's Python server"),
                // A peer that answered nothing is no measure.
                Standing::at_least(BUDGET_TO_KSERVE, (least, most)).over(compared),
                format!("{times:.1} times (95 % confidence {least:.1} to {most:.1})"),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(per_second: f64, cpu_us: f64) -> Measured {
        Measured { per_second: vec![per_second; 3], cpu_us: vec![cpu_us; 3], ..Measured::default() }
    }

    fn judged(model: &str, ways: &[(&str, Measured)]) -> Report {
        let ways = ways.iter().map(|(way, measured)| ((*way).to_owned(), measured.clone())).collect();
        let mut report = Report::begin("wrapper", 1);
        compare(&Results::from([(model.to_owned(), ways)]), &mut report);
        report
    }

    #[test]
    fn a_real_model_is_judged_by_its_share_of_the_bare_rate() {
        let fast =
            judged("resnet50", &[(BARE, measured(50.0, 20_000.0)), ("wrapper binary", measured(49.0, 20_400.0))]);
        assert_eq!(fast.ratios["wrapper_to_bare_resnet50_binary"], 0.98);
        assert!(fast.verdicts[0].is_held());
        let slow =
            judged("resnet50", &[(BARE, measured(50.0, 20_000.0)), ("wrapper binary", measured(48.0, 20_800.0))]);
        assert!(!slow.verdicts[0].is_held());
    }

    #[test]
    fn the_tiny_model_is_judged_by_processor_time_above_the_run() {
        for (cpu_us, held) in [(26.0, true), (28.5, false)] {
            let report = judged(TINY, &[(BARE, measured(4e5, 2.5)), ("wrapper JSON", measured(3e4, cpu_us))]);
            assert_eq!(report.verdicts[0].is_held(), held, "{:?}", report.verdicts);
        }
    }

    #[test]
    fn a_server_with_a_core_of_its_own_is_judged_beside_the_one_without() {
        let ways = [
            (BARE, measured(50.0, 20_000.0)),
            ("wrapper binary", measured(48.0, 20_800.0)),
            ("wrapper, 2 cores, binary", measured(50.0, 20_700.0)),
        ];
        let report = judged("resnet50", &ways);
        assert_eq!(report.ratios["wrapper_to_bare_resnet50_binary"], 0.96);
        assert_eq!(report.ratios["wrapper_to_bare_resnet50_binary_two_cores"], 1.0);
        assert_eq!(report.verdicts.iter().map(Verdict::is_held).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_server_that_answered_nothing_adds_nothing_to_be_judged() {
        for model in [TINY, "resnet50"] {
            let report = judged(model, &[(BARE, measured(50.0, 2.5)), ("wrapper binary", measured(0.0, 0.0))]);
            assert_eq!(report.verdicts[0].standing, Standing::Unseen, "{:?}", report.verdicts);
        }
    }

    #[test]
    fn kserve_is_a_peer_where_it_ran() {
        let ways = [("wrapper JSON", measured(50_000.0, 20.0)), ("kserve JSON", measured(1_000.0, 500.0))];
        assert_eq!(judged(TINY, &ways).ratios["wrapper_to_kserve_tiny_json"], 50.0);
        assert!(judged(TINY, &ways[..1]).ratios.is_empty());
        let failing = [ways[0].clone(), ("kserve JSON", measured(0.0, 0.0))];
        let silent = judged(TINY, &failing);
        assert_eq!(silent.verdicts[0].standing, Standing::Unseen, "{:?}", silent.verdicts);
        assert!(silent.ratios.is_empty());
    }
}
