//! The parts of a cold start, from what was seen of its pod and the wrapper's own clock. Pure.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Pod;

#[cfg(test)]
mod tests;

/// What was seen of a pod, and when its watch told it.
///
/// The times in a pod's own conditions and in its events have whole seconds, so the moment of arrival is taken instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTimes {
    /// The Service it belongs to.
    pub service: String,
    /// It exists.
    pub created: Option<SystemTime>,
    /// It has a node.
    pub scheduled: Option<SystemTime>,
    /// Its sandbox and network are there (condition `PodReadyToStartContainers`).
    pub sandbox: Option<SystemTime>,
    /// It is ready.
    pub ready: Option<SystemTime>,
    /// Its address.
    pub ip: Option<String>,
    /// It is to end.
    pub terminating: bool,
}

/// The wrapper's own clock: when its process began and when its port answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrapperTimes {
    /// Its process began.
    pub started: SystemTime,
    /// Its model was loaded and its port answered.
    pub ready: SystemTime,
}

/// The parts of a cold start in their order. Each begins where the one before ends, so they add up to the whole.
pub const PHASES: [&str; 6] = ["activator", "schedule", "sandbox", "containers", "load", "answer"];

const SERVICE_LABEL: &str = "serving.knative.dev/service";

impl PodTimes {
    /// Takes in what the watch told at `now`. What was seen once stays.
    pub fn observe(&mut self, pod: &Pod, now: SystemTime) {
        let condition = |wanted: &str| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let met = conditions.into_iter().any(|condition| condition.type_ == wanted && condition.status == "True");
            met.then_some(now)
        };
        let labels = pod.metadata.labels.as_ref();
        self.service = labels.and_then(|labels| labels.get(SERVICE_LABEL)).cloned().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        self.created.get_or_insert(now);
        self.scheduled = self.scheduled.or_else(|| node.map(|_| now));
        self.sandbox = self.sandbox.or_else(|| condition("PodReadyToStartContainers"));
        self.ready = self.ready.or_else(|| condition("Ready"));
        self.ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).or_else(|| self.ip.take());
        self.terminating = pod.metadata.deletion_timestamp.is_some();
    }

    /// Whether it neither starts nor ends.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.ready.is_some() && !self.terminating
    }
}

/// The parts of a cold start by [`PHASES`]. A mark that was not seen, or late (a watch is some milliseconds behind), gives its
/// part's time to the next one.
#[must_use]
pub fn phases(
    sent: SystemTime,
    first_byte: SystemTime,
    pod: &PodTimes,
    wrapper: WrapperTimes,
) -> [(&'static str, Duration); 6] {
    let ends = [
        pod.created,
        pod.scheduled,
        pod.sandbox.map(|sandbox| sandbox.min(wrapper.started)),
        Some(wrapper.started),
        Some(wrapper.ready),
        Some(first_byte),
    ];
    let mut from = sent;
    let mut parts = PHASES.map(|phase| (phase, Duration::ZERO));
    for (part, end) in parts.iter_mut().zip(ends) {
        let end = end.map_or(from, |end| end.clamp(from, first_byte.max(from)));
        part.1 = end.duration_since(from).unwrap_or_default();
        from = end;
    }
    parts
}
