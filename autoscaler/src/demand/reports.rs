//! Reports of gateways, as the scaler takes them.

use std::time::Duration;

use autoscaler_demand::{ModelDemand, ServiceTime, VariantDemand};
use autoscaler_policy::{ModelKey, ModelReport, VariantReport};
use gateway_policy::SizeBucket;

/// Reads a gateway's demand. What names a device or a size class that this version does not know is left out: the rest
/// of the report is still true.
pub(super) fn model_reports(models: &[ModelDemand]) -> Vec<ModelReport> {
    models.iter().map(model_report).collect()
}

fn model_report(demand: &ModelDemand) -> ModelReport {
    ModelReport {
        model: ModelKey::new(&demand.namespace, &demand.model),
        held: demand.held,
        in_flight: demand.in_flight,
        arrivals: demand.arrivals,
        average_concurrency: demand.average_concurrency,
        variants: demand.variants.iter().filter_map(variant_report).collect(),
    }
}

fn variant_report(demand: &VariantDemand) -> Option<VariantReport> {
    Some(VariantReport {
        device: demand.device.parse().ok()?,
        in_flight: demand.in_flight,
        service_times: demand.service_times.iter().filter_map(service_time).collect(),
    })
}

fn service_time(time: &ServiceTime) -> Option<(SizeBucket, u64, Duration)> {
    let size = SizeBucket::from_index(usize::try_from(time.size_bucket).ok()?)?;
    Some((size, time.count, Duration::from_micros(time.total_us)))
}

#[cfg(test)]
mod tests {
    use gateway_policy::Device;

    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let time = |size_bucket| ServiceTime { size_bucket, count: 3, total_us: 1500 };
        let variant = |device: &str| VariantDemand {
            device: device.to_owned(),
            in_flight: 2,
            service_times: vec![time(0), time(99)],
        };
        let demand = ModelDemand {
            namespace: "ns".to_owned(),
            model: "m".to_owned(),
            held: 1,
            variants: vec![variant("cpu"), variant("abacus")],
            ..ModelDemand::default()
        };
        let reports = model_reports(&[demand]);
        assert_eq!((&reports[0].model, reports[0].held), (&ModelKey::new("ns", "m"), 1));
        let [cpu] = &reports[0].variants[..] else { panic!("one variant is known") };
        assert_eq!((cpu.device, cpu.in_flight), (Device::Cpu, 2));
        assert_eq!(cpu.service_times, [(SizeBucket::of(0), 3, Duration::from_micros(1500))]);
    }
}
