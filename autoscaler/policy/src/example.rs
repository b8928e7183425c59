//! A revision and what fits it, as tests take them and change what they are about.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_policy::Device;

use crate::claim::FitKey;
use crate::ids::{Digest, ModelKey, RevisionKey};
use crate::resources::Resources;
use crate::revision::{Placement, Revision, Source};
use crate::scaling::Scaling;

/// The revision `ns/MODEL-DEVICE-00001`, from the pool `default`: one request at a time, no objective, down to no replica.
#[must_use]
pub fn revision(model: &str, device: Device) -> Revision {
    Revision {
        model: ModelKey::new("ns", model),
        key: RevisionKey::from(format!("ns/{model}-{device}-00001")),
        uid: format!("uid-of-{model}").into(),
        service: format!("{model}-{device}").into(),
        device,
        unavailable: None,
        digest: Digest::from(format!("sha256:{model}")),
        source: Source { uri: "file:///m".into(), format: "onnx".into(), name: model.into(), config: BTreeMap::new() },
        container_concurrency: 1,
        min_replicas: 0,
        max_replicas: 20,
        placement: Placement {
            pool: Some("default".into()),
            service_account: "default".into(),
            contract: "1".into(),
            resources: Resources::default(),
        },
        cost: 1.0,
        objective: None,
        timeout: Duration::from_secs(60),
        scale_to_zero_after: Duration::from_secs(30),
        batching: None,
        scaling: Scaling::default(),
    }
}

/// What replicas on a CPU that fit it are like.
#[must_use]
pub fn fit() -> FitKey {
    FitKey {
        namespace: "ns".into(),
        pool: "default".into(),
        service_account: "default".into(),
        device: Device::Cpu,
        contract: "1".into(),
    }
}
