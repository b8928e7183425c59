//! The report as a table for a terminal.

use std::fmt::Write;

use crate::report::{Latency, Report};

/// The whole report as text.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    push_series(&mut text, report);
    push_phases(&mut text, report);
    let figures: Vec<_> = report.ratios.iter().chain(&report.figures).collect();
    if !figures.is_empty() {
        let rows: Vec<_> = figures.iter().map(|(name, value)| vec![(*name).clone(), format!("{value}")]).collect();
        push_table(&mut text, &["figure", "value"], &rows);
    }
    for verdict in &report.verdicts {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<9} {}: {}", verdict.word(), verdict.promise, verdict.seen);
    }
    text
}

fn push_series(text: &mut String, report: &Report) {
    let head =
        ["series", "samples", "errors", "per s", "p50", "p90", "p95", "p99", "p99.9", "max", "CPU/request", "RSS MiB"];
    let rows: Vec<Vec<String>> = report
        .series
        .iter()
        .map(|series| {
            let errors: Vec<String> = series.errors.iter().map(|(name, count)| format!("{name}:{count}")).collect();
            let mut row = vec![
                series.name.clone(),
                series.samples.to_string(),
                if errors.is_empty() { "-".to_owned() } else { errors.join(" ") },
                format!("{:.1}", series.throughput_per_s),
            ];
            row.extend(times(series.latency_us));
            row.push(series.cpu_us_per_request.map_or_else(not_taken, time));
            row.push(series.rss_bytes.map_or_else(not_taken, |rss| format!("{:.1}", rss as f64 / 1_048_576.0)));
            row
        })
        .collect();
    push_table(text, &head, &rows);
}

fn push_phases(text: &mut String, report: &Report) {
    let rows: Vec<Vec<String>> = report
        .series
        .iter()
        .flat_map(|series| {
            series.phases_us.iter().map(|(phase, latency)| {
                vec![
                    series.name.clone(),
                    phase.clone(),
                    time(latency.p50),
                    time(latency.p90),
                    time(latency.p95),
                    time(latency.p99),
                    time(latency.max),
                ]
            })
        })
        .collect();
    if !rows.is_empty() {
        push_table(text, &["series", "phase", "p50", "p90", "p95", "p99", "max"], &rows);
    }
}

/// What stands where nothing was measured.
pub(crate) fn not_taken() -> String {
    "-".to_owned()
}

/// p50, p90, p95, p99, p99.9 and the longest of a series' requests, none of which takes no time at all.
pub(crate) fn times(Latency { p50, p90, p95, p99, p999, max }: Latency) -> [String; 6] {
    [p50, p90, p95, p99, p999, max].map(|value| if max > 0.0 { time(value) } else { not_taken() })
}

/// Microseconds in the unit that reads best.
#[must_use]
pub fn time(microseconds: f64) -> String {
    match microseconds {
        us if us < 1_000.0 => format!("{us:.1} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// First column left, the others right.
fn push_table(text: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let width = |column: usize| {
        let lengths = rows.iter().chain([&head]).map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in [&head].into_iter().chain(rows) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Recorder;
    use std::time::Duration;

    #[test]
    fn times_take_the_unit_that_reads_best() {
        assert_eq!(time(12.34), "12.3 µs");
        assert_eq!(time(12_340.0), "12.34 ms");
        assert_eq!(time(12_340_000.0), "12.34 s");
    }

    #[test]
    fn a_latency_that_was_not_taken_is_a_dash_and_none_of_zero() {
        let mut report = Report::begin("wrapper", 1);
        let mut recorder = Recorder::default();
        report.series.push(recorder.series("untimed", "digits", Duration::from_secs(1)));
        recorder.success(Duration::from_millis(4));
        report.series.push(recorder.series("timed", "digits", Duration::from_secs(1)));
        let text = render(&report);
        let row = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("its row");
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("untimed"), ["untimed", "0", "-", "0.0", "-", "-", "-", "-", "-", "-", "-", "-"]);
        assert_eq!(row("timed")[..6], ["timed", "1", "-", "1.0", "4.00", "ms"]);
    }

    #[test]
    fn columns_line_up_whatever_they_hold() {
        let mut text = String::new();
        push_table(&mut text, &["a", "time"], &[vec!["longer".to_owned(), "1 µs".to_owned()]]);
        assert_eq!(text, "a       time\nlonger  1 µs\n\n");
    }
}
