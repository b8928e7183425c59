//! The report as one HTML page that needs nothing beside it.

use std::fmt::Write;

use crate::plot::{Plot, escape};
use crate::report::Report;
use crate::table::{not_taken, time, times};

const STYLE: &str = include_str!("page.css");

/// The page of a report with its plots.
#[must_use]
pub fn render(report: &Report, plots: &[Plot]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>loadtest {name}</title><style>{STYLE}</style></head><body><main>\n<h1>loadtest {name}</h1>\n",
        name = escape(&report.scenario)
    );
    push_origin(&mut html, report);
    push_verdicts(&mut html, report);
    for plot in plots {
        // Writing to a String cannot fail.
        let _ = writeln!(
            html,
            "<figure><h2>{}</h2>{}<figcaption>{}</figcaption></figure>",
            escape(plot.title()),
            plot.svg(),
            escape(plot.caption())
        );
    }
    push_series(&mut html, report);
    push_figures(&mut html, report);
    html.push_str("</main></body></html>\n");
    html
}

fn push_origin(html: &mut String, report: &Report) {
    let machine = &report.machine;
    let _ = write!(
        html,
        "<p class=\"origin\">{}{} · {} cores, {} · {:.1} GiB · Linux {} · load {:.1}</p>\n\
         <details><summary>Commands</summary><pre>{}</pre></details>\n",
        escape(&report.started),
        report.seed.map(|seed| format!(" · seed {seed}")).unwrap_or_default(),
        machine.cpus,
        escape(&machine.cpu_model),
        machine.memory_bytes as f64 / 1_073_741_824.0,
        escape(&machine.kernel),
        machine.load_average,
        escape(&report.commands.join("\n"))
    );
}

fn push_verdicts(html: &mut String, report: &Report) {
    if report.verdicts.is_empty() {
        return;
    }
    html.push_str("<ul class=\"verdicts\">");
    for verdict in &report.verdicts {
        let _ = write!(
            html,
            "<li class=\"{word}\"><b>{word}</b> {}: {}</li>",
            escape(&verdict.promise),
            escape(&verdict.seen),
            word = verdict.word()
        );
    }
    html.push_str("</ul>\n");
}

fn push_series(html: &mut String, report: &Report) {
    html.push_str(
        "<h2>Series</h2><div class=\"wide\"><table><thead><tr><th>series</th><th>samples</th><th>errors</th><th>per s</th>\
         <th>p50</th><th>p90</th><th>p95</th><th>p99</th><th>p99.9</th><th>max</th><th>CPU/request</th><th>RSS</th></tr></thead><tbody>",
    );
    for series in &report.series {
        let errors: Vec<String> = series.errors.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        let _ = write!(
            html,
            "<tr><td title=\"{}\">{}</td><td>{}</td><td>{}</td><td>{:.1}</td>",
            escape(&series.target),
            escape(&series.name),
            series.samples,
            escape(&errors.join(", ")),
            series.throughput_per_s
        );
        for time in times(series.latency_us) {
            let _ = write!(html, "<td>{time}</td>");
        }
        let rss = series.rss_bytes.map_or_else(not_taken, |rss| format!("{:.1} MiB", rss as f64 / 1_048_576.0));
        let _ = write!(html, "<td>{}</td><td>{rss}</td></tr>", series.cpu_us_per_request.map_or_else(not_taken, time));
    }
    html.push_str("</tbody></table></div>\n");
}

fn push_figures(html: &mut String, report: &Report) {
    if report.ratios.is_empty() && report.figures.is_empty() {
        return;
    }
    html.push_str("<h2>Figures</h2><table><tbody>");
    for (name, value) in report.ratios.iter().chain(&report.figures) {
        let _ = write!(html, "<tr><td>{}</td><td>{value}</td></tr>", escape(name));
    }
    html.push_str("</tbody></table>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Axis, Chart, Curve, Mark, Scale, Unit};
    use crate::record::Recorder;
    use crate::report::{Standing, Verdict};
    use std::time::Duration;

    #[test]
    fn the_page_has_series_plots_and_verdicts_and_loads_nothing() {
        let mut report = Report::begin("cold-start", 9);
        let mut recorder = Recorder::default();
        recorder.success(Duration::from_millis(4));
        report.series.push(recorder.series("pool 4", "digits", Duration::from_secs(1)));
        report.series.push(Recorder::default().series("untimed", "digits", Duration::from_secs(1)));
        report.ratio("pool_0_to_pool_4", 12.5);
        report.verdicts.push(Verdict::budget("p50 ≤ 10 ms", Standing::Failed, "11 ms"));
        let plot = Plot::Chart(Chart {
            title: "First byte".to_owned(),
            caption: "lower is better".to_owned(),
            x: Axis::new("share", Scale::Percentile, Unit::Share),
            y: Axis::new("time", Scale::Log, Unit::Time),
            curves: vec![Curve { name: "pool 4".to_owned(), points: recorder.latency.curve(), mark: Mark::Line }],
        });
        let html = render(&report, &[plot]);
        for expected in [
            "<td title=\"digits\">pool 4</td>",
            "<h2>First byte</h2>",
            "<path class=\"s0\"",
            "pool_0_to_pool_4",
            "class=\"missed\"",
            "4.00 ms",
            "<td title=\"digits\">untimed</td><td>0</td><td></td><td>0.0</td><td>-</td><td>-</td><td>-</td><td>-</td><td>-</td><td>-</td>",
        ] {
            assert!(html.contains(expected), "no {expected} in {html}");
        }
        for forbidden in ["http://", "https://", "<script", "src="] {
            assert!(
                !html.replace(&escape(&report.commands.join("\n")), "").contains(forbidden),
                "{forbidden} in the page"
            );
        }
    }
}
