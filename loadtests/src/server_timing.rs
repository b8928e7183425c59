//! The `server-timing` header: <https://www.w3.org/TR/server-timing/>.

use std::time::Duration;

/// Its metrics that have a duration, in their order. What is not of the form `NAME;dur=MILLISECONDS` is passed over, as the
/// specification asks of readers.
pub fn parse(header: &str) -> impl Iterator<Item = (&str, Duration)> {
    header.split(',').filter_map(|metric| {
        let mut parts = metric.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let milliseconds: f64 = parts.find_map(|part| part.strip_prefix("dur="))?.parse().ok()?;
        Some((name, Duration::try_from_secs_f64(milliseconds / 1000.0).ok()?))
    })
}

/// The duration of one metric.
#[must_use]
pub fn phase(header: &str, name: &str) -> Option<Duration> {
    parse(header).find_map(|(phase, time)| (phase == name).then_some(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_in_order() {
        let phases: Vec<_> = parse("hold;dur=3.5, claim;dur=1, infer;desc=\"x\";dur=0.25").collect();
        assert_eq!(
            phases,
            [
                ("hold", Duration::from_micros(3500)),
                ("claim", Duration::from_millis(1)),
                ("infer", Duration::from_micros(250))
            ]
        );
        assert_eq!(phase("hold;dur=3.5, claim;dur=1", "claim"), Some(Duration::from_millis(1)));
    }

    #[test]
    fn what_is_no_duration_is_passed_over() {
        assert_eq!(
            parse("miss, db;dur=x, ;dur=1, neg;dur=-1, ok;dur=2").collect::<Vec<_>>(),
            [("ok", Duration::from_millis(2))]
        );
    }
}
