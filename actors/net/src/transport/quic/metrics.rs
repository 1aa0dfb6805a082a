//! What the transport counts. Each node's metrics carry its id, since several nodes may share a process and a registry.

use cairn_schema::ids::NodeId;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::QuicError;

/// The counters of one endpoint.
pub(super) struct Metrics {
    /// By side ("client", "server"), kind and outcome.
    pub requests: IntCounterVec,
    /// By kind, as the caller sees it.
    pub seconds: HistogramVec,
    /// Payload bytes by direction ("sent", "received").
    pub bytes: IntCounterVec,
    /// What was refused ("handshake", "connection", "stream") and why.
    pub refused: IntCounterVec,
    /// By side.
    pub connections: IntGaugeVec,
    /// Dials by outcome ("connected", "failed").
    pub dials: IntCounterVec,
}

/// From a probe on the same machine to a full fragment from a slow disk.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 2.0, 10.0];

impl Metrics {
    pub(super) fn new(node: &NodeId, registry: Option<&Registry>) -> Result<Self, QuicError> {
        let failed = |error: prometheus::Error| QuicError::Metrics(error.to_string());
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("node", node.as_str());
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(opts(name, help), labels);
        let seconds = HistogramOpts::new("cairn_transport_request_seconds", "Time of requests to peers.")
            .const_label("node", node.as_str())
            .buckets(SECONDS.to_vec());
        let connections = opts("cairn_transport_connections", "Open connections.");
        let build = || -> Result<Self, prometheus::Error> {
            Ok(Self {
                requests: counter(
                    "cairn_transport_requests_total",
                    "Requests to and from peers.",
                    &["side", "kind", "outcome"],
                )?,
                seconds: HistogramVec::new(seconds, &["kind"])?,
                bytes: counter("cairn_transport_payload_bytes_total", "Payload bytes.", &["direction"])?,
                refused: counter(
                    "cairn_transport_refused_total",
                    "Handshakes, connections and streams refused.",
                    &["what", "reason"],
                )?,
                connections: IntGaugeVec::new(connections, &["side"])?,
                dials: counter("cairn_transport_dials_total", "Dials to peers.", &["outcome"])?,
            })
        };
        let metrics = build().map_err(failed)?;
        if let Some(registry) = registry {
            registry.register(Box::new(metrics.requests.clone())).map_err(failed)?;
            registry.register(Box::new(metrics.seconds.clone())).map_err(failed)?;
            registry.register(Box::new(metrics.bytes.clone())).map_err(failed)?;
            registry.register(Box::new(metrics.refused.clone())).map_err(failed)?;
            registry.register(Box::new(metrics.connections.clone())).map_err(failed)?;
            registry.register(Box::new(metrics.dials.clone())).map_err(failed)?;
        }
        Ok(metrics)
    }

    pub(super) fn refuse(&self, what: &str, reason: &str) {
        self.refused.with_label_values(&[what, reason]).inc();
    }
}
