//! Quantiles of latency histograms.

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

/// The latency in milliseconds that the share `quantile` of requests kept, by linear interpolation within a bucket;
/// `None` where there were no requests. Requests above the last bound count as that bound, as Prometheus has it.
#[must_use]
pub fn quantile(histogram: &LatencyHistogram, quantile: f64) -> Option<f64> {
    if histogram.count == 0 {
        return None;
    }
    let rank = quantile * histogram.count as f64;
    let (mut lower, mut below) = (0.0, 0_u64);
    for bucket in &histogram.buckets {
        if bucket.count as f64 >= rank {
            let inside = bucket.count.saturating_sub(below) as f64;
            let share = if inside > 0.0 { (rank - below as f64) / inside } else { 1.0 };
            return Some(lower + (bucket.le_ms - lower) * share);
        }
        (lower, below) = (bucket.le_ms, bucket.count);
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(count: u64, buckets: &[(f64, u64)]) -> LatencyHistogram {
        let buckets = buckets.iter().map(|&(le_ms, count)| LatencyBucket { le_ms, count });
        LatencyHistogram { count, buckets: buckets.collect() }
    }

    #[test]
    fn quantiles_are_interpolated() {
        let all = histogram(100, &[(1.0, 50), (2.0, 90), (10.0, 100)]);
        assert_eq!(quantile(&all, 0.5), Some(1.0));
        assert_eq!(quantile(&all, 0.7), Some(1.5));
        assert!((quantile(&all, 0.99).expect("requests") - 9.2).abs() < 1e-9);
        assert_eq!(quantile(&histogram(0, &[(1.0, 0)]), 0.5), None);
        assert_eq!(quantile(&histogram(2, &[(1.0, 1)]), 0.99), Some(1.0), "beyond the last bound");
    }

    #[test]
    fn the_difference_of_two_is_what_came_between() {
        let before = histogram(100, &[(1.0, 90), (2.0, 100)]);
        let now = histogram(110, &[(1.0, 90), (2.0, 110)]);
        let between = since(&before, &now);
        assert_eq!(between, histogram(10, &[(1.0, 0), (2.0, 10)]));
        assert_eq!(quantile(&between, 0.5), Some(1.5));
        assert_eq!(since(&now, &before).count, 0, "a stack that was started anew");
    }
}
