//! What the gateway counts.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};

use crate::turnstile::TooMany;

/// Upper bounds of the latency histogram, in seconds.
const LATENCY_BUCKETS_SECONDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// Handles of the registered metrics. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// By operation and HTTP status ("aborted" when the response broke off).
    pub(crate) requests: IntCounterVec,
    /// From the request's headers to the last byte of the response, by operation.
    pub(crate) request_seconds: HistogramVec,
    pub(crate) received_bytes: IntCounterVec,
    pub(crate) sent_bytes: IntCounterVec,
    pub(crate) requests_in_flight: IntGauge,
    pub(crate) connections: IntGauge,
    /// Connections and requests refused because a bound was reached.
    pub(crate) refused_connections: IntCounter,
    pub(crate) refused_requests: IntCounter,
    /// By what they were too many for: user, bucket, share.
    pub(crate) limited_requests: IntCounterVec,
    /// By what took too long: headers, idle, answer.
    pub(crate) cut_off_connections: IntCounterVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_operation = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["operation"]);
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("cairn_gateway_requests_total", "S3 requests answered"),
                &["operation", "status"],
            )?,
            request_seconds: HistogramVec::new(
                HistogramOpts::new("cairn_gateway_request_seconds", "Time from headers to the response's last byte")
                    .buckets(LATENCY_BUCKETS_SECONDS.to_vec()),
                &["operation"],
            )?,
            received_bytes: by_operation("cairn_gateway_received_bytes_total", "Bytes of request bodies")?,
            sent_bytes: by_operation("cairn_gateway_sent_bytes_total", "Bytes of response bodies")?,
            requests_in_flight: IntGauge::new("cairn_gateway_requests_in_flight", "Requests being answered")?,
            connections: IntGauge::new("cairn_gateway_connections", "Open client connections")?,
            refused_connections: IntCounter::new(
                "cairn_gateway_refused_connections_total",
                "Connections closed at once because the limit was reached",
            )?,
            refused_requests: IntCounter::new(
                "cairn_gateway_refused_requests_total",
                "Requests answered 503 SlowDown because the limit was reached",
            )?,
            limited_requests: IntCounterVec::new(
                Opts::new(
                    "cairn_gateway_limited_requests_total",
                    "Requests answered 503 SlowDown because their user or bucket has too many",
                ),
                &["limit"],
            )?,
            cut_off_connections: IntCounterVec::new(
                Opts::new(
                    "cairn_gateway_cut_off_connections_total",
                    "Connections ended because the client took too long",
                ),
                &["reason"],
            )?,
        };
        // There from the beginning, so that a dashboard has something to show.
        for limit in TooMany::ALL {
            metrics.limited_requests.with_label_values(&[limit.name()]);
        }
        for collector in metrics.collectors() {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.requests.clone()),
            Box::new(self.request_seconds.clone()),
            Box::new(self.received_bytes.clone()),
            Box::new(self.sent_bytes.clone()),
            Box::new(self.requests_in_flight.clone()),
            Box::new(self.connections.clone()),
            Box::new(self.refused_connections.clone()),
            Box::new(self.refused_requests.clone()),
            Box::new(self.limited_requests.clone()),
            Box::new(self.cut_off_connections.clone()),
        ]
    }
}
