//! Labels and annotations that the parts of the system agree on.

/// Label: the WarmPool that a replica was made for.
pub const POOL: &str = "kferving.dev/pool";
/// Label: who owns a replica and for what: idle, claimed, serving, draining or retired.
pub const STATE: &str = "kferving.dev/state";
/// Label: the device class of a replica, cpu or gpu.
pub const DEVICE: &str = "kferving.dev/device";
/// Label: version of the contract between wrapper and autoscaler; a claim takes only its own version.
pub const CONTRACT: &str = "kferving.dev/contract";
/// Annotation: unique id of the claim that owns a replica.
pub const CLAIM_ID: &str = "kferving.dev/claim-id";
/// Annotation: when a claimed replica that does not serve yet is given up, RFC 3339.
pub const CLAIM_DEADLINE: &str = "kferving.dev/claim-deadline";
/// Annotation of a revision: the digest that its model's source had when the revision was made, `sha256:HEX`. A label
/// is too short for it.
pub const MODEL_DIGEST: &str = "kferving.dev/model-digest";
