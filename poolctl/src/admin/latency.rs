//! Latency histograms of models, from the gateway's metrics.

use std::collections::BTreeMap;

use gateway::REQUEST_DURATION;
use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily};

use super::messages::{LatencyBucket, LatencyHistogram};

/// The histograms of all models, by namespace and name; those of a model's devices are added up.
pub(super) fn by_model(registry: &Registry) -> BTreeMap<(String, String), LatencyHistogram> {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == REQUEST_DURATION);
    let mut models = BTreeMap::new();
    for metric in family.map_or(&[][..], MetricFamily::get_metric) {
        let key = (label(metric, "namespace"), label(metric, "model"));
        add(models.entry(key).or_default(), metric);
    }
    models
}

/// Milliseconds of a bound in seconds, without what the conversion adds to it: 0.2, not 0.20000000000000001.
fn millis(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

fn label(metric: &Metric, name: &str) -> String {
    let label = metric.get_label().iter().find(|label| label.name() == name);
    label.map(|label| label.value().to_owned()).unwrap_or_default()
}

fn add(model: &mut LatencyHistogram, metric: &Metric) {
    let histogram = metric.get_histogram();
    model.count += histogram.get_sample_count();
    let buckets = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
    let buckets: Vec<_> = buckets.map(|bucket| (millis(bucket.upper_bound()), bucket.cumulative_count())).collect();
    if model.buckets.is_empty() {
        model.buckets = buckets.iter().map(|&(le_ms, _)| LatencyBucket { le_ms, count: 0 }).collect();
    }
    // every series of a family has the same bounds
    for (bucket, (_, count)) in model.buckets.iter_mut().zip(buckets) {
        bucket.count += count;
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec};

    use super::*;

    #[test]
    fn devices_of_a_model_are_added_up() {
        let registry = Registry::new();
        let options = HistogramOpts::new(REQUEST_DURATION, "A test histogram.").buckets(vec![0.001, 0.01]);
        let family = HistogramVec::new(options, &["namespace", "model", "device"]).unwrap();
        registry.register(Box::new(family.clone())).unwrap();
        for (model, device, seconds) in
            [("a", "cpu", 0.0005), ("a", "gpu", 0.005), ("a", "gpu", 5.0), ("b", "cpu", 0.005)]
        {
            family.with_label_values(&["vision", model, device]).observe(seconds);
        }
        let models = by_model(&registry);
        let of_a = &models[&("vision".to_owned(), "a".to_owned())];
        assert_eq!(of_a.count, 3);
        assert_eq!(of_a.buckets, [LatencyBucket { le_ms: 1.0, count: 1 }, LatencyBucket { le_ms: 10.0, count: 2 }]);
        assert_eq!(models[&("vision".to_owned(), "b".to_owned())].count, 1);
        assert!(by_model(&Registry::new()).is_empty());
    }
}
