//! The operators' HTTP API of a process, and the client that `cairn status` asks it with.

pub mod client;
mod metrics_text;
mod process_metrics;
mod server;
mod subject;

pub use metrics_text::Source;
pub use process_metrics::ProcessMetrics;
pub use server::{AdminError, AdminServer};
pub use subject::Subject;
