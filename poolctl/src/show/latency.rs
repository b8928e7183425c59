//! Quantiles of latency histograms.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::admin::messages::{LatencyBucket, LatencyHistogram};

/// The requests that came between two histograms of one model.
#[must_use]
pub fn since(before: &LatencyHistogram, now: &LatencyHistogram) -> LatencyHistogram {
    let earlier = |bucket: &LatencyBucket| {
        let same = before.buckets.iter().find(|other| other.le_ms.total_cmp(&bucket.le_ms).is_eq());
        same.map_or(0, |other| other.count)
    };
    LatencyHistogram {
        count: now.count.saturating_sub(before.count),
        buckets: now
            .buckets
            .iter()
            .map(|bucket| LatencyBucket { count: bucket.count.saturating_sub(earlier(bucket)), ..*bucket })
            .collect(),
    }
}

/// What a histogram says of a quantile: on which side of one of its bounds it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantile {
    /// At most so many milliseconds.
    AtMost(f64),
    /// More than so many milliseconds, the last bound.
    Above(f64),
}

/// The latency that the share `quantile` of requests kept; `None` where there were no requests.
///
/// Only that the bound of a bucket was kept is known, not where in the bucket: nothing is interpolated, which would show a
/// request of 663 ms as one of 750.
#[must_use]
pub fn quantile(histogram: &LatencyHistogram, quantile: f64) -> Option<Quantile> {
    if histogram.count == 0 {
        return None;
    }
    let rank = quantile * histogram.count as f64;
    let holds = |bucket: &&LatencyBucket| bucket.count as f64 >= rank;
    Some(match histogram.buckets.iter().find(holds) {
        Some(bucket) => Quantile::AtMost(bucket.le_ms),
        None => Quantile::Above(histogram.buckets.last().map_or(0.0, |bucket| bucket.le_ms)),
    })
}

/// The bound that was kept, in milliseconds, and null where none was.
impl Serialize for Quantile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AtMost(millis) => serializer.serialize_some(millis),
            Self::Above(_) => serializer.serialize_none(),
        }
    }
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(millis) => write!(f, "≤ {millis}"),
            Self::Above(millis) => write!(f, "> {millis}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(count: u64, buckets: &[(f64, u64)]) -> LatencyHistogram {
        let buckets = buckets.iter().map(|&(le_ms, count)| LatencyBucket { le_ms, count });
        LatencyHistogram { count, buckets: buckets.collect() }
    }

    #[test]
    fn quantiles_are_no_more_exact_than_the_buckets() {
        use Quantile::{Above, AtMost};
        let all = histogram(100, &[(1.0, 50), (2.0, 90), (10.0, 100)]);
        for (share, expected) in [(0.5, 1.0), (0.7, 2.0), (0.9, 2.0), (0.99, 10.0)] {
            assert_eq!(quantile(&all, share), Some(AtMost(expected)), "{share}");
        }
        // one request of 663 ms
        let one = histogram(1, &[(500.0, 0), (1000.0, 1)]);
        assert_eq!([quantile(&one, 0.5), quantile(&one, 0.99)], [Some(AtMost(1000.0)); 2]);
        assert_eq!(quantile(&histogram(0, &[(1.0, 0)]), 0.5), None);
        assert_eq!(quantile(&histogram(2, &[(1.0, 1)]), 0.99), Some(Above(1.0)), "beyond the last bound");
        assert_eq!(
            [AtMost(0.2), AtMost(1000.0), Above(60000.0)].map(|it| it.to_string()),
            ["≤ 0.2", "≤ 1000", "> 60000"]
        );
        let data = serde_json::to_value([Some(AtMost(0.2)), Some(Above(60000.0)), None]).unwrap();
        assert_eq!(data, serde_json::json!([0.2, null, null]));
    }

    #[test]
    fn the_difference_of_two_is_what_came_between() {
        let before = histogram(100, &[(1.0, 90), (2.0, 100)]);
        let now = histogram(110, &[(1.0, 90), (2.0, 110)]);
        let between = since(&before, &now);
        assert_eq!(between, histogram(10, &[(1.0, 0), (2.0, 10)]));
        assert_eq!(quantile(&between, 0.5), Some(Quantile::AtMost(2.0)));
        assert_eq!(since(&now, &before).count, 0, "a stack that was started anew");
    }
}
