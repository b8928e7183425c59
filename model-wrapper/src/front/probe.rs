//! Knative's probes on the traffic port, which queue-proxy answers in a pod that has one.
//!
//! The activator and the autoscaler ask with `K-Network-Probe: queue` on any path, Knative's ingress with `probe` and a hash that
//! it wants back. A kubelet's probe without that header is an ordinary request for the path it names.

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header::USER_AGENT};

use crate::serving::Readiness;

const PROBE: &str = "k-network-probe";
/// Comes with a probe of the value `probe` and goes back with its answer.
pub(super) const HASH: &str = "k-network-hash";

/// The answer to a probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: &'static str,
    pub(super) hash: Option<HeaderValue>,
}

impl Answer {
    fn new(status: StatusCode, body: &'static str) -> Self {
        Self { status, body, hash: None }
    }
}

/// The answer, where the request is a probe.
pub(super) fn answer(headers: &HeaderMap, readiness: impl FnOnce() -> Readiness) -> Option<Answer> {
    let probe = headers.get(PROBE)?;
    Some(match probe.as_bytes() {
        b"queue" => match readiness() {
            Readiness::Ready => Answer::new(StatusCode::OK, "queue"),
            Readiness::NotReady => Answer::new(StatusCode::SERVICE_UNAVAILABLE, "not ready"),
            Readiness::Draining => Answer::new(StatusCode::SERVICE_UNAVAILABLE, "shutting down"),
        },
        b"probe" => match headers.get(HASH) {
            Some(hash) => Answer { hash: Some(hash.clone()), ..Answer::new(StatusCode::OK, "") },
            None => Answer::new(StatusCode::BAD_REQUEST, "a probe must contain a non-empty 'K-Network-Hash' header"),
        },
        _ => Answer::new(StatusCode::BAD_REQUEST, "unexpected probe header value: expected 'queue' or 'probe'"),
    })
}

/// The method that a request is taken for. queue-proxy and the kubelet say who they are; queue-proxy asks OPTIONS first where it
/// is to find out whether the container speaks HTTP/2, and takes the answer for that of its readiness probe.
pub(super) fn method<B>(request: &Request<B>) -> &Method {
    let prober = request.headers().get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"kube-probe/"));
    if prober && request.method() == Method::OPTIONS { &Method::GET } else { request.method() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &'static str)], readiness: Readiness) -> Option<(u16, &'static str)> {
        let headers =
            headers.iter().map(|&(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        answer(&headers.collect(), || readiness).map(|answer| (answer.status.as_u16(), answer.body))
    }

    #[test]
    fn a_queue_probe_tells_readiness() {
        assert_eq!(of(&[("k-network-probe", "queue")], Readiness::Ready), Some((200, "queue")));
        assert_eq!(of(&[("k-network-probe", "queue")], Readiness::NotReady), Some((503, "not ready")));
        assert_eq!(of(&[("k-network-probe", "queue")], Readiness::Draining), Some((503, "shutting down")));
    }

    #[test]
    fn a_network_probe_gets_its_hash_back_and_others_are_refused() {
        let headers = [("k-network-probe", "probe"), ("k-network-hash", "abc")];
        let headers =
            headers.map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let answer = answer(&HeaderMap::from_iter(headers), || Readiness::NotReady).unwrap();
        assert_eq!((answer.status, answer.hash), (StatusCode::OK, Some(HeaderValue::from_static("abc"))));
        assert_eq!(of(&[("k-network-probe", "probe")], Readiness::Ready).unwrap().0, 400);
        assert_eq!(of(&[("k-network-probe", "activator")], Readiness::Ready).unwrap().0, 400);
    }

    #[test]
    fn a_kubelet_without_the_header_is_no_probe() {
        assert_eq!(of(&[("user-agent", "kube-probe/1.34")], Readiness::Ready), None);
    }
}
