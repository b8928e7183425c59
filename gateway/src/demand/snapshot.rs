//! The whole demand of a gateway as one message.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use autoscaler_demand::{ModelDemand, ServiceTime, Snapshot, VariantDemand};
use gateway_policy::{Device, Moment, SizeBucket};

use crate::gateway::Inner;
use crate::model::{Model, ModelKey, PresenceReading};

/// Makes the snapshots of one stream: each mean is over the time since the one before.
pub(super) struct Snapshots {
    before: HashMap<ModelKey, PresenceReading>,
    taken: Moment,
}

impl Snapshots {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        let now = inner.clock.now();
        let table = inner.table.load();
        Self { before: table.models().map(|model| (model.key.clone(), model.presence(now))).collect(), taken: now }
    }

    pub(super) fn next(&mut self, inner: &Arc<Inner>, sequence: &mut u64) -> Snapshot {
        *sequence += 1;
        let now = inner.clock.now();
        let elapsed = now.saturating_since(self.taken).as_micros() as u64;
        let table = inner.table.load();
        let mut readings = HashMap::with_capacity(self.before.len());
        let mut models = Vec::new();
        for model in table.models() {
            let reading = model.presence(now);
            let before = self.before.get(&model.key).copied().unwrap_or_default();
            models.push(demand_of(model, reading, reading.mean_since(before, elapsed)));
            readings.insert(model.key.clone(), reading);
        }
        self.before = readings;
        self.taken = now;
        Snapshot { sequence: *sequence, models }
    }
}

fn demand_of(model: &Model, reading: PresenceReading, average_concurrency: f64) -> ModelDemand {
    let in_flight = |device: Device| u32::try_from(model.metrics.device(device).in_flight.get()).unwrap_or(0);
    let variants = Device::ALL.map(|device| VariantDemand {
        device: device.as_str().to_owned(),
        in_flight: in_flight(device),
        service_times: service_times(model, device),
    });
    ModelDemand {
        namespace: model.key.namespace.clone(),
        model: model.key.name.clone(),
        held: u32::try_from(model.waiting()).unwrap_or(u32::MAX),
        in_flight: Device::ALL.into_iter().map(in_flight).sum(),
        arrivals: reading.arrivals,
        average_concurrency,
        variants: variants
            .into_iter()
            .filter(|variant| variant.in_flight > 0 || !variant.service_times.is_empty())
            .collect(),
    }
}

fn service_times(model: &Model, device: Device) -> Vec<ServiceTime> {
    (0..SizeBucket::COUNT)
        .filter_map(SizeBucket::from_index)
        .filter_map(|size| {
            let served = model.served(device, size);
            let count = served.count.load(Ordering::Relaxed);
            let total_us = served.total_us.load(Ordering::Relaxed);
            (count > 0).then(|| ServiceTime { size_bucket: size.index() as u32, count, total_us })
        })
        .collect()
}
