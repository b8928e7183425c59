use super::*;

fn chart(scale: Scale, points: Vec<(f64, f64)>) -> String {
    Plot::Chart(Chart {
        title: "Latency".to_owned(),
        caption: String::new(),
        x: Axis::new("share", Scale::Percentile, Unit::Share),
        y: Axis::new("time", scale, Unit::Time),
        curves: vec![Curve { name: "pool <4>".to_owned(), points, mark: Mark::Line }],
    })
    .svg()
}

#[test]
fn a_curve_has_its_points_ticks_and_escaped_name() {
    let svg = chart(Scale::Log, vec![(0.0, 1_000.0), (0.5, 2_000.0), (0.99, 90_000.0)]);
    assert!(svg.contains("pool &lt;4&gt;"), "{svg}");
    assert!(svg.contains(">99 %<"), "{svg}");
    assert!(svg.contains(">10 ms<"), "{svg}");
    let path = svg.split("d=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(path.matches(['M', 'L']).count(), 3, "{path}");
    // The first point lies at the left end, the slowest above all others.
    let heights: Vec<f64> =
        path.split(['M', 'L']).skip(1).map(|p| p.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert!(heights[2] < heights[1] && heights[1] < heights[0], "{heights:?}");
}

#[test]
fn odd_values_still_make_a_chart() {
    for points in [vec![], vec![(0.5, 0.0)], vec![(1.0, f64::NAN)], vec![(0.5, 7.0), (0.9, 7.0)]] {
        for scale in [Scale::Log, Scale::Linear] {
            let svg = chart(scale, points.clone());
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}

#[test]
fn bars_are_as_long_as_their_values() {
    let svg = Plot::Bars(Bars {
        title: "CPU".to_owned(),
        caption: String::new(),
        unit: Unit::Time,
        bars: vec![Bar::plain("a", "x", 100.0), Bar::plain("b", "x", 50.0)],
    })
    .svg();
    let widths: Vec<f64> = svg
        .split("width=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next()?.parse().ok())
        .filter(|w| *w > 12.0)
        .collect();
    assert_eq!(widths.len(), 2, "{svg}");
    assert!((widths[0] / widths[1] - 2.0).abs() < 0.01);
}
