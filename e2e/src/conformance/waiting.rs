//! The cases that cannot pass while the cluster has no ingress, each with its reason: a committed list per suite, which every run
//! checks.

use std::collections::BTreeMap;

use super::suite::Suite;

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the list of {suite} cases that wait for an ingress: {reason}")]
pub(super) struct WaitingError {
    suite: &'static str,
    reason: String,
}

/// The list of a suite: name of the case → reason. Empty for the suite of ingresses, which has no other case.
///
/// # Errors
/// When the list is not of that form.
pub(super) fn list(suite: Suite) -> Result<BTreeMap<String, String>, WaitingError> {
    let text = match suite {
        Suite::ServingApi => include_str!("waiting/serving-api.yaml"),
        Suite::ServingRuntime => include_str!("waiting/serving-runtime.yaml"),
        Suite::ServingE2e => include_str!("waiting/serving-e2e.yaml"),
        Suite::Ha => include_str!("waiting/ha.yaml"),
        Suite::Ingress => return Ok(BTreeMap::new()),
    };
    let error = |reason| WaitingError { suite: suite.name(), reason };
    let list: BTreeMap<String, String> = serde_saphyr::from_str(text).map_err(|parse| error(parse.to_string()))?;
    match list.iter().find(|(_, reason)| reason.trim().is_empty()) {
        Some((case, _)) => Err(error(format!("{case} has no reason"))),
        None => Ok(list),
    }
}
