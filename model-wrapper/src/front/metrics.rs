//! What the front counts.

use std::{borrow::Cow, time::Instant};

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Protocol of an inference, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    V1,
    V2,
    Grpc,
}

impl Protocol {
    fn label(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Grpc => "grpc",
        }
    }
}

/// The outcome of an inference that was answered, as a label; other outcomes are the reasons of errors.
const ANSWERED: &str = "ok";
/// The outcome of an inference whose caller left before there was one.
const ABANDONED: &str = "cancelled";

/// Metrics of the prediction protocols.
#[derive(Clone)]
pub struct FrontMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl FrontMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// A metric of one of the names is registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "kferving_wrapper_requests_total",
                "Inference requests by protocol and outcome: ok or the reason of the error.",
            ),
            &["protocol", "outcome"],
        )?;
        // From a tiny model's time to the default timeout.
        let buckets = prometheus::exponential_buckets(0.000_1, 3.0, 13)?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "kferving_wrapper_request_seconds",
                "Time of an inference request from its head to its response.",
            )
            .buckets(buckets),
            &["protocol"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { requests, seconds })
    }

    /// Begins to measure an inference. One that is dropped without an outcome counts as abandoned by its caller.
    pub(super) fn begin(&self, protocol: Protocol) -> Measured {
        Measured { metrics: self.clone(), protocol, begun: Instant::now(), outcome: ABANDONED.into() }
    }
}

#[cfg(test)]
impl FrontMetrics {
    /// Inferences that were answered.
    pub(super) fn answered(&self, protocol: Protocol) -> u64 {
        self.requests.with_label_values(&[protocol.label(), ANSWERED]).get()
    }
}

/// An inference being measured, until it is dropped.
pub(super) struct Measured {
    metrics: FrontMetrics,
    protocol: Protocol,
    begun: Instant,
    outcome: Cow<'static, str>,
}

impl Measured {
    /// It was answered.
    pub(super) fn answered(mut self) {
        self.outcome = ANSWERED.into();
    }

    /// It failed, for one of the reasons of errors.
    pub(super) fn failed(mut self, reason: impl Into<Cow<'static, str>>) {
        self.outcome = reason.into();
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let protocol = self.protocol.label();
        self.metrics.requests.with_label_values(&[protocol, &self.outcome]).inc();
        self.metrics.seconds.with_label_values(&[protocol]).observe(self.begun.elapsed().as_secs_f64());
    }
}
