//! The pods' network: a bridge on the node, configured for containerd as a CNI list.

use serde_json::{Value, json};

use super::super::addresses::PODS;

/// File name in containerd's folder of networks.
pub(crate) const FILE: &str = "10-pods.conflist";

/// The CNI configuration (specification 1.0.0).
pub(crate) fn pod_network() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": true,
                "ipMasq": true,
                // A pod that calls a Service which is itself gets its own packet back.
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": PODS.to_string() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}
